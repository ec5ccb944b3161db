//! Replica mode: identical tables, made and evolved by the sink, straight from the capture topics.

use syncline_tests::{Stage, World, in_world};

const SHOP: &str = "
CREATE TABLE orders (
  id bigint PRIMARY KEY, customer text NOT NULL, total numeric(12,2), paid boolean, lines integer[], note text,
  placed_on date, placed_at timestamptz, token uuid, body jsonb);
CREATE TABLE order_lines (order_id bigint, line int, sku text, PRIMARY KEY (order_id, line));
INSERT INTO orders SELECT i, 'c' || i, i * 1.25, i % 2 = 0, ARRAY[i, i + 1], CASE WHEN i % 3 = 0 THEN NULL ELSE 'n' || i END,
  date '2026-01-01' + i, timestamptz '2026-01-01 00:00:00.123456+00' + i * interval '1 hour',
  md5(i::text)::uuid, jsonb_build_object('i', i) FROM generate_series(1, 500) i;
INSERT INTO order_lines SELECT i, 1, 'sku' || i FROM generate_series(1, 500) i;
";

const PIPELINE: &str = r#"
pipeline: "${env:PIPELINE}"
defaults: { kafka: "${env:BOOTSTRAP}", registry: "${env:REGISTRY}" }
systems:
  shop:      { postgres: "${env:SHOP_DSN}", topic_prefix: "${env:SHOP_PREFIX}" }
  warehouse: { postgres: "${env:WAREHOUSE_DSN}", topic_prefix: "${env:WAREHOUSE_PREFIX}" }
replica: { from: shop, to: warehouse, tables: [public.orders, public.order_lines] }
"#;

fn rows(world: &World, app: &str, table: &str) -> anyhow::Result<String> {
    let key = if table == "orders" { "id" } else { "order_id, line" };
    // The copy has the positions of its rows besides.
    let row = "to_jsonb(t) - '_syncline_position'";
    world
        .db(app)
        .text(&format!("SELECT {row} FROM {table} AS t ORDER BY {key}"))
}

fn replicate(world: &World) -> anyhow::Result<()> {
    world.work_off(&[Stage::capture("shop"), Stage::sink("warehouse")])
}

fn assert_equal(world: &World, after: &str) -> anyhow::Result<()> {
    for table in ["orders", "order_lines"] {
        assert!(
            rows(world, "shop", table)? == rows(world, "warehouse", table)?,
            "{table} differs after {after}"
        );
    }
    Ok(())
}

#[test]
fn a_replica_stays_identical() {
    in_world(
        "replica",
        &[("shop", SHOP), ("warehouse", "SELECT 1")],
        &[("pipeline.yaml", PIPELINE)],
        |world| {
            replicate(world)?;
            assert_equal(world, "the snapshot")?;
            world.db("shop").exec(
                "UPDATE orders SET total = total + 1, body = '{\"a\": [1, null]}' WHERE id % 7 = 0;
             UPDATE orders SET note = NULL WHERE id = 1;
             DELETE FROM orders WHERE id % 50 = 0;
             UPDATE orders SET id = 1000 WHERE id = 7;
             INSERT INTO order_lines VALUES (1, 2, 'é'';--')",
            )?;
            replicate(world)?;
            assert_equal(world, "changes")?;

            world.db("shop").exec("ALTER TABLE orders ADD COLUMN channel text")?;
            world
                .db("shop")
                .exec("UPDATE orders SET channel = 'web' WHERE id < 10")?;
            world
                .db("shop")
                .exec("INSERT INTO orders (id, customer, channel) VALUES (2000, 'late', 'phone')")?;
            replicate(world)?;
            assert_equal(world, "a new column")?;

            world
                .db("shop")
                .exec("TRUNCATE order_lines; INSERT INTO order_lines VALUES (9, 9, 'after')")?;
            replicate(world)?;
            assert_equal(world, "a truncate")?;

            replay(world)
        },
    );
}

/// Nothing is written again, and an older row never overwrites a newer one.
fn replay(world: &World) -> anyhow::Result<()> {
    let versions = || {
        world
            .db("warehouse")
            .text("SELECT id, xmin, ctid FROM orders ORDER BY id")
    };
    let before = versions()?;
    world.forget()?;
    world.until_current(&Stage::sink("warehouse"))?;
    assert!(versions()? == before, "a replay wrote rows");
    assert_equal(world, "a replay")
}

