//! Topics: made, looked at, removed.
//!
//! A topic that exists is never changed. Another number of partitions would move keys to other partitions and so break
//! the order per key; that is for a person to decide.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::types::RDKafkaRespErr;
use syncline_runtime::{Failure, Outcome};

use crate::BusConfig;
use crate::config::{RECORD_BYTES_MAX, REQUEST_TIMEOUT_MS};
use crate::ends::{Patience, look};
use crate::error::{Said, explain, failure};

const VISIBLE_POLL_MS: u64 = 20;
/// What the broker counts with a record besides key and value.
const RECORD_OVERHEAD_BYTES: u64 = 100_000;
const REPLICAS: i32 = 3;
const IN_SYNC_MIN: &str = "2";

/// A topic that has to exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// Its name.
    pub name: String,
    /// Its number of partitions.
    pub partitions: i32,
    /// Whether only the last record of each key is kept.
    pub compacted: bool,
    /// Further settings of the topic, used if it is made.
    pub config: Vec<(String, String)>,
}

impl TopicSpec {
    /// A topic that keeps all records for the broker's usual time.
    pub fn new(name: impl Into<String>, partitions: i32) -> Self {
        Self {
            name: name.into(),
            partitions,
            compacted: false,
            config: Vec::new(),
        }
    }

    /// The same, keeping the last record of each key for ever.
    #[must_use]
    pub fn compacted(mut self) -> Self {
        self.compacted = true;
        self
    }
}

/// Makes the topics that do not exist, and refuses those that exist otherwise.
pub fn ensure(config: &BusConfig, specs: &[TopicSpec]) -> Outcome<()> {
    look(config, |ends| {
        let looker = ends.looker();
        let mut missing = Vec::new();
        let mut existing = Vec::new();
        for spec in specs {
            match count(looker, &spec.name)? {
                None => missing.push(spec),
                Some(partitions) => {
                    same_partitions(spec, partitions)?;
                    existing.push(spec);
                }
            }
        }
        let admin = Admin::new(config)?;
        admin.check_compaction(&existing)?;
        if missing.is_empty() {
            return Ok(());
        }
        admin.create(&missing, brokers(looker)?)?;
        missing.iter().try_for_each(|spec| wait_until_visible(looker, spec))
    })
}

/// The number of partitions of a topic; `None` if it does not exist.
pub fn partitions(config: &BusConfig, topic: &str) -> Outcome<Option<i32>> {
    look(config, |ends| count(ends.looker(), topic))
}

/// Behind the last committed record of each partition (the last stable offset); empty if there is no such topic.
///
/// What was committed before this is asked lies before these ends. A transaction that is still open is waited for, but
/// not long: what it will write is not yet there.
pub fn end_offsets(config: &BusConfig, topic: &str) -> Outcome<BTreeMap<i32, i64>> {
    end_offsets_with(config, topic, Patience::Short)
}

/// The same with this patience for all partitions together.
pub fn end_offsets_with(config: &BusConfig, topic: &str, patience: Patience) -> Outcome<BTreeMap<i32, i64>> {
    let deadline = Instant::now() + patience.time();
    look(config, |ends| {
        let partitions = count(ends.looker(), topic)?.unwrap_or(0);
        let end = |partition| {
            let left = deadline.saturating_duration_since(Instant::now());
            Ok((partition, ends.of(topic, partition, left)?.stable))
        };
        (0..partitions).map(end).collect()
    })
}

/// The names of all topics, but for Kafka's own.
pub fn topics(config: &BusConfig) -> Outcome<Vec<String>> {
    look(config, |ends| {
        let looker = ends.looker();
        let metadata = looker
            .fetch_metadata(None, Duration::from_millis(REQUEST_TIMEOUT_MS))
            .map_err(|error| explain(looker, failure("look at the cluster", error)))?;
        let names = metadata.topics().iter().map(|topic| topic.name().to_owned());
        Ok(names.filter(|name| !name.starts_with("__")).collect())
    })
}

