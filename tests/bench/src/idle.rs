//! What capture costs while nothing happens: a thousand tables, each read once, and then silence.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rdkafka::consumer::BaseConsumer;
use syncline_tests::Db;

use crate::bed::{Bed, server_pid};
use crate::capture::{RUN_MAX, prefix};
use crate::contender::{Contender, Running, SLOT, Task};
use crate::machine::{self, Parties};
use crate::result::Run;
use crate::session::Session;
use crate::{slot, topic};

/// As it is named.
pub const CASE: &str = "idle";
const TABLES: u32 = 1_000;
/// The longest time that is looked at.
const LOOKED_AT_S_MAX: u64 = 30;
/// What the last records set in motion (a heartbeat, a flush) has come to rest by then.
const SETTLE: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(50);
const PUBLICATION: &str = "idle";

/// Runs it if it is asked for.
pub fn cases(session: &Session<'_>) -> anyhow::Result<()> {
    if !session.plan.wants(CASE) {
        return Ok(());
    }
    session.case(CASE, || {
        let db = session.bed.source_db()?;
        drop_tables(&db)?;
        for number in 1..=TABLES {
            db.exec(&format!(
                "CREATE TABLE idle_{number} (id int8 PRIMARY KEY, note text); INSERT INTO idle_{number} VALUES (0, 'quiet')"
            ))?;
        }
        let names: Vec<String> = (1..=TABLES).map(|number| format!("idle_{number}")).collect();
        db.exec(&format!("CREATE PUBLICATION {PUBLICATION} FOR TABLE {}", names.join(", ")))?;
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        session.in_turn(CASE, &Contender::all(session.plan), |who| {
            slot::drop(&db, SLOT)?;
            let task = Task {
                snapshot_readers: Some(1),
                ..Task::of(&prefix(CASE, &who.to_string()), PUBLICATION, &names)
            };
            let seconds = session.plan.seconds.min(LOOKED_AT_S_MAX);
            let run = task.in_topics(session.bed, || quiet(session.bed, &db, &task, *who, seconds))?;
            slot::drop(&db, SLOT)?;
            Ok(run)
        })?;
        drop_tables(&db)
    })
}

/// One by one, so that no transaction holds a thousand locks.
fn drop_tables(db: &Db) -> anyhow::Result<()> {
    db.exec(&format!("DROP PUBLICATION IF EXISTS {PUBLICATION}"))?;
    (1..=TABLES).try_for_each(|number| db.exec(&format!("DROP TABLE IF EXISTS idle_{number}")))
}

/// Waits until a topic ends behind this offset; gives its end.
fn await_end_beyond(
    consumer: &BaseConsumer,
    topic: &str,
    offset: i64,
    running: &mut Running,
    started: Instant,
) -> anyhow::Result<i64> {
    loop {
        if let Some(end) = topic::end(consumer, topic, 0)?
            && end > offset
        {
            return Ok(end);
        }
        running.check()?;
        ensure!(
            started.elapsed() < RUN_MAX,
            "the tables were not read within {} s",
            RUN_MAX.as_secs()
        );
        std::thread::sleep(LOOK_EVERY);
    }
}

fn quiet(bed: &Bed, db: &Db, task: &Task, who: Contender, seconds: u64) -> anyhow::Result<Run> {
    let started = Instant::now();
    let mut running = who.capture(bed, task)?;
    let consumer = topic::reader(&bed.stack)?;
    let topics = task.topics();
    let first = topics.first().context("a table")?;
    // A change that was made after the first row was read comes when all have been read. A transaction's end takes an offset
    // too, so that the end of the topic does not tell how many records it holds.
    let read = await_end_beyond(&consumer, first, 0, &mut running, started)?;
    db.exec("INSERT INTO idle_1 VALUES (1, 'the last for long')")?;
    await_end_beyond(&consumer, first, read, &mut running, started)?;
    let first_s = started.elapsed().as_secs_f64();
    db.exec("DELETE FROM idle_1 WHERE id = 1")?;
    std::thread::sleep(SETTLE);

    let pid = running.pid()?;
    let parties = Parties {
        contender: vec![pid],
        postgres: server_pid(db)?,
        broker: Some(bed.broker),
    };
    let (before, wakeups) = (parties.read()?, machine::wakeups(pid));
    std::thread::sleep(Duration::from_secs(seconds));
    let spent = parties.since(&before)?;
    let wakeups = (machine::wakeups(pid) - wakeups) / spent.wall;
    let rss_mb = machine::rss_mb(pid);
    running.check()?;
    let run = Run {
        first_s,
        peak_rss_mb: parties.peak_rss_mb(),
        settings: running.settings()?,
        ..Run::default()
    };
    running.stop()?;
    let run = run
        .spent(&spent)
        .figure("cpu_percent", 100.0 * spent.contender / spent.wall)
        .figure("postgres_cpu_percent", 100.0 * spent.postgres / spent.wall)
        .figure("wakeups_per_s", wakeups)
        .figure("rss_mb", rss_mb);
    Ok(Run {
        // Nothing has moved, so there is nothing to divide by.
        cpu_s_per_million: 0.0,
        postgres_s_per_million: 0.0,
        broker_s_per_million: 0.0,
        ..run
    })
}
