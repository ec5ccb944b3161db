//! How the rows that are there come to Kafka: Debezium's settings of snapshots, signals and notifications, checked.
//!
//! The names of the fields are ours; the property of Debezium that each stands for is in its doc.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::patterns::Patterns;
use crate::postgres::quote::TableName;

/// `snapshot.mode`: when tables are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// All of them, each time the process starts.
    Always,
    /// All of them if nothing is known of the slot, and those that are new.
    #[default]
    Initial,
    /// The same, then the process ends; no slot is made.
    InitialOnly,
    /// None; what the slot still holds is streamed.
    NoData,
    /// As `initial`, and also where the slot no longer has what is missing in Kafka.
    WhenNeeded,
}

impl Mode {
    /// The mode that Debezium calls so; the error says why there is none here and what to do instead.
    pub fn parse(name: &str) -> Result<Self, String> {
        match name.to_ascii_lowercase().as_str() {
            "always" => Ok(Self::Always),
            "initial" => Ok(Self::Initial),
            "initial_only" => Ok(Self::InitialOnly),
            "no_data" | "never" | "schema_only" => Ok(Self::NoData),
            "when_needed" => Ok(Self::WhenNeeded),
            "recovery" | "schema_only_recovery" => {
                Err("\"recovery\" restores a history of schemas, and PostgreSQL's log \
                 needs none: use initial, or when_needed to read tables again where the slot has lost changes"
                    .to_owned())
            }
            "configuration_based" => Err(
                "\"configuration_based\" is not supported: choose initial, no_data, when_needed, \
                 always or initial_only, whichever the snapshot.mode.configuration.based.* flags describe"
                    .to_owned(),
            ),
            "custom" => {
                Err("\"custom\" names a Java class, which cannot run here: choose one of the modes by name".to_owned())
            }
            other => Err(format!(
                "{other:?} is no snapshot mode: always, initial, initial_only, no_data or when_needed"
            )),
        }
    }
}

/// `incremental.snapshot.watermarking.strategy`, and `read.only`: how the window of a chunk is seen in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Watermarks {
    /// A row in the signalling table at either end.
    #[default]
    InsertInsert,
    /// A row at the beginning, deleted at the end.
    InsertDelete,
    /// Nothing is written: the end of the log is asked for.
    ReadOnly,
}

/// `signal.enabled.channels`: from where signals come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Channel {
    /// Rows of the signalling table.
    Source,
    /// A topic.
    Kafka,
    /// A file.
    File,
}

/// Everything said about snapshots, signals and notifications.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshots {
    /// `snapshot.mode`.
    pub mode: Mode,
    /// `snapshot.include.collection.list`: the tables to read; none: all. The others are only streamed.
    pub included: Option<Patterns>,
    /// `snapshot.select.statement.overrides.*`: by `schema.table`, what to read instead of the table.
    pub overrides: BTreeMap<String, String>,
    /// `snapshot.select.statement.overrides`: the tables for which that counts.
    pub overridden: BTreeSet<String>,
    /// `snapshot.max.threads`: connections that read at the same time.
    pub threads_max: usize,
    /// `incremental.snapshot.chunk.size`: rows of a chunk.
    pub chunk_rows_max: u64,
    /// `incremental.snapshot.watermarking.strategy`, `read.only`.
    pub watermarks: Watermarks,
    /// `signal.enabled.channels`.
    pub channels: BTreeSet<Channel>,
    /// `signal.data.collection`: the signalling table.
    pub signal_table: Option<TableName>,
    /// `signal.kafka.topic`; none: `<prefix>-signal`.
    pub signal_topic: Option<String>,
    /// `signal.kafka.bootstrap.servers`, if that is another cluster than the records'.
    pub signal_bootstrap: Option<String>,
    /// `signal.consumer.*`: what its client needs beside what the records' has, in librdkafka's words.
    pub signal_properties: BTreeMap<String, String>,
    /// `signal.file`.
    pub signal_file: PathBuf,
    /// `signal.poll.interval.ms`.
    pub signal_poll_ms: u64,
    /// `notification.enabled.channels` holds `sink`.
    pub notification_sink: bool,
    /// `notification.sink.topic.name`; none: `<prefix>.notifications`.
    pub notification_topic: Option<String>,
    /// `notification.enabled.channels` holds `log`.
    pub notification_log: bool,
}

impl Default for Snapshots {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            included: None,
            overrides: BTreeMap::new(),
            overridden: BTreeSet::new(),
            threads_max: 1,
            chunk_rows_max: 1024,
            watermarks: Watermarks::default(),
            channels: BTreeSet::from([Channel::Source]),
            signal_table: None,
            signal_topic: None,
            signal_bootstrap: None,
            signal_properties: BTreeMap::new(),
            signal_file: PathBuf::from("file-signals.txt"),
            signal_poll_ms: 5_000,
            notification_sink: false,
            notification_topic: None,
            notification_log: false,
        }
    }
}

impl Snapshots {
    /// Whether the rows of the table (`schema.table`) are to be read at all.
    pub fn reads(&self, table: &str) -> bool {
        self.mode != Mode::NoData
            && !self.is_signals(table)
            && self.included.as_ref().is_none_or(|included| included.matches(table))
    }

    /// What to read instead of the table.
    pub fn select(&self, table: &str) -> Option<&str> {
        let select = self.overrides.get(table).filter(|_| self.overridden.contains(table));
        select.map(String::as_str)
    }

    /// The signalling table, if signals are to be seen in the log.
    pub fn signals_in_log(&self) -> Option<&TableName> {
        self.signal_table
            .as_ref()
            .filter(|_| self.channels.contains(&Channel::Source))
    }

    /// Whether the table is the signalling table, whose rows nobody ever reads again.
    pub fn is_signals(&self, table: &str) -> bool {
        self.signals_in_log()
            .is_some_and(|signals| signals.to_string() == table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mode_of_debezium_is_known_or_refused_with_what_to_do() {
        assert_eq!(Mode::parse("schema_only"), Ok(Mode::NoData));
        assert_eq!(Mode::parse("WHEN_NEEDED"), Ok(Mode::WhenNeeded));
        for refused in ["recovery", "configuration_based", "custom", "sometimes"] {
            let reason = Mode::parse(refused).unwrap_err();
            assert!(reason.contains(refused), "{reason}");
        }
    }

    #[test]
    fn a_table_that_is_not_included_is_not_read() {
        let snapshots = Snapshots {
            included: Some(Patterns::parse(r"public\.a").unwrap()),
            ..Snapshots::default()
        };
        assert!(snapshots.reads("public.a") && !snapshots.reads("public.b"));
        let no_data = Snapshots {
            mode: Mode::NoData,
            ..Snapshots::default()
        };
        assert!(!no_data.reads("public.a"));
    }
}
