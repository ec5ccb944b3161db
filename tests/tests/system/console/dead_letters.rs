//! `syncline dlq` and `status`: by cause, and empty after one command for each.

use serde_json::Value as Json;
use syncline_tests::{Stage, World, acme, in_world};

use super::{console, json, list, text};

const ACTOR: [&str; 4] = ["--by", "ada", "--why", "the cause is mended"];

fn causes(world: &World, code: i32) -> anyhow::Result<Vec<Json>> {
    Ok(list(&json(world, &["dlq", "list"], code)?, "causes").to_vec())
}

fn act(world: &World, verb: &str, cause: &Json, more: &[&str]) -> anyhow::Result<syncline_tests::Finished> {
    console(
        world,
        &[&["dlq", verb, text(cause, "cause")][..], &ACTOR[..], more].concat(),
    )
}

#[test]
fn what_a_target_refused_is_given_back_by_one_command() {
    let pipeline = acme::pipeline();
    in_world("dlqsink", &acme::APPS, &acme::files(&pipeline), |world| {
        world
            .db("crm")
            .exec("ALTER TABLE contacts ADD CONSTRAINT c CHECK (tel <> 'bad')")?;
        world.db("shop").exec(
            "INSERT INTO customers (full_name, email, phone)
             SELECT 'P ' || i, 'p' || i || '@x.org', CASE WHEN i < 4 THEN 'bad' ELSE 'good' END FROM generate_series(1, 10) i",
        )?;
        world.settle()?;
        let refused = causes(world, 1)?;
        assert_eq!(refused.len(), 1, "three records, one cause: {refused:?}");
        let cause = &refused[0];
        assert_eq!(
            (cause["count"].as_u64(), text(cause, "stage"), text(cause, "target")),
            (Some(3), "sink", "crm")
        );
        assert!(!text(cause, "reason").contains("bad"), "no values in a list");
        console(world, &["dlq", "show", text(cause, "cause")])?
            .expect_code(1)?
            .expect_log("\"bad\"")?;
        let status = json(world, &["status"], 1)?;
        assert_eq!(status["refused"]["sink"], 3);
        let crm = list(&status, "targets").iter().find(|target| target["name"] == "crm");
        assert_eq!(crm.map(|crm| &crm["parked"]), Some(&Json::from(3)));

        act(world, "replay", cause, &["--dry-run"])?
            .expect_code(0)?
            .expect_log("would be given back")?;
        act(world, "replay", cause, &[])?
            .expect_code(1)?
            .expect_log("STILL_PARKED")?;
        world.db("crm").exec("ALTER TABLE contacts DROP CONSTRAINT c")?;
        act(world, "replay", cause, &[])?
            .expect_code(0)?
            .expect_log("3 refused: 3 given back")?;
        assert!(causes(world, 0)?.is_empty());
        assert_eq!(
            world
                .db("crm")
                .number("SELECT count(*) FROM contacts WHERE tel = 'bad'")?,
            3
        );
        let actions = console(world, &["tail", &format!("{}.actions", world.name), "--json"])?.expect_code(0)?;
        assert_eq!(actions.log.matches("\"kind\":\"replay\"").count(), 3, "{}", actions.log);
        assert_eq!(actions.log.matches("the cause is mended").count(), 3);
        world.settle()?;
        all_is_done(world)
    });
}

/// Nothing is left to do anywhere.
fn all_is_done(world: &World) -> anyhow::Result<()> {
    let status = json(world, &["status"], 0)?;
    for (part, lag) in [
        ("sources", "not_mapped"),
        ("entities", "not_merged"),
        ("targets", "not_applied"),
    ] {
        for one in list(&status, part) {
            assert_eq!(one[lag], 0, "{part}: {one}");
        }
    }
    let shop = &list(&status, "sources")[0];
    assert!(text(shop, "position").starts_with("1:"), "{shop}");
    assert_eq!(shop["tables_loaded"], shop["tables"]);
    Ok(())
}

