//! `syncline match`: two records become one and two again, and what the match is not sure of is asked.

use std::collections::BTreeMap;

use syncline_schemas::topic;
use syncline_tests::{World, acme, in_world};

use super::{console, json, list, text};

/// Ada is in the shop under one address and in the CRM under another: nobody can know that she is one.
fn ada_is_two(world: &World) -> anyhow::Result<(String, String)> {
    world
        .db("shop")
        .exec("INSERT INTO customers (full_name, email, phone) VALUES ('Ada L', 'ada@home.uk', '1')")?;
    world
        .db("crm")
        .exec("INSERT INTO contacts (first, last, mail, limit_gbp) VALUES ('Ada', 'L', 'ada@work.uk', 700)")?;
    world.settle()?;
    let shop = world.canonical_where("customer", "email", "ada@home.uk")?.cid;
    let crm = world.canonical_where("customer", "email", "ada@work.uk")?.cid;
    Ok((shop, crm))
}

/// Every row that the apps have of her.
fn rows(world: &World) -> anyhow::Result<[String; 3]> {
    Ok([
        world
            .db("shop")
            .text("SELECT full_name, email, phone FROM customers ORDER BY email, id")?,
        world
            .db("crm")
            .text("SELECT first, last, mail, tel, limit_gbp::int FROM contacts ORDER BY mail, contact_id")?,
        world
            .db("billing")
            .text("SELECT holder, invoice_to, credit_limit::int FROM accounts ORDER BY invoice_to, account_no")?,
    ])
}

fn words(world: &World) -> anyhow::Result<usize> {
    Ok(world.topics.read(&topic::identity(&world.name, "customer"))?.len())
}

/// The last canonical customer of each key, as bytes.
fn canonical(world: &World) -> anyhow::Result<BTreeMap<Vec<u8>, Option<Vec<u8>>>> {
    let latest = world.topics.latest(&topic::canonical(&world.name, "customer", 1))?;
    Ok(latest.into_iter().map(|(key, record)| (key, record.value)).collect())
}

#[test]
fn two_records_become_one_and_two_again() {
    let pipeline = acme::pipeline();
    in_world("merge", &acme::APPS, &acme::files(&pipeline), |world| {
        let (shop, crm) = ada_is_two(world)?;
        let apart = rows(world)?;
        assert_eq!(apart[0], "Ada L|ada@home.uk|1\nAda L|ada@work.uk|-");
        a_dry_run_says_nothing(world)?;
        they_are_one(world, &shop, &crm)?;
        an_edit_of_either_row_is_an_edit_of_her(world)?;
        a_replay_changes_nothing(world)?;
        they_are_two_again(world, &shop, &crm)
    });
}

fn a_dry_run_says_nothing(world: &World) -> anyhow::Result<()> {
    let line = [
        "match", "merge", "customer", "crm:1", "shop:1", "--by", "ada", "--why", "it is me",
    ];
    console(world, &[&line[..], &["--dry-run"]].concat())?
        .expect_code(0)?
        .expect_log("would merge customer")?;
    assert_eq!(words(world)?, 0);
    console(world, &line[..5])?.expect_code(2)?;
    console(
        world,
        &[
            "match", "merge", "customer", "crm:99", "shop:1", "--by", "ada", "--why", "x",
        ],
    )?
    .expect_code(2)?;
    console(
        world,
        &[
            "match", "merge", "customer", "shop:1", "shop:1", "--by", "ada", "--why", "x",
        ],
    )?
    .expect_code(2)?;
    console(
        world,
        &["match", "split", "customer", "crm:1", "--by", "ada", "--why", "x"],
    )?
    .expect_code(1)?
    .expect_log("MATCH_NOT_MERGED")?;
    assert_eq!(words(world)?, 0, "what cannot hold is not said");
    Ok(())
}

