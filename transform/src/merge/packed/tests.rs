//! Any value there and back, and what is no state.

use std::fmt::Debug;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug, PartialEq)]
struct Older {
    name: String,
    count: i64,
}

#[derive(Clone, Debug, PartialEq)]
struct Newer {
    name: String,
    count: i64,
    seen: Option<Value>,
}

packed!(Older { 0 name, 1 count });
packed!(Newer { 0 name, 1 count, 2 seen });

fn there_and_back<T: Packed + PartialEq + Debug>(value: &T) {
    let bytes = to_bytes(value);
    assert_eq!(from_bytes::<T>(&bytes).as_ref(), Ok(value));
    for length in 0..bytes.len() {
        assert!(from_bytes::<T>(&bytes[..length]).is_err(), "cut at {length}");
    }
    assert_eq!(
        from_bytes::<T>(&[&bytes[..], &[0]].concat()).err(),
        Some(Unreadable::Length)
    );
}

fn value() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        any::<i64>().prop_map(Number::from),
        "-?[1-9][0-9]{0,40}\\.[0-9]{1,30}".prop_map(|text| text.parse().unwrap()),
        Just(Number::from(i64::MIN).shift(7)),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        number.prop_map(Value::Number),
        any::<String>().prop_map(Value::Text),
        "[ab]{0,3}".prop_map(Value::Text),
    ];
    leaf.prop_recursive(3, 20, 5, |inner| {
        prop::collection::vec(inner, 0..5).prop_map(Value::List)
    })
}

proptest! {
    #[test]
    fn values_come_back_as_they_were(values in prop::collection::vec(value(), 0..100)) {
        there_and_back(&values);
    }

    #[test]
    fn numbers_and_places_come_back_as_they_were(number: i64, epoch: u64, lsn: u64, ordinal: u64) {
        there_and_back(&number);
        let position = Position::new(epoch, Lsn(lsn), ordinal);
        there_and_back(&position);
        there_and_back(&Vector::from_iter([("a", position), ("shop", position)]));
    }

    #[test]
    fn no_bytes_are_more_than_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = from_bytes::<Vec<Value>>(&bytes);
        let _ = from_bytes::<BTreeMap<Position, Newer>>(&bytes);
    }
}

#[test]
fn a_text_is_written_once() {
    let texts = vec!["the same text".to_owned(); 10];
    assert!(to_bytes(&texts).len() < 30);
    there_and_back(&texts);
    let many: Vec<String> = (0..200).map(|number| format!("text {}", number % 90)).collect();
    there_and_back(&many);
}

#[test]
fn what_an_older_version_wrote_is_read_and_what_a_newer_one_wrote_is_refused() {
    let older = Older {
        name: "a".to_owned(),
        count: -5,
    };
    let mut newer = Newer {
        name: "a".to_owned(),
        count: -5,
        seen: None,
    };
    assert_eq!(from_bytes(&to_bytes(&older)), Ok(newer.clone()));
    assert_eq!(
        from_bytes(&to_bytes(&newer)),
        Ok(older),
        "it does not say the new field"
    );
    newer.seen = Some(Value::Null);
    there_and_back(&newer);
    assert_eq!(from_bytes::<Older>(&to_bytes(&newer)), Err(Unreadable::Newer));
}

#[test]
fn lists_in_lists_have_an_end() {
    let deep = [5, 1].repeat(100_000);
    assert_eq!(from_bytes::<Value>(&deep), Err(Unreadable::Damaged));
}

/// A value that a topic tells of is kept in the state of its entity: if that could not be read again, merge would stop there.
#[test]
fn whatever_can_be_read_as_a_value_comes_back_from_a_state() {
    let mut read = 0;
    for depth in 1..=130 {
        let text = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        if let Ok(value) = text.parse::<Value>() {
            there_and_back(&Some(Box::new(value.clone())));
            there_and_back(&Value::List(vec![value, Value::Null]));
            read = depth;
        }
    }
    assert_eq!(read, value::NESTING_MAX);
}
