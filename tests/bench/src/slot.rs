//! Slots of the benchmark: made, copied and dropped, also when whoever read one was killed a moment ago.

use syncline_tests::Db;

/// A slot in use cannot be dropped, and its user needs a moment to notice that it was ended.
const DROP_MAX_S: u64 = 30;

/// Drops it, if it is there.
pub fn drop(db: &Db, slot: &str) -> anyhow::Result<()> {
    syncline_tests::until(&format!("slot {slot} to be dropped"), DROP_MAX_S, || {
        let of = format!("FROM pg_replication_slots WHERE slot_name = '{slot}'");
        db.text(&format!("SELECT pg_terminate_backend(active_pid) {of} AND active"))?;
        // It may have been taken again since; then the next look is in time.
        let _ = db.text(&format!(
            "SELECT pg_drop_replication_slot(slot_name) {of} AND NOT active"
        ));
        Ok(db.number(&format!("SELECT count(*) {of}"))? == 0)
    })
}

/// Makes it anew, at the end of the log.
pub fn make(db: &Db, slot: &str) -> anyhow::Result<()> {
    drop(db, slot)?;
    db.text(&format!(
        "SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"
    ))
    .map(|_| ())
}

/// Makes it anew, as a copy of another: both read the same log.
pub fn copy(db: &Db, from: &str, slot: &str) -> anyhow::Result<()> {
    drop(db, slot)?;
    db.text(&format!(
        "SELECT pg_copy_logical_replication_slot('{from}', '{slot}', false)"
    ))
    .map(|_| ())
}
