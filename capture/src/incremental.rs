//! Tables read in chunks beside the stream, as Debezium's incremental snapshots. `window` has the law by which a chunk row never
//! overwrites a later change, `agenda` what is to be read and how far it is.
//!
//! **The position of a chunk row.** The law says that a row that is left stood so at `high`, the end of the log when its chunk had
//! been read. So its position is (epoch, `high`, ordinal): no commit lies at `high` itself, because a row of the log has the byte
//! after the start of its commit record, and no record starts one byte before another ends. Every change up to `high` is smaller and
//! every later one greater, whoever orders by positions; and it is written only when the log has been read up to there, so that
//! whoever takes records as they come has the same. Ordinals begin behind those of a snapshot, and go on where two
//! chunks have the same `high`, so that a row that was read again later is never the smaller one.
//!
//! Nothing here can stop the stream: what fails for a while is tried again, what cannot succeed is told and passed over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use syncline_runtime::{Class, Failure, Outcome, failpoint};
use syncline_schemas::position::{Lsn, Position};

use crate::assemble::{AssembleError, Assembler};
use crate::config::SourceConfig;
use crate::envelope::{Circumstances, Registered};
use crate::known::Known;
use crate::metrics;
use crate::notify::{self, Notification};
use crate::outlet::Outlet;
use crate::postgres::catalog::{self, TableInfo};
use crate::postgres::pgoutput::Message;
use crate::postgres::quote::TableName;
use crate::postgres::snapshot::SnapshotRow;
use crate::postgres::watermark::{self, Answer, ChunkReader, Markers, Wanted};
use crate::shapes::Shapes;
use crate::snapshots::Watermarks;
use crate::stage::clock_ns;

/// What signals have asked for and is not done.
pub mod agenda;

/// One chunk and what the log says of its table.
mod chunk;

/// The thread that reads chunks.
mod reader;

/// The rows of one chunk while the log catches up.
pub mod window;

use agenda::{Agenda, Reading};
use chunk::Chunk;
use reader::Reader;
use window::State;

/// After how long a chunk that could not be read is asked for again.
const RETRY_MS: u64 = 1_000;

/// What the work is done with.
pub struct Hands<'a, 'b> {
    /// The source.
    pub config: &'a SourceConfig,
    /// Makes records of rows, and knows where the stream is.
    pub assembler: &'b mut Assembler,
    /// The way out.
    pub outlet: &'b mut Outlet,
    /// The shapes of the tables.
    pub shapes: &'b mut Shapes<'a>,
    /// What is known of the tables.
    pub known: Option<&'b mut Known>,
}

impl Hands<'_, '_> {
    /// Tells what has become of a snapshot.
    pub fn tell(&mut self, notification: Notification) -> Outcome<()> {
        notify::tell(self.config, self.outlet, self.shapes, notification)
    }
}

/// Reads the tables of the agenda, a chunk at a time.
pub struct Incremental {
    reader: Option<Reader>,
    chunk: Option<Chunk>,
    retry_at: Option<Instant>,
    /// One byte into the commit record of the transaction that is being read.
    at: Lsn,
}

impl Default for Incremental {
    fn default() -> Self {
        Self {
            reader: None,
            chunk: None,
            retry_at: None,
            at: Lsn(0),
        }
    }
}

impl Incremental {
    /// Whether something is awaited that may come at any moment.
    pub fn is_under_way(&self) -> bool {
        self.chunk.is_some()
    }

    /// Drops the chunk under way; it will be read again if it is still wanted.
    pub fn let_go(&mut self) {
        self.chunk = None;
    }

    /// A message of the log is about to be taken in.
    pub fn overhear(&mut self, message: &Message) {
        if let Message::Begin(begin) = message {
            self.at = Lsn(begin.final_lsn.0 + 1);
        }
        let at = self.at;
        if let Some(chunk) = &mut self.chunk {
            chunk.overhear(at, message);
        }
    }

    /// Takes the next step, between two transactions. Whether the agenda has changed.
    pub fn step(&mut self, agenda: &mut Agenda, hands: &mut Hands<'_, '_>) -> Outcome<bool> {
        // Its rows would overtake changes that are not written yet.
        let front = agenda.tables.front();
        if front.is_some_and(|reading| hands.assembler.is_behind(&reading.table)) {
            self.chunk = None;
            return Ok(false);
        }
        if self
            .chunk
            .as_ref()
            .is_some_and(|chunk| agenda.tables.front() != Some(&chunk.reading))
        {
            self.chunk = None;
        }
        if let Some(changed) = self.answer(agenda, hands)? {
            return Ok(changed);
        }
        let rest = hands.assembler.position().lsn;
        match self.chunk.as_ref().map(|chunk| chunk.window.state(rest)) {
            None => self.ask(agenda, hands),
            Some(State::Closed) => self.write(agenda, hands),
            Some(State::Spoiled) => {
                tracing::info!(
                    source = hands.config.name,
                    "the table changed while a chunk of it was read: again"
                );
                self.chunk = None;
                Ok(false)
            }
            Some(State::Open | State::Waiting) => Ok(false),
        }
    }

