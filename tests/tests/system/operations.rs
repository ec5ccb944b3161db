//! What Debezium's users ask for and do not have: a slot that is guarded, tables that are known by more than their name,
//! DDL that is noticed, rows that do not stop the rest. Named after the faults.

use syncline_tests::captured::{self, column, pipeline};
use syncline_tests::{OwnServer, Service, Stage, World, in_world, until};

const TABLES: &str = "CREATE TABLE accounts (id serial PRIMARY KEY, owner text)";

/// A world with one captured table and these settings of its system.
fn with_a_captured_table(name: &str, settings: &str, test: impl FnOnce(&World) -> anyhow::Result<()>) {
    let settings = format!("tables: [public.accounts]{settings}");
    captured::in_app(name, TABLES, &settings, |world| {
        captured_once(world).and_then(|()| test(world))
    });
}

/// The same on a server of the test's own, where a transaction may stay open.
fn with_a_captured_table_alone(name: &str, settings: &str, test: impl FnOnce(&World) -> anyhow::Result<()>) {
    let settings = format!("tables: [public.accounts]{settings}");
    captured::in_app_alone(name, TABLES, &settings, |world| {
        captured_once(world).and_then(|()| test(world))
    });
}

fn captured_once(world: &World) -> anyhow::Result<()> {
    insert(world, "before")?;
    world.until_current(&Stage::Capture)?;
    assert_eq!(owners(world)?, ["before"]);
    Ok(())
}

fn insert(world: &World, owner: &str) -> anyhow::Result<()> {
    world
        .db("shop")
        .exec(&format!("INSERT INTO accounts (owner) VALUES ('{owner}')"))
}

/// The owners in the capture topic, in its order.
fn owners(world: &World) -> anyhow::Result<Vec<String>> {
    column(world, "accounts", "owner")
}

/// Lets the log grow by so many megabytes, without a row of anybody.
fn grow_log(db: &syncline_tests::Db, megabytes: u32) -> anyhow::Result<()> {
    db.exec(&format!(
        "SELECT pg_logical_emit_message(false, 'test', repeat('x', 1 << 20)) FROM generate_series(1, {megabytes})"
    ))
}

fn ended_with(service: &mut Service, code: &str) -> anyhow::Result<String> {
    let status = service.wait(60)?;
    let log = service.log()?;
    assert_eq!(status.and_then(|status| status.code()), Some(1), "{log}");
    assert!(log.contains(code), "no {code} in {log}");
    Ok(log)
}

/// A transaction that nobody ends holds the slot back: an alarm at half of the budget, and at its limit the slot is
/// dropped, which later starts know. About 15 s.
#[test]
fn f09_a_slot_beyond_its_budget_is_dropped_and_known_as_dropped() {
    let budget = ", wal_budget: { bytes: 48MiB, at_limit: drop }";
    with_a_captured_table_alone("f09b", budget, |world| {
        let mut capture = world.start(&Stage::Capture)?;
        insert(world, "streamed")?;
        until("the row", 30, || Ok(owners(world)?.len() == 2))?;
        let holder = world.connect("shop")?;
        holder.exec("BEGIN; INSERT INTO accounts (owner) VALUES ('never committed')")?;
        grow_log(world.db("shop"), 60)?;
        let log = ended_with(&mut capture, "SLOT_GIVEN_UP")?;
        assert!(log.contains("SLOT_RETAINS"), "no alarm before: {log}");
        holder.exec("ROLLBACK")?;
        let slot = world.slot("shop");
        let left = world.db("shop").number(&format!(
            "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{slot}'"
        ))?;
        assert_eq!(left, 0, "the slot is gone");
        world
            .run(&Stage::Capture, &["--until-current"])?
            .expect_code(1)?
            .expect_log("SLOT_GIVEN_UP")?
            .expect_log("--resnapshot")?;
        insert(world, "after")?;
        world
            .run(&Stage::Capture, &["--until-current", "--resnapshot"])?
            .expect_code(0)?;
        assert_eq!(owners(world)?[2..], ["before", "streamed", "after"]);
        Ok(())
    });
}

/// The default, `keep`: the alarm, and capture goes on. About 10 s.
#[test]
fn f09_a_slot_beyond_its_budget_is_kept_unless_said_otherwise() {
    with_a_captured_table_alone("f09k", ", wal_budget: { bytes: 8MiB }", |world| {
        let capture = world.start(&Stage::Capture)?;
        let holder = world.connect("shop")?;
        holder.exec("BEGIN; INSERT INTO accounts (owner) VALUES ('late')")?;
        grow_log(world.db("shop"), 16)?;
        until("the alarm", 30, || Ok(capture.log()?.contains("SLOT_RETAINS")))?;
        holder.exec("COMMIT")?;
        until("the row", 30, || Ok(owners(world)?.len() == 2))?;
        capture.stop()
    });
}

