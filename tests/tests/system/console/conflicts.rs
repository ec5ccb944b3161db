//! `syncline conflicts` and `tail` on real parts: from 4,000 alike conflicts of a first load to none.

use anyhow::Context as _;
use serde_json::Value as Json;
use syncline_tests::{Stage, World, acme, in_world};

use super::{console, json, list, text};

const PEOPLE: usize = 4_000;

fn groups(world: &World, line: &[&str], code: i32) -> anyhow::Result<Vec<Json>> {
    let list = json(world, &[&["conflicts", "list"][..], line].concat(), code)?;
    Ok(list["groups"].as_array().context("groups")?.clone())
}

/// Two apps with the same people and other limits, and a third that only has their names.
fn disagreeing(world: &World) -> anyhow::Result<()> {
    world.db("crm").exec(&format!(
        "INSERT INTO contacts (first, last, mail, limit_gbp) SELECT 'P', i::text, 'p' || i || '@x.org', i FROM generate_series(1, {PEOPLE}) i"
    ))?;
    world.db("billing").exec(&format!(
        "INSERT INTO accounts (holder, invoice_to, credit_limit) SELECT 'P ' || i, 'p' || i || '@x.org', i + 1 FROM generate_series(1, {PEOPLE}) i"
    ))
}

#[test]
fn four_thousand_alike_conflicts_are_one_line_and_one_decision() {
    let pipeline = acme::pipeline();
    in_world("alike", &acme::APPS, &acme::files(&pipeline), |world| {
        disagreeing(world)?;
        world.agree()?;
        let groups_of_limits = groups(world, &["--field", "credit_limit"], 1)?;
        assert_eq!(groups_of_limits.len(), 1, "{groups_of_limits:?}");
        let group = &groups_of_limits[0];
        assert_eq!(group["count"], PEOPLE);
        assert_eq!(
            [text(group, "entity"), text(group, "status"), text(group, "apps")],
            ["customer", "open", "billing (first load), crm (first load)"]
        );
        one_is_taken_and_resolved(world, text(group, "example"))?;
        the_rest_is_one_decision(world, text(group, "group"))?;
        world.settle()?;
        let open = groups(world, &[], 0)?;
        assert!(open.is_empty(), "{open:?}");
        let differing = world.db("crm").number(
            "SELECT count(*) FROM contacts WHERE limit_gbp NOT IN (substr(mail, 2, length(mail) - 7)::int + 1, 7)",
        )?;
        assert_eq!(differing, 0, "the crm has billing's limits");
        let resolved = groups(world, &["--status", "resolved"], 0)?;
        let counts: usize = resolved
            .iter()
            .filter_map(|group| group["count"].as_u64())
            .sum::<u64>()
            .try_into()?;
        assert_eq!(counts, PEOPLE, "{resolved:?}");
        Ok(())
    });
}

fn one_is_taken_and_resolved(world: &World, id: &str) -> anyhow::Result<()> {
    let actor = ["--why", "called them"];
    let take = |by: &str| console(world, &["conflicts", "take", id, "--by", by]);
    take("ada")?.expect_code(0)?;
    take("ada")?.expect_code(0)?;
    take("bob")?
        .expect_code(1)?
        .expect_log("CONFLICT_TAKEN: ada works on it")?;
    assert_eq!(text(&json(world, &["conflicts", "show", id], 1)?, "status"), "taken");
    let shown = console(world, &["conflicts", "show", id])?.expect_code(1)?;
    shown
        .expect_log("taken by ada")?
        .expect_log("HAD SEEN")?
        .expect_log("nobody")?;

    let answer = |more: &[&str]| console(world, &[&["conflicts", "resolve", id][..], more, &actor[..]].concat());
    answer(&["--value", "7", "--by", "bob"])?
        .expect_code(1)?
        .expect_log("CONFLICT_TAKEN")?;
    answer(&["--pick", "shop", "--by", "ada"])?
        .expect_code(2)?
        .expect_log("shop is no candidate")?;
    answer(&["--value", "\"much\"", "--by", "ada"])?.expect_code(2)?;
    answer(&["--value", "7", "--by", "ada", "--dry-run"])?
        .expect_code(0)?
        .expect_log("would decide")?;
    assert_eq!(
        text(&json(world, &["conflicts", "show", id], 1)?, "status"),
        "taken",
        "a dry run writes nothing"
    );
    answer(&["--value", "7", "--by", "ada"])?
        .expect_code(0)?
        .expect_log("credit_limit = 7")?;
    assert_eq!(text(&json(world, &["conflicts", "show", id], 0)?, "status"), "answered");
    answer(&["--value", "8", "--by", "ada"])?
        .expect_code(1)?
        .expect_log("answered by ada")?;
    console(
        world,
        &[
            "conflicts",
            "resolve",
            "ffff",
            "--value",
            "8",
            "--by",
            "ada",
            "--why",
            "x",
        ],
    )?
    .expect_code(2)?;
    world.until_current(&Stage::Transform)?;
    let shown = json(world, &["conflicts", "show", id], 0)?;
    assert_eq!([text(&shown, "status"), text(&shown, "who")], ["resolved", "ada"]);
    assert_eq!(shown["decisions"][0]["why"], "called them");
    Ok(())
}

