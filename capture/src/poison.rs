//! A row that cannot be written: what is known of it, and what `on_poison` makes of it.
//!
//! Three things poison a row: a value that its column's type has no form for, a record that Kafka does not take, and a
//! row larger than `max_row_bytes`. Capture stops in front of it, or stops its table, or lays the row aside as a dead
//! letter. Whichever it is happens in the Kafka transaction that the row would have been part of, so that it happens
//! once, and progress comes past the row only together with what was made of it.
//!
//! **A record that the broker refuses** is known only when its transaction is lost. So the next attempt is told which
//! records those were ([`Refused`]), and treats them as poisoned when it comes to them.

use std::collections::HashSet;

use syncline_runtime::{Class, Failure, Outcome};
use syncline_schemas::dead_letter::{DeadColumn, DeadContent, DeadLetter};
use syncline_schemas::pipeline::care::OnPoison;
use syncline_schemas::position::{Lsn, Position};

use crate::assemble::AssembleError;
use crate::config::SourceConfig;
use crate::envelope::Registered;
use crate::keys;
use crate::metrics;
use crate::outlet::Outlet;
use crate::postgres::pgoutput::{Message, OldTuple, OversizedKind, TupleCell};

/// The code of a table whose changes are passed over from here on.
pub const TABLE_STOPPED: &str = "TABLE_STOPPED";
/// What of a row's texts goes into its dead letter: it has to fit where the row did not.
const LETTER_BYTES_MAX: usize = 512 << 10;
/// Records that a broker has refused are remembered up to this number; beyond it each costs an attempt.
const REFUSED_MAX: usize = 10_000;

/// A row that cannot be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poison {
    /// `UNENCODABLE_ROW`, `RECORD_TOO_LARGE` or `ROW_TOO_LARGE`.
    code: &'static str,
    /// Why, and where.
    reason: String,
    /// `schema.table`; empty for a logical message.
    pub table: String,
    position: Position,
    lsn: Lsn,
    op: char,
    key: Option<String>,
    bytes: u64,
    columns: Vec<DeadColumn>,
}

/// What the log, or a snapshot, holds of a row.
struct Row<'a> {
    op: char,
    lsn: Lsn,
    /// The row to show.
    cells: &'a [TupleCell],
    /// Of it only the key is worth something.
    is_key: bool,
    /// Where a part of the key may be that the row leaves out.
    old: &'a [TupleCell],
}

impl Poison {
    /// The change in `message` that the assembler could not make a record of; none for what is no fault of a row.
    pub fn of_change(error: &AssembleError, lsn: Lsn, message: &Message, plan: Option<&Registered>) -> Option<Self> {
        let row = row_of(lsn, message);
        match error {
            AssembleError::Misfit { position, .. } => {
                Some(Self::new("UNENCODABLE_ROW", error.to_string(), *position, &row, plan))
            }
            AssembleError::Oversized { position, bytes, .. } => {
                let mut poison = Self::new("ROW_TOO_LARGE", error.to_string(), *position, &row, plan);
                poison.bytes = *bytes;
                Some(poison)
            }
            AssembleError::Protocol(_) => None,
        }
    }

    /// The change in `message`, whose record Kafka does not take.
    pub fn of_record(record: &TooLarge, lsn: Lsn, message: &Message, plan: Option<&Registered>) -> Self {
        Self::new(
            "RECORD_TOO_LARGE",
            record.to_string(),
            record.position,
            &row_of(lsn, message),
            plan,
        )
    }

