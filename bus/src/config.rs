//! Where the cluster is, and the settings that correctness depends on.
//!
//! Settings come in three layers: our defaults, over them the user's `properties`, over those what correctness
//! depends on. The last layer cannot be changed: a user who could switch idempotence off could switch our promises off.

use std::collections::BTreeMap;
use std::fmt;

use rdkafka::ClientConfig;

/// How long a transaction may stay open before the broker aborts it. The broker's own maximum is 900,000 by default.
pub const TRANSACTION_TIMEOUT_MS: u64 = 120_000;
/// How long a record may be on its way before its transaction is given up.
pub const DELIVERY_TIMEOUT_MS: u64 = 60_000;
/// How long a request waits for its answer before the call fails, and the connection counts as dead.
pub const REQUEST_TIMEOUT_MS: u64 = 30_000;
/// How much may wait in a producer for being sent; a producer that is full blocks.
pub const SEND_BUFFER_KBYTES_MAX: u64 = 16 * 1024;
/// The same in records: with each the client keeps about a kilobyte that the bytes do not count.
pub const SEND_BUFFER_RECORDS_MAX: u64 = 20_000;
/// How much may wait in a consumer, per partition, for being read.
pub const FETCH_BUFFER_KBYTES_MAX: u64 = 8 * 1024;
/// The largest record.
pub const RECORD_BYTES_MAX: u64 = 10_000_000;
/// How long a member of a group may be silent before its partitions go to others.
pub const SESSION_TIMEOUT_MS: u64 = 6_000;
/// How long a member of a group may work between two polls (restoring state, say).
pub const POLL_INTERVAL_MS_MAX: u64 = 900_000;

/// Where the cluster is, and how to talk to it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct BusConfig {
    /// The first brokers: `kafka-1:9092,kafka-2:9092`.
    pub bootstrap: String,
    /// Settings of librdkafka: security, above all.
    pub properties: BTreeMap<String, String>,
    /// The name the broker knows this process by.
    pub client_id: String,
}

/// Properties hold passwords; only their names are shown.
impl fmt::Debug for BusConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BusConfig")
            .field("bootstrap", &self.bootstrap)
            .field("properties", &self.properties.keys())
            .field("client_id", &self.client_id)
            .finish()
    }
}

impl BusConfig {
    /// A cluster without further settings.
    pub fn new(bootstrap: impl Into<String>, client_id: impl Into<String>) -> Self {
        Self {
            bootstrap: bootstrap.into(),
            properties: BTreeMap::new(),
            client_id: client_id.into(),
        }
    }

    /// The largest record that a producer takes, with what the protocol adds.
    pub fn record_bytes_max(&self) -> u64 {
        let set = self.properties.get("message.max.bytes");
        set.and_then(|set| set.trim().parse().ok()).unwrap_or(RECORD_BYTES_MAX)
    }

