//! A change of a row in Debezium's envelope, whoever wrote it: our capture, or a Debezium connector of any database.
//!
//! It is read by its writer's schema, so every version of the envelope will do. Columns become [`Cell`]s in the spelling
//! of [`crate::value`]. A column that holds Debezium's placeholder was not repeated in the log: it is unknown, not empty.

use std::str::FromStr;

use crate::codec::{CodecError, Datum, Fields, Node, ParsedSchema, connect_json, to_value};
use crate::lens::{Cell, Row};
use crate::position::{Lsn, Position};
use crate::value::Value;

/// An envelope read straight into the cells of a row.
mod plan;

pub use plan::{KeyPlan, Plan, RowChange};

/// Name of the Kafka header with the position of a row change: [`Position`] as text.
pub const POSITION_HEADER: &str = "syncline.position";

/// Header that names, as a JSON array, the columns whose value the log does not hold and whose type has no placeholder:
/// what stands in the record is not their value.
pub const UNCHANGED_HEADER: &str = "syncline.unchanged";

/// Debezium's header on the create of a row whose key changed: the old key as JSON.
pub const OLD_KEY_HEADER: &str = "__debezium.oldkey";

/// Debezium's header on the delete (and tombstone) of a row whose key changed: the new key as JSON.
pub const NEW_KEY_HEADER: &str = "__debezium.newkey";

/// What stands in a column whose large value the log did not repeat.
pub const PLACEHOLDER: &str = "__debezium_unavailable_value";

/// The same in a column of UUIDs: Java's `nameUUIDFromBytes` of the placeholder.
const PLACEHOLDER_UUID: &str = "b68a35a7-17ad-35b3-af2a-ae46edb4545a";

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// `c`: the row was made.
    Create,
    /// `r`: the row was there when it was first read.
    Read,
    /// `u`: it was changed.
    Update,
    /// `d`: it was deleted.
    Delete,
    /// `t`: the table was emptied.
    Truncate,
    /// `m`: a logical message, no row.
    Message,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeEvent {
    /// What happened.
    pub op: Op,
    /// The row before it; with REPLICA IDENTITY DEFAULT only on a delete, and there only its key is true.
    pub before: Option<Row>,
    /// The row after it.
    pub after: Option<Row>,
    /// Where it comes from.
    pub source: SourceInfo,
    /// When the producer worked on it, milliseconds since 1970.
    pub ts_ms: i64,
}

/// Where a change comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceInfo {
    /// `postgresql`, `mysql`, ...
    pub connector: String,
    /// The topic prefix.
    pub name: String,
    /// Database.
    pub db: String,
    /// Schema; empty where the database has none.
    pub schema: String,
    /// Table.
    pub table: String,
    /// `false`, or which part of a snapshot it is.
    pub snapshot: String,
    /// Transaction.
    pub tx_id: Option<i64>,
    /// Position in a PostgreSQL log.
    pub lsn: Option<Lsn>,
    /// Commit time, microseconds since 1970.
    pub ts_us: i64,
}

impl FromStr for Op {
    type Err = CodecError;

    fn from_str(text: &str) -> Result<Self, CodecError> {
        Ok(match text {
            "c" => Op::Create,
            "r" => Op::Read,
            "u" => Op::Update,
            "d" => Op::Delete,
            "t" => Op::Truncate,
            "m" => Op::Message,
            _ => return Err(CodecError::field("op", "is of a kind this version does not know")),
        })
    }
}

/// Reads an envelope. None: a heartbeat or transaction record, which is no change.
pub fn decode(writer: &ParsedSchema, datum: &[u8]) -> Result<Option<ChangeEvent>, CodecError> {
    let node = writer.read(datum)?;
    let envelope = Fields::of(&node)?;
    if envelope.full_name().starts_with("io.debezium.connector.common.") {
        return Ok(None);
    }
    let source = envelope
        .get("source")
        .ok_or_else(|| CodecError::Datum("not a Debezium envelope".to_owned()))?;
    Ok(Some(ChangeEvent {
        op: envelope.text("op")?.parse()?,
        before: image(&envelope, "before")?,
        after: image(&envelope, "after")?,
        source: source_info(&Fields::of(source)?)?,
        ts_ms: envelope.optional_long("ts_ms")?.unwrap_or_default(),
    }))
}

/// Takes out of the new row what the record's header says is not known.
pub fn forget_unchanged(headers: &[(String, Vec<u8>)], event: &mut ChangeEvent) {
    if let Some(row) = &mut event.after {
        row.extend(unchanged(headers).into_iter().map(|name| (name, Cell::Unchanged)));
    }
}

/// The columns of the new row that are not known, by what the record's header says.
pub fn unchanged(headers: &[(String, Vec<u8>)]) -> Vec<String> {
    let header = headers.iter().find(|(name, _)| name == UNCHANGED_HEADER);
    let names = header.and_then(|(_, json)| serde_json::from_slice(json).ok());
    names.unwrap_or_default()
}

/// Reads the key of a row change.
pub fn decode_key(writer: &ParsedSchema, datum: &[u8]) -> Result<Row, CodecError> {
    row(&Fields::of(&writer.read(datum)?)?)
}

