//! The same database that Debezium 3.6.3 was run on, captured by us: the same schemas and the same records, but for the
//! departures named in [`DEPARTURES`]. Needs PG_DSN, BOOTSTRAP and REGISTRY, and hstore, citext, ltree on the server.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says what it expects")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use serde_json::{Value as Json, json};
use syncline_bus::{BusConfig, InRecord, PartitionReader, Registry};
use syncline_capture::postgres::control::Control;
use syncline_capture::postgres::dsn::Dsn;

/// Where we differ: table, field, why.
const DEPARTURES: &[(&str, &str, &str)] = &[
    ("t_time", "d", "Debezium loses the BC of a date"),
    ("t_time", "iv3", "Debezium counts 1.235 s as 1234999 microseconds"),
    (
        "t_array",
        "b8",
        "Debezium writes an array of bit strings as null; we write its text",
    ),
    (
        "t_array",
        "i4",
        "Debezium writes the members of an array of two dimensions as null; we write them in a row",
    ),
    ("t_text", "nm", "Debezium loses a column of type name in the stream"),
    (
        "t_misc",
        "h",
        "the order of the keys of an hstore; ours is PostgreSQL's",
    ),
    ("toasted", "bigh", "the same"),
    ("t_default", "", "a NULL in a column with a default stays NULL"),
    ("", "txId", "a row of the snapshot belongs to no transaction"),
];

const TABLES: [&str; 15] = [
    "t_num",
    "t_text",
    "t_time",
    "t_misc",
    "t_array",
    "t_default",
    "k_composite",
    "k_none_full",
    "k_full",
    "k_types",
    "toasted",
    "toasted_full",
    "Odd Table",
    "sélect",
    "Other-Schema.t",
];

fn setting(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: deploy/stack.sh up; eval \"$(deploy/stack.sh env)\""))
}

fn fixture(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)).unwrap()
}

fn capture(pipeline: &Path) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_syncline-capture"));
    let output = command
        .arg("--pipeline")
        .arg(pipeline)
        .arg("--until-current")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_same_database_gives_the_same_topics_as_debezium() {
    let prefix = format!("gold_{}", &uuid::Uuid::new_v4().simple().to_string()[..10]);
    let server = setting("PG_DSN");
    let administration = Control::connect(&Dsn::parse(&format!("{server}/postgres")).unwrap()).unwrap();
    administration
        .execute(&format!("CREATE DATABASE {prefix}"), "creating")
        .unwrap();
    let control = Control::connect(&Dsn::parse(&format!("{server}/{prefix}")).unwrap()).unwrap();
    let sql = fixture("debezium.sql");
    let (setup, stream) = sql.split_once("-- @stream").unwrap();
    control.execute(setup, "filling").unwrap();

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pipeline.yaml");
    std::fs::write(&file, pipeline(&prefix, &server)).unwrap();
    capture(&file);
    for line in stream.lines().filter(|line| !line.is_empty()) {
        control.execute(line, "changing").unwrap();
    }
    capture(&file);

    let registry = Registry::new(setting("REGISTRY"));
    let mut differences = Vec::new();
    for table in TABLES {
        let topic = topic_of(table);
        let records = records(&format!("{prefix}.{topic}"));
        compare(&prefix, &topic, &records, &registry, &mut differences);
    }
    assert!(
        differences.is_empty(),
        "{} differences\n{}",
        differences.len(),
        differences.join("\n")
    );
    let slot = format!("SELECT pg_drop_replication_slot('syncline_{prefix}_{prefix}')");
    control.rows(&slot, &[], "dropping the slot").unwrap();
    administration
        .execute(&format!("DROP DATABASE {prefix} WITH (FORCE)"), "dropping the database")
        .unwrap();
}

fn pipeline(prefix: &str, server: &str) -> String {
    let tables: Vec<String> = TABLES.iter().map(|table| json!(qualified(table)).to_string()).collect();
    format!(
        "pipeline: {prefix}\n\
         defaults: {{ kafka: \"{}\", registry: \"{}\" }}\n\
         systems:\n\
         \x20 {prefix}: {{ postgres: \"{server}/{prefix}\", tables: [{}] }}\n\
         \x20 copy: {{ postgres: \"{server}/postgres\" }}\n\
         replica: {{ from: {prefix}, to: copy, tables: [public.t_num] }}\n",
        setting("BOOTSTRAP"),
        setting("REGISTRY"),
        tables.join(", ")
    )
}

fn qualified(table: &str) -> String {
    if table.contains('.') {
        table.to_owned()
    } else {
        format!("public.{table}")
    }
}

fn topic_of(table: &str) -> String {
    qualified(table)
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "._-".contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect()
}

fn records(topic: &str) -> Vec<InRecord> {
    let bus = BusConfig::new(setting("BOOTSTRAP"), "golden-test");
    let mut reader = PartitionReader::open(&bus, topic, 0, 0).unwrap();
    let mut records = Vec::new();
    while !reader.at_end() {
        records.extend(reader.next(Duration::from_millis(200)).unwrap());
    }
    records
}

