//! `syncline undo`: a wrong import is taken back, and what people did since stays.

use serde_json::Value as Json;
use syncline_schemas::topic;
use syncline_tests::{World, acme, in_world};

use super::{console, json, list, text};

/// The time of the apps' server.
fn time(world: &World) -> anyhow::Result<String> {
    world
        .db("crm")
        .text(r#"SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"#)
}

/// What an app wrote in some time.
struct Written {
    source: &'static str,
    from: String,
    to: String,
}

impl Written {
    fn line<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let line = ["undo", "--source", self.source, "--from", &self.from, "--to", &self.to];
        [&line[..], more].concat()
    }
}

fn everybody_agrees(world: &World) -> anyhow::Result<()> {
    world
        .db("shop")
        .exec("INSERT INTO customers (full_name, email, phone) VALUES ('Ada L', 'ada@x.org', '1'); INSERT INTO products (sku, qty) VALUES ('s1', 10)")?;
    world
        .db("crm")
        .exec("INSERT INTO contacts (first, last, mail, tel, limit_gbp) VALUES ('Ada', 'L', 'ada@x.org', '1', 1000)")?;
    world
        .db("billing")
        .exec("INSERT INTO accounts (holder, invoice_to, credit_limit) VALUES ('Ada L', 'ada@x.org', 1000)")?;
    world
        .db("wms")
        .exec("INSERT INTO items (sku, on_hand) VALUES ('s1', 10)")?;
    world.settle()
}

/// Name, phone and limit, as the apps have them.
fn apps(world: &World) -> anyhow::Result<[String; 3]> {
    Ok([
        world.db("shop").text("SELECT full_name, phone FROM customers")?,
        world
            .db("crm")
            .text("SELECT first, last, tel, limit_gbp::int FROM contacts")?,
        world
            .db("billing")
            .text("SELECT holder, credit_limit::int FROM accounts")?,
    ])
}

fn decisions(world: &World) -> anyhow::Result<usize> {
    Ok(world.topics.read(&topic::decisions(&world.name, "customer"))?.len())
}

/// `field: now -> back to` of each, in the order of the file.
fn undone(undo: &Json) -> Vec<String> {
    let all = list(undo, "undone").iter();
    all.map(|one| {
        format!(
            "{}: {} -> {}",
            text(one, "field"),
            text(one, "now"),
            text(one, "back_to")
        )
    })
    .collect()
}

#[test]
fn what_one_app_wrote_is_taken_back_and_later_edits_stay() {
    let pipeline = acme::pipeline();
    in_world("undo", &acme::APPS, &acme::files(&pipeline), |world| {
        everybody_agrees(world)?;
        let from = time(world)?;
        world
            .db("crm")
            .exec("UPDATE contacts SET first = 'Wrong', tel = '9', limit_gbp = 5")?;
        world.settle()?;
        let import = Written {
            source: "crm",
            from,
            to: time(world)?,
        };
        world.db("shop").exec("UPDATE customers SET phone = '7'")?;
        world.settle()?;
        let wrong = ["Wrong L|7", "Wrong|L|7|5", "Wrong L|5"];
        assert_eq!(apps(world)?, wrong);
        a_preview_writes_nothing(world, &import)?;
        it_is_taken_back_once(world, &import)?;
        who_speaks_next_is_heard(world)?;
        what_cannot_be_undone_is_named(world)
    });
}

