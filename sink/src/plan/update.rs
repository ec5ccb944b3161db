//! A row that is there: compare and set, field by field.

use std::collections::BTreeMap;

use syncline_schemas::canonical::SaidWord;
use syncline_schemas::lens::{self, Cell, Fields, Row};
use syncline_schemas::mapped::RowKey;
use syncline_schemas::mark::{Act, MarkedField};
use syncline_schemas::pipeline::LinkField;
use syncline_schemas::position::Vector;
use syncline_schemas::value::{Number, Value};

use super::{AppliedField, Given, Plan, Refusal, Verdict, Write, hash};

/// How a field of the row compares with the agreed value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Weight {
    /// It is as agreed, and nothing is to be told of it.
    Same,
    /// It is as agreed, which the app's log has to be told.
    Tell,
    /// It is as we believe it to be, and is written.
    Write,
    /// The app's own edit is on its way.
    Stale,
}

/// The weight of a field, or of the heaviest in its group: a group is written, told and left alone as one, or the row
/// would for a while hold what two sources said.
fn group_weight(field: &LinkField, weighed: &[(&LinkField, Weight)]) -> Weight {
    let together =
        |other: &LinkField| other.field == field.field || (field.group.is_some() && other.group == field.group);
    let weights = weighed
        .iter()
        .filter(|(other, _)| together(other))
        .map(|(_, weight)| *weight);
    weights.max().unwrap_or(Weight::Same)
}

fn replaced(field: &LinkField, agreed: &Value) -> MarkedField {
    MarkedField {
        name: field.field.clone(),
        value: Some(agreed.clone()),
        delivered: None,
    }
}

/// What an update collects on its way through the fields.
#[derive(Default)]
struct Draft {
    values: BTreeMap<String, Value>,
    marked: Vec<MarkedField>,
    stale: Vec<String>,
    /// What the app holds of fields that it is only told of, where its column has no room for exactly what was agreed.
    kept: BTreeMap<String, Value>,
}

