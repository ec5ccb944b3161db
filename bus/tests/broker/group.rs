//! A member of a group: where it begins, what it hears, when it is at the end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use syncline_bus::admin::end_offsets;
use syncline_bus::{Event, GroupConsumer, InRecord, Producer};
use syncline_runtime::Class;

use crate::{PATIENCE, Topic, commit, config, record, text, unique};

const STEP: Duration = Duration::from_millis(200);

fn join(group: &str, instance: &str, topics: &[&Topic]) -> GroupConsumer {
    let names: Vec<String> = topics.iter().map(|topic| topic.name.clone()).collect();
    GroupConsumer::new(&config(), group, instance, &names).unwrap()
}

fn until<T>(consumer: &mut GroupConsumer, mut found: impl FnMut(&mut GroupConsumer, Event) -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        assert!(started.elapsed() < PATIENCE, "it did not happen");
        let event = consumer.poll(STEP).unwrap();
        if let Some(value) = found(consumer, event) {
            return value;
        }
    }
}

fn until_assigned(consumer: &mut GroupConsumer) -> Vec<(String, i32)> {
    until(consumer, |_, event| {
        if let Event::Assigned(partitions) = event {
            Some(partitions)
        } else {
            None
        }
    })
}

fn ends(topics: &[&Topic]) -> BTreeMap<(String, i32), i64> {
    let all = topics.iter().flat_map(|topic| {
        let ends = end_offsets(&config(), &topic.name).unwrap();
        ends.into_iter()
            .map(|(partition, end)| ((topic.name.clone(), partition), end))
    });
    all.collect()
}

/// Everything up to the ends.
fn read_to(consumer: &mut GroupConsumer, ends: &BTreeMap<(String, i32), i64>) -> Vec<InRecord> {
    let mut records = Vec::new();
    until(consumer, |consumer, event| {
        if let Event::Record(record) = event {
            records.push(record);
        }
        consumer.caught_up(ends).unwrap().then_some(())
    });
    records
}

fn texts(records: &[InRecord]) -> Vec<String> {
    records.iter().map(text).collect()
}

/// Reads to the end, and commits that with a transaction that writes nothing else.
fn consume_and_commit(producer: &mut Producer, consumer: &mut GroupConsumer, topic: &Topic) -> Vec<String> {
    let records = read_to(consumer, &ends(&[topic]));
    producer.begin().unwrap();
    let next = records.last().map_or(0, |record| record.offset + 1);
    producer
        .send_offsets(&[(topic.name.clone(), 0, next)], consumer)
        .unwrap();
    producer.commit().unwrap();
    texts(&records)
}

#[test]
fn resumes_at_the_offset_that_the_transaction_committed() {
    let topic = Topic::new("resume", 1);
    let (group, id) = (unique("group"), unique("id"));
    let mut writer = Producer::transactional(&config(), &unique("id")).unwrap();
    commit(&mut writer, &topic.name, &["a", "b"]);

    let mut producer = Producer::transactional(&config(), &id).unwrap();
    let mut consumer = join(&group, "0", &[&topic]);
    assert_eq!(consume_and_commit(&mut producer, &mut consumer, &topic), ["a", "b"]);
    commit(&mut writer, &topic.name, &["c"]);
    assert_eq!(texts(&read_to(&mut consumer, &ends(&[&topic]))), ["c"]);
    // Read, sent with a transaction, but never committed.
    producer.begin().unwrap();
    producer.send_offsets(&[(topic.name.clone(), 0, 4)], &consumer).unwrap();
    producer.abort();
    drop(consumer);

    let mut producer = Producer::transactional(&config(), &id).unwrap();
    let mut consumer = join(&group, "0", &[&topic]);
    assert_eq!(consume_and_commit(&mut producer, &mut consumer, &topic), ["c"]);
}

