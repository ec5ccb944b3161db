//! Gives changes that map refused back to map, through the topic they came from.
//!
//! Only the last state of a row is sent again, and only if that is a refused one: any later change of the row says all of
//! it anew, and a reader of that topic who knows no positions of ours must not see an older state after a newer one. Map,
//! merge and sink order by position and would not mind. The record goes out as it came, key, value, headers and time, and says
//! in one more header when that was: a row that came before the one it refers to waits from then on.

use std::collections::{BTreeMap, BTreeSet};

use syncline_bus::{BusConfig, InRecord, OutRecord, PartitionReader, Producer};
use syncline_runtime::Outcome;
use syncline_transform::decide::now_us;
use syncline_transform::mapping::parents::SENT_AGAIN;

use super::letter::{Place, Refused};
use crate::topics;

/// What became of refused changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Sent again.
    pub sent: usize,
    /// Left alone, a later change of the same row being there.
    pub superseded: usize,
    /// No longer in the topic.
    pub gone: usize,
}

/// The last change of a row, and the tombstone behind it if there is one.
struct Last {
    change: InRecord,
    tombstone: Option<InRecord>,
}

/// Sends again what has to be; with `dry_run` only says so.
pub fn send(bus: &BusConfig, refused: &[&Refused], dry_run: bool) -> Outcome<Report> {
    let mut by_partition: BTreeMap<(&str, i32), BTreeSet<i64>> = BTreeMap::new();
    for Place {
        topic,
        partition,
        offset,
    } in refused.iter().filter_map(|one| one.from.as_ref())
    {
        by_partition.entry((topic, *partition)).or_default().insert(*offset);
    }
    let mut producer = if dry_run {
        None
    } else {
        Some(Producer::idempotent(bus)?)
    };
    let mut report = Report::default();
    for ((topic, partition), offsets) in by_partition {
        let (last, found) = last_of_rows(bus, topic, partition, &offsets)?;
        report.gone += offsets.len() - found;
        let due: Vec<&Last> = last
            .values()
            .filter(|last| offsets.contains(&last.change.offset))
            .collect();
        report.sent += due.len();
        report.superseded += found - due.len();
        if let Some(producer) = &mut producer {
            for last in due {
                std::iter::once(&last.change)
                    .chain(&last.tombstone)
                    .try_for_each(|record| again(producer, record))?;
            }
            producer.flush()?;
        }
    }
    Ok(report)
}

/// The last change of each row that one of the offsets is about, in the order of the rows' keys; and how many of the
/// offsets are still there.
fn last_of_rows(
    bus: &BusConfig,
    topic: &str,
    partition: i32,
    offsets: &BTreeSet<i64>,
) -> Outcome<(BTreeMap<Vec<u8>, Last>, usize)> {
    let mut last: BTreeMap<Vec<u8>, Last> = BTreeMap::new();
    let mut found = 0;
    let first = offsets.first().copied().unwrap_or(0);
    let mut reader = match PartitionReader::open(bus, topic, partition, first) {
        Err(failure) if failure.code == "OFFSET_GONE" => PartitionReader::open(bus, topic, partition, 0)?,
        reader => reader?,
    };
    while let Some(record) = topics::next(&mut reader, topic)? {
        // A record without a key is a row of its own.
        let key = record.key.clone().unwrap_or_else(|| record.offset.to_be_bytes().into());
        let wanted = offsets.contains(&record.offset);
        found += usize::from(wanted);
        match last.get_mut(&key) {
            Some(last) if record.value.is_none() => last.tombstone = Some(record),
            None if !wanted => {}
            _ => {
                last.insert(
                    key,
                    Last {
                        change: record,
                        tombstone: None,
                    },
                );
            }
        }
    }
    Ok((last, found))
}

fn again(producer: &mut Producer, record: &InRecord) -> Outcome<()> {
    let now_ms = (now_us() / 1000).to_string();
    let came = record
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_slice()))
        .filter(|(name, _)| *name != SENT_AGAIN);
    let headers: Vec<(&str, &[u8])> = came.chain([(SENT_AGAIN, now_ms.as_bytes())]).collect();
    producer.send(&OutRecord {
        topic: &record.topic,
        partition: Some(record.partition),
        key: record.key.as_deref(),
        value: record.value.as_deref(),
        headers: &headers,
        timestamp_ms: Some(record.timestamp_ms).filter(|at| *at >= 0),
    })
}
