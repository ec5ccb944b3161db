//! Pure: a recorded case, and whether the rules still decide it as they did.
//!
//! It holds what the apps said of one record and what people decided, in the words that merge reads, and what came of it.
//! So it does not depend on mappings, topics or time: the same file gives the same answer for ever.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use syncline_schemas::conflict::{Conflict, Status};
use syncline_schemas::decision::{self, Decision};
use syncline_schemas::mapped::Mapped;
use syncline_schemas::pipeline::Entity;
use syncline_schemas::value::Value;
use syncline_transform::merge::{EntityState, resolve};

/// A recorded case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fixture {
    /// What it shows, for people.
    #[serde(default)]
    pub note: String,
    /// The entity.
    pub entity: String,
    /// The record's id.
    pub cid: String,
    /// What the apps said.
    pub said: Vec<Mapped>,
    /// What people decided, with the offset of each.
    #[serde(default)]
    pub decisions: Vec<Decided>,
    /// What time it was, where something has a deadline: microseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_us: Option<i64>,
    /// What must come of it.
    pub expect: Expected,
}

/// A decision and its place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decided {
    /// Its offset in the topic.
    pub offset: i64,
    /// The decision.
    pub decision: Decision,
}

/// What must come of a case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// Whether the record is deleted.
    #[serde(default)]
    pub deleted: bool,
    /// The agreed values.
    pub fields: BTreeMap<String, Value>,
    /// The fields that wait for a person.
    #[serde(default)]
    pub held: Vec<String>,
    /// The conflicts, by field.
    #[serde(default)]
    pub conflicts: BTreeMap<String, Verdict>,
}

/// What was decided about one field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// Open or settled.
    pub status: Status,
    /// Whose word won.
    pub winner: Option<String>,
}

impl Fixture {
    /// What the rules of `entity` make of the case.
    pub fn outcome(&self, entity: &Entity, authority: &[String]) -> Expected {
        let mut state = EntityState::default();
        self.said.iter().for_each(|said| state.join(said, entity));
        for decided in &self.decisions {
            state.decide(&decided.decision, decision::position(decided.offset));
        }
        self.time_us.iter().for_each(|time_us| state.tick(*time_us));
        let resolved = resolve(&self.cid, &state, entity, authority);
        let canonical = resolved.canonical;
        let verdict = |conflict: &Conflict| Verdict {
            status: conflict.status,
            winner: conflict.winner.clone(),
        };
        Expected {
            deleted: canonical.as_ref().is_some_and(|canonical| canonical.deleted),
            held: canonical
                .as_ref()
                .map(|canonical| canonical.held.clone())
                .unwrap_or_default(),
            fields: canonical.map(|canonical| canonical.fields).unwrap_or_default(),
            conflicts: resolved
                .conflicts
                .iter()
                .map(|conflict| (conflict.field.clone(), verdict(conflict)))
                .collect(),
        }
    }
}

impl Expected {
    /// What of `outcome` is not as expected: a line for each field.
    pub fn unlike(&self, outcome: &Expected) -> Vec<String> {
        let mut lines = Vec::new();
        if self.deleted != outcome.deleted {
            lines.push(format!("deleted is {}, expected {}", outcome.deleted, self.deleted));
        }
        if self.held != outcome.held {
            lines.push(format!("held are {:?}, expected {:?}", outcome.held, self.held));
        }
        let text = |value: Option<&Value>| value.map_or("nothing".to_owned(), ToString::to_string);
        for name in self
            .fields
            .keys()
            .chain(outcome.fields.keys().filter(|name| !self.fields.contains_key(*name)))
        {
            let (expected, is) = (self.fields.get(name), outcome.fields.get(name));
            if expected != is {
                lines.push(format!("{name} is {}, expected {}", text(is), text(expected)));
            }
        }
        let names = outcome
            .conflicts
            .keys()
            .filter(|name| !self.conflicts.contains_key(*name));
        for name in self.conflicts.keys().chain(names) {
            let (expected, is) = (self.conflicts.get(name), outcome.conflicts.get(name));
            if expected != is {
                lines.push(format!(
                    "the conflict on {name} is {}, expected {}",
                    told(is),
                    told(expected)
                ));
            }
        }
        lines
    }
}

fn told(verdict: Option<&Verdict>) -> String {
    match verdict {
        None => "none".to_owned(),
        Some(Verdict {
            winner: Some(winner), ..
        }) => format!("decided for {winner}"),
        Some(verdict) if verdict.status == Status::Open => "open".to_owned(),
        Some(_) => "made of all".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unlike_is_named() {
        let expected = Expected {
            fields: [("a".to_owned(), Value::from(1)), ("b".to_owned(), Value::from(2))].into(),
            ..Expected::default()
        };
        let outcome = Expected {
            fields: [("a".to_owned(), Value::from(1)), ("b".to_owned(), Value::from(3))].into(),
            held: vec!["b".to_owned()],
            ..Expected::default()
        };
        assert!(expected.unlike(&expected).is_empty());
        assert_eq!(
            expected.unlike(&outcome),
            [r#"held are ["b"], expected []"#, "b is 3, expected 2"]
        );
    }
}