fn they_are_one(world: &World, shop: &str, crm: &str) -> anyhow::Result<()> {
    let line = [
        "match", "merge", "customer", "crm:1", "shop:1", "--by", "ada", "--why", "it is me",
    ];
    let said = json(world, &line, 0)?;
    assert_eq!([text(&said, "loser"), text(&said, "winner")], [crm, shop], "{said}");
    assert_eq!(words(world)?, 1);
    world.settle()?;
    let agreed = world.canonical("customer")?;
    assert_eq!(agreed[crm].json["merged_into"], *shop);
    assert!(!agreed[crm].deleted());
    assert_eq!(
        agreed[shop].shows(&["name", "email", "phone", "credit_limit"]),
        "Ada L|ada@home.uk|1|700"
    );
    assert_eq!(
        rows(world)?,
        [
            "Ada L|ada@home.uk|1\nAda L|ada@home.uk|1",
            "Ada|L|ada@home.uk|1|700\nAda|L|ada@home.uk|1|700",
            "Ada L|ada@home.uk|700\nAda L|ada@home.uk|700",
        ],
        "every row of either holds what is agreed, and none is made or deleted"
    );
    let conflicts = world.conflicts("customer")?;
    assert_eq!(
        conflicts[&format!("{shop}/*rows")].status(),
        "open",
        "each app has her twice"
    );
    assert_eq!(
        conflicts[&format!("{shop}/email")].status(),
        "settled",
        "the address that does not hold is kept"
    );
    console(world, &line)?.expect_code(1)?.expect_log("MATCH_MERGED")?;
    let why = json(world, &["why", "customer", crm], 0)?;
    assert_eq!(text(&why, "merged_into"), shop);
    console(world, &["why", "customer", shop, "email"])?
        .expect_code(0)?
        .expect_log(&format!("ada  merged {crm} into {shop}: it is me"))?
        .expect_log(&format!("with {crm}"))?;
    console(world, &["verify"])?.expect_code(0)?;
    Ok(())
}

fn an_edit_of_either_row_is_an_edit_of_her(world: &World) -> anyhow::Result<()> {
    world
        .db("crm")
        .exec("UPDATE contacts SET tel = '7' WHERE contact_id = 1")?;
    world.settle()?;
    world
        .db("shop")
        .exec("UPDATE customers SET full_name = 'Ada K' WHERE id = 1")?;
    world.settle()?;
    let rows = rows(world)?;
    assert_eq!(rows[0], "Ada K|ada@home.uk|7\nAda K|ada@home.uk|7");
    assert_eq!(rows[1], "Ada|K|ada@home.uk|7|700\nAda|K|ada@home.uk|7|700");
    Ok(())
}

/// Whoever has lost everything but the topics comes to the same, and writes nothing.
fn a_replay_changes_nothing(world: &World) -> anyhow::Result<()> {
    let places = "SELECT ctid, xmin, t.* FROM customers t ORDER BY ctid";
    let before = (canonical(world)?, world.db("shop").text(places)?);
    world.forget()?;
    world.settle()?;
    assert!(canonical(world)? == before.0, "canonical customers differ");
    assert_eq!(world.db("shop").text(places)?, before.1);
    Ok(())
}

fn they_are_two_again(world: &World, shop: &str, crm: &str) -> anyhow::Result<()> {
    let line = [
        "match",
        "split",
        "customer",
        crm,
        "--by",
        "bob",
        "--why",
        "they are sisters",
    ];
    let said = json(world, &line, 0)?;
    assert_eq!([text(&said, "loser"), text(&said, "winner")], [crm, shop], "{said}");
    world.settle()?;
    assert_eq!(
        rows(world)?,
        [
            "Ada K|ada@home.uk|1\nAda L|ada@work.uk|7",
            "Ada|K|ada@home.uk|1|-\nAda|L|ada@work.uk|7|700",
            "Ada K|ada@home.uk|-\nAda L|ada@work.uk|700",
        ],
        "each has what was said of it, also while they were one"
    );
    assert_eq!(
        world.conflicts("customer")?[&format!("{shop}/*rows")].status(),
        "closed"
    );
    console(world, &line)?.expect_code(1)?.expect_log("MATCH_NOT_MERGED")?;
    console(world, &["verify"])?.expect_code(0)?;
    a_replay_changes_nothing(world)
}

