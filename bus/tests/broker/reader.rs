//! The end of a partition, as a reader of committed records sees it.

use std::time::Duration;

use syncline_bus::admin::end_offsets;
use syncline_bus::{PartitionReader, Producer};

use crate::{Topic, commit, config, read_all, record, unique};

#[test]
fn ends_although_the_last_offsets_are_aborted_records_and_markers() {
    let topic = Topic::new("tail", 1);
    let id = unique("id");
    let mut producer = Producer::transactional(&config(), &id).unwrap();
    commit(&mut producer, &topic.name, &["a"]);
    producer.begin().unwrap();
    for _ in 0..50 {
        producer.send(&record(&topic.name, "k", "aborted")).unwrap();
    }
    producer.flush().unwrap();
    producer.abort();
    drop(Producer::transactional(&config(), &id).unwrap());
    let end = end_offsets(&config(), &topic.name).unwrap()[&0];
    assert!(end > 2, "there is an aborted tail behind record and marker: {end}");

    assert_eq!(read_all(&topic.name, 0), ["a"]);
    let mut reader = PartitionReader::open(&config(), &topic.name, 0, 0).unwrap();
    while !reader.at_end() {
        reader.next(Duration::from_secs(10)).unwrap();
    }
    assert_eq!(reader.position(), end);
}

#[test]
fn an_empty_partition_is_at_its_end_at_once() {
    let topic = Topic::new("empty", 1);
    assert!(PartitionReader::open(&config(), &topic.name, 0, 0).unwrap().at_end());
}

#[test]
fn begins_where_it_is_told_and_goes_on_past_the_end() {
    let topic = Topic::new("from", 1);
    let mut producer = Producer::idempotent(&config()).unwrap();
    for value in ["0", "1", "2"] {
        producer.send(&record(&topic.name, "k", value)).unwrap();
    }
    producer.flush().unwrap();
    let mut reader = PartitionReader::open(&config(), &topic.name, 0, 2).unwrap();
    assert_eq!(reader.next(Duration::from_secs(10)).unwrap().map(|r| r.offset), Some(2));
    assert!(reader.at_end());
    assert_eq!(reader.next(Duration::from_secs(10)).unwrap(), None);
    producer.send(&record(&topic.name, "k", "3")).unwrap();
    producer.flush().unwrap();
    assert_eq!(reader.next(Duration::from_secs(10)).unwrap().map(|r| r.offset), Some(3));
}

#[test]
fn an_offset_behind_the_end_is_refused() {
    let topic = Topic::new("ahead", 1);
    let failure = PartitionReader::open(&config(), &topic.name, 0, 7).err().unwrap();
    assert_eq!(failure.code, "OFFSET_AHEAD");
    assert!(failure.message.contains(&topic.name), "{failure}");
}
