//! Pure: an app's rows against the agreed records.
//!
//! Compared is what Syncline writes: fields of links that go out. A held field is apart, nobody is overwritten there; and a
//! null where the column cannot be null is the app's own default.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use syncline_schemas::canonical::Canonical;
use syncline_schemas::lens::{self, Row};
use syncline_schemas::mapped::RowKey;
use syncline_schemas::pipeline::{Link, LinkField, Parent};
use syncline_schemas::value::Value;
use syncline_sink::plan::Limits;

/// What differs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// These fields hold something else.
    Differs(Vec<String>),
    /// The row cannot be read as the link says.
    Unreadable(String),
    /// There is no row.
    Missing,
    /// There is a row, and the record is deleted.
    NotDeleted,
    /// There is a row that no record knows.
    Unknown,
}

/// One row that is not as agreed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Difference {
    /// The app.
    pub app: String,
    /// The entity.
    pub entity: String,
    /// The record; none of a row that no record knows.
    pub cid: Option<String>,
    /// The row.
    pub row: Option<String>,
    /// What differs.
    pub what: What,
}

/// The agreed records of one entity, by id.
pub type Agreed = BTreeMap<String, Canonical>;

/// The comparison of one link's table.
pub struct Comparison<'a> {
    link: &'a Link,
    by_row: BTreeMap<&'a RowKey, &'a Canonical>,
    agreed: &'a Agreed,
    rows: BTreeMap<RowKey, Row>,
    references: Vec<Referred<'a>>,
}

/// A field that refers to another entity, and whose row of this app is whose.
pub struct Referred<'a> {
    /// How the link refers.
    pub parent: Parent<'a>,
    /// The record that each of the parent's rows belongs to.
    ids: BTreeMap<RowKey, String>,
    /// Of records that were merged into another, that one.
    within: BTreeMap<String, String>,
}

impl<'a> Referred<'a> {
    /// By the agreed records of the parent.
    pub fn new(parent: Parent<'a>, agreed: &Agreed) -> Self {
        let (mut ids, mut within) = (BTreeMap::new(), BTreeMap::new());
        for record in agreed.values() {
            let system = &parent.link.system;
            let rows = record.apps.iter().filter(|app| app.app == *system && !app.gone);
            ids.extend(rows.map(|app| (app.row.clone(), record.cid.clone())));
            within.extend(record.joined().map(|cid| (cid.to_owned(), record.cid.clone())));
        }
        Self { parent, ids, within }
    }

    /// The record that a reference means, if that was merged into another.
    fn meant(&self, agreed: &Value) -> Value {
        let within = match agreed {
            Value::Text(cid) => self.within.get(cid),
            _ => None,
        };
        within.map_or_else(|| agreed.clone(), Value::text)
    }

    /// The record that the row refers to; none if that cannot be told.
    fn id(&self, row: &Row) -> Option<Value> {
        match self.parent.row(row)? {
            None => Some(Value::Null),
            Some(key) => self.ids.get(&key).map(Value::text),
        }
    }
}

/// What it came to.
#[derive(Debug, Default)]
pub struct Compared {
    /// Rows of the table.
    pub rows: usize,
    /// Fields that are held and were left apart.
    pub held: usize,
    /// What differs.
    pub differences: Vec<Difference>,
}

impl<'a> Comparison<'a> {
    /// Begins; `written` has the rows that the sink made and no app has spoken through yet.
    pub fn new(link: &'a Link, agreed: &'a Agreed, written: &'a [(String, RowKey)]) -> Self {
        let mut by_row = BTreeMap::new();
        for (cid, row) in written {
            by_row.extend(agreed.get(cid).map(|record| (row, record)));
        }
        for record in agreed.values() {
            let rows = record.apps.iter().filter(|app| app.app == link.system && !app.gone);
            by_row.extend(rows.map(|app| (&app.row, record)));
        }
        Self {
            link,
            by_row,
            agreed,
            rows: BTreeMap::new(),
            references: Vec::new(),
        }
    }

    /// The same, where the link refers to others.
    #[must_use]
    pub fn referring(mut self, references: Vec<Referred<'a>>) -> Self {
        self.references = references;
        self
    }

    /// Takes in a row of the table.
    pub fn row(&mut self, key: RowKey, row: &Row) {
        self.rows.insert(key, row.clone());
    }

