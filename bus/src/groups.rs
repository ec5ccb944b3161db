//! How far a consumer group has come, asked from outside: nobody joins and nothing moves.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use syncline_runtime::Outcome;

use crate::BusConfig;
use crate::config::REQUEST_TIMEOUT_MS;
use crate::consumer::TopicPartition;
use crate::error::{Said, explain, failure};

/// The next offset that `group` reads of each of these partitions; none of one that it has never committed.
pub fn committed(
    config: &BusConfig,
    group: &str,
    partitions: &[TopicPartition],
) -> Outcome<BTreeMap<TopicPartition, i64>> {
    if partitions.is_empty() {
        return Ok(BTreeMap::new());
    }
    let consumer: BaseConsumer<Said> = config
        .for_consumer(group, None)
        .create_with_context(Said::default())
        .map_err(|error| failure("create a client", error))?;
    let mut list = TopicPartitionList::new();
    for (topic, partition) in partitions {
        list.add_partition(topic, *partition);
    }
    let asked = consumer.committed_offsets(list, Duration::from_millis(REQUEST_TIMEOUT_MS));
    let asked = asked.map_err(|error| explain(&consumer, failure(&format!("ask how far {group} has come"), error)))?;
    let known = asked.elements().into_iter().filter_map(|place| match place.offset() {
        Offset::Offset(next) => Some(((place.topic().to_owned(), place.partition()), next)),
        _ => None,
    });
    Ok(known.collect())
}