/// The other key of a row whose key changed, from the header that has it; `writer` is the schema of the record's own key.
pub fn header_key(writer: &ParsedSchema, json: &[u8]) -> Option<Row> {
    let columns = connect_json::columns(writer, json)?;
    Some(
        columns
            .into_iter()
            .map(|(name, value)| (name, Cell::Set(value)))
            .collect(),
    )
}

/// Where the change stands in its source's log. Our capture says so in a header; a topic of Debezium has the LSN of the
/// row, which orders the changes of one row as their commits do; other databases are ordered by the topic's `offset`.
pub fn position(headers: &[(String, Vec<u8>)], event: &ChangeEvent, offset: i64) -> Result<Position, CodecError> {
    let otherwise = || Position::new(0, event.source.lsn.unwrap_or(Lsn(offset.cast_unsigned())), 0);
    Ok(stated_position(headers)?.unwrap_or_else(otherwise))
}

/// Where the change stands by the header that our capture writes; none if there is no such header.
pub fn stated_position(headers: &[(String, Vec<u8>)]) -> Result<Option<Position>, CodecError> {
    let Some((_, bytes)) = headers.iter().find(|(name, _)| name == POSITION_HEADER) else {
        return Ok(None);
    };
    let text = std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok());
    text.map(Some)
        .ok_or_else(|| CodecError::field(POSITION_HEADER, "is no position"))
}

/// The columns of the record `name` of the envelope, if it is there.
fn image(envelope: &Fields<'_>, name: &str) -> Result<Option<Row>, CodecError> {
    match envelope.get(name) {
        None | Some(Node { datum: Datum::Null, .. }) => Ok(None),
        Some(node) => Ok(Some(row(&Fields::of(node)?)?)),
    }
}

fn row(record: &Fields<'_>) -> Result<Row, CodecError> {
    record
        .iter()
        .map(|(name, node)| Ok((name.to_owned(), cell(name, node)?)))
        .collect()
}

fn cell(name: &str, node: &Node<'_>) -> Result<Cell, CodecError> {
    if is_placeholder(&node.datum) {
        return Ok(Cell::Unchanged);
    }
    to_value(node)
        .map(Cell::Set)
        .map_err(|why| CodecError::field(name, why))
}

/// Whether the column holds the placeholder in the form that its type gives it.
fn is_placeholder(datum: &Datum<'_>) -> bool {
    match datum {
        Datum::Text(text) => *text == PLACEHOLDER || is_placeholder_json(text),
        Datum::Bytes(bytes) => *bytes == PLACEHOLDER.as_bytes(),
        Datum::Array(items) => match &items[..] {
            [only] => is_placeholder(&only.datum) || matches!(only.datum, Datum::Text(PLACEHOLDER_UUID)),
            many => is_placeholder_bytes(many),
        },
        Datum::Map(entries) => matches!(&entries[..], [(PLACEHOLDER, only)] if is_placeholder(&only.datum)),
        _ => false,
    }
}

/// An hstore that is written as JSON.
fn is_placeholder_json(text: &str) -> bool {
    let inner = text.strip_prefix("{\"").and_then(|rest| rest.strip_suffix("\"}"));
    inner.and_then(|inner| inner.split_once("\":\"")) == Some((PLACEHOLDER, PLACEHOLDER))
}

/// An array of integers holds the placeholder's bytes.
fn is_placeholder_bytes(items: &[Node<'_>]) -> bool {
    let byte = |node: &Node<'_>| match node.datum {
        Datum::Int(number) => Some(i64::from(number)),
        Datum::Long(number) => Some(number),
        _ => None,
    };
    items.len() == PLACEHOLDER.len()
        && items
            .iter()
            .zip(PLACEHOLDER.bytes())
            .all(|(item, expected)| byte(item) == Some(i64::from(expected)))
}

fn source_info(source: &Fields<'_>) -> Result<SourceInfo, CodecError> {
    let text = |name| Ok::<_, CodecError>(source.optional_text(name)?.unwrap_or_default().to_owned());
    let lsn = match source.get("lsn").map(|node| &node.datum) {
        Some(Datum::Long(lsn)) => Some(Lsn(lsn.cast_unsigned())),
        _ => None,
    };
    Ok(SourceInfo {
        connector: text("connector")?,
        name: text("name")?,
        db: text("db")?,
        schema: text("schema")?,
        table: text("table")?,
        snapshot: source.optional_text("snapshot")?.unwrap_or("false").to_owned(),
        tx_id: transaction_id(source),
        lsn,
        ts_us: commit_us(source)?,
    })
}

/// A number in PostgreSQL, a text elsewhere.
fn transaction_id(source: &Fields<'_>) -> Option<i64> {
    match to_value(source.get("txId")?).ok()? {
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

fn commit_us(source: &Fields<'_>) -> Result<i64, CodecError> {
    match source.optional_long("ts_us")? {
        Some(micros) => Ok(micros),
        None => Ok(source.optional_long("ts_ms")?.unwrap_or_default().saturating_mul(1000)),
    }
}
