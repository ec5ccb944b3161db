//! Capture topics, and the changes in them.
//!
//! Which table a record belongs to follows from its topic, which the pipeline file names; never from what the record says.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use syncline_bus::{BusConfig, InRecord, Registry, admin};
use syncline_runtime::{Failure, Outcome};
use syncline_schemas::codec::{CodecError, frame_id};
use syncline_schemas::envelope::{self, KeyPlan, NEW_KEY_HEADER, OLD_KEY_HEADER, Op, POSITION_HEADER, Plan};
use syncline_schemas::mapped::RowKey;
use syncline_schemas::position::{Lsn, Position};
use syncline_schemas::topic;

use super::change::{Act, Change};
use super::define::Wanted;
use super::image::Image;
use super::shape::{self, Shape};
use crate::feed::{Feed, Schemas, delivery, unexpected};
use crate::target::Delivery;

/// The changes of the tables that one system has and another copies.
pub struct ReplicaFeed {
    bus: BusConfig,
    prefix: String,
    /// The tables by topic; none if all are copied.
    tables: Option<BTreeMap<String, Arc<(String, String)>>>,
    registry: Arc<Registry>,
    schemas: Schemas,
    /// How records are read, by the schemas of their keys and values.
    plans: HashMap<(u32, u32), Arc<Plans>>,
    /// How keys are read, by their schemas.
    keys: HashMap<u32, Arc<KeyPlan>>,
    /// What is read, by topic.
    known: HashMap<String, Read>,
    /// What a change needs that says nothing of columns. One for all: a batch looks at each shape that it meets.
    no_shape: Arc<Shape>,
}

/// How a record is read, and what a copy needs to have for it.
struct Plans {
    key: Arc<KeyPlan>,
    value: Plan,
    shape: Arc<Shape>,
}

/// A table that is read, and how it is called.
#[derive(Clone)]
struct Read {
    table: Arc<(String, String)>,
    /// `schema.table`.
    name: Arc<str>,
    topic: Arc<str>,
}

