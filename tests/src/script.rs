//! Random scripts: from a number to tables and to what two sessions do to them. The same number makes the same script.
//!
//! A script has a schema of its own, so that many run in one database. It goes in phases: first tables are altered, then
//! rows are changed. Between phases whoever runs it lets both captures come to the end of the log, because both read the
//! catalogue later than the log: what a column's default was at some moment is not to be had from either.
//!
//! A statement may fail, and then its transaction is undone: that is part of the script.

use std::fmt::Write as _;

use crate::dice::Dice;

mod sorts;

use sorts::{EXTENSIONS, KEYS, SORTS, Sort};

const PHASES: u64 = 3;
const STEPS_MIN: u64 = 12;
const STEPS_MORE: u64 = 14;

/// A statement of one of the two sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// 0 or 1.
    pub session: usize,
    /// The statement.
    pub sql: String,
}

/// What happens between two rests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Phase {
    /// Changes of tables.
    pub alter: Vec<String>,
    /// Changes of rows.
    pub steps: Vec<Step>,
}

/// A script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// Types, tables, and the rows that the snapshot reads.
    pub setup: Vec<String>,
    /// What happens then.
    pub phases: Vec<Phase>,
}

/// The schema of a seed's tables.
pub fn schema(seed: u64) -> String {
    format!("seed_{seed}")
}

impl Script {
    /// The script of a seed; of types of extensions only where the server has them.
    pub fn new(seed: u64, extensions: bool) -> Self {
        let mut writer = Writer {
            dice: Dice::of(seed),
            schema: schema(seed),
            extensions,
            number: 0,
            tables: Vec::new(),
        };
        let setup = writer.setup();
        let phases = (0..PHASES).map(|phase| writer.phase(phase > 0)).collect();
        Self { setup, phases }
    }
}

struct Column {
    name: String,
    sort: Sort,
}

struct Table {
    /// With its schema, quoted.
    name: String,
    /// Names, and how a number becomes a value.
    key: Vec<(String, &'static str)>,
    columns: Vec<Column>,
}

struct Writer {
    dice: Dice,
    schema: String,
    extensions: bool,
    /// Of the last key and the last name.
    number: u64,
    tables: Vec<Table>,
}

impl Writer {
    fn next(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.dice.below(bound) == 0
    }

    fn pick<T: Copy>(&mut self, choices: &[T], default: T) -> T {
        self.dice.pick(choices).copied().unwrap_or(default)
    }

    // ---- tables -------------------------------------------------------------------------------------------------------

    fn setup(&mut self) -> Vec<String> {
        let schema = self.schema.clone();
        let mut all = vec![
            format!("CREATE SCHEMA {schema}"),
            format!("CREATE TYPE {schema}.mood AS ENUM ('sad', 'ok', 'it''s, \"happy\"')"),
            format!("CREATE TYPE {schema}.pair AS (a int, b text)"),
            format!("CREATE DOMAIN {schema}.whole AS int CHECK (VALUE > 0)"),
            format!("CREATE DOMAIN {schema}.price AS numeric(12,2) NOT NULL DEFAULT 1.50"),
        ];
        for number in 0..2 + self.dice.below(2) {
            all.extend(self.table(number));
        }
        for _ in 0..self.dice.below(6) {
            let table = self.any_table();
            all.push(self.insert(table));
        }
        all
    }

    fn table(&mut self, number: u64) -> Vec<String> {
        let (schema, odd) = (self.schema.clone(), self.one_in(6));
        let title = if odd {
            format!("Tä-{number} x")
        } else {
            format!("t{number}")
        };
        let mut table = Table {
            name: format!("{schema}.\"{title}\""),
            key: Vec::new(),
            columns: Vec::new(),
        };
        let mut parts = Vec::new();
        for _ in 0..self.pick(&[1, 1, 1, 1, 2, 3, 0], 1) {
            let (name, (sql, value)) = (self.column_name(), self.pick(KEYS, KEYS[0]));
            parts.push(format!("{name} {sql}"));
            table.key.push((name, value));
        }
        for _ in 0..1 + self.dice.below(7) {
            let column = self.column();
            parts.push(self.declared(&column));
            table.columns.push(column);
        }
        // The key need not stand in front.
        if self.one_in(4) {
            parts.reverse();
        }
        let mut names: Vec<&str> = table.key.iter().map(|(name, _)| name.as_str()).collect();
        names.reverse();
        if !names.is_empty() {
            parts.push(format!("PRIMARY KEY ({})", names.join(", ")));
        }
        let mut all = vec![format!("CREATE TABLE {} ({})", table.name, parts.join(", "))];
        all.extend(storage(&table));
        all.extend(self.identity(&table));
        self.tables.push(table);
        all
    }

