//! Replay on a live system: everything that transform and sink know locally is thrown away, and nothing changes.

use std::collections::BTreeMap;

use syncline_schemas::topic;
use syncline_tests::{Stage, World, acme, in_world};

const TABLES: [(&str, &str); 5] = [
    ("shop", "customers"),
    ("shop", "products"),
    ("crm", "contacts"),
    ("billing", "accounts"),
    ("wms", "items"),
];

/// Changes with every write of a row, also one that leaves the values as they were.
fn rows(world: &World) -> anyhow::Result<BTreeMap<&'static str, String>> {
    TABLES
        .iter()
        .map(|(app, table)| {
            Ok((
                *table,
                world
                    .db(app)
                    .text(&format!("SELECT ctid, xmin, t.* FROM {table} t ORDER BY ctid"))?,
            ))
        })
        .collect()
}

/// The last canonical record of each key, as bytes.
fn canonical(world: &World, entity: &str) -> anyhow::Result<BTreeMap<Vec<u8>, Option<Vec<u8>>>> {
    let latest = world.topics.latest(&topic::canonical(&world.name, entity, 1))?;
    Ok(latest.into_iter().map(|(key, record)| (key, record.value)).collect())
}

/// A history with everything in it: agreement, conflicts of every kind, a held field, counters, sets, deletes, inserts.
fn live(world: &World) -> anyhow::Result<()> {
    let people = "FROM generate_series(1, 200) i";
    world.db("shop").exec(&format!(
        "INSERT INTO customers (full_name, email, phone, labels) SELECT 'A B' || i, 'p' || i || '@x.org', i::text, '{{vip}}' {people};
         INSERT INTO products (sku, retail_pence, qty) SELECT 'S' || i, 100 * i, 100 {people}"
    ))?;
    world.db("crm").exec(&format!(
        "INSERT INTO contacts (first, last, mail, tel, limit_gbp, tags) SELECT 'A', 'B' || i, 'p' || i || '@x.org', i::text, 1000, 'vip' {people}"
    ))?;
    world.db("billing").exec(&format!(
        "INSERT INTO accounts (holder, invoice_to, credit_limit) SELECT 'A B' || i, 'p' || i || '@x.org', 1000 {people} WHERE i > 50"
    ))?;
    world.db("wms").exec(&format!(
        "INSERT INTO items (sku, retail, on_hand) SELECT 'S' || i, i, 100 {people} WHERE i < 150"
    ))?;
    world.settle()?;
    for round in 1..=3 {
        world.db("shop").exec(&format!(
            "UPDATE customers SET phone = phone || '{round}', labels = labels || '{{s{round}}}' WHERE id % 3 = 0;
             UPDATE products SET qty = qty - {round}, retail_pence = retail_pence + 10 WHERE id % 2 = 0;
             DELETE FROM customers WHERE id = {round}"
        ))?;
        world.db("crm").exec(&format!(
            "UPDATE contacts SET tel = tel || '-{round}', limit_gbp = limit_gbp + 1, tags = 'c{round}' WHERE contact_id % 4 = 0"
        ))?;
        world.db("billing").exec(&format!(
            "UPDATE accounts SET credit_limit = credit_limit + 100 * {round} WHERE invoice_to LIKE 'p1%'"
        ))?;
        world.db("wms").exec(&format!(
            "UPDATE items SET on_hand = on_hand + {round} WHERE item_no % 5 = 0"
        ))?;
        if round < 3 { world.agree()? } else { world.settle()? }
    }
    Ok(())
}

#[test]
fn a_replay_from_zero_changes_no_row_and_no_canonical_record() {
    let pipeline = acme::pipeline();
    in_world("replay", &acme::APPS, &acme::files(&pipeline), |world| {
        live(world)?;
        let held = world
            .canonical("customer")?
            .values()
            .filter(|agreed| !agreed.held().is_empty())
            .count();
        assert!(held > 0, "the history has held fields");
        let before = (
            rows(world)?,
            canonical(world, "customer")?,
            canonical(world, "product")?,
        );
        world.forget()?;
        world.settle()?;
        let after = (
            rows(world)?,
            canonical(world, "customer")?,
            canonical(world, "product")?,
        );
        for (table, rows) in &before.0 {
            assert_eq!(after.0.get(table), Some(rows), "{table}");
        }
        assert!(after.1 == before.1, "canonical customers differ");
        assert!(after.2 == before.2, "canonical products differ");
        Ok(())
    });
}

/// A pipeline that stood still for longer than Kafka keeps a group's offsets, and a topic its records (F76).
#[test]
fn offsets_that_expired_with_records_unread_are_told_and_not_skipped() {
    let pipeline = acme::pipeline();
    in_world("expired", &acme::APPS, &acme::files(&pipeline), |world| {
        world
            .db("shop")
            .exec("INSERT INTO customers (full_name, email, phone) VALUES ('Cher', 'cher@example.org', '1')")?;
        world.settle()?;
        world.db("shop").exec("UPDATE customers SET phone = '2'")?;
        world.until_current(&Stage::Capture)?;
        let group = format!("syncline-{}-map", world.name);
        world.topics.delete_groups(&[group])?;
        world.topics.trim(&world.capture_topic("shop", "customers"))?;
        world
            .run(&Stage::Transform, &["--until-current"])?
            .expect_code(1)?
            .expect_log("OFFSETS_EXPIRED")?;
        Ok(())
    });
}
