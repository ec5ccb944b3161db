//! What the map stage does with a record, all of Kafka's loop apart: read it, ask the crosswalk, map it, and note what is
//! to be sent and stored. A record that cannot be worked on becomes a dead letter and its neighbours flow.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use syncline_bus::consumer::TopicPartition;
use syncline_bus::{InRecord, admin};
use syncline_runtime::Outcome;
use syncline_schemas::codec::{Crosswalk, State, Wire};
use syncline_schemas::envelope::Op;
use syncline_schemas::lens::Expr;
use syncline_schemas::mapped::{Mapped, MappedRecord, sighted_row};
use syncline_schemas::mark::Mark;
use syncline_schemas::pause::Pauses;
use syncline_schemas::pipeline::{Entity, Link, Parent, Pipeline};
use syncline_schemas::progress::MarkRecord;
use syncline_schemas::sighting::{Sighting, SightingRecord};
use syncline_schemas::topic;
use syncline_schemas::waiting::Waiting;

use crate::change::{Change, is_of};
use crate::changelog;
use crate::clocks::Clocks;
use crate::context::Context;
use crate::followed::Followed;
use crate::guards::{self, Guards, Seen};
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
/// What the keys begin with that say of a link that all its rows are mapped, and that they are compared too.
const LOADED: &str = "~loaded/";
const SIGHTED: &str = "~sighted/";

/// A link, the entity it speaks for, and where its records go.
pub struct Route {
    /// The link.
    pub link: Link,
    /// The entity.
    pub entity: Entity,
    /// What the guards know its table by.
    pub watched: String,
    /// Where they keep what they remember, and the schema of that; none if there are no guards.
    guards: Option<(Arc<str>, u32)>,
    mapped: Arc<str>,
    mapped_id: u32,
    mapped_partitions: i32,
    crosswalk: Arc<str>,
    crosswalk_id: u32,
    /// Where rows of the entity say who they are, if anybody compares them.
    sightings: Option<(Arc<str>, u32)>,
    /// Where changes wait for the rows that they refer to, and the schema there; none if they refer to none.
    waiting: Option<(Arc<str>, u32)>,
    /// Whether others refer to the entity.
    is_referred_to: bool,
    /// Whether rows get their entity before the rows are known that they refer to: others refer to them, and would be given up
    /// for a row that waits itself, or wait for each other for ever.
    is_awaited: bool,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is worked on.
    Yes,
    /// Its source is paused: it, and what comes after it, stays where it is.
    Held,
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
    guards: Option<Guards>,
    clocks: Clocks,
    store: DiskStore,
    /// Shards that are ours, of the crosswalk and of what guards remember.
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
            guards: Guards::open(&context.pipeline, &schemas)?,
            clocks: Clocks::default(),
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

    /// Takes these partitions, and brings their crosswalk and what guards remember of them up to date.
    pub fn assign(&mut self, partitions: &[TopicPartition], context: &Context) -> Outcome<()> {
        self.revoke();
        for (topic, partition) in partitions {
            for route in self.routes_of(topic) {
                self.shards.extend(route.shards(*partition));
                self.shards.extend(route.guards_shard(*partition));
            }
        }
        self.restore(context)?;
        self.watch(partitions, context)?;
        if self.has_children(partitions) {
            self.followed.catch_up(context, &mut self.store)?;
            self.take_up(partitions)?;
        }
        Ok(())
    }

    fn watch(&mut self, partitions: &[TopicPartition], context: &Context) -> Outcome<()> {
        let Some(guards) = &mut self.guards else { return Ok(()) };
        guards.restore(&context.bus, &mut self.schemas)?;
        let mut widths: BTreeMap<&str, i32> = BTreeMap::new();
        for (topic, partition) in partitions {
            let Some(routes) = self.routes.get(topic) else { continue };
            let width = match widths.get(topic.as_str()) {
                Some(width) => *width,
                None => {
                    let width = admin::partitions(&context.bus, topic)?.unwrap_or(1);
                    widths.insert(topic, width);
                    width
                }
            };
            for route in routes {
                guards.watch(route, *partition, width, &self.store, &mut self.schemas)?;
            }
        }
        Ok(())
    }

    /// Gives all partitions up.
    pub fn revoke(&mut self) {
        self.shards.clear();
        self.followed.stop();
        self.room = WaitingRoom::default();
        if let Some(guards) = &mut self.guards {
            guards.revoke();
        }
    }

    /// Hears which sources are paused, and which are let go on.
    pub fn hear(&mut self) -> Outcome<()> {
        match &mut self.guards {
            Some(guards) => guards.hear(&mut self.schemas),
            None => Ok(()),
        }
    }