#[test]
fn status_names_what_lags_and_what_cannot_be_reached() {
    let pipeline = acme::pipeline();
    in_world("status", &acme::APPS, &acme::files(&pipeline), |world| {
        let before = json(world, &["status"], 1)?;
        assert_eq!(list(&before, "sources")[0]["waits"][0], "capture never ran");
        world.settle()?;
        world
            .db("shop")
            .exec("INSERT INTO customers (full_name, email) SELECT 'P', i || '@x.org' FROM generate_series(1, 5) i")?;
        let lag = |part: &str, name: &str, what: &str| -> anyhow::Result<Json> {
            let status = json(world, &["status"], 0)?;
            let one = list(&status, part).iter().find(|one| one["name"] == name).cloned();
            Ok(one.unwrap_or_default()[what].clone())
        };
        world.until_current(&Stage::Capture)?;
        assert_eq!(lag("sources", "shop", "not_mapped")?, 5);
        world.until_current(&Stage::Transform)?;
        assert_eq!(lag("sources", "shop", "not_mapped")?, 0);
        assert_eq!(lag("targets", "crm", "not_applied")?, 5);
        world.until_current(&Stage::Sink)?;
        assert_eq!(lag("targets", "crm", "not_applied")?, 0);
        world.set_env("WMS_DSN", "postgres://postgres@127.0.0.1:1/none");
        console(world, &["status"])?
            .expect_code(3)?
            .expect_log("wms cannot be asked")?;
        console(world, &["dlq", "list"])?
            .expect_code(3)?
            .expect_log("wms cannot be asked")?;
        world.set_env("BOOTSTRAP", "127.0.0.1:1");
        console(world, &["tail", "any"])?.expect_code(3)?;
        Ok(())
    });
}

#[test]
fn what_map_refused_is_mapped_after_all_and_an_older_state_never_follows_a_newer_one() {
    let broken = acme::pipeline().replace("phone: phone", r#"phone: 'enum(phone, "a=active")'"#);
    let mended = broken.replace(r#""a=active""#, r#""a=active", "b=busy""#);
    let mut files = acme::files(&broken).to_vec();
    files.push(("mended.yaml", mended.as_str()));
    in_world("dlqmap", &acme::APPS, &files, |world| {
        world.db("shop").exec(
            "INSERT INTO customers (full_name, email, phone) VALUES ('P', '1@x.org', 'b'), ('P', '2@x.org', 'b'), ('P', '3@x.org', 'a')",
        )?;
        world.agree()?;
        world
            .db("shop")
            .exec("UPDATE customers SET phone = 'a' WHERE email = '2@x.org'")?;
        world.agree()?;
        assert_eq!(world.canonical("customer")?.len(), 2, "1 was never mapped");
        let refused = causes(world, 1)?;
        assert_eq!(refused.len(), 1, "{refused:?}");
        assert_eq!(
            (refused[0]["count"].as_u64(), text(&refused[0], "stage")),
            (Some(2), "map")
        );
        console(world, &["dlq", "show", text(&refused[0], "cause")])?
            .expect_code(1)?
            .expect_log("2@x.org")?;

        std::fs::copy(world.path("mended.yaml"), world.path("pipeline.yaml"))?;
        act(world, "replay", &refused[0], &[])?
            .expect_code(0)?
            .expect_log("2 refused: 1 given back, 1 left alone")?;
        assert!(causes(world, 0)?.is_empty(), "both are closed");
        world.settle()?;
        assert!(causes(world, 0)?.is_empty(), "and stay so");
        let phones = "SELECT string_agg(tel, ',' ORDER BY mail) FROM contacts";
        assert_eq!(world.db("crm").text(phones)?, "busy,active,active");
        a_drop_needs_a_reason_and_leaves_a_record(world)
    });
}

fn a_drop_needs_a_reason_and_leaves_a_record(world: &World) -> anyhow::Result<()> {
    world
        .db("shop")
        .exec("UPDATE customers SET phone = 'z' WHERE email = '3@x.org'")?;
    world.agree()?;
    let cause = causes(world, 1)?.remove(0);
    console(world, &["dlq", "drop", text(&cause, "cause"), "--by", "ada"])?.expect_code(2)?;
    act(world, "drop", &cause, &["--dry-run"])?.expect_code(0)?;
    assert_eq!(causes(world, 1)?.len(), 1, "a dry run writes nothing");
    act(world, "drop", &cause, &[])?
        .expect_code(0)?
        .expect_log("1 dropped")?;
    assert!(causes(world, 0)?.is_empty());
    let actions = console(
        world,
        &["tail", &format!("{}.actions", world.name), "--max", "1", "--json"],
    )?;
    actions.expect_log("\"kind\":\"drop\"")?;
    act(world, "drop", &cause, &[])?
        .expect_code(2)?
        .expect_log("nothing stands refused")?;
    Ok(())
}
