//! One connection to a target, and what has to be true of it.
//!
//! Every setting that changes how a value is spelt, and every bound on waiting, is set within each transaction (`SET
//! LOCAL`), and every statement is parsed where it is run. So it also works through a pooler that gives each transaction
//! another server connection. Waits are bounded on both sides: the server gives up first, a dead peer is noticed here.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::SinkExt as _;
use syncline_runtime::{Failure, Outcome};
use tokio::task::JoinHandle;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Row};

use super::dsn::Dsn;
use super::failure;
use super::statement::Statement;

const CONNECT_MS_MAX: u64 = 10_000;
const KEEPALIVE_IDLE_MS: u64 = 20_000;
const CLOSE_MS_MAX: u64 = 1_000;
const UNACKNOWLEDGED_MS_MAX: u64 = 30_000;

/// The number is "syncline" in ASCII: no other program takes this lock.
const DEFINITIONS_LOCK: &str = "SELECT pg_advisory_xact_lock(8320803159843368549)";

/// Begins a transaction with everything pinned: bounds on waits, how values are spelt, and that a row which a policy hides
/// is an error: it would be taken for one that the app deleted.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; \
    SET LOCAL lock_timeout = '10s'; \
    SET LOCAL statement_timeout = '60s'; \
    SET LOCAL idle_in_transaction_session_timeout = '60s'; \
    SET LOCAL DateStyle = 'ISO, YMD'; \
    SET LOCAL IntervalStyle = 'postgres'; \
    SET LOCAL TimeZone = 'UTC'; \
    SET LOCAL extra_float_digits = 1; \
    SET LOCAL bytea_output = 'hex'; \
    SET LOCAL row_security = off";

/// A connection.
pub struct Session {
    client: Client,
    connection: JoinHandle<()>,
}

/// A row of texts.
pub type TextRow = Vec<Option<String>>;

impl Session {
    /// Connects; must be called on the runtime that will run the statements.
    pub async fn open(dsn: &Dsn, application: &str) -> Outcome<Self> {
        let mut config = dsn.config.clone();
        config
            .application_name(application)
            .connect_timeout(Duration::from_millis(CONNECT_MS_MAX))
            .keepalives_idle(Duration::from_millis(KEEPALIVE_IDLE_MS))
            .tcp_user_timeout(Duration::from_millis(UNACKNOWLEDGED_MS_MAX));
        let tls = dsn.tls.connector()?;
        let limit = Duration::from_millis(2 * CONNECT_MS_MAX);
        let connecting = tokio::time::timeout(limit, config.connect(tls)).await;
        let connected = connecting.map_err(|_| Failure::transient("TARGET_AWAY", "no answer while connecting"))?;
        let (client, connection) = sorted(connected)?;
        let connection = tokio::spawn(async move {
            // The error reaches whoever waits for a statement.
            let _ = connection.await;
        });
        Ok(Self { client, connection })
    }

    /// Ends the connection, and with it whatever transaction was open. On a runtime that only runs while somebody waits
    /// on it, dropping the client alone would leave the server waiting, its locks held.
    pub async fn close(self) {
        let Self { client, mut connection } = self;
        drop(client);
        if tokio::time::timeout(Duration::from_millis(CLOSE_MS_MAX), &mut connection)
            .await
            .is_err()
        {
            connection.abort();
            // Only cancelled tasks and panics give an error, and both have let go of the socket.
            let _ = connection.await;
        }
    }

    /// Whether the connection is gone.
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Begins a transaction.
    pub async fn begin(&self) -> Outcome<()> {
        sorted(self.client.batch_execute(BEGIN).await)
    }

    /// Waits for its turn to make tables, and has it until the transaction ends. `IF NOT EXISTS` looks first and makes then:
    /// of two that make the same at once, one would fail.
    pub async fn lock_definitions(&self) -> Outcome<()> {
        sorted(self.client.batch_execute(DEFINITIONS_LOCK).await)
    }

    /// Runs fixed SQL without parameters or results: transaction control.
    pub async fn control(&self, sql: &'static str) -> Outcome<()> {
        sorted(self.client.batch_execute(sql).await)
    }

    /// Runs a statement whose results are all texts.
    pub async fn rows(&self, statement: &Statement) -> Outcome<Vec<TextRow>> {
        let rows = sorted(self.client.query_typed(&statement.sql, &parameters(statement)).await)?;
        sorted(rows.iter().map(texts).collect())
    }

    /// Runs a statement and says how many rows it touched.
    pub async fn execute(&self, statement: &Statement) -> Outcome<u64> {
        sorted(self.client.execute_typed(&statement.sql, &parameters(statement)).await)
    }

    /// Runs SQL without parameters, whose names are quoted, and says how many rows it touched.
    pub async fn run(&self, sql: &str) -> Outcome<u64> {
        sorted(self.client.execute_typed(sql, &[]).await)
    }

    /// Runs a COPY that takes these pieces in.
    pub async fn copy(&self, sql: &str, pieces: Vec<Vec<u8>>) -> Outcome<u64> {
        let taking = sorted(self.client.copy_in(sql).await)?;
        let mut taking = pin!(taking);
        for piece in pieces {
            sorted(taking.send(Bytes::from(piece)).await)?;
        }
        sorted(taking.finish().await)
    }

    /// Runs SQL that is no constant: definitions of tables, whose names are quoted.
    pub async fn define(&self, sql: &str) -> Outcome<()> {
        sorted(self.client.batch_execute(sql).await)
    }
}

fn sorted<T>(result: Result<T, Error>) -> Outcome<T> {
    result.map_err(|error| failure::classify(&error))
}

fn texts(row: &Row) -> Result<TextRow, Error> {
    (0..row.len()).map(|at| row.try_get(at)).collect()
}

fn parameters(statement: &Statement) -> Vec<(&(dyn ToSql + Sync), Type)> {
    statement
        .arrays
        .iter()
        .map(|array| (array as &(dyn ToSql + Sync), Type::TEXT_ARRAY))
        .collect()
}
