//! Who says what time it is: of each entity with deadlines, the instance that merges its first partition, to all of them.
//!
//! Its clock ends up in records and nowhere else. It says nothing while merge is behind: what was said meanwhile should
//! be read before its time is up. Merge may be behind when it begins and after a batch that was full; then what there is to
//! read is looked up, and the time is told when that has been read. Several that tell it, as after a change of assignment,
//! do no harm: the greatest counts. It is never told smaller than it was, so that the last is the greatest, and the topic
//! keeps the last.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use syncline_bus::consumer::TopicPartition;
use syncline_bus::{InRecord, admin};
use syncline_runtime::Outcome;
use syncline_schemas::codec::Wire;
use syncline_schemas::tick::Tick;
use syncline_schemas::topic;

use crate::batch::Bounds;
use crate::context::Context;
use crate::decide::now_us;
use crate::outgoing::Outgoing;
use crate::schemas::Schemas;

/// Between two ticks.
const TICK_EVERY_MS: u64 = 2_000;
/// Merge is behind if a record of a batch is older.
const BEHIND_MS: i64 = 60_000;
/// All ticks are the same thing, told again, so that the topic keeps the last of each partition.
const KEY: &str = "time";

/// The entities with deadlines, and when they were last told the time.
pub struct Ticker {
    /// Name, topic, schema.
    entities: Vec<(String, Arc<str>, u32)>,
    ticked: Option<Instant>,
    backlog: Backlog,
}

/// Whether there is something older to be read.
enum Backlog {
    None,
    /// Nobody has looked.
    Unknown,
    /// Up to these ends.
    To(BTreeMap<TopicPartition, i64>),
}

impl Ticker {
    /// Registers the schema of ticks.
    pub fn open(context: &Context, schemas: &Schemas) -> Outcome<Self> {
        let pipeline = &context.pipeline;
        let mut entities = Vec::new();
        for entity in pipeline.entities.iter().filter(|entity| entity.has_deadlines()) {
            let name = topic::ticks(&pipeline.name, &entity.name);
            let id = schemas.register(&name, Tick::schema_json())?;
            entities.push((entity.name.clone(), name.into(), id));
        }
        Ok(Self {
            entities,
            ticked: None,
            backlog: Backlog::Unknown,
        })
    }

    /// Whether there is anybody to be told.
    pub fn is_wanted(&self) -> bool {
        !self.entities.is_empty()
    }

    /// There may be more to be read than has been.
    pub fn may_be_behind(&mut self) {
        self.backlog = Backlog::Unknown;
    }

    /// Takes in what a batch tells of that. Ends that have been looked up stay: under a load of full batches they would never
    /// be reached otherwise.
    pub fn saw(&mut self, batch: &[InRecord], bounds: &Bounds) {
        let bytes = |record: &InRecord| record.value.as_ref().map_or(0, Vec::len);
        // Keys and headers fill it too.
        let is_full = batch.len() >= bounds.batch_rows_max
            || batch.iter().map(bytes).sum::<usize>() >= bounds.batch_bytes_max / 2;
        let first_ms = batch.iter().map(|record| record.timestamp_ms).min();
        let is_late = first_ms.is_some_and(|ms| now_us() / 1000 - ms > BEHIND_MS);
        if matches!(self.backlog, Backlog::None) && (is_full || is_late) {
            self.may_be_behind();
        }
    }

    /// Whether it is time to say it again, and nothing older waits to be read.
    pub fn is_due(
        &mut self,
        ends: impl FnOnce() -> Outcome<BTreeMap<TopicPartition, i64>>,
        read_to: impl FnOnce(&BTreeMap<TopicPartition, i64>) -> Outcome<bool>,
    ) -> Outcome<bool> {
        let told = |at: Instant| at.elapsed() < Duration::from_millis(TICK_EVERY_MS);
        if !self.is_wanted() || self.ticked.is_some_and(told) {
            return Ok(false);
        }
        if let Backlog::Unknown = self.backlog {
            self.backlog = Backlog::To(ends()?);
        }
        if let Backlog::To(ends) = &self.backlog {
            if !read_to(ends)? {
                return Ok(false);
            }
            self.backlog = Backlog::None;
        }
        Ok(true)
    }

    /// What time it is, for every partition of the entities that are ours: those for which `told_us` knows what they were
    /// told last, if ever.
    pub fn ticks(
        &mut self,
        context: &Context,
        told_us: impl Fn(&str) -> Option<Option<i64>>,
    ) -> Outcome<Vec<Outgoing>> {
        self.ticked = Some(Instant::now());
        let now_us = now_us();
        let mut ticks = Vec::new();
        for (entity, topic, id) in &self.entities {
            let Some(told_us) = told_us(entity) else { continue };
            let tick = Tick {
                at_us: told_us.map_or(now_us, |told_us| told_us.max(now_us)),
            };
            let partitions = admin::partitions(&context.bus, topic)?.unwrap_or(0);
            ticks.extend((0..partitions).map(|to| Outgoing::keyed(topic, KEY, tick.encode(*id)).in_partition(to)));
        }
        Ok(ticks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks whether it is due; the ends are looked up if `looks`, and read to if `is_read`.
    fn due(ticker: &mut Ticker, looks: bool, is_read: bool) -> bool {
        let ends = || {
            assert!(looks, "looked up once more");
            Ok(BTreeMap::new())
        };
        ticker.is_due(ends, |_| Ok(is_read)).unwrap()
    }

    #[test]
    fn the_time_is_told_when_all_is_read_that_was_there() {
        let mut ticker = Ticker {
            entities: vec![("customer".to_owned(), "ticks".into(), 1)],
            ticked: None,
            backlog: Backlog::Unknown,
        };
        assert!(!due(&mut ticker, true, false));
        assert!(!due(&mut ticker, false, false));
        assert!(due(&mut ticker, false, true));
        assert!(due(&mut ticker, false, false), "what comes later does not hold it up");
        ticker.may_be_behind();
        assert!(!due(&mut ticker, true, false));
        ticker.entities.clear();
        assert!(!due(&mut ticker, false, true), "nobody is to be told");
    }
}
