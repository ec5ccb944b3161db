//! What the map stage does with a record, all of Kafka's loop apart: read it, ask the crosswalk, map it, and note what is
//! to be sent and stored. A record that cannot be worked on becomes a dead letter and its neighbours flow.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use syncline_bus::consumer::TopicPartition;
use syncline_bus::{InRecord, admin};
use syncline_runtime::Outcome;
use syncline_schemas::codec::{Crosswalk, Wire};
use syncline_schemas::mapped::{MappedRecord, sighted_row};
use syncline_schemas::mark::Mark;
use syncline_schemas::pipeline::{Entity, Link, Pipeline};
use syncline_schemas::progress::MarkRecord;
use syncline_schemas::sighting::{Sighting, SightingRecord};
use syncline_schemas::topic;

use crate::change::{Change, is_of};
use crate::changelog;
use crate::context::Context;
use crate::mapping::{self, Address, Input, Known, Mapping, Nothing, Refusal};
use crate::metrics;
use crate::outgoing::{Outgoing, dead_letter};
use crate::overlay::Overlay;
use crate::schemas::Schemas;
use crate::store::{DiskStore, EntityStore, Shard};

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
    /// Where rows of the entity say who they are, if anybody compares them.
    sightings: Option<(Arc<str>, u32)>,
}

/// What a batch comes to.
#[derive(Default)]
pub struct Work {
    /// To be sent.
    pub outputs: Vec<Outgoing>,
    /// To be stored after the commit.
    pub overlay: Overlay,
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
}

impl Mapper {
    /// Registers the schemas of what is written, and opens the local store.
    pub fn open(context: &Context) -> Outcome<Self> {
        let schemas = Schemas::new(&context.pipeline.registry);
        let mut routes: HashMap<String, Vec<Arc<Route>>> = HashMap::new();
        for link in context.reading_links() {
            let route = Route::new(&context.pipeline, &schemas, link)?;
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
            let shards: Vec<Shard> = self
                .routes_of(topic)
                .iter()
                .map(|route| route.shard(*partition))
                .collect();
            self.shards.extend(shards);
        }
        self.restore(context)
    }

    /// Gives all partitions up.
    pub fn revoke(&mut self) {
        self.shards.clear();
    }

    fn restore(&mut self, context: &Context) -> Outcome<()> {
        for shard in &self.shards {
            changelog::restore(&context.bus, &mut self.store, shard, &context.shutdown)?;
        }
        self.unread = 0;
        Ok(())
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
            tracing::warn!(
                topic = record.topic,
                partition = record.partition,
                offset = record.offset,
                reason,
                "dead letter"
            );
            metrics::DEAD_LETTERS.with_label_values(&[STAGE]).inc();
            work.outputs
                .push(dead_letter(&self.dead_letters, STAGE, &reason, record));
        }
        Ok(())
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
            match self.map_row(&route, &change.input(&route.link), record.partition, work)? {
                Ok(mapping) => self.put(&route, mapping, record, work)?,
                Err(refusal) => refused = Err(refusal),
            }
        }
        Ok(refused)
    }

    fn map_row(
        &mut self,
        route: &Route,
        input: &Input<'_>,
        partition: i32,
        work: &mut Work,
    ) -> Outcome<Result<Mapping, Refusal>> {
        let address = match mapping::address(&route.link, input) {
            Ok(Ok(address)) => address,
            Ok(Err(nothing)) => return Ok(Ok(Mapping::Nothing(nothing))),
            Err(refusal) => return Ok(Err(refusal)),
        };
        let known = match self.known(route, &address, partition, work)? {
            Ok(known) => known,
            Err(reason) => return Ok(Err(Refusal(reason))),
        };
        Ok(mapping::apply(&route.link, &route.entity, input, address, &known))
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
        Ok(Ok(Known { row, was }))
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
        let (mapped, crosswalk, sighting) = match mapping {
            Mapping::Nothing(Nothing(why)) => {
                skipped(why);
                return Ok(());
            }
            Mapping::Left { key, entry } => {
                let partition = self.shard_of(route, &key, cause.partition, work)?;
                route.put_crosswalk(key, &entry, partition, work);
                return Ok(());
            }
            Mapping::Said {
                mapped,
                crosswalk,
                sighting,
            } => (mapped, crosswalk, sighting),
        };
        for (key, entry) in crosswalk {
            let partition = match entry.left_at {
                Some(_) => self.shard_of(route, &key, cause.partition, work)?,
                None => cause.partition,
            };
            route.put_crosswalk(key, &entry, partition, work);
        }
        let cid = mapped.cid.clone();
        if let Some(sighting) = sighting {
            route.sight(*sighting, cause, work);
        }
        let value = MappedRecord::Said(*mapped).encode(route.mapped_id);
        work.outputs
            .push(Outgoing::keyed(&route.mapped, &cid, value).caused_by(cause));
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
            if let Some((sightings, id)) = &route.sightings {
                let loaded = SightingRecord::Loaded {
                    link: route.link.name(),
                    partition,
                    partitions,
                };
                let record = Outgoing::keyed(sightings, &key, loaded.encode(*id));
                work.outputs.push(record.in_partition(0));
            }
            let said = Crosswalk {
                cid: String::new(),
                left_at: None,
                since: None,
            };
            route.put_crosswalk(route.loaded_key(), &said, partition, work);
        }
        Ok(())
    }
}

impl Route {
    /// None if the link's entity does not exist, which a checked pipeline does not have.
    fn new(pipeline: &Pipeline, schemas: &Schemas, link: &Link) -> Outcome<Option<Self>> {
        let Some(entity) = pipeline.entity(&link.entity) else {
            return Ok(None);
        };
        let mapped = topic::mapped(&pipeline.name, &link.entity);
        let crosswalk = topic::crosswalk(&pipeline.name, &link.entity);
        let sightings = match pipeline.compares(entity) {
            true => {
                let topic = topic::sightings(&pipeline.name, &link.entity);
                let id = schemas.register(&topic, SightingRecord::schema_json())?;
                Some((topic.into(), id))
            }
            false => None,
        };
        Ok(Some(Self {
            sightings,
            link: link.clone(),
            entity: entity.clone(),
            mapped_id: schemas.register(&mapped, MappedRecord::schema_json())?,
            mapped_partitions: pipeline.partitions,
            mapped: mapped.into(),
            crosswalk_id: schemas.register(&crosswalk, Crosswalk::schema_json())?,
            crosswalk: crosswalk.into(),
        }))
    }

    fn shard(&self, partition: i32) -> Shard {
        Shard {
            topic: self.crosswalk.to_string(),
            partition,
        }
    }

    /// Rows' keys begin with the name of a system, which has no tilde. Where rows come to be compared that were not before, it
    /// is said once more that all are loaded.
    fn loaded_key(&self) -> String {
        let said = if self.sightings.is_some() { "sighted" } else { "loaded" };
        format!("~{said}/{}", self.link.name())
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

    fn put_crosswalk(&self, key: String, entry: &Crosswalk, partition: i32, work: &mut Work) {
        let value = entry.encode(self.crosswalk_id);
        work.outputs
            .push(Outgoing::keyed(&self.crosswalk, &key, value.clone()).in_partition(partition));
        work.overlay.put(&self.shard(partition), key, value);
    }
}

fn skipped(why: &'static str) {
    metrics::RECORDS_SKIPPED.with_label_values(&[STAGE, why]).inc();
}
