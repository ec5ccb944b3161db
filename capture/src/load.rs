//! The rows that are there when capture begins: tables in chunks, each chunk one commit with its progress. They are read on
//! several connections and written by one thread ([`readers`]).
//!
//! After a crash the chunks that are committed are not read again; if there is none yet, all begins anew with a new slot. A row's ordinal is the number of its table and its
//! number within it, so that no two rows of a snapshot share a position, in whatever order they come.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use syncline_runtime::{Failure, Outcome, Shutdown, failpoint};
use syncline_schemas::position::{Lsn, Position};
use syncline_schemas::progress::{MarkRecord, Progress, SnapshotState};

use crate::assemble::{AssembleError, Assembler, Rules};
use crate::config::SourceConfig;
use crate::envelope::{Circumstances, Registered};
use crate::form::Fidelity;
use crate::known::Known;
use crate::metrics;
use crate::notify::{self, Notification};
use crate::outlet::Outlet;
use crate::poison::{self, Poison, TABLE_STOPPED};
use crate::postgres::catalog::TableInfo;
use crate::postgres::pgoutput::TupleCell;
use crate::postgres::snapshot::{ChunkBound, ChunkEnd, Snapshot};
use crate::records::MarkEntry;
use crate::shapes::Shapes;
use crate::stage::{clock_ns, misfit};

/// Connections that read, chunks on their way.
mod readers;

use readers::{Chunk, Job, Piece, Readers};

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
    /// Whether all of its rows are read, so that nothing is missing of it afterwards.
    pub whole: bool,
}

impl Pending<'_> {
    fn name(&self) -> String {
        format!("{}.{}", self.info.schema, self.info.table)
    }
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
    /// To be asked while something is waited for.
    pub shutdown: &'a Shutdown,
    /// A table that is captured and never read. Debezium names it with those that are, once one of them is done.
    pub unread: Option<String>,
}

impl Load<'_> {
    /// Reads the tables; false if a wish to stop came between.
    pub fn run(self, tables: &[Pending<'_>], shapes: &mut Shapes<'_>) -> Outcome<bool> {
        let Self {
            config,
            snapshot,
            outlet,
            progress,
            known,
            shutdown,
            unread,
        } = self;
        let jobs: Vec<Job> = tables
            .iter()
            .enumerate()
            .map(|(index, table)| job(index, table, progress))
            .collect::<Outcome<_>>()?;
        let stopped = jobs.iter().map(|job| Arc::clone(&job.unwanted)).collect();
        let threads_max = config.snapshots.threads_max;
        // A row that was read belongs to no transaction; Debezium names the one that reads.
        let xid = match config.form.fidelity {
            Fidelity::Debezium => Some(snapshot.next_xid()?),
            Fidelity::Exact => None,
        };
        let writing = Writing {
            config,
            xid,
            lsn: snapshot.lsn(),
            in_turn: threads_max == 1,
            outlet,
            progress,
            known,
            shutdown,
            stopped,
            readings: tables.iter().map(|_| None).collect(),
            left: tables.len(),
            rows: 0,
            names: sorted(tables.iter().map(Pending::name)),
            all_names: sorted(tables.iter().map(Pending::name).chain(unread)),
        };
        let readers = Readers::start(snapshot, &config.dsn, threads_max, jobs)?;
        writing.run(&readers, tables, shapes)
    }
}

fn job(index: usize, table: &Pending<'_>, progress: &Progress) -> Outcome<Job> {
    let (after, _) = resumed(&table.name(), &progress.table(&table.name()))?;
    Ok(Job {
        index,
        info: table.info.clone(),
        columns: table.columns.clone(),
        select: table.select.map(str::to_owned),
        after,
        unwanted: Arc::default(),
    })
}

