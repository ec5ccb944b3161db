//! `syncline verify`: apps that hold what was agreed, and one that does not.

use syncline_tests::{World, acme, in_world};

use super::{console, json, list, text};

#[test]
fn a_row_that_is_not_as_agreed_is_named_with_its_fields() {
    let pipeline = acme::pipeline();
    in_world("verify", &acme::APPS, &acme::files(&pipeline), |world| {
        world.db("shop").exec(
            "INSERT INTO customers (full_name, email, phone, labels)
             SELECT 'P ' || i, 'p' || i || '@x.org', i::text, '{a,b}' FROM generate_series(1, 50) i;
             INSERT INTO products (sku, qty, retail_pence) SELECT 's' || i, i, 100 * i FROM generate_series(1, 20) i",
        )?;
        world
            .db("crm")
            .exec("INSERT INTO contacts (first, last, mail, limit_gbp) VALUES ('P', '1', 'p1@x.org', 5)")?;
        world
            .db("billing")
            .exec("INSERT INTO accounts (holder, invoice_to, credit_limit) VALUES ('P 1', 'p1@x.org', 6)")?;
        world.settle()?;
        let well = json(world, &["verify"], 0)?;
        assert_eq!(well["rows"], 3 * 50 + 2 * 20);
        assert_eq!(
            well["held"], 2,
            "the limit that crm and billing disagree about is apart"
        );
        behind_our_back(world)
    });
}

/// Changes that no log has been read of yet are differences.
fn behind_our_back(world: &World) -> anyhow::Result<()> {
    world.db("crm").exec(
        "UPDATE contacts SET tel = 'x', first = 'Q' WHERE mail = 'p7@x.org'; DELETE FROM contacts WHERE mail = 'p9@x.org'",
    )?;
    world
        .db("billing")
        .exec("INSERT INTO accounts (holder, invoice_to) VALUES ('New One', 'new@x.org')")?;
    let found = json(world, &["verify", "--entity", "customer"], 1)?;
    assert_eq!(found["differing"], 3, "{found}");
    let what = |app: &str| -> Vec<String> {
        let of = list(&found, "differences").iter().filter(|one| text(one, "app") == app);
        of.map(|one| one["what"].to_string()).collect()
    };
    let crm = what("crm");
    assert!(
        crm.iter().any(|what| what == r#"{"differs":["name","phone"]}"#),
        "{crm:?}"
    );
    assert!(crm.iter().any(|what| what == r#""missing""#), "{crm:?}");
    assert_eq!(what("billing"), [r#""unknown""#]);
    let said = console(world, &["verify", "--app", "crm"])?.expect_code(1)?;
    let said = said
        .expect_log("differs in name, phone")?
        .expect_log("2 not as agreed")?;
    assert!(
        !said.log.contains("p7@x.org"),
        "names rows, shows no values: {}",
        said.log
    );
    world.settle()?;
    json(world, &["verify"], 0)?;
    world.set_env("WMS_DSN", "postgres://postgres@127.0.0.1:1/none");
    console(world, &["verify"])?
        .expect_code(3)?
        .expect_log("wms cannot be asked")?;
    Ok(())
}
