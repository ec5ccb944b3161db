//! What to write into one app for one agreed record. Pure: no clock, no database, no Kafka.
//!
//! The write is compare-and-set, field by field. A field is written only if the app still holds what we believe it holds:
//! the last word we have read of it, or what we wrote there last. Otherwise its own edit is on its way to us and nothing is
//! done: the edit will be merged and a newer record will come. So no edit is ever overwritten unseen.
//!
//! Twice is once: what was written is remembered beside the data ([`Applied`]), and a record whose vector does not
//! dominate the remembered one is older and skipped. Counters are written as the difference between what is due in all and
//! what was delivered so far, so that neither a repetition nor a lost record in between can change the sum.
//!
//! Where records were merged, one agreed record speaks for the rows of several, and each of them has books of its own
//! ([`books`]): it is planned for each as that one sees it. So the marks in an app's log name the record that its row belongs
//! to, whatever was merged or split since. The record of a merged one says nothing, and nothing is done for it.
//!
//! Every write leaves a mark, and so does a decision that needs no write: its readers in that app have seen it all the same.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};
use syncline_schemas::canonical::{AppWords, Canonical, SaidWord};
use syncline_schemas::lens::{self, LensError, Row};
use syncline_schemas::mapped::RowKey;
use syncline_schemas::mark::{Act, Mark, MarkedField};
use syncline_schemas::pipeline::{Link, LinkField};
use syncline_schemas::value::{Number, Value};

use crate::lane::Lane;

pub use applied::{Applied, AppliedField};
pub use spelling::Spelling;

/// What is remembered.
mod applied;

/// What a date or time is made of.
mod spelling;

/// A row that is there.
mod update;

/// The row that the record speaks of, as found in the table and locked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// No row of this app is known.
    Unknown,
    /// A row is known, but it is not in the table.
    Missing(RowKey),
    /// It is there.
    Row(RowKey, Row),
}

/// What the table's columns can hold, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Columns that cannot be null.
    pub never_null: BTreeSet<String>,
    /// Digits after the point that a column keeps; PostgreSQL would round the rest off silently.
    pub digits: BTreeMap<String, i64>,
    /// Columns that keep the nearest binary fraction.
    pub floats: BTreeMap<String, Float>,
    /// Columns of dates and times; PostgreSQL would add or drop a day, a time or a zone without a word.
    pub spellings: BTreeMap<String, Spelling>,
    /// Columns that the database works out itself.
    pub generated: BTreeSet<String>,
    /// Columns of type `char(n)`, which add and cut blanks at the end as they need them.
    pub padded: BTreeSet<String>,
}

/// A binary fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Float {
    /// Of 32 bits.
    Single,
    /// Of 64 bits.
    Double,
}

/// Everything a plan depends on.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    /// Name of the pipeline, for the mark.
    pub pipeline: &'a str,
    /// The table that is written.
    pub link: &'a Link,
    /// The part of it that is.
    pub lane: &'a Lane,
    /// What its columns can hold.
    pub limits: &'a Limits,
    /// The agreed record.
    pub record: &'a Canonical,
    /// What we wrote last.
    pub applied: Option<&'a Applied>,
    /// What the table holds now.
    pub found: &'a Found,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Something newer has been written already.
    Older,
    /// Nothing is to be done.
    Nothing,
    /// The app's own edit is on its way; at least a part was left to it, and nothing else was due.
    Stale,
    /// The row is as agreed; the app's log is told so.
    Seen,
    /// A row is made.
    Inserted,
    /// Some fields of a row are written.
    Updated,
    /// A row is deleted.
    Deleted,
}

/// What is written into the app's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Nothing.
    Nothing,
    /// A new row.
    Insert {
        /// Its key, if the app does not make it by its own defaults.
        row: Option<RowKey>,
        /// Its columns.
        values: BTreeMap<String, Value>,
    },
    /// Columns of a row.
    Update {
        /// The row.
        row: RowKey,
        /// Its columns.
        values: BTreeMap<String, Value>,
    },
    /// A row goes.
    Delete {
        /// The row.
        row: RowKey,
    },
}