    /// Compares.
    pub fn done(self, limits: &Limits) -> Compared {
        let mut compared = Compared {
            rows: self.rows.len(),
            ..Compared::default()
        };
        let mut there = BTreeSet::new();
        for (key, row) in &self.rows {
            let Some(record) = self.by_row.get(key).copied() else {
                compared
                    .differences
                    .push(self.difference(None, Some(key), What::Unknown));
                continue;
            };
            there.insert(record.cid.as_str());
            compared.held += self.held(record);
            let what = self.what(record, row, limits);
            compared
                .differences
                .extend(what.map(|what| self.difference(Some(record), Some(key), what)));
        }
        let missing = self
            .agreed
            .values()
            .filter(|record| !there.contains(record.cid.as_str()));
        let missing = missing.filter(|record| self.is_wanted(record));
        let missing: Vec<Difference> = missing
            .map(|record| self.difference(Some(record), self.rows(record).next(), What::Missing))
            .collect();
        compared.differences.extend(missing);
        compared
    }

    /// The rows through which the app spoke of it.
    fn rows<'r>(&self, record: &'r Canonical) -> impl Iterator<Item = &'r RowKey> {
        let apps = record.apps.iter().filter(|app| app.app == self.link.system);
        apps.map(|app| &app.row)
    }

    /// Whether the app should have a row of the record: not if it deleted all of its own, none of its fields is agreed, or
    /// another record speaks for it.
    fn is_wanted(&self, record: &Canonical) -> bool {
        let mut apps = record.apps.iter().filter(|app| app.app == self.link.system).peekable();
        let gone = apps.peek().is_some() && apps.all(|app| app.gone);
        let elsewhere = record.identity.merged_into.is_some();
        !record.deleted && !gone && !elsewhere && self.written().any(|field| record.fields.contains_key(&field.field))
    }

    fn written(&self) -> impl Iterator<Item = &'a LinkField> {
        self.link.fields.iter().filter(|field| field.writes())
    }

    fn held(&self, record: &Canonical) -> usize {
        self.written()
            .filter(|field| record.held.contains(&field.field))
            .count()
    }

    fn what(&self, record: &Canonical, row: &Row, limits: &Limits) -> Option<What> {
        if record.deleted {
            return Some(What::NotDeleted);
        }
        let current = match lens::current(self.link, row) {
            Ok(current) => current,
            Err(error) => return Some(What::Unreadable(error.to_string())),
        };
        let differing = self.written().filter(|field| {
            let agreed = record
                .fields
                .get(&field.field)
                .filter(|_| !record.held.contains(&field.field));
            let refers = self
                .references
                .iter()
                .find(|refers| refers.parent.reference.field == field.field);
            let (agreed, holds) = match refers {
                Some(refers) => (agreed.map(|agreed| refers.meant(agreed)), refers.id(row)),
                None => (agreed.cloned(), current.get(&field.field).cloned().flatten()),
            };
            match (agreed, holds) {
                (Some(Value::Null), _) if cannot_be_null(field, limits) => false,
                (Some(agreed), Some(holds)) => agreed != holds,
                _ => false,
            }
        });
        let differing: Vec<String> = differing.map(|field| field.field.clone()).collect();
        (!differing.is_empty()).then_some(What::Differs(differing))
    }

    fn difference(&self, record: Option<&Canonical>, row: Option<&RowKey>, what: What) -> Difference {
        Difference {
            app: self.link.system.clone(),
            entity: self.link.entity.clone(),
            cid: record.map(|record| record.cid.clone()),
            row: row.map(|row| row.0.clone()),
            what,
        }
    }
}

fn cannot_be_null(field: &LinkField, limits: &Limits) -> bool {
    field.put.iter().any(|(column, _)| limits.never_null.contains(column))
}

impl What {
    /// In words; no values.
    pub fn words(&self) -> String {
        match self {
            What::Differs(fields) => format!("differs in {}", fields.join(", ")),
            What::Unreadable(why) => format!("cannot be read: {why}"),
            What::Missing => "there is no row".to_owned(),
            What::NotDeleted => "the record is deleted, the row is there".to_owned(),
            What::Unknown => "no record knows the row".to_owned(),
        }
    }
}
