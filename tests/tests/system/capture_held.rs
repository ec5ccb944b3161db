//! Kafka requests that arrive late, and a capture that is frozen: F04, F15, F16, F17, F27. The danger is a commit or an
//! abort that reaches the broker after the next transaction has begun (`bus/src/producer.rs` says why), and a slot that is
//! told more than Kafka has. About 80 s, nearly all of it the time capture gives Kafka to answer.

use std::time::{Duration, Instant};

use syncline_tests::proxy::{Fault, Kind, Side, When};
use syncline_tests::rig::{DRAIN_MAX_S, HEAL_MAX_S, Rig, in_rig};
use syncline_tests::{Stage, oracle};

const ADD_PARTITIONS: i16 = 24;
const END_TXN: i16 = 26;
/// Longer than capture waits for an answer (`bus/src/config.rs`), so that it has gone on without it.
const REQUEST_PATIENCE_S: u64 = 34;
/// How long the slot is watched.
const WATCH: Duration = Duration::from_secs(5);

/// Looks ten times a second, as long as it is told, whether the slot is ahead of Kafka.
fn watch_slot(rig: &Rig<'_>, watch: Duration) -> anyhow::Result<()> {
    let started = Instant::now();
    while started.elapsed() < watch {
        oracle::assert_confirmed_is_in_kafka(rig.world, oracle::APP)?;
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// While a commit is under way nothing of it may be confirmed, however long it takes.
#[test]
fn f04_the_slot_never_overtakes_kafka() {
    in_rig("f04", |rig| {
        let (service, load) = (rig.capture()?, rig.load()?);
        let held = rig
            .kafka
            .trap(When::Message(Side::Client, Kind::Kafka(END_TXN)), Fault::Hold);
        held.wait(HEAL_MAX_S)?;
        watch_slot(rig, WATCH)?;
        let answer = rig
            .kafka
            .trap(When::Message(Side::Server, Kind::Kafka(END_TXN)), Fault::Hold);
        held.release();
        answer.wait(HEAL_MAX_S)?;
        watch_slot(rig, WATCH)?;
        answer.release();
        rig.caught_up(HEAL_MAX_S)?;
        rig.judge(load, service)
    });
}

/// Holds one request until capture has given up waiting and works on with another producer, and lets it arrive then, in
/// the middle of another transaction.
fn arrives_late(rig: &mut Rig<'_>, api_key: i16) -> anyhow::Result<()> {
    let (service, load) = (rig.capture()?, rig.load()?);
    for _ in 0..2 {
        let held = rig
            .kafka
            .trap(When::Message(Side::Client, Kind::Kafka(api_key)), Fault::Hold);
        held.wait(HEAL_MAX_S)?;
        rig.caught_up(REQUEST_PATIENCE_S + HEAL_MAX_S)?;
        let next = rig
            .kafka
            .trap(When::Message(Side::Client, Kind::Kafka(END_TXN)), Fault::Hold);
        next.wait(HEAL_MAX_S)?;
        held.release();
        load.goes_on(5)?;
        next.release();
        rig.caught_up(HEAL_MAX_S)?;
    }
    rig.judge(load, service)
}

#[test]
fn f15_a_commit_that_arrives_within_the_next_transaction() {
    in_rig("f15", |rig| arrives_late(rig, END_TXN));
}

#[test]
fn f16_a_partition_that_is_added_within_the_next_transaction() {
    in_rig("f16", |rig| arrives_late(rig, ADD_PARTITIONS));
}

/// Frozen in the middle of a transaction until another writer has the id: the thawed one writes nothing any more.
#[test]
fn f17_frozen_with_an_open_transaction_and_thawed() {
    in_rig("f17", |rig| {
        let (service, load) = (rig.capture()?, rig.load()?);
        let held = rig
            .kafka
            .trap(When::Message(Side::Client, Kind::Kafka(END_TXN)), Fault::Hold);
        held.wait(HEAL_MAX_S)?;
        service.freeze()?;
        let second = rig.world.start(&Stage::capture(oracle::APP))?;
        rig.caught_up(DRAIN_MAX_S)?;
        held.release();
        service.thaw()?;
        load.goes_on(100)?;
        rig.caught_up(DRAIN_MAX_S)?;
        second.stop()?;
        rig.judge(load, service)
    });
}

/// Kafka is away: reading stops, the server hears that we live, memory stays flat, and afterwards all is caught up.
#[test]
fn f27_kafka_is_away_for_a_while() {
    in_rig("f27", |rig| {
        let (service, load) = (rig.capture()?, rig.load()?);
        rig.kafka.close();
        rig.kafka.reset_all();
        load.goes_on(300)?;
        watch_slot(rig, WATCH)?;
        rig.kafka.heal();
        rig.caught_up(HEAL_MAX_S)?;
        rig.kafka.silence();
        load.goes_on(300)?;
        rig.kafka.heal();
        rig.caught_up(REQUEST_PATIENCE_S + HEAL_MAX_S)?;
        rig.judge(load, service)
    });
}
