//! Topics made, refused and removed.

use syncline_bus::admin::{TopicSpec, delete, end_offsets, ensure, partitions};

use crate::{Topic, config, unique};

#[test]
fn makes_what_is_missing_and_leaves_what_exists() {
    let first = TopicSpec::new(unique("ensure"), 3);
    let second = TopicSpec::new(unique("ensure"), 1).compacted();
    assert_eq!(partitions(&config(), &first.name).unwrap(), None);
    ensure(&config(), std::slice::from_ref(&first)).unwrap();
    ensure(&config(), &[first.clone(), second.clone()]).unwrap();
    ensure(&config(), &[first.clone(), second.clone()]).unwrap();
    assert_eq!(partitions(&config(), &first.name).unwrap(), Some(3));
    assert_eq!(
        end_offsets(&config(), &first.name)
            .unwrap()
            .into_iter()
            .collect::<Vec<_>>(),
        [(0, 0), (1, 0), (2, 0)]
    );
    delete(&config(), &[&first.name, &second.name]).unwrap();
    delete(&config(), &[&unique("never")]).unwrap();
}

#[test]
fn refuses_another_number_of_partitions() {
    let topic = Topic::new("count", 2);
    let failure = ensure(&config(), &[TopicSpec::new(&topic.name, 3)]).unwrap_err();
    assert_eq!(failure.code, "TOPIC_PARTITIONS");
    assert_eq!(failure.message, format!("topic {} has 2 partitions, not 3", topic.name));
}

#[test]
fn refuses_a_topic_of_state_that_forgets() {
    let topic = Topic::new("forgets", 1);
    let failure = ensure(&config(), &[TopicSpec::new(&topic.name, 1).compacted()]).unwrap_err();
    assert_eq!(failure.code, "TOPIC_NOT_COMPACTED");
}

#[test]
fn a_topic_that_is_not_there_has_no_ends() {
    assert!(end_offsets(&config(), &unique("nowhere")).unwrap().is_empty());
}

#[test]
fn two_may_make_the_same_topic_at_once() {
    let spec = TopicSpec::new(unique("race"), 2);
    let makers: Vec<_> = (0..4)
        .map(|_| {
            let spec = spec.clone();
            std::thread::spawn(move || ensure(&config(), &[spec]))
        })
        .collect();
    for maker in makers {
        maker.join().unwrap().unwrap();
    }
    delete(&config(), &[&spec.name]).unwrap();
}
