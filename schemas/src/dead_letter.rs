//! A row that capture could not write: what is known of it, for whoever mends it and reads the table again.
//!
//! It holds the row's values as they are. Whoever may read the dead letters may read the table.

/// The record on `<source>.syncline.dead_letters`, keyed by its table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The slot that it came through.
    pub slot: String,
    /// `schema.table`; empty for a logical message.
    pub table: String,
    /// Debezium's letter for the change; `m` for a message, `r` for a row of a snapshot.
    pub op: char,
    /// The key as JSON, if it is known.
    pub key: Option<String>,
    /// Where its record would stand.
    pub position: String,
    /// Where the change stands in the log.
    pub lsn: String,
    /// Why it could not be written, as a code.
    pub code: String,
    /// The same in words.
    pub reason: String,
    /// How large the row is, as it came.
    pub bytes: u64,
    /// Its columns, as far as they are known.
    pub columns: Vec<DeadColumn>,
}

/// A column of such a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadColumn {
    /// Its name.
    pub name: String,
    /// What it held.
    pub content: DeadContent,
}

/// What a column of such a row held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeadContent {
    /// NULL.
    Null,
    /// As PostgreSQL prints it, UTF-8 or not.
    Text(Vec<u8>),
    /// A text of so many bytes that did not fit; none: its length is not known.
    LeftOut(Option<u64>),
}
