//! The worked examples of the design, to the value, with real databases of different shapes.
//!
//! Concurrency is a matter of the script: what an app has not received is what no sink has been run for.

use syncline_tests::{Stage, World, acme, in_world};

// ---- the customer ---------------------------------------------------------------------------------------------------

fn customer(world: &World, fields: &[&str]) -> anyhow::Result<String> {
    Ok(world.only_canonical("customer")?.shows(fields))
}

fn shop(world: &World) -> anyhow::Result<String> {
    let labels = "(SELECT string_agg(l, ',' ORDER BY l) FROM unnest(labels) l)";
    world
        .db("shop")
        .text(&format!("SELECT email, phone, {labels} FROM customers"))
}

fn crm(world: &World) -> anyhow::Result<String> {
    let tags = "(SELECT string_agg(t, ',' ORDER BY t) FROM unnest(string_to_array(tags, ';')) t)";
    world
        .db("crm")
        .text(&format!("SELECT mail, tel, limit_gbp::int, {tags} FROM contacts"))
}

fn billing(world: &World) -> anyhow::Result<String> {
    world
        .db("billing")
        .text("SELECT invoice_to, credit_limit::int FROM accounts")
}

/// The last conflict on a field of the one customer: status, strategy, candidates, winner, outcome.
fn conflict(world: &World, field: &str) -> anyhow::Result<Option<[String; 5]>> {
    let cid = world.only_canonical("customer")?.cid;
    let conflicts = world.conflicts("customer")?;
    Ok(conflicts.get(&format!("{cid}/{field}")).map(|decided| {
        let winner = decided.winner().to_owned();
        [
            decided.status().to_owned(),
            decided.strategy().to_owned(),
            decided.candidates(),
            winner,
            decided.outcome(),
        ]
    }))
}

/// Everything that changes when a row is written, whether or not its values do.
fn versions(world: &World) -> anyhow::Result<Vec<String>> {
    let tables = [("shop", "customers"), ("crm", "contacts"), ("billing", "accounts")];
    tables
        .iter()
        .map(|(app, table)| world.db(app).text(&format!("SELECT xmin, ctid FROM {table}")))
        .collect()
}

fn deliver(world: &World, targets: &[&str]) -> anyhow::Result<()> {
    targets
        .iter()
        .try_for_each(|target| world.until_current(&Stage::sink(target)).map(|_| ()))
}

fn all_apps_hold_ada(world: &World) -> anyhow::Result<()> {
    let labels = "'{vip}'";
    world.db("shop").exec(&format!(
        "INSERT INTO customers (full_name, email, phone, labels) VALUES ('Ada Lovelace', 'ada@old.uk', '0001', {labels})"
    ))?;
    world.db("crm").exec(
        "INSERT INTO contacts (first, last, mail, tel, limit_gbp, tags) VALUES ('Ada', 'Lovelace', 'ada@old.uk', '0001', 1000, 'vip')",
    )?;
    world
        .db("billing")
        .exec("INSERT INTO accounts (holder, invoice_to, credit_limit) VALUES ('Ada Lovelace', 'ada@old.uk', 1000)")?;
    world.settle()?;
    assert_eq!(
        customer(world, &["email", "phone", "credit_limit", "tags"])?,
        "ada@old.uk|0001|1000|vip"
    );
    assert!(world.conflicts("customer")?.is_empty(), "equal apps have no conflicts");
    Ok(())
}

#[test]
fn the_customer_in_nine_steps() {
    let pipeline = acme::pipeline();
    in_world("customer", &acme::APPS, &acme::files(&pipeline), |world| {
        all_apps_hold_ada(world)?;
        steps_1_and_2(world)?;
        steps_3_and_4(world)?;
        steps_5_to_7(world)?;
        step_8(world)?;
        step_9(world)?;
        for stage in ["map", "merge", "sink"] {
            assert_eq!(world.dead_letters(stage)?.len(), 0, "dead letters of {stage}");
        }
        Ok(())
    });
}