/// A server that gives the slot up: the run ends with the reason and the command, at once and without trying again; and
/// the command repairs it. About 20 s.
#[test]
fn f09_a_lost_slot_ends_the_run_and_the_command_repairs_it() {
    let server = OwnServer::start(&[("max_slot_wal_keep_size", "32MB"), ("max_wal_size", "32MB")]);
    let server = server.unwrap_or_else(|error| panic!("{error:?}"));
    with_a_captured_table_of(&server, "f09l", |world, db| {
        let slot = world.slot("shop");
        // Nobody reads: the log goes beyond what the server keeps, and a checkpoint removes it.
        for _ in 0..8 {
            grow_log(db, 16)?;
            db.exec("CHECKPOINT")?;
        }
        let status = format!("SELECT wal_status FROM pg_replication_slots WHERE slot_name = '{slot}'");
        assert_eq!(db.text(&status)?, "lost");
        let finished = world.run(&Stage::Capture, &[])?.expect_code(1)?;
        let finished = finished
            .expect_log("SLOT_LOST")?
            .expect_log("wal_removed")?
            .expect_log("max_slot_wal_keep_size")?
            .expect_log("--source shop --resnapshot")?;
        assert!(
            !finished.log.contains("waiting: SLOT_LOST"),
            "no retries: {}",
            finished.log
        );
        db.exec("INSERT INTO accounts (owner) VALUES ('after')")?;
        world
            .run(&Stage::Capture, &["--until-current", "--resnapshot"])?
            .expect_code(0)?;
        assert_eq!(owners(world)?, ["before", "before", "after"]);
        Ok(())
    });
}

/// The same on a server of the test's own.
fn with_a_captured_table_of(
    server: &OwnServer,
    name: &str,
    test: impl FnOnce(&World, &syncline_tests::Db) -> anyhow::Result<()>,
) {
    let file = pipeline("tables: [public.accounts]");
    in_world(name, &[("shop", "SELECT 1")], &[("pipeline.yaml", &file)], |world| {
        let db = server.db("postgres")?;
        db.exec(TABLES)?;
        db.exec("INSERT INTO accounts (owner) VALUES ('before')")?;
        world.set_env("SHOP_DSN", &server.dsn("postgres"));
        world.until_current(&Stage::Capture)?;
        assert_eq!(owners(world)?, ["before"]);
        test(world, &db)
    });
}

/// The captured table is idle and others are busy: the slot follows the log, through Kafka. About 10 s.
#[test]
fn f05_an_idle_table_does_not_hold_back_the_slot() {
    with_a_captured_table("f05", "", |world| {
        let db = world.db("shop");
        let capture = world.start(&Stage::Capture)?;
        db.exec("CREATE TABLE busy (id int); INSERT INTO busy SELECT generate_series(1, 100000)")?;
        grow_log(db, 32)?;
        let target = db.lsn()?;
        let slot = world.slot("shop");
        let confirmed =
            format!("SELECT confirmed_flush_lsn - '0/0' FROM pg_replication_slots WHERE slot_name = '{slot}'");
        until("the slot to follow", 60, || {
            Ok(db.text(&confirmed)?.parse::<u64>()? >= target)
        })?;
        capture.stop()?;
        // The slot has not overtaken what Kafka knows: the next start finds nothing amiss.
        insert(world, "after")?;
        world.until_current(&Stage::Capture)?;
        assert_eq!(owners(world)?, ["before", "after"]);
        Ok(())
    });
}

/// Another table under the same name: its rows are read, though progress knows the name as read. About 10 s.
#[test]
fn f40_a_table_renamed_and_replaced_is_read_anew() {
    with_a_captured_table("f40", "", |world| {
        world.db("shop").exec(
            "BEGIN; ALTER TABLE accounts RENAME TO accounts_old; CREATE TABLE accounts (id serial PRIMARY KEY, owner text);
             INSERT INTO accounts (owner) VALUES ('replaced'); COMMIT",
        )?;
        world.until_current(&Stage::Capture)?;
        assert_eq!(owners(world)?, ["before", "replaced"]);
        // The same while capture runs, noticed by the catalogue: no message of the log tells.
        let capture = world.start(&Stage::Capture)?;
        insert(world, "streamed")?;
        until("the row", 30, || Ok(owners(world)?.len() == 3))?;
        world.db("shop").exec(
            "BEGIN; DROP TABLE accounts; CREATE TABLE accounts (id serial PRIMARY KEY, owner text);
             INSERT INTO accounts (owner) VALUES ('replaced again'); COMMIT",
        )?;
        until("the third table", 30, || Ok(owners(world)?.len() == 4))?;
        insert(world, "streamed again")?;
        until("its stream", 30, || Ok(owners(world)?.len() == 5))?;
        capture.stop()?;
        assert_eq!(owners(world)?[3..], ["replaced again", "streamed again"]);
        Ok(())
    });
}

