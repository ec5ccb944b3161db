//! The rows that are there when capture begins, in chunks.
//!
//! A snapshot is a REPEATABLE READ transaction. The first run uses the one that the slot exports: exactly what was
//! committed before the slot's consistent point is in it, and the stream has the rest. After a crash that snapshot is
//! gone, and the chunks that are left are read in a new one ([`Snapshot::fresh`]), whose rows stand at a later LSN.
//! For that LSN one thing must hold: **whatever committed before it is in the snapshot**. Otherwise a change between
//! the two would lose against a row that does not contain it. Taking the LSN first is not enough, because a
//! transaction writes its commit to the log *before* it becomes visible; so every transaction that was running when
//! the LSN was taken must have ended, or be known to be elsewhere than in its commit, before the snapshot is.
//! What commits after the LSN and is in the snapshot all the same does no harm: the stream says it again, later.
//!
//! What a chunk is, `extract` says.

use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use syncline_runtime::failure::{Failure, Outcome};
use syncline_schemas::position::Lsn;

use crate::postgres::catalog::TableInfo;
use crate::postgres::control::{Control, CopyOut, read_lsn};
use crate::postgres::copy_text::{CopyError, CopyText};
use crate::postgres::dsn::Dsn;
use crate::postgres::extract::{Pages, page_borders};
use crate::postgres::pgoutput::TupleCell;
use crate::postgres::quote::{Literal, TableName};

pub use crate::postgres::extract::{ChunkBound, Extract, File};

/// The most that [`Chunk::next_rows`] gives at once.
const ROWS_MAX: usize = 1_000;
/// The same in bytes (overshot by one row).
const ROWS_BYTES_MAX: usize = 4 << 20;
/// How long a transaction that may be in its commit is waited for.
const COMMITS_WAIT_MS: u64 = 60_000;
const COMMITS_POLL_MS: u64 = 20;

/// A row of a snapshot: the cells of the columns asked for, in that order, in the same text form as the log's.
/// A cell is [`TupleCell::Null`] or [`TupleCell::Text`], nothing else.
pub type SnapshotRow = Vec<TupleCell>;

/// A snapshot being read.
pub struct Snapshot {
    control: Control,
    lsn: Lsn,
}

impl Snapshot {
    /// The snapshot that a new slot has exported, on a connection of its own.
    pub fn exported(dsn: &Dsn, name: &str, consistent_point: Lsn) -> Outcome<Self> {
        let control = Control::connect(dsn)?;
        let statement = format!("{BEGIN}; SET TRANSACTION SNAPSHOT {}", Literal::new(name)?);
        control.execute(&statement, "taking over the slot's snapshot")?;
        Ok(Self {
            control,
            lsn: consistent_point,
        })
    }

    /// A new snapshot, with the LSN before which all that committed is in it.
    pub fn fresh(dsn: &Dsn) -> Outcome<Self> {
        Self::taken(Control::connect(dsn)?, None)
    }

    /// The same on a connection that is there; before it is taken the table is `locked` against changes of its shape.
    pub(super) fn taken(control: Control, locked: Option<&TableName>) -> Outcome<Self> {
        let doing = "taking a new snapshot";
        let lsn = log_end(&control)?;
        wait_for_commits(&control, Duration::from_millis(COMMITS_WAIT_MS))?;
        let lock = match locked {
            Some(table) => format!(
                "SET LOCAL lock_timeout = {LOCK_MS_MAX}; LOCK TABLE {} IN ACCESS SHARE MODE; ",
                table.quoted()?
            ),
            None => String::new(),
        };
        control.execute(&format!("{BEGIN}; {lock}SELECT 1"), doing)?;
        Ok(Self { control, lsn })
    }

    /// The same snapshot on another connection.
    pub fn shared(&self, dsn: &Dsn) -> Outcome<Self> {
        let row = self
            .control
            .one("SELECT pg_export_snapshot()", &[], "sharing the snapshot")?;
        Self::exported(dsn, row.get(0), self.lsn)
    }

    /// Ends it; the connection may be used on.
    pub(super) fn end(self) -> Outcome<Control> {
        self.control.execute("ROLLBACK", "ending a snapshot")?;
        Ok(self.control)
    }

    /// Where its rows stand in the log: after all that committed before, before all that is in the stream from there.
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// The transaction id that was the next one when the snapshot was taken.
    pub fn next_xid(&self) -> Outcome<u32> {
        let sql = "SELECT (pg_snapshot_xmax(pg_current_snapshot())::text::int8 & 4294967295)::oid";
        Ok(self
            .control
            .one(sql, &[], "asking for the snapshot's transaction")?
            .get(0))
    }

