//! `syncline doctor` on real parts: what it finds is so, what it prints mends it, and roles that own nothing are enough.

use std::collections::BTreeSet;

use anyhow::Context as _;
use serde_json::Value as Json;
use syncline_schemas::topic;
use syncline_tests::process::{self, Finished};
use syncline_tests::{Stack, Stage, World, http, in_world};

const DOCTOR_MAX_S: u64 = 60;
const ROUNDS_MAX: usize = 4;

const TABLES: &str = "
    CREATE TABLE customers (id serial PRIMARY KEY, name text);
    CREATE TABLE notes (body text);
    CREATE UNLOGGED TABLE carts (id int PRIMARY KEY);
    CREATE SCHEMA \"Back Office\";
    CREATE TABLE \"Back Office\".orders (id int PRIMARY KEY, total numeric(10,2), twice numeric GENERATED ALWAYS AS (total * 2) STORED);
    INSERT INTO customers (name) VALUES ('Ada');
    INSERT INTO notes VALUES ('a note');";

const PIPELINE: &str = r#"
pipeline: "${env:PIPELINE}"
defaults: { kafka: "${env:BOOTSTRAP}", registry: "${env:REGISTRY}" }
systems:
  shop:
    postgres: "${env:ROLE_DSN}"
    topic_prefix: "${env:SHOP_PREFIX}"
    tables: [public.customers, public.notes, public.carts, "Back Office.orders"]
"#;

const PERSON: &str = r#"
{ "type": "record", "name": "Person", "namespace": "doctor", "fields": [ { "name": "name", "type": ["null", "string"] } ] }
"#;

const LINKED: &str = r#"
pipeline: "${env:PIPELINE}"
defaults: { kafka: "${env:BOOTSTRAP}", registry: "${env:REGISTRY}", on_conflict: latest }
systems:
  shop: { postgres: "${env:SHOP_DSN}", topic_prefix: "${env:SHOP_PREFIX}" }
  crm: { postgres: "${env:ROLE_DSN}", topic_prefix: "${env:CRM_PREFIX}" }
entities:
  person: { schema: person.avsc@1, fields: { name: {} }, match: [ { same: [name] } ] }
links:
  shop.customers -> person: { key: id, name: name }
  crm.people <- person: { key: id, name: label }
"#;

/// A role of the cluster, gone at the end whatever happens.
struct Role<'a> {
    world: &'a World,
    app: &'a str,
    name: String,
}

impl<'a> Role<'a> {
    /// Makes a role that owns nothing, by which the pipeline file logs in to this app.
    fn new(world: &'a World, app: &'a str, attributes: &str) -> anyhow::Result<Self> {
        let role = Self {
            world,
            app,
            name: format!("{}_role", world.name),
        };
        world
            .db(app)
            .exec(&format!("CREATE ROLE {} LOGIN {attributes}", role.name))?;
        let dsn = world.dsn(app)?;
        let (scheme, rest) = dsn.split_once("://").context("a URL")?;
        let (_, place) = rest.split_once('@').context("a URL with a user")?;
        world.set_env("ROLE_DSN", &format!("{scheme}://{}@{place}", role.name));
        Ok(role)
    }
}

impl Drop for Role<'_> {
    fn drop(&mut self) {
        let sql = format!("DROP OWNED BY {0}; DROP ROLE {0}", self.name);
        if let Err(error) = self.world.db(self.app).exec(&sql) {
            println!("{} stays: {error:#}", self.name);
        }
    }
}

fn doctor(world: &World, args: &[&str]) -> anyhow::Result<Finished> {
    let all: Vec<&str> = ["doctor"].iter().chain(args).copied().collect();
    let log = world.path("doctor.log");
    let _ = std::fs::remove_file(&log);
    process::run(world.command("syncline", &all)?, &log, DOCTOR_MAX_S)
}

/// Its findings; the exit code must say whether one of them would stop a run.
fn findings(world: &World) -> anyhow::Result<Vec<Json>> {
    let finished = doctor(world, &["--json"])?;
    let report: Json = serde_json::from_str(&finished.log).with_context(|| finished.log.clone())?;
    let findings = report["findings"].as_array().context("findings")?.clone();
    let stops = findings.iter().any(|finding| finding["severity"] == "stops");
    finished.expect_code(i32::from(stops))?;
    Ok(findings)
}

fn text(finding: &Json, name: &str) -> String {
    finding[name].as_str().unwrap_or_default().to_owned()
}

/// `CODE place` of those of these severities.
fn codes(findings: &[Json], severities: &[&str]) -> BTreeSet<String> {
    let wanted = findings
        .iter()
        .filter(|finding| severities.contains(&text(finding, "severity").as_str()));
    wanted
        .map(|finding| format!("{} {}", text(finding, "code"), text(finding, "place")))
        .collect()
}

