//! Issue: whoever read Debezium's topics reads ours: Debezium's own JDBC sink, and a Python program with Confluent's client.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context as _, bail};
use serde_json::{Value as Json, json};
use syncline_tests::beside::host_and_port;
use syncline_tests::connect::Worker;
use syncline_tests::{Stack, Stage, World, in_world};

const PIPELINE: &str = r#"
pipeline: "${env:PIPELINE}"
defaults: { kafka: "${env:BOOTSTRAP}", registry: "${env:REGISTRY}" }
systems:
  shop: { postgres: "${env:SHOP_DSN}", topic_prefix: "${env:SHOP_PREFIX}", tables: [public.common] }
"#;

/// All tables of the app, by a replica that nobody delivers.
const PIPELINE_OF_ALL: &str = r#"
pipeline: "${env:PIPELINE}"
defaults: { kafka: "${env:BOOTSTRAP}", registry: "${env:REGISTRY}" }
systems:
  shop:  { postgres: "${env:SHOP_DSN}", topic_prefix: "${env:SHOP_PREFIX}" }
  other: { postgres: "${env:SHOP_DSN}" }
replica: { from: shop, to: other }
"#;

/// The types that most tables are made of.
const COMMON: &str = "
CREATE TABLE common (id bigint PRIMARY KEY, small smallint, whole int, flag boolean, price numeric(10,2), ratio double precision,
  name text, code varchar(8), born date, seen timestamp, seen_ms timestamp(3), at timestamptz, uid uuid, doc jsonb, raw bytea,
  tags text[], amounts int[]);
INSERT INTO common SELECT i, i, i * 1000, i % 2 = 0, i / 4.0, i / 8.0 + 0.0625, 'näme ' || i, 'c' || i, date '2024-02-29' - i * 4000,
  timestamp '2024-02-29 13:14:15.123456' - i * interval '3000 days', timestamp '2024-02-29 13:14:15.123',
  timestamptz '2024-02-29 13:14:15.5+02', ('00000000-0000-0000-0000-00000000000' || i)::uuid,
  jsonb_build_object('n', i, 'list', ARRAY[i, NULL]), decode('00ff0' || i, 'hex'), ARRAY['a b', 'c\"d', NULL], ARRAY[i, -i]
  FROM generate_series(1, 8) i;
INSERT INTO common (id) VALUES (9);";

/// Inserts, updates, deletes, a key change, a row that goes and comes again.
const CHANGES: [&str; 7] = [
    "INSERT INTO common (id, name, price) VALUES (10, 'new', -0.01)",
    "UPDATE common SET price = price + 0.05, doc = '{\"changed\": true}', tags = '{}' WHERE id <= 3",
    "UPDATE common SET id = 20, name = 'moved' WHERE id = 4",
    "DELETE FROM common WHERE id = 5",
    "BEGIN; DELETE FROM common WHERE id = 6; INSERT INTO common (id, name) VALUES (6, 'again'); COMMIT",
    "UPDATE common SET price = NULL, at = NULL WHERE id = 7",
    "UPDATE common SET id = 5, flag = NULL WHERE id = 8",
];

const SAME_MAX_S: u64 = 90;
/// Each cell as text, so that a copy may choose `json` for `jsonb`.
const ROWS: &str = "SELECT id, small, whole, flag, price, ratio, name, code, born, seen, seen_ms, at, uid, doc::jsonb, raw, tags, amounts
  FROM common ORDER BY id";

#[test]
fn debeziums_jdbc_sink_builds_the_same_table_from_our_topics() {
    let (apps, files) = ([("shop", COMMON), ("copy", "SELECT 1")], [("pipeline.yaml", PIPELINE)]);
    in_world("jdbc", &apps, &files, |world| {
        let capture = world.start(&Stage::Capture)?;
        let (host, port) = host_and_port(&world.dsn("copy")?)?;
        let topic = world.capture_topic("shop", "common");
        syncline_tests::until("the first rows", SAME_MAX_S, || {
            Ok(!world.topics.names(&[&topic])?.is_empty())
        })?;
        let worker = Worker::shared()?;
        let sink = worker.create(
            &world.name,
            &json!({
                "connector.class": "io.debezium.connector.jdbc.JdbcSinkConnector",
                "tasks.max": "1",
                "topics": topic,
                "connection.url": format!("jdbc:postgresql://{host}:{port}/{}", world.database("copy")),
                "connection.username": "postgres",
                "connection.password": "not asked for",
                "insert.mode": "upsert",
                "delete.enabled": "true",
                "primary.key.mode": "record_key",
                "schema.evolution": "basic",
                "collection.name.format": "common",
                "consumer.override.isolation.level": "read_committed",
            }),
        )?;
        let (source, copy) = (world.db("shop"), world.db("copy"));
        let same = || {
            sink.check()?;
            let made = copy.text("SELECT to_regclass('common') IS NOT NULL")? == "t";
            Ok(made && copy.text(ROWS)? == source.text(ROWS)?)
        };
        syncline_tests::until("the copy to have the rows of the snapshot", SAME_MAX_S, same)?;
        for change in CHANGES {
            source.exec(change)?;
        }
        syncline_tests::until("the copy to follow each change", SAME_MAX_S, same)?;
        capture.stop()
    });
}

