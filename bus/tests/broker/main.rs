//! The crate against a real broker and a real registry. A mock would prove nothing here: librdkafka's own shows
//! aborted records and fences nobody.
#![allow(clippy::unwrap_used)]

mod admin;
mod group;
mod reader;
mod registry;
mod transactions;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use syncline_bus::admin::TopicSpec;
use syncline_bus::{BusConfig, InRecord, OutRecord, PartitionReader, Producer};

/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(60);

fn required(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: run tests/run.sh, or eval \"$(deploy/stack.sh env)\" before"))
}

/// On a machine that is busy a member can be silent for longer than our own six seconds, and would lose its partitions.
fn config() -> BusConfig {
    let mut config = BusConfig::new(required("BOOTSTRAP"), "bus-tests");
    config
        .properties
        .insert("session.timeout.ms".to_owned(), "45000".to_owned());
    config
}

/// A name nobody has used, in this run or an earlier one.
fn unique(what: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    format!(
        "bus-test.{what}.{}.{}",
        now.as_micros(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    )
}

/// A topic that goes when the test does, however that ends.
struct Topic {
    name: String,
}

impl Topic {
    fn new(what: &str, partitions: i32) -> Self {
        Self::with(TopicSpec::new(unique(what), partitions))
    }

    fn with(spec: TopicSpec) -> Self {
        syncline_bus::admin::ensure(&config(), std::slice::from_ref(&spec)).unwrap();
        Self { name: spec.name }
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        if let Err(failure) = syncline_bus::admin::delete(&config(), &[&self.name]) {
            println!("{} stays: {failure}", self.name);
        }
    }
}

fn record<'a>(topic: &'a str, key: &'a str, value: &'a str) -> OutRecord<'a> {
    OutRecord {
        topic,
        partition: None,
        key: Some(key.as_bytes()),
        value: Some(value.as_bytes()),
        headers: &[],
        timestamp_ms: None,
    }
}

/// One committed transaction.
fn commit(producer: &mut Producer, topic: &str, values: &[&str]) {
    producer.begin().unwrap();
    for value in values {
        producer.send(&record(topic, "k", value)).unwrap();
    }
    producer.commit().unwrap();
}

fn text(record: &InRecord) -> String {
    String::from_utf8(record.value.clone().unwrap()).unwrap()
}

/// All committed values of a partition.
fn read_all(topic: &str, partition: i32) -> Vec<String> {
    let mut reader = PartitionReader::open(&config(), topic, partition, 0).unwrap();
    let mut values = Vec::new();
    let started = Instant::now();
    while !reader.at_end() {
        assert!(
            started.elapsed() < PATIENCE,
            "no end at {} of {}",
            reader.position(),
            reader.end()
        );
        values.extend(reader.next(Duration::from_secs(1)).unwrap().as_ref().map(text));
    }
    values
}
