//! A word: what one app last said of one field, and what its author had seen of the others when it was said.

use serde::{Deserialize, Serialize};
use syncline_schemas::position::{Position, Vector};
use syncline_schemas::value::Value;

/// The last word of one source on one field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    /// What was said.
    pub value: Value,
    /// What the app held before; none when that is not known.
    pub base: Option<Value>,
    /// Where it stands in the source's log.
    pub position: Position,
    /// When, in microseconds since 1970: the source's commit time, but later than anything its author had seen.
    pub stamp_us: i64,
    /// What its author had seen, as marks in the app's own log tell.
    pub seen: Vector,
    /// Whether it is what the app held when we first read the row. Nobody edited, so an edit beats it.
    pub initial: bool,
}

/// A notice in an app's log, left by a mark: from here on its users see what `vector` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Where the mark stands.
    pub position: Position,
    /// What the agreed value was made from.
    pub vector: Vector,
    /// The greatest stamp in it.
    pub stamp_us: i64,
}

impl Word {
    /// Takes in a notice that stood before the word and was read after it.
    pub fn notice(&mut self, notice: &Notice) {
        if notice.position <= self.position {
            self.seen.join(&notice.vector);
            self.stamp_us = self.stamp_us.max(notice.stamp_us + 1);
        }
    }
}
