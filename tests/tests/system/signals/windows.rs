//! What a window leaves: every row once, whichever way its ends are marked.

use anyhow::Context as _;
use serde_json::{Value as Json, json};
use syncline_tests::Stage;

use super::{ITEMS, THREE_CHUNKS, captured, events, execute, incremental, kinds, pipeline, signal, told};

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
        for line in include_str!("../../../fixtures/variant.signals.jsonl").lines() {
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
