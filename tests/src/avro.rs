//! Avro bytes as JSON by nothing but the text of their schema, logical types left as they are on the wire.
//!
//! A comparison wants the bytes, not their meaning: a decimal is its bytes, a NaN is told from null. And Debezium registers
//! schemas that strict libraries refuse (`"default": "NaN"` on a double), which this one, looking at no default, reads.

use std::collections::HashMap;

use anyhow::{Context as _, bail};
use serde_json::{Map, Value as Json};

/// A schema that can read.
pub struct Reader {
    schema: Json,
    /// Named types by their full names.
    names: HashMap<String, Json>,
}

impl Reader {
    /// Of a schema's text.
    pub fn new(text: &str) -> anyhow::Result<Self> {
        let schema: Json = serde_json::from_str(text)?;
        let mut names = HashMap::new();
        collect(&schema, "", &mut names);
        Ok(Self { schema, names })
    }

    /// The datum, and an error unless it takes all of `bytes`.
    pub fn read(&self, mut bytes: &[u8]) -> anyhow::Result<Json> {
        let value = self.datum(&self.schema, "", &mut bytes)?;
        if !bytes.is_empty() {
            bail!("{} bytes too many after the datum", bytes.len());
        }
        Ok(value)
    }

    fn datum(&self, schema: &Json, namespace: &str, bytes: &mut &[u8]) -> anyhow::Result<Json> {
        match schema {
            Json::String(name) => self.primitive(name, namespace, bytes),
            Json::Array(branches) => {
                let index = usize::try_from(long(bytes)?)?;
                self.datum(branches.get(index).context("a branch of the union")?, namespace, bytes)
            }
            _ => match schema["type"].as_str() {
                Some("record") => self.record(schema, namespace, bytes),
                Some("array") => self.array(schema, namespace, bytes),
                Some("map") => self.map(schema, namespace, bytes),
                Some(name) => self.primitive(name, namespace, bytes),
                None => self.datum(&schema["type"], namespace, bytes),
            },
        }
    }

    fn record(&self, schema: &Json, namespace: &str, bytes: &mut &[u8]) -> anyhow::Result<Json> {
        let full = full_name(schema, namespace);
        let namespace = full.rsplit_once('.').map_or("", |(namespace, _)| namespace);
        let mut shown = Map::new();
        for field in schema["fields"].as_array().context("fields of a record")? {
            let name = field["name"].as_str().context("name of a field")?;
            let value = self
                .datum(&field["type"], namespace, bytes)
                .with_context(|| name.to_owned())?;
            shown.insert(name.to_owned(), value);
        }
        Ok(Json::Object(shown))
    }

    fn array(&self, schema: &Json, namespace: &str, bytes: &mut &[u8]) -> anyhow::Result<Json> {
        let mut items = Vec::new();
        while let Some(count) = block(bytes)? {
            for _ in 0..count {
                items.push(self.datum(&schema["items"], namespace, bytes)?);
            }
        }
        Ok(Json::Array(items))
    }

    fn map(&self, schema: &Json, namespace: &str, bytes: &mut &[u8]) -> anyhow::Result<Json> {
        let mut entries = Map::new();
        while let Some(count) = block(bytes)? {
            for _ in 0..count {
                let key = text(bytes)?;
                entries.insert(key, self.datum(&schema["values"], namespace, bytes)?);
            }
        }
        Ok(Json::Object(entries))
    }

    fn primitive(&self, name: &str, namespace: &str, bytes: &mut &[u8]) -> anyhow::Result<Json> {
        Ok(match name {
            "null" => Json::Null,
            "boolean" => (take(bytes, 1)?[0] != 0).into(),
            "int" | "long" => long(bytes)?.into(),
            "float" => float(f32::from_le_bytes(take(bytes, 4)?.try_into()?).into()),
            "double" => float(f64::from_le_bytes(take(bytes, 8)?.try_into()?)),
            "string" => text(bytes)?.into(),
            "bytes" => format!("0x{}", hex(sized(bytes)?)).into(),
            name => {
                let full = if name.contains('.') || namespace.is_empty() {
                    name.to_owned()
                } else {
                    format!("{namespace}.{name}")
                };
                let named = self.names.get(&full).with_context(|| format!("no type {full}"))?;
                self.datum(named, namespace, bytes)?
            }
        })
    }
}