    /// The connection, for questions to the catalogue within the snapshot.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Begins to read the chunk of `table` that follows `after` (its first, if `None`), at most `rows_max` rows.
    pub fn chunk(
        &self,
        table: &TableInfo,
        columns: &[&str],
        after: Option<&ChunkBound>,
        rows_max: u64,
    ) -> Outcome<Chunk<'_>> {
        self.extract(&Extract::all(table, columns), after, rows_max)
    }

    /// The same of what `extract` says.
    pub fn extract(&self, extract: &Extract<'_>, after: Option<&ChunkBound>, rows_max: u64) -> Outcome<Chunk<'_>> {
        let table = extract.table;
        let doing = format!("reading {}.{}", table.schema, table.table);
        let pages = match extract.has_pages() && self.control.server_version() >= SCANS_PAGES {
            true => {
                let found = Pages::after(after, extract.up_to, self.file(table)?);
                Some(found.ok_or_else(|| {
                    Failure::transient(
                        "TABLE_CHANGED",
                        format!("{doing}: it was written anew while it was read"),
                    )
                })?)
            }
            false => None,
        };
        let statement = extract.statement(after, pages, rows_max)?;
        let (columns, key) = extract.selected();
        Ok(Chunk {
            copy: self
                .control
                .copy_out(&statement, &doing)
                .map_err(|failure| match extract.select {
                    None => outdated(failure),
                    Some(_) => failure,
                })?,
            parser: CopyText::new(columns.len()),
            doing,
            asked: extract.columns.len(),
            key,
            pages,
            rows_max: if extract.key.is_empty() { u64::MAX } else { rows_max },
            rows: 0,
            last_key: None,
            over: false,
        })
    }

    /// Borders that divide the table into at most so many parts of about the same size; none if it cannot be divided.
    pub fn borders(&self, table: &TableInfo, file: File, parts: u64) -> Outcome<Vec<ChunkBound>> {
        let extract = Extract::all(table, &[]);
        if self.control.server_version() < SCANS_PAGES || table.partitioned {
            return Ok(Vec::new());
        }
        if extract.has_pages() {
            return Ok(page_borders(file, parts));
        }
        let percent = (100.0 * SAMPLE_PAGES / file.pages.max(1) as f64).min(100.0);
        let doing = format!("looking for borders in {}.{}", table.schema, table.table);
        let rows = self.control.rows(&extract.sampled(percent, parts)?, &[], &doing)?;
        let texts = |row: &tokio_postgres::Row| ChunkBound((0..row.len()).map(|index| row.get(index)).collect());
        let mut borders: Vec<ChunkBound> = rows.iter().map(texts).collect();
        // What is beyond the greatest of the sample belongs to the last part.
        borders.pop();
        Ok(borders)
    }

    /// The table's file; a partitioned table has none, which is no page of any.
    pub fn file(&self, table: &TableInfo) -> Outcome<File> {
        let doing = format!("looking for the pages of {}.{}", table.schema, table.table);
        let sql =
            "SELECT pg_relation_filenode($1::oid), pg_relation_size($1::oid) / current_setting('block_size')::int8";
        let row = self.control.one(sql, &[&table.oid], &doing)?;
        Ok(File {
            number: row.get::<_, Option<u32>>(0).unwrap_or(0),
            pages: row.get::<_, i64>(1).cast_unsigned(),
        })
    }
}

/// The end of the log: of the last record in it, visible or not.
pub(super) fn log_end(control: &Control) -> Outcome<Lsn> {
    let doing = "asking for the end of the log";
    let row = control.one("SELECT pg_current_wal_insert_lsn()::text", &[], doing)?;
    read_lsn(row.get(0))
}

/// How long a lock may be waited for.
const LOCK_MS_MAX: u64 = 2_000;
/// Pages that a sample has on average: some ten thousand keys at most.
const SAMPLE_PAGES: f64 = 200.0;
/// From this version on a range of pages is read without reading the whole table.
const SCANS_PAGES: u32 = 140_000;
const BEGIN: &str = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY";

/// A chunk being read.
pub struct Chunk<'a> {
    copy: CopyOut<'a>,
    parser: CopyText,
    doing: String,
    asked: usize,
    key: Vec<usize>,
    pages: Option<Pages>,
    rows_max: u64,
    rows: u64,
    last_key: Option<Vec<Bytes>>,
    over: bool,
}

/// How a chunk ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChunkEnd {
    /// There may be more rows after this key.
    More(ChunkBound),
    /// The table has no more.
    Last,
}

