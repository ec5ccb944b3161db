use bytes::Bytes;

use super::*;
use crate::form::Form;
use crate::postgres::pgoutput::{Column, Delete, Insert, Oversized, Relation, ReplicaIdentity, Update};
use crate::table::{Limits, Table};

const TEXT: u32 = 25;
const INT4: u32 = 23;

fn plan() -> Registered {
    let column = |name: &str, type_oid, is_key| Column {
        name: name.to_owned(),
        type_oid,
        type_modifier: -1,
        is_key,
    };
    let relation = Relation {
        oid: 7,
        schema: "public".to_owned(),
        table: "t".to_owned(),
        identity: ReplicaIdentity::Default,
        columns: vec![
            column("id", INT4, true),
            column("a", TEXT, false),
            column("b", TEXT, false),
        ],
    };
    let form = Form::default();
    let table = Table::new(&relation, None, "p.public.t".to_owned(), &form, Limits::default());
    Registered::new(table, (Some(1), 2), &form, "p", "db")
}

fn text(text: &str) -> TupleCell {
    TupleCell::Text(Bytes::copy_from_slice(text.as_bytes()))
}

fn poison(message: &Message) -> Poison {
    let error = AssembleError::Oversized {
        table: "public.t".to_owned(),
        position: Position::new(1, Lsn(9), 3),
        bytes: 1 << 20,
    };
    Poison::of_change(&error, Lsn(8), message, Some(&plan())).unwrap()
}

fn contents(poison: &Poison) -> Vec<(&str, &DeadContent)> {
    let columns = poison.columns.iter();
    columns.map(|column| (column.name.as_str(), &column.content)).collect()
}

#[test]
fn a_letter_has_the_texts_that_fit_and_the_length_of_the_others() {
    let large = "x".repeat(LETTER_BYTES_MAX);
    let new = vec![text("7"), text(&large), TupleCell::Null];
    let poison = poison(&Message::Insert(Insert { relation: 7, new }));
    let expected = [
        ("id", &DeadContent::Text(b"7".to_vec())),
        ("a", &DeadContent::LeftOut(Some(LETTER_BYTES_MAX as u64))),
        ("b", &DeadContent::Null),
    ];
    assert_eq!(contents(&poison), expected);
    assert_eq!((poison.op, poison.key.as_deref()), ('c', Some(r#"{"id":7}"#)));
}

#[test]
fn what_the_log_does_not_hold_is_not_in_the_letter() {
    let update = Update {
        relation: 7,
        old: OldTuple::None,
        new: vec![text("7"), TupleCell::Unchanged, text("new")],
    };
    let poison = poison(&Message::Update(update));
    let expected = [
        ("id", &DeadContent::Text(b"7".to_vec())),
        ("b", &DeadContent::Text(b"new".to_vec())),
    ];
    assert_eq!(contents(&poison), expected);
}

#[test]
fn of_a_deleted_row_only_its_key_is_believed() {
    let old = OldTuple::Key(vec![text("7"), TupleCell::Null, TupleCell::Null]);
    let poison = poison(&Message::Delete(Delete { relation: 7, old }));
    assert_eq!(contents(&poison), [("id", &DeadContent::Text(b"7".to_vec()))]);
}

#[test]
fn of_a_row_that_is_cut_short_the_beginning_is_known() {
    let what = OversizedKind::Change {
        op: 'u',
        relation: 7,
        old: OldTuple::None,
        new: vec![text("7")],
    };
    let poison = poison(&Message::Oversized(Oversized { what, bytes: 1 << 20 }));
    let expected = [
        ("id", &DeadContent::Text(b"7".to_vec())),
        ("a", &DeadContent::LeftOut(None)),
        ("b", &DeadContent::LeftOut(None)),
    ];
    assert_eq!(contents(&poison), expected);
    assert_eq!((poison.code, poison.bytes), ("ROW_TOO_LARGE", 1 << 20));
    assert!(poison.key.is_some());
}

#[test]
fn a_row_whose_key_did_not_come_has_none() {
    let what = OversizedKind::Change {
        op: 'c',
        relation: 7,
        old: OldTuple::None,
        new: Vec::new(),
    };
    assert_eq!(poison(&Message::Oversized(Oversized { what, bytes: 9 })).key, None);
}

#[test]
fn what_a_broker_refused_is_known_again() {
    let refused = Refused(HashSet::from([("t".to_owned(), Some(b"k".to_vec()), 7)]));
    assert!(refused.has("t", Some(b"k"), 7));
    assert!(!refused.has("t", Some(b"k"), 8) && !refused.has("t", None, 7) && !refused.has("u", Some(b"k"), 7));
}