    fn identity(&mut self, table: &Table) -> Option<String> {
        let identity = match table.key.is_empty() {
            // Of rows without identity there would be nothing but inserts.
            true => self.pick(&["FULL", "FULL", "DEFAULT"], "FULL"),
            false => self.pick(&["DEFAULT", "DEFAULT", "DEFAULT", "FULL"], "DEFAULT"),
        };
        (identity != "DEFAULT").then(|| format!("ALTER TABLE {} REPLICA IDENTITY {identity}", table.name))
    }

    fn column_name(&mut self) -> String {
        let number = self.next();
        match self.dice.below(10) {
            0 => format!("\"C ü-{number}\""),
            1 => format!("\"{number}c\""),
            _ => format!("c{number}"),
        }
    }

    fn column(&mut self) -> Column {
        let name = self.column_name();
        let extension = self.extensions && self.one_in(10);
        let sort = match extension {
            true => self.pick(EXTENSIONS, EXTENSIONS[0]),
            false => self.pick(SORTS, SORTS[0]),
        };
        Column { name, sort }
    }

    /// `name type` and what may follow.
    fn declared(&mut self, column: &Column) -> String {
        let mut text = format!("{} {}", column.name, self.type_of(column.sort));
        match self.dice.below(8) {
            0 => self.default(column.sort, &mut text),
            1 if column.sort.is_kept() => {
                text.push_str(" NOT NULL");
                self.default(column.sort, &mut text);
            }
            _ => (),
        }
        text
    }

    fn default(&mut self, sort: Sort, text: &mut String) {
        let value = quoted(sort.values.first().copied().unwrap_or_default());
        // Writing to a String cannot fail.
        let _ = write!(text, " DEFAULT {value}");
    }

    /// With its schema, if it is one of ours.
    fn type_of(&self, sort: Sort) -> String {
        let own = ["mood", "pair", "whole", "price"]
            .iter()
            .any(|own| sort.sql.starts_with(own));
        if own {
            format!("{}.{}", self.schema, sort.sql)
        } else {
            sort.sql.to_owned()
        }
    }

    // ---- what is done to tables ---------------------------------------------------------------------------------------

    fn phase(&mut self, alters: bool) -> Phase {
        let mut phase = Phase::default();
        let changes = if alters { 1 + self.dice.below(2) } else { 0 };
        for _ in 0..changes {
            phase.alter.extend(self.alter());
        }
        for _ in 0..STEPS_MIN + self.dice.below(STEPS_MORE) {
            self.turn(&mut phase.steps);
        }
        phase
    }

    fn alter(&mut self) -> Vec<String> {
        let index = self.any_table();
        match self.dice.below(8) {
            0..=2 => self.add_column(index),
            3 => self.drop_column(index),
            4 => self.rename_column(index),
            5 => self.set_default(index),
            6 => vec![format!("ALTER TYPE {}.mood ADD VALUE IF NOT EXISTS 'new'", self.schema)],
            _ => self.table(10 + self.number),
        }
    }

    fn add_column(&mut self, index: usize) -> Vec<String> {
        let column = self.column();
        let declared = self.declared(&column);
        let all = vec![format!("ALTER TABLE {} ADD COLUMN {declared}", self.tables[index].name)];
        self.tables[index].columns.push(column);
        all
    }

