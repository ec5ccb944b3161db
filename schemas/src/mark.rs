//! The mark: what the sink leaves in an app's own log, in the same transaction as its write.
//!
//! It is the content of a transactional logical message (`pg_logical_emit_message(true, 'syncline', ...)`, PostgreSQL 14+
//! sends it through pgoutput). Capture finds it before the row it belongs to and hands it on; map and merge learn from it
//! which part of the change is our own write come back (the echo), and what the app's users have seen from there on.
//! A mark without a row change says only the latter: the app already had the agreed value.

use serde::{Deserialize, Serialize};

use crate::position::{Position, Vector};
use crate::value::{Number, Value};

/// Prefix of the logical message that carries a mark.
pub const PREFIX: &str = "syncline";

/// Name of the Kafka header with the mark of a row change: the mark's JSON text.
pub const HEADER: &str = "syncline.mark";

/// What the sink did to one row, and what the agreed values were made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The pipeline that wrote; marks of other pipelines are theirs.
    pub pipeline: String,
    /// Entity of the record delivered.
    pub entity: String,
    /// Entity id of the record delivered.
    pub cid: String,
    /// The table written, as `schema.table`.
    pub table: String,
    /// Key of the row as [`crate::mapped::RowKey`] text; none for an insert whose key the app makes.
    pub row: Option<String>,
    /// What was done.
    pub act: Act,
    /// What the agreed record was made from: users of this app have now seen that much, for `fields`.
    pub vector: Vector,
    /// Greatest stamp in the record, in microseconds since 1970: later edits here sort after it.
    pub stamp_us: i64,
    /// The fields that the app now has as agreed, whether or not they had to be written.
    pub fields: Vec<MarkedField>,
}

/// What the sink did to the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Act {
    /// Made the row.
    Insert,
    /// Made the row anew that a deletion took which does not stand: what its app said through it holds.
    Restore,
    /// Wrote some of its fields.
    Update,
    /// Removed the row.
    Delete,
    /// Wrote nothing: the row was as agreed already.
    Seen,
}

/// One field that the app now has as agreed; or, with neither value nor delivered sum, one that is only read there and
/// was kept ([`MarkedField::kept`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarkedField {
    /// Name of the entity's field.
    pub name: String,
    /// The value it has now, in entity terms; none for a counter, of which only the delivered sum is known.
    pub value: Option<Value>,
    /// For a counter, the sum of everything ever delivered to this row, this write included.
    pub delivered: Option<Number>,
}

/// A mark at its place in the log; also the record of marks without a row on `<source>.syncline.marks`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacedMark {
    /// Where in the app's log it stands.
    pub position: Position,
    /// Commit time of the transaction, microseconds since 1970.
    pub commit_us: i64,
    /// The mark as JSON text, as found in the log.
    pub mark: String,
}

impl Act {
    /// Whether the row was not there before.
    pub fn makes(self) -> bool {
        matches!(self, Act::Insert | Act::Restore)
    }
}

impl MarkedField {
    /// A field that the link only reads, of a row that is made again: nothing is agreed upon for this app and its users
    /// are told nothing. The row was made with what the app had said last, as far as that can be written.
    pub fn kept(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            value: None,
            delivered: None,
        }
    }

    /// Whether it is such a field.
    pub fn is_kept(&self) -> bool {
        self.value.is_none() && self.delivered.is_none()
    }
}

impl Mark {
    /// The fields that the app's users see as agreed from here on.
    pub fn told(&self) -> impl Iterator<Item = &MarkedField> {
        self.fields.iter().filter(|field| !field.is_kept())
    }

    /// The field `name`, if the mark speaks of it.
    pub fn field(&self, name: &str) -> Option<&MarkedField> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// The JSON text that goes into the log.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|error| unreachable!("a mark is always JSON: {error}"))
    }

    /// Reads what [`Mark::to_text`] wrote. Anybody may write messages with our prefix, so a wrong one is an ordinary error.
    pub fn from_text(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }
}