    // ---- asking ----

    fn ask(&mut self, agenda: &mut Agenda, hands: &mut Hands<'_, '_>) -> Outcome<bool> {
        let Some(reading) = agenda.tables.front().filter(|_| !agenda.paused).cloned() else {
            return Ok(false);
        };
        if self.retry_at.is_some_and(|at| Instant::now() < at) {
            return Ok(false);
        }
        let name = table_name(&reading.table);
        let info = match catalog::tables(hands.shapes.control(), std::slice::from_ref(&name)) {
            Err(failure) if failure.class == Class::Transient => return Err(failure),
            found => found.ok().and_then(|found| found.into_iter().next()),
        };
        let Some(info) = info else {
            return give_up(agenda, hands, "UNKNOWN_SCHEMA", "there is no such table");
        };
        let Some(identity) = identity(&info, &reading) else {
            let why = "it has no key; name a column by which to cut it as surrogate-key";
            return give_up(agenda, hands, "NO_PRIMARY_KEY", why);
        };
        let reading = begun(reading, agenda, hands.known.as_deref());
        let wanted = Wanted {
            table: name,
            filter: reading.filter.clone(),
            surrogate: reading.surrogate.clone(),
            key: reading.key.clone(),
            after: reading.after.clone(),
            up_to: reading.up_to.clone(),
            rows_max: hands.config.snapshots.chunk_rows_max,
        };
        if self.reader(hands.config)?.ask(wanted) {
            self.chunk = Some(Chunk::new(reading, &info, identity, hands.assembler));
        }
        Ok(false)
    }

    fn reader(&mut self, config: &SourceConfig) -> Outcome<&mut Reader> {
        let reader = match self.reader.take() {
            Some(reader) => reader,
            None => Reader::start(
                &config.slot,
                ChunkReader::new(config.dsn.clone(), config.publication.clone(), markers(config)),
            )?,
        };
        Ok(self.reader.insert(reader))
    }

    // ---- the answer ----

    /// Takes the answer in, if it is there: whether the agenda has changed by it.
    fn answer(&mut self, agenda: &mut Agenda, hands: &mut Hands<'_, '_>) -> Outcome<Option<bool>> {
        let (Some(chunk), Some(reader)) = (&mut self.chunk, &mut self.reader) else {
            return Ok(None);
        };
        if chunk.read.is_some() {
            return Ok(None);
        }
        let Some(answer) = reader.answer() else { return Ok(None) };
        let answer = match answer {
            Ok(Answer::Read(read)) => {
                let fits = chunk.take(*read);
                if !fits {
                    self.chunk = None;
                }
                return Ok(Some(false));
            }
            answer => answer,
        };
        self.chunk = None;
        match answer {
            Ok(Answer::Read(_) | Answer::Changed) => Ok(false),
            Ok(Answer::Empty) => complete(agenda, hands, "EMPTY"),
            Ok(Answer::NoKey) => give_up(agenda, hands, "NO_PRIMARY_KEY", "it has no key that is captured"),
            Ok(Answer::KeyChanged) => begin_anew(agenda),
            Ok(Answer::Gone(why)) => give_up(agenda, hands, "UNKNOWN_SCHEMA", &why),
            Ok(Answer::Refused(failure)) => give_up(agenda, hands, "SQL_EXCEPTION", &failure.to_string()),
            Err(failure) => {
                self.reader = None;
                self.retry_at = Some(Instant::now() + Duration::from_millis(RETRY_MS));
                tracing::warn!(
                    source = hands.config.name,
                    "a chunk could not be read and will be asked for again: {failure}"
                );
                Ok(false)
            }
        }
        .map(Some)
    }

    // ---- writing ----

    fn write(&mut self, agenda: &mut Agenda, hands: &mut Hands<'_, '_>) -> Outcome<bool> {
        let Some(Chunk {
            window,
            read: Some(read),
            reading,
            ..
        }) = self.chunk.take()
        else {
            return Ok(false);
        };
        let registered = hands.shapes.described(&read.info, &read.columns)?;
        let rows: Vec<SnapshotRow> = window.rows().collect();
        let first = agenda.ordinals(read.high, rows.len() as u64);
        for (ordinal, row) in (first..).zip(&rows) {
            match row_out(hands, &registered, row, read.high, ordinal) {
                Ok(()) => failpoint::check("capture.in_chunk")?,
                Err(Unwritten::Misfit(error)) => {
                    return give_up(agenda, hands, "SQL_EXCEPTION", &error.to_string());
                }
                Err(Unwritten::Failed(failure)) => return Err(failure),
            }
        }
        metrics::rows(&hands.config.name, rows.len() as u64);
        if let Some(current) = agenda.tables.front_mut() {
            current.rows += read.read_rows;
            current.key.clone_from(&read.key);
            current.up_to = Some(read.up_to.clone());
            current.after = read.last.clone().or(current.after.take());
        }
        if let Some(last) = &read.last {
            hands.tell(
                Notification::incremental(&reading.signal, "IN_PROGRESS")
                    .of(&agenda.names())
                    .with("current_collection_in_progress", &reading.table)
                    .with("maximum_key", read.up_to.0.join(","))
                    .with("last_processed_key", last.0.join(",")),
            )?;
        }
        failpoint::check("capture.chunk_sent")?;
        match read.more {
            true => Ok(true),
            false => complete(agenda, hands, "SUCCEEDED"),
        }
    }
}

