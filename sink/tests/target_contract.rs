//! What every target promises, against a real PostgreSQL (PG_DSN) and without Kafka.

mod common;

use common::db::{World, partition};
use common::{app, at, copied, customer, knowing, link, record, with, word};
use syncline_runtime::Class;
use syncline_schemas::lens::Expr;
use syncline_schemas::pipeline::{ElementKind, FieldKind, Link};
use syncline_schemas::value::Value;
use syncline_sink::plan::Verdict;
use syncline_sink::target::Target;

#[test]
fn new_entities_get_rows_with_the_apps_own_keys_in_order() {
    let world = World::contacts();
    let mut sink = world.target(&link());
    let report = sink.deliver(&[customer("b", 1), customer("a", 2), customer("c", 3)]);
    assert_eq!(report.count(Verdict::Inserted), 3);
    assert_eq!(
        world
            .db
            .query("SELECT id, name, email, stock, own FROM contacts ORDER BY id"),
        ["1|b|b@x|10|x", "2|a|a@x|10|x", "3|c|c@x|10|x"]
    );
    assert_eq!(
        world.db.text("SELECT row_key FROM syncline.applied WHERE cid = 'a'"),
        r#"{"id":2}"#
    );
    assert_eq!(world.db.text("SELECT next_offset FROM syncline.offsets"), "3");
}

#[test]
fn what_was_delivered_is_not_delivered_again() {
    let world = World::contacts();
    let mut sink = world.target(&link());
    let batch = sink.batch(&[
        customer("a", 1),
        customer("b", 2),
        with(customer("a", 3), "name", "Ada"),
    ]);
    sink.target.apply(&batch).unwrap();
    let before = world.places();
    assert_eq!(sink.target.apply(&batch).unwrap().skipped, 3);
    // All offsets forgotten: the topic is read from its start.
    world.db.exec("DELETE FROM syncline.offsets");
    let mut sink = world.target(&link());
    assert_eq!(sink.next, 0);
    for one in &batch {
        let report = sink.target.apply(std::slice::from_ref(one)).unwrap();
        assert_eq!(report.count(Verdict::Older) + report.count(Verdict::Nothing), 1);
    }
    assert_eq!(world.places(), before);
    assert_eq!(world.db.text("SELECT next_offset FROM syncline.offsets"), "3");
}

#[test]
fn the_last_record_of_a_key_in_a_batch_counts() {
    let world = World::contacts();
    let mut sink = world.target(&link());
    let report = sink.deliver(&[customer("a", 1), with(customer("a", 2), "name", "Ada")]);
    assert_eq!((report.count(Verdict::Inserted), report.skipped), (1, 1));
    assert_eq!(world.db.query("SELECT name FROM contacts"), ["Ada"]);
}

#[test]
fn an_edit_of_the_app_is_left_alone_until_it_is_known() {
    let world = World::contacts();
    let mut sink = world.target(&link());
    sink.deliver(&[customer("a", 1)]);
    world.db.exec("UPDATE contacts SET email = 'edited'");
    let second = with(customer("a", 2), "email", "agreed");
    let report = sink.deliver(&[with(second.clone(), "name", "Ada")]);
    assert_eq!((report.count(Verdict::Updated), report.stale_fields), (1, 1));
    assert_eq!(world.db.query("SELECT name, email FROM contacts"), ["Ada|edited"]);
    let mut known = knowing(with(second, "name", "Ada"), "crm", 9);
    known.apps = vec![app("crm", 1, vec![word("email", "edited", 9)])];
    sink.deliver(&[known]);
    assert_eq!(world.db.query("SELECT name, email FROM contacts"), ["Ada|agreed"]);
}

#[test]
fn counters_are_added_to_under_the_row_lock() {
    let world = World::contacts();
    let mut sink = world.target(&link());
    sink.deliver(&[customer("a", 1)]);
    world.db.exec("UPDATE contacts SET stock = stock - 4");
    sink.deliver(&[with(customer("a", 2), "stock", 13)]);
    assert_eq!(world.db.text("SELECT stock FROM contacts"), "9");
    sink.deliver(&[with(customer("a", 2), "stock", 13)]);
    assert_eq!(world.db.text("SELECT stock FROM contacts"), "9");
}

