//! `syncline-transform decide`: a person's word on a field, in answer to what the agreed record knew.
//!
//! The word carries the vector of the record it answers. Words beyond that vector are not overruled by it: whoever
//! decided had not seen them.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use syncline_bus::{OutRecord, PartitionReader, Producer, admin, murmur2_partition};
use syncline_runtime::{CommonArgs, Failure, Outcome, ProcessArgs};
use syncline_schemas::canonical::Canonical;
use syncline_schemas::codec::{CanonicalCodec, Wire};
use syncline_schemas::decision::Decision;
use syncline_schemas::pipeline::Entity;
use syncline_schemas::topic;
use syncline_schemas::value::Value;

use crate::context::Context;
use crate::schemas::Schemas;

const READ_TIMEOUT_MS: u64 = 500;
const SILENT_READS_MAX: u32 = 60;

/// What is decided.
#[derive(clap::Args, Clone, Debug)]
pub struct DecideArgs {
    /// The pipeline file
    #[arg(long, value_name = "FILE", env = "SYNCLINE_PIPELINE")]
    pub pipeline: PathBuf,
    /// The entity, as in the pipeline file
    #[arg(long)]
    pub entity: String,
    /// Entity id, as in the conflict
    #[arg(long)]
    pub cid: String,
    /// The field decided
    #[arg(long)]
    pub field: String,
    /// The value that holds from now on, as JSON
    #[arg(long)]
    pub value: String,
    /// Who decides
    #[arg(long)]
    pub by: String,
    /// Why
    #[arg(long)]
    pub why: String,
}

impl DecideArgs {
    /// What the process is told besides.
    pub fn common(&self) -> CommonArgs {
        CommonArgs {
            pipeline: self.pipeline.clone(),
            process: ProcessArgs {
                check: false,
                until_current: false,
                listen: None,
                instance: "decide".to_owned(),
                state_dir: None,
            },
        }
    }
}

/// Writes the decision; `Ok` when it is durable.
pub fn run(context: &Context, args: &DecideArgs) -> Outcome<()> {
    context.ensure_topics()?;
    let wrong = |message: String| Failure::definite(syncline_runtime::process::ARGUMENTS_INVALID, message);
    let entity = context.pipeline.entity(&args.entity);
    let entity = entity.ok_or_else(|| wrong(format!("the pipeline has no entity {}", args.entity)))?;
    let field = entity.field(&args.field);
    let field = field.ok_or_else(|| wrong(format!("{} has no field {}", args.entity, args.field)))?;
    let value: Value = args.value.parse().map_err(|_| {
        wrong("--value is no JSON value".to_owned()).hint("a text needs its own quotes: --value '\"ada@crm.uk\"'")
    })?;
    let codec = CanonicalCodec::new(&entity.schema_json).map_err(|error| wrong(error.to_string()))?;
    let mut schemas = Schemas::new(&context.pipeline.registry);
    let Some(mut agreed) = find(context, entity, &codec, &args.cid, &mut schemas)? else {
        return Err(
            Failure::definite("ENTITY_UNKNOWN", format!("there is no {} with this id", args.entity))
                .hint("take the cid from the conflict record"),
        );
    };
    let answers = agreed.vector.clone();
    agreed.fields.insert(field.name.clone(), value.clone());
    // Written only to see whether it could be: a decision that does not fit would block the entity.
    codec.encode(&agreed, 0).map_err(|error| wrong(error.to_string()))?;
    let decision = Decision {
        cid: args.cid.clone(),
        field: field.name.clone(),
        value,
        answers,
        by: args.by.clone(),
        why: args.why.clone(),
        at_us: now_us(),
    };
    send(context, entity, &decision, &schemas)
}

/// The last agreed record of the entity.
fn find(
    context: &Context,
    entity: &Entity,
    codec: &CanonicalCodec,
    cid: &str,
    schemas: &mut Schemas,
) -> Outcome<Option<Canonical>> {
    let name = topic::canonical(&context.pipeline.name, &entity.name, entity.version);
    let partitions = admin::partitions(&context.bus, &name)?.unwrap_or(context.pipeline.partitions);
    let partition = murmur2_partition(cid.as_bytes(), partitions);
    let mut reader = PartitionReader::open(&context.bus, &name, partition, 0)?;
    let mut last = None;
    let mut silent = 0;
    while !reader.at_end() && silent < SILENT_READS_MAX {
        match reader.next(Duration::from_millis(READ_TIMEOUT_MS))? {
            Some(record) if record.key.as_deref() == Some(cid.as_bytes()) => last = record.value,
            Some(_) => silent = 0,
            None => silent += 1,
        }
    }
    let Some(bytes) = last else { return Ok(None) };
    let read = schemas.read(&bytes, |writer, datum| codec.decode(writer, datum))?;
    read.map(Some)
        .map_err(|reason| Failure::definite("RECORD_UNREADABLE", reason))
}

fn send(context: &Context, entity: &Entity, decision: &Decision, schemas: &Schemas) -> Outcome<()> {
    let name = topic::decisions(&context.pipeline.name, &entity.name);
    let id = schemas.register(&name, Decision::schema_json())?;
    let mut producer = Producer::idempotent(&context.bus)?;
    producer.send(&OutRecord {
        topic: &name,
        partition: None,
        key: Some(decision.cid.as_bytes()),
        value: Some(&decision.encode(id)),
        headers: &[],
        timestamp_ms: None,
    })?;
    producer.flush()?;
    tracing::info!(
        entity = entity.name,
        cid = decision.cid,
        field = decision.field,
        by = decision.by,
        "decided"
    );
    Ok(())
}

fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
