//! A person's word on a field, in answer to what that person had seen.
//!
//! The word carries the vector that it answers. Words beyond that vector are not overruled by it: whoever decided had not
//! seen them. Whether a decision is one that somebody should still make is for the console to say; here it is made sure
//! that it fits and becomes durable. `syncline-transform decide` answers the agreed record as it is now.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use syncline_bus::{BusConfig, OutRecord, PartitionReader, Producer, admin, murmur2_partition};
use syncline_runtime::process::ARGUMENTS_INVALID;
use syncline_runtime::{CommonArgs, Failure, Outcome, ProcessArgs};
use syncline_schemas::canonical::Canonical;
use syncline_schemas::codec::{CanonicalCodec, Wire};
use syncline_schemas::conflict::WHOLE;
use syncline_schemas::decision::Decision;
use syncline_schemas::pipeline::{Entity, Pipeline};
use syncline_schemas::topic;
use syncline_schemas::value::{NESTED, Value, ValueError};

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
    let wrong = |message: String| Failure::definite(ARGUMENTS_INVALID, message);
    let entity = context.pipeline.entity(&args.entity);
    let entity = entity.ok_or_else(|| wrong(format!("the pipeline has no entity {}", args.entity)))?;
    let value = value(&args.value)?;
    let codec = CanonicalCodec::new(&entity.schema_json).map_err(|error| wrong(error.to_string()))?;
    let mut schemas = Schemas::new(&context.pipeline.registry);
    let agreed = find(&context.bus, &context.pipeline, entity, &codec, &args.cid, &mut schemas)?;
    let Some(agreed) = agreed else {
        return Err(
            Failure::definite("ENTITY_UNKNOWN", format!("there is no {} with this id", args.entity))
                .hint("take the cid from the conflict record"),
        );
    };
    fits(&codec, entity, &agreed, &args.field, &value)?;
    let decision = Decision {
        cid: args.cid.clone(),
        field: args.field.clone(),
        value,
        answers: agreed.vector,
        by: args.by.clone(),
        why: args.why.clone(),
        at_us: now_us(),
        approves: None,
    };
    let mut decisions = Decisions::open(&context.bus, &context.pipeline.name, &entity.name, &schemas)?;
    decisions.send(&decision)?;
    decisions.flush()?;
    tracing::info!(
        entity = entity.name,
        cid = decision.cid,
        field = decision.field,
        by = decision.by,
        "decided"
    );
    Ok(())
}

/// Whether the agreed record could be written with what is decided: a decision that does not fit would block the entity.
pub fn fits(codec: &CanonicalCodec, entity: &Entity, agreed: &Canonical, name: &str, value: &Value) -> Outcome<()> {
    let mut agreed = agreed.clone();
    agreed.fields.extend(fields(entity, name, value)?);
    let encoded = codec.encode(&agreed, 0).map(drop);
    encoded.map_err(|error| Failure::definite(ARGUMENTS_INVALID, error.to_string()))
}

/// What the decision says of each field: of one, or of all in a group.
fn fields(entity: &Entity, name: &str, value: &Value) -> Outcome<Vec<(String, Value)>> {
    let wrong = |message: String| Failure::definite(ARGUMENTS_INVALID, message);
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

/// A value from the command line: JSON.
pub fn value(text: &str) -> Outcome<Value> {
    text.parse::<Value>().map_err(|ValueError(_, what)| match what {
        NESTED => Failure::definite(ARGUMENTS_INVALID, format!("--value is no {NESTED}")),
        _ => Failure::definite(ARGUMENTS_INVALID, "--value is no JSON value")
            .hint("a text needs its own quotes: --value '\"ada@crm.uk\"'"),
    })
}

/// The last agreed record of an entity.
pub fn find(
    bus: &BusConfig,
    pipeline: &Pipeline,
    entity: &Entity,
    codec: &CanonicalCodec,
    cid: &str,
    schemas: &mut Schemas,
) -> Outcome<Option<Canonical>> {
    let name = topic::canonical(&pipeline.name, &entity.name, entity.version);
    let Some(partitions) = admin::partitions(bus, &name)? else {
        return Ok(None);
    };
    let partition = murmur2_partition(cid.as_bytes(), partitions);
    let mut reader = PartitionReader::open(bus, &name, partition, 0)?;
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

/// The decisions of one entity, to be written.
pub struct Decisions {
    topic: String,
    schema_id: u32,
    producer: Producer,
}

impl Decisions {
    /// Registers the schema and opens a producer. The topic is made by transform.
    pub fn open(bus: &BusConfig, pipeline: &str, entity: &str, schemas: &Schemas) -> Outcome<Self> {
        let topic = topic::decisions(pipeline, entity);
        Ok(Self {
            schema_id: schemas.register(&topic, Decision::schema_json())?,
            producer: Producer::idempotent(bus)?,
            topic,
        })
    }

    /// Sends one; it is durable after [`Decisions::flush`].
    pub fn send(&mut self, decision: &Decision) -> Outcome<()> {
        self.producer.send(&OutRecord {
            topic: &self.topic,
            partition: None,
            key: Some(decision.cid.as_bytes()),
            value: Some(&decision.encode(self.schema_id)),
            headers: &[],
            timestamp_ms: None,
        })
    }

    /// Waits until all that was sent is durable.
    pub fn flush(&mut self) -> Outcome<()> {
        self.producer.flush()
    }
}

/// Now, by the clock of whoever decides.
pub fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_is_none_is_refused_with_its_reason() {
        assert_eq!(value("[1]").unwrap(), Value::List(vec![1.into()]));
        let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
        assert!(value(&deep).unwrap_err().to_string().contains(NESTED));
        assert!(value("ada").unwrap_err().to_string().contains("no JSON value"));
    }
}
