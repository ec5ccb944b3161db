//! What came of one message of the log: at most three records, a few marks and notes, in buffers that are used again.

use std::ops::Range;
use std::sync::Arc;

use syncline_schemas::envelope::{NEW_KEY_HEADER, OLD_KEY_HEADER, POSITION_HEADER, UNCHANGED_HEADER};
use syncline_schemas::mark;
use syncline_schemas::position::Position;
use syncline_schemas::progress::MarkRecord;

use crate::companions::Companion;
use crate::envelope::Registered;

/// Which of the two halves of a key change a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// The row's record under its old key; the header names the new one.
    Away,
    /// Under its new key; the header names the old one.
    Here,
}

impl Moved {
    fn header(self) -> &'static str {
        match self {
            Moved::Away => NEW_KEY_HEADER,
            Moved::Here => OLD_KEY_HEADER,
        }
    }
}

/// One record, its bytes in the buffer of [`Records`].
#[derive(Clone, Debug)]
pub struct Entry {
    /// The table.
    pub registered: Arc<Registered>,
    /// Where the key stands; a table without key has none.
    pub key: Option<Range<usize>>,
    /// Where the value stands; none for a tombstone.
    pub value: Option<Range<usize>>,
    /// Where the change stands in the log.
    pub position: Position,
    /// The other key of a key change, as JSON.
    pub moved: Option<(Moved, Arc<str>)>,
    /// The sink's mark.
    pub mark: Option<Arc<str>>,
    /// JSON array of the columns that are not known and could not say so.
    pub unsaid: Option<Arc<str>>,
}

/// A mark without a row, for the marks topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkEntry {
    /// Key of the record: the entity id.
    pub key: String,
    /// The record.
    pub record: MarkRecord,
}

/// A record for a topic beside those of tables, its bytes in the buffer of [`Records`], without the frame of an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Which topic.
    pub companion: Companion,
    /// Where the key stands.
    pub key: Range<usize>,
    /// Where the value stands.
    pub value: Range<usize>,
}

/// The records of one message.
#[derive(Debug, Default)]
pub struct Records {
    /// The bytes of keys and values.
    pub(crate) bytes: Vec<u8>,
    /// The rows, in order.
    pub(crate) rows: Vec<Entry>,
    /// The marks, in order.
    pub(crate) marks: Vec<MarkEntry>,
    /// What goes beside the rows, in order.
    pub(crate) notes: Vec<Note>,
}

/// A buffer that one huge row has made larger than this is given back.
const KEPT_BYTES_MAX: usize = 1 << 20;

impl Records {
    /// Empties it for the next message.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES_MAX);
        self.rows.clear();
        self.marks.clear();
        self.notes.clear();
    }

    /// The rows, in order.
    pub fn rows(&self) -> &[Entry] {
        &self.rows
    }

    /// The marks, in order.
    pub fn marks(&self) -> &[MarkEntry] {
        &self.marks
    }

    /// What goes beside the rows, in order.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.marks.is_empty() && self.notes.is_empty()
    }

    /// Adds a record beside the rows.
    pub fn note(&mut self, companion: Companion, key: impl FnOnce(&mut Vec<u8>), value: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        key(&mut self.bytes);
        let middle = self.bytes.len();
        value(&mut self.bytes);
        self.notes.push(Note {
            companion,
            key: start..middle,
            value: middle..self.bytes.len(),
        });
    }

    /// The bytes of a key or value.
    pub fn slice(&self, range: &Option<Range<usize>>) -> Option<&[u8]> {
        range.clone().map(|range| &self.bytes[range])
    }
}

impl Entry {
    /// The record's headers: Debezium's, then ours. `context` is the same for all records of a run, `trace` for all of
    /// a batch.
    pub fn headers<'a>(
        &'a self,
        context: &'a [(&'a str, String)],
        trace: &'a [(String, String)],
        position: &'a str,
    ) -> Vec<(&'a str, &'a [u8])> {
        let mut headers: Vec<(&str, &[u8])> = Vec::with_capacity(context.len() + trace.len() + 4);
        headers.extend(self.moved.as_ref().map(|(moved, key)| (moved.header(), key.as_bytes())));
        headers.extend(context.iter().map(|(name, value)| (*name, value.as_bytes())));
        headers.push((POSITION_HEADER, position.as_bytes()));
        headers.extend(self.mark.as_ref().map(|mark| (mark::HEADER, mark.as_bytes())));
        headers.extend(
            self.unsaid
                .as_ref()
                .map(|columns| (UNCHANGED_HEADER, columns.as_bytes())),
        );
        headers.extend(trace.iter().map(|(name, value)| (name.as_str(), value.as_bytes())));
        headers
    }
}
