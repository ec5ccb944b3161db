//! The replication slot as the server sees it: the state that capture compares its own progress with.

use syncline_runtime::failure::{Failure, Outcome};
use syncline_schemas::position::Lsn;

use crate::postgres::control::{Control, read_lsn};

/// A replication slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotState {
    /// Name.
    pub name: String,
    /// Its plug-in, `None` for a physical slot.
    pub plugin: Option<String>,
    /// Its database.
    pub database: Option<String>,
    /// The process that streams it.
    pub active_pid: Option<i32>,
    /// The log is kept from here on.
    pub restart_lsn: Option<Lsn>,
    /// What was confirmed last: the server never sends again what committed before.
    pub confirmed_flush: Option<Lsn>,
    /// `reserved`, `extended`, `unreserved`, `lost`.
    pub wal_status: Option<String>,
    /// How many bytes of log may still be written before the slot is in danger; `None` if there is no limit.
    pub safe_wal_bytes: Option<i64>,
    /// How many bytes of log it holds back.
    pub retained_bytes: i64,
    /// Why the server gave it up (from PostgreSQL 17).
    pub invalidation: Option<String>,
}

impl SlotState {
    /// Whether it is one of ours and of any use.
    pub(super) fn check(&self, control: &Control) -> Outcome<()> {
        let row = control.one("SELECT current_database()::text", &[], "checking the slot")?;
        let database: String = row.get(0);
        let name = &self.name;
        if self.plugin.as_deref() != Some("pgoutput") || self.database.as_ref() != Some(&database) {
            let text = format!(
                "the slot {name:?} is not for pgoutput in the database {database:?}: it belongs to somebody else"
            );
            return Err(Failure::definite("SLOT_FOREIGN", text).hint("name another slot in the pipeline file"));
        }
        if self.wal_status.as_deref() == Some("unreserved") {
            tracing::warn!(
                slot = name,
                "is about to be lost: it holds back more log than max_slot_wal_keep_size allows"
            );
        }
        Ok(())
    }

    /// Why it can never be read again, if the server has given it up, with what to set and what to run (`command`).
    pub fn lost(&self, command: &str) -> Option<Failure> {
        let lost = self.wal_status.as_deref() == Some("lost");
        let reason = self.invalidation.as_deref().or(lost.then_some("wal_removed"))?;
        let (why, setting) = match reason {
            "wal_removed" => ("it held back more log than allowed", "raise max_slot_wal_keep_size"),
            "idle_timeout" => ("nobody had read it for too long", "raise idle_replication_slot_timeout"),
            "rows_removed" => (
                "rows of the catalogue that it needs were removed",
                "on the standby set hot_standby_feedback = on",
            ),
            "wal_level_insufficient" => ("wal_level was lowered", "ALTER SYSTEM SET wal_level = logical"),
            _ => ("see the server's log", "see pg_replication_slots.invalidation_reason"),
        };
        let text = format!(
            "the server has given up the slot {:?} ({reason}: {why}); what came after {} cannot be read from the log",
            self.name,
            self.confirmed_flush.unwrap_or_default()
        );
        let hint = format!(
            "{setting}, then read all tables again (rows deleted meanwhile leave no trace): {command} --resnapshot"
        );
        Some(Failure::definite("SLOT_LOST", text).hint(hint))
    }
}

/// Reads a slot.
pub fn slot_state(control: &Control, name: &str) -> Outcome<Option<SlotState>> {
    let sql =
        "SELECT plugin::text, database::text, active_pid, restart_lsn::text, confirmed_flush_lsn::text, wal_status,
                      safe_wal_size, coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::int8,
                      to_jsonb(s)->>'invalidation_reason'
                 FROM pg_replication_slots s WHERE slot_name = $1";
    let rows = control.rows(sql, &[&name], &format!("reading the slot {name:?}"))?;
    let Some(row) = rows.first() else { return Ok(None) };
    let lsn = |index: usize| row.get::<_, Option<&str>>(index).map(read_lsn).transpose();
    Ok(Some(SlotState {
        name: name.to_owned(),
        plugin: row.get(0),
        database: row.get(1),
        active_pid: row.get(2),
        restart_lsn: lsn(3)?,
        confirmed_flush: lsn(4)?,
        wal_status: row.get(5),
        safe_wal_bytes: row.get(6),
        retained_bytes: row.get(7),
        invalidation: row.get(8),
    }))
}

/// Drops a slot. For a re-snapshot that somebody asked for, never by itself.
pub fn drop_slot(control: &Control, name: &str) -> Outcome<()> {
    let doing = format!("dropping the slot {name:?}");
    control
        .rows("SELECT pg_drop_replication_slot($1)", &[&name], &doing)
        .map(|_| ())
}
