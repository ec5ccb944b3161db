//! Signals by each channel, snapshots beside the stream by each way to mark their windows, notifications: what comes of
//! them on real parts, and what is left of them when capture is killed.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value as Json, json};
use syncline_tests::oracle::{self, Load};
use syncline_tests::{Dice, Service, Stage, World, in_world, until};

const SIGNALS: &str =
    "CREATE TABLE signals (id varchar(42) PRIMARY KEY, type varchar(32) NOT NULL, data varchar(2048));";
const ITEMS: &str = "CREATE TABLE items (a int, b text, v text, PRIMARY KEY (b, a));
    INSERT INTO items SELECT i, 'k' || i % 3, 'v' || i FROM generate_series(1, 25) i;";

/// One app, `shop`, with these tables and properties.
fn pipeline(tables: &str, properties: &str) -> String {
    format!(
        r#"
pipeline: "${{env:PIPELINE}}"
defaults: {{ kafka: "${{env:BOOTSTRAP}}", registry: "${{env:REGISTRY}}" }}
systems:
  shop:
    postgres: "${{env:SHOP_DSN}}"
    topic_prefix: "${{env:SHOP_PREFIX}}"
    tables: [{tables}]
    debezium:
      signal.data.collection: public.signals
      signal.poll.interval.ms: 50
      incremental.snapshot.chunk.size: 10
      notification.enabled.channels: sink,log
      {properties}
"#
    )
}

/// A world whose tables are captured up to now.
fn captured(name: &str, sql: &str, pipeline: &str, test: impl FnOnce(&World) -> anyhow::Result<()>) {
    let sql = format!("{SIGNALS} {sql}");
    in_world(name, &[("shop", &sql)], &[("pipeline.yaml", pipeline)], |world| {
        world.until_current(&Stage::Capture)?;
        test(world)
    });
}

/// Puts a signal into the signalling table.
fn signal(world: &World, id: &str, kind: &str, data: &Json) -> anyhow::Result<()> {
    world
        .db("shop")
        .exec(&format!("INSERT INTO signals VALUES ('{id}', '{kind}', '{data}')"))
}

/// Asks for tables to be read beside the stream.
fn execute(world: &World, id: &str, tables: &[&str]) -> anyhow::Result<()> {
    signal(
        world,
        id,
        "execute-snapshot",
        &json!({"type": "incremental", "data-collections": tables}),
    )
}

/// The events of a table, in their order.
fn events(world: &World, table: &str) -> anyhow::Result<Vec<Json>> {
    let records = world.topics.read(&world.capture_topic("shop", table))?;
    let values = records.iter().filter_map(|record| record.value.as_ref());
    values.map(|value| world.topics.json(value)).collect()
}

/// Those that were read beside the stream.
fn incremental(world: &World, table: &str) -> anyhow::Result<Vec<Json>> {
    let mut events = events(world, table)?;
    events.retain(|event| event["source"]["snapshot"] == "incremental");
    Ok(events)
}

/// Type and data of each notification about an aggregate, the connector's name left out.
fn told(world: &World, aggregate: &str) -> anyhow::Result<Vec<(String, Json)>> {
    let topic = format!("{}.notifications", world.prefix("shop"));
    let mut all = Vec::new();
    for record in world.topics.read(&topic)? {
        let mut value = world.topics.json(record.value.as_deref().context("a value")?)?;
        let key = world.topics.json(record.key.as_deref().context("a key")?)?;
        assert_eq!(key["id"], value["id"]);
        if value["aggregate_type"] == aggregate {
            let data = value["additional_data"].take();
            let mut data: BTreeMap<String, Json> = serde_json::from_value(data)?;
            assert_eq!(data.remove("connector_name"), Some(world.prefix("shop").into()));
            let kind = value["type"].as_str().context("a type")?.to_owned();
            all.push((kind, json!(data)));
        }
    }
    Ok(all)
}

fn kinds(world: &World) -> anyhow::Result<Vec<String>> {
    Ok(told(world, "Incremental Snapshot")?
        .into_iter()
        .map(|(kind, _)| kind)
        .collect())
}

