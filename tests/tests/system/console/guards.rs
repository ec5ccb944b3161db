//! Sources that are paused: a change of a whole table, a copy of yesterday restored under load, and what people do then.

use syncline_tests::{Stage, World, in_world, until};

use super::{console, json, list, text};

const ROWS: i64 = 4_000;
const SHOP: &str = "CREATE TABLE products (id int PRIMARY KEY, sku text NOT NULL, price bigint NOT NULL, stock int);
  INSERT INTO products SELECT n, 'S' || n, 1000 + n, 5 FROM generate_series(1, 4000) n";
const WMS: &str = "CREATE TABLE items (item_no int PRIMARY KEY, code text NOT NULL, list_price bigint NOT NULL);
  INSERT INTO items SELECT n, 'S' || n, 1000 + n FROM generate_series(1, 4000) n";
const PRODUCT: &str = r#"{"type": "record", "name": "Product", "fields": [
  {"name": "sku", "type": ["null", "string"], "default": null},
  {"name": "price", "type": ["null", "long"], "default": null},
  {"name": "stock", "type": ["null", "long"], "default": null}]}"#;

fn pipeline(guards: &str) -> String {
    format!(
        r#"
pipeline: "${{env:PIPELINE}}"
defaults: {{ kafka: "${{env:BOOTSTRAP}}", registry: "${{env:REGISTRY}}", partitions: 2 }}
systems:
  shop: {{ postgres: "${{env:SHOP_DSN}}", topic_prefix: "${{env:SHOP_PREFIX}}" }}
  wms:  {{ postgres: "${{env:WMS_DSN}}", topic_prefix: "${{env:WMS_PREFIX}}" }}
entities:
  product:
    schema: product.avsc@1
    fields: {{ sku: latest, price: latest, stock: add }}
    match: [ {{ same: [sku] }} ]
links:
  shop.public.products <-> product: {{ key: id, sku: sku, price: price, stock: stock }}
  wms.public.items <-> product: {{ key: item_no, sku: code, price: list_price }}
guards: {guards}
"#
    )
}

fn guarded(name: &str, guards: &str, test: impl FnOnce(&World) -> anyhow::Result<()>) {
    let file = pipeline(guards);
    let files = [("pipeline.yaml", file.as_str()), ("product.avsc", PRODUCT)];
    in_world(name, &[("shop", SHOP), ("wms", WMS)], &files, |world| {
        world.settle()?;
        assert_eq!(
            console(world, &["guards"])?.code,
            Some(0),
            "the first read is no change"
        );
        test(world)
    });
}

/// How many rows of the warehouse meet this.
fn wms(world: &World, condition: &str) -> anyhow::Result<i64> {
    world
        .db("wms")
        .number(&format!("SELECT count(*) FROM items WHERE {condition}"))
}

fn resume(world: &World) -> anyhow::Result<()> {
    let line = ["resume", "--source", "shop", "--by", "ada", "--why", "it is right"];
    let dry: Vec<&str> = line.iter().copied().chain(["--dry-run"]).collect();
    console(world, &dry)?
        .expect_code(0)?
        .expect_log("would let go on: shop")?;
    json(world, &["guards"], 1)?;
    console(world, &line)?.expect_code(0)?.expect_log("let go on: shop")?;
    console(world, &line)?.expect_code(1)?.expect_log("NOT_PAUSED")?;
    let told = json(world, &["guards"], 0)?;
    let last = list(&told, "resumed").last().cloned().unwrap_or_default();
    assert_eq!([text(&last, "source"), text(&last, "by")], ["shop", "ada"]);
    Ok(())
}

fn assert_paused(world: &World, guard: &str) -> anyhow::Result<()> {
    let told = json(world, &["guards"], 1)?;
    let paused = list(&told, "paused");
    assert!(!paused.is_empty(), "{told}");
    for pause in paused {
        assert_eq!([text(pause, "source"), text(pause, "guard")], ["shop", guard]);
        assert_eq!(text(pause, "table"), "public.products");
    }
    console(world, &["status"])?
        .expect_code(1)?
        .expect_log(&format!("shop waits: paused by {guard}"))?;
    Ok(())
}

