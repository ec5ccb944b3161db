//! A replication connection that is not streaming yet: who the server is, a slot made, the stream begun.
//!
//! Blocking: it owns a current-thread runtime, which moves with the connection to the reader's own thread when the
//! stream begins. The snapshot that a new slot exports lives as long as this connection does nothing else, so the same
//! object is kept while the snapshot is read and then turned into the [`Stream`].

use std::time::Duration;

use fallible_iterator::FallibleIterator as _;
use syncline_runtime::Shutdown;
use syncline_runtime::failure::{Failure, Outcome};
use syncline_schemas::position::Lsn;
use syncline_schemas::progress::Progress;
use tokio::runtime::Runtime;

use crate::failover;
use crate::postgres::dsn::Dsn;
use crate::postgres::quote::{Ident, Literal};
use crate::postgres::session::{self, Session, SessionSettings};
use crate::postgres::stream::{Stream, StreamSettings};

/// CopyBothResponse, which `postgres-protocol` does not know.
const COPY_BOTH_TAG: u8 = b'W';
const ERROR_TAG: u8 = b'E';
/// How long the answer to a command may take: a connection that has died says nothing.
const ANSWER_MS_MAX: u64 = 30_000;

/// The oldest server whose pgoutput we ask for (logical messages came with it).
const SERVER_VERSION_MIN: u32 = 140_000;

/// What identifies a server and its history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemIdentity {
    /// The same for a primary and its physical standbys, never for two clusters.
    pub system_identifier: u64,
    /// Rises with each promotion.
    pub timeline: u32,
    /// The end of its log now.
    pub lsn: Lsn,
    /// The database of this connection.
    pub dbname: String,
}

/// A slot just made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedSlot {
    /// Where its stream begins: all that was committed before is in the snapshot, all after is in the stream.
    pub consistent_point: Lsn,
    /// Name of the exported snapshot, for [`crate::postgres::snapshot::Snapshot::exported`].
    pub snapshot: String,
}

/// A replication connection.
pub struct ReplicationClient {
    runtime: Runtime,
    session: Session,
    dsn: Dsn,
}

impl ReplicationClient {
    /// Logs in.
    pub fn connect(dsn: &Dsn, settings: &SessionSettings) -> Outcome<Self> {
        let runtime = current_thread_runtime()?;
        let session = runtime.block_on(Session::connect(dsn, settings))?;
        let client = Self {
            runtime,
            session,
            dsn: dsn.clone(),
        };
        match client.server_version() {
            version if version < SERVER_VERSION_MIN => {
                let text = format!("PostgreSQL {} is too old to read its log", version / 10_000);
                Err(Failure::definite("SERVER_TOO_OLD", text).hint("14 is the oldest that is supported"))
            }
            _ => Ok(client),
        }
    }

    /// As `server_version_num`: 150020.
    pub fn server_version(&self) -> u32 {
        self.session.server_version()
    }

    /// Who the server is. To be compared on each reconnect: another server at the same address is another log.
    pub fn identify_system(&mut self) -> Outcome<SystemIdentity> {
        let doing = "identifying the server";
        let asked = self.session.query("IDENTIFY_SYSTEM", doing);
        let rows = self.runtime.block_on(answered(asked, doing))?;
        let cell = |index: usize| rows.first().and_then(|row| row.get(index).cloned().flatten());
        let identity = || {
            Some(SystemIdentity {
                system_identifier: cell(0)?.parse().ok()?,
                timeline: cell(1)?.parse().ok()?,
                lsn: cell(2)?.parse().ok()?,
                dbname: cell(3)?,
            })
        };
        identity().ok_or_else(|| unreadable(doing))
    }

    /// Where the timeline that Kafka was fed from ended, if the server is on a later one and comes from it.
    pub fn fork(&mut self, stored: Option<&Progress>, now: &SystemIdentity) -> Outcome<Option<Lsn>> {
        match stored {
            Some(stored) if stored.timeline != now.timeline => {
                let history = self.timeline_history(now.timeline)?;
                Ok(failover::fork(&history, stored.timeline))
            }
            _ => Ok(None),
        }
    }

    /// The history file of `timeline`: where each of its forebears ended.
    fn timeline_history(&mut self, timeline: u32) -> Outcome<String> {
        let statement = format!("TIMELINE_HISTORY {timeline}");
        let doing = "reading the history of the timeline";
        let rows = self.runtime.block_on(self.session.query(&statement, doing))?;
        Ok(rows
            .first()
            .and_then(|row| row.get(1).cloned().flatten())
            .unwrap_or_default())
    }

