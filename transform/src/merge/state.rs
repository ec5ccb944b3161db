//! `EntityState`: for every row that speaks for an entity, its last words. `join` knows positions and no rule.
//!
//! A row's changes come in the order of its app's log, so a change at or before the last one joined is a repetition and
//! is dropped. Marks without a row travel by another topic and may come late; they are joined by their position: they
//! reach every word that stands after them, whenever they are read, also in a row that has another key by then. A row
//! that is heard of under a new key before all is heard that it said under the old one waits ([`super::early`]).
//!
//! Marks name the fields which the app now has as agreed. Such a field is an echo as far as it holds what we wrote; what
//! differs (a trigger of the app rewrote it) is an edit by somebody who had seen our value. Fields which a row of our
//! making has beyond that (held ones, the app's defaults) nobody said: they are no words. A mark of a row that was made
//! again also names fields that are only read there: what such a field holds is a word if it is not the app's last.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use syncline_schemas::decision::Decision;
use syncline_schemas::mapped::{FieldValue, Mapped, RowKey, RowOp};
use syncline_schemas::mark::{Act, Mark};
use syncline_schemas::pipeline::Entity;
use syncline_schemas::position::Position;
use syncline_schemas::value::Value;

use super::answers::Answers;
use super::compared::Compared;
use super::early::{Early, end_of, is_end};
use super::field_lane::{FieldLane, notice};
use super::gathered::{Moved, Part};
use super::mutant::breaks;
use super::packed::{self, Packed, Packer, Unpacker, Unreadable, packed};
use super::stock::{Counters, StockTake};
use super::word::{Notice, Word};

/// Everything that was said of one entity, as far as it still matters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntityState {
    /// By source and row.
    pub(super) lanes: BTreeMap<String, BTreeMap<RowKey, Lane>>,
    /// What people said, by field.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) answers: BTreeMap<String, Answers>,
    /// Only in states of older versions, which kept the last answer on a field and not whose it is.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) decisions: BTreeMap<String, Word>,
    /// What time it is, as far as it was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) time_us: Option<i64>,
    /// The last stock-take of each counter that has any.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) taken: BTreeMap<String, StockTake>,
    /// Where the record went, if a word on identity ever moved it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) moved: Option<Moved>,
    /// The records that were ever merged into this one, by their ids.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) parts: BTreeMap<String, Part>,
    /// What of it is compared with others, or was.
    #[serde(default, skip_serializing_if = "Compared::is_empty")]
    pub(super) compared: Compared,
    /// By source and key: up to where the rows that had the key have gone on under others. What was said under it
    /// before that and is read later is of a row that has spoken since.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) left: BTreeMap<String, BTreeMap<RowKey, Position>>,
    /// By source and key: under which one the row has gone on that left it last.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) onto: BTreeMap<String, BTreeMap<RowKey, RowKey>>,
    /// By source and key: rows that wait until all is heard that they said under their old one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) early: BTreeMap<String, BTreeMap<RowKey, Early>>,
}

/// One row of one app.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lane {
    /// The last change joined; the default, before every other, while only notices have come.
    pub at: Position,
    /// The first change joined since the row was last made.
    pub made: Position,
    /// And when, microseconds since 1970, where some app's deletions are weighed by that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_us: Option<i64>,
    /// Whether it was we who made it.
    pub ours: bool,
    /// The last change that was the app's own doing: of a field, of the key, or of the row as a whole.
    pub said: Option<Position>,
    /// Whether the row is there.
    pub presence: Presence,
    /// The first of the app's own deletions that did not stand, since the row was made by anybody but us restoring it.
    pub undone: Option<Position>,
    /// Whether the app itself made the row, and had had one with this key that went: an edit, where a first load is
    /// none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub again: bool,
    /// Our last deletion of the row: from there on its app knows that the entity was deleted.
    pub removal: Option<Notice>,
    /// By field.
    pub fields: BTreeMap<String, FieldLane>,
    /// Where the app last said something of a field: what the row held of the others then, as far as that is not their own
    /// last word. So the words on fields that win together can be put together, whichever those are.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub beside: BTreeMap<Position, BTreeMap<String, Value>>,
}

/// Whether a row is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Presence {
    /// It is.
    #[default]
    Here,
    /// The app deleted it.
    Deleted { position: Position, stamp_us: i64 },
    /// We deleted it.
    Removed,
}

