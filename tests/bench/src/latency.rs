//! From commit to the eyes of a reader, at a rate that is kept whatever the system does.
//!
//! Rows carry the moment at which they were meant to be sent, so that a generator that is late counts against whoever made it
//! late. `latency`: until a `read_committed` consumer has the record. `end_to_end`: until the row is committed in the target,
//! by the target's own commit timestamps.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use rdkafka::consumer::BaseConsumer;
use rdkafka::message::Message as _;
use syncline_tests::Db;

use crate::Plan;
use crate::bed::{Bed, server_pid};
use crate::capture::{in_turn, prefix};
use crate::contender::{Contender, Running, SLOT, Task};
use crate::machine::{self, Parties};
use crate::result::{Results, Run, quantile};
use crate::topic;

const ROWS_PER_S: u64 = 1_000;
const SESSIONS: u64 = 4;
/// This part of a run is for warming up.
const DROPPED_PART: f64 = 0.25;
const START_MAX: Duration = Duration::from_secs(120);
const DRAIN_MAX: Duration = Duration::from_secs(10);
const TABLE: &str = "lat";
const COLUMNS: &str = "(id int8 PRIMARY KEY, sent_us int8 NOT NULL, note text NOT NULL)";

/// Runs all that are asked for.
pub fn cases(bed: &Bed, plan: &Plan, results: &Results) -> anyhow::Result<()> {
    let mut contenders = vec![Contender::ExactlyOnce, Contender::AtLeastOnce];
    contenders.extend(plan.peer.then_some(Contender::Debezium));
    for (case, to_target) in [("latency", false), ("end_to_end", true)] {
        if plan.wants(case) {
            in_turn(plan, results, &contenders, |who, number| {
                measure(bed, plan, case, to_target, *who, number)
            })?;
        }
    }
    Ok(())
}

fn measure(bed: &Bed, plan: &Plan, case: &str, to_target: bool, who: Contender, number: i64) -> anyhow::Result<Run> {
    let (db, target) = (bed.source_db()?, bed.target_db()?);
    open(&db)?;
    let task = Task {
        prefix: prefix(case, who, number),
        snapshot: false,
        tables: vec![format!("public.{TABLE}")],
    };
    topic::make(&bed.stack, &task.topics())?;
    let mut running = vec![who.capture(bed, &task)?];
    if to_target {
        target.exec(&format!("DROP TABLE IF EXISTS {TABLE}; CREATE TABLE {TABLE} {COLUMNS}"))?;
        running.push(who.sink(bed, &task)?);
    }
    let first = await_first(bed, &db, &task, to_target.then_some(&target), &mut running)?;

    let parties = Parties {
        contender: running[0].pid()?,
        postgres: server_pid(&db)?,
        broker: Some(bed.broker),
    };
    let before = parties.read()?;
    let began_us = now_us()?;
    let load = Load::start(bed, plan.seconds)?;
    let rows = load.rows;
    let seen = match to_target {
        true => load.wait().map(|()| Vec::new()),
        false => watch(bed, &task, load, first),
    }?;
    let spent = parties.since(&before)?;
    let peak_rss_mb = running
        .iter()
        .map(|one| one.pid().map(machine::peak_rss_mb))
        .sum::<anyhow::Result<f64>>()?;
    #[allow(clippy::cast_possible_truncation, reason = "microseconds of a minute")]
    let from_us = began_us + (plan.seconds as f64 * DROPPED_PART * 1e6) as i64;
    let mut waits_ms = match to_target {
        true => arrived(&target, rows, from_us)?,
        false => decoded(bed, &seen, rows, from_us)?,
    };
    for one in running {
        one.stop()?;
    }
    close(bed, &db, &task)?;
    waits_ms.sort_by(f64::total_cmp);
    let run = Run {
        case: case.to_owned(),
        contender: who.name().to_owned(),
        number,
        rows,
        rows_per_s: rows as f64 / spent.wall,
        rows_per_s_warm: rows as f64 / spent.wall,
        peak_rss_mb,
        p50_ms: quantile(&waits_ms, 0.5),
        p99_ms: quantile(&waits_ms, 0.99),
        p999_ms: quantile(&waits_ms, 0.999),
        ..Run::default()
    };
    let mut run = run.spent(&spent);
    // The generator and the reader are the benchmark's own; who else was at work cannot be told apart from them.
    run.others_s = 0.0;
    Ok(run)
}

fn open(db: &Db) -> anyhow::Result<()> {
    db.exec(&format!(
        "DROP TABLE IF EXISTS {TABLE}; CREATE TABLE {TABLE} {COLUMNS};
         DROP PUBLICATION IF EXISTS bench; CREATE PUBLICATION bench FOR TABLE {TABLE}"
    ))?;
    db.text(&format!(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{SLOT}'"
    ))?;
    db.text(&format!(
        "SELECT pg_create_logical_replication_slot('{SLOT}', 'pgoutput')"
    ))
    .map(|_| ())
}

