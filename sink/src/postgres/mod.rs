//! The PostgreSQL target: one connection, one transaction for each batch.

use std::collections::BTreeMap;

use syncline_runtime::Outcome;
use syncline_schemas::canonical::Canonical;
use syncline_schemas::pipeline::{Link, Pipeline, Secret};

use crate::target::{DeadLetter, Delivery, Partition, Report, Target, Tended};

/// One batch, one transaction.
mod apply;

/// What is kept in the target beside the data.
pub(crate) mod books;

/// What the catalog says of tables.
pub(crate) mod catalog;

/// A connection, made when it is needed.
pub(crate) mod connection;

/// The connection string, TLS included.
mod dsn;

/// What an error of PostgreSQL means.
pub(crate) mod failure;

/// Lengths of time.
mod interval;

/// A link and its table.
mod link_table;

/// Where a partition goes on, and who may move it.
pub(crate) mod offsets;

/// A target as an operator sees it.
mod look;

/// Fields that refer to rows of another entity.
pub mod references;

/// Records that wait for another row.
pub(crate) mod waiting;

/// One session, with everything pinned.
pub(crate) mod session;

/// Plan to SQL: identifiers by one type, values as parameters.
pub mod statement;

/// PostgreSQL's text form of values.
pub mod text;

/// Marks and rows.
mod write;

pub use books::{DEFINITION, Offset, Parked};
pub use look::Look;

use apply::{Open, Turn};
use books::Owner;
use connection::Connection;
use link_table::LinkTable;
use references::Referring;
use session::Session;

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

/// A PostgreSQL database that agreed records are written into.
pub struct PostgresTarget {
    links: Vec<Link>,
    referring: Referring,
    owner: Owner,
    connection: Connection<Vec<LinkTable>>,
    claims: BTreeMap<Partition, Offset>,
}

impl PostgresTarget {
    /// The target of these settings; connects when it is needed.
    pub fn new(settings: Settings) -> Outcome<Self> {
        let connection = Connection::new(settings.dsn.expose(), &settings.target)?;
        let owner = Owner {
            pipeline: settings.pipeline,
            target: settings.target,
        };
        Ok(Self {
            referring: Vec::new(),
            links: settings.links,
            owner,
            connection,
            claims: BTreeMap::new(),
        })
    }

    /// The same, its links referring to each other as the pipeline file says.
    #[must_use]
    pub fn referring(mut self, pipeline: &Pipeline) -> Self {
        self.referring = references::referring(pipeline, &self.links);
        self
    }

    /// Connects and looks whether everything is there that is needed.
    pub fn check(&mut self) -> Outcome<()> {
        self.with(async |_, _, _| Ok(()))
    }

    /// What is parked: the first so many after `after`.
    pub fn parked(&mut self, after: Option<&Parked>) -> Outcome<Vec<Parked>> {
        self.transact(async |session, owner| owner.parked(session, false, after, books::PARKED_ROWS_MAX).await)
    }

    /// Forgets what is parked under these keys (entity, entity id): their next record is applied as any other.
    pub fn drop_parked(&mut self, keys: &[(String, String)]) -> Outcome<()> {
        self.transact(async |session, owner| owner.unpark(session, keys).await)
    }

    /// Applies parked records out of turn; `batch` holds the latest record of each key.
    pub fn replay(&mut self, batch: &[Delivery]) -> Outcome<Report> {
        self.with(async |session, links, owner| apply::apply(Open { session, links }, owner, Turn::Replay, batch).await)
    }

    fn with<T>(&mut self, work: impl AsyncFnOnce(&Session, &[LinkTable], &Owner) -> Outcome<T>) -> Outcome<T> {
        let (links, referring, owner) = (&self.links, &self.referring, &self.owner);
        self.connection.with(
            async |session| {
                let mut tables = Vec::with_capacity(links.len());
                for (at, link) in links.iter().enumerate() {
                    let mut table = LinkTable::open(session, link).await?;
                    table.refers = referring.get(at).cloned().unwrap_or_default();
                    tables.push(table);
                }
                Ok(tables)
            },
            async |session, tables| work(session, tables, owner).await,
        )
    }

    /// Does `work` in a transaction of its own.
    fn transact<T>(&mut self, work: impl AsyncFnOnce(&Session, &Owner) -> Outcome<T>) -> Outcome<T> {
        self.with(async |session, _, owner| {
            session.begin().await?;
            let done = work(session, owner).await?;
            session.control("COMMIT").await?;
            Ok(done)
        })
    }
}

impl Target for PostgresTarget {
    type Content = Canonical;

    fn claim(&mut self, partitions: &[Partition]) -> Outcome<BTreeMap<Partition, i64>> {
        let claimed = self.transact(async |session, owner| owner.claim(session, partitions).await)?;
        let starts = claimed
            .iter()
            .map(|(partition, offset)| (partition.clone(), offset.next));
        let starts = starts.collect();
        self.claims.extend(claimed);
        Ok(starts)
    }

    fn apply(&mut self, batch: &[Delivery]) -> Outcome<Report> {
        let claims = std::mem::take(&mut self.claims);
        let applied = self.with(async |session, links, owner| {
            apply::apply(Open { session, links }, owner, Turn::Live(&claims), batch).await
        });
        self.claims = claims;
        if applied.is_ok() {
            offsets::note(&mut self.claims, batch);
        }
        applied
    }

    fn tend(&mut self, at_once: bool) -> Outcome<Tended> {
        if self
            .referring
            .iter()
            .all(|refers| refers.fields.is_empty() && refers.children.is_empty())
        {
            return Ok(Tended::default());
        }
        let looked_at = self.transact(async |session, owner| owner.to_look_at(session, at_once).await)?;
        let report = match looked_at.is_empty() {
            true => Report::default(),
            false => self.with(async |session, links, owner| {
                apply::apply(Open { session, links }, owner, Turn::Waiting, &looked_at).await
            })?,
        };
        let waiting = self.transact(async |session, owner| owner.waiting_counts(session).await)?;
        Ok(Tended { report, waiting })
    }

    fn dead_letters(&mut self, send: &mut dyn FnMut(&[DeadLetter]) -> Outcome<()>) -> Outcome<()> {
        loop {
            let parked =
                self.transact(async |session, owner| owner.parked(session, true, None, books::PARKED_ROWS_MAX).await)?;
            let letters: Vec<DeadLetter> = parked
                .iter()
                .filter_map(|parked| parked.letter(&self.owner.target))
                .collect();
            if letters.is_empty() {
                return Ok(());
            }
            send(&letters)?;
            let keys: Vec<(String, String)> = parked.into_iter().map(|parked| (parked.entity, parked.cid)).collect();
            self.transact(async |session, owner| owner.letters_sent(session, &keys).await)?;
        }
    }
}
