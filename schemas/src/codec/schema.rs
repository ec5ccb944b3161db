//! A writer's schema, parsed from its JSON once and kept by schema id.
//!
//! We parse it ourselves because what a value *means* stands in properties (`connect.name`) that `apache-avro` drops from
//! primitive types, and because Debezium registers schemas that are not quite valid (a default of `"NaN"` on a double).
//! Only what reading needs is kept: the shape, the names, and the meaning of each type.

use std::collections::HashMap;

use serde_json::Value as Json;

use super::CodecError;

/// A parsed schema.
#[derive(Debug, Clone)]
pub struct ParsedSchema {
    pub(crate) root: Type,
    named: Vec<Named>,
}

/// A type and what its values mean.
#[derive(Debug, Clone)]
pub(crate) struct Type {
    pub kind: Kind,
    pub meaning: Meaning,
}

/// The shape of a type.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    Text,
    Array(Box<Type>),
    Map(Box<Type>),
    Union(Vec<Type>),
    /// Index into the named types; this is how a schema may contain itself.
    Named(usize),
}

/// A type that has a name.
#[derive(Debug, Clone)]
pub(crate) enum Named {
    Record(RecordType),
    Enum(Vec<String>),
    Fixed(usize, Meaning),
}

/// A record.
#[derive(Debug, Clone, Default)]
pub(crate) struct RecordType {
    pub name: String,
    pub fields: Vec<(String, Type)>,
}

impl RecordType {
    /// Where the field stands.
    pub(crate) fn index(&self, field: &str) -> Option<usize> {
        self.fields.iter().position(|(name, _)| name == field)
    }
}

/// The unit of a count since midnight or since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Milli,
    Micro,
    Nano,
}

/// What the values of a type mean, by `connect.name` or `logicalType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Themselves.
    Plain,
    /// Unscaled digits, and at most so many of them.
    Decimal { scale: u32, precision: u32 },
    /// Days since 1970.
    Date,
    /// Since midnight.
    Time(Unit),
    /// Since 1970, of a clock on some wall.
    Timestamp(Unit),
    /// Since 1970 in UTC.
    Instant(Unit),
    /// Text of a time or timestamp with a zone.
    ZonedText,
    /// Bits in little-endian bytes, and how many of them if that is known.
    Bits(Option<usize>),
}

impl ParsedSchema {
    /// Parses a schema.
    pub fn parse(json: &str) -> Result<Self, CodecError> {
        let json: Json = serde_json::from_str(json).map_err(|error| CodecError::Schema(error.to_string()))?;
        let mut parser = Parser::default();
        let root = parser.parse(&json, "")?;
        Ok(Self {
            root,
            named: parser.named,
        })
    }

    pub(crate) fn named(&self, index: usize) -> &Named {
        &self.named[index]
    }

    /// The record at the root, if there is one.
    pub(crate) fn record(&self) -> Option<&RecordType> {
        match self.root.kind {
            Kind::Named(index) => match &self.named[index] {
                Named::Record(record) => Some(record),
                _ => None,
            },
            _ => None,
        }
    }
}

#[derive(Default)]
struct Parser {
    named: Vec<Named>,
    by_name: HashMap<String, usize>,
}

fn wrong(what: impl Into<String>) -> CodecError {
    CodecError::Schema(what.into())
}

impl Parser {
    fn parse(&mut self, json: &Json, namespace: &str) -> Result<Type, CodecError> {
        match json {
            Json::String(name) => self.by_reference(name, namespace),
            Json::Array(branches) => {
                let branches: Result<_, _> = branches.iter().map(|branch| self.parse(branch, namespace)).collect();
                Ok(plain(Kind::Union(branches?)))
            }
            Json::Object(_) => self.parse_object(json, namespace),
            _ => Err(wrong("a type is a name, a list or an object")),
        }
    }

    fn by_reference(&self, name: &str, namespace: &str) -> Result<Type, CodecError> {
        if let Some(kind) = primitive(name) {
            return Ok(plain(kind));
        }
        let index = self
            .by_name
            .get(&full_name(name, namespace))
            .or_else(|| self.by_name.get(name));
        index
            .map(|index| plain(Kind::Named(*index)))
            .ok_or_else(|| wrong(format!("unknown type {name}")))
    }

