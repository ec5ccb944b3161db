//! Orders that refer to customers, by the key that each app has for them: translated, waited for, given up. As elsewhere,
//! what comes first is a matter of the script.

use syncline_tests::{Record, Stage, World, in_world, until};

/// Without a foreign key, so that an order may come before its customer.
const SHOP: &str = "CREATE TABLE customers (id bigint PRIMARY KEY, email text NOT NULL);
  CREATE TABLE orders (id serial PRIMARY KEY, number text NOT NULL, customer_id bigint, note text)";
const CRM: &str = "CREATE TABLE contacts (id serial PRIMARY KEY, mail text NOT NULL);
  CREATE TABLE deals (deal_no serial PRIMARY KEY, code text NOT NULL, contact_id int NOT NULL REFERENCES contacts, remark text);
  ALTER SEQUENCE contacts_id_seq RESTART 501";
const CUSTOMER: &str = r#"{"type": "record", "name": "Customer", "fields": [
  {"name": "email", "type": ["null", "string"], "default": null}]}"#;
const ORDER: &str = r#"{"type": "record", "name": "Order", "fields": [
  {"name": "number", "type": ["null", "string"], "default": null},
  {"name": "customer", "type": ["null", "string"], "default": null},
  {"name": "note", "type": ["null", "string"], "default": null}]}"#;
const PIPELINE: &str = r#"
pipeline: "${env:PIPELINE}"
defaults: { kafka: "${env:BOOTSTRAP}", registry: "${env:REGISTRY}" }
systems:
  shop: { postgres: "${env:SHOP_DSN}", topic_prefix: "${env:SHOP_PREFIX}" }
  crm:  { postgres: "${env:CRM_DSN}", topic_prefix: "${env:CRM_PREFIX}" }
entities:
  customer:
    schema: customer.avsc@1
    fields: { email: latest }
    match: [ { same: [email] } ]
    on_delete: { shop: delete_wins }
  order:
    schema: order.avsc@1
    fields: { number: latest, customer: latest, note: latest }
    match: [ { same: [number] } ]
    references: { customer: { entity: customer, wait: WAIT } }
    on_delete: { shop: delete_wins }
links:
  shop.public.customers <-> customer: { key: id, email: email }
  crm.public.contacts <-> customer: { key: id, email: mail }
  shop.public.orders <-> order: { key: id, number: number, customer: customer_id, note: note }
  crm.public.deals <-> order: { key: deal_no, number: code, customer: contact_id, note: remark }
"#;
const PATIENCE_S: u64 = 120;

/// Two apps with Ada, Bob and an order of Ada's, in agreement.
fn in_both(name: &str, wait: &str, test: impl FnOnce(&World) -> anyhow::Result<()>) {
    let pipeline = PIPELINE.replace("WAIT", wait);
    let files = [
        ("pipeline.yaml", pipeline.as_str()),
        ("customer.avsc", CUSTOMER),
        ("order.avsc", ORDER),
    ];
    in_world(name, &[("shop", SHOP), ("crm", CRM)], &files, |world| {
        world.db("shop").exec(
            "INSERT INTO customers VALUES (1, 'ada@x.org'), (2, 'bob@x.org');
             INSERT INTO orders (number, customer_id) VALUES ('N1', 1)",
        )?;
        world.settle()?;
        test(world)
    });
}

/// Code, mail of the contact and remark of every deal.
fn deals(world: &World) -> anyhow::Result<String> {
    world.db("crm").text(
        "SELECT code, mail, coalesce(remark, '-') FROM deals JOIN contacts ON contacts.id = contact_id ORDER BY code",
    )
}

/// What waits at map.
fn waiting(world: &World) -> anyhow::Result<usize> {
    Ok(world.latest(&format!("{}.waiting.order", world.name))?.len())
}

fn assert_no_letters(world: &World) -> anyhow::Result<()> {
    for stage in ["map", "merge", "sink"] {
        assert_eq!(world.dead_letters(stage)?.len(), 0, "dead letters of {stage}");
    }
    Ok(())
}

