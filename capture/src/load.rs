//! The rows that are there when capture begins: tables in chunks, committed whole with their progress. They are read on
//! several connections ([`readers`]) and written by one thread ([`writing`]). A large table is divided among them ([`division`]): its
//! rows come in the order of their keys only within each part.
//!
//! After a crash the chunks that are committed are not read again; if there is none yet, all begins anew with a new slot. A row's
//! ordinal is the number of its table and its number within it in the order of writing, so that no two rows of a snapshot share a
//! position, in whatever order they come.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use syncline_runtime::{Outcome, Shutdown};
use syncline_schemas::position::Position;
use syncline_schemas::progress::{MarkRecord, Progress, SnapshotState};

use crate::assemble::{Assembler, Rules};
use crate::config::SourceConfig;
use crate::form::Fidelity;
use crate::known::Known;
use crate::outlet::Outlet;
use crate::postgres::catalog::TableInfo;
use crate::postgres::snapshot::Snapshot;
use crate::records::MarkEntry;
use crate::shapes::Shapes;

/// A table as parts that are read at the same time.
mod division;

/// Connections that read, pieces of chunks on their way.
mod readers;

/// Records of rows.
mod rows;

/// READ FIRST: the one thread that writes.
mod writing;

use division::{Part, Parts};
use readers::{Job, Readers};
use writing::Writing;

/// A table of fewer pages is read on one connection: 8 MB.
const DIVIDED_PAGES_MIN: u64 = 1_024;
/// Parts of a table for each connection, so that none reads long alone at its end.
const PARTS_PER_READER: u64 = 2;

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
        let threads_max = config.snapshots.threads_max;
        let (mut jobs, mut stopped, mut divided) = (Vec::new(), Vec::new(), Vec::new());
        for (index, table) in tables.iter().enumerate() {
            let parts = parts(table, progress, &snapshot, threads_max)?;
            let unwanted = Arc::default();
            jobs.extend(self::jobs(index, table, &parts, &unwanted));
            stopped.push(unwanted);
            divided.push(Some(parts));
        }
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
            assembler: Assembler::new(Position::default(), Rules::default()),
            tables,
            stopped,
            readings: tables.iter().map(|_| None).collect(),
            divided,
            open: Vec::new(),
            ended: Vec::new(),
            finished: Vec::new(),
            left: tables.len(),
            rows: 0,
            names: sorted(tables.iter().map(Pending::name)),
            all_names: sorted(tables.iter().map(Pending::name).chain(unread)),
        };
        let readers = Readers::start(snapshot, &config.dsn, threads_max, jobs)?;
        writing.run(readers, shapes)
    }
}

/// One for each part that is not in Kafka.
fn jobs(index: usize, table: &Pending<'_>, parts: &Parts, unwanted: &Arc<AtomicBool>) -> Vec<Job> {
    let job = |(part, bounds): (usize, &Part)| Job {
        index,
        part,
        bounds: bounds.clone(),
        info: table.info.clone(),
        columns: table.columns.clone(),
        select: table.select.map(str::to_owned),
        unwanted: Arc::clone(unwanted),
    };
    parts.left().map(job).collect()
}

/// What is left of the table: the parts of before, or a division of all of it if it is worth it. A statement of a person's own says
/// which rows there are and not where they lie: it is not divided.
fn parts(table: &Pending<'_>, progress: &Progress, snapshot: &Snapshot, threads_max: usize) -> Outcome<Parts> {
    let key = key(table.info);
    if let Some(parts) = begun(&table.name(), &progress.table(&table.name())) {
        // Keys of another key say nothing, nor do pages of a file that is there no longer, nor parts of a table of a statement.
        let is_stale = !parts.is_cut_by(&key)
            || match (parts.file(), table.select) {
                (_, Some(_)) => parts.has_borders(),
                (Some(file), None) => file != snapshot.file(table.info)?.number.to_string(),
                (None, None) => false,
            };
        if !is_stale {
            return Ok(parts);
        }
    }
    if threads_max == 1 || table.select.is_some() {
        return Ok(Parts::between(key, Vec::new()));
    }
    let file = snapshot.file(table.info)?;
    if file.pages < DIVIDED_PAGES_MIN {
        return Ok(Parts::between(key, Vec::new()));
    }
    let parts = (threads_max as u64).saturating_mul(PARTS_PER_READER);
    Ok(Parts::between(key, snapshot.borders(table.info, file, parts)?))
}

/// What cuts the table: of this table and no other of its name, the columns of its primary key by their numbers, which outlive
/// names, with their types, which say how keys are ordered.
fn key(info: &TableInfo) -> Vec<String> {
    let columns = info.primary_key.iter().filter_map(|name| info.column(name));
    let named = columns.map(|column| format!("{}.{} {}", info.oid, column.number, column.type_info.name));
    named.collect()
}

fn sorted(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// What is left of a table that has been begun with, if that can be read: to begin anew is never wrong.
fn begun(name: &str, state: &SnapshotState) -> Option<Parts> {
    let SnapshotState::Started {
        done_to: Some(text),
        rows,
    } = state
    else {
        return None;
    };
    match Parts::parse(text) {
        Ok(parts) => {
            tracing::info!(table = name, rows, "snapshot goes on after the last chunk in Kafka");
            Some(parts)
        }
        Err(error) => {
            tracing::warn!(
                table = name,
                "what is left of its snapshot cannot be read, it begins anew: {error}"
            );
            None
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
