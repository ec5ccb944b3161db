//! What the apps' users do: inserts of the same people everywhere, edits, deletions, new keys, and now and then a change of mind.
//!
//! Half of it is about whoever came last, so that the apps meet over the same rows; the others are edited long after they
//! were agreed upon. Only some are ever deleted: of the rest, sums and sets can be worked out to the last unit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::apps::{APPS, COUNTED_AT_FIRST, Column, Kind, TABLES, Table, Unit};
use crate::dice::Dice;
use crate::postgres::Db;

/// People and things that are there before anybody captures.
pub const SEEDED: u64 = 16;
/// So many transactions bring another one of each entity.
const TRANSACTIONS_PER_PERSON: u64 = 60;
/// Of those who came last, half of all edits are.
const LATEST: u64 = 6;
/// Every so many may be deleted.
const DELETABLE_EVERY: u64 = 4;
/// Elements of sets.
const ELEMENTS: u64 = 8;
const LINES: u64 = 7;
/// Small numbers are below this.
const SMALL_MAX: u64 = 1000;
/// How much is added to a counter at most, and one less taken away.
const ADDED_MAX: u64 = 7;

/// Users at work in all apps, until they are stopped.
pub struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    threads: Vec<JoinHandle<anyhow::Result<()>>>,
}

impl Load {
    /// Starts one thread for each app, with so many transactions a second.
    pub fn start(users: impl IntoIterator<Item = User>, per_s: u64) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = users
            .into_iter()
            .map(|user| {
                let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
                std::thread::spawn(move || {
                    let worked = user.work(per_s.max(1), &stop, &done);
                    // Who waits for the whole time hears of it only in the end.
                    worked.inspect_err(|error| println!("{error:?}"))
                })
            })
            .collect();
        Self { stop, done, threads }
    }

    /// Transactions so far.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::SeqCst)
    }

    /// Fails if somebody has stopped working.
    pub fn goes_on(&self) -> anyhow::Result<()> {
        match self.threads.iter().any(JoinHandle::is_finished) {
            true => bail!("a user of an app has stopped working"),
            false => Ok(()),
        }
    }

    /// Stops it; gives the number of transactions.
    pub fn stop(mut self) -> anyhow::Result<u64> {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            thread.join().map_err(|_| anyhow::anyhow!("a user panicked"))??;
        }
        Ok(self.done())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

/// Who works in one app.
pub struct User {
    app: usize,
    db: Db,
    dice: Dice,
    number: u64,
}

impl User {
    /// Somebody with a connection to the app's database.
    pub fn new(app: usize, db: Db, dice: Dice) -> Self {
        Self {
            app,
            db,
            dice,
            number: 0,
        }
    }

    /// Makes rows for most of those who are there at the start.
    pub fn seed(&mut self) -> anyhow::Result<()> {
        let app = self.app;
        for table in TABLES.iter().filter(|table| table.app == app) {
            for person in 0..SEEDED {
                if self.dice.below(10) < 7 {
                    let insert = self.insert(table, person);
                    self.commit(&[insert], "COMMIT")?;
                }
            }
        }
        Ok(())
    }

    /// A transaction without a row, so that what follows has a place of its own in the log.
    pub fn nothing(&mut self) -> anyhow::Result<()> {
        self.commit(&[], "COMMIT").map(drop)
    }

    fn work(mut self, per_s: u64, stop: &AtomicBool, done: &AtomicU64) -> anyhow::Result<()> {
        let (started, mut made) = (Instant::now(), 0);
        while !stop.load(Ordering::SeqCst) {
            let people = SEEDED + done.load(Ordering::Relaxed) / TRANSACTIONS_PER_PERSON;
            self.one(people).context(APPS[self.app])?;
            made += 1;
            done.fetch_add(1, Ordering::SeqCst);
            let due = Duration::from_millis(made * 1000 / per_s);
            std::thread::sleep(due.saturating_sub(started.elapsed()));
        }
        Ok(())
    }

