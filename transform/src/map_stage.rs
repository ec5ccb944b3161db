//! The map stage: READ FIRST. poll > map into an overlay > one Kafka transaction > overlay into the store.
//!
//! The transaction holds the mapped records, the crosswalk entries they made, dead letters and the input offsets, or none
//! of them. Whatever fails, this function returns, everything in memory is dropped, and the next attempt begins from what
//! Kafka has committed; so there is no path on which memory and Kafka could disagree.
//!
//! A source that a guard has paused is not read on: its records that are at hand already are put back, their offsets do
//! not move, and the other sources flow.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use syncline_bus::consumer::TopicPartition;
use syncline_bus::{GroupConsumer, InRecord, Patience, Producer};
use syncline_runtime::{Outcome, failpoint};

use crate::batch::{Change, Failpoints, gather, next_offsets, transact};
use crate::context::{Context, group};
use crate::mapper::{Mapper, Taken, Work};
use crate::metrics;
use crate::readiness::Readiness;

const STAGE: &str = "map";
const FAILPOINTS: Failpoints = Failpoints {
    mid_produce: "map.mid_produce",
    before_commit: "map.before_commit",
    after_commit: "map.after_commit",
};

/// Runs the stage until it is asked to stop, has worked off what was there, or fails.
pub fn run(context: &Context) -> Outcome<()> {
    context.ensure_topics()?;
    let id = format!("syncline-{}-map-{}", context.pipeline.name, context.instance);
    // Fences a predecessor before anything is read that it might still change.
    let mut producer = Producer::transactional(&context.bus, &id)?;
    let outcome = MapStage::open(context).and_then(|mut stage| stage.work(&mut producer));
    context.health.set_ready(STAGE, false);
    if outcome.is_err() {
        context.doubt_topics();
        producer.abort();
    }
    outcome
}

struct MapStage<'a> {
    context: &'a Context,
    mapper: Mapper,
    consumer: GroupConsumer,
    readiness: Readiness,
    assigned: Option<usize>,
    /// The partitions that are ours.
    ours: Vec<TopicPartition>,
    /// Those of them that are not read on.
    held: BTreeSet<TopicPartition>,
}

impl<'a> MapStage<'a> {
    fn open(context: &'a Context) -> Outcome<Self> {
        let mapper = Mapper::open(context)?;
        let group = group(&context.pipeline.name, STAGE);
        let consumer = GroupConsumer::new(&context.bus, &group, &context.instance, &mapper.topics())?;
        Ok(Self {
            context,
            mapper,
            consumer,
            readiness: Readiness::new(Patience::of(context.until_current)),
            assigned: None,
            ours: Vec::new(),
            held: BTreeSet::new(),
        })
    }

