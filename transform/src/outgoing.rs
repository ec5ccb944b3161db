//! Records on their way out of a stage, and the dead letter, which is one of them.

use std::sync::Arc;

use syncline_bus::{InRecord, OutRecord, Producer};
use syncline_runtime::Outcome;
use syncline_schemas::envelope::POSITION_HEADER;

/// Headers of the trace context, handed from record to record.
const TRACE_HEADERS: [&str; 2] = ["traceparent", "tracestate"];

/// A record to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition; by the key if none.
    pub partition: Option<i32>,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value.
    pub value: Option<Vec<u8>>,
    /// Headers.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Outgoing {
    /// A record of this key, in the partition that the key gives.
    pub fn keyed(topic: &Arc<str>, key: &str, value: Vec<u8>) -> Self {
        Self {
            topic: Arc::clone(topic),
            partition: None,
            key: Some(key.as_bytes().to_vec()),
            value: Some(value),
            headers: Vec::new(),
        }
    }

    /// The same, in this partition.
    #[must_use]
    pub fn in_partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// The same, in the trace of `cause`.
    #[must_use]
    pub fn caused_by(mut self, cause: &InRecord) -> Self {
        let traced = cause
            .headers
            .iter()
            .filter(|(name, _)| TRACE_HEADERS.contains(&name.as_str()));
        self.headers.extend(traced.cloned());
        self
    }

    /// Hands it to the producer.
    pub fn send(&self, producer: &mut Producer) -> Outcome<()> {
        let headers: Vec<(&str, &[u8])> = self
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_slice()))
            .collect();
        producer.send(&OutRecord {
            topic: &self.topic,
            partition: self.partition,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: &headers,
            timestamp_ms: None,
        })
    }
}

/// The record that `stage` could not work on, its bytes as they came, and why.
pub fn dead_letter(topic: &Arc<str>, stage: &str, reason: &str, record: &InRecord) -> Outgoing {
    let mut headers: Vec<(String, Vec<u8>)> = [
        ("syncline.reason", reason.to_owned()),
        ("syncline.stage", stage.to_owned()),
        ("syncline.topic", record.topic.clone()),
        ("syncline.partition", record.partition.to_string()),
        ("syncline.offset", record.offset.to_string()),
    ]
    .into_iter()
    .map(|(name, text)| (name.to_owned(), text.into_bytes()))
    .collect();
    let position = record.headers.iter().find(|(name, _)| name == POSITION_HEADER);
    headers.extend(position.cloned());
    let letter = Outgoing {
        topic: Arc::clone(topic),
        partition: None,
        key: record.key.clone(),
        value: record.value.clone(),
        headers,
    };
    letter.caused_by(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_letter_keeps_the_bytes_and_says_why() {
        let record = InRecord {
            topic: "shop.public.t".to_owned(),
            partition: 3,
            offset: 7,
            timestamp_ms: 0,
            key: Some(vec![1]),
            value: Some(vec![9, 9]),
            headers: vec![
                ("traceparent".to_owned(), b"00".to_vec()),
                ("other".to_owned(), b"x".to_vec()),
            ],
        };
        let letter = dead_letter(&Arc::from("p.dlq.map"), "map", "why", &record);
        assert_eq!(
            (letter.key.as_deref(), letter.value.as_deref()),
            (Some(&[1][..]), Some(&[9, 9][..]))
        );
        let header = |name: &str| {
            let found = letter.headers.iter().find(|(other, _)| other == name);
            found.map(|(_, value)| String::from_utf8(value.clone()).unwrap())
        };
        assert_eq!(header("syncline.reason").as_deref(), Some("why"));
        assert_eq!(header("syncline.offset").as_deref(), Some("7"));
        assert_eq!(header("traceparent").as_deref(), Some("00"));
        assert_eq!(header("other"), None);
    }
}
