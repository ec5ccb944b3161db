//! Records in, from all partitions of a topic, as they come and without an end: for a cache of what others write.
//!
//! Unlike a member of a group it has every partition for itself, commits nothing, and may lag behind; whoever must have read
//! up to some point opens a [`crate::PartitionReader`], which knows ends. One client serves all partitions.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use syncline_runtime::Outcome;

use crate::error::{Said, failure, heals_by_itself};
use crate::{BusConfig, InRecord};

/// Follows a topic.
pub struct Follower {
    consumer: BaseConsumer<Said>,
    topic: String,
}

impl Follower {
    /// Follows these partitions of `topic`, each from an offset that is there.
    pub fn open(config: &BusConfig, topic: &str, from: &BTreeMap<i32, i64>) -> Outcome<Self> {
        // A consumer needs the name of a group to fetch at all; nothing is ever committed under it.
        let client = config.for_consumer("syncline-follower", None);
        let consumer: BaseConsumer<Said> = client
            .create_with_context(Said::default())
            .map_err(|error| failure("create a reader", error))?;
        let mut list = TopicPartitionList::new();
        let named = from
            .iter()
            .try_for_each(|(partition, offset)| list.add_partition_offset(topic, *partition, Offset::Offset(*offset)));
        named
            .and_then(|()| consumer.assign(&list))
            .map_err(|error| failure(&format!("follow {topic}"), error))?;
        Ok(Self {
            consumer,
            topic: topic.to_owned(),
        })
    }

    /// The next record; `None` if nothing came in time.
    pub fn next(&self, timeout: Duration) -> Outcome<Option<InRecord>> {
        loop {
            match self.consumer.poll(timeout) {
                None => return Ok(None),
                Some(Ok(message)) => return Ok(Some(InRecord::from_message(&message))),
                // There may be something in another partition.
                Some(Err(KafkaError::PartitionEOF(_))) => {}
                Some(Err(error)) if error.rdkafka_error_code().is_some_and(heals_by_itself) => {}
                Some(Err(error)) => {
                    let failure = failure(&format!("follow {}", self.topic), error);
                    return Err(self.consumer.context().explain(failure));
                }
            }
        }
    }
}
