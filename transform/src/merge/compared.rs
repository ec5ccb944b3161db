//! Whether a record has been compared with the others, where the file asks for that.
//!
//! A record that is published before would be written into apps that have it already under another one. So one that consists
//! of rows nobody has compared yet waits; and if others were found to be it, it waits for them. What is known of that
//! only grows, so the order in which it is read does not matter.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use syncline_schemas::mapped::sighted_row;

use super::packed::packed;
use super::state::EntityState;

/// What is compared with others, and what has been.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Compared {
    /// Rows that are to be compared.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    sighted: BTreeSet<String>,
    /// Rows that have been.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    matched: BTreeSet<String>,
    /// Records that were found to be this one, and the offsets of the words that say so.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    with: BTreeMap<String, i64>,
}

packed!(Compared { 0 sighted, 1 matched, 2 with });

impl Compared {
    /// Whether nothing is known of it.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl EntityState {
    /// Takes in that a row is to be compared.
    pub fn sighted(&mut self, row: String) {
        self.compared.sighted.insert(row);
    }

    /// Takes in that a row has been compared, and which records were found to be this one.
    pub fn matched(&mut self, row: String, with: Vec<(String, i64)>) {
        self.compared.matched.insert(row);
        for (cid, at) in with {
            let known = self.compared.with.entry(cid).or_insert(at);
            *known = at.max(*known);
        }
    }

    /// Whether it waits: none of its rows has been compared, or one that was found to be it is not here yet.
    pub(super) fn waits(&self) -> bool {
        let Compared { sighted, matched, with } = &self.compared;
        if with.iter().any(|(cid, at)| self.part_at(cid) < Some(*at)) {
            return true;
        }
        let is_open = |row: &String| sighted.contains(row) && !matched.contains(row);
        let mut rows = self.lanes.iter().flat_map(|(source, lanes)| {
            let there = lanes.iter().filter(|(_, lane)| !lane.is_new());
            there.map(move |(row, _)| sighted_row(source, row))
        });
        sighted.iter().any(is_open) && rows.all(|row| is_open(&row))
    }
}
