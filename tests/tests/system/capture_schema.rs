//! The schema changes under a capture that runs or is away, and keys, identities and large values that the log has only in
//! part: F37, F40 to F53. About 40 s; each test is a script of SQL and what has to be in the topic afterwards.

use serde_json::{Value as Json, json};
use syncline_tests::captured::{self, APP, capture, changes, column, in_app, ops, sql};
use syncline_tests::proxy::{Fault, Kind, Side, When};
use syncline_tests::rig::{DRAIN_MAX_S, HEAL_MAX_S, in_rig};
use syncline_tests::{Stage, World, agreed, process, until};

/// What stands for a value that the log does not hold.
const UNAVAILABLE: &str = "__debezium_unavailable_value";

/// Captures with other settings of the system from here on.
fn set(world: &World, settings: &str) -> anyhow::Result<()> {
    Ok(std::fs::write(
        world.path("pipeline.yaml"),
        captured::pipeline(settings),
    )?)
}

fn refused(world: &World, code: &str) -> anyhow::Result<process::Finished> {
    world
        .run(&Stage::Capture, &["--until-current"])?
        .expect_code(1)?
        .expect_log(code)
}

/// The last record's row.
fn last(world: &World, table: &str) -> anyhow::Result<Json> {
    let changes = changes(world, table)?;
    Ok(changes.last().map(|change| change.row().clone()).unwrap_or_default())
}

/// Between the tables and the stream, when the server has just agreed to stream.
#[test]
fn f37_ddl_at_the_handover_to_streaming() {
    in_rig("f37", |rig| {
        let trap = rig
            .postgres
            .trap(When::Message(Side::Server, Kind::Postgres(b'W')), Fault::Hold);
        let service = rig.world.start(&Stage::Capture)?;
        trap.wait(HEAL_MAX_S)?;
        rig.db()?.exec(
            "ALTER TABLE accounts ADD COLUMN extra text; INSERT INTO accounts (id, owner, extra) VALUES (1001, 'a', 'kept');
             ALTER TABLE accounts DROP COLUMN extra; INSERT INTO accounts (id, owner) VALUES (1002, 'b')",
        )?;
        trap.release();
        rig.caught_up(HEAL_MAX_S)?;
        let all = changes(rig.world, "accounts")?;
        let row = |id: i64| {
            all.iter()
                .find(|change| change.key["id"] == id)
                .map(|change| change.row())
        };
        assert_eq!(row(1001).map(|row| &row["extra"]), Some(&json!("kept")));
        assert!(row(1002).is_some_and(|row| row.get("extra").is_none()), "{all:?}");
        let load = rig.load()?;
        load.goes_on(20)?;
        rig.judge(load, service)
    });
}

/// While one table is read another changes: columns come and go, and all of its rows are there in the end.
#[test]
fn f37_ddl_during_the_snapshot() {
    in_rig("f37s", |rig| {
        let made = "CREATE TABLE later (id int PRIMARY KEY, a text, b text); INSERT INTO later VALUES (1, 'one', 'x')";
        rig.db()?.exec(made)?;
        // One table after the other, so that the second is not read yet while the first is held.
        set(
            rig.world,
            "tables: [public.accounts, public.later], debezium: { snapshot.max.threads: 1 }",
        )?;
        let trap = rig
            .postgres
            .trap(When::Message(Side::Server, Kind::Postgres(b'd')), Fault::Hold);
        let service = rig.world.start(&Stage::Capture)?;
        trap.wait(HEAL_MAX_S)?;
        rig.db()?.exec(
            "ALTER TABLE later DROP COLUMN b; ALTER TABLE later ADD COLUMN c int; INSERT INTO later VALUES (2, 'two', 22)",
        )?;
        trap.release();
        rig.caught_up(DRAIN_MAX_S)?;
        assert!(service.log()?.contains("TABLE_CHANGED"), "the column was missed");
        let mut rows: Vec<String> = column(rig.world, "later", "id")?;
        rows.dedup();
        assert_eq!(rows, ["1", "2"]);
        assert_eq!(last(rig.world, "later")?, json!({ "id": 2, "a": "two", "c": 22 }));
        let load = rig.load()?;
        load.goes_on(20)?;
        rig.judge(load, service)
    });
}

