//! An app and the sink that writes to it, by the rules of delivery.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use syncline_schemas::canonical::{AppWords, Canonical};
use syncline_schemas::mapped::{Mapped, RowKey};
use syncline_schemas::mark::{Act, MarkedField};
use syncline_schemas::position::{Position, Vector};
use syncline_schemas::value::{Number, Value};

use super::Row;

mod versions;

/// What the sink of an app keeps beside the app's data.
#[derive(Clone, Debug, Default)]
pub(super) struct Applied {
    vector: Option<Vector>,
    fields: BTreeMap<String, Written>,
    counters: BTreeMap<String, Number>,
    /// The key of the row that was written or seen.
    row: Option<RowKey>,
    /// The key of the row we made; where the app made it otherwise.
    key: Option<RowKey>,
    made: Option<Position>,
    deleted: bool,
    /// By which word on identity the row belonged to the last record.
    place: Option<i64>,
    /// The records that had come into that one or gone, and by which words.
    members: BTreeMap<String, i64>,
}

#[derive(Clone, Debug)]
struct Written {
    word: Option<Position>,
    value: Value,
    vector: Vector,
    /// Whether nobody can tell what was written in terms of the field as it is now.
    unclear: bool,
}

/// What is done with a field; a group is as its heaviest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Weight {
    Same,
    Tell,
    Write,
    Stale,
}

/// An app: its row, its log, its clock, and the bookkeeping of the sink that writes to it.
#[derive(Clone, Debug)]
pub struct App {
    pub name: &'static str,
    pub row: Option<Row>,
    pub log: Vec<Mapped>,
    /// By how much its clock is wrong, in microseconds.
    pub skew_us: i64,
    /// Writes of the sink that changed the row.
    pub writes: usize,
    pub(super) incarnation: usize,
    pub(super) applied: Applied,
    pub(super) lsn: u64,
    /// Fields that are written and left alone together.
    pub(super) groups: Vec<Vec<String>>,
    /// Fields that are read here and never written, and whether the sink can tell what their columns held.
    pub only_read: BTreeMap<&'static str, bool>,
}

impl App {
    /// The rules of delivery: compare-and-set by field, counters by what was ever delivered.
    pub(super) fn plan(&mut self, record: &Canonical) -> Option<(Act, Vec<MarkedField>)> {
        if self.is_older(record) {
            return None;
        }
        self.applied.place = record.identity.at;
        self.applied.members = members(record);
        let words = record.app(self.name);
        let known = words.is_some() || self.applied.key.is_some();
        let made = words.and_then(|words| words.made);
        let covers = |made: Position| {
            let vector = self.applied.vector.as_ref();
            vector.is_some_and(|vector| vector.covers(self.name, made))
        };
        let same = self.applied.row.as_ref() == words.map(|words| &words.row);
        if made.is_some_and(|made| self.applied.made != Some(made) && !(same && covers(made))) {
            self.applied = Applied {
                made,
                vector: self.applied.vector.take(),
                key: self.applied.key.take(),
                place: self.applied.place,
                members: std::mem::take(&mut self.applied.members),
                ..Applied::default()
            };
        }
        let address = words
            .map(|words| words.row.clone())
            .or_else(|| self.applied.key.clone());
        if self.row.is_some() && address != Some(self.key()) {
            return None; // another row than the one the hub knows of
        }
        let gone = words.is_some_and(|words| words.gone);
        let anew = !known || self.applied.deleted || words.is_some_and(|words| words.remake);
        let plan = match (&self.row, record.deleted) {
            (Some(row), true) if !gone && self.is_untouched(record, row) => Some(self.remove()),
            (None, false) if !gone && anew => Some(self.make(record)),
            (Some(_), false) if !gone => self.update(record),
            (Some(_), _) | (None, _) => None,
        };
        self.applied.vector = Some(record.vector.clone());
        self.applied.row = Some(self.key());
        plan
    }

