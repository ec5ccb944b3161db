//! Records going out and coming in.

use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A record to be sent.
#[derive(Clone, Copy, Debug)]
pub struct OutRecord<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition; chosen by the key, if `None`.
    pub partition: Option<i32>,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Headers, in order.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// Milliseconds since 1970; now, if `None`.
    pub timestamp_ms: Option<i64>,
}

impl OutRecord<'_> {
    /// What the record weighs, without what the protocol adds.
    pub fn bytes(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len) + headers
    }
}

/// A record that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InRecord {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// Milliseconds since 1970; -1 if the record has none.
    pub timestamp_ms: i64,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Headers, in order. A header without a value has an empty one.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl InRecord {
    /// What its key and value weigh.
    pub fn bytes(&self) -> usize {
        self.key.as_ref().map_or(0, Vec::len) + self.value.as_ref().map_or(0, Vec::len)
    }

    /// The value of the last header of this name.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers
            .iter()
            .rev()
            .find(|(other, _)| other == name)
            .map(|(_, value)| value.as_slice())
    }

    pub(crate) fn from_message(message: &BorrowedMessage<'_>) -> Self {
        Self {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis().unwrap_or(-1),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: message.headers().map(read_headers).unwrap_or_default(),
        }
    }
}

pub(crate) fn read_headers(headers: &impl Headers) -> Vec<(String, Vec<u8>)> {
    (0..headers.count())
        .filter_map(|index| read_header(headers, index))
        .collect()
}

/// rdkafka panics at a header name that is not UTF-8, and whoever may write to a topic can send one. Such a header
/// is none of ours; it is dropped, the record is not.
fn read_header(headers: &impl Headers, index: usize) -> Option<(String, Vec<u8>)> {
    let header = catch_unwind(AssertUnwindSafe(|| headers.try_get(index)))
        .ok()
        .flatten()?;
    Some((header.key.to_owned(), header.value.unwrap_or_default().to_vec()))
}

pub(crate) fn write_headers(headers: &[(&str, &[u8])]) -> Option<OwnedHeaders> {
    if headers.is_empty() {
        return None;
    }
    let empty = OwnedHeaders::new_with_capacity(headers.len());
    Some(headers.iter().fold(empty, |all, (key, value)| {
        all.insert(Header {
            key,
            value: Some(*value),
        })
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_keep_their_order_and_a_missing_value_is_empty() {
        let headers = OwnedHeaders::new()
            .insert(Header {
                key: "a",
                value: Some("1"),
            })
            .insert(Header {
                key: "none",
                value: None::<&str>,
            })
            .insert(Header {
                key: "a",
                value: Some(""),
            });
        let read = read_headers(headers.as_borrowed());
        let expected = [("a", "1"), ("none", ""), ("a", "")];
        assert_eq!(
            read,
            expected.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()))
        );
    }

    #[test]
    fn what_is_written_is_read() {
        let written = write_headers(&[("k", b"\x00\xff"), ("empty", b"")]);
        let read = written.map(|headers| read_headers(headers.as_borrowed()));
        assert_eq!(
            read,
            Some(vec![("k".to_owned(), vec![0, 255]), ("empty".to_owned(), Vec::new())])
        );
        assert!(write_headers(&[]).is_none());
    }

    #[test]
    fn weighs_key_value_and_headers() {
        let record = OutRecord {
            topic: "t",
            partition: None,
            key: Some(b"12"),
            value: Some(b"345"),
            headers: &[("6", b"78")],
            timestamp_ms: None,
        };
        assert_eq!(record.bytes(), 8);
    }
}
