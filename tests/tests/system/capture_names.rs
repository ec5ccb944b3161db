//! Names, settings and clocks that a source may have, and topics that are otherwise than they have to be: F19, F56, F60,
//! F61, F63, F64, F65. About 20 s.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;
use syncline_tests::captured::{self, APP, capture, changes, changes_in, column, in_app, ops, sql};
use syncline_tests::{Stage, World, process, until};

const T: &str = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'one')";
const TABLES: &str = "tables: [public.t]";
/// How far the broker's clock and ours may differ: they are one.
const CLOCK_MS_MAX: u64 = 120_000;

fn refused(world: &World, code: &str) -> anyhow::Result<process::Finished> {
    world
        .run(&Stage::Capture, &["--until-current"])?
        .expect_code(1)?
        .expect_log(code)
}

fn progress_topic(world: &World) -> String {
    format!("{}.syncline.progress", world.prefix(APP))
}

/// Somebody's transaction stays open where progress is kept: no start reads past it, and its place is named.
#[test]
fn f19_a_hanging_transaction_is_named_and_not_read_past() {
    in_app("f19", T, TABLES, |world| {
        capture(world)?;
        let id = format!("{}-stranger", world.name);
        let stranger = world.topics.open_transaction(&id, &progress_topic(world))?;
        sql(world, "INSERT INTO t VALUES (2, 'two')")?;
        let service = world.start(&Stage::Capture)?;
        let place = format!("{}[0]: a transaction is open at offset", progress_topic(world));
        until("the transaction to be named", 60, || {
            let log = service.log()?;
            Ok(log.contains("KAFKA_UNDECIDED") && log.contains(&place) && log.contains("kafka-transactions.sh"))
        })?;
        assert_eq!(ops(world, "t")?, ["r1"]);
        stranger.abort()?;
        until("the row", 60, || Ok(ops(world, "t")?.len() == 2))?;
        service.stop()?;
        assert_eq!(ops(world, "t")?, ["r1", "c2"]);
        Ok(())
    });
}

/// What a database or role sets for its sessions changes no value.
#[test]
fn f56_settings_of_database_and_role_change_no_value() {
    let made = "CREATE TABLE t (id int PRIMARY KEY, f float8, ts timestamptz, i interval, b bytea, m money, d date);
        INSERT INTO t VALUES (1, 0.1::float8 + 0.2::float8, '2024-02-03 04:05:06.789+00', '1 mon 2 days 03:04:05', '\\xdeadbeef', 12.34, '2024-02-03')";
    let plain = |world: &World| -> anyhow::Result<Vec<serde_json::Value>> {
        Ok(changes(world, "t")?.iter().map(|change| change.row().clone()).collect())
    };
    in_app("f56", made, TABLES, |world| {
        capture(world)?;
        for (setting, value) in [
            ("datestyle", "'SQL, DMY'"),
            ("intervalstyle", "'iso_8601'"),
            ("extra_float_digits", "'-5'"),
            ("bytea_output", "'escape'"),
            ("timezone", "'Asia/Kathmandu'"),
            ("lc_monetary", "'C.UTF-8'"),
            ("statement_timeout", "'1ms'"),
            ("client_encoding", "'LATIN1'"),
        ] {
            sql(
                world,
                &format!("ALTER DATABASE {} SET {setting} = {value}", world.database(APP)),
            )?;
        }
        sql(world, "INSERT INTO t SELECT 2, f, ts, i, b, m, d FROM t WHERE id = 1")?;
        capture(world)?;
        world
            .run(&Stage::Capture, &["--until-current", "--reread", "public.t"])?
            .expect_code(0)?;
        let rows = plain(world)?;
        assert_eq!(rows.len(), 4);
        assert_eq!(rows[0]["f"], json!(0.1_f64 + 0.2_f64));
        let mut second = rows[1].clone();
        second["id"] = json!(1);
        assert_eq!(second, rows[0], "the log and the first snapshot");
        assert_eq!(rows[2], rows[0], "the second snapshot and the first");
        Ok(())
    });
}

/// JSON is text and stays it: deep, with numbers beyond any float, with a key twice; and NUL is only written out.
#[test]
fn f60_json_is_passed_on_as_it_is_written() {
    let made = "CREATE TABLE t (id int PRIMARY KEY, b jsonb, j json);
        INSERT INTO t VALUES (1, (repeat('[', 5000) || repeat(']', 5000))::jsonb, (repeat('[', 5000) || repeat(']', 5000))::json)";
    in_app("f60", made, TABLES, |world| {
        sql(
            world,
            r#"INSERT INTO t VALUES (2, '1e400', '{"a":1, "a" : 2}'), (3, '{"n": 0.10}', '"\u0000"')"#,
        )?;
        capture(world)?;
        sql(world, "INSERT INTO t SELECT id + 10, b, j FROM t ORDER BY id")?;
        capture(world)?;
        for name in ["b", "j"] {
            let truth = world.db(APP).text(&format!("SELECT {name} FROM t ORDER BY id"))?;
            let found = column(world, "t", name)?;
            assert!(found == truth.lines().collect::<Vec<_>>(), "{name}: {:?}", &found[1..3]);
        }
        Ok(())
    });
}