fn a_preview_writes_nothing(world: &World, import: &Written) -> anyhow::Result<()> {
    let preview = json(world, &import.line(&["--preview"]), 0)?;
    assert_eq!(
        undone(&preview),
        [r#"name: "Wrong L" -> "Ada L""#, "credit_limit: 5 -> 1000"],
        "{preview}"
    );
    let left = list(&preview, "left_alone");
    assert_eq!(left.len(), 1, "{preview}");
    assert_eq!(
        [text(&left[0], "field"), text(&left[0], "why")],
        ["phone", "edited since by shop"]
    );
    console(world, &import.line(&["--dry-run", "--entity", "customer"]))?
        .expect_code(0)?
        .expect_log("BACK TO")?
        .expect_log("2 would be put back, 1 left alone, 0 not undone")?;
    console(world, &import.line(&["--preview", "--entity", "order"]))?.expect_code(2)?;
    console(world, &import.line(&["--by", "ada"]))?.expect_code(2)?;
    console(
        world,
        &[
            "undo",
            "--source",
            "crm",
            "--from",
            &import.to,
            "--to",
            &import.from,
            "--preview",
        ],
    )?
    .expect_code(2)?;
    let nobody = Written {
        source: "nobody",
        from: import.from.clone(),
        to: import.to.clone(),
    };
    console(world, &nobody.line(&["--preview"]))?
        .expect_code(2)?
        .expect_log("nobody")?;
    assert_eq!(decisions(world)?, 0, "nothing is written");
    Ok(())
}

fn it_is_taken_back_once(world: &World, import: &Written) -> anyhow::Result<()> {
    let by = ["--by", "ada", "--reason", "wrong import"];
    let line = import.line(&by);
    console(world, &[&line[..], &["--count", "3"]].concat())?
        .expect_code(1)?
        .expect_log("UNDO_MOVED")?
        .expect_log("BACK TO")?;
    assert_eq!(decisions(world)?, 0, "another number was seen");
    console(world, &[&line[..], &["--count", "2"]].concat())?
        .expect_code(0)?
        .expect_log("2 put back by ada, 1 left alone, 0 not undone")?;
    assert_eq!(decisions(world)?, 2);
    let again = |world: &World| -> anyhow::Result<()> {
        let again = json(world, &line, 0)?;
        assert!(undone(&again).is_empty(), "{again}");
        let name = list(&again, "left_alone")
            .iter()
            .find(|one| text(one, "field") == "name");
        let why = name.map(|one| text(one, "why"));
        assert_eq!(why, Some("edited since by operator (ada): wrong import"), "{again}");
        assert_eq!(decisions(world)?, 2, "twice is once");
        Ok(())
    };
    again(world)?;
    world.settle()?;
    again(world)?;
    assert_eq!(apps(world)?, ["Ada L|7", "Ada|L|7|1000", "Ada L|1000"]);
    let cid = world.only_canonical("customer")?.cid;
    let why = console(world, &["why", "customer", &cid, "credit_limit"])?.expect_code(0)?;
    why.expect_log("ada  decided credit_limit = 1000: wrong import")?;
    Ok(())
}

fn who_speaks_next_is_heard(world: &World) -> anyhow::Result<()> {
    world.db("crm").exec("UPDATE contacts SET limit_gbp = 7")?;
    world.settle()?;
    assert_eq!(apps(world)?, ["Ada L|7", "Ada|L|7|7", "Ada L|7"]);
    assert!(
        world.conflicts("customer")?.is_empty(),
        "it was never a question of anybody"
    );
    Ok(())
}

fn what_cannot_be_undone_is_named(world: &World) -> anyhow::Result<()> {
    let from = time(world)?;
    world.db("shop").exec(
        "UPDATE products SET qty = 4; INSERT INTO customers (full_name, email) VALUES ('Bob M', 'bob@x.org'); DELETE FROM customers WHERE email = 'ada@x.org'",
    )?;
    world.settle()?;
    let sale = Written {
        source: "shop",
        from,
        to: time(world)?,
    };
    let undo = json(world, &sale.line(&["--preview"]), 1)?;
    assert!(undone(&undo).is_empty(), "{undo}");
    let not = list(&undo, "not_undone");
    let why = |part: &str| not.iter().find(|one| text(one, "why").contains(part));
    assert_eq!(
        why("shop added -6").map(|one| text(one, "remedy")),
        Some("add 6 in one of the apps")
    );
    assert_eq!(why("shop made it").map(|one| text(one, "field")), Some("*"));
    assert_eq!(
        why("shop deleted its row; the record lives").map(|one| text(one, "remedy")),
        Some("make the row again in shop")
    );
    assert_eq!(not.len(), 3, "{undo}");
    Ok(())
}
