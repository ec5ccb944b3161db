//! Debezium's properties in a pipeline file: `systems: { shop: { debezium: { decimal.handling.mode: string } } }`.
//!
//! They take the way of a connector's configuration, but for what the file says in words of its own: there are no two
//! places for one thing.

use syncline_schemas::pipeline::{Problem, Setting};

use crate::config::SourceConfig;
use crate::takeover::Offsets;

use super::connector::fill;
use super::draft::Draft;
use super::written::{Property, Written, Wrong};

/// Families of properties that a pipeline file says in its own words, and which.
const OWN_WORDS: &[(&str, &str)] = &[
    ("database.", "`postgres` of the system"),
    ("topic.prefix", "`topic_prefix` of the system"),
    ("slot.name", "`slot` of the system"),
    ("publication.name", "`publication` of the system"),
    ("bootstrap.servers", "`defaults.kafka`"),
    ("producer.override.", "`defaults.kafka_properties`"),
    ("key.converter", "`defaults.registry`; records are always Avro"),
    ("value.converter", "`defaults.registry`; records are always Avro"),
    ("schema.registry.url", "`defaults.registry`"),
    ("topic.creation.default.partitions", "`defaults.partitions`"),
];

/// Where a pipeline file says this, if it does so in its own words.
pub fn own_words(name: &str) -> Option<&'static str> {
    let found = OWN_WORDS.iter().find(|(own, _)| match own.ends_with('.') {
        true => name.starts_with(own),
        false => name == *own || own.ends_with("converter") && name.starts_with(&format!("{own}.")),
    });
    found.map(|(_, word)| *word)
}

/// The source with the properties put in; all mistakes at once, each at its place in the file.
pub fn apply(source: SourceConfig, settings: &[Setting]) -> Result<SourceConfig, Vec<Problem>> {
    let written = written(settings);
    let mut draft = Draft::of(source);
    let (meaningless, mut wrongs) = fill(&mut draft, &written);
    for property in &written.properties {
        if let Some(word) = own_words(&property.name) {
            wrongs.retain(|wrong| wrong.name.as_ref() != Some(&property.name));
            wrongs.push(Wrong::property(property, format!("is said by {word}")));
        }
    }
    if !wrongs.is_empty() {
        return Err(wrongs.iter().filter_map(|wrong| problem(settings, wrong)).collect());
    }
    let mut source = draft.source;
    source.meaningless = meaningless;
    source.offsets = draft.kafka.offsets_topic.map(Offsets::Topic).or(source.offsets);
    Ok(source)
}

fn written(settings: &[Setting]) -> Written {
    let property = |setting: &Setting| Property {
        name: setting.name.clone(),
        value: setting.value.expose().to_owned(),
        raw: String::new(),
        line: None,
    };
    Written {
        file: String::new(),
        properties: settings.iter().map(property).collect(),
    }
}

fn problem(settings: &[Setting], wrong: &Wrong) -> Option<Problem> {
    let setting = settings
        .iter()
        .find(|setting| Some(&setting.name) == wrong.name.as_ref())?;
    let (title, help) = wrong.text.split_once("; ").unwrap_or((&wrong.text, ""));
    let problem = setting.problem("H320", format!("`{}`: {title}", setting.name));
    Some(if help.is_empty() { problem } else { problem.help(help) })
}