#[test]
fn a_deleted_entity_takes_its_row_and_comes_back_with_its_key() {
    let world = World::contacts();
    let mut sink = world.target(&link());
    sink.deliver(&[customer("a", 1), customer("b", 2)]);
    let mut deleted = customer("a", 3);
    deleted.deleted = true;
    assert_eq!(sink.deliver(&[deleted.clone()]).count(Verdict::Deleted), 1);
    assert_eq!(world.db.query("SELECT id FROM contacts"), ["2"]);
    assert_eq!(sink.deliver(&[deleted]).count(Verdict::Nothing), 1);
    sink.deliver(&[customer("a", 4)]);
    assert_eq!(
        world.db.query("SELECT id, name FROM contacts ORDER BY id"),
        ["1|a", "2|b"]
    );
}

#[test]
fn whoever_claims_last_writes_alone() {
    let world = World::contacts();
    let mut first = world.target(&link());
    first.deliver(&[customer("a", 1)]);
    let mut second = world.target(&link());
    assert_eq!(second.next, 1);
    let batch = first.batch(&[customer("b", 2)]);
    let failure = first.target.apply(&batch).unwrap_err();
    assert_eq!((failure.code, failure.class), ("FENCED", Class::Transient));
    assert_eq!(world.db.query("SELECT name FROM contacts"), ["a"]);
    assert_eq!(second.deliver(&[customer("b", 2)]).count(Verdict::Inserted), 1);
}

#[test]
fn every_type_reads_back_as_it_was_written() {
    let world = World::new(
        "CREATE TYPE mood AS ENUM ('sad', 'Happy one'); CREATE DOMAIN cents AS numeric(12,2); \
         CREATE TABLE zoo (\"Id \"\"x\" uuid PRIMARY KEY DEFAULT gen_random_uuid(), flag bool, small int2, big int8, \
            real8 float8, money cents, code char(5), word varchar(20), day date, at timestamp, atz timestamptz, \
            clock time, bytes bytea, doc jsonb, mood mood, address inet, tags text[], numbers int[])",
    );
    let values: [(&str, FieldKind, Value); 17] = [
        ("flag", FieldKind::Bool, Value::Bool(true)),
        ("small", FieldKind::Number { scale: Some(0) }, 7.into()),
        ("big", FieldKind::Number { scale: Some(0) }, i64::MAX.into()),
        ("real8", FieldKind::Number { scale: None }, "0.1".parse().unwrap()),
        ("money", FieldKind::Number { scale: Some(2) }, "12.50".parse().unwrap()),
        ("code", FieldKind::Text, "ab   ".into()),
        ("word", FieldKind::Text, "a \"b\" \\ , (c)\n\u{1F600}".into()),
        ("day", FieldKind::Date, "2026-01-02".into()),
        ("at", FieldKind::Timestamp, "2026-01-02T03:04:05.12".into()),
        ("atz", FieldKind::Timestamp, "2026-01-02T03:04:05.123456Z".into()),
        ("clock", FieldKind::Text, "03:04:05".into()),
        ("bytes", FieldKind::Text, "\\x00ff".into()),
        ("doc", FieldKind::Text, "{\"a\": [1, null]}".into()),
        ("mood", FieldKind::Text, "Happy one".into()),
        ("address", FieldKind::Text, "10.0.0.1".into()),
        (
            "tags",
            FieldKind::List(ElementKind::Text),
            Value::List(vec!["a,b".into(), "NULL".into(), "".into()]),
        ),
        (
            "numbers",
            FieldKind::List(ElementKind::Integer),
            Value::List(vec![2.into(), 1.into()]),
        ),
    ];
    let link = Link {
        table: "zoo".to_owned(),
        key: vec!["Id \"x".to_owned()],
        fields: values.iter().map(|(name, kind, _)| copied(name, *kind)).collect(),
        ..link()
    };
    let fields: Vec<(&str, Value)> = values.iter().map(|(name, _, value)| (*name, value.clone())).collect();
    let mut sink = world.target(&link);
    let report = sink.deliver(&[knowing(record("a", &fields), "shop", 1)]);
    assert_eq!(report.count(Verdict::Inserted), 1, "{:?}", sink.letters());
    let before = world.db.query("SELECT xmin, * FROM zoo");
    assert!(
        before[0].contains("|t|7|9223372036854775807|0.1|12.50|ab   |"),
        "{before:?}"
    );
    let report = sink.deliver(&[knowing(record("a", &fields), "shop", 2)]);
    assert_eq!((report.count(Verdict::Nothing), report.stale_fields), (1, 0));
    // And all of it is expected to be there when something else is agreed.
    let mut changed = knowing(record("a", &fields), "shop", 3);
    changed.fields.insert("numbers".to_owned(), Value::Null);
    changed.fields.insert("flag".to_owned(), Value::Bool(false));
    let report = sink.deliver(&[changed]);
    assert_eq!((report.count(Verdict::Updated), report.stale_fields), (1, 0));
    assert_eq!(
        world.db.query("SELECT flag, numbers, tags FROM zoo"),
        ["f|-|{\"a,b\",\"NULL\",\"\"}"]
    );
}