    fn parse_object(&mut self, json: &Json, namespace: &str) -> Result<Type, CodecError> {
        let Some(Json::String(kind)) = json.get("type") else {
            // {"type": {...}} and {"type": [...]} are legal wrappers.
            return self.parse(
                json.get("type").ok_or_else(|| wrong("a type without \"type\""))?,
                namespace,
            );
        };
        match kind.as_str() {
            "record" | "error" => self.record(json, namespace),
            "enum" => {
                let symbols = texts(json.get("symbols")).ok_or_else(|| wrong("an enum without symbols"))?;
                self.define(json, namespace, Named::Enum(symbols))
                    .map(|(index, _)| plain(Kind::Named(index)))
            }
            "fixed" => {
                let size = json
                    .get("size")
                    .and_then(Json::as_u64)
                    .and_then(|size| usize::try_from(size).ok());
                let size = size.ok_or_else(|| wrong("a fixed without size"))?;
                let fixed = Named::Fixed(size, meaning(json));
                self.define(json, namespace, fixed)
                    .map(|(index, _)| plain(Kind::Named(index)))
            }
            "array" => Ok(plain(Kind::Array(Box::new(self.inner(json, "items", namespace)?)))),
            "map" => Ok(plain(Kind::Map(Box::new(self.inner(json, "values", namespace)?)))),
            name => match primitive(name) {
                Some(kind) => Ok(Type {
                    kind,
                    meaning: meaning(json),
                }),
                None => self.by_reference(name, namespace),
            },
        }
    }

    fn inner(&mut self, json: &Json, key: &str, namespace: &str) -> Result<Type, CodecError> {
        self.parse(json.get(key).ok_or_else(|| wrong(format!("no {key:?}")))?, namespace)
    }

    fn record(&mut self, json: &Json, namespace: &str) -> Result<Type, CodecError> {
        let (index, name) = self.define(json, namespace, Named::Record(RecordType::default()))?;
        let namespace = name.rsplit_once('.').map_or("", |(namespace, _)| namespace).to_owned();
        let fields = json
            .get("fields")
            .and_then(Json::as_array)
            .ok_or_else(|| wrong("a record without fields"))?;
        let mut parsed = Vec::with_capacity(fields.len());
        for field in fields {
            let name = field
                .get("name")
                .and_then(Json::as_str)
                .ok_or_else(|| wrong("a field without a name"))?;
            parsed.push((name.to_owned(), self.inner(field, "type", &namespace)?));
        }
        self.named[index] = Named::Record(RecordType { name, fields: parsed });
        Ok(plain(Kind::Named(index)))
    }

    fn define(&mut self, json: &Json, namespace: &str, named: Named) -> Result<(usize, String), CodecError> {
        let name = json
            .get("name")
            .and_then(Json::as_str)
            .ok_or_else(|| wrong("a named type without a name"))?;
        let namespace = json.get("namespace").and_then(Json::as_str).unwrap_or(namespace);
        let name = full_name(name, namespace);
        self.named.push(named);
        self.by_name.insert(name.clone(), self.named.len() - 1);
        Ok((self.named.len() - 1, name))
    }
}

fn plain(kind: Kind) -> Type {
    Type {
        kind,
        meaning: Meaning::Plain,
    }
}

fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() {
        name.to_owned()
    } else {
        format!("{namespace}.{name}")
    }
}

fn texts(json: Option<&Json>) -> Option<Vec<String>> {
    json?
        .as_array()?
        .iter()
        .map(|text| text.as_str().map(str::to_owned))
        .collect()
}

fn primitive(name: &str) -> Option<Kind> {
    Some(match name {
        "null" => Kind::Null,
        "boolean" => Kind::Boolean,
        "int" => Kind::Int,
        "long" => Kind::Long,
        "float" => Kind::Float,
        "double" => Kind::Double,
        "bytes" => Kind::Bytes,
        "string" => Kind::Text,
        _ => return None,
    })
}

