//! Name, defaults, systems, replicas.

use std::collections::BTreeMap;

use super::super::model::{CapturedBy, Delivery, Fidelity, Pipeline, Replica, System};
use super::super::secret::Secret;
use super::super::setting::Setting;
use super::super::yaml::{Content, Node};
use super::{Check, Keys, Map, schedules, suggestion};

const DEFAULTS: Keys = Keys {
    known: &[
        "kafka",
        "kafka_properties",
        "registry",
        "partitions",
        "max_clock_skew",
        "delivery",
        "timezone",
        "on_conflict",
    ],
    later: &["kms"],
};

const SYSTEM: Keys = Keys {
    known: &[
        "postgres",
        "slot",
        "publication",
        "topic_prefix",
        "capture",
        "tables",
        "fidelity",
        "debezium",
        "wal_budget",
        "failover_slot",
        "on_poison",
        "max_row_bytes",
        "auto_backfill",
        "slots",
        "maintenance",
    ],
    later: &["http", "auth", "pull", "limits", "mysql"],
};

const FIDELITIES: [(&str, Fidelity); 2] = [("exact", Fidelity::Exact), ("debezium", Fidelity::Debezium)];

const REPLICA: Keys = Keys {
    known: &["from", "to", "tables"],
    later: &["mode"],
};

const PARTITIONS_MAX: i32 = 10_000;

/// Skew that is allowed if the file does not say.
const CLOCK_SKEW_DEFAULT_MS: i64 = 5_000;

/// PostgreSQL cuts longer names.
const IDENTIFIER_BYTES_MAX: usize = 63;

/// Reads `pipeline` and `defaults` into `pipeline`.
pub(in super::super) fn read(check: &mut Check<'_>, root: &Map<'_>, pipeline: &mut Pipeline) {
    match root.get("pipeline") {
        Some(node) => {
            pipeline.name = check.text(node, "pipeline").unwrap_or_default();
            if !pipeline.name.is_empty() {
                check.name(&pipeline.name, node.span, "pipeline");
            }
        }
        None => check.missing(
            root,
            "",
            "pipeline",
            "give it a name: `pipeline: acme`; topics begin with it",
        ),
    }
    match root.get("defaults") {
        Some(node) => defaults(check, node, pipeline),
        None => check.missing(
            root,
            "",
            "defaults",
            "add `defaults: { kafka: \"HOST:9092\", registry: \"http://HOST\" }`",
        ),
    }
}

fn defaults(check: &mut Check<'_>, node: &Node, pipeline: &mut Pipeline) {
    let context = "defaults";
    let map = check.map(node, context, &DEFAULTS);
    match map.get("kafka") {
        Some(node) => pipeline.kafka = check.text(node, context).unwrap_or_default(),
        None => check.missing(
            &map,
            context,
            "kafka",
            "name the bootstrap servers: `kafka: \"HOST:9092\"`",
        ),
    }
    match map.get("registry") {
        Some(node) => pipeline.registry = registry(check, node),
        None => check.missing(
            &map,
            context,
            "registry",
            "give its URL: `registry: \"http://HOST:8081\"`",
        ),
    }
    pipeline.kafka_properties = map
        .get("kafka_properties")
        .map(|node| properties(check, node))
        .unwrap_or_default();
    pipeline.partitions = map
        .get("partitions")
        .and_then(|node| partitions(check, node))
        .unwrap_or(1);
    let skew = map
        .get("max_clock_skew")
        .and_then(|node| duration_ms(check, node, context));
    pipeline.max_clock_skew_ms = skew.unwrap_or(CLOCK_SKEW_DEFAULT_MS);
    let words = [
        ("exactly_once", Delivery::ExactlyOnce),
        ("at_least_once", Delivery::AtLeastOnce),
    ];
    pipeline.delivery = map
        .get("delivery")
        .and_then(|node| check.word(node, context, &words))
        .unwrap_or_default();
    pipeline.timezone = map
        .get("timezone")
        .and_then(|node| schedules::zone_name(check, node, context))
        .unwrap_or_else(|| schedules::ZONE_DEFAULT.to_owned());
}

fn registry(check: &mut Check<'_>, node: &Node) -> String {
    let Some(scalar) = check.scalar(node, "defaults") else {
        return String::new();
    };
    if !scalar.text.starts_with("http://") && !scalar.text.starts_with("https://") {
        check
            .report("H113", node.span, "defaults", "the registry is given by its URL")
            .help("begin it with http:// or https://");
    }
    scalar.text.trim_end_matches('/').to_owned()
}

