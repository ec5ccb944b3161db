//! The verdict: what every edit has become, and whether there is anything that no edit explains.
//!
//! | law | how it is judged |
//! |---|---|
//! | at rest all apps are equal | the rows of the logs, which are those of the tables, field by field; what is held is apart, and asked about |
//! | no edit is lost | it is what was agreed; or a candidate of a conflict; or a later edit was made where the row had held it |
//! | no deletion is lost | the entity is gone; or a conflict has it; or somebody made the entity anew |
//! | nothing is invented | every value was a user's; each line of a text was in one; sets and sums are worked out again |
//! | every write has a cause | what the sink wrote, a user had said, at a place that its mark knows |

use std::collections::{BTreeMap, BTreeSet};

use super::apps::{APPS, Cell, Deletion, ENTITIES, Entity, Kind, Row, TABLES, Unit, entity};
use super::history::{By, Event, History, Lane, State, Story, Who, is_covered};
use super::log::{Log, Transaction};
use super::record::{Candidate, Record, Records};

/// Why the sink wrote.
mod causes;

/// What is made of several edits.
mod counted;

/// What is wrong, told.
mod tell;

#[cfg(test)]
mod tests;

/// What was found, and how much was looked at.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Edits of users.
    pub edits: usize,
    /// Of them: what was agreed in the end, what a later edit had before it, what a conflict has.
    pub became: [usize; 3],
    /// Deletions by users.
    pub deletions: usize,
    /// Values that the sink wrote.
    pub writes: usize,
    /// Sets and sums that were worked out again.
    pub counted: usize,
    /// Units that wait for a person.
    pub held: usize,
    /// What is wrong, by kind.
    pub wrong: BTreeMap<&'static str, Vec<Wrong>>,
}

/// Something that is wrong.
#[derive(Clone, Debug)]
pub struct Wrong {
    /// Of which entity and whom, if that is known.
    pub who: Option<Who>,
    /// In which unit.
    pub unit: Option<&'static str>,
    /// What.
    pub what: String,
}

/// Everything that is judged.
pub struct Case<'a> {
    /// The logs.
    pub logs: &'a [Log; 3],
    /// What happened.
    pub history: &'a History,
    /// What was agreed.
    pub records: &'a Records,
}

impl Case<'_> {
    /// Judges all of it.
    pub fn judge(&self) -> Verdict {
        let mut verdict = Verdict::default();
        for (who, what) in &self.history.findings {
            verdict.find("log", who.as_ref(), None, what.clone());
        }
        for (who, what) in &self.records.mixed {
            verdict.find("identity", Some(who), None, what.clone());
        }
        let nothing = Record::default();
        for (who, story) in &self.history.stories {
            let one = One {
                case: self,
                who,
                entity: entity(who.0),
                story,
                record: self.records.of.get(who).unwrap_or(&nothing),
            };
            one.judge(&mut verdict);
        }
        for who in self
            .records
            .of
            .keys()
            .filter(|who| !self.history.stories.contains_key(*who))
        {
            verdict.find("invented", Some(who), None, "no app ever had a row of it".to_owned());
        }
        verdict
    }
}

impl Verdict {
    fn find(&mut self, kind: &'static str, who: Option<&Who>, unit: Option<&'static str>, what: String) {
        self.wrong.entry(kind).or_default().push(Wrong {
            who: who.cloned(),
            unit,
            what,
        });
    }

    /// Whether nothing is wrong.
    pub fn is_well(&self) -> bool {
        self.wrong.is_empty()
    }
}

fn show(held: Option<&Cell>) -> String {
    match held {
        None => "no row".to_owned(),
        Some(None) => "null".to_owned(),
        Some(Some(text)) => format!("{text:?}"),
    }
}

/// One entity under judgement.
struct One<'a> {
    case: &'a Case<'a>,
    who: &'a Who,
    entity: &'static Entity,
    story: &'a Story,
    record: &'a Record,
}

