//! When something is delivered, on real parts: a batch in its time and as one write, a hybrid link field by field, windows of
//! maintenance, and files that change all of that while something is under way.
//!
//! No test waits for the clock: what is due far away is flushed, or the target is made to believe that it was due long ago.
//! What was written is counted by a trigger in the app's own table.

use syncline_tests::{Stage, World, http, in_world, until};

const SHOP: &str = "CREATE TABLE customers (id serial PRIMARY KEY, email text NOT NULL, name text, credit int)";
const CRM: &str = "
CREATE TABLE contacts (id serial PRIMARY KEY, mail text NOT NULL, name text CHECK (name <> 'refused'), credit int);
CREATE TABLE writes (no serial PRIMARY KEY, write text NOT NULL);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO writes (write) VALUES (lower(TG_OP) || ' ' || NEW.name || ' ' || NEW.credit); RETURN NULL; END $$;
CREATE TRIGGER note AFTER INSERT OR UPDATE ON contacts FOR EACH ROW EXECUTE FUNCTION note();
";
const BILLING: &str = "CREATE TABLE accounts (id serial PRIMARY KEY, mail text NOT NULL, name text, credit int)";
const CUSTOMER: &str = r#"{"type": "record", "name": "Customer", "fields": [
  {"name": "email", "type": ["null", "string"], "default": null},
  {"name": "name", "type": ["null", "string"], "default": null},
  {"name": "credit", "type": ["null", "long"], "default": null}]}"#;

/// `CRM` and `BILLING` stand for what a test says of these systems, `MODE` and `PACE` for when they are written.
const PIPELINE: &str = r#"
pipeline: "${env:PIPELINE}"
defaults: { kafka: "${env:BOOTSTRAP}", registry: "${env:REGISTRY}", timezone: Europe/London }
systems:
  shop: { postgres: "${env:SHOP_DSN}", topic_prefix: "${env:SHOP_PREFIX}" }
  crm:  { postgres: "${env:CRM_DSN}", topic_prefix: "${env:CRM_PREFIX}", maintenance: WINDOW }
  billing: { postgres: "${env:BILLING_DSN}", topic_prefix: "${env:BILLING_PREFIX}" }
entities:
  customer:
    schema: customer.avsc@1
    fields: { email: latest, name: latest, credit: latest }
    match: [ { same: [email] } ]
links:
  shop.customers <-> customer: { key: id, email: email, name: name, credit: credit }
  crm.contacts <-> customer: { key: id, email: mail, name: name, credit: credit, mode: MODE }
  billing.accounts <-> customer: { key: id, email: mail, name: name, credit: credit, mode: PACE }
"#;

/// The last minute of a year: not now.
const BATCH: &str = r#"{ batch: "59 23 31 12 *" }"#;
const HYBRID: &str = r#"{ live: [credit], rest: "59 23 31 12 *" }"#;
/// Never: the first of some April, for a second.
const NO_WINDOW: &str = r#"{ cron: "0 0 1 4 *", for: 1s }"#;
const ALWAYS: &str = r#"{ cron: "* * * * *", for: 2h }"#;

fn file(mode: &str, pace: &str, window: &str) -> String {
    PIPELINE
        .replace("MODE", mode)
        .replace("PACE", pace)
        .replace("WINDOW", window)
}

/// A world whose crm is written so, with nothing in it yet.
fn in_apps(name: &str, mode: &str, pace: &str, window: &str, test: impl FnOnce(&World) -> anyhow::Result<()>) {
    let file = file(mode, pace, window);
    let apps = [("shop", SHOP), ("crm", CRM), ("billing", BILLING)];
    in_world(
        name,
        &apps,
        &[("pipeline.yaml", &file), ("customer.avsc", CUSTOMER)],
        test,
    );
}

/// Another mode of the crm.
fn say(world: &World, mode: &str, window: &str) -> anyhow::Result<()> {
    Ok(std::fs::write(world.path("pipeline.yaml"), file(mode, "live", window))?)
}