    fn drop_column(&mut self, index: usize) -> Vec<String> {
        let table = &mut self.tables[index];
        // A table without columns would be another matter.
        if table.columns.len() < 2 {
            return Vec::new();
        }
        let column = table.columns.remove(self.dice.place(table.columns.len()));
        vec![format!("ALTER TABLE {} DROP COLUMN {}", table.name, column.name)]
    }

    fn rename_column(&mut self, index: usize) -> Vec<String> {
        let name = self.column_name();
        let table = &mut self.tables[index];
        let place = self.dice.place(table.columns.len());
        let Some(column) = table.columns.get_mut(place) else {
            return Vec::new();
        };
        let old = std::mem::replace(&mut column.name, name);
        vec![format!(
            "ALTER TABLE {} RENAME COLUMN {old} TO {}",
            table.name, column.name
        )]
    }

    fn set_default(&mut self, index: usize) -> Vec<String> {
        let table = &self.tables[index];
        let Some(column) = self.dice.pick(&table.columns) else {
            return Vec::new();
        };
        let value = quoted(column.sort.values.first().copied().unwrap_or_default());
        vec![format!(
            "ALTER TABLE {} ALTER {} SET DEFAULT {value}",
            table.name, column.name
        )]
    }

    // ---- what is done to rows -----------------------------------------------------------------------------------------

    /// One statement, one transaction, or two that are under way at the same time.
    fn turn(&mut self, steps: &mut Vec<Step>) {
        let at = |session| move |sql| Step { session, sql };
        match self.dice.below(6) {
            0..=2 => {
                let sql = self.statement(true);
                steps.push(at(0)(sql));
            }
            3 | 4 => {
                let all = self.transaction(true);
                steps.extend(all.into_iter().map(at(0)));
            }
            _ => {
                // No TRUNCATE here: it would wait for the other.
                let (mut first, mut second) = (
                    self.transaction(false).into_iter().map(at(0)).peekable(),
                    self.transaction(false).into_iter().map(at(1)).peekable(),
                );
                while first.peek().is_some() || second.peek().is_some() {
                    let next = if self.one_in(2) { first.next() } else { second.next() };
                    steps.extend(next);
                }
            }
        }
    }

    fn transaction(&mut self, truncates: bool) -> Vec<String> {
        let mut all = vec!["BEGIN".to_owned()];
        let mut point = false;
        for _ in 0..1 + self.dice.below(5) {
            match self.dice.below(8) {
                0 if !point => {
                    point = true;
                    all.push("SAVEPOINT s".to_owned());
                }
                1 if point => {
                    point = false;
                    all.push(self.pick(&["ROLLBACK TO s", "RELEASE s"], "RELEASE s").to_owned());
                }
                _ => all.push(self.statement(truncates)),
            }
        }
        all.push(
            self.pick(&["COMMIT", "COMMIT", "COMMIT", "COMMIT", "ROLLBACK"], "COMMIT")
                .to_owned(),
        );
        all
    }

    fn statement(&mut self, truncates: bool) -> String {
        let index = self.any_table();
        match self.dice.below(12) {
            0..=4 => self.insert(index),
            5..=7 => self.update(index),
            8 => self.move_key(index),
            9 => self.delete(index),
            10 if truncates && self.one_in(2) => format!("TRUNCATE {}", self.tables[index].name),
            10 => format!("SELECT pg_logical_emit_message(true, 'seed', '{} says')", self.schema),
            _ => self.touch(index),
        }
    }

    fn any_table(&mut self) -> usize {
        self.dice.place(self.tables.len())
    }

    /// One row, or a few.
    fn insert(&mut self, index: usize) -> String {
        let (mut names, mut rows) = (Vec::new(), Vec::new());
        let chosen: Vec<bool> = (0..self.tables[index].columns.len()).map(|_| !self.one_in(5)).collect();
        for _ in 0..self.pick(&[1, 1, 1, 2, 3], 1) {
            let (number, mut cells) = (self.next(), Vec::new());
            names.clear();
            for (name, value) in self.tables[index].key.clone() {
                names.push(name);
                cells.push(value.replace('$', &number.to_string()));
            }
            for (place, _) in chosen.iter().enumerate().filter(|(_, chosen)| **chosen) {
                let (name, sort) = (
                    self.tables[index].columns[place].name.clone(),
                    self.tables[index].columns[place].sort,
                );
                names.push(name);
                cells.push(self.value(sort));
            }
            rows.push(format!("({})", cells.join(", ")));
        }
        let table = &self.tables[index].name;
        match names.is_empty() {
            true => format!("INSERT INTO {table} DEFAULT VALUES"),
            false => format!("INSERT INTO {table} ({}) VALUES {}", names.join(", "), rows.join(", ")),
        }
    }

