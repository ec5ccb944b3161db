//! Where a connector's offset is kept, and how it is got from there: the worker's topic or file, or an export.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use syncline_bus::{PartitionReader, admin};
use syncline_runtime::{Failure, Outcome};

use crate::config::SourceConfig;

use super::offset::{self, Offset};
use super::{Offsets, java_map};

/// The topic is compacted; reading it takes moments, unless the broker is in trouble.
const READ_MS_MAX: u64 = 60_000;
const POLL_MS: u64 = 500;
/// Larger files are no offsets.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// The connector's offset; none if there is none.
pub fn find(config: &SourceConfig, offsets: &Offsets) -> Outcome<Option<Offset>> {
    let (place, value) = match offsets {
        Offsets::Topic(topic) => (topic.clone(), in_topic(config, topic)?),
        Offsets::Standalone(path) if !path.exists() => return Ok(None),
        Offsets::Standalone(path) | Offsets::Exported(path) => (path.display().to_string(), in_file(config, path)?),
    };
    let read = |value: &Value| offset::parse(value).map_err(|why| broken(&place, &why));
    value.as_ref().map(read).transpose()
}

fn broken(place: &str, why: &str) -> Failure {
    Failure::definite("OFFSETS_BROKEN", format!("the connector's offsets in {place} cannot be read: {why}"))
        .hint("stop the connector and export them: curl http://CONNECT:8083/connectors/NAME/offsets > offsets.json, then --offsets offsets.json")
}

/// The last record under the connector's key, in whichever partition it is.
fn in_topic(config: &SourceConfig, topic: &str) -> Outcome<Option<Value>> {
    let Some(partitions) = admin::partitions(&config.bus, topic)? else {
        let text = format!("the brokers have no topic {topic}, in which the connector's offsets are said to be");
        return Err(Failure::definite("OFFSETS_BROKEN", text)
            .hint("--worker must be the worker that ran the connector; or export them and use --offsets FILE"));
    };
    let deadline = Instant::now() + Duration::from_millis(READ_MS_MAX);
    let mut last = None;
    for partition in 0..partitions {
        let mut reader = PartitionReader::open(&config.bus, topic, partition, 0)?;
        while !reader.at_end() {
            if Instant::now() > deadline {
                let text = format!("{topic} could not be read to its end");
                return Err(Failure::transient("OFFSETS_UNREAD", text));
            }
            let Some(record) = reader.next(Duration::from_millis(POLL_MS))? else {
                continue;
            };
            let key = record.key.unwrap_or_default();
            if offset::is_key(&key, config.connector.as_deref(), &config.prefix) {
                last = Some(record.value);
            }
        }
    }
    last.flatten().map(|bytes| json(topic, &bytes)).transpose()
}

fn json(place: &str, bytes: &[u8]) -> Outcome<Value> {
    serde_json::from_slice(bytes).map_err(|error| broken(place, &error.to_string()))
}

fn in_file(config: &SourceConfig, path: &Path) -> Outcome<Option<Value>> {
    let place = path.display().to_string();
    let size = std::fs::metadata(path).map(|meta| meta.len()).unwrap_or_default();
    if size > FILE_BYTES_MAX {
        return Err(broken(&place, "it is too large to be offsets"));
    }
    let bytes = std::fs::read(path).map_err(|error| broken(&place, &error.to_string()))?;
    if !java_map::is_java(&bytes) {
        let body = json(&place, &bytes)?;
        let value = offset::exported(&body, &config.prefix).map_err(|why| broken(&place, &why))?;
        return Ok(Some(value.clone()));
    }
    let entries = java_map::parse(&bytes).map_err(|why| broken(&place, &why))?;
    let ours = |key: &Option<Vec<u8>>| {
        let key = key.as_deref().unwrap_or_default();
        offset::is_key(key, config.connector.as_deref(), &config.prefix)
    };
    let found = entries
        .into_iter()
        .find(|(key, _)| ours(key))
        .and_then(|(_, value)| value);
    found.map(|bytes| json(&place, &bytes)).transpose()
}
