//! The PostgreSQL target: one connection on a runtime of its own, one transaction for each batch.
//!
//! A transaction that fails takes its connection with it. That is the plainest undo there is, it needs no answer from a
//! server that may not be there, and the next attempt looks at tables and offsets anew.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use syncline_runtime::{Failure, Outcome};
use syncline_schemas::pipeline::{Link, Secret};
use tokio::runtime::Runtime;

use crate::target::{DeadLetter, Delivery, Partition, Report, Target};

/// One batch, one transaction.
mod apply;

/// What is kept in the target beside the data.
mod books;

/// What the catalog says of tables.
pub(crate) mod catalog;

/// The connection string, TLS included.
pub(crate) mod dsn;

/// What an error of PostgreSQL means.
pub(crate) mod failure;

/// A link and its table.
mod link_table;

/// One connection, with everything pinned.
pub(crate) mod session;

/// Plan to SQL: identifiers by one type, values as parameters.
pub mod statement;

/// PostgreSQL's text form of values.
pub mod text;

/// Marks and rows.
mod write;

pub use books::{DEFINITION, Parked};

use apply::{Open, Turn};
use books::Owner;
use dsn::Dsn;
use link_table::LinkTable;
use session::Session;

/// A batch whose connection gives no sign of life is given up after this; the server's own bounds are shorter.
const BATCH_MS_MAX: u64 = 300_000;

/// What a target has to know.
pub struct Settings {
    /// Name of the pipeline.
    pub pipeline: String,
    /// Name of the system.
    pub target: String,
    /// Its connection string.
    pub dsn: Secret,
    /// The links that write it, in the order of the pipeline file.
    pub links: Vec<Link>,
}

/// A PostgreSQL database that records are written into.
pub struct PostgresTarget {
    settings: Settings,
    dsn: Dsn,
    owner: Owner,
    runtime: Runtime,
    open: Option<Open>,
    epochs: BTreeMap<Partition, i64>,
}

impl PostgresTarget {
    /// The target of these settings; connects when it is needed.
    pub fn new(settings: Settings) -> Outcome<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::transient("NO_RUNTIME", error))?;
        let dsn = Dsn::parse(settings.dsn.expose())?;
        let owner = Owner {
            pipeline: settings.pipeline.clone(),
            target: settings.target.clone(),
        };
        Ok(Self {
            settings,
            dsn,
            owner,
            runtime,
            open: None,
            epochs: BTreeMap::new(),
        })
    }

    /// Connects and looks whether everything is there that is needed.
    pub fn check(&mut self) -> Outcome<()> {
        let open = self.connected()?;
        self.open = Some(open);
        Ok(())
    }

    /// What is parked.
    pub fn parked(&mut self) -> Outcome<Vec<Parked>> {
        self.transact(async |session, owner| owner.parked(session, false).await)
    }

    /// Applies parked records out of turn; `batch` holds the latest record of each key.
    pub fn replay(&mut self, batch: &[Delivery]) -> Outcome<Report> {
        self.with(async |open, owner| apply::apply(open, owner, Turn::Replay, batch).await)
    }

    /// The connection; a new one if there is none.
    fn connected(&mut self) -> Outcome<Open> {
        match self.open.take() {
            Some(open) if !open.session.is_closed() => Ok(open),
            _ => bounded(&self.runtime, connect(&self.dsn, &self.settings)),
        }
    }

    /// Does `work` on the connection, which is closed if that fails.
    fn with<T>(&mut self, work: impl AsyncFnOnce(&Open, &Owner) -> Outcome<T>) -> Outcome<T> {
        let open = self.connected()?;
        let done = bounded(&self.runtime, work(&open, &self.owner));
        if done.is_ok() {
            self.open = Some(open);
        } else {
            self.runtime.block_on(open.session.close());
        }
        done
    }

    /// Does `work` in a transaction of its own.
    fn transact<T>(&mut self, work: impl AsyncFnOnce(&Session, &Owner) -> Outcome<T>) -> Outcome<T> {
        self.with(async |open, owner| {
            open.session.begin().await?;
            let done = work(&open.session, owner).await?;
            open.session.control("COMMIT").await?;
            Ok(done)
        })
    }
}

async fn connect(dsn: &Dsn, settings: &Settings) -> Outcome<Open> {
    let application = format!("syncline-sink {}", settings.target);
    let session = Session::open(dsn, &application).await?;
    session.begin().await?;
    books::prepare(&session).await?;
    let mut links = Vec::with_capacity(settings.links.len());
    for link in &settings.links {
        links.push(LinkTable::open(&session, link).await?);
    }
    session.control("COMMIT").await?;
    Ok(Open { session, links })
}

fn bounded<T>(runtime: &Runtime, work: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    let limit = Duration::from_millis(BATCH_MS_MAX);
    let late = |_| {
        Err(Failure::transient(
            "TARGET_AWAY",
            format!("no answer for {BATCH_MS_MAX} ms"),
        ))
    };
    runtime.block_on(async { tokio::time::timeout(limit, work).await.unwrap_or_else(late) })
}

impl Target for PostgresTarget {
    fn claim(&mut self, partitions: &[Partition]) -> Outcome<BTreeMap<Partition, i64>> {
        let claimed = self.transact(async |session, owner| owner.claim(session, partitions).await)?;
        self.epochs.extend(
            claimed
                .iter()
                .map(|(partition, offset)| (partition.clone(), offset.epoch)),
        );
        Ok(claimed
            .into_iter()
            .map(|(partition, offset)| (partition, offset.next))
            .collect())
    }

    fn apply(&mut self, batch: &[Delivery]) -> Outcome<Report> {
        let epochs = std::mem::take(&mut self.epochs);
        let applied = self.with(async |open, owner| apply::apply(open, owner, Turn::Live(&epochs), batch).await);
        self.epochs = epochs;
        applied
    }

    fn dead_letters(&mut self, send: &mut dyn FnMut(&[DeadLetter]) -> Outcome<()>) -> Outcome<()> {
        let parked = self.transact(async |session, owner| owner.parked(session, true).await)?;
        let letters: Vec<DeadLetter> = parked
            .iter()
            .filter_map(|parked| parked.letter(&self.owner.target))
            .collect();
        if letters.is_empty() {
            return Ok(());
        }
        send(&letters)?;
        let keys: Vec<(String, String)> = parked.into_iter().map(|parked| (parked.entity, parked.cid)).collect();
        self.transact(async |session, owner| owner.letters_sent(session, &keys).await)
    }
}
