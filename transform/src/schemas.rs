//! Writers' schemas by id, parsed once; and the ids of our own.

use std::collections::HashMap;
use std::sync::Arc;

use syncline_bus::Registry;
use syncline_runtime::Outcome;
use syncline_schemas::codec::{self, ParsedSchema};
use syncline_schemas::topic;

/// Schemas by id.
pub struct Schemas {
    registry: Registry,
    parsed: HashMap<u32, Arc<ParsedSchema>>,
}

/// The writer's schema and the datum, or why the bytes cannot be read: the bytes' fault, not the registry's.
pub type Opened<'a> = Result<(Arc<ParsedSchema>, &'a [u8]), String>;

impl Schemas {
    /// Asks the registry there.
    pub fn new(url: &str) -> Self {
        Self {
            registry: Registry::new(url),
            parsed: HashMap::new(),
        }
    }

    /// The id under which the values of `topic` are registered.
    pub fn register(&self, topic_name: &str, schema_json: &str) -> Outcome<u32> {
        self.registry.register(&topic::value_subject(topic_name), schema_json)
    }

    /// Knows these and finds nobody whom it could ask: for tests and benchmarks. One that is no schema is not known.
    pub fn of(known: &[(u32, &str)]) -> Self {
        let parsed = |(id, json): &(u32, &str)| Some((*id, Arc::new(ParsedSchema::parse(json).ok()?)));
        let parsed = known.iter().filter_map(parsed).collect();
        Self {
            registry: Registry::new("http://127.0.0.1:1"),
            parsed,
        }
    }

    /// Opens a framed value.
    pub fn open<'a>(&mut self, bytes: &'a [u8]) -> Outcome<Opened<'a>> {
        let (id, datum) = match codec::frame_id(bytes) {
            Ok(framed) => framed,
            Err(error) => return Ok(Err(error.to_string())),
        };
        if let Some(parsed) = self.parsed.get(&id) {
            return Ok(Ok((Arc::clone(parsed), datum)));
        }
        let json = match self.registry.schema(id) {
            Ok(json) => json,
            Err(failure) if failure.code == "SCHEMA_UNKNOWN" => return Ok(Err(failure.message)),
            Err(failure) => return Err(failure),
        };
        match ParsedSchema::parse(&json) {
            Ok(parsed) => {
                let parsed = Arc::new(parsed);
                self.parsed.insert(id, Arc::clone(&parsed));
                Ok(Ok((parsed, datum)))
            }
            Err(error) => Ok(Err(error.to_string())),
        }
    }

    /// Opens and reads a framed value.
    pub fn read<T>(
        &mut self,
        bytes: &[u8],
        read: impl FnOnce(&ParsedSchema, &[u8]) -> Result<T, codec::CodecError>,
    ) -> Outcome<Result<T, String>> {
        Ok(self
            .open(bytes)?
            .and_then(|(schema, datum)| read(&schema, datum).map_err(|error| error.to_string())))
    }
}
