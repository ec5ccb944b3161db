//! The initial snapshot on several connections.

use std::collections::BTreeMap;

use syncline_tests::{Stage, in_world};

use super::{SIGNALS, capture, events, pipeline};

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
