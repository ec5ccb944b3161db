//! Avro out and in, in the Confluent wire format: byte 0, schema id (4 bytes, big endian), Avro datum.
//!
//! Each record of ours has one schema in `avro/`, and a test holds schema and code equal. Nothing here is an Avro map:
//! two encodings of equal records must be equal bytes, so collections are arrays in the order of their names.
//! Reading follows the *writer's* schema and then takes fields by name, so records of older and newer versions can be read.
//! The datum comes from a topic anybody may write to: every length is checked against the bytes that are there.

/// A writer's schema, parsed once and kept by schema id.
mod schema;

/// A datum, read by its writer's schema.
mod datum;

/// Avro's binary form, written.
mod out;

/// Dates and times: counts since 1970 to text and back.
mod time;

/// Typed Avro to `Value` and back, exactly.
mod typed;

/// A key as Kafka Connect's JSON has it.
pub(crate) mod connect_json;

/// Our own records.
mod records;

/// A row that capture could not write.
mod dead_letter;

/// What rows say of who they are, and pairs to look at.
mod matching;

/// A change that waits.
mod waiting;

/// The agreed record, typed by the entity's own schema.
mod canonical;

pub use canonical::CanonicalCodec;
pub(crate) use datum::{Datum, Node, Reader};
pub(crate) use records::Fields;
pub use records::{Crosswalk, State};
pub use schema::ParsedSchema;
pub(crate) use schema::{Kind, Named, RecordType, Type};
pub(crate) use typed::{spell, to_value};

pub(crate) use out::Out;

/// What cannot be read or written. It never holds a value of a row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The bytes do not start with 0 and a schema id.
    #[error("not in the Confluent wire format (0, schema id, datum)")]
    Frame,
    /// The text is no Avro schema, or not one that can be worked with.
    #[error("schema: {0}")]
    Schema(String),
    /// The bytes are not what the writer's schema says.
    #[error("datum: {0}")]
    Datum(String),
    /// A field cannot be converted exactly.
    #[error("field {field}: {reason}")]
    Field {
        /// Its name.
        field: String,
        /// Why.
        reason: String,
    },
}

impl CodecError {
    pub(crate) fn field(field: &str, reason: impl Into<String>) -> Self {
        Self::Field {
            field: field.to_owned(),
            reason: reason.into(),
        }
    }
}

/// The schema id and the datum of a framed value.
pub fn frame_id(bytes: &[u8]) -> Result<(u32, &[u8]), CodecError> {
    match bytes {
        [0, a, b, c, d, datum @ ..] => Ok((u32::from_be_bytes([*a, *b, *c, *d]), datum)),
        _ => Err(CodecError::Frame),
    }
}

/// The start of a framed value; the datum follows.
pub fn frame(id: u32) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend_from_slice(&id.to_be_bytes());
    bytes
}

/// A datum of any schema as JSON text, for people: fields in their order, times and decimals as they are read.
pub fn json_text(writer: &ParsedSchema, datum: &[u8]) -> Result<String, CodecError> {
    let node = writer.read(datum)?;
    typed::json_text(&node).map_err(|why| CodecError::Datum(why.to_owned()))
}

/// A record with one schema of ours.
pub trait Wire: Sized {
    /// The schema to register.
    fn schema_json() -> &'static str;

    /// Appends the datum. Records of ours can always be written.
    fn write(&self, datum: &mut Vec<u8>);

    /// Reads a datum that was written with `writer`.
    fn decode(writer: &ParsedSchema, datum: &[u8]) -> Result<Self, CodecError>;

    /// The framed value, `id` being that of [`Wire::schema_json`] in the registry.
    fn encode(&self, id: u32) -> Vec<u8> {
        let mut bytes = frame(id);
        self.write(&mut bytes);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_reads_what_it_writes() {
        let mut bytes = frame(0x0102_0304);
        bytes.push(9);
        assert_eq!(frame_id(&bytes), Ok((0x0102_0304, &[9][..])));
        for wrong in [&b""[..], &[0, 0, 0, 1], &[1, 0, 0, 0, 1, 2]] {
            assert_eq!(frame_id(wrong), Err(CodecError::Frame));
        }
    }
}
