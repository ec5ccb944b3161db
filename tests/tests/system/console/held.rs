//! What waits for a person, and for how long: a guarded jump, and a held field whose time is up.

use syncline_tests::{Stage, World, in_world, until};

use super::{canonical, console, json, list, text};

const SHOP: &str = "CREATE TABLE products (id serial PRIMARY KEY, sku text NOT NULL, price bigint, cost bigint)";
const WMS: &str = "CREATE TABLE items (item_no serial PRIMARY KEY, code text NOT NULL, list_price bigint, cost bigint)";
const PRODUCT: &str = r#"{"type": "record", "name": "Product", "fields": [
  {"name": "sku", "type": ["null", "string"], "default": null},
  {"name": "price", "type": ["null", "long"], "default": null},
  {"name": "cost", "type": ["null", "long"], "default": null}]}"#;
const PIPELINE: &str = r#"
pipeline: "${env:PIPELINE}"
defaults: { kafka: "${env:BOOTSTRAP}", registry: "${env:REGISTRY}", partitions: 2 }
systems:
  shop: { postgres: "${env:SHOP_DSN}", topic_prefix: "${env:SHOP_PREFIX}" }
  wms:  { postgres: "${env:WMS_DSN}", topic_prefix: "${env:WMS_PREFIX}" }
kinds:
  money: { on_conflict: hold, expires: 4s, then: [wms, shop] }
entities:
  product:
    schema: product.avsc@1
    fields:
      sku: latest
      price: { on_conflict: latest, guard: "abs(new - old) / old > 0.2", expires: 48h, then: [shop] }
      cost: { kind: money }
    match: [ { same: [sku] } ]
links:
  shop.public.products <-> product: { key: id, sku: sku, price: price, cost: cost }
  wms.public.items <-> product: { key: item_no, sku: code, price: list_price, cost: cost }
"#;

fn rows(world: &World) -> anyhow::Result<[String; 2]> {
    Ok([
        world.db("shop").text("SELECT price, cost FROM products")?,
        world.db("wms").text("SELECT list_price, cost FROM items")?,
    ])
}

#[test]
fn a_jump_waits_for_a_person_and_a_held_field_until_its_time_is_up() {
    let files = [("pipeline.yaml", PIPELINE), ("product.avsc", PRODUCT)];
    in_world("held", &[("shop", SHOP), ("wms", WMS)], &files, |world| {
        world
            .db("shop")
            .exec("INSERT INTO products (sku, price, cost) VALUES ('S', 100, 10)")?;
        world
            .db("wms")
            .exec("INSERT INTO items (code, list_price, cost) VALUES ('S', 100, 10)")?;
        world.settle()?;
        the_time_is_up(world)?;
        in_two_steps_is_a_jump_still(world)?;
        a_person_decides(world)?;
        a_replay_ends_the_same(world)
    });
}

/// One service merges; what it ends by are records, which it writes itself for everybody who reads them.
fn the_time_is_up(world: &World) -> anyhow::Result<()> {
    world.db("shop").exec("UPDATE products SET cost = 11")?;
    world.db("wms").exec("UPDATE items SET cost = 12")?;
    world.until_current(&Stage::Capture)?;
    let transform = world.start(&Stage::Transform)?;
    until("the question to be asked", 60, || {
        Ok(!world.conflicts("product")?.is_empty())
    })?;
    until("its time to be up", 60, || {
        let agreed = world.only_canonical("product")?;
        Ok(agreed.held().is_empty() && agreed.show("cost") == "12")
    })?;
    transform.stop()?;
    world.settle()?;
    assert_eq!(
        rows(world)?,
        ["100|12", "100|12"],
        "the wms was to win, and the shop has it"
    );
    let listed = json(world, &["conflicts", "list", "--each", "--status", "expired"], 0)?;
    let expired = list(&listed, "conflicts");
    assert_eq!(expired.len(), 1, "{listed}");
    assert_eq!(
        [text(&expired[0], "field"), text(&expired[0], "strategy")],
        ["cost", "hold"]
    );
    let shown = console(world, &["conflicts", "show", text(&expired[0], "id")])?.expect_code(0)?;
    shown
        .expect_log("nobody decided in time: `[wms, shop]` decided for wms")?
        .expect_log("until ")?;
    // Both have seen it: what follows is no conflict.
    world.db("shop").exec("UPDATE products SET cost = 13")?;
    world.settle()?;
    assert_eq!(rows(world)?, ["100|13", "100|13"]);
    Ok(())
}

