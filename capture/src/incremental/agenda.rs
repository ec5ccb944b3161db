//! Pure: what signals have asked for and is not done. Travels with the progress, in the same Kafka transaction as the rows
//! that it speaks of, so that a process that dies goes on with the next chunk.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use syncline_runtime::{Failure, Outcome};
use syncline_schemas::position::Lsn;

use crate::patterns::Patterns;
use crate::postgres::extract::ChunkBound;
use crate::signals::Wish;
use crate::signals::inbox::{Mark, Taken};

/// Tables that may wait at the same time; what is asked for beyond is refused.
const WAITING_MAX: usize = 10_000;
/// Where the ordinals of chunks begin: behind all that a transaction or a snapshot at the same LSN may have.
const ORDINALS_FROM: u64 = 1 << 62;

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Agenda {
    /// Tables to be read beside the stream; the first is being read.
    pub tables: VecDeque<Reading>,
    /// No chunk is read before somebody says so.
    pub paused: bool,
    /// Snapshots for which the stream has to wait.
    pub blocking: VecDeque<Blocking>,
    /// The next offset of the signal topic.
    offset: Option<i64>,
    /// The fingerprint of the signal file taken last.
    file: Option<String>,
    /// Where the last chunk stood, and the ordinal after its last row.
    last: (u64, u64),
}

/// A table to be read in chunks, and how far it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// `schema.table`.
    pub table: String,
    /// The signal that asked for it.
    pub signal: String,
    /// A condition on its rows.
    pub filter: Option<String>,
    /// The column by which to cut, instead of the key.
    pub surrogate: Option<String>,
    /// The columns by which it is cut; empty before the first chunk.
    pub key: Vec<String>,
    /// The key up to which it is done.
    pub after: Option<ChunkBound>,
    /// The greatest key when it was begun: what comes later is in the stream.
    pub up_to: Option<ChunkBound>,
    /// Rows read.
    pub rows: u64,
    /// Why its rows had to be read again when it was begun: what has come since is not done by this run.
    pub fills: Option<String>,
}

/// Tables to be read while the stream waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocking {
    /// Each with what to read instead of it.
    pub tables: Vec<(String, Option<String>)>,
    /// Progress says of them that they are not read.
    pub begun: bool,
}

/// What became of a wish.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Granted {
    /// The tables that will be read.
    pub tables: Vec<String>,
    /// Expressions that match no captured table.
    pub unmatched: Vec<String>,
    /// Nothing, because too much waits already.
    pub too_many: bool,
}

impl Agenda {
    /// As progress has it.
    pub fn read(text: Option<&str>) -> Outcome<Self> {
        let Some(text) = text else { return Ok(Self::default()) };
        serde_json::from_str(text).map_err(|error| broken("what signals asked for").source(error))
    }

    /// For the progress; nothing if there never was a signal.
    pub fn written(&self) -> Outcome<Option<String>> {
        if *self == Self::default() {
            return Ok(None);
        }
        let text = serde_json::to_string(self);
        text.map(Some)
            .map_err(|error| broken("what signals asked for cannot be written down").source(error))
    }

    /// The same where all tables are read anyway: nothing to do, and no signal comes twice.
    pub fn fulfilled(self) -> Self {
        Self {
            tables: VecDeque::new(),
            blocking: VecDeque::new(),
            paused: false,
            ..self
        }
    }

    /// How far the channels have been taken.
    pub fn taken(&self) -> Taken {
        Taken {
            offset: self.offset,
            file: self.file.clone(),
        }
    }

    /// A channel has been taken so far.
    pub fn take(&mut self, mark: &Mark) {
        match mark {
            Mark::Topic(offset) => self.offset = Some(*offset),
            Mark::File(fingerprint) => self.file = Some(fingerprint.clone()),
        }
    }

    /// Whether nothing is left that goes on by itself.
    pub fn is_idle(&self) -> bool {
        self.blocking.is_empty() && (self.paused || self.tables.is_empty())
    }

    /// Notes down what a signal asks for, of the captured tables.
    pub fn grant(&mut self, signal: &str, wish: &Wish, captured: &[String]) -> Granted {
        let mut granted = Granted::default();
        for (text, pattern) in &wish.tables {
            let before = granted.tables.len();
            for table in captured.iter().filter(|table| pattern.matches(table)) {
                if !granted.tables.contains(table) {
                    granted.tables.push(table.clone());
                }
            }
            if granted.tables.len() == before && !granted.tables.iter().any(|table| pattern.matches(table)) {
                granted.unmatched.push(text.clone());
            }
        }
        if self.waiting() + granted.tables.len() > WAITING_MAX {
            (granted.tables, granted.too_many) = (Vec::new(), true);
        }
        match wish.blocking {
            true => self.block(wish, &granted.tables),
            false => granted.tables.iter().for_each(|table| self.append(signal, wish, table)),
        }
        granted
    }

    fn waiting(&self) -> usize {
        let blocking = self.blocking.iter().map(|blocking| blocking.tables.len());
        self.tables.len() + blocking.sum::<usize>()
    }

    fn block(&mut self, wish: &Wish, tables: &[String]) {
        let select = |table: &String| (table.clone(), wish.condition(table).map(str::to_owned));
        let blocking = Blocking {
            tables: tables.iter().map(select).collect(),
            begun: false,
        };
        if !tables.is_empty() && !self.blocking.contains(&blocking) {
            self.blocking.push_back(blocking);
        }
    }

