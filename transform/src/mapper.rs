//! What the map stage does with a record, all of Kafka's loop apart: read it, ask the crosswalk, map it, and note what is
//! to be sent and stored. A record that cannot be worked on becomes a dead letter and its neighbours flow.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use syncline_bus::consumer::TopicPartition;
use syncline_bus::{InRecord, admin};
use syncline_runtime::Outcome;
use syncline_schemas::codec::{Crosswalk, Wire};
use syncline_schemas::envelope::Op;
use syncline_schemas::lens::Expr;
use syncline_schemas::mapped::MappedRecord;
use syncline_schemas::mark::Mark;
use syncline_schemas::pipeline::{Entity, Link, Parent, Pipeline};
use syncline_schemas::progress::MarkRecord;
use syncline_schemas::topic;
use syncline_schemas::waiting::Waiting;

use crate::change::{Change, is_of};
use crate::changelog;
use crate::context::Context;
use crate::followed::Followed;
use crate::mapping::parents::References;
use crate::mapping::{self, Address, Input, Known, Mapping, Nothing, Refusal};
use crate::metrics;
use crate::outgoing::{Outgoing, dead_letter};
use crate::overlay::Overlay;
use crate::schemas::Schemas;
use crate::store::{DiskStore, EntityStore, Shard};
use crate::waiting::WaitingRoom;

/// Rows that refer to others.
mod children;

/// When children have waited long enough.
mod deadlines;

pub use deadlines::Deadlines;

const STAGE: &str = "map";

/// A link, the entity it speaks for, and where its records go.
struct Route {
    link: Link,
    entity: Entity,
    mapped: Arc<str>,
    mapped_id: u32,
    mapped_partitions: i32,
    crosswalk: Arc<str>,
    crosswalk_id: u32,
    /// Where changes wait for the rows that they refer to, and the schema there; none if they refer to none.
    waiting: Option<(Arc<str>, u32)>,
    /// Whether others refer to the entity.
    is_referred_to: bool,
    /// Whether rows get their entity before the rows are known that they refer to: those may refer back.
    is_circular: bool,
}

/// What a batch comes to.
#[derive(Default)]
pub struct Work {
    /// To be sent.
    pub outputs: Vec<Outgoing>,
    /// To be stored after the commit.
    pub overlay: Overlay,
    /// What the crosswalk has of entities that others refer to since.
    came: BTreeSet<String>,
}

/// Maps records.
pub struct Mapper {
    pipeline: Arc<Pipeline>,
    /// By capture topic.
    routes: HashMap<String, Vec<Arc<Route>>>,
    /// Systems by marks topic.
    marks: BTreeMap<String, String>,
    dead_letters: Arc<str>,
    schemas: Schemas,
    store: DiskStore,
    /// Shards of the crosswalk that are ours.
    shards: BTreeSet<Shard>,
    /// Changes in the store that were not read from the changelog.
    unread: usize,
    followed: Followed,
    room: WaitingRoom,
}

impl Mapper {
    /// Registers the schemas of what is written, and opens the local store.
    pub fn open(context: &Context) -> Outcome<Self> {
        let schemas = Schemas::new(&context.pipeline.registry);
        let mut routes: HashMap<String, Vec<Arc<Route>>> = HashMap::new();
        for link in context.reading_links() {
            let route = Route::new(&context.pipeline, link, |topic, json| schemas.register(topic, json))?;
            routes
                .entry(context.capture_topic(link))
                .or_default()
                .extend(route.map(Arc::new));
        }
        Ok(Self {
            pipeline: Arc::clone(&context.pipeline),
            routes,
            marks: context.marks_topics(),
            dead_letters: topic::dead_letters(&context.pipeline.name, STAGE).into(),
            schemas,
            store: DiskStore::open(&context.state_dir.join(STAGE))?,
            shards: BTreeSet::new(),
            unread: 0,
            followed: Followed::new(&context.pipeline),
            room: WaitingRoom::default(),
        })
    }

    /// The topics to read.
    pub fn topics(&self) -> Vec<String> {
        self.routes.keys().chain(self.marks.keys()).cloned().collect()
    }

    /// For whoever else reads records of ours.
    pub fn schemas(&mut self) -> &mut Schemas {
        &mut self.schemas
    }

    /// Takes these partitions, and brings their crosswalk up to date.
    pub fn assign(&mut self, partitions: &[TopicPartition], context: &Context) -> Outcome<()> {
        self.shards.clear();
        for (topic, partition) in partitions {
            let routes = self.routes_of(topic);
            let shards = routes.iter().flat_map(|route| route.shards(*partition));
            self.shards.extend(shards);
        }
        self.restore(context)?;
        self.room = WaitingRoom::default();
        if self.has_children(partitions) {
            self.followed.catch_up(context, &mut self.store)?;
            self.take_up(partitions)?;
        }
        Ok(())
    }

