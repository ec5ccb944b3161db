//! Who may stream: slots of unknown past, two captures of one source, a fenced writer, an idle source.

use std::process::{Command, Stdio};

use syncline_bus::Producer;
use syncline_schemas::codec::{Wire as _, frame_id};
use syncline_schemas::envelope::Op;
use syncline_schemas::topic;
use syncline_schemas::value::Value;

use crate::app::{App, TABLES, log, ops, wait_until};

#[test]
fn a_slot_that_skipped_something_is_refused_until_a_person_decides() {
    let app = App::new("public.a", "exactly_once", TABLES);
    app.catch_up();
    app.sql("INSERT INTO a VALUES (3, 'lost to the log', 3)");
    let slot = format!("syncline_{0}_{0}", app.name);
    app.sql(&format!(
        "SELECT pg_replication_slot_advance('{slot}', pg_current_wal_lsn())"
    ));
    let refused = app.run(&["--until-current"], "");
    let said = log(&refused);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(
        ["SLOT_AHEAD", "--resnapshot", "stands at", "only up to"]
            .iter()
            .all(|part| said.contains(part)),
        "{said}"
    );

    let again = app.run(&["--until-current", "--resnapshot"], "");
    assert!(again.status.success(), "{}", log(&again));
    let three = &app.changes("a")[&Value::from(3)];
    assert_eq!((ops(three), three[0].position.epoch), (vec![Some(Op::Read)], 2));

    app.sql(&format!("SELECT pg_drop_replication_slot('{slot}')"));
    let refused = app.run(&["--until-current"], "");
    assert!(
        refused.status.code() == Some(1) && log(&refused).contains("SLOT_GONE"),
        "{}",
        log(&refused)
    );
}

#[test]
fn a_slot_of_unknown_past_is_refused_or_adopted() {
    let app = App::new("public.a", "exactly_once", TABLES);
    let slot = format!("syncline_{0}_{0}", app.name);
    app.sql(&format!(
        "SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"
    ));
    let refused = app.run(&["--until-current"], "");
    assert!(
        refused.status.code() == Some(1) && log(&refused).contains("SLOT_UNKNOWN"),
        "{}",
        log(&refused)
    );
    app.sql("INSERT INTO a VALUES (3, 'three', 3)");
    let adopted = app.run(&["--until-current", "--adopt-slot"], "");
    // Made before the publication, the slot cannot be read from its start: that is for the person to know. What
    // matters here is that no snapshot was taken.
    let said = log(&adopted);
    assert!(!said.contains("slot made") && !said.contains("SLOT_UNKNOWN"), "{said}");
}

#[test]
fn of_two_captures_one_works_and_the_other_waits() {
    let app = App::new("public.a", "exactly_once", TABLES);
    app.catch_up();
    let first = app.start(Stdio::null());
    app.sql("INSERT INTO a VALUES (1001, 'x', 1)");
    wait_until("the first streams", || {
        app.changes("a").contains_key(&Value::from(1001))
    });
    let mut second = app.start(Stdio::null());
    app.sql("INSERT INTO a VALUES (1002, 'x', 1)");
    wait_until("it still does", || app.changes("a").contains_key(&Value::from(1002)));
    drop(first);
    app.sql("INSERT INTO a VALUES (1003, 'x', 1)");
    wait_until("the second takes over", || {
        app.changes("a").contains_key(&Value::from(1003))
    });
    assert!(second.0.try_wait().unwrap().is_none());
    assert!(
        Command::new("kill")
            .arg(second.0.id().to_string())
            .status()
            .unwrap()
            .success()
    );
    assert!(second.0.wait().unwrap().success());
    assert!(app.changes("a").values().all(|changes| changes.len() == 1));
}

#[test]
fn an_idle_source_moves_its_slot_after_kafka_knows() {
    let app = App::new("public.a", "exactly_once", TABLES);
    app.catch_up();
    app.sql("CREATE TABLE other (id int); INSERT INTO other SELECT generate_series(1, 10000)");
    app.catch_up();
    let row = app.control.one(
        &format!(
            "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = 'syncline_{0}_{0}'",
            app.name
        ),
        &[],
        "reading the slot",
    );
    let confirmed: syncline_schemas::position::Lsn = row.unwrap().get::<_, String>(0).parse().unwrap();
    let progress = app.raw(&topic::progress(&app.name));
    let (id, datum) = frame_id(progress.last().unwrap().value.as_deref().unwrap()).unwrap();
    let progress = syncline_schemas::progress::Progress::decode(&app.schema(id), datum).unwrap();
    assert!(confirmed <= progress.position.lsn, "{confirmed} {}", progress.position);
    assert!(app.dsn.contains(&app.name));
}

#[test]
fn f13_who_is_fenced_goes_on_from_kafka_and_a_second_writer_is_named() {
    let app = App::new("public.a", "exactly_once", TABLES);
    app.catch_up();
    let errors = app.directory.path().join("log");
    let log_file = std::fs::File::create(&errors).unwrap();
    let mut capture = app.start(log_file.into());
    app.sql("INSERT INTO a VALUES (1000, 'x', 1)");
    wait_until("it streams", || app.changes("a").contains_key(&Value::from(1000)));
    for number in 1..=3 {
        let id = format!("syncline-capture-{0}-syncline_{0}_{0}", app.name);
        let thief = Producer::transactional(&app.bus(), &id).unwrap();
        app.sql(&format!("INSERT INTO a VALUES ({}, 'x', 1)", 1000 + number));
        if number < 3 {
            wait_until("it goes on", || {
                app.changes("a").contains_key(&Value::from(1000 + number))
            });
        }
        drop(thief);
    }
    wait_until("it stops", || capture.0.try_wait().unwrap().is_some());
    let said = std::fs::read_to_string(errors).unwrap();
    assert_eq!(capture.0.wait().unwrap().code(), Some(1), "{said}");
    assert!(
        said.contains("FENCED") && said.contains("syncline-capture-cap_"),
        "{said}"
    );
    app.catch_up();
    let a = app.changes("a");
    assert!((1001..=1003).all(|id| a[&Value::from(id)].len() == 1), "each once");
}
