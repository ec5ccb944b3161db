//! The log's messages against the records that must come of them, decoded as any reader decodes them.

use std::collections::BTreeSet;

use bytes::Bytes;
use syncline_schemas::codec::{ParsedSchema, frame_id};
use syncline_schemas::envelope::{self as wire, ChangeEvent, Op};
use syncline_schemas::lens::Cell;
use syncline_schemas::mark::Act;
use syncline_schemas::position::Vector;
use syncline_schemas::value::Value;

use super::*;
use crate::form::{Form, Operation};
use crate::postgres::catalog::TableInfo;
use crate::postgres::pgoutput::{Delete, Insert, OldTuple, ReplicaIdentity, Truncate, Tuple, Update};
use crate::table::fixture::{self, Spec};

mod behind;
mod beside;
mod selected;

const FINAL: u64 = 0x1000;
const END: u64 = 0x1040;
const OID: u32 = 1000;

const COLUMNS: [Spec<'static>; 3] = [
    ("id", "int4", -1, true, None),
    ("small", "int4", -1, false, None),
    ("big", "text", -1, false, None),
];

fn registered(columns: &[Spec<'_>], key: &[&str], identity: ReplicaIdentity) -> Arc<Registered> {
    registered_in(&Form::default(), &fixture::info("t", columns, key, identity))
}

fn registered_in(form: &Form, info: &TableInfo) -> Arc<Registered> {
    let table = fixture::table_in(info, "shop", form);
    let key_id = table.key_schema.is_some().then_some(1);
    Arc::new(Registered::new(
        table,
        (key_id, 2),
        &crate::form::Form::default(),
        "shop",
        "db",
    ))
}

fn assembler(identity: ReplicaIdentity) -> Assembler {
    let mut assembler = Assembler::new(Position::new(1, Lsn(0x100), 0), Rules::default());
    assembler.define(OID, Some(registered(&COLUMNS, &["id"], identity)));
    assembler
}

fn text(text: &str) -> TupleCell {
    TupleCell::Text(Bytes::copy_from_slice(text.as_bytes()))
}

fn row(id: &str, small: &str, big: TupleCell) -> Tuple {
    vec![text(id), text(small), big]
}

fn begin(final_lsn: u64) -> Message {
    Message::Begin(Begin {
        final_lsn: Lsn(final_lsn),
        commit_us: 5_000_000,
        xid: 77,
    })
}

fn commit(commit_lsn: u64, end_lsn: u64) -> Message {
    Message::Commit(Commit {
        commit_lsn: Lsn(commit_lsn),
        end_lsn: Lsn(end_lsn),
        commit_us: 5_000_000,
    })
}

fn insert(new: Tuple) -> Message {
    Message::Insert(Insert { relation: OID, new })
}

fn update(old: OldTuple, new: Tuple) -> Message {
    Message::Update(Update {
        relation: OID,
        old,
        new,
    })
}

fn delete(old: OldTuple) -> Message {
    Message::Delete(Delete { relation: OID, old })
}

fn mark(row: Option<&str>, act: Act) -> Message {
    let mark = Mark {
        pipeline: "p".to_owned(),
        entity: "e".to_owned(),
        cid: "cid".to_owned(),
        table: "public.t".to_owned(),
        row: row.map(str::to_owned),
        act,
        vector: Vector::new(),
        stamp_us: 0,
        fields: Vec::new(),
    };
    logical("syncline", &mark.to_text())
}

fn logical(prefix: &str, content: &str) -> Message {
    Message::Logical(LogicalMessage {
        transactional: true,
        lsn: Lsn(1),
        prefix: Bytes::copy_from_slice(prefix.as_bytes()),
        content: Bytes::copy_from_slice(content.as_bytes()),
    })
}

/// A record as a reader sees it.
#[derive(Debug)]
struct Seen {
    event: Option<ChangeEvent>,
    key: Option<Value>,
    position: Position,
    headers: Vec<(String, String)>,
}

impl Seen {
    fn op(&self) -> Option<Op> {
        self.event.as_ref().map(|event| event.op)
    }

    fn after(&self, column: &str) -> Cell {
        self.event.as_ref().unwrap().after.as_ref().unwrap()[column].clone()
    }

    fn before(&self, column: &str) -> Cell {
        self.event.as_ref().unwrap().before.as_ref().unwrap()[column].clone()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(header, _)| header == name)
            .map(|(_, value)| value.as_str())
    }
}

