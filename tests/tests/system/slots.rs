//! The slot and our progress must agree, or capture refuses to start: PostgreSQL itself would skip in silence.

use syncline_tests::{Finished, Stage, World, in_world};

const TABLES: &str = "CREATE TABLE accounts (id serial PRIMARY KEY, owner text)";
const PIPELINE: &str = r#"
pipeline: "${env:PIPELINE}"
defaults: { kafka: "${env:BOOTSTRAP}", registry: "${env:REGISTRY}" }
systems:
  shop: { postgres: "${env:SHOP_DSN}", topic_prefix: "${env:SHOP_PREFIX}", tables: [public.accounts] }
"#;

fn with_a_captured_table(name: &str, test: impl FnOnce(&World) -> anyhow::Result<()>) {
    in_world(name, &[("shop", TABLES)], &[("pipeline.yaml", PIPELINE)], |world| {
        insert(world, "before")?;
        world.until_current(&Stage::Capture)?;
        assert_eq!(owners(world)?, ["before"]);
        test(world)
    });
}

fn insert(world: &World, owner: &str) -> anyhow::Result<()> {
    world
        .db("shop")
        .exec(&format!("INSERT INTO accounts (owner) VALUES ('{owner}')"))
}

/// The owners in the capture topic, in its order.
fn owners(world: &World) -> anyhow::Result<Vec<String>> {
    let records = world.topics.read(&world.capture_topic("shop", "accounts"))?;
    let owner = |value: &Vec<u8>| {
        Ok(syncline_tests::agreed::show(
            &world.topics.json(value)?["after"]["owner"],
        ))
    };
    records
        .iter()
        .filter_map(|record| record.value.as_ref())
        .map(owner)
        .collect()
}

fn drop_slot(world: &World) -> anyhow::Result<()> {
    world
        .db("shop")
        .exec(&format!("SELECT pg_drop_replication_slot('{}')", world.slot("shop")))
}

fn make_slot(world: &World) -> anyhow::Result<()> {
    world.db("shop").exec(&format!(
        "SELECT pg_create_logical_replication_slot('{}', 'pgoutput')",
        world.slot("shop")
    ))
}

/// Capture must stop with code 1, name the reason, and write nothing.
fn refused(world: &World, reason: &str) -> anyhow::Result<Finished> {
    let before = owners(world)?;
    let finished = world
        .run(&Stage::Capture, &["--until-current"])?
        .expect_code(1)?
        .expect_log(reason)?;
    assert_eq!(owners(world)?, before, "a refused start writes nothing");
    Ok(finished)
}

/// The repair named by the refusal: everything is read again, and capture goes on.
fn resnapshot_repairs(world: &World) -> anyhow::Result<()> {
    world
        .run(&Stage::Capture, &["--until-current", "--resnapshot"])?
        .expect_code(0)?;
    insert(world, "after the repair")?;
    world.until_current(&Stage::Capture)?;
    let all = owners(world)?;
    assert!(
        all.contains(&"missed".to_owned()),
        "the row that the slot had skipped is there: {all:?}"
    );
    assert_eq!(all.last().map(String::as_str), Some("after the repair"));
    Ok(())
}

#[test]
fn f06_a_slot_ahead_of_our_progress_is_refused() {
    with_a_captured_table("f06", |world| {
        insert(world, "missed")?;
        let slot = world.slot("shop");
        let advanced = world.db("shop").text(&format!(
            "SELECT end_lsn FROM pg_replication_slot_advance('{slot}', pg_current_wal_lsn())"
        ))?;
        refused(world, "SLOT_AHEAD")?
            .expect_log(&advanced)?
            .expect_log("--resnapshot")?;
        resnapshot_repairs(world)
    });
}

#[test]
fn f07_a_slot_made_anew_under_the_same_name_is_refused() {
    with_a_captured_table("f07", |world| {
        drop_slot(world)?;
        insert(world, "missed")?;
        make_slot(world)?;
        refused(world, "SLOT_AHEAD")?;
        resnapshot_repairs(world)
    });
}

