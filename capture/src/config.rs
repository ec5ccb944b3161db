//! What one source is captured by: the pipeline file and the command line, brought together and checked.

use std::path::{Path, PathBuf};

use syncline_bus::BusConfig;
use syncline_runtime::process::{ARGUMENTS_INVALID, PIPELINE_INVALID};
use syncline_runtime::{Failure, Outcome, ProcessArgs};
use syncline_schemas::pipeline::care::Care;
use syncline_schemas::pipeline::{self, CapturedBy, Delivery, Pipeline, Problem, System};

use crate::debezium;
use crate::debezium::connector::{self, Beside};

use crate::care::CareArgs;
use crate::form::{DEBEZIUM_VERSION, Fidelity, Form, Operation};
use crate::groups::{self, Share};
use crate::postgres::dsn::Dsn;
use crate::postgres::quote::TableName;
pub use crate::postgres::setup::{PublicationMode, Reach};
use crate::snapshots::Snapshots;
use crate::takeover::{Offsets, export};

/// Connections that read a snapshot, where the file says nothing else. One where all is to be as Debezium has it: its tables come
/// in their order.
const THREADS: usize = 4;

/// The command line of `syncline-capture`.
#[derive(Clone, Debug, clap::Parser)]
#[command(
    name = "syncline-capture",
    version,
    about = "Committed changes of PostgreSQL databases, to Kafka"
)]
pub struct Args {
    /// The pipeline file
    #[arg(
        long,
        value_name = "FILE",
        env = "SYNCLINE_PIPELINE",
        required_unless_present = "debezium"
    )]
    pub pipeline: Option<PathBuf>,
    /// Instead of a pipeline file: the configuration of a Debezium connector, JSON or .properties
    #[arg(long, value_name = "FILE", conflicts_with_all = ["pipeline", "source"])]
    pub debezium: Option<PathBuf>,
    /// What goes with the connector.
    #[command(flatten)]
    pub beside: BesideArgs,
    /// What every program can be told.
    #[command(flatten)]
    pub process: ProcessArgs,
    /// Capture only this source of the pipeline file; SYSTEM/GROUP for one of its slots
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,
    /// Go on with the slot as it is: take over one without progress, or accept the gap that SLOT_AHEAD names
    #[arg(long)]
    pub adopt_slot: bool,
    /// Make the slot anew and read all tables again
    #[arg(long, conflicts_with = "adopt_slot")]
    pub resnapshot: bool,
    /// The version of Debezium to name in each record
    #[arg(long, value_name = "VERSION", default_value = DEBEZIUM_VERSION)]
    pub debezium_version: String,
    /// What to do when something goes wrong
    #[command(flatten)]
    pub care: CareArgs,
    /// Print where capture stands as an offset from which Debezium goes on, then exit
    #[arg(long, value_name = "FORM", num_args = 0..=1, default_missing_value = "connect")]
    pub export_offsets: Option<export::Form>,
    /// Write a record for each TRUNCATE; always on for a source that is replicated
    #[arg(long)]
    pub truncates: bool,
}

/// What goes with `--debezium`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct BesideArgs {
    /// With --debezium: the properties of the Connect worker that ran the connector
    #[arg(long, value_name = "FILE", requires = "debezium")]
    pub worker: Option<PathBuf>,
    /// With --debezium: the brokers, if neither file names them or others are meant
    #[arg(long, value_name = "HOST:PORT", requires = "debezium")]
    pub bootstrap: Option<String>,
    /// With --debezium: the schema registry, if neither file names it or another is meant
    #[arg(long, value_name = "URL", requires = "debezium")]
    pub registry: Option<String>,
    /// With --debezium: the connector's offsets, as GET /connectors/NAME/offsets gave them
    #[arg(long, value_name = "FILE", requires = "debezium")]
    pub offsets: Option<PathBuf>,
}

/// What a person has decided about the slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repair {
    /// Go on with the slot as it is.
    pub adopt_slot: bool,
    /// Make it anew.
    pub resnapshot: bool,
}

