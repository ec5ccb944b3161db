//! The map stage: READ FIRST. poll > map into an overlay > one Kafka transaction > overlay into the store.
//!
//! The transaction holds the mapped records, the crosswalk entries they made, dead letters and the input offsets, or none
//! of them. Whatever fails, this function returns, everything in memory is dropped, and the next attempt begins from what
//! Kafka has committed; so there is no path on which memory and Kafka could disagree.
//!
//! A source that a guard has paused is not read on: its records that are at hand already are put back, their offsets do
//! not move, and the other sources flow. Nor is a partition read on of which too much waits for rows that it refers to, until
//! some of that has gone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use syncline_bus::consumer::TopicPartition;
use syncline_bus::{GroupConsumer, InRecord, Patience, Producer};
use syncline_runtime::{Outcome, failpoint};

use crate::batch::{Change, Failpoints, gather, next_offsets, transact};
use crate::context::{Context, group};
use crate::mapper::{Deadlines, Mapper, Taken, Work};
use crate::metrics;
use crate::readiness::Readiness;

const STAGE: &str = "map";
/// How often it is shown what waits.
const SHOW_EVERY_MS: u64 = 500;
/// Places of what is said of pauses, and of what waits.
const PAUSES: usize = 0;
const WAITING: usize = 1;
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
    /// Those of them that are not read on: their source is paused, or too much of them waits.
    held: BTreeSet<TopicPartition>,
    /// The topics of paused sources, as they were last shown.
    paused: BTreeSet<String>,
    deadlines: Deadlines,
    /// What was last shown of what waits.
    shown: BTreeMap<(String, String), usize>,
    shown_at: Instant,
    /// What is said of pauses, and of what waits.
    status: [String; 2],
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
            paused: BTreeSet::new(),
            deadlines: Deadlines::default(),
            shown: BTreeMap::new(),
            shown_at: Instant::now(),
            status: [String::new(), String::new()],
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
            self.mapper.follow()?;
            let passed = self.passed()?;
            let moves = self.mapper.has_ready() || self.mapper.is_stuck(self.context.until_current);
            if !batch.records.is_empty() || !passed.is_empty() || moves {
                self.commit(producer, &batch.records, &passed)?;
            }
            self.show_waiting();
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
            let mapper = &self.mapper;
            let waits = |topic: &str, partition: i32| mapper.room().waits_in(topic, partition);
            let is_held = |topic: &str, partition: i32| self.held.contains(&(topic.to_owned(), partition));
            let nearly = self
                .readiness
                .nearly(|topic, partition| waits(topic, partition) || is_held(topic, partition));
            // What too much waits of is read on when some of it has gone; a source that is paused is not waited for.
            let is_full = self.held.iter().any(|(topic, _)| !mapper.is_paused(topic));
            let quiet = batch.records.is_empty() && batch.change.is_none() && heard && !nearly && !is_full;
            if let Some(ends) = &ends
                && quiet
                && (self.assigned == Some(0) || self.consumer.caught_up(ends)?)
            {
                // Once now: what others had known and this had not read yet may have come since.
                self.mapper.follow()?;
                if !self.mapper.expire(self.context, &mut self.deadlines, true)? {
                    return Ok(());
                }
            } else if ends.is_none() {
                self.mapper.expire(self.context, &mut self.deadlines, false)?;
            }
        }
        Ok(())
    }

    /// The partitions of which everything is read that a table held at the start, as far as something of it is to be said.
    fn passed(&mut self) -> Outcome<Vec<TopicPartition>> {
        let mut passed = Vec::new();
        for (topic, partition) in self.readiness.reached(&mut self.consumer)? {
            let waits = self.mapper.room().waits_in(&topic, partition);
            if !waits || self.mapper.has_to_say_read(&topic, partition)? {
                passed.push((topic, partition));
            }
        }
        Ok(passed)
    }

    fn show_waiting(&mut self) {
        if self.shown_at.elapsed() < Duration::from_millis(SHOW_EVERY_MS) {
            return;
        }
        self.shown_at = Instant::now();
        let counts = self.mapper.room().counts();
        if counts == self.shown {
            return;
        }
        metrics::waiting(&self.shown, &counts);
        let behind = |parent: &str| match parent {
            "" => "others of their rows".to_owned(),
            parent => format!("rows of {parent}"),
        };
        let waiting: Vec<String> = counts
            .iter()
            .map(|((link, parent), count)| format!("{count} changes of {link} wait for {}", behind(parent)))
            .collect();
        self.status[WAITING] = waiting.join("; ");
        self.tell();
        self.shown = counts;
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

    fn commit(&mut self, producer: &mut Producer, records: &[InRecord], passed: &[TopicPartition]) -> Outcome<()> {
        failpoint::hit("map.after_poll");
        let started = Instant::now();
        let mut work = Work::default();
        let mut taken: Vec<&InRecord> = Vec::with_capacity(records.len());
        let mut held: BTreeMap<TopicPartition, i64> = BTreeMap::new();
        // Who waited goes first: what comes now of the same rows need not wait then.
        self.mapper.release(&mut work)?;
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
        self.mapper.make_room(self.context.until_current, &mut work)?;
        self.mapper.release(&mut work)?;
        self.mapper.finish(&mut work);
        let mut loaded = Vec::new();
        // What is put back has not been mapped, so its end has not been passed.
        for (topic, partition) in passed.iter().filter(|at| !held.contains_key(*at)) {
            self.mapper.say_read(topic, *partition, &mut work)?;
            // Merge must not take an app for read whose rows wait: it would be given them a second time.
            if !self.mapper.room().waits_in(topic, *partition) {
                self.mapper.say_loaded(self.context, topic, *partition, &mut work)?;
                loaded.push((topic.clone(), *partition));
            }
        }
        let mut offsets = next_offsets(taken.iter().copied());
        if offsets.is_empty() {
            offsets.extend(self.standing(&held));
        }
        // Who was looked at and waits on leaves nothing to be said.
        if !taken.is_empty() || !work.outputs.is_empty() {
            transact(producer, &self.consumer, &work.outputs, &offsets, &FAILPOINTS)?;
        }
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

    /// Reads the partitions of paused sources no further, nor those of which too much waits, those in `back` again from there;
    /// and the others on.
    fn hold(&mut self, back: &BTreeMap<TopicPartition, i64>) -> Outcome<()> {
        let full = self.mapper.room().full();
        let mut paused = BTreeSet::new();
        for at in &self.ours {
            let (topic, partition) = at;
            let is_paused = self.mapper.is_paused(topic);
            if is_paused {
                paused.insert(topic.clone());
            }
            let (is_to_wait, is_held) = (is_paused || full.contains(at), self.held.contains(at));
            if is_to_wait && (!is_held || back.contains_key(at)) {
                self.consumer.hold(topic, *partition, back.get(at).copied())?;
                self.held.insert(at.clone());
            } else if !is_to_wait && is_held {
                self.consumer.release(topic, *partition);
                self.held.remove(at);
            }
        }
        if paused != self.paused {
            self.paused = paused;
            self.show_pauses();
        }
        Ok(())
    }

    /// Says which sources are paused, where an operator looks.
    fn show_pauses(&mut self) {
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
        self.status[PAUSES] = status;
        self.tell();
    }

    /// Tells both what is paused and what waits: a part has one status.
    fn tell(&self) {
        let said: Vec<&str> = self
            .status
            .iter()
            .map(String::as_str)
            .filter(|line| !line.is_empty())
            .collect();
        self.context.health.set_status(STAGE, said.join("; "));
    }

    /// Where we are anyway in some partition of which nothing is put back: it is sent so that a member that lost its partitions
    /// is found out.
    fn standing(&self, back: &BTreeMap<TopicPartition, i64>) -> Option<(String, i32, i64)> {
        let (topic, partition) = self.ours.iter().find(|at| !back.contains_key(*at))?;
        let offset = self.consumer.position(topic, *partition)?;
        Some((topic.clone(), *partition, offset))
    }
}