fn expected(codes: &[&str]) -> BTreeSet<String> {
    codes.iter().map(|code| (*code).to_owned()).collect()
}

/// Runs what is printed for all that stops, as somebody who may, until nothing stops any more.
fn mend(world: &World, app: &str) -> anyhow::Result<()> {
    for _ in 0..ROUNDS_MAX {
        let findings = findings(world)?;
        let stops = findings.iter().filter(|finding| finding["severity"] == "stops");
        let mends: Vec<String> = stops.map(|finding| text(finding, "mend")).collect();
        if mends.is_empty() {
            return Ok(());
        }
        for mend in mends {
            world.db(app).exec(&mend)?;
        }
    }
    anyhow::bail!(
        "not mended after {ROUNDS_MAX} rounds: {:?}",
        codes(&findings(world)?, &["stops"])
    )
}

fn count(world: &World, topic: &str) -> anyhow::Result<usize> {
    Ok(world.topics.read(topic)?.len())
}

#[test]
fn what_is_found_is_mended_by_what_is_printed() {
    in_world("doctor", &[("shop", TABLES)], &[("pipeline.yaml", PIPELINE)], |world| {
        let role = Role::new(world, "shop", "CREATEDB BYPASSRLS")?;
        world
            .db("shop")
            .exec(&format!("GRANT pg_write_all_data TO {}", role.name))?;
        let found = findings(world)?;
        let stops = [
            "NO_REPLICATION shop",
            "PUBLICATION_MISSING shop",
            "SOURCE_PERMISSION shop public.customers",
            "SOURCE_PERMISSION shop public.notes",
            "SOURCE_PERMISSION shop public.carts",
            "SOURCE_PERMISSION shop Back Office.orders",
            "NO_REPLICA_IDENTITY shop public.notes",
            "TABLE_NOT_LOGGED shop public.carts",
        ];
        assert_eq!(codes(&found, &["stops"]), expected(&stops));
        let all = codes(&found, &["risk", "note"]);
        for also in [
            "PRIVILEGE_BEYOND_NEED shop",
            "GENERATED_COLUMNS shop Back Office.orders",
            "BEFORE_IMAGE_KEY shop public.customers",
        ] {
            assert!(all.contains(also), "{also}: {all:?}");
        }
        let beyond = found
            .iter()
            .filter(|finding| finding["code"] == "PRIVILEGE_BEYOND_NEED" && finding["severity"] == "risk");
        for finding in beyond {
            world.db("shop").exec(&text(finding, "mend"))?;
        }
        world.run(&Stage::Capture, &["--until-current"])?.expect_code(1)?;

        mend(world, "shop")?;
        let found = codes(&findings(world)?, &["stops", "risk", "note"]);
        assert!(!found.contains("PRIVILEGE_BEYOND_NEED shop"), "{found:?}");
        world.until_current(&Stage::Capture)?;
        assert_eq!(count(world, &world.capture_topic("shop", "customers"))?, 1);
        assert_eq!(count(world, &world.capture_topic("shop", "notes"))?, 1);
        assert_eq!(
            codes(&findings(world)?, &["stops"]),
            expected(&[]),
            "what runs is not said to be stopped"
        );
        Ok(())
    });
}

#[test]
fn a_role_that_owns_nothing_captures_with_the_printed_grants() {
    let pipeline = PIPELINE.replace("public.notes, public.carts, ", "");
    in_world(
        "doctor_g",
        &[("shop", TABLES)],
        &[("pipeline.yaml", &pipeline)],
        |world| {
            let role = Role::new(world, "shop", "")?;
            let grants = doctor(world, &["--grants"])?.expect_code(1)?;
            world.db("shop").exec(&grants.log)?;
            assert_eq!(codes(&findings(world)?, &["stops"]), expected(&[]));
            world.until_current(&Stage::Capture)?;
            world.db("shop").exec("INSERT INTO customers (name) VALUES ('Grace')")?;
            world.until_current(&Stage::Capture)?;
            assert_eq!(count(world, &world.capture_topic("shop", "customers"))?, 2);
            let owned = format!(
                "SELECT count(*) FROM pg_shdepend WHERE refobjid = '{}'::regrole AND deptype = 'o'",
                role.name
            );
            assert_eq!(world.db("shop").number(&owned)?, 0);
            Ok(())
        },
    );
}

#[test]
fn a_slot_that_has_gone_ahead_is_found_before_the_run() {
    let pipeline = PIPELINE
        .replace("public.notes, public.carts, ", "")
        .replace("ROLE_DSN", "SHOP_DSN");
    in_world(
        "doctor_s",
        &[("shop", TABLES)],
        &[("pipeline.yaml", &pipeline)],
        |world| {
            world.until_current(&Stage::Capture)?;
            assert_eq!(codes(&findings(world)?, &["stops"]), expected(&[]));
            world
                .db("shop")
                .exec("INSERT INTO customers (name) VALUES ('missed')")?;
            let slot = world.slot("shop");
            world.db("shop").exec(&format!(
                "SELECT pg_replication_slot_advance('{slot}', pg_current_wal_lsn())"
            ))?;
            let found = findings(world)?;
            assert_eq!(codes(&found, &["stops"]), expected(&["SLOT_AHEAD shop"]));
            assert!(
                found
                    .iter()
                    .any(|finding| text(finding, "mend").contains("--resnapshot")),
                "{found:?}"
            );
            Ok(())
        },
    );
}

