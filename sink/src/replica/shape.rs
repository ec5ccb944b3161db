//! The table that a copy needs, from the Avro schemas of the topic. Pure.
//!
//! Debezium's schemas say what a column means by `connect.name` and not which type it had, so the copy has the type that
//! holds the same values: `text` for every kind of text, `json` for both JSON types (`jsonb` would reorder the members of the
//! other, drop what is there twice, and refuse `\u0000`). Only the key is NOT NULL: the
//! source's other constraints may be dropped without a word in its log.
//!
//! Type names come from the closed list below, so that nothing out of a topic becomes SQL.

use serde_json::Value as Json;

/// What a copy needs to have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Columns and their types in SQL, in the order of the source.
    pub columns: Vec<(String, String)>,
    /// The columns of the key, in its order.
    pub key: Vec<String>,
}

/// The shape behind the schemas of a topic's keys and values. The error names what is missing.
pub fn of(key: &str, value: &str) -> Result<Shape, String> {
    let (key, value) = (self::key(key)?, parse(value)?);
    let row = field(&value, "before")
        .or_else(|| field(&value, "after"))
        .and_then(record);
    let row = row.ok_or("the schema is no envelope: there is no record `before`")?;
    let columns = fields(row).map(|(name, of)| (name.to_owned(), sql_type(of))).collect();
    Ok(Shape { columns, key })
}

/// The columns of the key behind the schema of a topic's keys, in its order.
pub fn key(schema: &str) -> Result<Vec<String>, String> {
    Ok(fields(&parse(schema)?).map(|(name, _)| name.to_owned()).collect())
}

fn parse(schema: &str) -> Result<Json, String> {
    serde_json::from_str(schema).map_err(|error| format!("the schema is no JSON: {error}"))
}

fn fields(record: &Json) -> impl Iterator<Item = (&str, &Json)> {
    let fields = record
        .get("fields")
        .and_then(Json::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    fields
        .iter()
        .filter_map(|field| Some((field.get("name")?.as_str()?, field.get("type")?)))
}

fn field<'a>(record: &'a Json, name: &str) -> Option<&'a Json> {
    fields(record).find(|(other, _)| *other == name).map(|(_, of)| of)
}

/// The record in `["null", {record}]`.
fn record(of: &Json) -> Option<&Json> {
    Some(without_null(of)).filter(|of| of.get("fields").is_some())
}

fn without_null(of: &Json) -> &Json {
    match of {
        Json::Array(branches) => branches.iter().find(|branch| *branch != "null").unwrap_or(of),
        _ => of,
    }
}

fn sql_type(of: &Json) -> String {
    let of = without_null(of);
    let base = of.get("type").unwrap_or(of).as_str().unwrap_or_default();
    match (named(of), base) {
        (Some("org.apache.kafka.connect.data.Decimal"), _) => decimal(of),
        (Some(name), _) if by_name(name).is_some() => by_name(name).unwrap_or("text").to_owned(),
        (_, "array") => format!("{}[]", of.get("items").map_or_else(|| "text".to_owned(), sql_type)),
        (_, "bytes") if of.get("logicalType").and_then(Json::as_str) == Some("decimal") => decimal(of),
        _ => by_base(of, base).to_owned(),
    }
}

/// `connect.name`, or of a record named a second time its full name alone.
fn named(of: &Json) -> Option<&str> {
    of.get("connect.name")
        .and_then(Json::as_str)
        .or_else(|| of.as_str().filter(|name| name.contains('.')))
}

fn by_name(name: &str) -> Option<&'static str> {
    Some(match name.rsplit('.').next()? {
        "Date" => "date",
        "Time" | "MicroTime" | "NanoTime" => "time",
        "ZonedTime" => "timetz",
        "Timestamp" | "MicroTimestamp" | "NanoTimestamp" => "timestamp",
        "ZonedTimestamp" => "timestamptz",
        "MicroDuration" | "NanoDuration" | "Interval" => "interval",
        "VariableScaleDecimal" => "numeric",
        "Json" => "json",
        "Uuid" => "uuid",
        "Xml" => "xml",
        "Bits" => "bit varying",
        "Year" => "integer",
        "Enum" | "EnumSet" | "Ltree" | "Tsvector" | "Point" | "Geometry" | "Geography" => "text",
        _ => return None,
    })
}