/// About a minute.
#[test]
fn a_table_that_changes_as_a_whole_stops_its_source_and_no_other() {
    guarded("gmass", "{ mass_change: { over: 5% in 10m, then: pause } }", |world| {
        world.db("shop").exec("UPDATE products SET price = 1")?;
        world
            .db("wms")
            .exec("UPDATE items SET list_price = 7 WHERE item_no = 9")?;
        world.settle()?;
        let passed = wms(world, "list_price = 1")?;
        assert!((1..=ROWS / 20).contains(&passed), "{passed} rows passed");
        assert_paused(world, "mass_change")?;
        // The other source flows, and the paused app is written.
        let here = "SELECT price FROM products WHERE id = 9";
        world
            .db("wms")
            .exec("UPDATE items SET list_price = 8 WHERE item_no = 9")?;
        world.settle()?;
        assert!(["1", "8"].contains(&world.db("shop").text(here)?.as_str()));
        assert_eq!(world.canonical_where("product", "sku", "S9")?.show("price"), "8");
        // Begun anew without anything that it kept.
        std::fs::remove_dir_all(world.state_dir(&Stage::Transform))?;
        world.settle()?;
        assert_eq!(wms(world, "list_price = 1")?, passed, "a restart lets nothing pass");
        assert_paused(world, "mass_change")?;
        resume(world)?;
        world.settle()?;
        let kept = wms(world, "list_price <> 1")?;
        assert!(kept <= 1, "{kept} rows have not come");
        assert_eq!(console(world, &["guards"])?.code, Some(0));
        world.db("shop").exec("UPDATE products SET price = 2 WHERE id <= 100")?;
        world.settle()?;
        assert_eq!(
            wms(world, "list_price = 2 AND item_no <= 100")?,
            100,
            "what is usual flows again"
        );
        Ok(())
    });
}

/// Whoever is killed where the pause is on its way pauses it again, once. About a minute.
#[test]
fn a_pause_survives_a_kill_at_every_place() {
    guarded("gkill", "{ mass_change: { over: 100 rows in 10m } }", |world| {
        world.db("shop").exec("UPDATE products SET price = 1")?;
        world.until_current(&Stage::Capture)?;
        for failpoint in ["map.mid_produce", "map.before_commit", "map.after_commit"] {
            world.set_env("SYNCLINE_FAILPOINTS", &format!("{failpoint}=kill@1"));
            let finished = world.run(&Stage::Transform, &["--until-current"])?;
            world.set_env("SYNCLINE_FAILPOINTS", "");
            assert_eq!(finished.code, None, "{failpoint} was never passed:\n{}", finished.log);
        }
        world.settle()?;
        let passed = wms(world, "list_price = 1")?;
        assert!((1..=100).contains(&passed), "{passed} rows passed");
        assert_paused(world, "mass_change")?;
        resume(world)?;
        world.settle()?;
        assert_eq!(wms(world, "list_price = 1")?, ROWS);
        Ok(())
    });
}

/// R40. A day's work on every row, then the copy of the morning is put back while people go on working. All run as services.
/// About two minutes.
#[test]
fn a_copy_of_yesterday_restored_under_load_is_stopped_before_one_row_in_two_hundred_has_passed() {
    guarded("gstale", "{ stale_restore: pause }", |world| {
        let shop = world.db("shop");
        shop.exec("CREATE TABLE yesterday AS SELECT * FROM products")?;
        shop.exec("UPDATE products SET price = price + 5000")?;
        world.settle()?;
        assert_eq!(wms(world, "list_price > 5000")?, ROWS, "new values are no restore");
        let services = [Stage::Capture, Stage::Transform, Stage::Sink];
        let running = services
            .iter()
            .map(|stage| world.start(stage))
            .collect::<anyhow::Result<Vec<_>>>()?;
        shop.exec(
            "DO $$ BEGIN FOR turn IN 1..40 LOOP
               UPDATE products SET stock = stock - 1 WHERE id % 40 = turn - 1;
               UPDATE products p SET price = y.price FROM yesterday y
                 WHERE p.id = y.id AND p.id BETWEEN turn * 100 - 99 AND turn * 100;
               COMMIT;
             END LOOP; END $$",
        )?;
        until("the pause", 60, || Ok(console(world, &["guards"])?.code == Some(1)))?;
        // The warehouse works on, and what it says arrives: by then all that was to pass has passed.
        world
            .db("wms")
            .exec("UPDATE items SET list_price = 77 WHERE item_no = 4000")?;
        let agreed = || Ok(world.canonical_where("product", "sku", "S4000")?.show("price") == "77");
        until("what the warehouse says", 60, agreed)?;
        running.into_iter().try_for_each(|service| service.stop())?;
        let passed = wms(world, "list_price <= 5000 AND list_price <> 77")?;
        assert!(passed * 200 <= ROWS, "{passed} old prices came through");
        assert_paused(world, "stale_restore")?;
        // Somebody puts it right in the app, and lets it go on: what was said last holds.
        shop.exec("UPDATE products p SET price = y.price + 5000 FROM yesterday y WHERE p.id = y.id AND p.id < 4000")?;
        world.until_current(&Stage::Capture)?;
        resume(world)?;
        world.settle()?;
        assert_eq!(wms(world, "list_price > 5000")?, ROWS - 1);
        Ok(())
    });
}