/// A value that TOAST keeps elsewhere and that an update did not touch is not in the log; the copy's is left alone.
#[test]
fn an_unchanged_toast_value_is_left_alone() {
    let shop = "
      CREATE TABLE orders (id int PRIMARY KEY, note text, body text);
      ALTER TABLE orders ALTER COLUMN body SET STORAGE EXTERNAL;
      CREATE TABLE order_lines (order_id bigint, line int, PRIMARY KEY (order_id, line));";
    in_world(
        "toast",
        &[("shop", shop), ("warehouse", "SELECT 1")],
        &[("pipeline.yaml", PIPELINE)],
        |world| {
            world
                .db("shop")
                .exec("INSERT INTO orders VALUES (1, 'a', repeat('0123456789', 2000)), (2, 'a', NULL)")?;
            replicate(world)?;
            world.db("shop").exec("UPDATE orders SET note = 'b'")?;
            replicate(world)?;
            assert_equal(world, "an update beside a large value")?;
            world.db("shop").exec("UPDATE orders SET body = 'small' WHERE id = 1")?;
            replicate(world)?;
            assert_equal(world, "an update of the large value")
        },
    );
}

/// Compaction may leave of a delete nothing but its tombstone (F95).
#[test]
fn a_tombstone_alone_deletes_the_row_that_was_there_before_it() {
    let shop = "CREATE TABLE orders (id int PRIMARY KEY, note text); CREATE TABLE order_lines (order_id bigint, line int, PRIMARY KEY (order_id, line));
                INSERT INTO orders VALUES (1, 'a'), (2, 'b')";
    in_world(
        "tombstone",
        &[("shop", shop), ("warehouse", "SELECT 1")],
        &[("pipeline.yaml", PIPELINE)],
        |world| {
            replicate(world)?;
            world.db("shop").exec(
                "DELETE FROM orders WHERE id = 1; DELETE FROM orders WHERE id = 2; INSERT INTO orders VALUES (2, 'c')",
            )?;
            world.until_current(&Stage::capture("shop"))?;
            // The topic as compaction would leave it, for a sink that has not read the deletes yet.
            let topic = world.capture_topic("shop", "orders");
            let records = world.topics.read(&topic)?;
            let tombstones: Vec<_> = records.iter().filter(|record| record.value.is_none()).collect();
            assert_eq!(tombstones.len(), 2);
            world.until_current(&Stage::sink("warehouse"))?;
            assert_equal(world, "deletes")?;
            world.db("warehouse").exec(
                "INSERT INTO orders VALUES (1, 'a'); DELETE FROM syncline.replica_rows WHERE key = '{\"id\":1}'",
            )?;
            let again: Vec<_> = tombstones
                .iter()
                .map(|record| (record.key.clone(), None, record.headers.clone()))
                .collect();
            world.topics.write(&topic, &again)?;
            world.until_current(&Stage::sink("warehouse"))?;
            assert_equal(world, "tombstones alone")
        },
    );
}

/// Debezium's header names the new key by counts: of days, of microseconds.
#[test]
fn a_row_whose_key_holds_a_date_moves() {
    let shop =
        "CREATE TABLE orders (day date, at timestamp, zoned timestamptz, note text, PRIMARY KEY (day, at, zoned));
                CREATE TABLE order_lines (order_id bigint, line int, PRIMARY KEY (order_id, line));
                INSERT INTO orders VALUES ('2026-01-01', '2026-01-01 01:02:03.5', '2026-01-01 01:02:03+00', 'a')";
    let files = [("pipeline.yaml", PIPELINE)];
    in_world(
        "datemove",
        &[("shop", shop), ("warehouse", "SELECT 1")],
        &files,
        |world| {
            replicate(world)?;
            world.db("shop").exec(
                "UPDATE orders SET day = '2026-02-02', at = '2026-02-02 04:05:06', zoned = '2026-02-02 04:05:06.7+00'",
            )?;
            replicate(world)?;
            for app in ["shop", "warehouse"] {
                let orders = world.db(app).text("SELECT day, at, note FROM orders")?;
                assert_eq!(orders, "2026-02-02|2026-02-02 04:05:06|a", "{app}");
            }
            Ok(())
        },
    );
}