    /// Whether something newer has been written: as `syncline_sink::plan` has it.
    fn is_older(&self, record: &Canonical) -> bool {
        let Some(vector) = &self.applied.vector else {
            return false;
        };
        let (now, before) = (members(record), &self.applied.members);
        let went_back = before.iter().any(|(cid, at)| now.get(cid).is_none_or(|now| now < at));
        match record.identity.at.cmp(&self.applied.place) {
            Ordering::Less => true,
            Ordering::Greater => false,
            Ordering::Equal if now != *before => went_back,
            Ordering::Equal => !record.vector.dominates(vector),
        }
    }

    /// Whether the sink has made the row, or has seen it.
    pub(super) fn is_known(&self) -> bool {
        self.applied.key.is_some() || self.applied.row.is_some()
    }

    /// The key of the row, another for each that the app makes.
    pub(super) fn key(&self) -> RowKey {
        RowKey(format!("{{\"id\":\"{}{}\"}}", self.name, self.incarnation))
    }

    fn remove(&mut self) -> (Act, Vec<MarkedField>) {
        self.row = None;
        self.writes += 1;
        self.applied = Applied {
            deleted: true,
            made: self.applied.made,
            vector: self.applied.vector.take(),
            place: self.applied.place,
            members: std::mem::take(&mut self.applied.members),
            ..Applied::default()
        };
        (Act::Delete, Vec::new())
    }

    fn make(&mut self, record: &Canonical) -> (Act, Vec<MarkedField>) {
        self.writes += 1;
        self.applied.deleted = false;
        self.applied.key = Some(self.key());
        self.applied.made = None;
        self.row = Some(BTreeMap::new());
        let mut marked = Vec::new();
        for (name, value) in &record.fields {
            if let Some(can_be_told) = self.only_read.get(name.as_str()) {
                let own = record.app(self.name).and_then(|words| words.word(name));
                let had = own.filter(|_| *can_be_told).map(|word| word.value.clone());
                let row = self.row.get_or_insert_default();
                row.insert(name.clone(), had.unwrap_or_default());
                marked.extend(own.map(|_| MarkedField::kept(name)));
                continue;
            }
            if record.held.contains(name) {
                let own = record
                    .app(self.name)
                    .and_then(|words| words.word(name))
                    .map(|word| word.value.clone());
                self.write(record, name, own.unwrap_or_default());
                continue;
            }
            let counter = record.counters.contains(name);
            let delivered = match value {
                Value::Number(number) if counter => Some(number.clone()),
                _ => None,
            };
            self.write(record, name, value.clone());
            if let Some(delivered) = &delivered {
                self.applied.counters.insert(name.clone(), delivered.clone());
            }
            marked.push(MarkedField {
                name: name.clone(),
                value: (!counter).then(|| value.clone()),
                delivered,
            });
        }
        let restores = record.app(self.name).is_some_and(AppWords::hold);
        (if restores { Act::Restore } else { Act::Insert }, marked)
    }

    fn write(&mut self, record: &Canonical, name: &str, value: Value) {
        let word = record
            .app(self.name)
            .and_then(|words| words.word(name))
            .map(|word| word.position);
        let written = Written {
            word,
            value: value.clone(),
            vector: record.vector.clone(),
            unclear: false,
        };
        self.applied.fields.insert(name.to_owned(), written);
        self.row.get_or_insert_default().insert(name.to_owned(), value);
    }

    fn update(&mut self, record: &Canonical) -> Option<(Act, Vec<MarkedField>)> {
        let before = self.row.clone();
        let due: Vec<(&String, &Value)> = record
            .fields
            .iter()
            .filter(|(name, _)| !record.held.contains(name) && !self.only_read.contains_key(name.as_str()))
            .collect();
        let weights: BTreeMap<&String, Weight> = due
            .iter()
            .map(|(name, value)| (*name, self.weigh(record, name, value)))
            .collect();
        let together = |name: &String| {
            let group = self.groups.iter().find(|group| group.contains(name));
            let others = group.into_iter().flatten().filter_map(|other| weights.get(other));
            others.copied().max().unwrap_or(weights[name])
        };
        let weighed: Vec<(&String, &Value, Weight)> = due
            .iter()
            .map(|(name, value)| (*name, *value, together(name)))
            .collect();
        let mut marked = Vec::new();
        for (name, value, weight) in weighed {
            if record.counters.contains(name) {
                marked.extend(self.add(record, name, value));
            } else if matches!(weight, Weight::Tell | Weight::Write) {
                self.write(record, name, value.clone());
                marked.push(MarkedField {
                    name: name.clone(),
                    value: Some(value.clone()),
                    delivered: None,
                });
            }
        }
        let changed = before != self.row;
        self.writes += usize::from(changed);
        (!marked.is_empty()).then_some((if changed { Act::Update } else { Act::Seen }, marked))
    }

