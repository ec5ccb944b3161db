//! A row change as Debezium's envelope: key bytes, value bytes, before and after, source, operation, times.
//!
//! The block of the source that is the same for every row of a table is made once. What a column cannot say (a large
//! value that the log does not hold, of a type without placeholder) is written as null and named in `unsaid`, so that
//! the caller can say it in a header: it must never pass for NULL.

use std::ops::Range;
use std::sync::Arc;

use crate::avro;
use crate::avro_schema;
use crate::encode::{self, Reading, Written};
use crate::form::{Fidelity, Form};
use crate::loss::{Loss, Losses};
use crate::mask::Mask;
use crate::postgres::pgoutput::TupleCell;
use crate::table::{Column, Table};
use crate::text::Unfit;

mod around;

pub use around::{Block, Circumstances, SourceBlock, message_head};

/// A value that its column's type cannot hold, or a row of another shape than announced.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// A value.
    #[error("column {column}: {unfit}")]
    Value {
        /// The column.
        column: String,
        /// What it is not.
        unfit: Unfit,
    },
    /// A row.
    #[error("the row has {found} columns and not {expected}")]
    Shape {
        /// Cells found.
        found: usize,
        /// Columns announced.
        expected: usize,
    },
    /// A key column that the log does not hold.
    #[error("column {column} of the key is not in the log")]
    KeyAbsent {
        /// The column.
        column: String,
    },
}

/// A table's plan with the schema ids that the registry gave, and what is the same in each of its envelopes.
#[derive(Clone, Debug)]
pub struct Registered {
    /// The plan.
    pub table: Table,
    /// Id of the key's schema, if there is a key.
    pub key_id: Option<u32>,
    /// Id of the value's schema.
    pub value_id: u32,
    /// `schema.table`.
    pub name: Arc<str>,
    source: SourceBlock,
    /// What its values have lost.
    losses: Losses,
}

impl Registered {
    /// The plan with its ids. `prefix` is the name of the source.
    pub fn new(table: Table, ids: (Option<u32>, u32), form: &Form, prefix: &str, database: &str) -> Self {
        let columns = table.columns.iter().map(|column| column.name.as_str());
        let losses = Losses::new(prefix, table.full_name(), columns);
        let left_out = |column: &Column| !column.kind.is_shown();
        for (index, _) in table.columns.iter().enumerate().filter(|(_, column)| left_out(column)) {
            losses.count(index, Loss::LeftOut);
        }
        Self {
            losses,
            name: table.full_name().into(),
            source: SourceBlock::new(form, prefix, database, (&table.schema, &table.name)),
            key_id: ids.0,
            value_id: ids.1,
            table,
        }
    }
}

/// What the log holds of a row at one side of a change.
#[derive(Clone, Copy, Debug)]
pub enum Image<'a> {
    /// Nothing.
    None,
    /// The row; a cell that it leaves out may be taken from the other row.
    Row(&'a [TupleCell], Other<'a>),
    /// The key; the other cells say nothing.
    Key(&'a [TupleCell]),
}

/// What the log holds of the row at the other side of the change, and how much of it may be believed.
#[derive(Clone, Copy, Debug)]
pub enum Other<'a> {
    /// Nothing.
    None,
    /// The key: NULL in any other column is no NULL.
    Key(&'a [TupleCell]),
    /// The whole row.
    Full(&'a [TupleCell]),
}

impl<'a> Other<'a> {
    /// The cells, whatever they are worth.
    pub fn cells(self) -> Option<&'a [TupleCell]> {
        match self {
            Other::None => None,
            Other::Key(cells) | Other::Full(cells) => Some(cells),
        }
    }
}

/// A zero and the schema's id.
const FRAME_BYTES: usize = 5;

fn frame(id: u32, out: &mut Vec<u8>) {
    out.push(0);
    out.extend_from_slice(&id.to_be_bytes());
}

/// What follows the frame of a key or a value.
pub fn datum(framed: &[u8]) -> &[u8] {
    framed.get(FRAME_BYTES..).unwrap_or_default()
}

