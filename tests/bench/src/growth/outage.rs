//! A part of the system stands still (SIGSTOP: it keeps its connections and answers nothing) in the middle of the work, and
//! goes on: memory stays within its bound, nothing is lost or doubled, and what was missed is caught up with at the old rate.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use syncline_tests::Db;

use crate::bed::{Bed, server_pid};
use crate::capture::{RUN_MAX, await_end, content, exactly, now_ms, rate, task};
use crate::contender::{Contender, SLOT, Task};
use crate::machine::{Frozen, Parties};
use crate::result::Run;
use crate::session::Session;
use crate::sink::{Filled, Order};
use crate::work::{USUAL, Written};
use crate::{slot, topic};

/// As they are named.
const BROKER: &str = "growth/broker_stopped";
const SINK: &str = "growth/sink_paused";
/// It comes when this part of the work is done.
const COMES_AT: f64 = 0.3;
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// What happens to a run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Course {
    Undisturbed,
    Interrupted,
}

const COURSES: [Course; 2] = [Course::Undisturbed, Course::Interrupted];

impl fmt::Display for Course {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Course::Undisturbed => "undisturbed",
            Course::Interrupted => "syncline",
        })
    }
}

/// The broker does not answer for a while, and capture has a backlog.
pub fn broker_stopped(session: &Session<'_>) -> anyhow::Result<()> {
    if !session.plan.wants(BROKER) {
        return Ok(());
    }
    session.case(BROKER, || {
        let db = session.bed.source_db()?;
        let written = USUAL.write(&db, session.plan.rows)?;
        session.in_turn(BROKER, &COURSES, |course| {
            slot::copy(&db, &written.slot, SLOT)?;
            let task = task(BROKER, Contender::ExactlyOnce, &written, 1);
            let outage = (*course == Course::Interrupted).then(|| outage(session));
            let run = task.in_topics(session.bed, || capture(session.bed, &db, &task, &written, outage))?;
            slot::drop(&db, SLOT)?;
            Ok(run)
        })?;
        written.forget(&db)
    })
}

fn outage(session: &Session<'_>) -> Duration {
    Duration::from_secs(session.plan.outage_seconds)
}

fn capture(bed: &Bed, db: &Db, task: &Task, written: &Written, outage: Option<Duration>) -> anyhow::Result<Run> {
    let mut running = Contender::ExactlyOnce.capture(bed, task)?;
    let parties = Parties {
        contender: vec![running.pid()?],
        postgres: server_pid(db)?,
        broker: Some(bed.broker),
    };
    let (before, consumer, topics) = (parties.read()?, topic::reader(&bed.stack)?, task.topics());
    let rows = topics.first().context("a table")?;
    let deadline = Instant::now() + RUN_MAX;
    while topic::end(&consumer, rows, 0)?.is_none_or(|end| (end as f64) < written.records as f64 * COMES_AT) {
        running.check()?;
        ensure!(
            Instant::now() < deadline,
            "no {COMES_AT} of it within {} s",
            RUN_MAX.as_secs()
        );
        std::thread::sleep(LOOK_EVERY);
    }
    if let Some(outage) = outage {
        let _frozen = Frozen::new(bed.broker)?;
        std::thread::sleep(outage);
    }
    let resumed_ms = now_ms()?;
    await_end(&consumer, task, &mut running)?;
    let spent = parties.since(&before)?;
    let peak_rss_mb = parties.peak_rss_mb();
    running.stop()?;
    let content = content(bed, task, written)?;
    exactly(&content, written)?;
    // From the first record that came then, so that the pause itself is not counted; how long it took to come is.
    let after = content.since(resumed_ms);
    let first_ms = after.first().copied().context("nothing came after the outage")?;
    let per_s = rate(u64::try_from(after.len())?, first_ms, content.last_ms());
    let run = Run {
        rows: written.rows,
        rows_per_s: per_s,
        rows_per_s_warm: per_s,
        peak_rss_mb,
        ..Run::default()
    };
    Ok(run
        .spent(&spent)
        .figure("resumed_s", (first_ms - resumed_ms) as f64 / 1e3)
        .figure("rows_after", after.len() as f64))
}

/// The sink stands still for a while, and the topic has a backlog.
pub fn sink_paused(session: &Session<'_>) -> anyhow::Result<()> {
    if !session.plan.wants(SINK) {
        return Ok(());
    }
    session.case(SINK, || {
        let filled = Filled::make(session, Order::Key, 1)?;
        session.in_turn(SINK, &COURSES, |course| {
            let outage = (*course == Course::Interrupted).then(|| outage(session));
            filled.written_by(session, false, |db| paused(session, db, &filled, outage))
        })?;
        filled.forget(session)
    })
}

fn paused(session: &Session<'_>, db: &Db, filled: &Filled, outage: Option<Duration>) -> anyhow::Result<Run> {
    let rows = session.plan.rows;
    let (mut resumed, mut ended) = (None, Instant::now());
    let run = filled.apply_with(session, db, Contender::ExactlyOnce, 1, |there, running| {
        ended = Instant::now();
        if resumed.is_none() && there as f64 >= rows as f64 * COMES_AT {
            if let Some(outage) = outage {
                let _frozen = Frozen::new(running.pid()?)?;
                std::thread::sleep(outage);
            }
            resumed = Some((Instant::now(), there));
        }
        Ok(())
    })?;
    let (resumed, there) = resumed.context("a moment of the pause")?;
    // The server tells how many rows are written up to a second late, which is the same for both courses.
    let per_s = rows.saturating_sub(there) as f64 / (ended - resumed).as_secs_f64().max(1e-3);
    Ok(Run {
        rows_per_s: per_s,
        rows_per_s_warm: per_s,
        ..run
    }
    .figure("rows_after", rows.saturating_sub(there) as f64))
}
