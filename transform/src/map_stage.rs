//! The map stage: READ FIRST. poll > map into an overlay > one Kafka transaction > overlay into the store.
//!
//! The transaction holds the mapped records, the crosswalk entries they made, dead letters and the input offsets, or none
//! of them. Whatever fails, this function returns, everything in memory is dropped, and the next attempt begins from what
//! Kafka has committed; so there is no path on which memory and Kafka could disagree.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use syncline_bus::consumer::TopicPartition;
use syncline_bus::{GroupConsumer, InRecord, Patience, Producer};
use syncline_runtime::{Outcome, failpoint};

use crate::batch::{Change, Failpoints, gather, next_offsets, transact};
use crate::context::{Context, group};
use crate::mapper::{Deadlines, Mapper, Work};
use crate::metrics;
use crate::readiness::Readiness;

const STAGE: &str = "map";
/// How often it is shown what waits.
const SHOW_EVERY_MS: u64 = 500;
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
    deadlines: Deadlines,
    /// Partitions that are left alone, because too much of them waits.
    held: BTreeSet<TopicPartition>,
    /// What was last shown of what waits.
    shown: BTreeMap<(String, String), usize>,
    shown_at: Instant,
    /// The partitions that are ours.
    partitions: Vec<TopicPartition>,
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
            deadlines: Deadlines::default(),
            held: BTreeSet::new(),
            shown: BTreeMap::new(),
            shown_at: Instant::now(),
            partitions: Vec::new(),
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
            let batch = gather(&mut self.consumer, &self.context.bounds, &self.context.shutdown)?;
            metrics::lag(STAGE, &batch.records);
            let heard = self
                .readiness
                .listen(&self.context.bus, &self.context.pipeline, self.mapper.schemas())?;
            self.mapper.follow()?;
            let passed = self.passed()?;
            let moves = self.mapper.room().has_ready() || self.mapper.is_stuck(self.context.until_current);
            if !batch.records.is_empty() || !passed.is_empty() || moves {
                self.commit(producer, &batch.records, &passed)?;
            }
            self.hold();
            self.show_waiting();
            match &batch.change {
                Some(Change::Assigned(partitions)) => self.assigned(partitions)?,
                Some(Change::Revoked) => {
                    self.held.clear();
                    self.partitions.clear();
                    self.readiness.forget();
                    self.mapper.revoke();
                }
                None => {}
            }
            if batch.records.is_empty() {
                self.mapper.pause(self.context)?;
            }
            let mapper = &self.mapper;
            let nearly = self
                .readiness
                .nearly(|topic, partition| mapper.room().waits_in(topic, partition));
            let quiet = batch.records.is_empty() && batch.change.is_none() && heard && !nearly;
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

    /// Leaves partitions alone of which too much waits.
    fn hold(&mut self) {
        let full = self.mapper.room().full();
        if full != self.held {
            self.consumer.hold(full.clone());
            self.held = full;
        }
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
        self.context.health.set_status(STAGE, waiting.join("; "));
        self.shown = counts;
    }

    /// Brings the crosswalk of these partitions up to date before the first of their records is read.
    fn assigned(&mut self, partitions: &[TopicPartition]) -> Outcome<()> {
        tracing::info!(partitions = partitions.len(), "map: partitions assigned");
        self.mapper.assign(partitions, self.context)?;
        self.held.clear();
        self.partitions = partitions.to_vec();
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
        self.context.health.set_ready(STAGE, true);
        Ok(())
    }

    fn commit(&mut self, producer: &mut Producer, records: &[InRecord], passed: &[TopicPartition]) -> Outcome<()> {
        failpoint::hit("map.after_poll");
        let started = Instant::now();
        let mut work = Work::default();
        // Who waited goes first: what comes now of the same rows need not wait then.
        self.mapper.release(&mut work)?;
        for record in records {
            self.mapper.map(record, &mut work)?;
        }
        self.mapper.make_room(self.context.until_current, &mut work)?;
        self.mapper.release(&mut work)?;
        let mut loaded = Vec::new();
        for (topic, partition) in passed {
            self.mapper.say_read(topic, *partition, &mut work)?;
            // Merge must not take an app for read whose rows wait: it would be given them a second time.
            if !self.mapper.room().waits_in(topic, *partition) {
                self.mapper.say_loaded(self.context, topic, *partition, &mut work)?;
                loaded.push((topic.clone(), *partition));
            }
        }
        let mut offsets = next_offsets(records);
        if offsets.is_empty() {
            offsets.extend(self.standing());
        }
        // Who was looked at and waits on leaves nothing to be said.
        if !records.is_empty() || !work.outputs.is_empty() {
            transact(producer, &self.consumer, &work.outputs, &offsets, &FAILPOINTS)?;
        }
        self.mapper.settle(&mut work)?;
        self.readiness.settle(&loaded);
        metrics::RECORDS_IN
            .with_label_values(&[STAGE])
            .inc_by(metrics::whole(records.len()));
        metrics::BATCH_SECONDS
            .with_label_values(&[STAGE])
            .observe(started.elapsed().as_secs_f64());
        metrics::sent(STAGE, &work.outputs);
        Ok(())
    }

    /// Where we are anyway in some partition: it is sent so that a member that lost its partitions is found out.
    fn standing(&self) -> Option<(String, i32, i64)> {
        let (topic, partition) = self.partitions.first()?;
        let offset = self.consumer.position(topic, *partition)?;
        Some((topic.clone(), *partition, offset))
    }
}