/// What is done for one record: all of it in one transaction, the mark first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What becomes of the record.
    pub verdict: Verdict,
    /// What is written into the app's table.
    pub write: Write,
    /// What the app's log is told.
    pub mark: Option<Mark>,
    /// What is remembered, if that changes.
    pub applied: Option<Applied>,
    /// Fields that were left to the app's own edit.
    pub stale: Vec<String>,
}

/// A record that this app cannot hold. The reason names fields and columns and shows no values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

impl From<LensError> for Refusal {
    fn from(error: LensError) -> Self {
        Self(error.to_string())
    }
}

/// The row of `app` that a record speaks of: what the app itself said, else what we made there.
pub fn address(record: &Canonical, app: &str, applied: Option<&Applied>) -> Option<RowKey> {
    let said = record
        .app(app)
        .filter(|words| !words.gone && !words.row.0.is_empty())
        .map(|words| words.row.clone());
    said.or_else(|| applied.and_then(|applied| applied.row.clone()))
}

/// Whose books a record is delivered to `app` by: those of the records in it whose rows are there, as far as the app told or
/// `has_row` knows by the books; its own where there are none.
pub fn books<'r>(record: &'r Canonical, app: &str, has_row: impl Fn(&str) -> bool) -> Vec<&'r str> {
    let own = record.cid.as_str();
    let told = |cid: &str| record.app_via(app, Some(cid).filter(|cid| *cid != own)).is_some();
    let all = std::iter::once(own).chain(record.joined());
    let books: Vec<&str> = all.filter(|cid| told(cid) || has_row(cid)).collect();
    if books.is_empty() { vec![own] } else { books }
}

/// What to do for one record.
pub fn plan(given: &Given<'_>) -> Result<Plan, Refusal> {
    if given.record.identity.merged_into.is_some() {
        return Ok(Plan {
            applied: None,
            ..given.nothing(Verdict::Nothing)
        });
    }
    match given.order() {
        Ordering::Less => Ok(given.older()),
        Ordering::Equal => given.in_turn(),
        // What was written before is no fence for what came by a later word, though that may be made from less.
        Ordering::Greater => Given {
            applied: given.applied.map(Applied::renewed).as_ref(),
            ..*given
        }
        .in_turn(),
    }
}

impl Given<'_> {
    /// The plan for a record of the same rows as the last, by the lane's turn.
    fn in_turn(&self) -> Result<Plan, Refusal> {
        let vector = &self.record.vector;
        if self
            .applied
            .is_some_and(|applied| !vector.dominates(applied.seen_by(self.lane)))
        {
            return Ok(self.older());
        }
        if self.applied.is_some_and(|applied| applied.is_ahead_of(vector)) {
            return self.behind();
        }
        match self.applied.and_then(|applied| self.of_this_row(applied)) {
            None => self.decide(),
            Some(applied) => Given {
                applied: Some(&applied),
                ..*self
            }
            .decide(),
        }
    }
}