#[test]
fn a_column_with_a_hostile_name_is_a_column() {
    let world = World::new(
        "CREATE TABLE contacts (\"id\"\" OR 1=1 --\" serial PRIMARY KEY, \"name'; DROP TABLE contacts; --\" text)",
    );
    let mut link = Link {
        key: vec!["id\" OR 1=1 --".to_owned()],
        ..link()
    };
    let column = "name'; DROP TABLE contacts; --";
    link.fields.truncate(1);
    link.fields[0].get = Some(Expr::name(column));
    link.fields[0].put = vec![(column.to_owned(), Expr::name("name"))];
    let mut sink = world.target(&link);
    let hostile = "'; DELETE FROM contacts; --";
    sink.deliver(&[customer("a", 1), with(customer("b", 2), "name", hostile)]);
    let mut deleted = customer("a", 3);
    deleted.deleted = true;
    assert_eq!(sink.deliver(&[deleted]).count(Verdict::Deleted), 1);
    assert_eq!(world.db.query("TABLE contacts"), [format!("2|{hostile}")]);
}

#[test]
fn composite_keys_and_identity_columns_work() {
    let world = World::new(
        "CREATE TABLE contacts (region text, id int GENERATED ALWAYS AS IDENTITY, name text, email text, stock numeric, \
            PRIMARY KEY (region, id)); \
         ALTER TABLE contacts ALTER region SET DEFAULT 'eu'",
    );
    let link = Link {
        key: vec!["region".to_owned(), "id".to_owned()],
        ..link()
    };
    let mut sink = world.target(&link);
    sink.deliver(&[customer("a", 1), customer("b", 2)]);
    sink.deliver(&[
        with(customer("a", 3), "name", "Ada"),
        with(customer("b", 4), "email", "new"),
    ]);
    assert_eq!(
        world
            .db
            .query("SELECT region, id, name, email FROM contacts ORDER BY id"),
        ["eu|1|Ada|a@x", "eu|2|b|new"]
    );
    let mut deleted = customer("a", 5);
    deleted.deleted = true;
    sink.deliver(&[deleted]);
    sink.deliver(&[customer("a", 6)]);
    assert_eq!(
        world.db.query("SELECT id, name FROM contacts ORDER BY id"),
        ["1|a", "2|b"]
    );
}

