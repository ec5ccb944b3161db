//! A program that is measured, started, killed and stopped: ours, or Debezium in a Kafka Connect worker of its own.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::Context as _;
use syncline_tests::connect::{Connector, Keeps, Worker};
use syncline_tests::{Service, process};

use crate::Plan;
use crate::bed::Bed;
use crate::peer::{self, Tuning};
use crate::result::Run;
use crate::topic;
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
    /// Debezium, at the best of its settings.
    Debezium,
    /// Debezium as it comes.
    DebeziumDefaults,
}

/// What a run reads and where it writes.
#[derive(Clone, Debug)]
pub struct Task {
    /// First part of the topics' names; no other run has it.
    pub prefix: String,
    /// How many connections read the tables first; none: only the log behind the slot is read.
    pub snapshot_readers: Option<u32>,
    /// Tables that are captured, with their schema; the last is the one whose row ends a work-load.
    pub tables: Vec<String>,
    /// Their publication.
    pub publication: String,
    /// Partitions of each topic.
    pub partitions: i32,
}

impl Task {
    /// The log of these tables of schema `public`.
    pub fn of(prefix: &str, publication: &str, tables: &[&str]) -> Self {
        Self {
            prefix: prefix.to_owned(),
            snapshot_readers: None,
            tables: tables.iter().map(|table| format!("public.{table}")).collect(),
            publication: publication.to_owned(),
            partitions: 1,
        }
    }

    /// The log of the work-load's table.
    pub fn log(prefix: &str) -> Self {
        Self::of(prefix, PUBLICATION, &[TABLE, MARKER])
    }

    /// Topics of the tables.
    pub fn topics(&self) -> Vec<String> {
        self.tables
            .iter()
            .map(|table| format!("{}.{table}", self.prefix))
            .collect()
    }

    /// A run with these topics, which are new and are gone afterwards, also if it fails.
    pub fn in_topics(&self, bed: &Bed, run: impl FnOnce() -> anyhow::Result<Run>) -> anyhow::Result<Run> {
        topic::make(&bed.stack, &self.topics(), self.partitions)?;
        let run = run();
        let deleted = topic::delete(&bed.stack, &self.prefix);
        run.and_then(|run| deleted.map(|()| run))
    }
}

/// A contender at work.
pub enum Running {
    /// Ours.
    Ours(Ours),
    /// Debezium's worker and connector.
    Debezium(Arc<Worker>, Connector),
}

/// One of our processes, and how it was started.
pub struct Ours {
    service: Service,
    binary: &'static str,
    pipeline: PathBuf,
    settings: BTreeMap<String, String>,
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Contender::ExactlyOnce => "syncline",
            Contender::AtLeastOnce => "syncline at least once",
            Contender::Debezium => "debezium",
            Contender::DebeziumDefaults => "debezium defaults",
        })
    }
}

impl Contender {
    /// Ours, and the peer at its best if it is asked for.
    pub fn all(plan: &Plan) -> Vec<Self> {
        let mut all = vec![Contender::ExactlyOnce];
        all.extend(plan.peer.then_some(Contender::Debezium));
        all
    }

    /// The same, and the peer as it comes.
    pub fn all_and_defaults(plan: &Plan) -> Vec<Self> {
        let mut all = Self::all(plan);
        all.extend(plan.peer.then_some(Contender::DebeziumDefaults));
        all
    }

    /// Whether nothing may come twice, whatever is killed.
    pub fn is_exact(self) -> bool {
        self == Contender::ExactlyOnce
    }

    fn tuning(self) -> Option<Tuning> {
        match self {
            Contender::ExactlyOnce | Contender::AtLeastOnce => None,
            Contender::Debezium => Some(Tuning::Best),
            Contender::DebeziumDefaults => Some(Tuning::Defaults),
        }
    }

    /// Starts capture.
    pub fn capture(self, bed: &Bed, task: &Task) -> anyhow::Result<Running> {
        if let Some(tuning) = self.tuning() {
            let worker = Arc::new(Worker::start_with(Keeps::InTopic, &tuning.environment())?);
            let connector = worker.create(&format!("bench_{}", task.prefix), &peer::source(bed, task, tuning)?)?;
            return Ok(Running::Debezium(worker, connector));
        }
        let file = bed.path("capture.yaml");
        std::fs::write(&file, self.pipeline(bed, task, &task.prefix, ""))?;
        let adopt: &[&str] = if task.snapshot_readers.is_some() {
            &[]
        } else {
            &["--adopt-slot"]
        };
        self.ours("syncline-capture", &file, adopt, task)
    }