packed!(EntityState {
    0 lanes, 1 answers, 2 decisions, 3 time_us, 4 taken, 5 moved, 6 parts, 7 compared, 8 left, 9 onto, 10 early
});
packed!(Lane {
    0 at, 1 made, 2 ours, 3 said, 4 presence, 5 undone, 6 removal, 7 fields, 8 beside, 9 again, 10 made_us
});

impl Packed for Presence {
    fn is_unset(&self) -> bool {
        *self == Presence::Here
    }

    fn unset() -> Self {
        Presence::Here
    }

    fn pack(&self, out: &mut Packer) {
        match self {
            Presence::Here => out.number(0),
            Presence::Deleted { position, stamp_us } => {
                out.number(1);
                position.pack(out);
                stamp_us.pack(out);
            }
            Presence::Removed => out.number(2),
        }
    }

    fn unpack(from: &mut Unpacker<'_>) -> Result<Self, Unreadable> {
        Ok(match from.number()? {
            0 => Presence::Here,
            1 => Presence::Deleted {
                position: Packed::unpack(from)?,
                stamp_us: Packed::unpack(from)?,
            },
            2 => Presence::Removed,
            _ => return Err(Unreadable::Newer),
        })
    }
}

impl EntityState {
    /// As it is kept: equal states are equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        packed::to_bytes(self)
    }

    /// The state that was kept as these bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Unreadable> {
        packed::from_bytes(bytes)
    }

    /// Takes in what a source said of a row of which all is known that stands before. Of the entity only this is asked: which
    /// counters have stock-takes, which fields are guarded, and what is made of older fields.
    pub(super) fn take(&mut self, said: &Mapped, entity: &Entity) {
        let mark = said.mark.as_ref().filter(|mark| mark.cid == said.cid);
        let row = match (said.op, mark) {
            (RowOp::Seen, Some(_)) if !breaks("marks-follow-rows") => {
                self.gone_on(&said.source, &said.row, said.position)
            }
            _ => said.row.clone(),
        };
        let ends = is_end(said);
        let end = if ends { said.position } else { end_of(said.position) };
        // The row went when its end was heard. What has the old key now is another, or what marks told of one to come.
        let was = said.was.as_ref();
        let moves = was.filter(|was| !self.has_left(&said.source, was, end));
        let lanes = self.lanes.entry(said.source.clone()).or_default();
        // Offsets of two partitions are not compared: a position without an epoch may be one, unless it is that of an
        // end.
        if let Some(was) = was.filter(|_| ends || said.position.epoch > 0) {
            let left = self.left.entry(said.source.clone()).or_default();
            let left_at = left.entry(was.clone()).or_default();
            if said.position >= *left_at {
                *left_at = said.position;
                let onto = self.onto.entry(said.source.clone()).or_default();
                onto.insert(was.clone(), said.row.clone());
            }
        }
        let left_at = self.left.get(&said.source).and_then(|left| left.get(&said.row));
        let has_left = left_at.is_some_and(|left_at| said.position <= *left_at) && !breaks("who-left-is-silent");
        let moved = moves.filter(|was| lanes.get(was).is_some_and(|lane| lane.at < said.position));
        // A row that has gone on once more has a lane under its next key, which began there.
        if let Some(moved) = moved.and_then(|was| lanes.remove(was)).filter(|_| !has_left) {
            lanes.entry(said.row.clone()).or_default().take_place_of(moved);
        }
        if ends || (has_left && said.op != RowOp::Seen) {
            return;
        }
        let lane = lanes.entry(row).or_default();
        let newer = lane.go_on_in_terms_of(said, mark, &entity.migrate.lifts);
        let said = newer.as_ref().unwrap_or(said);
        let mark = said.mark.as_ref().filter(|mark| mark.cid == said.cid);
        let counters = Counters::of(entity, lane);
        match (said.op, mark) {
            (RowOp::Present, _) => lane.present(said, mark, entity),
            (RowOp::Deleted, _) => lane.deleted(said, mark),
            (RowOp::Seen, Some(mark)) => lane.notice(mark, said.position),
            (RowOp::Seen, None) => {}
        }
        counters.note(self, said);
    }

    /// Takes in a person's word, which stands at `position` in the log of decisions.
    pub fn decide(&mut self, decision: &Decision, position: Position) {
        let answers = self.answers.entry(decision.field.clone()).or_default();
        answers.take(decision, position);
    }

    /// The fields and groups that people said something of.
    pub(super) fn answered(&self) -> BTreeSet<&str> {
        self.answers
            .keys()
            .chain(self.decisions.keys())
            .map(String::as_str)
            .collect()
    }

    /// Up to where people said anything, whether or not it holds.
    pub(super) fn people_said(&self) -> Option<Position> {
        let answers = self.answers.values().filter_map(Answers::last);
        let before = self.decisions.values().map(|word| word.position);
        answers.chain(before).max()
    }

    /// What people said of a field or group that holds, where these have to approve it.
    pub fn answer(&self, name: &str, approvers: &[String]) -> Option<Word> {
        let told = self.answers.get(name).and_then(|answers| answers.holding(approvers));
        let before = self.decisions.get(name).filter(|_| approvers.is_empty()).cloned();
        told.into_iter().chain(before).max_by_key(|word| word.position)
    }

    /// Takes in what time it is: the greatest that was ever told.
    pub fn tick(&mut self, at_us: i64) {
        self.time_us = self.time_us.max(Some(at_us));
    }

    /// Whether nothing was ever said.
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
            && self.answered().is_empty()
            && self.moved.is_none()
            && self.parts.is_empty()
            && self.compared.is_empty()
            && self.early.is_empty()
    }
}

