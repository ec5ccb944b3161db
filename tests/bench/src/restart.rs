//! SIGKILL in the middle of a catch-up: how long until records flow again, and how many come twice.
//!
//! The clock runs from the kill, the new process being started in the same moment, to the moment at which a `read_committed`
//! reader sees the first record that was appended after it: what the dead one had under way is no sign of life.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::Offset;
use syncline_tests::Db;

use crate::bed::{Bed, server_pid};
use crate::capture::{RUN_MAX, await_end, content, exactly, now_ms, task};
use crate::contender::{Contender, Running, SLOT, Task};
use crate::machine::Parties;
use crate::result::Run;
use crate::session::Session;
use crate::work::{USUAL, Written};
use crate::{slot, topic};

/// As it is named.
pub const CASE: &str = "restart";
/// The kill comes when this part of the work-load is in Kafka.
const KILLED_AT: f64 = 0.3;
const LOOK_EVERY: Duration = Duration::from_millis(5);
const POLL_MAX: Duration = Duration::from_millis(5);

/// Runs it if it is asked for.
pub fn cases(session: &Session<'_>) -> anyhow::Result<()> {
    if !session.plan.wants(CASE) {
        return Ok(());
    }
    session.case(CASE, || {
        let db = session.bed.source_db()?;
        let written = USUAL.write(&db, session.plan.rows)?;
        let mut contenders = vec![Contender::ExactlyOnce, Contender::AtLeastOnce];
        contenders.extend(session.plan.peer.then_some(Contender::Debezium));
        session.in_turn(CASE, &contenders, |who| {
            slot::copy(&db, &written.slot, SLOT)?;
            let task = task(CASE, *who, &written, 1);
            let run = task.in_topics(session.bed, || killed(session.bed, &db, &task, *who, &written))?;
            slot::drop(&db, SLOT)?;
            Ok(run)
        })?;
        written.forget(&db)
    })
}

fn killed(bed: &Bed, db: &Db, task: &Task, who: Contender, written: &Written) -> anyhow::Result<Run> {
    let mut running = who.capture(bed, task)?;
    let (consumer, topics) = (topic::reader(&bed.stack)?, task.topics());
    let rows = topics.first().context("a table")?;
    let from = await_part(&consumer, rows, written, &mut running)?;
    running.kill()?;
    let (killed, killed_ms) = (Instant::now(), now_ms()?);
    running.start_again()?;
    let parties = Parties {
        contender: vec![running.pid()?],
        postgres: server_pid(db)?,
        broker: Some(bed.broker),
    };
    let before = parties.read()?;
    topic::read_from(&consumer, rows, Offset::Offset(from))?;
    let (seen_s, appended_s) = await_later(&consumer, killed_ms, killed, &mut running)?;
    consumer.unassign()?;
    await_end(&consumer, task, &mut running)?;
    let spent = parties.since(&before)?;
    let peak_rss_mb = parties.peak_rss_mb();
    running.stop()?;
    let content = content(bed, task, written)?;
    if who.is_exact() {
        exactly(&content, written)?;
    }
    ensure!(
        content.records - content.repeats == written.records,
        "{} records of which {} came twice, where {} were written: some are lost",
        content.records,
        content.repeats,
        written.records
    );
    let run = Run {
        rows: written.rows,
        // Without transactions a record is there when it is appended, also while we still wait for the worker to answer.
        first_s: if who.is_exact() { seen_s } else { appended_s },
        peak_rss_mb,
        ..Run::default()
    };
    Ok(run.spent(&spent).figure("duplicates", content.repeats as f64))
}

/// Waits until a part of the work-load is in Kafka; gives where the topic ends then.
fn await_part(consumer: &BaseConsumer, topic: &str, written: &Written, running: &mut Running) -> anyhow::Result<i64> {
    let deadline = Instant::now() + RUN_MAX;
    loop {
        running.check()?;
        if let Some(end) = topic::end(consumer, topic, 0)?
            && end as f64 >= written.records as f64 * KILLED_AT
        {
            return Ok(end);
        }
        ensure!(
            Instant::now() < deadline,
            "no {KILLED_AT} of it within {} s",
            RUN_MAX.as_secs()
        );
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Waits for a record that was appended after the kill; seconds from then until it was seen, and until it was appended.
fn await_later(
    consumer: &BaseConsumer,
    killed_ms: i64,
    killed: Instant,
    running: &mut Running,
) -> anyhow::Result<(f64, f64)> {
    loop {
        if let Some(message) = topic::next(consumer, POLL_MAX)?
            && let Some(time_ms) = message.timestamp().to_millis()
            && time_ms > killed_ms
        {
            return Ok((killed.elapsed().as_secs_f64(), (time_ms - killed_ms) as f64 / 1e3));
        }
        running.check()?;
        ensure!(
            killed.elapsed() < RUN_MAX,
            "nothing has come within {} s of the kill",
            RUN_MAX.as_secs()
        );
    }
}
