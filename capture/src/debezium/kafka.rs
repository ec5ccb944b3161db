//! Pure: the Kafka side of a connector: cluster, clients' settings, converters and the registry behind them.
//!
//! Connect takes these from the connector's configuration and, for what it does not say, from the worker's. A converter is
//! accepted if the bytes it writes are those that are written here: Avro, Confluent's wire format, one subject a topic.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::client;
use super::converter;
use super::draft::Draft;
use super::set;
use super::table::Given;
use super::written::Written;

type Set = Result<(), String>;

/// What is known of the Kafka side.
#[derive(Clone, Default)]
pub struct Side {
    /// The first brokers.
    pub bootstrap: Option<String>,
    /// Settings of librdkafka.
    pub properties: BTreeMap<String, String>,
    /// Registry's URL, as far as a converter names one.
    pub registry: Option<String>,
    /// `user:password` for it.
    pub registry_user: Option<String>,
    /// The converters' settings, by `key` and `value`: class under the empty name.
    pub converters: BTreeMap<String, BTreeMap<String, String>>,
    /// The topic of the connectors' offsets.
    pub offsets_topic: Option<String>,
    /// The file of a standalone worker's offsets.
    pub offsets_file: Option<PathBuf>,
    /// What writes the headers.
    pub header_converter: Option<String>,
    /// What the worker and the converters say without effect, each with the reason.
    pub meaningless: Vec<(String, &'static str)>,
}

const OF_THE_WORKER: &str = "it concerns the worker's own process";

/// Settings hold passwords; only their names are shown.
impl std::fmt::Debug for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Side")
            .field("bootstrap", &self.bootstrap)
            .field("properties", &self.properties.keys())
            .field("converters", &self.converters.keys())
            .field("offsets_topic", &self.offsets_topic)
            .field("offsets_file", &self.offsets_file)
            .finish_non_exhaustive()
    }
}

// ---- setters ----

pub(super) fn bootstrap(draft: &mut Draft, given: &Given<'_>) -> Set {
    set::text(given).map(|servers| draft.kafka.bootstrap = Some(servers))
}

pub(super) fn registry(draft: &mut Draft, given: &Given<'_>) -> Set {
    first_url(given.value).map(|url| draft.kafka.registry = Some(url))
}

pub(super) fn offsets_topic(draft: &mut Draft, given: &Given<'_>) -> Set {
    set::text(given).map(|topic| draft.kafka.offsets_topic = Some(topic))
}

pub(super) fn partitions(draft: &mut Draft, given: &Given<'_>) -> Set {
    set::number(given, 1, 10_000).map(|partitions| draft.source.partitions = partitions)
}

pub(super) fn producer_property(draft: &mut Draft, given: &Given<'_>) -> Set {
    draft
        .kafka
        .properties
        .extend(client::translated(given.wild[0], given.value)?);
    Ok(())
}

pub(super) fn converter(draft: &mut Draft, given: &Given<'_>) -> Set {
    keep(draft, given, "")
}

pub(super) fn converter_property(draft: &mut Draft, given: &Given<'_>) -> Set {
    keep(draft, given, given.wild[0])
}

fn keep(draft: &mut Draft, given: &Given<'_>, name: &str) -> Set {
    let which = given.name.split('.').next().unwrap_or_default().to_owned();
    let settings = draft.kafka.converters.entry(which).or_default();
    settings.insert(name.to_owned(), given.value.to_owned());
    Ok(())
}

pub(super) fn header_converter(draft: &mut Draft, given: &Given<'_>) -> Set {
    draft.kafka.header_converter = Some(given.value.to_owned());
    Ok(())
}

// ---- the worker ----