impl Given<'_> {
    /// Whether the record comes by an earlier word on identity than what was written last, or by a later. Of records to which
    /// the rows belonged one after the other, the later is that by the later word; of one record, that into which more
    /// records have come, or from which they have gone.
    fn order(&self) -> Ordering {
        let Some(applied) = self.applied else {
            return Ordering::Equal;
        };
        let order = self.record.identity.at.cmp(&applied.place);
        order.then_with(|| self.compare_members(&applied.members))
    }

    fn compare_members(&self, before: &BTreeMap<String, i64>) -> Ordering {
        let now = self.members();
        let went_back = |(cid, at): (&String, &i64)| now.get(cid).is_none_or(|now| now < at);
        match now == *before {
            true => Ordering::Equal,
            false if before.iter().any(went_back) => Ordering::Less,
            false => Ordering::Greater,
        }
    }

    fn members(&self) -> BTreeMap<String, i64> {
        let members = self.record.identity.members.iter();
        members.map(|member| (member.cid.clone(), member.at)).collect()
    }

    fn decide(&self) -> Result<Plan, Refusal> {
        if self.words().is_some_and(|words| words.gone) {
            return Ok(self.nothing(Verdict::Nothing));
        }
        match (self.record.deleted, self.found) {
            (true, Found::Row(key, row)) => self.delete(key, row),
            (true, _) => Ok(self.nothing(Verdict::Nothing)),
            (false, Found::Row(..)) if self.is_unheard_of() => Ok(self.nothing(Verdict::Stale)),
            (false, Found::Row(key, row)) => self.update(key, row),
            (false, Found::Unknown) => self.insert(None),
            (false, Found::Missing(key)) if self.remakes() => self.insert(Some(key)),
            (false, Found::Missing(_)) => Ok(self.nothing(Verdict::Stale)),
        }
    }

    /// A record that the lane is past.
    fn older(&self) -> Plan {
        Plan {
            applied: None,
            ..self.nothing(Verdict::Older)
        }
    }

    /// A record that another lane is past, and this one is not. What it says of the row as a whole is out of date; what it says
    /// of the lane's own fields is due, if that row is there still. If it is not, the next record says all of it.
    fn behind(&self) -> Result<Plan, Refusal> {
        let words = self.words();
        let is_same = |applied: &Applied, key: &RowKey| {
            let made = words.and_then(|words| words.made).or(applied.made);
            applied.row.as_ref() == Some(key) && applied.made == made && !applied.removed
        };
        match (self.applied, self.found) {
            (Some(applied), Found::Row(key, row))
                if !self.record.deleted && words.is_none_or(|words| !words.gone) && is_same(applied, key) =>
            {
                self.update(key, row)
            }
            _ => Ok(self.older()),
        }
    }

    /// Whether the row that is there is none we know: we deleted ours, and the app has made one under the same key since.
    fn is_unheard_of(&self) -> bool {
        let removed = self.applied.is_some_and(|applied| applied.removed);
        removed && self.words().is_none_or(|words| words.made.is_none())
    }

    /// What is left of the books if the app has made another row since: the fence, and nothing of fields and counters.
    /// None if it is the same row still. A row that the last record already knew to be made is none that came since, even
    /// if it stands under the same key as the one that we made in between.
    fn of_this_row(&self, applied: &Applied) -> Option<Applied> {
        let words = self.words()?;
        let made = words.made?;
        let known = applied.row.as_ref() == Some(&words.row) && applied.vector.covers(&self.link.system, made);
        (applied.made != Some(made) && !known).then(|| Applied {
            row: applied.row.clone(),
            made: Some(made),
            vector: applied.vector.clone(),
            place: applied.place,
            members: applied.members.clone(),
            ..Applied::default()
        })
    }
}

