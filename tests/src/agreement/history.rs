//! From logs to what every row held, and by whose doing.
//!
//! A transaction is a user's if it noted its number in the table of edits, and the sink's if it left marks. One that
//! touched a row and is neither, or both, is a finding by itself: somebody writes who does not say so.

use std::collections::{BTreeMap, BTreeSet};

use syncline_schemas::mapped::RowKey;
use syncline_schemas::mark::{Act, Mark};
use syncline_schemas::position::Position;
use syncline_schemas::value::Value;

use super::apps::{APPS, Cell, EDITS, Entity, Row, TABLES, Table, Unit, entity};
use super::log::{Change, Log, Transaction};

/// Who did it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// A user of the app.
    User,
    /// The sink.
    Sink,
}

/// What a row held of one unit from a transaction on.
#[derive(Clone, Debug)]
pub struct State {
    /// The transaction, by its place in the app's log.
    pub at: usize,
    /// What it held; none: there was no row.
    pub held: Option<Cell>,
    /// By whose doing.
    pub by: By,
    /// Whether the row was made with it.
    pub made: bool,
}

/// A mark for one entity.
#[derive(Clone, Debug)]
pub struct Marked {
    /// The transaction, by its place in the app's log.
    pub at: usize,
    /// The mark.
    pub mark: Mark,
}

/// What happened to a row as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It was made.
    Made,
    /// It was changed.
    Changed,
    /// It got another key.
    Moved,
    /// It was deleted.
    Deleted,
}

/// A person's rows in one app.
#[derive(Debug, Default)]
pub struct Lane {
    /// What each unit held, in the order of the log.
    pub states: BTreeMap<&'static str, Vec<State>>,
    /// What became of the row.
    pub events: Vec<(usize, Event, By)>,
    /// The marks in the app's log.
    pub marks: Vec<Marked>,
}

/// Everything that happened to one entity, by app.
#[derive(Debug, Default)]
pub struct Story {
    /// In the order of [`APPS`].
    pub lanes: [Lane; 3],
}