impl Side {
    /// Takes what a worker's configuration says and the connector's does not.
    pub fn take_worker(&mut self, worker: &Written) -> Result<(), Vec<String>> {
        let mut wrongs = Vec::new();
        let (mut common_ones, mut of_producers) = (BTreeMap::new(), BTreeMap::new());
        for property in &worker.properties {
            let value = property.value.trim();
            let keep = |slot: &mut Option<String>| {
                slot.get_or_insert_with(|| value.to_owned());
            };
            match property.name.as_str() {
                "bootstrap.servers" => keep(&mut self.bootstrap),
                "offset.storage.topic" => keep(&mut self.offsets_topic),
                "offset.storage.file.filename" => self.offsets_file = Some(PathBuf::from(value)),
                "header.converter" => keep(&mut self.header_converter),
                name => {
                    let own = name
                        .strip_prefix("producer.")
                        .filter(|name| !name.starts_with("override."));
                    let common = Some(name).filter(|name| client::is_security(name));
                    match own.or(common).map(|name| client::translated(name, value)) {
                        // What the connector says, and what is said of producers only, counts more.
                        Some(Ok(settings)) if own.is_some() => of_producers.extend(settings),
                        Some(Ok(settings)) => common_ones.extend(settings),
                        Some(Err(why)) => wrongs.push(format!("{}: {}: {why}", worker.file, property.name)),
                        None if is_of_a_converter(name) => {}
                        None => self
                            .meaningless
                            .push((format!("{name} (of the worker)"), OF_THE_WORKER)),
                    }
                }
            }
        }
        for (name, value) in of_producers.into_iter().chain(common_ones) {
            self.properties.entry(name).or_insert(value);
        }
        self.take_converters(worker);
        if wrongs.is_empty() { Ok(()) } else { Err(wrongs) }
    }

    /// A connector that names a converter gives all of its settings.
    fn take_converters(&mut self, worker: &Written) {
        for which in ["key", "value"] {
            let settings = self.converters.entry(which.to_owned()).or_default();
            if settings.contains_key("") {
                continue;
            }
            for property in &worker.properties {
                let Some(rest) = property
                    .name
                    .strip_prefix(which)
                    .and_then(|rest| rest.strip_prefix(".converter"))
                else {
                    continue;
                };
                let name = rest.strip_prefix('.').unwrap_or(rest).to_owned();
                settings.insert(name, property.value.trim().to_owned());
            }
        }
    }

    // ---- converters ----

    /// Finds the registry behind the converters; refuses those that write something else.
    pub fn settle_converters(&mut self) -> Result<(), Vec<String>> {
        let mut wrongs = Vec::new();
        let simple = "org.apache.kafka.connect.storage.SimpleHeaderConverter";
        if let Some(other) = self.header_converter.as_deref().filter(|class| *class != simple) {
            wrongs.push(format!(
                "header.converter: {other} does not run here; headers are written as Connect's default converter (SimpleHeaderConverter) writes them; remove it if no reader depends on it"
            ));
        }
        for (which, settings) in std::mem::take(&mut self.converters) {
            let Some(class) = settings.get("") else { continue };
            let outcome = match class.as_str() {
                "io.confluent.connect.avro.AvroConverter" => converter::confluent(self, &which, &settings),
                "io.apicurio.registry.utils.converter.AvroConverter" => converter::apicurio(self, &which, &settings),
                other => Err(vec![format!(
                    "{which}.converter: {other} does not run here; records are Avro in Confluent's wire format. If that is what its readers expect, leave {which}.converter out and name the registry by --registry"
                )]),
            };
            wrongs.extend(outcome.err().unwrap_or_default());
        }
        if wrongs.is_empty() { Ok(()) } else { Err(wrongs) }
    }

    /// The registry's URL with its user.
    pub fn registry_url(&self) -> Option<String> {
        let url = self.registry.as_ref()?;
        Some(match (&self.registry_user, url.split_once("://")) {
            (Some(user), Some((scheme, rest))) if !rest.contains('@') => format!("{scheme}://{}@{rest}", encoded(user)),
            _ => url.clone(),
        })
    }
}

fn is_of_a_converter(name: &str) -> bool {
    ["key.converter", "value.converter"]
        .iter()
        .any(|own| name.starts_with(own))
}

/// `user:password` as a URL can hold it.
fn encoded(user: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte);
    user.bytes().fold(String::new(), |mut text, byte| {
        match plain(byte) {
            true => text.push(char::from(byte)),
            false => text.push_str(&format!("%{byte:02X}")),
        }
        text
    })
}

pub(super) fn first_url(urls: &str) -> Result<String, String> {
    let first = urls
        .split(',')
        .map(str::trim)
        .find(|url| !url.is_empty())
        .unwrap_or_default();
    match first.starts_with("http://") || first.starts_with("https://") {
        true => Ok(first.trim_end_matches('/').to_owned()),
        false => Err("an http:// or https:// URL is expected".to_owned()),
    }
}
