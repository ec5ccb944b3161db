//! Tables that a signal asks for, read while the stream waits: as at the start, in a snapshot of their own, which stands at its
//! place in the log. What the stream says afterwards is older for a while; whoever orders by positions knows.
//!
//! Before anything is read the progress says that the tables are not. A crash in between leaves them to the steps before the stream,
//! which read what is not read ([`crate::open`]); the agenda has what to read instead of them.

use syncline_runtime::{Class, Outcome, Shutdown};
use syncline_schemas::progress::Progress;

use crate::config::SourceConfig;
use crate::known::Known;
use crate::load::{Load, Pending};
use crate::outlet::Outlet;
use crate::postgres::catalog::{self, TableInfo};
use crate::postgres::quote::TableName;
use crate::postgres::setup::{self, Publication};
use crate::postgres::snapshot::Snapshot;
use crate::shapes::Shapes;

/// The run through the tables.
pub struct Blocked<'a> {
    /// The source.
    pub config: &'a SourceConfig,
    /// Where to.
    pub outlet: &'a mut Outlet,
    /// How far.
    pub progress: &'a mut Progress,
    /// What is known of the tables.
    pub known: &'a mut Known,
    /// To be asked between chunks.
    pub shutdown: &'a Shutdown,
}

impl Blocked<'_> {
    /// Reads the tables, each with what to read instead of it; false if a wish to stop came between.
    pub fn read(self, tables: &[(String, Option<String>)], shapes: &mut Shapes<'_>) -> Outcome<bool> {
        let found = self.found(tables, shapes)?;
        let pending: Vec<Pending<'_>> = found
            .iter()
            .enumerate()
            .map(|(number, (info, columns, select))| Pending {
                info,
                columns: columns.clone(),
                select: select.as_deref(),
                number,
                whole: select.is_none(),
            })
            .collect();
        if pending.is_empty() {
            return Ok(true);
        }
        Load {
            config: self.config,
            snapshot: Snapshot::fresh(&self.config.dsn)?,
            outlet: self.outlet,
            progress: self.progress,
            known: self.known,
            shutdown: self.shutdown,
            unread: None,
        }
        .run(&pending, shapes)
    }

    /// Those that are still there; a table that is gone has nothing to be read.
    fn found(&self, tables: &[(String, Option<String>)], shapes: &mut Shapes<'_>) -> Outcome<Vec<Found>> {
        let publication = setup::publication(shapes.control(), &self.config.publication)?;
        let mut all = Vec::new();
        for name in shapes.wanted() {
            let Some((_, select)) = tables.iter().find(|(table, _)| *table == name.to_string()) else {
                continue;
            };
            all.extend(self.look_up(&name, select, publication.as_ref(), shapes)?);
        }
        Ok(all)
    }

    fn look_up(
        &self,
        name: &TableName,
        select: &Option<String>,
        publication: Option<&Publication>,
        shapes: &Shapes<'_>,
    ) -> Outcome<Option<Found>> {
        let info = match catalog::tables(shapes.control(), std::slice::from_ref(name)) {
            Err(failure) if failure.class == Class::Transient => return Err(failure),
            found => found.ok().and_then(|found| found.into_iter().next()),
        };
        let (Some(info), Some(publication)) = (info, publication) else {
            tracing::warn!(source = self.config.name, table = %name, "is not there and cannot be read");
            return Ok(None);
        };
        let columns = publication.columns_of(&info);
        let select = select
            .clone()
            .or(self.config.snapshots.select(&name.to_string()).map(str::to_owned));
        Ok(Some((info, columns, select)))
    }
}

/// A table, its columns, and what to read instead of it.
type Found = (TableInfo, Vec<String>, Option<String>);
