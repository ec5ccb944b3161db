//! `syncline why` and `explain`: the story of one record, as it was.

use serde_json::Value as Json;
use syncline_tests::{World, acme, in_world};

use super::{console, json, list, text};

fn ada_is_edited_by_three(world: &World) -> anyhow::Result<()> {
    world
        .db("shop")
        .exec("INSERT INTO customers (full_name, email, phone) VALUES ('Ada L', 'ada@old.uk', '1')")?;
    world.db("crm").exec(
        "INSERT INTO contacts (first, last, mail, tel, limit_gbp) VALUES ('Ada', 'L', 'ada@old.uk', '1', 1000)",
    )?;
    world
        .db("billing")
        .exec("INSERT INTO accounts (holder, invoice_to, credit_limit) VALUES ('Ada L', 'ada@old.uk', 1000)")?;
    world.settle()?;
    world.db("shop").exec("UPDATE customers SET email = 'ada@new.uk'")?;
    world
        .db("crm")
        .exec("UPDATE contacts SET mail = 'ada@crm.uk', limit_gbp = 800")?;
    world.db("billing").exec("UPDATE accounts SET credit_limit = 1500")?;
    world.settle()
}

/// `who what` of the timeline, in its order.
fn told(why: &Json) -> Vec<String> {
    let events = list(why, "timeline").iter();
    events
        .map(|event| format!("{} {}", text(event, "who"), text(event, "what")))
        .collect()
}

fn has(told: &[String], start: &str, parts: &[&str]) -> bool {
    told.iter()
        .any(|line| line.starts_with(start) && parts.iter().all(|part| line.contains(part)))
}

#[test]
fn a_record_tells_its_story() {
    let pipeline = acme::pipeline();
    in_world("why", &acme::APPS, &acme::files(&pipeline), |world| {
        ada_is_edited_by_three(world)?;
        let agreed = world.only_canonical("customer")?;
        let line = ["why", "customer", &agreed.cid];
        let why = json(world, &line, 1)?;
        let email = list(&why, "fields")
            .iter()
            .find(|field| field["field"] == "email")
            .cloned()
            .unwrap_or_default();
        assert_eq!(
            [text(&email, "value"), text(&email, "strategy"), text(&email, "lost")],
            ["\"ada@crm.uk\"", "latest", "\"ada@new.uk\" of shop"]
        );
        assert_eq!(email["by"], serde_json::json!(["crm"]));
        let story = told(&why);
        assert!(
            has(
                &story,
                r#"shop email: "ada@old.uk" -> "ada@new.uk""#,
                &["(had seen billing, crm)"]
            ),
            "{story:#?}"
        );
        assert!(
            has(
                &story,
                "crm ",
                &[r#"email: "ada@old.uk" -> "ada@crm.uk" (had seen billing, not shop)"#]
            ),
            "{story:#?}"
        );
        assert!(
            has(
                &story,
                "merge email: conflict",
                &["of crm and shop", "latest", "decided for crm", "ada@new.uk"]
            ),
            "{story:#?}"
        );
        assert!(
            has(
                &story,
                "merge credit_limit: conflict",
                &["a person is asked", "800 of crm", "1500 of billing"]
            ),
            "{story:#?}"
        );
        assert!(has(&story, "shop received", &["email = \"ada@crm.uk\""]), "{story:#?}");
        let shop = list(&why, "apps")
            .iter()
            .find(|app| app["app"] == "shop")
            .cloned()
            .unwrap_or_default();
        assert!(
            shop["age_s"].as_i64().is_some_and(|age| (0..600).contains(&age)),
            "{shop}"
        );
        by_the_row_of_an_app_and_for_one_field(world, &agreed.cid)?;
        a_person_decides(world, &line)
    });
}

fn by_the_row_of_an_app_and_for_one_field(world: &World, cid: &str) -> anyhow::Result<()> {
    let key = world.db("crm").text("SELECT contact_id FROM contacts")?;
    let why = json(world, &["why", "customer", &format!("crm:{key}"), "phone"], 0)?;
    assert_eq!(text(&why, "cid"), cid);
    assert_eq!(list(&why, "fields").len(), 1);
    assert!(
        told(&why).iter().all(|line| line.contains("phone")),
        "{:#?}",
        told(&why)
    );
    console(world, &["why", "customer", "crm:999"])?.expect_code(2)?;
    console(world, &["why", "customer", "ffff"])?.expect_code(2)?;
    console(world, &["why", "customer", cid, "fax"])?.expect_code(2)?;
    Ok(())
}

fn a_person_decides(world: &World, line: &[&str]) -> anyhow::Result<()> {
    let open = json(world, &["conflicts", "list", "--each"], 1)?;
    let id = text(&list(&open, "conflicts")[0], "id").to_owned();
    let answer = [
        "conflicts",
        "resolve",
        &id,
        "--value",
        "1200",
        "--by",
        "finance",
        "--why",
        "call of 10:15",
    ];
    console(world, &answer)?.expect_code(0)?;
    world.settle()?;
    let why = json(world, line, 0)?;
    let story = told(&why);
    assert!(
        has(&story, "finance decided credit_limit = 1200: call of 10:15", &[]),
        "{story:#?}"
    );
    for app in ["crm", "billing"] {
        assert!(
            has(&story, &format!("{app} received"), &["credit_limit = 1200"]),
            "{story:#?}"
        );
    }
    console(world, line)?.expect_code(0)?.expect_log("RECEIVED LAST")?;
    Ok(())
}

#[test]
fn the_rule_of_a_field_is_named_with_its_line() {
    let pipeline = acme::pipeline();
    in_world("explain", &[], &acme::files(&pipeline), |world| {
        for (app, _) in acme::APPS {
            let app = app.to_uppercase();
            world.set_env(&format!("{app}_DSN"), "postgres://nobody@127.0.0.1:1/none");
            world.set_env(&format!("{app}_PREFIX"), &app);
        }
        let line_of = |text: &str| pipeline.lines().position(|line| line.contains(text)).map(|at| at + 1);
        let money = json(world, &["explain", "customer.credit_limit"], 0)?;
        assert_eq!(text(&money, "strategy"), "hold");
        assert_eq!(text(&money, "place"), "kinds.money");
        let expected = line_of("money:    {").map(|line| format!("pipeline.yaml:{line}"));
        assert_eq!(Some(text(&money, "rule").to_owned()), expected);
        let web = json(world, &["explain", "product.web"], 0)?;
        assert_eq!([text(&web, "strategy"), text(&web, "level")], ["[shop, wms]", "field"]);
        console(world, &["explain", "product.web"])?
            .expect_code(0)?
            .expect_log("decided by")?;
        console(world, &["explain", "product.color"])?.expect_code(2)?;
        Ok(())
    });
}