#[test]
fn topics_that_are_otherwise_than_they_have_to_be() {
    let pipeline = PIPELINE
        .replace("public.notes, public.carts, ", "")
        .replace("ROLE_DSN", "SHOP_DSN");
    in_world(
        "doctor_k",
        &[("shop", TABLES)],
        &[("pipeline.yaml", &pipeline)],
        |world| {
            world
                .topics
                .create(&format!("{}.syncline.progress", world.prefix("shop")), 1)?;
            world.topics.create(&world.capture_topic("shop", "customers"), 3)?;
            let found = findings(world)?;
            let stops = expected(&["TOPIC_NOT_COMPACTED kafka", "TOPIC_PARTITIONS kafka"]);
            assert_eq!(codes(&found, &["stops"]), stops);
            Ok(())
        },
    );
}

#[test]
fn what_cannot_be_reached_is_a_finding_and_the_rest_is_still_looked_at() {
    let pipeline = PIPELINE
        .replace("public.notes, public.carts, ", "")
        .replace("${env:BOOTSTRAP}", "127.0.0.1:9")
        .replace("${env:REGISTRY}", "http://127.0.0.1:9");
    in_world(
        "doctor_u",
        &[("shop", TABLES)],
        &[("pipeline.yaml", &pipeline)],
        |world| {
            let _role = Role::new(world, "shop", "REPLICATION")?;
            let stops = codes(&findings(world)?, &["stops"]);
            for code in [
                "KAFKA_UNREACHABLE kafka",
                "REGISTRY_UNREACHABLE registry",
                "SOURCE_PERMISSION shop public.customers",
            ] {
                assert!(stops.contains(code), "{code}: {stops:?}");
            }
            Ok(())
        },
    );
}

#[test]
fn a_target_takes_writes_after_the_printed_commands() {
    let crm = "CREATE TABLE people (id serial PRIMARY KEY, label text)";
    let files = [("pipeline.yaml", LINKED), ("person.avsc", PERSON)];
    in_world("doctor_t", &[("shop", TABLES), ("crm", crm)], &files, |world| {
        let _role = Role::new(world, "crm", "")?;
        let stops = ["BOOKS_MISSING crm", "TARGET_PERMISSION crm public.people"];
        assert_eq!(codes(&findings(world)?, &["stops"]), expected(&stops));
        mend(world, "crm")?;
        world.agree()?;
        world.until_current(&Stage::Sink)?;
        assert_eq!(world.db("crm").text("SELECT label FROM people")?, "Ada");
        assert_eq!(
            codes(&findings(world)?, &["stops"]),
            expected(&[]),
            "the books are usable by who made them"
        );
        let subject = topic::value_subject(&topic::canonical(&world.name, "person", 1));
        let content_type = "application/vnd.schemaregistry.v1+json";
        http::done(
            &Stack::from_env()?.registry,
            "PUT",
            &format!("/config/{subject}"),
            content_type,
            Some(r#"{"compatibility":"BACKWARD"}"#),
        )?;
        std::fs::write(world.path("person.avsc"), PERSON.replace("\"string\"]", "\"long\"]"))?;
        let found = findings(world)?;
        assert_eq!(codes(&found, &["stops"]), expected(&["ENTITY_SCHEMA_REFUSED person"]));
        let refused = found.iter().find(|one| text(one, "code") == "ENTITY_SCHEMA_REFUSED");
        let what = refused.map(|one| text(one, "what")).unwrap_or_default();
        assert!(what.ends_with("because of name"), "{what}");
        Ok(())
    });
}

#[test]
fn a_person_reads_what_why_and_the_remedy() {
    let pipeline = PIPELINE.replace("public.notes, public.carts, ", "");
    in_world(
        "doctor_p",
        &[("shop", TABLES)],
        &[("pipeline.yaml", &pipeline)],
        |world| {
            let role = Role::new(world, "shop", "")?;
            let said = doctor(world, &[])?.expect_code(1)?;
            let said = said.expect_log("STOPS  NO_REPLICATION  shop: the role")?;
            said.expect_log(&format!("mend: ALTER ROLE \"{}\" REPLICATION;", role.name))?
                .expect_log("a run would be stopped")?;
            doctor(world, &["--system", "nowhere"])?
                .expect_code(2)?
                .expect_log("it has shop")?;
            Ok(())
        },
    );
}