/// Golden records against ours, and the first value schema against the golden one.
fn compare(prefix: &str, topic: &str, records: &[InRecord], registry: &Registry, differences: &mut Vec<String>) {
    let golden: Vec<Json> = fixture(&format!("defaults.{topic}.jsonl"))
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    if golden.len() != records.len() {
        differences.push(format!(
            "{topic}: {} records, golden has {}",
            records.len(),
            golden.len()
        ));
    }
    for (index, (golden, record)) in golden.iter().zip(records).enumerate() {
        let mut differ = |path: &str, golden: &Json, ours: &Json| {
            let field = path.rsplit('.').next().unwrap_or(path);
            let allowed = DEPARTURES.iter().any(|(table, name, _)| {
                (table.is_empty() || topic.ends_with(table)) && (name.is_empty() || *name == field)
            });
            if !allowed {
                differences.push(format!("{topic}[{index}]{path}: golden {golden}, ours {ours}"));
            }
        };
        for (part, bytes) in [("key", &record.key), ("value", &record.value)] {
            let ours = bytes
                .as_deref()
                .map_or(Json::Null, |bytes| decoded(bytes, registry, prefix));
            same(&format!(".{part}"), &golden[part], &ours, &mut differ);
        }
        let names = |headers: Vec<&str>| json!(headers);
        let golden_names = golden["headers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|header| header[0].as_str().unwrap())
            .collect();
        let ours = record
            .headers
            .iter()
            .map(|(name, _)| name.as_str())
            .filter(|name| !name.starts_with("syncline."));
        same(".headers", &names(golden_names), &names(ours.collect()), &mut differ);
    }
    if !["t_array", "t_misc", "t_default"]
        .iter()
        .any(|table| topic.ends_with(table))
    {
        compare_schema(prefix, topic, registry, differences);
    }
}

/// Byte for byte.
fn compare_schema(prefix: &str, topic: &str, registry: &Registry, differences: &mut Vec<String>) {
    for part in ["key", "value"] {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/defaults.{topic}-{part}.v1.avsc"));
        let Ok(golden) = std::fs::read_to_string(path) else {
            continue;
        };
        let ours = registry.latest(&format!("{prefix}.{topic}-{part}")).unwrap().unwrap().1;
        let ours = ours.replace(&format!("\"{prefix}."), "\"defaults.");
        if ours != golden {
            differences.push(format!(
                "{topic}-{part}: schemas differ\n  golden {golden}\n  ours   {ours}"
            ));
        }
    }
}

fn decoded(bytes: &[u8], registry: &Registry, prefix: &str) -> Json {
    let id = u32::from_be_bytes(bytes[1..5].try_into().unwrap());
    // Without logical types, so that values come out as they are on the wire.
    let text = registry.schema(id).unwrap().replace(",\"logicalType\":\"decimal\"", "");
    let schema = Schema::parse_str(&text).unwrap();
    let mut rest = &bytes[5..];
    let value = GenericDatumReader::builder(&schema)
        .build()
        .unwrap()
        .read_value(&mut rest)
        .unwrap();
    assert!(rest.is_empty(), "bytes are left over");
    plain(value, prefix)
}

/// As the golden records are written: bytes as hex, what is not finite as text.
fn plain(value: Value, prefix: &str) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Boolean(value) => json!(value),
        Value::Int(value) => json!(value),
        Value::Long(value) => json!(value),
        Value::Float(value) => number(f64::from(value)),
        Value::Double(value) => number(value),
        Value::Bytes(value) => {
            json!({ "hex": value.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}")) })
        }
        Value::String(value) => json!(value.replace(prefix, "defaults")),
        Value::Union(_, value) => plain(*value, prefix),
        Value::Array(items) => Json::Array(items.into_iter().map(|item| plain(item, prefix)).collect()),
        Value::Record(fields) => fields
            .into_iter()
            .map(|(name, value)| (name, plain(value, prefix)))
            .collect(),
        other => panic!("not in our schemas: {other:?}"),
    }
}

fn number(value: f64) -> Json {
    if value.is_nan() {
        json!("nan")
    } else if value.is_infinite() {
        json!(if value > 0.0 { "inf" } else { "-inf" })
    } else {
        json!(value)
    }
}

/// Reports where `ours` is not what the golden value is; a field that golden does not have is one that Debezium leaves out.
fn same(path: &str, golden: &Json, ours: &Json, differ: &mut dyn FnMut(&str, &Json, &Json)) {
    match (golden, ours) {
        (Json::Object(golden), Json::Object(ours)) => {
            let cut = golden.contains_key("...");
            for (name, value) in golden.iter().filter(|(name, _)| !cut && *name != "...") {
                same(
                    &format!("{path}.{name}"),
                    value,
                    ours.get(name).unwrap_or(&Json::Null),
                    differ,
                );
            }
        }
        (Json::Array(expected), Json::Array(found)) => {
            let cut = expected
                .last()
                .and_then(Json::as_str)
                .is_some_and(|last| last.starts_with("... "));
            let shown = if cut { expected.len() - 1 } else { expected.len() };
            if !cut && expected.len() != found.len() {
                return differ(path, golden, ours);
            }
            for (expected, found) in expected[..shown].iter().zip(found) {
                same(path, expected, found, differ);
            }
        }
        (Json::String(expected), found) => {
            if !text_same(path, expected, found) {
                differ(path, golden, ours);
            }
        }
        (Json::Number(expected), Json::Number(found)) => {
            let equal = expected.to_string() == found.to_string() || expected.as_f64() == found.as_f64();
            if !equal {
                differ(path, golden, ours);
            }
        }
        _ if golden == ours => (),
        _ => differ(path, golden, ours),
    }
}

/// `<name>` stands for what differs from run to run, `abc... 1000 characters` for a long text.
fn text_same(path: &str, expected: &str, found: &Json) -> bool {
    if expected.starts_with('<') && expected.ends_with('>') && path.ends_with(&expected[1..expected.len() - 1]) {
        return !found.is_null();
    }
    let Some(found) = found.as_str() else { return false };
    match expected.split_once("... ") {
        Some((start, length)) if length.ends_with(" characters") => found.starts_with(start),
        // Which table comes first and last in a snapshot is anybody's choice.
        _ if path.ends_with(".snapshot") => (expected == "false") == (found == "false"),
        _ if path.ends_with(".db") => true,
        _ => expected == found,
    }
}