fn steps_1_and_2(world: &World) -> anyhow::Result<()> {
    world.db("shop").exec("UPDATE customers SET email = 'ada@new.uk'")?;
    world.agree()?;
    assert_eq!(customer(world, &["email"])?, "ada@new.uk", "step 1");
    assert_eq!(conflict(world, "email")?, None, "step 1: seen, no conflict");
    deliver(world, &["billing"])?;

    world
        .db("crm")
        .exec("UPDATE contacts SET mail = 'ada@crm.uk', tel = '0002'")?;
    world.agree()?;
    assert_eq!(customer(world, &["email", "phone"])?, "ada@crm.uk|0002", "step 2");
    let expected = [
        "settled",
        "latest",
        "crm=ada@crm.uk shop=ada@new.uk",
        "crm",
        "ada@crm.uk",
    ]
    .map(str::to_owned);
    assert_eq!(
        conflict(world, "email")?,
        Some(expected),
        "step 2: the shop's value is kept in the record"
    );
    assert_eq!(conflict(world, "phone")?, None, "step 2: nobody else touched the phone");
    Ok(())
}

fn steps_3_and_4(world: &World) -> anyhow::Result<()> {
    world.db("billing").exec("UPDATE accounts SET credit_limit = 1500")?;
    world.agree()?;
    assert_eq!(customer(world, &["credit_limit"])?, "1500", "step 3");
    assert_eq!(conflict(world, "credit_limit")?, None, "step 3: no conflict");

    world.db("crm").exec("UPDATE contacts SET limit_gbp = 800")?;
    world.agree()?;
    assert_eq!(customer(world, &["credit_limit"])?, "1500", "step 4");
    assert_eq!(
        world.only_canonical("customer")?.held(),
        ["credit_limit"],
        "step 4: held"
    );
    let decided = conflict(world, "credit_limit")?.unwrap_or_default();
    assert_eq!(
        decided[..3],
        ["open", "hold", "billing=1500 crm=800"].map(str::to_owned),
        "step 4"
    );
    deliver(world, &["billing"])?;
    assert_eq!(billing(world)?, "ada@crm.uk|1500", "step 4: billing keeps its limit");
    assert_eq!(crm(world)?, "ada@crm.uk|0002|800|vip", "step 4: so does the crm");
    Ok(())
}

fn steps_5_to_7(world: &World) -> anyhow::Result<()> {
    world
        .db("shop")
        .exec("UPDATE customers SET labels = '{vip,newsletter}'")?;
    world.agree()?;
    assert_eq!(customer(world, &["tags"])?, "newsletter,vip", "step 5");

    world.db("crm").exec("UPDATE contacts SET tags = 'vip;churn-risk'")?;
    world.agree()?;
    assert_eq!(customer(world, &["tags"])?, "churn-risk,newsletter,vip", "step 6");

    world.db("crm").exec("UPDATE contacts SET tags = 'churn-risk'")?;
    world.agree()?;
    assert_eq!(
        customer(world, &["tags"])?,
        "churn-risk,newsletter",
        "step 7: vip was seen and removed, newsletter was not"
    );
    Ok(())
}

fn step_8(world: &World) -> anyhow::Result<()> {
    deliver(world, &["shop"])?;
    assert_eq!(
        shop(world)?,
        "ada@crm.uk|0002|churn-risk,newsletter",
        "step 8: the shop was corrected"
    );
    let (log, rows) = (world.canonical_log("customer")?.len(), versions(world)?);
    world.agree()?;
    let echo = world.topics.read(&world.capture_topic("shop", "customers"))?.pop();
    assert!(
        echo.is_some_and(|record| record.header("syncline.mark").is_some()),
        "step 8: the echo carries our mark"
    );
    assert_eq!(
        world.canonical_log("customer")?.len(),
        log,
        "step 8: a receipt makes no canonical record"
    );
    deliver(world, &["shop", "billing"])?;
    assert_eq!(versions(world)?, rows, "step 8: nothing is delivered");
    Ok(())
}

fn step_9(world: &World) -> anyhow::Result<()> {
    let cid = world.only_canonical("customer")?.cid;
    let question = [
        "decide",
        "--entity",
        "customer",
        "--cid",
        &cid,
        "--field",
        "credit_limit",
    ];
    let answer = [
        "--value",
        "1200",
        "--by",
        "finance",
        "--why",
        "agreed with the customer",
    ];
    let mut decide = world.command("syncline-transform", &question)?;
    decide.args(answer);
    let log = world.path("decide.log");
    syncline_tests::process::run(decide, &log, 60)?.expect_code(0)?;
    world.agree()?;
    assert_eq!(customer(world, &["credit_limit"])?, "1200", "step 9");
    assert!(
        world.only_canonical("customer")?.held().is_empty(),
        "step 9: nothing is held"
    );
    world.settle()?;
    assert_eq!(
        crm(world)?,
        "ada@crm.uk|0002|1200|churn-risk,newsletter",
        "step 9: delivered to the crm"
    );
    assert_eq!(billing(world)?, "ada@crm.uk|1200", "step 9: delivered to billing");
    assert_eq!(
        shop(world)?,
        "ada@crm.uk|0002|churn-risk,newsletter",
        "step 9: the shop has no limit"
    );
    let open = world
        .conflicts("customer")?
        .into_values()
        .filter(|decided| decided.status() == "open")
        .count();
    assert_eq!(open, 0, "step 9: no question is left open");
    Ok(())
}

