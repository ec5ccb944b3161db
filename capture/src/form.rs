//! What records look like and which rows become records: every setting of Debezium that changes a byte or a topic.
//!
//! The names of the fields are ours; the property of Debezium that each stands for is in its doc. Made from properties by
//! `debezium`, from nothing by [`Form::default`], which is Debezium 3.6 as it comes but for both name adjustments.

use std::collections::BTreeSet;

use syncline_schemas::topic;

use crate::selection::Selection;

/// Which of two right answers to give where Debezium's own loses something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fidelity {
    /// The right value, inside the schema that Debezium would register.
    #[default]
    Exact,
    /// The bytes that Debezium writes; what is lost is counted by column.
    Debezium,
}

/// `decimal.handling.mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Decimals {
    /// Bytes with a scale.
    #[default]
    Precise,
    /// Floating point.
    Double,
    /// Text.
    String,
}

/// `time.precision.mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Times {
    /// Milliseconds up to three digits of a second, else microseconds.
    #[default]
    Adaptive,
    /// The same, but a time of day is always in microseconds.
    AdaptiveTimeMicroseconds,
    /// Kafka Connect's own types, in milliseconds.
    Connect,
    /// Text in ISO 8601, in UTC.
    IsoString,
    /// Always microseconds.
    Microseconds,
    /// Always nanoseconds.
    Nanoseconds,
}

/// `interval.handling.mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Intervals {
    /// Microseconds, a month being 30.4375 days.
    #[default]
    Numeric,
    /// Text in ISO 8601.
    String,
}

/// `hstore.handling.mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hstores {
    /// JSON text.
    #[default]
    Json,
    /// A map.
    Map,
}

/// `binary.handling.mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Binaries {
    /// Bytes.
    #[default]
    Bytes,
    /// Base64 text.
    Base64,
    /// Base64 text in the alphabet for URLs.
    Base64UrlSafe,
    /// Hexadecimal text.
    Hex,
}

/// `schema.name.adjustment.mode`, `field.name.adjustment.mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Names {
    /// As they are; a name that Avro cannot bear stops the table.
    None,
    /// What Avro cannot bear becomes `_`.
    #[default]
    Avro,
    /// What Avro cannot bear becomes `_uXXXX`.
    AvroUnicode,
}

/// The release of Debezium whose schemas are written: schema ids hang on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emulated {
    /// As `source.version` names it: `3.6.3.Final`.
    pub version: String,
}

impl Emulated {
    /// Whether that release is `major.minor` or later. A version that is none counts as the latest.
    pub fn is_since(&self, major: u32, minor: u32) -> bool {
        let mut parts = self.version.split('.').map(str::parse::<u32>);
        match (parts.next(), parts.next()) {
            (Some(Ok(own_major)), Some(Ok(own_minor))) => (own_major, own_minor) >= (major, minor),
            _ => true,
        }
    }
}

/// What can be done to a row, as `skipped.operations` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// `c`
    Create,
    /// `u`
    Update,
    /// `d`
    Delete,
    /// `t`
    Truncate,
}

/// How topics are named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    /// `topic.delimiter`.
    pub delimiter: String,
    /// `topic.transaction`.
    pub transaction: String,
    /// `topic.heartbeat.prefix`.
    pub heartbeat_prefix: String,
    /// `topic.heartbeat.name`.
    pub heartbeat_name: Option<String>,
}

impl Default for Topics {
    fn default() -> Self {
        Self {
            delimiter: ".".to_owned(),
            transaction: "transaction".to_owned(),
            heartbeat_prefix: "__debezium-heartbeat".to_owned(),
            heartbeat_name: None,
        }
    }
}

impl Topics {
    /// The topic of a table's changes.
    pub fn table(&self, prefix: &str, schema: &str, table: &str) -> String {
        topic::sanitized(&self.joined(&[prefix, schema, table]))
    }

    /// A name of several parts.
    pub fn joined(&self, parts: &[&str]) -> String {
        parts.join(&self.delimiter)
    }
}

/// A sign of life in a topic of its own, and in the database if wanted: both move an idle slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heartbeat {
    /// `heartbeat.interval.ms`; 0 for none.
    pub interval_ms: u64,
    /// `heartbeat.action.query`.
    pub action: Option<String>,
}

/// How records look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    /// The release that is stood in for.
    pub emulated: Emulated,
    /// What to do where that release loses something.
    pub fidelity: Fidelity,
    /// `decimal.handling.mode`.
    pub decimals: Decimals,
    /// `time.precision.mode`.
    pub times: Times,
    /// `interval.handling.mode`.
    pub intervals: Intervals,
    /// `hstore.handling.mode`.
    pub hstores: Hstores,
    /// `binary.handling.mode`.
    pub binaries: Binaries,
    /// `money.fraction.digits`.
    pub money_fraction_digits: u32,
    /// `unavailable.value.placeholder`, after `hex:` has been taken off.
    pub unavailable: Vec<u8>,
    /// `include.unknown.datatypes`. With [`Fidelity::Exact`] they are carried as text whatever this says.
    pub unknown_types: bool,
    /// `schema.name.adjustment.mode`.
    pub schema_names: Names,
    /// `field.name.adjustment.mode`.
    pub field_names: Names,
    /// `tombstones.on.delete`.
    pub tombstones: bool,
    /// `skipped.operations`.
    pub skipped: BTreeSet<Operation>,
    /// `skip.messages.without.change`: an update that changes no column of the records is none. Needs the whole old row.
    pub unchanged_skipped: bool,
    /// `extended.headers.enabled`.
    pub extended_headers: bool,
    /// How topics are named.
    pub topics: Topics,
    /// `provide.transaction.metadata`.
    pub transactions: bool,
    /// Signs of life.
    pub heartbeat: Heartbeat,
    /// Which tables, columns and messages become records, and what is masked.
    pub selection: Selection,
}

impl Default for Form {
    fn default() -> Self {
        Self {
            emulated: Emulated {
                version: DEBEZIUM_VERSION.to_owned(),
            },
            fidelity: Fidelity::default(),
            decimals: Decimals::default(),
            times: Times::default(),
            intervals: Intervals::default(),
            hstores: Hstores::default(),
            binaries: Binaries::default(),
            money_fraction_digits: 2,
            unavailable: b"__debezium_unavailable_value".to_vec(),
            unknown_types: false,
            schema_names: Names::default(),
            field_names: Names::default(),
            tombstones: true,
            skipped: BTreeSet::from([Operation::Truncate]),
            unchanged_skipped: false,
            extended_headers: true,
            topics: Topics::default(),
            transactions: false,
            heartbeat: Heartbeat::default(),
            selection: Selection::default(),
        }
    }
}

/// The version of Debezium whose output ours is equal to, where nobody says another.
pub const DEBEZIUM_VERSION: &str = "3.6.3.Final";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_compared_by_its_numbers() {
        let emulated = |version: &str| Emulated {
            version: version.to_owned(),
        };
        assert!(emulated("3.10.0.Final").is_since(3, 5));
        assert!(!emulated("2.7.4.Final").is_since(3, 0));
        assert!(emulated("what").is_since(9, 9));
    }
}