    /// One transaction, of one statement or two; some are rolled back and must leave no trace.
    fn one(&mut self, people: u64) -> anyhow::Result<()> {
        let mut statements = vec![self.statement(people)];
        if self.dice.below(8) == 0 {
            statements.push(self.statement(people));
        }
        let end = if self.dice.below(12) == 0 { "ROLLBACK" } else { "COMMIT" };
        self.commit(&statements, end).map(drop)
    }

    fn statement(&mut self, people: u64) -> String {
        let own: Vec<&'static Table> = TABLES.iter().filter(|table| table.app == self.app).collect();
        let table = own[self.dice.place(own.len())];
        let person = match self.dice.below(2) {
            0 => people - 1 - self.dice.below(LATEST.min(people)),
            _ => self.dice.below(people),
        };
        match self.dice.below(100) {
            0..15 => self.insert(table, person),
            15..19 if person.is_multiple_of(DELETABLE_EVERY) => {
                format!("DELETE FROM {} WHERE {}", table.name, is(table, person))
            }
            19..23 => {
                let Table { name, key, new_key, .. } = table;
                format!("UPDATE {name} SET {key} = {new_key} WHERE {}", is(table, person))
            }
            chance => self.edit(table, person, chance),
        }
    }

    /// A row, if the person has none here yet.
    fn insert(&mut self, table: &Table, person: u64) -> String {
        let mut set = Vec::new();
        let units: Vec<&Unit> = table.units().filter(|unit| self.may_write(unit)).collect();
        for unit in units {
            for field in unit.fields {
                let Some(column) = table.column(field) else { continue };
                let value = match unit.kind {
                    Kind::Person => self.spelt(table, person),
                    Kind::Sum => COUNTED_AT_FIRST.to_string(),
                    Kind::Set => format!("e{},e{}", self.dice.below(ELEMENTS / 2), ELEMENTS / 2),
                    Kind::Lines => (0..LINES)
                        .map(|line| format!("line {line}"))
                        .collect::<Vec<_>>()
                        .join("\n"),
                    // Half of the time the apps say the same of whom they both know.
                    Kind::Token | Kind::Words if self.dice.below(2) == 0 => format!("{field} p{person}"),
                    _ => self.value(unit, field),
                };
                set.extend(column.set(&value));
            }
        }
        let (columns, values): (Vec<&str>, Vec<String>) = set.into_iter().unzip();
        format!(
            "INSERT INTO {} ({}) VALUES ({}) ON CONFLICT DO NOTHING",
            table.name,
            columns.join(", "),
            values.join(", ")
        )
    }

    /// Whoever is meant, in one of several spellings.
    fn spelt(&mut self, table: &Table, person: u64) -> String {
        let plain = name_of(table, person);
        match self.dice.below(4) {
            0 => plain.to_uppercase(),
            1 => format!(" {plain}"),
            _ => plain,
        }
    }

    fn may_write(&self, unit: &Unit) -> bool {
        unit.owner.is_none_or(|owner| owner == APPS[self.app])
    }

    fn edit(&mut self, table: &Table, person: u64, chance: u64) -> String {
        let units: Vec<&Unit> = table
            .units()
            .filter(|unit| unit.kind != Kind::Person && self.may_write(unit))
            .collect();
        let mut set: Vec<(&str, String)> = Vec::new();
        let count = if chance.is_multiple_of(5) { 2 } else { 1 };
        let first = self.dice.place(units.len());
        for unit in units.iter().cycle().skip(first).take(count) {
            set.extend(self.change(table, unit));
        }
        if chance == 99 {
            set.push((table.key, table.new_key.to_owned()));
        }
        let set: Vec<String> = set
            .into_iter()
            .map(|(column, value)| format!("{column} = {value}"))
            .collect();
        format!(
            "UPDATE {} SET {} WHERE {}",
            table.name,
            set.join(", "),
            is(table, person)
        )
    }

