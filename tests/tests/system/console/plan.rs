//! `syncline plan` and `replay`: what another file would do, before it does it.

use std::process::Command;

use serde_json::Value as Json;
use syncline_tests::{World, acme, in_world, process};

use super::{console, json, list, text};

/// `syncline plan` with this text as the file; the plan for one entity.
fn plan(world: &World, pipeline: &str, entity: &str, code: i32) -> anyhow::Result<Json> {
    std::fs::write(world.path("other.yaml"), pipeline)?;
    let file = world.path("other.yaml");
    let plan = json(world, &["plan", &file.display().to_string()], code)?;
    Ok(list(&plan, "entities")
        .iter()
        .find(|change| text(change, "entity") == entity)
        .cloned()
        .unwrap_or_default())
}

fn some_conflicts(world: &World) -> anyhow::Result<()> {
    world.db("crm").exec(
        "INSERT INTO contacts (first, last, mail, limit_gbp) SELECT 'P', i::text, 'p' || i || '@x.org', i FROM generate_series(1, 30) i",
    )?;
    world.db("billing").exec(
        "INSERT INTO accounts (holder, invoice_to, credit_limit) SELECT 'P ' || i, 'p' || i || '@x.org', i + 100 FROM generate_series(1, 30) i",
    )?;
    world
        .db("shop")
        .exec("INSERT INTO products (sku, qty) SELECT 's' || i, i FROM generate_series(1, 10) i")?;
    world.settle()?;
    world
        .db("shop")
        .exec("UPDATE customers SET email = 'new' || email WHERE email LIKE 'p_@x.org'")?;
    world
        .db("crm")
        .exec("UPDATE contacts SET mail = 'crm' || mail WHERE mail LIKE 'p_@x.org'")?;
    world.db("shop").exec("DELETE FROM products WHERE sku = 's3'")?;
    world.settle()
}

#[test]
fn a_dry_run_names_what_a_file_would_change_and_writes_nothing() {
    let pipeline = acme::pipeline();
    in_world("plan", &acme::APPS, &acme::files(&pipeline), |world| {
        some_conflicts(world)?;
        let names = world.topics.names(&[&world.name])?;
        let before = world.topics.ends(&names)?;
        for entity in ["customer", "product"] {
            let same = plan(world, &pipeline, entity, 0)?;
            assert_eq!(
                (&same["new"], &same["changed"], &same["gone"]),
                (&Json::from(0), &Json::from(0), &Json::from(0)),
                "{same}"
            );
        }
        let greatest = pipeline.replace("{ on_conflict: hold }         #", "{ on_conflict: max }         #");
        assert_ne!(greatest, pipeline);
        let change = plan(world, &greatest, "customer", 1)?;
        assert_eq!(change["ended_conflicts"]["credit_limit"], 30, "{change}");
        assert!(
            change["writes"]["crm"].as_u64().is_some_and(|rows| rows <= 30),
            "{change}"
        );
        let asked = pipeline.replace("contact:  { on_conflict: latest }", "contact:  { on_conflict: hold }");
        assert_ne!(asked, pipeline);
        let change = plan(world, &asked, "customer", 1)?;
        assert_eq!(
            change["new_conflicts"]["email"], 9,
            "p1 to p9 were edited by two: {change}"
        );
        assert_eq!(world.topics.names(&[&world.name])?, names, "no topic is made");
        assert_eq!(world.topics.ends(&names)?, before, "no record is written");
        std::fs::write(world.path("wrong.yaml"), "pipeline: 7 8\nfield")?;
        console(world, &["plan", &world.path("wrong.yaml").display().to_string()])?.expect_code(2)?;
        recorded_cases_are_tests(world, &greatest)
    });
}

fn recorded_cases_are_tests(world: &World, other: &str) -> anyhow::Result<()> {
    let cases = world.path("cases");
    std::fs::create_dir_all(&cases)?;
    for (number, cid) in world.canonical("customer")?.keys().take(5).enumerate() {
        let recorded = console(
            world,
            &["replay", "--record", "customer", cid, "--note", "limits differ"],
        )?
        .expect_code(0)?;
        std::fs::write(cases.join(format!("{number}.json")), recorded.log)?;
    }
    let paths = cases.display().to_string();
    console(world, &["replay", "--assert", &paths])?
        .expect_code(0)?
        .expect_log("5 as recorded, 0 not")?;
    // Without a broker: the file and the cases are all it needs.
    let mut command: Command = world.command("syncline", &["replay", "--assert", &paths])?;
    command
        .env("BOOTSTRAP", "127.0.0.1:1")
        .env("REGISTRY", "http://127.0.0.1:1");
    process::run(command, &world.path("assert.log"), 60)?.expect_code(0)?;
    std::fs::write(world.path("pipeline.yaml"), other)?;
    let failed = console(world, &["replay", "--assert", &paths])?.expect_code(1)?;
    failed
        .expect_log("0 as recorded, 5 not")?
        .expect_log("the conflict on credit_limit is decided for")?;
    console(
        world,
        &["replay", "--assert", &world.path("pipeline.yaml").display().to_string()],
    )?
    .expect_code(2)?;
    Ok(())
}
