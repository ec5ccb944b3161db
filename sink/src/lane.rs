//! A lane: the fields of a link that are written together, at once or when a schedule says so. Pure.
//!
//! Every link has one lane of all its fields, or, if it is hybrid, two: the main one writes what is live, the other the rest.
//! Each has an offset of its own in the target, so each goes its own way through the same topic; what they share is the row.
//! So each may do what concerns the row as a whole:
//!
//! - *A new row* is made of all fields, by the lane that comes first: a row with a part of its columns may be none that the app
//!   takes. A row *goes* with the lane that comes first too, for there is nothing left to write into.
//! - *The books* of an entity are one entry, for they say which row it is; what was written into a field is only touched by
//!   the field's lane. An entry is read, planned by and written while the offset rows of both lanes are locked, so no lane works
//!   on what the other is about to change.
//! - *Older and newer*: the entry has the vector of the newest record that any lane has seen, and that of each lane which is
//!   behind it. A lane that is behind writes its fields into the row as it is, and makes and removes none: of that the other
//!   lane knows more. Otherwise what is edited all day would never be delivered by night.
//!
//! The name of the second lane is made from which fields of which entity are live. So a file that divides the fields otherwise
//! has another set of lanes, which is noticed by the names of the offset rows alone: then all lanes begin where the last of
//! them stood. And two links of one target are never taken for one lane: what one of them has parked the other could neither
//! write nor leave alone.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};
use syncline_schemas::pipeline::{Link, Mode};
use syncline_schemas::schedule::Schedule;

/// Which fields of the link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Part {
    #[default]
    All,
    Only(BTreeSet<String>),
    Without(BTreeSet<String>),
}

/// Fields of a link that are written together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lane {
    /// Its name among those of its link; empty for the one that every link has.
    pub name: String,
    /// The names of the other lanes of the link.
    pub beside: Vec<String>,
    /// Its name in the books of an entity. Of a main lane too it tells which fields those are: what was noted of a lane of other
    /// fields does not hold of this one.
    pub id: String,
    /// The names in those books of the other lanes of the link.
    pub beside_ids: Vec<String>,
    part: Part,
}

impl Lane {
    /// The lane that every link has.
    pub fn main(link: &Link) -> Self {
        match &link.mode {
            Mode::Hybrid { live, .. } => Self {
                name: String::new(),
                beside: vec![rest_name(link, live)],
                id: named("live", live),
                beside_ids: vec![named("rest", live)],
                part: Part::Only(live.clone()),
            },
            Mode::Live | Mode::Batch(_) => Self::default(),
        }
    }

    /// The lane of what is not live; none unless the link is hybrid.
    pub fn rest(link: &Link) -> Option<Self> {
        match &link.mode {
            Mode::Hybrid { live, .. } => Some(Self {
                name: rest_name(link, live),
                beside: vec![String::new()],
                id: named("rest", live),
                beside_ids: vec![named("live", live)],
                part: Part::Without(live.clone()),
            }),
            Mode::Live | Mode::Batch(_) => None,
        }
    }

    /// Whether it writes this field.
    pub fn has(&self, field: &str) -> bool {
        match &self.part {
            Part::All => true,
            Part::Only(fields) => fields.contains(field),
            Part::Without(fields) => !fields.contains(field),
        }
    }

    /// What its offsets and what it has parked are kept under in the books of `target`. The name of a system has no `/`.
    pub fn place(target: &str, name: &str) -> String {
        match name {
            "" => target.to_owned(),
            name => format!("{target}/{name}"),
        }
    }
}

/// When the main lane of a link is written; none if at once.
pub fn main_schedule(link: &Link) -> Option<&Schedule> {
    match &link.mode {
        Mode::Batch(schedule) => Some(schedule),
        Mode::Live | Mode::Hybrid { .. } => None,
    }
}

/// When the rest of a hybrid link is.
pub fn rest_schedule(link: &Link) -> Option<&Schedule> {
    match &link.mode {
        Mode::Hybrid { rest, .. } => Some(rest),
        Mode::Live | Mode::Batch(_) => None,
    }
}

/// The name of the lane beside the main one, of the only link that the target has of its entity.
fn rest_name(link: &Link, live: &BTreeSet<String>) -> String {
    named("rest", [&link.entity].into_iter().chain(live))
}

/// A name that is another where these are others.
fn named<'a>(what: &str, parts: impl IntoIterator<Item = &'a String>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    let digits = hash
        .finalize()
        .iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect::<String>();
    format!("{what}-{digits}")
}

#[cfg(test)]
mod tests {
    use syncline_schemas::pipeline::{Direction, RuleRef};

    use super::*;

    fn link(live: &[&str]) -> Link {
        let rest = Schedule::Every { period_ms: 1_000 };
        let live = live.iter().map(|field| (*field).to_owned()).collect();
        Link {
            system: "crm".to_owned(),
            schema: "public".to_owned(),
            table: "contacts".to_owned(),
            entity: "customer".to_owned(),
            direction: Direction::Both,
            key: vec!["id".to_owned()],
            fields: Vec::new(),
            same_as: Vec::new(),
            mode: Mode::Hybrid { live, rest },
            rule: RuleRef::default(),
        }
    }

    #[test]
    fn every_field_is_in_one_lane() {
        let link = link(&["limit", "name"]);
        let (main, rest) = (Lane::main(&link), Lane::rest(&link).unwrap());
        for field in ["limit", "name", "email", "linked later"] {
            assert!(main.has(field) != rest.has(field), "{field}");
        }
        assert_eq!(
            (&main.beside[..], &rest.beside[..]),
            (&[rest.name.clone()][..], &[main.name.clone()][..])
        );
        assert_eq!(Lane::place("crm", &main.name), "crm");
        assert!(Lane::place("crm", &rest.name).starts_with("crm/rest-"));
    }

    #[test]
    fn a_lane_of_other_fields_has_another_name() {
        let names = |live: &[&str]| (Lane::rest(&link(live)).unwrap().name, Lane::main(&link(live)).id);
        assert_eq!(names(&["a", "b"]), names(&["b", "a"]));
        for other in [&["ab"][..], &["a"], &["a", "b", "c"]] {
            let (one, other) = (names(&["a", "b"]), names(other));
            assert!(one.0 != other.0 && one.1 != other.1, "{one:?} {other:?}");
        }
    }

    #[test]
    fn lanes_of_two_entities_are_two_whatever_fields_are_live() {
        let one = link(&["name"]);
        let other = Link {
            entity: "supplier".to_owned(),
            ..one.clone()
        };
        assert_ne!(Lane::rest(&one).unwrap().name, Lane::rest(&other).unwrap().name);
        assert_eq!(Lane::main(&other).beside, [Lane::rest(&other).unwrap().name]);
    }

    #[test]
    fn a_link_that_is_not_hybrid_has_one_lane_of_all_fields_whenever_it_is_written() {
        let period = Schedule::Every { period_ms: 1_000 };
        for mode in [Mode::Live, Mode::Batch(period)] {
            let link = Link { mode, ..link(&[]) };
            assert_eq!((Lane::main(&link), Lane::rest(&link)), (Lane::default(), None));
            assert!(Lane::main(&link).has("anything"));
        }
    }
}
