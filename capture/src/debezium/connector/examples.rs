//! Configurations as teams have them, each property of which has an effect here, or is named as without one, or is refused
//! with what to do. And when what is refused is taken out, as its message says, the rest is run.

use std::collections::BTreeSet;

use secrecy::ExposeSecret as _;

use super::*;
use crate::debezium::table;

const WORKER: &str = include_str!("examples/worker.properties");

/// Taken as they are, because nothing else is possible.
const ONLY_SO: [&str; 4] = ["connector.class", "plugin.name", "transforms", "header.converter"];

/// What Debezium does anyway.
const USUAL: [(&str, &str); 3] = [
    ("database.port", "5432"),
    ("snapshot.mode", "initial"),
    ("signal.enabled.channels", "source"),
];

/// What became of the properties of one configuration.
#[derive(Default)]
struct Account {
    /// Name and message.
    refused: Vec<(String, String)>,
    named: BTreeSet<String>,
    effective: BTreeSet<String>,
    source: Option<SourceConfig>,
}

impl Account {
    fn refusal(&self, name: &str) -> &str {
        let found = self.refused.iter().find(|(refused, _)| refused == name);
        &found
            .unwrap_or_else(|| panic!("{name} is not refused: {:?}", self.refused))
            .1
    }
}

fn read(text: &str) -> Written {
    let env = |name: &str| Some(format!("value of {name}"));
    let files = |_: &str| Ok("password=hunter2\n".to_owned());
    written::parse("c", text, &env, &files).unwrap()
}

fn run(written: &Written) -> Result<Connector, Vec<String>> {
    build(written, Some(&read(WORKER)), &Beside::default())
}

/// Everything that a source is made of, its secrets too.
fn shown(connector: &Connector) -> String {
    let source = &connector.source;
    format!(
        "{source:?} {:?} {:?}",
        source.bus.properties,
        source
            .dsn
            .password
            .as_ref()
            .map(|password| password.expose_secret().to_owned())
    )
}

/// The property that a message is about; of a setting that is missing, the one that it belongs to.
fn named_in(written: &Written, line: &str) -> String {
    let names = || written.properties.iter().map(|property| &property.name);
    let exact = names().find(|name| line.contains(&format!(" {name}: ")));
    let family = || {
        names()
            .filter(|name| line.contains(&format!(" {name}.")))
            .min_by_key(|name| name.len())
    };
    let found = exact.or_else(family);
    found.unwrap_or_else(|| panic!("of no property: {line}")).clone()
}

/// Keys and values say the same mostly, so that without one nothing is different. No setting of a converter is passed over.
fn is_of_a_converter(name: &str) -> bool {
    name.contains(".converter")
}

/// Takes out what is refused, then looks what each other property does: without it, is anything different?
fn account(text: &str) -> Account {
    let mut written = read(text);
    let mut account = Account::default();
    let connector = loop {
        let told = match run(&written) {
            Ok(connector) => break connector,
            Err(told) => told,
        };
        let before = written.properties.len();
        for line in &told {
            account.refused.push((named_in(&written, line), line.clone()));
        }
        written
            .properties
            .retain(|property| account.refused.iter().all(|(name, _)| *name != property.name));
        assert!(written.properties.len() < before, "{told:?}");
    };
    account.named = connector.meaningless.iter().map(|(name, _)| name.clone()).collect();
    for property in &written.properties {
        let mut without = written.clone();
        without.properties.retain(|other| other.name != property.name);
        let unchanged = run(&without).is_ok_and(|other| shown(&other) == shown(&connector));
        let usual = USUAL.contains(&(property.name.as_str(), property.value.as_str()))
            || table::find(&property.name).and_then(|(row, _)| row.default) == Some(property.value.as_str());
        if !unchanged {
            account.effective.insert(property.name.clone());
        } else if !usual && !is_of_a_converter(&property.name) && !ONLY_SO.contains(&property.name.as_str()) {
            assert!(
                account.named.contains(&property.name),
                "{} does nothing, silently",
                property.name
            );
        }
    }
    account.source = Some(connector.source);
    account
}

#[test]
fn the_tutorials_connector_is_run_as_it_is() {
    let account = account(include_str!("examples/tutorial.json"));
    assert!(account.refused.is_empty(), "{:?}", account.refused);
    let source = account.source.unwrap();
    assert_eq!(
        (source.slot.as_str(), source.prefix.as_str()),
        ("debezium", "dbserver1")
    );
    assert!(account.effective.contains("schema.include.list") && account.named.contains("tasks.max"));
}

