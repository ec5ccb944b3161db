//! Where a run begins in the log: a slot made anew with its snapshot, a snapshot without one, or the place to go on from.
//! It is decided elsewhere which (`start`); the tables are read elsewhere (`load`).

use std::time::{Duration, Instant};

use syncline_runtime::{Failure, Outcome, Shutdown};
use syncline_schemas::pipeline::Delivery;
use syncline_schemas::progress::{Progress, SnapshotState};

use crate::config::SourceConfig;
use crate::incremental::agenda::Agenda;
use crate::load::loaded;
use crate::outlet::Outlet;
use crate::postgres::client::ReplicationClient;
use crate::postgres::control::Control;
use crate::postgres::setup;
use crate::postgres::snapshot::Snapshot;
use crate::snapshots::Mode;
use crate::start::{self, Server};

/// How long the making of a slot may wait for open transactions of the source.
const SLOT_WAIT_MS: u64 = 60_000;
const SETTLE_POLL_MS: u64 = 50;

/// What the steps before the tables are read need.
pub(super) struct Making<'a, 'b> {
    pub(super) config: &'a SourceConfig,
    pub(super) control: &'b Control,
    pub(super) outlet: &'b mut Outlet,
    pub(super) server: Server<'b>,
    pub(super) tables: &'b [String],
    /// What stays of it where all begins anew: how far signals have been taken.
    pub(super) agenda: Option<String>,
    pub(super) halt: &'b Shutdown,
}

impl Making<'_, '_> {
    /// Makes the slot. That it is being made is written first: a crash in between leaves a slot that is known as ours, and
    /// until the first rows are in Kafka nothing is lost by making it again. Going on with it would be worse: the tables
    /// would be read in a newer snapshot, and the stream would say changes again that are in it.
    pub(super) fn anew(
        &mut self,
        client: &mut ReplicationClient,
        epoch: u64,
        drop_slot: bool,
    ) -> Outcome<(Progress, Option<Snapshot>)> {
        let mut progress = start::preparing(self.config, epoch, self.server);
        progress.agenda = self.agenda.take();
        if self.config.snapshots.mode == Mode::InitialOnly {
            return self.without_slot(progress);
        }
        self.outlet.commit(&progress)?;
        if drop_slot {
            tracing::warn!(slot = self.config.slot, "dropping the slot to make it anew");
            setup::drop_slot(self.control, &self.config.slot)?;
        }
        let failover = self.config.care.failover_slot.unwrap_or(true);
        let wait = Duration::from_millis(SLOT_WAIT_MS);
        let created = client
            .create_slot(&self.config.slot, failover, wait, self.halt)
            .map_err(|failure| match failure.code {
                "SLOT_WAIT" => blamed(self.control, failure),
                _ => failure,
            })?;
        let snapshot = Snapshot::exported(&self.config.dsn, &created.snapshot, created.consistent_point)?;
        progress.consistent_point = Some(created.consistent_point);
        self.seen_at_once(&mut progress);
        self.tables
            .iter()
            .for_each(|table| progress.set_table(table, SnapshotState::NotStarted));
        tracing::info!(slot = self.config.slot, consistent_point = %created.consistent_point, "slot made");
        Ok((progress, Some(snapshot)))
    }

    /// A snapshot that no slot goes on from.
    fn without_slot(&mut self, mut progress: Progress) -> Outcome<(Progress, Option<Snapshot>)> {
        let snapshot = Snapshot::fresh(&self.config.dsn)?;
        progress.consistent_point = Some(snapshot.lsn());
        self.seen_at_once(&mut progress);
        self.tables
            .iter()
            .for_each(|table| progress.set_table(table, SnapshotState::NotStarted));
        Ok((progress, Some(snapshot)))
    }

    /// At least once, rows are seen before progress speaks of them: a slot that is made again would know nothing of their
    /// deletion meanwhile. So there the first slot is gone on with, and changes may be said twice.
    fn seen_at_once(&self, progress: &mut Progress) {
        if self.config.delivery == Delivery::AtLeastOnce {
            progress.position = progress.begun();
        }
    }

    /// Tables that are not to be read count as read, for whoever waits for them too: nothing more will come.
    pub(super) fn pass_over(&mut self, progress: &mut Progress, agenda: &Agenda) -> Outcome<()> {
        let snapshots = &self.config.snapshots;
        let position = progress.begun();
        let is_read = |table: &str| snapshots.reads(table) || agenda.has_begun(table);
        for table in self.tables.iter().filter(|table| !is_read(table)) {
            if progress.table(table) != SnapshotState::Done {
                progress.set_table(table, SnapshotState::Done);
                self.outlet.send_mark(&loaded(table, position))?;
            }
        }
        if self.outlet.is_open() {
            self.outlet.commit(progress)?;
        }
        Ok(())
    }

    /// Goes on, with what a person decided and what is published now. Tables that progress does not know are new.
    pub(super) fn go_on(
        &mut self,
        mut progress: Progress,
        stored: Option<&Progress>,
        reread: bool,
    ) -> Outcome<Progress> {
        if reread {
            tracing::info!(
                source = self.config.name,
                "all tables are read again (snapshot.mode always)"
            );
            self.tables
                .iter()
                .for_each(|table| progress.set_table(table, SnapshotState::NotStarted));
        }
        let known = |name: &String, progress: &Progress| progress.tables.iter().any(|table| &table.table == name);
        let added: Vec<&String> = self.tables.iter().filter(|name| !known(name, &progress)).collect();
        if !added.is_empty() {
            tracing::info!(source = self.config.name, tables = ?added, "tables are new: they will be read");
            settle(self.control)?;
            added
                .into_iter()
                .for_each(|table| progress.set_table(table, SnapshotState::NotStarted));
        }
        if Some(&progress) != stored {
            self.outlet.commit(&progress)?;
        }
        Ok(progress)
    }
}

/// Names the oldest transaction that writes, for which a slot has to wait. Not what it does: that may hold values.
fn blamed(control: &Control, mut failure: Failure) -> Failure {
    let sql = "SELECT pid, usename::text, extract(epoch FROM now() - xact_start)::int8 FROM pg_stat_activity
                WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid() ORDER BY xact_start LIMIT 1";
    if let Ok(rows) = control.rows(sql, &[], "looking for the oldest transaction")
        && let Some(row) = rows.first()
    {
        let (pid, user, age_s) = (
            row.get::<_, i32>(0),
            row.get::<_, Option<String>>(1),
            row.get::<_, Option<i64>>(2),
        );
        failure.message = format!(
            "{}: the oldest is of process {pid} ({}), open for {} s",
            failure.message,
            user.unwrap_or_default(),
            age_s.unwrap_or_default()
        );
    }
    failure
}

/// Waits for the transactions that began to write before now. What one of them changed in a table before the table was
/// published is not in the log that we get, and what it commits after our snapshot is not in that either.
fn settle(control: &Control) -> Outcome<()> {
    let doing = "waiting for open transactions";
    let next = control
        .one("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::int8", &[], doing)?
        .get::<_, i64>(0);
    let deadline = Instant::now() + Duration::from_millis(SLOT_WAIT_MS);
    loop {
        let row = control.one("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::int8", &[], doing)?;
        if row.get::<_, i64>(0) >= next {
            return Ok(());
        }
        if Instant::now() > deadline {
            let text = "a transaction from before the tables were published is still open";
            return Err(Failure::transient("SOURCE_BUSY", text).hint("see pg_stat_activity for the oldest xact_start"));
        }
        std::thread::sleep(Duration::from_millis(SETTLE_POLL_MS));
    }
}
