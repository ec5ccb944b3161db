//! What a person did, on `<pipeline>.actions`: who, to what, and why. A person's word on a field is no action, it is a
//! [`crate::decision::Decision`], which carries the same.
//!
//! Nothing that records need to flow depends on it: it is what the people who work on a question know of each other. The
//! topic has one partition, so "who was first" has one answer.

/// One thing that a person did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// What was done.
    pub kind: ActionKind,
    /// To what, and the key of the record: see [`conflict_subject`] and [`letter_subject`].
    pub subject: String,
    /// The state of the subject that the person had seen: the id of a conflict; empty where there is only one.
    pub concerns: String,
    /// Who.
    pub by: String,
    /// Why.
    pub why: String,
    /// When, microseconds since 1970.
    pub at_us: i64,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActionKind {
    /// A conflict: this person works on it.
    Take,
    /// A conflict: nobody works on it any more.
    Release,
    /// A dead letter: it was given back to the stage that had refused it.
    Replay,
    /// A dead letter: it is not wanted any more.
    Drop,
}

impl ActionKind {
    /// The word for it, which is also that of the wire.
    pub fn word(self) -> &'static str {
        match self {
            ActionKind::Take => "take",
            ActionKind::Release => "release",
            ActionKind::Replay => "replay",
            ActionKind::Drop => "drop",
        }
    }
}

/// The subject of an action on a conflict.
pub fn conflict_subject(entity: &str, cid: &str, field: &str) -> String {
    format!("{entity}/{cid}/{field}")
}

/// The subject of an action on a dead letter: its own place in its topic.
pub fn letter_subject(topic: &str, partition: i32, offset: i64) -> String {
    format!("{topic}/{partition}/{offset}")
}
