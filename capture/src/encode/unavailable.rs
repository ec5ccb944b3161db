//! What stands for a large value that the log does not hold: `unavailable.value.placeholder` in the form of its column.

use super::{Reading, Written, items_are_nullable};
use crate::avro;
use crate::text::push_json;
use crate::types::{Days, Kind, Name};

/// The placeholder in the forms that it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placeholder {
    bytes: Vec<u8>,
    text: String,
    uuid: String,
}

impl Placeholder {
    /// Of these bytes.
    pub fn new(bytes: &[u8]) -> Self {
        use md5::{Digest, Md5};
        // As Java's `nameUUIDFromBytes`: version 3, but without a namespace before the name.
        let uuid = uuid::Builder::from_md5_bytes(Md5::digest(bytes).into()).into_uuid();
        Self {
            bytes: bytes.to_vec(),
            text: String::from_utf8_lossy(bytes).into_owned(),
            uuid: uuid.to_string(),
        }
    }
}

/// Appends what stands for a value that the log does not hold, if the kind can say it. Debezium can say it of fewer.
pub fn unavailable(kind: &Kind, reading: Reading, placeholder: &Placeholder, out: &mut Vec<u8>) -> Written {
    match kind {
        Kind::Named(Name::Uuid) if !reading.debezium => avro::bytes(placeholder.uuid.as_bytes(), out),
        Kind::Text | Kind::Printed | Kind::Named(_) | Kind::Enum(_) | Kind::Foreign | Kind::SystemName => {
            avro::bytes(placeholder.text.as_bytes(), out);
        }
        Kind::Bytes | Kind::Opaque { text: None, .. } => avro::bytes(&placeholder.bytes, out),
        Kind::BytesText(alphabet)
        | Kind::Opaque {
            text: Some(alphabet), ..
        } => {
            let is_said = *alphabet == crate::text::binary::Alphabet::Hex || !reading.debezium;
            if !is_said {
                return Written::Null;
            }
            avro::bytes(placeholder.text.as_bytes(), out);
        }
        Kind::Hstore => {
            let mut text = String::from("{");
            push_json(&mut text, &placeholder.text);
            text.push(':');
            push_json(&mut text, &placeholder.text);
            text.push('}');
            avro::bytes(text.as_bytes(), out);
        }
        Kind::HstoreMap => {
            avro::length(1, out);
            avro::bytes(placeholder.text.as_bytes(), out);
            avro::optional_text(Some(&placeholder.text), out);
            out.push(0);
        }
        Kind::List(element) => return list(element, reading, placeholder, out),
        _ => return Written::Null,
    }
    Written::Value
}

fn list(element: &Kind, reading: Reading, placeholder: &Placeholder, out: &mut Vec<u8>) -> Written {
    match element {
        _ if reading.debezium && !debezium_has_one(element) => return Written::Null,
        Kind::Int16 | Kind::Int32 | Kind::Int64 => numbers(placeholder, out),
        Kind::Date(Days::Count) if reading.debezium => numbers(placeholder, out),
        Kind::Named(Name::Uuid) => return single(element, placeholder.uuid.as_bytes(), out),
        element => {
            let mut item = Vec::new();
            if unavailable(element, reading, placeholder, &mut item) == Written::Null {
                return Written::Null;
            }
            avro::length(1, out);
            if items_are_nullable(element) {
                out.push(avro::SECOND);
            }
            out.extend_from_slice(&item);
        }
    }
    out.push(0);
    Written::Value
}

/// Arrays of which Debezium has a placeholder that its own schema accepts.
fn debezium_has_one(element: &Kind) -> bool {
    let by_kind = matches!(element, Kind::Text | Kind::Bytes | Kind::Int32 | Kind::Int64);
    by_kind || matches!(element, Kind::Named(Name::Json | Name::Uuid) | Kind::Date(Days::Count))
}

/// The placeholder's bytes, each as a number.
fn numbers(placeholder: &Placeholder, out: &mut Vec<u8>) {
    avro::length(placeholder.bytes.len(), out);
    for byte in &placeholder.bytes {
        out.push(avro::SECOND);
        avro::long(i64::from(byte.cast_signed()), out);
    }
}

fn single(element: &Kind, text: &[u8], out: &mut Vec<u8>) -> Written {
    avro::length(1, out);
    if items_are_nullable(element) {
        out.push(avro::SECOND);
    }
    avro::bytes(text, out);
    out.push(0);
    Written::Value
}