    /// The assignments of an edit.
    fn change(&mut self, table: &Table, unit: &Unit) -> Vec<(&'static str, String)> {
        // Of a group one field is edited, or all.
        let only = self.dice.place(unit.fields.len() + 1);
        let mut set = Vec::new();
        for (place, field) in unit.fields.iter().enumerate() {
            let Some(column) = table.column(field) else { continue };
            if unit.fields.len() > 1 && only < unit.fields.len() && only != place {
                continue;
            }
            match (unit.kind, column) {
                (Kind::Sum, Column::Plain(name)) => {
                    let by = i64::try_from(self.dice.below(2 * ADDED_MAX)).unwrap_or(0) - COUNTED_LESS;
                    set.push((name, format!("{name} + ({by})")));
                }
                (Kind::Set, column) => set.extend(self.toggle(column)),
                (Kind::Lines, Column::Plain(name)) => {
                    let (line, text) = (1 + self.dice.below(LINES), self.token("line"));
                    let lines = format!("string_to_array({name}, E'\\n')");
                    let (before, behind) = (line - 1, line + 1);
                    set.push((
                        name,
                        format!(
                            "array_to_string(({lines})[1:{before}] || '{text}'::text || ({lines})[{behind}:], E'\\n')"
                        ),
                    ));
                }
                _ => set.extend(column.set(&self.value(unit, field))),
            }
        }
        set
    }

    /// An element is added if it is not there, else taken away.
    fn toggle(&mut self, column: Column) -> Vec<(&'static str, String)> {
        let element = format!("e{}", self.dice.below(ELEMENTS));
        let toggled = |array: &str| {
            format!(
                "CASE WHEN '{element}' = ANY({array}) THEN array_remove({array}, '{element}') ELSE array_append({array}, '{element}') END"
            )
        };
        match column {
            Column::Array(name) => vec![(name, toggled(name))],
            Column::Split(name) => {
                let array = format!("string_to_array({name}, ';')");
                vec![(name, format!("array_to_string({}, ';')", toggled(&array)))]
            }
            _ => Vec::new(),
        }
    }

    /// A text that nobody else writes.
    fn token(&mut self, what: &str) -> String {
        self.number += 1;
        format!("{what} {}{}", APPS[self.app], self.number)
    }

    fn value(&mut self, unit: &Unit, field: &str) -> String {
        match unit.kind {
            Kind::Small => self.dice.below(SMALL_MAX).to_string(),
            Kind::Flag => (self.dice.below(2) == 0).to_string(),
            Kind::Money => {
                self.number += 1;
                let app = u64::try_from(self.app).unwrap_or(0);
                // A price below nothing does not meet its check.
                let sign = if unit.name == "price" && self.dice.below(40) == 0 {
                    "-"
                } else {
                    ""
                };
                format!("{sign}{}.{app}5", 1 + self.number)
            }
            _ => self.token(field),
        }
    }

    /// A deadlock with the sink is the app's to lose now and then; the app would try again, we do something else.
    fn commit(&mut self, statements: &[String], end: &str) -> anyhow::Result<bool> {
        self.number += 1;
        let all = statements.join("; ");
        let sql = format!("BEGIN; INSERT INTO edits VALUES ({}); {all}; {end}", self.number);
        match self.db.exec(&sql) {
            Ok(()) => Ok(true),
            Err(error) if is_passing(&format!("{error:?}")) => {
                self.db.exec("ROLLBACK")?;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

/// Of what is added to a counter: as often as not it is taken away.
const COUNTED_LESS: i64 = 7;

fn is_passing(error: &str) -> bool {
    ["deadlock detected", "duplicate key value"]
        .iter()
        .any(|one| error.contains(one))
}

fn name_of(table: &Table, person: u64) -> String {
    format!("{}{person}@x.org", table.entity)
}

/// The condition that a row is about this one.
fn is(table: &Table, person: u64) -> String {
    let names = table
        .columns
        .first()
        .map(|(_, column)| column.names())
        .unwrap_or_default();
    let column = names.first().copied().unwrap_or_default();
    format!("lower(btrim({column})) = '{}'", name_of(table, person))
}
