//! The PostgreSQL target: one connection, one transaction for each batch.

use std::collections::{BTreeMap, BTreeSet};

use syncline_runtime::Outcome;
use syncline_schemas::canonical::Canonical;
use syncline_schemas::pipeline::{Entity, Link, Pipeline, Secret};
use syncline_schemas::topic;

use crate::lane::{self, Lane};
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

/// Which lanes there are, and their runs.
pub(crate) mod lanes;

/// A link and its table.
mod link_table;

/// Where a partition goes on, and who may move it.
pub(crate) mod offsets;

/// A target as an operator sees it.
mod look;

/// Fields that refer to rows of another entity.
pub mod references;

/// Records that were merged, as far as others refer to them.
mod merged;

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
pub use lanes::{Asked, Next, Run};
pub use look::Look;

use apply::{Open, Turn};
use books::Owner;
use connection::Connection;
use lanes::Lanes;
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
    links: Vec<(Link, Lane)>,
    /// Links that others write, where rows are that these refer to, or that refer to these.
    others: Vec<Link>,
    referring: Referring,
    owner: Owner,
    connection: Connection<Vec<LinkTable>>,
    claims: BTreeMap<Partition, Offset>,
}

impl PostgresTarget {
    /// The target of these settings, for the main lanes of its links; connects when it is needed.
    pub fn new(settings: Settings) -> Outcome<Self> {
        let main = |link: Link| {
            let lane = Lane::main(&link);
            (link, lane)
        };
        let links: Vec<(Link, Lane)> = settings.links.into_iter().map(main).collect();
        Self::of(settings.pipeline, settings.target, &settings.dsn, links)
    }

    /// The same for what is not live of one hybrid link; none if the link is not hybrid.
    pub fn rest(pipeline: &str, target: &str, dsn: &Secret, link: &Link) -> Outcome<Option<Self>> {
        let lane = Lane::rest(link).map(|lane| vec![(link.clone(), lane)]);
        lane.map(|links| Self::of(pipeline.to_owned(), target.to_owned(), dsn, links))
            .transpose()
    }

    fn of(pipeline: String, target: String, dsn: &Secret, links: Vec<(Link, Lane)>) -> Outcome<Self> {
        let connection = Connection::new(dsn.expose(), &target)?;
        let beside: BTreeSet<String> = links.iter().flat_map(|(_, lane)| lane.beside.clone()).collect();
        let owner = Owner {
            lane: links.first().map(|(_, lane)| lane.name.clone()).unwrap_or_default(),
            beside: beside.into_iter().collect(),
            ..Owner::new(&pipeline, &target)
        };
        Ok(Self {
            links,
            others: Vec::new(),
            referring: Vec::new(),
            owner,
            connection,
            claims: BTreeMap::new(),
        })
    }

    /// Lets what was written under older versions of these entities count for the newer.
    #[must_use]
    pub fn lifting(mut self, entities: &[Entity]) -> Self {
        self.owner.lift(entities);
        self
    }

    /// The same, its links referring to each other, and to those of the system that are written at other times, as the pipeline
    /// file says.
    #[must_use]
    pub fn referring(mut self, pipeline: &Pipeline) -> Self {
        let mut links: Vec<Link> = self.links.iter().map(|(link, _)| link.clone()).collect();
        self.others = references::others(pipeline, &links);
        links.extend(self.others.iter().cloned());
        self.referring = references::referring(pipeline, &links);
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
        let (links, others, referring, owner) = (&self.links, &self.others, &self.referring, &self.owner);
        self.connection.with(
            async |session| {
                let mut tables = Vec::with_capacity(links.len() + others.len());
                let lane = Lane::default();
                let others = others.iter().map(|link| (link, &lane));
                let links = links.iter().map(|(link, lane)| (link, lane)).chain(others);
                for (at, (link, lane)) in links.enumerate() {
                    let mut table = LinkTable::open(session, link, lane).await?;
                    table.refers = referring.get(at).cloned().unwrap_or_default();
                    tables.push(table);
                }
                Ok(tables)
            },
            async |session, tables| work(session, tables, owner).await,
        )
    }

