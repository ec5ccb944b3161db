//! What goes beside the rows, and which changes become rows at all.

use apache_avro::reader::datum::GenericDatumReader;
use serde_json::{Value as Json, json};

use super::*;
use crate::companions::Companion;
use crate::form::Fidelity;

fn decoded(schema: &str, mut datum: &[u8]) -> Json {
    let schema = apache_avro::Schema::parse_str(schema).unwrap();
    let reader = GenericDatumReader::builder(&schema).build().unwrap();
    let value = reader.read_value(&mut datum).unwrap();
    assert!(datum.is_empty());
    Json::try_from(value).unwrap()
}

/// What is beside the rows of the last message: key and value of each.
fn notes(assembler: &Assembler, form: &Form) -> Vec<(Json, Json)> {
    let records = assembler.records();
    let decode = |companion: Companion, note: &crate::records::Note| {
        let slice = |range: &std::ops::Range<usize>| records.slice(&Some(range.clone())).unwrap();
        (
            decoded(companion.key_schema(), slice(&note.key)),
            decoded(&companion.value_schema(form), slice(&note.value)),
        )
    };
    records
        .notes()
        .iter()
        .map(|note| decode(note.companion, note))
        .collect()
}

fn telling(fidelity: Fidelity) -> Form {
    Form {
        transactions: true,
        fidelity,
        ..Form::default()
    }
}

fn after(stored: Position, form: &Form) -> Assembler {
    let mut assembler = Assembler::new(stored, Rules::of(form, "shop", "db"));
    let info = fixture::info("t", &COLUMNS, &["id"], ReplicaIdentity::Default);
    assembler.define(OID, Some(registered_in(form, &info)));
    assembler
}

/// Rows and notes of one transaction, message by message from LSN 900 on.
fn run(assembler: &mut Assembler, form: &Form, messages: Vec<Message>) -> (Vec<Json>, Vec<(Json, Json)>) {
    let messages = std::iter::once(begin(FINAL))
        .chain(messages)
        .chain(std::iter::once(commit(FINAL, END)));
    let (mut blocks, mut told) = (Vec::new(), Vec::new());
    for (index, message) in messages.enumerate() {
        assembler
            .push(Lsn(900 + index as u64), &message, 9_000_000_000)
            .unwrap();
        let records = assembler.records();
        for entry in records.rows() {
            let value = records.slice(&entry.value);
            let block =
                value.map(|value| decoded(&entry.registered.table.value_schema, &value[5..])["transaction"].take());
            blocks.push(block.unwrap_or_default());
        }
        told.extend(notes(assembler, form));
    }
    (blocks, told)
}

fn moved() -> Message {
    let old = OldTuple::Key(vec![text("1"), TupleCell::Null, TupleCell::Null]);
    update(old, row("2", "5", text("x")))
}

fn begun(id: &str) -> (Json, Json) {
    let value = json!({"status": "BEGIN", "id": id, "event_count": null, "data_collections": null, "ts_ms": 5000});
    (json!({"id": id}), value)
}

fn ended(id: &str, count: u64) -> (Json, Json) {
    let collections = match count {
        0 => json!([]),
        _ => json!([{"data_collection": "public.t", "event_count": count}]),
    };
    let value =
        json!({"status": "END", "id": id, "event_count": count, "data_collections": collections, "ts_ms": 5000});
    (json!({"id": id}), value)
}

fn block(id: &str, order: u64) -> Json {
    json!({"id": id, "total_order": order, "data_collection_order": order})
}

#[test]
fn a_transaction_is_told_with_its_events_in_order_and_a_key_change_counts_twice() {
    let form = telling(Fidelity::Exact);
    let mut assembler = after(Position::default(), &form);
    let (blocks, told) = run(&mut assembler, &form, vec![insert(row("1", "1", text("a"))), moved()]);
    let place = |order| block("77:900", order);
    assert_eq!(blocks, [place(1), place(2), Json::Null, place(3)]);
    assert_eq!(told, [begun("77:900"), ended("77:900", 3)]);
}

#[test]
fn debezium_names_a_transaction_by_another_lsn_each_time() {
    let form = telling(Fidelity::Debezium);
    let mut assembler = after(Position::default(), &form);
    let (blocks, told) = run(&mut assembler, &form, vec![insert(row("1", "1", text("a")))]);
    assert_eq!(blocks, [block("77:901", 1)]);
    assert_eq!(told, [begun("77:900"), ended("77:902", 1)]);
}

/// Wherever a transaction was cut, what is written after it goes on where it was.
#[test]
fn a_transaction_that_is_read_again_is_told_once() {
    let form = telling(Fidelity::Exact);
    let messages = || vec![insert(row("1", "1", text("a"))), insert(row("2", "1", text("b")))];
    for (stored, orders, expected) in [
        (
            Position::new(1, Lsn(FINAL), 0),
            vec![1, 2],
            vec![begun("77:900"), ended("77:900", 2)],
        ),
        (at(0), vec![2], vec![ended("77:900", 2)]),
        (at(1), vec![], vec![ended("77:900", 2)]),
        (Position::new(1, Lsn(END), 0), vec![], vec![]),
    ] {
        let mut assembler = after(stored, &form);
        let (blocks, told) = run(&mut assembler, &form, messages());
        let expected_blocks: Vec<Json> = orders.into_iter().map(|order| block("77:900", order)).collect();
        assert_eq!((blocks, told), (expected_blocks, expected), "after {stored}");
    }
}

