//! A program that is measured, started and stopped: ours, or Debezium in a Kafka Connect worker of its own.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::Context as _;
use serde_json::{Value as Json, json};
use syncline_tests::connect::{Connector, Keeps, Worker};
use syncline_tests::{Service, process};

use crate::bed::Bed;
use crate::work::{MARKER, PUBLICATION, TABLE};

/// The slot that a run reads.
pub const SLOT: &str = "bench_run";

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    /// Ours, exactly once.
    ExactlyOnce,
    /// Ours, at least once.
    AtLeastOnce,
    /// Debezium, tuned: large batches and queues, short waits.
    Debezium,
}

/// What a run reads and where it writes.
#[derive(Clone, Debug)]
pub struct Task {
    /// First part of the topics' names; no other run has it.
    pub prefix: String,
    /// Whether the table is read, or only the log behind the slot.
    pub snapshot: bool,
    /// Tables that are captured.
    pub tables: Vec<String>,
}

impl Task {
    /// The log of the work-load's table.
    pub fn log(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
            snapshot: false,
            tables: vec![format!("public.{TABLE}"), format!("public.{MARKER}")],
        }
    }

    /// Topics of the tables.
    pub fn topics(&self) -> Vec<String> {
        self.tables
            .iter()
            .map(|table| format!("{}.{table}", self.prefix))
            .collect()
    }
}

/// A contender at work.
pub enum Running {
    /// Ours.
    Ours(Service),
    /// Debezium's worker and connector.
    Debezium(Arc<Worker>, Connector),
}

impl Contender {
    /// As results name it.
    pub fn name(self) -> &'static str {
        match self {
            Contender::ExactlyOnce => "syncline",
            Contender::AtLeastOnce => "syncline at least once",
            Contender::Debezium => "debezium",
        }
    }

    /// Starts capture.
    pub fn capture(self, bed: &Bed, task: &Task) -> anyhow::Result<Running> {
        match self {
            Contender::Debezium => {
                let worker = Arc::new(Worker::start(Keeps::InTopic)?);
                let connector = worker.create(&format!("bench_{}", task.prefix), &debezium_source(bed, task)?)?;
                Ok(Running::Debezium(worker, connector))
            }
            ours => {
                let file = bed.path("capture.yaml");
                std::fs::write(&file, pipeline(bed, task, ours, ""))?;
                start(
                    "syncline-capture",
                    &file,
                    if task.snapshot { &[] } else { &["--adopt-slot"] },
                )
                .map(Running::Ours)
            }
        }
    }

    /// Starts the sink on topics that a capture with the same task has written: a replica of the tables.
    pub fn sink(self, bed: &Bed, task: &Task) -> anyhow::Result<Running> {
        match self {
            Contender::Debezium => {
                let worker = Arc::new(Worker::start(Keeps::InTopic)?);
                let connector = worker.create(&format!("bench_sink_{}", task.prefix), &debezium_sink(bed, task)?)?;
                Ok(Running::Debezium(worker, connector))
            }
            ours => {
                let file = bed.path("sink.yaml");
                let replica = format!("replica: {{ from: src, to: dst, tables: [{}] }}\n", task.tables[0]);
                std::fs::write(&file, pipeline(bed, task, ours, &replica))?;
                start("syncline-sink", &file, &[]).map(Running::Ours)
            }
        }
    }
}

impl Running {
    /// Its process.
    pub fn pid(&self) -> anyhow::Result<u32> {
        match self {
            Running::Ours(service) => Ok(service.pid()),
            Running::Debezium(worker, _) => {
                let file = worker.log().with_file_name("connect.pid");
                let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
                Ok(text.trim().parse()?)
            }
        }
    }

    /// Fails, with the end of its log, if it has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self {
            Running::Debezium(_, connector) => connector.check(),
            Running::Ours(service) => match service.ended()? {
                None => Ok(()),
                Some(status) => {
                    anyhow::bail!("it ended with {status}:\n{}", process::tail(&service.log()?, 30))
                }
            },
        }
    }

    /// Ends it.
    pub fn stop(self) -> anyhow::Result<()> {
        match self {
            Running::Ours(service) => service.stop(),
            Running::Debezium(_, connector) => connector.stop(),
        }
    }
}

