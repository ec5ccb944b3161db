//! Records out: in transactions, or each one once.
//!
//! The hard point is the end of a transaction. Kafka's client protocol, as librdkafka speaks it (EndTxn before version
//! 5), lets a delayed answer or a repeated request meet the *next* transaction of the same id: Jepsen has shown lost
//! writes and torn transactions that way, and KIP-890 cures it only for clients that speak the newer version. So a
//! transaction is committed only when the broker has said so; after anything else this object refuses further use.
//! The caller drops it and makes a new one under the same id, which fences the old and aborts what it left, and reads
//! from Kafka how far it had come.
//!
//! **Turns.** A transaction is committed when the broker has written that down; its markers follow. Until they are written
//! the broker answers the next transaction of the same id that it is to come again, and the client does so after a fixed
//! wait, ten times as long as the commit. So an object holds two clients with an id each, which take turns: each finds its
//! own last transaction finished. Their transactions never overlap, and whoever comes after us fences both before it reads
//! anything.
//!
//! **Dead connections.** A connection that has fallen silent is found out only by a request that is not answered in time, and
//! an object has four of them, each client's to the coordinator and to the partitions' broker, which would be found out one
//! after the other. So who has waited for one of them in vain, or for long, does not ask the others: the object is spent, and
//! the next one begins with new connections.

use std::mem;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, NoCustomPartitioner, Producer as _, ProducerContext, PurgeConfig};
use rdkafka::{Offset, TopicPartitionList};
use syncline_runtime::{Failure, Outcome};

use crate::config::{DELIVERY_TIMEOUT_MS, REQUEST_TIMEOUT_MS, TRANSACTION_TIMEOUT_MS};
use crate::error::{Said, failure, fenced, is_fenced, log};
use crate::{BusConfig, GroupConsumer, OutRecord};

const INIT_TIMEOUT_MS: u64 = 60_000;
const COMMIT_TIMEOUT_MS: u64 = 60_000;
const ABORT_TIMEOUT_MS: u64 = 5_000;
/// How long a drain may bring nothing: then the connection is taken for dead, before the request is given up that waits on it.
/// Else the commit that follows would wait as long for its own, and both together longer than anybody expects of us.
const STALL_MS_MAX: u64 = REQUEST_TIMEOUT_MS - 5_000;
/// A commit that took longer has met a dead connection.
const SLOW_COMMIT_MS: u64 = REQUEST_TIMEOUT_MS - 5_000;
/// Between two looks at what is outstanding. Not a wait within `poll`: rdkafka's spins below a millisecond.
const DRAIN_PAUSE_US: u64 = 200;
const EVENTS_PER_FAILURE: u32 = 10;
/// So many refused records of a transaction are told apart.
const REFUSED_MAX: usize = 1_000;
/// Delivery reports come many at a time; serving them more often costs more than it frees.
const SENDS_PER_POLL: u32 = 1_000;
/// What the second id of an object has behind the first. No name of an instance, a topic or a slot has it.
const SECOND_ID: &str = "#2";

/// Sends records.
pub struct Producer {
    /// Whose turn it is.
    inner: BaseProducer<Deliveries>,
    /// Whose turn the next transaction is.
    other: Option<BaseProducer<Deliveries>>,
    name: String,
    state: State,
    sends: u32,
    bytes: usize,
    records: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No transactions here, or between two of them.
    Idle,
    Open,
    /// An outcome is unknown; nothing more may be sent.
    Spent,
}

/// Hears of each record whether it is durable. One failure is enough to lose the transaction, so the first is kept.
#[derive(Default)]
struct Deliveries {
    said: Said,
    first_failure: Mutex<Option<(KafkaError, String)>>,
    refused: Mutex<Vec<RefusedRecord>>,
}

/// A record that the broker has refused because it is too large.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedRecord {
    /// Its topic.
    pub topic: String,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Length of its value.
    pub value_bytes: usize,
    /// Its headers.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl RefusedRecord {
    fn of(message: &impl Message) -> Self {
        Self {
            topic: message.topic().to_owned(),
            key: message.key().map(<[u8]>::to_vec),
            value_bytes: message.payload().map_or(0, <[u8]>::len),
            headers: message.headers().map(crate::record::read_headers).unwrap_or_default(),
        }
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.said.keep(&error, reason);
    }
}

impl ProducerContext<NoCustomPartitioner> for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let Err((error, message)) = result else { return };
        if error.rdkafka_error_code() == Some(Code::MessageSizeTooLarge) {
            let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            if refused.len() < REFUSED_MAX {
                refused.push(RefusedRecord::of(message));
            }
        }
        let mut first = self.first_failure.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert_with(|| (error.clone(), format!("{}[{}]", message.topic(), message.partition())));
    }
}

impl Deliveries {
    fn take(&self) -> Option<Failure> {
        let first = self.first_failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        first.map(|(error, place)| failure(&format!("deliver a record to {place}"), error))
    }
}