/// Removes topics; one that does not exist is as good as removed.
pub fn delete(config: &BusConfig, topics: &[&str]) -> Outcome<()> {
    Admin::new(config)?.delete(topics)
}

fn count(looker: &BaseConsumer<Said>, topic: &str) -> Outcome<Option<i32>> {
    let metadata = looker
        .fetch_metadata(Some(topic), Duration::from_millis(REQUEST_TIMEOUT_MS))
        .map_err(|error| explain(looker, failure(&format!("look at {topic}"), error)))?;
    let Some(found) = metadata.topics().first() else {
        return Ok(None);
    };
    match found.error() {
        None => Ok(i32::try_from(found.partitions().len()).ok().filter(|count| *count > 0)),
        Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART) => Ok(None),
        Some(error) => Err(failure(
            &format!("look at {topic}"),
            KafkaError::MetadataFetch(error.into()),
        )),
    }
}

fn brokers(looker: &BaseConsumer<Said>) -> Outcome<usize> {
    let metadata = looker
        .fetch_metadata(None, Duration::from_millis(REQUEST_TIMEOUT_MS))
        .map_err(|error| explain(looker, failure("look at the cluster", error)))?;
    Ok(metadata.brokers().len())
}

fn same_partitions(spec: &TopicSpec, partitions: i32) -> Outcome<()> {
    if partitions == spec.partitions {
        return Ok(());
    }
    let message = format!(
        "topic {} has {partitions} partitions, not {}",
        spec.name, spec.partitions
    );
    Err(Failure::definite("TOPIC_PARTITIONS", message)
        .hint("keys would move between partitions; change the pipeline file, or read into a topic of a new name"))
}

/// The answer to a creation comes before every broker knows of the topic.
fn wait_until_visible(looker: &BaseConsumer<Said>, spec: &TopicSpec) -> Outcome<()> {
    let deadline = Instant::now() + Duration::from_millis(REQUEST_TIMEOUT_MS);
    loop {
        if let Some(partitions) = count(looker, &spec.name)? {
            return same_partitions(spec, partitions);
        }
        if Instant::now() >= deadline {
            return Err(Failure::transient(
                "KAFKA_TOPIC_UNKNOWN",
                format!("topic {} does not appear", spec.name),
            ));
        }
        std::thread::sleep(Duration::from_millis(VISIBLE_POLL_MS));
    }
}

/// The part of the work that rdkafka does with futures.
struct Admin {
    client: AdminClient<Said>,
    runtime: tokio::runtime::Runtime,
    options: AdminOptions,
}

