//! The merge stage: READ NEXT. poll > join into an overlay > one Kafka transaction > overlay into the store.
//!
//! The transaction holds agreed records, conflicts, the changelog of states, dead letters and the input offsets, or none
//! of them. As in the map stage, every failure ends this function, and the next attempt starts from what is committed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use syncline_bus::consumer::TopicPartition;
use syncline_bus::{GroupConsumer, InRecord, Producer};
use syncline_runtime::{Failure, Outcome, failpoint};
use syncline_schemas::codec::Wire;
use syncline_schemas::decision::Decision;
use syncline_schemas::identity::IdentityWord;
use syncline_schemas::mapped::MappedRecord;
use syncline_schemas::sighting::SightingRecord;
use syncline_schemas::tick::Tick;
use syncline_schemas::topic;

use crate::batch::{Bounds, Change, Failpoints, gather, next_offsets, transact};
use crate::changelog;
use crate::context::{Context, group};
use crate::entity_shard::{EntityRoom, EntityShard, Touched, Work};
use crate::metrics;
use crate::outgoing::dead_letter;
use crate::schemas::Schemas;
use crate::store::DiskStore;
use crate::ticker::Ticker;

const STAGE: &str = "merge";
const PUBLISH_ROWS_MAX: usize = 1_000;
const FAILPOINTS: Failpoints = Failpoints {
    mid_produce: "merge.mid_produce",
    before_commit: "merge.before_commit",
    after_commit: "merge.after_commit",
};

/// Runs the stage until it is asked to stop, has worked off what was there, or fails.
pub fn run(context: &Context) -> Outcome<()> {
    context.ensure_topics()?;
    let id = format!("syncline-{}-merge-{}", context.pipeline.name, context.instance);
    // Fences a predecessor before anything is read that it might still change.
    let mut producer = Producer::transactional(&context.bus, &id)?;
    let outcome = MergeStage::open(context).and_then(|mut stage| stage.work(&mut producer));
    context.health.set_ready(STAGE, false);
    if outcome.is_err() {
        context.doubt_topics();
        producer.abort();
    }
    outcome
}

/// What an input topic holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Input {
    Mapped,
    Decisions,
    Ticks,
    Identity,
    Sightings,
}

struct MergeStage<'a> {
    context: &'a Context,
    inputs: HashMap<String, (Input, Arc<EntityRoom>)>,
    /// By entity and partition.
    shards: BTreeMap<(String, i32), EntityShard>,
    dead_letters: Arc<str>,
    schemas: Schemas,
    store: DiskStore,
    consumer: GroupConsumer,
    /// Changes in the store that were not read from the changelog.
    unread: usize,
    assigned: Option<usize>,
    ticker: Ticker,
    /// Whether something was sent since the ends were looked up that is to be read here again.
    fed_back: bool,
    /// Up to where words on identity had been said when the partitions were assigned.
    said: Option<BTreeMap<TopicPartition, i64>>,
    /// Whether all of those have been heard.
    has_heard: bool,
}

impl<'a> MergeStage<'a> {
    fn open(context: &'a Context) -> Outcome<Self> {
        let schemas = Schemas::new(&context.pipeline.registry);
        let pipeline = &context.pipeline;
        let mut inputs = HashMap::new();
        for entity in &pipeline.entities {
            let room = Arc::new(EntityRoom::open(pipeline, entity, |topic, json| {
                schemas.register(topic, json)
            })?);
            inputs.insert(
                topic::mapped(&pipeline.name, &entity.name),
                (Input::Mapped, Arc::clone(&room)),
            );
            if entity.has_deadlines() {
                let ticks = topic::ticks(&pipeline.name, &entity.name);
                inputs.insert(ticks, (Input::Ticks, Arc::clone(&room)));
            }
            let identity = topic::identity(&pipeline.name, &entity.name);
            inputs.insert(identity, (Input::Identity, Arc::clone(&room)));
            if pipeline.compares(entity) {
                let sightings = topic::sightings(&pipeline.name, &entity.name);
                inputs.insert(sightings, (Input::Sightings, Arc::clone(&room)));
            }
            inputs.insert(topic::decisions(&pipeline.name, &entity.name), (Input::Decisions, room));
        }
        let topics: Vec<String> = inputs.keys().cloned().collect();
        let group = group(&pipeline.name, STAGE);
        Ok(Self {
            store: DiskStore::open(&context.state_dir.join(STAGE))?,
            consumer: GroupConsumer::new(&context.bus, &group, &context.instance, &topics)?,
            dead_letters: topic::dead_letters(&pipeline.name, STAGE).into(),
            shards: BTreeMap::new(),
            unread: 0,
            assigned: None,
            ticker: Ticker::open(context, &schemas)?,
            fed_back: false,
            said: None,
            has_heard: false,
            context,
            inputs,
            schemas,
        })
    }

