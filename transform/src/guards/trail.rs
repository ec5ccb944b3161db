//! What a row held before: of each field hashes of the last values that it left. A copy that is restored says such values
//! again, of many rows at once.
//!
//! Not seen are values that a field left longer ago than its last [`LEFT_MAX`], and values that are so often right again that
//! they tell nothing: nothing, true and false, the sums of counters, the members of sets. Fields that somebody else owns do
//! not matter, nor whom a row refers to: that may be known long after the change, and what is decided must not depend on it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use syncline_schemas::mapped::FieldValue;
use syncline_schemas::pipeline::{Entity, Strategy};
use syncline_schemas::value::Value;

use super::window::hash;

/// Values that are remembered of a field, beside the one that it holds.
const LEFT_MAX: usize = 8;

/// By field: what it holds, and before it what it left, the last first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Trail(BTreeMap<String, Vec<u32>>);

/// What a change was to the row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Whether the trail is another now.
    pub moved: bool,
    /// Whether a field went back to a value that it had left.
    pub back: bool,
}

impl Trail {
    /// The row now holds these; `before` is what it held, as far as its log tells.
    pub fn hold(&mut self, entity: &Entity, source: &str, fields: &[FieldValue], before: &[FieldValue]) -> Step {
        let mut step = Step::default();
        for field in fields.iter().filter(|field| matters(entity, source, &field.name)) {
            let held = self.0.entry(field.name.clone()).or_default();
            if held.is_empty()
                && let Some(before) = before.iter().find(|before| before.name == field.name)
            {
                held.push(short(&before.value));
                step.moved = true;
            }
            let now = short(&field.value);
            if held.first() == Some(&now) {
                continue;
            }
            step.moved = true;
            step.back |= tells(&field.value) && held.contains(&now);
            held.retain(|left| *left != now);
            held.insert(0, now);
            held.truncate(1 + LEFT_MAX);
        }
        step
    }
}

/// Whether what this app says of the field is listened to, and says what it holds.
fn matters(entity: &Entity, source: &str, name: &str) -> bool {
    if entity.reference(name).is_some() {
        return false;
    }
    let strategy = entity.group_of(name).map(|group| &group.strategy);
    match strategy.or(entity.field(name).map(|field| &field.strategy)) {
        Some(Strategy::Add | Strategy::Union) | None => false,
        Some(Strategy::Owner(owner)) => owner == source,
        Some(_) => true,
    }
}

fn tells(value: &Value) -> bool {
    !matches!(value, Value::Null | Value::Bool(_))
}

fn short(value: &Value) -> u32 {
    let [a, b, c, d, ..] = hash(&value.to_string()).to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use syncline_schemas::pipeline::{DeletePolicy, Field, FieldKind, Migration, RuleRef, Terms};

    use super::*;

    fn entity() -> Entity {
        let field = |(name, strategy): (&str, Strategy)| Field {
            name: name.to_owned(),
            kind: FieldKind::Text,
            nullable: true,
            strategy,
            terms: Terms::default(),
            check: None,
            guard: None,
            rule: RuleRef::default(),
        };
        let fields = [
            ("price", Strategy::Latest),
            ("stock", Strategy::Add),
            ("code", Strategy::Owner("crm".to_owned())),
        ];
        Entity {
            name: "product".to_owned(),
            version: 1,
            schema_json: String::new(),
            fields: fields.map(field).into(),
            groups: Vec::new(),
            checks: Vec::new(),
            match_on: Vec::new(),
            score: None,
            references: Vec::new(),
            on_delete: BTreeMap::new(),
            default_delete: DeletePolicy::Ignore,
            migrate: Migration::default(),
            only_read: Default::default(),
            rules: String::new(),
        }
    }

    fn said(name: &str, value: impl Into<Value>) -> Vec<FieldValue> {
        vec![FieldValue {
            name: name.to_owned(),
            value: value.into(),
        }]
    }

    /// Of each of these values in a row, whether it was left before.
    fn back(name: &str, values: &[Value]) -> Vec<bool> {
        let mut trail = Trail::default();
        let hold = |value: &Value| trail.hold(&entity(), "shop", &said(name, value.clone()), &[]).back;
        values.iter().map(hold).collect()
    }

    #[test]
    fn a_value_that_was_left_is_known_again() {
        let values = [40, 45, 45, 50, 40, 50, 60].map(Value::from);
        assert_eq!(back("price", &values), [false, false, false, false, true, true, false]);
    }

    #[test]
    fn what_is_often_right_again_tells_nothing() {
        let nothing = [Value::from(1), Value::Null, Value::from(2), Value::Null];
        assert_eq!(back("price", &nothing), [false; 4]);
        let choice = [true, false, true].map(Value::Bool);
        assert_eq!(back("price", &choice), [false; 3]);
        let sums = [5, 4, 5].map(Value::from);
        assert_eq!(back("stock", &sums), [false; 3]);
        assert_eq!(back("code", &sums), [false; 3], "the crm's");
    }

    #[test]
    fn the_row_before_the_first_change_is_known_from_the_log() {
        let mut trail = Trail::default();
        let entity = entity();
        let step = trail.hold(&entity, "shop", &said("price", 2), &said("price", 1));
        assert_eq!(
            step,
            Step {
                moved: true,
                back: false
            }
        );
        let same = trail.hold(&entity, "shop", &said("price", 2), &said("price", 1));
        assert_eq!(same, Step::default());
        assert!(trail.hold(&entity, "shop", &said("price", 1), &[]).back);
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let mut values: Vec<Value> = (0..20).map(Value::from).collect();
        values.push(Value::from(0));
        assert_eq!(back("price", &values).last(), Some(&false));
        values.push(Value::from(15));
        assert_eq!(back("price", &values).last(), Some(&true));
    }
}
