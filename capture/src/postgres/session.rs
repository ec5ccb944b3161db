//! A session with the server: connect, negotiate TLS, log in, and ask simple questions.
//!
//! Ours, because `tokio-postgres` has no replication mode and no CopyBoth. It knows messages, not what they mean.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use fallible_iterator::FallibleIterator as _;
use postgres_protocol::message::backend::{DataRowBody, Message};
use postgres_protocol::message::frontend;
use rustls::pki_types::ServerName;
use syncline_runtime::failure::{Failure, Outcome};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::postgres::auth::{self, Channel};
use crate::postgres::dsn::{Address, Dsn, Host, SslMode};
use crate::postgres::error::ServerError;
use crate::postgres::tls;
use crate::postgres::wire::{Frame, Socket, Wire};

/// What a session must be for values to have one text form, whatever `ALTER DATABASE .. SET` and `ALTER ROLE .. SET`
/// say, and what it must not be interrupted by. A startup parameter outranks both.
pub const PINNED: &[(&str, &str)] = &[
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO, MDY"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("extra_float_digits", "3"),
    ("bytea_output", "hex"),
    ("lc_monetary", "C"),
    ("standard_conforming_strings", "on"),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
];

/// The encoding of a database that has none, and of a client that takes bytes as they are.
pub const WITHOUT_ENCODING: &str = "SQL_ASCII";

/// Limits and the server's patience.
#[derive(Clone, Debug)]
pub struct SessionSettings {
    /// The longest message that is accepted: a row, with its values doubled in size if they are `bytea`.
    pub message_bytes_max: usize,
    /// After how long without an answer the server gives this session, and its hold on the slot, up.
    pub wal_sender_timeout_ms: u64,
    /// In replication mode, in which SQL is understood too (but neither parameters nor pipelines).
    pub replication: bool,
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self {
            message_bytes_max: 1 << 30,
            wal_sender_timeout_ms: 15_000,
            replication: true,
        }
    }
}

/// Ways to begin, in the order in which an `sslmode` tries them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// Without TLS.
    Plain,
    /// With TLS if the server has it.
    TlsIfOffered,
    /// With TLS or not at all.
    Tls,
}

impl SslMode {
    /// What to try.
    pub fn attempts(self) -> &'static [Attempt] {
        match self {
            Self::Disable => &[Attempt::Plain],
            Self::Allow => &[Attempt::Plain, Attempt::Tls],
            Self::Prefer => &[Attempt::TlsIfOffered, Attempt::Plain],
            Self::Require | Self::VerifyCa | Self::VerifyFull => &[Attempt::Tls],
        }
    }
}

/// A session that is logged in.
pub struct Session {
    /// The frames.
    pub wire: Wire,
    /// What the server said of itself (`server_version`, ..).
    pub parameters: BTreeMap<String, String>,
    /// Process and secret, to cancel what it does.
    pub key: Option<(i32, i32)>,
}

impl Session {
    /// Whether the login works and keeps its password, before it is left to a client that would send a password in the
    /// clear if only the server asked for it. In a mode of its own: a role for SQL need not be one for replication.
    pub async fn probe(host: &Host, attempt: Attempt, dsn: &Dsn) -> Outcome<()> {
        let settings = SessionSettings {
            replication: false,
            ..SessionSettings::default()
        };
        match timeout(dsn.connect_timeout, Self::connect_to(host, attempt, dsn, &settings)).await {
            Ok(session) => session.map(|_| ()),
            Err(_) => Err(no_answer(host, dsn.connect_timeout)),
        }
    }

