//! Why the sink wrote: a user had said it, at a place that the mark beside the write knows.

use syncline_schemas::position::Vector;

use super::{One, Verdict};
use crate::agreement::apps::{APPS, Kind, Unit};
use crate::agreement::history::{By, Event, State, is_covered};

impl One<'_> {
    /// What the sink wrote, somebody had said, and the mark beside it knows where.
    pub(super) fn causes(&self, unit: &Unit, verdict: &mut Verdict) {
        for (app, lane) in self.story.lanes.iter().enumerate() {
            for state in self.states(app, unit).iter().filter(|state| state.by == By::Sink) {
                let Some(Some(value)) = &state.held else { continue };
                verdict.writes += 1;
                let mut marks = lane.marks.iter().filter(|marked| marked.at == state.at);
                let caused = marks.any(|marked| self.is_caused(unit, value, &marked.mark.vector));
                if !caused {
                    let what = format!(
                        "{} was given {value:?}, which nobody had said that the mark knows",
                        APPS[app]
                    );
                    self.find(verdict, "uncaused", Some(unit), what);
                }
            }
        }
    }

    fn is_caused(&self, unit: &Unit, value: &str, vector: &Vector) -> bool {
        let known = |app: usize, state: &State| is_covered(vector, app, self.transaction(app, state.at));
        let said = |wanted: &str| {
            self.said(unit).any(|(app, state)| {
                let text = state.held.as_ref().and_then(Option::as_deref).unwrap_or_default();
                let is_it = match unit.kind {
                    Kind::Lines => text.lines().any(|line| line == wanted),
                    _ => text == wanted,
                };
                is_it && known(app, state)
            })
        };
        match unit.kind {
            Kind::Lines => value.lines().all(said),
            _ => said(value),
        }
    }

    pub(super) fn deletions_by_the_sink(&self, verdict: &mut Verdict) {
        for (app, lane) in self.story.lanes.iter().enumerate() {
            for (at, event, by) in &lane.events {
                if *event != Event::Deleted || *by != By::Sink {
                    continue;
                }
                verdict.writes += 1;
                let mut marks = lane.marks.iter().filter(|marked| marked.at == *at);
                if !marks.any(|marked| self.is_deletion_known(&marked.mark.vector)) {
                    let what = format!("{}'s row was deleted, and no user's deletion is behind it", APPS[app]);
                    self.find(verdict, "uncaused", None, what);
                }
            }
        }
    }

    fn is_deletion_known(&self, vector: &Vector) -> bool {
        self.story.lanes.iter().enumerate().any(|(app, lane)| {
            let mut events = lane.events.iter();
            events.any(|(at, event, by)| {
                let by_user = *event == Event::Deleted && *by == By::User;
                by_user && is_covered(vector, app, self.transaction(app, *at))
            })
        })
    }
}
