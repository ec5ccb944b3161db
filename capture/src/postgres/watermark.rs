//! One chunk of a table between two places in the log, for a reader who goes on with the stream meanwhile.
//!
//! Why the two places are enough, `incremental::window` says. That they are what it asks for: `low` is taken before the
//! snapshot, and whoever was in his commit then is waited for (`snapshot`); `high` is the end of the last record
//! in the log once the chunk is read, and all that the snapshot saw had its commit record before that. So the law needs
//! nothing to be written. The rows in the signalling table are there for whoever knows Debezium's, and because a commit moves an idle
//! log at once, so that `high` is reached without waiting.
//!
//! From before the snapshot until its end the table is locked against changes of its shape (ACCESS SHARE, as any SELECT), and
//! whether it still has that shape at `high` is asked once more. What remains may be seen in the log.

use syncline_runtime::failpoint;
use syncline_runtime::failure::{Class, Failure, Outcome};
use syncline_schemas::position::Lsn;

use crate::postgres::catalog::{self, TableInfo};
use crate::postgres::control::Control;
use crate::postgres::dsn::Dsn;
use crate::postgres::extract::{ChunkBound, Extract};
use crate::postgres::pgoutput::ReplicaIdentity;
use crate::postgres::quote::TableName;
use crate::postgres::setup;
use crate::postgres::snapshot::{Snapshot, SnapshotRow, log_end};

/// Bytes of a chunk; what is beyond comes with the next.
const CHUNK_BYTES_MAX: usize = 16 << 20;
/// Pages of the log begin with a header of 24 or 40 bytes, which is no record.
const PAGE_BYTES: u64 = 8192;
const HEADER_BYTES_MAX: u64 = 40;

/// The chunk wanted.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The table.
    pub table: TableName,
    /// A condition on its rows.
    pub filter: Option<String>,
    /// The column by which to cut, instead of the key.
    pub surrogate: Option<String>,
    /// The columns by which the chunks before were cut; none before the first.
    pub key: Vec<String>,
    /// The last key of the chunk before.
    pub after: Option<ChunkBound>,
    /// The last key wanted; asked for with the first chunk.
    pub up_to: Option<ChunkBound>,
    /// Rows at most.
    pub rows_max: u64,
}

/// A chunk.
#[derive(Debug)]
pub struct ChunkRead {
    /// All that committed up to here is in it.
    pub low: Lsn,
    /// All that is in it committed up to here.
    pub high: Lsn,
    /// The table as it was from `low` to `high`.
    pub info: TableInfo,
    /// The columns of the rows: those published.
    pub columns: Vec<String>,
    /// The columns by which changes name rows, as places in `columns`.
    pub identity: Vec<usize>,
    /// The columns by which it is cut.
    pub key: Vec<String>,
    /// The last key wanted.
    pub up_to: ChunkBound,
    /// The key of its last row.
    pub last: Option<ChunkBound>,
    /// Whether the table goes on after it.
    pub more: bool,
    /// In the order of the key.
    pub rows: Vec<SnapshotRow>,
    /// How many they were.
    pub read_rows: u64,
}

/// What came of a wish.
#[derive(Debug)]
pub enum Answer {
    /// The chunk.
    Read(Box<ChunkRead>),
    /// The table has no row.
    Empty,
    /// It has no key, and none was named.
    NoKey,
    /// Its key is another one than before: it must be begun anew.
    KeyChanged,
    /// Its shape changed meanwhile: the chunk must be read again.
    Changed,
    /// There is no such table, or it is not published.
    Gone(String),
    /// The server refuses what was asked.
    Refused(Failure),
}

/// Rows written at either end of a chunk.
#[derive(Clone, Debug)]
pub struct Markers {
    /// The signalling table.
    pub table: TableName,
    /// The first is deleted at the end; else a second is inserted.
    pub delete: bool,
}

/// A connection for chunks.
pub struct ChunkReader {
    dsn: Dsn,
    publication: String,
    markers: Option<Markers>,
    control: Option<Control>,
}

impl ChunkReader {
    /// Connects when it is first asked.
    pub fn new(dsn: Dsn, publication: String, markers: Option<Markers>) -> Self {
        Self {
            dsn,
            publication,
            markers,
            control: None,
        }
    }

