//! Who says what time it is: of each entity with deadlines, the instance that merges its first partition, to all of them.
//!
//! Its clock ends up in records and nowhere else. It says nothing while merge is behind: what was said meanwhile should
//! be read before its time is up. Several that say it, as after a change of assignment, do no harm: the greatest counts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use syncline_bus::{InRecord, admin};
use syncline_runtime::Outcome;
use syncline_schemas::codec::Wire;
use syncline_schemas::tick::Tick;
use syncline_schemas::topic;

use crate::context::Context;
use crate::decide::now_us;
use crate::outgoing::Outgoing;
use crate::schemas::Schemas;

/// Between two ticks.
const TICK_EVERY_MS: u64 = 2_000;
/// Merge is behind if the last record of a batch is older.
const BEHIND_MS: i64 = 60_000;
/// All ticks are the same thing, told again, so that the topic keeps the last of each partition.
const KEY: &str = "time";

/// The entities with deadlines, and when they were last told the time.
pub struct Ticker {
    /// Name, topic, schema.
    entities: Vec<(String, Arc<str>, u32)>,
    ticked: Option<Instant>,
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
        Ok(Self { entities, ticked: None })
    }

    /// Whether it is time to say it again; not while merge is behind.
    pub fn is_due(&self, batch: &[InRecord]) -> bool {
        let told = |at: Instant| at.elapsed() < Duration::from_millis(TICK_EVERY_MS);
        let last_ms = batch.iter().map(|record| record.timestamp_ms).max();
        let behind = last_ms.is_some_and(|ms| now_us() / 1000 - ms > BEHIND_MS);
        !self.entities.is_empty() && !self.ticked.is_some_and(told) && !behind
    }

    /// What time it is, for every partition of the entities that are `ours`.
    pub fn ticks(&mut self, context: &Context, ours: impl Fn(&str) -> bool) -> Outcome<Vec<Outgoing>> {
        self.ticked = Some(Instant::now());
        let tick = Tick { at_us: now_us() };
        let mut ticks = Vec::new();
        for (_, topic, id) in self.entities.iter().filter(|(entity, ..)| ours(entity)) {
            let partitions = admin::partitions(&context.bus, topic)?.unwrap_or(0);
            ticks.extend((0..partitions).map(|to| Outgoing::keyed(topic, KEY, tick.encode(*id)).in_partition(to)));
        }
        Ok(ticks)
    }
}
