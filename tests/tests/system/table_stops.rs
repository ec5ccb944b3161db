//! A table that cannot be published any more stops alone: its schema is refused, or a row of the server cannot be sent.

use anyhow::Context as _;
use syncline_tests::{Stack, Stage, World, http, in_world, until};

const TABLES: &str = "CREATE TABLE orders (id serial PRIMARY KEY, quantity int);
                      CREATE TABLE events (id serial PRIMARY KEY, note text)";
const PIPELINE: &str = r#"
pipeline: "${env:PIPELINE}"
defaults: { kafka: "${env:BOOTSTRAP}", registry: "${env:REGISTRY}" }
systems:
  shop: { postgres: "${env:SHOP_DSN}", topic_prefix: "${env:SHOP_PREFIX}", tables: [orders, events] }
"#;

fn with(name: &str, test: impl FnOnce(&World) -> anyhow::Result<()>) {
    in_world(name, &[("shop", TABLES)], &[("pipeline.yaml", PIPELINE)], |world| {
        world
            .db("shop")
            .exec("INSERT INTO orders (quantity) VALUES (1); INSERT INTO events (note) VALUES ('a')")?;
        world.until_current(&Stage::Capture)?;
        test(world)
    });
}

fn column(world: &World, table: &str, column: &str) -> anyhow::Result<Vec<String>> {
    let records = world.topics.read(&world.capture_topic("shop", table))?;
    let shown = |value: &Vec<u8>| {
        Ok(syncline_tests::agreed::show(
            &world.topics.json(value)?["after"][column],
        ))
    };
    let values = records.iter().filter_map(|record| record.value.as_ref());
    values.map(shown).collect()
}

/// What the registry asks of new schemas of a topic's values.
fn compatibility(world: &World, table: &str, level: &str) -> anyhow::Result<()> {
    let subject = format!("/config/{}-value", world.capture_topic("shop", table));
    let body = format!(r#"{{"compatibility":"{level}"}}"#);
    let registry = Stack::from_env()?.registry;
    let content_type = "application/vnd.schemaregistry.v1+json";
    http::done(&registry, "PUT", &subject, content_type, Some(&body)).map(|_| ())
}

#[test]
fn f39_f62_a_column_retyped_incompatibly_stops_its_table_alone() {
    with("retyped", |world| {
        compatibility(world, "orders", "BACKWARD")?;
        let service = world.start_with(&Stage::Capture, &["--listen", "127.0.0.1:0"], &[])?;
        world.db("shop").exec(
            "ALTER TABLE orders ALTER quantity TYPE text; INSERT INTO orders (quantity) VALUES ('many');
             INSERT INTO events (note) VALUES ('b')",
        )?;
        until("the event", 60, || Ok(column(world, "events", "note")? == ["a", "b"]))?;
        assert_eq!(column(world, "orders", "quantity")?, ["1"]);
        let status = http::text(&service.listening()?, "/readyz")?;
        assert!(
            status.contains("public.orders stopped: SCHEMA_INCOMPATIBLE"),
            "{status}"
        );
        service.stop()?;
        // Not mended, it stops at the first sight; mended, it is read.
        world.until_current(&Stage::Capture)?.expect_log("TABLE_STOPPED")?;
        compatibility(world, "orders", "NONE")?;
        world.until_current(&Stage::Capture)?;
        assert_eq!(column(world, "orders", "quantity")?, ["1", "1", "many"]);
        Ok(())
    });
}

/// F23: as text the row is longer than a server can make it, and the stream ends at it at every attempt. Bits are the
/// cheapest such row: 140 MB of them have more than a gigabyte of digits, for which the server is refused the memory.
#[test]
fn f23_a_row_that_the_server_cannot_send_is_named_with_its_place_and_the_way_past_it() {
    const BITS_OF_10_MIB: &str = "B'1'::bit(83886080)";
    let bits = [BITS_OF_10_MIB; 14].join(" || ");
    with("poisonwal", |world| {
        let db = world.db("shop");
        db.exec("ALTER TABLE orders ADD bits bit varying")?;
        world.until_current(&Stage::Capture)?;
        db.exec("INSERT INTO events (note) VALUES ('b')")?;
        db.exec(&format!("INSERT INTO orders (quantity, bits) VALUES (2, {bits})"))?;
        db.exec("INSERT INTO events (note) VALUES ('c')")?;
        let stopped = world.run(&Stage::Capture, &["--until-current"])?.expect_code(1)?;
        let log = stopped.expect_log("POISON_WAL")?.log;
        assert_eq!(column(world, "events", "note")?, ["a", "b"]);
        // The way past it, as it is printed.
        let way = log.split("SELECT pg_replication_slot_advance(").nth(1);
        let way = way.and_then(|rest| rest.split(");").next()).context("the statement")?;
        db.exec("UPDATE orders SET bits = NULL")?;
        db.exec(&format!("SELECT pg_replication_slot_advance({way})"))?;
        let past = ["--until-current", "--adopt-slot", "--reread", "public.orders"];
        world.run(&Stage::Capture, &past)?.expect_code(0)?;
        world.until_current(&Stage::Capture)?;
        assert_eq!(column(world, "events", "note")?, ["a", "b", "c"]);
        let quantities = column(world, "orders", "quantity")?;
        assert!(quantities.contains(&"2".to_owned()), "{quantities:?}");
        Ok(())
    });
}
