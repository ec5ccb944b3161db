//! A batch: what a poll of the group gives, up to bounds in rows, bytes and time; and the transaction that ends it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use syncline_bus::consumer::TopicPartition;
use syncline_bus::{Event, GroupConsumer, InRecord, Producer};
use syncline_runtime::{Outcome, Shutdown, failpoint};

use crate::outgoing::Outgoing;

/// Bounds of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Records.
    pub batch_rows_max: usize,
    /// Bytes of keys and values.
    pub batch_bytes_max: usize,
    /// From the first record until one waits for no more.
    pub batch_wait_ms: u64,
    /// From the first record, as long as they come without a pause.
    pub batch_fill_ms_max: u64,
    /// For the first record.
    pub idle_ms: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            batch_rows_max: 5_000,
            batch_bytes_max: 8 * 1024 * 1024,
            batch_wait_ms: 2,
            batch_fill_ms_max: 200,
            idle_ms: 100,
        }
    }
}

/// Records, and the change of assignment that came after them. The records belong to the assignment before it.
#[derive(Default)]
pub struct Batch {
    /// In the order of each partition.
    pub records: Vec<InRecord>,
    /// What the group did.
    pub change: Option<Change>,
}

/// A change of assignment. It takes effect with the next poll.
pub enum Change {
    /// These are ours from now on.
    Assigned(Vec<TopicPartition>),
    /// Nothing is ours any more.
    Revoked,
}

/// Gathers a batch. An empty one means that nothing came.
pub fn gather(consumer: &mut GroupConsumer, bounds: &Bounds, shutdown: &Shutdown) -> Outcome<Batch> {
    let mut batch = Batch::default();
    let mut started: Option<Instant> = None;
    let mut bytes = 0;
    while batch.change.is_none() && !shutdown.requested() {
        let elapsed = started.map(|started| started.elapsed());
        let wait = match elapsed {
            None => Duration::from_millis(bounds.idle_ms),
            Some(elapsed) => Duration::from_millis(bounds.batch_wait_ms).saturating_sub(elapsed),
        };
        match consumer.poll(wait)? {
            Event::Record(record) => {
                started.get_or_insert_with(Instant::now);
                bytes += record.key.as_ref().map_or(0, Vec::len) + record.value.as_ref().map_or(0, Vec::len);
                batch.records.push(record);
            }
            Event::Assigned(partitions) => batch.change = Some(Change::Assigned(partitions)),
            Event::Revoked(_) => batch.change = Some(Change::Revoked),
            Event::Idle if wait.is_zero() || started.is_none() => break,
            Event::Idle => {}
        }
        let late = elapsed.is_some_and(|elapsed| elapsed >= Duration::from_millis(bounds.batch_fill_ms_max));
        if late || batch.records.len() >= bounds.batch_rows_max || bytes >= bounds.batch_bytes_max {
            break;
        }
    }
    Ok(batch)
}

/// The next offset to read of each partition that the records come from.
pub fn next_offsets<'r>(records: impl IntoIterator<Item = &'r InRecord>) -> Vec<(String, i32, i64)> {
    let mut next: BTreeMap<(&str, i32), i64> = BTreeMap::new();
    for record in records {
        next.insert((&record.topic, record.partition), record.offset + 1);
    }
    next.into_iter()
        .map(|((topic, partition), offset)| (topic.to_owned(), partition, offset))
        .collect()
}

/// Where a test may kill a stage within a transaction.
pub struct Failpoints {
    /// Between two records.
    pub mid_produce: &'static str,
    /// Everything sent, nothing committed.
    pub before_commit: &'static str,
    /// Committed, and nobody here knows.
    pub after_commit: &'static str,
}

/// Sends everything and the offsets in one transaction. After an error nothing is known but that the producer is spent.
pub fn transact(
    producer: &mut Producer,
    consumer: &GroupConsumer,
    outputs: &[Outgoing],
    offsets: &[(String, i32, i64)],
    failpoints: &Failpoints,
) -> Outcome<()> {
    producer.begin()?;
    for (index, record) in outputs.iter().enumerate() {
        if index > 0 && index == outputs.len() / 2 {
            failpoint::hit(failpoints.mid_produce);
        }
        record.send(producer)?;
    }
    if !offsets.is_empty() {
        producer.send_offsets(offsets, consumer)?;
    }
    failpoint::hit(failpoints.before_commit);
    producer.commit()?;
    failpoint::hit(failpoints.after_commit);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_offset_is_behind_the_last_record_of_each_partition() {
        let record = |partition, offset| InRecord {
            topic: "t".to_owned(),
            partition,
            offset,
            timestamp_ms: 0,
            key: None,
            value: None,
            headers: Vec::new(),
        };
        let next = next_offsets(&[record(0, 4), record(1, 9), record(0, 7)]);
        assert_eq!(next, [("t".to_owned(), 0, 8), ("t".to_owned(), 1, 10)]);
    }
}