/// Why a row was not written.
enum Unwritten {
    Misfit(AssembleError),
    Failed(Failure),
}

fn row_out(
    hands: &mut Hands<'_, '_>,
    registered: &Arc<Registered>,
    row: &SnapshotRow,
    high: Lsn,
    ordinal: u64,
) -> Result<(), Unwritten> {
    let now_ns = clock_ns();
    let last_commit = hands.assembler.last_commit().unwrap_or(high);
    let circumstances = Circumstances {
        op: 'r',
        snapshot: "incremental",
        commit_us: now_ns.div_euclid(1000),
        lsn: high.0,
        tells_lsn: false,
        last_commit_lsn: Some(last_commit.min(high).0),
        xid: None,
        origin: None,
        transaction: None,
        now_ns,
    };
    let position = Position::new(hands.assembler.position().epoch, high, ordinal);
    hands
        .assembler
        .snapshot_row(registered, row, position, &circumstances)
        .map_err(Unwritten::Misfit)?;
    hands.outlet.send(hands.assembler.records()).map_err(Unwritten::Failed)
}

/// Before the first chunk: what this run will have done when it is at its end.
fn begun(reading: Reading, agenda: &mut Agenda, known: Option<&Known>) -> Reading {
    if reading.after.is_some() {
        return reading;
    }
    let fills = known
        .and_then(|known| known.backfill(&reading.table))
        .map(str::to_owned);
    let reading = Reading { fills, ..reading };
    agenda
        .tables
        .front_mut()
        .into_iter()
        .for_each(|front| front.clone_from(&reading));
    reading
}

/// The first table is at its end.
fn complete(agenda: &mut Agenda, hands: &mut Hands<'_, '_>, status: &'static str) -> Outcome<bool> {
    let names = agenda.names();
    let Some(done) = agenda.tables.pop_front() else {
        return Ok(false);
    };
    if let Some(known) = hands.known.as_deref_mut()
        && status == "SUCCEEDED"
        && done.filter.is_none()
        && done.fills.is_some()
        && done.fills.as_deref() == known.backfill(&done.table)
    {
        known.filled(&done.table);
    }
    tracing::info!(
        source = hands.config.name,
        table = done.table,
        rows = done.rows,
        status,
        "read beside the stream"
    );
    hands.tell(
        Notification::incremental(&done.signal, "TABLE_SCAN_COMPLETED")
            .of(&names)
            .with("scanned_collection", &done.table)
            .with("total_rows_scanned", done.rows)
            .with("status", status),
    )?;
    if !agenda.tables.iter().any(|reading| reading.signal == done.signal) {
        hands.tell(Notification::incremental(&done.signal, "COMPLETED"))?;
    }
    Ok(true)
}

/// The first table cannot be read: it is said why, and the next one's turn.
fn give_up(agenda: &mut Agenda, hands: &mut Hands<'_, '_>, status: &'static str, why: &str) -> Outcome<bool> {
    if let Some(reading) = agenda.tables.front() {
        tracing::warn!(
            code = "SIGNAL_TABLE",
            source = hands.config.name,
            signal = reading.signal,
            table = reading.table,
            "the table is not read on: {why}"
        );
    }
    complete(agenda, hands, status)
}

fn begin_anew(agenda: &mut Agenda) -> Outcome<bool> {
    if let Some(reading) = agenda.tables.front_mut() {
        tracing::warn!(
            table = reading.table,
            "its key has changed: it is read from its beginning"
        );
        (reading.key, reading.after, reading.up_to) = (Vec::new(), None, None);
    }
    Ok(true)
}

fn markers(config: &SourceConfig) -> Option<Markers> {
    let table = config.snapshots.signal_table.clone()?;
    let delete = match config.snapshots.watermarks {
        Watermarks::InsertInsert => false,
        Watermarks::InsertDelete => true,
        Watermarks::ReadOnly => return None,
    };
    Some(Markers { table, delete })
}

fn identity(info: &TableInfo, reading: &Reading) -> Option<Vec<String>> {
    let key = watermark::key(info, reading.surrogate.as_deref())?;
    Some(watermark::identity(info, &key).to_vec())
}

fn table_name(name: &str) -> TableName {
    match name.split_once('.') {
        Some((schema, table)) => TableName::new(schema, table),
        None => TableName::new("public", name),
    }
}
