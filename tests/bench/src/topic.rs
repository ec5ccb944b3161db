//! Topics as a clock and as a witness: when their first and last records were appended by the broker's own clock, how many
//! they hold for a `read_committed` reader, and whether any came twice.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use syncline_tests::Stack;

const CALL_MAX: Duration = Duration::from_secs(15);
const READ_MAX: Duration = Duration::from_secs(600);
const POLL_MAX: Duration = Duration::from_secs(1);
/// So many topics are made or deleted by one request.
const AT_ONCE: usize = 100;

/// Whether records of a key that was there before are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeats {
    /// The work-load changes no row twice.
    Counted,
    /// It does.
    Ignored,
}

/// What topics hold.
#[derive(Clone, Debug, Default)]
pub struct Content {
    /// Committed records.
    pub records: u64,
    /// Of these, how many had the key of a former one; a record and its key's tombstone are two things.
    pub repeats: u64,
    /// When the broker appended each, milliseconds since 1970, in order.
    pub times_ms: Vec<i64>,
}

impl Content {
    fn at(&self, index: usize) -> i64 {
        self.times_ms.get(index).copied().unwrap_or_default()
    }

    /// When the first came.
    pub fn first_ms(&self) -> i64 {
        self.at(0)
    }

    /// When half of them were there.
    pub fn middle_ms(&self) -> i64 {
        self.at((self.times_ms.len() / 2).saturating_sub(1))
    }

    /// When the last came.
    pub fn last_ms(&self) -> i64 {
        self.at(self.times_ms.len().saturating_sub(1))
    }

    /// Those that came at that moment or later.
    pub fn since(&self, from_ms: i64) -> &[i64] {
        &self.times_ms[self.times_ms.partition_point(|time| *time < from_ms)..]
    }
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

/// Makes topics that carry the broker's time.
pub fn make(stack: &Stack, names: &[String], partitions: i32) -> anyhow::Result<()> {
    for names in names.chunks(AT_ONCE) {
        let new: Vec<NewTopic<'_>> = names
            .iter()
            .map(|name| {
                NewTopic::new(name, partitions, TopicReplication::Fixed(1))
                    .set("message.timestamp.type", "LogAppendTime")
            })
            .collect();
        for made in block_on(admin(stack)?.create_topics(&new, &AdminOptions::new()))?? {
            made.map_err(|(name, code)| anyhow::anyhow!("{name}: {code}"))?;
        }
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
    for names in names.chunks(AT_ONCE) {
        block_on(admin(stack)?.delete_topics(names, &AdminOptions::new()))??;
    }
    Ok(())
}

/// The offset before which all of a partition is decided; none while the broker does not answer.
pub fn end(consumer: &BaseConsumer, topic: &str, partition: i32) -> anyhow::Result<Option<i64>> {
    match consumer.fetch_watermarks(topic, partition, CALL_MAX) {
        Ok((_, end)) => Ok(Some(end)),
        Err(error) if passes(&error) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("the end of {topic}")),
    }
}

/// Whether a committed record is in the topic.
pub fn has_any(consumer: &BaseConsumer, topic: &str, partitions: i32) -> anyhow::Result<bool> {
    for partition in 0..partitions {
        if end(consumer, topic, partition)?.is_some_and(|end| end > 0) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A broker that is busy, stands still or has just come back: who has a bound of his own asks again.
fn passes(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{
        AllBrokersDown, BrokerTransportFailure, LeaderNotAvailable, NotLeaderForPartition, OperationTimedOut,
        RequestTimedOut, UnknownPartition,
    };
    matches!(
        error.rdkafka_error_code(),
        Some(
            AllBrokersDown
                | BrokerTransportFailure
                | LeaderNotAvailable
                | NotLeaderForPartition
                | OperationTimedOut
                | RequestTimedOut
                | UnknownPartition
        )
    )
}

/// Puts a reader at a place in a partition.
pub fn read_from(consumer: &BaseConsumer, topic: &str, from: Offset) -> anyhow::Result<()> {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, from)?;
    Ok(consumer.assign(&list)?)
}

/// The next committed record that comes within the wait.
pub fn next(consumer: &BaseConsumer, wait: Duration) -> anyhow::Result<Option<BorrowedMessage<'_>>> {
    match consumer.poll(wait) {
        Some(Ok(message)) => Ok(Some(message)),
        Some(Err(KafkaError::PartitionEOF(_))) | None => Ok(None),
        Some(Err(error)) if passes(&error) => Ok(None),
        Some(Err(error)) => Err(error.into()),
    }
}

/// Reads topics to their ends; nobody writes to them any more.
pub fn content(stack: &Stack, topics: &[String], partitions: i32, repeats: Repeats) -> anyhow::Result<Content> {
    let consumer = reader(stack)?;
    let mut list = TopicPartitionList::new();
    for topic in topics {
        for partition in 0..partitions {
            list.add_partition_offset(topic, partition, Offset::Beginning)?;
        }
    }
    consumer.assign(&list)?;
    let (mut content, mut seen, mut ended) = (Content::default(), HashSet::new(), 0);
    let deadline = Instant::now() + READ_MAX;
    // The end of a partition is told once, and does not name its topic.
    while ended < list.count() {
        ensure!(
            Instant::now() < deadline,
            "{} topics could not be read within {} s",
            topics.len(),
            READ_MAX.as_secs()
        );
        match consumer.poll(POLL_MAX) {
            Some(Ok(message)) => {
                if repeats == Repeats::Counted {
                    let mut hash = DefaultHasher::new();
                    (message.topic(), message.key(), message.payload().is_some()).hash(&mut hash);
                    content.repeats += u64::from(!seen.insert(hash.finish()));
                }
                content.records += 1;
                let time_ms = message.timestamp().to_millis().context("a record without time")?;
                content.times_ms.push(time_ms);
            }
            Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
            Some(Err(error)) if !passes(&error) => return Err(error.into()),
            Some(Err(_)) | None => {}
        }
    }
    content.times_ms.sort_unstable();
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_first_the_middle_and_the_last() {
        let content = Content {
            times_ms: vec![1, 2, 2, 5, 9],
            ..Content::default()
        };
        assert_eq!((content.first_ms(), content.middle_ms(), content.last_ms()), (1, 2, 9));
        assert_eq!(content.since(2), [2, 2, 5, 9]);
        assert!(content.since(10).is_empty());
        assert_eq!(Content::default().last_ms(), 0);
    }
}