/// Runs the Python program on topics; its lines.
fn read(world: &World, topics: &[String]) -> anyhow::Result<Vec<Json>> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let made = Command::new(format!("{root}/deploy/debezium.sh"))
        .arg("python")
        .output()?;
    if !made.status.success() {
        bail!("no Python: {}", String::from_utf8_lossy(&made.stderr));
    }
    let stack = Stack::from_env()?;
    let mut command = Command::new(String::from_utf8(made.stdout)?.trim());
    command
        .arg(format!("{root}/tests/consumers/read.py"))
        .args([&stack.kafka, &stack.registry]);
    let output = command.args(topics).output()?;
    std::fs::write(world.path("read.log"), &output.stderr)?;
    if !output.status.success() {
        bail!("the reader: {}", String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8(output.stdout)?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// What Debezium's forms make of each row: days, microseconds, text of decimals.
const EXPECTED: &str = r#"SELECT json_build_object('id', id, 'small', small, 'whole', whole, 'flag', flag, 'price', price::text, 'ratio', ratio,
  'name', name, 'code', code, 'born', born - date '1970-01-01', 'seen', (extract(epoch FROM seen) * 1000000)::bigint,
  'seen_ms', (extract(epoch FROM seen_ms) * 1000)::bigint, 'at', to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
  'uid', uid, 'doc', doc::text, 'raw', encode(raw, 'hex'), 'tags', tags, 'amounts', amounts) FROM common ORDER BY id"#;

#[test]
fn a_python_consumer_reads_the_rows_that_the_table_has() {
    let (apps, files) = ([("shop", COMMON)], [("pipeline.yaml", PIPELINE)]);
    in_world("python", &apps, &files, |world| {
        world.until_current(&Stage::Capture)?;
        for change in CHANGES {
            world.db("shop").exec(change)?;
        }
        world.until_current(&Stage::Capture)?;
        let mut rows = BTreeMap::new();
        for record in read(world, &[world.capture_topic("shop", "common")])? {
            let id = record["key"]["id"].as_i64().context("a key")?;
            match &record["value"]["after"] {
                Json::Null => _ = rows.remove(&id),
                after => _ = rows.insert(id, after.clone()),
            }
        }
        let truth = world.db("shop").text(EXPECTED)?;
        let truth: Vec<Json> = truth.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        for (row, found) in truth.iter().zip(rows.values()) {
            assert_eq!(found, row);
        }
        assert_eq!((rows.len(), truth.len()), (9, 9));
        Ok(())
    });
}

/// The statements of a part of the script, without those about a table that capture refuses.
fn part(name: &str) -> Vec<&'static str> {
    const SCRIPT: &str = include_str!("../../fixtures/side_by_side.sql");
    let lines = SCRIPT
        .lines()
        .skip_while(|line| !line.starts_with(&format!("-- @{name}:")));
    let lines = lines.skip(1).take_while(|line| !line.starts_with("-- @"));
    lines.filter(|line| !line.is_empty()).collect()
}

#[test]
fn a_python_consumer_reads_every_record_of_every_type() {
    in_world(
        "types",
        &[("shop", "SELECT 1")],
        &[("pipeline.yaml", PIPELINE_OF_ALL)],
        |world| {
            let db = world.db("shop");
            db.exec(&part("setup").join("\n"))?;
            // Its replica identity is not its primary key, which is refused.
            db.exec("DROP TABLE k_index")?;
            world.until_current(&Stage::Capture)?;
            for statement in part("stream").iter().filter(|sql| !sql.contains("k_index")) {
                db.exec(statement)?;
            }
            world.until_current(&Stage::Capture)?;

            let topics = world.topics.names(&[&world.prefix("shop")])?;
            let written = world.topics.read_all(&topics)?;
            let mut found: BTreeMap<String, usize> = BTreeMap::new();
            for record in read(world, &topics)? {
                let topic = record["topic"].as_str().context("a topic")?;
                *found.entry(topic.to_owned()).or_default() += 1;
            }
            let number: BTreeMap<String, usize> = written.into_iter().map(|(topic, all)| (topic, all.len())).collect();
            let number: BTreeMap<String, usize> = number.into_iter().filter(|(_, number)| *number > 0).collect();
            assert_eq!(found, number);
            let tables: BTreeSet<&String> = number.keys().filter(|topic| !topic.contains(".syncline.")).collect();
            assert!(tables.len() >= 20 && number.values().sum::<usize>() > 150, "{number:?}");
            println!("{number:?}");
            Ok(())
        },
    );
}
