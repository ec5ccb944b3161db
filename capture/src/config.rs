//! What one source is captured by: the pipeline file and the command line, brought together and checked.

use syncline_bus::BusConfig;
use syncline_runtime::process::ARGUMENTS_INVALID;
use syncline_runtime::{CommonArgs, Failure, Outcome};
use syncline_schemas::pipeline::{CapturedBy, Delivery, Pipeline, System};

use crate::form::{DEBEZIUM_VERSION, Emulated, Form, Operation};
use crate::postgres::dsn::Dsn;
use crate::postgres::quote::TableName;
use crate::snapshots::Snapshots;

/// The command line of `syncline-capture`.
#[derive(Clone, Debug, clap::Parser)]
#[command(
    name = "syncline-capture",
    version,
    about = "Committed changes of PostgreSQL databases, to Kafka"
)]
pub struct Args {
    /// What every program can be told.
    #[command(flatten)]
    pub common: CommonArgs,
    /// Capture only this source of the pipeline file
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
    /// Write a record for each TRUNCATE; always on for a source that is replicated
    #[arg(long)]
    pub truncates: bool,
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
    /// What a person has decided about the slot.
    pub repair: Repair,
    /// The repairing command without its flag, for hints.
    pub command: String,
    /// Work off what is there, then end.
    pub until_current: bool,
}

impl SourceConfig {
    /// The id under which the transactions of this source are written: one writer at a time.
    pub fn transactional_id(&self) -> String {
        format!("syncline-capture-{}-{}", self.prefix, self.slot)
    }
}

/// The sources of the pipeline that this process captures.
pub fn sources(pipeline: &Pipeline, args: &Args) -> Outcome<Vec<SourceConfig>> {
    let wanted = |system: &&System| args.source.as_ref().is_none_or(|name| name == &system.name);
    let captured = |system: &&System| {
        system.capture == CapturedBy::Syncline && system.postgres.is_some() && is_read(pipeline, system)
    };
    let systems: Vec<&System> = pipeline.systems.iter().filter(wanted).filter(captured).collect();
    if systems.is_empty() {
        return Err(nothing_to_capture(pipeline, args));
    }
    systems
        .into_iter()
        .map(|system| source(pipeline, system, args))
        .collect()
}

fn is_read(pipeline: &Pipeline, system: &System) -> bool {
    !pipeline.captured_tables(&system.name).is_empty() || is_replicated(pipeline, system)
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
    let tables: Vec<TableName> = pipeline
        .captured_tables(&system.name)
        .iter()
        .map(|name| table_name(name))
        .collect();
    let all = tables.is_empty();
    let common = &args.common;
    Ok(SourceConfig {
        name: system.name.clone(),
        prefix: system.topic_prefix.clone(),
        dsn: Dsn::parse(dsn)?,
        slot: system.slot.clone(),
        publication: system.publication.clone(),
        tables: (!all).then_some(tables),
        form: form(pipeline, system, args),
        snapshots: Snapshots::default(),
        bus: BusConfig {
            bootstrap: pipeline.kafka.clone(),
            properties: pipeline.kafka_properties.clone(),
            client_id: format!("syncline-capture-{}-{}", system.name, common.instance),
        },
        registry: pipeline.registry.clone(),
        partitions: pipeline.partitions,
        delivery: pipeline.delivery,
        repair: Repair {
            adopt_slot: args.adopt_slot,
            resnapshot: args.resnapshot,
        },
        command: format!(
            "syncline-capture --pipeline {} --source {}",
            common.pipeline.display(),
            system.name
        ),
        until_current: common.until_current,
    })
}

fn form(pipeline: &Pipeline, system: &System, args: &Args) -> Form {
    let mut form = Form {
        emulated: Emulated {
            version: args.debezium_version.clone(),
        },
        ..Form::default()
    };
    if args.truncates || is_replicated(pipeline, system) {
        form.skipped.remove(&Operation::Truncate);
    }
    form
}

/// `schema.table`; a schema has no point in it, a table may.
fn table_name(name: &str) -> TableName {
    match name.split_once('.') {
        Some((schema, table)) => TableName::new(schema, table),
        None => TableName::new("public", name),
    }
}
