//! One database: blocking, every value as PostgreSQL's text, which is what a test wants to compare.

use anyhow::Context as _;
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// A connection.
pub struct Db {
    runtime: Runtime,
    client: Client,
}

impl Db {
    /// Connects.
    pub fn connect(dsn: &str) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (client, connection) = runtime
            .block_on(tokio_postgres::connect(dsn, NoTls))
            .with_context(|| format!("cannot connect to {dsn}; is the stack up? deploy/stack.sh status"))?;
        runtime.spawn(async move {
            // Its end is seen by the client's next call.
            let _ = connection.await;
        });
        Ok(Self { runtime, client })
    }

    /// Executes statements; several of them, without BEGIN, are one transaction.
    pub fn exec(&self, sql: &str) -> anyhow::Result<()> {
        self.runtime
            .block_on(self.client.batch_execute(sql))
            .with_context(|| format!("in: {sql}"))
    }

    /// The rows of a query; NULL is none.
    pub fn rows(&self, sql: &str) -> anyhow::Result<Vec<Vec<Option<String>>>> {
        let messages = self
            .runtime
            .block_on(self.client.simple_query(sql))
            .with_context(|| format!("in: {sql}"))?;
        Ok(messages
            .into_iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => {
                    Some((0..row.len()).map(|index| row.get(index).map(str::to_owned)).collect())
                }
                _ => None,
            })
            .collect())
    }

    /// The rows as `psql -At` shows them: `a|b`, one line a row, NULL as `-`.
    pub fn text(&self, sql: &str) -> anyhow::Result<String> {
        let line = |row: Vec<Option<String>>| {
            row.into_iter()
                .map(|cell| cell.unwrap_or_else(|| "-".to_owned()))
                .collect::<Vec<_>>()
                .join("|")
        };
        Ok(self.rows(sql)?.into_iter().map(line).collect::<Vec<_>>().join("\n"))
    }

    /// The one number that a query gives.
    pub fn number(&self, sql: &str) -> anyhow::Result<i64> {
        let text = self.text(sql)?;
        text.parse()
            .with_context(|| format!("{text:?} is no number; in: {sql}"))
    }

    /// Up to where the log is written: every commit so far ends at or before it.
    pub fn lsn(&self) -> anyhow::Result<u64> {
        let text = self.text("SELECT (pg_current_wal_lsn() - '0/0')::text")?;
        Ok(text.parse()?)
    }
}