/// `connect.name` first: Debezium's own times have no logical type, and Connect's `Timestamp` has one that claims a zone.
fn meaning(json: &Json) -> Meaning {
    let text = |key: &str| json.get(key).and_then(Json::as_str).unwrap_or_default();
    match text("connect.name") {
        "io.debezium.time.Date" | "org.apache.kafka.connect.data.Date" => Meaning::Date,
        "io.debezium.time.Time" | "org.apache.kafka.connect.data.Time" => Meaning::Time(Unit::Milli),
        "io.debezium.time.MicroTime" => Meaning::Time(Unit::Micro),
        "io.debezium.time.NanoTime" => Meaning::Time(Unit::Nano),
        "io.debezium.time.Timestamp" | "org.apache.kafka.connect.data.Timestamp" => Meaning::Timestamp(Unit::Milli),
        "io.debezium.time.MicroTimestamp" => Meaning::Timestamp(Unit::Micro),
        "io.debezium.time.NanoTimestamp" => Meaning::Timestamp(Unit::Nano),
        "io.debezium.time.ZonedTimestamp" | "io.debezium.time.ZonedTime" => Meaning::ZonedText,
        "io.debezium.data.Bits" => Meaning::Bits(bits_length(json)),
        _ => logical(json, text("logicalType")),
    }
}

fn logical(json: &Json, name: &str) -> Meaning {
    let number = |key: &str, otherwise: u32| {
        json.get(key)
            .and_then(Json::as_u64)
            .and_then(|number| u32::try_from(number).ok())
            .unwrap_or(otherwise)
    };
    match name {
        "decimal" => Meaning::Decimal {
            scale: number("scale", 0),
            precision: number("precision", u32::MAX),
        },
        "date" => Meaning::Date,
        "time-millis" => Meaning::Time(Unit::Milli),
        "time-micros" => Meaning::Time(Unit::Micro),
        "timestamp-millis" => Meaning::Instant(Unit::Milli),
        "timestamp-micros" => Meaning::Instant(Unit::Micro),
        "timestamp-nanos" => Meaning::Instant(Unit::Nano),
        "local-timestamp-millis" => Meaning::Timestamp(Unit::Milli),
        "local-timestamp-micros" => Meaning::Timestamp(Unit::Micro),
        "local-timestamp-nanos" => Meaning::Timestamp(Unit::Nano),
        _ => Meaning::Plain,
    }
}

/// The length of `bit(n)`; none for `varbit`, which Debezium gives the greatest integer.
fn bits_length(json: &Json) -> Option<usize> {
    let length: usize = json.get("connect.parameters")?.get("length")?.as_str()?.parse().ok()?;
    (length < 2_147_483_647).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_resolved_in_the_enclosing_namespace() {
        let schema = ParsedSchema::parse(
            r#"{"type":"record","name":"E","namespace":"a.b","fields":[
                {"name":"before","type":["null",{"type":"record","name":"V","fields":[{"name":"next","type":["null","V"]}]}]},
                {"name":"after","type":["null","V"]}]}"#,
        )
        .unwrap();
        assert_eq!(schema.record().unwrap().name, "a.b.E");
        assert_eq!(schema.record().unwrap().index("after"), Some(1));
        assert!(ParsedSchema::parse(r#"{"type":"array","items":"Nowhere"}"#).is_err());
    }

    #[test]
    fn a_connect_name_outranks_the_logical_type() {
        let timestamp = r#"{"type":"long","connect.name":"org.apache.kafka.connect.data.Timestamp","logicalType":"timestamp-millis"}"#;
        assert_eq!(
            ParsedSchema::parse(timestamp).unwrap().root.meaning,
            Meaning::Timestamp(Unit::Milli)
        );
        let instant = r#"{"type":"long","logicalType":"timestamp-millis"}"#;
        assert_eq!(
            ParsedSchema::parse(instant).unwrap().root.meaning,
            Meaning::Instant(Unit::Milli)
        );
    }
}
