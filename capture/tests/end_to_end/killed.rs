//! Killed anywhere, each change is in Kafka once.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use syncline_capture::postgres::control::Control;
use syncline_capture::postgres::dsn::Dsn;
use syncline_schemas::envelope::Op;
use syncline_schemas::lens::Cell;
use syncline_schemas::position::Position;
use syncline_schemas::value::Value;

use crate::app::{App, Change, TABLES, log, set};

/// Every key of `a` has the versions 1, 2, 3 .. in this order, each once.
fn check_versions(app: &App, rounds: i64, keys: i64) {
    let a = app.changes("a");
    for key in 1..=keys {
        let versions: Vec<Cell> = a[&Value::from(1000 + key)]
            .iter()
            .map(|change| change.after("n"))
            .collect();
        let expected: Vec<Cell> = (1..=rounds).map(set).collect();
        assert_eq!(versions, expected, "key {key}");
    }
    let positions: Vec<Position> = a.values().flatten().map(|change| change.position).collect();
    let distinct: BTreeSet<&Position> = positions.iter().collect();
    assert_eq!(distinct.len(), positions.len(), "positions are unique");
}

const KEYS: i64 = 5;

fn round(app: &App, number: i64) {
    if number == 1 {
        app.sql(&format!(
            "INSERT INTO a SELECT 1000 + i, 'x', 1 FROM generate_series(1, {KEYS}) i"
        ));
    } else {
        app.sql("BEGIN; UPDATE a SET n = n + 1 WHERE id > 1000; COMMIT");
    }
}

#[test]
fn killed_at_each_point_each_change_is_in_kafka_once() {
    let app = App::new("public.a", "exactly_once", TABLES);
    app.catch_up();
    let points = [
        "capture.in_init=kill@1",
        "capture.reading_progress=kill@1",
        "capture.after_begin=kill@1",
        "capture.mid_produce=kill@3",
        "capture.after_progress=kill@1",
        "capture.before_commit=kill@1",
        "capture.after_commit=kill@1",
        "capture.after_confirm=kill@1",
        "capture.at_shutdown=kill@1",
        "capture.mid_produce=error@2",
        "capture.before_commit=error@1",
    ];
    let mut number = 0;
    for point in points {
        number += 1;
        round(&app, number);
        let output = app.run(&["--until-current"], point);
        assert!(
            output.status.success() == point.contains("=error"),
            "{point}: {}",
            log(&output)
        );
    }
    app.catch_up();
    check_versions(&app, number, KEYS);
}

#[test]
fn a_snapshot_that_is_killed_goes_on_after_its_last_chunk() {
    let sql = "CREATE TABLE a (id int PRIMARY KEY, v text, n numeric(10,2));
               INSERT INTO a SELECT i, 'v', 1 FROM generate_series(1, 50000) i";
    let app = App::new("public.a", "exactly_once", sql);
    for point in [
        "capture.in_snapshot_chunk=kill@10",
        "capture.in_snapshot_chunk=kill@30000",
        "capture.after_commit=kill@1",
    ] {
        let output = app.run(&["--until-current"], point);
        assert!(!output.status.success(), "{point}: {}", log(&output));
        // Between the attempts the app works on.
        app.sql("UPDATE a SET n = n + 1 WHERE id = 1");
    }
    app.catch_up();
    let a = app.changes("a");
    assert_eq!(a.len(), 50_000);
    let read = |changes: &Vec<Change>| changes.iter().filter(|change| change.op() == Some(Op::Read)).count();
    let wrong: Vec<_> = a
        .iter()
        .filter(|(_, changes)| read(changes) != 1)
        .map(|(key, _)| key)
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    let newest = a[&Value::from(1)].iter().max_by_key(|change| change.position).unwrap();
    assert_eq!(newest.after("n"), set(4));
}

#[test]
fn a_transaction_larger_than_a_batch_is_cut_and_still_once() {
    let app = App::new("public.a", "exactly_once", TABLES);
    app.catch_up();
    app.sql("INSERT INTO a SELECT 1000 + i, 'x', 1 FROM generate_series(1, 250000) i");
    let output = app.run(&["--until-current"], "capture.mid_produce=kill@150000");
    assert!(!output.status.success(), "{}", log(&output));
    app.catch_up();
    check_versions(&app, 1, 250_000);
}

#[test]
fn at_least_once_loses_nothing() {
    let app = App::new("public.a", "at_least_once", TABLES);
    app.catch_up();
    for (number, point) in [(1, "capture.mid_produce=kill@3"), (2, "capture.after_progress=kill@1")] {
        round(&app, number);
        let output = app.run(&["--until-current"], point);
        assert!(!output.status.success(), "{}", log(&output));
    }
    app.catch_up();
    let a = app.changes("a");
    for key in 1..=KEYS {
        let mut versions: Vec<Cell> = a[&Value::from(1000 + key)]
            .iter()
            .map(|change| change.after("n"))
            .collect();
        versions.dedup();
        assert!(versions.ends_with(&[set(1), set(2)]), "{versions:?}");
    }
}

/// Kills of a capture that runs under load.
const KILLS: u32 = 12;

#[test]
fn killed_at_random_moments_under_load_each_change_is_in_kafka_once() {
    let app = App::new("public.a", "exactly_once", TABLES);
    app.catch_up();
    round(&app, 1);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let rounds = std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let control = Control::connect(&Dsn::parse(&app.dsn).unwrap()).unwrap();
            let mut rounds = 1;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                control
                    .execute("UPDATE a SET n = n + 1 WHERE id > 1000", "the load")
                    .unwrap();
                rounds += 1;
                std::thread::sleep(Duration::from_millis(2));
            }
            rounds
        });
        for _ in 0..KILLS {
            let random = u64::from(uuid::Uuid::new_v4().as_bytes()[0]);
            let capture = app.start(Stdio::null());
            std::thread::sleep(Duration::from_millis(300 + random * 6));
            drop(capture);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        load.join().unwrap()
    });
    app.catch_up();
    check_versions(&app, rounds, KEYS);
}
