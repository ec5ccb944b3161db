//! The apps, the entities, and what a column means to an entity: told a second time, without the mapping's code.
//!
//! Every value is a text here. Numbers are without trailing zeros, sets are sorted with commas, a group is its fields with
//! ` / ` between them.

use std::collections::BTreeMap;

/// The entities, the tables and the SQL that makes them.
mod shapes;

/// The pipeline file and the schemas.
mod pipeline;

pub use pipeline::{files, pipeline};
pub use shapes::{ENTITIES, SQL, TABLES};

/// The apps, in the order of the pipeline file.
pub const APPS: [&str; 3] = ["shop", "crm", "billing"];

/// What every counter holds at first, in whatever app a row is made.
pub const COUNTED_AT_FIRST: i64 = 100;

/// The table that each transaction of a user notes its number in; no pipeline reads it.
pub const EDITS: &str = "public.edits";

/// A row of a table, as its log has it.
pub type Row = BTreeMap<String, Option<String>>;

/// A value; none is null.
pub type Cell = Option<String>;

/// What is written into a unit, which says what can become of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Who it is: what rows are matched by. Written once.
    Person,
    /// A text that nobody else writes.
    Token,
    /// Two words that nobody else writes.
    Words,
    /// An amount that nobody else writes.
    Money,
    /// A number from a few.
    Small,
    /// True or false.
    Flag,
    /// Lines, of which each edit writes one.
    Lines,
    /// A set, to which one element is added or from which one is taken.
    Set,
    /// A counter, to which is added.
    Sum,
}

/// A field, or fields that win together.
#[derive(Debug)]
pub struct Unit {
    /// Name of the field or the group.
    pub name: &'static str,
    /// Its fields.
    pub fields: &'static [&'static str],
    /// What is written into it.
    pub kind: Kind,
    /// The only app whose users edit it.
    pub owner: Option<&'static str>,
    /// The most that apps are shown.
    pub most: Option<i64>,
}

/// A unit that everybody edits and that has no bound.
const fn unit(name: &'static str, fields: &'static [&'static str], kind: Kind) -> Unit {
    Unit {
        name,
        fields,
        kind,
        owner: None,
        most: None,
    }
}

/// What becomes of an entity that an app deletes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// It is gone in all apps or lives in all.
    Everywhere,
    /// It is gone where it was deleted.
    ThereAlone,
}

/// An entity.
#[derive(Debug)]
pub struct Entity {
    /// Its name.
    pub name: &'static str,
    /// Its units.
    pub units: &'static [Unit],
    /// What becomes of it.
    pub deletion: Deletion,
}

/// How a field stands in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// As it is.
    Plain(&'static str),
    /// In hundredths.
    Hundredths(&'static str),
    /// A set as an array.
    Array(&'static str),
    /// A set as a text with semicolons.
    Split(&'static str),
    /// Two words in two columns.
    Pair(&'static str, &'static str),
}

/// A table of an app.
#[derive(Debug)]
pub struct Table {
    /// The app's place in [`APPS`].
    pub app: usize,
    /// Its name, in schema `public`.
    pub name: &'static str,
    /// The entity it speaks of.
    pub entity: &'static str,
    /// Its primary key.
    pub key: &'static str,
    /// What makes a new key.
    pub new_key: &'static str,
    /// Its columns, by field.
    pub columns: &'static [(&'static str, Column)],
}

use Column::{Array, Hundredths, Pair, Plain, Split};

/// The entity of this name.
///
/// # Panics
/// When there is none.
pub fn entity(name: &str) -> &'static Entity {
    let found = ENTITIES.iter().find(|entity| entity.name == name);
    found.unwrap_or_else(|| panic!("no entity {name}"))
}

impl Entity {
    /// Whose value says who it is.
    ///
    /// # Panics
    /// When there is no such unit.
    pub fn person(&self) -> &'static Unit {
        let found = self.units.iter().find(|unit| unit.kind == Kind::Person);
        found.unwrap_or_else(|| panic!("nobody knows who a {} is", self.name))
    }

    /// The unit that has the field.
    pub fn unit_of(&self, field: &str) -> Option<&'static Unit> {
        self.units
            .iter()
            .find(|unit| unit.name == field || unit.fields.contains(&field))
    }
}

impl Table {
    /// `public.NAME`.
    pub fn qualified(&self) -> String {
        format!("public.{}", self.name)
    }

    /// The column of a field, if the table has it.
    pub fn column(&self, field: &str) -> Option<Column> {
        self.columns
            .iter()
            .find(|(name, _)| *name == field)
            .map(|(_, column)| *column)
    }

