//! A topic as a clock and as a witness: when its first and last record were appended by the broker's own clock, how many it
//! holds for a `read_committed` reader, and whether any came twice.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use syncline_tests::Stack;

const CALL_MAX: Duration = Duration::from_secs(15);
const READ_MAX: Duration = Duration::from_secs(300);

/// What a topic holds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Content {
    /// Committed records.
    pub records: u64,
    /// Of these, how many had the key of a former one; a record and its key's tombstone are two things.
    pub repeats: u64,
    /// When the broker appended the first, milliseconds since 1970.
    pub first_ms: i64,
    /// When the record in the middle.
    pub middle_ms: i64,
    /// When the last.
    pub last_ms: i64,
}

fn config(stack: &Stack) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &stack.kafka).set("log_level", "0");
    config
}

/// A reader of committed records.
pub fn reader(stack: &Stack) -> anyhow::Result<BaseConsumer> {
    Ok(config(stack)
        .set("group.id", "syncline-bench")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .set("enable.auto.commit", "false")
        .set("fetch.wait.max.ms", "5")
        .create()?)
}

fn admin(stack: &Stack) -> anyhow::Result<AdminClient<DefaultClientContext>> {
    Ok(config(stack).create()?)
}

fn block_on<T>(future: impl Future<Output = T>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(future))
}

/// Makes topics of one partition that carry the broker's time.
pub fn make(stack: &Stack, names: &[String]) -> anyhow::Result<()> {
    let new: Vec<NewTopic<'_>> = names
        .iter()
        .map(|name| NewTopic::new(name, 1, TopicReplication::Fixed(1)).set("message.timestamp.type", "LogAppendTime"))
        .collect();
    for made in block_on(admin(stack)?.create_topics(&new, &AdminOptions::new()))?? {
        made.map_err(|(name, code)| anyhow::anyhow!("{name}: {code}"))?;
    }
    Ok(())
}

/// Deletes all topics whose names begin so.
pub fn delete(stack: &Stack, prefix: &str) -> anyhow::Result<()> {
    let metadata = reader(stack)?.fetch_metadata(None, CALL_MAX)?;
    let names: Vec<&str> = metadata
        .topics()
        .iter()
        .map(|topic| topic.name())
        .filter(|name| name.starts_with(prefix))
        .collect();
    if !names.is_empty() {
        block_on(admin(stack)?.delete_topics(&names, &AdminOptions::new()))??;
    }
    Ok(())
}

/// Whether a committed record is in the topic.
pub fn has_any(consumer: &BaseConsumer, topic: &str) -> anyhow::Result<bool> {
    let (_, end) = consumer.fetch_watermarks(topic, 0, CALL_MAX)?;
    Ok(end > 0)
}

/// Puts a reader at the beginning of a topic.
pub fn from_beginning(consumer: &BaseConsumer, topic: &str) -> anyhow::Result<()> {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Beginning)?;
    Ok(consumer.assign(&list)?)
}

/// Reads the topic to its end.
pub fn content(stack: &Stack, topic: &str, expected: u64) -> anyhow::Result<Content> {
    let consumer = reader(stack)?;
    from_beginning(&consumer, topic)?;
    let (mut content, mut seen) = (Content::default(), HashSet::new());
    let deadline = Instant::now() + READ_MAX;
    loop {
        match consumer.poll(Duration::from_secs(1)) {
            Some(Ok(message)) => {
                let mut hash = DefaultHasher::new();
                (message.key(), message.payload().is_some()).hash(&mut hash);
                content.repeats += u64::from(!seen.insert(hash.finish()));
                content.records += 1;
                content.last_ms = message.timestamp().to_millis().context("a record without time")?;
                if content.records == 1 {
                    content.first_ms = content.last_ms;
                }
                if content.records <= expected / 2 {
                    content.middle_ms = content.last_ms;
                }
            }
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(content),
            Some(Err(error)) => return Err(error.into()),
            None if Instant::now() > deadline => bail!("{topic} could not be read within {} s", READ_MAX.as_secs()),
            None => {}
        }
    }
}
