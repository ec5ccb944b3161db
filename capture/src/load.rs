//! The rows that are there when capture begins: tables in turn, each in chunks, each chunk one commit with its progress.
//!
//! After a crash the chunks that are committed are not read again. A row's ordinal is the number of its table and its
//! number within it, so that no two rows of a snapshot share a position.

use std::sync::Arc;

use syncline_runtime::{Failure, Outcome, Shutdown, failpoint};
use syncline_schemas::position::Position;
use syncline_schemas::progress::{MarkRecord, Progress, SnapshotState};

use crate::assemble::{AssembleError, Assembler, Rules};
use crate::config::SourceConfig;
use crate::envelope::{Circumstances, Registered};
use crate::known::Known;
use crate::metrics;
use crate::outlet::Outlet;
use crate::poison::{self, Poison, TABLE_STOPPED};
use crate::postgres::catalog::TableInfo;
use crate::postgres::pgoutput::TupleCell;
use crate::postgres::snapshot::{ChunkBound, ChunkEnd, Extract, Snapshot};
use crate::records::MarkEntry;
use crate::shapes::Shapes;
use crate::stage::{clock_ns, misfit};

/// Rows of a chunk: what is read again after a crash, and the size of a transaction.
const CHUNK_ROWS_MAX: u64 = 20_000;
/// Bits of an ordinal that number the rows of one table.
const ROW_BITS: u32 = 40;

/// A table to be read, with the columns that are published.
pub struct Pending<'a> {
    /// What the catalogue says of it.
    pub info: &'a TableInfo,
    /// The columns published.
    pub columns: Vec<String>,
    /// What to read instead of it.
    pub select: Option<&'a str>,
    /// Its number among the tables of the source.
    pub number: usize,
}

/// The run through the tables.
pub struct Load<'a> {
    /// The source.
    pub config: &'a SourceConfig,
    /// The snapshot read from.
    pub snapshot: Snapshot,
    /// Where to.
    pub outlet: &'a mut Outlet,
    /// How far.
    pub progress: &'a mut Progress,
    /// What is known of the tables.
    pub known: &'a mut Known,
    /// To be asked between chunks.
    pub shutdown: &'a Shutdown,
}

impl Load<'_> {
    /// Reads the tables; false if a wish to stop came between.
    pub fn run(mut self, tables: &[Pending<'_>], shapes: &mut Shapes<'_>) -> Outcome<bool> {
        let total: u64 = tables.iter().filter_map(|table| table.info.rows_estimate).sum();
        let mut bar = syncline_runtime::Progress::new(format!("snapshot of {}", self.config.name), total);
        let mut before = 0;
        let config = self.config;
        for (index, table) in tables.iter().enumerate() {
            let registered = match shapes.described(table.info, &table.columns) {
                Err(failure) if poison::is_of_the_table(&failure) => {
                    self.stop_table(&full_name(table.info), &failure.to_string())?;
                    continue;
                }
                registered => registered?,
            };
            let place = (index == 0, index + 1 == tables.len());
            let mut reading = Reading::new(table, registered, place);
            let read = self.table(&mut reading, &mut |rows| {
                bar.set(before + rows);
                metrics::snapshot(&config.name, before + rows, total);
            });
            match read {
                Err(failure) if failure.code == TABLE_STOPPED => self.stop_table(&reading.name, &failure.message)?,
                Ok(false) => return Ok(false),
                read => _ = read?,
            }
            before += reading.rows;
        }
        metrics::snapshot(&config.name, 1, 1);
        bar.finish();
        Ok(true)
    }

    /// No more of the table is read, nor will be published. That it counts as read is only because nobody is to go on with
    /// it: with the next start it is read from its beginning.
    fn stop_table(&mut self, name: &str, why: &str) -> Outcome<()> {
        self.known.stopped(name, why);
        self.progress.set_table(name, SnapshotState::Done);
        self.outlet.send_known(self.known)?;
        self.outlet.commit(self.progress)?;
        self.known.said();
        Ok(())
    }

    fn table(&mut self, reading: &mut Reading<'_>, report: &mut dyn FnMut(u64)) -> Outcome<bool> {
        let mut after = reading.resume(&self.progress.table(&reading.name))?;
        loop {
            if self.shutdown.requested() {
                return Ok(false);
            }
            let end = self.chunk(reading, after.as_ref())?;
            let state = reading.state(&end)?;
            if end == ChunkEnd::Last {
                self.outlet
                    .send_mark(&loaded(&reading.name, self.position(reading, reading.rows)))?;
                self.known.filled(&reading.name);
                self.outlet.send_known(self.known)?;
            }
            self.progress.set_table(&reading.name, state);
            self.outlet.commit(self.progress)?;
            self.known.said();
            report(reading.rows);
            let of_about = reading.info.rows_estimate;
            metrics::table_snapshot(
                &self.config.name,
                &reading.name,
                reading.rows,
                of_about,
                end == ChunkEnd::Last,
            );
            match end {
                ChunkEnd::More(bound) => after = Some(bound),
                ChunkEnd::Last => {
                    tracing::info!(
                        table = reading.name,
                        rows = reading.rows,
                        "snapshot of the table is in Kafka"
                    );
                    return Ok(true);
                }
            }
        }
    }

    /// Sends the rows of one chunk. One row is held back: only the end of the chunk says whether it is the table's last.
    fn chunk(&mut self, reading: &mut Reading<'_>, after: Option<&ChunkBound>) -> Outcome<ChunkEnd> {
        let columns: Vec<&str> = reading.columns.iter().map(String::as_str).collect();
        let extract = Extract {
            select: reading.select,
            ..Extract::all(reading.info, &columns)
        };
        let Self {
            snapshot,
            outlet,
            progress,
            config,
            ..
        } = self;
        let at = |number| position(progress.position.epoch, snapshot, reading.number, number);
        let assembler = Assembler::new(Position::default(), Rules::default());
        let mut sender = Sender {
            assembler,
            outlet,
            config,
        };
        let mut chunk = snapshot.extract(&extract, after, CHUNK_ROWS_MAX)?;
        let mut held: Option<Vec<TupleCell>> = None;
        while let Some(rows) = chunk.next_rows()? {
            for row in rows {
                if let Some(row) = held.replace(row) {
                    sender.row(&reading.registered, &row, at(reading.rows), reading.label(false))?;
                    reading.rows += 1;
                }
            }
        }
        let end = chunk.end()?;
        if let Some(row) = held {
            sender.row(
                &reading.registered,
                &row,
                at(reading.rows),
                reading.label(end == ChunkEnd::Last),
            )?;
            reading.rows += 1;
        }
        Ok(end)
    }

    fn position(&self, reading: &Reading<'_>, number: u64) -> Position {
        position(self.progress.position.epoch, &self.snapshot, reading.number, number)
    }
}

