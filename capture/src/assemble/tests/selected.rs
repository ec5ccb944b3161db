//! What lists of columns do to records: left out, masked, made the key.

use super::*;
use crate::form::Fidelity;

fn form(properties: &[(&str, &str)]) -> Form {
    let mut form = Form::default();
    for (property, value) in properties {
        assert!(form.selection.set(property, value).unwrap(), "{property}");
    }
    form
}

/// The records of the messages, and the table's value schema.
fn run(form: &Form, info: &TableInfo, messages: Vec<Message>) -> (Vec<Seen>, Arc<Registered>) {
    let registered = registered_in(form, info);
    let mut assembler = Assembler::new(Position::default(), Rules::default());
    assembler.define(OID, Some(registered.clone()));
    (transaction(&mut assembler, messages), registered)
}

fn deleted() -> Message {
    delete(OldTuple::Key(vec![text("1"), TupleCell::Null, TupleCell::Null]))
}

#[test]
fn a_column_left_out_is_in_no_image_and_no_schema_but_stays_in_the_key() {
    let form = form(&[("column.exclude.list", r"public\.t\.(id|small)")]);
    let info = fixture::info("t", &COLUMNS, &["id"], ReplicaIdentity::Default);
    let (all, registered) = run(&form, &info, vec![insert(row("1", "10", text("x"))), deleted()]);
    let after = all[0].event.as_ref().unwrap().after.as_ref().unwrap();
    assert_eq!(after.keys().collect::<Vec<_>>(), ["big"]);
    let before = all[1].event.as_ref().unwrap().before.as_ref().unwrap();
    assert_eq!(before.keys().collect::<Vec<_>>(), ["big"]);
    assert!(all.iter().all(|seen| seen.key == Some(Value::from(1))));
    assert!(!registered.table.value_schema.contains(r#""name":"small""#));
}

#[test]
fn a_masked_column_is_masked_in_before_and_after_and_its_schema_says_so() {
    let columns = [
        ("id", "text", -1, true, None),
        ("small", "varchar", 4 + 4, false, None),
        ("big", "text", -1, true, None),
    ];
    let form = form(&[
        ("column.mask.with.3.chars", r"public\.t\.big,.*\.id"),
        ("column.mask.hash.v2.SHA-256.with.salt.s", r".*\.small"),
    ]);
    let info = fixture::info("t", &columns, &["id"], ReplicaIdentity::Default);
    let messages = vec![
        insert(row("k", "secret", text("large"))),
        insert(vec![text("l"), TupleCell::Null, text("")]),
        delete(OldTuple::Key(vec![text("k"), TupleCell::Null, TupleCell::Null])),
    ];
    let (all, registered) = run(&form, &info, messages);
    assert_eq!((all[0].after("id"), all[0].after("big")), (set("***"), set("***")));
    assert!(matches!(all[0].after("small"), Cell::Set(Value::Text(digits)) if digits.len() == 4));
    assert_eq!(
        (all[1].after("small"), all[1].after("big")),
        (Cell::Set(Value::Null), set("***"))
    );
    assert_eq!(
        (all[2].before("small"), all[2].before("big")),
        (Cell::Set(Value::Null), set("***"))
    );
    assert_eq!(all[0].key, Some(Value::from("k")));
    let masked = r#"{"name":"big","type":{"type":"string","connect.parameters":{"masked":"true"}}}"#;
    assert!(
        registered.table.value_schema.contains(masked),
        "{}",
        registered.table.value_schema
    );
    assert!(!registered.table.key_schema.as_ref().unwrap().contains("masked"));
}

#[test]
fn a_parameter_stands_behind_those_that_are_there_and_before_the_name() {
    let columns = [
        ("id", "int4", -1, true, None),
        ("j", "jsonb", -1, true, Some("'{}'::jsonb")),
        ("e", "enum:a{,b", -1, false, Some("'b'::mood")),
        ("by", "bytea", -1, false, None),
    ];
    let form = form(&[("column.truncate.to.2.chars", r".*\.(j|e|by)")]);
    let info = fixture::info("t", &columns, &["id"], ReplicaIdentity::Default);
    let (all, registered) = run(
        &form,
        &info,
        vec![insert(vec![text("1"), text("[1]"), text("b"), text(r"\x010203")])],
    );
    let schema = &registered.table.value_schema;
    for expected in [
        r#"{"type":"string","connect.version":1,"connect.parameters":{"truncateLength":"2"},"connect.default":"{}","connect.name":"io.debezium.data.Json"}"#,
        r#""connect.parameters":{"allowed":"a{,b","truncateLength":"2"},"connect.default":"b","connect.name":"io.debezium.data.Enum"}"#,
        r#"{"type":"bytes","connect.parameters":{"truncateLength":"2"}}"#,
    ] {
        assert!(schema.contains(expected), "{expected}\n{schema}");
    }
    assert_eq!(all[0].after("j"), set("[1"));
}

#[test]
fn a_mask_that_a_type_cannot_bear_leaves_the_column_out_unless_debezium_is_imitated() {
    let mut form = form(&[("column.mask.with.3.chars", r".*\.small")]);
    let info = fixture::info("t", &COLUMNS, &["id"], ReplicaIdentity::Default);
    let messages = || vec![insert(row("1", "10", text("x")))];
    let (all, _) = run(&form, &info, messages());
    assert!(
        !all[0]
            .event
            .as_ref()
            .unwrap()
            .after
            .as_ref()
            .unwrap()
            .contains_key("small")
    );
    form.fidelity = Fidelity::Debezium;
    let (all, registered) = run(&form, &info, messages());
    assert_eq!(all[0].after("small"), set(10));
    assert!(
        registered
            .table
            .value_schema
            .contains(r#"{"type":"int","connect.parameters":{"masked":"true"}}"#)
    );
}

#[test]
fn a_chosen_key_may_be_null_and_may_be_where_there_is_none() {
    let form = form(&[("message.key.columns", r"public\.t:small")]);
    let info = fixture::info("t", &COLUMNS, &[], ReplicaIdentity::Full);
    let registered = registered_in(&form, &info);
    assert_eq!(
        registered.table.key_schema.as_deref(),
        Some(concat!(
            r#"{"type":"record","name":"Key","namespace":"shop.public.t","fields":[{"name":"small","type":["null","int"],"#,
            r#""default":null}],"connect.name":"shop.public.t.Key"}"#
        ))
    );
    let mut assembler = Assembler::new(Position::default(), Rules::default());
    assembler.define(OID, Some(registered));
    assembler.push(Lsn(1), &begin(FINAL), 0).unwrap();
    for (cell, key) in [(text("7"), [2, 14].as_slice()), (TupleCell::Null, &[0])] {
        let new = vec![text("1"), cell, text("x")];
        assembler.push(Lsn(1), &insert(new), 0).unwrap();
        let records = assembler.records();
        assert_eq!(&records.slice(&records.rows()[0].key).unwrap()[5..], key);
    }
}

/// As golden output has it: identity by an index, the key being the primary key.
#[test]
fn of_a_key_that_the_log_does_not_have_debezium_makes_zeros_and_we_take_the_index() {
    let columns = [
        ("id", "int4", -1, true, None),
        ("small", "text", -1, true, None),
        ("big", "text", -1, false, None),
    ];
    let mut info = fixture::info("t", &columns, &["id"], ReplicaIdentity::Index);
    info.identity_columns = vec!["small".to_owned()];
    let old = || OldTuple::Key(vec![TupleCell::Null, text("A"), TupleCell::Null]);
    let debezium = Form {
        fidelity: Fidelity::Debezium,
        ..Form::default()
    };
    let (all, _) = run(&debezium, &info, vec![update(old(), row("1", "AA", text("v")))]);
    let keys: Vec<_> = all.iter().map(|seen| seen.key.clone()).collect();
    assert_eq!(keys, [0, 0, 1].map(|id| Some(Value::from(id))));
    assert_eq!((all[0].before("id"), all[0].before("small")), (set(0), set("A")));
    let exact = registered_in(&Form::default(), &info);
    assert_eq!(exact.table.key, [1]);
}

#[test]
fn an_update_that_changes_no_column_of_the_records_is_left_out_if_asked_for_and_keeps_its_place() {
    let form = form(&[("column.exclude.list", r".*\.small")]);
    let info = fixture::info("t", &COLUMNS, &["id"], ReplicaIdentity::Full);
    let rules = Rules {
        unchanged_skipped: true,
        ..Rules::default()
    };
    let mut assembler = Assembler::new(Position::default(), rules);
    assembler.define(OID, Some(registered_in(&form, &info)));
    let full = |small| OldTuple::Full(row("1", small, text("x")));
    let messages = vec![
        update(full("10"), row("1", "11", TupleCell::Unchanged)),
        update(full("11"), row("1", "11", text("y"))),
        // What is not known of the old row may have changed.
        update(OldTuple::None, row("1", "11", text("y"))),
    ];
    let all = transaction(&mut assembler, messages);
    assert_eq!(all.iter().map(Seen::op).collect::<Vec<_>>(), [Some(Op::Update); 2]);
    // The one before has two places, as every update with its old row.
    assert_eq!(all[0].position.ordinal, 2);
    assert_eq!(assembler.ignored().unchanged, 1);
}

#[test]
fn what_the_type_has_and_the_schema_has_not_is_null_and_said_to_be_none() {
    let columns = [
        ("id", "int4", -1, true, None),
        ("small", "numeric", -1, false, None),
        ("big", "numeric", (6 << 16 | 2) + 4, false, Some("'NaN'::numeric")),
    ];
    let info = fixture::info("t", &columns, &["id"], ReplicaIdentity::Default);
    let (all, registered) = run(&Form::default(), &info, vec![insert(row("1", "NaN", text("1.5")))]);
    assert_eq!(
        all[0].header(syncline_schemas::envelope::UNCHANGED_HEADER),
        Some(r#"["small"]"#)
    );
    // A default that no schema can say is none.
    assert!(registered.table.columns[2].default.is_none());
    assert_ne!(all[0].after("big"), Cell::Set(Value::Null));
}