/// A table that is rewritten between the making of the slot and its turn is empty to the snapshot: its rows are missed, and
/// that is said, with the command that brings them.
#[test]
fn f37_a_rewrite_during_the_snapshot_needs_a_backfill() {
    in_rig("f37r", |rig| {
        let made = "CREATE TABLE later (id int PRIMARY KEY, a text); INSERT INTO later VALUES (1, 'one')";
        rig.db()?.exec(made)?;
        // One table after the other, so that the second is not read yet while the first is held.
        set(
            rig.world,
            "tables: [public.accounts, public.later], debezium: { snapshot.max.threads: 1 }",
        )?;
        let trap = rig
            .postgres
            .trap(When::Message(Side::Server, Kind::Postgres(b'd')), Fault::Hold);
        let service = rig.world.start(&Stage::Capture)?;
        trap.wait(HEAL_MAX_S)?;
        rig.db()?
            .exec("ALTER TABLE later ALTER a TYPE varchar(9) USING upper(a)")?;
        trap.release();
        until("the rows to be missed", HEAL_MAX_S, || {
            let log = service.log()?;
            Ok(log.contains("NEEDS_BACKFILL") && log.contains("--reread public.later"))
        })?;
        service.stop()?;
        rig.world
            .run(&Stage::Capture, &["--until-current", "--reread", "public.later"])?
            .expect_code(0)?;
        assert_eq!(last(rig.world, "later")?, json!({ "id": 1, "a": "ONE" }));
        Ok(())
    });
}

/// A column is what its number says, not its name: written before, between and after DDL in one transaction, read when all
/// of it is over.
#[test]
fn f40_columns_dropped_renamed_and_made_again_under_one_name() {
    let made = "CREATE TABLE t (id int PRIMARY KEY, v text, w int); INSERT INTO t VALUES (1, 'one', 1)";
    in_app("f40c", made, "tables: [public.t]", |world| {
        capture(world)?;
        sql(
            world,
            "BEGIN; INSERT INTO t VALUES (2, 'two', 2); ALTER TABLE t DROP COLUMN v; INSERT INTO t VALUES (3, 3);
             ALTER TABLE t ADD COLUMN v int; INSERT INTO t VALUES (4, 4, 44); ALTER TABLE t RENAME COLUMN v TO z;
             ALTER TABLE t RENAME COLUMN w TO v; INSERT INTO t VALUES (5, 5, 55); COMMIT",
        )?;
        sql(world, "INSERT INTO t VALUES (6, 6, 66)")?;
        capture(world)?;
        let rows: Vec<Json> = changes(world, "t")?.iter().map(|change| change.row().clone()).collect();
        let expected = [
            json!({ "id": 1, "v": "one", "w": 1 }),
            json!({ "id": 2, "v": "two", "w": 2 }),
            json!({ "id": 3, "w": 3 }),
            json!({ "id": 4, "w": 4, "v": 44 }),
            json!({ "id": 5, "v": 5, "z": 55 }),
            json!({ "id": 6, "v": 6, "z": 66 }),
        ];
        assert_eq!(rows, expected);
        Ok(())
    });
}

