//! Who spoke of a field after a word, and whether what he said stands.
//!
//! Whoever spoke later may still have lost: to the rule, because nobody has approved what he decided, or because he had not
//! seen the word that he decided about. Then the word stands, and to leave it alone is no answer to who wants it undone.

use syncline_schemas::canonical::{AppWords, Canonical, SaidWord};
use syncline_schemas::decision::{Decision, OPERATOR};
use syncline_schemas::position::Vector;

use super::View;
use crate::undo::past::Moment;
use crate::undo::unit::Unit;

/// Who spoke after a word.
pub(super) struct Later {
    /// An app, or a person and why.
    pub(super) who: String,
    /// Whether it took the place of the word, or will when merge has read it.
    pub(super) stands: bool,
}

impl View<'_> {
    /// Who spoke of it after that word, by what is in `record` and what people had decided `until` then: of those whose word
    /// stands a person, or the last app; if there are none, the same of the others.
    ///
    /// Stamps tell it, not commit times: they are later than anything that their author had seen.
    pub(super) fn since(
        &self,
        unit: &Unit<'_>,
        of: Moment<'_>,
        record: &Canonical,
        until: Moment<'_>,
    ) -> Option<Later> {
        let words = record.app(of.source).into_iter().flat_map(|app| unit.words(app));
        let own = words.filter(|word| word.position == of.position);
        let said_us = own.map(|word| word.stamp_us).max().unwrap_or(of.at_us);
        let mut later: Vec<Later> = Vec::new();
        later.extend(self.decided(unit, of, said_us, record, until));
        later.extend(self.said(unit, of, said_us, record));
        // The order of those that are alike is kept.
        later.sort_by_key(|later| !later.stands);
        later.into_iter().next()
    }

    /// The person whose decision holds; if it is none of after the word, the last who decided after it.
    fn decided(
        &self,
        unit: &Unit<'_>,
        of: Moment<'_>,
        said_us: i64,
        record: &Canonical,
        until: Moment<'_>,
    ) -> Option<Later> {
        let had_seen = |answers: &Vector| answers.covers(of.source, of.position);
        let is_later = |answers: &Vector, at_us: i64| had_seen(answers) || at_us > said_us;
        let who = |decision: &Decision| format!("{OPERATOR} ({}): {}", decision.by, decision.why);
        let holding = self.known.answer(unit, until);
        let holding = holding.filter(|(word, _)| is_later(&word.seen, word.stamp_us));
        if let Some((_, decision)) =
            holding.filter(|(word, _)| had_seen(&word.seen) || word.value == unit.value(record))
        {
            return Some(Later {
                who: who(decision),
                stands: true,
            });
        }
        let decided = self.known.decided_by(until).map(|(_, decision)| decision);
        let answers = decided.filter(|decision| decision.field == unit.name && decision.approves.is_none());
        let last = answers
            .filter(|decision| is_later(&decision.answers, decision.at_us))
            .last();
        last.map(|decision| Later {
            who: who(decision),
            stands: false,
        })
    }

    /// The apps, the last first.
    fn said(&self, unit: &Unit<'_>, of: Moment<'_>, said_us: i64, record: &Canonical) -> Vec<Later> {
        let mut said: Vec<(i64, &str, bool)> = Vec::new();
        for app in &record.apps {
            let own = app.app == of.source;
            for word in unit.words(app) {
                let is_later = match own {
                    true => word.position > of.position,
                    false => word.stamp_us > said_us && !self.is_first_reading(app, word),
                };
                if is_later {
                    let stands = own || record.fields.get(&word.field) == Some(&word.value);
                    said.push((word.stamp_us, app.app.as_str(), stands));
                }
            }
        }
        said.sort_unstable();
        let last_first = said.into_iter().rev();
        let later = last_first.map(|(_, app, stands)| Later {
            who: app.to_owned(),
            stands,
        });
        later.collect()
    }

    /// Whether it is what the app held when it was first read: nobody edited.
    fn is_first_reading(&self, app: &AppWords, word: &SaidWord) -> bool {
        let mut edits = self.story.edits.iter();
        edits.any(|edit| edit.source == app.app && edit.position == word.position && edit.before.is_none())
    }
}