fn properties(check: &mut Check<'_>, node: &Node) -> BTreeMap<String, String> {
    let context = "defaults.kafka_properties";
    let entries = check.entries(node, context).unwrap_or_default();
    let mut properties = BTreeMap::new();
    for (key, node) in entries {
        if let Some(why) = reserved(&key.name) {
            check
                .report("H113", key.span, context, format!("`{}` is set by Syncline", key.name))
                .why(why)
                .help("remove it");
        }
        properties.extend(check.text(node, context).map(|text| (key.name.clone(), text)));
    }
    properties
}

/// Why a Kafka property cannot be set by the file.
fn reserved(property: &str) -> Option<&'static str> {
    Some(match property {
        "bootstrap.servers" | "metadata.broker.list" => "it is `defaults.kafka`",
        "enable.idempotence" | "acks" | "transactional.id" | "isolation.level" | "enable.auto.commit" => {
            "exactly once rests on it"
        }
        "group.id" | "group.instance.id" | "auto.offset.reset" => "each stage has its own",
        _ => return None,
    })
}

fn partitions(check: &mut Check<'_>, node: &Node) -> Option<i32> {
    let scalar = check.scalar(node, "defaults")?;
    let number = scalar
        .text
        .parse()
        .ok()
        .filter(|number| (1..=PARTITIONS_MAX).contains(number));
    if number.is_none() {
        let title = format!("partitions must be a whole number from 1 to {PARTITIONS_MAX}");
        check
            .report("H113", node.span, "defaults", title)
            .found(format!("`{}`", scalar.raw))
            .help("leave it out for 1");
    }
    number
}

/// `500ms`, `5s`, `2m`, `1h`.
pub(super) fn duration_ms(check: &mut Check<'_>, node: &Node, context: &str) -> Option<i64> {
    let scalar = check.scalar(node, context)?;
    let product = millis(&scalar.text);
    if product.is_none() {
        let title = format!("`{}` is no duration", scalar.raw);
        check
            .report("H113", node.span, context, title)
            .help("write a whole number and a unit: 500ms, 5s, 2m, 1h");
    }
    product
}

/// The milliseconds of a duration.
pub(super) fn millis(text: &str) -> Option<i64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit.trim() {
        "ms" => 1_i64,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.parse::<i64>().ok()?.checked_mul(unit_ms)
}

/// Reads `systems`.
pub(in super::super) fn systems(check: &mut Check<'_>, root: &Map<'_>, pipeline: &mut Pipeline) {
    let Some(node) = root.get("systems") else {
        return check.missing(
            root,
            "",
            "systems",
            "name the apps: `systems: { shop: { postgres: \"${env:SHOP_DSN}\" } }`",
        );
    };
    for (key, node) in check.entries(node, "systems").unwrap_or_default() {
        check.name(&key.name, key.span, "systems");
        if key.name == crate::decision::OPERATOR {
            check
                .report("H114", key.span, "systems", "`operator` cannot be the name of a system")
                .why("a person's decisions carry that name")
                .help("choose another name");
        }
        let system = system(check, &key.name, node, pipeline);
        pipeline.systems.push(system);
    }
}

fn system(check: &mut Check<'_>, name: &str, node: &Node, pipeline: &Pipeline) -> System {
    let context = format!("systems.{name}");
    let map = check.map(node, &context, &SYSTEM);
    let words = [("syncline", CapturedBy::Syncline), ("debezium", CapturedBy::Debezium)];
    let capture = map
        .get("capture")
        .and_then(|node| check.word(node, &context, &words))
        .unwrap_or_default();
    let postgres = check.optional(&map, &context, "postgres").map(Secret::new);
    let other_means = SYSTEM.later.iter().any(|key| map.get(key).is_some());
    if map.get("postgres").is_none() && capture == CapturedBy::Syncline && !other_means {
        let help = "add `postgres: \"${env:DSN}\"`, or `capture: debezium` if a Debezium connector writes its topics";
        check.missing(&map, &context, "postgres", help);
    }
    let own = format!("syncline_{}_{name}", pipeline.name)
        .to_lowercase()
        .replace('-', "_");
    System {
        name: name.to_owned(),
        postgres,
        slot: identifier(check, &map, &context, "slot").unwrap_or_else(|| own.clone()),
        publication: identifier(check, &map, &context, "publication").unwrap_or(own),
        topic_prefix: check
            .optional(&map, &context, "topic_prefix")
            .unwrap_or_else(|| name.to_owned()),
        capture,
        tables: map.get("tables").map(|node| tables(check, node, &context)),
        fidelity: map
            .get("fidelity")
            .and_then(|node| check.word(node, &context, &FIDELITIES)),
        debezium: map
            .get("debezium")
            .map(|node| debezium(check, node, &format!("{context}.debezium"))),
        care: super::care::read(check, &map, &context),
        maintenance: map
            .get("maintenance")
            .and_then(|node| schedules::window(check, node, &context, &pipeline.timezone)),
    }
}

