//! The cluster as this user finds it, changing nothing: what its brokers and topics are set to, and what would be
//! allowed. A creation is asked for as a rehearsal, so the answer is the broker's own and not our reading of its rules.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, ResourceSpecifier};
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use syncline_runtime::{Failure, Outcome};

use crate::BusConfig;
use crate::admin::{TopicSpec, new_topic, settings};
use crate::ends;
use crate::error::{Said, explain, failure};

/// A person waits for the answer.
const ANSWER_MS_MAX: u64 = 10_000;
/// How many topics are asked about at once.
const TOPICS_AT_ONCE_MAX: usize = 200;

/// Settings by name.
pub type Settings = BTreeMap<String, String>;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// Number of brokers.
    pub brokers: usize,
    /// What a broker is set to; the reason if this user may not see that.
    pub settings: Result<Settings, String>,
    /// Those of the wanted topics that exist.
    pub topics: BTreeMap<String, Topic>,
    /// Those of the wanted topics that do not exist and could not be made, with the broker's reason.
    pub refused: BTreeMap<String, String>,
}

/// A topic that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Number of partitions.
    pub partitions: usize,
    /// Copies of its least copied partition.
    pub replicas: usize,
    /// Partitions without a leader.
    pub leaderless: usize,
    /// What it is set to; the reason if this user may not see that.
    pub settings: Result<Settings, String>,
}

/// Looks at the cluster with these topics in mind.
pub fn survey(config: &BusConfig, wanted: &[TopicSpec]) -> Outcome<Survey> {
    let looker = ends::client(config, "read_committed")?;
    let metadata = looker
        .fetch_metadata(None, Duration::from_millis(ANSWER_MS_MAX))
        .map_err(|error| explain(&looker, failure("look at the cluster", error)))?;
    let asker = Asker::new(config)?;
    let mut found = Survey {
        brokers: metadata.brokers().len(),
        settings: Err("there is no broker".to_owned()),
        topics: existing(&looker, wanted)?,
        refused: BTreeMap::new(),
    };
    if let Some(broker) = metadata.brokers().first() {
        found.settings = asker.broker(broker.id());
    }
    asker.describe(&mut found.topics)?;
    let missing: Vec<&TopicSpec> = wanted
        .iter()
        .filter(|spec| !found.topics.contains_key(&spec.name))
        .collect();
    found.refused = asker.rehearse(&missing, found.brokers)?;
    Ok(found)
}

fn existing(looker: &BaseConsumer<Said>, wanted: &[TopicSpec]) -> Outcome<BTreeMap<String, Topic>> {
    // All of them in one answer: a topic that is asked for by name may be made by being asked for.
    let metadata = looker
        .fetch_metadata(None, Duration::from_millis(ANSWER_MS_MAX))
        .map_err(|error| explain(looker, failure("look at the topics", error)))?;
    let topics = metadata.topics().iter().filter(|topic| topic.error().is_none());
    let topics = topics.filter(|topic| wanted.iter().any(|spec| spec.name == topic.name()));
    Ok(topics
        .map(|topic| (topic.name().to_owned(), described(topic)))
        .collect())
}

fn described(topic: &rdkafka::metadata::MetadataTopic) -> Topic {
    let partitions = topic.partitions();
    Topic {
        partitions: partitions.len(),
        replicas: partitions
            .iter()
            .map(|partition| partition.replicas().len())
            .min()
            .unwrap_or(0),
        leaderless: partitions.iter().filter(|partition| partition.leader() < 0).count(),
        settings: Err("not asked".to_owned()),
    }
}

/// The part of the work that rdkafka does with futures.
struct Asker {
    client: AdminClient<Said>,
    runtime: tokio::runtime::Runtime,
}

impl Asker {
    fn new(config: &BusConfig) -> Outcome<Self> {
        let mut settings = config.for_consumer("syncline-survey", None);
        settings.remove("group.id");
        let client = AdminClient::from_config_and_context(&settings, Said::default())
            .map_err(|error| failure("create a client", error))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        Ok(Self {
            client,
            runtime: runtime.map_err(|error| Failure::transient("THREAD", "cannot wait for Kafka").source(error))?,
        })
    }

    fn broker(&self, id: i32) -> Result<Settings, String> {
        match self.configs(&[ResourceSpecifier::Broker(id)]) {
            Ok(mut answers) => answers.pop().unwrap_or_else(|| Err("no answer".to_owned())),
            Err(error) => Err(error.to_string()),
        }
    }

    fn describe(&self, topics: &mut BTreeMap<String, Topic>) -> Outcome<()> {
        let names: Vec<String> = topics.keys().cloned().collect();
        for names in names.chunks(TOPICS_AT_ONCE_MAX) {
            let resources: Vec<ResourceSpecifier<'_>> =
                names.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
            let answers = self
                .configs(&resources)
                .map_err(|error| failure("read the settings of topics", error))?;
            for (name, answer) in names.iter().zip(answers) {
                if let Some(topic) = topics.get_mut(name) {
                    topic.settings = answer;
                }
            }
        }
        Ok(())
    }

    fn configs(&self, resources: &[ResourceSpecifier<'_>]) -> Result<Vec<Result<Settings, String>>, KafkaError> {
        let options = options();
        let asked = self.client.describe_configs(resources, &options);
        let answers = self.runtime.block_on(asked)?;
        Ok(answers
            .into_iter()
            .map(|answer| answer.map(values).map_err(|code| code.to_string()))
            .collect())
    }

    /// What the broker says to a creation that it shall not carry out.
    fn rehearse(&self, specs: &[&TopicSpec], brokers: usize) -> Outcome<BTreeMap<String, String>> {
        let options = options().validate_only(true);
        let mut refused = BTreeMap::new();
        for specs in specs.chunks(TOPICS_AT_ONCE_MAX) {
            let configs: Vec<_> = specs.iter().map(|spec| settings(spec, brokers)).collect();
            let topics: Vec<_> = specs
                .iter()
                .zip(&configs)
                .map(|(spec, config)| new_topic(spec, config, brokers))
                .collect();
            let answers = self
                .runtime
                .block_on(self.client.create_topics(&topics, &options))
                .map_err(|error| failure("ask whether topics may be made", error))?;
            let refusals = answers.into_iter().filter_map(Result::err);
            let refusals = refusals.filter(|(_, code)| *code != Code::TopicAlreadyExists);
            refused.extend(refusals.map(|(topic, code)| (topic, code.to_string())));
        }
        Ok(refused)
    }
}

fn options() -> AdminOptions {
    let timeout = Some(Duration::from_millis(ANSWER_MS_MAX));
    AdminOptions::new().request_timeout(timeout).operation_timeout(timeout)
}

fn values(resource: ConfigResource) -> Settings {
    let set = resource.entries.into_iter();
    set.filter_map(|entry| Some((entry.name, entry.value?))).collect()
}