    /// A row of a snapshot that cannot be written, for this reason.
    pub fn of_snapshot(
        (code, reason): (&'static str, String),
        position: Position,
        cells: &[TupleCell],
        plan: &Registered,
    ) -> Self {
        let row = Row {
            op: 'r',
            lsn: position.lsn,
            cells,
            is_key: false,
            old: &[],
        };
        Self::new(code, reason, position, &row, Some(plan))
    }

    fn new(code: &'static str, reason: String, position: Position, row: &Row<'_>, plan: Option<&Registered>) -> Self {
        Self {
            code,
            reason,
            table: plan.map(|plan| plan.table.full_name()).unwrap_or_default(),
            position,
            lsn: row.lsn,
            op: row.op,
            key: plan.and_then(|plan| keys::whole_json(&plan.table, row.cells, row.old)),
            bytes: row.cells.iter().map(|cell| cell.len() as u64).sum(),
            columns: plan.map(|plan| columns(plan, row)).unwrap_or_default(),
        }
    }

    /// What to stop with.
    fn failure(&self) -> Failure {
        let text = format!("{} (LSN {})", self.reason, self.lsn);
        Failure::poison(self.code, text).hint(
            "mend the row or its column's type, raise the limit, or say what is to become of such rows: on_poison \
             stop_table or dead_letter; nothing after it is read",
        )
    }

    fn letter(&self, slot: &str) -> DeadLetter {
        DeadLetter {
            slot: slot.to_owned(),
            table: self.table.clone(),
            op: self.op,
            key: self.key.clone(),
            position: self.position.to_string(),
            lsn: self.lsn.to_string(),
            code: self.code.to_owned(),
            reason: self.reason.clone(),
            bytes: self.bytes,
            columns: self.columns.clone(),
        }
    }

    /// Does with it what `on_poison` says. With [`TABLE_STOPPED`] the caller has to stop the table.
    pub fn judge(&self, config: &SourceConfig, outlet: &mut Outlet) -> Outcome<()> {
        let failure = self.failure();
        match config.care.on_poison {
            OnPoison::StopTable if !self.table.is_empty() => {
                metrics::poisoned(&config.name, &self.table, self.code);
                Err(Failure::poison(TABLE_STOPPED, failure))
            }
            OnPoison::Stop | OnPoison::StopTable => Err(failure),
            OnPoison::DeadLetter => {
                outlet.send_letter(&self.letter(&config.slot))?;
                // A table full of such rows is one line for each doubling, not for each row.
                if metrics::poisoned(&config.name, &self.table, self.code).is_power_of_two() {
                    tracing::warn!(
                        code = self.code,
                        source = config.name,
                        table = self.table,
                        "laid aside as a dead letter: {}",
                        self.reason
                    );
                }
                Ok(())
            }
        }
    }
}

/// Whether a failure to get a plan of a table concerns that table alone: its schema is refused, and so it will be.
pub fn is_of_the_table(failure: &Failure) -> bool {
    failure.class != Class::Transient
        && ["SCHEMA_INCOMPATIBLE", "REGISTRY_REFUSED", "NAME_ILLEGAL"].contains(&failure.code)
}

fn row_of(lsn: Lsn, message: &Message) -> Row<'_> {
    let (op, new, old) = match message {
        Message::Insert(insert) => ('c', &insert.new[..], &OldTuple::None),
        Message::Update(update) => ('u', &update.new[..], &update.old),
        Message::Delete(delete) => ('d', &[][..], &delete.old),
        Message::Oversized(oversized) => match &oversized.what {
            OversizedKind::Change { op, old, new, .. } => (*op, &new[..], old),
            OversizedKind::Logical { .. } => ('m', &[][..], &OldTuple::None),
        },
        Message::Logical(_) => ('m', &[][..], &OldTuple::None),
        _ => ('t', &[][..], &OldTuple::None),
    };
    let (old, only_key) = match old {
        OldTuple::None => (&[][..], false),
        OldTuple::Key(cells) => (&cells[..], true),
        OldTuple::Full(cells) => (&cells[..], false),
    };
    let is_old = op == 'd' || new.is_empty();
    Row {
        op,
        lsn,
        cells: if is_old { old } else { new },
        is_key: is_old && only_key,
        old,
    }
}

fn text(cell: &TupleCell) -> Option<&[u8]> {
    match cell {
        TupleCell::Text(text) => Some(text),
        TupleCell::Null | TupleCell::Unchanged | TupleCell::Binary(_) => None,
    }
}

/// The columns as far as the row has them. What is masked or left out of the records is left out here.
fn columns(plan: &Registered, row: &Row<'_>) -> Vec<DeadColumn> {
    let mut room = LETTER_BYTES_MAX;
    let all = plan.table.columns.iter().enumerate();
    let mut columns = Vec::new();
    for (index, column) in all.filter(|(index, _)| !row.is_key || plan.table.identified.contains(index)) {
        let content = match row.cells.get(index) {
            Some(TupleCell::Null) => DeadContent::Null,
            Some(cell) => match text(cell) {
                Some(text) if text.len() <= room && !column.hidden && column.mask.is_none() => {
                    room -= text.len();
                    DeadContent::Text(text.to_vec())
                }
                Some(text) => DeadContent::LeftOut(Some(text.len() as u64)),
                None => continue,
            },
            None => DeadContent::LeftOut(None),
        };
        columns.push(DeadColumn {
            name: column.name.clone(),
            content,
        });
    }
    columns
}

/// A record that Kafka does not take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{table} at {position}: its record has {bytes} bytes, more than {} takes", if *refused { "the broker" } else { "the producer" })]
pub struct TooLarge {
    /// `schema.table`.
    pub table: String,
    /// Where it stands.
    pub position: Position,
    /// Of key and value.
    pub bytes: usize,
    /// The broker has said so; the producer otherwise.
    pub refused: bool,
}

/// Records that a broker has refused for their size, by topic, key and length of the value: what is the same when they
/// are read again.
#[derive(Clone, Debug, Default)]
pub struct Refused(HashSet<(String, Option<Vec<u8>>, usize)>);

impl Refused {
    /// Whether this record is one of them.
    pub fn has(&self, topic: &str, key: Option<&[u8]>, value_bytes: usize) -> bool {
        !self.0.is_empty()
            && self
                .0
                .contains(&(topic.to_owned(), key.map(<[u8]>::to_vec), value_bytes))
    }

    /// Takes note of what the broker has refused, if that is why `failure` came. It will come past them, unless
    /// capture is to stop in front of such records.
    pub fn learn(&mut self, failure: Failure, outlet: &Outlet, policy: OnPoison) -> Failure {
        // Whatever the client says first of a transaction that was lost because of them.
        let found = outlet.refused();
        if found.is_empty() {
            return failure;
        }
        let places: Vec<String> = found.iter().map(ToString::to_string).collect();
        let text = format!("{}: {}", failure.message, places.join(", "));
        let before = self.0.len();
        self.0.extend(
            found
                .into_iter()
                .take(REFUSED_MAX.saturating_sub(before))
                .map(|record| (record.topic, record.key, record.value_bytes)),
        );
        if policy == OnPoison::Stop || self.0.len() == before {
            return Failure::poison("RECORD_TOO_LARGE", text).hint(
                "raise max.message.bytes of the topic and message.max.bytes of the broker, or say what is to become of \
                 such rows: on_poison stop_table or dead_letter",
            );
        }
        Failure::transient("RECORD_TOO_LARGE", text)
    }
}

#[cfg(test)]
mod tests;
