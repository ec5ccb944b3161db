//! Records that a target refused, into the dead letter topic: each once.
//!
//! They wait in the target's own books, written in the same transaction as their neighbours' rows, and are taken from there, by
//! one of all lanes and instances that find them: while it sends they are locked. A crash between sending and noting that would
//! send twice, whoever finds them next; so before every send the topic is read on to its end, and what it has is not sent again.

use std::collections::{BTreeMap, BTreeSet};
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
    /// What the topic has, as far as it was read.
    sent: BTreeSet<Identity>,
    /// Up to where that is, of each partition.
    read: BTreeMap<i32, i64>,
}

impl DeadLetters {
    /// The topic of `pipeline`; made when it is needed.
    pub fn new(bus: &BusConfig, pipeline: &str) -> Self {
        Self {
            bus: bus.clone(),
            topic: topic::dead_letters(pipeline, "sink"),
            producer: None,
            sent: BTreeSet::new(),
            read: BTreeMap::new(),
        }
    }

    /// Sends what `target` has refused and nobody has sent.
    pub fn take_from(&mut self, target: &mut impl Target) -> Outcome<()> {
        target.dead_letters(&mut |letters| self.send(letters))
    }

    fn send(&mut self, letters: &[DeadLetter]) -> Outcome<()> {
        self.read_on()?;
        if letters.is_empty() {
            return Ok(());
        }
        let mut producer = match self.producer.take() {
            Some(producer) => producer,
            None => Producer::idempotent(&self.bus)?,
        };
        for letter in letters.iter().filter(|letter| !self.sent.contains(&identity(letter))) {
            send(&mut producer, &self.topic, letter)?;
        }
        producer.flush()?;
        self.producer = Some(producer);
        Ok(())
    }

    /// Reads what others have sent, and what we have.
    fn read_on(&mut self) -> Outcome<()> {
        if self.read.is_empty() {
            admin::ensure(&self.bus, &[TopicSpec::new(&self.topic, 1)])?;
        }
        for partition in admin::end_offsets(&self.bus, &self.topic)?.into_keys() {
            let mut reader = self.reader(partition)?;
            while !reader.at_end() {
                match reader.next(Duration::from_millis(READ_MS_MAX))? {
                    Some(record) => self.sent.extend(recognise(&record)),
                    None if reader.at_end() => {}
                    None => {
                        return Err(Failure::transient(
                            "KAFKA_SLOW",
                            format!("{} cannot be read to its end", self.topic),
                        ));
                    }
                }
            }
            self.read.insert(partition, reader.position());
        }
        Ok(())
    }

    /// From where it was read up to. That may have been removed meanwhile, or the topic made anew: then from its beginning.
    fn reader(&self, partition: i32) -> Outcome<PartitionReader> {
        let whole = PartitionReader::open(&self.bus, &self.topic, partition, 0)?;
        match self.read.get(&partition) {
            Some(next) if (whole.first()..=whole.end()).contains(next) => {
                PartitionReader::open(&self.bus, &self.topic, partition, *next)
            }
            _ => Ok(whole),
        }
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
