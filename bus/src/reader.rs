//! Records in, from one partition, to its end. For state that is restored and for progress that is read back.
//!
//! The end is where the partition ended for readers of committed records when this was opened (the last stable offset).
//! It is a position: a partition that ends in an aborted transaction or a marker ends all the same. A transaction that
//! is open when this is opened is waited for, because its outcome may have been decided already without being visible;
//! what happens after that wait is the difference between `open` and `open_decided`.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use syncline_runtime::{Failure, Outcome};

use crate::consumer::in_range;
use crate::ends::{End, Ends};
use crate::error::{Said, failure, heals_by_itself};
use crate::{BusConfig, InRecord};

/// How long an open transaction is waited for.
const UNDECIDED_MS_MAX: u64 = 2_000;
/// The same where its records must not be missed.
const DECIDED_MS_MAX: u64 = 10_000;

impl ConsumerContext for Said {}

/// Reads one partition without being in a group.
pub struct PartitionReader {
    consumer: BaseConsumer<Said>,
    place: String,
    position: i64,
    first: i64,
    end: i64,
}

impl PartitionReader {
    /// Opens a partition at an offset; 0 is the beginning, wherever that is now. It ends before the first transaction
    /// that stays open.
    pub fn open(config: &BusConfig, topic: &str, partition: i32, from_offset: i64) -> Outcome<Self> {
        let end = Ends::new(config)?.of(topic, partition, Duration::from_millis(UNDECIDED_MS_MAX))?;
        Self::open_until(config, topic, partition, from_offset, end)
    }

    /// The same, but refuses a partition with a transaction that stays open. For state: if that transaction is
    /// committed after all, its input counts as read, and state restored without it would lack it for ever.
    pub fn open_decided(config: &BusConfig, topic: &str, partition: i32, from_offset: i64) -> Outcome<Self> {
        let end = Ends::new(config)?.of(topic, partition, Duration::from_millis(DECIDED_MS_MAX))?;
        if !end.decided {
            return Err(undecided(topic, partition, end.stable));
        }
        Self::open_until(config, topic, partition, from_offset, end)
    }

    /// Opens a partition so far before its end, or at its beginning if there is not so much. The distance is in offsets,
    /// of which transactions and compaction take some away.
    pub fn open_back(config: &BusConfig, topic: &str, partition: i32, offsets: i64) -> Outcome<Self> {
        let end = Ends::new(config)?.of(topic, partition, Duration::from_millis(UNDECIDED_MS_MAX))?;
        let from = end.stable.saturating_sub(offsets).max(end.first);
        Self::open_until(config, topic, partition, from, end)
    }

    fn open_until(config: &BusConfig, topic: &str, partition: i32, from_offset: i64, end: End) -> Outcome<Self> {
        // A consumer needs the name of a group to fetch at all; nothing is ever committed under it.
        let client = config.for_consumer("syncline-reader", None);
        let consumer: BaseConsumer<Said> = client
            .create_with_context(Said::default())
            .map_err(|error| failure("create a reader", error))?;
        let position = if from_offset == 0 { end.first } else { from_offset };
        in_range(&(topic.to_owned(), partition), position, (end.first, end.stable))?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(position))
            .and_then(|()| consumer.assign(&list))
            .map_err(|error| failure(&format!("read {topic}[{partition}]"), error))?;
        let place = format!("{topic}[{partition}]");
        Ok(Self {
            consumer,
            place,
            position,
            first: end.first,
            end: end.stable,
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

    /// The first offset that there was when this was opened.
    pub fn first(&self) -> i64 {
        self.first
    }

    /// The end, as it was when this was opened.
    pub fn end(&self) -> i64 {
        self.end
    }
}

fn undecided(topic: &str, partition: i32, offset: i64) -> Failure {
    Failure::transient(
        "KAFKA_UNDECIDED",
        format!("{topic}[{partition}]: a transaction is open at offset {offset}"),
    )
    .hint("it ends when its producer starts again, or when its time is up; kafka-transactions.sh can abort it")
}
