//! Conditions on agreed values: what does not meet one goes to nobody, and a person is told which condition and where.
//!
//! Only the fields that the condition is about wait; the others of the record flow. That is decided anew with every word,
//! so a value that meets the condition again closes the matter.

use std::collections::BTreeMap;

use syncline_schemas::conflict::{Candidate, Conflict, Status};
use syncline_schemas::lens::{Cell, is_met};
use syncline_schemas::pipeline::Check;
use syncline_schemas::value::Value;

use super::dispute::candidate;
use super::unit::Unit;
use super::{Decided, View};
use crate::merge::mutant::breaks;
use crate::merge::ruled::{Record, of_record};

impl View<'_> {
    /// Holds what violates a condition; gives the conflicts of conditions on the whole record.
    pub fn check(&self, decided: &mut [(&Unit<'_>, Decided<'_>)], record: &Record) -> Vec<Conflict> {
        for field in &self.entity.fields {
            let Some(check) = &field.check else { continue };
            let value = record.get(&field.name).cloned().unwrap_or_default();
            let mut cells: BTreeMap<String, Cell> = of_record(record).collect();
            cells.insert("value".to_owned(), Cell::Set(value.clone()));
            if violates(check, &cells) {
                self.hold(decided, check, &field.name, &value);
            }
        }
        let cells: BTreeMap<String, Cell> = record
            .iter()
            .map(|(name, value)| (name.clone(), Cell::Set(value.clone())))
            .collect();
        let violated = self.entity.checks.iter().filter(|check| violates(check, &cells));
        violated.map(|check| self.hold_all(decided, check)).collect()
    }

    fn hold(&self, decided: &mut [(&Unit<'_>, Decided<'_>)], check: &Check, field: &str, value: &Value) {
        let Some((unit, one)) = decided.iter_mut().find(|(unit, _)| unit.has(field)) else {
            return;
        };
        if one.held {
            return;
        }
        let candidates = standing(one);
        one.held = true;
        one.conflict = Some(self.violation(check, unit.name, field, candidates, value.clone()));
    }

    fn hold_all(&self, decided: &mut [(&Unit<'_>, Decided<'_>)], check: &Check) -> Conflict {
        let names = check.condition.names();
        let mut candidates = Vec::new();
        for (unit, one) in decided.iter_mut() {
            if names.iter().any(|name| unit.has(name)) {
                candidates.extend(standing(one));
                one.held = true;
            }
        }
        let fields: Vec<&str> = names.into_iter().collect();
        let name = format!("check.{}", check.name);
        self.violation(check, &name, &fields.join(", "), candidates, Value::Null)
    }

    fn violation(&self, check: &Check, name: &str, path: &str, candidates: Vec<Candidate>, outcome: Value) -> Conflict {
        Conflict {
            id: self.conflict_id(name, &candidates),
            cid: self.cid.to_owned(),
            field: name.to_owned(),
            status: Status::Open,
            base: None,
            candidates,
            strategy: "check".to_owned(),
            rule: check.rule.to_string(),
            outcome,
            winner: None,
            vector: self.vector.clone(),
            note: format!(
                "`{}` is not met at {path}: it goes to no app until it is",
                check.condition
            ),
            expires_us: None,
        }
    }
}

fn standing(one: &Decided<'_>) -> Vec<Candidate> {
    one.sight
        .standing()
        .iter()
        .map(|&index| candidate(&one.words[index]))
        .collect()
}

/// A condition that cannot be worked out is not met.
fn violates(check: &Check, cells: &BTreeMap<String, Cell>) -> bool {
    !breaks("checks-hold") && !is_met(&check.condition, &|name| cells.get(name)).unwrap_or(false)
}