    /// What is paused; none if there are no guards.
    pub fn pauses(&self) -> Option<&Pauses> {
        self.guards.as_ref().map(Guards::pauses)
    }

    /// Whether the topic holds changes of a source that is paused. Marks flow: they tell what was seen, and change nothing.
    pub fn is_paused(&self, topic: &str) -> bool {
        let Some(pauses) = self.pauses().filter(|pauses| !pauses.holding().is_empty()) else {
            return false;
        };
        let route = self.routes.get(topic).and_then(|routes| routes.first());
        route.is_some_and(|route| pauses.is_paused(&route.link.system))
    }

    /// Ends the batch: what guards know now belongs to it.
    pub fn finish(&mut self, work: &mut Work) {
        if let Some(guards) = &mut self.guards {
            guards.note(&self.routes, work);
        }
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

    /// Whether any of those that wait is to be looked at again. What waits of a paused source stays as it is.
    pub fn has_ready(&self) -> bool {
        self.room.has_ready(|at| !self.is_paused(&at.topic))
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
    pub fn map(&mut self, record: &InRecord, work: &mut Work) -> Outcome<Taken> {
        if self.is_paused(&record.topic) {
            return Ok(Taken::Held);
        }
        let Some(value) = &record.value else {
            skipped("tombstone");
            return Ok(Taken::Yes);
        };
        let mapped = match self.marks.get(&record.topic).cloned() {
            Some(system) => self.map_mark(&system, record, value, work)?.map(|()| Taken::Yes),
            None => self.map_change(record, value, work)?,
        };
        if let Err(Refusal(reason)) = &mapped {
            self.refuse(record, reason, work);
        }
        Ok(mapped.unwrap_or(Taken::Yes))
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
            Some(route) => put(route, mapping::seen(system, &placed, mark), record, work),
            None => skipped("mark of another pipeline"),
        }
        Ok(Ok(()))
    }

    fn map_change(&mut self, record: &InRecord, value: &[u8], work: &mut Work) -> Outcome<Result<Taken, Refusal>> {
        let change = match Change::read(record, value, &self.pipeline, &mut self.schemas)? {
            Ok(Some(change)) => change,
            Ok(None) => {
                skipped("no change");
                return Ok(Ok(Taken::Yes));
            }
            Err(refusal) => return Ok(Err(refusal)),
        };
        let mut refused = Ok(Taken::Yes);
        let mut turns = Vec::new();
        let routes = self.routes_of(&record.topic);
        if let Some(route) = routes.first() {
            let skew_ms = self.pipeline.max_clock_skew_ms;
            let input = change.input(&route.link);
            self.clocks.look(&route.link.system, record, &input, skew_ms);
        }
        // What waits is counted when it comes: only so does each partition decide by its own log.
        for route in routes {
            match self.weigh(&route, &change, record, false, work)? {
                Ok((turn, was_known)) => {
                    let input = change.input(&route.link);
                    if let Some(mapping) = turn.mapping()
                        && self.is_too_much(&route, record, &input, was_known, mapping, work)?
                    {
                        return Ok(Ok(Taken::Held));
                    }
                    turns.push((route, turn));
                }
                Err(refusal) => refused = Err(refusal),
            }
        }
        for (route, turn) in turns {
            self.carry_out(&route, turn, record, work);
        }
        Ok(refused)
    }

    fn is_too_much(
        &mut self,
        route: &Route,
        record: &InRecord,
        input: &Input<'_>,
        was_known: bool,
        mapping: &Mapping,
        work: &mut Work,
    ) -> Outcome<bool> {
        let Some(guards) = &mut self.guards else {
            return Ok(false);
        };
        let seen = Seen {
            route,
            record,
            input,
            was_known,
            mapping,
        };
        guards.is_too_much(&seen, &self.store, &mut self.schemas, work)
    }

    /// What the change comes to, and whether its row was known before.
    fn map_row(
        &mut self,
        route: &Route,
        input: &Input<'_>,
        references: References,
        cause: &InRecord,
        work: &Work,
    ) -> Outcome<Result<(Mapping, bool), Refusal>> {
        let address = match mapping::address(&route.link, input) {
            Ok(Ok(address)) => address,
            Ok(Err(nothing)) => return Ok(Ok((Mapping::Nothing(nothing), false))),
            Err(refusal) => return Ok(Err(refusal)),
        };
        let known = match self.known(route, &address, cause.partition, work)? {
            Ok(known) => Known { references, ..known },
            Err(reason) => return Ok(Err(Refusal(reason))),
        };
        let is_there = |entry: &Crosswalk| entry.left_at.is_none();
        let was_known = known.row.as_ref().is_some_and(is_there) || known.was.is_some();
        let mapping = mapping::apply(&route.link, &route.entity, input, address, &known);
        // What was there when the table was first read was known from the start, whenever that was.
        let known_ms = (input.event.op != Op::Read).then_some(cause.timestamp_ms);
        let known_ms = known_ms.filter(|_| route.is_referred_to);
        Ok(mapping.map(|mapping| (mapping.known_at(known_ms), was_known)))
    }

    /// What the crosswalk has, as far as it is ours. The old key of a row that moved may lie in another partition
    /// than its change.
    fn known(
        &mut self,
        route: &Route,
        address: &Address,
        partition: i32,
        work: &Work,
    ) -> Outcome<Result<Known, String>> {
        let key = mapping::crosswalk_key(&route.link, &address.row);
        let own = match self.entry(&route.shard(partition), &key, work)? {
            Ok(own) => own,
            Err(reason) => return Ok(Err(reason)),
        };
        let old = match &address.was {
            None => Vec::new(),
            Some(was) => match self.entries(route, &mapping::crosswalk_key(&route.link, was), work)? {
                Ok(entries) => entries,
                Err(reason) => return Ok(Err(reason)),
            },
        };
        Ok(Ok(Known::found(own, old)))
    }

    /// What all shards of ours have under the key.
    fn entries(&mut self, route: &Route, key: &str, work: &Work) -> Outcome<Result<Vec<Crosswalk>, String>> {
        let ours = |shard: &&Shard| *shard.topic == *route.crosswalk;
        let shards: Vec<Shard> = self.shards.iter().filter(ours).cloned().collect();
        let mut entries = Vec::new();
        for shard in shards {
            match self.entry(&shard, key, work)? {
                Ok(entry) => entries.extend(entry),
                Err(reason) => return Ok(Err(reason)),
            }
        }
        Ok(Ok(entries))
    }

    fn entry(&mut self, shard: &Shard, key: &str, work: &Work) -> Outcome<Result<Option<Crosswalk>, String>> {
        match work.overlay.get(&self.store, shard, key)? {
            Some(bytes) => Ok(self.schemas.read(&bytes, Crosswalk::decode)?.map(Some)),
            None => Ok(Ok(None)),
        }
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
            if let Some((sightings, id)) = &route.sightings {
                let loaded = SightingRecord::Loaded {
                    link: route.link.name(),
                    partition,
                    partitions,
                };
                let record = Outgoing::keyed(sightings, &key, loaded.encode(*id));
                work.outputs.push(record.in_partition(0));
            }
            route.put_crosswalk(route.loaded_key(), &nobody(), partition, work);
            if let Some(guards) = &mut self.guards {
                guards.loaded(&route, partition);
            }
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
        let sightings = match pipeline.compares(entity) {
            true => {
                let topic = topic::sightings(&pipeline.name, &link.entity);
                let id = register(&topic, SightingRecord::schema_json())?;
                Some((topic.into(), id))
            }
            false => None,
        };
        let guards = topic::guards(&pipeline.name, &link.entity);
        let guards = match pipeline.guards.any() {
            true => Some((guards.as_str().into(), register(&guards, State::schema_json())?)),
            false => None,
        };
        let is_read = |parent: &Parent<'_>| link.field(&parent.reference.field).is_some_and(|field| field.reads);
        let waiting = topic::waiting(&pipeline.name, &link.entity);
        let waiting = match pipeline.parents(link).iter().any(is_read) {
            true => Some((waiting.as_str().into(), register(&waiting, Waiting::schema_json())?)),
            false => None,
        };
        Ok(Some(Self {
            sightings,
            watched: format!("{}/{}", entity.name, link.name()),
            guards,
            waiting,
            is_referred_to: pipeline.is_referred_to(&entity.name),
            is_awaited: !is_matched_by_reference(entity) && pipeline.is_referred_to(&entity.name),
            link: link.clone(),
            entity: entity.clone(),
            mapped_id: register(&mapped, MappedRecord::schema_json())?,
            mapped_partitions: pipeline.partitions,
            mapped: mapped.into(),
            crosswalk_id: register(&crosswalk, Crosswalk::schema_json())?,
            crosswalk: crosswalk.into(),
        }))
    }

    /// One that is registered nowhere.
    #[cfg(test)]
    pub fn unregistered(pipeline: &Pipeline, link: &Link, guards_id: u32) -> Self {
        let name = &pipeline.name;
        Self {
            sightings: None,
            watched: format!("{}/{}", link.entity, link.name()),
            guards: Some((topic::guards(name, &link.entity).into(), guards_id)),
            link: link.clone(),
            entity: pipeline.entity(&link.entity).unwrap().clone(),
            mapped: topic::mapped(name, &link.entity).into(),
            mapped_id: 0,
            mapped_partitions: 1,
            crosswalk: topic::crosswalk(name, &link.entity).into(),
            crosswalk_id: 0,
            waiting: None,
            is_referred_to: false,
            is_awaited: false,
        }
    }

    /// Its part of the crosswalk.
    pub fn shard(&self, partition: i32) -> Shard {
        Shard {
            topic: self.crosswalk.to_string(),
            partition,
        }
    }

    /// Where guards remember what is of its table's partition.
    pub fn guards_shard(&self, partition: i32) -> Option<Shard> {
        let (topic, _) = self.guards.as_ref()?;
        Some(Shard {
            topic: topic.to_string(),
            partition,
        })
    }

    /// Keeps what guards remember under a key.
    pub fn remember(&self, partition: i32, key: String, text: String, work: &mut Work) {
        let (Some((topic, id)), Some(shard)) = (&self.guards, self.guards_shard(partition)) else {
            return;
        };
        let value = guards::memory(text, *id);
        work.outputs
            .push(Outgoing::keyed(topic, &key, value.clone()).in_partition(partition));
        work.overlay.put(&shard, key, value);
    }

    /// What is kept of a partition of its topic, but for what guards remember.
    fn shards(&self, partition: i32) -> impl Iterator<Item = Shard> + use<> {
        let waiting = self.waiting.as_ref().map(|(topic, _)| Shard {
            topic: topic.to_string(),
            partition,
        });
        std::iter::once(self.shard(partition)).chain(waiting)
    }

    /// Rows' keys begin with the name of a system, which has no tilde. Where rows come to be compared that were not before, it
    /// is said once more that all are loaded.
    pub fn loaded_key(&self) -> String {
        let said = if self.sightings.is_some() { SIGHTED } else { LOADED };
        format!("{said}{}", self.link.name())
    }

    fn say(&self, said: Mapped, cause: &InRecord, work: &mut Work) {
        let cid = said.cid.clone();
        let value = MappedRecord::Said(said).encode(self.mapped_id);
        work.outputs
            .push(Outgoing::keyed(&self.mapped, &cid, value).caused_by(cause));
    }

    /// A row got its record; if it was found by what the row says, the record waits until the row has been compared.
    fn sight(&self, sighting: Sighting, cause: &InRecord, work: &mut Work) {
        let Some((sightings, id)) = &self.sightings else {
            return;
        };
        let row = sighted_row(&sighting.source, &sighting.row);
        if sighting.first {
            let sighted = MappedRecord::Sighted {
                cid: sighting.cid.clone(),
                row: row.clone(),
            };
            let record = Outgoing::keyed(&self.mapped, &sighting.cid, sighted.encode(self.mapped_id));
            work.outputs.push(record.caused_by(cause));
        }
        let value = SightingRecord::Seen(sighting).encode(*id);
        let record = Outgoing::keyed(sightings, &row, value).in_partition(0);
        work.outputs.push(record.caused_by(cause));
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

/// Whether which entity a row is may depend on whom it refers to.
fn is_matched_by_reference(entity: &Entity) -> bool {
    let weighed = entity.score.iter().flat_map(|score| &score.weights);
    let parts = entity.match_on.iter().flatten().chain(weighed.map(|(part, _)| part));
    let named: BTreeSet<&str> = parts.flat_map(Expr::names).collect();
    let mut references = entity.references.iter();
    references.any(|reference| named.contains(&*reference.field))
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

/// Sends and keeps what a change comes to. What a partition says of a key is kept in that partition alone.
fn put(route: &Route, mapping: Mapping, cause: &InRecord, work: &mut Work) {
    match mapping {
        Mapping::Nothing(Nothing(why)) => skipped(why),
        Mapping::Left { key, entry, said } => {
            route.put_crosswalk(key, &entry, cause.partition, work);
            if let Some(said) = said {
                route.say(*said, cause, work);
            }
        }
        Mapping::Said {
            mapped,
            crosswalk,
            sighting,
        } => {
            put_entries(route, crosswalk, cause, work);
            if let Some(sighting) = sighting {
                route.sight(*sighting, cause, work);
            }
            route.say(*mapped, cause, work);
        }
    }
}

fn put_entries(route: &Route, entries: Vec<(String, Crosswalk)>, cause: &InRecord, work: &mut Work) {
    for (key, entry) in entries {
        route.put_crosswalk(key, &entry, cause.partition, work);
    }
}

fn skipped(why: &'static str) {
    metrics::RECORDS_SKIPPED.with_label_values(&[STAGE, why]).inc();
}

#[cfg(test)]
mod tests;
