//! Pure: the topics that go beside those of tables, their schemas and their records: transactions, logical messages,
//! heartbeats and notifications, as Debezium writes them.
//!
//! A record is written without the frame that names its schema: the ids are known to the one who sends it. A topic is made
//! when its first record comes, as most sources never have one.

use std::collections::HashMap;
use std::sync::Arc;

use crate::avro;
use crate::avro_schema::{self, Release};
use crate::form::{Binaries, Form};

/// A topic beside those of tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Companion {
    /// Begin and end of transactions, with the number of their events.
    Transaction,
    /// What an app wrote into the log by `pg_logical_emit_message`.
    Message,
    /// A sign of life.
    Heartbeat,
    /// What becomes of snapshots.
    Notification,
}

impl Companion {
    /// Its name.
    pub fn topic(self, prefix: &str, form: &Form) -> String {
        let topics = &form.topics;
        match self {
            Companion::Transaction => topics.joined(&[prefix, &topics.transaction]),
            Companion::Message => format!("{prefix}.message"),
            Companion::Notification => format!("{prefix}.notifications"),
            Companion::Heartbeat => match &topics.heartbeat_name {
                Some(name) => name.clone(),
                None => topics.joined(&[&topics.heartbeat_prefix, prefix]),
            },
        }
    }

    /// The schema of its keys.
    pub fn key_schema(self) -> &'static str {
        match self {
            Companion::Transaction => concat!(
                r#"{"type":"record","name":"TransactionMetadataKey","namespace":"io.debezium.connector.common","fields":["#,
                r#"{"name":"id","type":"string"}],"connect.version":1,"#,
                r#""connect.name":"io.debezium.connector.common.TransactionMetadataKey"}"#
            ),
            Companion::Message => concat!(
                r#"{"type":"record","name":"MessageKey","namespace":"io.debezium.connector.postgresql","fields":["#,
                r#"{"name":"prefix","type":["null","string"],"default":null}],"connect.version":1,"#,
                r#""connect.name":"io.debezium.connector.postgresql.MessageKey"}"#
            ),
            Companion::Heartbeat => concat!(
                r#"{"type":"record","name":"ServerNameKey","namespace":"io.debezium.connector.common","fields":["#,
                r#"{"name":"serverName","type":"string"}],"connect.version":1,"#,
                r#""connect.name":"io.debezium.connector.common.ServerNameKey"}"#
            ),
            Companion::Notification => concat!(
                r#"{"type":"record","name":"NotificationKey","namespace":"io.debezium.connector.common","fields":["#,
                r#"{"name":"id","type":"string"}],"connect.version":1,"#,
                r#""connect.name":"io.debezium.connector.common.NotificationKey"}"#
            ),
        }
    }

    /// The schema of its values.
    pub fn value_schema(self, form: &Form) -> String {
        match self {
            Companion::Transaction => TRANSACTION_VALUE.to_owned(),
            Companion::Message => message_schema(form),
            Companion::Heartbeat => HEARTBEAT_VALUE.to_owned(),
            Companion::Notification => NOTIFICATION_VALUE.to_owned(),
        }
    }
}

const TRANSACTION_VALUE: &str = concat!(
    r#"{"type":"record","name":"TransactionMetadataValue","namespace":"io.debezium.connector.common","fields":["#,
    r#"{"name":"status","type":"string"},{"name":"id","type":"string"},"#,
    r#"{"name":"event_count","type":["null","long"],"default":null},{"name":"data_collections","type":["null","#,
    r#"{"type":"array","items":["null",{"type":"record","name":"collection","namespace":"event","fields":["#,
    r#"{"name":"data_collection","type":"string"},{"name":"event_count","type":"long"}],"connect.version":1,"#,
    r#""connect.name":"event.collection"}]}],"default":null},{"name":"ts_ms","type":"long"}],"connect.version":1,"#,
    r#""connect.name":"io.debezium.connector.common.TransactionMetadataValue"}"#
);

const HEARTBEAT_VALUE: &str = concat!(
    r#"{"type":"record","name":"Heartbeat","namespace":"io.debezium.connector.common","fields":["#,
    r#"{"name":"ts_ms","type":"long"}],"connect.version":1,"connect.name":"io.debezium.connector.common.Heartbeat"}"#
);

const NOTIFICATION_VALUE: &str = concat!(
    r#"{"type":"record","name":"Notification","namespace":"io.debezium.connector.common","fields":["#,
    r#"{"name":"id","type":"string"},{"name":"type","type":"string"},{"name":"aggregate_type","type":"string"},"#,
    r#"{"name":"additional_data","type":["null",{"type":"map","values":"string"}],"default":null},"#,
    r#"{"name":"timestamp","type":"long"}],"connect.version":1,"#,
    r#""connect.name":"io.debezium.connector.common.Notification"}"#
);

