//! From the log to Kafka, as fast as it goes: a backlog is read.
//!
//! The limits beside it, which read the same log and throw it away: `pg_recvlogical`, and a reader of our own that naps.

use std::fmt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use rdkafka::consumer::BaseConsumer;
use syncline_tests::Db;

use crate::bed::{Bed, server_pid};
use crate::contender::{Contender, Running, SLOT, Task};
use crate::machine::Parties;
use crate::result::Run;
use crate::session::Session;
use crate::topic::{self, Content, Repeats};
use crate::work::{self, Change, Written};
use crate::{bare, slot};

/// The longest that a run may take.
pub const RUN_MAX: Duration = Duration::from_secs(900);
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// Names of pipelines and slots may not be longer.
const PREFIX_CHARS_MAX: usize = 40;

/// Who reads the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// PostgreSQL's own, to nowhere.
    Recvlogical,
    /// The bare reader that naps, to nowhere.
    Bare,
    /// Into Kafka.
    Program(Contender),
}

impl fmt::Display for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reader::Recvlogical => f.write_str("pg_recvlogical"),
            Reader::Bare => f.write_str("bare reader"),
            Reader::Program(who) => fmt::Display::fmt(who, f),
        }
    }
}

/// Runs all that are asked for. Inserts in transactions of all sizes are a growth case as well.
pub fn cases(session: &Session<'_>) -> anyhow::Result<()> {
    for work in work::ALL {
        let case = format!("capture/{}", work.name);
        let grows = work.change == Change::Insert && session.plan.wants("growth/transaction");
        if session.plan.wants(&case) || grows {
            session.case(&case, || {
                let db = session.bed.source_db()?;
                let written = work.write(&db, session.plan.rows)?;
                let programs = match work.name {
                    "insert_100" => Contender::all_and_defaults(session.plan),
                    _ => Contender::all(session.plan),
                };
                let mut readers = vec![Reader::Recvlogical, Reader::Bare];
                readers.extend(programs.into_iter().map(Reader::Program));
                read_in_turn(session, &case, &readers, &written, 1, |run| run)?;
                written.forget(&db)
            })?;
        }
    }
    Ok(())
}

/// All readers in turn on one log that lies ready; `told` adds what a case tells besides.
pub fn read_in_turn(
    session: &Session<'_>,
    case: &str,
    readers: &[Reader],
    written: &Written,
    partitions: i32,
    told: impl Fn(Run) -> Run,
) -> anyhow::Result<()> {
    session.in_turn(case, readers, |reader| {
        let db = session.bed.source_db()?;
        slot::copy(&db, &written.slot, SLOT)?;
        let run = match reader {
            Reader::Recvlogical => receive(session.bed, &db, written),
            Reader::Bare => bare::drain(session.bed, &db, written),
            Reader::Program(who) => {
                let task = task(case, *who, written, partitions);
                to_kafka(session.bed, &db, &task, *who, written)
            }
        }?;
        slot::drop(&db, SLOT)?;
        Ok(told(run))
    })
}

/// A task on a log that lies ready, under a name of its own.
pub fn task(case: &str, who: Contender, written: &Written, partitions: i32) -> Task {
    let tables: Vec<&str> = written.tables.iter().map(String::as_str).collect();
    Task {
        partitions,
        ..Task::of(&prefix(case, &who.to_string()), &written.publication, &tables)
    }
}

/// A prefix that no other run has.
pub fn prefix(case: &str, who: &str) -> String {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let made = MADE.fetch_add(1, Ordering::Relaxed);
    let unique = format!("b{}x{made}", std::process::id());
    let words = [&unique, case, who].join("_");
    let plain = words.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' });
    plain.take(PREFIX_CHARS_MAX).collect()
}

/// Lets a contender publish everything, and counts it.
pub fn to_kafka(bed: &Bed, db: &Db, task: &Task, who: Contender, written: &Written) -> anyhow::Result<Run> {
    task.in_topics(bed, || published(bed, db, task, who, written))
}