    fn work(&mut self, producer: &mut Producer) -> Outcome<()> {
        let mut is_told = !self.context.until_current || !self.ticker.is_wanted();
        let mut ends = self
            .context
            .until_current
            .then(|| self.context.ends(self.inputs.keys()))
            .transpose()?;
        while !self.context.shutdown.requested() {
            let finding = self.may_find()?;
            let publishing = finding
                || self
                    .shards
                    .values()
                    .any(|shard| shard.is_publishing() || shard.is_overdue());
            let idle_ms = if publishing { 0 } else { self.context.bounds.idle_ms };
            let bounds = Bounds {
                idle_ms,
                ..self.context.bounds
            };
            let batch = gather(&mut self.consumer, &bounds, &self.context.shutdown)?;
            metrics::lag(STAGE, &batch.records);
            if !batch.records.is_empty() {
                self.commit(producer, &batch.records)?;
                self.ticker.saw(&batch.records, &self.context.bounds);
            }
            match &batch.change {
                Some(Change::Assigned(partitions)) => {
                    self.assigned(partitions)?;
                    self.ticker.may_be_behind();
                }
                Some(Change::Revoked) => self.shards.clear(),
                None if publishing => {
                    self.expire(producer)?;
                    self.publish(producer)?;
                    if finding {
                        self.find(producer)?;
                    }
                }
                None => {}
            }
            let (context, inputs, consumer) = (self.context, &self.inputs, &mut self.consumer);
            let read_to = |ends: &_| consumer.caught_up(ends);
            if !self.context.until_current && self.ticker.is_due(|| context.ends(inputs.keys()), read_to)? {
                self.tick(producer)?;
            }
            if batch.records.is_empty() && !publishing && self.unread >= changelog::READ_BACK_FROM_ROWS {
                self.read_back()?;
            }
            let finding = self.shards.values().any(EntityShard::is_finding);
            let quiet = batch.records.is_empty() && batch.change.is_none() && !publishing && !finding;
            if let Some(there) = &ends
                && quiet
                && (self.assigned == Some(0) || self.consumer.caught_up(there)?)
            {
                if std::mem::take(&mut self.fed_back) {
                    ends = Some(self.context.ends(self.inputs.keys())?);
                    continue;
                }
                if is_told {
                    return Ok(());
                }
                // Only now: an answer that waited to be read came in time.
                is_told = true;
                self.tick(producer)?;
                ends = Some(self.context.ends(self.inputs.keys())?);
            }
        }
        Ok(())
    }

    /// Brings the states of these partitions up to date before the first of their records is read.
    fn assigned(&mut self, partitions: &[TopicPartition]) -> Outcome<()> {
        tracing::info!(partitions = partitions.len(), "merge: partitions assigned");
        self.shards.clear();
        let mut known = Vec::new();
        for (topic, partition) in partitions {
            let Some((input, room)) = self.inputs.get(topic) else {
                continue;
            };
            // Whoever has the mapped records has the state. Other topics may be with somebody else for as long as not all
            // instances read the same ones, as when deadlines come into the file.
            if *input != Input::Mapped {
                continue;
            }
            known.push((topic.clone(), *partition));
            let at = (room.entity.name.clone(), *partition);
            let shard = room.shard(*partition);
            changelog::restore(&self.context.bus, &mut self.store, &shard, &self.context.shutdown)?;
            let opened = EntityShard::open(Arc::clone(room), *partition, &self.store, &mut self.schemas)?;
            self.shards.insert(at, opened);
        }
        known.retain(|at| self.has_begun(at));
        self.consumer.refuse_expired(&known)?;
        self.assigned = Some(partitions.len());
        (self.said, self.has_heard) = (None, false);
        self.context.health.set_ready(STAGE, true);
        self.show_awaited();
        Ok(())
    }