    /// Reads a chunk. An error is transient: to be asked again later.
    pub fn read(&mut self, wanted: &Wanted) -> Outcome<Answer> {
        let control = match self.control.take() {
            Some(control) => control,
            None => Control::connect(&self.dsn)?,
        };
        // On an error the connection is left to itself, with whatever it was doing.
        let id = uuid::Uuid::new_v4();
        let opened = self.mark_open(&control, &id.to_string());
        let opened = self.or_without(opened)?;
        let snapshot = match Snapshot::taken(control, Some(&wanted.table)) {
            Err(failure) if failure.class != Class::Transient => return Ok(Answer::Gone(failure.message)),
            snapshot => snapshot?,
        };
        let answer = match self.chunk(&snapshot, wanted) {
            Err(failure) if failure.class != Class::Transient => return Ok(Answer::Refused(failure)),
            answer => answer?,
        };
        let control = snapshot.end()?;
        failpoint::check("capture.chunk_read")?;
        let answer = finished(&control, answer)?;
        let closed = self.mark_close(&control, &id.to_string(), opened.as_deref());
        self.or_without(closed)?;
        self.control = Some(control);
        Ok(answer)
    }

    fn chunk(&self, snapshot: &Snapshot, wanted: &Wanted) -> Outcome<Answer> {
        let control = snapshot.control();
        let info = catalog::tables(control, std::slice::from_ref(&wanted.table))?;
        let publication = setup::publication(control, &self.publication)?;
        let (Some(info), Some(publication)) = (info.into_iter().next(), publication) else {
            return Ok(Answer::Gone(format!("{} is not there", wanted.table)));
        };
        let Some(key) = key(&info, wanted.surrogate.as_deref()) else {
            return Ok(Answer::NoKey);
        };
        if !wanted.key.is_empty() && wanted.key != key {
            return Ok(Answer::KeyChanged);
        }
        let columns = publication.columns_of(&info);
        let place = |name: &String| columns.iter().position(|column| column == name);
        let Some(identity) = identity(&info, &key).iter().map(place).collect() else {
            return Ok(Answer::NoKey);
        };
        let names: Vec<&str> = columns.iter().map(String::as_str).collect();
        let mut extract = Extract {
            key: key.iter().map(String::as_str).collect(),
            filter: wanted.filter.as_deref(),
            ..Extract::all(&info, &names)
        };
        let Some(up_to) = up_to(control, &extract, wanted)? else {
            return Ok(Answer::Empty);
        };
        extract.up_to = Some(&up_to);
        let rows = rows(snapshot, &extract, wanted)?;
        Ok(Answer::Read(Box::new(ChunkRead {
            low: snapshot.lsn(),
            high: Lsn(0),
            more: rows.more && rows.last.as_ref() != Some(&up_to),
            last: rows.last,
            read_rows: rows.rows.len() as u64,
            rows: rows.rows,
            up_to: up_to.clone(),
            columns,
            identity,
            key,
            info,
        })))
    }

    fn mark_open(&self, control: &Control, id: &str) -> Outcome<Option<String>> {
        let Some(markers) = &self.markers else { return Ok(None) };
        let doing = "opening a window in the signalling table";
        let now: String = control.one(&format!("SELECT {NOW}"), &[], doing)?.get(0);
        let sql = format!(
            r#"INSERT INTO {} VALUES ($1, 'snapshot-window-open', '{{"openWindowTimestamp": "' || $2::text || '"}}')"#,
            markers.table.quoted()?
        );
        let marked = control.rows(&sql, &[&format!("{id}-open"), &now], doing);
        marked.map(|_| Some(now))
    }

    fn mark_close(&self, control: &Control, id: &str, opened: Option<&str>) -> Outcome<Option<String>> {
        let (Some(markers), Some(opened)) = (&self.markers, opened) else {
            return Ok(None);
        };
        let (table, doing) = (markers.table.quoted()?, "closing a window in the signalling table");
        let (open, close) = (format!("{id}-open"), format!("{id}-close"));
        let marked = if markers.delete {
            control.rows(&format!("DELETE FROM {table} WHERE id = $1"), &[&open], doing)
        } else {
            let data = format!(
                r#"'{{"openWindowTimestamp": "' || $2::text || '", "closeWindowTimestamp": "' || {NOW} || '"}}'"#
            );
            let sql = format!("INSERT INTO {table} VALUES ($1, 'snapshot-window-close', {data})");
            control.rows(&sql, &[&close, &opened], doing)
        };
        marked.map(|_| None)
    }

