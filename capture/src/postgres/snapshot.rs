//! The rows that are there when capture begins, in chunks of the primary key.
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
//! Chunks are cut by key: `WHERE (k1, k2) > (last) ORDER BY k1, k2 LIMIT n`. A row that moves across a border between
//! two snapshots is in the stream too. A table without primary key is one chunk.

use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use syncline_runtime::failure::{Failure, Outcome};
use syncline_schemas::position::Lsn;

use crate::postgres::catalog::TableInfo;
use crate::postgres::control::{Control, CopyOut, read_lsn};
use crate::postgres::copy_text::{CopyError, CopyText};
use crate::postgres::dsn::Dsn;
use crate::postgres::pgoutput::TupleCell;
use crate::postgres::quote::{Ident, Literal, TableName};

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

/// Where a chunk ends: the key of its last row, as text, in the order of the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkBound(pub Vec<String>);

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
        let control = Control::connect(dsn)?;
        let doing = "taking a new snapshot";
        let row = control.one("SELECT pg_current_wal_insert_lsn()::text", &[], doing)?;
        let lsn = read_lsn(row.get(0))?;
        wait_for_commits(&control, Duration::from_millis(COMMITS_WAIT_MS))?;
        control.execute(&format!("{BEGIN}; SELECT 1"), doing)?;
        Ok(Self { control, lsn })
    }

    /// Where its rows stand in the log: after all that committed before, before all that is in the stream from there.
    pub fn lsn(&self) -> Lsn {
        self.lsn
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
        let selected = Selected::new(table, columns);
        let statement = copy_statement(table, &selected.columns, after, rows_max)?;
        let doing = format!("reading {}.{}", table.schema, table.table);
        Ok(Chunk {
            copy: self.control.copy_out(&statement, &doing)?,
            parser: CopyText::new(selected.columns.len()),
            doing,
            asked: columns.len(),
            key: selected.key,
            rows_max: if table.primary_key.is_empty() {
                u64::MAX
            } else {
                rows_max
            },
            rows: 0,
            last_key: None,
            over: false,
        })
    }
}

const BEGIN: &str = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY";

/// The columns to select: those asked for, then those of the key that were not. And where the key stands.
struct Selected<'a> {
    columns: Vec<&'a str>,
    key: Vec<usize>,
}

impl<'a> Selected<'a> {
    fn new(table: &'a TableInfo, asked: &[&'a str]) -> Self {
        let mut columns = asked.to_vec();
        let mut place = |name: &'a str| match columns.iter().position(|column| *column == name) {
            Some(place) => place,
            None => {
                columns.push(name);
                columns.len() - 1
            }
        };
        let key = table.primary_key.iter().map(|name| place(name)).collect();
        Self { columns, key }
    }
}

fn copy_statement(table: &TableInfo, columns: &[&str], after: Option<&ChunkBound>, rows_max: u64) -> Outcome<String> {
    let list = |names: &[&str]| -> Outcome<String> {
        let quoted = names.iter().map(|name| Ident::new(name).map(|name| name.to_string()));
        Ok(quoted.collect::<Outcome<Vec<_>>>()?.join(", "))
    };
    // A table's rows, not those of tables that inherit from it: these are captured, if at all, under their own name.
    let only = if table.partitioned { "" } else { "ONLY " };
    let name = TableName::new(&table.schema, &table.table).quoted()?;
    let mut query = format!("SELECT {} FROM {only}{name}", list(columns)?);
    if !table.primary_key.is_empty() {
        let key: Vec<&str> = table.primary_key.iter().map(String::as_str).collect();
        let key = list(&key)?;
        if let Some(after) = after {
            query.push_str(&format!(" WHERE ({key}) > ({})", bound(table, after)?));
        }
        query.push_str(&format!(" ORDER BY {key} LIMIT {rows_max}"));
    }
    Ok(format!("COPY ({query}) TO STDOUT"))
}

/// The bound's values as literals. Their type is left open, so that the server reads each as its column's.
fn bound(table: &TableInfo, after: &ChunkBound) -> Outcome<String> {
    if after.0.len() != table.primary_key.len() {
        let text = format!(
            "the primary key of {}.{} has changed within its snapshot",
            table.schema, table.table
        );
        return Err(Failure::definite("SNAPSHOT_KEY_CHANGED", text).hint("the table must be read anew (--resnapshot)"));
    }
    let literals = after
        .0
        .iter()
        .map(|value| Literal::new(value).map(|literal| literal.to_string()));
    Ok(literals.collect::<Outcome<Vec<_>>>()?.join(", "))
}

/// A chunk being read.
pub struct Chunk<'a> {
    copy: CopyOut<'a>,
    parser: CopyText,
    doing: String,
    asked: usize,
    key: Vec<usize>,
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

    /// How it ended. To be asked after [`Chunk::next_rows`] has given `None`.
    pub fn end(self) -> Outcome<ChunkEnd> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::pgoutput::ReplicaIdentity;

    fn table(primary_key: &[&str]) -> TableInfo {
        TableInfo {
            oid: 1,
            schema: "public".to_owned(),
            table: "Odd \"Table\"".to_owned(),
            columns: Vec::new(),
            primary_key: primary_key.iter().map(|&name| name.to_owned()).collect(),
            identity: ReplicaIdentity::Default,
            identity_columns: Vec::new(),
            partitioned: false,
            partition: false,
            rows_estimate: None,
        }
    }

    #[test]
    fn a_chunk_begins_after_the_last_key_whatever_the_key_holds() {
        let table = table(&["b", "a"]);
        let after = ChunkBound(vec!["O'Neil".to_owned(), "7".to_owned()]);
        assert_eq!(
            copy_statement(&table, &["a", "b"], Some(&after), 100).unwrap(),
            r#"COPY (SELECT "a", "b" FROM ONLY "public"."Odd ""Table""" WHERE ("b", "a") > ('O''Neil', '7') ORDER BY "b", "a" LIMIT 100) TO STDOUT"#
        );
        assert!(copy_statement(&table, &["a"], Some(&ChunkBound(vec!["7".to_owned()])), 100).is_err());
    }

    #[test]
    fn a_table_without_key_is_one_chunk() {
        let statement = copy_statement(&table(&[]), &["a"], None, 100).unwrap();
        assert_eq!(
            statement,
            r#"COPY (SELECT "a" FROM ONLY "public"."Odd ""Table""") TO STDOUT"#
        );
    }

    #[test]
    fn a_key_that_was_not_asked_for_is_read_all_the_same() {
        let table = table(&["k2", "k1"]);
        let selected = Selected::new(&table, &["a", "k1"]);
        assert_eq!((selected.columns, selected.key), (vec!["a", "k1", "k2"], vec![2, 1]));
    }
}