fn start(binary: &str, pipeline: &Path, args: &[&str]) -> anyhow::Result<Service> {
    let mut command = Command::new(process::binary(binary)?);
    command.arg("--pipeline").arg(pipeline).args(args);
    command.env("RUST_LOG", "warn");
    Service::spawn(command, &pipeline.with_extension("log"))
}

fn pipeline(bed: &Bed, task: &Task, contender: Contender, rest: &str) -> String {
    let delivery = match contender {
        Contender::AtLeastOnce => "at_least_once",
        _ => "exactly_once",
    };
    format!(
        "pipeline: {prefix}\n\
         defaults: {{ kafka: \"{kafka}\", registry: \"{registry}\", partitions: 1, delivery: {delivery} }}\n\
         systems:\n\
         \x20 src: {{ postgres: \"{source}\", slot: {SLOT}, publication: {PUBLICATION}, topic_prefix: {prefix}, tables: [{tables}] }}\n\
         \x20 dst: {{ postgres: \"{target}\" }}\n\
         {rest}",
        prefix = task.prefix,
        kafka = bed.stack.kafka,
        registry = bed.stack.registry,
        source = bed.source.dsn("postgres"),
        target = bed.target.dsn("postgres"),
        tables = task.tables.join(", "),
    )
}

/// Debezium as its users tune it for throughput with short waits.
fn debezium_source(bed: &Bed, task: &Task) -> anyhow::Result<Json> {
    let (host, port) = address(&bed.source.dsn("postgres"))?;
    Ok(json!({
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "tasks.max": "1",
        "database.hostname": host, "database.port": port, "database.user": "postgres", "database.password": "",
        "database.dbname": "postgres",
        "topic.prefix": task.prefix, "plugin.name": "pgoutput",
        "slot.name": SLOT, "publication.name": PUBLICATION, "publication.autocreate.mode": "disabled",
        "table.include.list": task.tables.join(","),
        "snapshot.mode": if task.snapshot { "initial" } else { "no_data" },
        "max.batch.size": "20000", "max.queue.size": "100000", "poll.interval.ms": "10",
        "producer.override.batch.size": "1000000", "producer.override.linger.ms": "10",
        "producer.override.compression.type": "lz4",
        "topic.creation.default.partitions": "1", "topic.creation.default.replication.factor": "1",
    }))
}

/// Its JDBC sink at the best of its settings.
fn debezium_sink(bed: &Bed, task: &Task) -> anyhow::Result<Json> {
    let (host, port) = address(&bed.target.dsn("postgres"))?;
    Ok(json!({
        "connector.class": "io.debezium.connector.jdbc.JdbcSinkConnector",
        "tasks.max": "1",
        "topics": task.topics()[0],
        "connection.url": format!("jdbc:postgresql://{host}:{port}/postgres?reWriteBatchedInserts=true"),
        "connection.username": "postgres", "connection.password": "",
        "insert.mode": "upsert", "delete.enabled": "true", "primary.key.mode": "record_key",
        "collection.name.format": "${source.table}", "schema.evolution": "none",
        "batch.size": "3000", "consumer.override.max.poll.records": "3000", "consumer.override.auto.offset.reset": "earliest",
        "consumer.override.isolation.level": "read_committed",
        "use.reduction.buffer": "true", "dialect.postgres.unnest.insert.enabled": "true",
    }))
}

fn address(dsn: &str) -> anyhow::Result<(String, String)> {
    let server = dsn.rsplit('@').next().and_then(|rest| rest.split('/').next());
    let (host, port) = server
        .and_then(|server| server.split_once(':'))
        .context("host:port in a DSN")?;
    Ok((host.to_owned(), port.to_owned()))
}
