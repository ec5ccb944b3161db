//! A person's word, on `<pipeline>.decisions.<entity>`, keyed by the entity id. Its position is its offset in that topic.
//!
//! Where the file names `approvers`, a word on a field holds when another person has approved it. The approval is a word
//! too, which says all that it approves: who reads it alone knows what was approved.

use serde::{Deserialize, Serialize};

use crate::position::{Lsn, Position, Vector};
use crate::value::Value;

/// Name of the source that a person's words belong to.
pub const OPERATOR: &str = "operator";

/// Which value holds, in answer to what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Entity id.
    pub cid: String,
    /// The field decided.
    pub field: String,
    /// The value that holds from now on.
    pub value: Value,
    /// The vector of the conflict it answers: what the person had seen. Words beyond it are not overruled.
    pub answers: Vector,
    /// Who decided.
    pub by: String,
    /// Why.
    pub why: String,
    /// When, microseconds since 1970.
    pub at_us: i64,
    /// Of an approval, the offset of the decision that it approves; the rest is as it says, but for who, why and when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approves: Option<i64>,
}

/// The position of the decision with this offset.
pub const fn position(offset: i64) -> Position {
    Position::new(0, Lsn(offset.cast_unsigned()), 0)
}

/// Whether two names are one person's: blanks around them and letter case make nobody another.
pub fn is_same_person(one: &str, other: &str) -> bool {
    one.trim().to_lowercase() == other.trim().to_lowercase()
}

/// Whether `by` may approve what `author` has decided, where these are named: another of them.
pub fn may_approve(approvers: &[String], by: &str, author: &str) -> bool {
    !is_same_person(by, author) && approvers.iter().any(|name| is_same_person(name, by))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_another_for_how_he_writes_his_name() {
        let approvers = ["ada", "Bob"].map(str::to_owned);
        assert!(may_approve(&approvers, "bob", "ada"));
        assert!(may_approve(&approvers, " BOB ", "carl"));
        assert!(!may_approve(&approvers, "Ada ", "ada"), "his own");
        assert!(!may_approve(&approvers, "carl", "ada"), "not named");
    }
}
