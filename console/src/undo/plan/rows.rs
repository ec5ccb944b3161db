//! Rows that the app made and deleted: they are named, with what can be done about them, and stay as they are.
//!
//! Whether a record lives is no field, and a person's word about it counts only where the deletion was put as a question
//! (`on_delete: hold`). Everywhere else a deletion is taken back as it was made, by a row in an app.

use super::{Line, View, What, left, stays, whole};
use crate::undo::past::Moment;

impl View<'_> {
    /// What becomes of them.
    pub(super) fn rows(&self) -> Vec<Line> {
        let source = &self.window.source;
        let turns = self.story.turns.iter();
        let own = turns.filter(|turn| turn.source == *source && self.window.has(turn.commit_us));
        let line = |moment: Moment<'_>, made: bool| match made {
            true => self.made(moment),
            false => Some(self.deleted()),
        };
        own.filter_map(|turn| line(Moment::from(turn), turn.made).map(whole))
            .collect()
    }

    fn made(&self, moment: Moment<'_>) -> Option<What> {
        if !self.is_made(moment) || self.agreed.deleted {
            return None;
        }
        let source = &self.window.source;
        let before = self.known.before(moment, self.rules);
        let why = match before.is_some_and(|record| !record.deleted) {
            true => format!("{source} made its row of it, or it was read for the first time: the row stays"),
            false => {
                format!("{source} made it, or it was read for the first time: no word of a person deletes a record")
            }
        };
        Some(stays(
            why,
            format!("if it is not wanted, delete the row in {source}: `on_delete` says what that means"),
        ))
    }

    fn deleted(&self) -> What {
        let source = &self.window.source;
        if self.agreed.deleted {
            return stays(
                format!("{source} deleted it, and it is deleted everywhere"),
                "make it again in one of the apps: it lives again in all of them",
            );
        }
        match self.agreed.app(source).is_none_or(|app| app.gone) {
            true => stays(
                format!("{source} deleted its row; the record lives"),
                format!("make the row again in {source}"),
            ),
            false => left(format!("{source} deleted its row, and has one again")),
        }
    }

    /// Whether the app itself made its row there. Where the topic does not reach back, only the last row is known.
    pub(super) fn is_made(&self, moment: Moment<'_>) -> bool {
        let mut turns = self.story.turns.iter();
        let new = turns.any(|turn| turn.made && turn.source == moment.source && turn.position == moment.position);
        let last = || self.agreed.app(moment.source).and_then(|app| app.made);
        new && (self.known.whole || last() == Some(moment.position))
    }
}