    /// The law holds without the rows: where they cannot be written, they are not.
    fn or_without(&mut self, marked: Outcome<Option<String>>) -> Outcome<Option<String>> {
        match marked {
            Err(failure) if failure.class != Class::Transient => {
                tracing::warn!("chunks are read without watermarks in the signalling table: {failure}");
                self.markers = None;
                Ok(None)
            }
            marked => marked,
        }
    }
}

/// The time as Java's `Instant` writes it.
const NOW: &str = r#"to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"#;

/// The columns by which a table is cut: the one named, its primary key, or what is as good.
pub fn key(info: &TableInfo, surrogate: Option<&str>) -> Option<Vec<String>> {
    let key = match surrogate {
        Some(column) => vec![info.column(column)?.name.clone()],
        None if info.primary_key.is_empty() => info.unique_key.clone(),
        None => info.primary_key.clone(),
    };
    Some(key).filter(|key| !key.is_empty())
}

/// The columns by which the log names a row, of which each old row has its values: the primary key, the index that is the
/// identity, or, where old rows are whole, those by which it is cut.
pub fn identity<'a>(info: &'a TableInfo, key: &'a [String]) -> &'a [String] {
    match info.identity {
        _ if !info.primary_key.is_empty() => &info.primary_key,
        ReplicaIdentity::Index => &info.identity_columns,
        _ => key,
    }
}

fn up_to(control: &Control, extract: &Extract<'_>, wanted: &Wanted) -> Outcome<Option<ChunkBound>> {
    if wanted.up_to.is_some() && wanted.after.is_some() {
        return Ok(wanted.up_to.clone());
    }
    let rows = control.rows(&extract.greatest()?, &[], "asking for the greatest key")?;
    let texts = |row: &tokio_postgres::Row| ChunkBound((0..row.len()).map(|index| row.get(index)).collect());
    Ok(rows.first().map(texts))
}

struct Rows {
    rows: Vec<SnapshotRow>,
    last: Option<ChunkBound>,
    more: bool,
}

/// The rows of one chunk within its bounds. The query is read to its end in any case, or the connection would be lost.
fn rows(snapshot: &Snapshot, extract: &Extract<'_>, wanted: &Wanted) -> Outcome<Rows> {
    let mut chunk = snapshot.extract(extract, wanted.after.as_ref(), wanted.rows_max)?;
    let (mut rows, mut bytes, mut last) = (Vec::new(), 0, None);
    let mut more = false;
    while let Some(some) = chunk.next_rows()? {
        if bytes >= CHUNK_BYTES_MAX {
            more = true;
            continue;
        }
        bytes += some.iter().map(bytes_of).sum::<usize>();
        rows.extend(some);
        last = chunk.last_key();
    }
    more |= chunk.rows() >= wanted.rows_max;
    Ok(Rows { rows, last, more })
}

fn bytes_of(row: &SnapshotRow) -> usize {
    use crate::postgres::pgoutput::TupleCell;
    let cell = |cell: &TupleCell| match cell {
        TupleCell::Text(text) => text.len(),
        _ => 0,
    };
    row.iter().map(|each| size_of::<TupleCell>() + cell(each)).sum()
}

/// Puts `high` in, if the table is still what it was.
fn finished(control: &Control, answer: Answer) -> Outcome<Answer> {
    let Answer::Read(mut read) = answer else {
        return Ok(answer);
    };
    read.high = record_end(log_end(control)?);
    let name = TableName::new(&read.info.schema, &read.info.table);
    let now = match catalog::tables(control, &[name]) {
        Err(failure) if failure.class != Class::Transient => return Ok(Answer::Changed),
        now => now?,
    };
    let shape = |info: &TableInfo| TableInfo {
        rows_estimate: None,
        ..info.clone()
    };
    match now.first().map(shape) == Some(shape(&read.info)) {
        true => Ok(Answer::Read(read)),
        false => Ok(Answer::Changed),
    }
}

/// Behind a page's header there is no record yet: the last one ended where the page begins.
fn record_end(lsn: Lsn) -> Lsn {
    match lsn.0 % PAGE_BYTES {
        within if within <= HEADER_BYTES_MAX => Lsn(lsn.0 - within),
        _ => lsn,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_record_ends_before_the_header_of_an_empty_page() {
        for (end, expected) in [(8192, 8192), (8216, 8192), (8232, 8192), (8240, 8240), (9000, 9000)] {
            assert_eq!(record_end(Lsn(end)), Lsn(expected));
        }
    }
}
