//! Counters: the sum of what every app added, on the terms of the file.
//!
//! The sum is true whatever its bounds: what an app added has happened. Beyond a bound a person is told and all apps get
//! the true sum (`hold`), or all apps show the bound (`clamp`). A clamped sum is remembered as it is, or it would depend on
//! the order of reading how much of it is lost: what comes in later first makes up for what is missing.

use syncline_schemas::conflict::{Candidate, Conflict, Status};
use syncline_schemas::pipeline::{Beyond, Bounds};
use syncline_schemas::value::{Number, Value};

use super::View;
use super::dispute::candidate;
use super::unit::Unit;
use crate::merge::causality::Said;
use crate::merge::field_lane::FieldLane;
use crate::merge::rule::rank;

/// What a counter comes to.
pub struct Counted {
    /// What all apps get.
    pub value: Value,
    /// What a person is told.
    pub conflict: Option<Conflict>,
}

/// A sum beyond a bound.
struct Excess<'b> {
    name: &'static str,
    bound: &'b Number,
    beyond: Beyond,
}

impl View<'_> {
    /// A counter; none if no app has said a number.
    pub fn count(&self, unit: &Unit<'_>, words: &[Said<'_>]) -> Option<Counted> {
        let sum = self.sum(unit.name)?;
        let excess = excess(&unit.terms.bounds, &sum);
        let value = match &excess {
            Some(Excess {
                bound,
                beyond: Beyond::Clamp,
                ..
            }) => (*bound).clone(),
            _ => sum.clone(),
        };
        let conflict = excess.map(|excess| self.beyond(unit, words, &sum, &excess));
        Some(Counted {
            value: Value::Number(value),
            conflict,
        })
    }

    /// What was counted last and all that was added since; without a stock-take, what it was at first and all that was
    /// ever added.
    fn sum(&self, field: &str) -> Option<Number> {
        let heard = self.speakers.iter().filter(|speaker| self.is_heard(speaker));
        let lanes: Vec<(&str, &FieldLane)> = heard
            .filter_map(|speaker| Some((speaker.source, speaker.lane.fields.get(field)?)))
            .collect();
        if let Some(taken) = self.state.taken.get(field) {
            let later = lanes.iter().flat_map(|(_, lane)| &lane.deltas);
            return Some(later.fold(taken.counted.clone(), |sum, delta| &sum + &delta.by));
        }
        let firsts = lanes.iter().filter_map(|(source, lane)| match &lane.first {
            Some(Value::Number(first)) => Some((rank(source, self.authority), first)),
            _ => None,
        });
        let initial = firsts.min_by_key(|(rank, _)| *rank).map(|(_, first)| first.clone())?;
        let added = lanes.iter().filter_map(|(_, lane)| lane.added.as_ref());
        Some(added.fold(initial, |sum, added| &sum + added))
    }

    fn beyond(&self, unit: &Unit<'_>, words: &[Said<'_>], sum: &Number, excess: &Excess<'_>) -> Conflict {
        let candidates: Vec<Candidate> = words.iter().map(candidate).collect();
        let Excess { name, bound, beyond } = excess;
        let (status, outcome, note) = match beyond {
            Beyond::Hold => (
                Status::Open,
                sum,
                format!("{name} the bound of {bound}: all apps get the true sum"),
            ),
            Beyond::Clamp => (
                Status::Settled,
                *bound,
                format!("{name} the bound of {bound}: the true sum is {sum}"),
            ),
        };
        Conflict {
            id: self.conflict_id(unit.name, &candidates),
            cid: self.cid.to_owned(),
            field: unit.name.to_owned(),
            status,
            base: None,
            candidates,
            strategy: unit.strategy.to_string(),
            rule: unit.rule.to_string(),
            outcome: Value::Number(outcome.clone()),
            winner: None,
            vector: self.vector.clone(),
            note,
            expires_us: None,
        }
    }
}

fn excess<'b>(bounds: &'b Bounds, sum: &Number) -> Option<Excess<'b>> {
    let below = bounds.min.as_ref().filter(|min| sum < min).map(|bound| Excess {
        name: "oversold: below",
        bound,
        beyond: bounds.below_min,
    });
    let above = || {
        bounds.max.as_ref().filter(|max| sum > max).map(|bound| Excess {
            name: "overstocked: above",
            bound,
            beyond: bounds.above_max,
        })
    };
    below.or_else(above)
}
