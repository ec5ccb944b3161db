//! What every target promises, against a real PostgreSQL (PG_DSN) and without Kafka.

mod common;

use common::db::{Sink, World, delivery, partition};
use common::{app, at, copied, knowing, link, record, word};
use syncline_runtime::Class;
use syncline_schemas::canonical::Canonical;
use syncline_schemas::lens::Expr;
use syncline_schemas::pipeline::{ElementKind, FieldKind, Link};
use syncline_schemas::value::Value;
use syncline_sink::plan::Verdict;
use syncline_sink::target::{DeadLetter, Target};

/// A customer nobody in the crm has heard of.
fn customer(cid: &str, version: u64) -> Canonical {
    let fields = [
        ("name", cid.into()),
        ("email", format!("{cid}@x").as_str().into()),
        ("stock", 10.into()),
    ];
    knowing(record(cid, &fields), "shop", version)
}

fn with(mut record: Canonical, field: &str, value: impl Into<Value>) -> Canonical {
    record.fields.insert(field.to_owned(), value.into());
    record
}

/// Where every row is: changes with every write, even of equal values.
fn places(world: &World) -> Vec<String> {
    world.db.query("SELECT xmin, ctid, * FROM contacts ORDER BY id")
}

fn letters(sink: &mut Sink) -> Vec<DeadLetter> {
    let mut taken = Vec::new();
    sink.target
        .dead_letters(&mut |letters| {
            taken.extend_from_slice(letters);
            Ok(())
        })
        .unwrap();
    taken
}

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
    let before = places(&world);
    assert_eq!(sink.target.apply(&batch).unwrap().skipped, 3);
    // All offsets forgotten: the topic is read from its start.
    world.db.exec("DELETE FROM syncline.offsets");
    let mut sink = world.target(&link());
    assert_eq!(sink.next, 0);
    for one in &batch {
        let report = sink.target.apply(std::slice::from_ref(one)).unwrap();
        assert_eq!(report.count(Verdict::Older) + report.count(Verdict::Nothing), 1);
    }
    assert_eq!(places(&world), before);
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
fn one_bad_record_of_a_hundred_is_set_aside_and_its_key_waits_behind_it() {
    let world = World::contacts();
    world
        .db
        .exec("ALTER TABLE contacts ADD CONSTRAINT no_47 CHECK (name <> 'c47')");
    let mut sink = world.target(&link());
    let records: Vec<Canonical> = (1..=100).map(|n| customer(&format!("c{n}"), n)).collect();
    let report = sink.deliver(&records);
    assert_eq!((report.count(Verdict::Inserted), report.parked), (99, 1));
    assert_eq!(
        world
            .db
            .query("SELECT count(*), count(*) FILTER (WHERE name = 'c47') FROM contacts"),
        ["99|0"]
    );
    assert_eq!(world.db.text("SELECT next_offset FROM syncline.offsets"), "100");
    let taken = letters(&mut sink);
    assert_eq!(taken.len(), 1);
    assert_eq!((taken[0].offset, taken[0].value.as_slice()), (46, &b"value 46"[..]));
    assert!(
        taken[0].reason.contains("23514") && taken[0].reason.contains("no_47"),
        "{}",
        taken[0].reason
    );
    assert_eq!(letters(&mut sink), []);
    // A later record of the key is fine in itself, and must not overtake.
    let report = sink.deliver(&[with(customer("c47", 200), "name", "good"), customer("c48", 201)]);
    assert_eq!((report.parked, report.count(Verdict::Nothing)), (1, 1));
    assert_eq!(
        world
            .db
            .query("SELECT cid, \"offset\", refused_offset FROM syncline.parked"),
        ["c47|100|46"]
    );
    assert_eq!(letters(&mut sink), []);
    // The cause is gone; one command.
    world.db.exec("ALTER TABLE contacts DROP CONSTRAINT no_47");
    let latest = delivery(100, &with(customer("c47", 200), "name", "good"));
    assert_eq!(sink.target.replay(&[latest.clone()]).unwrap().healed, 1);
    assert_eq!(
        world.db.query("SELECT name FROM contacts WHERE email = 'c47@x'"),
        ["good"]
    );
    assert_eq!(sink.target.parked().unwrap(), []);
    // Twice is once.
    let before = places(&world);
    sink.target.replay(&[latest]).unwrap();
    assert_eq!(places(&world), before);
}

