//! What is remembered of a captured table, beside how far its snapshot has come.
//!
//! A record of its own and not a part of the progress: progress is written with every batch, this only when it changes,
//! and a source may have thousands of tables.

/// The record on `<source>.syncline.tables`, keyed by [`TableRecord::key`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableRecord {
    /// The slot that captures it.
    pub slot: String,
    /// `schema.table`.
    pub table: String,
    /// What the catalogue said of it, as JSON that only capture reads.
    pub facts: String,
    /// Why its rows have to be read again: DDL has changed values without an event. None when they need not.
    pub needs_backfill: Option<String>,
    /// Why its changes are passed over, if they are. It is read anew when it goes on.
    pub stopped: Option<String>,
}

impl TableRecord {
    /// The key of the record.
    pub fn key(slot: &str, table: &str) -> String {
        format!("{slot}/{table}")
    }
}
