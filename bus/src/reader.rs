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

use crate::consumer::{TopicPartition, in_range};
use crate::ends::{End, Patience, look};
use crate::error::{Said, failure, heals_by_itself};
use crate::{BusConfig, InRecord};

/// How long an open transaction is waited for whose records must not be missed.
const DECIDED_MS_MAX: u64 = 10_000;

impl ConsumerContext for Said {}

/// Reads one partition without being in a group.
pub struct PartitionReader {
    config: BusConfig,
    consumer: Option<BaseConsumer<Said>>,
    place: TopicPartition,
    position: i64,
    first: i64,
    end: i64,
}

impl PartitionReader {
    /// Opens a partition at an offset; 0 is the beginning, wherever that is now. It ends before the first transaction
    /// that stays open.
    pub fn open(config: &BusConfig, topic: &str, partition: i32, from_offset: i64) -> Outcome<Self> {
        Self::open_with(config, topic, partition, from_offset, Patience::Short)
    }

    /// The same with this patience.
    pub fn open_with(
        config: &BusConfig,
        topic: &str,
        partition: i32,
        from_offset: i64,
        patience: Patience,
    ) -> Outcome<Self> {
        let end = end(config, topic, partition, patience.time())?;
        Self::open_until(config, topic, partition, from_offset, end)
    }

    /// The same, but refuses a partition with a transaction that stays open. For state: if that transaction is
    /// committed after all, its input counts as read, and state restored without it would lack it for ever.
    pub fn open_decided(config: &BusConfig, topic: &str, partition: i32, from_offset: i64) -> Outcome<Self> {
        let end = end(config, topic, partition, Duration::from_millis(DECIDED_MS_MAX))?;
        if !end.decided {
            return Err(undecided(topic, partition, end.stable));
        }
        Self::open_until(config, topic, partition, from_offset, end)
    }

    /// Opens a partition so far before its end, or at its beginning if there is not so much. The distance is in offsets,
    /// of which transactions and compaction take some away.
    pub fn open_back(config: &BusConfig, topic: &str, partition: i32, offsets: i64) -> Outcome<Self> {
        let end = end(config, topic, partition, Patience::Short.time())?;
        let from = end.stable.saturating_sub(offsets).max(end.first);
        Self::open_until(config, topic, partition, from, end)
    }

    fn open_until(config: &BusConfig, topic: &str, partition: i32, from_offset: i64, end: End) -> Outcome<Self> {
        let position = if from_offset == 0 { end.first } else { from_offset };
        let place = (topic.to_owned(), partition);
        in_range(&place, position, (end.first, end.stable))?;
        Ok(Self {
            config: config.clone(),
            consumer: None,
            place,
            position,
            first: end.first,
            end: end.stable,
        })
    }

    /// The consumer, made when it is first needed: a partition whose end is known already needs none.
    fn consumer(&mut self) -> Outcome<&BaseConsumer<Said>> {
        let consumer = match self.consumer.take() {
            Some(consumer) => consumer,
            None => consumer(&self.config, &self.place, self.position)?,
        };
        Ok(self.consumer.insert(consumer))
    }

    /// The next record; `None` at the end, or if nothing came in time.
    pub fn next(&mut self, timeout: Duration) -> Outcome<Option<InRecord>> {
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let polled = self.consumer()?.poll(left);
            match polled.map(|polled| polled.map(|message| InRecord::from_message(&message))) {
                Some(Ok(record)) => {
                    self.position = self.position.max(record.offset + 1);
                    return Ok(Some(record));
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

    fn tolerate(&mut self, error: KafkaError) -> Outcome<()> {
        if error.rdkafka_error_code().is_some_and(heals_by_itself) {
            return Ok(());
        }
        let failure = failure(&shown(&self.place), error);
        Err(self.consumer()?.context().explain(failure))
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

/// Closing takes librdkafka 100 ms, and nothing is left to be decided: that need not be waited for.
impl Drop for PartitionReader {
    fn drop(&mut self) {
        if let Some(consumer) = self.consumer.take() {
            // Without a thread it is closed here and now.
            let _ = std::thread::Builder::new().spawn(move || drop(consumer));
        }
    }
}

fn end(config: &BusConfig, topic: &str, partition: i32, patience: Duration) -> Outcome<End> {
    look(config, |ends| ends.of(topic, partition, patience))
}

fn consumer(config: &BusConfig, place: &TopicPartition, position: i64) -> Outcome<BaseConsumer<Said>> {
    // A consumer needs the name of a group to fetch at all; nothing is ever committed under it.
    let client = config.for_consumer("syncline-reader", None);
    let consumer: BaseConsumer<Said> = client
        .create_with_context(Said::default())
        .map_err(|error| failure("create a reader", error))?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&place.0, place.1, Offset::Offset(position))
        .and_then(|()| consumer.assign(&list))
        .map_err(|error| failure(&shown(place), error))?;
    Ok(consumer)
}

fn shown((topic, partition): &TopicPartition) -> String {
    format!("read {topic}[{partition}]")
}

fn undecided(topic: &str, partition: i32, offset: i64) -> Failure {
    Failure::transient(
        "KAFKA_UNDECIDED",
        format!("{topic}[{partition}]: a transaction is open at offset {offset}"),
    )
    .hint("it ends when its producer starts again, or when its time is up; kafka-transactions.sh can abort it")
}
