//! A decision about words that did not see each other, on `<pipeline>.conflicts.<entity>`, keyed by `<cid>/<field>`.
//!
//! Every decision is kept: base, all candidates, who had seen what, the rule and its line, the outcome. So no losing value
//! is ever lost, and the record answers "why" without the state that made it.

use serde::{Deserialize, Serialize};

use crate::mapped::RowKey;
use crate::position::{Position, Vector};
use crate::value::Value;

/// In place of a field, where the question is whether the entity lives. A decision about it is `true` or `false`.
pub const WHOLE: &str = "*";

/// Where a conflict stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Waits for a person; nobody is overwritten.
    Open,
    /// Decided by the rule.
    Settled,
    /// A later word had seen all candidates, or the apps came to say the same: nothing is left to decide.
    Closed,
}

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// The same for the same candidates: first 16 hex digits of a hash of entity id, field and their positions.
    pub id: String,
    /// Entity id.
    pub cid: String,
    /// The field; `*` when the question is whether the entity is deleted or which row of an app speaks for it.
    pub field: String,
    /// Where it stands.
    pub status: Status,
    /// What the field held before the candidates, where that is known.
    pub base: Option<Value>,
    /// The words that did not see each other, in the order of source names.
    pub candidates: Vec<Candidate>,
    /// Name of the strategy, as in the pipeline file.
    pub strategy: String,
    /// Where the rule stands, as `acme.yaml:34`.
    pub rule: String,
    /// The agreed value after the decision.
    pub outcome: Value,
    /// The source whose word it is, if one word won.
    pub winner: Option<String>,
    /// What the decision was made from; an answer names it.
    pub vector: Vector,
    /// A sentence for a person.
    pub note: String,
    /// When an open question is decided without a person, microseconds since 1970; when it was, of one that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_us: Option<i64>,
}

/// A word that took part in a conflict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// The app, or `operator`.
    pub source: String,
    /// Its row.
    pub row: RowKey,
    /// What it said; none when it deleted the row.
    pub value: Option<Value>,
    /// What it held before.
    pub base: Option<Value>,
    /// Where.
    pub position: Position,
    /// When, microseconds since 1970.
    pub stamp_us: i64,
    /// What its author had seen of the others.
    pub seen: Vector,
    /// Whether it is what the app held when it was first read, not an edit.
    pub initial: bool,
}