    /// Gives all partitions up.
    pub fn revoke(&mut self) {
        self.shards.clear();
        self.followed.stop();
        self.room = WaitingRoom::default();
    }

    fn restore(&mut self, context: &Context) -> Outcome<()> {
        for shard in &self.shards {
            changelog::restore(&context.bus, &mut self.store, shard, &context.shutdown)?;
        }
        self.unread = 0;
        Ok(())
    }

    /// Takes in what others know of parents.
    pub fn follow(&mut self) -> Outcome<()> {
        for key in self.followed.follow(&mut self.store)? {
            self.room.came(&key);
        }
        Ok(())
    }

    /// What waits.
    pub fn room(&self) -> &WaitingRoom {
        &self.room
    }

    /// In a pause, reads back what it has written, if that is worth it.
    pub fn pause(&mut self, context: &Context) -> Outcome<()> {
        if self.unread >= changelog::READ_BACK_FROM_ROWS {
            self.restore(context)?;
        }
        Ok(())
    }

    /// Stores what has been committed.
    pub fn settle(&mut self, work: &mut Work) -> Outcome<()> {
        self.unread += work.overlay.settle(&mut self.store)?;
        Ok(())
    }

    fn routes_of(&self, topic: &str) -> Vec<Arc<Route>> {
        self.routes.get(topic).cloned().unwrap_or_default()
    }

    /// Whether the topic holds the changes of a table.
    pub fn reads_table(&self, topic: &str) -> bool {
        self.routes.contains_key(topic)
    }

