//! Rules that need more than one word on one field, on real parts: a group, a text, a stock-take, an expression, a check.
//!
//! As in the worked examples, concurrency is a matter of the script: what an app has not received is what no sink has
//! been run for.

use syncline_tests::{World, in_world};

const SHOP: &str =
    "CREATE TABLE customers (id serial PRIMARY KEY, email text NOT NULL, street text, town text, notes text);
  CREATE TABLE products (id serial PRIMARY KEY, sku text NOT NULL, qty int, pence bigint)";
const CRM: &str = "CREATE TABLE contacts (id serial PRIMARY KEY, mail text NOT NULL, road text, city text, remarks text);
  CREATE TABLE items (item_no serial PRIMARY KEY, code text NOT NULL, on_hand int, counted int, list_price numeric(10,2))";
const CUSTOMER: &str = r#"{"type": "record", "name": "Customer", "fields": [
  {"name": "email", "type": ["null", "string"], "default": null},
  {"name": "street", "type": ["null", "string"], "default": null},
  {"name": "city", "type": ["null", "string"], "default": null},
  {"name": "notes", "type": ["null", "string"], "default": null}]}"#;
const PRODUCT: &str = r#"{"type": "record", "name": "Product", "fields": [
  {"name": "sku", "type": ["null", "string"], "default": null},
  {"name": "stock", "type": ["null", "long"], "default": null},
  {"name": "counted", "type": ["null", "long"], "default": null},
  {"name": "price", "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}], "default": null}]}"#;
const PIPELINE: &str = r#"
pipeline: "${env:PIPELINE}"
defaults: { kafka: "${env:BOOTSTRAP}", registry: "${env:REGISTRY}" }
systems:
  shop: { postgres: "${env:SHOP_DSN}", topic_prefix: "${env:SHOP_PREFIX}" }
  crm:  { postgres: "${env:CRM_DSN}", topic_prefix: "${env:CRM_PREFIX}" }
kinds:
  contact: latest
entities:
  customer:
    schema: customer.avsc@1
    fields:
      email: contact
      street: contact
      city: contact
      notes: { on_conflict: merge_text, else: hold }
    groups: { address: [street, city] }
    match: [ { same: [email] } ]
  product:
    schema: product.avsc@1
    fields:
      sku: contact
      stock: { on_conflict: add, absolute_from: counted, min: 0, below_min: hold }
      counted: { owner: crm }
      price:
        on_conflict: { rule: "mine < canon * 0.95 ? hold('cut > 5 %') : accept()" }
        check: "value >= 0"
    match: [ { same: [sku] } ]
links:
  shop.public.customers <-> customer: { key: id, email: email, street: street, city: town, notes: notes }
  crm.public.contacts <-> customer: { key: id, email: mail, street: road, city: city, notes: remarks }
  shop.public.products <-> product: { key: id, sku: sku, stock: qty, price: "scale(pence, 2)" }
  crm.public.items <-> product: { key: item_no, sku: code, stock: on_hand, counted: -> counted, price: list_price }
"#;

fn in_both(name: &str, test: impl FnOnce(&World) -> anyhow::Result<()>) {
    let files = [
        ("pipeline.yaml", PIPELINE),
        ("customer.avsc", CUSTOMER),
        ("product.avsc", PRODUCT),
    ];
    in_world(name, &[("shop", SHOP), ("crm", CRM)], &files, |world| {
        test(world)?;
        for stage in ["map", "merge", "sink"] {
            assert_eq!(world.dead_letters(stage)?.len(), 0, "dead letters of {stage}");
        }
        Ok(())
    });
}

fn ada(world: &World) -> anyhow::Result<()> {
    world.db("shop").exec(
        "INSERT INTO customers (email, street, town, notes) VALUES ('ada@old.uk', '1 Old St', 'York', E'calls\n--\npays late')",
    )?;
    world.db("crm").exec(
        "INSERT INTO contacts (mail, road, city, remarks) VALUES ('ada@old.uk', '1 Old St', 'York', E'calls\n--\npays late')",
    )?;
    world.settle()
}

/// Status, strategy and note of the last conflict on `field`.
fn conflict(world: &World, entity: &str, field: &str) -> anyhow::Result<Option<[String; 2]>> {
    let cid = world.only_canonical(entity)?.cid;
    let conflicts = world.conflicts(entity)?;
    let found = conflicts.get(&format!("{cid}/{field}"));
    Ok(found.map(|decided| [decided.status().to_owned(), decided.strategy().to_owned()]))
}

#[test]
fn an_address_is_that_of_one_app_and_a_note_is_what_both_wrote() {
    in_both("rulesaddr", |world| {
        ada(world)?;
        world
            .db("shop")
            .exec("UPDATE customers SET street = '2 New St', notes = E'calls on Mondays\n--\npays late'")?;
        world
            .db("crm")
            .exec("UPDATE contacts SET city = 'Leeds', remarks = E'calls\n--\npays in time'")?;
        world.settle()?;
        let shop = world.db("shop").text("SELECT street, town FROM customers")?;
        let crm = world.db("crm").text("SELECT road, city FROM contacts")?;
        assert_eq!([shop.as_str(), crm.as_str()], ["1 Old St|Leeds", "1 Old St|Leeds"]);
        assert_eq!(
            conflict(world, "customer", "address")?,
            Some(["settled", "latest"].map(str::to_owned))
        );
        for (app, notes) in [
            ("shop", "SELECT notes FROM customers"),
            ("crm", "SELECT remarks FROM contacts"),
        ] {
            assert_eq!(
                world.db(app).text(notes)?,
                "calls on Mondays\n--\npays in time",
                "{app}"
            );
        }
        assert_eq!(
            conflict(world, "customer", "notes")?,
            Some(["settled", "merge_text"].map(str::to_owned))
        );
        // Each has seen the whole of it: what follows is no conflict.
        world.db("shop").exec("UPDATE customers SET town = 'Hull'")?;
        world.settle()?;
        assert_eq!(
            world.db("crm").text("SELECT road, city FROM contacts")?,
            "1 Old St|Hull"
        );
        assert_eq!(
            conflict(world, "customer", "address")?,
            Some(["settled", "latest"].map(str::to_owned))
        );
        Ok(())
    });
}

#[test]
fn a_stock_take_that_is_read_late_leaves_later_sales_taken_off_and_an_oversold_product_is_told() {
    in_both("rulesstock", |world| {
        world
            .db("shop")
            .exec("INSERT INTO products (sku, qty) VALUES ('S', 105)")?;
        world
            .db("crm")
            .exec("INSERT INTO items (code, on_hand, counted) VALUES ('S', 105, 100)")?;
        world.settle()?;
        // Counted at 90, then one more is sold; the sale is read first.
        world.db("crm").exec("UPDATE items SET counted = 90")?;
        world.db("shop").exec("UPDATE products SET qty = 104")?;
        world.settle()?;
        assert_eq!(world.only_canonical("product")?.show("stock"), "89");
        assert_eq!(stocks(world)?, ["89", "89"]);
        world.db("shop").exec("UPDATE products SET qty = qty - 50")?;
        world.db("crm").exec("UPDATE items SET on_hand = on_hand - 60")?;
        world.settle()?;
        assert_eq!(stocks(world)?, ["-21", "-21"], "both channels get the true figure");
        assert_eq!(
            conflict(world, "product", "stock")?,
            Some(["open", "add"].map(str::to_owned))
        );
        world.db("crm").exec("UPDATE items SET on_hand = on_hand + 30")?;
        world.settle()?;
        assert_eq!(stocks(world)?, ["9", "9"]);
        assert_eq!(
            conflict(world, "product", "stock")?,
            Some(["closed", "add"].map(str::to_owned))
        );
        world.forget()?;
        world.settle()?;
        assert_eq!(stocks(world)?, ["9", "9"], "a redelivery changes nothing");
        Ok(())
    });
}

fn stocks(world: &World) -> anyhow::Result<[String; 2]> {
    Ok([
        world.db("shop").text("SELECT qty FROM products")?,
        world.db("crm").text("SELECT on_hand FROM items")?,
    ])
}

#[test]
fn a_cut_of_ten_percent_goes_to_a_person_and_a_negative_price_to_no_app() {
    in_both("rulesprice", |world| {
        world
            .db("shop")
            .exec("INSERT INTO products (sku, pence) VALUES ('cut', 4000), ('slip', 4000)")?;
        world
            .db("crm")
            .exec("INSERT INTO items (code, list_price) VALUES ('cut', 40), ('slip', 40)")?;
        world.settle()?;
        world
            .db("shop")
            .exec("UPDATE products SET pence = 5000 WHERE sku = 'cut'")?;
        world
            .db("crm")
            .exec("UPDATE items SET list_price = 45 WHERE code = 'cut'")?;
        world
            .db("shop")
            .exec("UPDATE products SET pence = -4000 WHERE sku = 'slip'")?;
        world.settle()?;
        let shop = world.db("shop").text("SELECT sku, pence FROM products ORDER BY sku")?;
        let crm = world
            .db("crm")
            .text("SELECT code, list_price FROM items ORDER BY code")?;
        assert_eq!(
            [shop.as_str(), crm.as_str()],
            ["cut|5000\nslip|-4000", "cut|45.00\nslip|40.00"],
            "each keeps its own"
        );
        for (sku, price, strategy) in [("cut", "50", "rule: "), ("slip", "-40", "check")] {
            let agreed = world.canonical_where("product", "sku", sku)?;
            assert_eq!(agreed.show("price"), price);
            assert_eq!(agreed.held(), ["price"]);
            let conflicts = world.conflicts("product")?;
            let open = conflicts.get(&format!("{}/price", agreed.cid));
            let said = open.map(|decided| (decided.status(), decided.strategy().starts_with(strategy)));
            assert_eq!(said, Some(("open", true)), "{sku}");
        }
        world
            .db("shop")
            .exec("UPDATE products SET pence = 4100 WHERE sku = 'slip'")?;
        world.settle()?;
        let mended = world
            .db("crm")
            .text("SELECT list_price FROM items WHERE code = 'slip'")?;
        assert_eq!(mended, "41.00");
        Ok(())
    });
}
