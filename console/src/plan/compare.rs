//! Pure: the agreed records as they are, against those that another file would give.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use syncline_schemas::canonical::Canonical;
use syncline_schemas::conflict::Status;
use syncline_schemas::pipeline::Link;
use syncline_transform::merge::Resolved;

/// So many changed records are named.
const EXAMPLES_MAX: usize = 5;

/// What would change of one entity.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The entity.
    pub entity: String,
    /// Records that the file gives.
    pub records: usize,
    /// Those that are not there now.
    pub new: usize,
    /// Those that are there now and that nothing would speak of.
    pub gone: usize,
    /// Those that would hold something else.
    pub changed: usize,
    /// By field, how many records would hold something else.
    pub fields: BTreeMap<String, usize>,
    /// By field, how many conflicts would wait for a person that do not now.
    pub new_conflicts: BTreeMap<String, usize>,
    /// By field, how many would wait no more.
    pub ended_conflicts: BTreeMap<String, usize>,
    /// By app, how many rows would be written.
    pub writes: BTreeMap<String, usize>,
    /// Some of the changed records, with their fields.
    pub examples: BTreeMap<String, Vec<String>>,
}

impl Change {
    /// Whether anything would change.
    pub fn is_any(&self) -> bool {
        self.new + self.gone + self.changed > 0 || !self.new_conflicts.is_empty() || !self.ended_conflicts.is_empty()
    }

    /// Takes in one record, as it is and as it would be.
    pub fn record(&mut self, now: Option<&Canonical>, then: &Resolved, links: &[&Link]) {
        let Some(canonical) = &then.canonical else { return };
        self.records += 1;
        let differing = differing(now, canonical);
        match now {
            None => self.new += 1,
            Some(_) if differing.is_empty() => {}
            Some(_) => self.changed += 1,
        }
        for field in &differing {
            *self.fields.entry(field.clone()).or_default() += 1;
        }
        self.conflicts(now, then);
        for link in links.iter().filter(|link| is_written(link, now, canonical, &differing)) {
            *self.writes.entry(link.system.clone()).or_default() += 1;
        }
        if !differing.is_empty() && self.examples.len() < EXAMPLES_MAX {
            self.examples
                .insert(canonical.cid.clone(), differing.into_iter().collect());
        }
    }

    fn conflicts(&mut self, now: Option<&Canonical>, then: &Resolved) {
        let held: BTreeSet<&str> = now.into_iter().flat_map(|now| &now.held).map(String::as_str).collect();
        let open = then.conflicts.iter().filter(|conflict| conflict.status == Status::Open);
        let open: BTreeSet<&str> = open.map(|conflict| conflict.field.as_str()).collect();
        for field in open
            .iter()
            .filter(|field| !held.contains(*field) && !field.starts_with('*'))
        {
            *self.new_conflicts.entry((*field).to_owned()).or_default() += 1;
        }
        for field in held.iter().filter(|field| !open.contains(*field)) {
            *self.ended_conflicts.entry((*field).to_owned()).or_default() += 1;
        }
    }
}

/// The fields that would hold something else; `deleted` if that is what would change.
fn differing(now: Option<&Canonical>, then: &Canonical) -> BTreeSet<String> {
    let nothing = BTreeMap::new();
    let before = now.map_or(&nothing, |now| &now.fields);
    let names = before.keys().chain(then.fields.keys());
    let mut differing: BTreeSet<String> = names
        .filter(|name| before.get(*name) != then.fields.get(*name))
        .cloned()
        .collect();
    if now.is_some_and(|now| now.deleted != then.deleted) {
        differing.insert("deleted".to_owned());
    }
    differing
}

/// Whether the link's row would be written: for what would change, or for what is held now and would be no more.
fn is_written(link: &Link, now: Option<&Canonical>, then: &Canonical, differing: &BTreeSet<String>) -> bool {
    let writes = |name: &String| !then.held.contains(name) && link.field(name).is_some_and(|field| field.writes());
    let corrected = |name: &&String| {
        let word = then.app(&link.system).and_then(|app| app.word(name));
        word.is_some_and(|word| then.fields.get(*name) != Some(&word.value))
    };
    let freed = now.into_iter().flat_map(|now| &now.held).filter(corrected);
    link.writes() && (differing.contains("deleted") || differing.iter().chain(freed).any(writes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use syncline_schemas::canonical::Identity;
    use syncline_schemas::position::Vector;
    use syncline_schemas::value::Value;

    fn canonical(price: i64, held: &[&str]) -> Canonical {
        Canonical {
            cid: "c".to_owned(),
            deleted: false,
            deleted_us: None,
            fields: [("price".to_owned(), Value::from(price))].into(),
            held: held.iter().map(|name| (*name).to_owned()).collect(),
            counters: Vec::new(),
            vector: Vector::new(),
            stamp_us: 0,
            apps: Vec::new(),
            rules: String::new(),
            identity: Identity::default(),
        }
    }

    fn would_be(price: i64, held: &[&str]) -> Resolved {
        Resolved {
            canonical: Some(canonical(price, held)),
            ..Resolved::default()
        }
    }

    #[test]
    fn what_stays_is_no_change_and_what_does_not_is_named() {
        let mut same = Change::default();
        same.record(Some(&canonical(1, &[])), &would_be(1, &[]), &[]);
        assert!(!same.is_any());
        let mut other = Change::default();
        other.record(Some(&canonical(1, &["price"])), &would_be(2, &[]), &[]);
        other.record(None, &would_be(2, &[]), &[]);
        assert_eq!((other.records, other.changed, other.new), (2, 1, 1));
        assert_eq!(other.fields, [("price".to_owned(), 2)].into());
        assert_eq!(other.ended_conflicts, [("price".to_owned(), 1)].into());
    }
}