    /// Logs in to the first server that answers, in replication mode.
    pub async fn connect(dsn: &Dsn, settings: &SessionSettings) -> Outcome<Self> {
        let mut first = None;
        for host in &dsn.hosts {
            for &attempt in dsn.sslmode.attempts() {
                match timeout(dsn.connect_timeout, Self::connect_to(host, attempt, dsn, settings)).await {
                    Ok(Ok(session)) => return Ok(session),
                    Ok(Err(failure)) => {
                        let reached = failure.code != "SOURCE_UNREACHABLE";
                        first.get_or_insert(failure);
                        if !reached {
                            break;
                        }
                    }
                    Err(_) => _ = first.get_or_insert_with(|| no_answer(host, dsn.connect_timeout)),
                }
            }
        }
        Err(first.unwrap_or_else(|| Failure::definite("BAD_CONNECTION_STRING", "no host is named")))
    }

    async fn connect_to(host: &Host, attempt: Attempt, dsn: &Dsn, settings: &SessionSettings) -> Outcome<Self> {
        let (socket, channel) = open(host, attempt, dsn).await?;
        let wire = Wire::new(socket, settings.message_bytes_max);
        let mut session = Self {
            wire,
            parameters: BTreeMap::new(),
            key: None,
        };
        session.start(dsn, settings).await?;
        auth::log_in(&mut session, dsn, &channel).await?;
        session.until_ready("logging in").await?;
        if settings.replication {
            session.take_bytes_as_they_are().await?;
        }
        Ok(session)
    }

    /// A database without an encoding holds whatever it was given. As UTF-8 the server would refuse the first row that is
    /// none, and everything behind it, for ever; taken unchecked, it is a row that cannot be written.
    async fn take_bytes_as_they_are(&mut self) -> Outcome<()> {
        let encoding = self.parameters.get("server_encoding").map(String::as_str);
        if encoding == Some(WITHOUT_ENCODING) {
            let statement = format!("SET client_encoding TO '{WITHOUT_ENCODING}'");
            self.query(&statement, "choosing an encoding").await?;
        }
        Ok(())
    }

    async fn start(&mut self, dsn: &Dsn, settings: &SessionSettings) -> Outcome<()> {
        let patience = settings.wal_sender_timeout_ms.to_string();
        let mut parameters = vec![
            ("user", dsn.user.as_str()),
            ("database", dsn.dbname.as_str()),
            (
                "application_name",
                dsn.application_name.as_deref().unwrap_or("syncline-capture"),
            ),
            ("wal_sender_timeout", patience.as_str()),
        ];
        parameters.extend(settings.replication.then_some(("replication", "database")));
        parameters.extend_from_slice(PINNED);
        parameters.extend(dsn.options.as_deref().map(|options| ("options", options)));
        frontend::startup_message(parameters, &mut self.wire.output).map_err(|error| unsendable(&error))?;
        self.wire.flush().await
    }

    /// The next message that answers something: notices and parameters are kept aside, an error is a failure.
    pub async fn read(&mut self, doing: &str) -> Outcome<Message> {
        loop {
            let frame = self.wire.read().await?;
            match parse(&frame, doing)? {
                Message::NoticeResponse(_) | Message::NotificationResponse(_) => {}
                Message::ParameterStatus(body) => {
                    if let (Ok(name), Ok(value)) = (body.name(), body.value()) {
                        self.parameters.insert(name.to_owned(), value.to_owned());
                    }
                }
                Message::ErrorResponse(body) => return Err(ServerError::read(&body).failure(doing)),
                message => return Ok(message),
            }
        }
    }

    async fn until_ready(&mut self, doing: &str) -> Outcome<()> {
        loop {
            match self.read(doing).await? {
                Message::BackendKeyData(body) => self.key = Some((body.process_id(), body.secret_key())),
                Message::ReadyForQuery(_) => return Ok(()),
                _ => {}
            }
        }
    }

    /// Sends a statement and returns the rows of its answer.
    pub async fn query(&mut self, statement: &str, doing: &str) -> Outcome<Vec<Vec<Option<String>>>> {
        self.send_query(statement).await?;
        let mut rows = Vec::new();
        loop {
            match self.read(doing).await {
                Ok(Message::DataRow(body)) => rows.push(row(&body)?),
                Ok(Message::ReadyForQuery(_)) => return Ok(rows),
                Ok(_) => {}
                Err(failure) => {
                    // The server says that it is ready again after an error too, unless the connection is gone.
                    let _ = timeout(Duration::from_secs(5), self.until_ready(doing)).await;
                    return Err(failure);
                }
            }
        }
    }

