//! Two-way links without loops: one edit is one write in each other app, and one canonical record.

use std::collections::BTreeMap;

use syncline_tests::{World, acme, in_world};

/// Logs what happens to a table, whoever does it.
const AUDIT: &str = "
CREATE TABLE audit (no serial PRIMARY KEY, op text NOT NULL);
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO audit (op) VALUES (lower(TG_OP)); RETURN NULL; END $$;
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON TABLE_NAME FOR EACH ROW EXECUTE FUNCTION audit();
";

const TABLES: [(&str, &str); 3] = [("shop", "customers"), ("crm", "contacts"), ("billing", "accounts")];

/// What was done in each app since the last look.
fn done(world: &World) -> anyhow::Result<BTreeMap<&'static str, String>> {
    let mut all = BTreeMap::new();
    for (app, _) in TABLES {
        let ops = world.db(app).text("DELETE FROM audit RETURNING op")?;
        all.insert(app, ops.replace('\n', ","));
    }
    Ok(all)
}

/// Makes one edit and expects these operations and so many canonical records.
fn one(world: &World, app: &str, edit: &str, shop: &str, crm: &str, billing: &str) -> anyhow::Result<()> {
    let before = world.canonical_log("customer")?.len();
    world.db(app).exec(edit)?;
    world.settle()?;
    let expected = BTreeMap::from([
        ("shop", shop.to_owned()),
        ("crm", crm.to_owned()),
        ("billing", billing.to_owned()),
    ]);
    assert_eq!(done(world)?, expected, "{edit}");
    assert_eq!(
        world.canonical_log("customer")?.len(),
        before + 1,
        "canonical records of: {edit}"
    );
    Ok(())
}

fn prepare(world: &World) -> anyhow::Result<()> {
    for (app, table) in TABLES {
        world.db(app).exec(&AUDIT.replace("TABLE_NAME", table))?;
    }
    world
        .db("shop")
        .exec("INSERT INTO customers (full_name, email, phone) VALUES ('Cher', 'cher@example.org', '1')")?;
    world.settle()?;
    done(world)?;
    Ok(())
}

#[test]
fn one_edit_is_one_write_in_each_other_app() {
    let pipeline = acme::pipeline().replace(
        "    match:\n      - same: [email]",
        "    match:\n      - same: [email]\n    on_delete: { shop: delete_wins, crm: delete_wins, billing: delete_wins }",
    );
    in_world("two_way", &acme::APPS, &acme::files(&pipeline), |world| {
        prepare(world)?;
        let (i, u, d) = ("insert", "update", "delete");
        one(
            world,
            "shop",
            "UPDATE customers SET full_name = 'Ana de la Cruz'",
            u,
            u,
            u,
        )?;
        one(world, "crm", "UPDATE contacts SET first = 'Anna'", u, u, u)?;
        one(world, "billing", "UPDATE accounts SET credit_limit = 10.50", "", u, u)?;
        one(world, "crm", "UPDATE contacts SET tel = '2', tags = 'a;b'", u, u, "")?;
        one(
            world,
            "crm",
            "INSERT INTO contacts (first, last, mail) VALUES ('Jan', 'Ito', 'jan@example.org')",
            i,
            i,
            i,
        )?;
        one(
            world,
            "billing",
            "DELETE FROM accounts WHERE invoice_to = 'jan@example.org'",
            d,
            d,
            d,
        )?;
        Ok(())
    });
}

/// What an app's own trigger changes in the transaction of our write is an edit of that app, and no loop.
#[test]
fn what_a_trigger_adds_to_our_write_is_an_edit() {
    let pipeline = acme::pipeline();
    in_world("trigger", &acme::APPS, &acme::files(&pipeline), |world| {
        prepare(world)?;
        world.db("crm").exec(
            "CREATE FUNCTION tidy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.tel := replace(NEW.tel, ' ', ''); RETURN NEW; END $$;
             CREATE TRIGGER tidy BEFORE UPDATE ON contacts FOR EACH ROW EXECUTE FUNCTION tidy();",
        )?;
        world.db("shop").exec("UPDATE customers SET phone = '+44 20 1'")?;
        world.settle()?;
        assert_eq!(world.db("crm").text("SELECT tel FROM contacts")?, "+44201");
        assert_eq!(
            world.db("shop").text("SELECT phone FROM customers")?,
            "+44201",
            "the crm's edit came back"
        );
        assert_eq!(world.only_canonical("customer")?.show("phone"), "+44201");
        Ok(())
    });
}

const PADDED: &str = r#"
pipeline: "${env:PIPELINE}"
defaults: { kafka: "${env:BOOTSTRAP}", registry: "${env:REGISTRY}" }
systems:
  shop: { postgres: "${env:SHOP_DSN}", topic_prefix: "${env:SHOP_PREFIX}" }
  crm:  { postgres: "${env:CRM_DSN}", topic_prefix: "${env:CRM_PREFIX}" }
entities:
  item: { schema: item.avsc@1, fields: { sku: latest, code: latest }, match: [ { same: [sku] } ] }
links:
  shop.items <-> item: { key: id, sku: sku, code: code }
  crm.items <-> item: { key: id, sku: sku, code: code }
"#;

