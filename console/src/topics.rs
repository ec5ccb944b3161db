//! Topics, read to the end that they have now. Nobody joins a group, nothing is committed.

use std::time::Duration;

use syncline_bus::{BusConfig, InRecord, PartitionReader, admin, murmur2_partition};
use syncline_runtime::{Failure, Outcome};

/// How long a partition may give nothing.
const READ_MS_MAX: u64 = 10_000;

/// Shows every record of a topic, partition by partition; none if there is no such topic.
pub fn each(bus: &BusConfig, topic: &str, mut see: impl FnMut(InRecord) -> Outcome<()>) -> Outcome<()> {
    for partition in 0..admin::partitions(bus, topic)?.unwrap_or(0) {
        to_end(&mut PartitionReader::open(bus, topic, partition, 0)?, topic, &mut see)?;
    }
    Ok(())
}

/// Shows the records of one key, in their order.
pub fn each_of(bus: &BusConfig, topic: &str, key: &str, mut see: impl FnMut(InRecord) -> Outcome<()>) -> Outcome<()> {
    let Some(partitions) = admin::partitions(bus, topic)? else {
        return Ok(());
    };
    let partition = murmur2_partition(key.as_bytes(), partitions);
    let mut reader = PartitionReader::open(bus, topic, partition, 0)?;
    to_end(&mut reader, topic, &mut |record| match record.key.as_deref() {
        Some(of) if of == key.as_bytes() => see(record),
        _ => Ok(()),
    })
}

/// The first offset that each partition still has: beyond 0 something is gone.
pub fn begins(bus: &BusConfig, topic: &str) -> Outcome<Vec<i64>> {
    let partitions = 0..admin::partitions(bus, topic)?.unwrap_or(0);
    let first = |partition| Ok(PartitionReader::open(bus, topic, partition, 0)?.first());
    partitions.map(first).collect()
}

/// The record at one place, if it is still there.
pub fn at(bus: &BusConfig, topic: &str, partition: i32, offset: i64) -> Outcome<Option<InRecord>> {
    let mut reader = match PartitionReader::open(bus, topic, partition, offset) {
        Err(failure) if ["OFFSET_GONE", "OFFSET_AHEAD"].contains(&failure.code) => return Ok(None),
        reader => reader?,
    };
    let found = next(&mut reader, topic)?;
    Ok(found.filter(|record| record.offset == offset))
}

fn to_end(reader: &mut PartitionReader, topic: &str, see: &mut impl FnMut(InRecord) -> Outcome<()>) -> Outcome<()> {
    while let Some(record) = next(reader, topic)? {
        see(record)?;
    }
    Ok(())
}

/// The next record, none at the end.
pub fn next(reader: &mut PartitionReader, topic: &str) -> Outcome<Option<InRecord>> {
    if reader.at_end() {
        return Ok(None);
    }
    match reader.next(Duration::from_millis(READ_MS_MAX))? {
        Some(record) => Ok(Some(record)),
        None if reader.at_end() => Ok(None),
        None => Err(Failure::transient(
            "KAFKA_SLOW",
            format!("{topic} cannot be read to its end"),
        )),
    }
}

/// Up to so many records are counted one by one; beyond that the distance in offsets will do.
const COUNTED_MAX: i64 = 1_000;

/// How many records a partition has from `from` on. Offsets alone would count the ends of transactions too.
pub fn left(bus: &BusConfig, topic: &str, partition: i32, from: i64) -> Outcome<i64> {
    let mut reader = match PartitionReader::open(bus, topic, partition, from) {
        Err(failure) if ["OFFSET_GONE", "OFFSET_AHEAD"].contains(&failure.code) => {
            PartitionReader::open(bus, topic, partition, 0)?
        }
        reader => reader?,
    };
    let distance = reader.end() - reader.position();
    if distance > COUNTED_MAX {
        return Ok(distance);
    }
    let mut count = 0;
    while next(&mut reader, topic)?.is_some() {
        count += 1;
    }
    Ok(count)
}
