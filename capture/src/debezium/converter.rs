//! Pure: the settings of the two Avro converters. Each is taken, or is without effect, or is refused with what to do.
//!
//! What matters is what the readers of the topics see: the frame before a record, the id in it, the subject under which a
//! schema is registered, and the schema itself. A setting that changes one of them must say what is done here.

use std::collections::BTreeMap;

use super::kafka::{Side, first_url};

type Settings = BTreeMap<String, String>;
type Settled = Result<(), Vec<String>>;

const NOT_ASKED: &str = "Avro says it all; the converter does not ask for it";
const OWN_CACHE: &str = "schemas are kept as long as they are needed";
const REGISTERED_AT_ONCE: &str = "a schema is registered once, when a table is first seen in its form";

/// What became of a setting.
enum Became {
    Taken,
    Meaningless(&'static str),
}

/// Confluent's converter.
pub(super) fn confluent(side: &mut Side, which: &str, settings: &Settings) -> Settled {
    let settle = |side: &mut Side, name: &str, value: &str| match name {
        "schema.registry.url" => registry(side, first_url(value)?),
        "basic.auth.user.info" | "schema.registry.basic.auth.user.info" => {
            side.registry_user = Some(value.to_owned());
            Ok(Became::Taken)
        }
        "basic.auth.credentials.source" => one_of(value, &["USER_INFO", "URL"])
            .map(|_| Became::Meaningless("a login is taken from where it is written")),
        "key.subject.name.strategy" | "value.subject.name.strategy" => ends_with(value, ".TopicNameStrategy"),
        "auto.register.schemas" | "connect.meta.data" => one_of(value, &["true"]),
        "use.latest.version"
        | "enhanced.avro.schema.support"
        | "scrub.invalid.names"
        | "generalized.sum.type.support"
        | "normalize.schemas"
        | "ignore.default.for.nullables" => one_of(value, &["false"]),
        "schemas.enable" => Ok(Became::Meaningless(NOT_ASKED)),
        "schemas.cache.config" | "schemas.cache.size" => Ok(Became::Meaningless(OWN_CACHE)),
        _ => unknown(),
    };
    each(side, which, settings, settle)
}

/// Apicurio's converter, as far as it writes Confluent's format.
pub(super) fn apicurio(side: &mut Side, which: &str, settings: &Settings) -> Settled {
    let settle =
        |side: &mut Side, name: &str, value: &str| match name.strip_prefix("apicurio.registry.").unwrap_or_default() {
            "url" => registry(side, confluent_side(&first_url(value)?)),
            "as-confluent" => one_of(value, &["true"]),
            "use-id" => one_of(value, &["contentId"]),
            "headers.enabled" | "find-latest" => one_of(value, &["false"]),
            "auto-register" | "dereference-schema" | "serializer.dereference-schema" => one_of(value, &["true"]),
            "artifact-resolver-strategy" => ends_with(value, ".TopicIdStrategy"),
            "artifact.group-id" => one_of(value, &["default"]),
            "auto-register.if-exists" => Ok(Became::Meaningless(REGISTERED_AT_ONCE)),
            "check-period-ms" | "retry-count" | "retry-backoff-ms" => Ok(Became::Meaningless(OWN_CACHE)),
            "deserializer.dereference-schema" => Ok(Became::Meaningless("nothing is read with it")),
            _ if name == "schemas.enable" => Ok(Became::Meaningless(NOT_ASKED)),
            _ => unknown(),
        };
    let mut wrongs = each(side, which, settings, settle).err().unwrap_or_default();
    let is_there = |name: &str| settings.contains_key(&format!("apicurio.registry.{name}"));
    for (name, why) in APICURIO_NEEDED {
        if !is_there(name) {
            wrongs.push(format!("{which}.converter.apicurio.registry.{name} is missing; {why}"));
        }
    }
    if !is_there("dereference-schema") && !is_there("serializer.dereference-schema") {
        side.meaningless.push((
            format!("{which}.converter.apicurio.registry.dereference-schema (not set)"),
            "schemas are registered whole, so each subject gets one new version at the first record",
        ));
    }
    if wrongs.is_empty() { Ok(()) } else { Err(wrongs) }
}

/// Without these the converter writes something else, or nothing.
const APICURIO_NEEDED: [(&str, &str); 3] = [
    ("url", "say where the registry is"),
    (
        "as-confluent",
        "the converter of Apicurio 2 writes ids of 8 bytes then, and only 4 are written here; say true if that is what its readers expect",
    ),
    (
        "use-id",
        "the converter of Apicurio 2 writes global ids then, and only content ids are written here; say contentId if that is what its readers expect",
    ),
];

fn each(
    side: &mut Side,
    which: &str,
    settings: &Settings,
    settle: impl Fn(&mut Side, &str, &str) -> Result<Became, String>,
) -> Settled {
    let mut wrongs = Vec::new();
    for (name, value) in settings.iter().filter(|(name, _)| !name.is_empty()) {
        let full = format!("{which}.converter.{name}");
        match settle(side, name, value) {
            Ok(Became::Taken) => {}
            Ok(Became::Meaningless(why)) => side.meaningless.push((full, why)),
            Err(why) => wrongs.push(format!("{full}: {why}")),
        }
    }
    if wrongs.is_empty() { Ok(()) } else { Err(wrongs) }
}

/// Keys and values have one.
fn registry(side: &mut Side, url: String) -> Result<Became, String> {
    match side.registry.replace(url) {
        Some(other) if side.registry.as_ref() != Some(&other) => Err(
            "another converter names another registry, and only one is asked here; name it by --registry and remove both"
                .to_owned(),
        ),
        _ => Ok(Became::Taken),
    }
}

fn one_of(value: &str, expected: &[&str]) -> Result<Became, String> {
    match expected.iter().any(|word| word.eq_ignore_ascii_case(value)) {
        true => Ok(Became::Taken),
        false => only(&expected.join(" or ")),
    }
}

fn ends_with(value: &str, expected: &str) -> Result<Became, String> {
    match value.ends_with(expected) {
        true => Ok(Became::Taken),
        false => only(expected.trim_start_matches('.')),
    }
}

fn only(expected: &str) -> Result<Became, String> {
    Err(format!(
        "only {expected} is done here; remove it if no reader depends on it"
    ))
}

fn unknown() -> Result<Became, String> {
    Err("is not known here; remove it if no reader depends on it".to_owned())
}

/// Apicurio serves Confluent's interface beside its own.
fn confluent_side(url: &str) -> String {
    let base = url.split("/apis/").next().unwrap_or(url).trim_end_matches('/');
    format!("{base}/apis/ccompat/v7")
}