    fn add(&mut self, record: &Canonical, name: &str, target: &Value) -> Option<MarkedField> {
        let Value::Number(target) = target else { return None };
        let own = record
            .app(self.name)
            .and_then(|words| words.word(name))
            .and_then(|word| word.own.clone());
        let due = target - &own.unwrap_or_else(Number::zero);
        let before = self.applied.counters.get(name).cloned().unwrap_or_else(Number::zero);
        if due == before {
            return None;
        }
        let row = self.row.as_mut()?;
        let sum = match row.get(name) {
            Some(Value::Number(now)) => now + &(&due - &before),
            // Somebody emptied it: the row then holds what was delivered and nothing else.
            _ => due.clone(),
        };
        row.insert(name.to_owned(), Value::Number(sum));
        self.applied.counters.insert(name.to_owned(), due.clone());
        Some(MarkedField {
            name: name.to_owned(),
            value: None,
            delivered: Some(due),
        })
    }

    /// What becomes of a field that is replaced.
    fn weigh(&self, record: &Canonical, name: &str, target: &Value) -> Weight {
        let current = self
            .row
            .as_ref()
            .and_then(|row| row.get(name))
            .cloned()
            .unwrap_or_default();
        let word = record.app(self.name).and_then(|words| words.word(name));
        let written = self.applied.fields.get(name);
        if current == *target {
            let told = |unseen: &Vector| written.is_some_and(|written| written.vector.dominates(unseen));
            let tell = word.is_some_and(|word| !word.unseen.is_empty() && !told(&word.unseen));
            let unclear = written.is_some_and(|written| written.unclear);
            return if tell || unclear { Weight::Tell } else { Weight::Same };
        }
        if self.is_expected(record, name, &current) {
            Weight::Write
        } else {
            Weight::Stale
        }
    }

    /// Whether `current` is what the app must hold if nobody edited it since the words in the record.
    fn is_expected(&self, record: &Canonical, name: &str, current: &Value) -> bool {
        let word = record.app(self.name).and_then(|words| words.word(name));
        let written = self.applied.fields.get(name);
        // Where our last write still stands nobody has edited since, whatever the words say (an edit there and back).
        let ours = written.is_some_and(|written| written.value == *current && !written.unclear);
        let known = word.filter(|word| written.is_none_or(|written| Some(word.position) > written.word));
        let theirs = known.is_some_and(|word| word.value == *current);
        ours || theirs || (word.is_none() && written.is_none())
    }

    /// Whether nobody edited the row since the words in the record.
    fn is_untouched(&self, record: &Canonical, row: &Row) -> bool {
        row.iter().all(|(name, current)| {
            if !record.counters.contains(name) {
                return self.is_expected(record, name, current);
            }
            let own = record
                .app(self.name)
                .and_then(|words| words.word(name))
                .and_then(|word| word.own.clone());
            let delivered = self.applied.counters.get(name);
            let both = own
                .iter()
                .chain(delivered)
                .fold(Number::zero(), |sum, part| &sum + part);
            match current {
                Value::Number(now) => *now == both,
                // A row that was made while the counter was held has none.
                _ => own.is_none() && delivered.is_none(),
            }
        })
    }
}

/// The records that came into this one, or went.
fn members(record: &Canonical) -> BTreeMap<String, i64> {
    let members = record.identity.members.iter();
    members.map(|member| (member.cid.clone(), member.at)).collect()
}
