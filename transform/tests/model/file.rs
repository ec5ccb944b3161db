//! What a pipeline file would say.

use std::collections::BTreeMap;

use syncline_schemas::pipeline::{
    Check, DeletePolicy, Entity, Field, FieldKind, Group, Migration, RuleRef, Strategy, Terms,
};

pub fn entity(fields: &[(&str, Strategy)], on_delete: DeletePolicy) -> Entity {
    Entity {
        name: "customer".to_owned(),
        version: 1,
        schema_json: String::new(),
        fields: fields.iter().map(|(name, strategy)| plain(name, strategy)).collect(),
        groups: Vec::new(),
        checks: Vec::new(),
        match_on: Vec::new(),
        score: None,
        references: Vec::new(),
        on_delete: BTreeMap::new(),
        default_delete: on_delete,
        migrate: Migration::default(),
        only_read: Default::default(),
        rules: "0".repeat(16),
    }
}

/// Fields that win together.
pub fn group(name: &str, fields: &[&str], strategy: Strategy) -> Group {
    Group {
        name: name.to_owned(),
        fields: fields.iter().map(|field| (*field).to_owned()).collect(),
        strategy,
        terms: Terms::default(),
        rule: RuleRef::default(),
    }
}

/// A condition of the file.
pub fn check(name: &str, condition: &str) -> Check {
    Check {
        name: name.to_owned(),
        condition: condition.parse().unwrap(),
        rule: RuleRef::default(),
    }
}

/// A rule of the file.
pub fn rule(text: &str) -> Strategy {
    Strategy::Rule(Box::new(text.parse().unwrap()))
}

/// The terms of a field.
pub fn terms<'e>(entity: &'e mut Entity, field: &str) -> &'e mut Terms {
    &mut self::field(entity, field).terms
}

/// A field.
pub fn field<'e>(entity: &'e mut Entity, name: &str) -> &'e mut Field {
    entity.fields.iter_mut().find(|field| field.name == name).unwrap()
}

fn plain(name: &str, strategy: &Strategy) -> Field {
    Field {
        name: name.to_owned(),
        kind: FieldKind::Text,
        nullable: true,
        strategy: strategy.clone(),
        terms: Terms::default(),
        check: None,
        guard: None,
        rule: RuleRef {
            file: "test.yaml".to_owned(),
            line: 1,
        },
    }
}
