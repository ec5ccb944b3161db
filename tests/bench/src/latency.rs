//! From commit to the eyes of a reader, at a rate that is kept whatever the system does.
//!
//! Rows carry the moment at which they were meant to be sent, so that a generator that is late counts against whoever made it
//! late. `latency`: until a `read_committed` consumer has the record. `end_to_end`: until the row is committed in the target,
//! by the target's own commit timestamps.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rdkafka::consumer::BaseConsumer;
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::Offset;
use syncline_tests::Db;

use crate::bed::{Bed, server_pid};
use crate::capture::prefix;
use crate::contender::{Contender, Running, SLOT, Task};
use crate::load::{Load, now_us};
use crate::machine::Parties;
use crate::result::Run;
use crate::session::Session;
use crate::{slot, topic};

const ROWS_PER_S: u64 = 1_000;
const SESSIONS: u64 = 4;
/// This part of a run is for warming up.
const DROPPED_PART: f64 = 0.25;
const START_MAX: Duration = Duration::from_secs(120);
const DRAIN_MAX: Duration = Duration::from_secs(10);
const PUBLICATION: &str = "lat";
/// The table of rows that say when they were meant to be sent.
pub const TABLE: &str = "lat";
/// Its columns.
pub const COLUMNS: &str = "(id int8 PRIMARY KEY, sent_us int8 NOT NULL, note text NOT NULL)";

/// Runs all that are asked for.
pub fn cases(session: &Session<'_>) -> anyhow::Result<()> {
    let peers = |all: &[Contender]| if session.plan.peer { all.to_vec() } else { Vec::new() };
    for (case, to_target) in [("latency", false), ("end_to_end", true)] {
        if session.plan.wants(case) {
            let mut contenders = vec![Contender::ExactlyOnce, Contender::AtLeastOnce];
            contenders.extend(match to_target {
                true => peers(&[Contender::Debezium]),
                false => peers(&[Contender::Debezium, Contender::DebeziumDefaults]),
            });
            session.case(case, || {
                session.in_turn(case, &contenders, |who| {
                    let db = session.bed.source_db()?;
                    make(&db)?;
                    let task = Task::of(&prefix(case, &who.to_string()), PUBLICATION, &[TABLE]);
                    let run = task.in_topics(session.bed, || measure(session, &db, &task, to_target, *who))?;
                    slot::drop(&db, SLOT)?;
                    Ok(run)
                })
            })?;
        }
    }
    Ok(())
}

fn measure(session: &Session<'_>, db: &Db, task: &Task, to_target: bool, who: Contender) -> anyhow::Result<Run> {
    let (bed, seconds, target) = (session.bed, session.plan.seconds, session.bed.target_db()?);
    let mut running = vec![who.capture(bed, task)?];
    if to_target {
        target.exec(&format!("DROP TABLE IF EXISTS {TABLE}; CREATE TABLE {TABLE} {COLUMNS}"))?;
        running.push(who.sink(bed, task, &task.prefix, "0")?);
    }
    let firsts = await_first(bed, db, task, to_target.then_some(&target), &mut running)?;

    let parties = Parties {
        contender: running.iter().map(Running::pid).collect::<anyhow::Result<_>>()?,
        postgres: server_pid(db)?,
        broker: Some(bed.broker),
    };
    let settings = running[0].settings()?;
    let before = parties.read()?;
    let began_us = now_us()?;
    let sessions = (0..SESSIONS).map(|_| bed.source_db());
    let rows = seconds * ROWS_PER_S;
    let load = Load::start(sessions.collect::<anyhow::Result<_>>()?, rows, ROWS_PER_S, insert)?;
    let seen = match to_target {
        true => load.wait().map(|()| Vec::new()),
        false => watch(bed, task, load, firsts),
    }?;
    let spent = parties.since(&before)?;
    let peak_rss_mb = parties.peak_rss_mb();
    let from_us = counted_from(began_us, seconds);
    let waits_ms = match to_target {
        true => arrived(&target, rows, from_us)?,
        false => decoded(bed, &seen, rows, from_us)?,
    };
    for one in running {
        one.stop()?;
    }
    let run = Run {
        rows,
        rows_per_s: rows as f64 / spent.wall,
        rows_per_s_warm: rows as f64 / spent.wall,
        peak_rss_mb,
        settings,
        ..Run::default()
    };
    let mut run = run.spent(&spent).waits(waits_ms);
    // The generator and the reader are the benchmark's own; who else was at work cannot be told apart from them.
    run.others_s = 0.0;
    Ok(run)
}

/// Of a load that began then and goes on for so long, the moment from which it counts.
pub fn counted_from(began_us: i64, seconds: u64) -> i64 {
    #[allow(clippy::cast_possible_truncation, reason = "microseconds of an hour")]
    let dropped_us = (seconds as f64 * DROPPED_PART * 1e6) as i64;
    began_us + dropped_us
}

