//! One queue of fetched records per partition, and one bell for all of them.
//!
//! librdkafka would gladly put everything into one queue. But rdkafka's news of the end of a partition or of a lost
//! offset does not say which topic it is about; the queue it arrives in does.

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::KafkaError;
use syncline_runtime::{Failure, Outcome};

use crate::InRecord;

/// A bell is only a hint, so no wait relies on it for longer than this.
const DEAF_MS_MAX: u64 = 100;
/// How many records of one partition are given before another has its turn.
const BURST_RECORDS_MAX: u32 = 500;

/// Rings when a queue has something.
#[derive(Default)]
pub(crate) struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    pub(crate) fn ring(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// Waits for a ring since the last wait.
    pub(crate) fn wait(&self, timeout: Duration) {
        let timeout = timeout.min(Duration::from_millis(DEAF_MS_MAX));
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(rung, timeout, |rung| !*rung);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}

/// What a queue had.
pub(crate) enum Fetched {
    Record(InRecord),
    /// There is nothing more in this partition at the moment.
    End,
    Error(KafkaError),
}

/// The queues of the partitions of one consumer.
pub(crate) struct Queues<C: ConsumerContext + 'static> {
    consumer: Arc<BaseConsumer<C>>,
    bell: Arc<Bell>,
    queues: Vec<((String, i32), PartitionQueue<C>)>,
    /// Those that are left alone. librdkafka stops fetching what nobody takes.
    held: BTreeSet<(String, i32)>,
    turn: usize,
    given: u32,
}

impl<C: ConsumerContext + 'static> Queues<C> {
    pub(crate) fn new(consumer: Arc<BaseConsumer<C>>, bell: Arc<Bell>) -> Self {
        Self {
            consumer,
            bell,
            queues: Vec::new(),
            held: BTreeSet::new(),
            turn: 0,
            given: 0,
        }
    }

    /// Opens a queue for each of these partitions and closes the others. To be called *before* they are assigned:
    /// what is fetched in between would go to the common queue.
    pub(crate) fn open(&mut self, partitions: impl IntoIterator<Item = (String, i32)>) -> Outcome<()> {
        self.close();
        for (topic, partition) in partitions {
            let split = self.consumer.split_partition_queue(&topic, partition);
            let mut queue = split.ok_or_else(|| {
                Failure::definite("KAFKA_QUEUE", format!("there can be no queue for {topic}[{partition}]"))
            })?;
            let bell = Arc::clone(&self.bell);
            queue.set_nonempty_callback(move || bell.ring());
            self.queues.push(((topic, partition), queue));
        }
        Ok(())
    }

    /// Leaves these partitions alone from now on, and no others.
    pub(crate) fn hold(&mut self, held: BTreeSet<(String, i32)>) {
        self.held = held;
        // What came meanwhile has rung before.
        self.bell.ring();
    }

    pub(crate) fn close(&mut self) {
        self.queues.clear();
        self.held.clear();
        (self.turn, self.given) = (0, 0);
    }

    /// What one of the queues has, if any has something now. Partitions take turns.
    pub(crate) fn next(&mut self) -> Option<((String, i32), Fetched)> {
        for _ in 0..self.queues.len() {
            if self.given >= BURST_RECORDS_MAX {
                self.pass_on();
            }
            let (partition, queue) = self.queues.get(self.turn)?;
            if self.held.contains(partition) {
                self.pass_on();
                continue;
            }
            if let Some(fetched) = queue.poll(Duration::ZERO).map(sort) {
                self.given += 1;
                return Some((partition.clone(), fetched));
            }
            self.pass_on();
        }
        None
    }

    fn pass_on(&mut self) {
        (self.turn, self.given) = ((self.turn + 1) % self.queues.len().max(1), 0);
    }
}

fn sort(polled: Result<rdkafka::message::BorrowedMessage<'_>, KafkaError>) -> Fetched {
    match polled {
        Ok(message) => Fetched::Record(InRecord::from_message(&message)),
        Err(KafkaError::PartitionEOF(_)) => Fetched::End,
        Err(error) => Fetched::Error(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_ring_before_the_wait_is_not_lost() {
        let bell = Bell::default();
        bell.ring();
        let started = Instant::now();
        bell.wait(Duration::from_secs(60));
        assert!(started.elapsed() < Duration::from_millis(DEAF_MS_MAX));
    }

    #[test]
    fn a_wait_is_bounded() {
        let bell = Bell::default();
        bell.wait(Duration::from_millis(1));
        bell.ring();
        bell.wait(Duration::ZERO);
        assert!(!*bell.rung.lock().unwrap());
    }
}
