//! What befalls the source's server: F10, F28, F31 to F34. Each test has servers of its own, of the versions in which the
//! fault exists (`deploy/postgres.sh` fetches 17 and 18); capture reaches them by an address that moves with a failover.
//! Every test ends with the oracle, or with a refusal that names what is missing. About 70 s, side by side.

use std::time::{Duration, Instant};

use syncline_tests::oracle::{self, Load};
use syncline_tests::rig::{ACCOUNTS, DRAIN_MAX_S, HEAL_MAX_S, Rig, in_rig_on};
use syncline_tests::{Db, Finished, OwnServer, Stage, until};

/// How long the server may take to stop while capture reads from it.
const STOP_MAX: Duration = Duration::from_secs(10);
const SYNCED_MAX_S: u64 = 90;
const COMMITS_PER_SESSION_PER_S: u64 = 30;

fn made(server: anyhow::Result<OwnServer>) -> OwnServer {
    server.unwrap_or_else(|error| panic!("{error:?}"))
}

/// A primary and its standby of PostgreSQL 17, which carries slots over; `follower` is the standby's own slot.
fn pair(settings: &[(&str, &str)]) -> (OwnServer, OwnServer) {
    let primary = made(OwnServer::of_version(17, &[]));
    let standby = made(primary.standby("follower", settings));
    (primary, standby)
}

const SYNC: [(&str, &str); 2] = [("sync_replication_slots", "on"), ("hot_standby_feedback", "on")];

/// A load that goes where writing is possible.
fn load_on_either(rig: &mut Rig<'_>, one: &OwnServer, other: &OwnServer) -> Load {
    let dsn = format!(
        "postgres://postgres@{},{}/postgres?target_session_attrs=read-write&connect_timeout=2",
        one.address(),
        other.address()
    );
    Load::start(&dsn, &mut rig.dice, ACCOUNTS, COMMITS_PER_SESSION_PER_S)
}

/// The state of the slot on a standby: `t` and `f` for synced and temporary, or nothing.
fn on_standby(standby: &OwnServer, slot: &str) -> anyhow::Result<String> {
    standby.db("postgres")?.text(&format!(
        "SELECT synced, temporary FROM pg_replication_slots WHERE slot_name = '{slot}'"
    ))
}

/// Waits until the standby could go on with the slot. What it has is old until the server notes its transactions.
fn synced(primary: &Db, standby: &OwnServer, slot: &str) -> anyhow::Result<()> {
    until("the slot to be synchronised", SYNCED_MAX_S, || {
        primary.exec("SELECT pg_log_standby_snapshot()")?;
        Ok(on_standby(standby, slot)? == "t|f")
    })
}

/// The address moves to the standby, which is promoted.
fn fail_over(rig: &mut Rig<'_>, standby: &OwnServer) -> anyhow::Result<()> {
    standby.promote()?;
    rig.postgres.lead_to(&standby.address())?;
    rig.postgres.cut_all();
    rig.source = standby.dsn("postgres");
    Ok(())
}

fn refused(rig: &Rig<'_>, code: &str) -> anyhow::Result<Finished> {
    rig.world
        .run(&Stage::Capture, &["--until-current"])?
        .expect_code(1)?
        .expect_log(code)
}

fn insert(db: &Db, id: u64) -> anyhow::Result<()> {
    db.exec(&format!("INSERT INTO accounts (id, owner) VALUES ({id}, 'late')"))
}

/// Nobody reads it for a while: the server gives it up, and capture says why and what to set.
#[test]
fn f10_a_slot_that_idled_too_long_is_lost_with_its_reason_and_setting() {
    let server = made(OwnServer::of_version(18, &[("idle_replication_slot_timeout", "1s")]));
    in_rig_on(&server, "f10", |rig| {
        rig.world.until_current(&Stage::Capture)?;
        let db = rig.db()?;
        let slot = rig.world.slot(oracle::APP);
        let reason = format!("SELECT invalidation_reason FROM pg_replication_slots WHERE slot_name = '{slot}'");
        until("the server to give the slot up", 30, || {
            insert(&db, 1_000 + u64::from(std::process::id()))
                .and_then(|()| db.exec("DELETE FROM accounts WHERE id > 1000; CHECKPOINT"))?;
            Ok(db.text(&reason)? == "idle_timeout")
        })?;
        let refused = refused(rig, "SLOT_LOST")?;
        refused
            .expect_log("idle_timeout")?
            .expect_log("raise idle_replication_slot_timeout")?
            .expect_log("--resnapshot")?;
        server.set(&[("idle_replication_slot_timeout", "0")])?;
        server.reload()?;
        rig.world
            .run(&Stage::Capture, &["--until-current", "--resnapshot"])?
            .expect_code(0)
            .map(|_| ())
    });
}

