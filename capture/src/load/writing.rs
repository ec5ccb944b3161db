//! The writing side of a snapshot: pieces of chunks become records, and whole chunks become durable with the progress that speaks of
//! them.
//!
//! **A batch** is at most one chunk of each reader, begun before the first of them was at its end. Their rows come as they are read, in
//! turns; when all are at their end the batch is committed, and what the readers have read on meanwhile, a few pieces, waits for the
//! next. So progress has whole chunks only, all connections read at the same time, and nobody keeps a chunk in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use syncline_runtime::{Failure, Outcome, Shutdown};
use syncline_schemas::position::Lsn;
use syncline_schemas::progress::{Progress, SnapshotState};

use super::division::Parts;
use super::readers::{Arrival, Piece, Readers};
use super::rows::{Reading, Row, Sender, position};
use super::{Pending, loaded};
use crate::assemble::Assembler;
use crate::config::SourceConfig;
use crate::known::Known;
use crate::metrics;
use crate::notify::{self, Notification};
use crate::outlet::Outlet;
use crate::poison::{self, TABLE_STOPPED};
use crate::postgres::snapshot::{ChunkEnd, SnapshotRow};
use crate::shapes::Shapes;

/// A batch of more bytes takes in no further chunk: it has to be through before Kafka's patience with a transaction ends.
const BATCH_BYTES_MAX: u64 = 16 << 20;

/// The writing side.
pub struct Writing<'a> {
    /// The source.
    pub config: &'a SourceConfig,
    /// What rows have for their transaction.
    pub xid: Option<u32>,
    /// Where rows stand in the log.
    pub lsn: Lsn,
    /// Whether tables come one after the other, in their order.
    pub in_turn: bool,
    /// Where to.
    pub outlet: &'a mut Outlet,
    /// How far.
    pub progress: &'a mut Progress,
    /// What is known of the tables.
    pub known: &'a mut Known,
    /// To be asked while something is waited for.
    pub shutdown: &'a Shutdown,
    /// Makes records of rows.
    pub assembler: Assembler,
    /// What is read.
    pub tables: &'a [Pending<'a>],
    /// Of each table, whether it is stopped.
    pub stopped: Vec<Arc<AtomicBool>>,
    /// Of each table, once it has begun.
    pub readings: Vec<Option<Reading>>,
    /// Of each table, what was left of it, until its reading begins.
    pub divided: Vec<Option<Parts>>,
    /// The chunks of the batch that are not at their end.
    pub open: Vec<Open>,
    /// The readers whose chunk of the batch is.
    pub ended: Vec<usize>,
    /// Tables that are at their end with this batch.
    pub finished: Vec<usize>,
    /// Tables that are not at their end.
    pub left: usize,
    /// Rows of all of them.
    pub rows: u64,
    /// The tables that are read.
    pub names: Vec<String>,
    /// The same with the one that is not.
    pub all_names: Vec<String>,
}

/// A chunk of the batch.
pub struct Open {
    reader: usize,
    /// Held back: only the end of the chunk says whether it is the table's last.
    held: Option<SnapshotRow>,
}