/// Kind of each change in the log of `slot`, with the entity of a mark.
fn log(world: &World) -> Vec<String> {
    world.db.query(
        "SELECT chr(get_byte(data, 0)) || coalesce(substring(encode(data, 'escape') from '\"cid\":\"([^\"]+)\"'), '') \
         FROM pg_logical_slot_peek_binary_changes(current_database() || '_s', NULL, NULL, \
            'proto_version', '1', 'publication_names', 'p', 'messages', 'true')",
    )
}

#[test]
fn marks_stand_before_rows_and_those_of_inserts_in_their_order() {
    let world = World::contacts();
    world.db.exec("CREATE PUBLICATION p FOR TABLE contacts");
    let mut sink = world.target(&link());
    sink.deliver(&[customer("x", 1), customer("y", 2)]);
    world
        .db
        .exec("SELECT pg_create_logical_replication_slot(current_database() || '_s', 'pgoutput')");
    let mut deleted = customer("y", 4);
    deleted.deleted = true;
    sink.deliver(&[
        customer("b", 3),
        with(customer("x", 4), "name", "X"),
        customer("a", 5),
        deleted,
        customer("c", 6),
    ]);
    let log: Vec<String> = log(&world).into_iter().filter(|change| change != "R").collect();
    assert_eq!(log, ["B", "My", "Mx", "Mb", "Ma", "Mc", "D", "U", "I", "I", "I", "C"]);
    assert_eq!(
        world.db.query("SELECT name FROM contacts WHERE id > 2 ORDER BY id"),
        ["b", "a", "c"]
    );
}

#[test]
fn what_was_undone_leaves_no_mark() {
    let world = World::contacts();
    world
        .db
        .exec("ALTER TABLE contacts ADD CHECK (name <> 'bad'); CREATE PUBLICATION p FOR TABLE contacts");
    let mut sink = world.target(&link());
    world
        .db
        .exec("SELECT pg_create_logical_replication_slot(current_database() || '_s', 'pgoutput')");
    sink.deliver(&[customer("a", 1), customer("bad", 2), customer("b", 3)]);
    let log: Vec<String> = log(&world).into_iter().filter(|change| change != "R").collect();
    assert_eq!(log, ["B", "Ma", "I", "Mb", "I", "C"]);
}

#[test]
fn a_decision_that_needs_no_write_is_told_to_the_log_once() {
    let world = World::contacts();
    world.db.exec(
        "CREATE PUBLICATION p FOR TABLE contacts; INSERT INTO contacts (name, email, stock) VALUES ('a', 'a@x', 10)",
    );
    let mut sink = world.target(&link());
    world
        .db
        .exec("SELECT pg_create_logical_replication_slot(current_database() || '_s', 'pgoutput')");
    let mut agreed = knowing(customer("a", 1), "crm", 9);
    let mut said = word("email", "a@x", 9);
    said.unseen.advance("shop", at(1));
    agreed.apps = vec![app("crm", 1, vec![said, word("stock", 10, 9)])];
    assert_eq!(sink.deliver(&[agreed.clone()]).count(Verdict::Seen), 1);
    assert_eq!(sink.deliver(&[agreed]).count(Verdict::Nothing), 1);
    assert_eq!(log(&world), ["B", "Ma", "C"]);
}

#[test]
fn two_targets_in_one_database_keep_their_own_books() {
    let world = World::new(
        "CREATE TABLE contacts (id serial PRIMARY KEY, name text, email text, stock numeric); \
         CREATE TABLE people (LIKE contacts INCLUDING ALL)",
    );
    let other = Link {
        system: "erp".to_owned(),
        table: "people".to_owned(),
        ..link()
    };
    let (mut crm, mut erp) = (world.target(&link()), world.target(&other));
    crm.deliver(&[customer("a", 1)]);
    erp.deliver(&[customer("a", 1)]);
    assert_eq!(
        world
            .db
            .text("SELECT (SELECT count(*) FROM contacts) + (SELECT count(*) FROM people)"),
        "2"
    );
    assert_eq!(world.db.text("SELECT count(*) FROM syncline.applied"), "2");
    let claimed = crm.target.claim(&[partition()]).unwrap();
    assert_eq!(claimed[&partition()], 1);
}