/// The shop says something of its only customer; it is agreed, and nothing is delivered.
fn agree(world: &World, name: &str, credit: i64) -> anyhow::Result<()> {
    let there = world.db("shop").number("SELECT count(*) FROM customers")? > 0;
    let sql = match there {
        true => format!("UPDATE customers SET name = '{name}', credit = {credit}"),
        false => format!("INSERT INTO customers (email, name, credit) VALUES ('a@x.uk', '{name}', {credit})"),
    };
    world.db("shop").exec(&sql)?;
    world.agree()
}

fn deliver(world: &World) -> anyhow::Result<()> {
    world.until_current(&Stage::Sink).map(drop)
}

fn flush(world: &World) -> anyhow::Result<()> {
    world
        .run(&Stage::Sink, &["--until-current", "--flush"])?
        .expect_code(0)
        .map(drop)
}

/// What was written into the crm since the last look.
fn written(world: &World) -> anyhow::Result<String> {
    let writes = "WITH gone AS (DELETE FROM writes RETURNING no, write) SELECT write FROM gone ORDER BY no";
    Ok(world.db("crm").text(writes)?.replace('\n', ", "))
}

#[test]
fn a_batch_is_written_in_its_time_and_each_entity_once() {
    in_apps("batch", BATCH, "live", NO_WINDOW, |world| {
        for (name, credit) in [("Ada", 1), ("Ada B", 2), ("Ada C", 3)] {
            agree(world, name, credit)?;
            deliver(world)?;
        }
        assert_eq!(written(world)?, "", "nothing before its time");
        let billing = world.db("billing").text("SELECT name, credit FROM accounts")?;
        assert_eq!(billing, "Ada C|3", "a live link beside it is live");
        flush(world)?;
        assert_eq!(written(world)?, "insert Ada C 3");
        for credit in 4..8 {
            agree(world, "Ada D", credit)?;
        }
        flush(world)?;
        flush(world)?;
        assert_eq!(
            written(world)?,
            "update Ada D 7",
            "of each field the last value, in one write"
        );
        // The sink was away for two years: what it missed is one run at its start.
        agree(world, "Ada E", 8)?;
        deliver(world)?;
        assert_eq!(written(world)?, "");
        world
            .db("crm")
            .exec("UPDATE syncline.runs SET opened = opened - interval '2 years'")?;
        deliver(world)?;
        assert_eq!(written(world)?, "update Ada E 8");
        agree(world, "Ada F", 9)?;
        deliver(world)?;
        assert_eq!(written(world)?, "", "once");
        Ok(())
    });
}

#[test]
fn a_run_that_was_killed_is_finished_to_the_end_it_had_and_by_nobody_twice() {
    in_apps("killed", BATCH, "live", NO_WINDOW, |world| {
        agree(world, "Ada", 1)?;
        flush(world)?;
        let _ = written(world)?;
        for failpoint in ["sink.before_begin", "sink.before_commit", "sink.after_commit"] {
            agree(world, failpoint, 2)?;
            world.set_env("SYNCLINE_FAILPOINTS", &format!("{failpoint}=kill@1"));
            let sink = Stage::sink("crm");
            let killed = world.run(&sink, &["--until-current", "--flush"])?;
            world.set_env("SYNCLINE_FAILPOINTS", "");
            assert_eq!(killed.code, None, "{failpoint} was never passed: {}", killed.log);
            // Agreed after the run was opened: of the next one.
            agree(world, "later", 3)?;
            deliver(world)?;
            deliver(world)?;
            assert_eq!(written(world)?, format!("update {failpoint} 2"), "{failpoint}");
            flush(world)?;
            assert_eq!(written(world)?, "update later 3");
        }
        Ok(())
    });
}

