//! What is made of several edits, worked out again: sums to the last unit, sets to the last element.
//!
//! Who had seen an element when it was taken away is told by the marks that stand before that in the same log.

use std::collections::{BTreeMap, BTreeSet};

use syncline_schemas::position::Vector;

use super::{One, Verdict, show};
use crate::agreement::apps::{APPS, COUNTED_AT_FIRST, Cell, Kind, Unit, set};
use crate::agreement::history::{By, is_covered};

impl One<'_> {
    /// Compares with what was agreed; of what was deleted in between only whether somebody ever said it.
    pub(super) fn counted(&self, unit: &Unit, verdict: &mut Verdict) {
        let edits = self.said(unit).count();
        verdict.edits += edits;
        let Some(agreed) = self.record.agreed(unit) else { return };
        if unit.kind == Kind::Set {
            self.no_element_invented(unit, &agreed, verdict);
        }
        if self.story.was_deleted() {
            return;
        }
        verdict.counted += 1;
        let expected = match unit.kind {
            Kind::Sum => self.sum(unit).to_string(),
            _ => self.united(unit),
        };
        if agreed.as_deref() != Some(expected.as_str()) {
            let what = format!("agreed is {}, and by the logs it is {expected}", show(Some(&agreed)));
            self.find(verdict, "miscounted", Some(unit), what);
        }
    }

    fn no_element_invented(&self, unit: &Unit, agreed: &Cell, verdict: &mut Verdict) {
        let said: BTreeSet<&str> = self
            .said(unit)
            .flat_map(|(_, state)| elements(state.held.as_ref()))
            .collect();
        for element in elements(Some(agreed)) {
            if !said.contains(element) {
                self.find(verdict, "invented", Some(unit), format!("nobody ever added {element}"));
            }
        }
    }

    /// What every row holds at first, and what users added to it.
    fn sum(&self, unit: &Unit) -> i64 {
        let amount = |held: Option<&Cell>| held.and_then(|cell| cell.as_deref()?.parse::<i64>().ok()).unwrap_or(0);
        let mut sum = COUNTED_AT_FIRST;
        for app in 0..APPS.len() {
            for pair in self.states(app, unit).windows(2) {
                if pair[1].by == By::User {
                    sum += amount(pair[1].held.as_ref()) - amount(pair[0].held.as_ref());
                }
            }
        }
        unit.most.map_or(sum, |most| sum.min(most))
    }

    /// Every element that somebody added and nobody who had seen that took away.
    fn united(&self, unit: &Unit) -> String {
        let sides: Vec<Side<'_>> = (0..APPS.len()).map(|app| self.side(app, unit)).collect();
        let stands = |(app, element): (usize, &str)| {
            let added = &sides[app].added[element];
            !sides.iter().enumerate().any(|(other, side)| {
                let Some(taken) = side.taken.get(element) else {
                    return false;
                };
                let transaction = self.transaction(app, added.at);
                match other == app {
                    true => taken.place > added.place,
                    false => {
                        is_covered(&taken.seen, app, transaction) || (added.at_first && side.first.contains(element))
                    }
                }
            })
        };
        let all = sides
            .iter()
            .enumerate()
            .flat_map(|(app, side)| side.added.keys().map(move |element| (app, *element)));
        let standing: Vec<&str> = all.filter(|one| stands(*one)).map(|(_, element)| element).collect();
        set(standing.into_iter())
    }

    /// What users of one app did to a set, and what they had seen by then: the marks that stand before it in their log.
    fn side(&self, app: usize, unit: &Unit) -> Side<'_> {
        let mut side = Side::default();
        let states = self.states(app, unit);
        let marks = &self.story.lanes[app].marks;
        for (place, state) in states.iter().enumerate().filter(|(_, state)| state.by == By::User) {
            let before = place.checked_sub(1).and_then(|before| states[before].held.as_ref());
            let (old, new) = (elements(before), elements(state.held.as_ref()));
            if state.made {
                side.first = new.iter().copied().collect();
            }
            let mut seen = Vector::new();
            let told = marks
                .iter()
                .filter(|marked| marked.at <= state.at && marked.mark.field(unit.name).is_some());
            told.for_each(|marked| seen.join(&marked.mark.vector));
            for element in new.iter().copied().filter(|element| !old.contains(element)) {
                let added = Added {
                    at: state.at,
                    place,
                    at_first: state.made,
                };
                side.added.insert(element, added);
            }
            for element in old.iter().copied().filter(|element| !new.contains(element)) {
                let seen = seen.clone();
                side.taken.insert(element, Taken { place, seen });
            }
        }
        side
    }
}

/// What users of one app did to a set.
#[derive(Default)]
struct Side<'a> {
    first: BTreeSet<&'a str>,
    added: BTreeMap<&'a str, Added>,
    taken: BTreeMap<&'a str, Taken>,
}

struct Added {
    /// The transaction.
    at: usize,
    /// The place among the states.
    place: usize,
    at_first: bool,
}

struct Taken {
    place: usize,
    seen: Vector,
}

fn elements(held: Option<&Cell>) -> Vec<&str> {
    let text = held.and_then(|cell| cell.as_deref()).unwrap_or_default();
    text.split(',').filter(|element| !element.is_empty()).collect()
}