fn seen(assembler: &Assembler) -> Vec<Seen> {
    let records = assembler.records();
    records.rows().iter().map(|entry| decode(records, entry)).collect()
}

fn decode(records: &Records, entry: &Entry) -> Seen {
    let table = &entry.registered.table;
    let schema = |text: &str| ParsedSchema::parse(text).unwrap();
    let event = records.slice(&entry.value).map(|value| {
        let (id, datum) = frame_id(value).unwrap();
        assert_eq!(id, 2);
        wire::decode(&schema(&table.value_schema), datum).unwrap().unwrap()
    });
    let key = records.slice(&entry.key).map(|key| {
        let (id, datum) = frame_id(key).unwrap();
        assert_eq!(id, 1);
        match &wire::decode_key(&schema(table.key_schema.as_deref().unwrap()), datum).unwrap()["id"] {
            Cell::Set(value) => value.clone(),
            Cell::Unchanged => panic!("no key"),
        }
    });
    let position = entry.position.to_string();
    let headers = entry.headers(&[], &[], &position);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let headers = headers
        .into_iter()
        .map(|(name, value)| (name.to_owned(), text(value)))
        .collect();
    Seen {
        event,
        key,
        position: entry.position,
        headers,
    }
}

/// Pushes the messages of one transaction and gives all records.
fn transaction(assembler: &mut Assembler, messages: Vec<Message>) -> Vec<Seen> {
    let mut all = Vec::new();
    let messages = std::iter::once(begin(FINAL))
        .chain(messages)
        .chain(std::iter::once(commit(FINAL, END)));
    for (index, message) in messages.enumerate() {
        assembler
            .push(Lsn(0x900 + index as u64), &message, 9_000_000_000)
            .unwrap();
        all.extend(seen(assembler));
    }
    all
}

fn set(value: impl Into<Value>) -> Cell {
    Cell::Set(value.into())
}

fn at(ordinal: u64) -> Position {
    Position::new(1, Lsn(FINAL + 1), ordinal)
}

#[test]
fn inserts_updates_and_deletes_become_records_with_ordinals() {
    let mut assembler = assembler(ReplicaIdentity::Default);
    let changes = vec![
        insert(row("1", "10", text("x"))),
        update(OldTuple::None, row("1", "11", text("x"))),
        delete(OldTuple::Key(vec![text("1"), TupleCell::Null, TupleCell::Null])),
    ];
    let all = transaction(&mut assembler, changes);
    let ops: Vec<_> = all.iter().map(Seen::op).collect();
    assert_eq!(ops, [Some(Op::Create), Some(Op::Update), Some(Op::Delete), None]);
    assert_eq!(
        all.iter().map(|seen| seen.position).collect::<Vec<_>>(),
        [at(0), at(1), at(2), at(2)]
    );
    assert!(all.iter().all(|seen| seen.key == Some(Value::from(1))));
    assert_eq!(all[1].after("small"), set(11));
    assert_eq!(
        (all[2].before("id"), all[2].before("small")),
        (set(1), Cell::Set(Value::Null))
    );
    let source = &all[0].event.as_ref().unwrap().source;
    assert_eq!(
        (source.db.as_str(), source.table.as_str(), source.snapshot.as_str()),
        ("db", "t", "false")
    );
    assert_eq!(
        (source.tx_id, source.ts_us, source.lsn),
        (Some(77), 5_000_000, Some(Lsn(0x901)))
    );
    assert_eq!(all[3].header("syncline.position"), Some("1:0/1001:2"));
    assert_eq!(assembler.position(), Position::new(1, Lsn(END), 0));
}