    /// Whether rows can be compared: not before everything has been heard that was said of who is who, or it would be said
    /// once more.
    fn may_find(&mut self) -> Outcome<bool> {
        if !self.shards.values().any(EntityShard::is_finding) {
            return Ok(false);
        }
        if !self.has_heard {
            let words = self.inputs.iter().filter(|(_, (input, _))| *input == Input::Identity);
            let topics: Vec<&String> = words.map(|(topic, _)| topic).collect();
            let said = match self.said.take() {
                Some(said) => said,
                None => self.context.ends(topics)?,
            };
            self.has_heard = self.consumer.caught_up(&said)?;
            self.said = Some(said);
        }
        Ok(self.has_heard)
    }

    /// Compares the next rows of the shards that are at it.
    fn find(&mut self, producer: &mut Producer) -> Outcome<()> {
        let finding: Vec<(String, i32)> = self
            .shards
            .iter()
            .filter(|(_, shard)| shard.is_finding())
            .map(|(at, _)| at.clone())
            .collect();
        for at in finding {
            let Some(shard) = self.shards.get_mut(&at) else {
                continue;
            };
            let work = shard.find_more(&self.store, &mut self.schemas, PUBLISH_ROWS_MAX)?;
            if work.outputs.is_empty() {
                continue;
            }
            let offset = self.offset(&at);
            self.settle(producer, work, &offset)?;
        }
        Ok(())
    }

    /// Whether something of this partition of mapped records has been merged before.
    fn has_begun(&self, (topic, partition): &TopicPartition) -> bool {
        let entity = self.inputs.get(topic).map(|(_, room)| room.entity.name.clone());
        let shard = entity.and_then(|entity| self.shards.get(&(entity, *partition)));
        shard.is_some_and(EntityShard::has_begun)
    }

    fn read_back(&mut self) -> Outcome<()> {
        for shard in self.shards.values() {
            changelog::restore(
                &self.context.bus,
                &mut self.store,
                shard.changelog(),
                &self.context.shutdown,
            )?;
        }
        self.unread = 0;
        Ok(())
    }

    fn show_awaited(&self) {
        let mut awaited: Vec<&str> = self.shards.values().flat_map(EntityShard::awaited).collect();
        awaited.sort_unstable();
        awaited.dedup();
        let status = match awaited.as_slice() {
            [] => "all links are loaded".to_owned(),
            links => format!("publishes nothing before these links are loaded: {}", links.join(", ")),
        };
        self.context.health.set_status(STAGE, status);
    }

    fn commit(&mut self, producer: &mut Producer, records: &[InRecord]) -> Outcome<()> {
        failpoint::hit("merge.after_poll");
        let started = Instant::now();
        let mut work = Work::default();
        let mut touched: BTreeMap<(String, i32), Touched<'_>> = BTreeMap::new();
        for record in records {
            self.join(record, &mut touched, &mut work)?;
        }
        for (at, touched) in touched {
            if let Some(shard) = self.shards.get_mut(&at) {
                shard.finish(touched, &mut work);
            }
        }
        self.settle(producer, work, &next_offsets(records))?;
        metrics::RECORDS_IN
            .with_label_values(&[STAGE])
            .inc_by(metrics::whole(records.len()));
        metrics::BATCH_SECONDS
            .with_label_values(&[STAGE])
            .observe(started.elapsed().as_secs_f64());
        self.show_awaited();
        Ok(())
    }

