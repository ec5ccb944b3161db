//! A real Debezium and ours on the same database, with one configuration: whatever a script makes of tables, both write
//! the same.

use std::sync::Arc;

use anyhow::Context as _;
use syncline_tests::beside::{Beside, OURS};
use syncline_tests::connect::Worker;
use syncline_tests::{Db, OwnServer, World, in_world};

const SCRIPT: &str = include_str!("../../fixtures/side_by_side.sql");
const RECORDS_MIN: usize = 180;

/// As people have it who have read the documentation to its end.
const VARIANT: [(&str, &str); 12] = [
    ("skipped.operations", "none"),
    ("decimal.handling.mode", "string"),
    ("time.precision.mode", "connect"),
    ("interval.handling.mode", "string"),
    ("hstore.handling.mode", "map"),
    ("binary.handling.mode", "base64"),
    ("money.fraction.digits", "3"),
    ("include.unknown.datatypes", "true"),
    ("unavailable.value.placeholder", "hex:6e6f742074686572653f"),
    ("provide.transaction.metadata", "true"),
    ("skip.messages.without.change", "true"),
    ("publish.via.partition.root", "true"),
];

/// A part of the script; those of extensions where the server has them.
fn part(db: &Db, name: &str) -> anyhow::Result<String> {
    let extensions = has_extensions(db)?;
    let mut text = String::new();
    let mut on = false;
    for line in SCRIPT.lines() {
        if let Some(head) = line.strip_prefix("-- @") {
            let title = head.split(':').next().context("the title of a part")?;
            let further = title.strip_prefix(name).map(str::trim_start);
            on = match further {
                Some("" | "partitioned" | "named") => true,
                Some("extension") => extensions,
                _ => false,
            };
        } else if on && !line.is_empty() {
            text.push_str(line);
            text.push('\n');
        }
    }
    Ok(text)
}

fn has_extensions(db: &Db) -> anyhow::Result<bool> {
    let sql = "SELECT count(*) FROM pg_available_extensions WHERE name IN ('hstore', 'citext', 'ltree')";
    let all = db.number(sql)? == 3;
    if !all {
        println!("this server has not all of hstore, citext and ltree: their tables are left out");
    }
    Ok(all)
}

/// Runs the script of the fixtures on the database and compares.
fn script(world: &World, dsn: &str, publication: &str, settings: &[(&str, &str)]) -> anyhow::Result<()> {
    let db = Db::connect(dsn)?;
    db.exec(&part(&db, "setup")?)?;
    let worker: Arc<Worker> = Worker::shared()?;
    let mut beside = Beside::start(world, dsn, &worker, publication, settings)?;
    for statement in format!("{}{}", part(&db, "stream")?, part(&db, "alter")?).lines() {
        beside.run(statement)?;
    }
    beside.compare()?.expect_equal(RECORDS_MIN, |_| String::new())
}

#[test]
fn the_script_is_captured_as_debezium_captures_it() {
    in_world("side", &[(OURS, "SELECT 1")], &[], |world| {
        script(world, &world.dsn(OURS)?, "", &[("skipped.operations", "none")])
    });
}

#[test]
fn the_script_is_captured_as_debezium_captures_it_with_other_settings() {
    in_world("vari", &[(OURS, "SELECT 1")], &[], |world| {
        script(
            world,
            &world.dsn(OURS)?,
            "WITH (publish_via_partition_root = true)",
            &VARIANT,
        )
    });
}

/// On a server of the test's own, of another version than the stack's.
fn on_version(major: u32, publication: &str) {
    in_world(&format!("pg{major}"), &[], &[], |world| {
        let server = OwnServer::of_version(major, &[])?;
        server.db("postgres")?.exec("CREATE DATABASE captured")?;
        let dsn = server.dsn("captured");
        script(world, &dsn, publication, &[("skipped.operations", "none")])
    });
}

#[test]
fn the_script_is_captured_as_debezium_captures_it_on_17() {
    on_version(17, "");
}

#[test]
fn the_script_is_captured_as_debezium_captures_it_on_18_with_generated_columns() {
    on_version(18, "WITH (publish_generated_columns = stored)");
}