fn published(bed: &Bed, db: &Db, task: &Task, who: Contender, written: &Written) -> anyhow::Result<Run> {
    let started_ms = now_ms()?;
    let mut running = who.capture(bed, task)?;
    let parties = Parties {
        contender: vec![running.pid()?],
        postgres: server_pid(db)?,
        broker: Some(bed.broker),
    };
    let before = parties.read()?;
    let consumer = topic::reader(&bed.stack)?;
    if task.snapshot_readers.is_some() {
        // Several connections read several tables at once, so the end of one says nothing; what was changed after the
        // database snapshot comes after it.
        await_any(&consumer, task, &task.topics()[0], &mut running)?;
        work::mark(db)?;
    }
    await_end(&consumer, task, &mut running)?;
    let spent = parties.since(&before)?;
    let peak_rss_mb = parties.peak_rss_mb();
    let settings = running.settings()?;
    running.stop()?;
    let content = content(bed, task, written)?;
    exactly(&content, written)?;
    let run = Run {
        rows: written.rows,
        rows_per_s: rate(written.rows, content.first_ms(), content.last_ms()),
        rows_per_s_warm: rate(written.rows / 2, content.middle_ms(), content.last_ms()),
        first_s: (content.first_ms() - started_ms) as f64 / 1e3,
        peak_rss_mb,
        settings,
        ..Run::default()
    };
    Ok(run.spent(&spent))
}

/// Waits until the row that ends the work-load is in Kafka.
pub fn await_end(consumer: &BaseConsumer, task: &Task, running: &mut Running) -> anyhow::Result<()> {
    let topics = task.topics();
    await_any(
        consumer,
        task,
        topics.last().context("a table with the marker")?,
        running,
    )
}

/// Waits until there is a record in a topic.
pub fn await_any(consumer: &BaseConsumer, task: &Task, topic: &str, running: &mut Running) -> anyhow::Result<()> {
    let deadline = Instant::now() + RUN_MAX;
    while !topic::has_any(consumer, topic, task.partitions)? {
        running.check()?;
        ensure!(
            Instant::now() < deadline,
            "nothing has come to {topic} within {} s",
            RUN_MAX.as_secs()
        );
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

/// What is in the topics of the work-load, without the marker's.
pub fn content(bed: &Bed, task: &Task, written: &Written) -> anyhow::Result<Content> {
    let mut topics = task.topics();
    topics.truncate(written.tables.len().saturating_sub(1));
    topic::content(&bed.stack, &topics, task.partitions, Repeats::Counted)
}

/// Every change once: no work-load changes a row twice.
pub fn exactly(content: &Content, written: &Written) -> anyhow::Result<()> {
    ensure!(
        content.records == written.records && content.repeats == 0,
        "{} records and {} repeats where {} and none were expected",
        content.records,
        content.repeats,
        written.records
    );
    Ok(())
}

/// Rows a second between two moments.
pub fn rate(rows: u64, from_ms: i64, to_ms: i64) -> f64 {
    rows as f64 * 1e3 / ((to_ms - from_ms).max(1) as f64)
}

/// Milliseconds since 1970, by the clock that the broker has too.
pub fn now_ms() -> anyhow::Result<i64> {
    Ok(i64::try_from(
        SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis(),
    )?)
}

/// The limit: a program that reads the log and throws it away.
fn receive(bed: &Bed, db: &Db, written: &Written) -> anyhow::Result<Run> {
    let mut command = Command::new(tool("pg_recvlogical")?);
    let publication = format!("publication_names={}", written.publication);
    command
        .args(["-d", &bed.source.dsn("postgres"), "-S", SLOT, "--start"])
        .args(["-f", "/dev/null", "--no-loop", "-E", &written.end])
        .args(["-o", "proto_version=1", "-o", &publication]);
    alone(db, vec![command], written.rows)
}

/// Runs programs to their ends, at once. Their time is that of our own reaped children.
pub fn alone(db: &Db, commands: Vec<Command>, rows: u64) -> anyhow::Result<Run> {
    let parties = Parties {
        contender: vec![std::process::id()],
        postgres: server_pid(db)?,
        broker: None,
    };
    let before = parties.read()?;
    let mut children = Children::default();
    for mut command in commands {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        children.0.push(child.with_context(|| format!("{command:?}"))?);
    }
    children.wait()?;
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

/// Programs at work. Those that are still there when this is dropped are killed.
#[derive(Default)]
struct Children(Vec<std::process::Child>);

impl Children {
    fn wait(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + RUN_MAX;
        for child in &mut self.0 {
            let status = loop {
                if let Some(status) = child.try_wait()? {
                    break status;
                }
                ensure!(
                    Instant::now() < deadline,
                    "it did not end within {} s",
                    RUN_MAX.as_secs()
                );
                std::thread::sleep(Duration::from_millis(1));
            };
            ensure!(status.success(), "it ended with {status}");
        }
        Ok(())
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // One that has ended cannot be killed, and that is as well.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A program of PostgreSQL's, in `PGBIN` or on the path.
pub fn tool(name: &str) -> anyhow::Result<std::path::PathBuf> {
    match std::env::var_os("PGBIN") {
        Some(directory) => Ok(std::path::Path::new(&directory).join(name)),
        None => Ok(name.into()),
    }
}