/// Of which entity, and who.
pub type Who = (&'static str, String);

/// What is wrong with the log itself, or with what somebody wrote.
pub type Finding = (Option<Who>, String);

/// Everything that happened.
#[derive(Debug, Default)]
pub struct History {
    /// By entity and person.
    pub stories: BTreeMap<Who, Story>,
    /// What could not be as it is.
    pub findings: Vec<Finding>,
    /// What the rows are in the end, by table and key.
    pub rows: BTreeMap<(&'static str, String), Row>,
    /// Transactions of users, and of the sink, that touched a row.
    pub users: usize,
    /// Those of the sink.
    pub sinks: usize,
}

impl Lane {
    /// What the row holds of a unit in the end; none: there is no row.
    pub fn last(&self, unit: &str) -> Option<&Cell> {
        self.states.get(unit)?.last()?.held.as_ref()
    }

    /// Whether there is a row in the end.
    pub fn is_there(&self) -> bool {
        self.events.last().is_some_and(|(_, event, _)| *event != Event::Deleted)
    }

    /// Who deleted the row, if that was the last that happened to it.
    pub fn deleted_by(&self) -> Option<By> {
        self.events
            .last()
            .filter(|(_, event, _)| *event == Event::Deleted)
            .map(|(_, _, by)| *by)
    }
}

impl Story {
    /// Whether any row of it was ever deleted.
    pub fn was_deleted(&self) -> bool {
        let mut events = self.lanes.iter().flat_map(|lane| &lane.events);
        events.any(|(_, event, _)| *event == Event::Deleted)
    }
}

impl History {
    /// Made of the three logs; `persons` says whom an entity id is about, for marks of rows that were never seen.
    pub fn of(logs: &[Log; 3], persons: &BTreeMap<(String, String), String>) -> Self {
        let mut history = Self::default();
        for (app, log) in logs.iter().enumerate() {
            let mut reader = Reader {
                app,
                persons,
                history: &mut history,
                rows: BTreeMap::new(),
            };
            for (at, transaction) in log.transactions.iter().enumerate() {
                reader.take(at, transaction);
            }
            let rows = reader.rows;
            history
                .rows
                .extend(rows.into_iter().map(|(place, (_, row))| (place, row)));
        }
        history
    }
}

/// Reads one app's log.
struct Reader<'a> {
    app: usize,
    persons: &'a BTreeMap<(String, String), String>,
    history: &'a mut History,
    /// By table and key: whom it is about, and the row.
    rows: BTreeMap<(&'static str, String), (String, Row)>,
}

fn table_of(app: usize, name: &str) -> Option<&'static Table> {
    TABLES
        .iter()
        .find(|table| table.app == app && table.qualified() == name)
}

fn name_of(change: &Change) -> Option<&str> {
    match change {
        Change::Insert { table, .. } | Change::Update { table, .. } | Change::Delete { table, .. } => Some(table),
        Change::Mark(_) => None,
    }
}

impl Reader<'_> {
    fn take(&mut self, at: usize, transaction: &Transaction) {
        let touches = |change: &&Change| name_of(change).is_some_and(|name| table_of(self.app, name).is_some());
        let rows: Vec<&Change> = transaction.changes.iter().filter(touches).collect();
        let is_users = transaction.changes.iter().any(|change| name_of(change) == Some(EDITS));
        let marks = self.marks(transaction);
        let by = match (is_users, marks.is_empty()) {
            (true, true) => By::User,
            (false, false) => By::Sink,
            (_, _) if rows.is_empty() && marks.is_empty() => return,
            (both, _) => {
                let what = if both {
                    "both a user's and the sink's"
                } else {
                    "nobody's"
                };
                self.find(
                    None,
                    format!("the transaction that ends at {} is {what}", transaction.end),
                );
                return;
            }
        };
        match by {
            By::User if !rows.is_empty() => self.history.users += 1,
            By::Sink => self.history.sinks += 1,
            By::User => {}
        }
        let marked: Vec<(Option<Who>, Mark)> = marks.into_iter().map(|mark| (self.marked(&mark), mark)).collect();
        let mut done: BTreeSet<(Who, &'static str)> = BTreeSet::new();
        for change in rows {
            let Some((who, event)) = self.apply(at, by, change) else {
                continue;
            };
            if by == By::Sink && !is_accounted_for(&marked, &who, event) {
                self.find(
                    Some(who.clone()),
                    format!("a row was {event:?} by the sink without a mark that says so"),
                );
            }
            let table = name_of(change).and_then(|name| table_of(self.app, name));
            done.extend(table.map(|table| (who, table.name)));
        }
        for (who, mark) in marked {
            let Some(who) = who else {
                self.find(
                    None,
                    format!("a mark for a {} that nobody knows: {}", mark.entity, mark.cid),
                );
                continue;
            };
            let table = table_of(self.app, &mark.table);
            let written = table.is_some_and(|table| done.contains(&(who.clone(), table.name)));
            if written == (mark.act == Act::Seen) {
                self.find(
                    Some(who.clone()),
                    format!("a mark says {:?}, and that is not what was done", mark.act),
                );
            }
            self.lane(&who).marks.push(Marked { at, mark });
        }
    }

    fn find(&mut self, who: Option<Who>, what: String) {
        self.history.findings.push((who, format!("{}: {what}", APPS[self.app])));
    }

    fn lane(&mut self, who: &Who) -> &mut Lane {
        &mut self.history.stories.entry(who.clone()).or_default().lanes[self.app]
    }

    fn marks(&mut self, transaction: &Transaction) -> Vec<Mark> {
        let mut marks = Vec::new();
        for change in &transaction.changes {
            let Change::Mark(text) = change else { continue };
            match Mark::from_text(text) {
                Ok(mark) => marks.push(mark),
                Err(error) => self.find(None, format!("a mark that cannot be read: {error}")),
            }
        }
        marks
    }

    /// Whom a mark is about: by the row that it names, else by the entity id.
    fn marked(&mut self, mark: &Mark) -> Option<Who> {
        let table = table_of(self.app, &mark.table)?;
        let by_id = self.persons.get(&(mark.entity.clone(), mark.cid.clone())).cloned();
        let key = mark.row.as_ref().and_then(|row| key_of(row, table));
        let by_row = key.and_then(|key| Some(self.rows.get(&(table.name, key))?.0.clone()));
        if let (Some(by_id), Some(by_row)) = (&by_id, &by_row)
            && by_id != by_row
        {
            self.find(
                Some((table.entity, by_row.clone())),
                format!("what was agreed of {by_id} was written into this one's row"),
            );
        }
        by_row.or(by_id).map(|person| (table.entity, person))
    }

    /// Does to the rows what the change says.
    fn apply(&mut self, at: usize, by: By, change: &Change) -> Option<(Who, Event)> {
        let table = table_of(self.app, name_of(change)?)?;
        let place = |row: &Row| Some((table.name, row.get(table.key)?.clone()?));
        let (person, before, after, event) = match change {
            Change::Insert { row, .. } => (table.person(row)?, None, Some(row), Event::Made),
            Change::Update { old_key, row, .. } => {
                let old = place(old_key.as_ref().unwrap_or(row))?;
                let Some((person, before)) = self.rows.remove(&old) else {
                    self.find(None, format!("{} has no row {} to change", table.name, old.1));
                    return None;
                };
                if table.person(row).as_ref() != Some(&person) {
                    let other = table.person(row).unwrap_or_default();
                    self.find(
                        Some((table.entity, person.clone())),
                        format!("the row is {other}'s now"),
                    );
                }
                let event = if old_key.is_some() {
                    Event::Moved
                } else {
                    Event::Changed
                };
                (person, Some(before), Some(row), event)
            }
            Change::Delete { key, .. } => {
                let old = place(key)?;
                let Some((person, before)) = self.rows.remove(&old) else {
                    self.find(None, format!("{} has no row {} to delete", table.name, old.1));
                    return None;
                };
                (person, Some(before), None, Event::Deleted)
            }
            Change::Mark(_) => return None,
        };
        if let Some(row) = after {
            self.rows.insert(place(row)?, (person.clone(), row.clone()));
        }
        let who = (table.entity, person);
        let lane = self.lane(&who);
        lane.events.push((at, event, by));
        for unit in table.units() {
            let held = after.map(|row| table.read(unit, row));
            let is_same = before.as_ref().map(|row| table.read(unit, row)) == held;
            if !is_same {
                lane.states.entry(unit.name).or_default().push(State {
                    at,
                    held,
                    by,
                    made: event == Event::Made,
                });
            }
        }
        Some((who, event))
    }
}

fn is_accounted_for(marked: &[(Option<Who>, Mark)], who: &Who, event: Event) -> bool {
    let says = |act: Act| match event {
        Event::Made => act.makes(),
        Event::Changed | Event::Moved => act == Act::Update,
        Event::Deleted => act == Act::Delete,
    };
    marked
        .iter()
        .any(|(of, mark)| of.as_ref() == Some(who) && says(mark.act))
}

/// The key that a mark names, as the log shows it.
fn key_of(row: &str, table: &Table) -> Option<String> {
    let columns = RowKey(row.to_owned()).columns()?;
    match columns.get(table.key)? {
        Value::Text(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// Whether who knows `vector` has seen a transaction of `app`.
pub fn is_covered(vector: &syncline_schemas::position::Vector, app: usize, transaction: &Transaction) -> bool {
    vector
        .get(APPS[app])
        .is_some_and(|position: Position| transaction.is_seen_at(position.lsn.0))
}

/// The unit of this name.
///
/// # Panics
/// When the entity has none.
pub fn unit(of: &str, name: &str) -> &'static Unit {
    let entity: &'static Entity = entity(of);
    let found = entity.units.iter().find(|unit| unit.name == name);
    found.unwrap_or_else(|| panic!("{of} has no unit {name}"))
}