fn in_two_steps_is_a_jump_still(world: &World) -> anyhow::Result<()> {
    world.db("shop").exec("UPDATE products SET price = 119")?;
    world.settle()?;
    assert_eq!(rows(world)?, ["119|13", "119|13"], "19 % pass");
    world.db("shop").exec("UPDATE products SET price = 150")?;
    world.settle()?;
    world.db("shop").exec("UPDATE products SET price = 151")?;
    world.settle()?;
    assert_eq!(rows(world)?, ["151|13", "119|13"], "26 % do not, whatever follows");
    let agreed = world.only_canonical("product")?;
    assert_eq!(
        (agreed.show("price"), agreed.held()),
        ("119".to_owned(), vec!["price".to_owned()])
    );
    world.db("shop").exec("UPDATE products SET cost = 14")?;
    world.settle()?;
    assert_eq!(rows(world)?, ["151|14", "119|14"], "the other fields flow");
    Ok(())
}

fn a_person_decides(world: &World) -> anyhow::Result<()> {
    let listed = json(world, &["conflicts", "list", "--each"], 1)?;
    let open = list(&listed, "conflicts");
    assert_eq!(open.len(), 1, "{listed}");
    assert_eq!(
        [text(&open[0], "field"), text(&open[0], "strategy")],
        ["price", "guard"]
    );
    let id = text(&open[0], "id");
    console(world, &["conflicts", "show", id])?
        .expect_code(1)?
        .expect_log("before 119")?
        .expect_log("of shop")?;
    let by = ["--by", "finance", "--why", "new supplier"];
    console(world, &[&["conflicts", "take", id][..], &by[..]].concat())?.expect_code(0)?;
    console(
        world,
        &[&["conflicts", "resolve", id, "--pick", "shop"][..], &by[..]].concat(),
    )?
    .expect_code(0)?;
    world.settle()?;
    assert_eq!(rows(world)?, ["151|14", "151|14"]);
    assert!(list(&json(world, &["conflicts", "list"], 0)?, "groups").is_empty());
    // From what was decided on, the next one is measured.
    world.db("wms").exec("UPDATE items SET list_price = 170")?;
    world.settle()?;
    assert_eq!(rows(world)?, ["170|14", "170|14"]);
    Ok(())
}

fn a_replay_ends_the_same(world: &World) -> anyhow::Result<()> {
    let (before, apps) = (canonical(world)?, rows(world)?);
    world.forget()?;
    world.settle()?;
    assert_eq!((canonical(world)?, rows(world)?), (before, apps));
    let cid = world.only_canonical("product")?.cid;
    let recorded = console(world, &["replay", "--record", "product", &cid])?.expect_code(0)?;
    std::fs::write(world.path("case.json"), &recorded.log)?;
    let case = world.path("case.json");
    console(world, &["replay", "--assert", &case.to_string_lossy()])?.expect_code(0)?;
    let plan = console(world, &["plan", &world.path("pipeline.yaml").to_string_lossy()])?.expect_code(0)?;
    plan.expect_log("product  1        0    0        0     0              0")?;
    for stage in ["map", "merge", "sink"] {
        assert_eq!(world.dead_letters(stage)?.len(), 0, "dead letters of {stage}");
    }
    Ok(())
}
