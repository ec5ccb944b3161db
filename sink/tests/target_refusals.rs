//! What a target refuses is set aside, what it cannot take now is waited for: against a real PostgreSQL (PG_DSN).

mod common;

use common::db::{Db, World, delivery};
use common::{app, at, customer, knowing, link, number, with, word};
use syncline_runtime::Class;
use syncline_schemas::canonical::{AppWords, Canonical};
use syncline_schemas::value::Value;
use syncline_sink::plan::Verdict;
use syncline_sink::target::{Delivery, Target};

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
    let taken = sink.letters();
    assert_eq!(taken.len(), 1);
    assert_eq!((taken[0].offset, taken[0].value.as_slice()), (46, &b"value 46"[..]));
    assert!(
        taken[0].reason.contains("23514") && taken[0].reason.contains("no_47"),
        "{}",
        taken[0].reason
    );
    assert_eq!(sink.letters(), []);
    // A later record of the key is fine in itself, and must not overtake.
    let report = sink.deliver(&[with(customer("c47", 200), "name", "good"), customer("c48", 201)]);
    assert_eq!((report.parked, report.count(Verdict::Nothing)), (1, 1));
    assert_eq!(
        world
            .db
            .query("SELECT cid, \"offset\", refused_offset FROM syncline.parked"),
        ["c47|100|46"]
    );
    assert_eq!(sink.letters(), []);
    // The cause is gone; one command.
    world.db.exec("ALTER TABLE contacts DROP CONSTRAINT no_47");
    let latest = delivery(100, &with(customer("c47", 200), "name", "good"));
    assert_eq!(sink.target.replay(std::slice::from_ref(&latest)).unwrap().healed, 1);
    assert_eq!(
        world.db.query("SELECT name FROM contacts WHERE email = 'c47@x'"),
        ["good"]
    );
    assert_eq!(sink.target.parked(None).unwrap(), []);
    // Twice is once.
    let before = world.places();
    sink.target.replay(&[latest]).unwrap();
    assert_eq!(world.places(), before);
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
    assert_eq!(sink.target.parked(None).unwrap(), []);
}

/// The app deletes its row, which does not stand, and makes another for the same one before it has the first back.
#[test]
fn a_row_that_cannot_be_made_again_heals_when_the_one_that_the_app_made_is_known() {
    let world = World::contacts();
    world.db.exec("ALTER TABLE contacts ADD UNIQUE (email)");
    let mut sink = world.target(&link());
    assert_eq!(sink.deliver(&[customer("a", 1)]).count(Verdict::Inserted), 1);
    world.db.exec("DELETE FROM contacts");
    world
        .db
        .exec("INSERT INTO contacts (name, email, stock) VALUES ('Ada', 'a@x', 10)");
    let mut remade = knowing(customer("a", 2), "crm", 5);
    remade.apps = vec![AppWords {
        remake: true,
        ..app("crm", 1, Vec::new())
    }];
    assert_eq!(sink.deliver(&[remade]).parked, 1);
    let mut known = knowing(customer("a", 3), "crm", 9);
    known.apps = vec![AppWords {
        made: Some(at(9)),
        ..app(
            "crm",
            2,
            vec![word("name", "Ada", 9), word("email", "a@x", 9), word("stock", 10, 9)],
        )
    }];
    let report = sink.deliver(&[known]);
    assert_eq!(
        (report.healed, report.parked, report.count(Verdict::Updated)),
        (1, 0, 1)
    );
    assert_eq!(world.db.query("SELECT id, name FROM contacts"), ["2|a"]);
    assert_eq!(sink.target.parked(None).unwrap(), []);
}

#[test]
fn a_record_that_cannot_be_read_is_set_aside() {
    let world = World::contacts();
    let mut sink = world.target(&link());
    let mut batch = sink.batch(&[customer("a", 1), customer("b", 2)]);
    batch[0].content = Err("datum: too short".to_owned());
    let report = sink.target.apply(&batch).unwrap();
    assert_eq!((report.parked, report.count(Verdict::Inserted)), (1, 1));
    let taken = sink.letters();
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
    assert_eq!(sink.letters(), []);
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
    assert_eq!(sink.letters(), []);
}