    /// Starts a sink on topics that a capture with the same task has written: a replica of the first table. What it has
    /// read is remembered under its name; several instances of one name divide the partitions among them.
    pub fn sink(self, bed: &Bed, task: &Task, name: &str, instance: &str) -> anyhow::Result<Running> {
        if let Some(tuning) = self.tuning() {
            let worker = Arc::new(Worker::start_with(Keeps::InTopic, &tuning.environment())?);
            let connector = worker.create(&format!("{name}_{instance}"), &peer::sink(bed, task, tuning)?)?;
            return Ok(Running::Debezium(worker, connector));
        }
        let file = bed.path(&format!("sink-{instance}.yaml"));
        let replica = format!("replica: {{ from: src, to: dst, tables: [{}] }}\n", task.tables[0]);
        std::fs::write(&file, self.pipeline(bed, task, name, &replica))?;
        self.ours("syncline-sink", &file, &["--instance", instance], task)
    }

    fn ours(self, binary: &'static str, pipeline: &Path, args: &[&str], task: &Task) -> anyhow::Result<Running> {
        let service = start(binary, pipeline, args)?;
        let mut settings = BTreeMap::from([
            ("delivery".to_owned(), self.delivery().to_owned()),
            ("partitions".to_owned(), task.partitions.to_string()),
        ]);
        let readers = task.snapshot_readers.map(|readers| readers.to_string());
        settings.extend(readers.map(|readers| ("snapshot.max.threads".to_owned(), readers)));
        Ok(Running::Ours(Ours {
            service,
            binary,
            pipeline: pipeline.to_owned(),
            settings,
        }))
    }

    /// As the pipeline file says it.
    pub fn delivery(self) -> &'static str {
        if self.is_exact() {
            "exactly_once"
        } else {
            "at_least_once"
        }
    }

    fn pipeline(self, bed: &Bed, task: &Task, name: &str, rest: &str) -> String {
        let readers = task.snapshot_readers;
        let readers = readers.map(|readers| format!(", debezium: {{ snapshot.max.threads: {readers} }}"));
        format!(
            "pipeline: {name}\n\
             defaults: {{ kafka: \"{kafka}\", registry: \"{registry}\", partitions: {partitions}, delivery: {delivery} }}\n\
             systems:\n\
             \x20 src: {{ postgres: \"{source}\", slot: {SLOT}, publication: {publication}, topic_prefix: {prefix}, tables: [{tables}]{readers} }}\n\
             \x20 dst: {{ postgres: \"{target}\" }}\n\
             {rest}",
            prefix = task.prefix,
            kafka = bed.stack.kafka,
            registry = bed.stack.registry,
            partitions = task.partitions,
            delivery = self.delivery(),
            source = bed.source.dsn("postgres"),
            publication = task.publication,
            target = bed.target.dsn("postgres"),
            tables = task.tables.join(", "),
            readers = readers.unwrap_or_default(),
        )
    }
}

impl Running {
    /// Its process.
    pub fn pid(&self) -> anyhow::Result<u32> {
        match self {
            Running::Ours(ours) => Ok(ours.service.pid()),
            Running::Debezium(worker, _) => {
                let file = worker.log().with_file_name("connect.pid");
                let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
                Ok(text.trim().parse()?)
            }
        }
    }

    /// What it was set to: of Debezium as its worker tells it, of ours as the pipeline file says.
    pub fn settings(&self) -> anyhow::Result<BTreeMap<String, String>> {
        match self {
            Running::Ours(ours) => Ok(ours.settings.clone()),
            Running::Debezium(_, connector) => Ok(peer::shown(&connector.settings()?)),
        }
    }

    /// Fails, with the end of its log, if it has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self {
            Running::Debezium(_, connector) => match connector.check() {
                // A worker that was started again a moment ago does not know its connectors yet.
                Err(error) if error.to_string().contains("answered with 404") => Ok(()),
                other => other,
            },
            Running::Ours(ours) => match ours.service.ended()? {
                None => Ok(()),
                Some(status) => {
                    anyhow::bail!("it ended with {status}:\n{}", process::tail(&ours.service.log()?, 30))
                }
            },
        }
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        match self {
            Running::Ours(ours) => ours.service.kill(),
            Running::Debezium(worker, _) => worker.kill(),
        }
    }

    /// Starts it again after that, as whoever watches over it would.
    pub fn start_again(&mut self) -> anyhow::Result<()> {
        match self {
            Running::Ours(ours) => {
                ours.service = start(ours.binary, &ours.pipeline, &[])?;
                Ok(())
            }
            Running::Debezium(worker, _) => worker.resume(),
        }
    }

    /// Ends it.
    pub fn stop(self) -> anyhow::Result<()> {
        match self {
            Running::Ours(ours) => ours.service.stop(),
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
