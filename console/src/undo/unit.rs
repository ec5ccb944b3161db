//! Pure: what a person's word is about, a field or a group of fields that win together.

use syncline_schemas::canonical::{AppWords, Canonical, SaidWord};
use syncline_schemas::pipeline::{Entity, Strategy};
use syncline_schemas::value::Value;

/// A field or a group.
pub struct Unit<'a> {
    /// Its name, which decisions bear.
    pub name: &'a str,
    /// The field, or those of the group.
    pub fields: Vec<&'a str>,
    /// What decides about it.
    pub strategy: &'a Strategy,
    /// Who has to approve what a person says of it.
    pub approvers: &'a [String],
    is_group: bool,
}

/// All of an entity, a group where its first field stands.
pub fn units(entity: &Entity) -> Vec<Unit<'_>> {
    let mut units: Vec<Unit<'_>> = Vec::new();
    for field in &entity.fields {
        let group = entity.group_of(&field.name);
        let unit = match group {
            None => Unit {
                name: &field.name,
                fields: vec![field.name.as_str()],
                strategy: &field.strategy,
                approvers: &field.terms.approvers,
                is_group: false,
            },
            Some(group) => Unit {
                name: &group.name,
                fields: group.fields.iter().map(String::as_str).collect(),
                strategy: &group.strategy,
                approvers: &group.terms.approvers,
                is_group: true,
            },
        };
        let begun = |other: &Unit<'_>| other.is_group && other.name == unit.name;
        if !units.iter().any(begun) {
            units.push(unit);
        }
    }
    units
}

impl Unit<'_> {
    /// Whether it is this field, or has it.
    pub fn has(&self, field: &str) -> bool {
        self.fields.contains(&field)
    }

    /// What a record has of it: of a group a list, as decisions about it are.
    pub fn value(&self, record: &Canonical) -> Value {
        let mut parts = self
            .fields
            .iter()
            .map(|field| record.fields.get(*field).cloned().unwrap_or_default());
        if self.is_group {
            Value::List(parts.collect())
        } else {
            parts.next().unwrap_or_default()
        }
    }

    /// Whether it waits for a person.
    pub fn is_held(&self, record: &Canonical) -> bool {
        record.held.iter().any(|field| self.has(field))
    }

    /// The last words of an app on it.
    pub fn words<'w>(&'w self, app: &'w AppWords) -> impl Iterator<Item = &'w SaidWord> {
        app.words.iter().filter(move |word| self.has(&word.field))
    }
}