/// A server that cannot be read from at all is refused before anything is made.
#[test]
fn f10_a_wal_level_without_the_log_is_refused_with_the_setting() {
    let server = made(OwnServer::start(&[("wal_level", "replica")]));
    in_rig_on(&server, "f10w", |rig| {
        refused(rig, "WAL_LEVEL")?.expect_log("ALTER SYSTEM SET wal_level = logical")?;
        Ok(())
    });
}

/// A stop in order is not held up by us; what the server sends again after a crash is known by its position.
#[test]
fn f28_the_server_is_stopped_aborted_and_killed_under_load() {
    let server = made(OwnServer::start(&[]));
    in_rig_on(&server, "f28", |rig| {
        let (service, load) = (rig.capture()?, rig.load()?);
        for (how, end) in [
            ("fast stop", OwnServer::down as fn(&OwnServer) -> anyhow::Result<()>),
            ("immediate stop", OwnServer::abort),
            ("SIGKILL", OwnServer::kill),
        ] {
            load.goes_on(100)?;
            let started = Instant::now();
            end(&server)?;
            assert!(started.elapsed() < STOP_MAX, "{how} took {:?}", started.elapsed());
            server.up()?;
            load.goes_on(50)?;
            rig.caught_up(HEAL_MAX_S).map_err(|error| error.context(how))?;
        }
        rig.judge(load, service)
    });
}

/// The standby has the slot: what was confirmed may come again, and nothing is missing. Before the promotion capture meets
/// a standby, and waits.
#[test]
fn f31_a_failover_to_a_standby_with_the_slot_is_gone_on_with() {
    let (primary, standby) = pair(&SYNC);
    primary
        .set(&[("synchronized_standby_slots", "follower")])
        .and_then(|()| primary.reload())
        .unwrap_or_else(|error| panic!("{error:?}"));
    in_rig_on(&primary, "f31", |rig| {
        let service = rig.capture()?;
        let load = load_on_either(rig, &primary, &standby);
        let slot = rig.world.slot(oracle::APP);
        synced(&rig.db()?, &standby, &slot)?;
        load.goes_on(200)?;
        primary.kill()?;
        rig.postgres.lead_to(&standby.address())?;
        until("capture to meet the standby", HEAL_MAX_S, || {
            Ok(service.log()?.contains("SOURCE_IS_STANDBY"))
        })?;
        fail_over(rig, &standby)?;
        load.goes_on(100)?;
        rig.caught_up(DRAIN_MAX_S)?;
        rig.judge(load, service)
    });
}

/// The standby had not yet taken the slot over when it was promoted, so it is gone with the primary: said, not skipped.
#[test]
fn f32_a_failover_while_the_slot_is_temporary_is_refused() {
    let (primary, standby) = pair(&[("hot_standby_feedback", "on")]);
    in_rig_on(&primary, "f32", |rig| {
        rig.world.until_current(&Stage::Capture)?;
        let (db, slot) = (rig.db()?, rig.world.slot(oracle::APP));
        // What the slot needs is older than anything the standby still has.
        for number in 0..3 {
            insert(&db, 2_000 + number)?;
            db.exec("SELECT pg_switch_wal(); CHECKPOINT")?;
        }
        primary.is_followed_by(&standby)?;
        standby.db("postgres")?.exec("CHECKPOINT")?;
        standby.set(&SYNC)?;
        standby.reload()?;
        until("the slot to be tried", SYNCED_MAX_S, || {
            Ok(on_standby(&standby, &slot)? == "t|t")
        })?;
        primary.kill()?;
        fail_over(rig, &standby)?;
        let refused = refused(rig, "FAILED_OVER")?;
        refused.expect_log("was not carried over")?.expect_log("--resnapshot")?;
        rig.world
            .run(&Stage::Capture, &["--until-current", "--resnapshot"])?
            .expect_code(0)?;
        Ok(())
    });
}

