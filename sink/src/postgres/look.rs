//! A target as an operator sees it: its books and its rows, in a transaction that cannot write.

use std::collections::BTreeMap;

use syncline_runtime::{Failure, Outcome};
use syncline_schemas::lens::Row;
use syncline_schemas::mapped::RowKey;
use syncline_schemas::pipeline::{Link, Secret};
use tokio::runtime::Runtime;

use super::books::{self, Offset, Owner, Parked};
use super::connection::bounded;
use super::dsn::Dsn;
use super::link_table::LinkTable;
use super::session::Session;
use crate::lane::Lane;
use crate::plan::{Applied, Limits};
use crate::target::Partition;

/// More parked keys than this are not shown.
const PARKED_SHOWN_MAX: usize = 100_000;

/// A connection that only looks.
pub struct Look {
    runtime: Runtime,
    session: Session,
    owner: Owner,
    /// Whether there are books at all.
    books: bool,
}

impl Look {
    /// Connects.
    pub fn open(pipeline: &str, target: &str, dsn: &Secret) -> Outcome<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::transient("NO_RUNTIME", error))?;
        let dsn = Dsn::parse(dsn.expose())?;
        let application = format!("syncline {target}");
        let connected = bounded(&runtime, async {
            let session = Session::open(&dsn, &application).await?;
            session.begin().await?;
            session.control("SET TRANSACTION READ ONLY").await?;
            let books = books::exist(&session).await?;
            Ok((session, books))
        });
        let (session, books) = connected?;
        Ok(Self {
            runtime,
            session,
            owner: Owner::new(pipeline, target),
            books,
        })
    }

    /// How far each partition has been applied.
    pub fn offsets(&self) -> Outcome<BTreeMap<Partition, Offset>> {
        if !self.books {
            return Ok(BTreeMap::new());
        }
        bounded(&self.runtime, self.owner.offsets(&self.session))
    }

    /// What is parked.
    pub fn parked(&self) -> Outcome<Vec<Parked>> {
        if !self.books {
            return Ok(Vec::new());
        }
        bounded(&self.runtime, async {
            let mut parked = Vec::new();
            for lane in self.owner.parked_lanes(&self.session).await? {
                let owner = Owner {
                    lane,
                    ..self.owner.clone()
                };
                parked.extend(owner.parked(&self.session, false, None, PARKED_SHOWN_MAX).await?);
            }
            Ok(parked)
        })
    }

    /// What was written last for an entity.
    pub fn applied(&self, entity: &str, cid: &str) -> Outcome<Option<Applied>> {
        if !self.books {
            return Ok(None);
        }
        let key = (entity.to_owned(), cid.to_owned());
        let keys = [key.clone()];
        let mut found = bounded(&self.runtime, self.owner.applied(&self.session, &keys))?;
        Ok(found.remove(&key))
    }

    /// Every row of the link's table, with what the link looks at, and what the table can hold.
    pub fn rows(&self, link: &Link, mut see: impl FnMut(RowKey, &Row)) -> Outcome<Limits> {
        bounded(&self.runtime, async {
            let table = LinkTable::open(&self.session, link, &Lane::default()).await?;
            table.scan(&self.session, &mut see).await?;
            Ok(table.limits)
        })
    }

    /// Ends the connection.
    pub fn close(self) {
        self.runtime.block_on(self.session.close());
    }
}
