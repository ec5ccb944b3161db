//! Where capture stands, read back from Kafka: the one source of truth at every start.

use std::time::{Duration, Instant};

use syncline_bus::{PartitionReader, Registry};
use syncline_runtime::{Failure, Outcome, failpoint};
use syncline_schemas::codec::{ParsedSchema, Wire, frame_id};
use syncline_schemas::progress::Progress;
use syncline_schemas::topic;

use crate::config::SourceConfig;

/// The progress topic is compacted; reading it takes moments, unless the broker is in trouble.
const READ_MS_MAX: u64 = 60_000;
const POLL_MS: u64 = 500;

/// The last progress of the slot that is committed; none if there never was any. To be called by the one writer, after
/// it has fenced the others: only then can what is read not become old.
pub fn read(config: &SourceConfig, registry: &Registry) -> Outcome<Option<Progress>> {
    failpoint::check("capture.reading_progress")?;
    let topic = topic::progress(&config.prefix);
    let mut reader = PartitionReader::open_decided(&config.bus, &topic, 0, 0)?;
    let deadline = Instant::now() + Duration::from_millis(READ_MS_MAX);
    let mut last = None;
    while !reader.at_end() {
        if let Some(record) = reader.next(Duration::from_millis(POLL_MS))?
            && record.key.as_deref() == Some(config.slot.as_bytes())
        {
            last = record.value;
        }
        if Instant::now() > deadline {
            return Err(Failure::transient(
                "PROGRESS_UNREAD",
                format!("{topic} could not be read to its end"),
            ));
        }
    }
    last.map(|value| decode(&topic, &value, registry)).transpose()
}

fn decode(topic: &str, value: &[u8], registry: &Registry) -> Outcome<Progress> {
    let broken = |error| {
        Failure::definite(
            "PROGRESS_BROKEN",
            format!("a record of {topic} cannot be read: {error}"),
        )
    };
    let (id, datum) = frame_id(value).map_err(broken)?;
    let schema = ParsedSchema::parse(&registry.schema(id)?).map_err(broken)?;
    Progress::decode(&schema, datum).map_err(broken)
}