#[test]
fn what_follows_a_key_change_stands_where_it_stands_whether_that_table_is_wanted_or_not() {
    const OTHER: u32 = OID + 1;
    let positions = |wanted: bool| {
        let mut assembler = assembler(ReplicaIdentity::Default);
        let table = registered(&COLUMNS, &["id"], ReplicaIdentity::Default);
        assembler.define(OTHER, wanted.then_some(table));
        let moved = Message::Update(Update {
            relation: OTHER,
            old: OldTuple::Key(vec![text("1"), TupleCell::Null, TupleCell::Null]),
            new: row("2", "5", text("x")),
        });
        let all = transaction(&mut assembler, vec![moved, insert(row("7", "1", text("y")))]);
        all.last().map(|seen| seen.position)
    };
    assert_eq!(positions(true), Some(at(2)));
    assert_eq!(positions(false), Some(at(2)));
}

#[test]
fn a_key_change_is_delete_tombstone_create_with_the_other_key_in_a_header() {
    let mut assembler = assembler(ReplicaIdentity::Default);
    let old = OldTuple::Key(vec![text("1"), TupleCell::Null, TupleCell::Null]);
    let all = transaction(&mut assembler, vec![update(old, row("2", "5", TupleCell::Unchanged))]);
    assert_eq!(
        all.iter().map(Seen::op).collect::<Vec<_>>(),
        [Some(Op::Delete), None, Some(Op::Create)]
    );
    assert_eq!(
        all.iter().map(|seen| seen.key.clone().unwrap()).collect::<Vec<_>>(),
        [1, 1, 2].map(Value::from)
    );
    assert_eq!(
        all.iter().map(|seen| seen.position).collect::<Vec<_>>(),
        [at(0), at(0), at(1)]
    );
    assert_eq!(
        all[0].headers[0],
        ("__debezium.newkey".to_owned(), r#"{"id":2}"#.to_owned())
    );
    assert_eq!(all[1].headers[0], all[0].headers[0]);
    assert_eq!(
        all[2].headers[0],
        ("__debezium.oldkey".to_owned(), r#"{"id":1}"#.to_owned())
    );
    assert_eq!(all[2].after("big"), Cell::Unchanged);
}

#[test]
fn an_unchanged_large_value_is_unknown_unless_the_old_row_has_it() {
    let mut partial = assembler(ReplicaIdentity::Default);
    let all = transaction(
        &mut partial,
        vec![update(OldTuple::None, row("1", "2", TupleCell::Unchanged))],
    );
    assert_eq!((all[0].after("big"), all[0].after("small")), (Cell::Unchanged, set(2)));
    let mut full = assembler(ReplicaIdentity::Full);
    let old = OldTuple::Full(row("1", "1", text("large")));
    let all = transaction(&mut full, vec![update(old, row("1", "2", TupleCell::Unchanged))]);
    assert_eq!(
        (all[0].after("big"), all[0].before("big")),
        (set("large"), set("large"))
    );
    assert_eq!((all[0].op(), all[0].before("small")), (Some(Op::Update), set(1)));
}

#[test]
fn a_large_value_without_placeholder_is_named_in_a_header() {
    let mut assembler = Assembler::new(Position::default(), Rules::default());
    let columns = [("id", "int4", -1, true, None), ("n", "_numeric", -1, false, None)];
    assembler.define(OID, Some(registered(&columns, &["id"], ReplicaIdentity::Default)));
    let all = transaction(
        &mut assembler,
        vec![update(OldTuple::None, vec![text("1"), TupleCell::Unchanged])],
    );
    assert_eq!(all[0].after("n"), Cell::Set(Value::Null));
    assert_eq!(
        all[0].header(syncline_schemas::envelope::UNCHANGED_HEADER),
        Some(r#"["n"]"#)
    );
}

#[test]
fn a_key_that_only_the_old_tuple_has_is_taken_from_there() {
    let mut assembler = Assembler::new(Position::default(), Rules::default());
    let columns = [("id", "text", -1, true, None), ("v", "int4", -1, false, None)];
    assembler.define(OID, Some(registered(&columns, &["id"], ReplicaIdentity::Default)));
    let old = OldTuple::Key(vec![text("long key"), TupleCell::Null]);
    let all = transaction(&mut assembler, vec![update(old, vec![TupleCell::Unchanged, text("2")])]);
    assert_eq!(
        (all.len(), all[0].op(), all[0].key.clone()),
        (1, Some(Op::Update), Some(Value::from("long key")))
    );
    assert_eq!(all[0].after("id"), set("long key"));
    assembler.push(Lsn(1), &begin(FINAL + 0x100), 0).unwrap();
    let absent = update(OldTuple::None, vec![TupleCell::Unchanged, text("2")]);
    assert!(matches!(
        assembler.push(Lsn(1), &absent, 0),
        Err(AssembleError::Misfit {
            misfit: Misfit::KeyAbsent { .. },
            ..
        })
    ));
}

#[test]
fn what_was_written_before_is_not_written_again() {
    let messages = || {
        vec![
            insert(row("1", "1", text("a"))),
            insert(row("2", "1", text("b"))),
            insert(row("3", "1", text("c"))),
        ]
    };
    for (stored, expected) in [
        (Position::new(1, Lsn(FINAL), 0), vec![1, 2, 3]),
        (at(0), vec![2, 3]),
        (at(1), vec![3]),
        (at(2), vec![]),
        (Position::new(1, Lsn(END), 0), vec![]),
    ] {
        let mut assembler = Assembler::new(stored, Rules::default());
        assembler.define(OID, Some(registered(&COLUMNS, &["id"], ReplicaIdentity::Default)));
        let all = transaction(&mut assembler, messages());
        let keys: Vec<_> = all.iter().map(|seen| seen.key.clone().unwrap()).collect();
        assert_eq!(
            keys,
            expected.into_iter().map(Value::from).collect::<Vec<Value>>(),
            "after {stored}"
        );
    }
}

#[test]
fn a_commit_record_that_starts_where_the_last_commit_ended_is_later() {
    let mut assembler = assembler(ReplicaIdentity::Default);
    transaction(&mut assembler, vec![insert(row("1", "1", text("a")))]);
    let at_rest = assembler.position();
    let mut again = Assembler::new(at_rest, Rules::default());
    again.define(OID, Some(registered(&COLUMNS, &["id"], ReplicaIdentity::Default)));
    again.push(Lsn(END), &begin(END), 0).unwrap();
    again.push(Lsn(END), &insert(row("2", "1", text("b"))), 0).unwrap();
    assert_eq!(again.records().rows().len(), 1);
    assert!(again.position() > at_rest);
}

#[test]
fn marks_go_with_their_rows_and_the_rest_to_their_own_topic() {
    let mut assembler = assembler(ReplicaIdentity::Default);
    let mut all = Vec::new();
    let mut placed = Vec::new();
    let messages = vec![
        begin(FINAL),
        mark(Some(r#"{"id":1}"#), Act::Update),
        mark(None, Act::Insert),
        mark(Some(r#"{"id":9}"#), Act::Seen),
        mark(Some(r#"{"id":8}"#), Act::Update),
        logical("syncline", "no mark"),
        logical("others", "{}"),
        insert(row("100", "1", text("a"))),
        update(OldTuple::None, row("1", "2", text("b"))),
        update(OldTuple::None, row("1", "3", text("the app's trigger"))),
        commit(FINAL, END),
    ];
    for message in messages {
        assembler.push(Lsn(1), &message, 0).unwrap();
        all.extend(seen(&assembler));
        placed.extend(assembler.records().marks().to_vec());
    }
    let marked: Vec<bool> = all.iter().map(|seen| seen.header("syncline.mark").is_some()).collect();
    assert_eq!(marked, [true, true, false]);
    let positions: Vec<Position> = placed
        .iter()
        .map(|entry| match &entry.record {
            MarkRecord::Placed(placed) => placed.position,
            MarkRecord::Loaded { .. } => panic!("no snapshot here"),
        })
        .collect();
    assert_eq!(positions, [at(2), at(3)]);
    assert_eq!(all[0].position, at(6));
    let ignored = assembler.ignored();
    assert_eq!((ignored.foreign_messages, ignored.broken_marks), (1, 1));
}

#[test]
fn a_truncate_is_a_record_only_if_asked_for() {
    let truncate = || {
        Message::Truncate(Truncate {
            relations: vec![OID, 5],
            cascade: false,
            restart_identity: false,
        })
    };
    for truncates in [false, true] {
        let mut assembler = Assembler::new(
            Position::default(),
            Rules {
                skipped: BTreeSet::from_iter((!truncates).then_some(Operation::Truncate)),
                ..Rules::default()
            },
        );
        assembler.define(OID, Some(registered(&COLUMNS, &["id"], ReplicaIdentity::Default)));
        assembler.define(5, None);
        let all = transaction(&mut assembler, vec![truncate()]);
        assert_eq!(
            all.iter().map(Seen::op).collect::<Vec<_>>(),
            if truncates { vec![Some(Op::Truncate)] } else { vec![] }
        );
        assert!(all.iter().all(|seen| seen.key.is_none()));
    }
}

#[test]
fn a_table_without_key_has_records_without_key() {
    let mut assembler = Assembler::new(Position::default(), Rules::default());
    assembler.define(OID, Some(registered(&COLUMNS, &[], ReplicaIdentity::Full)));
    let full = || OldTuple::Full(row("1", "1", text("a")));
    let all = transaction(
        &mut assembler,
        vec![update(full(), row("2", "1", text("a"))), delete(full())],
    );
    assert_eq!(
        all.iter().map(Seen::op).collect::<Vec<_>>(),
        [Some(Op::Update), Some(Op::Delete), None]
    );
    assert!(all.iter().all(|seen| seen.key.is_none()));
}

#[test]
fn a_value_that_does_not_fit_names_table_column_and_position_but_not_itself() {
    let mut assembler = assembler(ReplicaIdentity::Default);
    assembler.push(Lsn(1), &begin(FINAL), 0).unwrap();
    let error = assembler
        .push(Lsn(1), &insert(row("secret", "1", text("a"))), 0)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("public.t") && error.contains("column id") && error.contains("1:0/1001:0"),
        "{error}"
    );
    assert!(!error.contains("secret"), "{error}");
}

#[test]
fn idle_moves_the_position_between_transactions_only() {
    let mut assembler = assembler(ReplicaIdentity::Default);
    assembler.idle(Lsn(0x500));
    assert_eq!(assembler.position(), Position::new(1, Lsn(0x500), 0));
    assembler.push(Lsn(1), &begin(FINAL), 0).unwrap();
    assembler.idle(Lsn(0x9000));
    assert_eq!(assembler.position(), Position::new(1, Lsn(0x500), 0));
}

#[test]
fn disorder_is_an_error() {
    let mut assembler = assembler(ReplicaIdentity::Default);
    assert!(assembler.push(Lsn(1), &insert(row("1", "1", text("a"))), 0).is_err());
    assert!(assembler.push(Lsn(1), &commit(FINAL, END), 0).is_err());
    assembler.push(Lsn(1), &begin(FINAL), 0).unwrap();
    assert!(assembler.push(Lsn(1), &begin(FINAL), 0).is_err());
}
