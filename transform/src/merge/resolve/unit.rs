//! What is decided as one: a field, or a group of fields that win together.
//!
//! A group's word is put together from those on its fields: what the app's row held of all of them when it last said
//! something of one. That is a function of the app's own log, as every word is, and it never mixes two sources: what the
//! row held beside the field that was edited is what its editor had before him, whoever had put it there.

use std::collections::BTreeMap;

use syncline_schemas::pipeline::{Check, Entity, Field, FieldKind, Group, RuleRef, Strategy, Terms};
use syncline_schemas::position::{Position, Vector};
use syncline_schemas::value::Value;

use super::speaker::Speaker;
use crate::merge::field_lane::FieldLane;
use crate::merge::mutant::breaks;
use crate::merge::rule::Asked;
use crate::merge::ruled::Record;
use crate::merge::state::Lane;
use crate::merge::word::Word;

/// A field, or a group of fields.
pub struct Unit<'a> {
    /// Of the field, or of the group.
    pub name: &'a str,
    /// The fields of a group, none of a field.
    fields: &'a [String],
    /// What it holds; of a group, that of its first field.
    pub kind: FieldKind,
    /// What decides.
    pub strategy: &'a Strategy,
    /// On what terms.
    pub terms: &'a Terms,
    /// Which edits wait for a person.
    pub guard: Option<&'a Check>,
    /// Where the file says so.
    pub rule: &'a RuleRef,
}

impl<'a> Unit<'a> {
    /// All of an entity, a group where its first field stands.
    pub fn all(entity: &'a Entity) -> Vec<Self> {
        let unit = |field: &'a Field| match entity.group_of(&field.name) {
            _ if breaks("groups-are-whole") => Some(Self::field(field)),
            None => Some(Self::field(field)),
            Some(group) => (entity.fields.iter().find(|other| group.fields.contains(&other.name)) == Some(field))
                .then(|| Self::group(group, field.kind)),
        };
        entity.fields.iter().filter_map(unit).collect()
    }

    fn field(field: &'a Field) -> Self {
        Self {
            name: &field.name,
            fields: &[],
            kind: field.kind,
            strategy: &field.strategy,
            terms: &field.terms,
            guard: field.guard.as_ref(),
            rule: &field.rule,
        }
    }

    fn group(group: &'a Group, kind: FieldKind) -> Self {
        Self {
            name: &group.name,
            fields: &group.fields,
            kind,
            strategy: &group.strategy,
            terms: &group.terms,
            guard: None,
            rule: &group.rule,
        }
    }

    /// What decides about it.
    pub fn asked(&self, record: &'a Record) -> Asked<'a> {
        Asked {
            strategy: self.strategy,
            terms: self.terms,
            kind: self.kind,
            record,
        }
    }

    /// Whether it is a group.
    pub fn is_group(&self) -> bool {
        !self.fields.is_empty()
    }

    /// Whether it is this field, or has it.
    pub fn has(&self, field: &str) -> bool {
        self.place(field).is_some() || (!self.is_group() && self.name == field)
    }

    fn place(&self, field: &str) -> Option<usize> {
        self.fields.iter().position(|member| member == field)
    }

    /// What `value` says of one of the fields.
    pub fn part(&self, value: &Value, field: &str) -> Value {
        match (self.place(field), value) {
            (None, value) => value.clone(),
            (Some(place), Value::List(parts)) => parts.get(place).cloned().unwrap_or_default(),
            (Some(_), _) => Value::Null,
        }
    }

    /// Whether a value says nothing of any field.
    pub fn is_blank(&self, value: &Value) -> bool {
        match value {
            Value::List(parts) if self.is_group() => parts.iter().all(is_blank),
            value => is_blank(value),
        }
    }

    fn lanes<'l>(&'l self, lane: &'l Lane) -> impl Iterator<Item = Option<&'l FieldLane>> {
        let names: &[String] = self.fields;
        let own = (!self.is_group()).then(|| lane.fields.get(self.name));
        own.into_iter().chain(names.iter().map(|name| lane.fields.get(name)))
    }

    /// Whether a row has it.
    pub fn is_held_by(&self, lane: &Lane) -> bool {
        self.lanes(lane).flatten().next().is_some()
    }

    /// Whether the users of a row have seen what `source` said of it at `position`.
    pub fn knows(&self, lane: &Lane, source: &str, position: Position) -> bool {
        self.lanes(lane)
            .flatten()
            .any(|lane| lane.knowledge.covers(source, position))
    }

    /// Whether a row's app has received what `source` said of it at `position`, whether or not anybody edited it since.
    pub fn has_received(&self, lane: &Lane, source: &str, position: Position) -> bool {
        self.lanes(lane).flatten().any(|lane| {
            let notices = lane.ahead.iter().map(|notice| &notice.vector);
            std::iter::once(&lane.knowledge)
                .chain(notices)
                .any(|seen| seen.covers(source, position))
        })
    }

    /// What a row holds of it now.
    pub fn held_by(&self, lane: &Lane) -> Option<Value> {
        let parts: Option<Vec<Value>> = self.lanes(lane).map(|lane| lane?.shadow.clone()).collect();
        if self.is_group() {
            parts.map(Value::List)
        } else {
            parts?.pop()
        }
    }
}

fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Text(text) => text.trim().is_empty(),
        Value::List(members) => members.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The words on groups, which no single lane has.
pub struct Composed(BTreeMap<(String, String), (Word, Option<Value>)>);

impl Composed {
    /// Of every speaker on every group among `units`.
    pub fn of(units: &[Unit<'_>], speakers: &[Speaker<'_>]) -> Self {
        let groups = units.iter().filter(|unit| unit.is_group());
        let words = groups.flat_map(|unit| {
            speakers.iter().filter_map(|speaker| {
                let word = compose(speaker.lane, unit.fields)?;
                Some(((unit.name.to_owned(), speaker.source.to_owned()), word))
            })
        });
        Self(words.collect())
    }

    /// The word of `source` on `group`, and what it held at first.
    pub fn word(&self, group: &str, source: &str) -> Option<(&Word, Option<&Value>)> {
        let (word, first) = self.0.get(&(group.to_owned(), source.to_owned()))?;
        Some((word, first.as_ref()))
    }
}

/// None if the row never said anything of these fields, or if it is not known what it held of all of them.
fn compose(lane: &Lane, fields: &[String]) -> Option<(Word, Option<Value>)> {
    let word_on = |field: &String| lane.fields.get(field).and_then(|lane| lane.word.as_ref());
    let words: Vec<&Word> = fields.iter().filter_map(word_on).collect();
    let position = words.iter().map(|word| word.position).max()?;
    let last = |word: &&Word| word.position == position;
    let then = |field: &String| {
        let word = word_on(field);
        let beside = || {
            lane.beside
                .get(&position)
                .filter(|_| !breaks("beside-is-kept"))
                .and_then(|held| held.get(field))
        };
        match word.filter(last) {
            Some(word) => Some((word.value.clone(), word.base.clone())),
            None => beside()
                .or(word.map(|word| &word.value))
                .map(|value| (value.clone(), Some(value.clone()))),
        }
    };
    let (values, bases): (Vec<Value>, Vec<Option<Value>>) =
        fields.iter().map(then).collect::<Option<Vec<_>>>()?.into_iter().unzip();
    let mut seen = Vector::new();
    words.iter().for_each(|word| seen.join(&word.seen));
    let first = |field: &String| lane.fields.get(field).and_then(|lane| lane.first.clone());
    let word = Word {
        value: Value::List(values),
        base: bases.into_iter().collect::<Option<Vec<Value>>>().map(Value::List),
        position,
        stamp_us: words.iter().copied().filter(last).map(|word| word.stamp_us).max()?,
        seen,
        initial: words.iter().all(|word| word.initial),
        past: Vec::new(),
        steps: Vec::new(),
        put_back: words.iter().copied().filter(last).map(|word| word.put_back).max()?,
        set_back: words.iter().any(|word| last(word) && word.set_back),
        ahead: words.iter().any(|word| last(word) && word.ahead),
    };
    let first: Option<Vec<Value>> = fields.iter().map(first).collect();
    Some((word, first.map(Value::List)))
}
