//! What a transaction promises.

use std::time::{Duration, Instant};

use syncline_bus::admin::{TopicSpec, end_offsets, end_offsets_with};
use syncline_bus::{OutRecord, PartitionReader, Patience, Producer};
use syncline_runtime::Class;

use crate::{Topic, commit, config, read_all, record, unique};

#[test]
fn what_is_committed_is_visible_once_and_what_is_aborted_is_not() {
    let topic = Topic::new("commit", 1);
    let id = unique("id");
    let mut producer = Producer::transactional(&config(), &id).unwrap();
    commit(&mut producer, &topic.name, &["a", "b"]);
    producer.begin().unwrap();
    producer.send(&record(&topic.name, "k", "aborted")).unwrap();
    producer.flush().unwrap();
    producer.abort();
    let mut successor = Producer::transactional(&config(), &id).unwrap();
    commit(&mut successor, &topic.name, &["c"]);
    assert_eq!(read_all(&topic.name, 0), ["a", "b", "c"]);
}

#[test]
fn what_is_not_committed_is_behind_the_end() {
    let topic = Topic::new("open", 1);
    let mut producer = Producer::transactional(&config(), &unique("id")).unwrap();
    commit(&mut producer, &topic.name, &["a"]);
    let mut other = Producer::transactional(&config(), &unique("id")).unwrap();
    other.begin().unwrap();
    other.send(&record(&topic.name, "k", "open")).unwrap();
    other.flush().unwrap();
    commit(&mut producer, &topic.name, &["behind the open one"]);
    // Behind the marker of the first, where the open one begins.
    assert_eq!(end_offsets(&config(), &topic.name).unwrap()[&0], 2);
    assert_eq!(read_all(&topic.name, 0), ["a"]);
    let failure = PartitionReader::open_decided(&config(), &topic.name, 0, 0)
        .err()
        .unwrap();
    assert_eq!(
        (failure.class, failure.code),
        (Class::Transient, "KAFKA_UNDECIDED"),
        "{failure}"
    );
    other.commit().unwrap();
    assert_eq!(read_all(&topic.name, 0), ["a", "open", "behind the open one"]);
}

#[test]
fn what_is_committed_while_it_is_waited_for_lies_before_the_end() {
    let topic = Topic::new("patience", 1);
    let mut producer = Producer::transactional(&config(), &unique("id")).unwrap();
    producer.begin().unwrap();
    producer.send(&record(&topic.name, "k", "late")).unwrap();
    producer.flush().unwrap();
    assert_eq!(
        end_offsets(&config(), &topic.name).unwrap()[&0],
        0,
        "the short patience is over"
    );
    std::thread::scope(|scope| {
        let end = scope.spawn(|| end_offsets_with(&config(), &topic.name, Patience::Long).unwrap()[&0]);
        let reader = scope.spawn(|| PartitionReader::open_with(&config(), &topic.name, 0, 0, Patience::Long).unwrap());
        // What is waited for is time itself: longer than the short patience.
        std::thread::sleep(Duration::from_secs(3));
        producer.commit().unwrap();
        assert_eq!((end.join().unwrap(), reader.join().unwrap().end()), (2, 2));
    });
}

#[test]
fn what_was_committed_a_moment_ago_lies_before_the_end() {
    let topic = Topic::new("moment", 3);
    let mut producer = Producer::transactional(&config(), &unique("id")).unwrap();
    for round in 1..=30 {
        producer.begin().unwrap();
        for partition in 0..3 {
            let record = OutRecord {
                partition: Some(partition),
                ..record(&topic.name, "k", "v")
            };
            producer.send(&record).unwrap();
        }
        producer.commit().unwrap();
        // A record and a marker in each partition.
        let ends = end_offsets(&config(), &topic.name).unwrap();
        assert!(
            ends.values().all(|end| *end >= 2 * round - 1),
            "round {round}: {ends:?}"
        );
    }
}

#[test]
fn a_second_producer_of_the_same_id_fences_the_first_and_aborts_what_it_left() {
    let topic = Topic::new("fence", 1);
    let id = unique("id");
    let mut first = Producer::transactional(&config(), &id).unwrap();
    first.begin().unwrap();
    first.send(&record(&topic.name, "k", "zombie")).unwrap();
    first.flush().unwrap();
    let mut second = Producer::transactional(&config(), &id).unwrap();
    commit(&mut second, &topic.name, &["successor"]);

    let failure = first.commit().unwrap_err();
    assert_eq!((failure.class, failure.code), (Class::Definite, "FENCED"), "{failure}");
    assert_eq!(first.begin().unwrap_err().code, "KAFKA_PRODUCER_SPENT");
    commit(&mut second, &topic.name, &["still alive"]);
    assert_eq!(read_all(&topic.name, 0), ["successor", "still alive"]);
}

#[test]
fn whoever_comes_after_fences_it_whosever_turn_it_is() {
    for committed in 0..4 {
        let topic = Topic::new("turns", 1);
        let id = unique("id");
        let mut first = Producer::transactional(&config(), &id).unwrap();
        let values: Vec<String> = (0..committed).map(|number| number.to_string()).collect();
        for value in &values {
            commit(&mut first, &topic.name, &[value]);
        }
        first.begin().unwrap();
        first.send(&record(&topic.name, "k", "zombie")).unwrap();
        drop(Producer::transactional(&config(), &id).unwrap());
        let failure = first.commit().unwrap_err();
        assert_eq!((failure.class, failure.code), (Class::Definite, "FENCED"), "{failure}");
        assert_eq!(read_all(&topic.name, 0), values);
    }
}

