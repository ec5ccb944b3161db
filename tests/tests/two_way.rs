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