    /// Sends a statement.
    pub async fn send_query(&mut self, statement: &str) -> Outcome<()> {
        frontend::query(statement, &mut self.wire.output).map_err(|error| unsendable(&error))?;
        self.wire.flush().await
    }

    /// Version number such as 150020, or 0 if the server does not say.
    pub fn server_version(&self) -> u32 {
        self.parameters
            .get("server_version")
            .map_or(0, |version| version_number(version))
    }
}

/// `15.20 (Debian ..)`, `17.10`, `18beta1`: as `server_version_num`.
fn version_number(version: &str) -> u32 {
    let number = |text: &str| -> u32 {
        let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap_or(0)
    };
    let mut parts = version.split('.');
    let major = parts.next().map_or(0, number);
    major
        .saturating_mul(10_000)
        .saturating_add(parts.next().map_or(0, number))
}

/// What a frame says, by the types of `postgres-protocol`.
pub fn parse(frame: &Frame, doing: &str) -> Outcome<Message> {
    let mut bytes = BytesMut::with_capacity(frame.body.len() + 5);
    let length = u32::try_from(frame.body.len() + 4).unwrap_or(u32::MAX);
    bytes.extend_from_slice(&[frame.tag]);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&frame.body);
    let message = Message::parse(&mut bytes).ok().flatten();
    message.ok_or_else(|| {
        let text = format!(
            "{doing}: the server sent a message that cannot be read (kind {:#04x})",
            frame.tag
        );
        Failure::transient("SOURCE_PROTOCOL", text)
    })
}

fn row(body: &DataRowBody) -> Outcome<Vec<Option<String>>> {
    let unreadable = || Failure::transient("SOURCE_PROTOCOL", "the server sent a row that cannot be read");
    let buffer = body.buffer();
    let mut cells = Vec::new();
    let mut ranges = body.ranges();
    while let Some(range) = ranges.next().map_err(|_| unreadable())? {
        let cell = match range {
            None => None,
            Some(range) => Some(String::from_utf8_lossy(buffer.get(range).ok_or_else(unreadable)?).into_owned()),
        };
        cells.push(cell);
    }
    Ok(cells)
}

/// A socket to `host`, inside TLS if the attempt says so.
async fn open(host: &Host, attempt: Attempt, dsn: &Dsn) -> Outcome<(Box<dyn Socket>, Channel)> {
    match &host.address {
        Address::Unix(directory) => {
            let path = directory.join(format!(".s.PGSQL.{}", host.port));
            let socket = UnixStream::connect(&path)
                .await
                .map_err(|error| unreachable_host(host, error))?;
            Ok((
                Box::new(socket),
                Channel {
                    private: true,
                    end_point: None,
                },
            ))
        }
        Address::Tcp { name, hostaddr } => {
            let place = (hostaddr.as_deref().unwrap_or(name), host.port);
            let mut socket = TcpStream::connect(place)
                .await
                .map_err(|error| unreachable_host(host, error))?;
            socket
                .set_nodelay(true)
                .map_err(|error| unreachable_host(host, error))?;
            if attempt == Attempt::Plain || !offers_tls(&mut socket, attempt).await? {
                return Ok((Box::new(socket), Channel::default()));
            }
            encrypt(socket, name, dsn).await
        }
    }
}