fn message_schema(form: &Form) -> String {
    let content = match form.binaries {
        Binaries::Bytes => "bytes",
        Binaries::Base64 | Binaries::Base64UrlSafe | Binaries::Hex => "string",
    };
    let (source, transaction) = avro_schema::shared_fields(Release::of(&form.emulated));
    // The namespace is that of the record around it, so Avro leaves it out.
    let source = source.replacen(r#""namespace":"io.debezium.connector.postgresql","#, "", 1);
    [
        r#"{"type":"record","name":"MessageValue","namespace":"io.debezium.connector.postgresql","fields":["#,
        r#"{"name":"op","type":"string"},{"name":"ts_ms","type":["null","long"],"default":null},"#,
        &source,
        &transaction,
        r#","#,
        r#"{"name":"message","type":{"type":"record","name":"Message","fields":["#,
        r#"{"name":"prefix","type":["null","string"],"default":null},{"name":"content","type":["null",""#,
        content,
        r#""],"default":null}],"connect.version":1,"connect.name":"io.debezium.connector.postgresql.Message"}}],"#,
        r#""connect.version":1,"connect.name":"io.debezium.connector.postgresql.MessageValue"}"#,
    ]
    .concat()
}

/// Appends a key that is one text.
pub fn text_key(text: &str, out: &mut Vec<u8>) {
    avro::bytes(text.as_bytes(), out);
}

/// Appends the key of a message: its prefix, which the schema lets be null.
pub fn message_key(prefix: &str, out: &mut Vec<u8>) {
    avro::optional_text(Some(prefix), out);
}

/// Appends the value of a heartbeat.
pub fn heartbeat_value(now_ms: i64, out: &mut Vec<u8>) {
    avro::long(now_ms, out);
}

/// Appends the value that says that a transaction began.
pub fn begin_value(id: &str, commit_ms: i64, out: &mut Vec<u8>) {
    avro::bytes(b"BEGIN", out);
    avro::bytes(id.as_bytes(), out);
    out.extend([avro::FIRST, avro::FIRST]);
    avro::long(commit_ms, out);
}

/// Appends the value that says that a transaction ended.
pub fn end_value(id: &str, counts: &Counts, commit_ms: i64, out: &mut Vec<u8>) {
    avro::bytes(b"END", out);
    avro::bytes(id.as_bytes(), out);
    avro::optional_long(Some(counts.total.cast_signed()), out);
    out.push(avro::SECOND);
    let collections = counts.in_order();
    if !collections.is_empty() {
        avro::length(collections.len(), out);
        for (name, count) in collections {
            out.push(avro::SECOND);
            avro::bytes(name.as_bytes(), out);
            avro::long(count.cast_signed(), out);
        }
    }
    avro::long(0, out);
    avro::long(commit_ms, out);
}

/// Appends the content of a message, as `binary.handling.mode` says.
pub fn message_content(content: &[u8], binaries: Binaries, out: &mut Vec<u8>) {
    out.push(avro::SECOND);
    match binaries {
        Binaries::Bytes => avro::bytes(content, out),
        Binaries::Base64 => avro::bytes(base64(content, b'+', b'/').as_bytes(), out),
        Binaries::Base64UrlSafe => avro::bytes(base64(content, b'-', b'_').as_bytes(), out),
        Binaries::Hex => {
            let _ = avro::sized(out, |out| {
                use std::io::Write;
                content.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
            });
        }
    }
}

fn base64(content: &[u8], plus: u8, slash: u8) -> String {
    let digit = |value: u8| match value {
        0..=25 => char::from(b'A' + value),
        26..=51 => char::from(b'a' + value - 26),
        52..=61 => char::from(b'0' + value - 52),
        62 => char::from(plus),
        _ => char::from(slash),
    };
    let mut text = String::with_capacity(content.len().div_ceil(3) * 4);
    for three in content.chunks(3) {
        let at = |index: usize| three.get(index).copied().unwrap_or_default();
        text.push(digit(at(0) >> 2));
        text.push(digit((at(0) & 3) << 4 | at(1) >> 4));
        text.push(if three.len() > 1 {
            digit((at(1) & 15) << 2 | at(2) >> 6)
        } else {
            '='
        });
        text.push(if three.len() > 2 { digit(at(2) & 63) } else { '=' });
    }
    text
}

/// How many events a transaction has, in all and of each table. All that is kept of a transaction, however large.
#[derive(Debug, Default)]
pub struct Counts {
    total: u64,
    collections: HashMap<Arc<str>, (usize, u64)>,
}

/// The place of an event among those of its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// Among all.
    pub total: u64,
    /// Among those of its table.
    pub in_collection: u64,
}

impl Counts {
    /// Counts an event and gives its place.
    pub fn event(&mut self, collection: &Arc<str>) -> Order {
        self.total += 1;
        let next = self.collections.len();
        let (_, count) = match self.collections.get_mut(collection) {
            Some(entry) => entry,
            None => self.collections.entry(collection.clone()).or_insert((next, 0)),
        };
        *count += 1;
        Order {
            total: self.total,
            in_collection: *count,
        }
    }

