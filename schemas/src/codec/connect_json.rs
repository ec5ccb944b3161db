//! A key as Kafka Connect's JSON has it in Debezium's headers. Dates and times are counts there; what they count only the
//! schema of the record's own key knows.

use serde_json::Value as Json;

use super::schema::{Kind, Meaning, Named, ParsedSchema, Type};
use super::{time, typed};
use crate::value::Value;

/// The columns in `json`, which is a key by `schema`; none if it is not.
pub(crate) fn columns(schema: &ParsedSchema, json: &[u8]) -> Option<Vec<(String, Value)>> {
    let members: serde_json::Map<String, Json> = serde_json::from_slice(json).ok()?;
    let Kind::Named(index) = &schema.root.kind else {
        return None;
    };
    let Named::Record(record) = schema.named(*index) else {
        return None;
    };
    let column = |(name, member): (String, Json)| {
        let at = record.index(&name)?;
        Some((name, value(&record.fields[at].1, &member)?))
    };
    members.into_iter().map(column).collect()
}

fn value(of: &Type, json: &Json) -> Option<Value> {
    match (&of.kind, json) {
        (_, Json::Null) => Some(Value::Null),
        (Kind::Union(branches), _) => {
            let branch = branches.iter().find(|branch| !matches!(branch.kind, Kind::Null));
            value(branch?, json)
        }
        (Kind::Int | Kind::Long, Json::Number(count)) => Some(typed::whole(count.as_i64()?, of.meaning)),
        (Kind::Float | Kind::Double, Json::String(number)) => number.parse().ok().map(Value::Number),
        (Kind::Text, Json::String(text)) if of.meaning == Meaning::ZonedText => {
            Some(Value::Text(time::zoned_text(text)))
        }
        _ => json.to_string().parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = r#"{"type":"record","name":"Key","fields":[
        {"name":"sku","type":"string"},
        {"name":"day","type":{"type":"int","connect.name":"io.debezium.time.Date"}},
        {"name":"at","type":["null",{"type":"long","connect.name":"io.debezium.time.MicroTimestamp"}]},
        {"name":"zoned","type":{"type":"string","connect.name":"io.debezium.time.ZonedTimestamp"}},
        {"name":"n","type":"long"}]}"#;

    fn read(json: &str) -> Option<Vec<(String, String)>> {
        let columns = columns(&ParsedSchema::parse(KEY).unwrap(), json.as_bytes())?;
        Some(
            columns
                .into_iter()
                .map(|(name, value)| (name, value.to_string()))
                .collect(),
        )
    }

    #[test]
    fn dates_and_times_are_read_as_in_rows() {
        let json = r#"{"sku":"a","day":19723,"at":1704067200500000,"zoned":"2024-01-01T00:00:00.120000Z","n":7}"#;
        let columns = read(json).unwrap();
        let of = |name: &str| {
            columns
                .iter()
                .find(|(other, _)| other == name)
                .map(|(_, value)| value.as_str())
        };
        assert_eq!(of("sku"), Some(r#""a""#));
        assert_eq!(of("day"), Some(r#""2024-01-01""#));
        assert_eq!(of("at"), Some(r#""2024-01-01T00:00:00.5""#));
        assert_eq!(of("zoned"), Some(r#""2024-01-01T00:00:00.12Z""#));
        assert_eq!(of("n"), Some("7"));
    }

    #[test]
    fn what_is_no_such_key_is_none() {
        for json in ["", "7", r#"{"other":1}"#, r#"{"day":1.5}"#, r#"{"n":{"a":1}}"#] {
            assert_eq!(read(json), None, "{json}");
        }
    }
}
