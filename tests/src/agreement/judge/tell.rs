//! What is wrong, with all that is needed to see why: the history of the field in every app's log, what was agreed, and the
//! last conflict.

use std::fmt::Write as _;

use syncline_schemas::position::Lsn;

use super::{Case, Verdict, Wrong, show};
use crate::agreement::apps::{APPS, entity};
use crate::agreement::history::{Event, State};

/// Findings that are told in full; of the others there is a count.
const TOLD_MAX: usize = 8;
/// Lines of a field's history in one app that are told.
const LINES_MAX: usize = 60;

impl Case<'_> {
    /// What is wrong, with the history of the fields in question.
    pub fn tell(&self, verdict: &Verdict) -> String {
        let mut text = String::new();
        for (kind, all) in &verdict.wrong {
            let _ = writeln!(text, "{kind}: {} findings", all.len());
            for wrong in all.iter().take(TOLD_MAX) {
                self.tell_one(wrong, &mut text);
            }
        }
        text
    }

    fn tell_one(&self, wrong: &Wrong, text: &mut String) {
        let Some(who) = &wrong.who else {
            let _ = writeln!(text, "- {}", wrong.what);
            return;
        };
        let _ = writeln!(
            text,
            "- {} {} {}: {}",
            who.0,
            who.1,
            wrong.unit.unwrap_or("*"),
            wrong.what
        );
        let (Some(story), record) = (self.history.stories.get(who), self.records.of.get(who)) else {
            return;
        };
        if let Some(agreed) = record.and_then(|record| record.agreed.as_ref()) {
            let _ = writeln!(text, "    agreed: {}", agreed.json);
        }
        for (app, lane) in story.lanes.iter().enumerate() {
            let mut lines: Vec<(usize, String)> = Vec::new();
            for (at, event, by) in lane.events.iter().filter(|(_, event, _)| *event != Event::Changed) {
                lines.push((*at, format!("row {event:?} by {by:?}")));
            }
            for (unit, states) in lane
                .states
                .iter()
                .filter(|(unit, _)| wrong.unit.is_none_or(|one| one == **unit))
            {
                let line = |state: &State| {
                    (
                        state.at,
                        format!("{unit} = {} by {:?}", show(state.held.as_ref()), state.by),
                    )
                };
                lines.extend(states.iter().map(line));
            }
            for marked in &lane.marks {
                let about = |name: &str| {
                    wrong
                        .unit
                        .is_none_or(|unit| entity(who.0).unit_of(name).is_some_and(|of| of.name == unit))
                };
                let fields = marked.mark.fields.iter().filter(|field| about(&field.name));
                let fields: Vec<String> = fields
                    .map(|field| format!("{}={:?}/{:?}", field.name, field.value, field.delivered))
                    .collect();
                let known = marked
                    .mark
                    .vector
                    .iter()
                    .map(|(app, position)| format!("{app} {position}"));
                let known = known.collect::<Vec<_>>().join(", ");
                let mark = format!("mark {:?} {}; knows {known}", marked.mark.act, fields.join(" "));
                lines.push((marked.at, mark));
            }
            lines.sort_by_key(|(at, _)| *at);
            let skipped = lines.len().saturating_sub(LINES_MAX);
            let _ = writeln!(text, "    {} ({skipped} lines before):", APPS[app]);
            for (at, line) in lines.iter().skip(skipped) {
                let transaction = &self.logs[app].transactions[*at];
                let lsn = Lsn(transaction.end);
                let _ = writeln!(text, "      {lsn} {}: {line}", transaction.at);
            }
        }
        let about = |field: &str| wrong.unit.is_none_or(|unit| unit == field) || field == "*";
        let conflicts = record.into_iter().flat_map(|record| &record.conflicts);
        for (field, decided) in conflicts.filter(|(field, _)| about(field)) {
            let _ = writeln!(text, "    last conflict on {field}: {}", decided.json);
        }
    }
}