/// The hash by which a value is remembered: 16 hex digits, no more of the value than that.
pub fn hash(value: &Value) -> String {
    let digest = Sha256::digest(value.to_string().as_bytes());
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

impl<'a> Given<'a> {
    fn words(&self) -> Option<&'a AppWords> {
        self.record.app(&self.link.system)
    }

    fn word(&self, field: &str) -> Option<&'a SaidWord> {
        self.words().and_then(|words| words.word(field))
    }

    /// Whether nobody knows what the app holds: it never said, and we neither wrote it nor left it out. So it is with a field
    /// that was linked when the row had been read already.
    fn is_unknown(&self, field: &str) -> bool {
        let left = self.applied.is_some_and(|applied| applied.left.contains(field));
        let delivered = self.applied.is_some_and(|applied| applied.counters.contains_key(field));
        self.word(field).is_none() && self.remembered(field).is_none() && !left && !delivered
    }

    fn remembered(&self, field: &str) -> Option<&'a AppliedField> {
        self.applied.and_then(|applied| applied.fields.get(field))
    }

    /// Whether a row that is not there is to be made again: the app deleted it and that does not stand, or we did.
    fn remakes(&self) -> bool {
        self.words().is_some_and(|words| words.remake) || self.applied.is_some_and(|applied| applied.removed)
    }

    /// The fields that are delivered here, with their agreed values.
    fn due(&self) -> impl Iterator<Item = (&'a LinkField, &'a Value)> {
        let record = self.record;
        self.link
            .fields
            .iter()
            .filter(|field| field.writes() && !record.held.contains(&field.field))
            .filter_map(|field| record.fields.get(&field.field).map(|value| (field, value)))
    }

    /// A counter is added to only where the app's own additions are read; elsewhere the agreed value is simply written.
    fn is_counter(&self, field: &LinkField) -> bool {
        self.record.counters.contains(&field.field) && self.is_read(field)
    }

    fn is_read(&self, field: &LinkField) -> bool {
        self.link.reads() && field.reads
    }

    fn nothing(&self, verdict: Verdict) -> Plan {
        let row = address(self.record, &self.link.system, self.applied);
        let applied = self.remember(row, &[], verdict);
        Plan {
            verdict,
            write: Write::Nothing,
            mark: None,
            applied,
            stale: Vec::new(),
        }
    }

    /// The agreed columns of a field; an error if the app would hold something else than was agreed.
    fn put(&self, field: &LinkField, value: &Value) -> Result<Vec<(String, Value)>, Refusal> {
        let columns = lens::put(self.link, &field.field, value)?;
        for (column, value) in &columns {
            self.refuse_rounding(column, value)?;
        }
        Ok(columns)
    }

    fn refuse_rounding(&self, column: &str, value: &Value) -> Result<(), Refusal> {
        if let Value::List(members) = value {
            return members
                .iter()
                .try_for_each(|member| self.refuse_rounding(column, member));
        }
        if let Some(digits) = self
            .limits
            .digits
            .get(column)
            .filter(|digits| has_more(value, **digits))
        {
            return Err(Refusal(format!(
                "column {column} keeps {digits} digits after the point, the agreed value has more"
            )));
        }
        match (value, self.limits.floats.get(column)) {
            (Value::Number(number), Some(float)) if !float.holds(number) => Err(Refusal(format!(
                "column {column} is a floating point number, and none is the agreed value"
            ))),
            (Value::Text(text), _) => self.refuse_spelling(column, text),
            _ => Ok(()),
        }
    }

    fn refuse_spelling(&self, column: &str, text: &str) -> Result<(), Refusal> {
        match (self.limits.spellings.get(column), Spelling::of(text)) {
            (Some(holds), Some(agreed)) if *holds != agreed => Err(Refusal(format!(
                "column {column} holds {}, the agreed value is {}",
                holds.name(),
                agreed.name()
            ))),
            _ => Ok(()),
        }
    }
}

/// Whether a number or a time has more digits after the point.
fn has_more(value: &Value, digits: i64) -> bool {
    match value {
        Value::Number(number) => !number.shift(digits).is_integer(),
        Value::Text(text) => fraction_digits(text) > digits.max(0),
        _ => false,
    }
}

fn fraction_digits(text: &str) -> i64 {
    let fraction = text.split_once('.').map_or("", |(_, rest)| rest);
    let end = fraction.find(|c: char| !c.is_ascii_digit()).unwrap_or(fraction.len());
    i64::try_from(fraction[..end].trim_end_matches('0').len()).unwrap_or(i64::MAX)
}

impl Float {
    /// Whether the number is the shortest text of such a float, by which floats are read.
    fn holds(self, number: &Number) -> bool {
        let text = number.to_string();
        let nearest = match self {
            Float::Single => text.parse::<f32>().map(|float| float.to_string()),
            Float::Double => text.parse::<f64>().map(|float| float.to_string()),
        };
        nearest.is_ok_and(|nearest| nearest.parse::<Number>().is_ok_and(|back| back == *number))
    }
}