/// What a run in three chunks tells.
const THREE_CHUNKS: [&str; 6] = [
    "STARTED",
    "IN_PROGRESS",
    "IN_PROGRESS",
    "IN_PROGRESS",
    "TABLE_SCAN_COMPLETED",
    "COMPLETED",
];

// ---- windows ----------------------------------------------------------------------------------------------------------

/// Every row once, by key, as Debezium writes it; and what is in the signalling table afterwards.
fn read_beside_the_stream(name: &str, properties: &str, marks: &[(&str, i64)]) {
    let pipeline = pipeline("public.items", properties);
    captured(name, ITEMS, &pipeline, |world| {
        execute(world, "s1", &["public\\.it.*"])?;
        world.until_current(&Stage::Capture)?;
        let rows = incremental(world, "items")?;
        let keys: Vec<String> = rows
            .iter()
            .map(|row| format!("{}{}", row["after"]["b"].as_str().unwrap_or(""), row["after"]["a"]))
            .collect();
        let truth = world.db("shop").text("SELECT b || a FROM items ORDER BY b, a")?;
        assert_eq!(keys.join("\n"), truth);
        for row in &rows {
            let source = &row["source"];
            assert_eq!(
                (&row["op"], &row["before"], &row["transaction"]),
                (&json!("r"), &Json::Null, &Json::Null)
            );
            assert_eq!((&source["txId"], &source["lsn"]), (&Json::Null, &Json::Null));
            let sequence: Vec<Option<String>> =
                serde_json::from_str(source["sequence"].as_str().context("a sequence")?)?;
            assert!(
                sequence.len() == 2 && sequence.iter().all(Option::is_some),
                "{sequence:?}"
            );
        }
        assert_eq!(kinds(world)?, THREE_CHUNKS);
        for (kind, count) in marks {
            let sql = format!("SELECT count(*) FROM signals WHERE type = 'snapshot-window-{kind}'");
            assert_eq!(world.db("shop").number(&sql)?, *count, "{kind}");
        }
        // Once: a later run takes no signal again.
        world.until_current(&Stage::Capture)?;
        assert_eq!(incremental(world, "items")?.len(), 25);
        Ok(())
    });
}

#[test]
fn a_window_between_two_rows() {
    read_beside_the_stream("win_ii", "", &[("open", 3), ("close", 3)]);
}

#[test]
fn a_window_between_a_row_and_its_end() {
    let strategy = "incremental.snapshot.watermarking.strategy: insert_delete";
    read_beside_the_stream("win_id", strategy, &[("open", 0), ("close", 0)]);
}

#[test]
fn a_window_for_which_nothing_is_written() {
    read_beside_the_stream("win_ro", "read.only: \"true\"", &[("open", 0), ("close", 0)]);
}

/// The rows and the notifications that Debezium 3.6.3 wrote for the same table and the same two signals.
#[test]
fn what_debezium_wrote_for_the_same_signals() {
    let sql = "CREATE TABLE incr (id int PRIMARY KEY, v text); INSERT INTO incr SELECT i, 'w' || i FROM generate_series(1, 3) i;
               CREATE TABLE k_composite (c int, a int, b text, v text, PRIMARY KEY (b, a)); INSERT INTO k_composite VALUES (1, 2, 'three', 'v');";
    let pipeline = pipeline("public.incr, public.k_composite", "");
    captured("gold", sql, &pipeline, |world| {
        execute(world, "s1", &["public.incr"])?;
        world.until_current(&Stage::Capture)?;
        let before = told(world, "Initial Snapshot")?.len();
        signal(
            world,
            "s2",
            "execute-snapshot",
            &json!({"type": "blocking", "data-collections": ["public.k_composite"]}),
        )?;
        world.until_current(&Stage::Capture)?;
        let mut ours = told(world, "Incremental Snapshot")?;
        ours.extend(told(world, "Initial Snapshot")?.split_off(before));
        // Each start of a process that has nothing to read says so, as Debezium's does.
        ours.retain(|(kind, _)| kind != "SKIPPED");
        let (mut theirs, mut rows) = (Vec::new(), Vec::new());
        for line in include_str!("../../fixtures/variant.signals.jsonl").lines() {
            let mut line: Json = serde_json::from_str(line)?;
            if let Some(row) = line.get_mut("row") {
                rows.push((row["after"].take(), row["source"]["snapshot"].take()));
                continue;
            }
            let mut data = line["notification"]["additional_data"].take();
            data.as_object_mut().context("data")?.remove("connector_name");
            theirs.push((
                line["notification"]["type"].as_str().context("a type")?.to_owned(),
                data,
            ));
        }
        let shown = |all: &[(String, Json)]| {
            all.iter()
                .map(|(kind, data)| format!("{kind} {data}"))
                .collect::<Vec<_>>()
        };
        assert_eq!(shown(&ours), shown(&theirs));
        let found = incremental(world, "incr")?.into_iter();
        let found: Vec<(Json, Json)> = found
            .map(|mut row| (row["after"].take(), row["source"]["snapshot"].take()))
            .collect();
        assert_eq!(found, rows);
        assert_eq!(
            events(world, "k_composite")?.last().context("a row")?["source"]["snapshot"],
            "last"
        );
        Ok(())
    });
}