/// Until some session waits for a lock.
fn wait_for_a_waiter(db: &Db) {
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
    let reasons: Vec<String> = sink.letters().into_iter().map(|letter| letter.reason).collect();
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
    let reason = sink.letters().remove(0).reason;
    assert!(reason.contains("22P02") && !reason.contains("secret"), "{reason}");
    // Too long is refused, never cut off.
    let report = sink.deliver(&[with(with(customer("c", 3), "name", "7"), "email", "123456")]);
    assert_eq!(report.parked, 1);
    assert!(sink.letters().remove(0).reason.contains("22001"));
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

/// PostgreSQL quotes the number in its message; an app's trigger may put anything in one of any code.
#[test]
fn no_message_that_quotes_a_value_is_repeated() {
    let world = World::new(
        "CREATE TABLE contacts (id serial PRIMARY KEY, name int, email text, stock numeric); \
         CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN \
             IF NEW.email = 'hunter2' THEN RAISE check_violation USING MESSAGE = 'not ' || NEW.email; END IF; \
             RETURN NEW; END$$; \
         CREATE TRIGGER guard BEFORE INSERT ON contacts FOR EACH ROW EXECUTE FUNCTION guard()",
    );
    let mut sink = world.target(&link());
    let large = with(customer("a", 1), "name", "99999999999");
    let raised = with(with(customer("b", 2), "name", "7"), "email", "hunter2");
    assert_eq!(sink.deliver(&[large, raised]).parked, 2);
    let reasons: Vec<String> = sink.letters().into_iter().map(|letter| letter.reason).collect();
    assert!(
        reasons[0].contains("22003") && !reasons[0].contains("99999999999"),
        "{reasons:?}"
    );
    assert!(
        reasons[1].contains("23514") && !reasons[1].contains("hunter2"),
        "{reasons:?}"
    );
}

/// A key in Confluent's wire format begins with a zero byte, which no text of PostgreSQL can have (F77).
#[test]
fn a_record_with_a_zero_byte_in_its_key_is_set_aside() {
    let world = World::contacts();
    let mut sink = world.target(&link());
    let mut batch = sink.batch(&[customer("a", 1), customer("b", 2)]);
    batch[0].content = Err("datum: too short".to_owned());
    batch[0].key = b"\0\0\0\0\x01a".to_vec();
    let report = sink.target.apply(&batch).unwrap();
    assert_eq!((report.parked, report.count(Verdict::Inserted)), (1, 1));
    assert_eq!(sink.letters()[0].key, batch[0].key);
}

/// The app changes its table while the sink is connected (F97): what it takes now is written, what it would round now is not.
#[test]
fn a_column_that_changed_is_written_as_it_is_now() {
    let world = World::new("CREATE TABLE contacts (id serial PRIMARY KEY, name int, email text, stock numeric(10,2))");
    let mut sink = world.target(&link());
    let customer = |cid: &str, version| with(customer(cid, version), "name", "7");
    let insist = |sink: &mut common::db::Sink, batch: &[Delivery]| {
        let first = sink.target.apply(batch);
        first.or_else(|failure| {
            assert_eq!((failure.code, failure.class), ("TARGET_CHANGED", Class::Transient));
            sink.target.apply(batch)
        })
    };
    sink.deliver(&[customer("a", 1)]);
    world
        .db
        .exec("ALTER TABLE contacts ALTER name TYPE bigint, ALTER stock TYPE numeric(10,4)");
    let batch = sink.batch(&[with(
        with(customer("b", 2), "name", "99999999999"),
        "stock",
        Value::Number(number("1.2345")),
    )]);
    let report = insist(&mut sink, &batch).unwrap();
    assert_eq!((report.parked, report.count(Verdict::Inserted)), (0, 1));
    world.db.exec("ALTER TABLE contacts ALTER stock TYPE numeric(10,2)");
    let batch = sink.batch(&[with(customer("c", 3), "stock", Value::Number(number("1.2345")))]);
    let report = insist(&mut sink, &batch).unwrap();
    assert_eq!(
        (report.parked, report.count(Verdict::Inserted)),
        (1, 0),
        "{:?}",
        world.db.query("TABLE contacts")
    );
}

/// A row that a policy hides from us is not one that the app deleted (F120).
#[test]
fn what_row_security_hides_is_not_taken_for_absent() {
    let world = World::contacts();
    let role = format!("{}_role", world.db.text("SELECT current_database()"));
    world.db.exec(&format!(
        "CREATE ROLE {role} LOGIN; GRANT ALL ON contacts TO {role}; GRANT ALL ON SEQUENCE contacts_id_seq TO {role}; \
         ALTER TABLE contacts ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON contacts USING (own = 'x'); \
         INSERT INTO contacts (name, email, stock, own) VALUES ('a', 'a@x', 10, 'hidden')"
    ));
    let mut owner = world.target(&link());
    owner.deliver(&[customer("z", 1)]);
    world.db.exec(&format!(
        "GRANT ALL ON SCHEMA syncline TO {role}; GRANT ALL ON ALL TABLES IN SCHEMA syncline TO {role}"
    ));
    let mut sink = world.target_as(&link(), &role);
    let mut known = knowing(with(customer("a", 2), "name", "Ada"), "crm", 9);
    known.apps = vec![app(
        "crm",
        1,
        vec![word("name", "a", 9), word("email", "a@x", 9), word("stock", 10, 9)],
    )];
    let batch = sink.batch(&[known]);
    let failure = sink.target.apply(&batch).unwrap_err();
    assert_eq!((failure.code, failure.class), ("TARGET_SCHEMA", Class::Transient));
    assert!(failure.message.contains("row-level security"), "{failure}");
    world.db.exec(&format!("ALTER ROLE {role} BYPASSRLS"));
    assert_eq!(sink.target.apply(&batch).unwrap().count(Verdict::Updated), 1);
    assert_eq!(world.db.query("SELECT name FROM contacts WHERE id = 1"), ["Ada"]);
    world.db.exec(&format!("DROP OWNED BY {role}"));
    drop((sink, owner));
    world.db.exec(&format!("DROP ROLE {role}"));
}
