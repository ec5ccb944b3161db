//! Positions and transactions: F02, F12, F18, F26, F30, F35, F36. What is killed, held, rolled back or begun twice shows in no
//! topic, and nothing is missing. About 70 s, of which one test waits 60 s for a slot that cannot be made.

use std::collections::BTreeMap;
use std::time::Duration;

use syncline_tests::captured::{self, APP, capture, changes, in_app, in_app_alone, ops, sql};
use syncline_tests::proxy::{Fault, Kind, Side, When};
use syncline_tests::rig::{DRAIN_MAX_S, HEAL_MAX_S, in_rig};
use syncline_tests::{Stage, World, http, until};

const ROWS: &str = "CREATE TABLE rows (id bigint PRIMARY KEY, note text, ver bigint NOT NULL DEFAULT 0)";
const TABLES: &str = "tables: [public.rows]";
const END_TXN: i16 = 26;
/// Longer than the server waits for a frozen capture.
const FROZEN_S: u64 = 20;

fn killed(world: &World, failpoint: &str) -> anyhow::Result<()> {
    world.set_env("SYNCLINE_FAILPOINTS", failpoint);
    let finished = world.run(&Stage::Capture, &["--until-current"])?;
    world.set_env("SYNCLINE_FAILPOINTS", "");
    assert_eq!(finished.code, None, "{failpoint} was never passed:\n{}", finished.log);
    Ok(())
}

/// A commit ends where the next transaction begins, at one and the same LSN. Killed between the two, with the first in
/// Kafka and the second not yet sent.
#[test]
fn f02_a_kill_between_a_commit_and_a_begin_of_the_same_lsn() {
    in_rig("f02b", |rig| {
        let mut service = rig.capture()?;
        for turn in 0..3 {
            let commit = When::Message(Side::Server, Kind::Log(b'C'));
            let held = rig.postgres.trap(commit, Fault::Hold);
            let (first, second) = (1_000 + 2 * turn, 1_001 + 2 * turn);
            rig.db()?.exec(&format!(
                "BEGIN; INSERT INTO accounts (id, owner) VALUES ({first}, 'first'); COMMIT;
                 BEGIN; INSERT INTO accounts (id, owner) VALUES ({second}, 'second'); COMMIT"
            ))?;
            held.wait(HEAL_MAX_S)?;
            let begin = rig
                .postgres
                .trap(When::Message(Side::Server, Kind::Log(b'B')), Fault::Hold);
            held.release();
            begin.wait(HEAL_MAX_S)?;
            until("the first to be in Kafka", HEAL_MAX_S, || {
                let all = changes(rig.world, "accounts")?;
                Ok(all.iter().any(|change| change.brief() == format!("c{first}")))
            })?;
            service.kill()?;
            begin.release();
            service = rig.capture()?;
        }
        let load = rig.load()?;
        load.goes_on(20)?;
        rig.judge(load, service)
    });
}

/// Frozen until the server has given its session up, with a transaction of Kafka open. `SYNCLINE_FAULTS=all`: beyond
/// Kafka's patience too, which is 120 s.
#[test]
fn f17_frozen_past_the_patience_of_the_others_and_thawed() {
    in_rig("f17t", |rig| {
        let (service, load) = (rig.capture()?, rig.load()?);
        let held = rig
            .kafka
            .trap(When::Message(Side::Client, Kind::Kafka(END_TXN)), Fault::Hold);
        held.wait(HEAL_MAX_S)?;
        service.freeze()?;
        let longer = std::env::var("SYNCLINE_FAULTS").is_ok_and(|which| which == "all");
        // What is waited for is time itself: the patience of both servers.
        std::thread::sleep(Duration::from_secs(if longer { 135 } else { FROZEN_S }));
        service.thaw()?;
        held.release();
        rig.caught_up(DRAIN_MAX_S)?;
        load.goes_on(50)?;
        rig.caught_up(HEAL_MAX_S)?;
        rig.judge(load, service)
    });
}

/// Nobody knows whether it committed, and then the one who asked is killed. What the dead one had sent arrives when its
/// successor is at work.
#[test]
fn f18_a_commit_of_unknown_outcome_and_then_a_crash() {
    in_rig("f18", |rig| {
        let (mut service, load) = (rig.capture()?, rig.load()?);
        for side in [Side::Client, Side::Server] {
            let held = rig.kafka.trap(When::Message(side, Kind::Kafka(END_TXN)), Fault::Hold);
            held.wait(HEAL_MAX_S)?;
            service.kill()?;
            service = rig.capture()?;
            load.goes_on(20)?;
            held.release();
            load.goes_on(20)?;
            rig.caught_up(HEAL_MAX_S)?;
        }
        rig.judge(load, service)
    });
}

/// What is rolled back, as a whole, in part or after it was prepared, leaves no trace; what is prepared comes when it is
/// committed.
#[test]
fn f26_what_is_rolled_back_leaves_no_trace_and_prepared_rows_come_when_they_commit() {
    in_app_alone("f26", ROWS, TABLES, |world| {
        capture(world)?;
        let (kept, dropped) = (format!("{}_k", world.name), format!("{}_d", world.name));
        sql(
            world,
            "BEGIN; INSERT INTO rows SELECT i FROM generate_series(10000, 90000) i; ROLLBACK",
        )?;
        sql(
            world,
            "BEGIN; INSERT INTO rows VALUES (1); SAVEPOINT a; INSERT INTO rows VALUES (2); UPDATE rows SET ver = 9;
             SAVEPOINT b; INSERT INTO rows VALUES (3); RELEASE b; ROLLBACK TO a; INSERT INTO rows VALUES (4); COMMIT",
        )?;
        sql(
            world,
            &format!("BEGIN; INSERT INTO rows VALUES (5); PREPARE TRANSACTION '{kept}'"),
        )?;
        sql(
            world,
            &format!("BEGIN; INSERT INTO rows VALUES (6); PREPARE TRANSACTION '{dropped}'"),
        )?;
        sql(world, "INSERT INTO rows VALUES (7)")?;
        capture(world)?;
        assert_eq!(ops(world, "rows")?, ["c1", "c4", "c7"]);
        sql(world, &format!("ROLLBACK PREPARED '{dropped}'"))?;
        sql(world, &format!("COMMIT PREPARED '{kept}'"))?;
        capture(world)?;
        assert_eq!(ops(world, "rows")?, ["c1", "c4", "c7", "c5"]);
        assert!(changes(world, "rows")?.iter().all(|change| change.row()["ver"] == 0));
        Ok(())
    });
}