impl One<'_> {
    fn judge(&self, verdict: &mut Verdict) {
        if self.record.agreed.is_none() {
            // Who came and went before anybody read it is only known as gone, and not by name.
            if self.story.lanes.iter().any(Lane::is_there) {
                self.find(verdict, "lost", None, "nothing was ever agreed of it".to_owned());
            }
            return;
        }
        self.rows_at_rest(verdict);
        self.deletions(verdict);
        self.deletions_by_the_sink(verdict);
        for unit in self.entity.units {
            self.at_rest(unit, verdict);
            match unit.kind {
                Kind::Set | Kind::Sum => self.counted(unit, verdict),
                _ => {
                    self.edits(unit, verdict);
                    self.nothing_invented(unit, verdict);
                    self.causes(unit, verdict);
                }
            }
        }
    }

    fn find(&self, verdict: &mut Verdict, kind: &'static str, unit: Option<&Unit>, what: String) {
        verdict.find(kind, Some(self.who), unit.map(|unit| unit.name), what);
    }

    fn transaction(&self, app: usize, at: usize) -> &Transaction {
        &self.case.logs[app].transactions[at]
    }

    fn states(&self, app: usize, unit: &Unit) -> &[State] {
        self.story.lanes[app]
            .states
            .get(unit.name)
            .map(Vec::as_slice)
            .unwrap_or_default()
    }

    /// What any user ever made a row hold of a unit, in every app.
    fn said(&self, unit: &Unit) -> impl Iterator<Item = (usize, &State)> {
        let name = unit.name;
        let lanes = self.story.lanes.iter().enumerate();
        let all = lanes.flat_map(move |(app, lane)| {
            lane.states
                .get(name)
                .into_iter()
                .flatten()
                .map(move |state| (app, state))
        });
        all.filter(|(_, state)| state.by == By::User && state.held.is_some())
    }

    // ---- at rest --------------------------------------------------------------------------------------------------------

    fn rows_at_rest(&self, verdict: &mut Verdict) {
        let gone = self.record.is_gone();
        for (app, lane) in self.story.lanes.iter().enumerate() {
            let stays_away = self.entity.deletion == Deletion::ThereAlone && lane.deleted_by() == Some(By::User);
            let what = match (lane.is_there(), gone || stays_away) {
                (true, true) => "has a row, and it is gone",
                (false, false) => "has no row, and it lives",
                _ => continue,
            };
            self.find(verdict, "unequal", None, format!("{} {what}", APPS[app]));
        }
    }

    fn at_rest(&self, unit: &Unit, verdict: &mut Verdict) {
        let Some(agreed) = self.record.agreed(unit) else { return };
        if self.record.is_held(unit) {
            verdict.held += 1;
            if !self.record.is_asked(unit) {
                self.find(
                    verdict,
                    "unequal",
                    Some(unit),
                    "it is held, and nobody is asked".to_owned(),
                );
            }
            return;
        }
        for (app, lane) in self.story.lanes.iter().enumerate() {
            let held = lane.last(unit.name).filter(|_| lane.is_there());
            if held.is_some_and(|held| *held != agreed) {
                let what = format!("{} holds {}, agreed is {}", APPS[app], show(held), show(Some(&agreed)));
                self.find(verdict, "unequal", Some(unit), what);
            }
        }
    }

    // ---- nothing is lost --------------------------------------------------------------------------------------------------

    fn edits(&self, unit: &Unit, verdict: &mut Verdict) {
        let agreed = self.record.agreed(unit);
        for (app, state) in self.said(unit) {
            let Some(value) = &state.held else { continue };
            // What a new row lacks nobody has said.
            if state.made && value.is_none() {
                continue;
            }
            verdict.edits += 1;
            let became = [
                agreed.as_ref() == Some(value),
                self.is_superseded(app, unit, state, value) || self.went_with_all(unit),
                self.is_candidate(app, unit, state, value),
            ];
            match became.iter().position(|one| *one) {
                Some(place) => verdict.became[place] += 1,
                None => {
                    let what = format!("{} said {}, and no trace is left of it", APPS[app], show(Some(value)));
                    self.find(verdict, "lost", Some(unit), what);
                }
            }
        }
    }

    /// Whether somebody edited or deleted later what had held this value.
    fn is_superseded(&self, app: usize, unit: &Unit, state: &State, value: &Cell) -> bool {
        (0..APPS.len()).any(|other| {
            let states = self.states(other, unit);
            let from = match other == app {
                true => states.iter().position(|one| std::ptr::eq(one, state)),
                false => states.iter().position(|one| one.held.as_ref() == Some(value)),
            };
            let later = from.map(|from| &states[from + 1..]).unwrap_or_default();
            later.iter().any(|one| one.by == By::User)
        })
    }

    /// Whether the entity is gone by the deletion of an app that has no room for this unit: whatever was said of it, there is
    /// nothing that who deleted could have seen.
    fn went_with_all(&self, unit: &Unit) -> bool {
        let deleted = |lane: &Lane| {
            lane.events
                .iter()
                .any(|(_, event, by)| (*event, *by) == (Event::Deleted, By::User))
        };
        self.record.is_gone()
            && self
                .story
                .lanes
                .iter()
                .any(|lane| has_no_room(lane, unit) && deleted(lane))
    }

    /// Whether a conflict has it. What was there before capture stands at the place where it was first read.
    fn is_candidate(&self, app: usize, unit: &Unit, state: &State, value: &Cell) -> bool {
        let transaction = self.transaction(app, state.at);
        self.record.candidates.iter().any(|(field, one)| {
            let about = field == unit.name || field == "*";
            let there = transaction.is_at(one.position.lsn.0);
            let first = one.initial && state.made && one.said(unit).as_ref() == Some(value);
            about && one.app == APPS[app] && (there || first)
        })
    }

    fn deletions(&self, verdict: &mut Verdict) {
        for (app, lane) in self.story.lanes.iter().enumerate() {
            for (place, (at, event, by)) in lane.events.iter().enumerate() {
                if *event != Event::Deleted || *by != By::User {
                    continue;
                }
                verdict.deletions += 1;
                let made_again = lane.events[place..]
                    .iter()
                    .any(|(_, event, by)| *event == Event::Made && *by == By::User);
                let settled = self.entity.deletion == Deletion::ThereAlone || self.record.is_gone() || made_again;
                if settled || self.is_disputed(app, *at) || self.was_made_by_who_knew(app, *at) {
                    continue;
                }
                let what = format!("{} deleted it, it lives, and no trace is left of that", APPS[app]);
                self.find(verdict, "lost", None, what);
            }
        }
    }

    fn is_disputed(&self, app: usize, at: usize) -> bool {
        let transaction = self.transaction(app, at);
        let has = |(field, one): &(String, Candidate)| {
            field == "*" && one.app == APPS[app] && transaction.is_at(one.position.lsn.0)
        };
        self.record.candidates.iter().any(has)
    }

    /// Whether a user made a row where a mark had told of the deletion.
    fn was_made_by_who_knew(&self, app: usize, at: usize) -> bool {
        let transaction = self.transaction(app, at);
        self.story.lanes.iter().any(|lane| {
            let told = lane
                .marks
                .iter()
                .filter(|marked| is_covered(&marked.mark.vector, app, transaction));
            let Some(first) = told.map(|marked| marked.at).min() else {
                return false;
            };
            let mut events = lane.events.iter();
            events.any(|(at, event, by)| *at > first && *event == Event::Made && *by == By::User)
        })
    }

    // ---- nothing is invented ----------------------------------------------------------------------------------------------

    fn nothing_invented(&self, unit: &Unit, verdict: &mut Verdict) {
        // A row of ours is made without what is held: what it lacks, the app's default stands for.
        let lacks = |state: &&State| state.by == By::Sink && state.made && state.held == Some(None);
        let lasts = (0..APPS.len()).filter_map(|app| self.states(app, unit).last().filter(|state| !lacks(state)));
        let lasts = lasts.filter_map(|state| state.held.clone());
        let values: BTreeSet<Cell> = lasts.chain(self.record.agreed(unit)).collect();
        let unsaid = self
            .said(unit)
            .all(|(_, state)| matches!(state.held, Some(None)) && state.made);
        for value in values {
            let is_said = match &value {
                None => {
                    unsaid
                        || self.was_made_without_it(unit)
                        || self.said(unit).any(|(_, state)| state.held == Some(None))
                }
                Some(text) if unit.kind == Kind::Lines => text.lines().all(|line| self.has_line(unit, line)),
                value => self.said(unit).any(|(_, state)| state.held.as_ref() == Some(value)),
            };
            if !is_said {
                self.find(
                    verdict,
                    "invented",
                    Some(unit),
                    format!("nobody said {}", show(Some(&value))),
                );
            }
        }
    }

    /// Whether the entity was made anew, after its row had gone, in an app that has no room for this unit.
    fn was_made_without_it(&self, unit: &Unit) -> bool {
        self.story.lanes.iter().any(|lane| {
            let mut since = lane.events.iter().skip_while(|(_, event, _)| *event != Event::Deleted);
            has_no_room(lane, unit) && since.any(|(_, event, by)| (*event, *by) == (Event::Made, By::User))
        })
    }

    fn has_line(&self, unit: &Unit, line: &str) -> bool {
        self.said(unit).any(|(_, state)| {
            let text = state.held.as_ref().and_then(Option::as_deref).unwrap_or_default();
            text.lines().any(|other| other == line)
        })
    }
}