#[test]
fn an_insert_that_met_the_apps_own_row_heals_when_that_row_is_known() {
    let world = World::contacts();
    world.db.exec("ALTER TABLE contacts ADD UNIQUE (email)");
    world
        .db
        .exec("INSERT INTO contacts (name, email, stock) VALUES ('Ada', 'a@x', 10)");
    let mut sink = world.target(&link());
    let report = sink.deliver(&[customer("a", 1), customer("b", 2)]);
    assert_eq!((report.parked, report.count(Verdict::Inserted)), (1, 1));
    // Still unknown: waits.
    assert_eq!(sink.deliver(&[customer("a", 3)]).parked, 1);
    let mut known = knowing(customer("a", 4), "crm", 9);
    known.apps = vec![app(
        "crm",
        1,
        vec![word("name", "Ada", 9), word("email", "a@x", 9), word("stock", 10, 9)],
    )];
    let report = sink.deliver(&[known]);
    assert_eq!(
        (report.healed, report.parked, report.count(Verdict::Updated)),
        (1, 0, 1)
    );
    assert_eq!(
        world.db.query("SELECT id, name FROM contacts WHERE email = 'a@x'"),
        ["1|a"]
    );
    assert_eq!(sink.target.parked().unwrap(), []);
}

#[test]
fn a_record_that_cannot_be_read_is_set_aside() {
    let world = World::contacts();
    let mut sink = world.target(&link());
    let mut batch = sink.batch(&[customer("a", 1), customer("b", 2)]);
    batch[0].content = Err("datum: too short".to_owned());
    let report = sink.target.apply(&batch).unwrap();
    assert_eq!((report.parked, report.count(Verdict::Inserted)), (1, 1));
    let taken = letters(&mut sink);
    assert_eq!(
        (taken[0].reason.as_str(), taken[0].key.as_slice()),
        ("datum: too short", &b"a"[..])
    );
}

#[test]
fn a_row_locked_too_long_is_waited_for_and_not_set_aside() {
    let world = World::contacts();
    let mut sink = world.target(&link());
    sink.deliver(&[customer("a", 1), customer("b", 2)]);
    let other = world.connect();
    other.exec("BEGIN; UPDATE contacts SET own = 'y' WHERE id = 2");
    let batch = sink.batch(&[with(customer("a", 3), "name", "A"), with(customer("b", 4), "name", "B")]);
    let failure = sink.target.apply(&batch).unwrap_err();
    assert_eq!(failure.class, Class::Transient);
    assert!(failure.message.contains("55P03"), "{failure}");
    assert_eq!(world.db.query("SELECT name FROM contacts ORDER BY id"), ["a", "b"]);
    other.exec("COMMIT");
    assert_eq!(sink.target.apply(&batch).unwrap().count(Verdict::Updated), 2);
    assert_eq!(letters(&mut sink), []);
}

#[test]
fn a_deadlock_undoes_the_whole_batch_and_passes() {
    let world = World::contacts();
    let mut sink = world.target(&link());
    sink.deliver(&[customer("a", 1), customer("b", 2)]);
    // While the sink writes row 1, the app's trigger makes it wait for a lock whose holder waits for row 1.
    world.db.exec(
        "CREATE TABLE gate (id int PRIMARY KEY); INSERT INTO gate VALUES (1); \
         CREATE FUNCTION pass() RETURNS trigger LANGUAGE plpgsql AS \
         $$BEGIN PERFORM FROM gate WHERE id = 1 FOR UPDATE; RETURN NEW; END$$; \
         CREATE TRIGGER pass BEFORE UPDATE ON contacts FOR EACH ROW EXECUTE FUNCTION pass()",
    );
    let (one, two) = (with(customer("a", 3), "name", "A"), with(customer("b", 4), "name", "B"));
    let batch = sink.batch(&[one, two]);
    let other = world.connect();
    // The other session's own detection is far later, so the sink is the one that is told.
    other.exec("SET deadlock_timeout = '30s'; BEGIN; SELECT FROM gate WHERE id = 1 FOR UPDATE");
    let waiting = std::thread::spawn(move || {
        wait_for_a_waiter(&other);
        other.exec("DELETE FROM contacts WHERE id = 99; SELECT FROM contacts WHERE id = 1 FOR UPDATE; COMMIT");
    });
    let failure = sink.target.apply(&batch).unwrap_err();
    assert!(failure.message.contains("40P01"), "{failure}");
    assert_eq!(failure.class, Class::Transient);
    waiting.join().unwrap();
    assert_eq!(sink.target.apply(&batch).unwrap().count(Verdict::Updated), 2);
    assert_eq!(letters(&mut sink), []);
}

/// Until some session waits for a lock.
fn wait_for_a_waiter(db: &common::db::Db) {
    while db
        .text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()")
        == "0"
    {
        db.exec("SELECT pg_stat_clear_snapshot(); SELECT pg_sleep(0.01)");
    }
}

#[test]
fn a_lost_connection_loses_nothing() {
    let world = World::contacts();
    let mut sink = world.target(&link());
    sink.deliver(&[customer("a", 1)]);
    world.db.exec("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name LIKE 'syncline-sink%' AND datname = current_database()");
    let batch = sink.batch(&[customer("b", 2)]);
    let applied = sink.target.apply(&batch).or_else(|failure| {
        assert_eq!(failure.class, Class::Transient);
        sink.target.apply(&batch)
    });
    assert_eq!(applied.unwrap().count(Verdict::Inserted), 1);
    assert_eq!(world.db.text("SELECT count(*) FROM contacts"), "2");
}

