//! Two records that may be one, on `<pipeline>.reviews.<entity>`, keyed by the item's id, compacted: what the match is not
//! sure enough of to say so itself. A person's word on identity settles it; which of them are open is what the words say.

use sha2::{Digest, Sha256};

use crate::mapped::RowKey;
use crate::value::Number;

/// A pair to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Review {
    /// What it is called, the same in every replay.
    pub id: String,
    /// Why a person is asked.
    pub kind: ReviewKind,
    /// The record whose id comes first, and its row.
    pub one: Side,
    /// The other.
    pub other: Side,
    /// What the parts that agree weigh.
    pub score: Number,
    /// The parts that agree, as the file says them.
    pub agrees: Vec<String>,
    /// Why, in words.
    pub why: String,
}

/// A record and the row through which it was found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Side {
    /// The record.
    pub cid: String,
    /// The app.
    pub source: String,
    /// The row.
    pub row: RowKey,
}

/// Why a person is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReviewKind {
    /// They have something in common, and not enough.
    Unsure,
    /// They have enough in common, but so have others, or one app would have two rows of it.
    Ambiguous,
    /// Two rows of one app have enough in common to be one.
    Duplicate,
}

impl ReviewKind {
    /// The word for it, which is also that of the wire.
    pub fn word(self) -> &'static str {
        match self {
            ReviewKind::Unsure => "unsure",
            ReviewKind::Ambiguous => "ambiguous",
            ReviewKind::Duplicate => "duplicate",
        }
    }
}

/// The id of the question whether these two records are one.
pub fn id(entity: &str, one: &str, other: &str) -> String {
    let pair = format!("{entity}\n{}\n{}", one.min(other), one.max(other));
    let digest = Sha256::digest(pair.as_bytes());
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