    /// Whether every link of the topic has said so for this partition before.
    pub fn is_loaded(&self, topic: &str, partition: i32) -> Outcome<bool> {
        for route in self.routes_of(topic) {
            let said = self.store.get(&route.shard(partition), &route.loaded_key())?;
            if said.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// One record of the input, to none, one or several of the output.
    pub fn map(&mut self, record: &InRecord, work: &mut Work) -> Outcome<()> {
        let Some(value) = &record.value else {
            skipped("tombstone");
            return Ok(());
        };
        let mapped = match self.marks.get(&record.topic).cloned() {
            Some(system) => self.map_mark(&system, record, value, work)?,
            None => self.map_change(record, value, work)?,
        };
        if let Err(Refusal(reason)) = mapped {
            self.refuse(record, &reason, work);
        }
        Ok(())
    }

    /// The record cannot be worked on.
    fn refuse(&self, record: &InRecord, reason: &str, work: &mut Work) {
        tracing::warn!(
            topic = record.topic,
            partition = record.partition,
            offset = record.offset,
            reason,
            "dead letter"
        );
        metrics::DEAD_LETTERS.with_label_values(&[STAGE]).inc();
        work.outputs
            .push(dead_letter(&self.dead_letters, STAGE, reason, record));
    }

    fn map_mark(
        &mut self,
        system: &str,
        record: &InRecord,
        value: &[u8],
        work: &mut Work,
    ) -> Outcome<Result<(), Refusal>> {
        let placed = match self.schemas.read(value, MarkRecord::decode)? {
            Ok(MarkRecord::Placed(placed)) => placed,
            Ok(MarkRecord::Loaded { .. }) => return Ok(Ok(())),
            Err(reason) => return Ok(Err(Refusal(reason))),
        };
        let Ok(mark) = Mark::from_text(&placed.mark) else {
            return Ok(Err(Refusal("the mark is none".to_owned())));
        };
        let routes: Vec<Arc<Route>> = self.routes.values().flatten().cloned().collect();
        let route = routes
            .iter()
            .find(|route| route.link.system == system && is_of(&mark, &route.link));
        match route.filter(|_| mark.pipeline == self.pipeline.name) {
            Some(route) => self.put(route, mapping::seen(system, &placed, mark), record, work)?,
            None => skipped("mark of another pipeline"),
        }
        Ok(Ok(()))
    }

    fn map_change(&mut self, record: &InRecord, value: &[u8], work: &mut Work) -> Outcome<Result<(), Refusal>> {
        let change = match Change::read(record, value, &self.pipeline, &mut self.schemas)? {
            Ok(Some(change)) => change,
            Ok(None) => {
                skipped("no change");
                return Ok(Ok(()));
            }
            Err(refusal) => return Ok(Err(refusal)),
        };
        let mut refused = Ok(());
        for route in self.routes_of(&record.topic) {
            let mapped = match &route.waiting {
                None => self.map_known(&route, &change.input(&route.link), References::default(), record, work)?,
                Some(_) => self.map_child(&route, &change, record, work)?,
            };
            if let Err(refusal) = mapped {
                refused = Err(refusal);
            }
        }
        Ok(refused)
    }

    /// Maps a change whose references are known.
    fn map_known(
        &mut self,
        route: &Route,
        input: &Input<'_>,
        references: References,
        cause: &InRecord,
        work: &mut Work,
    ) -> Outcome<Result<(), Refusal>> {
        match self.map_row(route, input, references, cause, work)? {
            Ok(mapping) => self.put(route, mapping, cause, work).map(Ok),
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    fn map_row(
        &mut self,
        route: &Route,
        input: &Input<'_>,
        references: References,
        cause: &InRecord,
        work: &Work,
    ) -> Outcome<Result<Mapping, Refusal>> {
        let address = match mapping::address(&route.link, input) {
            Ok(Ok(address)) => address,
            Ok(Err(nothing)) => return Ok(Ok(Mapping::Nothing(nothing))),
            Err(refusal) => return Ok(Err(refusal)),
        };
        let known = match self.known(route, &address, cause.partition, work)? {
            Ok(known) => Known { references, ..known },
            Err(reason) => return Ok(Err(Refusal(reason))),
        };
        let mapped = mapping::apply(&route.link, &route.entity, input, address, &known);
        // What was there when the table was first read was known from the start, whenever that was.
        let known_ms = (input.event.op != Op::Read).then_some(cause.timestamp_ms);
        Ok(mapped.map(|mapping| mapping.known_at(known_ms.filter(|_| route.is_referred_to))))
    }

    /// What the crosswalk has. The old key of a row that moved may lie in another partition than its change.
    fn known(
        &mut self,
        route: &Route,
        address: &Address,
        partition: i32,
        work: &Work,
    ) -> Outcome<Result<Known, String>> {
        let row = match self.entry(
            &route.shard(partition),
            &mapping::crosswalk_key(&route.link, &address.row),
            work,
        )? {
            Ok(row) => row,
            Err(reason) => return Ok(Err(reason)),
        };
        let mut was = None;
        if let Some(key) = address.was.as_ref().map(|was| mapping::crosswalk_key(&route.link, was)) {
            for shard in self
                .shards
                .iter()
                .filter(|shard| *shard.topic == *route.crosswalk)
                .cloned()
                .collect::<Vec<_>>()
            {
                match self.entry(&shard, &key, work)? {
                    Ok(Some(entry)) => was = Some(entry),
                    Ok(None) => {}
                    Err(reason) => return Ok(Err(reason)),
                }
            }
        }
        Ok(Ok(Known {
            row,
            was,
            ..Known::default()
        }))
    }

    fn entry(&mut self, shard: &Shard, key: &str, work: &Work) -> Outcome<Result<Option<Crosswalk>, String>> {
        match work.overlay.get(&self.store, shard, key)? {
            Some(bytes) => Ok(self.schemas.read(&bytes, Crosswalk::decode)?.map(Some)),
            None => Ok(Ok(None)),
        }
    }

    /// The shard that has the key, else that of the change.
    fn shard_of(&self, route: &Route, key: &str, partition: i32, work: &Work) -> Outcome<i32> {
        for shard in self.shards.iter().filter(|shard| *shard.topic == *route.crosswalk) {
            if work.overlay.get(&self.store, shard, key)?.is_some() {
                return Ok(shard.partition);
            }
        }
        Ok(partition)
    }

    fn put(&self, route: &Route, mapping: Mapping, cause: &InRecord, work: &mut Work) -> Outcome<()> {
        let (mapped, crosswalk) = match mapping {
            Mapping::Nothing(Nothing(why)) => {
                skipped(why);
                return Ok(());
            }
            Mapping::Left { key, entry } => {
                let partition = self.shard_of(route, &key, cause.partition, work)?;
                route.put_crosswalk(key, &entry, partition, work);
                return Ok(());
            }
            Mapping::Said { mapped, crosswalk } => (mapped, crosswalk),
        };
        self.put_entries(route, crosswalk, cause, work)?;
        let cid = mapped.cid.clone();
        let value = MappedRecord::Said(*mapped).encode(route.mapped_id);
        work.outputs
            .push(Outgoing::keyed(&route.mapped, &cid, value).caused_by(cause));
        Ok(())
    }

    fn put_entries(
        &self,
        route: &Route,
        entries: Vec<(String, Crosswalk)>,
        cause: &InRecord,
        work: &mut Work,
    ) -> Outcome<()> {
        for (key, entry) in entries {
            let partition = match entry.left_at {
                Some(_) => self.shard_of(route, &key, cause.partition, work)?,
                None => cause.partition,
            };
            route.put_crosswalk(key, &entry, partition, work);
        }
        Ok(())
    }

    /// Tells every partition of merge, and our own crosswalk.
    pub fn say_loaded(&mut self, context: &Context, topic: &str, partition: i32, work: &mut Work) -> Outcome<()> {
        let partitions = admin::partitions(&context.bus, topic)?.unwrap_or(1);
        for route in self.routes_of(topic) {
            tracing::info!(link = route.link.name(), partition, "map: loaded");
            let loaded = MappedRecord::Loaded {
                link: route.link.name(),
                partition,
                partitions,
            };
            let value = loaded.encode(route.mapped_id);
            let key = format!("{}/{partition}", route.loaded_key());
            for mapped_partition in 0..route.mapped_partitions {
                let record = Outgoing::keyed(&route.mapped, &key, value.clone());
                work.outputs.push(record.in_partition(mapped_partition));
            }
            route.put_crosswalk(route.loaded_key(), &nobody(), partition, work);
        }
        Ok(())
    }
}

impl Route {
    /// None if the link's entity does not exist, which a checked pipeline does not have.
    fn new(pipeline: &Pipeline, link: &Link, register: impl Fn(&str, &str) -> Outcome<u32>) -> Outcome<Option<Self>> {
        let Some(entity) = pipeline.entity(&link.entity) else {
            return Ok(None);
        };
        let mapped = topic::mapped(&pipeline.name, &link.entity);
        let crosswalk = topic::crosswalk(&pipeline.name, &link.entity);
        let is_read = |parent: &Parent<'_>| link.field(&parent.reference.field).is_some_and(|field| field.reads);
        let waiting = topic::waiting(&pipeline.name, &link.entity);
        let waiting = pipeline
            .parents(link)
            .iter()
            .any(is_read)
            .then(|| -> Outcome<(Arc<str>, u32)> {
                let id = register(&waiting, Waiting::schema_json())?;
                Ok((waiting.as_str().into(), id))
            })
            .transpose()?;
        let named: BTreeSet<&str> = entity.match_on.iter().flatten().flat_map(Expr::names).collect();
        let is_matched = entity
            .references
            .iter()
            .any(|reference| named.contains(&*reference.field));
        Ok(Some(Self {
            waiting,
            is_referred_to: pipeline.is_referred_to(&entity.name),
            is_circular: !is_matched && pipeline.leads_to(&entity.name, &entity.name, |_| true),
            link: link.clone(),
            entity: entity.clone(),
            mapped_id: register(&mapped, MappedRecord::schema_json())?,
            mapped_partitions: pipeline.partitions,
            mapped: mapped.into(),
            crosswalk_id: register(&crosswalk, Crosswalk::schema_json())?,
            crosswalk: crosswalk.into(),
        }))
    }

    fn shard(&self, partition: i32) -> Shard {
        Shard {
            topic: self.crosswalk.to_string(),
            partition,
        }
    }

    /// Everything that is kept of a partition of its topic.
    fn shards(&self, partition: i32) -> impl Iterator<Item = Shard> + use<> {
        let waiting = self.waiting.as_ref().map(|(topic, _)| Shard {
            topic: topic.to_string(),
            partition,
        });
        std::iter::once(self.shard(partition)).chain(waiting)
    }

    /// Rows' keys begin with the name of a system, which has no tilde.
    fn loaded_key(&self) -> String {
        format!("~loaded/{}", self.link.name())
    }

    /// Every row that the table held at the start has been read, though some may wait for what they refer to.
    fn read_key(&self) -> String {
        read_key(&self.link.name())
    }

    fn put_crosswalk(&self, key: String, entry: &Crosswalk, partition: i32, work: &mut Work) {
        let value = entry.encode(self.crosswalk_id);
        work.outputs
            .push(Outgoing::keyed(&self.crosswalk, &key, value.clone()).in_partition(partition));
        if self.is_referred_to {
            work.came.insert(key.clone());
        }
        work.overlay.put(&self.shard(partition), key, value);
    }
}

fn read_key(link: &str) -> String {
    format!("~read/{link}")
}

/// An entry that says nothing of a row.
fn nobody() -> Crosswalk {
    Crosswalk {
        cid: String::new(),
        left_at: None,
        since: None,
        known_ms: None,
    }
}

fn skipped(why: &'static str) {
    metrics::RECORDS_SKIPPED.with_label_values(&[STAGE, why]).inc();
}

#[cfg(test)]
mod tests;