    /// Makes a slot for pgoutput and exports the snapshot at its consistent point.
    ///
    /// The server first waits for every transaction that is writing to end. After `wait` we ask it to give up, so that
    /// neither we nor a slot half made hang on a transaction that somebody forgot. The same at a wish to stop (`halt`): left
    /// alone, the server would make the slot later, and nobody would read it.
    ///
    /// `failover`: the slot is carried over to standbys that synchronise slots, where the server can (17 and later).
    pub fn create_slot(&mut self, slot: &str, failover: bool, wait: Duration, halt: &Shutdown) -> Outcome<CreatedSlot> {
        let export = match self.server_version() {
            170_000.. if failover => "(SNAPSHOT 'export', FAILOVER true)",
            150_000.. => "(SNAPSHOT 'export')",
            _ => "EXPORT_SNAPSHOT",
        };
        let statement = format!(
            "CREATE_REPLICATION_SLOT {} LOGICAL pgoutput {export}",
            Ident::new(slot)?
        );
        let doing = format!("making the replication slot {slot:?}");
        let Self { runtime, session, dsn } = self;
        let rows = runtime.block_on(async {
            let key = session.key;
            let mut asked = Box::pin(session.query(&statement, &doing));
            let made = tokio::select! {
                rows = &mut asked => Some(rows),
                () = tokio::time::sleep(wait) => None,
                () = halt.wait() => None,
            };
            match made {
                Some(rows) => rows,
                None => {
                    if let Some(key) = key {
                        session::cancel(dsn, key).await?;
                    }
                    // Made after all in the last moment, or cancelled: the server says which.
                    match tokio::time::timeout(dsn.connect_timeout, asked).await {
                        Ok(Ok(rows)) => Ok(rows),
                        _ => Err(slot_wait(slot, wait)),
                    }
                }
            }
        })?;
        let cell = |index: usize| rows.first().and_then(|row| row.get(index).cloned().flatten());
        let created = || {
            Some(CreatedSlot {
                consistent_point: cell(1)?.parse().ok()?,
                snapshot: cell(2)?,
            })
        };
        created().ok_or_else(|| unreadable(&doing))
    }

    /// Begins to stream `slot` through `publication`, from `from` on: the first transaction that comes is the first
    /// whose commit lies at or after it. The server leaves out, without a word, what lies before the slot's own
    /// confirmed position: compare the two first.
    pub fn start_stream(
        mut self,
        slot: &str,
        publication: &str,
        from: Lsn,
        settings: StreamSettings,
    ) -> Outcome<Stream> {
        let version = protocol_version(self.server_version());
        let names = Ident::new(publication)?.to_string();
        let statement = format!(
            "START_REPLICATION SLOT {} LOGICAL {from} (proto_version '{version}', publication_names {}, messages 'true')",
            Ident::new(slot)?,
            Literal::new(&names)?,
        );
        let doing = format!("starting to read the log through slot {slot:?}");
        let begun = async {
            self.session.send_query(&statement).await?;
            begin_copy(&mut self.session, &doing).await
        };
        self.runtime.block_on(answered(begun, &doing))?;
        Stream::spawn(self.runtime, self.session.wire, slot, from, settings)
    }
}

/// What the server answers, within a time.
async fn answered<T>(asked: impl Future<Output = Outcome<T>>, doing: &str) -> Outcome<T> {
    match tokio::time::timeout(Duration::from_millis(ANSWER_MS_MAX), asked).await {
        Ok(answer) => answer,
        Err(_) => Err(Failure::transient(
            "SOURCE_SILENT",
            format!("{doing}: the server does not answer"),
        )),
    }
}

/// A runtime for one thread.
pub fn current_thread_runtime() -> Outcome<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::transient("NO_RUNTIME", "making an async runtime").source(error))
}

/// The highest protocol that the server speaks. Streaming of transactions in progress is not asked for with any of
/// them: a transaction comes after its commit, in one piece, and the server spills it to its disk if it is large.
fn protocol_version(server_version: u32) -> u8 {
    match server_version {
        160_000.. => 4,
        150_000.. => 3,
        140_000.. => 2,
        _ => 1,
    }
}

/// Reads until the server has switched to the stream.
async fn begin_copy(session: &mut Session, doing: &str) -> Outcome<()> {
    loop {
        let frame = session.wire.read().await?;
        match frame.tag {
            COPY_BOTH_TAG => return Ok(()),
            ERROR_TAG => return Err(server_failure(&frame, doing)),
            // Notices and parameters; anything else would be the end of a statement that never began.
            b'N' | b'S' | b'A' => {}
            _ => return Err(unreadable(doing)),
        }
    }
}

/// The failure that an ErrorResponse means.
pub fn server_failure(frame: &crate::postgres::wire::Frame, doing: &str) -> Failure {
    match session::parse(frame, doing) {
        Ok(postgres_protocol::message::backend::Message::ErrorResponse(body)) => {
            crate::postgres::error::ServerError::read(&body).failure(doing)
        }
        _ => unreadable(doing),
    }
}

/// What the server warns of: it may wait for something, and says for what.
pub fn server_warning(frame: &crate::postgres::wire::Frame) -> Option<String> {
    use postgres_protocol::message::backend::Message::NoticeResponse;

    let Ok(NoticeResponse(body)) = session::parse(frame, "reading a notice") else {
        return None;
    };
    let (mut severity, mut message) = (String::new(), String::new());
    let mut fields = body.fields();
    while let Ok(Some(field)) = fields.next() {
        let value = String::from_utf8_lossy(field.value_bytes()).into_owned();
        match field.type_() {
            b'V' => severity = value,
            b'M' => message = value,
            _ => {}
        }
    }
    (severity == "WARNING").then_some(message)
}

fn unreadable(doing: &str) -> Failure {
    Failure::transient(
        "SOURCE_PROTOCOL",
        format!("{doing}: the server's answer cannot be read"),
    )
}

fn slot_wait(slot: &str, wait: Duration) -> Failure {
    let text = format!(
        "the slot {slot:?} could not be made within {} s: a transaction is still open",
        wait.as_secs()
    );
    Failure::transient("SLOT_WAIT", text)
        .hint("SELECT pid, xact_start, query FROM pg_stat_activity WHERE backend_xid IS NOT NULL ORDER BY xact_start")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_is_asked_for_what_it_knows() {
        let cases = [
            (140_000, 2),
            (140_015, 2),
            (150_020, 3),
            (160_004, 4),
            (170_010, 4),
            (180_004, 4),
            (130_000, 1),
        ];
        for (server, protocol) in cases {
            assert_eq!(protocol_version(server), protocol, "{server}");
        }
    }
}
