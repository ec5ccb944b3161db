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
use std::fmt::Write as _;

use syncline_schemas::position::{Lsn, Vector};

use super::apps::{APPS, COUNTED_AT_FIRST, Cell, Deletion, ENTITIES, Entity, Kind, Row, TABLES, Unit, entity, set};
use super::history::{By, Event, History, State, Story, Who, is_covered};
use super::log::{Log, Transaction};
use super::record::{Candidate, Record, Records};

/// Findings that are told in full; of the others there is a count.
const TOLD_MAX: usize = 8;
/// Lines of a field's history in one app that are told.
const LINES_MAX: usize = 60;

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
                let mark = format!(
                    "mark {:?} {} knows {:?}",
                    marked.mark.act,
                    fields.join(" "),
                    marked.mark.vector
                );
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
            verdict.find("lost", Some(self.who), None, "nothing was ever agreed of it".to_owned());
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
                self.is_superseded(app, unit, state, value),
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
        let lasts = self.story.lanes.iter().filter_map(|lane| lane.last(unit.name).cloned());
        let values: BTreeSet<Cell> = lasts.chain(self.record.agreed(unit)).collect();
        let unsaid = self
            .said(unit)
            .all(|(_, state)| matches!(state.held, Some(None)) && state.made);
        for value in values {
            let is_said = match &value {
                None => unsaid || self.said(unit).any(|(_, state)| state.held == Some(None)),
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

    fn has_line(&self, unit: &Unit, line: &str) -> bool {
        self.said(unit).any(|(_, state)| {
            let text = state.held.as_ref().and_then(Option::as_deref).unwrap_or_default();
            text.lines().any(|other| other == line)
        })
    }

    /// What the sink wrote, somebody had said, and the mark beside it knows where.
    fn causes(&self, unit: &Unit, verdict: &mut Verdict) {
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

    fn deletions_by_the_sink(&self, verdict: &mut Verdict) {
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

    // ---- what is made of several edits --------------------------------------------------------------------------------------

    fn counted(&self, unit: &Unit, verdict: &mut Verdict) {
        let edits = self.said(unit).count();
        verdict.edits += edits;
        let Some(agreed) = self.record.agreed(unit) else { return };
        if unit.kind == Kind::Set {
            self.no_element_invented(unit, &agreed, verdict);
        }
        if self.story.was_deleted() {
            return;
        }
        verdict.counted += 1;
        let expected = match unit.kind {
            Kind::Sum => self.sum(unit).to_string(),
            _ => self.united(unit),
        };
        if agreed.as_deref() != Some(expected.as_str()) {
            let what = format!("agreed is {}, and by the logs it is {expected}", show(Some(&agreed)));
            self.find(verdict, "miscounted", Some(unit), what);
        }
    }

    fn no_element_invented(&self, unit: &Unit, agreed: &Cell, verdict: &mut Verdict) {
        let said: BTreeSet<&str> = self
            .said(unit)
            .flat_map(|(_, state)| elements(state.held.as_ref()))
            .collect();
        for element in elements(Some(agreed)) {
            if !said.contains(element) {
                self.find(verdict, "invented", Some(unit), format!("nobody ever added {element}"));
            }
        }
    }

    /// What every row holds at first, and what users added to it.
    fn sum(&self, unit: &Unit) -> i64 {
        let amount = |held: Option<&Cell>| held.and_then(|cell| cell.as_deref()?.parse::<i64>().ok()).unwrap_or(0);
        let mut sum = COUNTED_AT_FIRST;
        for app in 0..APPS.len() {
            for pair in self.states(app, unit).windows(2) {
                if pair[1].by == By::User {
                    sum += amount(pair[1].held.as_ref()) - amount(pair[0].held.as_ref());
                }
            }
        }
        unit.most.map_or(sum, |most| sum.min(most))
    }

    /// Every element that somebody added and nobody who had seen that took away.
    fn united(&self, unit: &Unit) -> String {
        let sides: Vec<Side<'_>> = (0..APPS.len()).map(|app| self.side(app, unit)).collect();
        let stands = |(app, element): (usize, &str)| {
            let added = &sides[app].added[element];
            !sides.iter().enumerate().any(|(other, side)| {
                let Some(taken) = side.taken.get(element) else {
                    return false;
                };
                let transaction = self.transaction(app, added.at);
                match other == app {
                    true => taken.place > added.place,
                    false => {
                        is_covered(&taken.seen, app, transaction) || (added.at_first && side.first.contains(element))
                    }
                }
            })
        };
        let all = sides
            .iter()
            .enumerate()
            .flat_map(|(app, side)| side.added.keys().map(move |element| (app, *element)));
        let standing: Vec<&str> = all.filter(|one| stands(*one)).map(|(_, element)| element).collect();
        set(standing.into_iter())
    }

    /// What users of one app did to a set, and what they had seen by then: the marks that stand before it in their log.
    fn side(&self, app: usize, unit: &Unit) -> Side<'_> {
        let mut side = Side::default();
        let states = self.states(app, unit);
        let marks = &self.story.lanes[app].marks;
        for (place, state) in states.iter().enumerate().filter(|(_, state)| state.by == By::User) {
            let before = place.checked_sub(1).and_then(|before| states[before].held.as_ref());
            let (old, new) = (elements(before), elements(state.held.as_ref()));
            if state.made {
                side.first = new.iter().copied().collect();
            }
            let mut seen = Vector::new();
            let told = marks
                .iter()
                .filter(|marked| marked.at <= state.at && marked.mark.field(unit.name).is_some());
            told.for_each(|marked| seen.join(&marked.mark.vector));
            for element in new.iter().filter(|element| !old.contains(element)) {
                let added = Added {
                    at: state.at,
                    place,
                    at_first: state.made,
                };
                side.added.insert(element, added);
            }
            for element in old.iter().filter(|element| !new.contains(element)) {
                let seen = seen.clone();
                side.taken.insert(element, Taken { place, seen });
            }
        }
        side
    }
}

/// What users of one app did to a set.
#[derive(Default)]
struct Side<'a> {
    first: BTreeSet<&'a str>,
    added: BTreeMap<&'a str, Added>,
    taken: BTreeMap<&'a str, Taken>,
}

struct Added {
    /// The transaction.
    at: usize,
    /// The place among the states.
    place: usize,
    at_first: bool,
}

struct Taken {
    place: usize,
    seen: Vector,
}

fn elements(held: Option<&Cell>) -> Vec<&str> {
    let text = held.and_then(|cell| cell.as_deref()).unwrap_or_default();
    text.split(',').filter(|element| !element.is_empty()).collect()
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