const ITEM: &str = r#"{"type": "record", "name": "Item", "namespace": "acme", "fields": [
  {"name": "sku", "type": ["null", "string"], "default": null},
  {"name": "code", "type": ["null", "string"], "default": null}]}"#;

/// A `char(n)` adds and cuts blanks at the end as it needs them; two of different lengths do not correct each other.
#[test]
fn columns_that_pad_differently_come_to_rest() {
    let shop = "CREATE TABLE items (id serial PRIMARY KEY, sku text, code char(5))";
    let crm = "CREATE TABLE items (id serial PRIMARY KEY, sku text, code char(10))";
    let files = [("pipeline.yaml", PADDED), ("item.avsc", ITEM)];
    in_world("padded", &[("shop", shop), ("crm", crm)], &files, |world| {
        world
            .db("shop")
            .exec("INSERT INTO items (sku, code) VALUES ('a', 'ab')")?;
        world.settle()?;
        world.db("shop").exec("UPDATE items SET code = 'xyz'")?;
        world.settle()?;
        world.db("crm").exec("UPDATE items SET code = 'q'")?;
        world.settle()?;
        for app in ["shop", "crm"] {
            assert_eq!(world.db(app).text("SELECT code::text FROM items")?, "q", "{app}");
        }
        Ok(())
    });
}

/// Debezium's header names the old key by counts: of days, of microseconds.
#[test]
fn a_row_whose_key_holds_a_date_keeps_its_entity_when_the_key_changes() {
    let item = ITEM.replace(
        r#"{"name": "code""#,
        r#"{"name": "day", "type": ["null", {"type": "int", "logicalType": "date"}], "default": null}, {"name": "code""#,
    );
    let pipeline = PADDED
        .replace("defaults: { ", "defaults: { partitions: 1, ")
        .replace("sku: latest,", "sku: latest, day: latest,")
        .replace("key: id, sku: sku,", "key: id, sku: sku, day: day,")
        .replace(
            "shop.items <-> item: { key: id,",
            "shop.items <-> item: { key: [sku, day],",
        );
    let shop = "CREATE TABLE items (sku text, day date, code text, PRIMARY KEY (sku, day))";
    let crm = "CREATE TABLE items (id serial PRIMARY KEY, sku text, day date, code text)";
    let files = [("pipeline.yaml", pipeline.as_str()), ("item.avsc", &item)];
    in_world("datekey", &[("shop", shop), ("crm", crm)], &files, |world| {
        world
            .db("shop")
            .exec("INSERT INTO items VALUES ('a', '2026-01-01', 'x')")?;
        world.settle()?;
        world
            .db("shop")
            .exec("UPDATE items SET day = '2026-02-02', code = 'y'")?;
        world.settle()?;
        assert_eq!(world.db("crm").text("SELECT * FROM items")?, "1|a|2026-02-02|y");
        Ok(())
    });
}

/// What the apps hold in a field that is linked later nobody has read yet: it is not overwritten, and agreed upon when it is.
#[test]
fn a_field_that_is_linked_later_keeps_what_the_apps_hold() {
    let table = "CREATE TABLE items (id serial PRIMARY KEY, sku text, code text, note text, stock int)";
    let files = [("pipeline.yaml", PADDED), ("item.avsc", ITEM)];
    in_world("later", &[("shop", table), ("crm", table)], &files, |world| {
        for (app, note, stock) in [("shop", "of the shop", 5), ("crm", "of the crm", 7)] {
            let row = format!("INSERT INTO items (sku, code, note, stock) VALUES ('a', 'x', '{note}', {stock})");
            world.db(app).exec(&row)?;
        }
        world
            .db("shop")
            .exec("INSERT INTO items (sku, code, note) VALUES ('b', 'x', 'made')")?;
        world.settle()?;
        world
            .db("crm")
            .exec("UPDATE items SET note = 'added' WHERE sku = 'b'")?;
        let field =
            |name, of| format!(r#"{{"name": "{name}", "type": ["null", "{of}"], "default": null}}, {{"name": "code""#);
        let item = ITEM.replace(r#"{"name": "code""#, &field("note", "string"));
        let item = item.replace(r#"{"name": "code""#, &field("stock", "long"));
        let pipeline = PADDED
            .replace("code: latest", "code: latest, note: latest, stock: add")
            .replace("code: code", "code: code, note: note, stock: stock");
        std::fs::write(world.path("pipeline.yaml"), pipeline)?;
        std::fs::write(world.path("item.avsc"), item)?;
        world.settle()?;
        let held = "SELECT sku, note, stock FROM items ORDER BY id";
        assert_eq!(world.db("shop").text(held)?, "a|of the shop|5\nb|made|-");
        assert_eq!(world.db("crm").text(held)?, "a|of the crm|7\nb|added|-");
        // An edit shows the rest of its row; now they are known to differ, and the first app of the file is believed.
        world.db("shop").exec("UPDATE items SET code = 'y'")?;
        world.settle()?;
        for app in ["shop", "crm"] {
            assert_eq!(world.db(app).text(held)?, "a|of the shop|5\nb|made|-", "{app}");
        }
        let conflicts = format!("{:?}", world.conflicts("item")?);
        assert!(
            conflicts.contains("of the crm") && conflicts.contains("added"),
            "{conflicts}"
        );
        Ok(())
    });
}