/// Types that are made, changed and replaced while capture runs.
#[test]
fn f41_enums_domains_and_extensions_that_come_while_it_runs() {
    let made = "CREATE TYPE mood AS ENUM ('sad'); CREATE TABLE t (id int PRIMARY KEY, m mood); INSERT INTO t VALUES (1, 'sad')";
    in_app("f41", made, "tables: [public.t]", |world| {
        let service = world.start(&Stage::Capture)?;
        let arrives = |id: i64| {
            until("the row", 30, || {
                Ok(changes(world, "t").is_ok_and(|all| all.iter().any(|change| change.key["id"] == id)))
            })
        };
        arrives(1)?;
        sql(world, "ALTER TYPE mood ADD VALUE 'glad'")?;
        sql(world, "INSERT INTO t VALUES (2, 'glad')")?;
        arrives(2)?;
        sql(
            world,
            "ALTER TABLE t ALTER m TYPE text; DROP TYPE mood; CREATE TYPE mood AS ENUM ('new', 'sad', 'glad');
             ALTER TABLE t ALTER m TYPE mood USING m::mood; INSERT INTO t VALUES (3, 'new')",
        )?;
        arrives(3)?;
        sql(
            world,
            "CREATE DOMAIN small AS int CHECK (VALUE < 10); ALTER TABLE t ADD d small; INSERT INTO t VALUES (4, 'sad', 7)",
        )?;
        arrives(4)?;
        sql(
            world,
            "CREATE EXTENSION citext; ALTER TABLE t ADD c citext; INSERT INTO t VALUES (5, 'sad', 8, 'MiXed')",
        )?;
        arrives(5)?;
        service.stop()?;
        assert_eq!(column(world, "t", "m")?, ["sad", "glad", "new", "sad", "sad"]);
        assert_eq!(last(world, "t")?, json!({ "id": 5, "m": "sad", "d": 8, "c": "MiXed" }));
        Ok(())
    });
}

/// Each record has the key of its time; the old side is there as far as the identity of its time has it.
#[test]
fn f42_keys_and_identities_that_change_while_it_runs() {
    let made = "CREATE TABLE t (a int NOT NULL, b int NOT NULL, v text, CONSTRAINT t_pk PRIMARY KEY (a)); INSERT INTO t VALUES (1, 11, 'x')";
    in_app("f42", made, "tables: [public.t]", |world| {
        capture(world)?;
        for script in [
            "UPDATE t SET v = 'y'",
            "ALTER TABLE t DROP CONSTRAINT t_pk; ALTER TABLE t ADD CONSTRAINT t_pk PRIMARY KEY (b, a); UPDATE t SET v = 'z'",
            "ALTER TABLE t REPLICA IDENTITY FULL; UPDATE t SET v = 'full'",
            "ALTER TABLE t DROP CONSTRAINT t_pk; UPDATE t SET v = 'keyless'",
            "ALTER TABLE t ADD PRIMARY KEY (b); ALTER TABLE t REPLICA IDENTITY DEFAULT; UPDATE t SET v = 'again'; DELETE FROM t",
        ] {
            sql(world, script)?;
            capture(world)?;
        }
        let all = changes(world, "t")?;
        let keys: Vec<Json> = all.iter().map(|change| change.key.clone()).collect();
        let both = json!({ "a": 1, "b": 11 });
        let expected = [
            json!({ "a": 1 }),
            json!({ "a": 1 }),
            both.clone(),
            both,
            Json::Null,
            json!({ "b": 11 }),
            json!({ "b": 11 }),
            json!({ "b": 11 }),
        ];
        assert_eq!(keys, expected);
        let before: Vec<String> = all
            .iter()
            .map(|change| agreed::show(&change.event["before"]["v"]))
            .collect();
        assert_eq!(before, ["-", "-", "-", "z", "full", "-", "-", "-"]);
        Ok(())
    });
}

const LARGE: &str = "CREATE TABLE t (id int NOT NULL, n int, big text, list text[], PRIMARY KEY (id));
    ALTER TABLE t ALTER big SET STORAGE EXTERNAL, ALTER list SET STORAGE EXTERNAL;
    INSERT INTO t VALUES (1, 0, repeat('abc', 4000), array_fill(repeat('l', 3000), ARRAY[4]))";