#[test]
fn each_app_refers_by_its_own_keys() {
    in_both("refkeys", "10m", |world| {
        assert_eq!(deals(world)?, "N1|ada@x.org|-");
        let ada = world.canonical_where("customer", "email", "ada@x.org")?;
        assert_eq!(
            world.only_canonical("order")?.show("customer"),
            ada.cid,
            "on topics it is the entity"
        );
        assert!(
            world.db("crm").number("SELECT min(id) FROM contacts")? > 500,
            "the keys differ"
        );

        world
            .db("crm")
            .exec("UPDATE deals SET contact_id = (SELECT id FROM contacts WHERE mail = 'bob@x.org')")?;
        world.settle()?;
        assert_eq!(world.db("shop").text("SELECT number, customer_id FROM orders")?, "N1|2");
        assert_eq!(deals(world)?, "N1|bob@x.org|-");
        assert_no_letters(world)
    });
}

#[test]
fn an_order_before_its_customer_waits_and_is_released_when_that_comes() {
    in_both("refwait", "10m", |world| {
        world.db("shop").exec(
            "INSERT INTO orders (number, customer_id) VALUES ('N2', 77), ('N3', 2);
             UPDATE orders SET note = 'edited' WHERE number = 'N2'",
        )?;
        world.settle()?;
        assert_eq!(deals(world)?, "N1|ada@x.org|-\nN3|bob@x.org|-", "its neighbours flow");
        assert_eq!(waiting(world)?, 2, "what comes later of the same row waits behind it");
        assert_no_letters(world)?;

        // What waits is in Kafka: the local store may go.
        std::fs::remove_dir_all(world.state_dir(&Stage::Transform))?;
        world
            .db("shop")
            .exec("INSERT INTO customers VALUES (77, 'eve@x.org')")?;
        world.settle()?;
        assert_eq!(deals(world)?, "N1|ada@x.org|-\nN2|eve@x.org|edited\nN3|bob@x.org|-");
        assert_eq!(waiting(world)?, 0);
        assert_no_letters(world)
    });
}