impl Producer {
    /// A producer of transactions. Whoever held this id before is fenced, and what it left open is aborted.
    pub fn transactional(config: &BusConfig, id: &str) -> Outcome<Self> {
        let mut producer = Self::of(client(config, Some(id))?, id);
        let second_id = format!("{id}{SECOND_ID}");
        let second = client(config, Some(&second_id))?;
        let timeout = Duration::from_millis(INIT_TIMEOUT_MS);
        let (first_started, second_started) = thread::scope(|scope| {
            let first = scope.spawn(|| producer.inner.init_transactions(timeout));
            let second = second.init_transactions(timeout);
            (first.join(), second)
        });
        producer.known(
            first_started.unwrap_or(Err(KafkaError::Canceled)),
            "start the transactions of",
        )?;
        producer.other = Some(second);
        producer.take_turns();
        producer.known(
            second_started,
            &format!("start the transactions of {second_id}, the second id of"),
        )?;
        Ok(producer)
    }

    /// A producer without transactions: each record once and in order, as long as this object lives.
    pub fn idempotent(config: &BusConfig) -> Outcome<Self> {
        Ok(Self::of(client(config, None)?, &config.client_id))
    }

    fn of(inner: BaseProducer<Deliveries>, name: &str) -> Self {
        Self {
            inner,
            other: None,
            name: name.to_owned(),
            state: State::Idle,
            sends: 0,
            bytes: 0,
            records: 0,
        }
    }

    fn take_turns(&mut self) {
        if let Some(other) = &mut self.other {
            mem::swap(&mut self.inner, other);
        }
    }

    /// Opens a transaction.
    pub fn begin(&mut self) -> Outcome<()> {
        self.usable()?;
        self.take_turns();
        let begun = self.inner.begin_transaction();
        self.known(begun, "begin a transaction of")?;
        (self.state, self.bytes, self.records) = (State::Open, 0, 0);
        Ok(())
    }

