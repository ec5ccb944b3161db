//! What one person decides and another has to approve: who may, what waits for whom, and that nothing moves before.

use syncline_tests::process::Finished;
use syncline_tests::{World, in_world};

use super::{canonical, console, json, list, text};

const SHOP: &str = "CREATE TABLE products (id serial PRIMARY KEY, sku text NOT NULL, price bigint)";
const WMS: &str = "CREATE TABLE items (item_no serial PRIMARY KEY, code text NOT NULL, list_price bigint)";
const PRODUCT: &str = r#"{"type": "record", "name": "Product", "fields": [
  {"name": "sku", "type": ["null", "string"], "default": null},
  {"name": "price", "type": ["null", "long"], "default": null}]}"#;
const PIPELINE: &str = r#"
pipeline: "${env:PIPELINE}"
defaults: { kafka: "${env:BOOTSTRAP}", registry: "${env:REGISTRY}", partitions: 2 }
systems:
  shop: { postgres: "${env:SHOP_DSN}", topic_prefix: "${env:SHOP_PREFIX}" }
  wms:  { postgres: "${env:WMS_DSN}", topic_prefix: "${env:WMS_PREFIX}" }
kinds:
  money: { on_conflict: hold, approvers: [ada, bob] }
entities:
  product:
    schema: product.avsc@1
    fields: { sku: latest, price: money }
    match: [ { same: [sku] } ]
links:
  shop.public.products <-> product: { key: id, sku: sku, price: price }
  wms.public.items <-> product: { key: item_no, sku: code, price: list_price }
"#;

fn prices(world: &World) -> anyhow::Result<[String; 2]> {
    Ok([
        world.db("shop").text("SELECT price FROM products")?,
        world.db("wms").text("SELECT list_price FROM items")?,
    ])
}

/// The one question that waits.
fn asked(world: &World) -> anyhow::Result<String> {
    let listed = json(world, &["conflicts", "list", "--each"], 1)?;
    let open = list(&listed, "conflicts");
    assert_eq!(open.len(), 1, "{listed}");
    Ok(text(&open[0], "id").to_owned())
}

fn resolve(world: &World, id: &str, value: &str, by: &str) -> anyhow::Result<Finished> {
    let line = ["conflicts", "resolve", id, "--value", value, "--by", by, "--why", "x"];
    console(world, &line)
}

fn approve(world: &World, id: &str, by: &str) -> anyhow::Result<Finished> {
    console(world, &["conflicts", "approve", id, "--by", by, "--why", "y"])
}

#[test]
fn what_one_person_decides_holds_when_another_has_approved_it() {
    let files = [("pipeline.yaml", PIPELINE), ("product.avsc", PRODUCT)];
    in_world("approvers", &[("shop", SHOP), ("wms", WMS)], &files, |world| {
        world
            .db("shop")
            .exec("INSERT INTO products (sku, price) VALUES ('S', 10)")?;
        world
            .db("wms")
            .exec("INSERT INTO items (code, list_price) VALUES ('S', 12)")?;
        world.settle()?;
        let id = asked(world)?;
        nobody_alone(world, &id)?;
        a_changed_question_is_asked_again(world, &id)?;
        of_two_answers_one_is_named(world)?;
        a_replay_agrees_on_the_same(world)
    });
}

fn nobody_alone(world: &World, id: &str) -> anyhow::Result<()> {
    approve(world, id, "bob")?
        .expect_code(1)?
        .expect_log("CONFLICT_MOVED")?
        .expect_log("it is open")?;
    resolve(world, id, "11", "ada")?
        .expect_code(0)?
        .expect_log("it holds when bob has approved it")?;
    world.settle()?;
    assert_eq!(prices(world)?, ["10", "12"], "nobody has approved it");
    let shown = json(world, &["conflicts", "show", id], 1)?;
    assert_eq!([text(&shown, "status"), text(&shown, "who")], ["proposed", "ada"]);
    assert_eq!(shown["waits_for"], serde_json::json!(["bob"]));
    console(world, &["conflicts", "list"])?
        .expect_code(1)?
        .expect_log("ada, for bob")?;
    console(world, &["conflicts", "show", id])?
        .expect_code(1)?
        .expect_log("11 of ada waits for bob")?;
    approve(world, id, "ada")?.expect_code(1)?.expect_log("APPROVAL_OWN")?;
    approve(world, id, "carl")?
        .expect_code(1)?
        .expect_log("APPROVER_UNKNOWN")?
        .expect_log("it waits for bob")?;
    approve(world, "ffff", "bob")?.expect_code(2)?;
    approve(world, &format!("{id}.x"), "bob")?.expect_code(2)?;
    Ok(())
}

/// What waits is an answer to a question that is not asked any more.
fn a_changed_question_is_asked_again(world: &World, id: &str) -> anyhow::Result<()> {
    world.db("wms").exec("UPDATE items SET list_price = 13")?;
    world.settle()?;
    let now = asked(world)?;
    assert_ne!(now, id);
    approve(world, id, "bob")?
        .expect_code(1)?
        .expect_log("CONFLICT_MOVED")?
        .expect_log(&now)?;
    assert_eq!(prices(world)?, ["10", "13"]);
    Ok(())
}

fn of_two_answers_one_is_named(world: &World) -> anyhow::Result<()> {
    let id = asked(world)?;
    resolve(world, &id, "11", "ada")?.expect_code(0)?;
    resolve(world, &id, "14", "carl")?
        .expect_code(0)?
        .expect_log("it holds when ada or bob has approved it")?;
    approve(world, &id, "bob")?
        .expect_code(2)?
        .expect_log("several answers wait")?;
    let shown = json(world, &["conflicts", "show", &id], 1)?;
    let answers = list(&shown, "decisions");
    assert_eq!(answers.len(), 3, "{shown}");
    let shown = console(world, &["conflicts", "show", &id])?.expect_code(1)?;
    let line = shown.log.lines().find(|line| line.starts_with("11 of ada waits"));
    let named = line.and_then(|line| line.rsplit(' ').next()).unwrap_or_default();
    assert!(named.starts_with(&format!("{id}.")), "{}", shown.log);
    approve(world, named, "bob")?
        .expect_code(0)?
        .expect_log("approved: product")?
        .expect_log("= 11 of ada")?;
    assert_eq!(
        text(&json(world, &["conflicts", "show", &id], 0)?, "status"),
        "answered",
        "merge has not read it"
    );
    approve(world, named, "bob")?
        .expect_code(1)?
        .expect_log("CONFLICT_MOVED")?;
    world.settle()?;
    assert_eq!(prices(world)?, ["11", "11"]);
    let shown = json(world, &["conflicts", "show", &id], 0)?;
    assert_eq!([text(&shown, "status"), text(&shown, "who")], ["resolved", "ada"]);
    assert!(list(&json(world, &["conflicts", "list"], 0)?, "groups").is_empty());
    Ok(())
}

fn a_replay_agrees_on_the_same(world: &World) -> anyhow::Result<()> {
    let before = canonical(world)?;
    world.forget()?;
    world.settle()?;
    assert_eq!(canonical(world)?, before);
    assert_eq!(prices(world)?, ["11", "11"]);
    let cid = world.only_canonical("product")?.cid;
    let recorded = console(world, &["replay", "--record", "product", &cid])?.expect_code(0)?;
    std::fs::write(world.path("case.json"), &recorded.log)?;
    let case = world.path("case.json");
    console(world, &["replay", "--assert", &case.to_string_lossy()])?.expect_code(0)?;
    Ok(())
}