#[test]
fn a_long_configuration_is_run_but_for_its_transforms() {
    let account = account(include_str!("examples/platform.json"));
    assert!(account.refusal("transforms").contains("ExtractNewRecordState"));
    assert!(account.refused.iter().any(|(_, told)| told.contains("RegexRouter")));
    let support = account.refusal("value.converter.enhanced.avro.schema.support");
    assert!(support.contains("only false"), "{support}");
    for name in [
        "max.batch.size",
        "slot.max.retries",
        "snapshot.fetch.size",
        "errors.tolerance",
        "value.converter.schemas.enable",
    ] {
        assert!(account.named.contains(name), "{name}: {:?}", account.named);
    }
    for name in [
        "database.sslmode",
        "column.exclude.list",
        "message.key.columns",
        "heartbeat.action.query",
        "tombstones.on.delete",
        "skipped.operations",
        "topic.creation.default.partitions",
        "producer.override.compression.type",
    ] {
        assert!(account.effective.contains(name), "{name}: {:?}", account.effective);
    }
    assert_eq!(
        account.source.unwrap().registry,
        "https://connect:secret@registry.internal:8081"
    );
}

#[test]
fn a_file_of_connect_standalone_is_read_by_javas_rules() {
    let account = account(include_str!("examples/standalone.properties"));
    let source = account.source.unwrap();
    assert_eq!((source.name.as_str(), source.dsn.hosts[0].port), ("reporting", 5433));
    assert!(source.driver_flushes && account.effective.contains("table.include.list"));
}

#[test]
fn an_apicurio_converter_must_say_how_ids_are_written() {
    let account = account(include_str!("examples/apicurio.json"));
    let told: Vec<&String> = account.refused.iter().map(|(_, told)| told).collect();
    for expected in [
        "as-confluent is missing; ",
        "use-id is missing; ",
        "find-latest: only false",
    ] {
        assert!(told.iter().any(|line| line.contains(expected)), "{expected}: {told:?}");
    }
}

#[test]
fn an_outbox_is_refused_part_by_part() {
    let text = include_str!("examples/outbox.json");
    let env = |_: &str| None;
    let wrongs = written::parse("c", text, &env, &|_| Err(String::new())).unwrap_err();
    assert!(wrongs[0].told("c").contains("${env:NAME}"), "{wrongs:?}");
    let account = account(&text.replace("${vault:secret/db:password}", "x"));
    for (name, remedy) in [
        ("transforms", "keep this one table with Debezium on a slot of its own"),
        ("converters", "map the columns where they are read"),
        ("column.propagate.source.type", "remove it"),
        ("isbn.type", "no property"),
        ("value.converter", "--registry"),
    ] {
        assert!(account.refusal(name).contains(remedy), "{}", account.refusal(name));
    }
}

#[test]
fn names_of_old_releases_are_told_by_their_new_ones() {
    let account = account(include_str!("examples/old.properties"));
    for (name, remedy) in [
        ("plugin.name", "plugin.name=pgoutput in Debezium first"),
        ("table.whitelist", "table.include.list"),
        ("column.blacklist", "column.exclude.list"),
        ("slot.stream.params", "publication"),
    ] {
        assert!(account.refusal(name).contains(remedy), "{}", account.refusal(name));
    }
    assert!(account.named.contains("database.server.name"));
}

#[test]
fn a_workers_own_properties_are_named_and_its_headers_must_be_ours() {
    let tutorial = read(include_str!("examples/tutorial.json"));
    let connector = run(&tutorial).unwrap();
    let named: BTreeSet<&str> = connector.meaningless.iter().map(|(name, _)| name.as_str()).collect();
    for name in [
        "group.id",
        "offset.flush.interval.ms",
        "rest.port",
        "consumer.security.protocol",
        "exactly.once.source.support",
    ] {
        let of_the_worker = format!("{name} (of the worker)");
        assert!(named.contains(of_the_worker.as_str()), "{name}: {named:?}");
    }
    assert_eq!(connector.source.bus.properties["compression.type"], "zstd");
    let worker = WORKER.replace("storage.SimpleHeaderConverter", "json.JsonConverter");
    let told = build(&tutorial, Some(&read(&worker)), &Beside::default()).unwrap_err();
    assert!(
        told[0].contains("header.converter: org.apache.kafka.connect.json.JsonConverter"),
        "{told:?}"
    );
}