async fn offers_tls(socket: &mut TcpStream, attempt: Attempt) -> Outcome<bool> {
    let failed = |error| Failure::transient("SOURCE_CONNECTION", "asking the server for TLS").source(error);
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    socket.write_all(&request).await.map_err(failed)?;
    // One byte and no more: what comes after it in the clear is for TLS to reject.
    match socket.read_u8().await.map_err(failed)? {
        b'S' => Ok(true),
        b'N' if attempt == Attempt::TlsIfOffered => Ok(false),
        b'N' => Err(Failure::definite(
            "TLS_REFUSED",
            "the server does not speak TLS, and sslmode demands it",
        )),
        _ => Err(Failure::transient(
            "SOURCE_PROTOCOL",
            "the server did not answer whether it speaks TLS",
        )),
    }
}

async fn encrypt(socket: TcpStream, name: &str, dsn: &Dsn) -> Outcome<(Box<dyn Socket>, Channel)> {
    let server = ServerName::try_from(name.to_owned())
        .map_err(|_| Failure::definite("TLS_SETTINGS", format!("{name:?} cannot be the name of a server")))?;
    let connector = TlsConnector::from(Arc::new(tls::client_config(dsn)?));
    let socket = connector
        .connect(server, socket)
        .await
        .map_err(|error| tls_failed(name, error))?;
    let certificates = socket.get_ref().1.peer_certificates().unwrap_or_default();
    let end_point = certificates
        .first()
        .and_then(|certificate| tls::server_end_point(certificate));
    Ok((
        Box::new(socket),
        Channel {
            private: true,
            end_point,
        },
    ))
}

/// A certificate that does not hold stays so; a line that breaks may mend.
fn tls_failed(name: &str, error: std::io::Error) -> Failure {
    let text = format!("TLS with {name}");
    match error.kind() {
        std::io::ErrorKind::InvalidData => Failure::definite("TLS_FAILED", text).source(error),
        _ => Failure::transient("SOURCE_CONNECTION", text).source(error),
    }
}

/// Asks the server to break off what the session with this key is doing. The server answers by closing.
pub async fn cancel(dsn: &Dsn, key: (i32, i32)) -> Outcome<()> {
    let Some(host) = dsn.hosts.first() else { return Ok(()) };
    let attempt = if dsn.sslmode >= SslMode::Require {
        Attempt::Tls
    } else {
        Attempt::TlsIfOffered
    };
    let (socket, _) = open(host, attempt, dsn).await?;
    let mut wire = Wire::new(socket, 1024);
    frontend::cancel_request(key.0, key.1, &mut wire.output);
    wire.flush().await?;
    let _ = timeout(dsn.connect_timeout, wire.fill()).await;
    Ok(())
}

/// A numeric host address, if it is one.
pub fn numeric(hostaddr: &str) -> Option<IpAddr> {
    hostaddr.parse().ok()
}

fn display(host: &Host) -> String {
    match &host.address {
        Address::Unix(directory) => format!("{}/.s.PGSQL.{}", directory.display(), host.port),
        Address::Tcp { name, .. } => format!("{name}:{}", host.port),
    }
}

fn unreachable_host(host: &Host, error: std::io::Error) -> Failure {
    Failure::transient("SOURCE_UNREACHABLE", format!("connecting to {}", display(host))).source(error)
}

fn no_answer(host: &Host, waited: Duration) -> Failure {
    let text = format!("{} did not answer within {} s", display(host), waited.as_secs());
    Failure::transient("SOURCE_UNREACHABLE", text)
}

fn unsendable(error: &std::io::Error) -> Failure {
    Failure::definite(
        "BAD_TEXT",
        format!("a message to the server cannot be written: {error}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let cases = [
            ("15.20 (Debian 15.20-0+deb12u1)", 150_020),
            ("17.10", 170_010),
            ("18beta1", 180_000),
            ("14.0", 140_000),
        ];
        for (text, number) in cases {
            assert_eq!(version_number(text), number, "{text}");
        }
        assert_eq!(version_number("nonsense"), 0);
    }

    #[test]
    fn only_prefer_and_below_ever_go_without_tls() {
        for mode in [SslMode::Require, SslMode::VerifyCa, SslMode::VerifyFull] {
            assert_eq!(mode.attempts(), [Attempt::Tls]);
        }
    }
}