    fn value(&mut self, sort: Sort) -> String {
        match (self.dice.below(10), sort.large) {
            (0, _) => "NULL".to_owned(),
            (1..=4, Some(large)) => large.to_owned(),
            _ => quoted(self.pick(sort.values, "")),
        }
    }

    /// Some other values of one or two columns.
    fn update(&mut self, index: usize) -> String {
        let mut set = Vec::new();
        for place in 0..self.tables[index].columns.len() {
            if set.len() < 2 && self.one_in(2) {
                let (name, sort) = (
                    self.tables[index].columns[place].name.clone(),
                    self.tables[index].columns[place].sort,
                );
                set.push(format!("{name} = {}", self.value(sort)));
            }
        }
        if set.is_empty() {
            return self.touch(index);
        }
        let row = self.some_row(index);
        format!("UPDATE {} SET {} {row}", self.tables[index].name, set.join(", "))
    }

    /// An update that changes nothing.
    fn touch(&mut self, index: usize) -> String {
        let table = &self.tables[index];
        let name = table
            .key
            .first()
            .map(|(name, _)| name)
            .or(table.columns.first().map(|column| &column.name));
        let (name, row) = (name.cloned().unwrap_or_default(), self.some_row(index));
        format!("UPDATE {} SET {name} = {name} {row}", self.tables[index].name)
    }

    fn move_key(&mut self, index: usize) -> String {
        let Some((name, value)) = self.tables[index].key.last().cloned() else {
            return self.update(index);
        };
        let value = value.replace('$', &self.next().to_string());
        // Of one row only: the value is for one.
        let row = self.row(index, 1);
        format!("UPDATE {} SET {name} = {value} {row}", self.tables[index].name)
    }

    fn delete(&mut self, index: usize) -> String {
        let row = self.some_row(index);
        format!("DELETE FROM {} {row}", self.tables[index].name)
    }

    fn some_row(&mut self, index: usize) -> String {
        let limit = self.pick(&[1, 1, 2], 1);
        self.row(index, limit)
    }

    /// Rows that nobody else changes at the moment.
    fn row(&mut self, index: usize, limit: u64) -> String {
        let offset = self.dice.below(3);
        format!(
            "WHERE ctid = ANY (ARRAY(SELECT ctid FROM {} OFFSET {offset} LIMIT {limit} FOR UPDATE SKIP LOCKED))",
            self.tables[index].name
        )
    }
}

/// Out of line from some bytes on, so that a small value is a large one.
fn storage(table: &Table) -> impl Iterator<Item = String> {
    let large = table.columns.iter().filter(|column| column.sort.large.is_some());
    large.map(|column| format!("ALTER TABLE {} ALTER {} SET STORAGE EXTERNAL", table.name, column.name))
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_script() {
        assert_eq!(Script::new(7, true), Script::new(7, true));
        assert_ne!(Script::new(7, true), Script::new(8, true));
    }

    #[test]
    fn a_session_ends_what_it_begins() {
        for seed in 0..50 {
            for phase in Script::new(seed, false).phases {
                let mut open = [false; 2];
                for step in phase.steps {
                    match step.sql.as_str() {
                        "BEGIN" => assert!(!std::mem::replace(&mut open[step.session], true)),
                        "COMMIT" | "ROLLBACK" => assert!(std::mem::replace(&mut open[step.session], false)),
                        sql => assert!(!sql.starts_with("TRUNCATE") || !open[1]),
                    }
                }
                assert_eq!(open, [false; 2], "seed {seed}");
            }
        }
    }
}
