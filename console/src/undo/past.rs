//! Pure: what is known of one record, and what was agreed of it just before somebody said something.
//!
//! What was agreed then is worked out as merge works it out, by the real `join` and `resolve`: the canonical topic is
//! compacted and has only what is agreed now. Which words had been said by then? Of the app that spoke, those before in its
//! own log, and that is certain. Of the others, and of people, those that its own log tells it had received, which is as
//! certain; and those with an earlier commit time, which is as certain as the apps' clocks: in the order of reading there is
//! no "before" at all, for it is another one at every replay. The rules are today's.

use syncline_schemas::canonical::Canonical;
use syncline_schemas::decision::{self, Decision, OPERATOR};
use syncline_schemas::mapped::Mapped;
use syncline_schemas::pipeline::{Entity, Link};
use syncline_schemas::position::{Lsn, Position, Vector};
use syncline_transform::merge::{EntityState, Word, resolve};

use super::unit::Unit;
use crate::why::story::{Edit, Turn};

/// What the pipeline file says of an entity.
pub struct Rules<'a> {
    /// The entity.
    pub entity: &'a Entity,
    /// Its links.
    pub links: Vec<&'a Link>,
    /// The systems by falling authority.
    pub authority: &'a [String],
}

/// What is known of one record.
pub struct Known {
    /// Its id.
    pub cid: String,
    /// What the apps said, in the order of the topic.
    pub said: Vec<Mapped>,
    /// What people decided, in the order of the topic, with the place of each.
    pub decisions: Vec<(Position, Decision)>,
    /// The agreed record as it is now; none if merge has published none.
    pub agreed: Option<Canonical>,
    /// Whether the topic still has everything that was ever said of it.
    pub whole: bool,
}

/// A place in an app's log, and its commit time.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// The app.
    pub source: &'a str,
    /// Where.
    pub position: Position,
    /// When, microseconds since 1970.
    pub at_us: i64,
}

impl Moment<'_> {
    /// Now: after everything that was ever said.
    pub const END: Moment<'static> = Moment {
        source: "",
        position: Position::new(0, Lsn(0), 0),
        at_us: i64::MAX,
    };
}

impl<'a> From<&'a Edit> for Moment<'a> {
    fn from(edit: &'a Edit) -> Self {
        Self {
            source: &edit.source,
            position: edit.position,
            at_us: edit.commit_us,
        }
    }
}

impl<'a> From<&'a Turn> for Moment<'a> {
    fn from(turn: &'a Turn) -> Self {
        Self {
            source: &turn.source,
            position: turn.position,
            at_us: turn.commit_us,
        }
    }
}

impl Known {
    /// What was agreed just before `moment`; none if nothing had been said of it.
    pub fn before(&self, moment: Moment<'_>, rules: &Rules<'_>) -> Option<Canonical> {
        let seen = self.seen(moment);
        let by_then = |said: &&Mapped| match said.source == moment.source {
            true => said.position < moment.position,
            false => said.commit_us < moment.at_us || seen.covers(&said.source, said.position),
        };
        let mut state = EntityState::default();
        for said in self.said.iter().filter(by_then) {
            state.join(said, rules.entity);
        }
        for (position, decision) in self.decided_by(moment) {
            state.decide(decision, *position);
        }
        if rules.entity.has_deadlines() {
            state.tick(moment.at_us);
        }
        resolve(&self.cid, &state, rules.entity, rules.authority).canonical
    }

    /// What people had decided by then.
    pub fn decided_by(&self, moment: Moment<'_>) -> impl Iterator<Item = &(Position, Decision)> {
        let seen = self.seen(moment);
        let by_then = move |decision: &Decision, position: Position| {
            decision.at_us < moment.at_us || seen.covers(OPERATOR, position)
        };
        self.decisions
            .iter()
            .filter(move |(position, decision)| by_then(decision, *position))
    }

    /// What held by then of what people had decided, by the rule of merge, and whose decision it was.
    pub fn answer(&self, unit: &Unit<'_>, until: Moment<'_>) -> Option<(Word, &Decision)> {
        let mut state = EntityState::default();
        for (position, decision) in self.decided_by(until) {
            state.decide(decision, *position);
        }
        let word = state.answer(unit.name, unit.approvers)?;
        let said = self.decision_at(word.position)?;
        let approved = said.approves.map(decision::position);
        let answer = approved.and_then(|position| self.decision_at(position));
        Some((word, answer.unwrap_or(said)))
    }

    fn decision_at(&self, position: Position) -> Option<&Decision> {
        let mut decisions = self.decisions.iter();
        let found = decisions.find(|(at, _)| *at == position);
        found.map(|(_, decision)| decision)
    }

    /// What the app had received by then, as the marks in its own log tell: whatever the clocks say, that was before.
    fn seen(&self, moment: Moment<'_>) -> Vector {
        let mut seen = Vector::new();
        let own = self.said.iter().filter(|said| said.source == moment.source);
        let earlier = own.filter(|said| said.position < moment.position);
        for mark in earlier.filter_map(|said| said.mark.as_ref()) {
            if mark.cid == self.cid {
                seen.join(&mark.vector);
            }
        }
        seen
    }
}
