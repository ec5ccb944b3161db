//! How far capture has come: what it writes to Kafka in the same transaction as the rows, and reads back at the start.
//!
//! Only a record that was read back from Kafka (read_committed) says where to continue; the slot is told later and may be
//! behind. A slot that is *ahead* of this record has skipped changes, and only this record can tell.

use crate::mark::PlacedMark;
use crate::position::{Lsn, Position};

/// Up to where a slot has been captured: the record on `<source>.syncline.progress`, keyed by slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The last position that is in Kafka.
    pub position: Position,
    /// Which database cluster this is.
    pub system_identifier: String,
    /// Its timeline.
    pub timeline: u32,
    /// The slot.
    pub slot: String,
    /// Hash of the tables and columns published.
    pub publication_hash: String,
    /// Where the slot's snapshot stands in the log; none when there was none. While the position is still before it, no
    /// row of that snapshot is in Kafka.
    pub consistent_point: Option<Lsn>,
    /// How far the snapshot of each table has come.
    pub tables: Vec<TableProgress>,
    /// Why the slot was dropped on purpose, if it was: nothing goes on before the tables are read again.
    pub given_up: Option<String>,
    /// What signals have asked for and is not done yet, as JSON that only capture reads.
    pub agenda: Option<String>,
}

/// How far the snapshot of one table has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableProgress {
    /// `schema.table`.
    pub table: String,
    /// How far.
    pub state: SnapshotState,
}

/// How far a snapshot has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SnapshotState {
    /// No row is in Kafka.
    #[default]
    NotStarted,
    /// Some are.
    Started {
        /// The key up to which all rows are in Kafka, as capture writes it; none before the first chunk.
        done_to: Option<String>,
        /// How many rows that are: the next ordinal.
        rows: u64,
    },
    /// All rows are in Kafka.
    Done,
}

impl Progress {
    /// Whether something is in Kafka, so that there is a place to go on from.
    pub fn has_begun(&self) -> bool {
        self.position.lsn > Lsn(0)
    }

    /// The place to go on from, once the first row of the snapshot, or all that there is to read, is in Kafka.
    pub fn begun(&self) -> Position {
        match self.consistent_point {
            Some(point) if !self.has_begun() => Position::new(self.position.epoch, point, 0),
            _ => self.position,
        }
    }

    /// How far the snapshot of `table` has come.
    pub fn table(&self, table: &str) -> SnapshotState {
        self.tables
            .iter()
            .find(|progress| progress.table == table)
            .map(|progress| progress.state.clone())
            .unwrap_or_default()
    }

    /// Notes how far the snapshot of `table` has come.
    pub fn set_table(&mut self, table: &str, state: SnapshotState) {
        match self.tables.iter_mut().find(|progress| progress.table == table) {
            Some(progress) => progress.state = state,
            None => self.tables.push(TableProgress {
                table: table.to_owned(),
                state,
            }),
        }
    }
}

/// The records on `<source>.syncline.marks`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MarkRecord {
    /// A mark that stands in the log without a row change; keyed by the entity id it names.
    Placed(PlacedMark),
    /// All rows that the table had at the start are in Kafka.
    Loaded {
        /// `schema.table`.
        table: String,
        /// Position of the last of them, or of the consistent point if there was none.
        position: Position,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_was_never_mentioned_has_not_started() {
        let mut progress = Progress {
            position: Position::default(),
            system_identifier: String::new(),
            timeline: 1,
            slot: String::new(),
            publication_hash: String::new(),
            consistent_point: None,
            tables: Vec::new(),
            given_up: None,
            agenda: None,
        };
        assert_eq!(progress.table("public.a"), SnapshotState::NotStarted);
        progress.set_table("public.a", SnapshotState::Done);
        progress.set_table("public.a", SnapshotState::Done);
        assert_eq!(
            (progress.table("public.a"), progress.tables.len()),
            (SnapshotState::Done, 1)
        );
    }
}
