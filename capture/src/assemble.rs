//! Pure: messages of the log to records. Knows transactions, ordinals, key changes and marks; no clock, no Kafka.
//!
//! **The position of a row.** A row must have its position before its transaction's end has been read (a transaction may
//! be larger than memory), and pgoutput's BEGIN names only where the commit record *starts*. So the LSN of a row's position
//! is one byte into the commit record: after the end of every earlier commit, which may be the very byte at which this
//! record starts, and before its own end. The position at rest, after a commit or an idle message, is the end LSN itself
//! with ordinal 0. Every row of a later transaction is therefore greater, every row of an earlier one smaller.
//!
//! What is not greater than the stored position has been written before; it is read (its marks and relations count)
//! and not written again.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use syncline_schemas::mark::{Mark, PlacedMark};
use syncline_schemas::position::{Lsn, Position};
use syncline_schemas::progress::{MarkRecord, Progress};

use crate::behind::Behind;
use crate::companions::Counts;
use crate::envelope::{Circumstances, Image, Misfit, Other, Registered};
use crate::keys;
use crate::marks::{Found, Marks};
use crate::postgres::pgoutput::{Begin, Commit, LogicalMessage, Message, Relation, TupleCell};
use crate::records::{Entry, MarkEntry, Moved, Records};

mod beside;
mod changes;
mod oversized;
mod parts;
mod rules;

pub use rules::{Messages, Rules};

use parts::{Bytes, Moment, Sides, Transaction, Writer, unsaid_json};

/// What a message means to the stage, besides its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    On,
    /// A transaction ended here; `position` may be written as progress and its LSN be confirmed afterwards.
    AtRest,
    /// The rows that follow have this shape: call [`Assembler::define`] before the next message.
    Shape(Relation),
}

/// What cannot be assembled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssembleError {
    /// A row does not fit its table.
    #[error("{table} at {position}: {misfit}")]
    Misfit {
        /// `schema.table`.
        table: String,
        /// Where the row stands.
        position: Position,
        /// Why.
        misfit: Misfit,
    },
    /// A row or message was refused before memory was taken for it.
    #[error("{} at {position} has {bytes} bytes, more than max_row_bytes", if table.is_empty() { "a logical message" } else { table })]
    Oversized {
        /// `schema.table`; empty for a message.
        table: String,
        /// Where it stands.
        position: Position,
        /// How large it is.
        bytes: u64,
    },
    /// The log is not in the order that the protocol promises.
    #[error("the log is out of order: {0}")]
    Protocol(&'static str),
}

/// How many messages had no records, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ignored {
    /// Logical messages of others.
    pub foreign_messages: u64,
    /// Messages under our prefix that are no mark.
    pub broken_marks: u64,
    /// Truncates, unless they are asked for.
    pub truncates: u64,
    /// Other changes that are not asked for.
    pub skipped: u64,
    /// Updates that change nothing of the records, where those are not asked for.
    pub unchanged: u64,
    /// Rows that had been written before.
    pub repeated_rows: u64,
}

/// The assembler of one source.
#[derive(Debug)]
pub struct Assembler {
    epoch: u64,
    stored: Position,
    /// Tables for which another position takes its place.
    behind: Behind,
    rules: Rules,
    tables: HashMap<u32, Option<Arc<Registered>>>,
    transaction: Option<Transaction>,
    marks: Marks,
    position: Position,
    /// Where the last transaction read before ended.
    last_commit: Option<Lsn>,
    records: Records,
    unsaid: Vec<usize>,
    ignored: Ignored,
}

impl Assembler {
    /// An assembler that goes on after `stored`.
    pub fn new(stored: Position, rules: Rules) -> Self {
        Self {
            epoch: stored.epoch,
            stored,
            behind: Behind::default(),
            rules,
            tables: HashMap::new(),
            transaction: None,
            marks: Marks::default(),
            position: stored,
            // Within a transaction (one byte into an aligned record) the position says nothing of the commit before it.
            last_commit: Some(stored.lsn).filter(|lsn| stored.ordinal == 0 && lsn.0 > 0 && lsn.0.is_multiple_of(8)),
            records: Records::default(),
            unsaid: Vec::new(),
            ignored: Ignored::default(),
        }
    }

    /// An assembler that goes on from there.
    pub fn going_on(progress: &Progress, rules: Rules) -> Self {
        Self {
            stored: progress.reached(),
            behind: Behind::of(progress.ahead.as_ref()),
            ..Self::new(progress.position, rules)
        }
    }

    /// The stored position is that of the snapshot: no commit has been read before it.
    pub fn after_snapshot(mut self) -> Self {
        self.last_commit = None;
        self
    }

    /// Up to where everything has been handed out: what to write as progress.
    pub fn position(&self) -> Position {
        self.position.max(self.stored)
    }

    /// The tables that are not so far, each with its own position.
    pub fn behind(&self) -> BTreeMap<String, Position> {
        self.behind.places(self.position, self.stored)
    }

    /// Whether there are any.
    pub fn has_behind(&self) -> bool {
        self.behind.is_any(self.position, self.stored)
    }