    /// Whether there is no event yet.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// The tables with their counts in the order in which Java's HashMap gives them: by bucket, within one as they came.
    fn in_order(&self) -> Vec<(&str, u64)> {
        let mut buckets: u32 = 16;
        while self.collections.len() as u64 * 4 > u64::from(buckets) * 3 {
            buckets *= 2;
        }
        let mut entries: Vec<_> = self.collections.iter().collect();
        entries.sort_by_key(|(name, (came, _))| (java_hash(name) & (buckets - 1), *came));
        entries
            .into_iter()
            .map(|(name, (_, count))| (&**name, *count))
            .collect()
    }
}

/// `String.hashCode`, spread as HashMap does it.
fn java_hash(text: &str) -> u32 {
    let hash = text
        .encode_utf16()
        .fold(0u32, |hash, unit| hash.wrapping_mul(31).wrapping_add(u32::from(unit)));
    hash ^ hash >> 16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn golden(name: &str) -> &'static str {
        match name {
            "transaction-key" => include_str!("../tests/fixtures/variant.transaction-key.v1.avsc"),
            "transaction-value" => include_str!("../tests/fixtures/variant.transaction-value.v1.avsc"),
            "message-key" => include_str!("../tests/fixtures/variant.message-key.v1.avsc"),
            "message-value" => include_str!("../tests/fixtures/variant.message-value.v1.avsc"),
            "message-value of bytes" => include_str!("../tests/fixtures/defaults.message-value.v1.avsc"),
            "notifications-key" => include_str!("../tests/fixtures/variant.notifications-key.v1.avsc"),
            "notifications-value" => include_str!("../tests/fixtures/variant.notifications-value.v1.avsc"),
            "heartbeat-key" => include_str!("../tests/fixtures/heartbeat.variant-key.v1.avsc"),
            _ => include_str!("../tests/fixtures/heartbeat.variant-value.v1.avsc"),
        }
    }

    #[test]
    fn schemas_are_those_that_debezium_registered() {
        let variant = Form {
            binaries: Binaries::Base64,
            ..Form::default()
        };
        for (name, companion) in [
            ("transaction", Companion::Transaction),
            ("message", Companion::Message),
            ("heartbeat", Companion::Heartbeat),
            ("notifications", Companion::Notification),
        ] {
            assert_eq!(companion.key_schema(), golden(&format!("{name}-key")));
            assert_eq!(companion.value_schema(&variant), golden(&format!("{name}-value")));
        }
        assert_eq!(
            Companion::Message.value_schema(&Form::default()),
            golden("message-value of bytes")
        );
    }

    #[test]
    fn topics_are_named_as_debezium_names_them() {
        let mut form = Form::default();
        let names = |form: &Form| {
            [Companion::Transaction, Companion::Message, Companion::Heartbeat].map(|topic| topic.topic("shop", form))
        };
        assert_eq!(
            names(&form),
            ["shop.transaction", "shop.message", "__debezium-heartbeat.shop"]
        );
        form.topics.delimiter = "-".to_owned();
        form.topics.heartbeat_prefix = "beat".to_owned();
        assert_eq!(names(&form), ["shop-transaction", "shop.message", "beat-shop"]);
        form.topics.heartbeat_name = Some("pulse".to_owned());
        assert_eq!(names(&form)[2], "pulse");
    }

    /// Both orders are golden output's.
    #[test]
    fn tables_come_in_the_order_of_javas_map() {
        for (came, expected) in [
            (
                ["public.emptied", "public.k_unique"],
                ["public.k_unique", "public.emptied"],
            ),
            (["public.emptied", "public.incr"], ["public.incr", "public.emptied"]),
        ] {
            let mut counts = Counts::default();
            for name in came {
                counts.event(&name.into());
            }
            assert_eq!(
                counts.in_order().iter().map(|(name, _)| *name).collect::<Vec<_>>(),
                expected
            );
        }
    }

    #[test]
    fn events_are_counted_in_all_and_by_table() {
        let (mut counts, t, u) = (Counts::default(), "t".into(), "u".into());
        let orders = [&t, &u, &t].map(|name| counts.event(name));
        let pairs = orders.map(|order| (order.total, order.in_collection));
        assert_eq!(pairs, [(1, 1), (2, 1), (3, 2)]);
    }

    #[test]
    fn content_is_written_as_the_mode_says() {
        for (binaries, expected) in [
            (Binaries::Bytes, b"\x02\x06\xfb\xff\x00".as_slice()),
            (Binaries::Base64, b"\x02\x08+/8A"),
            (Binaries::Base64UrlSafe, b"\x02\x08-_8A"),
            (Binaries::Hex, b"\x02\x0cfbff00"),
        ] {
            let mut out = Vec::new();
            message_content(b"\xfb\xff\x00", binaries, &mut out);
            assert_eq!(out, expected, "{binaries:?}");
        }
        assert_eq!(
            (base64(b"a", b'+', b'/'), base64(b"ab", b'+', b'/')),
            ("YQ==".to_owned(), "YWI=".to_owned())
        );
    }
}