    /// What the lane of the only link does now, and how many offsets it is behind; a run that is due is opened.
    pub fn next_run(&mut self, asked: &Asked<'_>) -> Outcome<(Next, i64)> {
        let lanes = self.lanes(asked.ends.keys());
        self.transact(async |session, owner| {
            owner.arrange(session, &lanes).await?;
            owner.next_run(session, asked).await
        })
    }

    /// The run is done in these partitions: all that it goes to has been applied, which is up to these offsets. Says in how many
    /// the target agrees: one that went back meanwhile does not.
    pub fn finish(&mut self, run: &Run, applied: &BTreeMap<Partition, i64>) -> Outcome<u64> {
        self.transact(async |session, owner| owner.finish(session, run, applied).await)
    }

    /// The lanes that partitions have by the pipeline file.
    fn lanes<'a>(&self, partitions: impl Iterator<Item = &'a Partition>) -> BTreeMap<Partition, Lanes> {
        let of = |partition: &Partition| {
            let (_, lane) = self.link_of(partition)?;
            let names = lane.beside.iter().chain([&lane.name]).cloned();
            Some((partition.clone(), names.collect()))
        };
        partitions.filter_map(of).collect()
    }

    fn link_of(&self, partition: &Partition) -> Option<&(Link, Lane)> {
        let pipeline = &self.owner.pipeline;
        self.links
            .iter()
            .find(|(link, _)| topic::is_canonical_of(&partition.topic, pipeline, &link.entity))
    }

    /// Those of them that are written at once.
    fn live(&self, partitions: &[Partition]) -> Vec<Partition> {
        let is_live = |partition: &&Partition| {
            let link = self.link_of(partition);
            self.owner.lane.is_empty() && link.is_none_or(|(link, _)| lane::main_schedule(link).is_none())
        };
        partitions.iter().filter(is_live).cloned().collect()
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
        let (lanes, live) = (self.lanes(partitions.iter()), self.live(partitions));
        let claimed = self.transact(async |session, owner| {
            owner.arrange(session, &lanes).await?;
            owner.forget_runs(session, &live).await?;
            owner.wait_anew(session, &live).await?;
            owner.claim(session, partitions).await
        })?;
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
        let entities: Vec<String> = self.links.iter().map(|(link, _)| link.entity.clone()).collect();
        let looked_at = self.transact(async |session, owner| owner.to_look_at(session, &entities, at_once).await)?;
        let report = match looked_at.is_empty() {
            true => Report::default(),
            false => self.with(async |session, links, owner| {
                apply::apply(Open { session, links }, owner, Turn::Waiting, &looked_at).await
            })?,
        };
        let waiting = self.transact(async |session, owner| owner.waiting_counts(session, &entities).await)?;
        Ok(Tended { report, waiting })
    }

    fn dead_letters(&mut self, send: &mut dyn FnMut(&[DeadLetter]) -> Outcome<()>) -> Outcome<()> {
        loop {
            if !self.transact(async |session, owner| owner.has_letters(session).await)? {
                return Ok(());
            }
            send(&[])?;
            // This transaction is open, and the letters are locked, until it is noted that they are sent.
            let parked = self.with(async |session, _, owner| {
                session.begin().await?;
                owner.parked(session, true, None, books::PARKED_ROWS_MAX).await
            })?;
            let letters: Vec<DeadLetter> = parked
                .iter()
                .filter_map(|parked| parked.letter(&self.owner.target))
                .collect();
            if letters.is_empty() {
                return self.with(async |session, _, _| session.control("COMMIT").await);
            }
            if let Err(failure) = send(&letters) {
                // If that fails too, the connection is closed.
                let _ = self.with(async |session, _, _| session.control("ROLLBACK").await);
                return Err(failure);
            }
            let keys: Vec<(String, String)> = parked.into_iter().map(|parked| (parked.entity, parked.cid)).collect();
            self.with(async |session, _, owner| {
                owner.letters_sent(session, &keys).await?;
                session.control("COMMIT").await
            })?;
        }
    }
}