/// What was written while a table was not published is in no stream; put back, it is read. About 5 s.
#[test]
fn f50_a_table_dropped_from_the_publication_and_put_back_is_read_anew() {
    with_a_captured_table("f50", "", |world| {
        let publication = world.slot("shop");
        let db = world.db("shop");
        db.exec(&format!("ALTER PUBLICATION {publication} DROP TABLE accounts"))?;
        insert(world, "unpublished")?;
        db.exec(&format!("ALTER PUBLICATION {publication} ADD TABLE accounts"))?;
        insert(world, "published")?;
        world
            .run(&Stage::Capture, &["--until-current"])?
            .expect_code(0)?
            .expect_log("TABLE_REREAD")?;
        let all = owners(world)?;
        assert!(
            all.contains(&"unpublished".to_owned()) && all.contains(&"published".to_owned()),
            "{all:?}"
        );
        Ok(())
    });
}

/// DDL that changes rows without an event is said, and said until the table has been read again. About 10 s.
#[test]
fn f38_f39_a_rewrite_without_an_event_needs_a_backfill_until_it_is_done() {
    with_a_captured_table("f38", "", |world| {
        let ddl = "ALTER TABLE accounts ADD COLUMN tier text DEFAULT 'basic'";
        world.db("shop").exec(ddl)?;
        let run = |args: &[&str]| world.run(&Stage::Capture, args)?.expect_code(0);
        run(&["--until-current"])?
            .expect_log("NEEDS_BACKFILL")?
            .expect_log("column tier was added with a default")?
            .expect_log("--reread public.accounts")?;
        assert_eq!(owners(world)?, ["before"], "told, not read by itself");
        run(&["--until-current", "--reread", "public.accounts"])?.expect_log("has been read again")?;
        assert_eq!(
            column(world, "accounts", "tier")?.last().map(String::as_str),
            Some("basic")
        );
        let quiet = run(&["--until-current"])?;
        assert!(!quiet.log.contains("NEEDS_BACKFILL"), "it was done: {}", quiet.log);
        // What rewrites no value raises nothing.
        world
            .db("shop")
            .exec("ALTER TABLE accounts ALTER owner SET DEFAULT 'x'; ANALYZE accounts")?;
        let quiet = run(&["--until-current"])?;
        assert!(!quiet.log.contains("NEEDS_BACKFILL"), "{}", quiet.log);
        world.db("shop").exec("VACUUM FULL accounts")?;
        let quiet = run(&["--until-current"])?;
        assert!(!quiet.log.contains("NEEDS_BACKFILL"), "{}", quiet.log);
        Ok(())
    });
}

/// With `auto_backfill` a running capture reads the table again by itself, whatever the DDL was. About 20 s.
#[test]
fn f39_f52_rewrites_are_backfilled_by_themselves_when_asked_for() {
    let tables = "CREATE TYPE colour AS ENUM ('red', 'blue');
        CREATE TABLE accounts (id serial PRIMARY KEY, owner text, shade colour DEFAULT 'red');
        CREATE TABLE parts (id int PRIMARY KEY, name text) PARTITION BY RANGE (id);
        CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (1) TO (100);
        INSERT INTO parts VALUES (1, 'one')";
    let file = pipeline("tables: [public.accounts, public.parts], auto_backfill: true");
    in_world("f39", &[("shop", tables)], &[("pipeline.yaml", &file)], |world| {
        insert(world, "ada")?;
        let capture = world.start(&Stage::Capture)?;
        until("the snapshot", 60, || Ok(column(world, "parts", "name")?.len() == 1))?;
        let db = world.db("shop");
        db.exec("ALTER TYPE colour RENAME VALUE 'red' TO 'crimson'")?;
        until("the new label", 60, || {
            Ok(column(world, "accounts", "shade")?.last().map(String::as_str) == Some("crimson"))
        })?;
        db.exec("ALTER TABLE accounts ALTER owner TYPE text USING upper(owner)")?;
        until("the new value", 60, || {
            Ok(owners(world)?.last().map(String::as_str) == Some("ADA"))
        })?;
        db.exec("CREATE TABLE parts_2 (id int PRIMARY KEY, name text); INSERT INTO parts_2 VALUES (101, 'attached')")?;
        db.exec("ALTER TABLE parts ATTACH PARTITION parts_2 FOR VALUES FROM (100) TO (200)")?;
        until("the attached row", 60, || {
            Ok(column(world, "parts", "name")?.contains(&"attached".to_owned()))
        })?;
        let count = column(world, "parts", "name")?.len();
        db.exec("CREATE TABLE parts_3 PARTITION OF parts FOR VALUES FROM (200) TO (300)")?;
        db.exec("INSERT INTO parts VALUES (201, 'streamed')")?;
        until("the streamed row", 60, || {
            Ok(column(world, "parts", "name")?.len() == count + 1)
        })?;
        let log = capture.log()?;
        let needs = |line: &&str| line.contains("NEEDS_BACKFILL") && line.contains("public.parts");
        let others = log.lines().filter(needs).find(|line| !line.contains("was attached as"));
        assert_eq!(others, None, "a partition made empty needs nothing");
        capture.stop()
    });
}