#[test]
fn an_order_whose_customer_never_comes_is_a_dead_letter_that_names_it() {
    in_both("refgone", "1s", |world| {
        world
            .db("shop")
            .exec("INSERT INTO orders (number, customer_id) VALUES ('N2', 77), ('N3', 2)")?;
        world.until_current(&Stage::Capture)?;
        until("the order to be given up", PATIENCE_S, || {
            world.until_current(&Stage::Transform)?;
            Ok(!world.dead_letters("map")?.is_empty())
        })?;
        let letters: Vec<Record> = world.dead_letters("map")?;
        assert_eq!((letters.len(), waiting(world)?), (1, 0));
        let header = |name: &str| letters[0].header(name).unwrap_or_default().to_owned();
        assert_eq!(
            header("syncline.parent"),
            format!("shop.public.customers|{}", r#"{"id":77}"#)
        );
        assert!(
            header("syncline.reason")
                .starts_with(r#"customer: no customer with the key shop.public.customers|{"id":77}"#),
            "{}",
            header("syncline.reason")
        );

        // A later change of the row says it all.
        world
            .db("shop")
            .exec("UPDATE orders SET customer_id = 1 WHERE number = 'N2'")?;
        world.settle()?;
        assert_eq!(deals(world)?, "N1|ada@x.org|-\nN2|ada@x.org|-\nN3|bob@x.org|-");
        assert_eq!(world.dead_letters("map")?.len(), 1);
        Ok(())
    });
}

#[test]
fn a_kill_while_orders_wait_or_are_released_loses_none_and_doubles_none() {
    in_both("refkill", "10m", |world| {
        let failpoints = Stage::Transform.failpoints();
        let of_map: Vec<&str> = failpoints
            .iter()
            .copied()
            .filter(|name| name.starts_with("map."))
            .collect();
        assert!(of_map.len() >= 4);
        let mut expected = vec!["N1|ada@x.org|-".to_owned()];
        for (turn, failpoint) in of_map.iter().enumerate() {
            let customer = 100 + turn;
            let orders = (0..3).map(|number| format!("('K{turn}{number}', {customer})"));
            let orders: Vec<String> = orders.collect();
            let insert = format!("INSERT INTO orders (number, customer_id) VALUES {}", orders.join(", "));
            world.db("shop").exec(&insert)?;
            killed(world, failpoint)?;
            world
                .db("shop")
                .exec(&format!("INSERT INTO customers VALUES ({customer}, 'k{turn}@x.org')"))?;
            killed(world, failpoint)?;
            expected.extend((0..3).map(|number| format!("K{turn}{number}|k{turn}@x.org|-")));
        }
        world.settle()?;
        expected.sort();
        assert_eq!(deals(world)?, expected.join("\n"));
        assert_eq!(waiting(world)?, 0);
        let mapped = world.topics.read(&format!("{}.mapped.order", world.name))?;
        let mut rows = std::collections::BTreeMap::new();
        for record in mapped.iter().filter_map(|record| record.value.as_deref()) {
            let said = world.topics.json(record)?;
            let position = said["record"]["position"].as_str().unwrap_or_default().to_owned();
            let source = said["record"]["source"].as_str().unwrap_or_default().to_owned();
            *rows.entry((source, position)).or_insert(0) += 1;
        }
        rows.retain(|(source, _), count| !source.is_empty() && *count > 1);
        assert!(rows.is_empty(), "mapped twice: {rows:?}");
        assert_no_letters(world)
    });
}

fn killed(world: &World, failpoint: &str) -> anyhow::Result<()> {
    world.until_current(&Stage::Capture)?;
    world.set_env("SYNCLINE_FAILPOINTS", &format!("{failpoint}=kill@1"));
    let finished = world.run(&Stage::Transform, &["--until-current"])?;
    world.set_env("SYNCLINE_FAILPOINTS", "");
    assert_eq!(finished.code, None, "{failpoint} was never passed:\n{}", finished.log);
    world.until_current(&Stage::Transform).map(drop)
}

#[test]
fn an_order_waits_for_its_customer_in_the_app_that_refused_it() {
    in_both("refsink", "10m", |world| {
        world
            .db("crm")
            .exec("ALTER TABLE contacts ADD CHECK (mail <> 'bad@x.org')")?;
        world.db("shop").exec(
            "INSERT INTO customers VALUES (3, 'bad@x.org');
             INSERT INTO orders (number, customer_id) VALUES ('N2', 3), ('N3', 2)",
        )?;
        world.settle()?;
        assert_eq!(deals(world)?, "N1|ada@x.org|-\nN3|bob@x.org|-");
        let waits = "SELECT entity, parent_entity FROM syncline.waiting";
        assert_eq!(world.db("crm").text(waits)?, "order|customer");
        let letters = world.dead_letters("sink")?;
        assert_eq!(letters.len(), 1, "the customer's; the order only waits");
        assert!(
            letters[0]
                .header("syncline.reason")
                .unwrap_or_default()
                .contains("23514")
        );

        let constraint = "SELECT conname FROM pg_constraint WHERE conrelid = 'contacts'::regclass AND contype = 'c'";
        let constraint = world.db("crm").text(constraint)?;
        world
            .db("crm")
            .exec(&format!("ALTER TABLE contacts DROP CONSTRAINT {constraint}"))?;
        let replayed = world.command("syncline-sink", &["replay-parked"])?.output()?;
        assert!(
            replayed.status.success(),
            "{}",
            String::from_utf8_lossy(&replayed.stderr)
        );
        world.until_current(&Stage::Sink)?;
        world.settle()?;
        assert_eq!(deals(world)?, "N1|ada@x.org|-\nN2|bad@x.org|-\nN3|bob@x.org|-");
        assert_eq!(world.db("crm").number("SELECT count(*) FROM syncline.waiting")?, 0);
        Ok(())
    });
}

#[test]
fn a_customer_stays_in_an_app_as_long_as_orders_there_refer_to_it() {
    in_both("refdel", "10m", |world| {
        world.db("shop").exec("DELETE FROM customers WHERE id = 1")?;
        world.settle()?;
        assert_eq!(deals(world)?, "N1|ada@x.org|-");
        assert_no_letters(world)?;
        world.db("shop").exec("DELETE FROM orders")?;
        world.settle()?;
        let left = world.db("crm").text("SELECT mail FROM contacts")?;
        assert_eq!((deals(world)?.as_str(), left.as_str()), ("", "bob@x.org"));
        assert_no_letters(world)
    });
}
