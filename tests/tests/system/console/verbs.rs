//! Every verb that there is, on one small running system: as a person asks and as a program asks, with its exit code, and with
//! `--dry-run` where it writes. What there is, the program itself is asked, so that a verb nobody tests is noticed.
//!
//! With `SYNCLINE_TRANSCRIPT=FILE` all that a person would see is written there, as it was: `tests/readme_output.sh`.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use serde_json::Value as Json;
use syncline_tests::process::{self, Finished};
use syncline_tests::{World, acme, in_world};

use super::{console, list, text};

const HELP_MAX_S: u64 = 30;
/// Verbs that have verbs of their own.
const FAMILIES: [&str; 2] = ["conflicts", "dlq"];
const ADA: [&str; 4] = ["--by", "ada", "--why", "called them"];
/// The connector's configuration, as it is handed to Kafka Connect.
const CONNECTOR: &str = r#"{
  "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
  "plugin.name": "pgoutput",
  "database.hostname": "db.internal", "database.port": "5432", "database.dbname": "shop",
  "database.user": "reader", "database.password": "secret",
  "topic.prefix": "shop", "slot.name": "debezium", "table.include.list": "public.customers"
}"#;

/// Who asks.
struct Clerk<'a> {
    world: &'a World,
    verbs: RefCell<BTreeSet<String>>,
    transcript: RefCell<String>,
}

impl Clerk<'_> {
    /// Asks as a person does.
    fn say(&self, line: &[&str], code: i32) -> anyhow::Result<Finished> {
        let finished = console(self.world, line)?;
        self.note(line, &finished.log);
        finished.expect_code(code).with_context(|| line.join(" "))
    }

    /// Asks as a program does: one JSON object, or one a line.
    fn json(&self, line: &[&str], code: i32) -> anyhow::Result<Json> {
        let all: Vec<&str> = line.iter().copied().chain(["--json"]).collect();
        let finished = console(self.world, &all)?
            .expect_code(code)
            .with_context(|| all.join(" "))?;
        let answers = serde_json::Deserializer::from_str(&finished.log).into_iter::<Json>();
        let answers = answers.collect::<Result<Vec<Json>, _>>();
        let answers = answers.with_context(|| format!("{}: {}", all.join(" "), finished.log))?;
        anyhow::ensure!(!answers.is_empty(), "{} says nothing", all.join(" "));
        Ok(match answers.as_slice() {
            [one] => one.clone(),
            several => Json::Array(several.to_vec()),
        })
    }

    /// Both, of a question that changes nothing.
    fn ask(&self, line: &[&str], code: i32) -> anyhow::Result<Json> {
        self.say(line, code)?;
        self.json(line, code)
    }

    /// What it would do, which must not be done.
    fn would(&self, line: &[&str], says: &str) -> anyhow::Result<()> {
        let line: Vec<&str> = line.iter().copied().chain(["--dry-run"]).collect();
        let before = self.ends()?;
        self.say(&line, 0)?.expect_log(says)?;
        let dry = self.json(&line, 0)?;
        assert_eq!(dry["dry_run"], true, "{dry}");
        assert_eq!(self.ends()?, before, "{} has written", line.join(" "));
        Ok(())
    }

    /// Where the topics end that people write.
    fn ends(&self) -> anyhow::Result<BTreeMap<(String, i32), i64>> {
        let name = &self.world.name;
        let prefixes = [format!("{name}.decisions."), format!("{name}.actions")];
        let names = self.world.topics.names(&[&prefixes[0], &prefixes[1]])?;
        self.world.topics.ends(&names)
    }

    fn note(&self, line: &[&str], answer: &str) {
        let verb = match line {
            [family, verb, ..] if FAMILIES.contains(family) => format!("{family} {verb}"),
            [verb, ..] => (*verb).to_owned(),
            [] => return,
        };
        self.verbs.borrow_mut().insert(verb);
        let quoted = |word: &&str| match word.contains([' ', '"']) {
            true => format!("'{word}'"),
            false => (*word).to_owned(),
        };
        let line = line.iter().map(quoted).collect::<Vec<_>>().join(" ");
        let shown = format!("$ syncline {line}\n{answer}\n");
        let name = &self.world.name;
        // As it is where a pipeline is called acme and nobody else's topics are about.
        let shown = shown.replace(&format!("{name}_"), "").replace(name.as_str(), "acme");
        let directory = self.world.path("");
        let shown = shown.replace(&*directory.to_string_lossy(), "");
        self.transcript.borrow_mut().push_str(&shown);
    }
}

