//! What one source says of one entity: the record on `<pipeline>.mapped.<entity>`, keyed by the entity id.
//!
//! Map makes it from one change event; merge joins it into the entity's state. It carries no verdict: whether a change
//! is an edit, an echo or both is a matter of what the app said before, which only merge knows.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::mark::Mark;
use crate::position::Position;
use crate::value::Value;

/// The key of a row in its app as JSON text: `{"id":7}`, columns in the order of the link's `key`, numbers bare.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RowKey(pub String);

impl RowKey {
    /// The key made of these columns.
    pub fn new<'a>(columns: impl IntoIterator<Item = (&'a str, &'a Value)>) -> Self {
        let columns: Vec<String> = columns
            .into_iter()
            .map(|(name, value)| format!("{}:{value}", serde_json::Value::from(name)))
            .collect();
        Self(format!("{{{}}}", columns.join(",")))
    }

    /// The columns and their values, if the text is what [`RowKey::new`] makes.
    pub fn columns(&self) -> Option<BTreeMap<String, Value>> {
        let json: BTreeMap<String, serde_json::Value> = serde_json::from_str(&self.0).ok()?;
        json.into_iter()
            .map(|(name, value)| Some((name, value.to_string().parse().ok()?)))
            .collect()
    }

    /// The values of the columns as texts, commas between them: what a person writes, and a column that names a row.
    pub fn bare(&self) -> String {
        let columns = self.columns().unwrap_or_default();
        let texts: Vec<String> = columns.values().map(bare).collect();
        texts.join(",")
    }
}

/// A value as a text without quotes.
pub fn bare(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        other => other.to_string(),
    }
}

impl fmt::Display for RowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What happened to the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RowOp {
    /// It is there, with these values (snapshot, insert, update).
    Present,
    /// It was deleted.
    Deleted,
    /// Nothing: a mark alone, saying what the app's users can see.
    Seen,
}

/// What one source says of one entity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapped {
    /// Entity id.
    pub cid: String,
    /// The app that says it.
    pub source: String,
    /// The row that says it.
    pub row: RowKey,
    /// The key this row had before this change, when the change moved it.
    pub was: Option<RowKey>,
    /// Where it stands in the source's log.
    pub position: Position,
    /// The source's commit time, microseconds since 1970.
    pub commit_us: i64,
    /// What happened.
    pub op: RowOp,
    /// The entity's fields as this row has them now. A field that is not here is not known (unchanged TOAST): never null.
    pub fields: Vec<FieldValue>,
    /// The fields before the change, where the source's log has them (REPLICA IDENTITY FULL).
    pub before: Vec<FieldValue>,
    /// The sink's mark, when the change is, wholly or in part, our own write.
    pub mark: Option<Mark>,
    /// Whether the source's clock was ahead by more than is allowed, so that `commit_us` is cut.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ahead: bool,
}

/// A field and its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldValue {
    /// Name of the entity's field.
    pub name: String,
    /// What it holds.
    pub value: Value,
}

/// The records on `<pipeline>.mapped.<entity>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(
    clippy::large_enum_variant,
    reason = "nearly every record is the large one, and none is kept in numbers"
)]
pub enum MappedRecord {
    /// What one source says.
    Said(Mapped),
    /// All rows that `link` had at the start, in input partition `partition` of `partitions`, have been mapped.
    /// Merge publishes nothing before it has this of every link, or the first app read would be written into the others.
    Loaded {
        /// `source.schema.table` of the link.
        link: String,
        /// Input partition that has been read.
        partition: i32,
        /// How many partitions the input has.
        partitions: i32,
    },
    /// A record is merged into another, or on its own again. Merge says it to the partition of the record.
    Moved {
        /// The record.
        cid: String,
        /// The one that it is merged into; none if it is on its own.
        to: Option<String>,
        /// Offset of the word that says so ([`crate::identity`]): the last one counts.
        at: i64,
    },
    /// What merge knows of a record that is merged into another. Merge says it to the partition of the latter.
    Part {
        /// The record that it is merged into.
        cid: String,
        /// The record.
        of: String,
        /// Offset of the word by which it came, or went.
        at: i64,
        /// Format of the state's text.
        format: i32,
        /// All that is known of it, in merge's own form; none if it is no part any more.
        state: Option<String>,
    },
    /// A row was first seen that is compared with others: a record of such rows alone is not published before that is done,
    /// or it would be written into apps that have it already. It comes just before what the row says.
    Sighted {
        /// The record that the row got.
        cid: String,
        /// The row ([`sighted_row`]).
        row: String,
    },
    /// A row has been compared.
    Matched {
        /// The record that the row got.
        cid: String,
        /// The row.
        row: String,
        /// The records that were found to be this one, and by which words: it waits for them.
        with: Vec<(String, i64)>,
    },
}

/// A row, where rows of all apps are told apart.
pub fn sighted_row(source: &str, row: &RowKey) -> String {
    format!("{source}|{row}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_key_reads_what_it_writes() {
        let (id, region) = (Value::from(7), Value::from("e\"u"));
        let key = RowKey::new([("id", &id), ("region", &region)]);
        assert_eq!(key.0, r#"{"id":7,"region":"e\"u"}"#);
        assert_eq!(key.columns().unwrap()["id"], id);
        assert_eq!(key.columns().unwrap()["region"], region);
    }
}