fn close(bed: &Bed, db: &Db, task: &Task) -> anyhow::Result<()> {
    db.text(&format!("SELECT pg_drop_replication_slot('{SLOT}')"))?;
    db.exec(&format!(
        "DROP PUBLICATION bench; CREATE PUBLICATION bench FOR TABLE {}, {}",
        crate::work::TABLE,
        crate::work::MARKER
    ))?;
    topic::delete(&bed.stack, &task.prefix)
}

fn now_us() -> anyhow::Result<i64> {
    Ok(i64::try_from(
        SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros(),
    )?)
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
        db.exec(&format!("INSERT INTO {TABLE} VALUES (-{number}, 0, 'the first')"))?;
        std::thread::sleep(Duration::from_millis(200));
        let there = match target {
            Some(target) => target.number(&format!("SELECT count(*) FROM {TABLE}"))? > 0,
            None => topic::has_any(&consumer, &task.topics()[0])?,
        };
        if there {
            return Ok(number);
        }
    }
    anyhow::bail!("there are no more numbers")
}

/// Sessions that insert on a fixed schedule.
struct Load {
    rows: u64,
    threads: Vec<std::thread::JoinHandle<anyhow::Result<()>>>,
    failed: Arc<AtomicBool>,
}

impl Load {
    fn start(bed: &Bed, seconds: u64) -> anyhow::Result<Self> {
        let rows = seconds * ROWS_PER_S;
        let (began, began_us, failed) = (Instant::now(), now_us()?, Arc::new(AtomicBool::new(false)));
        let threads = (0..SESSIONS).map(|session| {
            let (db, failed) = (bed.source_db()?, Arc::clone(&failed));
            Ok(std::thread::spawn(move || {
                let outcome = send(&db, session, rows, began, began_us);
                failed.fetch_or(outcome.is_err(), Ordering::SeqCst);
                outcome
            }))
        });
        Ok(Self {
            rows,
            threads: threads.collect::<anyhow::Result<_>>()?,
            failed,
        })
    }

    fn has_ended(&self) -> bool {
        self.threads.iter().all(std::thread::JoinHandle::is_finished) || self.failed.load(Ordering::SeqCst)
    }

    fn wait(self) -> anyhow::Result<()> {
        for thread in self.threads {
            thread.join().map_err(|_| anyhow::anyhow!("a session panicked"))??;
        }
        Ok(())
    }
}

fn send(db: &Db, session: u64, rows: u64, began: Instant, began_us: i64) -> anyhow::Result<()> {
    for id in (session..rows).step_by(usize::try_from(SESSIONS)?) {
        let at_us = id * 1_000_000 / ROWS_PER_S;
        std::thread::sleep((began + Duration::from_micros(at_us)).saturating_duration_since(Instant::now()));
        let meant_us = began_us + i64::try_from(at_us)?;
        db.exec(&format!(
            "INSERT INTO {TABLE} VALUES ({id}, {meant_us}, 'order line of the north western distribution centre')"
        ))?;
    }
    Ok(())
}

/// Takes down when each record was seen, those of the first rows too; what it says is read later.
fn watch(bed: &Bed, task: &Task, load: Load, first: u64) -> anyhow::Result<Vec<(i64, Vec<u8>)>> {
    let consumer = topic::reader(&bed.stack)?;
    topic::from_beginning(&consumer, &task.topics()[0])?;
    let mut seen = Vec::new();
    while !load.has_ended() {
        take(&consumer, &mut seen, Duration::from_millis(20))?;
    }
    let (rows, deadline) = (usize::try_from(load.rows + first)?, Instant::now() + DRAIN_MAX);
    load.wait()?;
    while seen.len() < rows && Instant::now() < deadline {
        take(&consumer, &mut seen, Duration::from_millis(20))?;
    }
    Ok(seen)
}

fn take(consumer: &BaseConsumer, seen: &mut Vec<(i64, Vec<u8>)>, wait: Duration) -> anyhow::Result<()> {
    if let Some(Ok(message)) = consumer.poll(wait) {
        seen.push((now_us()?, message.payload().context("nothing was deleted")?.to_vec()));
    }
    Ok(())
}

/// Milliseconds from the moment meant to the moment seen, of the rows that count; all rows must have come, each once.
fn decoded(bed: &Bed, seen: &[(i64, Vec<u8>)], rows: u64, from_us: i64) -> anyhow::Result<Vec<f64>> {
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