/// A standby took over without the last commits, or a backup was restored: what was lost is applied again (F99).
#[test]
fn a_target_that_went_back_is_not_gone_on_from_where_we_stood() {
    let world = World::contacts();
    let mut sink = world.target(&link());
    sink.deliver(&[customer("a", 1)]);
    world.db.exec("CREATE TABLE kept AS TABLE contacts; CREATE TABLE kept_offsets AS TABLE syncline.offsets; CREATE TABLE kept_applied AS TABLE syncline.applied");
    let lost = sink.batch(&[customer("b", 2)]);
    sink.target.apply(&lost).unwrap();
    world.db.exec(
        "TRUNCATE contacts, syncline.offsets, syncline.applied; INSERT INTO contacts TABLE kept; \
         INSERT INTO syncline.offsets TABLE kept_offsets; INSERT INTO syncline.applied TABLE kept_applied",
    );
    let next = sink.batch(&[customer("c", 3)]);
    let failure = sink.target.apply(&next).unwrap_err();
    assert_eq!((failure.code, failure.class), ("TARGET_WENT_BACK", Class::Transient));
    assert_eq!(sink.target.claim(&[partition()]).unwrap()[&partition()], 1);
    sink.target.apply(&lost).unwrap();
    sink.target.apply(&next).unwrap();
    assert_eq!(world.db.query("SELECT name FROM contacts ORDER BY id"), ["a", "b", "c"]);
}

/// A table beside the standard one, all of whose columns are fields.
fn odd_link(fields: &[(&str, FieldKind)]) -> Link {
    Link {
        table: "odd".to_owned(),
        fields: fields.iter().map(|(name, kind)| copied(name, *kind)).collect(),
        ..link()
    }
}

/// Years beyond 9999 and before our era, and lengths of time, which topics count in microseconds (F98).
#[test]
fn far_dates_and_intervals_are_written_as_they_are_read() {
    let world = World::new(
        "CREATE TABLE odd (id serial PRIMARY KEY, day date, at timestamp, atz timestamptz, span interval, days date[])",
    );
    let link = odd_link(&[
        ("day", FieldKind::Date),
        ("at", FieldKind::Timestamp),
        ("atz", FieldKind::Timestamp),
        ("span", FieldKind::Number { scale: Some(0) }),
        ("days", FieldKind::List(ElementKind::Text)),
    ]);
    let fields: [(&str, Value); 5] = [
        ("day", "-0043-03-15".into()),
        ("at", "+12345-01-01T00:00:00.5".into()),
        ("atz", "-0043-03-15T01:00:00Z".into()),
        ("span", 90_061_000_001.into()),
        ("days", Value::List(vec!["+12345-01-01".into(), "infinity".into()])),
    ];
    let mut sink = world.target(&link);
    sink.deliver(&[knowing(record("a", &fields), "shop", 1)]);
    assert_eq!(sink.letters(), []);
    world.db.exec("SET TimeZone = 'UTC'");
    assert_eq!(
        world.db.query("SELECT day, at, atz, span, days FROM odd"),
        ["0044-03-15 BC|12345-01-01 00:00:00.5|0044-03-15 01:00:00+00 BC|25:01:01.000001|{12345-01-01,infinity}"]
    );
    let report = sink.deliver(&[knowing(record("a", &fields), "shop", 2)]);
    assert_eq!((report.count(Verdict::Nothing), report.stale_fields), (1, 0));
    // The app's own spelling is the same length of time, counted as capture counts it.
    world.db.exec("UPDATE odd SET span = '1 mon 2 days 03:04:05.5'");
    let mut known = knowing(knowing(record("a", &fields), "shop", 2), "crm", 9);
    known.fields.insert("span".to_owned(), 7.into());
    known.apps = vec![app("crm", 1, vec![word("span", 2_813_645_500_000, 9)])];
    assert_eq!(sink.deliver(&[known]).stale_fields, 0);
    assert_eq!(world.db.text("SELECT span FROM odd"), "00:00:00.000007");
}

