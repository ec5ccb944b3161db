//! From Kafka into a table: rows that are new, and rows that are all there, in the order of the key and in no order.
//!
//! The topic is filled once, by our capture; every run reads it under a name of its own, into a table made anew. The limits
//! are in `raw.rs`.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::ensure;
use syncline_tests::Db;

use crate::bed::server_pid;
use crate::capture::{RUN_MAX, prefix};
use crate::contender::{Contender, Running, SLOT, Task};
use crate::machine::Parties;
use crate::raw::{self, Method};
use crate::result::Run;
use crate::session::Session;
use crate::work::{self, COLUMNS, TABLE};
use crate::{slot, topic};

const LOOK_EVERY: Duration = Duration::from_millis(100);

/// In which order rows lie in the topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// By key.
    Key,
    /// By nothing.
    Random,
}

impl Order {
    /// As SQL, of the column `id`.
    fn sql(self) -> &'static str {
        match self {
            Order::Key => "id",
            Order::Random => "hashint8extended(id, 7)",
        }
    }
}

/// Who writes.
enum Writer {
    Raw(Method),
    Program(Contender),
}

impl fmt::Display for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Writer::Raw(Method::Merge) => f.write_str("COPY and merge"),
            Writer::Raw(Method::Copy) => f.write_str("COPY"),
            Writer::Program(who) => fmt::Display::fmt(who, f),
        }
    }
}

/// A case: its name, the order of the topic, whether the rows are there.
const CASES: [(&str, Order, bool); 3] = [
    ("sink/new_keys", Order::Key, false),
    ("sink/existing_keys", Order::Key, true),
    ("sink/existing_random", Order::Random, true),
];

/// Runs all that are asked for.
pub fn cases(session: &Session<'_>) -> anyhow::Result<()> {
    for order in [Order::Key, Order::Random] {
        let wanted = |(case, of, _): &&(&str, Order, bool)| *of == order && session.plan.wants(case);
        let wanted: Vec<_> = CASES.iter().filter(wanted).collect();
        if wanted.is_empty() {
            continue;
        }
        session.case("sink", || {
            let filled = Filled::make(session, order, 1)?;
            let lines = raw::lines(session.bed, order.sql())?;
            for (case, _, existing) in wanted {
                session.in_turn(case, &writers(session, *existing), |writer| {
                    filled.written_by(session, *existing, |db| match writer {
                        Writer::Program(who) => filled.apply(session, db, *who, 1),
                        Writer::Raw(method) => raw::write(session.bed, db, &lines, *method),
                    })
                })?;
            }
            filled.forget(session)
        })?;
    }
    Ok(())
}

fn writers(session: &Session<'_>, existing: bool) -> Vec<Writer> {
    let mut writers = vec![Writer::Raw(Method::Merge)];
    if !existing {
        writers.push(Writer::Raw(Method::Copy));
    }
    let programs = match existing {
        false => Contender::all_and_defaults(session.plan),
        true => Contender::all(session.plan),
    };
    writers.extend(programs.into_iter().map(Writer::Program));
    writers
}

/// A topic with all rows of the table, as our capture writes them.
pub struct Filled {
    task: Task,
    /// What a target must hold in the end.
    truth: String,
}

impl Filled {
    /// Fills it.
    pub fn make(session: &Session<'_>, order: Order, partitions: i32) -> anyhow::Result<Self> {
        let (bed, db) = (session.bed, session.bed.source_db()?);
        db.exec(&format!(
            "ALTER TABLE {TABLE} REPLICA IDENTITY DEFAULT; TRUNCATE {TABLE}"
        ))?;
        let task = Task {
            partitions,
            ..Task::log(&prefix("fill", "syncline"))
        };
        topic::make(&bed.stack, &task.topics(), partitions)?;
        slot::make(&db, SLOT)?;
        db.exec(&match order {
            Order::Key => work::fill(session.plan.rows),
            Order::Random => format!("{} ORDER BY hashint8extended(i, 7)", work::fill(session.plan.rows)),
        })?;
        work::mark(&db)?;
        let mut running = Contender::ExactlyOnce.capture(bed, &task)?;
        crate::capture::await_end(&topic::reader(&bed.stack)?, &task, &mut running)?;
        running.stop()?;
        slot::drop(&db, SLOT)?;
        Ok(Self {
            task,
            truth: digest(&db)?,
        })
    }

    /// Deletes it.
    pub fn forget(self, session: &Session<'_>) -> anyhow::Result<()> {
        topic::delete(&session.bed.stack, &self.task.prefix)
    }

    /// A run into a table made anew, which must hold the truth in the end.
    pub fn written_by(
        &self,
        session: &Session<'_>,
        existing: bool,
        write: impl FnOnce(&Db) -> anyhow::Result<Run>,
    ) -> anyhow::Result<Run> {
        let db = session.bed.target_db()?;
        empty(&db, session.plan.rows, existing)?;
        let run = write(&db)?;
        let arrived = digest(&db)?;
        let truth = &self.truth;
        ensure!(arrived == *truth, "the target has {arrived}, the source {truth}");
        Ok(run)
    }

