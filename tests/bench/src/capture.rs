//! From the log to Kafka, as fast as it goes: a backlog is read, and a table.
//!
//! The limits beside it: `pg_recvlogical`, which reads the same log and throws it away, and `COPY` of the same table to
//! nowhere.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use syncline_tests::Db;

use crate::Plan;
use crate::bed::{Bed, server_pid};
use crate::contender::{Contender, SLOT, Task};
use crate::machine::{self, Parties};
use crate::result::{Results, Run};
use crate::topic::{self, Content};
use crate::work::{self, MARKER, PUBLICATION, TABLE, Work};

const RUN_MAX: Duration = Duration::from_secs(900);
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// Runs that may be repeated because others were at work.
const REPEATS_MAX: usize = 2;

/// Runs all that are asked for.
pub fn cases(bed: &Bed, plan: &Plan, results: &Results) -> anyhow::Result<()> {
    for work in work::ALL {
        let case = format!("capture/{}", work.name);
        if plan.wants(&case) {
            let end = work.write(&bed.source_db()?, plan.rows)?;
            in_turn(plan, results, &contenders(plan), |who, number| match who {
                Some(who) => catch_up(bed, plan, &case, &work, *who, number),
                None => receive(bed, plan, &case, &work, &end, number),
            })?;
        }
    }
    if plan.wants("snapshot") {
        let db = bed.source_db()?;
        db.exec(&format!("TRUNCATE {TABLE}"))?;
        db.exec(&work::fill(plan.rows))?;
        db.exec(&format!("VACUUM FREEZE ANALYZE {TABLE}"))?;
        in_turn(plan, results, &contenders(plan), |who, number| match who {
            Some(who) => snapshot(bed, plan, *who, number),
            None => copy(bed, plan, number),
        })?;
    }
    Ok(())
}

/// The limit, ours, and the peer if it is asked for.
fn contenders(plan: &Plan) -> Vec<Option<Contender>> {
    let mut all = vec![None, Some(Contender::ExactlyOnce)];
    all.extend(plan.peer.then_some(Some(Contender::Debezium)));
    all
}

/// All contenders in turn, warming up first; a disturbed run is repeated now and then.
pub fn in_turn<T>(
    plan: &Plan,
    results: &Results,
    contenders: &[T],
    mut run: impl FnMut(&T, i64) -> anyhow::Result<Run>,
) -> anyhow::Result<()> {
    let warm_up = i64::try_from(plan.warm_up)?;
    for number in -warm_up..i64::try_from(plan.runs)? {
        for who in contenders {
            for _ in 0..=REPEATS_MAX {
                machine::wait_until_quiet()?;
                let done = results.add(run(who, number)?)?;
                if done.is_undisturbed() || !done.counts() {
                    break;
                }
            }
        }
    }
    Ok(())
}

fn drop_slot(db: &Db) -> anyhow::Result<()> {
    db.text(&format!(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{SLOT}'"
    ))
    .map(|_| ())
}

fn copy_slot(db: &Db, work: &Work) -> anyhow::Result<()> {
    drop_slot(db)?;
    db.text(&format!(
        "SELECT pg_copy_logical_replication_slot('{}', '{SLOT}', false)",
        work.slot()
    ))
    .map(|_| ())
}

/// Names of pipelines and slots may not be longer.
const PREFIX_CHARS_MAX: usize = 40;

/// A prefix that no other run has.
pub fn prefix(case: &str, who: Contender, number: i64) -> String {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let made = MADE.fetch_add(1, Ordering::Relaxed);
    let unique = format!("b{}x{made}", std::process::id());
    let words = [&unique, case, who.name(), &number.to_string()].join("_");
    let plain = words.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' });
    plain.take(PREFIX_CHARS_MAX).collect()
}

fn catch_up(bed: &Bed, plan: &Plan, case: &str, work: &Work, who: Contender, number: i64) -> anyhow::Result<Run> {
    let db = bed.source_db()?;
    copy_slot(&db, work)?;
    let task = Task::log(&prefix(case, who, number));
    let run = to_kafka(bed, &db, &task, who, work.records(plan.rows), plan.rows)?;
    drop_slot(&db)?;
    Ok(Run {
        case: case.to_owned(),
        number,
        ..run
    })
}

fn snapshot(bed: &Bed, plan: &Plan, who: Contender, number: i64) -> anyhow::Result<Run> {
    let db = bed.source_db()?;
    drop_slot(&db)?;
    let task = Task {
        snapshot: true,
        ..Task::log(&prefix("snapshot", who, number))
    };
    let run = to_kafka(bed, &db, &task, who, plan.rows, plan.rows)?;
    drop_slot(&db)?;
    Ok(Run {
        case: "snapshot".to_owned(),
        number,
        ..run
    })
}

