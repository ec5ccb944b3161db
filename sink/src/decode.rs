//! A record's bytes to what it says, by its writer's schema.

use std::collections::HashMap;
use std::sync::Arc;

use syncline_bus::{InRecord, Registry};
use syncline_runtime::{Failure, Outcome};
use syncline_schemas::canonical::Canonical;
use syncline_schemas::codec::{CanonicalCodec, ParsedSchema, frame_id};
use syncline_schemas::pipeline::Entity;

use crate::target::{Delivery, Partition};

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
        let json = match self.registry.schema(id) {
            Ok(json) => json,
            Err(failure) if failure.code == "SCHEMA_UNKNOWN" => {
                return Ok(Err(format!("schema {id} is not registered")));
            }
            Err(failure) => return Err(failure),
        };
        Ok(ParsedSchema::parse(&json)
            .map_err(|error| error.to_string())
            .map(|schema| {
                let schema = Arc::new(schema);
                self.parsed.insert(id, Arc::clone(&schema));
                schema
            }))
    }

    /// The text of the schema with this id.
    pub fn text(&self, id: u32) -> Outcome<Arc<str>> {
        self.registry.schema(id)
    }
}

/// Reads agreed records of several entities.
pub struct Decoder {
    schemas: Schemas,
    entities: HashMap<String, (Arc<str>, CanonicalCodec)>,
}

impl Decoder {
    /// For the canonical topics of these entities.
    pub fn new<'a>(registry: Arc<Registry>, topics: impl Iterator<Item = (String, &'a Entity)>) -> Outcome<Self> {
        let codec = |(topic, entity): (String, &Entity)| {
            let codec = CanonicalCodec::new(&entity.schema_json)
                .map_err(|error| Failure::definite("SCHEMA_INVALID", format!("entity {}: {error}", entity.name)))?;
            Ok((topic, (Arc::from(entity.name.as_str()), codec)))
        };
        Ok(Self {
            schemas: Schemas::new(registry),
            entities: topics.map(codec).collect::<Outcome<_>>()?,
        })
    }

    /// What `record` says; fails only if the registry cannot be asked.
    pub fn decode(&mut self, record: InRecord) -> Outcome<Delivery> {
        let known = self
            .entities
            .get(&record.topic)
            .map(|(entity, codec)| (Arc::clone(entity), codec.clone()));
        let (entity, codec) = known.ok_or_else(|| {
            Failure::definite(
                "TOPIC_UNEXPECTED",
                format!("a record of {}, to which nobody subscribed", record.topic),
            )
        })?;
        let content = match &record.value {
            None => Ok(None),
            Some(value) => read(&mut self.schemas, &codec, value)?.map(Some),
        };
        Ok(Delivery {
            from: Partition {
                topic: record.topic.into(),
                number: record.partition,
            },
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            entity,
            key: record.key.unwrap_or_default(),
            value: record.value.unwrap_or_default(),
            content,
        })
    }
}

fn read(schemas: &mut Schemas, codec: &CanonicalCodec, value: &[u8]) -> Outcome<Result<Canonical, String>> {
    let (id, datum) = match frame_id(value) {
        Ok(framed) => framed,
        Err(error) => return Ok(Err(error.to_string())),
    };
    Ok(match schemas.get(id)? {
        Ok(writer) => codec.decode(&writer, datum).map_err(|error| error.to_string()),
        Err(reason) => Err(reason),
    })
}