    fn work(&mut self, producer: &mut Producer) -> Outcome<()> {
        let topics = self.mapper.topics();
        let ends = self
            .context
            .until_current
            .then(|| self.context.ends(&topics))
            .transpose()?;
        while !self.context.shutdown.requested() {
            self.mapper.hear()?;
            self.hold(&BTreeMap::new())?;
            let batch = gather(&mut self.consumer, &self.context.bounds, &self.context.shutdown)?;
            metrics::lag(STAGE, &batch.records);
            let heard = self
                .readiness
                .listen(&self.context.bus, &self.context.pipeline, self.mapper.schemas())?;
            let loaded = self.readiness.reached(&mut self.consumer)?;
            if !batch.records.is_empty() || !loaded.is_empty() {
                self.commit(producer, &batch.records, &loaded)?;
            }
            match &batch.change {
                Some(Change::Assigned(partitions)) => self.assigned(partitions)?,
                Some(Change::Revoked) => {
                    self.readiness.forget();
                    self.mapper.revoke();
                    self.ours.clear();
                    self.held.clear();
                }
                None => {}
            }
            if batch.records.is_empty() {
                self.mapper.pause(self.context)?;
            }
            let quiet =
                batch.records.is_empty() && batch.change.is_none() && heard && !self.readiness.nearly(&self.held);
            if let Some(ends) = &ends
                && quiet
                && (self.assigned == Some(0) || self.consumer.caught_up(ends)?)
            {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Brings the crosswalk of these partitions up to date before the first of their records is read.
    fn assigned(&mut self, partitions: &[TopicPartition]) -> Outcome<()> {
        tracing::info!(partitions = partitions.len(), "map: partitions assigned");
        self.mapper.assign(partitions, self.context)?;
        let (mut waiting, mut loaded) = (Vec::new(), Vec::new());
        for (topic, partition) in partitions {
            match self.mapper.is_loaded(topic, *partition)? {
                true => loaded.push((topic.clone(), *partition)),
                false => waiting.push((topic.clone(), *partition)),
            }
        }
        loaded.retain(|(topic, _)| self.mapper.reads_table(topic));
        self.consumer.refuse_expired(&loaded)?;
        self.readiness
            .expect(&self.context.bus, &self.context.pipeline, &waiting)?;
        self.assigned = Some(partitions.len());
        self.ours = partitions.to_vec();
        self.held.clear();
        self.hold(&BTreeMap::new())?;
        self.show_pauses();
        self.context.health.set_ready(STAGE, true);
        Ok(())
    }

    fn commit(&mut self, producer: &mut Producer, records: &[InRecord], loaded: &[TopicPartition]) -> Outcome<()> {
        failpoint::hit("map.after_poll");
        let started = Instant::now();
        let mut work = Work::default();
        let mut taken: Vec<&InRecord> = Vec::with_capacity(records.len());
        let mut held: BTreeMap<TopicPartition, i64> = BTreeMap::new();
        for record in records {
            match self.mapper.map(record, &mut work)? {
                Taken::Yes => taken.push(record),
                Taken::Held => {
                    _ = held
                        .entry((record.topic.clone(), record.partition))
                        .or_insert(record.offset)
                }
            }
        }
        self.mapper.finish(&mut work);
        // What is put back has not been mapped, so its end has not been passed.
        let loaded: Vec<TopicPartition> = loaded.iter().filter(|at| !held.contains_key(*at)).cloned().collect();
        for (topic, partition) in &loaded {
            self.mapper.say_loaded(self.context, topic, *partition, &mut work)?;
        }
        transact(
            producer,
            &self.consumer,
            &work.outputs,
            &next_offsets(taken.iter().copied()),
            &FAILPOINTS,
        )?;
        self.mapper.settle(&mut work)?;
        self.readiness.settle(&loaded);
        self.hold(&held)?;
        metrics::RECORDS_IN
            .with_label_values(&[STAGE])
            .inc_by(metrics::whole(taken.len()));
        metrics::BATCH_SECONDS
            .with_label_values(&[STAGE])
            .observe(started.elapsed().as_secs_f64());
        metrics::sent(STAGE, &work.outputs);
        Ok(())
    }

    /// Reads the partitions of paused sources no further, those in `back` again from there; and the others on.
    fn hold(&mut self, back: &BTreeMap<TopicPartition, i64>) -> Outcome<()> {
        let mut changed = false;
        for at in &self.ours {
            let (topic, partition) = at;
            let (is_paused, is_held) = (self.mapper.is_paused(topic), self.held.contains(at));
            if is_paused && (!is_held || back.contains_key(at)) {
                self.consumer.hold(topic, *partition, back.get(at).copied())?;
                self.held.insert(at.clone());
                changed = true;
            } else if !is_paused && is_held {
                self.consumer.release(topic, *partition);
                self.held.remove(at);
                changed = true;
            }
        }
        if changed {
            self.show_pauses();
        }
        Ok(())
    }

    /// Says which sources are paused, where an operator looks.
    fn show_pauses(&self) {
        let Some(pauses) = self.mapper.pauses() else { return };
        let mut lines = Vec::new();
        for system in &self.context.pipeline.systems {
            let first = pauses.of(&system.name).next();
            let gauge = metrics::PAUSED.with_label_values(&[system.name.as_str()]);
            gauge.set(if first.is_some() { 1.0 } else { 0.0 });
            if let Some(paused) = first {
                tracing::error!(
                    code = "SOURCE_PAUSED",
                    source = system.name,
                    guard = paused.guard,
                    table = paused.table,
                    "paused: {}; see syncline guards",
                    paused.why
                );
                lines.push(format!(
                    "{} is paused by {} ({})",
                    system.name, paused.guard, paused.why
                ));
            }
        }
        let status = match lines.is_empty() {
            true => "no source is paused".to_owned(),
            false => format!("{}; see syncline guards", lines.join("; ")),
        };
        self.context.health.set_status(STAGE, status);
    }
}