fn sorted(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// The key after which to go on, and how many rows are in Kafka.
fn resumed(name: &str, state: &SnapshotState) -> Outcome<(Option<ChunkBound>, u64)> {
    let SnapshotState::Started {
        done_to: Some(key),
        rows,
    } = state
    else {
        return Ok((None, 0));
    };
    let bound = serde_json::from_str(key).map_err(|error| {
        Failure::definite("PROGRESS_BROKEN", format!("{name}: the key that its snapshot came to")).source(error)
    })?;
    tracing::info!(table = name, rows, "snapshot goes on after the last chunk in Kafka");
    Ok((Some(bound), *rows))
}

/// The writing side.
struct Writing<'a> {
    config: &'a SourceConfig,
    /// What rows have for their transaction.
    xid: Option<u32>,
    lsn: Lsn,
    /// Whether tables come one after the other, in their order.
    in_turn: bool,
    outlet: &'a mut Outlet,
    progress: &'a mut Progress,
    known: &'a mut Known,
    shutdown: &'a Shutdown,
    /// Of each table, whether it is stopped.
    stopped: Vec<Arc<AtomicBool>>,
    readings: Vec<Option<Reading>>,
    /// Tables that are not at their end.
    left: usize,
    /// Rows of all of them.
    rows: u64,
    /// The tables that are read.
    names: Vec<String>,
    /// The same with the one that is not.
    all_names: Vec<String>,
}

impl Writing<'_> {
    fn run(mut self, readers: &Readers, tables: &[Pending<'_>], shapes: &mut Shapes<'_>) -> Outcome<bool> {
        let total: u64 = tables.iter().filter_map(|table| table.info.rows_estimate).sum();
        let mut bar = syncline_runtime::Progress::new(format!("snapshot of {}", self.config.name), total);
        notify::tell(self.config, self.outlet, shapes, Notification::initial("STARTED"))?;
        if self.outlet.is_open() {
            // The first rows may be long in coming.
            self.outlet.commit(self.progress)?;
        }
        while self.left > 0 {
            let Some(chunk) = readers.next(self.shutdown)? else {
                return Ok(false);
            };
            let table = &tables[chunk.index];
            let goes_on = match self.take(table, &chunk, shapes) {
                Err(failure) if failure.code == TABLE_STOPPED => self.stop(table, &chunk, &failure.message)?,
                taken => taken?,
            };
            if !goes_on {
                return Ok(false);
            }
            bar.set(self.rows);
            metrics::snapshot(&self.config.name, self.rows, total);
        }
        metrics::snapshot(&self.config.name, 1, 1);
        notify::tell(self.config, self.outlet, shapes, Notification::initial("COMPLETED"))?;
        self.outlet.commit(self.progress)?;
        bar.finish();
        Ok(true)
    }

    /// Takes a chunk in; false if there is a wish to stop.
    fn take(&mut self, table: &Pending<'_>, chunk: &Chunk, shapes: &mut Shapes<'_>) -> Outcome<bool> {
        if self.stopped[chunk.index].load(Ordering::Relaxed) {
            return Ok(chunk.drain(self.shutdown));
        }
        let mut reading = match self.readings[chunk.index].take() {
            Some(reading) => reading,
            None => self.begin(table, chunk.index, shapes)?,
        };
        let Some(end) = self.chunk(&mut reading, chunk)? else {
            return Ok(false);
        };
        self.end_of_chunk(&reading, &end, shapes)?;
        self.readings[chunk.index] = Some(reading);
        Ok(true)
    }

    /// No more of the table is read, nor will be published. That it counts as read is only because nobody is to go on with
    /// it: with the next start it is read from its beginning.
    fn stop(&mut self, table: &Pending<'_>, chunk: &Chunk, why: &str) -> Outcome<bool> {
        self.left -= 1;
        self.stopped[chunk.index].store(true, Ordering::Relaxed);
        self.known.stopped(&table.name(), why);
        self.progress.set_table(&table.name(), SnapshotState::Done);
        self.commit()?;
        Ok(chunk.drain(self.shutdown))
    }

    fn commit(&mut self) -> Outcome<()> {
        self.outlet.send_known(self.known)?;
        self.outlet.commit(self.progress)?;
        self.known.said();
        Ok(())
    }

    fn begin(&mut self, table: &Pending<'_>, index: usize, shapes: &mut Shapes<'_>) -> Outcome<Reading> {
        let of_the_table = |failure: Failure| match poison::is_of_the_table(&failure) {
            true => Failure::poison(TABLE_STOPPED, failure),
            false => failure,
        };
        let registered = shapes.described(table.info, &table.columns).map_err(of_the_table)?;
        let name = registered.table.full_name();
        let (_, rows) = resumed(&name, &self.progress.table(&name))?;
        let is_first = if self.in_turn { index == 0 } else { self.rows == 0 };
        self.rows += rows;
        let told = Notification::initial("IN_PROGRESS")
            .of(&self.names)
            .with("current_collection_in_progress", &name);
        notify::tell(self.config, self.outlet, shapes, told)?;
        Ok(Reading {
            number: table.number,
            whole: table.whole,
            rows_estimate: table.info.rows_estimate,
            name,
            registered,
            is_first,
            rows,
            xid: self.xid,
        })
    }

    /// Sends the rows of one chunk. One row is held back: only the end of the chunk says whether it is the table's last.
    /// None if there is a wish to stop.
    fn chunk(&mut self, reading: &mut Reading, chunk: &Chunk) -> Outcome<Option<ChunkEnd>> {
        let mut held: Option<Vec<TupleCell>> = None;
        let mut sender = Sender {
            assembler: Assembler::new(Position::default(), Rules::default()),
            outlet: self.outlet,
            config: self.config,
        };
        let (epoch, lsn, before) = (self.progress.position.epoch, self.lsn, reading.rows);
        let end = loop {
            match chunk.next(self.shutdown)? {
                None => return Ok(None),
                Some(Piece::End(end)) => break end,
                Some(Piece::Rows(rows)) => {
                    for row in rows {
                        if let Some(row) = held.replace(row) {
                            sender.row(reading, &row, epoch, lsn, None)?;
                        }
                    }
                }
            }
        };
        if let Some(row) = held {
            let last = (end == ChunkEnd::Last).then_some(self.left == 1);
            sender.row(reading, &row, epoch, lsn, last)?;
        }
        self.rows += reading.rows - before;
        Ok(Some(end))
    }

    fn end_of_chunk(&mut self, reading: &Reading, end: &ChunkEnd, shapes: &mut Shapes<'_>) -> Outcome<()> {
        if *end == ChunkEnd::Last {
            self.left -= 1;
            let position = position(self.progress.position.epoch, self.lsn, reading.number, reading.rows);
            self.outlet.send_mark(&loaded(&reading.name, position))?;
            let told = Notification::initial("TABLE_SCAN_COMPLETED")
                .of(&self.all_names)
                .with("scanned_collection", &reading.name)
                .with("total_rows_scanned", reading.rows)
                .with("status", "SUCCEEDED");
            notify::tell(self.config, self.outlet, shapes, told)?;
            if reading.whole {
                self.known.filled(&reading.name);
            }
        }
        self.progress.set_table(&reading.name, reading.state(end)?);
        self.progress.position = self.progress.begun();
        self.commit()?;
        let is_last = *end == ChunkEnd::Last;
        metrics::table_snapshot(
            &self.config.name,
            &reading.name,
            reading.rows,
            reading.rows_estimate,
            is_last,
        );
        if is_last {
            tracing::info!(
                table = reading.name,
                rows = reading.rows,
                "snapshot of the table is in Kafka"
            );
        }
        Ok(())
    }
}