/// The same under a capture that runs: it loses its connection, finds another slot under the name, and stops.
#[test]
fn f07_a_slot_made_anew_while_capture_runs_is_refused() {
    with_a_captured_table("f07r", |world| {
        let mut capture = world.start(&Stage::Capture)?;
        insert(world, "streamed")?;
        syncline_tests::until("the row", 60, || Ok(owners(world)?.len() == 2))?;
        // Frozen, so that it cannot come back before the other slot is there.
        capture.freeze()?;
        let slot = world.slot("shop");
        world.db("shop").exec(&format!(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{slot}'"
        ))?;
        syncline_tests::until("the slot to be free", 30, || Ok(drop_slot(world).is_ok()))?;
        insert(world, "missed")?;
        make_slot(world)?;
        capture.thaw()?;
        let status = capture.wait(60)?;
        assert_eq!(status.and_then(|status| status.code()), Some(1), "{}", capture.log()?);
        assert!(capture.log()?.contains("SLOT_AHEAD"));
        assert_eq!(owners(world)?, ["before", "streamed"]);
        resnapshot_repairs(world)
    });
}

/// An older slot sends more than is wanted: what Kafka has is not written again, and nothing is skipped up to there.
#[test]
fn f07_an_older_slot_under_the_same_name_is_gone_on_with_from_progress() {
    with_a_captured_table("f07o", |world| {
        let (slot, kept) = (world.slot("shop"), format!("{}_kept", world.slot("shop")));
        let copy = |from: &str, to: &str| {
            world
                .db("shop")
                .exec(&format!("SELECT pg_copy_logical_replication_slot('{from}', '{to}')"))
        };
        copy(&slot, &kept)?;
        for owner in ["second", "third"] {
            insert(world, owner)?;
            world.until_current(&Stage::Capture)?;
        }
        syncline_tests::until("the slot to be free", 30, || Ok(drop_slot(world).is_ok()))?;
        copy(&kept, &slot)?;
        insert(world, "fourth")?;
        world.until_current(&Stage::Capture)?;
        assert_eq!(owners(world)?, ["before", "second", "third", "fourth"]);
        Ok(())
    });
}

#[test]
fn f08_a_missing_slot_is_refused() {
    with_a_captured_table("f08a", |world| {
        drop_slot(world)?;
        insert(world, "missed")?;
        refused(world, "SLOT_GONE")?.expect_log("--resnapshot")?;
        resnapshot_repairs(world)
    });
}

#[test]
fn f08_a_slot_without_our_progress_is_refused() {
    in_world("f08b", &[("shop", TABLES)], &[("pipeline.yaml", PIPELINE)], |world| {
        make_slot(world)?;
        insert(world, "missed")?;
        world
            .run(&Stage::Capture, &["--until-current"])?
            .expect_code(1)?
            .expect_log("SLOT_UNKNOWN")?;
        resnapshot_repairs(world)
    });
}

#[test]
fn f08_a_slot_can_be_adopted() {
    in_world("f08c", &[("shop", TABLES)], &[("pipeline.yaml", PIPELINE)], |world| {
        // Decoding looks for the publication as it was when a row was written, so it must be older than the slot.
        let publication = world.slot("shop");
        world
            .db("shop")
            .exec(&format!("CREATE PUBLICATION {publication} FOR TABLE accounts"))?;
        insert(world, "before the slot")?;
        make_slot(world)?;
        world.db("shop").exec("SELECT pg_switch_wal()")?;
        insert(world, "after the slot")?;
        world
            .run(&Stage::Capture, &["--until-current"])?
            .expect_code(1)?
            .expect_log("--adopt-slot")?;
        world
            .run(&Stage::Capture, &["--until-current", "--adopt-slot"])?
            .expect_code(0)?;
        assert!(owners(world)?.contains(&"after the slot".to_owned()));
        Ok(())
    });
}

/// F11 and F12: of two captures one works; when it is frozen the other takes over, and the thawed one writes nothing more.
#[test]
fn f11_f12_a_second_capture_waits_and_takes_over() {
    with_a_captured_table("f12", |world| {
        let mut first = world.start(&Stage::Capture)?;
        insert(world, "by the first")?;
        syncline_tests::until("the first to capture", 60, || Ok(owners(world)?.len() == 2))?;
        let mut second = world.start(&Stage::Capture)?;
        insert(world, "by one of them")?;
        syncline_tests::until("one of them to capture", 60, || Ok(owners(world)?.len() == 3))?;

        first.freeze()?;
        insert(world, "while one is frozen")?;
        syncline_tests::until("the other to take over", 60, || Ok(owners(world)?.len() == 4))?;
        first.thaw()?;
        insert(world, "after the thaw")?;
        syncline_tests::until("one to go on", 60, || Ok(owners(world)?.len() >= 5))?;
        let expected = [
            "before",
            "by the first",
            "by one of them",
            "while one is frozen",
            "after the thaw",
        ];
        assert_eq!(owners(world)?, expected, "each change once, in order");
        first.kill()?;
        second.kill()
    });
}
