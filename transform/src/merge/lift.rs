//! What was said in terms of an older version of the entity, in those of a newer one ([`Lift`]).
//!
//! `join` keeps what was said as it was said. A row's words stand under the older name until the row first speaks in newer
//! terms, which its log does once and for ever: there its [`FieldLane`] goes on under the newer name, with its values as
//! the file makes them. `resolve` looks at a state as if every row had come to that point. So whether older records are
//! read under the file of their time or, in a replay, under today's, the same lanes are joined in the same terms and
//! lifted at the same place: the states are equal byte for byte. Were values converted as they are read, they would not
//! be: of an edit that the conversion does not show (`Ana` to `ana`, of which only the small letters are kept) one would
//! know the place, the other not even that there was one.
//!
//! Marks without a row come by another topic, before or after that point whatever their terms; and a row's change in newer
//! terms may bear a mark in older ones, left before the file changed. Older names are then read as what has come of them,
//! or an echo would be taken for an edit. Newer ones, of a row that has not come so far, wait beside what they will be made
//! of, each under its own name: of one field that becomes two, a mark may tell one and not the other.
//! So a notice never brings a row to that point: else it would be another one each time it is read.

use syncline_schemas::mapped::{FieldValue, Mapped, RowOp};
use syncline_schemas::mark::{Mark, MarkedField};
use syncline_schemas::pipeline::{Lift, Made};
use syncline_schemas::position::Position;
use syncline_schemas::value::Value;

use super::answers::Answers;
use super::elements::Elements;
use super::field_lane::FieldLane;
use super::mutant::breaks;
use super::state::{EntityState, Lane};
use super::word::{Step, Word};

impl EntityState {
    /// The state in the terms of the entity as it is now; none if it is in those already.
    pub(super) fn lifted(&self, lifts: &[Lift]) -> Option<Self> {
        if lifts.is_empty() || !self.is_older(lifts) {
            return None;
        }
        let mut state = self.clone();
        state.lift(lifts);
        Some(state)
    }

    fn is_older(&self, lifts: &[Lift]) -> bool {
        let is_old = |name: &str| lifts.iter().any(|lift| lift.from == name);
        let lanes = || self.lanes.values().flat_map(|lanes| lanes.values());
        lanes().any(|lane| lane.fields.keys().any(|name| is_old(name)))
            || self.answered().into_iter().any(is_old)
            || self.joined().any(|(_, part)| part.is_older(lifts))
    }

    fn lift(&mut self, lifts: &[Lift]) {
        for lane in self.lanes.values_mut().flat_map(|lanes| lanes.values_mut()) {
            let _: Vec<&str> = lane.lift(lifts, |_| true);
        }
        for lift in lifts {
            self.lift_answers(lift);
        }
        self.parts_mut().for_each(|part| part.lift(lifts));
    }

    /// What people said of the older field stays where it is: nobody asks for it there, but it was said, and the agreed
    /// record is made from it, be anything made of its value or not.
    fn lift_answers(&mut self, lift: &Lift) {
        for made in &lift.into {
            let of = |value: &Value| lift.value(made, value);
            if let Some(answers) = self.answers.get(&lift.from).map(|answers| answers.converted(of)) {
                let newer: &mut Answers = self.answers.entry(made.field.clone()).or_default();
                newer.join(answers);
            }
            if let Some(word) = self.decisions.get(&lift.from).and_then(|word| word.converted(of)) {
                let newer = self.decisions.entry(made.field.clone());
                let newer = newer.or_insert_with(|| word.clone());
                if newer.position < word.position {
                    *newer = word;
                }
            }
        }
    }
}

