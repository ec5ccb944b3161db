//! The cells of a row as texts, in one piece of memory.
//!
//! A copied row is never looked into: its cells are only written on, as texts, in the order in which they came. So they are
//! not kept as [`Value`]s under the names of their columns, which is a dozen pieces of memory for a row, but one behind the
//! other, each with what has to be known of it to be written: whether it is a number or a list, for some types of the target
//! spell those in a way of their own. The text is the one that the value has in [`crate::value`]; a list's is its JSON.

use std::io::Write as _;

use crate::lens::Cell;
use crate::value::Value;

const NULL: u8 = 0;
const UNCHANGED: u8 = 1;
const TEXT: u8 = 2;
const NUMBER: u8 = 3;
const LIST: u8 = 4;

/// Bytes that say how long a text is.
const LENGTH_BYTES: usize = size_of::<u32>();

/// Cells, in the order of their columns: of each its kind, and of a text its length and itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cells(Vec<u8>);

/// What a cell holds. Texts are UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelt<'a> {
    /// SQL NULL.
    Null,
    /// Something that the log did not repeat: not known here.
    Unchanged,
    /// A text, or what is spelt as one: times, bytes, `true` and `false`.
    Text(&'a [u8]),
    /// A number.
    Number(&'a [u8]),
    /// A list, as JSON.
    List(&'a [u8]),
}

impl Cells {
    /// None yet, with room for texts of about so many bytes in all.
    pub fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// Appends a cell.
    pub fn push(&mut self, cell: Spelt<'_>) -> Result<(), &'static str> {
        match cell {
            Spelt::Null => self.0.push(NULL),
            Spelt::Unchanged => self.0.push(UNCHANGED),
            Spelt::Text(text) => self.spell(TEXT, |out| out.extend_from_slice(text))?,
            Spelt::Number(text) => self.spell(NUMBER, |out| out.extend_from_slice(text))?,
            Spelt::List(text) => self.spell(LIST, |out| out.extend_from_slice(text))?,
        }
        Ok(())
    }

    /// Appends a text that is in pieces.
    pub(crate) fn text(&mut self, pieces: &[&str]) -> Result<(), &'static str> {
        self.spell(TEXT, |out| {
            pieces.iter().for_each(|piece| out.extend_from_slice(piece.as_bytes()));
        })
    }

    /// Appends a value.
    pub fn value(&mut self, value: &Value) -> Result<(), &'static str> {
        // Nothing that is written into memory fails.
        match value {
            Value::Null => self.push(Spelt::Null),
            Value::Bool(true) => self.push(Spelt::Text(b"true")),
            Value::Bool(false) => self.push(Spelt::Text(b"false")),
            Value::Text(text) => self.text(&[text]),
            Value::Number(number) => self.spell(NUMBER, |out| {
                let _ = write!(out, "{number}");
            }),
            Value::List(_) => self.spell(LIST, |out| {
                let _ = write!(out, "{value}");
            }),
        }
    }

    /// Appends what a row's cell says.
    pub fn cell(&mut self, cell: &Cell) -> Result<(), &'static str> {
        match cell {
            Cell::Set(value) => self.value(value),
            Cell::Unchanged => self.push(Spelt::Unchanged),
        }
    }

    fn spell(&mut self, kind: u8, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), &'static str> {
        self.0.push(kind);
        let start = self.0.len() + LENGTH_BYTES;
        self.0.extend_from_slice(&[0; LENGTH_BYTES]);
        write(&mut self.0);
        let length = u32::try_from(self.0.len() - start).map_err(|_| "is longer than 4 GiB")?;
        self.0[start - LENGTH_BYTES..start].copy_from_slice(&length.to_le_bytes());
        Ok(())
    }

    /// The cells, in their order.
    pub fn iter(&self) -> impl Iterator<Item = Spelt<'_>> {
        let mut rest = self.0.as_slice();
        std::iter::from_fn(move || {
            let (cell, after) = first(rest)?;
            rest = after;
            Some(cell)
        })
    }
}

fn first(cells: &[u8]) -> Option<(Spelt<'_>, &[u8])> {
    let (kind, rest) = cells.split_first()?;
    match *kind {
        NULL => return Some((Spelt::Null, rest)),
        UNCHANGED => return Some((Spelt::Unchanged, rest)),
        _ => {}
    }
    let (length, rest) = rest.split_first_chunk::<LENGTH_BYTES>()?;
    let (text, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    let cell = match *kind {
        NUMBER => Spelt::Number(text),
        LIST => Spelt::List(text),
        _ => Spelt::Text(text),
    };
    Some((cell, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_come_out_as_they_went_in() {
        let mut cells = Cells::default();
        for json in ["null", "true", "-12.50", "\"\"", "\"é\"", "[1,null,\"a\"]"] {
            cells.value(&json.parse().unwrap()).unwrap();
        }
        cells.cell(&Cell::Unchanged).unwrap();
        let expected = [
            Spelt::Null,
            Spelt::Text(b"true"),
            Spelt::Number(b"-12.5"),
            Spelt::Text(b""),
            Spelt::Text("é".as_bytes()),
            Spelt::List(b"[1,null,\"a\"]"),
            Spelt::Unchanged,
        ];
        assert_eq!(cells.iter().collect::<Vec<_>>(), expected);
        let mut again = Cells::with_capacity(64);
        cells.iter().for_each(|cell| again.push(cell).unwrap());
        assert_eq!(again, cells);
    }
}
