//! Records in, from one partition, to its end. For state that is restored and for progress that is read back.
//!
//! The end is where the partition ended for readers of committed records when this was opened (the last stable offset).
//! It is a position: a partition that ends in an aborted transaction or a marker ends all the same.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use syncline_runtime::Outcome;

use crate::consumer::{in_range, watermarks};
use crate::error::{Said, explain, failure, heals_by_itself};
use crate::{BusConfig, InRecord};

impl ConsumerContext for Said {}

/// Reads one partition without being in a group.
pub struct PartitionReader {
    consumer: BaseConsumer<Said>,
    place: String,
    position: i64,
    end: i64,
}

impl PartitionReader {
    /// Opens a partition at an offset; 0 is the beginning, wherever that is now.
    pub fn open(config: &BusConfig, topic: &str, partition: i32, from_offset: i64) -> Outcome<Self> {
        // A consumer needs the name of a group to fetch at all; nothing is ever committed under it.
        let client = config.for_consumer("syncline-reader", None);
        let consumer: BaseConsumer<Said> = client
            .create_with_context(Said::default())
            .map_err(|error| failure("create a reader", error))?;
        let marks = watermarks(&consumer, topic, partition).map_err(|late| explain(&consumer, late))?;
        let position = if from_offset == 0 { marks.0 } else { from_offset };
        in_range(&(topic.to_owned(), partition), position, marks)?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(position))
            .and_then(|()| consumer.assign(&list))
            .map_err(|error| failure(&format!("read {topic}[{partition}]"), error))?;
        let place = format!("{topic}[{partition}]");
        Ok(Self {
            consumer,
            place,
            position,
            end: marks.1,
        })
    }

    /// The next record; `None` at the end, or if nothing came in time.
    pub fn next(&mut self, timeout: Duration) -> Outcome<Option<InRecord>> {
        let deadline = Instant::now() + timeout;
        loop {
            match self.consumer.poll(deadline.saturating_duration_since(Instant::now())) {
                Some(Ok(message)) => {
                    self.position = self.position.max(rdkafka::Message::offset(&message) + 1);
                    return Ok(Some(InRecord::from_message(&message)));
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    // This answer came after the end was asked for, and ends only move up.
                    self.position = self.position.max(self.end);
                    return Ok(None);
                }
                Some(Err(error)) => self.tolerate(error)?,
                None => {}
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
        }
    }

    fn tolerate(&self, error: KafkaError) -> Outcome<()> {
        if error.rdkafka_error_code().is_some_and(heals_by_itself) {
            return Ok(());
        }
        Err(self
            .consumer
            .context()
            .explain(failure(&format!("read {}", self.place), error)))
    }

    /// Whether everything has been read that was there when this was opened.
    pub fn at_end(&self) -> bool {
        self.position >= self.end
    }

    /// The next offset to be read.
    pub fn position(&self) -> i64 {
        self.position
    }

    /// The end, as it was when this was opened.
    pub fn end(&self) -> i64 {
        self.end
    }
}