// ---- channels ---------------------------------------------------------------------------------------------------------

#[test]
fn a_signal_on_the_topic_is_taken_once() {
    let pipeline = pipeline("public.items", "signal.enabled.channels: kafka");
    captured("sig_kafka", ITEMS, &pipeline, |world| {
        let topic = format!("{}-signal", world.prefix("shop"));
        let value =
            json!({"type": "execute-snapshot", "data": {"data-collections": ["public.items"], "type": "INCREMENTAL"}});
        let record = |key: &str| {
            (
                Some(key.as_bytes().to_vec()),
                Some(value.to_string().into_bytes()),
                Vec::new(),
            )
        };
        let nonsense = (
            Some(world.prefix("shop").into_bytes()),
            Some(b"nonsense".to_vec()),
            Vec::new(),
        );
        world
            .topics
            .write(&topic, &[record("another"), nonsense, record(&world.prefix("shop"))])?;
        let finished = world.until_current(&Stage::Capture)?;
        assert!(
            finished.log.contains("SIGNAL_REFUSED") && finished.log.contains("at offset 1"),
            "{}",
            finished.log
        );
        assert_eq!(incremental(world, "items")?.len(), 25);
        world.until_current(&Stage::Capture)?;
        assert_eq!(incremental(world, "items")?.len(), 25);
        world.topics.write(&topic, &[record(&world.prefix("shop"))])?;
        world.until_current(&Stage::Capture)?;
        assert_eq!(incremental(world, "items")?.len(), 50);
        Ok(())
    });
}

#[test]
fn a_signal_in_the_file_is_taken_once_and_the_file_goes() {
    let properties =
        "signal.enabled.channels: file\n      signal.file: signals.txt\n      signal.data.collection: public.nowhere";
    let pipeline = pipeline("public.items", properties).replace("      signal.data.collection: public.signals\n", "");
    captured("sig_file", ITEMS, &pipeline, |world| {
        let line = json!({"id": "f1", "type": "execute-snapshot", "data": {"data-collections": ["public.items"]}});
        std::fs::write(world.path("signals.txt"), format!("{line}\nnonsense\n"))?;
        // Killed when what it asks for is on its way to Kafka: once all the same.
        world.set_env("SYNCLINE_FAILPOINTS", "capture.after_commit=kill@2");
        let finished = world.run(&Stage::Capture, &["--until-current"])?;
        assert_eq!(finished.code, None, "{}", finished.log);
        world.set_env("SYNCLINE_FAILPOINTS", "");
        let finished = world.until_current(&Stage::Capture)?;
        assert_eq!(incremental(world, "items")?.len(), 25, "{}", finished.log);
        world.until_current(&Stage::Capture)?;
        assert_eq!(incremental(world, "items")?.len(), 25);
        assert!(!world.path("signals.txt").exists() && !world.path("signals.txt.taken").exists());
        Ok(())
    });
}

// ---- kinds ------------------------------------------------------------------------------------------------------------

