//! A person's word, on `<pipeline>.decisions.<entity>`, keyed by the entity id. Its position is its offset in that topic.

use serde::{Deserialize, Serialize};

use crate::position::Vector;
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
}