    pub(crate) fn for_producer(&self, transactional_id: Option<&str>) -> ClientConfig {
        // The end of a transaction ends the lingering. Without transactions nobody says that this is all; while requests are
        // under way records gather anyway.
        let linger_ms = if transactional_id.is_some() { 5 } else { 0 };
        let defaults = [
            ("compression.type", "lz4".to_owned()),
            ("linger.ms", linger_ms.to_string()),
            ("batch.size", "1000000".to_owned()),
            ("queue.buffering.max.kbytes", self.send_buffer_kbytes_max().to_string()),
            ("queue.buffering.max.messages", SEND_BUFFER_RECORDS_MAX.to_string()),
            ("message.max.bytes", RECORD_BYTES_MAX.to_string()),
            ("message.timeout.ms", DELIVERY_TIMEOUT_MS.to_string()),
        ];
        let mut fixed = vec![
            // That a record is durable is told by nothing being outstanding any more; a report of each would keep it in
            // memory until somebody reads the report.
            ("delivery.report.only.error", "true".to_owned()),
            ("enable.idempotence", "true".to_owned()),
            ("acks", "all".to_owned()),
            ("partitioner", "murmur2_random".to_owned()),
        ];
        if let Some(id) = transactional_id {
            fixed.push(("transactional.id", id.to_owned()));
            fixed.push(("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS.to_string()));
        }
        self.layers(&defaults, &fixed)
    }

    /// A record larger than the whole buffer would wait for ever.
    fn send_buffer_kbytes_max(&self) -> u64 {
        SEND_BUFFER_KBYTES_MAX.max(self.record_bytes_max().div_ceil(1024) + 1024)
    }

    /// A consumer that only sees committed records, hears of the end of each partition, and never chooses by itself
    /// where to begin.
    pub(crate) fn for_consumer(&self, group: &str, instance: Option<&str>) -> ClientConfig {
        let defaults = [
            ("session.timeout.ms", SESSION_TIMEOUT_MS.to_string()),
            ("heartbeat.interval.ms", "1500".to_owned()),
            ("max.poll.interval.ms", POLL_INTERVAL_MS_MAX.to_string()),
            ("fetch.wait.max.ms", "50".to_owned()),
            ("fetch.queue.backoff.ms", "20".to_owned()),
            ("queued.max.messages.kbytes", FETCH_BUFFER_KBYTES_MAX.to_string()),
        ];
        let mut fixed = vec![
            ("group.id", group.to_owned()),
            ("group.protocol", "classic".to_owned()),
            ("partition.assignment.strategy", "range".to_owned()),
            ("isolation.level", "read_committed".to_owned()),
            ("auto.offset.reset", "error".to_owned()),
            ("enable.auto.commit", "false".to_owned()),
            ("enable.auto.offset.store", "false".to_owned()),
            ("enable.partition.eof", "true".to_owned()),
            ("allow.auto.create.topics", "false".to_owned()),
        ];
        if let Some(instance) = instance {
            fixed.push(("group.instance.id", instance.to_owned()));
        }
        self.layers(&defaults, &fixed)
    }

    fn layers(&self, defaults: &[(&str, String)], fixed: &[(&str, String)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("reconnect.backoff.max.ms", "2000")
            .set("socket.timeout.ms", REQUEST_TIMEOUT_MS.to_string())
            .set("socket.keepalive.enable", "true");
        for (name, value) in defaults {
            config.set(*name, value);
        }
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        for (name, value) in fixed {
            if self.properties.contains_key(*name) {
                tracing::warn!("the property {name} is Syncline's own; the pipeline file cannot change it");
            }
            config.set(*name, value);
        }
        config
            .set("bootstrap.servers", &self.bootstrap)
            .set("client.id", &self.client_id);
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_changes_defaults_but_not_what_correctness_depends_on() {
        let mut config = BusConfig::new("kafka:9092", "capture");
        config.properties.insert("linger.ms".to_owned(), "50".to_owned());
        config.properties.insert("acks".to_owned(), "0".to_owned());
        let client = config.for_producer(Some("id"));
        assert_eq!(client.get("linger.ms"), Some("50"));
        assert_eq!(client.get("acks"), Some("all"));
        assert_eq!(client.get("transaction.timeout.ms"), Some("120000"));
        assert_eq!(client.get("bootstrap.servers"), Some("kafka:9092"));
    }

    #[test]
    fn the_largest_record_fits_into_the_buffer() {
        let mut config = BusConfig::new("kafka:9092", "capture");
        assert_eq!(
            config.for_producer(None).get("queue.buffering.max.kbytes"),
            Some("16384")
        );
        config
            .properties
            .insert("message.max.bytes".to_owned(), "104857600".to_owned());
        assert_eq!(
            config.for_producer(None).get("queue.buffering.max.kbytes"),
            Some("103424")
        );
    }

    #[test]
    fn passwords_are_not_shown() {
        let mut config = BusConfig::new("kafka:9092", "capture");
        config
            .properties
            .insert("sasl.password".to_owned(), "geheim".to_owned());
        let shown = format!("{config:?}");
        assert!(shown.contains("sasl.password") && !shown.contains("geheim"), "{shown}");
    }

    #[test]
    fn librdkafka_knows_every_setting() {
        let config = BusConfig::new("127.0.0.1:1", "test");
        assert!(config.for_producer(Some("id")).create_native_config().is_ok());
        assert!(config.for_producer(None).create_native_config().is_ok());
        assert!(config.for_consumer("g", Some("0")).create_native_config().is_ok());
    }
}