#[test]
fn a_missing_column_stops_the_target_and_not_the_records() {
    let world = World::contacts();
    let mut sink = world.target(&link());
    world.db.exec("ALTER TABLE contacts RENAME email TO mail");
    let batch = sink.batch(&[customer("a", 1)]);
    for _ in 0..2 {
        let failure = sink.target.apply(&batch).unwrap_err();
        assert_eq!((failure.code, failure.class), ("TARGET_SCHEMA", Class::Transient));
    }
    world.db.exec("ALTER TABLE contacts RENAME mail TO email");
    assert_eq!(sink.target.apply(&batch).unwrap().count(Verdict::Inserted), 1);
}

#[test]
fn what_the_apps_triggers_refuse_or_swallow_is_set_aside_without_a_value_in_the_reason() {
    let world = World::contacts();
    world.db.exec(
        "CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN \
             IF NEW.name = 'loud' THEN RAISE EXCEPTION 'not this one: %', NEW.email; END IF; \
             IF NEW.name = 'quiet' THEN RETURN NULL; END IF; RETURN NEW; END$$; \
         CREATE TRIGGER guard BEFORE INSERT ON contacts FOR EACH ROW EXECUTE FUNCTION guard()",
    );
    let mut sink = world.target(&link());
    let report = sink.deliver(&[
        customer("loud", 1),
        customer("a", 2),
        customer("quiet", 3),
        customer("b", 4),
    ]);
    assert_eq!((report.parked, report.count(Verdict::Inserted)), (2, 2));
    let reasons: Vec<String> = letters(&mut sink).into_iter().map(|letter| letter.reason).collect();
    assert!(
        reasons[0].contains("P0001") && !reasons[0].contains("loud@x"),
        "{reasons:?}"
    );
    assert!(reasons[1].contains("ROW_NOT_WRITTEN"), "{reasons:?}");
}

#[test]
fn a_value_that_the_type_refuses_is_not_repeated_in_the_reason() {
    let world = World::new("CREATE TABLE contacts (id serial PRIMARY KEY, name int, email varchar(5), stock numeric)");
    let mut sink = world.target(&link());
    let report = sink.deliver(&[customer("secret", 1), with(customer("b", 2), "name", "7")]);
    assert_eq!(report.parked, 1);
    let reason = letters(&mut sink).remove(0).reason;
    assert!(reason.contains("22P02") && !reason.contains("secret"), "{reason}");
    // Too long is refused, never cut off.
    let report = sink.deliver(&[with(with(customer("c", 3), "name", "7"), "email", "123456")]);
    assert_eq!(report.parked, 1);
    assert!(letters(&mut sink).remove(0).reason.contains("22001"));
}

#[test]
fn rows_that_hand_a_unique_value_on_all_get_there() {
    let world = World::contacts();
    world.db.exec("ALTER TABLE contacts ADD UNIQUE (email)");
    let mut sink = world.target(&link());
    sink.deliver(&[customer("a", 1), customer("b", 2), customer("c", 3)]);
    // a takes b's address, b takes c's, c a new one.
    let report = sink.deliver(&[
        with(customer("a", 4), "email", "b@x"),
        with(customer("b", 5), "email", "c@x"),
        with(customer("c", 6), "email", "d@x"),
    ]);
    assert_eq!((report.parked, report.count(Verdict::Updated)), (0, 3));
    assert_eq!(
        world.db.query("SELECT email FROM contacts ORDER BY id"),
        ["b@x", "c@x", "d@x"]
    );
}

#[test]
fn rows_that_swap_a_deferrable_unique_value_get_there() {
    let world = World::contacts();
    world.db.exec("ALTER TABLE contacts ADD UNIQUE (email) DEFERRABLE");
    let mut sink = world.target(&link());
    sink.deliver(&[customer("a", 1), customer("b", 2)]);
    let swapped = [
        with(customer("a", 3), "email", "b@x"),
        with(customer("b", 4), "email", "a@x"),
    ];
    assert_eq!(sink.deliver(&swapped).parked, 0);
    assert_eq!(world.db.query("SELECT email FROM contacts ORDER BY id"), ["b@x", "a@x"]);
}

#[test]
fn a_constraint_deferred_to_commit_refuses_its_record_alone() {
    let world = World::contacts();
    world.db.exec(
        "CREATE TABLE parents (name text PRIMARY KEY); INSERT INTO parents VALUES ('a'), ('b'); \
         ALTER TABLE contacts ADD FOREIGN KEY (name) REFERENCES parents DEFERRABLE INITIALLY DEFERRED",
    );
    let mut sink = world.target(&link());
    let report = sink.deliver(&[customer("a", 1), customer("orphan", 2), customer("b", 3)]);
    assert_eq!((report.parked, report.count(Verdict::Inserted)), (1, 2));
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
    assert_eq!(report.count(Verdict::Inserted), 1, "{:?}", letters(&mut sink));
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
