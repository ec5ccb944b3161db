//! What Debezium 3.6 wrote for five tables, put into bytes by `apache-avro`, against what the envelope decoder reads.
//!
//! `fixtures/debezium/*.jsonl` and `*.avsc` are records and schemas of a running Debezium (long values cut, volatile
//! fields as `<name>`); `*.rows` is what they mean. After an intended change: `SYNCLINE_BLESS=1 cargo test -p
//! syncline-schemas --test golden_debezium`, and read the difference.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test may panic")]

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use apache_avro::Schema;
use apache_avro::types::Value as Avro;
use apache_avro::writer::datum::GenericDatumWriter;
use serde_json::Value as Json;
use syncline_schemas::codec::ParsedSchema;
use syncline_schemas::envelope::{self, Op};
use syncline_schemas::lens::{Cell, Row};

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/debezium")
        .join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(fixture(name)).unwrap()
}

/// JSON to the Avro value that the schema says it is.
#[derive(Default)]
struct Encoder {
    named: HashMap<String, Schema>,
}

impl Encoder {
    fn new(schema: &Schema) -> Self {
        let mut this = Self::default();
        this.learn(schema);
        this
    }

    fn learn(&mut self, schema: &Schema) {
        match schema {
            Schema::Array(array) => self.learn(&array.items),
            Schema::Union(union) => union.variants().iter().for_each(|variant| self.learn(variant)),
            Schema::Record(record) => {
                self.named.insert(record.name.fullname(None), schema.clone());
                record.fields.iter().for_each(|field| self.learn(&field.schema));
            }
            _ => {}
        }
    }

    fn value(&self, schema: &Schema, json: &Json) -> Avro {
        match schema {
            Schema::Null => Avro::Null,
            Schema::Boolean => Avro::Boolean(json.as_bool().unwrap()),
            Schema::Int => Avro::Int(i32::try_from(number(json)).unwrap()),
            Schema::Long => Avro::Long(number(json)),
            Schema::Float => Avro::Float(float(json) as f32),
            Schema::Double => Avro::Double(float(json)),
            Schema::Bytes => Avro::Bytes(bytes(json)),
            Schema::Decimal(_) => Avro::Decimal(bytes(json).into()),
            Schema::String => Avro::String(json.as_str().unwrap().to_owned()),
            Schema::Array(array) => {
                // "... 1000 items" is what was cut away.
                let items = json.as_array().unwrap().iter();
                let kept = items.filter(|item| !item.as_str().is_some_and(|text| text.starts_with("... ")));
                Avro::Array(kept.map(|item| self.value(&array.items, item)).collect())
            }
            Schema::Union(union) => {
                let null = |schema: &Schema| matches!(schema, Schema::Null);
                let index = union
                    .variants()
                    .iter()
                    .position(|schema| null(schema) == json.is_null())
                    .unwrap();
                let index_on_wire = u32::try_from(index).unwrap();
                Avro::Union(index_on_wire, Box::new(self.value(&union.variants()[index], json)))
            }
            Schema::Record(record) => {
                let field = |name: &str| json.get(name).unwrap_or_else(|| panic!("no {name}"));
                let fields = &record.fields;
                Avro::Record(
                    fields
                        .iter()
                        .map(|f| (f.name.clone(), self.value(&f.schema, field(&f.name))))
                        .collect(),
                )
            }
            Schema::Ref { name } => self.value(&self.named[&name.fullname(None)], json),
            other => panic!("not in the fixtures: {other:?}"),
        }
    }
}

fn number(json: &Json) -> i64 {
    match json {
        Json::String(_) => 1_700_000_000_000,
        number => number.to_string().parse().unwrap(),
    }
}

fn float(json: &Json) -> f64 {
    json.as_f64().unwrap_or_else(|| json.as_str().unwrap().parse().unwrap())
}

/// Of a cut value, what is left of it.
fn bytes(json: &Json) -> Vec<u8> {
    let hex: Vec<u8> = json["hex"]
        .as_str()
        .unwrap()
        .bytes()
        .take_while(u8::is_ascii_hexdigit)
        .collect();
    let digits = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    hex.chunks_exact(2).map(digits).collect()
}

fn datum(schema: &Schema, json: &Json) -> Vec<u8> {
    let value = Encoder::new(schema).value(schema, json);
    GenericDatumWriter::builder(schema)
        .build()
        .unwrap()
        .write_value_to_vec(value)
        .unwrap()
}

fn shown(row: &Row) -> String {
    let cells = row.iter().map(|(name, cell)| match cell {
        Cell::Set(value) => format!("    {name}: {value}"),
        Cell::Unchanged => format!("    {name} unchanged"),
    });
    cells.collect::<Vec<_>>().join("\n")
}

/// Every record of a table, as the decoder reads it.
fn decoded(table: &str) -> String {
    let avsc = text(&format!("{table}.value.avsc"));
    let (oracle, ours) = (Schema::parse_str(&avsc).unwrap(), ParsedSchema::parse(&avsc).unwrap());
    let key_avsc = text(&format!("{table}.key.avsc"));
    let (key_oracle, key_ours) = (
        Schema::parse_str(&key_avsc).unwrap(),
        ParsedSchema::parse(&key_avsc).unwrap(),
    );
    let mut out = String::new();
    for line in text(&format!("{table}.jsonl")).lines() {
        let record: Json = serde_json::from_str(line).unwrap();
        if record["value"].is_null() {
            continue;
        }
        let event = envelope::decode(&ours, &datum(&oracle, &record["value"]))
            .unwrap()
            .unwrap();
        let key = envelope::decode_key(&key_ours, &datum(&key_oracle, &record["key"])).unwrap();
        assert_eq!(
            (event.source.table.as_str(), event.source.connector.as_str()),
            (table, "postgresql")
        );
        assert_eq!(event.source.ts_us, 1_700_000_000_000, "the <ts_us> of the fixture");
        assert_eq!(event.op == Op::Read, event.source.snapshot != "false");
        writeln!(out, "{:?} {}", event.op, shown(&key).trim()).unwrap();
        for (name, row) in [("before", event.before), ("after", event.after)] {
            if let Some(row) = row {
                writeln!(out, "  {name}\n{}", shown(&row)).unwrap();
            }
        }
    }
    out
}

fn check(table: &str) {
    let (actual, path) = (decoded(table), fixture(&format!("{table}.rows")));
    if std::env::var_os("SYNCLINE_BLESS").is_some() {
        std::fs::write(&path, &actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    for (line, (actual, expected)) in actual.lines().zip(expected.lines()).enumerate() {
        assert_eq!(actual, expected, "{table}.rows:{}", line + 1);
    }
    assert_eq!(actual.lines().count(), expected.lines().count());
}

#[test]
fn numbers() {
    check("t_num");
}

#[test]
fn texts() {
    check("t_text");
}

#[test]
fn times() {
    check("t_time");
}

#[test]
fn before_images() {
    check("k_full");
}

#[test]
fn large_values_that_the_log_did_not_repeat() {
    check("toasted");
}

#[test]
fn a_heartbeat_is_no_change_and_another_record_is_none_either() {
    let heartbeat = r#"{"type":"record","name":"Heartbeat","namespace":"io.debezium.connector.common",
        "fields":[{"name":"ts_ms","type":"long"}]}"#;
    assert_eq!(
        envelope::decode(&ParsedSchema::parse(heartbeat).unwrap(), &[2]),
        Ok(None)
    );
    let flat = r#"{"type":"record","name":"Value","fields":[{"name":"id","type":"long"}]}"#;
    assert!(envelope::decode(&ParsedSchema::parse(flat).unwrap(), &[2]).is_err());
}
