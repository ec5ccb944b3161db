//! Counters with stock-takes: what is there is what was counted, and all that was added since, by the stamps of the apps.
//!
//! A stock-take is a word on another field of the entity (`absolute_from`), and the later one replaces the earlier. What an
//! app added before it is in what was counted; so of every app only the additions with later stamps are kept, until the
//! next. Both are functions of the logs: the last stock-take is a greatest, the additions later than it a set.
//!
//! Stamps are the source's commit times as they are: a shelf is counted in physical time, whatever anybody had seen.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use syncline_schemas::mapped::Mapped;
use syncline_schemas::mark::Act;
use syncline_schemas::pipeline::{Entity, Field};
use syncline_schemas::position::Position;
use syncline_schemas::value::{Number, Value};

use super::field_lane::FieldLane;
use super::mutant::breaks;
use super::packed::packed;
use super::state::{EntityState, Lane};

/// Additions of one app that are kept apart since the last stock-take. Of more, the oldest are taken together: a stock-take
/// that comes later than so many additions of an app may count up to two of them too often.
const DELTAS_MAX: usize = 256;

/// What was counted, when. The greater is the later.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StockTake {
    /// Commit time, microseconds since 1970.
    pub at_us: i64,
    /// The app.
    pub source: String,
    /// Where it said so.
    pub position: Position,
    /// What it counted.
    pub counted: Number,
}

/// What an app added, when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// Commit time, microseconds since 1970; of several taken together, the last.
    pub at_us: i64,
    /// How much.
    pub by: Number,
}

packed!(StockTake { 0 at_us, 1 source, 2 position, 3 counted });
packed!(Delta { 0 at_us, 1 by });

/// What a row had added to the counters with stock-takes before a change of it.
pub struct Counters<'e>(Vec<(&'e Field, &'e str, Position, Number)>);

impl<'e> Counters<'e> {
    /// Of a row as it is.
    pub fn of(entity: &'e Entity, lane: &Lane) -> Self {
        let counted = |field: &'e Field| Some((field, field.terms.absolute_from.as_deref()?));
        let with_sum = |(field, from): (&'e Field, &'e str)| (field, from, lane.made, added(lane, &field.name));
        Self(entity.fields.iter().filter_map(counted).map(with_sum).collect())
    }

    /// The change has been joined: keeps what was added, and what was counted.
    pub fn note(self, state: &mut EntityState, said: &Mapped) {
        let mark = said.mark.as_ref().filter(|mark| mark.cid == said.cid);
        let restores = mark.is_some_and(|mark| mark.act == Act::Restore);
        for (field, from, made, before) in self.0 {
            note_count(state, said, &field.name, from);
            let counted_us = state.taken.get(&field.name).map(|taken| taken.at_us);
            let Some(lane) = state
                .lanes
                .get_mut(&said.source)
                .and_then(|lanes| lanes.get_mut(&said.row))
            else {
                continue;
            };
            // A row that we restore goes on with what its app had added; made otherwise it begins anew.
            let goes_on = lane.made == made || restores;
            let before = if goes_on { before } else { Number::zero() };
            let by = &added(lane, &field.name) - &before;
            let later = counted_us.is_none_or(|counted_us| said.commit_us > counted_us) || breaks("stock-takes-reset");
            if let Some(lane) = lane
                .fields
                .get_mut(&field.name)
                .filter(|_| later && by != Number::zero())
            {
                lane.note_delta(said.commit_us, by);
            }
        }
    }
}

fn added(lane: &Lane, field: &str) -> Number {
    let added = lane.fields.get(field).and_then(|lane| lane.added.clone());
    added.unwrap_or_else(Number::zero)
}

/// A word on `from` that is no first reading is a stock-take. What was added before the last one is in it.
fn note_count(state: &mut EntityState, said: &Mapped, counter: &str, from: &str) {
    let lane = state.lanes.get(&said.source).and_then(|lanes| lanes.get(&said.row));
    let word = lane.and_then(|lane| lane.fields.get(from)?.word.as_ref());
    let Some(word) = word.filter(|word| word.position == said.position && !word.initial) else {
        return;
    };
    let Value::Number(counted) = &word.value else { return };
    let taken = StockTake {
        at_us: said.commit_us,
        source: said.source.clone(),
        position: said.position,
        counted: counted.clone(),
    };
    if state.taken.get(counter).is_some_and(|last| *last >= taken) {
        return;
    }
    for lane in state.lanes.values_mut().flat_map(BTreeMap::values_mut) {
        if let Some(lane) = lane.fields.get_mut(counter) {
            lane.deltas.retain(|delta| delta.at_us > taken.at_us);
        }
    }
    state.taken.insert(counter.to_owned(), taken);
}

impl FieldLane {
    fn note_delta(&mut self, at_us: i64, by: Number) {
        let place = self.deltas.partition_point(|delta| delta.at_us < at_us);
        match self.deltas.get_mut(place).filter(|delta| delta.at_us == at_us) {
            Some(same) => same.by = &same.by + &by,
            None => self.deltas.insert(place, Delta { at_us, by }),
        }
        if self.deltas.len() > DELTAS_MAX {
            let oldest = self.deltas.remove(0);
            if let Some(next) = self.deltas.first_mut() {
                next.by = &next.by + &oldest.by;
            }
        }
    }
}