    /// Lets a contender write all, by so many instances.
    pub fn apply(&self, session: &Session<'_>, db: &Db, who: Contender, instances: u32) -> anyhow::Result<Run> {
        self.apply_with(session, db, who, instances, |_, _| Ok(()))
    }

    /// The same; `at_look` is told at every look how many rows are written.
    pub fn apply_with(
        &self,
        session: &Session<'_>,
        db: &Db,
        who: Contender,
        instances: u32,
        mut at_look: impl FnMut(u64, &Running) -> anyhow::Result<()>,
    ) -> anyhow::Result<Run> {
        let rows = session.plan.rows;
        // Each run is a pipeline of its own, which has read nothing yet, on the same topics.
        let began = db
            .text("SELECT extract(epoch FROM clock_timestamp())")?
            .parse::<f64>()?;
        let first_xid = db.text("SELECT pg_current_xact_id()")?;
        let name = prefix("sink", &who.to_string());
        let sinks = (0..instances).map(|instance| who.sink(session.bed, &self.task, &name, &instance.to_string()));
        let mut running = sinks.collect::<anyhow::Result<Vec<_>>>()?;
        let parties = Parties {
            contender: running.iter().map(Running::pid).collect::<anyhow::Result<_>>()?,
            postgres: server_pid(db)?,
            broker: Some(session.bed.broker),
        };
        let settings = running[0].settings()?;
        let (before, deadline) = (parties.read()?, Instant::now() + RUN_MAX);
        loop {
            let there = written(db)?;
            at_look(there, &running[0])?;
            if there >= rows {
                break;
            }
            running.iter_mut().try_for_each(Running::check)?;
            ensure!(
                Instant::now() < deadline,
                "{there} of {rows} rows within {} s",
                RUN_MAX.as_secs()
            );
            std::thread::sleep(LOOK_EVERY);
        }
        let spent = parties.since(&before)?;
        let peak_rss_mb = parties.peak_rss_mb();
        running.into_iter().try_for_each(Running::stop)?;
        topic::delete(&session.bed.stack, &name)?;
        let [first, middle, last] = commits(db, &first_xid)?;
        let run = Run {
            rows,
            rows_per_s: rows as f64 / (last - first).max(1e-3),
            rows_per_s_warm: rows as f64 / 2.0 / (last - middle).max(1e-3),
            first_s: first - began,
            peak_rss_mb,
            settings,
            ..Run::default()
        };
        Ok(run.spent(&spent))
    }
}

/// When the first, the middle and the last row were committed, seconds since 1970.
fn commits(db: &Db, first_xid: &str) -> anyhow::Result<[f64; 3]> {
    let times = db.text(&format!(
        "SELECT extract(epoch FROM min(t)), extract(epoch FROM percentile_disc(0.5) WITHIN GROUP (ORDER BY t)), extract(epoch FROM max(t))
           FROM (SELECT pg_xact_commit_timestamp(xmin) t FROM {TABLE} WHERE age(xmin) < age(('{first_xid}'::xid8)::xid)) q"
    ))?;
    let times: Vec<f64> = times.split('|').map(str::parse).collect::<Result<_, _>>()?;
    let [first, middle, last] = times[..] else {
        anyhow::bail!("three times of commits")
    };
    Ok([first, middle, last])
}

/// Count and content of the table; a copy of ours has the positions of its rows besides.
fn digest(db: &Db) -> anyhow::Result<String> {
    db.text(&format!(
        "SELECT count(*), sum(hashtextextended((to_jsonb(t) - '_syncline_position')::text, 0)) FROM {TABLE} t"
    ))
}

/// The target's table, without rows or with all of them, each a little different.
fn empty(db: &Db, rows: u64, existing: bool) -> anyhow::Result<()> {
    db.exec(&format!("DROP TABLE IF EXISTS {TABLE}; CREATE TABLE {TABLE} {COLUMNS}"))?;
    if existing {
        db.exec(&work::fill(rows))?;
        db.exec(&format!("UPDATE {TABLE} SET note = 'another'"))?;
    }
    db.exec("DROP SCHEMA IF EXISTS syncline CASCADE")?;
    db.exec(&format!("VACUUM FULL ANALYZE {TABLE}"))?;
    db.exec("CHECKPOINT")?;
    db.text("SELECT pg_stat_reset()").map(|_| ())
}

/// Rows written since the statistics were reset.
fn written(db: &Db) -> anyhow::Result<u64> {
    let sql =
        format!("SELECT coalesce(sum(n_tup_ins + n_tup_upd), 0) FROM pg_stat_user_tables WHERE relname = '{TABLE}'");
    Ok(u64::try_from(db.number(&sql)?)?)
}
