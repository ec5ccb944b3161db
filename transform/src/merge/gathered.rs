//! Records that are one: what was said of each is kept apart, and looked at together.
//!
//! A merged record (the loser) keeps its state in full and goes on joining what its rows say. Whenever that changes,
//! the record that it is merged into (the winner) is sent all of it and keeps it as a part, replacing what it had: so
//! the order of arrival cannot matter, a split is to drop the part, and nothing that either ever knew is lost or mixed.
//! What was sent before what is kept, and is read again, knows less of the apps' logs, and replaces nothing.
//!
//! Resolve sees one state: the lanes of all, each part's under voices of their own ([`syncline_schemas::voice`]) and with all
//! that they have seen turned into the winner's terms. Until two records were one nobody had seen both, and no vector
//! says so. Every row speaks, also where several are of one app: what somebody edited in a duplicate is not lost, and
//! all of them are kept in agreement until somebody removes one.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use syncline_schemas::canonical::{Identity, Member};
use syncline_schemas::mapped::RowKey;
use syncline_schemas::pipeline::Entity;
use syncline_schemas::position::{Position, Vector};
use syncline_schemas::voice;

use super::compared::Compared;
use super::field_lane::FieldLane;
use super::mutant::breaks;
use super::packed::packed;
use super::state::{EntityState, Lane};
use super::word::{Notice, Word};

/// Where a record went last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Moved {
    /// Into which record; none if it is on its own.
    pub to: Option<String>,
    /// Offset of the word that says so.
    pub at: i64,
}

/// A record that is merged into this one, or was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Part {
    /// Offset of the word by which it came, or went.
    at: i64,
    /// What is known of it, in its own terms; none if it went again.
    state: Option<Box<EntityState>>,
}

packed!(Moved { 0 to, 1 at });
packed!(Part { 0 at, 1 state });

impl Part {
    /// Whether what is kept was sent after this.
    fn knows_more_than(&self, sent: Option<&EntityState>) -> bool {
        let (Some(kept), Some(sent)) = (&self.state, sent) else {
            return false;
        };
        let (kept, sent) = (kept.reach(), sent.reach());
        kept != sent && kept.dominates(&sent) && !breaks("parts-do-not-go-back")
    }
}

impl EntityState {
    /// Takes in where the record went. The last word counts, in whatever order they are read.
    pub fn move_to(&mut self, to: Option<String>, at: i64) {
        if self.moved.as_ref().is_none_or(|moved| moved.at < at) {
            self.moved = Some(Moved { to, at });
        }
    }

    /// Takes in what is known of a record that is merged into this one; none if it is no part any more.
    pub fn take_part(&mut self, of: &str, at: i64, state: Option<EntityState>) {
        let is_news = |part: &Part| part.at < at || (part.at == at && !part.knows_more_than(state.as_ref()));
        if self.parts.get(of).is_none_or(is_news) {
            let state = state.map(Box::new);
            self.parts.insert(of.to_owned(), Part { at, state });
        }
    }

    /// How far the apps' logs are known, by all that was heard of the record's rows. It never goes back. Marks without
    /// a row do not show in it.
    fn reach(&self) -> Vector {
        let mut reach = Vector::new();
        for (source, lanes) in &self.lanes {
            let lanes = lanes.values().filter(|lane| !lane.is_new());
            lanes.for_each(|lane| reach.advance(source, lane.at));
        }
        for (source, left) in &self.left {
            left.values().for_each(|left_at| reach.advance(source, *left_at));
        }
        for (source, rows) in &self.early {
            rows.values().for_each(|early| reach.advance(source, early.reach()));
        }
        reach
    }

    /// By which word a record came into this one, or went.
    pub(super) fn part_at(&self, of: &str) -> Option<i64> {
        self.parts.get(of).map(|part| part.at)
    }

    /// The record that this one is merged into, and by the word at which offset.
    pub fn merged_into(&self) -> Option<(&str, i64)> {
        let moved = self.moved.as_ref()?;
        Some((moved.to.as_deref()?, moved.at))
    }

    /// Offset of the word that moved it last.
    pub fn moved_at(&self) -> Option<i64> {
        self.moved.as_ref().map(|moved| moved.at)
    }