#[test]
fn a_bad_signal_is_a_warning_and_nothing_stops() {
    let sql = format!(
        "{ITEMS} CREATE TABLE heap (v text); ALTER TABLE heap REPLICA IDENTITY FULL; INSERT INTO heap VALUES ('x'), ('y');"
    );
    let pipeline = pipeline("public.items, public.heap", "");
    captured("sig_bad", &sql, &pipeline, |world| {
        signal(world, "b1", "explode", &json!({}))?;
        signal(world, "b2", "execute-snapshot", &json!({"data-collections": ["("]}))?;
        execute(world, "b3", &["public.unheard"])?;
        world
            .db("shop")
            .exec("INSERT INTO signals VALUES ('b4', 'execute-snapshot', 'no json'), ('b5', 'log', NULL)")?;
        let filter = json!([{"data-collection": "public.items", "filter": "no_such_column = 1"}]);
        signal(
            world,
            "b6",
            "execute-snapshot",
            &json!({"data-collections": ["public.items"], "additional-conditions": filter}),
        )?;
        execute(world, "b7", &["public.heap"])?;
        signal(
            world,
            "b8",
            "execute-snapshot",
            &json!({"data-collections": ["public.heap"], "surrogate-key": "v"}),
        )?;
        execute(world, "b9", &["public.items"])?;
        let log = world.until_current(&Stage::Capture)?.log;
        for id in ["b1", "b2", "b3", "b4", "b5", "b6", "b7"] {
            assert!(
                log.lines()
                    .any(|line| line.contains("SIGNAL_") && line.contains(&format!("\"{id}\""))),
                "{id}:\n{log}"
            );
        }
        assert_eq!(
            (incremental(world, "items")?.len(), incremental(world, "heap")?.len()),
            (25, 2)
        );
        let told = told(world, "Incremental Snapshot")?;
        let scans = told.iter().filter(|(kind, _)| kind == "TABLE_SCAN_COMPLETED");
        let statuses: Vec<&str> = scans.filter_map(|(_, data)| data["status"].as_str()).collect();
        assert_eq!(statuses, ["SQL_EXCEPTION", "NO_PRIMARY_KEY", "SUCCEEDED", "SUCCEEDED"]);
        Ok(())
    });
}

#[test]
fn a_run_is_paused_resumed_and_stopped() {
    captured("sig_pause", ITEMS, &pipeline("public.items", ""), |world| {
        execute(world, "s1", &["public.items"])?;
        signal(world, "s2", "pause-snapshot", &json!({}))?;
        world.until_current(&Stage::Capture)?;
        let before = incremental(world, "items")?.len();
        assert!(before < 25, "{before}");
        // Paused also after a restart.
        world.until_current(&Stage::Capture)?;
        assert_eq!(incremental(world, "items")?.len(), before);
        signal(world, "s3", "resume-snapshot", &json!({}))?;
        world.until_current(&Stage::Capture)?;
        assert_eq!(incremental(world, "items")?.len(), 25);
        world.db("shop").exec(
            "BEGIN; INSERT INTO signals VALUES ('s4', 'execute-snapshot', '{\"data-collections\": [\"public.items\"]}');
             INSERT INTO signals VALUES ('s5', 'pause-snapshot', NULL), ('s6', 'stop-snapshot', '{\"type\": \"incremental\"}'); COMMIT",
        )?;
        world.until_current(&Stage::Capture)?;
        assert_eq!(incremental(world, "items")?.len(), 25);
        let kinds = kinds(world)?;
        for kind in ["PAUSED", "RESUMED", "ABORTED"] {
            assert!(kinds.iter().any(|told| told == kind), "{kinds:?}");
        }
        assert_eq!(kinds.last().map(String::as_str), Some("ABORTED"));
        // Nothing is stuck.
        execute(world, "s7", &["public.items"])?;
        world.until_current(&Stage::Capture)?;
        assert_eq!(incremental(world, "items")?.len(), 50);
        Ok(())
    });
}