/// One source and everything that capturing it needs.
#[derive(Clone, Debug)]
pub struct SourceConfig {
    /// Name of the system.
    pub name: String,
    /// First part of its topics' names.
    pub prefix: String,
    /// The database.
    pub dsn: Dsn,
    /// The slot.
    pub slot: String,
    /// The publication.
    pub publication: String,
    /// The tables to capture; none: every table of the database.
    pub tables: Option<Vec<TableName>>,
    /// What becomes of the publication.
    pub publication_mode: PublicationMode,
    /// Which tables there are, where nobody names them.
    pub reach: Reach,
    /// What records look like.
    pub form: Form,
    /// When and how the rows that are there are read, signals and notifications.
    pub snapshots: Snapshots,
    /// Kafka.
    pub bus: BusConfig,
    /// The registry.
    pub registry: String,
    /// Partitions of the topics made.
    pub partitions: i32,
    /// How to write to Kafka.
    pub delivery: Delivery,
    /// What is done when something goes wrong.
    pub care: Care,
    /// What a person has decided about the slot.
    pub repair: Repair,
    /// The repairing command without its flag, for hints.
    pub command: String,
    /// Work off what is there, then end.
    pub until_current: bool,
    /// Name of the Debezium connector whose place this takes.
    pub connector: Option<String>,
    /// Where that connector's offsets are.
    pub offsets: Option<Offsets>,
    /// Which of the system's tables come through this slot, if it has several.
    pub share: Share,
    /// What belongs to no table is for this slot: the first, if there are several.
    pub leads: bool,
    /// Its driver moves the slot on by itself while nothing changes: `lsn.flush.mode=connector_and_driver`.
    pub driver_flushes: bool,
    /// Debezium's properties that have no effect here, each with the reason.
    pub meaningless: Vec<(String, &'static str)>,
}

impl SourceConfig {
    /// A source with every setting as it is where nobody says otherwise; to be filled in.
    pub fn new(name: &str, dsn: Dsn) -> Self {
        Self {
            name: name.to_owned(),
            prefix: name.to_owned(),
            dsn,
            slot: String::new(),
            publication: String::new(),
            tables: None,
            publication_mode: PublicationMode::default(),
            reach: Reach::default(),
            form: Form::default(),
            snapshots: Snapshots::default(),
            bus: BusConfig::default(),
            registry: String::new(),
            partitions: 1,
            delivery: Delivery::ExactlyOnce,
            care: Care::default(),
            repair: Repair::default(),
            command: String::new(),
            until_current: false,
            connector: None,
            offsets: None,
            share: Share::All,
            leads: true,
            driver_flushes: false,
            meaningless: Vec::new(),
        }
    }

