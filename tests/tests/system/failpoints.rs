//! Each stage killed at each of its failpoints, once, with the same edit under way; then it is started again and nothing
//! may be missing, nothing doubled. The random version of this, under load, is `crash.rs`.

use syncline_tests::{Stage, World, bank, in_world};

const ACCOUNTS: u64 = 20;

/// One edit in every app: a transfer, whose two rows share a commit, and another owner.
fn edit(world: &World, turn: usize) -> anyhow::Result<()> {
    for shape in &bank::SHAPES {
        let [key, number, owner, _, balance] = shape.columns;
        let (table, app) = (shape.table, shape.app);
        let penny = if app == "shop" { "1" } else { "0.01" };
        world.db(app).exec(&format!(
            "BEGIN;
             UPDATE {table} SET {balance} = {balance} + 7 * {penny} WHERE {number} = 'A1';
             UPDATE {table} SET {balance} = {balance} - 7 * {penny} WHERE {number} = 'A2';
             INSERT INTO truth VALUES ('A1', 7), ('A2', -7);
             COMMIT;
             UPDATE {table} SET {owner} = '{app}{turn}' WHERE {number} = 'A{turn}' AND {key} IS NOT NULL"
        ))?;
    }
    Ok(())
}

/// Kills `stage` at each failpoint, the others being run without.
fn killed_at_each(name: &str, stage: &Stage) {
    let sql = bank::sql();
    in_world(name, &bank::apps(&sql), &bank::FILES, |world| {
        bank::open(world, ACCOUNTS)?;
        world.settle()?;
        for (turn, failpoint) in stage.failpoints().iter().enumerate() {
            edit(world, turn + 3)?;
            killed_at(world, stage, failpoint)?;
        }
        world.settle()?;
        assert_eq!(bank::difference(world)?, None);
        bank::assert_balances(world)?;
        bank::assert_versions(world, bank::Repeats::Never)?;
        Ok(())
    });
}

fn killed_at(world: &World, killed: &Stage, failpoint: &str) -> anyhow::Result<()> {
    for stage in [Stage::Capture, Stage::Transform, Stage::Sink] {
        if stage == *killed {
            world.set_env("SYNCLINE_FAILPOINTS", &format!("{failpoint}=kill@1"));
            let finished = world.run(&stage, &["--until-current"])?;
            world.set_env("SYNCLINE_FAILPOINTS", "");
            assert_eq!(finished.code, None, "{failpoint} was never passed:\n{}", finished.log);
        }
        world.until_current(&stage)?;
    }
    Ok(())
}

#[test]
fn f01_capture_is_killed_at_each_failpoint() {
    killed_at_each("f01", &Stage::Capture);
}

#[test]
fn f66_transform_is_killed_at_each_failpoint() {
    killed_at_each("f66", &Stage::Transform);
}

#[test]
fn f85_sink_is_killed_at_each_failpoint() {
    killed_at_each("f85", &Stage::Sink);
}

// ---- capture alone ----------------------------------------------------------------------------------------------------

const CAPTURED: &str = "CREATE TABLE accounts (id bigint PRIMARY KEY, owner text, ver bigint NOT NULL DEFAULT 0)";
const CAPTURE_ONLY: &str = r#"
pipeline: "${env:PIPELINE}"
defaults: { kafka: "${env:BOOTSTRAP}", registry: "${env:REGISTRY}" }
systems:
  shop: { postgres: "${env:SHOP_DSN}", topic_prefix: "${env:SHOP_PREFIX}", tables: [public.accounts] }
"#;

/// Operation, key and version of every captured change, in order.
fn captured(world: &World) -> anyhow::Result<Vec<(String, i64, i64)>> {
    let mut all = Vec::new();
    for record in world.topics.read(&world.capture_topic("shop", "accounts"))? {
        let Some(value) = &record.value else { continue };
        let event = world.topics.json(value)?;
        let row = if event["after"].is_null() {
            &event["before"]
        } else {
            &event["after"]
        };
        let number = |name: &str| row[name].as_i64().unwrap_or(-1);
        all.push((
            event["op"].as_str().unwrap_or_default().to_owned(),
            number("id"),
            number("ver"),
        ));
    }
    Ok(all)
}

fn killed(world: &World, setting: &str) -> anyhow::Result<()> {
    world.set_env("SYNCLINE_FAILPOINTS", setting);
    let finished = world.run(&Stage::Capture, &["--until-current"])?;
    world.set_env("SYNCLINE_FAILPOINTS", "");
    assert_eq!(finished.code, None, "{setting} was never passed:\n{}", finished.log);
    Ok(())
}

