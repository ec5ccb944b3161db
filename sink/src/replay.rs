//! `replay-parked`: applies what a target refused, once the cause is gone.
//!
//! The agreed record is a state, so only the last record of each parked key counts. It is read from its topic again,
//! from the offset that is noted, which is there as long as no newer record of that key is. It is safe beside a running
//! sink: both lock the same offset rows, and an older record than the one applied is recognised.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use syncline_bus::{BusConfig, InRecord, PartitionReader};
use syncline_runtime::{Failure, Outcome};

use crate::feed::{CanonicalFeed, Feed as _};
use crate::postgres::{Parked, PostgresTarget};
use crate::target::{Delivery, Partition};

const READ_MS_MAX: u64 = 10_000;

/// Something was refused again.
pub const STILL_PARKED: &str = "STILL_PARKED";

/// Applies what is parked, and says how many keys that were; fails if something stays parked.
pub fn run(bus: &BusConfig, name: &str, mut feed: CanonicalFeed, target: &mut PostgresTarget) -> Outcome<u64> {
    let mut applied = 0;
    loop {
        let healed = once(bus, &mut feed, target)?;
        applied += healed;
        let left = target.parked(None)?;
        if left.is_empty() {
            tracing::info!(target_name = name, applied, "nothing is parked");
            return Ok(applied);
        }
        if healed == 0 {
            return Err(still_parked(applied, &left));
        }
    }
}

/// Tries all that is parked, some at a time: what is refused still must not hold up what is listed behind it.
fn once(bus: &BusConfig, feed: &mut CanonicalFeed, target: &mut PostgresTarget) -> Outcome<u64> {
    let mut healed = 0;
    let mut parked = target.parked(None)?;
    while let Some(last) = parked.last() {
        let batch = latest_records(bus, &parked)?
            .into_iter()
            .map(|record| feed.read(record));
        let batch: Vec<Delivery> = batch.collect::<Outcome<_>>()?;
        healed += target.replay(&batch)?.healed;
        parked = target.parked(Some(last))?;
    }
    Ok(healed)
}

fn still_parked(applied: u64, left: &[Parked]) -> Failure {
    let first = left
        .first()
        .map(|parked| format!("{} {}: {}", parked.entity, parked.cid, parked.reason));
    let message = format!(
        "{applied} applied, {} are refused still, the first {}",
        left.len(),
        first.unwrap_or_default()
    );
    Failure::definite(STILL_PARKED, message).hint("remove the cause and give the same command again")
}

/// The last record of each parked key.
fn latest_records(bus: &BusConfig, parked: &[Parked]) -> Outcome<Vec<InRecord>> {
    let mut wanted: BTreeMap<&Partition, (i64, BTreeSet<&[u8]>)> = BTreeMap::new();
    for parked in parked {
        let (from, keys) = wanted
            .entry(&parked.from)
            .or_insert_with(|| (parked.offset, BTreeSet::new()));
        *from = (*from).min(parked.offset);
        keys.insert(parked.cid.as_bytes());
    }
    let mut latest = BTreeMap::new();
    for (partition, (from, keys)) in wanted {
        let mut reader = PartitionReader::open(bus, &partition.topic, partition.number, from)?;
        while let Some(record) = next(&mut reader)? {
            let key = record.key.clone().unwrap_or_default();
            if keys.contains(key.as_slice()) {
                latest.insert((partition.clone(), key), record);
            }
        }
    }
    Ok(latest.into_values().collect())
}

fn next(reader: &mut PartitionReader) -> Outcome<Option<InRecord>> {
    if reader.at_end() {
        return Ok(None);
    }
    match reader.next(Duration::from_millis(READ_MS_MAX))? {
        Some(record) => Ok(Some(record)),
        None if reader.at_end() => Ok(None),
        None => Err(Failure::transient("KAFKA_SLOW", "the topic cannot be read to its end")),
    }
}