/// Rows that are there.
impl Given<'_> {
    pub(super) fn update(&self, key: &RowKey, row: &Row) -> Result<Plan, Refusal> {
        let current = lens::current(self.link, row)?;
        let mut draft = Draft::default();
        let due: Vec<(&LinkField, &Value)> = self.due().filter(|(field, _)| self.lane.has(&field.field)).collect();
        let weighed: Vec<(&LinkField, Weight)> = due
            .iter()
            .map(|(field, agreed)| (*field, self.weigh(field, agreed, &current)))
            .collect();
        for ((field, agreed), (_, weight)) in due.into_iter().zip(&weighed) {
            if self.is_counter(field) {
                self.add(field, agreed, &current, row, &mut draft)?;
                continue;
            }
            match group_weight(field, &weighed) {
                Weight::Same => {}
                Weight::Stale => draft.stale.push(field.field.clone()),
                Weight::Write if *weight == Weight::Write => self.set(field, agreed, row, &mut draft)?,
                Weight::Write | Weight::Tell => {
                    draft.marked.push(replaced(field, agreed));
                    let now = current.get(&field.field).cloned().flatten();
                    draft.kept.extend(now.map(|now| (field.field.clone(), now)));
                }
            }
        }
        Ok(self.settle(key, draft))
    }

    fn settle(&self, key: &RowKey, draft: Draft) -> Plan {
        let (verdict, act) = match (draft.values.is_empty(), draft.marked.is_empty(), draft.stale.is_empty()) {
            (false, _, _) => (Verdict::Updated, Some(Act::Update)),
            (true, false, _) => (Verdict::Seen, Some(Act::Seen)),
            (true, true, false) => (Verdict::Stale, None),
            (true, true, true) => (Verdict::Nothing, None),
        };
        let mark = act.map(|act| self.mark(act, Some(key), &draft.marked));
        let mut applied = self.remember(Some(self.key_after(key, &draft.values)), &draft.marked, verdict);
        let fields = applied.as_mut().map(|applied| &mut applied.fields);
        for (name, field) in fields.into_iter().flatten() {
            if let Some(now) = draft.kept.get(name) {
                field.hash = hash(now);
            }
        }
        let write = match verdict {
            Verdict::Updated => Write::Update {
                row: key.clone(),
                values: draft.values,
            },
            _ => Write::Nothing,
        };
        Plan {
            verdict,
            write,
            mark,
            applied,
            stale: draft.stale,
        }
    }

    /// The key of the row when these columns are written: an agreed field may be a part of it.
    fn key_after(&self, key: &RowKey, values: &BTreeMap<String, Value>) -> RowKey {
        let Some(before) = key.columns() else {
            return key.clone();
        };
        let column = |name: &'_ String| values.get(name).or_else(|| before.get(name)).cloned();
        let after: Option<Vec<Value>> = self.link.key.iter().map(column).collect();
        after.map_or_else(
            || key.clone(),
            |after| RowKey::new(self.link.key.iter().map(String::as_str).zip(&after)),
        )
    }

    /// A field that is replaced.
    fn set(&self, field: &LinkField, agreed: &Value, row: &Row, draft: &mut Draft) -> Result<(), Refusal> {
        let columns = differing(self.put(field, agreed)?, row);
        if !columns.is_empty() {
            draft.values.extend(columns);
            draft.marked.push(replaced(field, agreed));
        }
        Ok(())
    }

    /// Whether the app has no room for a null here; a blank value is all that it can hold of one.
    fn never_null(&self, field: &LinkField) -> bool {
        field
            .put
            .iter()
            .any(|(column, _)| self.limits.never_null.contains(column))
    }

    /// Whether the app makes blanks at the end of the value as many as its column has room for.
    fn pads(&self, field: &LinkField) -> bool {
        field.put.iter().any(|(column, _)| self.limits.padded.contains(column))
    }

    fn weigh(&self, field: &LinkField, agreed: &Value, current: &Fields) -> Weight {
        match self.compare(field, agreed, current) {
            Weight::Same if self.must_tell(&field.field) => Weight::Tell,
            weight => weight,
        }
    }

    fn compare(&self, field: &LinkField, agreed: &Value, current: &Fields) -> Weight {
        match current.get(&field.field) {
            Some(Some(now)) if same(field, now, agreed) => Weight::Same,
            Some(Some(now)) if agreed.is_null() && is_blank(now) && self.never_null(field) => Weight::Same,
            Some(Some(now)) if differ_in_padding(now, agreed) && self.pads(field) => Weight::Same,
            Some(Some(now)) if self.is_expected(field, now) => Weight::Write,
            Some(Some(_)) => Weight::Stale,
            // A field that can be written and not read: what we wrote last is all there is to compare with.
            _ if self
                .remembered(&field.field)
                .is_some_and(|last| last.hash == hash(agreed)) =>
            {
                Weight::Same
            }
            _ => Weight::Write,
        }
    }

    /// Whether `now` is what we believe the app to hold.
    ///
    /// What we wrote last counts even when a later word is known: that word may stand before our write in the app's log
    /// (an edit and its undoing that we overtook), and then nothing further would ever come from the app.
    pub(super) fn is_expected(&self, field: &LinkField, now: &Value) -> bool {
        let last = self.remembered(&field.field);
        let word = self
            .word(&field.field)
            .filter(|word| last.is_none_or(|last| Some(word.position) > last.word));
        let as_said = word.is_some_and(|word| same(field, &word.value, now));
        let as_written = last.is_some_and(|last| last.hash == hash(now));
        let left = word.is_none() && last.is_none() && !self.is_unknown(&field.field);
        !self.is_read(field) || as_said || as_written || left
    }

    /// Whether the app's log has to be told of a decision that needed no write there.
    fn must_tell(&self, field: &str) -> bool {
        let last = self.remembered(field);
        let told = |unseen: &Vector| last.is_some_and(|last| last.vector.dominates(unseen));
        let unseen = |word: &SaidWord| !word.unseen.is_empty() && !told(&word.unseen);
        // That also remembers what the app holds.
        last.is_some_and(AppliedField::is_unclear) || self.word(field).is_some_and(unseen)
    }

    /// A field that is added to.
    fn add(
        &self,
        field: &LinkField,
        agreed: &Value,
        current: &Fields,
        row: &Row,
        draft: &mut Draft,
    ) -> Result<(), Refusal> {
        let Some(due) = self.delivered(&field.field, agreed)? else {
            return Ok(());
        };
        if self.is_unknown(&field.field) {
            draft.stale.push(field.field.clone());
            return Ok(());
        }
        let so_far = self
            .applied
            .and_then(|applied| applied.counters.get(&field.field))
            .cloned();
        let delta = &due - &so_far.unwrap_or_else(Number::zero);
        if delta == Number::zero() {
            return Ok(());
        }
        let sum = match current.get(&field.field) {
            Some(Some(Value::Number(now))) => now + &delta,
            // Somebody emptied it: as merge has it, the row then holds what was delivered and nothing else.
            Some(Some(Value::Null)) => due.clone(),
            _ => {
                return Err(Refusal(format!(
                    "{}: a counter can only be added to where it can be read",
                    field.field
                )));
            }
        };
        draft
            .values
            .extend(differing(self.put(field, &Value::Number(sum))?, row));
        draft.marked.push(MarkedField {
            name: field.field.clone(),
            value: None,
            delivered: Some(due),
        });
        Ok(())
    }

    /// What must have been delivered to the app in all: the agreed sum less what it did itself.
    pub(super) fn delivered(&self, field: &str, agreed: &Value) -> Result<Option<Number>, Refusal> {
        match agreed {
            Value::Number(sum) => {
                let own = self.word(field).and_then(|word| word.own.clone());
                Ok(Some(sum - &own.unwrap_or_else(Number::zero)))
            }
            Value::Null => Ok(None),
            _ => Err(Refusal(format!("{field}: a counter must be a number"))),
        }
    }
}

fn differ_in_padding(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Text(left), Value::Text(right)) => left.trim_end_matches(' ') == right.trim_end_matches(' '),
        _ => false,
    }
}

fn is_blank(value: &Value) -> bool {
    match value {
        Value::Text(text) => text.trim().is_empty(),
        Value::List(members) => members.is_empty(),
        other => other.is_null(),
    }
}

/// Whether two values are the same to this field: of a set, the order does not count.
fn same(field: &LinkField, left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::List(left), Value::List(right)) if field.set => {
            Value::set(left.iter().cloned()) == Value::set(right.iter().cloned())
        }
        _ => left == right,
    }
}

/// The columns that the row does not hold already: what the app split in its own way stays as it is.
fn differing(mut columns: Vec<(String, Value)>, row: &Row) -> Vec<(String, Value)> {
    columns.retain(|(column, value)| !matches!(row.get(column), Some(Cell::Set(now)) if now == value));
    columns
}
