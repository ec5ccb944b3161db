//! The limits of writing into a table: what a program reaches that has its rows ready as lines of COPY and does nothing else.
//!
//! `COPY and merge`: each batch into a temporary table, and one `INSERT .. SELECT .. ON CONFLICT` from there, in the order of
//! the key. `COPY`: each batch straight into the table, which works for new keys alone. A batch is a transaction, one
//! connection does it all.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use futures_util::{SinkExt as _, TryStreamExt as _};
use syncline_tests::Db;
use tokio_postgres::{Client, NoTls};

use crate::bed::{Bed, server_pid};
use crate::machine::Parties;
use crate::result::Run;
use crate::work::TABLE;

/// Rows of a batch.
pub const BATCH_ROWS: usize = 10_000;
const RUN_MAX: Duration = Duration::from_secs(900);

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// By way of a temporary table.
    Merge,
    /// Straight into the table.
    Copy,
}

/// The source's rows as lines of COPY, in batches. `order` is that of the batches; within each rows go by key.
pub fn lines(bed: &Bed, order: &str) -> anyhow::Result<Vec<Bytes>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let columns = columns(&bed.source_db()?)?;
    let statement = format!(
        "COPY (SELECT {} FROM (SELECT *, (row_number() OVER (ORDER BY {order}) - 1) / {BATCH_ROWS} AS bench_batch FROM {TABLE}) t
                ORDER BY bench_batch, id) TO STDOUT",
        columns.join(", ")
    );
    let dsn = bed.source.dsn("postgres");
    let text = runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(&dsn, NoTls).await?;
        tokio::spawn(connection);
        let chunks: Vec<Bytes> = client.copy_out(&statement).await?.try_collect().await?;
        anyhow::Ok(chunks.concat())
    })?;
    let all: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    let batches = all.chunks(BATCH_ROWS);
    Ok(batches.map(|batch| Bytes::from(batch.concat())).collect())
}

/// Writes all batches into the target.
pub fn write(bed: &Bed, db: &Db, lines: &[Bytes], method: Method) -> anyhow::Result<Run> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let newlines = |batch: &Bytes| batch.iter().filter(|byte| **byte == b'\n').count();
    let rows = lines.iter().map(newlines).sum::<usize>();
    let parties = Parties {
        contender: vec![std::process::id()],
        postgres: server_pid(db)?,
        broker: None,
    };
    let (before, merge) = (parties.read()?, merge(db)?);
    let dsn = bed.target.dsn("postgres");
    runtime
        .block_on(async {
            tokio::time::timeout(RUN_MAX, async {
                let (client, connection) = tokio_postgres::connect(&dsn, NoTls).await?;
                tokio::spawn(connection);
                match method {
                    Method::Copy => copy_all(&client, lines).await,
                    Method::Merge => merge_all(&client, lines, &merge).await,
                }
            })
            .await
        })
        .with_context(|| format!("it took more than {} s", RUN_MAX.as_secs()))??;
    let spent = parties.since(&before)?;
    let per_s = rows as f64 / spent.wall;
    let run = Run {
        rows: u64::try_from(rows)?,
        rows_per_s: per_s,
        rows_per_s_warm: per_s,
        ..Run::default()
    };
    Ok(run.spent(&spent))
}

async fn copy_all(client: &Client, lines: &[Bytes]) -> anyhow::Result<()> {
    for batch in lines {
        copy(client, TABLE, batch).await?;
    }
    Ok(())
}

async fn merge_all(client: &Client, lines: &[Bytes], merge: &str) -> anyhow::Result<()> {
    client
        .batch_execute(&format!("CREATE TEMP TABLE stage (LIKE {TABLE})"))
        .await?;
    for batch in lines {
        client.batch_execute("BEGIN; TRUNCATE stage").await?;
        copy(client, "stage", batch).await?;
        client.batch_execute(merge).await?;
        client.batch_execute("COMMIT").await?;
    }
    Ok(())
}

async fn copy(client: &Client, table: &str, batch: &Bytes) -> anyhow::Result<()> {
    let sink = client.copy_in(&format!("COPY {table} FROM STDIN")).await?;
    let mut sink = std::pin::pin!(sink);
    sink.send(batch.clone()).await?;
    sink.finish().await?;
    Ok(())
}

fn columns(db: &Db) -> anyhow::Result<Vec<String>> {
    let names = db.text(&format!(
        "SELECT attname FROM pg_attribute WHERE attrelid = '{TABLE}'::regclass AND attnum > 0 AND NOT attisdropped
          ORDER BY attnum"
    ))?;
    ensure!(!names.is_empty(), "a table with columns");
    Ok(names.lines().map(str::to_owned).collect())
}

fn merge(db: &Db) -> anyhow::Result<String> {
    let columns = columns(db)?;
    let set: Vec<String> = columns
        .iter()
        .filter(|name| *name != "id")
        .map(|name| format!("{name} = excluded.{name}"))
        .collect();
    Ok(format!(
        "INSERT INTO {TABLE} SELECT * FROM stage ORDER BY id ON CONFLICT (id) DO UPDATE SET {}",
        set.join(", ")
    ))
}
