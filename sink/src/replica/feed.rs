//! Capture topics, and the changes in them.
//!
//! Which table a record belongs to follows from its topic, which the pipeline file names; never from what the record says.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use syncline_bus::{BusConfig, InRecord, Registry, admin};
use syncline_runtime::{Failure, Outcome};
use syncline_schemas::codec::{ParsedSchema, frame_id};
use syncline_schemas::envelope::{self, ChangeEvent, NEW_KEY_HEADER, OLD_KEY_HEADER, Op, POSITION_HEADER};
use syncline_schemas::lens::{Cell, Row};
use syncline_schemas::mapped::RowKey;
use syncline_schemas::position::{Lsn, Position};
use syncline_schemas::topic;
use syncline_schemas::value::Value;

use super::change::{Act, Change};
use super::define::Wanted;
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
    shapes: HashMap<(u32, u32), Arc<Shape>>,
    /// What is read, by topic.
    known: HashMap<String, Read>,
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
            shapes: HashMap::new(),
            known: HashMap::new(),
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
        let (key_schema, value_schema) = match (self.schemas.get(frames.key.0)?, self.schemas.get(frames.value.0)?) {
            (Ok(key), Ok(value)) => (key, value),
            (Err(reason), _) | (_, Err(reason)) => return Ok(Err(reason)),
        };
        let shape = match self.shape(frames.key.0, frames.value.0)? {
            Ok(shape) => shape,
            Err(reason) => return Ok(Err(reason)),
        };
        Ok(change(record, &frames, &key_schema, &value_schema, read, shape))
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
        Ok(match (self.schemas.get(id)?, self.schemas.text(id)?) {
            (Ok(schema), Ok(text)) => removal(record, &schema, &text, datum)
                .map(|act| Some(read.change(Arc::new(Shape::default()), (position, true), act))),
            (Err(reason), _) | (_, Err(reason)) => Err(reason),
        })
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
            Ok(Some(event)) if event.op == Op::Truncate => Ok(position(record, &event)
                .map(|position| Some(read.change(Arc::new(Shape::default()), position, Act::Truncate)))),
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

    fn shape(&mut self, key: u32, value: u32) -> Outcome<Result<Arc<Shape>, String>> {
        if let Some(shape) = self.shapes.get(&(key, value)) {
            return Ok(Ok(Arc::clone(shape)));
        }
        let texts = (self.schemas.text(key)?, self.schemas.text(value)?);
        let made = match texts {
            (Ok(key), Ok(value)) => shape::of(&key, &value),
            (Err(reason), _) | (_, Err(reason)) => Err(reason),
        };
        Ok(made.map(|shape| {
            let shape = Arc::new(shape);
            self.shapes.insert((key, value), Arc::clone(&shape));
            shape
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
        Ok(delivery(record, read.name, content))
    }
}

fn change(
    record: &InRecord,
    frames: &Frames<'_>,
    key_schema: &ParsedSchema,
    value_schema: &ParsedSchema,
    read: &Read,
    shape: Arc<Shape>,
) -> Result<Option<Change>, String> {
    let said = |error: syncline_schemas::codec::CodecError| error.to_string();
    let Some(mut event) = envelope::decode(value_schema, frames.value.1).map_err(said)? else {
        return Ok(None);
    };
    envelope::forget_unchanged(&record.headers, &mut event);
    let position = position(record, &event)?;
    let key = key_of(&shape, &envelope::decode_key(key_schema, frames.key.1).map_err(said)?)?;
    let act = match event.op {
        Op::Create | Op::Read | Op::Update => Act::Put(key, Arc::new(event.after.ok_or("a change without a row")?)),
        Op::Delete => gone(record, key_schema, &shape, key),
        Op::Truncate => Act::Truncate,
        Op::Message => return Ok(None),
    };
    Ok(Some(read.change(shape, position, act)))
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

/// What a tombstone says.
fn removal(record: &InRecord, schema: &ParsedSchema, text: &str, datum: &[u8]) -> Result<Act, String> {
    let key = envelope::decode_key(schema, datum).map_err(|error| error.to_string())?;
    let shape = Shape {
        key: shape::key(text)?,
        ..Shape::default()
    };
    Ok(gone(record, schema, &shape, key_of(&shape, &key)?))
}

/// A row leaves its key: for another, or for good.
fn gone(record: &InRecord, schema: &ParsedSchema, shape: &Shape, key: RowKey) -> Act {
    match record
        .header(NEW_KEY_HEADER)
        .and_then(|json| moved_to(schema, shape, json))
    {
        Some(new) => Act::Move(key, new),
        None => Act::Remove(key),
    }
}

/// Where a change stands, and whether that can be compared with where others do. Our own capture says it. Of Debezium's, the
/// LSN of the row orders the changes of one row; it is the same for both records of a key change, of which the row's new key
/// comes second. Other databases have the offset, which counts in one partition.
fn position(record: &InRecord, event: &ChangeEvent) -> Result<(Position, bool), String> {
    if record.header(POSITION_HEADER).is_some() {
        let position = envelope::position(&record.headers, event, record.offset);
        return Ok((position.map_err(|error| error.to_string())?, true));
    }
    let second = u64::from(record.header(OLD_KEY_HEADER).is_some());
    Ok(match event.source.lsn {
        Some(lsn) => (Position::new(0, lsn, second), true),
        None => (Position::new(0, Lsn(record.offset.cast_unsigned()), 0), false),
    })
}

fn key_of(shape: &Shape, key: &Row) -> Result<RowKey, String> {
    let values = shape.key.iter().map(|name| match key.get(name) {
        Some(Cell::Set(value)) => Ok((name.as_str(), value)),
        _ => Err(format!("the key has no column {name}")),
    });
    Ok(RowKey::new(values.collect::<Result<Vec<(&str, &Value)>, String>>()?))
}

/// The new key, which Debezium writes as JSON. If it cannot be read, the change is a delete like any other.
fn moved_to(schema: &ParsedSchema, shape: &Shape, json: &[u8]) -> Option<RowKey> {
    key_of(shape, &envelope::header_key(schema, json)?).ok()
}
