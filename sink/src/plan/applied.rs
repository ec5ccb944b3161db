//! What we wrote last for an entity, as kept in the target beside the data. Its JSON has to stay readable.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use syncline_schemas::mapped::RowKey;
use syncline_schemas::pipeline::Lift;
use syncline_schemas::position::{Position, Vector};
use syncline_schemas::value::Number;

use crate::lane::Lane;

/// What we wrote last for an entity, as kept in the target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The row written or seen.
    pub row: Option<RowKey>,
    /// Where the app made that row, as far as that was known.
    pub made: Option<Position>,
    /// Whether we deleted that row ourselves: if the entity comes back to life the row is made anew.
    pub removed: bool,
    /// What the last record was made from, whichever lane had it.
    pub vector: Vector,
    /// What was written, or found to be as agreed, by field.
    pub fields: BTreeMap<String, AppliedField>,
    /// Sum of everything delivered, by counter.
    pub counters: BTreeMap<String, Number>,
    /// Fields that we left to the app's defaults when we made the row: what it holds there nobody said.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub left: BTreeSet<String>,
    /// The lanes that have not had the last record: what the last was made from that they had.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lanes: BTreeMap<String, Vector>,
    /// By which word on identity the rows belonged to the last record, if any ever moved them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<i64>,
    /// The records that had come into that one or gone from it, and by which words.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub members: BTreeMap<String, i64>,
}

/// What we wrote last into one field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedField {
    /// The app's own last word that was known then.
    pub word: Option<Position>,
    /// Hash of the value.
    pub hash: String,
    /// The vector that the mark told the app.
    pub vector: Vector,
}

impl AppliedField {
    /// Whether something was written, and nobody can tell from here what that is in terms of the field as it is now.
    pub fn is_unclear(&self) -> bool {
        self.hash.is_empty()
    }
}

impl Applied {
    /// The books in terms of the entity as it is now. Of a value only the hash is remembered, of which nothing can be made:
    /// where values are converted, it is unclear from then on, until the row is next found as agreed or written.
    pub fn lift(&mut self, lifts: &[Lift]) {
        for lift in lifts {
            let field = self.fields.remove(&lift.from);
            let counter = self.counters.remove(&lift.from);
            let left = self.left.remove(&lift.from);
            for made in &lift.into {
                let same = made.by.is_none();
                let unclear = || AppliedField {
                    word: None,
                    hash: String::new(),
                    vector: Vector::new(),
                };
                if let Some(field) = &field {
                    let field = if same { field.clone() } else { unclear() };
                    self.fields.entry(made.field.clone()).or_insert(field);
                }
                if let Some(counter) = counter.as_ref().filter(|_| same) {
                    self.counters
                        .entry(made.field.clone())
                        .or_insert_with(|| counter.clone());
                }
                if left {
                    self.left.insert(made.field.clone());
                }
            }
        }
    }

    /// The same, with nothing that a later record has to be made from.
    pub(super) fn renewed(&self) -> Self {
        Self {
            vector: Vector::new(),
            lanes: BTreeMap::new(),
            ..self.clone()
        }
    }

    /// What the last record was made from that the lane had; of a lane that was not there then, what the last was made from.
    pub fn seen_by(&self, lane: &Lane) -> &Vector {
        self.lanes.get(&lane.id).unwrap_or(&self.vector)
    }

    /// Whether some lane has had a record that one made from `vector` knows nothing of.
    pub fn is_ahead_of(&self, vector: &Vector) -> bool {
        !vector.dominates(&self.vector)
    }

    /// The lane has had a record made from `vector`; the others stay where they are.
    pub(super) fn advance(&mut self, lane: &Lane, vector: &Vector) {
        if self.is_ahead_of(vector) {
            self.lanes.insert(lane.id.clone(), vector.clone());
        } else {
            let last = std::mem::replace(&mut self.vector, vector.clone());
            if last != self.vector {
                for other in &lane.beside_ids {
                    self.lanes.entry(other.clone()).or_insert_with(|| last.clone());
                }
            }
            self.lanes.remove(&lane.id);
        }
        self.lanes
            .retain(|id, _| lane.beside_ids.contains(id) || *id == lane.id);
    }
}