/// The server waits for a standby that is not there, for ever: its own warning is passed on as the cause.
#[test]
fn f33_decoding_that_waits_for_a_missing_standby_names_it() {
    let server = made(OwnServer::of_version(17, &[]));
    in_rig_on(&server, "f33", |rig| {
        let service = rig.capture()?;
        let db = rig.db()?;
        db.exec("SELECT pg_create_physical_replication_slot('left')")?;
        server.set(&[("synchronized_standby_slots", "left")])?;
        server.reload()?;
        db.exec("SELECT pg_drop_replication_slot('left')")?;
        let load = rig.load()?;
        until("the cause to be named", HEAL_MAX_S, || {
            let log = service.log()?;
            Ok(log.contains("SOURCE_WARNS") && log.contains("synchronized_standby_slots"))
        })?;
        server.set(&[("synchronized_standby_slots", "")])?;
        server.reload()?;
        rig.caught_up(DRAIN_MAX_S)?;
        rig.judge(load, service)
    });
}

/// The standby was behind what Kafka has: refused, with the part that the new primary never had. Here it even has the
/// slot, which alone would let it be gone on with.
#[test]
fn f34_a_standby_promoted_behind_kafka_is_refused_with_the_range() {
    let (primary, standby) = pair(&SYNC);
    in_rig_on(&primary, "f34", |rig| {
        let (service, db) = (rig.capture()?, rig.db()?);
        insert(&db, 3_000)?;
        // A slot that nobody reads stays behind where the standby could begin with it.
        synced(&db, &standby, &rig.world.slot(oracle::APP))?;
        service.stop()?;
        standby.down()?;
        insert(&db, 3_001)?;
        rig.world.until_current(&Stage::Capture)?;
        primary.kill()?;
        standby.up()?;
        fail_over(rig, &standby)?;
        refused(rig, "TIMELINE_DIVERGED")?.expect_log("were never on the new primary")?;
        // However far the new primary writes: the place where they part is not forgotten.
        insert(&rig.db()?, 3_002)?;
        refused(rig, "TIMELINE_DIVERGED")?.expect_log("--resnapshot")?;
        Ok(())
    });
}

/// The same without slots that are carried over (PostgreSQL before 17): what diverged is said, not only that the slot has
/// gone.
#[test]
fn f34_a_standby_without_the_slot_promoted_behind_kafka_is_refused_with_the_range() {
    let primary = made(OwnServer::start(&[]));
    let standby = made(primary.standby("follower", &[]));
    in_rig_on(&primary, "f34s", |rig| {
        primary.is_followed_by(&standby)?;
        standby.down()?;
        rig.world.until_current(&Stage::Capture)?;
        insert(&rig.db()?, 3_001)?;
        rig.world.until_current(&Stage::Capture)?;
        primary.kill()?;
        standby.up()?;
        fail_over(rig, &standby)?;
        refused(rig, "TIMELINE_DIVERGED")?
            .expect_log("were never on the new primary")?
            .expect_log("--resnapshot")?;
        Ok(())
    });
}

/// A server restored from an older copy of itself, and another server altogether.
#[test]
fn f34_a_restored_copy_and_another_cluster_are_refused() {
    let (server, other) = (made(OwnServer::start(&[])), made(OwnServer::start(&[])));
    in_rig_on(&server, "f34r", |rig| {
        rig.world.until_current(&Stage::Capture)?;
        let copy = server.copy()?;
        insert(&rig.db()?, 3_003)?;
        rig.db()?.exec("SELECT pg_switch_wal()")?;
        insert(&rig.db()?, 3_004)?;
        rig.world.until_current(&Stage::Capture)?;
        server.restore(&copy)?;
        refused(rig, "TIMELINE_DIVERGED")?.expect_log("an older copy of the server was restored")?;
        other.db("postgres")?.exec(oracle::TABLES)?;
        rig.postgres.lead_to(&other.address())?;
        refused(rig, "SYSTEM_CHANGED")?.expect_log("is another database cluster")?;
        Ok(())
    });
}