    /// Hands a record over. Blocks while too much waits to be sent; fails at once if an earlier record failed.
    pub fn send(&mut self, record: &OutRecord<'_>) -> Outcome<()> {
        self.usable()?;
        self.serve_now_and_then()?;
        let deadline = Instant::now() + Duration::from_millis(DELIVERY_TIMEOUT_MS);
        loop {
            match self.inner.send(outgoing(record)) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(Code::QueueFull), _)) if Instant::now() < deadline => {
                    self.serve();
                }
                Err((error, _)) => return self.known(Err(error), &format!("send to {} by", record.topic)),
            }
        }
        self.bytes += record.bytes();
        self.records += 1;
        Ok(())
    }

    fn serve_now_and_then(&mut self) -> Outcome<()> {
        self.sends += 1;
        if self.sends >= SENDS_PER_POLL {
            self.sends = 0;
            self.inner.poll(Duration::ZERO);
            self.none_failed()?;
        }
        Ok(())
    }

    /// Makes the consumer's offsets part of the transaction: topic, partition, next offset to read.
    pub fn send_offsets(&mut self, offsets: &[(String, i32, i64)], consumer: &GroupConsumer) -> Outcome<()> {
        let Some(group) = consumer.metadata() else {
            return Err(Failure::transient("KAFKA_NO_GROUP", "the consumer is in no group yet"));
        };
        self.send_offsets_of(offsets, &group)
    }

    fn send_offsets_of(&mut self, offsets: &[(String, i32, i64)], group: &ConsumerGroupMetadata) -> Outcome<()> {
        self.usable()?;
        let list = offset_list(offsets)?;
        let timeout = Duration::from_millis(REQUEST_TIMEOUT_MS);
        let sent = self.inner.send_offsets_to_transaction(&list, group, timeout);
        self.known(sent, "add offsets to the transaction of")
    }

    /// Commits. `Ok` only when it is known that everything sent since `begin` is durable and visible; anything else
    /// leaves the outcome open, and this object can no longer be used. Nor can it after a commit that took too long.
    pub fn commit(&mut self) -> Outcome<()> {
        self.usable()?;
        let started = Instant::now();
        if let Err(unknown) = self.drain(Duration::from_millis(TRANSACTION_TIMEOUT_MS)) {
            self.state = State::Spent;
            return Err(unknown);
        }
        let committed = self.inner.commit_transaction(Duration::from_millis(COMMIT_TIMEOUT_MS));
        let slow = started.elapsed() > Duration::from_millis(SLOW_COMMIT_MS);
        self.state = if committed.is_ok() && !slow {
            State::Idle
        } else {
            State::Spent
        };
        committed.map_err(|error| self.explain(unknown_outcome(&self.name, error)))
    }

    /// Waits until every record is durable. In a transaction that commits nothing; without transactions it is the end
    /// of a batch.
    pub fn flush(&mut self) -> Outcome<()> {
        self.usable()?;
        let drained = self.drain(Duration::from_millis(TRANSACTION_TIMEOUT_MS));
        if drained.is_err() {
            self.state = State::Spent;
        }
        if self.state != State::Open {
            (self.bytes, self.records) = (0, 0);
        }
        drained
    }

    /// Gives the transaction up, as far as that can be done; what cannot be aborted now, the next `transactional` of
    /// this id aborts.
    pub fn abort(mut self) {
        if self.state != State::Open {
            return;
        }
        self.inner.purge(PurgeConfig::default().queue().inflight());
        let timeout = Duration::from_millis(ABORT_TIMEOUT_MS);
        // Purged records are reported as failed; that is the point.
        let _ = self.drain(timeout);
        self.state = State::Spent;
        if let Err(error) = self.inner.abort_transaction(timeout) {
            tracing::debug!("the transaction of {} is left to be aborted later: {error}", self.name);
        }
    }

    /// The records that the broker has refused for their size; the transaction with them is lost.
    pub fn refused(&self) -> Vec<RefusedRecord> {
        let refused = self.inner.context().refused.lock();
        refused.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What has been sent since `begin` or `flush`, in bytes.
    pub fn bytes_in_transaction(&self) -> usize {
        self.bytes
    }

    /// How many records have been sent since `begin` or `flush`.
    pub fn records_in_transaction(&self) -> usize {
        self.records
    }

    /// Serves delivery reports until none is outstanding.
    ///
    /// `commit_transaction` would wait as well, but in steps of 100 ms, whatever is left to wait for: the call of a
    /// small transaction then takes 100 ms instead of one. The flush of no duration ends the lingering of batches.
    fn drain(&mut self, timeout: Duration) -> Outcome<()> {
        let (started, stall) = (Instant::now(), Duration::from_millis(STALL_MS_MAX));
        let (mut left, mut moved) = (self.inner.in_flight_count(), started);
        while left > 0 {
            // It always says "timed out" while something is in flight.
            let _ = self.inner.flush(Duration::ZERO);
            self.serve();
            let before = mem::replace(&mut left, self.inner.in_flight_count());
            if left != before {
                moved = Instant::now();
            }
            if left > 0 && (started.elapsed() >= timeout || moved.elapsed() >= stall) {
                let late = Failure::transient("KAFKA_COMMIT_UNKNOWN", format!("{left} records are not acknowledged"));
                return Err(self.explain(late));
            }
        }
        self.none_failed()
    }

    /// Takes what has been reported, and lets the reports come.
    fn serve(&self) {
        self.inner.poll(Duration::ZERO);
        thread::sleep(Duration::from_micros(DRAIN_PAUSE_US));
    }

    fn none_failed(&mut self) -> Outcome<()> {
        let Some(failure) = self.inner.context().take() else {
            return Ok(());
        };
        self.state = State::Spent;
        Err(self.explain(failure))
    }

    /// Adds what librdkafka has had to say meanwhile. Of a producer that was fenced in mid-transaction it reports first
    /// that the records were purged; that it is fenced is its fatal error.
    fn explain(&self, failure: Failure) -> Failure {
        (0..EVENTS_PER_FAILURE).for_each(|_| self.inner.poll(Duration::ZERO));
        match self.inner.client().fatal_error() {
            Some((code, _)) if is_fenced(code) && failure.code != "FENCED" => {
                fenced(&format!("cannot go on with the transaction of {}", self.name)).source(failure)
            }
            _ => self.inner.context().said.explain(failure),
        }
    }

    fn usable(&self) -> Outcome<()> {
        if self.state == State::Spent {
            let message = format!(
                "the producer {} was used after a failure or a very slow commit; it is made anew",
                self.name
            );
            return Err(Failure::transient("KAFKA_PRODUCER_SPENT", message));
        }
        Ok(())
    }

    /// Whatever fails spends the producer: which errors a transaction survives differs between brokers and releases,
    /// and a new producer costs milliseconds.
    fn known(&mut self, result: Result<(), KafkaError>, doing: &str) -> Outcome<()> {
        result.map_err(|error| {
            self.state = State::Spent;
            self.explain(failure(&format!("{doing} {}", self.name), error))
        })
    }
}

fn client(config: &BusConfig, id: Option<&str>) -> Outcome<BaseProducer<Deliveries>> {
    config
        .for_producer(id)
        .create_with_context(Deliveries::default())
        .map_err(|error| failure("create a producer", error))
}

fn outgoing<'a>(record: &OutRecord<'a>) -> BaseRecord<'a, [u8], [u8]> {
    BaseRecord {
        topic: record.topic,
        partition: record.partition,
        payload: record.value,
        key: record.key,
        timestamp: record.timestamp_ms,
        headers: crate::record::write_headers(record.headers),
        delivery_opaque: (),
    }
}

fn offset_list(offsets: &[(String, i32, i64)]) -> Outcome<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(offsets.len());
    for (topic, partition, next) in offsets {
        list.add_partition_offset(topic, *partition, Offset::Offset(*next))
            .map_err(|error| failure(&format!("name offset {next} of {topic}[{partition}]"), error))?;
    }
    Ok(list)
}

/// Fenced is known: the transaction was aborted by its successor. Of anything else only that one cannot tell.
fn unknown_outcome(name: &str, error: KafkaError) -> Failure {
    match error.rdkafka_error_code() {
        Some(code) if is_fenced(code) => fenced(&format!("cannot commit the transaction of {name}")).source(error),
        _ => Failure::transient("KAFKA_COMMIT_UNKNOWN", format!("did the transaction of {name} commit?")).source(error),
    }
}
