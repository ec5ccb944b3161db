//! Links and records for the sink's tests.
#![allow(dead_code, reason = "each test uses a part of it")]

pub mod db;

use std::collections::BTreeMap;

use syncline_schemas::canonical::{AppWords, Canonical, Identity, SaidWord};
use syncline_schemas::lens::Expr;
use syncline_schemas::mapped::RowKey;
use syncline_schemas::pipeline::{Direction, FieldKind, Link, LinkField, Mode, RuleRef};
use syncline_schemas::position::{Lsn, Position, Vector};
use syncline_schemas::value::{Number, Value};

/// Position `lsn` of some log.
pub fn at(lsn: u64) -> Position {
    Position::new(1, Lsn(lsn), 0)
}

/// A two-way field that is a column of the same name.
pub fn copied(field: &str, kind: FieldKind) -> LinkField {
    LinkField {
        field: field.to_owned(),
        kind,
        set: false,
        group: None,
        reads: true,
        get: Some(Expr::name(field)),
        put: vec![(field.to_owned(), Expr::name(field))],
    }
}

/// `crm.public.contacts <-> customer`: name, email, stock.
pub fn link() -> Link {
    Link {
        system: "crm".to_owned(),
        schema: "public".to_owned(),
        table: "contacts".to_owned(),
        entity: "customer".to_owned(),
        direction: Direction::Both,
        key: vec!["id".to_owned()],
        same_as: Vec::new(),
        fields: vec![
            copied("name", FieldKind::Text),
            copied("email", FieldKind::Text),
            copied("stock", FieldKind::Number { scale: None }),
        ],
        mode: Mode::Live,
        rule: RuleRef::default(),
    }
}

/// An agreed record of which nobody has said anything yet.
pub fn record(cid: &str, fields: &[(&str, Value)]) -> Canonical {
    Canonical {
        cid: cid.to_owned(),
        deleted: false,
        deleted_us: None,
        fields: fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect::<BTreeMap<_, _>>(),
        held: Vec::new(),
        counters: vec!["stock".to_owned()],
        vector: Vector::new(),
        stamp_us: 1_000,
        apps: Vec::new(),
        rules: "0".repeat(16),
        identity: Identity::default(),
    }
}

/// The same record, made from what `source` said up to `lsn` as well.
pub fn knowing(mut record: Canonical, source: &str, lsn: u64) -> Canonical {
    record.vector.advance(source, at(lsn));
    record
}

/// The words of an app on row `{"id":ID}`.
pub fn app(name: &str, id: i64, words: Vec<SaidWord>) -> AppWords {
    let id = Value::from(id);
    AppWords {
        app: name.to_owned(),
        via: None,
        row: RowKey::new([("id", &id)]),
        made: None,
        gone: false,
        remake: false,
        restore: false,
        words,
    }
}

/// A word of somebody who had seen all others.
pub fn word(field: &str, value: impl Into<Value>, lsn: u64) -> SaidWord {
    let value = value.into();
    let own = match &value {
        Value::Number(number) => Some(number.clone()),
        _ => None,
    };
    SaidWord {
        field: field.to_owned(),
        value,
        position: at(lsn),
        stamp_us: 0,
        unseen: Vector::new(),
        own,
    }
}

/// A number.
pub fn number(text: &str) -> Number {
    text.parse().unwrap()
}

/// A customer nobody in the crm has heard of.
pub fn customer(cid: &str, version: u64) -> Canonical {
    let fields = [
        ("name", cid.into()),
        ("email", format!("{cid}@x").as_str().into()),
        ("stock", 10.into()),
    ];
    knowing(record(cid, &fields), "shop", version)
}

/// The same record with another value of one field.
pub fn with(mut record: Canonical, field: &str, value: impl Into<Value>) -> Canonical {
    record.fields.insert(field.to_owned(), value.into());
    record
}
