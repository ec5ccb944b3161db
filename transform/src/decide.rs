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
use syncline_schemas::conflict::WHOLE;
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
    /// The field or group decided; `*` for whether the entity lives
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
    let value: Value = args.value.parse().map_err(|_| {
        wrong("--value is no JSON value".to_owned()).hint("a text needs its own quotes: --value '\"ada@crm.uk\"'")
    })?;
    let decided = fields(entity, &args.field, &value)?;
    let codec = CanonicalCodec::new(&entity.schema_json).map_err(|error| wrong(error.to_string()))?;
    let mut schemas = Schemas::new(&context.pipeline.registry);
    let Some(mut agreed) = find(context, entity, &codec, &args.cid, &mut schemas)? else {
        return Err(
            Failure::definite("ENTITY_UNKNOWN", format!("there is no {} with this id", args.entity))
                .hint("take the cid from the conflict record"),
        );
    };
    let answers = agreed.vector.clone();
    agreed.fields.extend(decided);
    // Written only to see whether it could be: a decision that does not fit would block the entity.
    codec.encode(&agreed, 0).map_err(|error| wrong(error.to_string()))?;
    let decision = Decision {
        cid: args.cid.clone(),
        field: args.field.clone(),
        value,
        answers,
        by: args.by.clone(),
        why: args.why.clone(),
        at_us: now_us(),
    };
    send(context, entity, &decision, &schemas)
}

/// What the decision says of each field: of one, or of all in a group.
fn fields(entity: &Entity, name: &str, value: &Value) -> Outcome<Vec<(String, Value)>> {
    let wrong = |message: String| Failure::definite(syncline_runtime::process::ARGUMENTS_INVALID, message);
    if let Some(group) = entity.group_of(name) {
        let message = format!("{name} wins with its group {}", group.name);
        return Err(wrong(message).hint(format!("decide the group: --field {}", group.name)));
    }
    let group = entity.groups.iter().find(|group| group.name == name);
    match (group, value) {
        (None, Value::Bool(_)) if name == WHOLE => Ok(Vec::new()),
        (None, _) if name == WHOLE => Err(wrong("whether the entity lives is `true` or `false`".to_owned())),
        (None, value) if entity.field(name).is_some() => Ok(vec![(name.to_owned(), value.clone())]),
        (None, _) => Err(wrong(format!("{} has no field {name}", entity.name))),
        (Some(group), Value::List(values)) if values.len() == group.fields.len() => {
            Ok(group.fields.iter().cloned().zip(values.iter().cloned()).collect())
        }
        (Some(group), _) => {
            let message = format!(
                "a decision about {name} has a value for each of {}",
                group.fields.join(", ")
            );
            Err(wrong(message).hint("in this order, as a JSON list: --value '[\"1 High St\", \"York\"]'"))
        }
    }
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