#[test]
fn a_transaction_without_events_is_told_too() {
    let form = telling(Fidelity::Exact);
    let mut assembler = after(Position::default(), &form);
    assembler.define(5, None);
    let other = Message::Insert(Insert {
        relation: 5,
        new: row("1", "1", text("a")),
    });
    let (_, told) = run(&mut assembler, &form, vec![other]);
    assert_eq!(told, [begun("77:900"), ended("77:900", 0)]);
}

fn message(transactional: bool, prefix: &str) -> Message {
    Message::Logical(LogicalMessage {
        transactional,
        lsn: Lsn(1),
        prefix: Bytes::copy_from_slice(prefix.as_bytes()),
        content: Bytes::from_static(b"hi"),
    })
}

#[test]
fn an_apps_message_becomes_a_record_and_ours_does_not() {
    let mut form = telling(Fidelity::Exact);
    form.selection.set("message.prefix.exclude.list", "no.*").unwrap();
    let mut assembler = after(Position::default(), &form);
    let messages = ["app", "nobody", "syncline.watermark"].map(|prefix| message(true, prefix));
    let (_, told) = run(&mut assembler, &form, messages.to_vec());
    let (key, value) = &told[1];
    assert_eq!(key, &json!({"prefix": "app"}));
    assert_eq!((&value["op"], &value["ts_ms"]), (&json!("m"), &json!(9000)));
    assert_eq!(value["message"], json!({"prefix": "app", "content": [104, 105]}));
    assert_eq!(value["transaction"], block("77:900", 1));
    assert_eq!(
        (&value["source"]["txId"], &value["source"]["table"]),
        (&json!(77), &json!(""))
    );
    assert_eq!((told.len(), assembler.ignored().foreign_messages), (3, 2));
}

#[test]
fn a_message_outside_any_transaction_is_written_once() {
    let form = telling(Fidelity::Exact);
    let mut assembler = after(Position::new(1, Lsn(100), 0), &form);
    for (lsn, expected) in [(90, 0), (100, 1), (200, 1)] {
        let step = assembler.push(Lsn(lsn), &message(false, "app"), 9_000_000_000).unwrap();
        assert_eq!(
            (step, notes(&assembler, &form).len()),
            (Step::AtRest, expected),
            "at {lsn}"
        );
    }
    let (_, value) = notes(&assembler, &form).remove(0);
    assert_eq!(
        (&value["transaction"], &value["source"]["txId"]),
        (&Json::Null, &Json::Null)
    );
    assert_eq!(value["source"]["sequence"], json!(r#"["200","200"]"#));
    let mut again = after(assembler.position(), &form);
    again.push(Lsn(200), &message(false, "app"), 0).unwrap();
    assert!(again.records().is_empty());
}

#[test]
fn the_sequence_names_the_commit_before_also_when_it_lies_within_this_transaction() {
    let form = Form::default();
    let mut assembler = after(Position::default(), &form);
    let sequence = |assembler: &Assembler| {
        let records = assembler.records();
        let entry = &records.rows()[0];
        decoded(
            &entry.registered.table.value_schema,
            &records.slice(&entry.value).unwrap()[5..],
        )["source"]["sequence"]
            .take()
    };
    let change = |id| insert(row(id, "1", text("a")));
    assembler.push(Lsn(10), &begin(30), 0).unwrap();
    assembler.push(Lsn(11), &change("1"), 0).unwrap();
    assert_eq!(sequence(&assembler), json!(r#"[null,"11"]"#));
    assembler.push(Lsn(35), &commit(30, 35), 0).unwrap();
    // Began before that commit, and committed after it.
    assembler.push(Lsn(20), &begin(40), 0).unwrap();
    assembler.push(Lsn(20), &change("2"), 0).unwrap();
    assert_eq!(sequence(&assembler), json!(r#"["35","20"]"#));
}

#[test]
fn skipped_operations_become_no_record_and_take_their_positions_along() {
    let deleted = || delete(OldTuple::Key(vec![text("3"), TupleCell::Null, TupleCell::Null]));
    let plain = || update(OldTuple::None, row("1", "2", text("a")));
    // A key change is a delete and an insert.
    for (skipped, expected, number) in [
        (
            Operation::Create,
            vec![Some(Op::Update), Some(Op::Delete), None, Some(Op::Delete), None],
            2,
        ),
        (
            Operation::Update,
            vec![
                Some(Op::Create),
                Some(Op::Delete),
                None,
                Some(Op::Create),
                Some(Op::Delete),
                None,
            ],
            1,
        ),
        (
            Operation::Delete,
            vec![Some(Op::Create), Some(Op::Update), Some(Op::Create)],
            2,
        ),
    ] {
        let form = Form {
            skipped: BTreeSet::from([skipped]),
            ..Form::default()
        };
        let mut assembler = after(Position::default(), &form);
        let all = transaction(
            &mut assembler,
            vec![insert(row("1", "1", text("a"))), plain(), moved(), deleted()],
        );
        assert_eq!(
            all.iter().map(Seen::op).collect::<Vec<_>>(),
            expected,
            "without {skipped:?}"
        );
        if skipped != Operation::Delete {
            assert_eq!(all.last().unwrap().position.ordinal, 4, "without {skipped:?}");
        }
        assert_eq!(assembler.ignored().skipped, number);
    }
}

#[test]
fn tombstones_are_left_out_if_not_wanted() {
    let form = Form {
        tombstones: false,
        ..Form::default()
    };
    let mut assembler = after(Position::default(), &form);
    let all = transaction(&mut assembler, vec![moved()]);
    assert_eq!(
        all.iter().map(Seen::op).collect::<Vec<_>>(),
        [Some(Op::Delete), Some(Op::Create)]
    );
}
