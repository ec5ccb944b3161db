//! While the world goes on: DDL, kills and load beside the reading.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value as Json;
use syncline_tests::oracle::{self, Load};
use syncline_tests::{Dice, Stage, World, in_world, until};

use super::{ITEMS, SIGNALS, capture, captured, events, execute, incremental, kinds, pipeline};

/// A column is added while a chunk is being read: it is read again, in its new shape.
#[test]
fn a_table_that_changes_its_shape_meanwhile_is_read_in_the_new_one() {
    captured("sig_ddl", ITEMS, &pipeline("public.items", ""), |world| {
        let service = world.start_with(
            &Stage::Capture,
            &[],
            &[("SYNCLINE_FAILPOINTS", "capture.chunk_read=sleep:1500")],
        )?;
        execute(world, "s1", &["public.items"])?;
        until("the first window", 30, || {
            Ok(world
                .db("shop")
                .number("SELECT count(*) FROM signals WHERE type LIKE '%open'")?
                > 0)
        })?;
        world
            .db("shop")
            .exec("ALTER TABLE items ADD COLUMN w int; UPDATE items SET w = a WHERE a = 25")?;
        until("the run to end", 60, || {
            Ok(kinds(world)?.last().is_some_and(|kind| kind == "COMPLETED"))
        })?;
        service.stop()?;
        let rows = incremental(world, "items")?;
        assert!(rows.iter().all(|row| row["after"].get("w").is_some()), "{rows:?}");
        let last = last_by_key(world)?;
        assert_eq!(last["25"]["w"], 25);
        Ok(())
    });
}

/// Rows that DDL changed without an event: the table waits to be read again, and a run beside the stream is that.
#[test]
fn a_run_fills_what_ddl_left_out() {
    captured("sig_fill", ITEMS, &pipeline("public.items", ""), |world| {
        world
            .db("shop")
            .exec("ALTER TABLE items ADD COLUMN w int NOT NULL DEFAULT 7")?;
        let log = world.until_current(&Stage::Capture)?.log;
        assert!(log.contains("NEEDS_BACKFILL"), "{log}");
        execute(world, "s1", &["public.items"])?;
        world.until_current(&Stage::Capture)?;
        assert!(last_by_key(world)?.values().all(|row| row["w"] == 7));
        let tables = world.latest(&format!("{}.syncline.tables", world.prefix("shop")))?;
        let record = tables
            .iter()
            .find(|(key, _)| key.ends_with("public.items"))
            .context("a record")?
            .1;
        let record = world.topics.json(record.value.as_deref().context("a value")?)?;
        assert_eq!(record["needs_backfill"], Json::Null);
        Ok(())
    });
}

fn last_by_key(world: &World) -> anyhow::Result<BTreeMap<String, Json>> {
    let events = events(world, "items")?.into_iter();
    Ok(events
        .map(|mut event| (event["after"]["a"].to_string(), event["after"].take()))
        .collect())
}

const ACCOUNTS: u64 = 200;

/// A world with the oracle's workload, and these properties.
fn under_load(name: &str, properties: &str, test: impl FnOnce(&World, &mut Dice, &Load) -> anyhow::Result<()>) {
    let (tables, file) = (
        format!("{SIGNALS} {}", oracle::TABLES),
        pipeline("public.accounts", properties).replace("chunk.size: 10", "chunk.size: 50"),
    );
    in_world(name, &[(oracle::APP, &tables)], &[("pipeline.yaml", &file)], |world| {
        oracle::open(world.db(oracle::APP), ACCOUNTS)?;
        world.until_current(&Stage::Capture)?;
        let mut dice = Dice::new(name);
        let load = Load::start(&world.dsn(oracle::APP)?, &mut dice, ACCOUNTS, 100);
        test(world, &mut dice, &load)?;
        let commits = load.stop()?;
        world.until_current(&Stage::Capture)?;
        let checked = oracle::assert_every_change_once(world)?;
        let rows = incremental(world, "accounts")?.len();
        println!(
            "{}: {commits} commits, {checked} records, {rows} of them read beside the stream, none stale",
            world.name
        );
        Ok(())
    });
}

