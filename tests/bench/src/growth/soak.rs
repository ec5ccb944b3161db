//! Half an hour of a mixed load (of ten rows five are inserted, four changed, one deleted) at a rate that is kept: memory does
//! not rise, and records come as soon at the end as at the beginning.
//!
//! A second, thin load of rows that carry the moment at which they were meant to be sent goes through the same slot: how long
//! they take is how long all take. It runs only if it is asked for by name.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rdkafka::consumer::BaseConsumer;
use rdkafka::topic_partition_list::Offset;
use syncline_tests::Db;

use crate::bed::{Bed, server_pid};
use crate::capture::{await_end, prefix};
use crate::contender::{Contender, Running, SLOT, Task};
use crate::latency::{self, decoded, take};
use crate::load::{Load, now_us};
use crate::machine::{self, Parties};
use crate::result::{Run, quantile};
use crate::session::Session;
use crate::topic::{self, Repeats};
use crate::work::{self, MARKER, TABLE};
use crate::{Plan, slot};

const CASE: &str = "growth/soak";
const PUBLICATION: &str = "soak";
/// The mixed load is so many transactions a second.
const TICKS_PER_S: u64 = 100;
/// And the thin one so many rows.
const SAMPLES_PER_S: u64 = 20;
/// Rows that are there at the start, so that there is always one to change.
const FIRST_ROWS: u64 = 10_000;
/// This part of the time is for memory to find its level.
const SETTLES: f64 = 1.0 / 6.0;
const LOOK_EVERY: Duration = Duration::from_secs(1);
const DRAIN_MAX: Duration = Duration::from_secs(60);
const FIRST_MAX: Duration = Duration::from_millis(200);
/// A poll returns at once if there is a record.
const POLL_MAX: Duration = Duration::from_millis(20);

/// Runs it if it is asked for by name; once, since it is long.
pub fn cases(session: &Session<'_>) -> anyhow::Result<()> {
    if session.plan.cases.is_empty() || !session.plan.wants(CASE) {
        return Ok(());
    }
    let plan = Plan {
        runs: 1,
        warm_up: 0,
        ..session.plan.clone()
    };
    let session = Session {
        plan: &plan,
        ..*session
    };
    session.case(CASE, || {
        session.in_turn(CASE, &[Contender::ExactlyOnce], |who| {
            let db = session.bed.source_db()?;
            make(&db)?;
            let task = Task::of(
                &prefix(CASE, &who.to_string()),
                PUBLICATION,
                &[TABLE, latency::TABLE, MARKER],
            );
            let run = task.in_topics(session.bed, || soak(&session, &db, &task, *who))?;
            slot::drop(&db, SLOT)?;
            Ok(run)
        })
    })
}

fn make(db: &Db) -> anyhow::Result<()> {
    let (sampled, columns) = (latency::TABLE, latency::COLUMNS);
    db.exec(&format!(
        "DROP PUBLICATION IF EXISTS {PUBLICATION}; DROP TABLE IF EXISTS {sampled}; CREATE TABLE {sampled} {columns};
         CREATE PUBLICATION {PUBLICATION} FOR TABLE {TABLE}, {sampled}, {MARKER};
         ALTER TABLE {TABLE} REPLICA IDENTITY DEFAULT; TRUNCATE {TABLE}"
    ))?;
    db.exec(&work::fill(FIRST_ROWS))?;
    slot::make(db, SLOT)
}