impl Writing<'_> {
    /// Writes all that is read; false if a wish to stop came between.
    pub fn run(mut self, mut readers: Readers, shapes: &mut Shapes<'_>) -> Outcome<bool> {
        let total: u64 = self.tables.iter().filter_map(|table| table.info.rows_estimate).sum();
        let mut bar = syncline_runtime::Progress::new(format!("snapshot of {}", self.config.name), total);
        notify::tell(self.config, self.outlet, shapes, Notification::initial("STARTED"))?;
        if self.outlet.is_open() {
            // The first rows may be long in coming.
            self.outlet.commit(self.progress)?;
        }
        while self.left > 0 {
            let arrived = readers.next(|reader| self.takes(reader), self.shutdown)?;
            let Some(arrival) = arrived else { return Ok(false) };
            self.take(arrival, shapes)?;
            bar.set(self.rows);
            metrics::snapshot(&self.config.name, self.rows, total);
        }
        metrics::snapshot(&self.config.name, 1, 1);
        notify::tell(self.config, self.outlet, shapes, Notification::initial("COMPLETED"))?;
        self.commit()?;
        bar.finish();
        Ok(true)
    }

    /// Whether what comes of this reader is of the batch: of a chunk that is open, or the first of one while none is at its end
    /// and the batch is not large already.
    fn takes(&self, reader: usize) -> bool {
        let is_small = self.outlet.load().bytes < BATCH_BYTES_MAX;
        let may_open = self.ended.is_empty() && (self.open.is_empty() || is_small);
        may_open || self.open.iter().any(|open| open.reader == reader)
    }

    /// Takes a piece in.
    fn take(&mut self, arrival: Arrival, shapes: &mut Shapes<'_>) -> Outcome<()> {
        let Arrival {
            reader,
            index,
            part,
            piece,
        } = arrival;
        let piece = piece?;
        let place = self.open.iter().position(|open| open.reader == reader);
        let mut open = match place {
            Some(place) => self.open.swap_remove(place),
            None => Open { reader, held: None },
        };
        let is_end = matches!(piece, Piece::End(_));
        if !self.stopped[index].load(Ordering::Relaxed) {
            match self.write(&mut open, index, part, piece, shapes) {
                Err(failure) if failure.code == TABLE_STOPPED => self.stop(index, &failure.message),
                written => written?,
            }
        }
        match is_end {
            true => self.ended.push(reader),
            false => self.open.push(open),
        }
        if self.open.is_empty() {
            self.commit()?;
        }
        Ok(())
    }

    fn write(
        &mut self,
        open: &mut Open,
        index: usize,
        part: usize,
        piece: Piece,
        shapes: &mut Shapes<'_>,
    ) -> Outcome<()> {
        let mut reading = match self.readings[index].take() {
            Some(reading) => reading,
            None => self.begin(index, shapes)?,
        };
        let written = match piece {
            Piece::Rows(rows) => rows.into_iter().try_for_each(|row| match open.held.replace(row) {
                Some(row) => self.send(&mut reading, &row, None),
                None => Ok(()),
            }),
            Piece::End(end) => self.end_of_chunk(&mut reading, open, index, part, &end, shapes),
        };
        self.readings[index] = Some(reading);
        written
    }

    fn send(&mut self, reading: &mut Reading, row: &SnapshotRow, last: Option<bool>) -> Outcome<()> {
        let row = Row {
            cells: row,
            epoch: self.progress.position.epoch,
            lsn: self.lsn,
            is_first: if self.in_turn { reading.is_first } else { self.rows == 0 },
            last,
        };
        self.rows += 1;
        Sender {
            assembler: &mut self.assembler,
            outlet: self.outlet,
            config: self.config,
        }
        .send(reading, &row)
    }

    /// No more of the table is read, nor will be published. That it counts as read is only because nobody is to go on with
    /// it: with the next start it is read from its beginning.
    fn stop(&mut self, index: usize, why: &str) {
        self.left -= 1;
        self.stopped[index].store(true, Ordering::Relaxed);
        let name = self.tables[index].name();
        self.known.stopped(&name, why);
        self.progress.set_table(&name, SnapshotState::Done);
    }

    /// Makes the batch durable, whose chunks are all at their end.
    fn commit(&mut self) -> Outcome<()> {
        self.progress.position = self.progress.begun();
        self.outlet.send_known(self.known)?;
        self.outlet.commit(self.progress)?;
        self.known.said();
        self.ended.clear();
        for reading in self
            .finished
            .drain(..)
            .filter_map(|index| self.readings[index].as_ref())
        {
            let (table, rows) = (&reading.name, reading.rows);
            tracing::info!(table, rows, "snapshot of the table is in Kafka");
        }
        Ok(())
    }

    fn begin(&mut self, index: usize, shapes: &mut Shapes<'_>) -> Outcome<Reading> {
        let of_the_table = |failure: Failure| match poison::is_of_the_table(&failure) {
            true => Failure::poison(TABLE_STOPPED, failure),
            false => failure,
        };
        let table = &self.tables[index];
        let registered = shapes.described(table.info, &table.columns).map_err(of_the_table)?;
        let name = registered.table.full_name();
        let rows = rows_done(&self.progress.table(&name));
        self.rows += rows;
        let told = Notification::initial("IN_PROGRESS")
            .of(&self.names)
            .with("current_collection_in_progress", &name);
        notify::tell(self.config, self.outlet, shapes, told)?;
        Ok(Reading {
            number: table.number,
            parts: self.divided[index]
                .take()
                .unwrap_or_else(|| Parts::between(Vec::new(), Vec::new())),
            name,
            registered,
            is_first: index == 0,
            rows,
            xid: self.xid,
        })
    }

    fn end_of_chunk(
        &mut self,
        reading: &mut Reading,
        open: &mut Open,
        index: usize,
        part: usize,
        end: &ChunkEnd,
        shapes: &mut Shapes<'_>,
    ) -> Outcome<()> {
        reading.parts.chunk_done(part, end);
        let is_last = reading.parts.is_done();
        if let Some(row) = open.held.take() {
            let last = is_last.then_some(self.left == 1);
            self.send(reading, &row, last)?;
        }
        let table = &self.tables[index];
        if is_last {
            self.left -= 1;
            self.finished.push(index);
            let position = position(self.progress.position.epoch, self.lsn, reading.number, reading.rows);
            self.outlet.send_mark(&loaded(&reading.name, position))?;
            let told = Notification::initial("TABLE_SCAN_COMPLETED")
                .of(&self.all_names)
                .with("scanned_collection", &reading.name)
                .with("total_rows_scanned", reading.rows)
                .with("status", "SUCCEEDED");
            notify::tell(self.config, self.outlet, shapes, told)?;
            if table.whole {
                self.known.filled(&reading.name);
            }
        }
        self.progress.set_table(&reading.name, reading.state()?);
        let (estimate, source) = (table.info.rows_estimate, &self.config.name);
        metrics::table_snapshot(source, &reading.name, reading.rows, estimate, is_last);
        Ok(())
    }
}

/// How many of its rows are in Kafka: the next row's number.
fn rows_done(state: &SnapshotState) -> u64 {
    match state {
        SnapshotState::Started { rows, .. } => *rows,
        SnapshotState::NotStarted | SnapshotState::Done => 0,
    }
}