impl Lane {
    /// Before something said is joined: if it is a change in newer terms than the row was known in, the row goes on in
    /// those. Gives what was said in the row's terms, where it is not in these itself.
    pub(super) fn go_on_in_terms_of(&mut self, said: &Mapped, mark: Option<&Mark>, lifts: &[Lift]) -> Option<Mapped> {
        if lifts.is_empty() || breaks("versions-go-on") {
            return None;
        }
        let is_notice = said.op == RowOp::Seen;
        let is_due = |lift: &Lift| !is_notice && named(said, mark).any(|name| lift.later.contains(name));
        for field in self.lift(lifts, is_due) {
            self.read_anew(field, said, mark);
        }
        let is_past = |lift: &Lift| !self.speaks_of(&lift.from) && (self.is_lifted(lift) || is_due(lift));
        let past: Vec<&Lift> = lifts.iter().filter(|lift| is_past(lift)).collect();
        let is_said = past.iter().any(|lift| named(said, mark).any(|name| *name == lift.from));
        is_said.then(|| retold(said, &past))
    }

    /// A field whose values were converted just now, that holds what we wrote in older terms. The sink remembers no more of
    /// that than a hash, so it has to be told what the row holds; as nobody edited it, it is read as at the first time.
    fn read_anew(&mut self, field: &str, said: &Mapped, mark: Option<&Mark>) {
        let Some(lane) = self.fields.get_mut(field) else { return };
        let shown = said.fields.iter().find(|one| one.name == field).map(|one| &one.value);
        let is_own = lane.word.as_ref().map(|word| &word.value) == lane.shadow.as_ref();
        let is_marked = mark.is_some_and(|mark| mark.field(field).is_some());
        if shown.is_some() && shown == lane.shadow.as_ref() && !is_own && !is_marked {
            *lane = lane.silent();
        }
    }

    /// Whether it is known what the row holds of a field, or said of it.
    fn speaks_of(&self, field: &str) -> bool {
        self.fields.get(field).is_some_and(|lane| !lane.is_silent())
    }

    /// Whether the row has gone on in newer terms.
    fn is_lifted(&self, lift: &Lift) -> bool {
        lift.later.iter().any(|name| self.speaks_of(name))
    }

    /// Takes the fields of these lifts, as far as the row has them, to what is made of them. Gives those whose values were
    /// converted.
    fn lift<'l>(&mut self, lifts: &'l [Lift], is_due: impl Fn(&Lift) -> bool) -> Vec<&'l str> {
        let mut converted: Vec<&str> = Vec::new();
        let at = self.at;
        for lift in lifts.iter().filter(|lift| is_due(lift)) {
            let Some(older) = self.fields.remove(&lift.from) else {
                continue;
            };
            for made in &lift.into {
                let lifted = older.lifted(lift, made);
                let newer = match self.fields.remove(&made.field) {
                    None => lifted,
                    // Only notices have come.
                    Some(early) if early.is_silent() => lifted.with_notices_of(early, at),
                    Some(newer) => newer,
                };
                self.fields.insert(made.field.clone(), newer);
                if made.by.is_some() || converted.contains(&lift.from.as_str()) {
                    converted.push(&made.field);
                }
            }
            for held in self.beside.values_mut() {
                let Some(value) = held.remove(&lift.from) else { continue };
                for made in &lift.into {
                    if let Some(value) = lift.value(made, &value) {
                        held.entry(made.field.clone()).or_insert(value);
                    }
                }
            }
        }
        converted
    }
}

impl FieldLane {
    /// The lane of what is made of the field.
    fn lifted(&self, lift: &Lift, made: &Made) -> Self {
        match made.by {
            None => self.clone(),
            Some(_) => self
                .converted(|value| lift.value(made, value))
                .unwrap_or_else(|| self.silent()),
        }
    }

    /// None if nothing can be made of what the app holds or said.
    fn converted(&self, of: impl Fn(&Value) -> Option<Value>) -> Option<Self> {
        let shadow = match &self.shadow {
            Some(held) => Some(of(held)?),
            None => None,
        };
        let word = match &self.word {
            Some(word) => Some(word.converted(&of)?),
            None => None,
        };
        Some(Self {
            shadow,
            word,
            first: self.first.as_ref().and_then(&of),
            trail: self.trail.iter().filter_map(&of).collect(),
            ..self.silent()
        })
    }