fn soak(session: &Session<'_>, db: &Db, task: &Task, who: Contender) -> anyhow::Result<Run> {
    let (bed, plan) = (session.bed, session.plan);
    let mut running = who.capture(bed, task)?;
    let consumer = topic::reader(&bed.stack)?;
    topic::read_from(&consumer, &task.topics()[1], Offset::Beginning)?;
    let mut seen = Vec::new();
    let first = await_first(db, &consumer, &mut running)?;
    let pid = running.pid()?;
    let parties = Parties {
        contender: vec![pid],
        postgres: server_pid(db)?,
        broker: Some(bed.broker),
    };
    let (before, began, began_us) = (parties.read()?, Instant::now(), now_us()?);
    let seconds = plan.soak_minutes * 60;
    let mix = Mix::start(bed.source_db()?, plan.soak_rows_per_s, seconds)?;
    let sampled = Load::start(
        vec![bed.source_db()?],
        seconds * SAMPLES_PER_S,
        SAMPLES_PER_S,
        latency::insert,
    )?;
    let samples = sampled.count;
    let (mut memory, mut look) = (Vec::new(), Instant::now());
    while !sampled.has_ended() {
        take(&consumer, &mut seen, POLL_MAX)?;
        if look.elapsed() >= LOOK_EVERY {
            look = Instant::now();
            running.check()?;
            memory.push((began.elapsed().as_secs_f64(), machine::rss_mb(pid)));
        }
    }
    sampled.wait()?;
    let changes = mix.wait()?;
    let deadline = Instant::now() + DRAIN_MAX;
    while u64::try_from(seen.len())? < samples + first && Instant::now() < deadline {
        take(&consumer, &mut seen, POLL_MAX)?;
    }
    work::mark(db)?;
    await_end(&consumer, task, &mut running)?;
    let spent = parties.since(&before)?;
    let peak_rss_mb = parties.peak_rss_mb();
    running.stop()?;
    let content = topic::content(&bed.stack, &task.topics()[..1], task.partitions, Repeats::Ignored)?;
    ensure!(
        content.records == changes.records,
        "{} records where {} were expected",
        content.records,
        changes.records
    );

    let third_us = i64::try_from(seconds * 1_000_000 / 3)?;
    let waits_ms = decoded(bed, &seen, samples, began_us)?;
    let beginning = p99(&decoded_until(bed, &seen, began_us + third_us)?)?;
    let last = p99(&decoded(bed, &seen, samples, began_us + 2 * third_us)?)?;
    let run = Run {
        rows: changes.rows,
        rows_per_s: changes.rows as f64 / spent.wall,
        rows_per_s_warm: changes.rows as f64 / spent.wall,
        peak_rss_mb,
        x: Some(seconds as f64 / 60.0),
        ..Run::default()
    };
    let mut run = run.spent(&spent).waits(waits_ms);
    // The generators are the benchmark's own; who else was at work cannot be told apart from them.
    run.others_s = 0.0;
    Ok(run
        .figure("rss_rise_mb", rise(&memory, seconds as f64 * SETTLES))
        .figure("p99_last_to_first", last / beginning))
}

/// Rows of their own (negative keys) until one has gone all the way; says how many are still to come.
fn await_first(db: &Db, consumer: &BaseConsumer, running: &mut Running) -> anyhow::Result<u64> {
    let deadline = Instant::now() + DRAIN_MAX;
    for number in 1_u64.. {
        running.check()?;
        ensure!(
            Instant::now() < deadline,
            "nothing has arrived within {} s",
            DRAIN_MAX.as_secs()
        );
        db.exec(&latency::first(number))?;
        if topic::next(consumer, FIRST_MAX)?.is_some() {
            return Ok(number - 1);
        }
    }
    anyhow::bail!("there are no more numbers")
}

/// Waits of the rows that were meant to be sent before that moment.
fn decoded_until(bed: &Bed, seen: &[(i64, Vec<u8>)], until_us: i64) -> anyhow::Result<Vec<f64>> {
    let mut waits_ms = Vec::new();
    for (at_us, value) in seen {
        let after = bed.topics.json(value)?["after"].take();
        let sent_us = after["sent_us"].as_i64().context("sent_us in a record")?;
        if sent_us > 0 && sent_us < until_us {
            waits_ms.push((at_us - sent_us) as f64 / 1e3);
        }
    }
    Ok(waits_ms)
}

fn p99(waits_ms: &[f64]) -> anyhow::Result<f64> {
    let mut sorted = waits_ms.to_vec();
    sorted.sort_by(f64::total_cmp);
    quantile(&sorted, 0.99).context("no waits")
}