/// What PostgreSQL would cut or round without a word would come back as the app's own edit and spoil the others (F97).
#[test]
fn what_a_column_would_cut_or_round_is_refused() {
    let world = World::new(
        "CREATE DOMAIN code AS varchar(5); CREATE DOMAIN inner_code AS code; \
         CREATE TABLE odd (id serial PRIMARY KEY, code code, inner_code inner_code, at timestamp(0), share real, ratio float8, \
            prices numeric(10,2)[], local timestamp, instant timestamptz, \
            day date, clock time, zoned timetz)",
    );
    let number = FieldKind::Number { scale: None };
    let link = odd_link(&[
        ("code", FieldKind::Text),
        ("inner_code", FieldKind::Text),
        ("at", FieldKind::Timestamp),
        ("share", number),
        ("ratio", number),
        ("prices", FieldKind::List(ElementKind::Text)),
        ("local", FieldKind::Timestamp),
        ("instant", FieldKind::Timestamp),
        ("day", FieldKind::Text),
        ("clock", FieldKind::Text),
        ("zoned", FieldKind::Text),
    ]);
    let prices = |text: &str| Value::List(vec![text.into()]);
    let cases: [(&str, Value, Value); 11] = [
        ("code", "123456".into(), "12345".into()),
        ("inner_code", "123456".into(), "12345".into()),
        ("at", "2026-01-02T03:04:05.6".into(), "2026-01-02T03:04:05".into()),
        ("share", "0.1234567891".parse().unwrap(), "0.1".parse().unwrap()),
        (
            "ratio",
            "0.12345678901234567891".parse().unwrap(),
            "0.1234567891".parse().unwrap(),
        ),
        ("prices", prices("1.234"), prices("1.2")),
        ("local", "2026-01-02T03:04:05Z".into(), "2026-01-02T03:04:05".into()),
        ("instant", "2026-01-02T03:04:05".into(), "2026-01-02T03:04:05Z".into()),
        ("day", "2026-01-02T03:04:05".into(), "2026-01-02".into()),
        ("clock", "03:04:05Z".into(), "03:04:05".into()),
        ("zoned", "03:04:05".into(), "03:04:05Z".into()),
    ];
    let mut sink = world.target(&link);
    for (at, (field, wrong, right)) in (1..).zip(cases) {
        let report = sink.deliver(&[knowing(
            record(&format!("wrong {field}"), &[(field, wrong)]),
            "shop",
            at,
        )]);
        let held = world
            .db
            .query(&format!("SELECT {field} FROM odd WHERE {field} IS NOT NULL"));
        assert_eq!(report.parked, 1, "{field} holds {held:?}");
        let report = sink.deliver(&[knowing(
            record(&format!("right {field}"), &[(field, right)]),
            "shop",
            at,
        )]);
        assert_eq!(report.count(Verdict::Inserted), 1, "{field}");
    }
}

/// An agreed field may be a part of the app's key; the row is found again when we have changed it.
#[test]
fn a_row_whose_key_we_changed_is_written_on() {
    let world = World::new("CREATE TABLE contacts (name text PRIMARY KEY, email text, stock numeric)");
    let link = Link {
        key: vec!["name".to_owned()],
        ..link()
    };
    let mut sink = world.target(&link);
    sink.deliver(&[customer("a", 1)]);
    let moved = with(customer("a", 2), "name", "b");
    assert_eq!(sink.deliver(&[moved]).count(Verdict::Updated), 1);
    let mut edited = with(with(customer("a", 3), "name", "b"), "email", "new");
    assert_eq!(sink.deliver(&[edited.clone()]).count(Verdict::Updated), 1);
    assert_eq!(world.db.query("TABLE contacts"), ["b|new|10"]);
    edited.deleted = true;
    edited.vector.advance("shop", at(4));
    assert_eq!(sink.deliver(&[edited]).count(Verdict::Deleted), 1);
}