/// A large value that an update does not touch is not in the log: said as such, never NULL or empty.
#[test]
fn f43_unchanged_large_values_are_marked_as_absent() {
    in_app("f43", LARGE, "tables: [public.t]", |world| {
        capture(world)?;
        sql(world, "UPDATE t SET n = 1")?;
        capture(world)?;
        sql(
            world,
            "CREATE UNIQUE INDEX t_i ON t (id); ALTER TABLE t REPLICA IDENTITY USING INDEX t_i; UPDATE t SET n = 2",
        )?;
        sql(world, "UPDATE t SET big = NULL; UPDATE t SET n = 3")?;
        capture(world)?;
        assert_eq!(column(world, "t", "big")?[1..], [UNAVAILABLE, UNAVAILABLE, "-", "-"]);
        let lists = column(world, "t", "list")?;
        assert!(lists[1..].iter().all(|list| list == UNAVAILABLE), "{lists:?}");
        Ok(())
    });
}

/// With the whole old row in the log the value is taken from there.
#[test]
fn f44_unchanged_large_values_come_from_the_old_row_if_it_is_there() {
    let made = format!("{LARGE}; ALTER TABLE t REPLICA IDENTITY FULL");
    in_app("f44", &made, "tables: [public.t]", |world| {
        capture(world)?;
        sql(world, "UPDATE t SET n = 1; UPDATE t SET id = 2")?;
        capture(world)?;
        assert_eq!(ops(world, "t")?, ["r1", "u1", "d1", "-1", "c2"]);
        let big = "abc".repeat(4000);
        assert!(column(world, "t", "big")?.iter().all(|value| *value == big));
        let all = changes(world, "t")?;
        assert!(
            all.iter()
                .filter(|change| change.op != "-")
                .all(|change| change.row()["list"] == all[0].row()["list"])
        );
        Ok(())
    });
}

/// The old tuple of a changed key has nothing of the other columns; that is no NULL of theirs.
#[test]
fn f45_the_empty_columns_of_an_old_key_are_no_nulls() {
    let made = "CREATE TABLE t (id int PRIMARY KEY, v text NOT NULL, w text); INSERT INTO t VALUES (1, 'v', 'w')";
    in_app("f45", made, "tables: [public.t]", |world| {
        capture(world)?;
        sql(world, "UPDATE t SET id = 2; UPDATE t SET v = 'vv'; DELETE FROM t")?;
        capture(world)?;
        assert_eq!(ops(world, "t")?, ["r1", "d1", "-1", "c2", "u2", "d2", "-2"]);
        let all = changes(world, "t")?;
        assert_eq!(all[3].event["after"], json!({ "id": 2, "v": "v", "w": "w" }));
        assert_eq!(all[4].event["after"], json!({ "id": 2, "v": "vv", "w": "w" }));
        assert_eq!(
            all[4].event["before"],
            Json::Null,
            "no old row was in the log, and none is made up"
        );
        Ok(())
    });
}

/// A key so large that it is stored apart: an update that leaves it alone has it only in the old tuple.
#[test]
fn f46_a_large_key_is_taken_from_the_old_tuple() {
    let made =
        "CREATE TABLE t (id text NOT NULL, n int, PRIMARY KEY (id)); ALTER TABLE t ALTER id SET STORAGE EXTERNAL;
        INSERT INTO t VALUES (repeat('k', 2500), 0)";
    in_app("f46", made, "tables: [public.t]", |world| {
        capture(world)?;
        sql(world, "UPDATE t SET n = 1; UPDATE t SET n = 2; DELETE FROM t")?;
        capture(world)?;
        let all = changes(world, "t")?;
        let key = json!({ "id": "k".repeat(2500) });
        assert!(
            all.iter().all(|change| change.key == key),
            "every record has the whole key"
        );
        assert_eq!(
            all.iter().map(|change| change.op.as_str()).collect::<Vec<_>>(),
            ["r", "u", "u", "d", "-"]
        );
        assert_eq!(all[2].row(), &json!({ "id": "k".repeat(2500), "n": 2 }));
        Ok(())
    });
}