/// Debezium's properties, by Debezium's names. A list is what Debezium writes as one text with commas.
fn debezium(check: &mut Check<'_>, node: &Node, context: &str) -> Vec<Setting> {
    let mut settings = Vec::new();
    for (key, node) in check.entries(node, context).unwrap_or_default() {
        let value = match &node.content {
            Content::Scalar(scalar) if scalar.faulty => continue,
            Content::Scalar(_) if node.is_null() => String::new(),
            Content::Scalar(scalar) => scalar.text.clone(),
            Content::List(_) => {
                let texts = check.texts(node, context).into_iter().map(|(text, _)| text);
                texts.collect::<Vec<_>>().join(",")
            }
            Content::Map(_) => {
                check.shape(node, context, "a single value, or a list of them");
                continue;
            }
        };
        let place = check.source.problem("H320", key.span, context, "");
        settings.push(Setting::new(&key.name, value, place));
    }
    settings
}

/// Name of a slot or publication.
fn identifier(check: &mut Check<'_>, map: &Map<'_>, context: &str, key: &str) -> Option<String> {
    let node = map.get(key)?;
    let name = check.text(node, context)?;
    let slot_like = name
        .chars()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if name.len() > IDENTIFIER_BYTES_MAX || (key == "slot" && !slot_like) {
        check
            .report(
                "H114",
                node.span,
                context,
                format!("`{}` cannot be the name of a {key}", node.shown()),
            )
            .why(format!(
                "PostgreSQL allows {IDENTIFIER_BYTES_MAX} characters, in a slot only a-z, 0-9 and _"
            ))
            .help("shorten or respell it");
    }
    Some(name)
}

/// `table` or `schema.table`; the schema is `public` unless it is named.
pub(super) fn tables(check: &mut Check<'_>, node: &Node, context: &str) -> Vec<String> {
    let names = check.texts(node, context);
    names
        .into_iter()
        .map(|(name, _)| {
            if name.contains('.') {
                name
            } else {
                format!("public.{name}")
            }
        })
        .collect()
}

/// Reads `replica`: one, or a list of them.
pub(in super::super) fn replicas(check: &mut Check<'_>, root: &Map<'_>, pipeline: &mut Pipeline) {
    let Some(node) = root.get("replica") else { return };
    let nodes = match &node.content {
        Content::List(items) => items.iter().collect(),
        _ => vec![node],
    };
    for node in nodes {
        let replica = replica(check, node, &pipeline.systems);
        pipeline.replicas.extend(replica);
    }
}

fn replica(check: &mut Check<'_>, node: &Node, systems: &[System]) -> Option<Replica> {
    let context = "replica";
    let map = check.map(node, context, &REPLICA);
    let from = end(check, &map, "from", systems);
    let to = end(check, &map, "to", systems);
    let tables = map.get("tables").map(|node| tables(check, node, context));
    let (from, to) = (from?, to?);
    if from.name == to.name {
        check
            .report("H310", node.span, context, "a replica needs two different systems")
            .help("change `from` or `to`");
    }
    if to.postgres.is_none() {
        let title = format!("`{}` is written to, but has no `postgres`", to.name);
        check
            .report("H308", node.span, context, title)
            .help(format!("add `postgres` to systems.{}", to.name));
    }
    Some(Replica {
        from: from.name.clone(),
        to: to.name.clone(),
        tables,
    })
}

fn end<'s>(check: &mut Check<'_>, map: &Map<'_>, key: &str, systems: &'s [System]) -> Option<&'s System> {
    let Some(node) = map.get(key) else {
        check.missing(map, "replica", key, "write `replica: { from: shop, to: warehouse }`");
        return None;
    };
    let name = check.text(node, "replica")?;
    let found = systems.iter().find(|system| system.name == name);
    if found.is_none() {
        let help = suggestion(&name, systems.iter().map(|system| system.name.as_str()));
        check
            .report(
                "H301",
                node.span,
                "replica",
                format!("there is no system `{}`", node.shown()),
            )
            .help(help);
    }
    found
}