    /// The id under which the transactions of this source are written: one writer at a time.
    pub fn transactional_id(&self) -> String {
        format!("syncline-capture-{}-{}", self.prefix, self.slot)
    }
}

/// The sources that this process captures.
pub fn load(args: &Args) -> Outcome<Vec<SourceConfig>> {
    let env = |name: &str| std::env::var(name).ok();
    match (&args.debezium, &args.pipeline) {
        (Some(file), _) => connector_source(file, args, &env).map(|source| vec![source]),
        (None, Some(file)) => {
            let pipeline = pipeline::load(file, &env).map_err(|problems| invalid(&problems))?;
            sources(&pipeline, args)
        }
        (None, None) => Err(Failure::definite(
            ARGUMENTS_INVALID,
            "no --pipeline FILE and no --debezium FILE",
        )),
    }
}

fn invalid(problems: &[Problem]) -> Failure {
    let all: Vec<String> = problems.iter().map(Problem::to_string).collect();
    Failure::definite(PIPELINE_INVALID, all.join("\n\n"))
}

/// The source that a Debezium connector's configuration means.
fn connector_source(file: &Path, args: &Args, env: &dyn Fn(&str) -> Option<String>) -> Outcome<SourceConfig> {
    let BesideArgs {
        worker,
        bootstrap,
        registry,
        offsets,
    } = args.beside.clone();
    let beside = Beside {
        worker,
        bootstrap,
        registry,
        offsets,
    };
    let loaded = connector::load(file, &beside, env);
    let loaded = loaded.map_err(|told| Failure::definite(PIPELINE_INVALID, told.join("\n")))?;
    let mut source = loaded.source;
    source.meaningless = loaded.meaningless;
    source.command = format!("syncline-capture --debezium {}", file.display());
    told_by_arguments(&mut source, args);
    Ok(source)
}

/// What the command line says, whatever the source is configured by.
fn told_by_arguments(source: &mut SourceConfig, args: &Args) {
    source.form.emulated.version.clone_from(&args.debezium_version);
    if args.truncates {
        source.form.skipped.remove(&Operation::Truncate);
    }
    source.bus.client_id = format!("syncline-capture-{}-{}", source.name, args.process.instance);
    source.until_current = args.process.until_current;
    source.care = args.care.over(&source.care);
    source.repair = Repair {
        adopt_slot: args.adopt_slot,
        resnapshot: args.resnapshot,
    };
}

/// The sources of the pipeline that this process captures.
pub fn sources(pipeline: &Pipeline, args: &Args) -> Outcome<Vec<SourceConfig>> {
    // `system` or `system/group`.
    let (name, group) = match &args.source {
        Some(source) => source
            .split_once('/')
            .map_or((Some(source.as_str()), false), |(name, _)| (Some(name), true)),
        None => (None, false),
    };
    let wanted = |system: &&System| name.is_none_or(|name| name == system.name);
    let captured = |system: &&System| {
        system.capture == CapturedBy::Syncline && system.postgres.is_some() && is_read(pipeline, system)
    };
    let systems: Vec<&System> = pipeline.systems.iter().filter(wanted).filter(captured).collect();
    if systems.is_empty() {
        return Err(nothing_to_capture(pipeline, args));
    }
    let mut sources = Vec::new();
    for system in systems {
        sources.extend(groups::split(source(pipeline, system, args)?, &system.name)?);
    }
    if group {
        sources.retain(|source| args.source.as_ref() == Some(&source.name));
    }
    if sources.is_empty() {
        return Err(nothing_to_capture(pipeline, args));
    }
    Ok(sources)
}

fn is_read(pipeline: &Pipeline, system: &System) -> bool {
    !pipeline.captured_tables(&system.name).is_empty() || is_replicated(pipeline, system) || system.debezium.is_some()
}

fn is_replicated(pipeline: &Pipeline, system: &System) -> bool {
    pipeline.replicas.iter().any(|replica| replica.from == system.name)
}

fn nothing_to_capture(pipeline: &Pipeline, args: &Args) -> Failure {
    let names: Vec<&str> = pipeline.systems.iter().map(|system| system.name.as_str()).collect();
    let text = match &args.source {
        Some(name) => format!("{name:?} is no PostgreSQL system that a link or a replica of this file reads"),
        None => "no link and no replica of this file reads a PostgreSQL system".to_owned(),
    };
    Failure::definite(ARGUMENTS_INVALID, text).hint(format!("the file has the systems {}", names.join(", ")))
}

fn source(pipeline: &Pipeline, system: &System, args: &Args) -> Outcome<SourceConfig> {
    let dsn = system.postgres.as_ref().map_or("", |dsn| dsn.expose());
    let tables = pipeline.captured_tables(&system.name);
    let tables: Vec<TableName> = tables.iter().map(|name| table_name(name)).collect();
    let file = args.pipeline.as_deref().unwrap_or(Path::new(""));
    let mut source = SourceConfig {
        prefix: system.topic_prefix.clone(),
        slot: system.slot.clone(),
        publication: system.publication.clone(),
        tables: Some(tables).filter(|tables| !tables.is_empty()),
        registry: pipeline.registry.clone(),
        partitions: pipeline.partitions,
        delivery: pipeline.delivery,
        command: format!(
            "syncline-capture --pipeline {} --source {}",
            file.display(),
            system.name
        ),
        ..SourceConfig::new(&system.name, Dsn::parse(dsn)?)
    };
    source.bus.bootstrap.clone_from(&pipeline.kafka);
    source.bus.properties.clone_from(&pipeline.kafka_properties);
    source.care.clone_from(&system.care);
    source.form.fidelity = match system.fidelity {
        Some(pipeline::Fidelity::Debezium) => Fidelity::Debezium,
        Some(pipeline::Fidelity::Exact) | None => Fidelity::Exact,
    };
    if source.form.fidelity == Fidelity::Exact {
        source.snapshots.threads_max = THREADS;
    }
    if let Some(settings) = &system.debezium {
        source = debezium::system::apply(source, settings).map_err(|problems| invalid(&problems))?;
    }
    told_by_arguments(&mut source, args);
    if is_replicated(pipeline, system) {
        source.form.skipped.remove(&Operation::Truncate);
    }
    Ok(source)
}

/// `schema.table`; a schema has no point in it, a table may.
pub fn table_name(name: &str) -> TableName {
    match name.split_once('.') {
        Some((schema, table)) => TableName::new(schema, table),
        None => TableName::new("public", name),
    }
}
