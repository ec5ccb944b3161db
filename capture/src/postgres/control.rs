//! A connection for ordinary SQL, used from a plain thread.
//!
//! `tokio-postgres` on a current-thread runtime of its own: its connection task runs only while a call of ours waits,
//! which is all that a session without notifications needs. The session pins what `session.rs` pins, and switches row
//! security off, so that a policy on a table is an error and not a silent hole in a snapshot.
//!
//! A connection can die without a word (a firewall that forgot it, a machine that is gone), and then no answer ever
//! comes. So every wait has an end. A query of the catalogue is given a time, after which the server is asked to break it
//! off, or it would go on to wait for its lock, and the next attempt's behind it. A COPY may rightly be silent for long,
//! while the server sorts: a second connection asks whether it is still at work or believes to have sent what we never
//! got. Either way the connection is not used again.

use std::cell::Cell;
use std::time::Duration;

use futures_util::StreamExt as _;
use secrecy::ExposeSecret as _;
use syncline_runtime::failure::{Failure, Outcome};
use syncline_schemas::position::Lsn;
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tokio_postgres::config::{ChannelBinding, SslMode as PgSslMode};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Row};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::postgres::client::current_thread_runtime;
use crate::postgres::dsn::{Address, Binding, Dsn, Host};
use crate::postgres::error::sql_failure;
use crate::postgres::session::{Attempt, PINNED, Session, WITHOUT_ENCODING, numeric};
use crate::postgres::tls;

/// How long the answer to a query may take.
const ANSWER_MS_MAX: u64 = 30_000;
/// How long a COPY may be silent before the server is asked what it is doing.
const COPY_SILENCE_MS_MAX: u64 = 15_000;

/// A connection for SQL.
pub struct Control {
    pub(super) runtime: Runtime,
    pub(super) client: Client,
    dsn: Dsn,
    server_version: u32,
    backend_pid: i32,
    /// The database has no encoding: rows are taken as they are, and judged here.
    unchecked: bool,
    /// An answer never came; another will not come either.
    silent: Cell<bool>,
}

impl Control {
    /// Logs in to the first server that answers.
    pub fn connect(dsn: &Dsn) -> Outcome<Self> {
        let runtime = current_thread_runtime()?;
        let client = runtime.block_on(connect(dsn))?;
        let mut control = Self {
            runtime,
            client,
            dsn: dsn.clone(),
            server_version: 0,
            backend_pid: 0,
            unchecked: false,
            silent: Cell::new(false),
        };
        let row = control.one(
            "SELECT current_setting('server_version_num')::int8, pg_backend_pid(), current_setting('server_encoding')",
            &[],
            "asking for the version",
        )?;
        control.server_version = u32::try_from(row.get::<_, i64>(0)).unwrap_or(0);
        control.backend_pid = row.get(1);
        control.unchecked = row.get::<_, &str>(2) == WITHOUT_ENCODING;
        Ok(control)
    }

    /// As `server_version_num`: 150020.
    pub fn server_version(&self) -> u32 {
        self.server_version
    }

    /// The rows of a query.
    pub fn rows(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)], doing: &str) -> Outcome<Vec<Row>> {
        self.answer(self.client.query(sql, parameters), doing)
    }

    /// The one row of a query.
    pub fn one(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)], doing: &str) -> Outcome<Row> {
        self.answer(self.client.query_one(sql, parameters), doing)
    }

    /// Runs statements that give no rows. Names in them are quoted by `quote.rs`.
    pub fn execute(&self, sql: &str, doing: &str) -> Outcome<()> {
        self.answer(self.client.batch_execute(sql), doing)
    }

    fn answer<T>(&self, asked: impl Future<Output = Result<T, tokio_postgres::Error>>, doing: &str) -> Outcome<T> {
        if self.silent.get() {
            return Err(no_answer(doing));
        }
        self.runtime.block_on(async {
            match timeout(Duration::from_millis(ANSWER_MS_MAX), asked).await {
                Ok(answer) => answer.map_err(|error| sql_failure(&error, doing)),
                Err(_) => {
                    self.silent.set(true);
                    self.break_off().await;
                    Err(no_answer(doing))
                }
            }
        })
    }

    /// Asks the server to break off what this connection is doing; it hears it or it does not.
    async fn break_off(&self) {
        if let Ok(tls) = tls::client_config(&self.dsn) {
            let token = self.client.cancel_token();
            let _ = timeout(
                self.dsn.connect_timeout,
                token.cancel_query(MakeRustlsConnect::new(tls)),
            )
            .await;
        }
    }

    /// The end of the log: what is written (`pg_current_wal_lsn`). What commits from now on lies after it.
    pub fn current_lsn(&self) -> Outcome<Lsn> {
        let row = self.one(
            "SELECT pg_current_wal_lsn()::text",
            &[],
            "asking for the end of the log",
        )?;
        read_lsn(row.get(0))
    }
}

/// An LSN in a row of the catalogue.
pub(super) fn read_lsn(text: &str) -> Outcome<Lsn> {
    text.parse()
        .map_err(|error| Failure::transient("SOURCE_PROTOCOL", error))
}

async fn connect(dsn: &Dsn) -> Outcome<Client> {
    let mut first = None;
    for host in &dsn.hosts {
        for &attempt in dsn.sslmode.attempts() {
            match connect_to(host, attempt, dsn).await {
                Ok(client) => return Ok(client),
                Err(failure) => _ = first.get_or_insert(failure),
            }
        }
    }
    Err(first.unwrap_or_else(|| Failure::definite("BAD_CONNECTION_STRING", "no host is named")))
}