#[test]
fn a_hybrid_link_writes_some_fields_at_once_and_the_others_in_their_time() {
    in_apps("hybrid", HYBRID, "live", NO_WINDOW, |world| {
        agree(world, "Ada", 1)?;
        deliver(world)?;
        assert_eq!(written(world)?, "insert Ada 1", "a new row is made whole");
        for (name, credit) in [("Ada B", 2), ("Ada C", 3)] {
            agree(world, name, credit)?;
            deliver(world)?;
        }
        assert_eq!(written(world)?, "update Ada 2, update Ada 3");
        flush(world)?;
        assert_eq!(written(world)?, "update Ada C 3");
        flush(world)?;
        assert_eq!(written(world)?, "");
        // Nothing of it came back as somebody's edit.
        world.settle()?;
        assert_eq!(written(world)?, "");
        assert_eq!(world.db("shop").text("SELECT name, credit FROM customers")?, "Ada C|3");
        assert!(world.conflicts("customer")?.is_empty());
        Ok(())
    });
}

/// Every change of the file between the three modes, with something under way: it is written once, when the new file says.
#[test]
fn another_mode_writes_nothing_twice_and_leaves_nothing_out() {
    in_apps("modes", "live", "live", NO_WINDOW, |world| {
        agree(world, "n0", 0)?;
        deliver(world)?;
        assert_eq!(written(world)?, "insert n0 0");
        say(world, BATCH, NO_WINDOW)?;
        deliver(world)?;
        agree(world, "n1", 1)?;
        deliver(world)?;
        assert_eq!(written(world)?, "", "live -> batch");
        say(world, "live", NO_WINDOW)?;
        deliver(world)?;
        assert_eq!(written(world)?, "update n1 1", "batch -> live");
        say(world, HYBRID, NO_WINDOW)?;
        agree(world, "n2", 2)?;
        deliver(world)?;
        assert_eq!(written(world)?, "update n1 2", "live -> hybrid");
        say(world, r#"{ live: [name], rest: "59 23 31 12 *" }"#, NO_WINDOW)?;
        deliver(world)?;
        assert_eq!(written(world)?, "update n2 2", "a field becomes live");
        agree(world, "n3", 3)?;
        deliver(world)?;
        assert_eq!(written(world)?, "update n3 2", "and another ceases to be");
        say(world, HYBRID, NO_WINDOW)?;
        deliver(world)?;
        assert_eq!(written(world)?, "update n3 3", "and the other way");
        agree(world, "n4", 3)?;
        deliver(world)?;
        say(world, BATCH, NO_WINDOW)?;
        deliver(world)?;
        assert_eq!(written(world)?, "", "hybrid -> batch");
        say(world, HYBRID, NO_WINDOW)?;
        deliver(world)?;
        assert_eq!(written(world)?, "", "batch -> hybrid");
        say(world, "live", NO_WINDOW)?;
        deliver(world)?;
        assert_eq!(written(world)?, "update n4 3", "hybrid -> live");
        deliver(world)?;
        assert_eq!(written(world)?, "");
        let lanes = world.db("crm").text("SELECT DISTINCT target FROM syncline.offsets")?;
        assert_eq!(lanes, "crm", "what is there no more leaves no rows");
        Ok(())
    });
}

#[test]
fn what_a_batch_cannot_write_holds_up_nothing_that_is_live() {
    in_apps("refused", HYBRID, "live", NO_WINDOW, |world| {
        agree(world, "Ada", 1)?;
        deliver(world)?;
        agree(world, "refused", 2)?;
        flush(world)?;
        assert_eq!(written(world)?, "insert Ada 1, update Ada 2");
        assert_eq!(world.dead_letters("sink")?.len(), 1);
        agree(world, "refused", 3)?;
        deliver(world)?;
        assert_eq!(written(world)?, "update Ada 3", "the live field of the same row");
        agree(world, "Ada B", 4)?;
        flush(world)?;
        assert_eq!(written(world)?, "update Ada 4", "what was refused waits for a person");
        world.run(&Stage::Sink, &["replay-parked"])?.expect_code(0)?;
        assert_eq!(written(world)?, "update Ada B 4");
        assert_eq!(world.dead_letters("sink")?.len(), 1);
        Ok(())
    });
}

/// As services: one link live, one every second, one hybrid, each at its own pace; and what `/readyz` says of them.
#[test]
fn live_batch_and_hybrid_links_run_beside_each_other() {
    in_apps("paces", HYBRID, "{ every: 1s }", NO_WINDOW, |world| {
        let mut services = vec![world.start(&Stage::Capture)?, world.start(&Stage::Transform)?];
        let sink = world.start_with(&Stage::Sink, &["--listen", "127.0.0.1:0"], &[])?;
        world
            .db("shop")
            .exec("INSERT INTO customers (email, name, credit) VALUES ('a@x.uk', 'Ada', 1)")?;
        let crm = "SELECT name, credit FROM contacts";
        let billing = "SELECT name, credit FROM accounts";
        until("the new rows", 90, || {
            Ok(world.db("crm").text(crm)? == "Ada|1" && world.db("billing").text(billing)? == "Ada|1")
        })?;
        world
            .db("shop")
            .exec("UPDATE customers SET name = 'Ada B', credit = 2")?;
        until("both paces", 60, || {
            Ok(world.db("crm").text(crm)? == "Ada|2" && world.db("billing").text(billing)? == "Ada B|2")
        })?;
        let base = sink.listening()?;
        until("the next batch", 60, || {
            let ready = http::text(&base, "/readyz")?;
            Ok(ready.contains("sink.crm.customer.rest ready: next batch at") && ready.contains("sink.crm ready"))
        })?;
        let metrics = http::text(&base, "/metrics")?;
        let queue = "syncline_sink_queue_offsets{part=\"sink.crm.customer.rest\",target=\"crm\"}";
        assert!(metrics.contains(queue), "{metrics}");
        assert!(
            metrics.contains("syncline_sink_next_run_timestamp_seconds{"),
            "{metrics}"
        );
        services.push(sink);
        services.into_iter().rev().try_for_each(|service| service.stop())
    });
}

#[test]
fn in_a_window_of_maintenance_nothing_is_written_and_afterwards_nothing_is_missing() {
    in_apps("maintenance", "live", "live", ALWAYS, |world| {
        agree(world, "Ada", 1)?;
        world
            .run(&Stage::Sink, &["--until-current"])?
            .expect_code(0)?
            .expect_log("in maintenance until")?;
        let books = world.db("crm").text("SELECT to_regnamespace('syncline') IS NULL")?;
        assert_eq!(books, "t", "not even our own tables");
        let billing = world.db("billing").text("SELECT name FROM accounts")?;
        assert_eq!(billing, "Ada", "another target is not in maintenance");
        let sink = world.start_with(&Stage::sink("crm"), &["--listen", "127.0.0.1:0"], &[])?;
        let base = sink.listening()?;
        until("the window on /readyz", 60, || {
            Ok(http::text(&base, "/readyz")?.contains("sink.crm ready: waiting: IN_MAINTENANCE: in maintenance until"))
        })?;
        agree(world, "Ada B", 2)?;
        assert_eq!(written(world)?, "");
        sink.stop()?;
        // What is to be written at set times waits for the end of the window too.
        say(world, BATCH, ALWAYS)?;
        flush(world)?;
        assert_eq!(written(world)?, "");
        say(world, "live", NO_WINDOW)?;
        deliver(world)?;
        let written = written(world)?;
        assert!(
            written.starts_with("insert ") && written.ends_with("Ada B 2"),
            "{written}"
        );
        Ok(())
    });
}

#[test]
fn a_schedule_that_the_clock_skips_one_day_is_told_by_check() {
    let night = r#"{ batch: "30 1 * * *" }"#;
    in_apps("oddday", night, "live", NO_WINDOW, |world| {
        world
            .run(&Stage::Sink, &["--check"])?
            .expect_code(0)?
            .expect_log("note: crm.public.contacts: mode 30 1 * * * Europe/London: on ")?
            .expect_log("the clock skips 01:30; it is due then when the clock shows 02:00")?
            .expect_log("the clock shows 01:30 twice; it is due the first time")?;
        Ok(())
    });
}
