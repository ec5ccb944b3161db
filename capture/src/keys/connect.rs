//! A key as the text that Connect's header converter makes of it: `{"b":"three","a":4}`.
//!
//! Made from the key's bytes by its schema, and so from what the record says and not from what the log says. Texts are in
//! quotes, numbers as Java prints them, bytes in base64; the dates of Kafka Connect stand without quotes, in a pattern that
//! hangs on their value. Slow, which does not matter: a key seldom changes.

use std::collections::BTreeMap;

use num_bigint::BigInt;
use serde_json::Value as Json;

use crate::avro;
use crate::text::binary::Alphabet;
use crate::text::number::{java_decimal, java_double, java_single};
use crate::text::time;

const DAY_MS: i64 = 86_400_000;

/// The text of a key of that schema; an empty one if these are no such bytes.
pub fn text(schema: &str, key: &[u8]) -> String {
    let schema: Json = serde_json::from_str(schema).unwrap_or_default();
    let mut walk = Walk {
        bytes: key,
        named: BTreeMap::new(),
        out: String::new(),
    };
    collect(&schema, &mut walk.named);
    match walk.value(&schema) {
        Some(()) => walk.out,
        None => String::new(),
    }
}

/// Finds the records in a schema: a second one of a name is only named.
fn collect<'a>(schema: &'a Json, named: &mut BTreeMap<String, &'a Json>) {
    match schema {
        Json::Array(branches) => branches.iter().for_each(|branch| collect(branch, named)),
        Json::Object(object) => {
            if let (Some(namespace), Some(name)) = (schema["namespace"].as_str(), schema["name"].as_str()) {
                named.insert(format!("{namespace}.{name}"), schema);
            }
            let inner = ["type", "fields", "items", "values"].iter();
            inner
                .filter_map(|part| object.get(*part))
                .for_each(|inner| collect(inner, named));
        }
        _ => (),
    }
}

struct Walk<'a> {
    bytes: &'a [u8],
    named: BTreeMap<String, &'a Json>,
    out: String,
}

impl<'a> Walk<'a> {
    fn value(&mut self, schema: &Json) -> Option<()> {
        match schema {
            Json::Array(branches) => {
                let branch = usize::try_from(self.long()?).ok()?;
                self.value(branches.get(branch)?)
            }
            Json::String(name) => self.plain(name, schema),
            _ => match schema["type"].as_str()? {
                "record" => self.record(schema),
                "array" => self.array(&schema["items"]),
                "map" => self.map(&schema["values"]),
                name => self.plain(name, schema),
            },
        }
    }

    fn record(&mut self, schema: &Json) -> Option<()> {
        self.out.push('{');
        for (place, field) in schema["fields"].as_array()?.iter().enumerate() {
            self.comma(place > 0);
            self.quoted(field["name"].as_str()?);
            self.out.push(':');
            self.value(&field["type"])?;
        }
        self.out.push('}');
        Some(())
    }

    fn array(&mut self, items: &Json) -> Option<()> {
        self.out.push('[');
        self.blocks(|walk| walk.value(items))?;
        self.out.push(']');
        Some(())
    }

    fn map(&mut self, values: &Json) -> Option<()> {
        self.out.push('{');
        self.blocks(|walk| {
            walk.plain("string", &Json::Null)?;
            walk.out.push(':');
            walk.value(values)
        })?;
        self.out.push('}');
        Some(())
    }

    /// Everything of an array or a map; we write positive counts only.
    fn blocks(&mut self, mut each: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        let mut follows = false;
        loop {
            match self.long()? {
                0 => return Some(()),
                count => {
                    for _ in 0..count {
                        self.comma(std::mem::replace(&mut follows, true));
                        each(self)?;
                    }
                }
            }
        }
    }

    fn plain(&mut self, name: &str, schema: &Json) -> Option<()> {
        let text = match name {
            "null" => "null".to_owned(),
            "boolean" => (self.take(1)?[0] != 0).to_string(),
            "int" | "long" => {
                let number = self.long()?;
                date(schema["connect.name"].as_str().unwrap_or_default(), number)
            }
            "float" => java_single(f32::from_le_bytes(self.take(4)?.try_into().ok()?)),
            "double" => java_double(f64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            "string" => {
                let text = self.sized()?;
                self.quoted(std::str::from_utf8(text).ok()?);
                return Some(());
            }
            "bytes" if schema["logicalType"] == "decimal" => {
                let scale = u32::try_from(schema["scale"].as_u64()?).ok()?;
                java_decimal(&BigInt::from_signed_bytes_be(self.sized()?), scale)
            }
            "bytes" => {
                let mut text = Vec::new();
                Alphabet::Base64.write(self.sized()?, &mut text);
                format!("\"{}\"", String::from_utf8(text).ok()?)
            }
            name => {
                let named = *self.named.get(name)?;
                return self.value(named);
            }
        };
        self.out.push_str(&text);
        Some(())
    }

    fn quoted(&mut self, text: &str) {
        self.out.push('"');
        self.out.push_str(&text.replace('\\', "\\\\").replace('"', "\\\""));
        self.out.push('"');
    }

    fn comma(&mut self, follows: bool) {
        if follows {
            self.out.push(',');
        }
    }

    fn long(&mut self) -> Option<i64> {
        let (number, rest) = avro::read_long(self.bytes)?;
        self.bytes = rest;
        Some(number)
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(count)?;
        self.bytes = rest;
        Some(taken)
    }

    fn sized(&mut self) -> Option<&'a [u8]> {
        let count = usize::try_from(self.long()?).ok()?;
        self.take(count)
    }
}

