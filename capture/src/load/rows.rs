//! A row of a snapshot as a record, with its position and Debezium's word for where in the snapshot it stands.

use std::sync::Arc;

use syncline_runtime::{Failure, Outcome, failpoint};
use syncline_schemas::position::{Lsn, Position};
use syncline_schemas::progress::SnapshotState;

use super::division::Parts;
use crate::assemble::{AssembleError, Assembler};
use crate::config::SourceConfig;
use crate::envelope::{Circumstances, Registered};
use crate::metrics;
use crate::outlet::Outlet;
use crate::poison::Poison;
use crate::postgres::pgoutput::TupleCell;
use crate::stage::{clock_ns, misfit};

/// Bits of an ordinal that number the rows of one table.
const ROW_BITS: u32 = 40;

/// The position of a row: the number of its table, and its number there.
pub fn position(epoch: u64, lsn: Lsn, table: usize, row: u64) -> Position {
    Position::new(epoch, lsn, (table as u64) << ROW_BITS | row)
}

/// One table being read.
pub struct Reading {
    /// Its number among the tables of the source.
    pub number: usize,
    /// What is left of it.
    pub parts: Parts,
    /// `schema.table`.
    pub name: String,
    /// Its plan.
    pub registered: Arc<Registered>,
    /// Whether it is the first of all.
    pub is_first: bool,
    /// How many of its rows are sent.
    pub rows: u64,
    /// What its rows have for their transaction.
    pub xid: Option<u32>,
}

impl Reading {
    /// How far it is, for progress.
    pub fn state(&self) -> Outcome<SnapshotState> {
        if self.parts.is_done() {
            return Ok(SnapshotState::Done);
        }
        let done_to = self
            .parts
            .written()
            .map_err(|error| Failure::definite("PROGRESS_BROKEN", "a key that cannot be written down").source(error))?;
        Ok(SnapshotState::Started {
            done_to: Some(done_to),
            rows: self.rows,
        })
    }

    /// Debezium's word for where in the snapshot a row stands.
    fn label(&self, row: &Row<'_>) -> &'static str {
        match row.last {
            Some(true) => "last",
            _ if self.rows == 0 && row.is_first => "first",
            Some(false) => "last_in_data_collection",
            None if self.rows == 0 => "first_in_data_collection",
            None => "true",
        }
    }
}

/// A row to be sent.
pub struct Row<'a> {
    /// Its cells.
    pub cells: &'a [TupleCell],
    /// The epoch of its position.
    pub epoch: u64,
    /// The LSN of its position.
    pub lsn: Lsn,
    /// Whether there was none before it, of any table, if it is its table's first.
    pub is_first: bool,
    /// Of a table's last row, whether it is the last of all.
    pub last: Option<bool>,
}

/// Sends rows.
pub struct Sender<'a> {
    /// Makes records of them.
    pub assembler: &'a mut Assembler,
    /// Where to.
    pub outlet: &'a mut Outlet,
    /// The source.
    pub config: &'a SourceConfig,
}

impl Sender<'_> {
    /// Sends one, or does with it what `on_poison` says.
    pub fn send(&mut self, reading: &mut Reading, row: &Row<'_>) -> Outcome<()> {
        let at = position(row.epoch, row.lsn, reading.number, reading.rows);
        let now_ns = clock_ns();
        let circumstances = Circumstances {
            op: 'r',
            snapshot: reading.label(row),
            commit_us: now_ns / 1000,
            lsn: at.lsn.0,
            tells_lsn: true,
            last_commit_lsn: None,
            xid: reading.xid,
            origin: None,
            transaction: None,
            now_ns,
        };
        let written = self
            .assembler
            .snapshot_row(&reading.registered, row.cells, at, &circumstances);
        reading.rows += 1;
        if let Some(why) = self.unwritable(&written, row.cells) {
            return Poison::of_snapshot(why, at, row.cells, &reading.registered).judge(self.config, self.outlet);
        }
        written.map_err(|error| misfit(&error))?;
        self.outlet.send(self.assembler.records())?;
        metrics::row(&self.config.name);
        failpoint::check("capture.in_snapshot_chunk")
    }

    /// Code and reason, if the row cannot be written.
    fn unwritable(&self, written: &Result<(), AssembleError>, row: &[TupleCell]) -> Option<(&'static str, String)> {
        let bytes: u64 = row.iter().map(|cell| cell.len() as u64).sum();
        if self.config.care.row_bytes_max.is_some_and(|max| bytes > max) {
            return Some((
                "ROW_TOO_LARGE",
                format!("a row has {bytes} bytes, more than max_row_bytes"),
            ));
        }
        if let Err(error @ AssembleError::Misfit { .. }) = written {
            return Some(("UNENCODABLE_ROW", error.to_string()));
        }
        let record = self.outlet.too_large(self.assembler.records())?;
        Some(("RECORD_TOO_LARGE", record.to_string()))
    }
}
