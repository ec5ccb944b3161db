//! How far capture has come: what it writes to Kafka in the same transaction as the rows, and reads back at the start.
//!
//! Only a record that was read back from Kafka (read_committed) says where to continue; the slot is told later and may be
//! behind. A slot that is *ahead* of this record has skipped changes, and only this record can tell.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::mark::PlacedMark;
use crate::position::{Lsn, Position};

/// Up to where a slot has been captured: the record on `<source>.syncline.progress`, keyed by slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Up to where everything is in Kafka: the place to go on from.
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
    /// What is in Kafka beyond the position, while some tables wait.
    pub ahead: Option<Ahead>,
}

/// Tables that wait are behind the others, each at its own place; the least of these is the position of [`Progress`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ahead {
    /// Up to where all other tables, and whatever is of no table, are in Kafka.
    pub position: Position,
    /// Of each table that waits (`schema.table`): up to where it is.
    pub behind: BTreeMap<String, Position>,
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

    /// The furthest position that is in Kafka, of whatever table.
    pub fn reached(&self) -> Position {
        self.ahead
            .as_ref()
            .map_or(self.position, |ahead| self.position.max(ahead.position))
    }

    /// Notes that all is in Kafka up to `reached`, but for the tables `behind`.
    pub fn reach(&mut self, reached: Position, behind: BTreeMap<String, Position>) {
        self.position = behind.values().copied().min().unwrap_or(reached);
        self.ahead = (!behind.is_empty()).then_some(Ahead {
            position: reached,
            behind,
        });
    }

    /// Raises the epoch of all positions to at least this one.
    pub fn raise_epoch(&mut self, epoch: u64) {
        let raise = |position: &mut Position| position.epoch = position.epoch.max(epoch);
        raise(&mut self.position);
        if let Some(ahead) = &mut self.ahead {
            raise(&mut ahead.position);
            ahead.behind.values_mut().for_each(raise);
        }
    }

    /// What the server may forget: its log before that byte. While a table waits that is before the commit in which it
    /// stands, because that one is read again.
    pub fn confirmable(&self) -> Lsn {
        match self.ahead {
            Some(_) => Lsn(self.position.lsn.0.saturating_sub(1)),
            None => self.position.lsn,
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

    fn progress() -> Progress {
        Progress {
            position: Position::default(),
            system_identifier: String::new(),
            timeline: 1,
            slot: String::new(),
            publication_hash: String::new(),
            consistent_point: None,
            tables: Vec::new(),
            given_up: None,
            agenda: None,
            ahead: None,
        }
    }

    #[test]
    fn a_table_that_was_never_mentioned_has_not_started() {
        let mut progress = progress();
        assert_eq!(progress.table("public.a"), SnapshotState::NotStarted);
        progress.set_table("public.a", SnapshotState::Done);
        progress.set_table("public.a", SnapshotState::Done);
        assert_eq!(
            (progress.table("public.a"), progress.tables.len()),
            (SnapshotState::Done, 1)
        );
    }

    #[test]
    fn the_table_furthest_behind_is_where_to_go_on() {
        let at = |lsn| Position::new(1, Lsn(lsn), 0);
        let mut progress = progress();
        progress.reach(
            at(900),
            BTreeMap::from([("public.a".to_owned(), at(500)), ("public.b".to_owned(), at(300))]),
        );
        assert_eq!(
            (progress.position, progress.reached(), progress.confirmable()),
            (at(300), at(900), Lsn(299))
        );
        progress.raise_epoch(2);
        let epochs = [progress.position, progress.reached()].map(|position| position.epoch);
        assert_eq!(epochs, [2, 2]);
        progress.reach(at(950), BTreeMap::new());
        assert_eq!(
            (progress.position, progress.confirmable(), progress.ahead),
            (at(950), Lsn(950), None)
        );
    }
}