    /// What was said of this record and of no other: what the one that it is merged into is sent of it.
    #[must_use]
    pub fn alone(&self) -> Self {
        Self {
            moved: None,
            parts: BTreeMap::new(),
            compared: Compared::default(),
            ..self.clone()
        }
    }

    /// What the agreed record says of that.
    pub(super) fn identity(&self) -> Identity {
        let member = |(cid, part): (&String, &Part)| Member {
            cid: cid.clone(),
            at: part.at,
            joined: part.state.is_some(),
        };
        Identity {
            at: self.moved_at(),
            merged_into: self.merged_into().map(|(to, _)| to.to_owned()),
            members: self.parts.iter().map(member).collect(),
        }
    }

    /// The records that are in it, with what is known of each in its own terms.
    pub(super) fn joined(&self) -> impl Iterator<Item = (&str, &EntityState)> {
        let parts = self.parts.iter();
        parts.filter_map(|(cid, part)| Some((cid.as_str(), part.state.as_deref()?)))
    }

    /// What is known of those.
    pub(super) fn parts_mut(&mut self) -> impl Iterator<Item = &mut EntityState> {
        self.parts.values_mut().filter_map(|part| part.state.as_deref_mut())
    }

    /// Everything that is known of `cid` and of the records in it, in the terms of `cid`; people's words apart, which
    /// have their own ([`EntityState::answer`]). Notes in `unread` what [`EntityState::as_heard`] does.
    pub(super) fn gathered(&self, cid: &str, entity: &Entity, unread: &mut BTreeSet<Position>) -> Self {
        let mut all = Self {
            lanes: self.lanes.clone(),
            taken: self.taken.clone(),
            time_us: self.time_us,
            ..Self::default()
        };
        for (of, part) in self.joined() {
            let heard = part.as_heard(entity, unread);
            let part = heard.as_ref().unwrap_or(part);
            let terms = Terms { of, to: cid };
            for (app, lanes) in &part.lanes {
                all.lanes.insert(voice::of(app, of), terms.lanes(lanes));
            }
            for (counter, taken) in &part.taken {
                match all.taken.get(counter) {
                    Some(last) if last >= taken => {}
                    _ => drop(all.taken.insert(counter.clone(), taken.clone())),
                }
            }
            all.time_us = all.time_us.max(part.time_us);
        }
        all.forget_what_was_counted();
        all
    }

    /// What was added to a counter before the last stock-take of any part is in that.
    fn forget_what_was_counted(&mut self) {
        for (counter, taken) in &self.taken {
            for lane in self.lanes.values_mut().flat_map(BTreeMap::values_mut) {
                if let Some(lane) = lane.fields.get_mut(counter) {
                    lane.deltas.retain(|delta| delta.at_us > taken.at_us);
                }
            }
        }
    }
}

/// From the terms of one record to those of another.
#[derive(Clone, Copy)]
pub(super) struct Terms<'a> {
    /// Of this one.
    pub of: &'a str,
    /// To those of this one.
    pub to: &'a str,
}

impl Terms<'_> {
    fn vector(self, vector: &mut Vector) {
        if !vector.is_empty() && !breaks("terms-are-turned") {
            *vector = vector.seen_from(self.of, self.to);
        }
    }

    fn notice(self, notice: &mut Notice) {
        self.vector(&mut notice.vector);
    }

    /// The word, as seen from there.
    pub fn word(self, mut word: Word) -> Word {
        self.vector(&mut word.seen);
        word
    }

    fn lanes(self, lanes: &BTreeMap<RowKey, Lane>) -> BTreeMap<RowKey, Lane> {
        let mut lanes = lanes.clone();
        for lane in lanes.values_mut() {
            lane.removal.iter_mut().for_each(|removal| self.notice(removal));
            lane.fields.values_mut().for_each(|field| self.field(field));
        }
        lanes
    }

    fn field(self, lane: &mut FieldLane) {
        lane.word.iter_mut().for_each(|word| self.vector(&mut word.seen));
        lane.ahead.iter_mut().for_each(|notice| self.notice(notice));
        self.vector(&mut lane.knowledge);
        lane.elements.each_seen(|seen| self.vector(seen));
    }
}
