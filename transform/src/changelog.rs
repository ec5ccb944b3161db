//! From a changelog topic into the local store, up to the end: what makes the store a cache and not a treasure.
//!
//! The stored offset only moves by reading, never by writing: what this process writes itself goes into the store after
//! its commit, and is read once more after a restart. Reading something twice is harmless, as the last value of a key
//! wins; believing in an offset that was not read is not.
//!
//! The end is a position, not a record: the log may end in an aborted transaction.

use std::time::Duration;

use syncline_bus::{BusConfig, PartitionReader};
use syncline_runtime::{Failure, Outcome, Progress, Shutdown};

use crate::store::{Change, EntityStore, Shard};

/// After so many changes of our own, the next pause is used to read them back: a restart then has less to read.
pub const READ_BACK_FROM_ROWS: usize = 20_000;
const CHUNK_ROWS_MAX: usize = 5_000;
const CHUNK_BYTES_MAX: usize = 8 << 20;
const READ_TIMEOUT_MS: u64 = 500;
/// How long a read may bring nothing before it counts as failed.
const SILENCE_MS_MAX: u64 = 60_000;
/// Shorter restores are not worth a progress bar.
const PROGRESS_FROM_ROWS: u64 = 10_000;

/// Brings the shard up to the end of its changelog.
pub fn restore(bus: &BusConfig, store: &mut impl EntityStore, shard: &Shard, shutdown: &Shutdown) -> Outcome<()> {
    restore_from(bus, store, shard, &shard.topic, shutdown)
}

/// The same for a shard that is a second copy of a changelog, of the same partition of `topic`.
pub fn restore_from(
    bus: &BusConfig,
    store: &mut impl EntityStore,
    shard: &Shard,
    topic: &str,
    shutdown: &Shutdown,
) -> Outcome<()> {
    let stored = store.offset(shard)?;
    let from = stored.unwrap_or(0);
    let mut reader = match PartitionReader::open_decided(bus, topic, shard.partition, from) {
        Ok(reader) => reader,
        Err(failure) if from > 0 && is_gap(&failure) => {
            tracing::warn!(
                topic,
                partition = shard.partition,
                from,
                "the changelog no longer has this"
            );
            PartitionReader::open_decided(bus, topic, shard.partition, 0)?
        }
        Err(failure) => return Err(failure),
    };
    // From the beginning of the log everything is read again; what is in the store besides may be gone from the log.
    if stored.is_none() || reader.position() != from {
        store.clear(shard)?;
    }
    drain(&mut reader, store, shard, shutdown)
}

/// Whether the log begins after the offset, or ends before it because it was made anew.
fn is_gap(failure: &Failure) -> bool {
    matches!(failure.code, "OFFSET_GONE" | "OFFSET_AHEAD")
}

fn drain(
    reader: &mut PartitionReader,
    store: &mut impl EntityStore,
    shard: &Shard,
    shutdown: &Shutdown,
) -> Outcome<()> {
    let start = reader.position();
    let total = u64::try_from(reader.end() - start).unwrap_or(0);
    let mut progress = (total >= PROGRESS_FROM_ROWS)
        .then(|| Progress::new(format!("restore {}[{}]", shard.topic, shard.partition), total));
    let mut silent_ms = 0;
    while !reader.at_end() {
        if shutdown.requested() {
            return Ok(());
        }
        let changes = chunk(reader)?;
        silent_ms = if changes.is_empty() {
            silent_ms + READ_TIMEOUT_MS
        } else {
            0
        };
        if silent_ms >= SILENCE_MS_MAX {
            let message = format!(
                "{}[{}] says nothing at offset {}",
                shard.topic,
                shard.partition,
                reader.position()
            );
            return Err(Failure::transient("CHANGELOG_SILENT", message));
        }
        store.put(shard, &changes, Some(reader.position()))?;
        if let Some(progress) = &mut progress {
            progress.set(u64::try_from(reader.position() - start).unwrap_or(0));
        }
    }
    store.put(shard, &[], Some(reader.position()))?;
    if let Some(progress) = progress {
        progress.finish();
    }
    Ok(())
}

fn chunk(reader: &mut PartitionReader) -> Outcome<Vec<Change>> {
    let (mut changes, mut bytes) = (Vec::new(), 0);
    while changes.len() < CHUNK_ROWS_MAX && bytes < CHUNK_BYTES_MAX {
        let Some(record) = reader.next(Duration::from_millis(READ_TIMEOUT_MS))? else {
            break;
        };
        bytes += record.value.as_ref().map_or(0, Vec::len);
        let key = record.key.and_then(|key| String::from_utf8(key).ok());
        // Whatever has no readable key was not written by us and can never be asked for.
        changes.extend(key.map(|key| (key, record.value)));
        if reader.at_end() {
            break;
        }
    }
    Ok(changes)
}