impl Admin {
    fn new(config: &BusConfig) -> Outcome<Self> {
        let mut client = config.for_consumer("syncline-admin", None);
        client.remove("group.id");
        let client = rdkafka::config::FromClientConfigAndContext::from_config_and_context(&client, Said::default())
            .map_err(|error| failure("create a client", error))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|error| Failure::transient("THREAD", "cannot wait for Kafka").source(error))?;
        let timeout = Some(Duration::from_millis(REQUEST_TIMEOUT_MS));
        let options = AdminOptions::new().request_timeout(timeout).operation_timeout(timeout);
        Ok(Self {
            client,
            runtime,
            options,
        })
    }

    fn create(&self, specs: &[&TopicSpec], brokers: usize) -> Outcome<()> {
        let configs: Vec<Vec<(String, String)>> = specs.iter().map(|spec| settings(spec, brokers)).collect();
        let topics: Vec<NewTopic<'_>> = specs
            .iter()
            .zip(&configs)
            .map(|(s, c)| new_topic(s, c, brokers))
            .collect();
        let created = self.runtime.block_on(self.client.create_topics(&topics, &self.options));
        self.each(created, "create topic", Code::TopicAlreadyExists)
    }

    fn delete(&self, topics: &[&str]) -> Outcome<()> {
        let deleted = self.runtime.block_on(self.client.delete_topics(topics, &self.options));
        self.each(deleted, "delete topic", Code::UnknownTopicOrPartition)
    }

    fn each(
        &self,
        results: Result<Vec<rdkafka::admin::TopicResult>, KafkaError>,
        doing: &str,
        tolerated: Code,
    ) -> Outcome<()> {
        let results = results.map_err(|error| self.client.inner().context().explain(failure(doing, error)))?;
        for result in results {
            match result {
                Err((topic, code)) if code != tolerated => {
                    return Err(failure(&format!("{doing} {topic}"), KafkaError::MetadataFetch(code)));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A topic of state that forgets by time loses state without a word.
    fn check_compaction(&self, specs: &[&TopicSpec]) -> Outcome<()> {
        let compacted: Vec<&&TopicSpec> = specs.iter().filter(|spec| spec.compacted).collect();
        if compacted.is_empty() {
            return Ok(());
        }
        let resources: Vec<ResourceSpecifier<'_>> = compacted
            .iter()
            .map(|spec| ResourceSpecifier::Topic(&spec.name))
            .collect();
        let described = self
            .runtime
            .block_on(self.client.describe_configs(&resources, &self.options));
        let described = described.map_err(|error| failure("read the settings of topics", error))?;
        for (spec, resource) in compacted.iter().zip(described) {
            let resource =
                resource.map_err(|code| failure("read the settings of a topic", KafkaError::MetadataFetch(code)))?;
            let policy = resource
                .get("cleanup.policy")
                .and_then(|entry| entry.value.clone())
                .unwrap_or_default();
            if !policy.split(',').any(|part| part.trim() == "compact") {
                return Err(not_compacted(&spec.name, &policy));
            }
        }
        Ok(())
    }
}

fn not_compacted(topic: &str, policy: &str) -> Failure {
    Failure::definite(
        "TOPIC_NOT_COMPACTED",
        format!("topic {topic} holds state, but its cleanup.policy is {policy}"),
    )
    .hint(format!(
        "kafka-configs --alter --topic {topic} --add-config cleanup.policy=compact"
    ))
}

pub(crate) fn settings(spec: &TopicSpec, brokers: usize) -> Vec<(String, String)> {
    let mut settings = BTreeMap::new();
    settings.insert(
        "max.message.bytes".to_owned(),
        (RECORD_BYTES_MAX + RECORD_OVERHEAD_BYTES).to_string(),
    );
    settings.insert(
        "cleanup.policy".to_owned(),
        if spec.compacted { "compact" } else { "delete" }.to_owned(),
    );
    if brokers >= 3 {
        settings.insert("min.insync.replicas".to_owned(), IN_SYNC_MIN.to_owned());
    }
    settings.extend(spec.config.iter().cloned());
    settings.into_iter().collect()
}

pub(crate) fn new_topic<'a>(spec: &'a TopicSpec, settings: &'a [(String, String)], brokers: usize) -> NewTopic<'a> {
    let replication = if brokers < 3 { 1 } else { REPLICAS };
    let topic = NewTopic::new(&spec.name, spec.partitions, TopicReplication::Fixed(replication));
    settings
        .iter()
        .fold(topic, |topic, (name, value)| topic.set(name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value_of<'a>(settings: &'a [(String, String)], name: &str) -> Option<&'a str> {
        settings
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, value)| value.as_str())
    }

    #[test]
    fn what_the_caller_sets_wins() {
        let mut spec = TopicSpec::new("t", 1).compacted();
        spec.config
            .push(("cleanup.policy".to_owned(), "compact,delete".to_owned()));
        let settings = settings(&spec, 1);
        assert_eq!(value_of(&settings, "cleanup.policy"), Some("compact,delete"));
        assert_eq!(value_of(&settings, "min.insync.replicas"), None);
    }

    #[test]
    fn three_brokers_are_used() {
        assert_eq!(
            value_of(&settings(&TopicSpec::new("t", 1), 3), "min.insync.replicas"),
            Some("2")
        );
    }

    #[test]
    fn another_number_of_partitions_is_refused() {
        let failure = same_partitions(&TopicSpec::new("t", 4), 3).err();
        assert_eq!(
            failure.map(|f| f.message),
            Some("topic t has 3 partitions, not 4".to_owned())
        );
    }
}