/// Appends the key of the row and gives where it stands; `None` if the table has no key.
pub fn key(
    registered: &Registered,
    row: &[TupleCell],
    other: Other<'_>,
    reading: Reading,
    out: &mut Vec<u8>,
) -> Result<Option<Range<usize>>, Misfit> {
    let Some(id) = registered.key_id else { return Ok(None) };
    let table = &registered.table;
    check_shape(table, row)?;
    let start = out.len();
    frame(id, out);
    for &index in &table.key {
        key_column(
            registered,
            index,
            present(table, &row[index], other, index),
            reading,
            out,
        )?;
    }
    Ok(Some(start..out.len()))
}

/// Appends one column of the key. A primary key is NOT NULL; a key that somebody chose may hold NULL. Of a key that the
/// log does not have Debezium makes one of zeros.
fn key_column(
    registered: &Registered,
    index: usize,
    cell: &TupleCell,
    reading: Reading,
    out: &mut Vec<u8>,
) -> Result<(), Misfit> {
    let table = &registered.table;
    let column = &table.columns[index];
    let start = out.len();
    out.extend(column.value_branch());
    let known = !matches!(cell, TupleCell::Unchanged);
    if known && written(registered, index, cell, reading, out)? == Some(Written::Value) {
        return Ok(());
    }
    out.truncate(start);
    match column.null_branch() {
        Some(null) if matches!(cell, TupleCell::Null) => out.push(null),
        _ if table.fidelity == Fidelity::Debezium => {
            registered.losses.count(index, Loss::KeyUnknown);
            out.extend_from_slice(table.fill(index));
        }
        _ => {
            return Err(Misfit::KeyAbsent {
                column: column.name.clone(),
            });
        }
    }
    Ok(())
}

/// Appends the envelope; the indices of columns that could not say that they are unknown are pushed to `unsaid`.
pub fn value(
    registered: &Registered,
    before: Image<'_>,
    after: Image<'_>,
    circumstances: &Circumstances<'_>,
    out: &mut Vec<u8>,
    unsaid: &mut Vec<usize>,
) -> Result<Range<usize>, Misfit> {
    let start = out.len();
    frame(registered.value_id, out);
    let reading = registered.table.reading(circumstances.snapshot != "false");
    let mut row = Row {
        registered,
        reading,
        out,
        unsaid,
    };
    row.image(before)?;
    row.image(after)?;
    registered.source.write(circumstances, out);
    around::tail(registered.table.release, circumstances, out);
    Ok(start..out.len())
}

/// Appends one side of a change of the log alone.
pub fn image(registered: &Registered, image: Image<'_>, out: &mut Vec<u8>) -> Result<(), Misfit> {
    let mut row = Row {
        registered,
        reading: registered.table.reading(false),
        out,
        unsaid: &mut Vec::new(),
    };
    row.image(image)
}

fn check_shape(table: &Table, row: &[TupleCell]) -> Result<(), Misfit> {
    let (found, expected) = (row.len(), table.columns.len());
    if found == expected {
        Ok(())
    } else {
        Err(Misfit::Shape { found, expected })
    }
}

/// The cell, or that of the other row where this one leaves it out.
fn present<'a>(table: &Table, cell: &'a TupleCell, other: Other<'a>, index: usize) -> &'a TupleCell {
    let elsewhere = match other {
        Other::Full(other) => other.get(index),
        Other::Key(other) if table.identified.contains(&index) => other.get(index),
        Other::Key(_) | Other::None => None,
    };
    match (cell, elsewhere) {
        (TupleCell::Unchanged, Some(other)) => other,
        _ => cell,
    }
}

/// A row that is being written.
struct Row<'a> {
    registered: &'a Registered,
    reading: Reading,
    out: &'a mut Vec<u8>,
    unsaid: &'a mut Vec<usize>,
}