/// F02: rows of one COPY share an LSN; a kill in the middle of them neither skips nor doubles one.
#[test]
fn f02_a_kill_in_the_middle_of_rows_that_share_an_lsn() {
    in_world(
        "f02",
        &[("shop", CAPTURED)],
        &[("pipeline.yaml", CAPTURE_ONLY)],
        |world| {
            world.until_current(&Stage::Capture)?;
            let twice = "BEGIN; INSERT INTO accounts SELECT i, 'a' FROM generate_series(1, 5000) i; COMMIT;
                     BEGIN; UPDATE accounts SET ver = 1 WHERE id % 2 = 0; COMMIT";
            world.db("shop").exec(twice)?;
            killed(world, "capture.mid_produce=kill@2500")?;
            killed(world, "capture.before_commit=kill@1")?;
            world.until_current(&Stage::Capture)?;
            let expected: Vec<_> = (1..=5000)
                .map(|id| ("c".to_owned(), id, 0))
                .chain((1..=2500).map(|half| ("u".to_owned(), half * 2, 1)))
                .collect();
            assert!(captured(world)? == expected, "every change once, in order");
            Ok(())
        },
    );
}

/// F03: a change of the key is a delete, a tombstone and a create; all or none of them are there.
#[test]
fn f03_a_kill_in_the_middle_of_a_key_change() {
    in_world(
        "f03",
        &[("shop", CAPTURED)],
        &[("pipeline.yaml", CAPTURE_ONLY)],
        |world| {
            world.db("shop").exec("INSERT INTO accounts VALUES (1, 'a')")?;
            world.until_current(&Stage::Capture)?;
            world.db("shop").exec("UPDATE accounts SET id = 2")?;
            killed(world, "capture.before_commit=kill@1")?;
            assert_eq!(captured(world)?.len(), 1, "nothing of it is visible");
            world.until_current(&Stage::Capture)?;
            let ops: Vec<_> = captured(world)?
                .into_iter()
                .map(|(op, id, _)| format!("{op}{id}"))
                .collect();
            assert_eq!(ops, ["r1", "d1", "c2"]);
            let records = world.topics.read(&world.capture_topic("shop", "accounts"))?;
            assert_eq!(
                records.iter().filter(|record| record.value.is_none()).count(),
                1,
                "one tombstone"
            );
            Ok(())
        },
    );
}

/// F01 in a snapshot: what was finished is not read again, and no row is missing.
#[test]
fn f01_a_kill_in_the_middle_of_a_snapshot() {
    in_world(
        "f01s",
        &[("shop", CAPTURED)],
        &[("pipeline.yaml", CAPTURE_ONLY)],
        |world| {
            world
                .db("shop")
                .exec("INSERT INTO accounts SELECT i, 'a' FROM generate_series(1, 30000) i")?;
            killed(world, "capture.in_snapshot_chunk=kill@15000")?;
            world
                .db("shop")
                .exec("UPDATE accounts SET ver = 1 WHERE id <= 10; DELETE FROM accounts WHERE id = 11")?;
            world.until_current(&Stage::Capture)?;
            let mut last = std::collections::BTreeMap::new();
            for (op, id, ver) in captured(world)? {
                last.insert(id, (op, ver));
            }
            last.retain(|_, (op, _)| op != "d");
            let expected = world.db("shop").text("SELECT id, ver FROM accounts ORDER BY id")?;
            let found: Vec<_> = last.iter().map(|(id, (_, ver))| format!("{id}|{ver}")).collect();
            assert!(
                found.join("\n") == expected,
                "the last word on each row is what the table has"
            );
            Ok(())
        },
    );
}

/// F01 before the first rows are in Kafka: the slot is made again, so that what was written meanwhile is said once, by the
/// snapshot, and not by the log too.
#[test]
fn f01_a_kill_before_the_first_rows_of_a_snapshot() {
    in_world(
        "f01b",
        &[("shop", CAPTURED)],
        &[("pipeline.yaml", CAPTURE_ONLY)],
        |world| {
            let insert = |rows: &str| {
                let sql = format!("INSERT INTO accounts SELECT i, 'a' FROM generate_series({rows}) i");
                world.db("shop").exec(&sql)
            };
            insert("1, 100")?;
            killed(world, "capture.in_snapshot_chunk=kill@1")?;
            insert("101, 110")?;
            killed(world, "capture.mid_produce=kill@50")?;
            insert("111, 120")?;
            world.until_current(&Stage::Capture)?;
            let expected: Vec<_> = (1..=120).map(|id| ("r".to_owned(), id, 0)).collect();
            assert_eq!(captured(world)?, expected);
            Ok(())
        },
    );
}
