//! From Kafka into a table: rows that are new, and rows that are all there.
//!
//! The topic is filled once, by our capture; every run reads it under a name of its own, into a table made anew. The limit is
//! the best raw way that we know: COPY of 10,000 rows into a temporary table and one INSERT .. ON CONFLICT from there.

use std::time::{Duration, Instant};

use anyhow::ensure;
use bytes::Bytes;
use futures_util::SinkExt as _;
use syncline_tests::Db;

use crate::Plan;
use crate::bed::{Bed, server_pid};
use crate::capture::{in_turn, prefix};
use crate::contender::{Contender, SLOT, Task};
use crate::machine::{self, Parties};
use crate::result::{Results, Run};
use crate::topic;
use crate::work::{self, COLUMNS, MARKER, TABLE};

const RUN_MAX: Duration = Duration::from_secs(900);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Rows of a batch of the limit.
const STAGED_ROWS: usize = 10_000;

/// Runs all that are asked for.
pub fn cases(bed: &Bed, plan: &Plan, results: &Results) -> anyhow::Result<()> {
    let cases = [("sink/new_keys", false), ("sink/existing_keys", true)];
    if !cases.iter().any(|(case, _)| plan.wants(case)) {
        return Ok(());
    }
    let filled = fill(bed, plan)?;
    let truth = digest(&bed.source_db()?)?;
    let lines = lines(bed)?;
    let mut contenders = vec![None, Some(Contender::ExactlyOnce)];
    contenders.extend(plan.peer.then_some(Some(Contender::Debezium)));
    for (case, existing) in cases {
        if plan.wants(case) {
            in_turn(plan, results, &contenders, |who, number| {
                let db = bed.target_db()?;
                empty(&db, plan, existing)?;
                let run = match who {
                    Some(who) => apply(bed, &db, plan, *who, &filled)?,
                    None => staged(bed, &db, &lines)?,
                };
                let arrived = digest(&db)?;
                ensure!(arrived == truth, "{case}: the target has {arrived}, the source {truth}");
                Ok(Run {
                    case: case.to_owned(),
                    number,
                    ..run
                })
            })?;
        }
    }
    topic::delete(&bed.stack, &filled.prefix)
}

/// Count and content of the table; a copy of ours has the positions of its rows besides.
fn digest(db: &Db) -> anyhow::Result<String> {
    db.text(&format!(
        "SELECT count(*), sum(hashtextextended((to_jsonb(t) - '_syncline_position')::text, 0)) FROM {TABLE} t"
    ))
}

/// Topics with the rows of the table, as our capture writes them.
fn fill(bed: &Bed, plan: &Plan) -> anyhow::Result<Task> {
    let db = bed.source_db()?;
    db.exec(&format!(
        "ALTER TABLE {TABLE} REPLICA IDENTITY DEFAULT; TRUNCATE {TABLE}"
    ))?;
    let task = Task::log(&prefix("fill", Contender::ExactlyOnce, 0));
    topic::make(&bed.stack, &task.topics())?;
    db.text(&format!(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{SLOT}'"
    ))?;
    db.text(&format!(
        "SELECT pg_create_logical_replication_slot('{SLOT}', 'pgoutput')"
    ))?;
    db.exec(&work::fill(plan.rows))?;
    db.exec(&format!("INSERT INTO {MARKER} SELECT count(*) FROM {MARKER}"))?;
    let mut running = Contender::ExactlyOnce.capture(bed, &task)?;
    let (consumer, marker) = (topic::reader(&bed.stack)?, format!("{}.public.{MARKER}", task.prefix));
    syncline_tests::until("the topic to be filled", RUN_MAX.as_secs(), || {
        running.check()?;
        topic::has_any(&consumer, &marker)
    })?;
    running.stop()?;
    db.text(&format!("SELECT pg_drop_replication_slot('{SLOT}')"))?;
    Ok(task)
}

/// The target's table, without rows or with all of them, each a little different.
fn empty(db: &Db, plan: &Plan, existing: bool) -> anyhow::Result<()> {
    db.exec(&format!("DROP TABLE IF EXISTS {TABLE}; CREATE TABLE {TABLE} {COLUMNS}"))?;
    if existing {
        db.exec(&work::fill(plan.rows))?;
        db.exec(&format!("UPDATE {TABLE} SET note = 'another'"))?;
    }
    db.exec("DROP SCHEMA IF EXISTS syncline CASCADE")?;
    db.exec(&format!("VACUUM FULL ANALYZE {TABLE}"))?;
    db.exec("CHECKPOINT")?;
    db.text("SELECT pg_stat_reset()").map(|_| ())
}