/// The statement that makes row `id`.
pub fn insert(id: u64, meant_us: i64) -> String {
    format!("INSERT INTO {TABLE} VALUES ({id}, {meant_us}, 'order line of the north western distribution centre')")
}

/// The statement that makes a row which is there only to be seen.
pub fn first(number: u64) -> String {
    format!("INSERT INTO {TABLE} VALUES (-{number}, 0, 'the first')")
}

/// The table, empty, its publication, and the slot at its end of the log.
fn make(db: &Db) -> anyhow::Result<()> {
    db.exec(&format!(
        "DROP TABLE IF EXISTS {TABLE}; CREATE TABLE {TABLE} {COLUMNS};
         DROP PUBLICATION IF EXISTS {PUBLICATION}; CREATE PUBLICATION {PUBLICATION} FOR TABLE {TABLE}"
    ))?;
    slot::make(db, SLOT)
}

/// Rows of their own (negative keys) until one has gone all the way; says how many.
fn await_first(bed: &Bed, db: &Db, task: &Task, target: Option<&Db>, running: &mut [Running]) -> anyhow::Result<u64> {
    let (consumer, deadline) = (topic::reader(&bed.stack)?, Instant::now() + START_MAX);
    for number in 1_u64.. {
        running.iter_mut().try_for_each(Running::check)?;
        ensure!(
            Instant::now() < deadline,
            "nothing has arrived within {} s",
            START_MAX.as_secs()
        );
        db.exec(&first(number))?;
        std::thread::sleep(Duration::from_millis(200));
        let there = match target {
            Some(target) => target.number(&format!("SELECT count(*) FROM {TABLE}"))? > 0,
            None => topic::has_any(&consumer, &task.topics()[0], task.partitions)?,
        };
        if there {
            return Ok(number);
        }
    }
    anyhow::bail!("there are no more numbers")
}

/// Takes down when each record was seen, those of the first rows too; what it says is read later.
fn watch(bed: &Bed, task: &Task, load: Load, firsts: u64) -> anyhow::Result<Vec<(i64, Vec<u8>)>> {
    let consumer = topic::reader(&bed.stack)?;
    topic::read_from(&consumer, &task.topics()[0], Offset::Beginning)?;
    let mut seen = Vec::new();
    while !load.has_ended() {
        take(&consumer, &mut seen, Duration::from_millis(20))?;
    }
    let (rows, deadline) = (usize::try_from(load.count + firsts)?, Instant::now() + DRAIN_MAX);
    load.wait()?;
    while seen.len() < rows && Instant::now() < deadline {
        take(&consumer, &mut seen, Duration::from_millis(20))?;
    }
    Ok(seen)
}

/// Takes down the next record, if one comes.
pub fn take(consumer: &BaseConsumer, seen: &mut Vec<(i64, Vec<u8>)>, wait: Duration) -> anyhow::Result<()> {
    if let Some(message) = topic::next(consumer, wait)? {
        seen.push((now_us()?, message.payload().context("nothing was deleted")?.to_vec()));
    }
    Ok(())
}

/// Milliseconds from the moment meant to the moment seen, of the rows that count; all rows must have come, each once.
pub fn decoded(bed: &Bed, seen: &[(i64, Vec<u8>)], rows: u64, from_us: i64) -> anyhow::Result<Vec<f64>> {
    let (mut waits_ms, mut came) = (Vec::new(), 0_u64);
    for (at_us, value) in seen {
        let after = bed.topics.json(value)?["after"].take();
        let (id, sent_us) = (after["id"].as_i64(), after["sent_us"].as_i64());
        let (id, sent_us) = id.zip(sent_us).context("id and sent_us in a record")?;
        came += u64::from(id >= 0);
        if id >= 0 && sent_us >= from_us {
            waits_ms.push((at_us - sent_us) as f64 / 1e3);
        }
    }
    ensure!(came == rows, "{came} rows came where {rows} were sent");
    Ok(waits_ms)
}

/// The same by the commit timestamps of the target.
fn arrived(target: &Db, rows: u64, from_us: i64) -> anyhow::Result<Vec<f64>> {
    syncline_tests::until("all rows to be in the target", DRAIN_MAX.as_secs(), || {
        Ok(target.number(&format!("SELECT count(*) FROM {TABLE} WHERE id >= 0"))? == i64::try_from(rows)?)
    })?;
    let waits = target.text(&format!(
        "SELECT extract(epoch FROM pg_xact_commit_timestamp(xmin)) * 1000 - sent_us / 1000.0
           FROM {TABLE} WHERE id >= 0 AND sent_us >= {from_us}"
    ))?;
    waits.lines().map(|line| Ok(line.parse()?)).collect()
}
