//! What the assembler makes of the log, by the form that was asked for.

use std::collections::BTreeSet;

use crate::envelope::SourceBlock;
use crate::form::{Binaries, Fidelity, Form, Operation};
use crate::groups::Share;
use crate::selection::Selection;

/// What becomes a record.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Changes that become none.
    pub skipped: BTreeSet<Operation>,
    /// Whether an update that changes no column of the records becomes none.
    pub unchanged_skipped: bool,
    /// Whether a deleted row has a tombstone too.
    pub tombstones: bool,
    /// Whether begin, end and order of transactions are told.
    pub transactions: bool,
    /// With what ids: Debezium's are other ones for each event of a transaction.
    pub fidelity: Fidelity,
    /// What becomes of logical messages; nothing if none.
    pub messages: Option<Messages>,
    /// Of which tables the marks are ours: each slot of a system has all of them.
    pub share: Share,
}

/// What becomes of the apps' logical messages.
#[derive(Clone, Debug)]
pub struct Messages {
    /// Which of them.
    pub selection: Selection,
    /// How their content is written.
    pub binaries: Binaries,
    /// Their source, which is no table.
    pub source: SourceBlock,
}

/// Rows and tombstones of every change but TRUNCATE, and nothing beside them.
impl Default for Rules {
    fn default() -> Self {
        Self {
            skipped: BTreeSet::from([Operation::Truncate]),
            unchanged_skipped: false,
            tombstones: true,
            transactions: false,
            fidelity: Fidelity::Exact,
            messages: None,
            share: Share::All,
        }
    }
}

impl Rules {
    /// What the form says, for the source of that name on that database.
    pub fn of(form: &Form, prefix: &str, database: &str) -> Self {
        Self {
            skipped: form.skipped.clone(),
            unchanged_skipped: form.unchanged_skipped,
            tombstones: form.tombstones,
            transactions: form.transactions,
            fidelity: form.fidelity,
            messages: Some(Messages {
                selection: form.selection.clone(),
                binaries: form.binaries,
                source: SourceBlock::new(form, prefix, database, ("", "")),
            }),
            share: Share::All,
        }
    }

    /// The same for one of several slots of the system. What belongs to no table is for the first of them.
    #[must_use]
    pub fn shared(mut self, share: Share, leads: bool) -> Self {
        self.share = share;
        self.messages = self.messages.filter(|_| leads);
        self
    }
}
