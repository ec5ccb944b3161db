//! A word on who is who, on `<pipeline>.identity.<entity>`: two records are one, or are one no more, or are never to be
//! asked about again. A person says it, or the match that the file asks for.
//!
//! The topic has one partition and is kept for ever. So all words on identity stand in one order, which decides between two
//! that cannot both hold (A into B, B into A), and a replay decides the same. The place of a word is its offset.

/// Who says it where no person does: the match that the file asks for.
pub const MATCH: &str = "match";

/// One word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityWord {
    /// What is said.
    pub act: IdentityAct,
    /// The record that is merged, or split off again; of a pair that is rejected, the one whose id comes first.
    pub loser: String,
    /// The record that it is merged into; of one that is split off, none; of a pair, the other.
    pub winner: Option<String>,
    /// Who.
    pub by: String,
    /// Why.
    pub why: String,
    /// When, microseconds since 1970.
    pub at_us: i64,
}

/// What is said of two records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityAct {
    /// They are one: the loser's rows are the winner's from now on, and have always been.
    Merge,
    /// The loser is on its own again, as if it had never been merged.
    Split,
    /// They are not one, whatever they have in common.
    Reject,
}

impl IdentityAct {
    /// The word for it, which is also that of the wire.
    pub fn word(self) -> &'static str {
        match self {
            IdentityAct::Merge => "merge",
            IdentityAct::Split => "split",
            IdentityAct::Reject => "reject",
        }
    }
}
