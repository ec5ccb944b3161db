//! Pure: the Kafka side of a connector: cluster, clients' settings, converters and the registry behind them.
//!
//! Connect takes these from the connector's configuration and, for what it does not say, from the worker's. A converter is
//! accepted if the bytes it writes are those that are written here: Avro, Confluent's wire format, one subject a topic.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::client;
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
}

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

pub(super) fn header_converter(_: &mut Draft, given: &Given<'_>) -> Set {
    match given.value {
        "org.apache.kafka.connect.storage.SimpleHeaderConverter" => Ok(()),
        other => Err(format!(
            "{other} does not run here; headers are written as Connect's default converter (SimpleHeaderConverter) writes them"
        )),
    }
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
                        None => {}
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
        for (which, settings) in std::mem::take(&mut self.converters) {
            let Some(class) = settings.get("") else { continue };
            let outcome = match class.as_str() {
                "io.confluent.connect.avro.AvroConverter" => self.confluent(&which, &settings),
                "io.apicurio.registry.utils.converter.AvroConverter" => self.apicurio(&settings),
                other => Err(vec![format!(
                    "{which}.converter: {other} does not run here; records are Avro in Confluent's wire format. If that is what its readers expect, leave {which}.converter out and name the registry by --registry"
                )]),
            };
            wrongs.extend(outcome.err().unwrap_or_default());
        }
        if wrongs.is_empty() { Ok(()) } else { Err(wrongs) }
    }

    fn confluent(&mut self, which: &str, settings: &BTreeMap<String, String>) -> Result<(), Vec<String>> {
        let mut wrongs = Vec::new();
        for (name, value) in settings {
            let fine = match name.as_str() {
                "" | "schemas.cache.config" | "schemas.cache.size" | "basic.auth.credentials.source" => Ok(()),
                "schema.registry.url" => first_url(value).map(|url| self.registry = Some(url)),
                "basic.auth.user.info" | "schema.registry.basic.auth.user.info" => {
                    self.registry_user = Some(value.clone());
                    Ok(())
                }
                "key.subject.name.strategy" | "value.subject.name.strategy" => only(value, ".TopicNameStrategy"),
                "auto.register.schemas" | "connect.meta.data" => only(value, "true"),
                "use.latest.version"
                | "enhanced.avro.schema.support"
                | "scrub.invalid.names"
                | "generalized.sum.type.support" => only(value, "false"),
                _ => Err("is not known".to_owned()),
            };
            wrongs.extend(fine.err().map(|why| format!("{which}.converter.{name}: {why}")));
        }
        if wrongs.is_empty() { Ok(()) } else { Err(wrongs) }
    }

    fn apicurio(&mut self, settings: &BTreeMap<String, String>) -> Result<(), Vec<String>> {
        let setting = |name: &str| settings.get(&format!("apicurio.registry.{name}")).map(String::as_str);
        let mut wrongs = Vec::new();
        match setting("url") {
            Some(url) => self.registry = Some(confluent_side(url)),
            None => wrongs.push("the converter has no apicurio.registry.url".to_owned()),
        }
        for (name, expected) in [
            ("as-confluent", "true"),
            ("headers.enabled", "false"),
            ("use-id", "contentId"),
        ] {
            if setting(name).is_some_and(|value| value != expected) {
                wrongs.push(format!(
                    "apicurio.registry.{name}: its readers expect another wire format than Confluent's; only {expected} is written here"
                ));
            }
        }
        if setting("as-confluent").is_none() {
            wrongs.push(
                "apicurio.registry.as-confluent is not set: ids are of 8 bytes then, and only 4 are written here"
                    .to_owned(),
            );
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

fn only(value: &str, expected: &str) -> Result<(), String> {
    let is_flag = expected == "true" || expected == "false";
    let fits = if is_flag {
        value == expected
    } else {
        value.ends_with(expected)
    };
    match fits {
        true => Ok(()),
        false => Err(format!(
            "only {} is done here; remove it if no reader depends on it",
            expected.trim_start_matches('.')
        )),
    }
}

fn first_url(urls: &str) -> Result<String, String> {
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

/// Apicurio serves Confluent's interface beside its own.
fn confluent_side(url: &str) -> String {
    let base = url.split("/apis/").next().unwrap_or(url).trim_end_matches('/');
    format!("{base}/apis/ccompat/v7")
}
