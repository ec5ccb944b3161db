//! What is known of who rows are, as sightings tell it, and what two of them have in common.
//!
//! It is kept in the changelog of the entity's first partition under `~who/`, so memory is bounded by one row and those that
//! it is compared with: a hash that very many rows have is no reason to compare them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use syncline_runtime::Outcome;
use syncline_schemas::mapped::{RowKey, sighted_row};
use syncline_schemas::review::Side;
use syncline_schemas::sighting::{Claim, Sighting};
use syncline_schemas::value::Number;

use super::kin::Stored;
use super::{EntityShard, from_json, to_json};
use crate::kin::FAMILY_MAX;
use crate::store::EntityStore;

/// `~who/row/<app>|<row>`: what is known of a row.
pub(super) const ROW: &str = "~who/row/";
/// `~who/key/<app>|<key>`: the row that has this key, for those that name it.
const KEY: &str = "~who/key/";
/// `~who/named/<app>|<key>`: the rows that name the row with this key.
const NAMED: &str = "~who/named/";
/// `~who/by/<hash>`: the rows that have this in common.
const BY: &str = "~who/by/";
/// `~who/of/<cid>`: the rows of a record.
const OF: &str = "~who/of/";
/// `~who/todo/<app>|<row>`: rows that are to be compared. After all of the others but that of loading.
pub(super) const TODO: &str = "~who/todo/";
/// `~who/until/<link>/<partition>`: links whose rows have all been seen.
pub(super) const UNTIL: &str = "~who/until/";
/// Rows that are compared for having one thing in common. What more rows than that have says nothing of any two of them.
const IN_COMMON_MAX: usize = 64;

/// What is known of a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    pub cid: String,
    pub source: String,
    pub row: RowKey,
    /// Hash by part.
    pub traits: BTreeMap<String, String>,
    /// App and key of the rows that it names.
    pub claims: Vec<(String, String)>,
    /// Whether it got its record by what it says.
    pub first: bool,
    /// Whether it has been compared.
    pub done: bool,
}

impl Known {
    fn id(&self) -> String {
        sighted_row(&self.source, &self.row)
    }

    pub fn side(&self) -> Side {
        Side {
            cid: self.cid.clone(),
            source: self.source.clone(),
            row: self.row.clone(),
        }
    }
}

/// What two rows have in common.
pub(super) struct Pair {
    pub other: Known,
    pub score: Number,
    pub agrees: Vec<String>,
    /// Whether one names the other.
    pub named: bool,
}

