//! What signals ask for: runs paused, resumed and stopped, blocking snapshots.

use serde_json::json;
use syncline_tests::Stage;

use super::{ITEMS, captured, events, execute, incremental, kinds, pipeline, signal, told};

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
