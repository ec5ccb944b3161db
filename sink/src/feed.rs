//! A feed: which topics a target reads, and what their records say.

use std::collections::HashMap;
use std::sync::Arc;

use syncline_bus::{InRecord, Registry};
use syncline_runtime::{Failure, Outcome};
use syncline_schemas::canonical::Canonical;
use syncline_schemas::codec::{CanonicalCodec, ParsedSchema, frame_id};
use syncline_schemas::pipeline::{Link, Pipeline};
use syncline_schemas::topic;

use crate::target::{Delivery, Partition};

/// Topics, and what their records say.
pub trait Feed {
    /// What the records say.
    type Content;

    /// The topics to read, whether they exist or not.
    fn topics(&self) -> Outcome<Vec<String>>;

    /// What `record` says; fails only if that cannot be found out now.
    fn read(&mut self, record: InRecord) -> Outcome<Delivery<Self::Content>>;
}

/// Writers' schemas, parsed once.
pub struct Schemas {
    registry: Arc<Registry>,
    parsed: HashMap<u32, Arc<ParsedSchema>>,
}

impl Schemas {
    /// None parsed yet.
    pub fn new(registry: Arc<Registry>) -> Self {
        Self {
            registry,
            parsed: HashMap::new(),
        }
    }

    /// The schema with this id. The inner error is a reason for a dead letter: nobody knows this schema.
    pub fn get(&mut self, id: u32) -> Outcome<Result<Arc<ParsedSchema>, String>> {
        if let Some(schema) = self.parsed.get(&id) {
            return Ok(Ok(Arc::clone(schema)));
        }
        let parsed = self
            .text(id)?
            .and_then(|json| ParsedSchema::parse(&json).map_err(|error| error.to_string()));
        Ok(parsed.map(|schema| {
            let schema = Arc::new(schema);
            self.parsed.insert(id, Arc::clone(&schema));
            schema
        }))
    }

    /// The text of the schema with this id.
    pub fn text(&self, id: u32) -> Outcome<Result<Arc<str>, String>> {
        match self.registry.schema(id) {
            Ok(json) => Ok(Ok(json)),
            Err(failure) if failure.code == "SCHEMA_UNKNOWN" => Ok(Err(format!("schema {id} is not registered"))),
            Err(failure) => Err(failure),
        }
    }
}

/// The agreed records of every entity that is written into one target.
pub struct CanonicalFeed {
    schemas: Schemas,
    entities: HashMap<String, (Arc<str>, CanonicalCodec)>,
}

impl CanonicalFeed {
    /// For the entities of these links.
    pub fn new(pipeline: &Pipeline, links: &[Link], registry: Arc<Registry>) -> Outcome<Self> {
        let entities = links.iter().filter_map(|link| pipeline.entity(&link.entity));
        let entity = |entity: &syncline_schemas::pipeline::Entity| {
            let codec = CanonicalCodec::new(&entity.schema_json)
                .map_err(|error| Failure::definite("SCHEMA_INVALID", format!("entity {}: {error}", entity.name)))?;
            let topic = topic::canonical(&pipeline.name, &entity.name, entity.version);
            Ok((topic, (Arc::from(entity.name.as_str()), codec)))
        };
        Ok(Self {
            schemas: Schemas::new(registry),
            entities: entities.map(entity).collect::<Outcome<_>>()?,
        })
    }
}

impl Feed for CanonicalFeed {
    type Content = Canonical;

    fn topics(&self) -> Outcome<Vec<String>> {
        Ok(self.entities.keys().cloned().collect())
    }

    fn read(&mut self, record: InRecord) -> Outcome<Delivery> {
        let (entity, codec) = self
            .entities
            .get(&record.topic)
            .ok_or_else(|| unexpected(&record.topic))?;
        let content = match &record.value {
            None => Ok(None),
            Some(value) => decode(&mut self.schemas, codec, value)?.map(Some),
        };
        let topic = record.topic.as_str().into();
        Ok(delivery(record, topic, Arc::clone(entity), content))
    }
}

/// A record of a topic that nobody subscribed to.
pub fn unexpected(topic: &str) -> Failure {
    Failure::definite(
        "TOPIC_UNEXPECTED",
        format!("a record of {topic}, which is not read here"),
    )
}

/// The record with what it says.
pub fn delivery<C>(
    record: InRecord,
    topic: Arc<str>,
    entity: Arc<str>,
    content: Result<Option<C>, String>,
) -> Delivery<C> {
    Delivery {
        from: Partition {
            topic,
            number: record.partition,
        },
        offset: record.offset,
        timestamp_ms: record.timestamp_ms,
        entity,
        key: record.key.unwrap_or_default(),
        value: record.value.unwrap_or_default(),
        content,
    }
}

fn decode(schemas: &mut Schemas, codec: &CanonicalCodec, value: &[u8]) -> Outcome<Result<Canonical, String>> {
    let (id, datum) = match frame_id(value) {
        Ok(framed) => framed,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let writer = schemas.get(id)?;
    Ok(writer.and_then(|writer| codec.decode(&writer, datum).map_err(|error| error.to_string())))
}
