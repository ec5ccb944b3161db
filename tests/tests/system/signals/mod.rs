//! Signals by each channel, snapshots beside the stream by each way to mark their windows, notifications: what comes of
//! them on real parts, and what is left of them when capture is killed.

mod channels;
mod initial;
mod kinds_of_signals;
mod meanwhile;
mod windows;

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde_json::{Value as Json, json};
use syncline_tests::{Service, Stage, World, in_world};

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

/// Capture as a service that has these failpoints.
fn capture(world: &World, failpoints: &str) -> anyhow::Result<Service> {
    world.start_with(&Stage::Capture, &[], &[("SYNCLINE_FAILPOINTS", failpoints)])
}