impl<S: EntityStore> Stored<'_, S> {
    pub(super) fn json<T: for<'de> Deserialize<'de> + Default>(&mut self, key: &str) -> Outcome<T> {
        let text = self.text(key)?.filter(|text| !text.is_empty());
        text.map_or_else(|| Ok(T::default()), |text| from_json(&text))
    }

    pub(super) fn known(&mut self, id: &str) -> Outcome<Option<Known>> {
        let text = self.text(&format!("{ROW}{id}"))?;
        text.map(|text| from_json(&text)).transpose()
    }

    pub(super) fn put(&mut self, key: &str, value: &impl Serialize) {
        self.shard.log(key, to_json(value), self.work);
    }

    fn set_to_do(&mut self, id: &str) {
        self.shard.log(&format!("{TODO}{id}"), String::new(), self.work);
    }

    fn add(&mut self, key: &str, id: &str, rows_max: usize) -> Outcome<()> {
        let mut rows: BTreeSet<String> = self.json(key)?;
        // One more than count: then it is known to be of too many.
        if rows.len() <= rows_max && rows.insert(id.to_owned()) {
            self.put(key, &rows);
        }
        Ok(())
    }

    fn take(&mut self, key: &str, id: &str) -> Outcome<()> {
        let mut rows: BTreeSet<String> = self.json(key)?;
        if rows.remove(id) {
            self.put(key, &rows);
        }
        Ok(())
    }

    /// A row is seen. What it said at first counts, unless it is another row by now that has its key.
    pub(super) fn see(&mut self, seen: Sighting) -> Outcome<()> {
        let id = sighted_row(&seen.source, &seen.row);
        if let Some(before) = self.known(&id)? {
            if before.cid == seen.cid {
                return Ok(());
            }
            for hash in before.traits.values() {
                self.take(&format!("{BY}{hash}"), &id)?;
            }
            for (app, key) in &before.claims {
                self.take(&format!("{NAMED}{app}|{key}"), &id)?;
            }
            self.take(&format!("{OF}{}", before.cid), &id)?;
        }
        let own_key = format!("{}|{}", seen.source, seen.row.bare());
        self.put(&format!("{KEY}{own_key}"), &id);
        let claims = seen.claims.into_iter().map(|Claim { source, key }| (source, key));
        let known = Known {
            cid: seen.cid,
            source: seen.source,
            row: seen.row,
            traits: seen.traits.into_iter().map(|one| (one.part, one.hash)).collect(),
            claims: claims.collect(),
            first: seen.first,
            done: !seen.first,
        };
        for (part, hash) in &known.traits {
            if self.shard.is_key(part) {
                self.add(&format!("{BY}{hash}"), &id, IN_COMMON_MAX)?;
            }
        }
        self.add(&format!("{OF}{}", known.cid), &id, FAMILY_MAX)?;
        for (app, key) in &known.claims {
            self.add(&format!("{NAMED}{app}|{key}"), &id, IN_COMMON_MAX)?;
        }
        self.put(&format!("{ROW}{id}"), &known);
        if seen.first {
            self.set_to_do(&id);
        }
        // Who named this row before it was seen looks again.
        let named: BTreeSet<String> = self.json(&format!("{NAMED}{own_key}"))?;
        named.iter().for_each(|other| self.set_to_do(other));
        Ok(())
    }

    /// The rows that have something in common with this one, in the order of their names.
    pub(super) fn pairs(&mut self, row: &Known) -> Outcome<Vec<Pair>> {
        let (id, own_key) = (row.id(), format!("{}|{}", row.source, row.row.bare()));
        let mut ids: BTreeSet<String> = BTreeSet::new();
        for (part, hash) in &row.traits {
            let rows: BTreeSet<String> = match self.shard.is_key(part) {
                true => self.json(&format!("{BY}{hash}"))?,
                false => continue,
            };
            if rows.len() <= IN_COMMON_MAX {
                ids.extend(rows);
            }
        }
        let mut named: BTreeSet<String> = self.json(&format!("{NAMED}{own_key}"))?;
        for (app, key) in &row.claims {
            let other: Option<String> = self.json(&format!("{KEY}{app}|{key}"))?;
            named.extend(other);
        }
        ids.extend(named.iter().cloned());
        ids.remove(&id);
        let mut pairs = Vec::new();
        for other in ids {
            let Some(known) = self.known(&other)? else { continue };
            let pair = self.shard.weigh(row, known, named.contains(&other));
            pairs.extend(pair);
        }
        Ok(pairs)
    }

    /// The apps that have rows of these records.
    pub(super) fn apps(&mut self, cids: &[String]) -> Outcome<BTreeSet<String>> {
        let mut apps = BTreeSet::new();
        for cid in cids {
            let rows: BTreeSet<String> = self.json(&format!("{OF}{cid}"))?;
            for row in rows {
                // Those that we made are there because the others are.
                let known = self.known(&row)?.filter(|known| known.first);
                apps.extend(known.map(|known| known.source));
            }
        }
        Ok(apps)
    }
}

impl EntityShard {
    fn is_key(&self, part: &str) -> bool {
        self.room
            .finder
            .as_ref()
            .is_some_and(|finder| finder.keys.contains(part))
    }

    pub(super) fn link(&self) -> Option<Number> {
        let score = self.room.entity.score.as_ref()?;
        Some(score.link.clone())
    }

    /// What two rows have in common, if that is worth a look.
    fn weigh(&self, row: &Known, other: Known, named: bool) -> Option<Pair> {
        let agree = |part: &str| {
            let theirs = other.traits.get(part);
            theirs.is_some() && theirs == row.traits.get(part)
        };
        let rule = self.room.entity.score.as_ref();
        let (score, agrees) = rule.map_or_else(|| (Number::zero(), Vec::new()), |rule| rule.weigh(agree));
        let enough = rule.is_some_and(|rule| score >= rule.review);
        (named || enough).then_some(Pair {
            other,
            score,
            agrees,
            named,
        })
    }
}
