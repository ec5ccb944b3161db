//! Keys in their two texts: Connect's for Debezium's `newkey` and `oldkey` headers ([`connect`]), and the values by which
//! the sink's marks name a row.

use syncline_schemas::value::Value;

use crate::postgres::pgoutput::TupleCell;
use crate::table::Table;
use crate::types::Kind;

/// The text of a key in headers.
pub mod connect;

/// The key as a JSON object, if all of it is known: each of its columns in `row`, or in the old row.
pub fn whole_json(table: &Table, row: &[TupleCell], old: &[TupleCell]) -> Option<String> {
    if table.key.is_empty() {
        return None;
    }
    json(table, row).or_else(|| json(table, old))
}

fn json(table: &Table, row: &[TupleCell]) -> Option<String> {
    let member = |index: &usize| {
        let column = &table.columns[*index];
        let value = mark_value(&column.kind, text(row, None, *index)?);
        Some(format!("{}:{value}", Value::text(&*column.name)))
    };
    let members: Option<Vec<String>> = table.key.iter().map(member).collect();
    Some(format!("{{{}}}", members?.join(",")))
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