impl Row<'_> {
    fn image(&mut self, image: Image<'_>) -> Result<(), Misfit> {
        let table = &self.registered.table;
        let (Image::Row(row, _) | Image::Key(row)) = image else {
            self.out.push(avro::FIRST);
            return Ok(());
        };
        check_shape(table, row)?;
        self.out.push(avro::SECOND);
        for (index, cell) in row.iter().enumerate() {
            match image {
                _ if table.columns[index].hidden => (),
                Image::Row(_, other) => self.column(index, present(table, cell, other, index))?,
                Image::Key(_) if table.identified.contains(&index) => self.column(index, cell)?,
                _ => self.out.extend_from_slice(table.fill(index)),
            }
        }
        Ok(())
    }

    /// Appends a cell as its column's union or plain type.
    fn column(&mut self, index: usize, cell: &TupleCell) -> Result<(), Misfit> {
        let table = &self.registered.table;
        let column = &table.columns[index];
        let start = self.out.len();
        self.out.extend(column.value_branch());
        let value_start = self.out.len();
        let done = written(self.registered, index, cell, self.reading, self.out)?;
        let is_value = done == Some(Written::Value);
        if let Some(mask) = &column.mask {
            self.out.truncate(if is_value { self.out.len() } else { value_start });
            if masked(table, column, mask, cell, value_start, self.out) {
                return Ok(());
            }
        } else if is_value {
            return Ok(());
        }
        self.out.truncate(start);
        self.null(index, matches!(cell, TupleCell::Unchanged), done.is_some())
    }

    /// A null: of a cell that is NULL, that is not known, or that the kind cannot say.
    fn null(&mut self, index: usize, unknown: bool, lost: bool) -> Result<(), Misfit> {
        let table = &self.registered.table;
        let column = &table.columns[index];
        let debezium = table.fidelity == Fidelity::Debezium;
        // What the type has and the schema has not is no NULL either.
        if unknown || lost && !debezium {
            self.unsaid.push(index);
        }
        if unknown {
            self.registered.losses.count(index, Loss::Unmoved);
        }
        match column.null_branch() {
            Some(_) if debezium && column.default.is_some() && column.mask.is_none() => {
                self.registered.losses.count(index, Loss::NullAsDefault);
                self.out.extend_from_slice(table.fill(index));
            }
            Some(null) => self.out.push(null),
            None if unknown || (debezium && lost) => self.out.extend_from_slice(table.fill(index)),
            None => {
                return Err(Misfit::Value {
                    column: column.name.clone(),
                    unfit: Unfit("value for NOT NULL"),
                });
            }
        }
        Ok(())
    }
}

/// Puts what the mask makes of a value in the place of the value at `start`; false if that is nothing.
fn masked(table: &Table, column: &Column, mask: &Mask, cell: &TupleCell, start: usize, out: &mut Vec<u8>) -> bool {
    let written = out.len() > start;
    // The placeholder of a value that the log does not hold is none of the value, and readers must know it again.
    let placeholder = written && matches!(cell, TupleCell::Unchanged) && !matches!(mask, Mask::Stars(_));
    if placeholder && table.fidelity == Fidelity::Exact {
        return written;
    }
    let value = avro::bytes_at(&out[start..]).filter(|_| written);
    let Some(masked) = avro_schema::masked(&column.kind, mask, value, column.length_max) else {
        return false;
    };
    out.truncate(start);
    avro::bytes(&masked, out);
    true
}

/// Appends the bare value; `None` if the cell is NULL.
fn written(
    registered: &Registered,
    index: usize,
    cell: &TupleCell,
    reading: Reading,
    out: &mut Vec<u8>,
) -> Result<Option<Written>, Misfit> {
    let table = &registered.table;
    let column = &table.columns[index];
    let misfit = |unfit| Misfit::Value {
        column: column.name.clone(),
        unfit,
    };
    let text = match cell {
        TupleCell::Null => return Ok(None),
        TupleCell::Unchanged => {
            return Ok(Some(encode::unavailable(
                &column.kind,
                reading,
                &table.placeholder,
                out,
            )));
        }
        TupleCell::Text(text) => text,
        TupleCell::Binary(_) => return Err(misfit(Unfit("text form"))),
    };
    let mut lost = None;
    let done = encode::cell(&column.kind, reading, text, out, &mut lost).map_err(misfit)?;
    if let Some(loss) = lost {
        registered.losses.count(index, loss);
    }
    Ok(Some(done))
}
