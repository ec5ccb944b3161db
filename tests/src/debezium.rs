//! Records that Debezium wrote, from fixtures of a real run, as bytes again.

use anyhow::{Context as _, bail};
use apache_avro::types::Value as Avro;
use apache_avro::{Decimal, Schema};
use serde_json::Value as Json;

use crate::kafka::Topics;

/// A record to be written: key, value, headers.
pub type Written = (Option<Vec<u8>>, Option<Vec<u8>>, Vec<(String, String)>);

/// The fixtures of one table.
pub struct Fixture {
    /// The key's schema, as Debezium registered it.
    pub key: &'static str,
    /// The envelope's schema, as Debezium registered it.
    pub value: &'static str,
    /// One decoded record a line.
    pub records: &'static str,
}

impl Fixture {
    /// Registers the schemas for `topic` and encodes all records, their positions rising from `lsn`.
    pub fn encode(&self, topics: &Topics, topic: &str, lsn: i64) -> anyhow::Result<Vec<Written>> {
        let key_id = topics.register(&format!("{topic}-key"), self.key)?;
        let value_id = topics.register(&format!("{topic}-value"), self.value)?;
        let (key, value) = (Schema::parse_str(self.key)?, Schema::parse_str(self.value)?);
        let mut written = Vec::new();
        for (line, number) in self.records.lines().zip(0..) {
            let record: Json = serde_json::from_str(line)?;
            let at = lsn + number * 8;
            let encode = |id, schema, json: &Json| match json {
                Json::Null => anyhow::Ok(None),
                json => Ok(Some(framed(id, schema, &of_json(schema, json, at, schema)?)?)),
            };
            let (key, value) = (
                encode(key_id, &key, &record["key"])?,
                encode(value_id, &value, &record["value"])?,
            );
            written.push((key, value, headers(&record["headers"])));
        }
        Ok(written)
    }
}

fn headers(json: &Json) -> Vec<(String, String)> {
    let pairs = json.as_array().map(Vec::as_slice).unwrap_or_default();
    pairs
        .iter()
        .map(|pair| (crate::agreed::show(&pair[0]), crate::agreed::show(&pair[1])))
        .collect()
}

fn framed(id: u32, schema: &Schema, datum: &Avro) -> anyhow::Result<Vec<u8>> {
    let mut bytes = vec![0];
    bytes.extend(id.to_be_bytes());
    let writer = apache_avro::writer::datum::GenericDatumWriter::builder(schema).build()?;
    writer.write_value_ref(&mut bytes, datum)?;
    Ok(bytes)
}

/// The value that `json` shows. What differs from run to run is written `<name>` there.
fn of_json(schema: &Schema, json: &Json, at: i64, root: &Schema) -> anyhow::Result<Avro> {
    let volatile = json
        .as_str()
        .is_some_and(|text| text.starts_with('<') && text.ends_with('>'));
    Ok(match schema {
        Schema::Null => Avro::Null,
        Schema::Ref { name } => {
            let schema = crate::kafka::named(root, &name.fullname(None)).context("a name that the schema defines")?;
            of_json(schema, json, at, root)?
        }
        Schema::Union(union) => {
            let index = union
                .variants()
                .iter()
                .position(|variant| matches!(variant, Schema::Null) == json.is_null());
            let index = index.context("no branch of the union fits")?;
            let inner = of_json(&union.variants()[index], json, at, root)?;
            Avro::Union(u32::try_from(index)?, Box::new(inner))
        }
        Schema::Record(record) => Avro::Record(
            record
                .fields
                .iter()
                .map(|field| {
                    Ok((
                        field.name.clone(),
                        of_json(&field.schema, &json[&field.name], at, root)?,
                    ))
                })
                .collect::<anyhow::Result<_>>()?,
        ),
        Schema::Long if volatile => Avro::Long(if json == "<lsn>" { at } else { 1_700_000_000_000 + at }),
        Schema::Long => Avro::Long(json.as_i64().context("a long")?),
        Schema::Int => Avro::Int(i32::try_from(json.as_i64().context("an int")?)?),
        Schema::Boolean => Avro::Boolean(json.as_bool().context("a boolean")?),
        Schema::String => Avro::String(json.as_str().context("a string")?.to_owned()),
        Schema::Bytes => Avro::Bytes(hex(json)?),
        Schema::Decimal(_) => Avro::Decimal(Decimal::from(hex(json)?)),
        other => bail!("the fixtures have no {other:?}"),
    })
}

fn hex(json: &Json) -> anyhow::Result<Vec<u8>> {
    let digits = json["hex"].as_str().context("bytes are {\"hex\": ..}")?;
    (0..digits.len())
        .step_by(2)
        .map(|index| Ok(u8::from_str_radix(&digits[index..index + 2], 16)?))
        .collect()
}