/// Names with everything in them that a name can have reach a topic of their own.
#[test]
fn f61_odd_names_are_captured() {
    let long = "l".repeat(63);
    let made = format!(
        r#"CREATE TABLE "We Ird.Täble""x" ("Ключ" int PRIMARY KEY, "1st" text, "a-b" text, "SELECT" text, {long} text);
           INSERT INTO "We Ird.Täble""x" VALUES (1, 'a', 'b', 'c', 'd'); CREATE TABLE {long} (id int PRIMARY KEY)"#
    );
    let tables = format!(r#"tables: ['public.We Ird.Täble"x', public.{long}]"#);
    in_app("f61", &made, &tables, |world| {
        capture(world)?;
        sql(
            world,
            &format!(r#"UPDATE "We Ird.Täble""x" SET "1st" = 'aa'; INSERT INTO {long} VALUES (7)"#),
        )?;
        capture(world)?;
        let topic = world.topics.names(&[&format!("{}.public.We_Ird", world.prefix(APP))])?;
        assert_eq!(topic.len(), 1, "{topic:?}");
        let all = changes_in(world, &topic[0])?;
        assert_eq!(
            all.iter().map(captured::Change::brief).collect::<Vec<_>>(),
            ["r1", "u1"]
        );
        let values: Vec<String> = all[1]
            .row()
            .as_object()
            .into_iter()
            .flatten()
            .map(|(_, value)| value.to_string())
            .collect();
        assert!(
            ["1", "\"aa\"", "\"b\"", "\"c\"", "\"d\""]
                .iter()
                .all(|value| values.contains(&(*value).to_owned())),
            "{values:?}"
        );
        assert_eq!(ops(world, &long)?, ["c7"]);
        Ok(())
    });
}

/// Two tables that would share a topic are refused, by name, before anything is written.
#[test]
fn f61_tables_that_would_share_a_topic_are_refused() {
    let made = r#"CREATE TABLE "a-b!" (id int PRIMARY KEY); CREATE TABLE "a-b?" (id int PRIMARY KEY)"#;
    in_app("f61c", made, r#"tables: ['public.a-b!', 'public.a-b?']"#, |world| {
        refused(world, "TOPIC_SHARED")?.expect_log("a-b!")?.expect_log("a-b?")?;
        Ok(())
    });
}

/// A name too long for Kafka is cut, as Debezium cuts it; two that are then the same are refused.
#[test]
fn f61_long_names_that_are_the_same_when_cut_are_refused() {
    let (schema, table) = ("s".repeat(63), "t".repeat(62));
    let made = format!(
        "CREATE SCHEMA {schema}; CREATE TABLE {schema}.{table}a (id int PRIMARY KEY); CREATE TABLE {schema}.{table}b (id int PRIMARY KEY)"
    );
    let settings = format!("tables: [{schema}.{table}a, {schema}.{table}b]");
    in_app("f61l", &made, &settings, |world| {
        let longer = format!("${{env:SHOP_PREFIX}}{}", "p".repeat(130));
        let text = captured::pipeline(&settings).replace("${env:SHOP_PREFIX}", &longer);
        std::fs::write(world.path("pipeline.yaml"), text)?;
        refused(world, "TOPIC_SHARED")?;
        Ok(())
    });
}

/// Another number of partitions would move keys; whoever added them is told.
#[test]
fn f63_partitions_that_were_added_are_refused() {
    in_app("f63", T, TABLES, |world| {
        capture(world)?;
        world.topics.add_partitions(&world.capture_topic(APP, "t"), 3)?;
        sql(world, "INSERT INTO t VALUES (2, 'two')")?;
        refused(world, "TOPIC_PARTITIONS")?.expect_log("has 3 partitions, not 1")?;
        assert_eq!(ops(world, "t")?, ["r1"]);
        Ok(())
    });
}

/// Progress that a broker would forget is refused; progress that was deleted leaves a slot of unknown past.
#[test]
fn f64_a_progress_topic_that_forgets_or_was_deleted() {
    in_app("f64", T, TABLES, |world| {
        world.topics.create(&progress_topic(world), 1)?;
        refused(world, "TOPIC_NOT_COMPACTED")?.expect_log("cleanup.policy=compact")?;
        world.topics.delete(&[progress_topic(world)])?;
        capture(world)?;
        world.topics.delete(&[progress_topic(world)])?;
        sql(world, "INSERT INTO t VALUES (2, 'two')")?;
        refused(world, "SLOT_UNKNOWN")?.expect_log("--adopt-slot")?;
        Ok(())
    });
}

/// The same under a capture that runs: it does not go on as if nothing had been.
#[test]
fn f64_a_progress_topic_deleted_while_it_runs() {
    in_app("f64r", T, TABLES, |world| {
        let mut service = world.start(&Stage::Capture)?;
        until("the table", 60, || Ok(ops(world, "t").is_ok_and(|ops| ops.len() == 1)))?;
        world.topics.delete(&[progress_topic(world)])?;
        sql(world, "INSERT INTO t VALUES (2, 'two')")?;
        let status = service.wait(90)?;
        assert_eq!(status.and_then(|status| status.code()), Some(1), "{}", service.log()?);
        assert!(service.log()?.contains("SLOT_UNKNOWN"));
        Ok(())
    });
}

/// A record's time is the time of its writing, whatever the source's rows and clock say: nothing that a broker would
/// refuse or throw away as too old.
#[test]
fn f65_the_time_of_a_record_is_ours_and_not_the_sources() {
    let made = "CREATE TABLE t (id int PRIMARY KEY, at timestamptz); INSERT INTO t VALUES (1, '1901-01-01')";
    in_app("f65", made, TABLES, |world| {
        capture(world)?;
        sql(world, "INSERT INTO t VALUES (2, '2999-01-01')")?;
        capture(world)?;
        let now_ms = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
        let records = world.topics.read(&world.capture_topic(APP, "t"))?;
        assert_eq!(records.len(), 2);
        for record in records {
            let time_ms = u64::try_from(record.time_ms.unwrap_or_default())?;
            assert!(time_ms.abs_diff(now_ms) < CLOCK_MS_MAX, "{time_ms} at {now_ms}");
        }
        Ok(())
    });
}
