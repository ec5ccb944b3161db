//! An envelope read straight into the cells of a row, by a plan that is made once for each writer's schema.
//!
//! [`decode`](super::decode) makes a tree of the whole record and then rows by the names of their columns: right for whoever
//! asks a row for one field or the other, and twenty times what it costs to pass the bytes by. A copy asks for nothing, it
//! takes all; and copying is what a sink does some hundred thousand times a second. So here the datum is walked once, in the
//! order of its bytes: of the envelope `op` is read, of `source` the LSN, of `after` each column into its cell, and everything
//! else is stepped over by its length (`before` and the rest of `source` are most of a record that says little). For a row
//! one piece of memory is taken, that of its cells.
//!
//! It is no second reading of Avro: values come from the same reader, placeholders are known by the same rule, and a cell's
//! text is that of the same value; a test holds both against each other. One difference is meant: what is stepped over is not
//! judged, so a record whose `before` cannot be read is a record all the same.

use std::sync::Arc;

use super::{Op, is_placeholder};
use crate::cells::{Cells, Spelt};
use crate::codec::{
    CodecError, Datum, Kind, Named, ParsedSchema, Reader, RecordType, Type, connect_json, spell, to_value,
};
use crate::mapped::RowKey;
use crate::position::Lsn;
use crate::value::Value;

/// How envelopes of one schema are read.
#[derive(Debug)]
pub struct Plan {
    writer: Arc<ParsedSchema>,
    /// What each field of the envelope is for. None: records of this schema are no changes.
    fields: Option<Vec<Field>>,
    columns: Arc<[String]>,
}

/// What a field of the envelope is for.
#[derive(Clone, Copy, Debug)]
enum Field {
    Op,
    After,
    /// The place of the LSN, if it has one.
    Source(Option<usize>),
    Nothing,
}

/// A change of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowChange {
    /// What happened.
    pub op: Op,
    /// Position in a PostgreSQL log.
    pub lsn: Option<Lsn>,
    /// The row after it: cells in the order of the plan's columns.
    pub after: Option<Cells>,
}

impl Plan {
    /// For envelopes of this writer.
    pub fn new(writer: Arc<ParsedSchema>) -> Result<Self, CodecError> {
        let envelope = root(&writer)?;
        let field = |(name, kind): &(String, Type)| {
            Ok(match name.as_str() {
                "op" => Field::Op,
                "after" => Field::After,
                "source" => Field::Source(row(&writer, kind)?.and_then(|source| source.index("lsn"))),
                _ => Field::Nothing,
            })
        };
        let after = envelope.index("after").map(|place| &envelope.fields[place].1);
        let after = after.map(|kind| row(&writer, kind)).transpose()?.flatten();
        let columns = after.into_iter().flat_map(|row| &row.fields);
        let columns = columns.map(|(name, _)| name.clone()).collect();
        let is_change = !envelope.name.starts_with("io.debezium.connector.common.");
        if is_change && envelope.index("source").is_none() {
            return Err(CodecError::Datum("not a Debezium envelope".to_owned()));
        }
        let fields = is_change.then(|| envelope.fields.iter().map(field).collect::<Result<_, CodecError>>());
        let fields = fields.transpose()?;
        Ok(Self {
            fields,
            columns,
            writer,
        })
    }

    /// The columns of a row.
    pub fn columns(&self) -> &Arc<[String]> {
        &self.columns
    }

    /// Reads an envelope; of the columns named in `unchanged` the record does not hold what they are. None: no change.
    pub fn read(&self, datum: &[u8], unchanged: &[String]) -> Result<Option<RowChange>, CodecError> {
        let Some(fields) = &self.fields else {
            return Ok(None);
        };
        let mut reader = Reader::new(&self.writer, datum);
        let (mut op, mut lsn, mut after) = (None, None, None);
        for (field, (_, kind)) in fields.iter().zip(&root(&self.writer)?.fields) {
            match field {
                Field::Op => op = read_op(&mut reader, kind)?,
                Field::After => after = read_row(&mut reader, kind, unchanged, datum.len())?,
                Field::Source(place) => lsn = read_lsn(&mut reader, kind, *place)?,
                Field::Nothing => reader.skip(kind, 1)?,
            }
        }
        reader.end()?;
        let op = op.ok_or_else(|| CodecError::field("op", "is missing or of another type"))?;
        Ok(Some(RowChange { op, lsn, after }))
    }
}

fn root(schema: &ParsedSchema) -> Result<&RecordType, CodecError> {
    schema
        .record()
        .ok_or_else(|| CodecError::Datum("a record was expected".to_owned()))
}

