//! A change that waits for the row it refers to, on `<pipeline>.waiting.<entity>`: the record of the capture topic as it
//! came, so that it is mapped later as it would have been then. A tombstone says that it waits no more.

/// A record that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The capture topic it comes from.
    pub topic: String,
    /// The partition there.
    pub partition: i32,
    /// The offset there.
    pub offset: i64,
    /// Kafka's time, milliseconds since 1970; -1 if it has none.
    pub timestamp_ms: i64,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Vec<u8>,
    /// Its headers, in order.
    pub headers: Vec<(String, Vec<u8>)>,
}

/// Digits of an offset, so that keys sort as offsets do.
const OFFSET_DIGITS: usize = 20;

/// The key of a record that waits. Keys of one partition sort by offset.
pub fn key(topic: &str, partition: i32, offset: i64) -> String {
    format!("{}{offset:0OFFSET_DIGITS$}", prefix(topic, partition))
}

/// What the keys of one partition begin with.
pub fn prefix(topic: &str, partition: i32) -> String {
    format!("{topic}/{partition}/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_by_offset_within_their_partition() {
        assert!(key("t", 1, 9) < key("t", 1, 10));
        assert!(key("t", 1, 9).starts_with(&prefix("t", 1)));
        assert!(!key("t", 11, 9).starts_with(&prefix("t", 1)));
    }
}