    /// Whether the table is one of them.
    pub fn is_behind(&self, table: &str) -> bool {
        self.behind.has(table, self.position, self.stored)
    }

    /// From here on no change of the table is written.
    pub fn wait(&mut self, table: &str) {
        self.behind.wait(table, self.position, self.stored);
    }

    /// Nothing more of the table is wanted.
    pub fn forget(&mut self, table: &str) {
        self.behind.forget(table);
    }

    /// Whether a change of the table at that position is one to be written.
    fn is_new(&self, table: &str, position: Position) -> bool {
        position > self.behind.floor(table, self.stored)
    }

    /// Whether a transaction is being read.
    pub fn in_transaction(&self) -> bool {
        self.transaction.is_some()
    }

    /// The records of the last message.
    pub fn records(&self) -> &Records {
        &self.records
    }

    /// What has been passed over so far.
    pub fn ignored(&self) -> Ignored {
        self.ignored
    }

    /// The plan of a table, by the object id that the log uses; none for a table whose changes are not wanted.
    pub fn define(&mut self, oid: u32, registered: Option<Arc<Registered>>) {
        self.tables.insert(oid, registered);
    }

    /// The plan of a table, by the object id that the log uses, if it is wanted and was announced.
    pub fn table(&self, oid: u32) -> Option<&Arc<Registered>> {
        self.tables.get(&oid)?.as_ref()
    }

    /// Where the last transaction read before ended.
    pub fn last_commit(&self) -> Option<Lsn> {
        self.last_commit
    }

    /// Takes back the row's records of the last message, because it cannot be written whole. What says that its
    /// transaction has begun stays.
    pub fn pass_over(&mut self) {
        self.records.rows.clear();
    }

    /// Nothing was under way at `lsn`, and everything before it has been handed out.
    pub fn idle(&mut self, lsn: Lsn) {
        if self.transaction.is_none() {
            self.position = self.position.max(Position::new(self.epoch, lsn, 0));
        }
    }

    /// Takes the message at `lsn` in; its records are in [`Assembler::records`] until the next call.
    pub fn push(&mut self, lsn: Lsn, message: &Message, now_ns: i64) -> Result<Step, AssembleError> {
        self.records.clear();
        let at = Moment { lsn, now_ns };
        match message {
            Message::Begin(begin) => self.begin(begin, lsn)?,
            Message::Commit(commit) => return self.commit(lsn, commit),
            Message::Origin(origin) => self.running()?.origin = Some((origin.name.clone(), origin.commit_lsn.0)),
            Message::Relation(relation) => return Ok(Step::Shape(relation.clone())),
            Message::Type(_) => (),
            Message::Insert(insert) => self.insert(at, insert)?,
            Message::Update(update) => self.update(at, update)?,
            Message::Delete(delete) => self.delete(at, delete)?,
            Message::Truncate(truncate) => self.truncate(at, truncate)?,
            Message::Logical(message) => return self.logical(at, message),
            Message::Oversized(oversized) => self.oversized(at, oversized)?,
            Message::StreamStart(_) | Message::StreamStop | Message::StreamCommit(_) | Message::StreamAbort(_) => {
                return Err(AssembleError::Protocol("a streamed transaction that was not asked for"));
            }
            Message::TwoPhase(_) => return Err(AssembleError::Protocol("two-phase commit that was not asked for")),
        }
        Ok(Step::On)
    }

    /// A row of the snapshot.
    pub fn snapshot_row(
        &mut self,
        registered: &Arc<Registered>,
        row: &[TupleCell],
        position: Position,
        circumstances: &Circumstances<'_>,
    ) -> Result<(), AssembleError> {
        self.records.clear();
        self.entry(registered, position, |writer| {
            let key = writer.snapshot_key(row)?;
            let value = writer.value(Image::None, Image::Row(row, Other::None), circumstances)?;
            Ok((key, Some(value)))
        })
    }

    fn running(&mut self) -> Result<&mut Transaction, AssembleError> {
        self.transaction
            .as_mut()
            .ok_or(AssembleError::Protocol("a change outside any transaction"))
    }

    fn begin(&mut self, begin: &Begin, lsn: Lsn) -> Result<(), AssembleError> {
        if self.transaction.is_some() {
            return Err(AssembleError::Protocol("a transaction within a transaction"));
        }
        self.transaction = Some(Transaction {
            lsn: Lsn(begin.final_lsn.0 + 1),
            first_lsn: lsn,
            commit_us: begin.commit_us,
            xid: begin.xid,
            origin: None,
            next_ordinal: 0,
            counts: Counts::default(),
        });
        Ok(())
    }

    fn commit(&mut self, lsn: Lsn, commit: &Commit) -> Result<Step, AssembleError> {
        let commit_us = self
            .transaction
            .as_ref()
            .ok_or(AssembleError::Protocol("a commit without its begin"))?
            .commit_us;
        let end = Position::new(self.epoch, commit.end_lsn, 0);
        let unclaimed: Vec<Found> = self.marks.end().collect();
        if end > self.stored {
            for found in unclaimed {
                self.place(found, commit_us);
            }
            self.tell_end(lsn)?;
        }
        self.transaction = None;
        self.last_commit = Some(lsn);
        self.position = end;
        Ok(Step::AtRest)
    }