    /// The units that it holds.
    pub fn units(&self) -> impl Iterator<Item = &'static Unit> {
        let has = |unit: &&Unit| unit.fields.iter().all(|field| self.column(field).is_some());
        entity(self.entity).units.iter().filter(has)
    }

    /// What a row holds of a unit.
    pub fn read(&self, unit: &Unit, row: &Row) -> Cell {
        let field = |name: &&str| self.column(name).and_then(|column| column.read(row));
        match unit.fields {
            [one] => field(one),
            several => Some(group(several.iter().map(field))),
        }
    }

    /// Whom a row is about, however it is written.
    pub fn person(&self, row: &Row) -> Option<String> {
        self.read(entity(self.entity).person(), row).map(|text| normal(&text))
    }
}

/// How a person's name in the matching sense is written once and for all.
pub fn normal(person: &str) -> String {
    person.trim().to_lowercase()
}

/// The fields of a group as one text.
pub fn group(cells: impl Iterator<Item = Cell>) -> String {
    let texts: Vec<String> = cells.map(|cell| cell.unwrap_or_else(|| "-".to_owned())).collect();
    texts.join(" / ")
}

/// A set as one text.
pub fn set<'a>(elements: impl Iterator<Item = &'a str>) -> String {
    let mut all: Vec<&str> = elements.filter(|element| !element.is_empty()).collect();
    all.sort_unstable();
    all.dedup();
    all.join(",")
}

/// A number without zeros that say nothing.
pub fn number(text: &str) -> String {
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    }
}

/// Hundredths as a number.
fn scaled(pence: &str) -> String {
    let (sign, digits) = match pence.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", pence),
    };
    let digits = format!("{digits:0>3}");
    let (whole, rest) = digits.split_at(digits.len() - 2);
    number(&format!("{sign}{whole}.{rest}"))
}

impl Column {
    /// The columns that it is.
    pub fn names(self) -> Vec<&'static str> {
        match self {
            Plain(name) | Hundredths(name) | Array(name) | Split(name) => vec![name],
            Pair(first, last) => vec![first, last],
        }
    }

    /// What it holds.
    pub fn read(self, row: &Row) -> Cell {
        let cell = |name: &str| row.get(name).cloned().flatten();
        match self {
            Plain(name) => cell(name).map(|text| plain(&text)),
            Hundredths(name) => cell(name).map(|text| scaled(&text)),
            Array(name) => {
                let text = cell(name).unwrap_or_default();
                Some(set(text.trim_matches(['{', '}']).split(',')))
            }
            Split(name) => Some(set(cell(name).unwrap_or_default().split(';'))),
            Pair(first, last) => {
                let words: Vec<String> = [first, last].into_iter().filter_map(cell).collect();
                (!words.is_empty()).then(|| words.join(" "))
            }
        }
    }

    /// The assignments that make it hold `value`.
    pub fn set(self, value: &str) -> Vec<(&'static str, String)> {
        let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
        match self {
            Plain(name) => vec![(name, quoted(value))],
            Hundredths(name) => vec![(name, value.replace('.', ""))],
            Array(name) => vec![(name, quoted(&format!("{{{value}}}")))],
            Split(name) => vec![(name, quoted(&value.replace(',', ";")))],
            Pair(first, last) => {
                let (head, tail) = value.split_once(' ').unwrap_or((value, ""));
                vec![(first, quoted(head)), (last, quoted(tail))]
            }
        }
    }
}

/// A number of the log as a number; every other text as it is. No text of the load looks like a number with a point.
fn plain(text: &str) -> String {
    let is_number = text.chars().all(|c| c.is_ascii_digit() || c == '.' || c == '-');
    if is_number { number(text) } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[(&str, &str)]) -> Row {
        cells
            .iter()
            .map(|(name, text)| ((*name).to_owned(), Some((*text).to_owned())))
            .collect()
    }

    #[test]
    fn columns_of_all_shapes_say_the_same() {
        let shop = row(&[
            ("credit_pence", "105"),
            ("labels", "{e2,e1}"),
            ("full_name", "Ada L"),
            ("town", "York"),
        ]);
        let crm = row(&[
            ("limit_gbp", "1.05"),
            ("tags", "e1;e2"),
            ("first", "Ada"),
            ("last", "L"),
            ("city", "York"),
        ]);
        let customer = entity("customer");
        for name in ["credit", "tags", "name", "address"] {
            let unit = customer.unit_of(name).unwrap();
            assert_eq!(TABLES[0].read(unit, &shop), TABLES[3].read(unit, &crm), "{name}");
        }
        assert_eq!(
            TABLES[0].read(customer.unit_of("address").unwrap(), &shop).as_deref(),
            Some("- / York")
        );
        assert_eq!([scaled("5"), scaled("-1200"), number("0.50")], ["0.05", "-12", "0.5"]);
    }

    #[test]
    fn a_table_knows_its_units_and_whom_it_is_about() {
        let accounts = &TABLES[6];
        assert!(accounts.units().all(|unit| !["phone", "notes"].contains(&unit.name)));
        assert_eq!(
            accounts.person(&row(&[("invoice_to", " P1@X.org")])).as_deref(),
            Some("p1@x.org")
        );
    }
}
