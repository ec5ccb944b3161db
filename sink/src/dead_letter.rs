//! Records that a target refused, into the dead letter topic: each once.
//!
//! They wait in the target's own books, written in the same transaction as their neighbours' rows, and are taken from there.
//! A crash between sending and noting that would send twice; so after a start, and after every send whose outcome is not
//! known, the topic is read first and what it has is not sent again.

use std::collections::BTreeSet;
use std::time::Duration;

use syncline_bus::admin::{self, TopicSpec};
use syncline_bus::{BusConfig, InRecord, OutRecord, PartitionReader, Producer};
use syncline_runtime::{Failure, Outcome};
use syncline_schemas::topic;

use crate::metrics;
use crate::target::{DeadLetter, Target};

const REASON: &str = "syncline.reason";
const STAGE: &str = "syncline.stage";
const TARGET: &str = "syncline.target";
const TOPIC: &str = "syncline.topic";
const PARTITION: &str = "syncline.partition";
const OFFSET: &str = "syncline.offset";

const READ_MS_MAX: u64 = 10_000;

/// Which record of which topic, refused by which target.
type Identity = (String, String, i32, i64);

/// The dead letter topic of a pipeline's sinks.
pub struct DeadLetters {
    bus: BusConfig,
    topic: String,
    producer: Option<Producer>,
    /// What the topic has; none if that is not known.
    sent: Option<BTreeSet<Identity>>,
}

impl DeadLetters {
    /// The topic of `pipeline`; made when it is needed.
    pub fn new(bus: &BusConfig, pipeline: &str) -> Self {
        Self {
            bus: bus.clone(),
            topic: topic::dead_letters(pipeline, "sink"),
            producer: None,
            sent: None,
        }
    }

    /// Sends what `target` has refused and nobody has sent.
    pub fn take_from(&mut self, target: &mut impl Target) -> Outcome<()> {
        target.dead_letters(&mut |letters| self.send(letters))
    }

    fn send(&mut self, letters: &[DeadLetter]) -> Outcome<()> {
        let mut sent = match self.sent.take() {
            Some(sent) => sent,
            None => self.read()?,
        };
        let mut producer = match self.producer.take() {
            Some(producer) => producer,
            None => Producer::idempotent(&self.bus)?,
        };
        for letter in letters.iter().filter(|letter| !sent.contains(&identity(letter))) {
            send(&mut producer, &self.topic, letter)?;
        }
        producer.flush()?;
        sent.extend(letters.iter().map(identity));
        (self.producer, self.sent) = (Some(producer), Some(sent));
        Ok(())
    }

    fn read(&self) -> Outcome<BTreeSet<Identity>> {
        admin::ensure(&self.bus, &[TopicSpec::new(&self.topic, 1)])?;
        let mut sent = BTreeSet::new();
        for partition in admin::end_offsets(&self.bus, &self.topic)?.into_keys() {
            let mut reader = PartitionReader::open(&self.bus, &self.topic, partition, 0)?;
            while !reader.at_end() {
                match reader.next(Duration::from_millis(READ_MS_MAX))? {
                    Some(record) => sent.extend(recognise(&record)),
                    None if reader.at_end() => {}
                    None => {
                        return Err(Failure::transient(
                            "KAFKA_SLOW",
                            format!("{} cannot be read to its end", self.topic),
                        ));
                    }
                }
            }
        }
        Ok(sent)
    }
}

fn identity(letter: &DeadLetter) -> Identity {
    (
        letter.target.clone(),
        letter.from.topic.to_string(),
        letter.from.number,
        letter.offset,
    )
}

fn send(producer: &mut Producer, topic: &str, letter: &DeadLetter) -> Outcome<()> {
    let (partition, offset) = (letter.from.number.to_string(), letter.offset.to_string());
    let headers = [
        (REASON, letter.reason.as_bytes()),
        (STAGE, b"sink"),
        (TARGET, letter.target.as_bytes()),
        (TOPIC, letter.from.topic.as_bytes()),
        (PARTITION, partition.as_bytes()),
        (OFFSET, offset.as_bytes()),
    ];
    let record = OutRecord {
        topic,
        partition: None,
        key: Some(&letter.key),
        value: Some(&letter.value),
        headers: &headers,
        timestamp_ms: None,
    };
    producer.send(&record)?;
    metrics::DEAD_LETTERS.with_label_values(&[&letter.target]).inc();
    tracing::warn!(
        target_name = letter.target,
        topic = &*letter.from.topic,
        partition = letter.from.number,
        offset = letter.offset,
        "refused by the target, sent to {topic}: {}",
        letter.reason
    );
    Ok(())
}

fn recognise(record: &InRecord) -> Option<Identity> {
    let text = |name| record.header(name).and_then(|bytes| std::str::from_utf8(bytes).ok());
    Some((
        text(TARGET)?.to_owned(),
        text(TOPIC)?.to_owned(),
        text(PARTITION)?.parse().ok()?,
        text(OFFSET)?.parse().ok()?,
    ))
}