impl Lane {
    /// Whether no change has been joined yet.
    pub(super) fn is_new(&self) -> bool {
        self.at == Position::default()
    }

    fn is_repeated(&self, said: &Mapped) -> bool {
        !self.is_new() && said.position <= self.at && !breaks("twice-is-once")
    }

    /// The row got another key: this lane, on which only notices may have come, goes on where `moved` stood.
    fn take_place_of(&mut self, moved: Lane) {
        if !self.is_new() {
            return;
        }
        let early = std::mem::replace(self, moved);
        for (name, field) in early.fields {
            let lane = self.fields.entry(name).or_default();
            field.ahead.into_iter().for_each(|notice| lane.expect(notice));
        }
    }

    fn present(&mut self, said: &Mapped, mark: Option<&Mark>, entity: &Entity) {
        if self.is_repeated(said) {
            return;
        }
        if self.presence != Presence::Here {
            self.made_anew(said, mark);
        }
        self.watch(said, entity);
        if self.is_new() {
            self.made = said.position;
            self.held_before(&said.before, said);
        }
        self.at = said.position;
        let ours = mark.is_some_and(|mark| mark.act.makes());
        let mut own_doing = false;
        if self.made == said.position {
            self.made_us = (!entity.only_read.is_empty()).then_some(said.commit_us);
            self.ours = ours;
            own_doing = !ours;
        }
        // A key that the app gave the row is its own doing, though no word on any field: the record has to name the key
        // from here on, also of a row that we made and through which nobody ever said anything, or its writes would go to
        // a key that is left. Where our own write moved the row (an agreed field is a part of the key) the sink knows.
        own_doing |= said.was.is_some() && mark.is_none();
        for field in &said.fields {
            let lane = self.fields.entry(field.name.clone()).or_default();
            let marked = mark.and_then(|mark| mark.field(&field.name)).zip(mark);
            if ours && marked.is_none() {
                lane.hold(&field.value, said.position);
            } else {
                own_doing |= lane.change(&field.value, marked, said);
            }
        }
        if own_doing {
            self.said = Some(said.position);
            self.stand_beside(said.position);
        }
        if let Some(mark) = mark {
            self.learn_unread(mark, said);
        }
    }

    /// Of guarded fields, what leads to an edit is kept.
    fn watch(&mut self, said: &Mapped, entity: &Entity) {
        for field in said.fields.iter().filter(|field| entity.is_guarded(&field.name)) {
            let lane = self.fields.entry(field.name.clone()).or_default();
            lane.watch.get_or_insert_default();
        }
    }