/// The verbs that the program's help names, those of families with their second word.
fn verbs(directory: &Path) -> anyhow::Result<BTreeSet<String>> {
    let help = |line: &[&str]| -> anyhow::Result<Vec<String>> {
        let log = directory.join("help.log");
        let _ = std::fs::remove_file(&log);
        let mut command = Command::new(process::binary("syncline")?);
        command.args(line).arg("--help");
        let finished = process::run(command, &log, HELP_MAX_S)?.expect_code(0)?;
        let after = finished
            .log
            .split_once("Commands:\n")
            .context("no commands in the help")?
            .1;
        let named = after.lines().take_while(|line| line.starts_with("  "));
        let words = named.filter_map(|line| line.split_whitespace().next());
        Ok(words.filter(|word| *word != "help").map(str::to_owned).collect())
    };
    let mut all = BTreeSet::new();
    for verb in help(&[])? {
        if FAMILIES.contains(&verb.as_str()) {
            all.extend(help(&[&verb])?.into_iter().map(|second| format!("{verb} {second}")));
        } else {
            all.insert(verb);
        }
    }
    Ok(all)
}

/// The time of the apps' server.
fn time(world: &World) -> anyhow::Result<String> {
    world
        .db("crm")
        .text(r#"SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"#)
}

/// Three people whose limits two apps disagree about, a price that somebody has to approve, and one row that the shop refuses.
fn a_small_system(world: &World) -> anyhow::Result<()> {
    world
        .db("shop")
        .exec("ALTER TABLE customers ADD CONSTRAINT a_number CHECK (phone <> 'bad')")?;
    world.db("crm").exec(
        "INSERT INTO contacts (first, last, mail, tel, limit_gbp)
         SELECT 'P', i::text, 'p' || i || '@x.org', CASE WHEN i = 4 THEN 'bad' ELSE '+44 20 ' || i END, i * 100 FROM generate_series(1, 4) i",
    )?;
    world.db("billing").exec(
        "INSERT INTO accounts (holder, invoice_to, credit_limit) SELECT 'P ' || i, 'p' || i || '@x.org', i * 100 + 50 FROM generate_series(1, 3) i",
    )?;
    world
        .db("shop")
        .exec("INSERT INTO products (sku, qty, contract_pence) VALUES ('s1', 10, 10000)")?;
    world
        .db("wms")
        .exec("INSERT INTO items (sku, on_hand, contract) VALUES ('s1', 10, 110.00)")?;
    world.settle()
}

/// Verbs that have suites of their own: `guards` and `matching`.
const BESIDE: [&str; 3] = ["guards", "match", "resume"];

#[test]
fn every_verb_answers_people_and_programs() {
    let pipeline = acme::pipeline();
    let approved = pipeline.replace(
        "contract: { on_conflict: hold }",
        "contract: { on_conflict: hold, approvers: [ada, bob] }",
    );
    assert_ne!(approved, pipeline);
    let greatest = approved.replace("money:    { on_conflict: hold }", "money:    { on_conflict: max }");
    assert_ne!(greatest, approved);
    let mut files = acme::files(&approved).to_vec();
    files.push(("try.yaml", greatest.as_str()));
    files.push(("connector.json", CONNECTOR));
    in_world("verbs", &acme::APPS, &files, |world| {
        a_small_system(world)?;
        let clerk = Clerk {
            world,
            verbs: RefCell::default(),
            transcript: RefCell::default(),
        };
        how_it_stands(&clerk)?;
        what_waits(&clerk)?;
        what_is_known_of_one(&clerk)?;
        what_would_be_otherwise(&clerk)?;
        people_decide(&clerk)?;
        what_was_wrong_is_taken_back(&clerk)?;
        what_was_refused(&clerk)?;
        a_connector_becomes_a_file(&clerk)?;
        let mut verbs_here = clerk.verbs.borrow().clone();
        verbs_here.extend(BESIDE.map(str::to_owned));
        assert_eq!(
            verbs_here,
            verbs(&world.path(""))?,
            "every verb that there is, and no other"
        );
        if let Some(file) = std::env::var_os("SYNCLINE_TRANSCRIPT") {
            std::fs::write(file, clerk.transcript.borrow().as_str())?;
        }
        Ok(())
    });
}

fn how_it_stands(clerk: &Clerk<'_>) -> anyhow::Result<()> {
    let found = console(clerk.world, &["doctor", "--json"])?;
    let report: Json = serde_json::from_str(&found.log).with_context(|| found.log.clone())?;
    let stops = list(&report, "findings")
        .iter()
        .any(|finding| finding["severity"] == "stops");
    clerk.ask(&["doctor"], i32::from(stops))?;
    let status = clerk.ask(&["status"], 1)?;
    assert_eq!(status["refused"]["sink"], 1);
    let topic = format!("{}.canonical.product.v1", clerk.world.name);
    let record = clerk.ask(&["tail", &topic, "--max", "1"], 0)?;
    assert_eq!(record["value"]["value"]["sku"], "s1", "{record}");
    clerk.say(
        &["tail", &clerk.world.capture_topic("crm", "contacts"), "--max", "2"],
        0,
    )?;
    let verified = clerk.ask(&["verify"], 1)?;
    assert_eq!(verified["differing"], 1, "the shop lacks one: {verified}");
    Ok(())
}

/// The group of the limits, and one of them.
fn limits(clerk: &Clerk<'_>) -> anyhow::Result<(String, String, u64)> {
    let listed = clerk.json(&["conflicts", "list", "--field", "credit_limit"], 1)?;
    let group = list(&listed, "groups").first().context("no group of limits")?;
    Ok((
        text(group, "group").to_owned(),
        text(group, "example").to_owned(),
        group["count"].as_u64().unwrap_or_default(),
    ))
}

fn what_waits(clerk: &Clerk<'_>) -> anyhow::Result<()> {
    let listed = clerk.ask(&["conflicts", "list"], 1)?;
    assert_eq!(listed["waiting"], 4, "{listed}");
    let each = clerk.ask(&["conflicts", "list", "--each", "--field", "contract"], 1)?;
    assert_eq!(list(&each, "conflicts").len(), 1);
    let (_, id, count) = limits(clerk)?;
    assert_eq!(count, 3);
    let shown = clerk.ask(&["conflicts", "show", &id], 1)?;
    assert_eq!(text(&shown["conflict"], "id"), id);
    let exported = clerk.ask(&["conflicts", "export", "--field", "credit_limit"], 0)?;
    assert_eq!(exported.as_array().map(Vec::len), Some(3), "a line each");
    let stats = clerk.ask(&["conflicts", "stats"], 0)?;
    assert_eq!(stats["conflicts"], 4, "{stats}");

    clerk.would(&["conflicts", "take", &id, "--by", "ada"], "would take")?;
    assert_eq!(text(&clerk.json(&["conflicts", "show", &id], 1)?, "status"), "open");
    clerk.say(&["conflicts", "take", &id, "--by", "ada"], 0)?;
    let taken = clerk.json(&["conflicts", "take", &id, "--by", "ada"], 0)?;
    assert_eq!([text(&taken, "status"), text(&taken, "by")], ["taken", "ada"]);
    clerk.would(&["conflicts", "take", &id, "--by", "bob", "--release"], "would release")?;
    clerk.say(&["conflicts", "take", &id, "--by", "bob", "--release"], 0)?;
    assert_eq!(text(&clerk.json(&["conflicts", "show", &id], 1)?, "status"), "open");
    Ok(())
}

fn what_is_known_of_one(clerk: &Clerk<'_>) -> anyhow::Result<()> {
    let key = clerk
        .world
        .db("crm")
        .text("SELECT contact_id FROM contacts WHERE mail = 'p1@x.org'")?;
    let why = clerk.ask(&["why", "customer", &format!("crm:{key}")], 1)?;
    assert!(!list(&why, "timeline").is_empty(), "{why}");
    let money = clerk.ask(&["explain", "customer.credit_limit"], 0)?;
    assert_eq!(text(&money, "strategy"), "hold");
    Ok(())
}

fn what_would_be_otherwise(clerk: &Clerk<'_>) -> anyhow::Result<()> {
    let file = clerk.world.path("try.yaml").to_string_lossy().into_owned();
    let plan = clerk.ask(&["plan", &file], 1)?;
    let customer = list(&plan, "entities")
        .iter()
        .find(|change| change["entity"] == "customer");
    assert_eq!(
        customer.map(|change| &change["ended_conflicts"]["credit_limit"]),
        Some(&Json::from(3))
    );
    let same = clerk.world.path("pipeline.yaml").to_string_lossy().into_owned();
    clerk.json(&["plan", &same], 0)?;

    let agreed = clerk.world.only_canonical("product")?;
    let recorded = clerk.json(
        &[
            "replay",
            "--record",
            "product",
            &agreed.cid,
            "--note",
            "a price to approve",
        ],
        0,
    )?;
    let case = clerk.world.path("price.json").to_string_lossy().into_owned();
    std::fs::write(&case, recorded.to_string())?;
    let held = clerk.ask(&["replay", "--assert", &case], 0)?;
    assert_eq!(
        (&held["passed"], &held["failed"]),
        (&Json::from(1), &Json::from(0)),
        "{held}"
    );
    let mut other = recorded;
    other["expect"]["deleted"] = Json::Bool(true);
    std::fs::write(&case, other.to_string())?;
    clerk.json(&["replay", "--assert", &case], 1)?;
    Ok(())
}

fn people_decide(clerk: &Clerk<'_>) -> anyhow::Result<()> {
    let (_, id, _) = limits(clerk)?;
    let one = [&["conflicts", "resolve", &id, "--value", "777"][..], &ADA].concat();
    clerk.would(&one, "would decide")?;
    clerk.say(&one, 0)?;
    clerk.world.settle()?;
    let (group, _, left) = limits(clerk)?;
    assert_eq!(left, 2);
    let rest = [
        &["conflicts", "bulk", &group, "--count", "2", "--pick", "billing"][..],
        &ADA,
    ]
    .concat();
    clerk.would(&rest, "would decide: 2 conflicts")?;
    clerk.say(&rest, 0)?;

    let listed = clerk.json(&["conflicts", "list", "--each", "--field", "contract"], 1)?;
    let id = list(&listed, "conflicts").first().map(|one| text(one, "id").to_owned());
    let id = id.context("the price waits")?;
    let price = [&["conflicts", "resolve", &id, "--pick", "wms"][..], &ADA].concat();
    clerk.would(&price, "would propose")?;
    clerk.say(&price, 0)?;
    clerk.world.settle()?;
    let approve = [
        "conflicts",
        "approve",
        &id,
        "--by",
        "bob",
        "--why",
        "as in the contract",
    ];
    clerk.would(&approve, "would")?;
    clerk.say(&approve, 0)?;
    clerk.world.settle()?;
    let prices = [
        clerk.world.db("shop").text("SELECT contract_pence FROM products")?,
        clerk.world.db("wms").text("SELECT contract FROM items")?,
    ];
    assert_eq!(prices, ["11000", "110.00"]);
    let limits = "SELECT limit_gbp::int FROM contacts WHERE mail <> 'p4@x.org' ORDER BY limit_gbp";
    let limits = clerk.world.db("crm").text(limits)?;
    assert!(limits.lines().any(|limit| limit == "777"), "{limits}");
    clerk.ask(&["conflicts", "list"], 0)?;
    Ok(())
}

fn what_was_wrong_is_taken_back(clerk: &Clerk<'_>) -> anyhow::Result<()> {
    let from = time(clerk.world)?;
    clerk
        .world
        .db("crm")
        .exec("UPDATE contacts SET first = 'Wrong', tel = '9' WHERE mail = 'p1@x.org'")?;
    clerk.world.settle()?;
    let to = time(clerk.world)?;
    clerk
        .world
        .db("shop")
        .exec("UPDATE customers SET phone = '7' WHERE email = 'p1@x.org'")?;
    clerk.world.settle()?;
    let span = ["undo", "--source", "crm", "--from", &from, "--to", &to];
    let preview = [&span[..], &["--preview"]].concat();
    let before = clerk.ends()?;
    let would = clerk.ask(&preview, 0)?;
    assert_eq!(clerk.ends()?, before, "a preview writes nothing");
    assert_eq!(
        [list(&would, "undone").len(), list(&would, "left_alone").len()],
        [1, 1],
        "{would}"
    );
    let done = [&span[..], &["--by", "ada", "--reason", "wrong import"]].concat();
    clerk.say(&done, 0)?.expect_log("1 put back by ada, 1 left alone")?;
    clerk.world.settle()?;
    let name = "SELECT full_name, phone FROM customers WHERE email = 'p1@x.org'";
    assert_eq!(clerk.world.db("shop").text(name)?, "P 1|7");
    Ok(())
}

/// The cause that stands, and its records.
fn cause(clerk: &Clerk<'_>) -> anyhow::Result<String> {
    let listed = clerk.ask(&["dlq", "list"], 1)?;
    let causes = list(&listed, "causes");
    assert_eq!(causes.len(), 1, "{listed}");
    let cause = text(&causes[0], "cause").to_owned();
    let shown = clerk.ask(&["dlq", "show", &cause], 1)?;
    assert!(shown.to_string().contains("p4@x.org"), "{shown}");
    Ok(cause)
}

fn what_was_refused(clerk: &Clerk<'_>) -> anyhow::Result<()> {
    let shop = clerk.world.db("shop");
    let refused = cause(clerk)?;
    let again = [&["dlq", "replay", &refused][..], &ADA].concat();
    clerk.would(&again, "would be given back")?;
    clerk.say(&again, 1)?.expect_log("STILL_PARKED")?;
    shop.exec("ALTER TABLE customers DROP CONSTRAINT a_number")?;
    clerk.say(&again, 0)?.expect_log("1 given back")?;
    clerk.world.settle()?;
    assert_eq!(clerk.ask(&["verify"], 0)?["differing"], 0);
    clerk.ask(&["dlq", "list"], 0)?;

    shop.exec("ALTER TABLE customers ADD CONSTRAINT a_number CHECK (phone <> 'worse')")?;
    clerk
        .world
        .db("crm")
        .exec("UPDATE contacts SET tel = 'worse' WHERE mail = 'p4@x.org'")?;
    clerk.world.settle()?;
    let refused = cause(clerk)?;
    let drop = [&["dlq", "drop", &refused][..], &ADA].concat();
    clerk.would(&drop, "would be dropped")?;
    clerk.say(&drop, 0)?.expect_log("1 dropped")?;
    assert!(list(&clerk.json(&["dlq", "list"], 0)?, "causes").is_empty());
    Ok(())
}

/// It asks nobody, so it needs no pipeline file; secrets do not come out.
fn a_connector_becomes_a_file(clerk: &Clerk<'_>) -> anyhow::Result<()> {
    let file = clerk.world.path("connector.json").to_string_lossy().into_owned();
    let line = [
        "import-debezium",
        &file,
        "--bootstrap",
        "kafka:9092",
        "--registry",
        "http://registry:8081",
    ];
    let mut command = Command::new(process::binary("syncline")?);
    command.args(line);
    let finished = process::run(command, &clerk.world.path("import.log"), HELP_MAX_S)?;
    clerk.note(&line, &finished.log);
    let imported = finished
        .expect_code(0)?
        .expect_log("slot: \"debezium\"")?
        .expect_log("${env:")?;
    assert!(!imported.log.contains("secret"), "{}", imported.log);

    std::fs::write(
        clerk.world.path("connector.json"),
        CONNECTOR.replace("pgoutput", "wal2json"),
    )?;
    let mut refused = Command::new(process::binary("syncline")?);
    refused.args(line);
    process::run(refused, &clerk.world.path("refused.log"), HELP_MAX_S)?
        .expect_code(2)?
        .expect_log("plugin.name")?;
    Ok(())
}