/// Part of a table, while the stream waits; killed in the middle of it, it is read to its end, and still only the part.
#[test]
fn a_blocking_snapshot_of_a_part_survives_a_kill() {
    captured("sig_block", ITEMS, &pipeline("public.items", ""), |world| {
        let filter = json!([{"data-collection": "public.items", "filter": "SELECT * FROM public.items WHERE a <= 5"}]);
        let data = json!({"type": "blocking", "data-collections": ["public.items"], "additional-conditions": filter});
        signal(world, "s1", "execute-snapshot", &data)?;
        world.set_env("SYNCLINE_FAILPOINTS", "capture.in_snapshot_chunk=kill@3");
        let finished = world.run(&Stage::Capture, &["--until-current"])?;
        assert_eq!(finished.code, None, "{}", finished.log);
        world.set_env("SYNCLINE_FAILPOINTS", "");
        world.until_current(&Stage::Capture)?;
        let events = events(world, "items")?;
        assert_eq!(events.len(), 25 + 5);
        assert!(
            events
                .iter()
                .skip(25)
                .all(|event| event["op"] == "r" && event["after"]["a"].as_i64() <= Some(5))
        );
        world.until_current(&Stage::Capture)?;
        assert_eq!(self::events(world, "items")?.len(), 30);
        Ok(())
    });
}

// ---- while the world goes on ------------------------------------------------------------------------------------------

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

fn capture(world: &World, failpoints: &str) -> anyhow::Result<Service> {
    world.start_with(&Stage::Capture, &[], &[("SYNCLINE_FAILPOINTS", failpoints)])
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

// ---- the initial snapshot ---------------------------------------------------------------------------------------------

/// Eight tables on four connections, killed again and again, with changes meanwhile: every row once or in the stream, and the
/// words for first and last once.
#[test]
fn a_snapshot_on_several_connections_survives_kills() {
    let names: Vec<String> = (0..8).map(|n| format!("t{n}")).collect();
    let sql: String = names
        .iter()
        .map(|name| format!("CREATE TABLE {name} (id int PRIMARY KEY, v int); INSERT INTO {name} SELECT i, 0 FROM generate_series(1, 45000) i;"))
        .collect();
    let tables = names
        .iter()
        .map(|name| format!("public.{name}"))
        .collect::<Vec<_>>()
        .join(", ");
    let file = pipeline(&tables, "snapshot.max.threads: 4");
    in_world(
        "parallel",
        &[("shop", &format!("{SIGNALS} {sql}"))],
        &[("pipeline.yaml", &file)],
        |world| {
            for hit in [30_000, 70_000] {
                let mut service = capture(world, &format!("capture.in_snapshot_chunk=kill@{hit}"))?;
                let status = service.wait(90)?;
                assert!(
                    status.is_some_and(|status| status.code().is_none()),
                    "{status:?} {}",
                    service.log()?
                );
                for name in &names {
                    world
                        .db("shop")
                        .exec(&format!("UPDATE {name} SET v = v + 1 WHERE id % 100 = 0"))?;
                }
            }
            world.until_current(&Stage::Capture)?;
            let mut labels: BTreeMap<String, usize> = BTreeMap::new();
            for name in &names {
                let mut rows = BTreeMap::new();
                let (mut snapshot, mut stale) = (0, 0);
                for event in events(world, name)? {
                    let (id, v) = (event["after"]["id"].as_i64(), event["after"]["v"].as_i64());
                    let label = event["source"]["snapshot"].as_str().unwrap_or_default().to_owned();
                    snapshot += usize::from(label != "false");
                    *labels.entry(label).or_default() += 1;
                    if rows.insert(id, v).is_some_and(|before| before > v) {
                        stale += 1;
                    }
                }
                assert_eq!((rows.len(), snapshot), (45_000, 45_000), "{name}");
                let sum: i64 = rows.values().flatten().sum();
                assert_eq!(
                    sum,
                    world.db("shop").number(&format!("SELECT sum(v) FROM {name}"))?,
                    "{name}, {stale} went back for a while"
                );
            }
            assert_eq!(labels["last_in_data_collection"] + labels["last"], 8, "{labels:?}");
            assert_eq!(labels["last"], 1, "{labels:?}");
            Ok(())
        },
    );
}