fn written(db: &Db) -> anyhow::Result<u64> {
    let sql =
        format!("SELECT coalesce(sum(n_tup_ins + n_tup_upd), 0) FROM pg_stat_user_tables WHERE relname = '{TABLE}'");
    Ok(u64::try_from(db.number(&sql)?)?)
}

fn apply(bed: &Bed, db: &Db, plan: &Plan, who: Contender, filled: &Task) -> anyhow::Result<Run> {
    let began = db
        .text("SELECT extract(epoch FROM clock_timestamp())")?
        .parse::<f64>()?;
    let first_xid = db.text("SELECT pg_current_xact_id()")?;
    let mut running = who.sink(bed, filled)?;
    let parties = Parties {
        contender: running.pid()?,
        postgres: server_pid(db)?,
        broker: Some(bed.broker),
    };
    let (before, deadline) = (parties.read()?, Instant::now() + RUN_MAX);
    while written(db)? < plan.rows {
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
    let times = db.text(&format!(
        "SELECT extract(epoch FROM min(t)), extract(epoch FROM percentile_disc(0.5) WITHIN GROUP (ORDER BY t)), extract(epoch FROM max(t))
           FROM (SELECT pg_xact_commit_timestamp(xmin) t FROM {TABLE} WHERE age(xmin) < age(('{first_xid}'::xid8)::xid)) q"
    ))?;
    let times: Vec<f64> = times.split('|').map(str::parse).collect::<Result<_, _>>()?;
    let [first, middle, last] = times[..] else {
        anyhow::bail!("three times of commits")
    };
    let run = Run {
        contender: who.name().to_owned(),
        rows: plan.rows,
        rows_per_s: plan.rows as f64 / (last - first).max(1e-3),
        rows_per_s_warm: plan.rows as f64 / 2.0 / (last - middle).max(1e-3),
        first_s: first - began,
        peak_rss_mb,
        ..Run::default()
    };
    Ok(run.spent(&spent))
}

/// The source's rows as lines of COPY, in batches.
fn lines(bed: &Bed) -> anyhow::Result<Vec<Bytes>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let dsn = bed.source.dsn("postgres");
    let text = runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(&dsn, tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        let stream = client
            .copy_out(&format!("COPY (SELECT * FROM {TABLE} ORDER BY id) TO STDOUT"))
            .await?;
        let chunks: Vec<Bytes> = futures_util::TryStreamExt::try_collect(stream).await?;
        anyhow::Ok(chunks.concat())
    })?;
    let all: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    Ok(all
        .chunks(STAGED_ROWS)
        .map(|batch| Bytes::from(batch.concat()))
        .collect())
}

/// The limit: batches in one connection, each a transaction.
fn staged(bed: &Bed, db: &Db, lines: &[Bytes]) -> anyhow::Result<Run> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let rows = lines
        .iter()
        .map(|batch| batch.iter().filter(|byte| **byte == b'\n').count())
        .sum::<usize>();
    let parties = Parties {
        contender: std::process::id(),
        postgres: server_pid(db)?,
        broker: None,
    };
    let (before, merge) = (parties.read()?, merge(db)?);
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(&bed.target.dsn("postgres"), tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        client
            .batch_execute(&format!("CREATE TEMP TABLE stage (LIKE {TABLE})"))
            .await?;
        for batch in lines {
            client.batch_execute("BEGIN; TRUNCATE stage").await?;
            let sink = client.copy_in("COPY stage FROM STDIN").await?;
            let mut sink = std::pin::pin!(sink);
            sink.send(batch.clone()).await?;
            sink.finish().await?;
            client.batch_execute(&merge).await?;
            client.batch_execute("COMMIT").await?;
        }
        anyhow::Ok(())
    })?;
    let spent = parties.since(&before)?;
    let per_s = rows as f64 / spent.wall;
    let run = Run {
        contender: "COPY and merge".to_owned(),
        rows: u64::try_from(rows)?,
        rows_per_s: per_s,
        rows_per_s_warm: per_s,
        ..Run::default()
    };
    Ok(run.spent(&spent))
}

fn merge(db: &Db) -> anyhow::Result<String> {
    let columns = db.text(&format!(
        "SELECT string_agg(attname || ' = excluded.' || attname, ', ') FROM pg_attribute
          WHERE attrelid = '{TABLE}'::regclass AND attnum > 1"
    ))?;
    ensure!(!columns.is_empty(), "a table with columns");
    Ok(format!(
        "INSERT INTO {TABLE} SELECT * FROM stage ON CONFLICT (id) DO UPDATE SET {columns}"
    ))
}