/// A record's schemas and datums: the key's, the value's.
struct Frames<'a> {
    key: (u32, &'a [u8]),
    value: (u32, &'a [u8]),
}

impl ReplicaFeed {
    /// Of the topics that start with `prefix`; only of `tables`, if there is a list.
    pub fn new(bus: BusConfig, prefix: String, tables: Option<&[String]>, registry: Arc<Registry>) -> Self {
        let by_topic = |table: &String| {
            let (schema, name) = table.split_once('.').unwrap_or(("public", table));
            (
                topic::capture(&prefix, schema, name),
                Arc::new((schema.to_owned(), name.to_owned())),
            )
        };
        let tables = tables.map(|tables| tables.iter().map(by_topic).collect());
        Self {
            bus,
            prefix,
            tables,
            schemas: Schemas::new(Arc::clone(&registry)),
            registry,
            plans: HashMap::new(),
            keys: HashMap::new(),
            known: HashMap::new(),
            no_shape: Arc::default(),
        }
    }

    /// The tables whose schemas are registered, whether they have rows or not.
    pub fn wanted(&self) -> Outcome<Vec<Wanted>> {
        let mut wanted = Vec::new();
        for topic in self.topics()? {
            let key = self.registry.latest(&topic::key_subject(&topic))?;
            let value = self.registry.latest(&topic::value_subject(&topic))?;
            if let (Some((_, key)), Some((_, value)), Some(table)) = (key, value, self.table(&topic)) {
                // What is no envelope will be told of when a record comes.
                wanted.extend(shape::of(&key, &value).ok().map(|shape| (table, Arc::new(shape))));
            }
        }
        Ok(wanted)
    }

    fn table(&self, topic: &str) -> Option<Arc<(String, String)>> {
        match &self.tables {
            Some(tables) => tables.get(topic).cloned(),
            None => {
                let (schema, table) = topic.strip_prefix(&self.prefix)?.strip_prefix('.')?.split_once('.')?;
                Some(Arc::new((schema.to_owned(), table.to_owned())))
            }
        }
    }

    fn look_up(&mut self, topic: &str) -> Outcome<Read> {
        let table = self.table(topic).ok_or_else(|| unexpected(topic))?;
        let name = Arc::from(format!("{}.{}", table.0, table.1));
        let read = Read {
            table,
            name,
            topic: topic.into(),
        };
        self.known.insert(topic.to_owned(), read.clone());
        Ok(read)
    }

    fn change(&mut self, record: &InRecord, read: &Read) -> Outcome<Result<Option<Change>, String>> {
        let Some(value) = &record.value else {
            return self.tombstone(record, read);
        };
        let Some(key) = &record.key else {
            return self.without_key(record, read, value);
        };
        let frames = match (frame_id(key), frame_id(value)) {
            (Ok(key), Ok(value)) => Frames { key, value },
            (Err(error), _) | (_, Err(error)) => return Ok(Err(error.to_string())),
        };
        let plans = match self.plans(frames.key.0, frames.value.0)? {
            Ok(plans) => plans,
            Err(reason) => return Ok(Err(reason)),
        };
        Ok(change(record, &frames, &plans, read))
    }

    /// A tombstone follows a delete; where a topic is compacted it may be all that is left of it. Ours say where the delete
    /// stood. Without that it cannot be told from one before a row of the same key.
    fn tombstone(&mut self, record: &InRecord, read: &Read) -> Outcome<Result<Option<Change>, String>> {
        let position = record
            .header(POSITION_HEADER)
            .and_then(|text| std::str::from_utf8(text).ok());
        let (Some(key), Some(position)) = (&record.key, position.and_then(|text| text.parse().ok())) else {
            return Ok(Ok(None));
        };
        let (id, datum) = match frame_id(key) {
            Ok(frame) => frame,
            Err(error) => return Ok(Err(error.to_string())),
        };
        Ok(self.key_plan(id)?.and_then(|plan| {
            let key = plan.read(datum).map_err(said)?;
            let act = gone(record, &plan, key);
            Ok(Some(read.change(Arc::clone(&self.no_shape), (position, true), act)))
        }))
    }

    /// Of records without a key only a truncate can be copied.
    fn without_key(&mut self, record: &InRecord, read: &Read, value: &[u8]) -> Outcome<Result<Option<Change>, String>> {
        let (id, datum) = match frame_id(value) {
            Ok(frame) => frame,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let schema = match self.schemas.get(id)? {
            Ok(schema) => schema,
            Err(reason) => return Ok(Err(reason)),
        };
        match envelope::decode(&schema, datum) {
            Ok(Some(event)) if event.op == Op::Truncate => Ok(position(record, event.source.lsn)
                .map(|position| Some(read.change(Arc::clone(&self.no_shape), position, Act::Truncate)))),
            Ok(Some(event)) if event.op != Op::Message => Err(Failure::definite(
                "TABLE_WITHOUT_KEY",
                format!(
                    "{} has no primary key, so its rows cannot be told apart in a copy",
                    read.name
                ),
            )
            .hint("give it a primary key, or list the tables to copy under `tables`")),
            Ok(_) => Ok(Ok(None)),
            Err(error) => Ok(Err(error.to_string())),
        }
    }

    fn plans(&mut self, key: u32, value: u32) -> Outcome<Result<Arc<Plans>, String>> {
        if let Some(plans) = self.plans.get(&(key, value)) {
            return Ok(Ok(Arc::clone(plans)));
        }
        let texts = (self.schemas.text(key)?, self.schemas.text(value)?);
        let (keys, writer) = (self.key_plan(key)?, self.schemas.get(value)?);
        let make = || -> Result<Arc<Plans>, String> {
            let (key, value) = texts;
            let shape = Arc::new(shape::of(&key?, &value?)?);
            let (key, value) = (keys?, Plan::new(writer?).map_err(said)?);
            Ok(Arc::new(Plans { key, value, shape }))
        };
        let made = make();
        if let Ok(plans) = &made {
            self.plans.insert((key, value), Arc::clone(plans));
        }
        Ok(made)
    }

    fn key_plan(&mut self, id: u32) -> Outcome<Result<Arc<KeyPlan>, String>> {
        if let Some(plan) = self.keys.get(&id) {
            return Ok(Ok(Arc::clone(plan)));
        }
        let made = self
            .schemas
            .get(id)?
            .and_then(|writer| KeyPlan::new(writer).map_err(said));
        Ok(made.map(|plan| {
            let plan = Arc::new(plan);
            self.keys.insert(id, Arc::clone(&plan));
            plan
        }))
    }
}

impl Feed for ReplicaFeed {
    type Content = Change;

    fn topics(&self) -> Outcome<Vec<String>> {
        if let Some(tables) = &self.tables {
            return Ok(tables.keys().cloned().collect());
        }
        let own = [topic::progress(&self.prefix), topic::marks(&self.prefix)];
        let mut topics = admin::topics(&self.bus)?;
        topics.retain(|topic| self.table(topic).is_some() && !own.contains(topic));
        Ok(topics)
    }

    fn read(&mut self, record: InRecord) -> Outcome<Delivery<Change>> {
        let read = match self.known.get(&record.topic) {
            Some(known) => known.clone(),
            None => self.look_up(&record.topic)?,
        };
        let content = self.change(&record, &read)?;
        // Nothing of a copy is set aside, so nobody asks for the record as it came.
        let told = InRecord {
            key: None,
            value: None,
            ..record
        };
        Ok(delivery(told, read.topic, read.name, content))
    }
}

fn said(error: CodecError) -> String {
    error.to_string()
}

fn change(record: &InRecord, frames: &Frames<'_>, plans: &Plans, read: &Read) -> Result<Option<Change>, String> {
    let unchanged = envelope::unchanged(&record.headers);
    let Some(event) = plans.value.read(frames.value.1, &unchanged).map_err(said)? else {
        return Ok(None);
    };
    let position = position(record, event.lsn)?;
    let key = plans.key.read(frames.key.1).map_err(said)?;
    let act = match event.op {
        Op::Create | Op::Read | Op::Update => {
            let cells = event.after.ok_or("a change without a row")?;
            Act::Put(key, Image::new(plans.value.columns(), cells, &unchanged)?)
        }
        Op::Delete => gone(record, &plans.key, key),
        Op::Truncate => Act::Truncate,
        Op::Message => return Ok(None),
    };
    Ok(Some(read.change(Arc::clone(&plans.shape), position, act)))
}

impl Read {
    fn change(&self, shape: Arc<Shape>, (position, is_comparable): (Position, bool), act: Act) -> Change {
        Change {
            table: Arc::clone(&self.table),
            shape,
            topic: Arc::clone(&self.topic),
            position,
            is_comparable,
            act,
        }
    }
}

/// A row leaves its key: for another, which Debezium writes as JSON, or for good. If that cannot be read, it is a delete like
/// any other.
fn gone(record: &InRecord, plan: &KeyPlan, key: RowKey) -> Act {
    match record.header(NEW_KEY_HEADER).and_then(|json| plan.read_header(json)) {
        Some(new) => Act::Move(key, new),
        None => Act::Remove(key),
    }
}

/// Where a change stands, and whether that can be compared with where others do. Our own capture says it. Of Debezium's, the
/// LSN of the row orders the changes of one row; it is the same for both records of a key change, of which the row's new key
/// comes second. Other databases have the offset, which counts in one partition.
fn position(record: &InRecord, lsn: Option<Lsn>) -> Result<(Position, bool), String> {
    if let Some(position) = envelope::stated_position(&record.headers).map_err(said)? {
        return Ok((position, true));
    }
    let second = u64::from(record.header(OLD_KEY_HEADER).is_some());
    Ok(match lsn {
        Some(lsn) => (Position::new(0, lsn, second), true),
        None => (Position::new(0, Lsn(record.offset.cast_unsigned()), 0), false),
    })
}