fn collect(schema: &Json, namespace: &str, names: &mut HashMap<String, Json>) {
    match schema {
        Json::Array(branches) => branches.iter().for_each(|branch| collect(branch, namespace, names)),
        Json::Object(_) if schema["type"] == "record" => {
            let full = full_name(schema, namespace);
            names.insert(full.clone(), schema.clone());
            let namespace = full.rsplit_once('.').map_or("", |(namespace, _)| namespace);
            let fields = schema["fields"].as_array().map(Vec::as_slice).unwrap_or_default();
            fields
                .iter()
                .for_each(|field| collect(&field["type"], namespace, names));
        }
        Json::Object(object) => {
            let inner = ["type", "items", "values"].iter().filter_map(|part| object.get(*part));
            inner.for_each(|inner| collect(inner, namespace, names));
        }
        _ => {}
    }
}

fn full_name(schema: &Json, namespace: &str) -> String {
    let name = schema["name"].as_str().unwrap_or_default();
    let namespace = schema["namespace"].as_str().unwrap_or(namespace);
    if name.contains('.') || namespace.is_empty() {
        name.to_owned()
    } else {
        format!("{namespace}.{name}")
    }
}

/// The number of items of the next block; none after the last.
fn block(bytes: &mut &[u8]) -> anyhow::Result<Option<i64>> {
    let count = long(bytes)?;
    if count < 0 {
        long(bytes)?;
    }
    Ok((count != 0).then_some(count.abs()))
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> anyhow::Result<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count).context("the datum ends too early")?;
    *bytes = rest;
    Ok(taken)
}

fn sized<'a>(bytes: &mut &'a [u8]) -> anyhow::Result<&'a [u8]> {
    let count = usize::try_from(long(bytes)?)?;
    take(bytes, count)
}

fn text(bytes: &mut &[u8]) -> anyhow::Result<String> {
    Ok(std::str::from_utf8(sized(bytes)?)?.to_owned())
}

fn long(bytes: &mut &[u8]) -> anyhow::Result<i64> {
    let mut number = 0_u64;
    for shift in (0..70).step_by(7) {
        let byte = take(bytes, 1)?[0];
        number |= u64::from(byte & 0x7F).checked_shl(shift).unwrap_or_default();
        if byte & 0x80 == 0 {
            return Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed());
        }
    }
    bail!("a number of more than ten bytes")
}

fn float(number: f64) -> Json {
    serde_json::Number::from_f64(number).map_or_else(|| number.to_string().into(), Json::Number)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_debezium_writes_is_read() -> anyhow::Result<()> {
        let schema = r#"{"type": "record", "name": "E", "namespace": "a.b", "fields": [
            {"name": "before", "type": ["null", {"type": "record", "name": "V", "fields": [
                {"name": "n", "type": {"type": "long", "connect.default": 0}, "default": 0},
                {"name": "f", "type": ["double", "null"], "default": "NaN"}]}]},
            {"name": "after", "type": ["null", "V"]},
            {"name": "list", "type": {"type": "array", "items": ["null", "bytes"]}}]}"#;
        let nan = f64::NAN.to_le_bytes();
        let bytes = [&[0, 2, 0x81, 0x01, 0][..], &nan, &[2, 2, 4, 1, 0xFF, 0]].concat();
        let value = Reader::new(schema)?.read(&bytes)?;
        assert_eq!(
            value,
            json!({"before": null, "after": {"n": -65, "f": "NaN"}, "list": ["0x01ff"]})
        );
        assert!(Reader::new(schema)?.read(&bytes[..bytes.len() - 1]).is_err());
        Ok(())
    }
}