/// New rows.
impl<'a> Given<'a> {
    fn insert(&self, key: Option<&RowKey>) -> Result<Plan, Refusal> {
        let mut values = BTreeMap::new();
        let mut marked = Vec::new();
        for (field, value) in self.due() {
            let columns = self.put(field, value)?;
            if columns
                .iter()
                .any(|(column, value)| value.is_null() && self.limits.never_null.contains(column))
            {
                continue; // the app's default stands for it
            }
            values.extend(columns);
            marked.push(self.marked(field, value)?);
        }
        for (field, own) in self.held_here() {
            values.extend(self.put(field, own)?);
        }
        for (field, own) in self.only_read() {
            for (column, value) in self.kept(field, own) {
                values.entry(column).or_insert(value);
            }
            // What a counter was added to, stays added: a row without it takes nothing back.
            if !self.is_counter(field) {
                marked.push(MarkedField::kept(&field.field));
            }
        }
        if let Some(key) = key {
            values.extend(
                key.columns()
                    .ok_or_else(|| Refusal("the key of the row cannot be read".to_owned()))?,
            );
        }
        if values.is_empty() {
            return Err(Refusal("no field of the record can be written here".to_owned()));
        }
        let row = key.cloned().or_else(|| self.key_within(&values));
        let restores = self.words().is_some_and(AppWords::hold);
        let act = if restores { Act::Restore } else { Act::Insert };
        let mark = Some(self.mark(act, row.as_ref(), &marked));
        let applied = self.remember(row.clone(), &marked, Verdict::Inserted);
        let left = self.left_out(&marked);
        let applied = applied.map(|applied| Applied { left, ..applied });
        Ok(Plan {
            verdict: Verdict::Inserted,
            write: Write::Insert { row, values },
            mark,
            applied,
            stale: Vec::new(),
        })
    }

    /// The fields that a new row is made without.
    fn left_out(&self, marked: &[MarkedField]) -> BTreeSet<String> {
        let written = self.link.fields.iter().filter(|field| field.writes());
        let names = written.map(|field| field.field.clone());
        names
            .filter(|name| marked.iter().all(|field| field.name != *name))
            .collect()
    }

    /// What the app itself said of held fields: a row that is made anew keeps it, nobody having decided.
    fn held_here(&self) -> impl Iterator<Item = (&'a LinkField, &'a Value)> {
        let given = *self;
        let held = given.link.fields.iter().filter(|field| field.writes());
        let held = held.filter(move |field| given.record.held.contains(&field.field));
        held.filter_map(move |field| Some((field, &given.word(&field.field)?.value)))
    }

    /// Fields that are read here and never written, and what the app itself had said of them: a row that is made anew,
    /// and only such a one has any, gets that back and not what was agreed. Nothing else is ever written there.
    fn only_read(&self) -> impl Iterator<Item = (&'a LinkField, &'a Value)> {
        let given = *self;
        let read = given.link.fields.iter().filter(|field| field.reads && !field.writes());
        read.filter_map(move |field| Some((field, &given.word(&field.field)?.value)))
    }

    /// The columns of such a field; none where that cannot be told, or the table would refuse it. The app's default
    /// stands for it then, and merge hears what that is. It is no reason to refuse the row.
    fn kept(&self, field: &LinkField, own: &Value) -> Vec<(String, Value)> {
        let columns = lens::kept(self.link, &field.field, own).unwrap_or_default();
        let refused = |(column, value): &(String, Value)| {
            self.limits.generated.contains(column)
                || (value.is_null() && self.limits.never_null.contains(column))
                || self.refuse_rounding(column, value).is_err()
        };
        if columns.iter().any(refused) {
            Vec::new()
        } else {
            columns
        }
    }

    /// The key, where all its columns are agreed fields.
    fn key_within(&self, values: &BTreeMap<String, Value>) -> Option<RowKey> {
        let columns: Option<Vec<(&str, &Value)>> = self
            .link
            .key
            .iter()
            .map(|column| Some((column.as_str(), values.get(column)?)))
            .collect();
        columns.filter(|columns| !columns.is_empty()).map(RowKey::new)
    }

    fn marked(&self, field: &LinkField, value: &Value) -> Result<MarkedField, Refusal> {
        let delivered = if self.is_counter(field) {
            self.delivered(&field.field, value)?
        } else {
            None
        };
        let value = if delivered.is_some() { None } else { Some(value.clone()) };
        Ok(MarkedField {
            name: field.field.clone(),
            value,
            delivered,
        })
    }
}