    /// The position of the next change of the running transaction.
    fn next_position(&mut self) -> Result<Position, AssembleError> {
        let epoch = self.epoch;
        let transaction = self.running()?;
        let position = Position::new(epoch, transaction.lsn, transaction.next_ordinal);
        transaction.next_ordinal += 1;
        Ok(position)
    }

    /// The plan of the row's table and the row's position; none for a table that is not wanted.
    fn row(&mut self, oid: u32) -> Result<Option<(Arc<Registered>, Position)>, AssembleError> {
        let position = self.next_position()?;
        let registered = self
            .tables
            .get(&oid)
            .ok_or(AssembleError::Protocol("a row of a table not announced"))?;
        Ok(registered.clone().map(|registered| (registered, position)))
    }

    fn mark(&mut self, message: &LogicalMessage) -> Result<(), AssembleError> {
        let position = self.next_position()?;
        let commit_us = self.running()?.commit_us;
        let text = std::str::from_utf8(&message.content).ok();
        let Some((text, mark)) = text.and_then(|text| Some((text, Mark::from_text(text).ok()?))) else {
            self.ignored.broken_marks += 1;
            return Ok(());
        };
        if !self.rules.share.has(&mark.table) {
            self.ignored.foreign_messages += 1;
            return Ok(());
        }
        let found = Found {
            text: text.to_owned(),
            cid: mark.cid.clone(),
            position,
        };
        let unclaimable = self.marks.push(&mark, found);
        if let Some(found) = unclaimable.filter(|_| position > self.stored) {
            self.place(found, commit_us);
        }
        self.position = position;
        Ok(())
    }

    /// Hands out a mark that has no row.
    fn place(&mut self, found: Found, commit_us: i64) {
        let placed = PlacedMark {
            position: found.position,
            commit_us,
            mark: found.text,
        };
        self.records.marks.push(MarkEntry {
            key: found.cid,
            record: MarkRecord::Placed(placed),
        });
    }

    /// The mark that waits for this row.
    fn mark_of(
        &mut self,
        registered: &Registered,
        insert: bool,
        row: &[TupleCell],
        other: Option<&[TupleCell]>,
    ) -> Option<Arc<str>> {
        let values = |columns: &[String]| keys::values(&registered.table, row, other, columns);
        let found = self.marks.take(&registered.name, insert, values)?;
        Some(found.text.into())
    }

    /// Hands out one envelope, unless it was written before.
    fn change(
        &mut self,
        at: Moment,
        op: char,
        registered: &Arc<Registered>,
        position: Position,
        mark: Option<Arc<str>>,
        sides: Sides<'_>,
    ) -> Result<(), AssembleError> {
        self.position = position;
        let block = self.event(&registered.name, position, at.lsn)?;
        if !self.is_new(&registered.name, position) {
            self.ignored.repeated_rows += 1;
            return Ok(());
        }
        let transaction = self
            .transaction
            .take()
            .ok_or(AssembleError::Protocol("a change outside any transaction"))?;
        let circumstances = Circumstances {
            transaction: block,
            ..transaction.circumstances(op, at, self.last_commit)
        };
        let done = self.entry(registered, position, |writer| {
            let key = match sides.key_row {
                Some((row, other)) => writer.key(row, other)?,
                None => None,
            };
            let value = writer.value(sides.before, sides.after, &circumstances)?;
            Ok((key, Some(value)))
        });
        self.transaction = Some(transaction);
        done?;
        if let Some(entry) = self.records.rows.last_mut() {
            entry.mark = mark;
            entry.moved = sides.moved;
        }
        Ok(())
    }

    /// Hands out the tombstone of a deleted row.
    fn tombstone(
        &mut self,
        registered: &Arc<Registered>,
        position: Position,
        row: &[TupleCell],
        moved: Option<(Moved, Arc<str>)>,
    ) -> Result<(), AssembleError> {
        if !self.rules.tombstones || !self.is_new(&registered.name, position) {
            return Ok(());
        }
        self.entry(registered, position, |writer| Ok((writer.key(row, Other::None)?, None)))?;
        if let Some(entry) = self.records.rows.last_mut() {
            entry.moved = moved;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        registered: &Arc<Registered>,
        position: Position,
        write: impl FnOnce(&mut Writer<'_>) -> Result<(Bytes, Bytes), Misfit>,
    ) -> Result<(), AssembleError> {
        self.unsaid.clear();
        let mut writer = Writer {
            registered,
            out: &mut self.records.bytes,
            unsaid: &mut self.unsaid,
        };
        let (key, value) = write(&mut writer).map_err(|misfit| AssembleError::Misfit {
            table: registered.table.full_name(),
            position,
            misfit,
        })?;
        let unsaid = unsaid_json(&registered.table.columns, &self.unsaid);
        let registered = registered.clone();
        self.records.rows.push(Entry {
            registered,
            key,
            value,
            position,
            moved: None,
            mark: None,
            unsaid,
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
