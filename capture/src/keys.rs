//! Keys in their two texts: Connect's JSON for Debezium's `newkey` and `oldkey` headers, and the values by which the
//! sink's marks name a row.

use std::fmt::Write;

use syncline_schemas::value::Value;

use crate::postgres::pgoutput::TupleCell;
use crate::table::Table;
use crate::text::interval::Interval;
use crate::text::time;
use crate::types::{Clock, Days, Kind};

/// The key as Connect's header converter writes it: `{"b":"three","a":4}`, in the order of the key.
pub fn connect_json(table: &Table, row: &[TupleCell], other: Option<&[TupleCell]>) -> String {
    let mut out = String::from("{");
    for (position, &index) in table.key.iter().enumerate() {
        let column = &table.columns[index];
        let comma = if position > 0 { "," } else { "" };
        let _ = write!(out, "{comma}{}:", serde_json::Value::from(column.field.as_str()));
        match text(row, other, index) {
            Some(text) => out.push_str(&connect_value(&column.kind, text)),
            None => out.push_str("null"),
        }
    }
    out.push('}');
    out
}

/// The same, if all of the key is known: each of its columns in `row`, or in the old row.
pub fn whole_json(table: &Table, row: &[TupleCell], old: &[TupleCell]) -> Option<String> {
    let is_known = |index: &usize| text(row, None, *index).is_some();
    if table.key.is_empty() {
        return None;
    }
    if table.key.iter().all(is_known) {
        return Some(connect_json(table, row, None));
    }
    let is_known = |index: &usize| text(old, None, *index).is_some();
    table.key.iter().all(is_known).then(|| connect_json(table, old, None))
}

/// The values of the columns named, as a mark writes them; `None` if one of them is not in the row.
pub fn values(table: &Table, row: &[TupleCell], other: Option<&[TupleCell]>, columns: &[String]) -> Option<Vec<Value>> {
    let value = |name: &String| {
        let index = table.columns.iter().position(|column| &column.name == name)?;
        Some(mark_value(&table.columns[index].kind, text(row, other, index)?))
    };
    columns.iter().map(value).collect()
}

fn text<'a>(row: &'a [TupleCell], other: Option<&'a [TupleCell]>, index: usize) -> Option<&'a str> {
    match row.get(index)? {
        TupleCell::Text(text) => std::str::from_utf8(text).ok(),
        TupleCell::Unchanged => other.and_then(|other| self::text(other, None, index)),
        TupleCell::Null | TupleCell::Binary(_) => None,
    }
}

fn connect_value(kind: &Kind, text: &str) -> String {
    let number = match kind {
        Kind::Bool => return (text == "t").to_string(),
        Kind::Int16 | Kind::Int32 | Kind::Int64 | Kind::Decimal { .. } | Kind::VariableDecimal => {
            return text.to_owned();
        }
        Kind::Date(Days::Count) => time::date_days(text, time::STREAM_DATE_INFINITY).map(i64::from),
        Kind::Time(Clock::Millis) => time::time_us(text).map(|us| us.div_euclid(1000)),
        Kind::Time(Clock::Micros) => time::time_us(text),
        Kind::Timestamp(Clock::Millis) => time::timestamp_us(text).map(|us| us.div_euclid(1000)),
        Kind::Timestamp(Clock::Micros) => time::timestamp_us(text),
        Kind::Duration => Interval::parse(text).map(|interval| interval.us()),
        Kind::ZonedTimestamp(digits) => return json(&zoned(text, usize::from(*digits))),
        _ => return json(text),
    };
    number.map_or_else(|_| json(text), |number| number.to_string())
}

fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn zoned(text: &str, digits: usize) -> String {
    let mut out = Vec::new();
    match time::zoned_us(text) {
        Ok(Some(us)) => time::write_zoned(us, digits, &mut out),
        _ => return text.to_owned(),
    }
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned())
}

/// The value in the form in which apps are compared (`syncline_schemas::value`).
fn mark_value(kind: &Kind, text: &str) -> Value {
    match kind {
        Kind::Bool => Value::Bool(text == "t"),
        Kind::Int16
        | Kind::Int32
        | Kind::Int64
        | Kind::Float32
        | Kind::Float64
        | Kind::Decimal { .. }
        | Kind::VariableDecimal => text.parse().map_or_else(|_| Value::text(text), Value::Number),
        Kind::Timestamp(_) => Value::text(text.replacen(' ', "T", 1)),
        Kind::ZonedTimestamp(_) => Value::text(text.replacen(' ', "T", 1).replace("+00", "Z")),
        _ => Value::text(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::pgoutput::ReplicaIdentity;
    use crate::table::fixture;

    fn row(cells: &[&'static str]) -> Vec<TupleCell> {
        cells
            .iter()
            .map(|text| TupleCell::Text(bytes::Bytes::from_static(text.as_bytes())))
            .collect()
    }

    #[test]
    fn a_key_is_the_json_that_debezium_puts_into_headers() {
        let required = |name, kind| (name, kind, -1, true, None);
        let mut columns = vec![("n", "numeric", (8 << 16 | 2) + 4, true, None), required("u", "uuid")];
        columns.extend([
            required("tz", "timestamptz"),
            required("d", "date"),
            required("e", "enum:sad|ok"),
        ]);
        columns.extend([required("s", "text"), required("b", "bool")]);
        let key = ["n", "u", "tz", "d", "e", "s", "b"];
        let table = fixture::table(&fixture::info("t", &columns, &key, ReplicaIdentity::Default), "x");
        let uuid = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
        let row = row(&["1.50", uuid, "2024-01-01 00:00:00+00", "2024-01-01", "sad", "s", "t"]);
        let expected = r#"{"n":1.50,"u":"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11","tz":"2024-01-01T00:00:00.000000Z","d":19723,"e":"sad","s":"s","b":true}"#;
        assert_eq!(connect_json(&table, &row, None), expected);
    }

    #[test]
    fn marks_name_rows_by_plain_values() {
        let columns = [("id", "int8", -1, true, None), ("region", "text", -1, true, None)];
        let table = fixture::table(
            &fixture::info("t", &columns, &["id", "region"], ReplicaIdentity::Default),
            "x",
        );
        let names = ["id".to_owned(), "region".to_owned()];
        assert_eq!(
            values(&table, &row(&["7", "eu"]), None, &names),
            Some(vec![Value::from(7), Value::from("eu")])
        );
        assert_eq!(values(&table, &row(&["7", "eu"]), None, &["other".to_owned()]), None);
    }
}