fn completed(world: &World) -> anyhow::Result<usize> {
    Ok(kinds(world)?.iter().filter(|kind| *kind == "COMPLETED").count())
}

/// Under load, killed at each place of a chunk's way and at random ones: each run comes to its end, no row overwrites a later
/// change, none is missing, and no change of the stream is lost or comes twice.
fn killed_under_load(name: &str, properties: &str) {
    under_load(name, properties, |world, dice, load| {
        for (turn, place) in ["chunk_read", "in_chunk", "chunk_sent", "before_commit", "after_commit"]
            .iter()
            .enumerate()
        {
            execute(world, &format!("p{turn}"), &["public.accounts"])?;
            for hit in [1, 1 + dice.below(4)] {
                let mut service = capture(world, &format!("capture.{place}=kill@{hit}"))?;
                let status = service.wait(60)?;
                assert!(
                    status.is_some_and(|status| status.code().is_none()),
                    "{place}@{hit}: {status:?} {}",
                    service.log()?
                );
            }
        }
        for turn in 0..6 {
            execute(world, &format!("r{turn}"), &["public.accounts"])?;
            let mut service = capture(world, "")?;
            std::thread::sleep(Duration::from_millis(300 + dice.below(1_500)));
            service.kill()?;
        }
        let service = capture(world, "")?;
        load.goes_on(50)?;
        until("the runs to end", 90, || Ok(completed(world)? >= 11))?;
        service.stop()?;
        let rows = incremental(world, "accounts")?;
        // A run reads each row once, but for those that change while their chunk is on its way, and one chunk again after a kill.
        assert!(rows.len() as u64 > 8 * ACCOUNTS, "{} rows", rows.len());
        Ok(())
    });
}

#[test]
fn killed_under_load_between_rows() {
    killed_under_load("kill_ii", "");
}

#[test]
fn killed_under_load_with_nothing_written() {
    killed_under_load("kill_ro", "read.only: \"true\"");
}

/// A replica whose rows somebody has damaged is mended by a run beside the stream, under load and killed in the middle: what the
/// run says is newer than what was there, and older than every change that comes later.
#[test]
fn a_damaged_replica_is_mended_under_load() {
    let tables = format!("{SIGNALS} {}", oracle::TABLES);
    let replica = "  wh: { postgres: \"${env:WH_DSN}\" }\nreplica: { from: shop, to: wh, tables: [public.accounts] }\n";
    let file = pipeline("public.accounts", "") + replica;
    let apps = [(oracle::APP, tables.as_str()), ("wh", "SELECT 1")];
    in_world("mend", &apps, &[("pipeline.yaml", &file)], |world| {
        oracle::open(world.db(oracle::APP), ACCOUNTS)?;
        world.work_off(&[Stage::Capture, Stage::Sink])?;
        world
            .db("wh")
            .exec("UPDATE accounts SET owner = 'damaged' WHERE id % 3 = 0")?;
        let mut dice = Dice::new("mend");
        let load = Load::start(&world.dsn(oracle::APP)?, &mut dice, ACCOUNTS, 100);
        execute(world, "s1", &["public.accounts"])?;
        for hit in [7, 40] {
            let mut service = capture(world, &format!("capture.in_chunk=kill@{hit}"))?;
            service.wait(60)?.context("a kill")?;
            world.until_current(&Stage::Sink)?;
        }
        load.goes_on(50)?;
        load.stop()?;
        world.work_off(&[Stage::Capture, Stage::Sink])?;
        let all = "SELECT id, owner, amount, ver FROM accounts ORDER BY id";
        assert_eq!(world.db("wh").text(all)?, world.db(oracle::APP).text(all)?);
        Ok(())
    });
}
