//! Several slots of one system in one process: each table once, in order, whatever is killed; and tables that move.

use std::collections::BTreeMap;

use syncline_tests::{Db, Stage, World, in_world, until};

const TABLES: &str = "CREATE TABLE a (id serial PRIMARY KEY, note text);
                      CREATE TABLE b (id serial PRIMARY KEY, note text);
                      CREATE TABLE c (id serial PRIMARY KEY, note text)";

fn pipeline(slots: &str) -> String {
    format!(
        r#"
pipeline: "${{env:PIPELINE}}"
defaults: {{ kafka: "${{env:BOOTSTRAP}}", registry: "${{env:REGISTRY}}" }}
systems:
  shop: {{ postgres: "${{env:SHOP_DSN}}", topic_prefix: "${{env:SHOP_PREFIX}}", tables: [a, b, c]{slots} }}
  crm: {{ postgres: "${{env:CRM_DSN}}", topic_prefix: "${{env:CRM_PREFIX}}", tables: [a] }}
"#
    )
}

fn in_groups(name: &str, slots: &str, test: impl FnOnce(&World) -> anyhow::Result<()>) {
    let file = pipeline(slots);
    let apps = [("shop", TABLES), ("crm", TABLES)];
    in_world(name, &apps, &[("pipeline.yaml", &file)], test);
}

fn insert(db: &Db, note: &str, tables: &[&str]) -> anyhow::Result<()> {
    tables
        .iter()
        .try_for_each(|table| db.exec(&format!("INSERT INTO {table} (note) VALUES ('{note}')")))
}

fn notes(world: &World, app: &str, table: &str) -> anyhow::Result<Vec<String>> {
    let records = world.topics.read(&world.capture_topic(app, table))?;
    let note = |value: &Vec<u8>| {
        Ok(syncline_tests::agreed::show(
            &world.topics.json(value)?["after"]["note"],
        ))
    };
    let values = records.iter().filter_map(|record| record.value.as_ref());
    values.map(note).collect()
}

fn slots(world: &World) -> anyhow::Result<Vec<String>> {
    let sql = format!(
        "SELECT slot_name FROM pg_replication_slots WHERE database = '{}' ORDER BY 1",
        world.database("shop")
    );
    let rows = world.db("shop").rows(&sql)?;
    Ok(rows.into_iter().flatten().flatten().collect())
}

#[test]
fn every_table_comes_once_through_the_slot_of_its_group() {
    in_groups("groups", r#", slots: { hot: [a], rest: "*" }"#, |world| {
        let (shop, crm) = (world.db("shop"), world.db("crm"));
        insert(shop, "before", &["a", "b", "c"])?;
        insert(crm, "theirs", &["a"])?;
        world.run(&Stage::Capture, &["--check"])?.expect_code(0)?;
        world.until_current(&Stage::Capture)?;
        let slot = world.slot("shop");
        assert_eq!(slots(world)?, [format!("{slot}_hot"), format!("{slot}_rest")]);
        // One transaction over both groups, and a message of the app, which belongs to none.
        shop.exec(
            "BEGIN; INSERT INTO a (note) VALUES ('together'); INSERT INTO b (note) VALUES ('together');
             SELECT pg_logical_emit_message(true, 'app', 'hello'); COMMIT",
        )?;
        world.until_current(&Stage::Capture)?;
        for table in ["a", "b"] {
            assert_eq!(notes(world, "shop", table)?, ["before", "together"], "{table}");
        }
        assert_eq!(notes(world, "shop", "c")?, ["before"]);
        assert_eq!(notes(world, "crm", "a")?, ["theirs"]);
        assert_eq!(
            world.topics.read(&format!("{}.message", world.prefix("shop")))?.len(),
            1
        );
        Ok(())
    });
}

/// Killed again and again under load: each group finds its own place.
#[test]
fn killed_under_load_each_group_goes_on_where_it_was() {
    in_groups("groupk", ", slots: { one: [a], two: [b], three: [c] }", |world| {
        let shop = world.db("shop");
        let mut expected = 0;
        for round in 0..4 {
            let mut capture = world.start(&Stage::capture("shop"))?;
            for note in 0..60 {
                insert(shop, &format!("{round}-{note}"), &["a", "b", "c"])?;
                expected += 1;
            }
            // In the middle of it, or after it.
            until("something of this round", 60, || {
                Ok(notes(world, "shop", "b")?
                    .last()
                    .is_some_and(|last| last.starts_with(&format!("{round}-"))))
            })?;
            capture.kill()?;
        }
        world.until_current(&Stage::capture("shop"))?;
        let all: BTreeMap<&str, Vec<String>> = ["a", "b", "c"]
            .into_iter()
            .map(|table| Ok((table, notes(world, "shop", table)?)))
            .collect::<anyhow::Result<_>>()?;
        let in_order: Vec<String> = (0..4)
            .flat_map(|round| (0..60).map(move |note| format!("{round}-{note}")))
            .collect();
        assert_eq!(in_order.len(), expected);
        for (table, notes) in all {
            assert_eq!(notes, in_order, "{table}");
        }
        Ok(())
    });
}

#[test]
fn a_table_that_moves_is_refused_until_it_may_be_read_again() {
    in_groups("groupm", "", |world| {
        let shop = world.db("shop");
        insert(shop, "through one slot", &["a", "b", "c"])?;
        world.until_current(&Stage::capture("shop"))?;
        let file = pipeline(r#", slots: { hot: [a], rest: "*" }"#);
        std::fs::write(world.path("pipeline.yaml"), file)?;
        world
            .run(&Stage::capture("shop/hot"), &["--until-current"])?
            .expect_code(1)?
            .expect_log("TABLE_MOVED")?
            .expect_log("--reread public.a")?;
        insert(shop, "meanwhile", &["a"])?;
        world
            .run(
                &Stage::capture("shop/hot"),
                &["--until-current", "--reread", "public.a"],
            )?
            .expect_code(0)?;
        insert(shop, "after", &["a"])?;
        world.until_current(&Stage::capture("shop/hot"))?;
        assert_eq!(
            notes(world, "shop", "a")?,
            ["through one slot", "through one slot", "meanwhile", "after"]
        );
        Ok(())
    });
}
