//! `expires`, `then`: what is held and nobody decides in time is decided by the file.
//!
//! A question ends so long after the last of its candidates was said, by the stamps of the words; a new candidate is a new
//! question. What time it is was told by ticks (`EntityState::tick`): records that one place writes to a topic. So whether
//! a question has ended is a function of words and ticks, whatever the order they are read in, and no clock is asked.
//!
//! Nothing is written into the state when a question ends. A word that comes later than its end makes another question, or
//! none, like every word; a person's answer still counts afterwards, since whoever answers has seen all candidates.

use syncline_schemas::conflict::Conflict;
use syncline_schemas::value::Value;
use syncline_schemas::voice;

use super::unit::Unit;
use super::{View, value_of};
use crate::merge::causality::Said;
use crate::merge::mutant::breaks;
use crate::merge::rule::{Asked, Verdict, decide};

impl View<'_> {
    /// What becomes of a held field, or group: value, whether it waits still, conflict.
    pub fn until(
        &self,
        unit: &Unit<'_>,
        asked: &Asked<'_>,
        standing: &[Said<'_>],
        value: Value,
        open: Conflict,
    ) -> (Value, bool, Option<Conflict>) {
        let last_us = standing.iter().map(|said| said.word.stamp_us).max();
        let Some((expires, last_us)) = unit.terms.expires.as_ref().zip(last_us) else {
            return (value, true, Some(open));
        };
        let expires_us = Some(last_us.saturating_add(expires.after_us));
        if self.state.time_us < expires_us || breaks("questions-end") {
            let note = format!(
                "{}, or until its time is up: then `{}` decides",
                open.note, expires.then
            );
            return (
                value,
                true,
                Some(Conflict {
                    expires_us,
                    note,
                    ..open
                }),
            );
        }
        let verdict = decide(&asked.simply(&expires.then), standing, self.authority);
        let value = value_of(standing, &verdict);
        let ended = self.conflict(unit, standing, &verdict, &value);
        let winner = match &verdict {
            Verdict::Wins(index) | Verdict::Held(index, _) => format!(" for {}", voice::app(standing[*index].source)),
            Verdict::Made(_) => String::new(),
        };
        let conflict = Conflict {
            expires_us,
            note: format!(
                "nobody decided in time: `{}` decided{winner}; the other values are kept here",
                expires.then
            ),
            strategy: open.strategy,
            rule: open.rule,
            base: open.base,
            ..ended
        };
        (value, false, Some(conflict))
    }
}
