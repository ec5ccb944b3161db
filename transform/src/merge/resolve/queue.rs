//! `first` with `queue: true`: whoever comes while another has the lock is not refused for good. His word waits, and holds
//! when the lock is over: when its lease has ended, by the time that was told (`EntityState::tick`), or when every app that
//! has the field has received the word that has the lock.
//!
//! What an app has received is told by the marks in its log, whether or not they have taken effect on an edit since; so
//! whose turn it is is a function of words, notices and ticks, whatever the order they are read in. This is the one place
//! where an echo changes the agreed record. It does so once for each word that waits: what was received stays received.
//!
//! Words of a first load do not wait: nobody said them.

use syncline_schemas::position::Position;

use super::unit::Unit;
use super::{Decided, View, differ};
use crate::merge::causality::Said;
use crate::merge::rule::age;
use crate::merge::state::Presence;

impl View<'_> {
    /// Whether the lock of this word is over.
    pub fn is_unlocked(&self, unit: &Unit<'_>, said: &Said<'_>) -> bool {
        if !unit.terms.queue || said.word.initial {
            return false;
        }
        let is_over = ends_us(unit, said).is_some_and(|ends_us| self.state.time_us >= Some(ends_us));
        is_over || self.is_everywhere(unit, said.source, said.word.position)
    }

    /// Whether every other app with a row that has it has received the word.
    fn is_everywhere(&self, unit: &Unit<'_>, source: &str, position: Position) -> bool {
        let others = self.speakers.iter().filter(|speaker| speaker.source != source);
        let mut have =
            others.filter(|speaker| speaker.lane.presence == Presence::Here && unit.is_held_by(speaker.lane));
        have.all(|speaker| unit.has_received(speaker.lane, source, position))
    }

    /// When the next lock of a unit ends whose end may let another word hold.
    pub fn turns_us(&self, unit: &Unit<'_>, decided: &Decided<'_>) -> Option<i64> {
        let standing: Vec<Said<'_>> = decided.standing().collect();
        if !unit.terms.queue || !differ(&standing) {
            return None;
        }
        let locked = standing.iter().filter(|said| !said.word.initial && !said.unlocked);
        locked.filter_map(|said| ends_us(unit, said)).min()
    }

    /// Who waits behind the word that holds, in words.
    pub fn waiting(&self, unit: &Unit<'_>, standing: &[Said<'_>], holder: usize) -> String {
        let age = |said: &Said<'_>| age(said, self.authority);
        let behind = |said: &&Said<'_>| !said.word.initial && age(said) > age(&standing[holder]);
        let apps: Vec<&str> = standing.iter().filter(behind).map(|said| said.source).collect();
        if apps.is_empty() || !unit.terms.queue || standing[holder].word.initial {
            String::new()
        } else {
            format!(
                "; {} waits until that has been received everywhere, or its lease ends",
                apps.join(", ")
            )
        }
    }
}

/// When the lease of a word ends.
fn ends_us(unit: &Unit<'_>, said: &Said<'_>) -> Option<i64> {
    unit.terms
        .lease_us
        .map(|lease_us| said.word.stamp_us.saturating_add(lease_us))
}