fn has_no_room(lane: &Lane, unit: &Unit) -> bool {
    !lane.states.contains_key(unit.name)
}

/// Whether the rows that the logs come to are those in the tables, or the oracle itself is wrong.
pub fn logs_are_the_tables(
    history: &History,
    of: &dyn Fn(usize, &str) -> anyhow::Result<String>,
) -> anyhow::Result<()> {
    for table in &TABLES {
        let mut columns: Vec<&str> = vec![table.key];
        for (_, column) in table.columns {
            columns.extend(column.names());
        }
        let texts: Vec<String> = columns.iter().map(|name| format!("{name}::text")).collect();
        let order = format!("{}::text COLLATE \"C\"", table.key);
        let sql = format!("SELECT {} FROM {} ORDER BY {order}", texts.join(", "), table.name);
        let there = of(table.app, &sql)?;
        let rows = history.rows.iter().filter(|((name, _), _)| *name == table.name);
        let line = |(_, row): (&(&'static str, String), &Row)| {
            let cell = |name: &&str| row.get(*name).cloned().flatten().unwrap_or_else(|| "-".to_owned());
            columns.iter().map(cell).collect::<Vec<_>>().join("|")
        };
        let read: Vec<String> = rows.map(line).collect();
        if read.join("\n") != there {
            anyhow::bail!(
                "{} {}: the log comes to other rows than the table has:\n{}\n---\n{there}",
                APPS[table.app],
                table.name,
                read.join("\n")
            );
        }
    }
    Ok(())
}

/// How many entities there are, by name.
pub fn population(history: &History) -> BTreeMap<&'static str, usize> {
    let count = |entity: &'static Entity| {
        let of = history.stories.keys().filter(|(name, _)| *name == entity.name);
        (entity.name, of.count())
    };
    ENTITIES.iter().map(count).collect()
}
