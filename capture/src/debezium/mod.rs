//! Debezium's configuration, as it is: from a connector's properties to a source of ours.
//!
//! The way of a property: [`written`] (the file, references put in) > [`table`] (what it does here) > `set` and [`kafka`]
//! (where its value goes) > [`connector`] (one whole source). A `debezium:` map in a pipeline file takes the same way from
//! [`table`] on. Nothing here touches a database or a broker: what is told is told before anything is opened.

use table::{Effect, Given};

/// Java's clients' settings.
mod client;

/// A connector's configuration to one source.
pub mod connector;

/// The settings of the Avro converters.
mod converter;

/// What the properties fill in.
pub mod draft;

/// The pipeline file that means the same.
pub mod import;

/// `.properties` by Java's rules.
pub mod java_properties;

/// Cluster, converters, registry.
pub mod kafka;

/// References to values kept elsewhere.
pub mod providers;

/// One setter for each property.
mod set;

/// Debezium's properties in a pipeline file.
pub mod system;

/// What each property does here.
pub mod table;

/// Single message transforms.
pub mod transforms;

/// The file as it was written.
pub mod written;

/// What became of a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Became {
    /// It counts.
    Honoured,
    /// It has no effect here, for this reason.
    Meaningless(&'static str),
    /// It says what Debezium does anyway, and what is done here too.
    Default,
}

/// Puts one property where it belongs, or says why it cannot be and what to do.
pub fn put(draft: &mut draft::Draft, name: &str, value: &str) -> Result<Became, String> {
    let Some((row, wild)) = table::find(name) else {
        let meant = table::nearest(name).map(|name| format!("; did you mean {name}?"));
        return Err(format!(
            "is no property of Debezium's PostgreSQL connector{}",
            meant.unwrap_or_default()
        ));
    };
    let value = value.trim();
    let given = Given { name, wild, value };
    let is_default = row.default.is_some_and(|default| default.eq_ignore_ascii_case(value));
    match row.effect {
        Effect::Honoured(set) => set(draft, &given).map(|()| Became::Honoured),
        Effect::Meaningless(why) => Ok(Became::Meaningless(why)),
        _ if is_default => Ok(Became::Default),
        Effect::Refused(why) => Err(format!("is not done here: {why}")),
    }
}