/// A number, or one of Kafka Connect's dates, which are milliseconds to Java, whatever they are called.
fn date(name: &str, number: i64) -> String {
    let ms = match name {
        "org.apache.kafka.connect.data.Date" => number.saturating_mul(DAY_MS),
        "org.apache.kafka.connect.data.Time" | "org.apache.kafka.connect.data.Timestamp" => number,
        _ => return number.to_string(),
    };
    let mut text = Vec::new();
    time::write_zoned(ms.saturating_mul(1000), 3, &mut text);
    let text = String::from_utf8(text).unwrap_or_default();
    match text.split_once('T') {
        Some((_, clock)) if ms < DAY_MS => clock.to_owned(),
        Some((day, _)) if ms % DAY_MS == 0 => day.to_owned(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::Other;
    use crate::form::{Decimals, Form, Times};
    use crate::postgres::pgoutput::{ReplicaIdentity, TupleCell};
    use crate::table::{Limits, Table, fixture, relation_of};

    /// The text of a key of these columns, each with its value.
    fn key(columns: &[(&'static str, &'static str, i32, &'static str)], form: &Form) -> String {
        let specs: Vec<_> = columns
            .iter()
            .map(|(name, kind, modifier, _)| (*name, *kind, *modifier, true, None))
            .collect();
        let names: Vec<&str> = columns.iter().map(|column| column.0).collect();
        let info = fixture::info("t", &specs, &names, ReplicaIdentity::Default);
        let all: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let table = Table::new(
            &relation_of(&info, &all),
            Some(&info),
            "x.public.t".to_owned(),
            form,
            Limits::default(),
        );
        let row: Vec<TupleCell> = columns
            .iter()
            .map(|column| TupleCell::Text(bytes::Bytes::from_static(column.3.as_bytes())))
            .collect();
        let schema = table.key_schema.clone().unwrap();
        let registered = crate::envelope::Registered::new(table, (Some(1), 2), form, "x", "d");
        let mut out = Vec::new();
        let reading = registered.table.reading(false);
        let place = crate::envelope::key(&registered, &row, Other::None, reading, &mut out)
            .unwrap()
            .unwrap();
        text(&schema, &out[place][5..])
    }

    #[test]
    fn a_key_is_the_text_that_debezium_puts_into_headers() {
        let uuid = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
        let columns = [
            ("n", "numeric", (8 << 16 | 2) + 4, "1.50"),
            ("u", "uuid", -1, uuid),
            ("tz", "timestamptz", -1, "2024-01-01 00:00:00+00"),
            ("d", "date", -1, "2024-01-01"),
            ("e", "enum:sad|ok", -1, "sad"),
            ("s", "text", -1, "a \"b\" \\"),
            ("b", "bool", -1, "t"),
            ("v", "numeric", -1, "12.5"),
            ("w", "numeric", -1, "2"),
            ("y", "bytea", -1, "\\x00ff"),
        ];
        let expected = r#"{"n":1.50,"u":"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11","tz":"2024-01-01T00:00:00.000000Z","d":19723,"e":"sad","s":"a \"b\" \\","b":true,"v":{"scale":1,"value":"fQ=="},"w":{"scale":0,"value":"Ag=="},"y":"AP8="}"#;
        assert_eq!(key(&columns, &Form::default()), expected);
    }

    #[test]
    fn dates_of_connect_stand_without_quotes() {
        let form = Form {
            times: Times::Connect,
            decimals: Decimals::String,
            ..Form::default()
        };
        let columns = [
            ("n", "numeric", (8 << 16 | 2) + 4, "1.50"),
            ("d", "date", -1, "2024-01-01"),
            ("t", "time", -1, "13:14:15.5"),
            ("ts", "timestamp", -1, "2024-01-01 00:00:01.25"),
            ("old", "timestamp", -1, "1969-12-31 23:59:59"),
        ];
        let expected =
            r#"{"n":"1.50","d":2024-01-01,"t":13:14:15.500Z,"ts":2024-01-01T00:00:01.250Z,"old":23:59:59.000Z}"#;
        assert_eq!(key(&columns, &form), expected);
    }
}