fn position(epoch: u64, lsn: Lsn, table: usize, row: u64) -> Position {
    Position::new(epoch, lsn, (table as u64) << ROW_BITS | row)
}

/// One table being read.
struct Reading {
    number: usize,
    whole: bool,
    rows_estimate: Option<u64>,
    name: String,
    registered: Arc<Registered>,
    is_first: bool,
    rows: u64,
    /// What its rows have for their transaction.
    xid: Option<u32>,
}

impl Reading {
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

    /// Debezium's word for where in the snapshot a row stands; of a table's last row, whether it is the last of all.
    fn label(&self, last: Option<bool>) -> &'static str {
        match last {
            Some(true) => "last",
            _ if self.rows == 0 && self.is_first => "first",
            Some(false) => "last_in_data_collection",
            None if self.rows == 0 => "first_in_data_collection",
            None => "true",
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
    fn row(
        &mut self,
        reading: &mut Reading,
        row: &[TupleCell],
        epoch: u64,
        lsn: Lsn,
        last: Option<bool>,
    ) -> Outcome<()> {
        let at = position(epoch, lsn, reading.number, reading.rows);
        let now_ns = clock_ns();
        let circumstances = Circumstances {
            op: 'r',
            snapshot: reading.label(last),
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
            .snapshot_row(&reading.registered, row, at, &circumstances);
        reading.rows += 1;
        if let Some(why) = self.unwritable(&written, row) {
            return Poison::of_snapshot(why, at, row, &reading.registered).judge(self.config, self.outlet);
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