#[test]
fn what_is_sure_is_linked_and_what_is_not_is_asked() {
    let scored = "      - { score: { email: 7, name: 5, phone: 6 }, link: 12, review: 7 }";
    let pipeline = acme::pipeline().replacen("      - same: [email]", scored, 1);
    in_world("review", &acme::APPS, &acme::files(&pipeline), |world| {
        world.db("shop").exec(
            "INSERT INTO customers (full_name, email, phone) VALUES
             ('Ada L', 'ada@x.org', '1'), ('Bob M', 'bob@x.org', '2'), ('Cy N', 'cy@x.org', '3')",
        )?;
        world.db("crm").exec(
            "INSERT INTO contacts (first, last, mail, limit_gbp) VALUES
             ('Ada', 'L', 'ADA@x.org', 700), ('Bobby', 'M', 'bob@x.org', 5)",
        )?;
        world
            .db("billing")
            .exec("INSERT INTO accounts (holder, invoice_to) VALUES ('Cyd X', 'cy@x.org')")?;
        world.settle()?;
        assert_eq!(
            world
                .db("crm")
                .text("SELECT first, last FROM contacts ORDER BY first, last")?,
            "Ada|L\nBob|M\nBobby|M\nCy|N\nCyd|X",
            "Ada was found before she was written anywhere; who is not sure is on his own"
        );
        who_comes_later_is_found_too(world)?;
        a_person_answers(world)
    });
}

fn who_comes_later_is_found_too(world: &World) -> anyhow::Result<()> {
    world
        .db("billing")
        .exec("INSERT INTO accounts (holder, invoice_to, credit_limit) VALUES ('Ada L', 'ada@x.org', 700)")?;
    world.settle()?;
    // Billing has a row of her already, which we made: it is reported, and every row holds the same.
    assert_eq!(
        world
            .db("billing")
            .text("SELECT holder, credit_limit::int FROM accounts WHERE holder LIKE 'Ada%'")?,
        "Ada L|700\nAda L|700"
    );
    assert_eq!(
        world
            .db("shop")
            .number("SELECT count(*) FROM customers WHERE full_name LIKE 'Ada%'")?,
        1
    );
    Ok(())
}

fn a_person_answers(world: &World) -> anyhow::Result<()> {
    let waiting = json(world, &["match", "review"], 1)?;
    let items = list(&waiting, "items");
    assert_eq!(items.len(), 2, "{waiting}");
    assert!(
        items
            .iter()
            .all(|item| text(item, "kind") == "unsure" && text(item, "score") == "7")
    );
    let id = |app: &str| {
        let of = |item: &&serde_json::Value| [&item["one"], &item["other"]].iter().any(|row| row["app"] == app);
        items.iter().find(of).map(|item| text(item, "id")).unwrap_or_default()
    };
    let (bob, cy) = (id("crm"), id("billing"));
    let by = ["--by", "ada", "--why", "called them"];
    console(world, &[&["match", "accept", bob, "--dry-run"][..], &by].concat())?
        .expect_code(0)?
        .expect_log("would be accepted")?;
    json(world, &[&["match", "accept", bob][..], &by].concat(), 0)?;
    json(world, &[&["match", "reject", cy][..], &by].concat(), 0)?;
    assert!(list(&json(world, &["match", "review"], 0)?, "items").is_empty());
    console(world, &[&["match", "accept", cy][..], &by].concat())?
        .expect_code(1)?
        .expect_log("REVIEW_SETTLED")?;
    console(world, &[&["match", "accept", "ffff"][..], &by].concat())?.expect_code(2)?;
    world.settle()?;
    assert_eq!(
        world
            .db("shop")
            .text("SELECT DISTINCT full_name FROM customers WHERE email = 'bob@x.org'")?,
        "Bob M",
        "one person, in both rows"
    );
    let names = "SELECT full_name FROM customers WHERE email = 'cy@x.org' ORDER BY 1";
    assert_eq!(world.db("shop").text(names)?, "Cy N\nCyd X", "two people");
    console(world, &["match", "review"])?
        .expect_code(0)?
        .expect_log("0 wait for a person")?;
    Ok(())
}
