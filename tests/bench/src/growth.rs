//! How cost grows: the same work with more tables, wider rows, more partitions, more instances, for longer, and with a part
//! of the system standing still. Transactions of all sizes are `capture/insert_*`. What growth may be is in `bounds.rs`.

use crate::session::Session;

/// Two sinks on one topic.
mod instances;
/// A part of the system stands still for a while.
mod outage;
/// Tables, columns, bytes and partitions.
mod shape;
/// Half an hour.
mod soak;

/// Runs all that are asked for.
pub fn cases(session: &Session<'_>) -> anyhow::Result<()> {
    shape::cases(session)?;
    outage::broker_stopped(session)?;
    outage::sink_paused(session)?;
    instances::cases(session)?;
    soak::cases(session)
}
