//! A connector's configuration, with its worker's and what the command line adds, to one source.

use std::path::{Path, PathBuf};

use syncline_bus::BusConfig;

use crate::config::SourceConfig;
use crate::postgres::dsn::Dsn;
use crate::takeover::Offsets;

use super::draft::Draft;
use super::providers::Env;
use super::written::{self, Written, Wrong};
use super::{Became, put, transforms};

/// What the command line says beside the configuration. It counts more than the files.
#[derive(Clone, Debug, Default)]
pub struct Beside {
    /// `worker.properties`.
    pub worker: Option<PathBuf>,
    /// The first brokers.
    pub bootstrap: Option<String>,
    /// The registry's URL.
    pub registry: Option<String>,
    /// Exported offsets.
    pub offsets: Option<PathBuf>,
}

/// A source, and what has no effect on it.
#[derive(Clone, Debug)]
pub struct Connector {
    /// The source.
    pub source: SourceConfig,
    /// Properties that have no effect here, each with the reason.
    pub meaningless: Vec<(String, &'static str)>,
}

/// Properties without which there is nothing to do.
const NEEDED: [&str; 4] = ["topic.prefix", "database.hostname", "database.user", "database.dbname"];

/// Reads and checks everything; all mistakes at once, each with its place.
pub fn load(path: &Path, beside: &Beside, env: Env<'_>) -> Result<Connector, Vec<String>> {
    let file = path.display().to_string();
    let told =
        |file: &str, wrongs: Vec<Wrong>| -> Vec<String> { wrongs.iter().map(|wrong| wrong.told(file)).collect() };
    let connector = written::read(path, env).map_err(|wrongs| told(&file, wrongs));
    let worker = beside
        .worker
        .as_deref()
        .map(|path| written::read(path, env).map_err(|wrongs| told(&path.display().to_string(), wrongs)));
    match (connector, worker.transpose()) {
        (Ok(connector), Ok(worker)) => build(&connector, worker.as_ref(), beside),
        (connector, worker) => Err([connector.err(), worker.err()]
            .into_iter()
            .flatten()
            .flatten()
            .collect()),
    }
}

/// The same for configurations at hand.
pub fn build(connector: &Written, worker: Option<&Written>, beside: &Beside) -> Result<Connector, Vec<String>> {
    let mut draft = Draft::of_connector();
    let (mut meaningless, wrongs) = fill(&mut draft, connector);
    let mut told: Vec<String> = wrongs.iter().map(|wrong| wrong.told(&connector.file)).collect();
    if let Some(worker) = worker {
        told.extend(draft.kafka.take_worker(worker).err().unwrap_or_default());
    }
    let converters = draft.kafka.settle_converters().err().unwrap_or_default();
    meaningless.append(&mut draft.kafka.meaningless);
    told.extend(
        converters
            .into_iter()
            .map(|why| Wrong::file(None, why).told(&connector.file)),
    );
    match finish(draft, connector, beside) {
        Ok(source) if told.is_empty() => Ok(Connector { source, meaningless }),
        Ok(_) => Err(told),
        Err(wrongs) => {
            told.extend(wrongs.iter().map(|wrong| wrong.told(&connector.file)));
            Err(told)
        }
    }
}

pub(super) type Notes = Vec<(String, &'static str)>;

/// Puts every property where it belongs.
pub(super) fn fill(draft: &mut Draft, connector: &Written) -> (Notes, Vec<Wrong>) {
    let (mut meaningless, mut wrongs) = (Vec::new(), transforms::check(connector));
    for property in &connector.properties {
        match put(draft, &property.name, &property.value) {
            Ok(Became::Meaningless(why)) => meaningless.push((property.name.clone(), why)),
            Ok(Became::Honoured | Became::Default) => {}
            Err(why) => wrongs.push(Wrong::property(property, why)),
        }
    }
    (meaningless, wrongs)
}

fn finish(draft: Draft, connector: &Written, beside: &Beside) -> Result<SourceConfig, Vec<Wrong>> {
    let mut wrongs = Vec::new();
    for name in NEEDED {
        if connector.get(name).is_none_or(|value| value.trim().is_empty()) {
            wrongs.push(Wrong::file(None, format!("{name} is missing")));
        }
    }
    let mut missing = |what: &str, help: &str| wrongs.push(Wrong::file(None, format!("{what}; {help}")));
    let Draft {
        mut source,
        connection,
        kafka,
    } = draft;
    match beside.bootstrap.clone().or_else(|| kafka.bootstrap.clone()) {
        Some(bootstrap) => source.bus.bootstrap = bootstrap,
        None => missing(
            "the brokers are not known",
            "add --worker worker.properties, or --bootstrap HOST:9092",
        ),
    }
    match beside.registry.clone().or_else(|| kafka.registry_url()) {
        Some(registry) => source.registry = registry.trim_end_matches('/').to_owned(),
        None => missing(
            "the schema registry is not known",
            "add --worker worker.properties if its converters name it, or --registry http://HOST:8081",
        ),
    }
    let dsn = match connection.contains_key("user") {
        true => Dsn::from_words(connection).map_err(|why| Wrong::file(None, why)),
        false => Ok(Dsn::nowhere()),
    };
    match dsn {
        Ok(dsn) if wrongs.is_empty() => source.dsn = dsn,
        Ok(_) => return Err(wrongs),
        Err(wrong) => return Err(wrongs.into_iter().chain([wrong]).collect()),
    }
    source.name = system_name(source.connector.as_deref().unwrap_or(&source.prefix));
    source.bus = BusConfig {
        properties: kafka.properties,
        ..source.bus
    };
    source.offsets = offsets(beside, kafka.offsets_topic, kafka.offsets_file);
    Ok(source)
}

/// Where the connector's offsets are: what the command line names counts most.
fn offsets(beside: &Beside, topic: Option<String>, file: Option<PathBuf>) -> Option<Offsets> {
    let exported = beside.offsets.clone().map(Offsets::Exported);
    exported.or(topic.map(Offsets::Topic)).or(file.map(Offsets::Standalone))
}

/// A connector's name as a system of a pipeline file may be named.
pub fn system_name(name: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let name: String = name.chars().map(|c| if fits(c) { c } else { '_' }).take(48).collect();
    match name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        true => name,
        false => format!("s_{name}").chars().take(48).collect(),
    }
}

#[cfg(test)]
mod examples;
#[cfg(test)]
mod tests;