    fn join<'r>(
        &mut self,
        record: &'r InRecord,
        touched: &mut BTreeMap<(String, i32), Touched<'r>>,
        work: &mut Work,
    ) -> Outcome<()> {
        let Some((input, room)) = self.inputs.get(&record.topic) else {
            return Ok(());
        };
        let Some(value) = &record.value else { return Ok(()) };
        let at = (room.entity.name.clone(), record.partition);
        let Some(shard) = self.shards.get_mut(&at) else {
            if *input == Input::Ticks {
                return Ok(());
            }
            let message = format!("a record of {}[{}], which is not ours", record.topic, record.partition);
            return Err(Failure::transient("NOT_ASSIGNED", message));
        };
        let touched = touched.entry(at).or_default();
        let read = match input {
            Input::Mapped => match self.schemas.read(value, MappedRecord::decode)? {
                Ok(mapped) => Ok(shard.take(mapped, record, &self.store, &mut self.schemas, touched, work)?),
                Err(reason) => Err(reason),
            },
            Input::Decisions => match self.schemas.read(value, Decision::decode)? {
                Ok(decision) => Ok(shard.decide(&decision, record, &self.store, &mut self.schemas, touched)?),
                Err(reason) => Err(reason),
            },
            Input::Identity => match self.schemas.read(value, IdentityWord::decode)? {
                Ok(word) => shard.identify(&word, record.offset, &self.store, &mut self.schemas, work)?,
                Err(reason) => Err(reason),
            },
            Input::Sightings => match self.schemas.read(value, SightingRecord::decode)? {
                Ok(seen) => Ok(shard.sight(seen, &self.store, &mut self.schemas, work)?),
                Err(reason) => Err(reason),
            },
            Input::Ticks => self
                .schemas
                .read(value, Tick::decode)?
                .map(|tick| shard.tick(tick, work)),
        };
        if let Err(reason) = read {
            tracing::warn!(
                topic = record.topic,
                partition = record.partition,
                offset = record.offset,
                reason,
                "dead letter"
            );
            work.refused += 1;
            work.outputs
                .push(dead_letter(&self.dead_letters, STAGE, &reason, record));
        }
        Ok(())
    }

    /// Publishes the next states of the shards that are still at it.
    fn publish(&mut self, producer: &mut Producer) -> Outcome<()> {
        let waiting: Vec<(String, i32)> = self
            .shards
            .iter()
            .filter(|(_, shard)| shard.is_publishing())
            .map(|(at, _)| at.clone())
            .collect();
        for at in waiting {
            let Some(shard) = self.shards.get_mut(&at) else {
                continue;
            };
            let (work, publication) = shard.publish_more(&self.store, &mut self.schemas, PUBLISH_ROWS_MAX)?;
            let offset = self.offset(&at);
            self.settle(producer, work, &offset)?;
            if let Some(shard) = self.shards.get_mut(&at) {
                shard.settle(publication);
            }
        }
        Ok(())
    }

    /// Decides what nobody has decided in time, in the shards that were told a later time.
    fn expire(&mut self, producer: &mut Producer) -> Outcome<()> {
        let overdue: Vec<(String, i32)> = self
            .shards
            .iter()
            .filter(|(_, shard)| shard.is_overdue())
            .map(|(at, _)| at.clone())
            .collect();
        for at in overdue {
            let Some(shard) = self.shards.get_mut(&at) else {
                continue;
            };
            let work = shard.expire_more(&self.store, &mut self.schemas, PUBLISH_ROWS_MAX)?;
            if work.outputs.is_empty() {
                continue;
            }
            let offset = self.offset(&at);
            self.settle(producer, work, &offset)?;
        }
        Ok(())
    }

    /// The offset where we are anyway; it is sent so that a member that lost its partitions is found out.
    fn offset(&self, (entity, partition): &(String, i32)) -> Vec<(String, i32, i64)> {
        let mapped = topic::mapped(&self.context.pipeline.name, entity);
        let offset = self.consumer.position(&mapped, *partition);
        offset.map(|offset| (mapped, *partition, offset)).into_iter().collect()
    }

    /// Tells the entities whose first partition is ours what time it is.
    fn tick(&mut self, producer: &mut Producer) -> Outcome<()> {
        let first = |entity: &str| self.shards.get(&(entity.to_owned(), 0));
        let told_us = |entity: &str| first(entity).map(EntityShard::told_us);
        let ticks = self.ticker.ticks(self.context, told_us)?;
        if ticks.is_empty() {
            return Ok(());
        }
        transact(producer, &self.consumer, &ticks, &[], &FAILPOINTS)
    }

    /// Commits to Kafka, then to the store.
    fn settle(&mut self, producer: &mut Producer, mut work: Work, offsets: &[(String, i32, i64)]) -> Outcome<()> {
        self.fed_back |= work
            .outputs
            .iter()
            .any(|record| self.inputs.contains_key(&*record.topic));
        transact(producer, &self.consumer, &work.outputs, offsets, &FAILPOINTS)?;
        self.unread += work.overlay.settle(&mut self.store)?;
        failpoint::hit("merge.after_store");
        metrics::DEAD_LETTERS
            .with_label_values(&[STAGE])
            .inc_by(metrics::whole(work.refused));
        metrics::sent(STAGE, &work.outputs);
        Ok(())
    }
}