async fn connect_to(host: &Host, attempt: Attempt, dsn: &Dsn) -> Outcome<Client> {
    if attempt != Attempt::Tls && dsn.password.is_some() {
        Session::probe(host, attempt, dsn).await?;
    }
    let tls = MakeRustlsConnect::new(tls::client_config(dsn)?);
    // The client's own bound covers only the socket, not the login.
    let config = config(host, attempt, dsn);
    let connected = timeout(dsn.connect_timeout, config.connect(tls)).await;
    let connected = connected.map_err(|_| no_answer("logging in to the source"))?;
    let (client, mut connection) = connected.map_err(|error| sql_failure(&error, "connecting to the source"))?;
    tokio::spawn(async move {
        // An error of the connection comes back from the call that waits on it.
        let _ = std::future::poll_fn(|context| {
            loop {
                match std::task::ready!(connection.poll_message(context)) {
                    Some(Ok(_notice)) => {}
                    end => return std::task::Poll::Ready(end),
                }
            }
        })
        .await;
    });
    Ok(client)
}

fn config(host: &Host, attempt: Attempt, dsn: &Dsn) -> Config {
    let mut config = Config::new();
    config
        .user(&dsn.user)
        .dbname(&dsn.dbname)
        .port(host.port)
        .connect_timeout(dsn.connect_timeout);
    config.application_name(dsn.application_name.as_deref().unwrap_or("syncline-capture"));
    config.options(options(dsn));
    if let Some(password) = &dsn.password {
        config.password(password.expose_secret());
    }
    match &host.address {
        Address::Unix(directory) => _ = config.host_path(directory),
        Address::Tcp { name, hostaddr } => {
            config.host(name);
            hostaddr
                .as_deref()
                .and_then(numeric)
                .map(|address| config.hostaddr(address));
        }
    }
    config.ssl_mode(match attempt {
        _ if matches!(host.address, Address::Unix(_)) => PgSslMode::Disable,
        Attempt::Plain => PgSslMode::Disable,
        Attempt::TlsIfOffered => PgSslMode::Prefer,
        Attempt::Tls => PgSslMode::Require,
    });
    config.channel_binding(match dsn.channel_binding {
        Binding::Disable => ChannelBinding::Disable,
        Binding::Prefer => ChannelBinding::Prefer,
        Binding::Require => ChannelBinding::Require,
    });
    config
}

/// The pinned settings as the server's command line has them; the last of two wins, so ours come last.
fn options(dsn: &Dsn) -> String {
    let mut options = dsn.options.clone().unwrap_or_default();
    let ours = PINNED
        .iter()
        .filter(|(name, _)| *name != "client_encoding")
        .chain(&[("row_security", "off")]);
    for (name, value) in ours {
        options.push_str(&format!(" -c {name}={}", value.replace(' ', "\\ ")));
    }
    options
}

fn no_answer(doing: &str) -> Failure {
    Failure::transient("SOURCE_SILENT", format!("{doing}: the server does not answer"))
}

/// The stream of a COPY, pulled from a plain thread.
pub(super) struct CopyOut<'a> {
    control: &'a Control,
    stream: std::pin::Pin<Box<tokio_postgres::CopyOutStream>>,
}

impl Control {
    /// Begins `COPY .. TO STDOUT`.
    pub(super) fn copy_out(&self, statement: &str, doing: &str) -> Outcome<CopyOut<'_>> {
        let statement = match self.unchecked {
            true => format!("{statement} (ENCODING '{WITHOUT_ENCODING}')"),
            false => statement.to_owned(),
        };
        let stream = self.answer(self.client.copy_out(statement.as_str()), doing)?;
        Ok(CopyOut {
            control: self,
            stream: Box::pin(stream),
        })
    }

    /// Whether the server still works on what it was asked for, and does not merely believe to send it.
    async fn is_at_work(&self) -> bool {
        let asked = async {
            let other = connect(&self.dsn).await.ok()?;
            let sql = "SELECT state = 'active' AND wait_event_type IS DISTINCT FROM 'Client'
                         FROM pg_stat_activity WHERE pid = $1";
            other.query_opt(sql, &[&self.backend_pid]).await.ok()?
        };
        let answered = timeout(Duration::from_millis(ANSWER_MS_MAX), asked).await;
        // Who may not see it, sees NULL: then it has the benefit of the doubt.
        answered
            .ok()
            .flatten()
            .is_some_and(|row| row.get::<_, Option<bool>>(0).unwrap_or(true))
    }
}

impl CopyOut<'_> {
    /// Hands `take` what arrives until it has enough (`false`) or the copy ends. Whether there may be more.
    pub(super) fn pull(&mut self, doing: &str, mut take: impl FnMut(bytes::Bytes) -> Outcome<bool>) -> Outcome<bool> {
        let Self { control, stream } = self;
        control.runtime.block_on(async {
            loop {
                match timeout(Duration::from_millis(COPY_SILENCE_MS_MAX), stream.next()).await {
                    Ok(None) => return Ok(false),
                    Ok(Some(chunk)) => {
                        if !take(chunk.map_err(|error| sql_failure(&error, doing))?)? {
                            return Ok(true);
                        }
                    }
                    Err(_) if control.is_at_work().await => {}
                    Err(_) => {
                        control.silent.set(true);
                        return Err(no_answer(doing));
                    }
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pinned_settings_come_after_the_users() {
        let dsn = Dsn::parse("user=u options='-c TimeZone=Asia/Tokyo'").unwrap();
        let options = options(&dsn);
        assert!(
            options.find("TimeZone=Asia/Tokyo") < options.find("TimeZone=UTC"),
            "{options}"
        );
        assert!(options.contains(r"DateStyle=ISO,\ MDY"), "{options}");
        assert!(options.contains("row_security=off"), "{options}");
    }
}