/// An identity that is not the key would leave ghosts; without any, the app's own changes would fail. Both are refused
/// before the table is published, so that the app does not notice.
#[test]
fn f47_f48_identities_that_lose_rows_or_stop_the_app_are_refused_before_publishing() {
    let made = "CREATE TABLE ghost (id int PRIMARY KEY, u int NOT NULL); CREATE UNIQUE INDEX ghost_u ON ghost (u);
        ALTER TABLE ghost REPLICA IDENTITY USING INDEX ghost_u; INSERT INTO ghost VALUES (1, 1);
        CREATE TABLE keyless (v text); INSERT INTO keyless VALUES ('a');
        CREATE TABLE nothing (id int PRIMARY KEY); ALTER TABLE nothing REPLICA IDENTITY NOTHING; INSERT INTO nothing VALUES (1)";
    in_app("f47", made, "tables: [public.ghost]", |world| {
        for (table, code, remedy) in [
            (
                "ghost",
                "IDENTITY_NOT_PRIMARY_KEY",
                "REPLICA IDENTITY DEFAULT (or FULL)",
            ),
            ("keyless", "NO_REPLICA_IDENTITY", "REPLICA IDENTITY FULL"),
            ("nothing", "NO_REPLICA_IDENTITY", "REPLICA IDENTITY DEFAULT"),
        ] {
            set(world, &format!("tables: [public.{table}]"))?;
            refused(world, code)?.expect_log(remedy)?;
        }
        let published = world.db(APP).number("SELECT count(*) FROM pg_publication_tables")?;
        assert_eq!(published, 0, "nothing was published");
        sql(
            world,
            "UPDATE ghost SET id = 2; UPDATE keyless SET v = 'b'; DELETE FROM nothing",
        )
    });
}

/// What was written while there was no publication can never be read: said, and that making it again does not help.
#[test]
fn f49_a_publication_dropped_and_made_again_is_a_gap_that_is_named() {
    let made = "CREATE TABLE t (id int PRIMARY KEY)";
    in_app("f49", made, "tables: [public.t]", |world| {
        capture(world)?;
        let publication = world.slot(APP);
        sql(world, &format!("DROP PUBLICATION {publication}"))?;
        sql(world, "INSERT INTO t VALUES (1)")?;
        let refused = refused(world, "PUBLICATION_GONE")?;
        refused
            .expect_log("does not help for what was written before")?
            .expect_log("--resnapshot")?;
        world
            .run(&Stage::Capture, &["--until-current", "--resnapshot"])?
            .expect_code(0)?;
        sql(world, "INSERT INTO t VALUES (2)")?;
        capture(world)?;
        // The refused start had already seen another publication and read the table; that was not enough.
        assert_eq!(ops(world, "t")?, ["r1", "r1", "c2"]);
        Ok(())
    });
}

/// A transaction has changed a table before it was published and goes on afterwards: both halves arrive.
#[test]
fn f50_a_table_published_in_the_middle_of_a_transaction_on_it() {
    let made = "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE added (id int PRIMARY KEY)";
    in_app("f50t", made, "tables: [public.t]", |world| {
        capture(world)?;
        let writer = world.connect(APP)?;
        writer.exec("BEGIN; INSERT INTO added VALUES (1)")?;
        set(world, "tables: [public.t, public.added]")?;
        let service = world.start(&Stage::Capture)?;
        until("the table to be published", 30, || {
            Ok(world.db(APP).number("SELECT count(*) FROM pg_publication_tables")? == 2)
        })?;
        writer.exec("INSERT INTO added VALUES (2); COMMIT")?;
        sql(world, "INSERT INTO added VALUES (3)")?;
        until("all of it", 60, || {
            let mut ids = column(world, "added", "id").unwrap_or_default();
            ids.sort();
            ids.dedup();
            Ok(ids == ["1", "2", "3"])
        })?;
        service.stop()
    });
}