#[test]
fn a_static_member_that_restarts_has_its_partitions_at_once() {
    let topic = Topic::new("static", 2);
    let group = unique("group");
    let mut consumer = join(&group, "0", &[&topic]);
    assert_eq!(until_assigned(&mut consumer).len(), 2);
    drop(consumer);
    let started = Instant::now();
    let mut consumer = join(&group, "0", &[&topic]);
    assert_eq!(until_assigned(&mut consumer).len(), 2);
    // A member that is not known has to wait for the session of the old one: 45 s.
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

/// The session of the member that it was with fewer topics has to run out first.
#[test]
fn a_static_member_that_restarts_with_more_topics_gets_them_all() {
    let (first, second) = (Topic::new("static", 2), Topic::new("static", 1));
    let group = unique("group");
    let mut consumer = join(&group, "a", &[&first]);
    assert_eq!(until_assigned(&mut consumer).len(), 2);
    drop(consumer);
    let mut consumer = join(&group, "a", &[&first, &second]);
    until(&mut consumer, |_, event| match event {
        Event::Assigned(all) if all.len() == 3 => Some(()),
        _ => None,
    });
}

#[test]
fn a_member_whose_name_another_takes_is_fenced() {
    let topic = Topic::new("names", 1);
    let group = unique("group");
    let mut first = join(&group, "0", &[&topic]);
    until_assigned(&mut first);
    first.poll(STEP).unwrap();
    let mut second = join(&group, "0", &[&topic]);
    until_assigned(&mut second);
    let started = Instant::now();
    let failure = loop {
        assert!(started.elapsed() < PATIENCE, "nobody was fenced");
        if let Err(failure) = first.poll(STEP) {
            break failure;
        }
        second.poll(Duration::ZERO).unwrap();
    };
    assert_eq!((failure.class, failure.code), (Class::Definite, "FENCED"), "{failure}");
}

#[test]
fn two_members_share_and_hear_of_it() {
    let topic = Topic::new("share", 2);
    let group = unique("group");
    let mut first = join(&group, "0", &[&topic]);
    assert_eq!(until_assigned(&mut first).len(), 2);
    let mut second = join(&group, "1", &[&topic]);
    let mut revoked = None;
    let mut shares = (Vec::new(), Vec::new());
    let started = Instant::now();
    while shares.0.is_empty() || shares.1.is_empty() {
        assert!(started.elapsed() < PATIENCE, "{shares:?}");
        match first.poll(STEP).unwrap() {
            Event::Revoked(partitions) => revoked = Some(partitions.len()),
            Event::Assigned(partitions) => shares.0 = partitions,
            _ => {}
        }
        if let Event::Assigned(partitions) = second.poll(STEP).unwrap() {
            shares.1 = partitions;
        }
    }
    assert_eq!(revoked, Some(2));
    assert_eq!((shares.0.len(), shares.1.len()), (1, 1));
}

#[test]
fn begins_where_the_caller_seeks_before_anything_is_fetched() {
    let topic = Topic::new("seek", 1);
    let mut writer = Producer::transactional(&config(), &unique("id")).unwrap();
    commit(&mut writer, &topic.name, &["0", "1", "2"]);
    let mut consumer = join(&unique("group"), "0", &[&topic]);
    until_assigned(&mut consumer);
    consumer.seek(&topic.name, 0, 2).unwrap();
    assert_eq!(texts(&read_to(&mut consumer, &ends(&[&topic]))), ["2"]);
    consumer.seek(&topic.name, 0, 1).unwrap();
    assert_eq!(texts(&read_to(&mut consumer, &ends(&[&topic]))), ["1", "2"]);
    assert_eq!(consumer.seek("other", 0, 0).unwrap_err().code, "KAFKA_NOT_ASSIGNED");
}

#[test]
fn is_at_the_end_of_each_topic_although_only_markers_are_left() {
    let topics = [Topic::new("end-a", 1), Topic::new("end-b", 1), Topic::new("end-c", 1)];
    let both: Vec<&Topic> = topics.iter().collect();
    let id = unique("id");
    let mut writer = Producer::transactional(&config(), &id).unwrap();
    commit(&mut writer, &topics[0].name, &["a"]);
    commit(&mut writer, &topics[1].name, &["b"]);
    let mut consumer = join(&unique("group"), "0", &both);
    let mut values = texts(&read_to(&mut consumer, &ends(&both)));
    values.sort();
    assert_eq!(values, ["a", "b"]);

    // The second time its earlier news of the end is old and must not count.
    commit(&mut writer, &topics[1].name, &["b2"]);
    writer.begin().unwrap();
    writer.send(&record(&topics[0].name, "k", "aborted")).unwrap();
    writer.flush().unwrap();
    writer.abort();
    drop(Producer::transactional(&config(), &id).unwrap());
    let ends = ends(&both);
    assert!(!consumer.caught_up(&ends).unwrap());
    assert_eq!(texts(&read_to(&mut consumer, &ends)), ["b2"]);
    assert_eq!(
        consumer.position(&topics[0].name, 0),
        Some(ends[&(topics[0].name.clone(), 0)])
    );
}

#[test]
fn stays_correct_when_asked_again_and_again_under_load() {
    let topics = [Topic::new("load-a", 2), Topic::new("load-b", 2)];
    let both: Vec<&Topic> = topics.iter().collect();
    let mut writer = Producer::transactional(&config(), &unique("id")).unwrap();
    let mut consumer = join(&unique("group"), "0", &both);
    let mut seen: BTreeMap<(String, i32), Vec<i64>> = BTreeMap::new();
    let mut total = 0;
    for round in 0..10 {
        writer.begin().unwrap();
        for n in 0..200 {
            let topic = &topics[n % 2].name;
            writer.send(&record(topic, &format!("{round}-{n}"), "v")).unwrap();
        }
        writer.commit().unwrap();
        let records = read_to(&mut consumer, &ends(&both));
        total += records.len();
        assert_eq!(total, 200 * (round + 1), "round {round}");
        for record in records {
            seen.entry((record.topic, record.partition))
                .or_default()
                .push(record.offset);
        }
    }
    assert!(
        seen.values()
            .all(|offsets| offsets.windows(2).all(|pair| pair[0] < pair[1]))
    );
}

#[test]
fn a_committed_offset_that_no_longer_exists_is_named() {
    let topic = Topic::new("gap", 1);
    let group = unique("group");
    let mut producer = Producer::transactional(&config(), &unique("id")).unwrap();
    let mut consumer = join(&group, "0", &[&topic]);
    until_assigned(&mut consumer);
    consumer.poll(STEP).unwrap();
    producer.begin().unwrap();
    producer
        .send_offsets(&[(topic.name.clone(), 0, 41)], &consumer)
        .unwrap();
    producer.commit().unwrap();
    drop(consumer);

    let mut consumer = join(&group, "0", &[&topic]);
    until_assigned(&mut consumer);
    assert_eq!(consumer.committed().unwrap()[&(topic.name.clone(), 0)], 41);
    let failure = consumer.poll(STEP).unwrap_err();
    assert_eq!((failure.class, failure.code), (Class::Definite, "OFFSET_AHEAD"));
    assert!(failure.message.contains("next is 41"), "{failure}");
}

#[test]
fn what_is_shown_to_the_group_is_committed() {
    let topic = Topic::new("display", 1);
    let mut writer = Producer::transactional(&config(), &unique("id")).unwrap();
    commit(&mut writer, &topic.name, &["a"]);
    let mut consumer = join(&unique("group"), "0", &[&topic]);
    read_to(&mut consumer, &ends(&[&topic]));
    consumer.commit_display(&[(topic.name.clone(), 0, 1)]);
    until(&mut consumer, |consumer, _| {
        consumer.committed().unwrap().get(&(topic.name.clone(), 0)).copied()
    });
}