/// By how much memory rises, after it has found its level, along the line that fits it best.
fn rise(memory: &[(f64, f64)], from_s: f64) -> f64 {
    let points: Vec<(f64, f64)> = memory.iter().copied().filter(|(at, _)| *at >= from_s).collect();
    let (Some((start, _)), Some((end, _))) = (points.first(), points.last()) else {
        return f64::NAN;
    };
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (middle, level) = (mean(|point| point.0), mean(|point| point.1));
    let both: f64 = points.iter().map(|(at, mb)| (at - middle) * (mb - level)).sum();
    let square: f64 = points.iter().map(|(at, _)| (at - middle).powi(2)).sum();
    both / square * (end - start)
}

/// What a mixed load has done.
struct Changes {
    rows: u64,
    records: u64,
}

/// A mixed load at work.
struct Mix(JoinHandle<anyhow::Result<Changes>>);

impl Mix {
    fn start(db: Db, rows_per_s: u64, seconds: u64) -> anyhow::Result<Self> {
        let tenth = rows_per_s / TICKS_PER_S / 10;
        ensure!(tenth > 0, "--soak-rows-per-s: at least {}", TICKS_PER_S * 10);
        let began = Instant::now();
        Ok(Self(std::thread::spawn(move || {
            let ticks = seconds * TICKS_PER_S;
            for tick in 0..ticks {
                let at = began + Duration::from_micros(tick * 1_000_000 / TICKS_PER_S);
                std::thread::sleep(at.saturating_duration_since(Instant::now()));
                db.exec(&mixed(tick, tenth))?;
            }
            Ok(Changes {
                rows: ticks * tenth * 10,
                // A delete has a tombstone.
                records: ticks * tenth * 11,
            })
        })))
    }

    fn wait(self) -> anyhow::Result<Changes> {
        self.0.join().map_err(|_| anyhow::anyhow!("the load panicked"))?
    }
}

/// One transaction: the oldest rows go, those in the middle change, new ones come. Rows come faster than they are changed and
/// are changed faster than they go, so the three never meet.
fn mixed(tick: u64, tenth: u64) -> String {
    let range = |before: u64, count: u64| {
        let first = before + tick * count + 1;
        (first, first + count - 1)
    };
    let (gone, gone_last) = range(0, tenth);
    let (changed, changed_last) = range(FIRST_ROWS / 2, 4 * tenth);
    let (new, new_last) = range(FIRST_ROWS, 5 * tenth);
    format!(
        "DELETE FROM {TABLE} WHERE id BETWEEN {gone} AND {gone_last};
         UPDATE {TABLE} SET {} WHERE id BETWEEN {changed} AND {changed_last};
         INSERT INTO {TABLE} SELECT {} FROM generate_series({new}::int8, {new_last}) i",
        work::UPDATE,
        work::ROW
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_through_memory_tells_by_how_much_it_rises() {
        let rising: Vec<(f64, f64)> = (0..100).map(|at| (f64::from(at), 50.0 + f64::from(at) * 0.1)).collect();
        assert!((rise(&rising, 0.0) - 9.9).abs() < 1e-6);
        let settled: Vec<(f64, f64)> = (0..100).map(|at| (f64::from(at), f64::from(at).min(20.0))).collect();
        assert!(rise(&settled, 30.0).abs() < 1e-6);
        assert!(rise(&[], 0.0).is_nan());
    }

    #[test]
    fn a_mixed_load_goes_on_where_it_was() {
        let (first, second) = (mixed(0, 5), mixed(1, 5));
        assert!(first.contains("id BETWEEN 1 AND 5;") && second.contains("id BETWEEN 6 AND 10;"));
        assert!(first.contains("id BETWEEN 5001 AND 5020;") && second.contains("id BETWEEN 5021 AND 5040;"));
        assert!(first.contains("generate_series(10001::int8, 10025)"));
        assert!(second.contains("generate_series(10026::int8, 10050)"));
    }
}