// ---- the price ------------------------------------------------------------------------------------------------------

const PRICE_SHOP: &str = "CREATE TABLE products (id serial PRIMARY KEY, sku text NOT NULL, pence bigint)";
const PRICE_WMS: &str = "CREATE TABLE items (item_no serial PRIMARY KEY, code text NOT NULL, list_price numeric(10,2))";
const PRICE_SCHEMA: &str = r#"{"type": "record", "name": "Product", "fields": [
  {"name": "sku", "type": ["null", "string"], "default": null},
  {"name": "price", "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}], "default": null}]}"#;
const PRICE_PIPELINE: &str = r#"
pipeline: "${env:PIPELINE}"
defaults: { kafka: "${env:BOOTSTRAP}", registry: "${env:REGISTRY}" }
systems:
  shop: { postgres: "${env:SHOP_DSN}", topic_prefix: "${env:SHOP_PREFIX}" }
  wms:  { postgres: "${env:WMS_DSN}", topic_prefix: "${env:WMS_PREFIX}" }
entities:
  product:
    schema: product.avsc@1
    fields: { sku: { on_conflict: latest }, price: { on_conflict: STRATEGY } }
    match:
      - same: [sku]
links:
  shop.public.products <-> product: { key: id, sku: sku, price: "scale(pence, 2)" }
  wms.public.items <-> product: { key: item_no, sku: code, price: list_price }
"#;

/// What must come of it: the agreed price, and what each app shows in the end.
struct Price {
    strategy: &'static str,
    agreed: &'static str,
    shop: &'static str,
    wms: &'static str,
}

fn price(expected: &Price) {
    let pipeline = PRICE_PIPELINE.replace("STRATEGY", expected.strategy);
    let files = [("pipeline.yaml", pipeline.as_str()), ("product.avsc", PRICE_SCHEMA)];
    in_world("price", &[("shop", PRICE_SHOP), ("wms", PRICE_WMS)], &files, |world| {
        world
            .db("shop")
            .exec("INSERT INTO products (sku, pence) VALUES ('unaware', 4000), ('aware', 4000)")?;
        world
            .db("wms")
            .exec("INSERT INTO items (code, list_price) VALUES ('unaware', 40), ('aware', 40)")?;
        world.settle()?;
        the_warehouse_had_it(world)?;
        the_warehouse_had_not_received_it(world, expected)
    });
}

/// Whatever the strategy: an edit made with knowledge of the other is no conflict at all.
fn the_warehouse_had_it(world: &World) -> anyhow::Result<()> {
    world
        .db("shop")
        .exec("UPDATE products SET pence = 5000 WHERE sku = 'aware'")?;
    world.settle()?;
    assert_eq!(
        world
            .db("wms")
            .text("SELECT list_price FROM items WHERE code = 'aware'")?,
        "50.00"
    );
    world
        .db("wms")
        .exec("UPDATE items SET list_price = 45 WHERE code = 'aware'")?;
    world.settle()?;
    assert_eq!(world.canonical_where("product", "sku", "aware")?.show("price"), "45");
    assert_eq!(
        world
            .db("shop")
            .text("SELECT pence FROM products WHERE sku = 'aware'")?,
        "4500"
    );
    assert!(world.conflicts("product")?.is_empty(), "no conflict at all");
    Ok(())
}

fn the_warehouse_had_not_received_it(world: &World, expected: &Price) -> anyhow::Result<()> {
    world
        .db("shop")
        .exec("UPDATE products SET pence = 5000 WHERE sku = 'unaware'")?;
    world
        .db("wms")
        .exec("UPDATE items SET list_price = 45 WHERE code = 'unaware'")?;
    world.agree()?;
    let agreed = world.canonical_where("product", "sku", "unaware")?;
    assert_eq!(agreed.show("price"), expected.agreed);
    assert_eq!(agreed.held().is_empty(), expected.strategy != "hold");
    world.settle()?;
    let shop = world
        .db("shop")
        .text("SELECT pence FROM products WHERE sku = 'unaware'")?;
    let wms = world
        .db("wms")
        .text("SELECT list_price FROM items WHERE code = 'unaware'")?;
    assert_eq!([shop.as_str(), wms.as_str()], [expected.shop, expected.wms]);
    assert_eq!(
        world.canonical_where("product", "sku", "unaware")?.show("price"),
        expected.agreed,
        "and it stays"
    );
    let conflicts = world.conflicts("product")?;
    let decided = conflicts.get(&format!("{}/price", agreed.cid));
    assert_eq!(
        decided.map(|decided| decided.candidates()),
        Some("shop=50 wms=45".to_owned()),
        "losers are recoverable"
    );
    Ok(())
}

#[test]
fn price_latest() {
    price(&Price {
        strategy: "latest",
        agreed: "45",
        shop: "4500",
        wms: "45.00",
    });
}

#[test]
fn price_first() {
    price(&Price {
        strategy: "first",
        agreed: "50",
        shop: "5000",
        wms: "50.00",
    });
}

#[test]
fn price_shop_before_wms() {
    price(&Price {
        strategy: "[shop, wms]",
        agreed: "50",
        shop: "5000",
        wms: "50.00",
    });
}

#[test]
fn price_wms_before_shop() {
    price(&Price {
        strategy: "[wms, shop]",
        agreed: "45",
        shop: "4500",
        wms: "45.00",
    });
}

#[test]
fn price_hold() {
    price(&Price {
        strategy: "hold",
        agreed: "50",
        shop: "5000",
        wms: "45.00",
    });
}

#[test]
fn price_max() {
    price(&Price {
        strategy: "max",
        agreed: "50",
        shop: "5000",
        wms: "50.00",
    });
}

#[test]
fn price_min() {
    price(&Price {
        strategy: "min",
        agreed: "45",
        shop: "4500",
        wms: "45.00",
    });
}

// ---- the stock ------------------------------------------------------------------------------------------------------

#[test]
fn the_stock_in_three_steps() {
    let pipeline = acme::pipeline();
    in_world("stock", &acme::APPS, &acme::files(&pipeline), |world| {
        world
            .db("shop")
            .exec("INSERT INTO products (sku, qty) VALUES ('S', 100)")?;
        world
            .db("wms")
            .exec("INSERT INTO items (sku, on_hand) VALUES ('S', 100)")?;
        world.settle()?;
        let edits = [
            ("shop", "UPDATE products SET qty = 97", "97"),
            ("wms", "UPDATE items SET on_hand = 110", "107"),
            ("shop", "UPDATE products SET qty = 95", "105"),
        ];
        for (app, edit, agreed) in edits {
            world.db(app).exec(edit)?;
            world.agree()?;
            assert_eq!(world.only_canonical("product")?.show("stock"), agreed, "{edit}");
        }
        world.settle()?;
        assert_eq!(stocks(world)?, ["105", "105"]);
        assert_eq!(delivered(world, "shop", "products")?, "10", "what the shop was sent");
        assert_eq!(delivered(world, "wms", "items")?, "-5", "what the warehouse was sent");
        redelivery_changes_nothing(world)
    });
}

fn stocks(world: &World) -> anyhow::Result<[String; 2]> {
    Ok([
        world.db("shop").text("SELECT qty FROM products")?,
        world.db("wms").text("SELECT on_hand FROM items")?,
    ])
}

/// The sum of all that was delivered to the one row, as its last mark says.
fn delivered(world: &World, app: &str, table: &str) -> anyhow::Result<String> {
    let records = world.topics.read(&world.capture_topic(app, table))?;
    let mark = records
        .iter()
        .rev()
        .find_map(|record| record.header("syncline.mark"))
        .unwrap_or("{}");
    let mark: serde_json::Value = serde_json::from_str(mark)?;
    let fields = mark["fields"].as_array().cloned().unwrap_or_default();
    let stock = fields.iter().find(|field| field["name"] == "stock");
    Ok(stock
        .map(|field| syncline_tests::agreed::show(&field["delivered"]))
        .unwrap_or_default())
}

fn redelivery_changes_nothing(world: &World) -> anyhow::Result<()> {
    let versions = || -> anyhow::Result<[String; 2]> {
        Ok([
            world.db("shop").text("SELECT xmin FROM products")?,
            world.db("wms").text("SELECT xmin FROM items")?,
        ])
    };
    let before = versions()?;
    world.forget()?;
    world.settle()?;
    assert_eq!(versions()?, before, "a redelivery writes no row");
    assert_eq!(world.only_canonical("product")?.show("stock"), "105");
    Ok(())
}