/// One event a table, at its place between the rows.
#[test]
fn f51_a_truncate_that_cascades_is_one_event_a_table_in_its_place() {
    let made =
        "CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (id int PRIMARY KEY, p int REFERENCES parent);
        CREATE TABLE other (id int PRIMARY KEY)";
    let settings = "tables: [public.parent, public.child, public.other], debezium: { skipped.operations: none }";
    in_app("f51", made, settings, |world| {
        capture(world)?;
        let rows = "INSERT INTO parent VALUES (1); INSERT INTO child VALUES (1, 1); INSERT INTO other VALUES (1)";
        sql(world, rows)?;
        sql(
            world,
            "BEGIN; TRUNCATE parent, other CASCADE; INSERT INTO parent VALUES (2); COMMIT",
        )?;
        capture(world)?;
        assert_eq!(ops(world, "parent")?, ["c1", "t", "c2"]);
        assert_eq!(ops(world, "child")?, ["c1", "t"]);
        assert_eq!(ops(world, "other")?, ["c1", "t"]);
        Ok(())
    });
}

/// A partitioned table has one name and one key; a row that moves between partitions leaves and comes in one transaction.
#[test]
fn f52_rows_that_move_between_partitions_and_partitions_that_go() {
    let made = "CREATE TABLE t (id int, region text, v int, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
        CREATE TABLE t_n PARTITION OF t FOR VALUES IN ('n'); CREATE TABLE t_s PARTITION OF t FOR VALUES IN ('s');
        INSERT INTO t VALUES (1, 'n', 1), (2, 's', 2)";
    in_app("f52", made, "tables: [public.t]", |world| {
        capture(world)?;
        sql(world, "UPDATE t SET region = 's' WHERE id = 1")?;
        capture(world)?;
        let all = ops(world, "t")?;
        assert_eq!(all[2..], ["d1,n", "-1,n", "c1,s"]);
        let changes = changes(world, "t")?;
        assert_eq!(changes[2].event["source"]["txId"], changes[4].event["source"]["txId"]);
        for (ddl, why) in [
            ("ALTER TABLE t DETACH PARTITION t_n", "was detached or dropped"),
            (
                "CREATE TABLE t_w (id int, region text, v int, PRIMARY KEY (id, region)); INSERT INTO t_w VALUES (9, 'w', 9)",
                "",
            ),
            (
                "ALTER TABLE t ATTACH PARTITION t_w FOR VALUES IN ('w')",
                "was attached as a partition",
            ),
            ("DROP TABLE t_s", "was detached or dropped"),
        ] {
            sql(world, ddl)?;
            let finished = world.run(&Stage::Capture, &["--until-current"])?.expect_code(0)?;
            if !why.is_empty() {
                finished.expect_log("NEEDS_BACKFILL")?.expect_log(why)?;
            }
        }
        Ok(())
    });
}

/// What is computed is not in the log, so it is in no record, of the snapshot neither.
#[test]
fn f53_generated_columns_are_left_out_everywhere_alike() {
    let made = "CREATE TABLE t (id int PRIMARY KEY, n int, twice int GENERATED ALWAYS AS (n * 2) STORED, v text);
        INSERT INTO t (id, n, v) VALUES (1, 1, 'a')";
    in_app("f53", made, "tables: [public.t]", |world| {
        capture(world)?;
        sql(
            world,
            "INSERT INTO t (id, n, v) VALUES (2, 2, 'b'); UPDATE t SET n = 3 WHERE id = 1",
        )?;
        capture(world)?;
        let rows: Vec<Json> = changes(world, "t")?.iter().map(|change| change.row().clone()).collect();
        let expected = [
            json!({ "id": 1, "n": 1, "v": "a" }),
            json!({ "id": 2, "n": 2, "v": "b" }),
            json!({ "id": 1, "n": 3, "v": "a" }),
        ];
        assert_eq!(rows, expected);
        Ok(())
    });
}