fn by_base(of: &Json, base: &str) -> &'static str {
    match base {
        "boolean" => "boolean",
        "int" => match of.get("connect.type").and_then(Json::as_str) {
            Some("int8" | "int16") => "smallint",
            _ => "integer",
        },
        "long" => "bigint",
        "float" => "real",
        "double" => "double precision",
        "bytes" | "fixed" => "bytea",
        _ => "text",
    }
}

/// Precision 64 is Debezium's word for one that is not known.
fn decimal(of: &Json) -> String {
    let number = |name: &str| of.get(name).and_then(Json::as_u64);
    match (number("precision"), number("scale")) {
        (Some(precision @ 1..=1000), Some(scale @ 0..=1000)) if precision != 64 => {
            format!("numeric({precision},{scale})")
        }
        _ => "numeric".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        r#"{"type":"record","name":"Key","fields":[{"name":"b","type":"int"},{"name":"a","type":"string"}]}"#;

    fn columns(fields: &str) -> Vec<String> {
        let value = format!(
            r#"{{"type":"record","name":"Envelope","fields":[
                {{"name":"before","type":["null",{{"type":"record","name":"Value","fields":[{fields}]}}]}},
                {{"name":"after","type":["null","Value"]}}]}}"#
        );
        of(KEY, &value)
            .unwrap()
            .columns
            .into_iter()
            .map(|(_, sql_type)| sql_type)
            .collect()
    }

    #[test]
    fn types_hold_what_the_source_holds() {
        let decimal =
            r#"{"type":"bytes","scale":2,"precision":12,"connect.name":"org.apache.kafka.connect.data.Decimal"}"#;
        let variable = r#"{"type":"record","name":"VariableScaleDecimal","namespace":"io.debezium.data","fields":[],"connect.name":"io.debezium.data.VariableScaleDecimal"}"#;
        let cases = [
            (r#"["null","boolean"]"#, "boolean"),
            (r#"{"type":"int","connect.type":"int16"}"#, "smallint"),
            (r#"[{"type":"int","connect.default":0},"null"]"#, "integer"),
            (r#""long""#, "bigint"),
            (r#""double""#, "double precision"),
            (r#"["null","bytes"]"#, "bytea"),
            (
                r#"["null",{"type":"string","connect.name":"io.debezium.data.Json"}]"#,
                "json",
            ),
            (
                r#"{"type":"string","connect.name":"io.debezium.time.ZonedTimestamp"}"#,
                "timestamptz",
            ),
            (
                r#"{"type":"long","connect.name":"io.debezium.time.MicroTimestamp"}"#,
                "timestamp",
            ),
            (r#"{"type":"int","connect.name":"io.debezium.time.Date"}"#, "date"),
            (r#"["null",{"type":"array","items":["null","int"]}]"#, "integer[]"),
            (r#"{"type":"string","connect.name":"something.unheard.Of"}"#, "text"),
            (decimal, "numeric(12,2)"),
            (variable, "numeric"),
            (r#""io.debezium.data.VariableScaleDecimal""#, "numeric"),
        ];
        for (schema, expected) in cases {
            assert_eq!(
                columns(&format!(r#"{{"name":"x","type":{schema}}}"#)),
                [expected],
                "{schema}"
            );
        }
    }

    #[test]
    fn the_key_keeps_its_order() {
        let value = r#"{"type":"record","name":"E","fields":[{"name":"before","type":["null",{"type":"record","name":"V","fields":[]}]}]}"#;
        assert_eq!(of(KEY, value).unwrap().key, ["b", "a"]);
        assert!(of(KEY, r#"{"type":"record","name":"E","fields":[]}"#).is_err());
    }
}