    /// What the app's users know, and nothing of what it holds: that is read when its row is read next.
    fn silent(&self) -> Self {
        Self {
            shadow: None,
            first: None,
            word: None,
            added: None,
            delivered: None,
            elements: Elements::default(),
            deltas: Vec::new(),
            trail: Vec::new(),
            ..self.clone()
        }
    }

    pub(super) fn is_silent(&self) -> bool {
        self.shadow.is_none() && self.first.is_none() && self.word.is_none()
    }

    /// With what notices told another lane of the same field. Those that stand before `at`, where the row is, reach what
    /// was said in older terms after them.
    fn with_notices_of(mut self, other: Self, at: Position) -> Self {
        self.knowledge.join(&other.knowledge);
        self.clock_us = self.clock_us.max(other.clock_us);
        self.watch = self.watch.or(other.watch);
        other.ahead.into_iter().for_each(|notice| self.expect(notice));
        self.catch_up(at);
        self
    }
}

impl Word {
    /// The same said of what is made of the field; none if nothing is made of the value. What was there before and nothing
    /// is made of is not known.
    pub(super) fn converted(&self, of: impl Fn(&Value) -> Option<Value>) -> Option<Self> {
        let step = |step: &Step| {
            Some(Step {
                at: step.at,
                held: of(&step.held)?,
            })
        };
        Some(Self {
            value: of(&self.value)?,
            base: self.base.as_ref().and_then(&of),
            past: self.past.iter().filter_map(&of).collect(),
            steps: self.steps.iter().filter_map(step).collect(),
            ..self.clone()
        })
    }
}

/// The fields that are spoken of.
fn named<'s>(said: &'s Mapped, mark: Option<&'s Mark>) -> impl Iterator<Item = &'s String> {
    let marked = mark.into_iter().flat_map(|mark| &mark.fields);
    let fields = said.fields.iter().chain(&said.before).map(|field| &field.name);
    fields.chain(marked.map(|field| &field.name))
}

/// What was said, with the older names as what is made of them.
fn retold(said: &Mapped, past: &[&Lift]) -> Mapped {
    let mut said = said.clone();
    for lift in past {
        said.fields = values(&said.fields, lift);
        said.before = values(&said.before, lift);
        if let Some(mark) = &mut said.mark {
            mark.fields = marked(&mark.fields, lift, said.op);
        }
    }
    said
}

fn values(fields: &[FieldValue], lift: &Lift) -> Vec<FieldValue> {
    let shown = |name: &String| fields.iter().any(|field| field.name == *name);
    let mut newer = Vec::with_capacity(fields.len());
    for field in fields {
        if field.name != lift.from {
            newer.push(field.clone());
            continue;
        }
        newer.extend(lift.into.iter().filter(|made| !shown(&made.field)).filter_map(|made| {
            Some(FieldValue {
                name: made.field.clone(),
                value: lift.value(made, &field.value)?,
            })
        }));
    }
    newer
}

/// Where a row holds a converted value that we wrote in older terms, it is read as [`Lane::read_anew`] has it.
fn marked(fields: &[MarkedField], lift: &Lift, op: RowOp) -> Vec<MarkedField> {
    let shown = |name: &String| fields.iter().any(|field| field.name == *name);
    let mut newer = Vec::with_capacity(fields.len());
    for field in fields {
        if field.name != lift.from {
            newer.push(field.clone());
            continue;
        }
        let made = lift.into.iter().filter(|made| !shown(&made.field));
        newer.extend(made.map(|made| match (&made.by, op) {
            (Some(_), RowOp::Present) => MarkedField::kept(&made.field),
            _ => MarkedField {
                name: made.field.clone(),
                ..field.clone()
            },
        }));
    }
    newer
}
