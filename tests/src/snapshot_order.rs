//! Pure: the rows that a snapshot read from one table, in the order of their keys.
//!
//! Debezium selects without an order, so its rows come as they happen to lie in the table; ours come in chunks of the key.
//! They are rows of one moment, and no reader can have expected one of them before another. Of tables without a key both
//! read as they lie. What marks the first and the last of them belongs to its place, not to the row.

use serde_json::Value as Json;

const MARK: &str = "/value/source/snapshot";

/// Puts the rows that a snapshot read, which are the first of a topic, into the order of their keys.
pub fn by_key(records: &mut [Json]) {
    let is_read = |record: &&Json| record["value"]["op"] == "r";
    let number = records.iter().take_while(is_read).count();
    let rows = &mut records[..number];
    let marks: Vec<Option<Json>> = rows.iter().map(|row| row.pointer(MARK).cloned()).collect();
    rows.sort_by_cached_key(|row| row["key"].to_string());
    for (row, mark) in rows.iter_mut().zip(marks) {
        if let (Some(place), Some(mark)) = (row.pointer_mut(MARK), mark) {
            *place = mark;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(key: Json, op: &str, mark: &str) -> Json {
        json!({"key": key, "value": {"op": op, "source": {"snapshot": mark}}})
    }

    #[test]
    fn rows_of_the_snapshot_are_sorted_and_what_follows_is_not() {
        let mut records = [
            record(json!({"id": 2}), "r", "first"),
            record(json!({"id": 1}), "r", "last"),
            record(json!({"id": 9}), "c", "false"),
            record(json!({"id": 0}), "c", "false"),
        ];
        by_key(&mut records);
        let expected = [
            record(json!({"id": 1}), "r", "first"),
            record(json!({"id": 2}), "r", "last"),
            record(json!({"id": 9}), "c", "false"),
            record(json!({"id": 0}), "c", "false"),
        ];
        assert_eq!(records, expected);
    }

    #[test]
    fn rows_without_a_key_stay_as_they_are() {
        let rows = ["first", "true", "last"].map(|mark| record(Json::Null, "r", mark));
        let mut sorted = rows.clone();
        by_key(&mut sorted);
        assert_eq!(sorted, rows);
    }
}