/// A transaction so large that it was cut comes again from its beginning: each row that Kafka has is recognised by its
/// position, is counted, and the first that is new is not passed over.
#[test]
fn f30_what_is_sent_again_is_passed_over_row_by_row_and_counted() {
    const ROWS_TOTAL: usize = 120_000;
    // Where a transaction is cut (`capture/src/stage.rs`).
    const CUT: usize = 100_000;
    in_app("f30", ROWS, TABLES, |world| {
        capture(world)?;
        sql(
            world,
            &format!("INSERT INTO rows SELECT i FROM generate_series(1, {ROWS_TOTAL}) i"),
        )?;
        killed(world, "capture.mid_produce=kill@110000")?;
        assert_eq!(ops(world, "rows")?.len(), CUT, "the first part is in Kafka");
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let listen = format!("127.0.0.1:{port}");
        let service = world.start_with(&Stage::Capture, &["--listen", &listen], &[])?;
        let counted = format!(r#"syncline_capture_ignored{{reason="repeated_row",source="shop"}} {CUT}"#);
        until("the rows to be counted", 60, || {
            Ok(http::text(&format!("http://{listen}"), "/metrics").is_ok_and(|metrics| metrics.contains(&counted)))
        })?;
        service.stop()?;
        capture(world)?;
        let expected: Vec<String> = (1..=ROWS_TOTAL).map(|id| format!("c{id}")).collect();
        assert!(ops(world, "rows")? == expected, "each once, in order");
        Ok(())
    });
}

/// A slot cannot be made while a transaction is open. After a minute the transaction is named and it is tried again.
#[test]
fn f35_a_slot_that_waits_for_a_transaction_names_it() {
    in_app_alone("f35", ROWS, TABLES, |world| {
        let holder = world.connect(APP)?;
        holder.exec("BEGIN; INSERT INTO rows VALUES (1)")?;
        let pid = holder.text("SELECT pg_backend_pid()")?;
        let service = world.start(&Stage::Capture)?;
        until("the transaction to be named", 90, || {
            let log = service.log()?;
            Ok(log.contains("SLOT_WAIT") && log.contains(&format!("of process {pid} ")))
        })?;
        holder.exec("COMMIT")?;
        until("the row", 60, || Ok(ops(world, "rows").is_ok_and(|ops| ops == ["r1"])))?;
        service.stop()
    });
}

/// Asked to stop while a slot waits to be made: at once, and the server makes no slot that nobody will read.
#[test]
fn f35_a_stop_while_a_slot_waits_leaves_no_slot() {
    in_app_alone("f35s", ROWS, TABLES, |world| {
        let holder = world.connect(APP)?;
        holder.exec("BEGIN; INSERT INTO rows VALUES (1)")?;
        let service = world.start(&Stage::Capture)?;
        let slot = world.slot(APP);
        let slots = format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{slot}'");
        until("the slot to be in the making", 60, || {
            Ok(world.db(APP).number(&slots)? == 1)
        })?;
        service.stop()?;
        holder.exec("COMMIT")?;
        until("the slot to be gone", 10, || Ok(world.db(APP).number(&slots)? == 0))?;
        capture(world)?;
        assert_eq!(ops(world, "rows")?, ["r1"]);
        Ok(())
    });
}

/// Killed in one chunk after the other, while rows move from chunks that are read to chunks that are not, and back.
#[test]
fn f36_rows_that_move_between_chunks_of_a_killed_snapshot() {
    let sql = format!("{ROWS}; INSERT INTO rows SELECT i, 'as it was' FROM generate_series(1, 30000) i");
    in_app("f36", &sql, TABLES, |world| {
        for (failpoint, move_rows) in [
            (
                "kill@8000",
                "UPDATE rows SET id = id + 100000, ver = ver + 1 WHERE id <= 50",
            ),
            (
                "kill@9000",
                "UPDATE rows SET id = id - 29000, ver = ver + 1 WHERE id BETWEEN 29001 AND 29050",
            ),
            (
                "kill@2000",
                "DELETE FROM rows WHERE id IN (5000, 20000); INSERT INTO rows VALUES (40000, 'new')",
            ),
        ] {
            killed(world, &format!("capture.in_snapshot_chunk={failpoint}"))?;
            captured::sql(world, move_rows)?;
        }
        capture(world)?;
        let mut last = BTreeMap::new();
        for change in changes(world, "rows")?.iter().filter(|change| change.op != "-") {
            let id = change.key["id"].as_i64().unwrap_or_default();
            last.insert(id, (change.op.clone(), change.row()["ver"].clone()));
        }
        last.retain(|_, (op, _)| op != "d");
        let found: Vec<String> = last.iter().map(|(id, (_, ver))| format!("{id}|{ver}")).collect();
        let truth = world.db(APP).text("SELECT id, ver FROM rows ORDER BY id")?;
        assert!(
            found.join("\n") == truth,
            "the last word on each row is what the table has"
        );
        Ok(())
    });
}
