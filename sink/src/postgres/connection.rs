//! A connection that is made when it is needed, and what is known of the database behind it.
//!
//! A transaction that fails takes its connection with it. That is the plainest undo there is, it needs no answer from a
//! server that may not be there, and the next attempt looks at tables and offsets anew.

use std::future::Future;
use std::time::Duration;

use syncline_runtime::{Failure, Outcome};
use tokio::runtime::Runtime;

use super::books;
use super::dsn::Dsn;
use super::session::Session;

/// Work whose connection gives no sign of life is given up after this; the server's own bounds are shorter.
const WORK_MS_MAX: u64 = 300_000;

/// A connection on a runtime of its own, and what `Known` was found out when it was made.
pub struct Connection<Known> {
    runtime: Runtime,
    dsn: Dsn,
    application: String,
    open: Option<(Session, Known)>,
}

impl<Known> Connection<Known> {
    /// To the database of this connection string; not made yet. `target` shows in the server's list of sessions.
    pub fn new(dsn: &str, target: &str) -> Outcome<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Ok(Self {
            runtime: runtime.map_err(|error| Failure::transient("NO_RUNTIME", error))?,
            dsn: Dsn::parse(dsn)?,
            application: format!("syncline-sink {target}"),
            open: None,
        })
    }

    /// Does `work`; before that, if the connection has to be made, `find_out` in a transaction. If either fails, the
    /// connection is closed.
    pub fn with<T>(
        &mut self,
        find_out: impl AsyncFnOnce(&Session) -> Outcome<Known>,
        work: impl AsyncFnOnce(&Session, &mut Known) -> Outcome<T>,
    ) -> Outcome<T> {
        let (session, known) = match self.open.take() {
            Some((session, known)) if !session.is_closed() => (session, Some(known)),
            _ => (
                bounded(&self.runtime, Session::open(&self.dsn, &self.application))?,
                None,
            ),
        };
        let all = async {
            let mut known = match known {
                Some(known) => known,
                None => first(&session, find_out).await?,
            };
            Ok((work(&session, &mut known).await?, known))
        };
        match bounded(&self.runtime, all) {
            Ok((done, known)) => {
                self.open = Some((session, known));
                Ok(done)
            }
            Err(failure) => {
                self.runtime.block_on(session.close());
                Err(failure)
            }
        }
    }
}

async fn first<Known>(session: &Session, find_out: impl AsyncFnOnce(&Session) -> Outcome<Known>) -> Outcome<Known> {
    session.begin().await?;
    books::prepare(session).await?;
    let known = find_out(session).await?;
    session.control("COMMIT").await?;
    Ok(known)
}

pub(super) fn bounded<T>(runtime: &Runtime, work: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    let limit = Duration::from_millis(WORK_MS_MAX);
    let late = |_| {
        Err(Failure::transient(
            "TARGET_AWAY",
            format!("no answer for {WORK_MS_MAX} ms"),
        ))
    };
    runtime.block_on(async { tokio::time::timeout(limit, work).await.unwrap_or_else(late) })
}
