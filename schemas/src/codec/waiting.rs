//! A change that waits, on the wire.

use super::{CodecError, Datum, Fields, Node, Out, ParsedSchema, Wire};
use crate::waiting::Waiting;

impl Wire for Waiting {
    fn schema_json() -> &'static str {
        include_str!("../../avro/waiting.avsc")
    }

    fn write(&self, datum: &mut Vec<u8>) {
        let out = &mut Out(datum);
        out.text(&self.topic);
        out.long(i64::from(self.partition));
        out.long(self.offset);
        out.long(self.timestamp_ms);
        out.branch(usize::from(self.key.is_some()));
        if let Some(key) = &self.key {
            out.bytes(key);
        }
        out.bytes(&self.value);
        out.array(&self.headers, |out, (name, value)| {
            out.text(name);
            out.bytes(value);
        });
    }

    fn decode(writer: &ParsedSchema, datum: &[u8]) -> Result<Self, CodecError> {
        let node = writer.read(datum)?;
        let waiting = Fields::of(&node)?;
        Ok(Self {
            topic: waiting.text("topic")?.to_owned(),
            partition: waiting.int("partition")?,
            offset: waiting.long("offset")?,
            timestamp_ms: waiting.long("timestamp_ms")?,
            key: optional_bytes(&waiting, "key")?,
            value: bytes(&waiting, "value")?,
            headers: waiting.list("headers", read_header)?,
        })
    }
}

fn read_header(node: &Node<'_>) -> Result<(String, Vec<u8>), CodecError> {
    let header = Fields::of(node)?;
    Ok((header.text("name")?.to_owned(), bytes(&header, "value")?))
}

fn bytes(fields: &Fields<'_>, name: &str) -> Result<Vec<u8>, CodecError> {
    optional_bytes(fields, name)?.ok_or_else(|| wrong(name))
}

fn optional_bytes(fields: &Fields<'_>, name: &str) -> Result<Option<Vec<u8>>, CodecError> {
    let node: Option<&Node<'_>> = fields.get(name);
    match node.map(|node| &node.datum) {
        Some(Datum::Bytes(bytes)) => Ok(Some(bytes.to_vec())),
        None | Some(Datum::Null) => Ok(None),
        Some(_) => Err(wrong(name)),
    }
}

fn wrong(name: &str) -> CodecError {
    CodecError::field(name, "is missing or of another type")
}
