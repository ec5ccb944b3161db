//! What the assembler works with: the running transaction, both sides of a change, and what an old row is worth.

use std::sync::Arc;

use syncline_schemas::position::{Lsn, Position};

use super::AssembleError;
use crate::companions::Counts;
use crate::envelope::{self, Circumstances, Image, Misfit, Other, Registered};
use crate::keys::connect;
use crate::postgres::pgoutput::{OldTuple, Tuple, TupleCell};
use crate::records::Moved;
use crate::table::Column;

/// The transaction that is being read.
#[derive(Debug)]
pub(super) struct Transaction {
    /// One byte into the commit record.
    pub(super) lsn: Lsn,
    pub(super) first_lsn: Lsn,
    pub(super) commit_us: i64,
    pub(super) xid: u32,
    pub(super) origin: Option<(String, u64)>,
    pub(super) next_ordinal: u64,
    pub(super) counts: Counts,
}

pub(super) type Bytes = Option<std::ops::Range<usize>>;

/// When a message was read and where it stands.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    pub(super) lsn: Lsn,
    pub(super) now_ns: i64,
}

/// Both sides of a change and the row that the key is taken from.
pub(super) struct Sides<'a> {
    pub(super) before: Image<'a>,
    pub(super) after: Image<'a>,
    pub(super) key_row: Option<(&'a [TupleCell], Other<'a>)>,
    pub(super) moved: Option<(Moved, Arc<str>)>,
}

impl<'a> Sides<'a> {
    pub(super) fn none() -> Self {
        Self {
            before: Image::None,
            after: Image::None,
            key_row: None,
            moved: None,
        }
    }

    pub(super) fn after(row: &'a Tuple, other: Other<'a>) -> Self {
        Self {
            after: Image::Row(row, other),
            key_row: Some((row, other)),
            ..Self::none()
        }
    }

    pub(super) fn before(row: &'a Tuple, before: Image<'a>) -> Self {
        Self {
            before,
            key_row: Some((row, Other::None)),
            ..Self::none()
        }
    }
}

pub(super) struct Writer<'a> {
    pub(super) registered: &'a Registered,
    pub(super) out: &'a mut Vec<u8>,
    pub(super) unsaid: &'a mut Vec<usize>,
}

impl Writer<'_> {
    pub(super) fn key(&mut self, row: &[TupleCell], other: Other<'_>) -> Result<Bytes, Misfit> {
        let reading = self.registered.table.reading(false);
        envelope::key(self.registered, row, other, reading, self.out)
    }

    /// The key of a row that a query has read.
    pub(super) fn snapshot_key(&mut self, row: &[TupleCell]) -> Result<Bytes, Misfit> {
        let reading = self.registered.table.reading(true);
        envelope::key(self.registered, row, Other::None, reading, self.out)
    }

    pub(super) fn value(
        &mut self,
        before: Image<'_>,
        after: Image<'_>,
        circumstances: &Circumstances<'_>,
    ) -> Result<std::ops::Range<usize>, Misfit> {
        envelope::value(self.registered, before, after, circumstances, self.out, self.unsaid)
    }
}

impl Transaction {
    pub(super) fn circumstances(&self, op: char, at: Moment, last_commit: Option<Lsn>) -> Circumstances<'_> {
        Circumstances {
            op,
            snapshot: "false",
            commit_us: self.commit_us,
            lsn: at.lsn.0,
            tells_lsn: true,
            last_commit_lsn: last_commit.map(|lsn| lsn.0),
            xid: Some(self.xid),
            origin: self.origin.as_ref().map(|(name, lsn)| (name.as_str(), *lsn)),
            transaction: None,
            now_ns: at.now_ns,
        }
    }
}

/// The old row and how much of it may be believed.
pub(super) fn old_row(old: &OldTuple) -> Option<(&Tuple, Image<'_>)> {
    match old {
        OldTuple::None => None,
        OldTuple::Key(row) => Some((row, Image::Key(row))),
        OldTuple::Full(row) => Some((row, Image::Row(row, Other::None))),
    }
}

/// The old row as a source of what the new one leaves out.
pub(super) fn other_side(old: &OldTuple) -> Other<'_> {
    match old {
        OldTuple::None => Other::None,
        OldTuple::Key(row) => Other::Key(row),
        OldTuple::Full(row) => Other::Full(row),
    }
}

/// Where an update gave the row another key: the old one and the new one, as headers tell them. With identity full the
/// whole old row is there, else only a key.
pub(super) fn moves(
    registered: &Registered,
    position: Position,
    old: &Tuple,
    new: &Tuple,
    other: Other<'_>,
) -> Result<Option<[Arc<str>; 2]>, AssembleError> {
    let mut keys = Vec::new();
    let misfit = |misfit| AssembleError::Misfit {
        table: registered.table.full_name(),
        position,
        misfit,
    };
    let reading = registered.table.reading(false);
    let before = envelope::key(registered, old, Other::None, reading, &mut keys).map_err(misfit)?;
    let after = envelope::key(registered, new, other, reading, &mut keys).map_err(misfit)?;
    let (Some(before), Some(after), Some(schema)) = (before, after, &registered.table.key_schema) else {
        return Ok(None);
    };
    let (before, after) = (&keys[before], &keys[after]);
    let text = |key| connect::text(schema, envelope::datum(key)).into();
    Ok((before != after).then(|| [text(before), text(after)]))
}

/// Whether both sides of an update say the same in a record. What is not known of the old row says nothing.
pub(super) fn is_unchanged(
    registered: &Registered,
    position: Position,
    before: Image<'_>,
    after: Image<'_>,
) -> Result<bool, AssembleError> {
    if matches!(before, Image::None) {
        return Ok(false);
    }
    let image = |image| {
        let mut out = Vec::new();
        let done = envelope::image(registered, image, &mut out);
        done.map(|()| out).map_err(|misfit| AssembleError::Misfit {
            table: registered.table.full_name(),
            position,
            misfit,
        })
    };
    Ok(image(before)? == image(after)?)
}

pub(super) fn unsaid_json(columns: &[Column], unsaid: &[usize]) -> Option<Arc<str>> {
    if unsaid.is_empty() {
        return None;
    }
    let names: Vec<&str> = unsaid.iter().map(|&index| columns[index].field.as_str()).collect();
    Some(serde_json::Value::from(names).to_string().into())
}
