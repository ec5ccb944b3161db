//! What librdkafka says of a group, in callbacks within a poll, kept until `consumer` makes events of it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, TopicPartitionList};

use crate::consumer::TopicPartition;
use crate::error::{Said, log};

/// What a group says to its member.
pub(crate) enum Rebalance {
    Assign(Vec<TopicPartition>),
    Revoke(Vec<TopicPartition>),
}

/// Takes the callbacks of librdkafka and keeps them for `poll`.
#[derive(Default)]
pub(crate) struct Rebalances {
    pub(crate) said: Said,
    heard: Mutex<VecDeque<Rebalance>>,
    closing: AtomicBool,
}

impl Rebalances {
    /// From here on nobody polls for events any more.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    pub(crate) fn next(&self) -> Option<Rebalance> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

impl ClientContext for Rebalances {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.said.keep(&error, reason);
    }
}

impl ConsumerContext for Rebalances {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, kind: RDKafkaRespErr, list: &mut TopicPartitionList) {
        if self.closing.load(Ordering::Acquire) {
            // Closing waits for this answer, and for nothing else.
            let _ = consumer.unassign();
            return;
        }
        let elements = list.elements();
        let partitions = elements.iter().map(|e| (e.topic().to_owned(), e.partition())).collect();
        let heard = match kind {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Rebalance::Assign(partitions),
            _ => Rebalance::Revoke(partitions),
        };
        self.heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_back(heard);
    }

    fn commit_callback(&self, result: Result<(), KafkaError>, _: &TopicPartitionList) {
        if let Err(error) = result {
            tracing::debug!("offsets were not shown: {error}");
        }
    }
}
