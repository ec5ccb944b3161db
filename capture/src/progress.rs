//! Where capture stands, read back from Kafka: the one source of truth at every start.

use std::collections::BTreeMap;
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
    all(config, registry).map(|mut all| all.remove(&config.slot))
}

/// The last progress of every other slot of the system.
pub fn of_others(config: &SourceConfig, registry: &Registry) -> Outcome<Vec<Progress>> {
    let mut all = all(config, registry)?;
    all.remove(&config.slot);
    Ok(all.into_values().collect())
}

/// The last progress of each slot.
fn all(config: &SourceConfig, registry: &Registry) -> Outcome<BTreeMap<String, Progress>> {
    let topic = topic::progress(&config.prefix);
    let mut reader = PartitionReader::open_decided(&config.bus, &topic, 0, 0)?;
    let deadline = Instant::now() + Duration::from_millis(READ_MS_MAX);
    let mut last = BTreeMap::new();
    while !reader.at_end() {
        if let Some(record) = reader.next(Duration::from_millis(POLL_MS))?
            && let (Some(key), Some(value)) = (record.key, record.value)
        {
            last.insert(String::from_utf8_lossy(&key).into_owned(), value);
        }
        if Instant::now() > deadline {
            return Err(Failure::transient(
                "PROGRESS_UNREAD",
                format!("{topic} could not be read to its end"),
            ));
        }
    }
    let decoded = last
        .into_iter()
        .map(|(slot, value)| Ok((slot, decode(&topic, &value, registry)?)));
    decoded.collect()
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