    /// Keeps what the row holds beside the words said at `position`, and forgets where no word stands any more.
    fn stand_beside(&mut self, position: Position) {
        let word_of = |lane: &FieldLane| lane.word.as_ref().map(|word| word.position);
        let theirs: BTreeSet<Position> = self.fields.values().filter_map(word_of).collect();
        self.beside.retain(|at, _| theirs.contains(at));
        let other = |lane: &FieldLane| {
            let shadow = lane.shadow.as_ref()?;
            lane.word
                .as_ref()
                .is_none_or(|word| word.position != position && word.value != *shadow)
                .then(|| shadow.clone())
        };
        let held = |(name, lane): (&String, &FieldLane)| Some((name.clone(), other(lane)?));
        let held: BTreeMap<String, Value> = self.fields.iter().filter_map(held).collect();
        if theirs.contains(&position) && !held.is_empty() {
            self.beside.insert(position, held);
        }
    }

    /// The mark also speaks of fields that the change does not show (unchanged TOAST).
    fn learn_unread(&mut self, mark: &Mark, said: &Mapped) {
        let shown = |name: &str| said.fields.iter().any(|field| field.name == name);
        for field in mark.told().filter(|field| !shown(&field.name)) {
            self.fields
                .entry(field.name.clone())
                .or_default()
                .learn(&notice(mark, said.position));
        }
    }

    /// The row came back. Only where we restore it do the app's earlier words still hold: made otherwise it is another row
    /// that happens to have the same key. Made by us who had not heard of its deletion, the deletion does not stand either.
    fn made_anew(&mut self, said: &Mapped, mark: Option<&Mark>) {
        let position = said.position;
        let ours = mark.filter(|mark| mark.act.makes());
        let undone = match (ours, &self.presence) {
            (Some(mark), Presence::Deleted { position, .. }) => {
                let restored = mark.act == Act::Restore;
                (restored || !mark.vector.covers(&said.source, *position)).then_some(*position)
            }
            _ => None,
        };
        if ours.is_some_and(|mark| mark.act == Act::Restore) {
            self.undone = self.undone.or(undone);
            for lane in self.fields.values_mut() {
                lane.shadow = None;
                lane.delivered = None;
            }
        } else {
            self.undone = undone;
            self.again = ours.is_none();
            self.beside.clear();
            for lane in self.fields.values_mut() {
                let ahead = lane
                    .ahead
                    .drain(..)
                    .filter(|notice| notice.position > position)
                    .collect();
                *lane = FieldLane {
                    ahead,
                    ..FieldLane::default()
                };
            }
        }
        self.presence = Presence::Here;
        self.made = position;
    }

    /// A change whose old row the log carries, of a row never read before: the old row is what the app held at first.
    fn held_before(&mut self, before: &[FieldValue], said: &Mapped) {
        for field in before {
            self.fields
                .entry(field.name.clone())
                .or_default()
                .edit(&field.value, said);
        }
    }

    fn deleted(&mut self, said: &Mapped, mark: Option<&Mark>) {
        if self.is_repeated(said) {
            return;
        }
        self.at = said.position;
        // Whoever deleted it had seen what stands before, as whoever edits it has.
        self.fields.values_mut().for_each(|lane| lane.hear(said.position));
        match mark.filter(|mark| mark.act == Act::Delete) {
            Some(mark) => {
                self.presence = Presence::Removed;
                self.removal = Some(notice(mark, said.position));
            }
            None => {
                let clock_us = self
                    .fields
                    .values()
                    .map(|lane| lane.clock_us + 1)
                    .max()
                    .unwrap_or(i64::MIN);
                let stamp_us = said.commit_us.max(clock_us);
                self.presence = Presence::Deleted {
                    position: said.position,
                    stamp_us,
                };
                self.said = Some(said.position);
            }
        }
    }

    /// A mark without a row: the app had the agreed values already.
    fn notice(&mut self, mark: &Mark, position: Position) {
        let at = self.at;
        if !self.is_new() && position < self.made {
            return; // of a row that was here before this one
        }
        if let Presence::Deleted { position: of, stamp_us } = &mut self.presence
            && position <= *of
            && !mark.fields.is_empty()
        {
            *stamp_us = (*stamp_us).max(mark.stamp_us + 1);
        }
        for field in mark.told() {
            let lane = self.fields.entry(field.name.clone()).or_default();
            let notice = notice(mark, position);
            let is_silent = lane.is_silent();
            if position <= at {
                lane.learn(&notice);
            }
            if position > at || is_silent {
                lane.expect(notice);
            }
        }
    }
}