fn full_name(table: &TableInfo) -> String {
    format!("{}.{}", table.schema, table.table)
}

fn position(epoch: u64, snapshot: &Snapshot, table: usize, row: u64) -> Position {
    Position::new(epoch, snapshot.lsn(), (table as u64) << ROW_BITS | row)
}

/// One table being read.
struct Reading<'a> {
    info: &'a TableInfo,
    columns: &'a [String],
    select: Option<&'a str>,
    number: usize,
    name: String,
    registered: Arc<Registered>,
    first_table: bool,
    last_table: bool,
    rows: u64,
}

impl<'a> Reading<'a> {
    fn new(table: &'a Pending<'a>, registered: Arc<Registered>, (first_table, last_table): (bool, bool)) -> Self {
        let name = registered.table.full_name();
        let (info, columns, number) = (table.info, &table.columns, table.number);
        Self {
            info,
            columns,
            select: table.select,
            number,
            name,
            registered,
            first_table,
            last_table,
            rows: 0,
        }
    }

    /// The key after which to go on.
    fn resume(&mut self, state: &SnapshotState) -> Outcome<Option<ChunkBound>> {
        let SnapshotState::Started {
            done_to: Some(key),
            rows,
        } = state
        else {
            return Ok(None);
        };
        self.rows = *rows;
        let bound = serde_json::from_str(key).map_err(|error| {
            Failure::definite(
                "PROGRESS_BROKEN",
                format!("{}: the key that its snapshot came to", self.name),
            )
            .source(error)
        })?;
        tracing::info!(
            table = self.name,
            rows = self.rows,
            "snapshot goes on after the last chunk in Kafka"
        );
        Ok(Some(bound))
    }

    fn state(&self, end: &ChunkEnd) -> Outcome<SnapshotState> {
        Ok(match end {
            ChunkEnd::Last => SnapshotState::Done,
            ChunkEnd::More(bound) => {
                let key = serde_json::to_string(bound).map_err(|error| {
                    Failure::definite("PROGRESS_BROKEN", "a key that cannot be written down").source(error)
                })?;
                SnapshotState::Started {
                    done_to: Some(key),
                    rows: self.rows,
                }
            }
        })
    }

    /// Debezium's word for where in the snapshot a row stands.
    fn label(&self, last: bool) -> &'static str {
        match (last, self.rows) {
            (true, _) if self.last_table => "last",
            (true, _) => "last_in_data_collection",
            (false, 0) if self.first_table => "first",
            (false, 0) => "first_in_data_collection",
            (false, _) => "true",
        }
    }
}

/// All rows that the table had are in Kafka, up to `position`.
pub fn loaded(table: &str, position: Position) -> MarkEntry {
    let record = MarkRecord::Loaded {
        table: table.to_owned(),
        position,
    };
    MarkEntry {
        key: table.to_owned(),
        record,
    }
}

struct Sender<'a> {
    assembler: Assembler,
    outlet: &'a mut Outlet,
    config: &'a SourceConfig,
}

impl Sender<'_> {
    fn row(&mut self, table: &Arc<Registered>, row: &[TupleCell], at: Position, label: &str) -> Outcome<()> {
        let now_ns = clock_ns();
        let circumstances = Circumstances {
            op: 'r',
            snapshot: label,
            commit_us: now_ns / 1000,
            lsn: at.lsn.0,
            last_commit_lsn: None,
            xid: None,
            origin: None,
            transaction: None,
            now_ns,
        };
        let written = self.assembler.snapshot_row(table, row, at, &circumstances);
        if let Some(why) = self.unwritable(&written, row) {
            return Poison::of_snapshot(why, at, row, table).judge(self.config, self.outlet);
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