/// The record that a field can hold. There is one at most: rows of a topic have one form in a schema.
fn row<'a>(schema: &'a ParsedSchema, kind: &'a Type) -> Result<Option<&'a RecordType>, CodecError> {
    let record = |kind: &'a Type| match kind.kind {
        Kind::Named(index) => match schema.named(index) {
            Named::Record(record) => Some(record),
            _ => None,
        },
        _ => None,
    };
    let Kind::Union(branches) = &kind.kind else {
        return Ok(record(kind));
    };
    let mut records = branches.iter().filter_map(record);
    match (records.next(), records.next()) {
        (found, None) => Ok(found),
        _ => Err(CodecError::Schema("rows of two forms in one schema".to_owned())),
    }
}

fn read_op<'a>(reader: &mut Reader<'a>, kind: &'a Type) -> Result<Option<Op>, CodecError> {
    match reader.node(kind, 1)?.datum {
        Datum::Text(text) => text.parse().map(Some),
        _ => Ok(None),
    }
}

fn read_lsn<'a>(reader: &mut Reader<'a>, kind: &'a Type, place: Option<usize>) -> Result<Option<Lsn>, CodecError> {
    let source = reader.record(kind, 1)?;
    let source = source.ok_or_else(|| CodecError::Datum("a record was expected".to_owned()))?;
    let mut lsn = None;
    for (index, (_, kind)) in source.fields.iter().enumerate() {
        if Some(index) != place {
            reader.skip(kind, 2)?;
        } else if let Datum::Long(found) = reader.node(kind, 2)?.datum {
            lsn = Some(Lsn(found.cast_unsigned()));
        }
    }
    Ok(lsn)
}

/// The row, which takes about as many bytes as it has in the datum.
fn read_row<'a>(
    reader: &mut Reader<'a>,
    kind: &'a Type,
    unchanged: &[String],
    bytes: usize,
) -> Result<Option<Cells>, CodecError> {
    let Some(row) = reader.record(kind, 1)? else {
        return Ok(None);
    };
    let mut cells = Cells::with_capacity(bytes);
    for (name, kind) in &row.fields {
        let node = reader.node(kind, 2)?;
        let written = match is_placeholder(&node.datum) || unchanged.contains(name) {
            true => cells.push(Spelt::Unchanged),
            false => spell(&node, &mut cells),
        };
        written.map_err(|why| CodecError::field(name, why))?;
    }
    Ok(Some(cells))
}

/// How keys of one schema are read.
#[derive(Debug)]
pub struct KeyPlan {
    writer: Arc<ParsedSchema>,
    /// What stands before each value in the text of the key.
    heads: Vec<String>,
}

impl KeyPlan {
    /// For keys of this writer.
    pub fn new(writer: Arc<ParsedSchema>) -> Result<Self, CodecError> {
        let fields = root(&writer)?.fields.iter().enumerate();
        let head = |(place, (name, _)): (usize, &(String, Type))| {
            let before = if place == 0 { '{' } else { ',' };
            format!("{before}{}:", serde_json::Value::from(name.as_str()))
        };
        let heads = fields.map(head);
        Ok(Self {
            heads: heads.collect(),
            writer,
        })
    }

    /// Reads a key: its columns in the order of the schema.
    pub fn read(&self, datum: &[u8]) -> Result<RowKey, CodecError> {
        let mut reader = Reader::new(&self.writer, datum);
        let mut key = String::with_capacity(64);
        for ((name, kind), head) in root(&self.writer)?.fields.iter().zip(&self.heads) {
            let node = reader.node(kind, 1)?;
            if is_placeholder(&node.datum) {
                return Err(CodecError::field(name, "is part of the key and not known"));
            }
            let value = to_value(&node).map_err(|why| CodecError::field(name, why))?;
            key.push_str(head);
            value.write_json(&mut key);
        }
        reader.end()?;
        key.push_str(if key.is_empty() { "{}" } else { "}" });
        Ok(RowKey(key))
    }

    /// The other key of a row whose key changed, from the header that has it as JSON. None if it is no such key.
    pub fn read_header(&self, json: &[u8]) -> Option<RowKey> {
        let columns = connect_json::columns(&self.writer, json)?;
        let fields = &root(&self.writer).ok()?.fields;
        let value = |(name, _): &'_ (String, Type)| Some(&columns.iter().find(|(other, _)| other == name)?.1);
        let values: Option<Vec<&Value>> = fields.iter().map(value).collect();
        let named = fields.iter().map(|(name, _)| name.as_str()).zip(values?);
        Some(RowKey::new(named))
    }
}

#[cfg(test)]
mod tests;
