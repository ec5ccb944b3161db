//! When everything is mapped that a table held at the start: only then may merge publish, or the first app that is read
//! would be written into the others.
//!
//! Capture says on the source's marks topic that the snapshot of a table is in Kafka. From then on, the end that the
//! table's topic has *now* lies behind the last snapshot row, and once map has passed that end, all rows are mapped. A
//! topic written by Debezium says nothing of the kind; there it is the end it had when map first saw it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use syncline_bus::consumer::TopicPartition;
use syncline_bus::{BusConfig, GroupConsumer, PartitionReader, Patience, admin};
use syncline_runtime::Outcome;
use syncline_schemas::codec::Wire;
use syncline_schemas::pipeline::{CapturedBy, Pipeline};
use syncline_schemas::progress::MarkRecord;
use syncline_schemas::topic;

use crate::schemas::Schemas;

const READ_TIMEOUT_MS: u64 = 20;
/// Between two looks at the marks; records are mapped in between.
const LISTEN_EVERY_MS: u64 = 200;
/// How many marks are looked through before records are mapped again.
const MARKS_MAX: usize = 10_000;

/// What a partition of a table's topic still waits for.
enum Awaits {
    /// The word of capture that the snapshot is in Kafka.
    Snapshot,
    /// Map to pass this offset.
    End(i64),
}

/// The partitions that are not loaded yet.
pub struct Readiness {
    waiting: BTreeMap<TopicPartition, Awaits>,
    marks: BTreeMap<String, Vec<PartitionReader>>,
    /// For what capture may have said already.
    patience: Patience,
    /// When all that was said by then had been heard.
    heard_at: Option<Instant>,
}

impl Readiness {
    /// Nothing is waited for.
    pub fn new(patience: Patience) -> Self {
        Self {
            waiting: BTreeMap::new(),
            marks: BTreeMap::new(),
            patience,
            heard_at: None,
        }
    }

    /// Begins to wait for these partitions.
    pub fn expect(&mut self, bus: &BusConfig, pipeline: &Pipeline, partitions: &[TopicPartition]) -> Outcome<()> {
        self.heard_at = None;
        for (topic, partition) in partitions {
            let debezium = pipeline.links.iter().any(|link| {
                let system = pipeline.system(&link.system);
                system.is_some_and(|system| {
                    system.capture == CapturedBy::Debezium
                        && topic::capture(&system.topic_prefix, &link.schema, &link.table) == *topic
                })
            });
            let awaits = if debezium {
                Awaits::End(admin::end_offsets(bus, topic)?.get(partition).copied().unwrap_or(0))
            } else {
                Awaits::Snapshot
            };
            self.waiting.insert((topic.clone(), *partition), awaits);
        }
        Ok(())
    }

    /// Forgets everything: the partitions belong to others now.
    pub fn forget(&mut self) {
        self.waiting.clear();
        self.marks.clear();
        self.heard_at = None;
    }

    /// Listens to capture, as long as somebody waits for its word. True if all that was said has been heard.
    pub fn listen(&mut self, bus: &BusConfig, pipeline: &Pipeline, schemas: &mut Schemas) -> Outcome<bool> {
        if self
            .heard_at
            .is_some_and(|at| at.elapsed() < Duration::from_millis(LISTEN_EVERY_MS))
        {
            return Ok(true);
        }
        let mut heard_all = true;
        for system in &pipeline.systems {
            if !self.waits_for(&system.topic_prefix) {
                self.marks.remove(&system.name);
                continue;
            }
            if !self.marks.contains_key(&system.name) {
                self.marks.insert(
                    system.name.clone(),
                    open_all(bus, &topic::marks(&system.topic_prefix), self.patience)?,
                );
            }
            let (tables, all) = self.hear(&system.name, schemas)?;
            heard_all &= all;
            for table in tables {
                self.loaded(bus, &system.topic_prefix, &table)?;
            }
        }
        self.heard_at = heard_all.then(Instant::now);
        Ok(heard_all)
    }

    fn waits_for(&self, prefix: &str) -> bool {
        let start = format!("{prefix}.");
        self.waiting
            .iter()
            .any(|((topic, _), awaits)| matches!(awaits, Awaits::Snapshot) && topic.starts_with(&start))
    }

    fn hear(&mut self, system: &str, schemas: &mut Schemas) -> Outcome<(Vec<String>, bool)> {
        let mut tables = Vec::new();
        let mut all = true;
        for reader in self.marks.get_mut(system).into_iter().flatten() {
            for _ in 0..MARKS_MAX {
                let Some(record) = reader.next(Duration::from_millis(READ_TIMEOUT_MS))? else {
                    break;
                };
                let Some(value) = &record.value else { continue };
                if let Ok(MarkRecord::Loaded { table, .. }) = schemas.read(value, MarkRecord::decode)? {
                    tables.push(table);
                }
            }
            all &= reader.at_end();
        }
        Ok((tables, all))
    }

    fn loaded(&mut self, bus: &BusConfig, prefix: &str, table: &str) -> Outcome<()> {
        let (schema, table) = table.split_once('.').unwrap_or(("", table));
        let topic = topic::capture(prefix, schema, table);
        let waiting = self.waiting.iter_mut().filter(|((other, _), _)| *other == topic);
        let waiting: Vec<_> = waiting
            .filter(|(_, awaits)| matches!(awaits, Awaits::Snapshot))
            .collect();
        if waiting.is_empty() {
            return Ok(());
        }
        let ends = admin::end_offsets(bus, &topic)?;
        for ((_, partition), awaits) in waiting {
            *awaits = Awaits::End(ends.get(partition).copied().unwrap_or(0));
        }
        Ok(())
    }

    /// The partitions that map has just finished loading. Ask after the records of a poll have been mapped.
    pub fn reached(&mut self, consumer: &mut GroupConsumer) -> Outcome<Vec<TopicPartition>> {
        let mut reached = Vec::new();
        for ((topic, partition), awaits) in &self.waiting {
            if let Awaits::End(end) = awaits
                && consumer.reached(topic, *partition, *end)?
            {
                reached.push((topic.clone(), *partition));
            }
        }
        Ok(reached)
    }

    /// These have been said to be loaded, and the word is committed.
    pub fn settle(&mut self, partitions: &[TopicPartition]) {
        partitions.iter().for_each(|place| {
            self.waiting.remove(place);
        });
    }

    /// Whether a snapshot is known to be in Kafka that has not been passed yet, those aside that `is_held` up.
    pub fn nearly(&self, is_held: impl Fn(&str, i32) -> bool) -> bool {
        let awaited = self.waiting.iter();
        let mut awaited = awaited.filter(|((topic, partition), _)| !is_held(topic, *partition));
        awaited.any(|(_, awaits)| matches!(awaits, Awaits::End(_)))
    }
}

fn open_all(bus: &BusConfig, topic: &str, patience: Patience) -> Outcome<Vec<PartitionReader>> {
    let partitions = admin::partitions(bus, topic)?.unwrap_or(0);
    (0..partitions)
        .map(|partition| PartitionReader::open_with(bus, topic, partition, 0, patience))
        .collect()
}
