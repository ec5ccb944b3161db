//! The map stage: READ FIRST. poll > map into an overlay > one Kafka transaction > overlay into the store.
//!
//! The transaction holds the mapped records, the crosswalk entries they made, dead letters and the input offsets, or none
//! of them. Whatever fails, this function returns, everything in memory is dropped, and the next attempt begins from what
//! Kafka has committed; so there is no path on which memory and Kafka could disagree.

use std::time::Instant;

use syncline_bus::consumer::TopicPartition;
use syncline_bus::{GroupConsumer, InRecord, Patience, Producer};
use syncline_runtime::{Outcome, failpoint};

use crate::batch::{Change, Failpoints, gather, next_offsets, transact};
use crate::context::{Context, group};
use crate::mapper::{Mapper, Work};
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
            let loaded = self.readiness.reached(&mut self.consumer)?;
            if !batch.records.is_empty() || !loaded.is_empty() {
                self.commit(producer, &batch.records, &loaded)?;
            }
            match &batch.change {
                Some(Change::Assigned(partitions)) => self.assigned(partitions)?,
                Some(Change::Revoked) => {
                    self.readiness.forget();
                    self.mapper.revoke();
                }
                None => {}
            }
            if batch.records.is_empty() {
                self.mapper.pause(self.context)?;
            }
            let quiet = batch.records.is_empty() && batch.change.is_none() && heard && !self.readiness.nearly();
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
        self.context.health.set_ready(STAGE, true);
        Ok(())
    }

    fn commit(&mut self, producer: &mut Producer, records: &[InRecord], loaded: &[TopicPartition]) -> Outcome<()> {
        failpoint::hit("map.after_poll");
        let started = Instant::now();
        let mut work = Work::default();
        for record in records {
            self.mapper.map(record, &mut work)?;
        }
        for (topic, partition) in loaded {
            self.mapper.say_loaded(self.context, topic, *partition, &mut work)?;
        }
        transact(
            producer,
            &self.consumer,
            &work.outputs,
            &next_offsets(records),
            &FAILPOINTS,
        )?;
        self.mapper.settle(&mut work)?;
        self.readiness.settle(loaded);
        metrics::RECORDS_IN
            .with_label_values(&[STAGE])
            .inc_by(metrics::whole(records.len()));
        metrics::BATCH_SECONDS
            .with_label_values(&[STAGE])
            .observe(started.elapsed().as_secs_f64());
        metrics::sent(STAGE, &work.outputs);
        Ok(())
    }
}
