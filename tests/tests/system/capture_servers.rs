//! Servers that are otherwise than ours: a database without an encoding or with another one (F57), a clock that is wrong
//! (F65).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use serde_json::Value as Json;
use syncline_schemas::topic;
use syncline_tests::captured::{APP, capture, changes, column, in_app};
use syncline_tests::{Db, OwnServer, Stage, World, process};

const T: &str = "CREATE TABLE t (id int PRIMARY KEY, v text)";
const LOGICAL: [(&str, &str); 1] = [("wal_level", "logical")];
const DOCTOR_MAX_S: u64 = 60;
/// How far the broker's clock and ours may differ: they are one.
const CLOCK_MAX: Duration = Duration::from_secs(120);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// The app moves to a new database of this encoding.
fn encoded(world: &World, server: &OwnServer, encoding: &str) -> anyhow::Result<Db> {
    server.db("postgres")?.exec(&format!(
        "CREATE DATABASE app ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    ))?;
    world.set_env("SHOP_DSN", &server.dsn("app"));
    let db = server.db("app")?;
    db.exec(T)?;
    Ok(db)
}

/// The dead letters: operation, key, and what column `v` held.
fn letters(world: &World) -> anyhow::Result<Vec<(Json, Json, Json)>> {
    let records = world.topics.read(&topic::capture_dead_letters(&world.prefix(APP)))?;
    let values = records.iter().filter_map(|record| record.value.as_ref());
    let letter = |value: &Vec<u8>| {
        let letter = world.topics.json(value)?;
        let columns = letter["columns"].as_array().context("columns")?;
        let v = columns.iter().find(|column| column["name"] == "v").context("v")?;
        Ok((letter["op"].clone(), letter["key"].clone(), v["text"].clone()))
    };
    values.map(letter).collect()
}

/// What is UTF-8 is captured as it is, in the snapshot and from the log; what is not is laid aside with its bytes.
#[test]
fn f57_bytes_that_are_no_text_in_a_database_without_encoding() {
    in_app("f57", T, "tables: [public.t], on_poison: dead_letter", |world| {
        let server = OwnServer::start(&LOGICAL)?;
        let db = encoded(world, &server, "SQL_ASCII")?;
        db.exec(r"INSERT INTO t VALUES (1, 'Grüße'), (2, E'a\xff\xfe'), (3, 'c')")?;
        capture(world)?;
        assert_eq!(column(world, "t", "v")?, ["Grüße", "c"]);
        db.exec(r"INSERT INTO t VALUES (4, 'Straße'); INSERT INTO t VALUES (5, E'b\xff')")?;
        db.exec(r"UPDATE t SET v = 'mended' WHERE id = 2; UPDATE t SET v = E'c\xc3' WHERE id = 3")?;
        capture(world)?;
        assert_eq!(column(world, "t", "v")?, ["Grüße", "c", "Straße", "mended"]);
        let letters = letters(world)?;
        let brief: Vec<String> = letters.iter().map(|(op, key, _)| format!("{op}{key}")).collect();
        let expected = [("r", 2), ("c", 5), ("u", 3)].map(|(op, id)| {
            let key = format!(r#"{{"id":{id}}}"#);
            format!("{}{}", Json::from(op), Json::from(key))
        });
        assert_eq!(brief, expected);
        let texts: Vec<String> = letters.iter().map(|(_, _, text)| text.to_string()).collect();
        println!("{texts:?}");
        assert!(texts.iter().all(|text| !text.contains('\u{fffd}')), "{texts:?}");
        Ok(())
    });
}

/// Another encoding is turned into UTF-8 by the server. Bytes that mean nothing in it the server cannot send.
#[test]
fn f57_a_database_in_another_encoding_and_bytes_that_mean_nothing_in_it() {
    in_app("f57other", T, "tables: [public.t]", |world| {
        let server = OwnServer::start(&LOGICAL)?;
        let db = encoded(world, &server, "WIN1252")?;
        db.exec("INSERT INTO t VALUES (1, 'Größe 1 €')")?;
        capture(world)?;
        db.exec("INSERT INTO t VALUES (2, 'Größe 2 €')")?;
        capture(world)?;
        assert_eq!(column(world, "t", "v")?, ["Größe 1 €", "Größe 2 €"]);
        db.exec(r"INSERT INTO t VALUES (3, E'\x81')")?;
        let stopped = world.run(&Stage::Capture, &["--until-current"])?.expect_code(1)?;
        stopped.expect_log("POISON_WAL")?.expect_log("WIN1252")?;
        assert_eq!(column(world, "t", "v")?.len(), 2);
        Ok(())
    });
}

fn since_1970(number: &Json) -> anyhow::Result<Duration> {
    Ok(Duration::from_millis(
        number.as_u64().context("a time of milliseconds")?,
    ))
}

/// The time of a record and of its envelope are ours, the commit's is what the source says, and the doctor names it.
#[test]
fn f65_a_source_whose_clock_is_a_year_off() {
    for (name, off) in [("f65ahead", "+365d"), ("f65behind", "-365d")] {
        in_app(name, T, "tables: [public.t]", |world| {
            let server = OwnServer::with_clock(off, &LOGICAL)?;
            world.set_env("SHOP_DSN", &server.dsn("postgres"));
            let db = server.db("postgres")?;
            db.exec(T)?;
            db.exec("INSERT INTO t VALUES (1, 'a')")?;
            capture(world)?;
            db.exec("INSERT INTO t VALUES (2, 'b')")?;
            capture(world)?;
            assert_eq!(column(world, "t", "v")?, ["a", "b"]);
            let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
            for record in world.topics.read(&world.capture_topic(APP, "t"))? {
                let time = since_1970(&record.time_ms.into())?;
                assert!(time.abs_diff(now) < CLOCK_MAX, "{time:?} at {now:?}");
            }
            let changes = changes(world, "t")?;
            let event = &changes[1].event;
            let time = since_1970(&event["ts_ms"])?;
            assert!(time.abs_diff(now) < CLOCK_MAX, "{event}");
            let commit = since_1970(&event["source"]["ts_ms"])?;
            assert!(commit.abs_diff(now).abs_diff(YEAR) < CLOCK_MAX, "{event}");
            let doctor = world.command("syncline", &["doctor"])?;
            process::run(doctor, &world.path("doctor.log"), DOCTOR_MAX_S)?.expect_log("CLOCK")?;
            Ok(())
        });
    }
}