/// Lets a contender publish everything; its topics are counted and gone afterwards.
fn to_kafka(bed: &Bed, db: &Db, task: &Task, who: Contender, records: u64, rows: u64) -> anyhow::Result<Run> {
    topic::make(&bed.stack, &task.topics())?;
    let started = std::time::SystemTime::now();
    let mut running = who.capture(bed, task)?;
    let parties = Parties {
        contender: running.pid()?,
        postgres: server_pid(db)?,
        broker: Some(bed.broker),
    };
    let before = parties.read()?;
    let consumer = topic::reader(&bed.stack)?;
    let (marker, deadline) = (format!("{}.public.{MARKER}", task.prefix), Instant::now() + RUN_MAX);
    while !topic::has_any(&consumer, &marker)? {
        running.check()?;
        ensure!(
            Instant::now() < deadline,
            "{} took more than {} s",
            who.name(),
            RUN_MAX.as_secs()
        );
        std::thread::sleep(LOOK_EVERY);
    }
    let spent = parties.since(&before)?;
    let peak_rss_mb = machine::peak_rss_mb(parties.contender);
    running.stop()?;
    let content = topic::content(&bed.stack, &task.topics()[0], records)?;
    topic::delete(&bed.stack, &task.prefix)?;
    judge(who, &content, records)?;
    let started_ms = started.duration_since(std::time::UNIX_EPOCH)?.as_secs_f64() * 1e3;
    let run = Run {
        contender: who.name().to_owned(),
        rows,
        rows_per_s: rate(rows, content.first_ms, content.last_ms),
        rows_per_s_warm: rate(rows / 2, content.middle_ms, content.last_ms),
        first_s: (content.first_ms as f64 - started_ms) / 1e3,
        peak_rss_mb,
        ..Run::default()
    };
    Ok(run.spent(&spent))
}

/// Every change once: no work-load changes a row twice.
fn judge(who: Contender, content: &Content, records: u64) -> anyhow::Result<()> {
    if content.records != records || content.repeats != 0 {
        bail!(
            "{}: {} records and {} repeats where {records} and none were expected",
            who.name(),
            content.records,
            content.repeats
        );
    }
    Ok(())
}

fn rate(rows: u64, from_ms: i64, to_ms: i64) -> f64 {
    rows as f64 * 1e3 / ((to_ms - from_ms).max(1) as f64)
}

/// The limit: a program that reads the log and throws it away.
fn receive(bed: &Bed, plan: &Plan, case: &str, work: &Work, end: &str, number: i64) -> anyhow::Result<Run> {
    let db = bed.source_db()?;
    copy_slot(&db, work)?;
    let mut command = Command::new(tool("pg_recvlogical")?);
    command
        .args([
            "-d",
            &bed.source.dsn("postgres"),
            "-S",
            SLOT,
            "--start",
            "-f",
            "/dev/null",
            "--no-loop",
            "-E",
            end,
        ])
        .args([
            "-o",
            "proto_version=1",
            "-o",
            &format!("publication_names={PUBLICATION}"),
        ]);
    let run = alone(&db, command, plan.rows)?;
    drop_slot(&db)?;
    Ok(Run {
        case: case.to_owned(),
        contender: "pg_recvlogical".to_owned(),
        number,
        ..run
    })
}

/// The limit: COPY to nowhere by one reader.
fn copy(bed: &Bed, plan: &Plan, number: i64) -> anyhow::Result<Run> {
    let db = bed.source_db()?;
    let mut command = Command::new(tool("psql")?);
    let copy = format!("COPY {TABLE} TO STDOUT (FORMAT binary)");
    command.args(["-X", "-q", &bed.source.dsn("postgres"), "-c", &copy]);
    let run = alone(&db, command, plan.rows)?;
    Ok(Run {
        case: "snapshot".to_owned(),
        contender: "COPY to nowhere".to_owned(),
        number,
        ..run
    })
}

/// Runs a program to its end. Its time is that of our own reaped children.
fn alone(db: &Db, mut command: Command, rows: u64) -> anyhow::Result<Run> {
    let parties = Parties {
        contender: std::process::id(),
        postgres: server_pid(db)?,
        broker: None,
    };
    let before = parties.read()?;
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
    let status = status.with_context(|| format!("{command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    let spent = parties.since(&before)?;
    let per_s = rows as f64 / spent.wall;
    let run = Run {
        rows,
        rows_per_s: per_s,
        rows_per_s_warm: per_s,
        ..Run::default()
    };
    Ok(run.spent(&spent))
}

/// A program of PostgreSQL's, in `PGBIN` or on the path.
pub fn tool(name: &str) -> anyhow::Result<std::path::PathBuf> {
    match std::env::var_os("PGBIN") {
        Some(directory) => Ok(std::path::Path::new(&directory).join(name)),
        None => Ok(name.into()),
    }
}