/// Rows that go, and what is left behind.
impl Given<'_> {
    /// A row that its app edited meanwhile is left alone: the edit may bring the entity back to life.
    fn delete(&self, key: &RowKey, row: &Row) -> Result<Plan, Refusal> {
        let current = lens::current(self.link, row)?;
        let edited = |field: &&LinkField| {
            let now = current.get(&field.field).and_then(Option::as_ref);
            now.is_some_and(|now| !self.is_untouched(field, now))
        };
        let fields = self
            .link
            .fields
            .iter()
            .filter(|field| self.is_read(field))
            .filter(edited);
        let stale: Vec<String> = fields.map(|field| field.field.clone()).collect();
        if !stale.is_empty() {
            return Ok(Plan {
                stale,
                ..self.nothing(Verdict::Stale)
            });
        }
        let mark = Some(self.mark(Act::Delete, Some(key), &[]));
        let applied = self.remember(Some(key.clone()), &[], Verdict::Deleted);
        let write = Write::Delete { row: key.clone() };
        Ok(Plan {
            verdict: Verdict::Deleted,
            write,
            mark,
            applied,
            stale,
        })
    }

    /// Whether nobody edited the field since what the record knows.
    fn is_untouched(&self, field: &LinkField, now: &Value) -> bool {
        if !self.is_counter(field) {
            return self.is_unknown(&field.field) || self.is_expected(field, now);
        }
        let own = self.word(&field.field).and_then(|word| word.own.clone());
        let delivered = self.applied.and_then(|applied| applied.counters.get(&field.field));
        let both = own
            .iter()
            .chain(delivered)
            .fold(Number::zero(), |sum, part| &sum + part);
        match now {
            Value::Number(now) => *now == both,
            _ => own.is_none() && delivered.is_none(),
        }
    }

    fn mark(&self, act: Act, row: Option<&RowKey>, fields: &[MarkedField]) -> Mark {
        Mark {
            pipeline: self.pipeline.to_owned(),
            entity: self.link.entity.clone(),
            cid: self.record.cid.clone(),
            table: self.link.qualified_table(),
            row: row.map(|row| row.0.clone()),
            act,
            vector: self.record.vector.clone(),
            stamp_us: self.record.stamp_us,
            fields: fields.to_vec(),
        }
    }

    /// What is remembered of this record; none if that is what is remembered already.
    fn remember(&self, row: Option<RowKey>, marked: &[MarkedField], verdict: Verdict) -> Option<Applied> {
        let made_or_gone = matches!(verdict, Verdict::Inserted | Verdict::Deleted);
        let behind = self
            .applied
            .is_some_and(|applied| applied.is_ahead_of(&self.record.vector));
        let mut applied = self.applied.filter(|_| !made_or_gone).cloned().unwrap_or_default();
        applied.row = row;
        if !behind {
            applied.made = self.words().and_then(|words| words.made).or(applied.made);
            // A row that is there is not removed, whoever made it; one that we removed stays so until it is made anew.
            let there = matches!(self.found, Found::Row(..));
            let ours = there && verdict != Verdict::Stale;
            applied.removed = verdict == Verdict::Deleted || (applied.removed && !ours);
            applied.place = self.record.identity.at;
            applied.members = self.members();
        }
        match made_or_gone {
            true => applied.vector = self.record.vector.clone(),
            false => applied.advance(self.lane, &self.record.vector),
        }
        for field in marked {
            if let Some(delivered) = &field.delivered {
                applied.counters.insert(field.name.clone(), delivered.clone());
            }
            if let Some(value) = &field.value {
                applied
                    .fields
                    .insert(field.name.clone(), self.remember_field(&field.name, value));
            }
        }
        (Some(&applied) != self.applied).then_some(applied)
    }

    fn remember_field(&self, field: &str, value: &Value) -> AppliedField {
        let word = self.word(field).map(|word| word.position);
        AppliedField {
            word,
            hash: hash(value),
            vector: self.record.vector.clone(),
        }
    }
}