    /// Each signal has a run and an end of its own, also for a table that waits already.
    fn append(&mut self, signal: &str, wish: &Wish, table: &str) {
        self.tables.push_back(Reading {
            table: table.to_owned(),
            signal: signal.to_owned(),
            filter: wish.condition(table).map(str::to_owned),
            surrogate: wish.surrogate.clone(),
            ..Reading::default()
        });
    }

    /// Strikes the tables out; gives those that were on the list.
    pub fn strike(&mut self, tables: Option<&Patterns>) -> Vec<String> {
        let struck = |reading: &Reading| tables.is_none_or(|tables| tables.matches(&reading.table));
        let names = self
            .tables
            .iter()
            .filter(|reading| struck(reading))
            .map(|reading| reading.table.clone());
        let names = names.collect();
        self.tables.retain(|reading| !struck(reading));
        names
    }

    /// The tables on the list.
    pub fn names(&self) -> Vec<String> {
        self.tables.iter().map(|reading| reading.table.clone()).collect()
    }

    /// The ordinals of so many rows at `lsn`, of which no two are ever the same: the first of them.
    pub fn ordinals(&mut self, lsn: Lsn, rows: u64) -> u64 {
        let first = match self.last {
            (at, next) if at == lsn.0 => next,
            _ => ORDINALS_FROM,
        };
        self.last = (lsn.0, first + rows);
        first
    }

    /// The steps before the stream have read what blocking snapshots had begun with.
    pub fn blocked_before_the_stream(&mut self) {
        self.blocking.retain(|blocking| !blocking.begun);
    }

    /// Whether a blocking snapshot has begun with the table.
    pub fn has_begun(&self, table: &str) -> bool {
        self.begun().any(|(name, _)| name == table)
    }

    /// What to read instead of a table that a blocking snapshot has begun with.
    pub fn select(&self, table: &str) -> Option<&str> {
        let (_, select) = self.begun().find(|(name, _)| name == table)?;
        select.as_deref()
    }

    fn begun(&self) -> impl Iterator<Item = &(String, Option<String>)> {
        let begun = self.blocking.iter().filter(|blocking| blocking.begun);
        begun.flat_map(|blocking| &blocking.tables)
    }
}

fn broken(what: &str) -> Failure {
    Failure::definite("PROGRESS_BROKEN", what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(tables: &[&str], blocking: bool) -> Wish {
        Wish {
            blocking,
            tables: tables
                .iter()
                .map(|&text| (text.to_owned(), Patterns::of([text.to_owned()]).unwrap()))
                .collect(),
            conditions: vec![(Patterns::parse("public.b").unwrap(), "x > 1".to_owned())],
            surrogate: None,
        }
    }

    fn captured() -> Vec<String> {
        ["public.a", "public.b", "other.a"].map(str::to_owned).to_vec()
    }

    #[test]
    fn a_wish_is_granted_for_the_captured_tables_that_match() {
        let mut agenda = Agenda::default();
        let granted = agenda.grant("s1", &wish(&["public\\..*", "public.a", "nowhere"], false), &captured());
        assert_eq!(granted.tables, ["public.a", "public.b"]);
        assert_eq!(granted.unmatched, ["nowhere"]);
        let filters: Vec<_> = agenda.tables.iter().map(|reading| reading.filter.as_deref()).collect();
        assert_eq!(filters, [None, Some("x > 1")]);
        agenda.grant("s2", &wish(&["public.b"], false), &captured());
        assert_eq!(agenda.names(), ["public.a", "public.b", "public.b"]);
    }

    #[test]
    fn what_is_not_done_is_read_back_as_it_was_written() {
        let mut agenda = Agenda::default();
        assert_eq!(agenda.written().unwrap(), None);
        agenda.grant("s1", &wish(&["public.a"], false), &captured());
        agenda.grant("s2", &wish(&["public.b"], true), &captured());
        agenda.take(&Mark::Topic(7));
        agenda.tables[0].after = Some(ChunkBound(vec!["7".to_owned()]));
        let text = agenda.written().unwrap();
        assert_eq!(Agenda::read(text.as_deref()).unwrap(), agenda);
        assert!(Agenda::read(Some("{")).is_err() && !agenda.is_idle());
        let done = agenda.fulfilled();
        assert!(done.is_idle() && done.taken().offset == Some(7));
    }

    #[test]
    fn a_paused_run_waits_and_a_struck_table_is_gone() {
        let mut agenda = Agenda::default();
        agenda.grant("s1", &wish(&[".*"], false), &captured());
        agenda.paused = true;
        assert!(agenda.is_idle());
        assert_eq!(agenda.strike(Some(&Patterns::parse("other.*").unwrap())), ["other.a"]);
        assert_eq!(agenda.strike(None), ["public.a", "public.b"]);
    }

    #[test]
    fn no_two_rows_of_chunks_share_a_position() {
        let mut agenda = Agenda::default();
        let first = agenda.ordinals(Lsn(5), 10);
        assert_eq!(agenda.ordinals(Lsn(5), 10), first + 10);
        assert_eq!(agenda.ordinals(Lsn(6), 10), first);
    }

    #[test]
    fn a_blocking_snapshot_that_has_begun_knows_what_to_read() {
        let mut agenda = Agenda::default();
        agenda.grant("s1", &wish(&["public.b"], true), &captured());
        assert_eq!(agenda.select("public.b"), None);
        agenda.blocking[0].begun = true;
        assert_eq!(agenda.select("public.b"), Some("x > 1"));
    }
}