#[test]
fn one_record_that_cannot_be_delivered_fails_the_whole_transaction() {
    let mut spec = TopicSpec::new(unique("small"), 1);
    spec.config.push(("max.message.bytes".to_owned(), "1000".to_owned()));
    let topic = Topic::with(spec);
    let mut producer = Producer::transactional(&config(), &unique("id")).unwrap();
    producer.begin().unwrap();
    producer.send(&record(&topic.name, "k", "fits")).unwrap();
    let noise: String = (0..5_000u32)
        .map(|n| char::from(b' ' + u8::try_from(n.wrapping_mul(2_654_435_761) >> 25).unwrap() % 90))
        .collect();
    producer.send(&record(&topic.name, "k", &noise)).unwrap();
    let failure = producer.commit().unwrap_err();
    assert_eq!(failure.code, "RECORD_TOO_LARGE", "{failure}");
    assert_eq!(producer.commit().unwrap_err().code, "KAFKA_PRODUCER_SPENT");
    producer.abort();
    assert_eq!(read_all(&topic.name, 0), Vec::<String>::new());
}

#[test]
fn a_record_that_librdkafka_refuses_is_named_at_once() {
    let topic = Topic::new("huge", 1);
    let mut producer = Producer::idempotent(&config()).unwrap();
    let huge = "x".repeat(11_000_000);
    let failure = producer.send(&record(&topic.name, "k", &huge)).unwrap_err();
    assert_eq!((failure.class, failure.code), (Class::Definite, "RECORD_TOO_LARGE"));
}

#[test]
fn more_than_the_buffer_holds_is_sent_by_waiting() {
    let topic = Topic::new("bulk", 2);
    let mut config = config();
    config
        .properties
        .insert("queue.buffering.max.kbytes".to_owned(), "2048".to_owned());
    let mut producer = Producer::transactional(&config, &unique("id")).unwrap();
    let value = "0123456789".repeat(100);
    producer.begin().unwrap();
    for n in 0..20_000 {
        producer.send(&record(&topic.name, &n.to_string(), &value)).unwrap();
    }
    assert_eq!(producer.records_in_transaction(), 20_000);
    assert!(producer.bytes_in_transaction() > 20_000_000);
    producer.commit().unwrap();
    // One marker in each partition.
    assert_eq!(end_offsets(&config, &topic.name).unwrap().values().sum::<i64>(), 20_002);
}

#[test]
fn a_small_transaction_does_not_wait_100_ms() {
    let topic = Topic::new("latency", 1);
    let mut producer = Producer::transactional(&config(), &unique("id")).unwrap();
    let mut times: Vec<Duration> = (0..30)
        .map(|_| {
            let started = Instant::now();
            commit(&mut producer, &topic.name, &["x"]);
            started.elapsed()
        })
        .collect();
    times.sort();
    println!("{times:?}");
    assert!(times[15] < Duration::from_millis(90), "median {:?}", times[15]);
}

#[test]
fn without_transactions_flush_waits_for_all() {
    let topic = Topic::new("flush", 1);
    let mut producer = Producer::idempotent(&config()).unwrap();
    for n in 0..1_000 {
        producer.send(&record(&topic.name, "k", &n.to_string())).unwrap();
    }
    producer.flush().unwrap();
    let values = read_all(&topic.name, 0);
    assert_eq!(values, (0..1_000).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[test]
fn a_record_arrives_as_it_was_sent() {
    let topic = Topic::new("whole", 3);
    let mut producer = Producer::idempotent(&config()).unwrap();
    let headers: [(&str, &[u8]); 3] = [("a", b"\x00\xff"), ("empty", b""), ("a", b"again")];
    let sent = OutRecord {
        topic: &topic.name,
        partition: Some(2),
        key: Some(b""),
        value: None,
        headers: &headers,
        timestamp_ms: Some(1_700_000_000_123),
    };
    producer.send(&sent).unwrap();
    producer.flush().unwrap();
    let mut reader = PartitionReader::open(&config(), &topic.name, 2, 0).unwrap();
    let read = reader.next(Duration::from_secs(30)).unwrap().unwrap();
    assert_eq!(
        (read.key.as_deref(), read.value.as_deref()),
        (Some(b"".as_slice()), None)
    );
    assert_eq!(
        (read.partition, read.offset, read.timestamp_ms),
        (2, 0, 1_700_000_000_123)
    );
    assert_eq!(
        read.headers,
        headers.map(|(name, value)| (name.to_owned(), value.to_vec()))
    );
    assert_eq!(read.header("a"), Some(b"again".as_slice()));
}

#[test]
fn keys_meet_in_the_partition_that_java_chooses() {
    let topic = Topic::new("murmur2", 5);
    let mut producer = Producer::idempotent(&config()).unwrap();
    let keys: Vec<String> = (0..50).map(|n| format!("key-{n}")).collect();
    for key in &keys {
        producer.send(&record(&topic.name, key, key)).unwrap();
    }
    producer.flush().unwrap();
    for partition in 0..5 {
        let expected: Vec<&String> = keys
            .iter()
            .filter(|key| syncline_bus::murmur2_partition(key.as_bytes(), 5) == partition)
            .collect();
        assert_eq!(read_all(&topic.name, partition).iter().collect::<Vec<_>>(), expected);
    }
}

#[test]
fn an_unreachable_cluster_is_transient_and_says_why() {
    let mut config = syncline_bus::BusConfig::new("127.0.0.1:1", "bus-tests");
    config
        .properties
        .insert("socket.connection.setup.timeout.ms".to_owned(), "1000".to_owned());
    let failure = syncline_bus::admin::partitions(&config, "t").unwrap_err();
    assert_eq!((failure.class, failure.code), (Class::Transient, "KAFKA_UNAVAILABLE"));
    assert!(failure.message.contains("127.0.0.1:1"), "{failure}");
}
