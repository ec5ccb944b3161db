//! What a row says of who it is, on `<pipeline>.sightings.<entity>`, keyed by app and row: once, when the row is first seen
//! and gets its record. Who may be one with whom is found out from these alone ([`crate::pipeline::Score`]).
//!
//! The topic has one partition, for whoever compares rows has to know them all, and is compacted: it has one sighting of
//! each row. It holds no values. Two rows agree in a trait if its hashes are the same.

use crate::mapped::RowKey;

/// A row, as it was first seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The record that it got.
    pub cid: String,
    /// Its app.
    pub source: String,
    /// Its key.
    pub row: RowKey,
    /// Whether the record was found by what the row says. Not so of a row that we made, or that got another key.
    pub first: bool,
    /// What it has of the parts that the file weighs.
    pub traits: Vec<Trait>,
    /// The rows of other apps that it names (`same_as`).
    pub claims: Vec<Claim>,
}

/// What a row holds of one part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trait {
    /// The part, as the file says it.
    pub part: String,
    /// A hash of the part and of the normalised value.
    pub hash: String,
}

/// A row of another app, by its key alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The app.
    pub source: String,
    /// The values of its key columns as texts, commas between them.
    pub key: String,
}

/// The records on the topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SightingRecord {
    /// A row.
    Seen(Sighting),
    /// All rows that `link` had at the start, in input partition `partition` of `partitions`, have been seen. Nobody is found
    /// before, or it would depend on which app was read first.
    Loaded {
        /// `source.schema.table` of the link.
        link: String,
        /// Input partition that has been read.
        partition: i32,
        /// How many partitions the input has.
        partitions: i32,
    },
}
