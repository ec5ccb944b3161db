//! A word: what one app last said of one field, and what its author had seen of the others when it was said.

use serde::{Deserialize, Serialize};
use syncline_schemas::position::{Position, Vector};
use syncline_schemas::value::Value;

use super::mutant::breaks;
use super::packed::packed;

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
    /// Of a text of several lines, what the app held before, by anybody's doing: the last first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub past: Vec<Value>,
    /// Of a guarded field, what the app held before it, back to what was last known there to be agreed: the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
    /// How often in a row the app has now put this very value back after having been corrected.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub put_back: u32,
    /// Whether its app's clock was set back before it: its stamp is that of the word before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub set_back: bool,
    /// Whether its app's clock was ahead by more than is allowed: its stamp is cut.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ahead: bool,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// What a field held before an edit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Since when.
    pub at: Position,
    /// What.
    pub held: Value,
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

packed!(Word {
    0 value, 1 base, 2 position, 3 stamp_us, 4 seen, 5 initial, 6 past, 7 steps, 8 put_back, 9 set_back, 10 ahead
});
packed!(Step { 0 at, 1 held });
packed!(Notice { 0 position, 1 vector, 2 stamp_us });

impl Word {
    /// Takes in a notice that stood before the word and was read after it.
    pub fn notice(&mut self, notice: &Notice) {
        if notice.position <= self.position && !breaks("late-marks-reach-back") {
            self.seen.join(&notice.vector);
            self.stamp_us = self.stamp_us.max(notice.stamp_us + 1);
            let agreed = self.steps.iter().rposition(|step| step.at <= notice.position);
            self.steps.drain(..agreed.unwrap_or(0));
        }
    }
}
