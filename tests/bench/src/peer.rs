//! Debezium's connectors, as they come and at the best of their settings.
//!
//! Fair means: the same Avro in the same topics, the same compression, no setting left that is known to slow it down. The
//! converter decides half of it: Apicurio's writes the schema as text for every record, so the tuned peer has one that
//! remembers (`peer/LeanAvroConverter.java`: the same bytes), as Confluent's, which is not in Maven Central, is said to.

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde_json::{Value as Json, json};

use crate::bed::Bed;
use crate::contender::{SLOT, Task};

/// How a peer is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tuning {
    /// What makes it fastest.
    Best,
    /// Nothing said that need not be.
    Defaults,
}

/// What `deploy/debezium.sh` builds and uses in place of Apicurio's converter.
const CONVERTER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peer/LeanAvroConverter.java");

/// Settings that are written down with a result.
const SHOWN: [&str; 21] = [
    "batch.size",
    "consumer.override.max.poll.records",
    "decimal.handling.mode",
    "dialect.postgres.unnest.insert.enabled",
    "insert.mode",
    "max.batch.size",
    "max.queue.size",
    "poll.interval.ms",
    "primary.key.mode",
    "producer.override.batch.size",
    "producer.override.compression.type",
    "producer.override.linger.ms",
    "publication.autocreate.mode",
    "snapshot.fetch.size",
    "snapshot.max.threads",
    "snapshot.mode",
    "tasks.max",
    "topic.creation.default.partitions",
    "use.reduction.buffer",
    "connection.url",
    "schema.evolution",
];

impl Tuning {
    /// Of the worker's process.
    pub fn environment(self) -> Vec<(&'static str, &'static str)> {
        match self {
            Tuning::Best => vec![("CONNECT_CONVERTER", CONVERTER)],
            Tuning::Defaults => Vec::new(),
        }
    }
}

/// The source connector.
pub fn source(bed: &Bed, task: &Task, tuning: Tuning) -> anyhow::Result<Json> {
    let (host, port) = address(&bed.source.dsn("postgres"))?;
    let mut config = json!({
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "tasks.max": "1",
        "database.hostname": host, "database.port": port, "database.user": "postgres", "database.password": "",
        "database.dbname": "postgres",
        "topic.prefix": task.prefix, "plugin.name": "pgoutput",
        "slot.name": SLOT, "publication.name": task.publication, "publication.autocreate.mode": "disabled",
        "table.include.list": task.tables.join(","),
        "snapshot.mode": if task.snapshot_readers.is_some() { "initial" } else { "no_data" },
        "topic.creation.default.partitions": task.partitions.to_string(),
        "topic.creation.default.replication.factor": "1",
    });
    if let Some(readers) = task.snapshot_readers {
        config["snapshot.max.threads"] = readers.to_string().into();
    }
    if tuning == Tuning::Best {
        with(
            &mut config,
            &[
                ("max.batch.size", "20000"),
                ("max.queue.size", "100000"),
                ("poll.interval.ms", "10"),
                ("decimal.handling.mode", "precise"),
                ("producer.override.batch.size", "1000000"),
                ("producer.override.linger.ms", "10"),
                ("producer.override.compression.type", "lz4"),
            ],
        );
    }
    Ok(config)
}

/// The JDBC sink.
pub fn sink(bed: &Bed, task: &Task, tuning: Tuning) -> anyhow::Result<Json> {
    let (host, port) = address(&bed.target.dsn("postgres"))?;
    let url = format!("jdbc:postgresql://{host}:{port}/postgres");
    let mut config = json!({
        "connector.class": "io.debezium.connector.jdbc.JdbcSinkConnector",
        "tasks.max": "1",
        "topics": task.topics()[0],
        "connection.url": url,
        "connection.username": "postgres", "connection.password": "",
        "insert.mode": "upsert", "delete.enabled": "true", "primary.key.mode": "record_key",
        "collection.name.format": "${source.table}", "schema.evolution": "none",
        "consumer.override.auto.offset.reset": "earliest",
        "consumer.override.isolation.level": "read_committed",
    });
    if tuning == Tuning::Best {
        config["connection.url"] = format!("{url}?reWriteBatchedInserts=true").into();
        with(
            &mut config,
            &[
                ("batch.size", "3000"),
                ("consumer.override.max.poll.records", "3000"),
                ("use.reduction.buffer", "true"),
                ("dialect.postgres.unnest.insert.enabled", "true"),
            ],
        );
    }
    Ok(config)
}

fn with(config: &mut Json, settings: &[(&str, &str)]) {
    for (name, value) in settings {
        config[*name] = (*value).into();
    }
}

/// Of all that a worker tells of a connector, what a reader of the results asks for.
pub fn shown(settings: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let known = |(name, _): &(&String, &String)| SHOWN.contains(&name.as_str());
    let told = settings.iter().filter(known);
    told.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn address(dsn: &str) -> anyhow::Result<(String, String)> {
    let server = dsn.rsplit('@').next().and_then(|rest| rest.split('/').next());
    let (host, port) = server
        .and_then(|server| server.split_once(':'))
        .context("host:port in a DSN")?;
    Ok((host.to_owned(), port.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_and_names_are_not_written_down() {
        let told = [("max.batch.size", "20000"), ("database.password", "secret")];
        let told = told.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let shown = shown(&BTreeMap::from(told));
        assert_eq!(shown.len(), 1);
        assert_eq!(shown["max.batch.size"], "20000");
    }

    #[test]
    fn an_address_is_host_and_port() {
        let (host, port) = address("postgres://postgres@127.0.0.1:5432/postgres").unwrap();
        assert_eq!((host.as_str(), port.as_str()), ("127.0.0.1", "5432"));
        assert!(address("postgres").is_err());
    }
}