fn the_rest_is_one_decision(world: &World, group: &str) -> anyhow::Result<()> {
    let left = (PEOPLE - 1).to_string();
    let bulk = |count: &str, more: &[&str]| {
        let line = [
            "conflicts",
            "bulk",
            group,
            "--count",
            count,
            "--pick",
            "billing",
            "--by",
            "finance",
        ];
        console(world, &[&line[..], &["--why", "billing is right"], more].concat())
    };
    bulk("1", &[])?.expect_code(1)?.expect_log("CONFLICTS_MOVED")?;
    bulk(&left, &["--dry-run"])?
        .expect_code(0)?
        .expect_log(&format!("would decide: {left} conflicts"))?;
    bulk(&left, &[])?
        .expect_code(0)?
        .expect_log(&format!("decided: {left} conflicts"))?;
    let answered = groups(world, &[], 0)?;
    assert_eq!(text(&answered[0], "status"), "answered");
    Ok(())
}

#[test]
fn an_answer_to_a_question_that_has_changed_is_refused_and_shows_the_new_one() {
    let pipeline = acme::pipeline();
    in_world("stale", &acme::APPS, &acme::files(&pipeline), |world| {
        world
            .db("crm")
            .exec("INSERT INTO contacts (first, last, mail, limit_gbp) VALUES ('Ada', 'L', 'ada@x.org', 1000)")?;
        world
            .db("billing")
            .exec("INSERT INTO accounts (holder, invoice_to, credit_limit) VALUES ('Ada L', 'ada@x.org', 1500)")?;
        world.agree()?;
        let id = text(&groups(world, &["--app", "crm"], 1)?[0], "example").to_owned();
        world.db("crm").exec("UPDATE contacts SET limit_gbp = 900")?;
        world.agree()?;
        let answer = |id: &str| {
            let line = [
                "conflicts",
                "resolve",
                id,
                "--pick",
                "billing",
                "--by",
                "ada",
                "--why",
                "x",
            ];
            console(world, &line)
        };
        let refused = answer(&id)?
            .expect_code(1)?
            .expect_log("CONFLICT_MOVED")?
            .expect_log("900")?;
        let now = text(&groups(world, &[], 1)?[0], "example").to_owned();
        assert_ne!(now, id);
        refused.expect_log(&now)?;
        assert!(
            world
                .topics
                .read(&format!("{}.decisions.customer", world.name))?
                .is_empty()
        );
        answer(&now)?.expect_code(0)?;
        world.settle()?;
        assert_eq!(world.db("crm").text("SELECT limit_gbp::int FROM contacts")?, "1500");
        assert!(groups(world, &[], 0)?.is_empty());
        let exported = console(world, &["conflicts", "export", "--status", "resolved"])?.expect_code(0)?;
        let line: Json = serde_json::from_str(exported.log.trim()).with_context(|| exported.log.clone())?;
        assert_eq!(line["decisions"][0]["by"], "ada");
        statistics_match_the_topic(world)?;
        every_topic_can_be_read(world)
    });
}

/// The question was asked twice, and answered the second time.
fn statistics_match_the_topic(world: &World) -> anyhow::Result<()> {
    let stats = json(world, &["conflicts", "stats"], 0)?;
    let topic = format!("{}.conflicts.customer", world.name);
    let records = console(world, &["tail", &topic, "--from", "begin", "--max", "1000", "--json"])?.expect_code(0)?;
    let records: Vec<Json> = records
        .log
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    let ids: std::collections::BTreeSet<&str> = records.iter().map(|record| text(&record["value"], "id")).collect();
    assert_eq!(stats["conflicts"], ids.len());
    let limits = list(&stats, "counts")
        .iter()
        .filter(|count| text(count, "field") == "credit_limit");
    let limits: Vec<(&str, &Json)> = limits.map(|count| (text(count, "outcome"), &count["count"])).collect();
    assert_eq!(
        limits,
        [("asked anew", &Json::from(1)), ("closed", &Json::from(1))],
        "{stats}"
    );
    Ok(())
}

/// `tail` on all topics that the run has made.
fn every_topic_can_be_read(world: &World) -> anyhow::Result<()> {
    for topic in world.topics.names(&[&world.name])? {
        let line = ["tail", &topic, "--from", "begin", "--max", "1000", "--json"];
        let shown = console(world, &line)?.expect_code(0)?;
        let records: Vec<Json> = shown
            .log
            .lines()
            .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()))
            .collect::<anyhow::Result<_>>()?;
        assert_eq!(records.len(), world.topics.read(&topic)?.len().min(1000), "{topic}");
        let unreadable = records.iter().find(|record| record.get("unreadable").is_some());
        assert!(unreadable.is_none(), "{unreadable:?}");
    }
    let topic = world.capture_topic("crm", "contacts");
    let last = console(world, &["tail", &topic, "--max", "1"])?.expect_code(0)?;
    assert_eq!(last.log.lines().count(), 1, "{}", last.log);
    last.expect_log("updated  ")?.expect_log("syncline.mark={")?;
    let unknown = console(world, &["tail", "no.such.topic"])?.expect_code(2)?;
    unknown.expect_log(".canonical.customer.v1")?;
    Ok(())
}