impl Chunk<'_> {
    /// Some more rows, or `None` at the chunk's end.
    pub fn next_rows(&mut self) -> Outcome<Option<Vec<SnapshotRow>>> {
        if self.over {
            return Ok(None);
        }
        let mut rows: Vec<SnapshotRow> = Vec::new();
        let mut bytes = 0;
        let Self {
            copy, parser, doing, ..
        } = self;
        let more = copy.pull(doing, |data| {
            bytes += data.len();
            parser
                .push(data, |row| rows.push(row))
                .map_err(|error| unreadable(doing, &error))?;
            Ok(rows.len() < ROWS_MAX && bytes < ROWS_BYTES_MAX)
        })?;
        if !more {
            self.over = true;
            self.parser.finish().map_err(|error| unreadable(&self.doing, &error))?;
        }
        self.count(&mut rows);
        Ok(if rows.is_empty() && self.over { None } else { Some(rows) })
    }

    /// Keeps the last key and cuts off what only it needed.
    fn count(&mut self, rows: &mut [SnapshotRow]) {
        self.rows += rows.len() as u64;
        if let Some(last) = rows.last() {
            // Copied, so that one key does not keep a whole buffer in memory.
            let text = |&place: &usize| match last.get(place) {
                Some(TupleCell::Text(bytes)) => Some(Bytes::copy_from_slice(bytes)),
                _ => None,
            };
            self.last_key = self.key.iter().map(text).collect();
        }
        for row in rows {
            row.truncate(self.asked);
        }
    }

    /// How many rows it has given.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The key of the last row given.
    pub fn last_key(&self) -> Option<ChunkBound> {
        let key = self.last_key.as_ref()?.iter();
        let texts = key.map(|cell| String::from_utf8(cell.to_vec()).ok());
        texts.collect::<Option<_>>().map(ChunkBound)
    }

    /// How it ended. To be asked after [`Chunk::next_rows`] has given `None`.
    pub fn end(self) -> Outcome<ChunkEnd> {
        if let Some(pages) = self.pages {
            return Ok(pages.next().map_or(ChunkEnd::Last, ChunkEnd::More));
        }
        if self.rows < self.rows_max || self.key.is_empty() {
            return Ok(ChunkEnd::Last);
        }
        let not_text = || Failure::definite("SNAPSHOT_KEY", format!("{}: a key that is not UTF-8", self.doing));
        let key = self.last_key.as_ref().ok_or_else(not_text)?;
        let key = key
            .iter()
            .map(|cell| String::from_utf8(cell.to_vec()).map_err(|_| not_text()));
        Ok(ChunkEnd::More(ChunkBound(key.collect::<Outcome<_>>()?)))
    }
}

/// A table or a column that has gone since the catalogue was read: the next attempt reads it again. (In a statement of a
/// person's own it is that person's mistake.)
fn outdated(failure: Failure) -> Failure {
    let gone = ["(SQLSTATE 42703)", "(SQLSTATE 42P01)"]
        .iter()
        .any(|state| failure.message.contains(state));
    match gone {
        true => Failure::transient("TABLE_CHANGED", failure.message),
        false => failure,
    }
}

fn unreadable(doing: &str, error: &CopyError) -> Failure {
    Failure::transient("SOURCE_PROTOCOL", format!("{doing}: {error}"))
}

/// The transactions that have written something and not ended. A snapshot would not do: those younger than the last
/// one completed are not in its list. The lock that each holds on its own id is taken before its first word in the
/// log, and let go after its changes have become visible.
const RUNNING: &str = "
    SELECT transactionid::text FROM pg_locks
     WHERE locktype = 'transactionid' AND mode = 'ExclusiveLock' AND granted AND pid IS NOT NULL";

/// Of the transactions `$1`, one that may be in its commit even now: none that idles, sleeps, waits for a lock or for
/// its client, or is prepared (no process). What a role may not see of another's session counts as "may be".
const IN_COMMIT: &str = "
    SELECT l.pid, coalesce(a.wait_event, '')
      FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
     WHERE l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock' AND l.granted AND l.pid IS NOT NULL
       AND l.transactionid::text = ANY($1)
       AND NOT coalesce(a.state LIKE 'idle in transaction%' OR a.wait_event_type IN ('Lock', 'Client', 'Timeout'), false)
     LIMIT 1";

/// Waits until no transaction that is running now can still be on its way from the log to visibility.
fn wait_for_commits(control: &Control, wait: Duration) -> Outcome<()> {
    let doing = "waiting for commits under way";
    let running: Vec<String> = control
        .rows(RUNNING, &[], doing)?
        .iter()
        .map(|row| row.get(0))
        .collect();
    let deadline = Instant::now() + wait;
    while let Some(row) = control.rows(IN_COMMIT, &[&running], doing)?.first() {
        if Instant::now() >= deadline {
            let (pid, event): (i32, String) = (row.get(0), row.get(1));
            let text = format!(
                "process {pid} of the source may be committing ({event}) for {} s",
                wait.as_secs()
            );
            return Err(Failure::transient("SNAPSHOT_WAIT", text));
        }
        thread::sleep(Duration::from_millis(COMMITS_POLL_MS));
    }
    Ok(())
}
