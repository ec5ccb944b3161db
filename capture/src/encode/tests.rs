use super::*;
use crate::types::{Clock, Days, Space};

const EXACT: Reading = Reading {
    debezium: false,
    snapshot: false,
};
const STREAM: Reading = Reading {
    debezium: true,
    snapshot: false,
};
const SNAPSHOT: Reading = Reading {
    debezium: true,
    snapshot: true,
};

fn read(kind: &Kind, reading: Reading, text: &str) -> (Written, Vec<u8>, Option<Loss>) {
    let (mut out, mut lost) = (Vec::new(), None);
    let written = cell(kind, reading, text.as_bytes(), &mut out, &mut lost);
    (written.unwrap(), out, lost)
}

fn bytes(kind: &Kind, text: &str) -> Vec<u8> {
    let (written, out, lost) = read(kind, EXACT, text);
    assert_eq!((written, lost), (Written::Value, None), "{text}");
    out
}

fn list(kind: Kind) -> Kind {
    Kind::List(Box::new(kind))
}

#[test]
fn cells_become_their_avro_bytes() {
    assert_eq!(bytes(&Kind::Int32, "-1"), [1]);
    assert_eq!(bytes(&Kind::Bool, "t"), [1]);
    assert_eq!(bytes(&Kind::Text, "häß"), [10, b'h', 0xc3, 0xa4, 0xc3, 0x9f]);
    assert_eq!(bytes(&Kind::Decimal { precision: 6, scale: 2 }, "1.10"), [2, 0x6e]);
    assert_eq!(bytes(&Kind::Money(3), "$12.34"), [4, 0x30, 0x34]);
    assert_eq!(bytes(&Kind::MoneyText(0), "-$1,012.34"), bytes(&Kind::Text, "-1012.34"));
    assert_eq!(bytes(&Kind::MoneyDouble, "$1.50"), 1.5f64.to_le_bytes());
    assert_eq!(bytes(&Kind::DecimalDouble, "0.1"), 0.1f64.to_le_bytes());
    assert_eq!(bytes(&Kind::DecimalText(Some(3)), "0.100"), bytes(&Kind::Text, "0.100"));
    assert_eq!(bytes(&Kind::DecimalText(None), "NaN"), bytes(&Kind::Text, "NaN"));
    assert_eq!(bytes(&Kind::Bytes, "\\x00ff"), [4, 0, 0xff]);
    assert_eq!(
        bytes(&Kind::BytesText(binary::Alphabet::Base64), "\\x00ff10"),
        bytes(&Kind::Text, "AP8Q")
    );
    assert_eq!(bytes(&Kind::VariableDecimal, "3.14"), [4, 4, 1, 0x3a]);
    assert_eq!(bytes(&list(Kind::Int32), "{1,NULL}"), [4, 2, 2, 0, 0]);
    assert_eq!(bytes(&list(Kind::Int32), "{}"), [0]);
    assert_eq!(bytes(&Kind::Float32, "NaN"), f32::NAN.to_le_bytes());
    assert_eq!(bytes(&Kind::Float64, "-Infinity"), f64::NEG_INFINITY.to_le_bytes());
    assert_eq!(
        bytes(&Kind::Date(Days::Count), "0044-03-15 BC"),
        bytes(&Kind::Int32, "-735160")
    );
    assert_eq!(
        bytes(&Kind::ZonedTimestamp(0), "infinity"),
        bytes(&Kind::Text, "infinity")
    );
    assert_eq!(
        bytes(&Kind::HstoreMap, r#""a"=>"1", "b"=>NULL"#),
        [4, 2, b'a', 2, 2, b'1', 2, b'b', 0, 0]
    );
    assert_eq!(bytes(&Kind::HstoreMap, ""), [0]);
}

#[test]
fn times_are_counted_as_the_setting_says() {
    for (clock, expected) in [
        (Clock::Millis, "1709212455123"),
        (Clock::Micros, "1709212455123456"),
        (Clock::Nanos, "1709212455123456000"),
        (Clock::Connect, "1709212455123"),
    ] {
        let count = bytes(&Kind::Timestamp(clock), "2024-02-29 13:14:15.123456");
        assert_eq!(count, bytes(&Kind::Int64, expected), "{clock:?}");
    }
    let iso = |kind: Kind, text: &str, expected: &str| assert_eq!(bytes(&kind, text), bytes(&Kind::Text, expected));
    iso(
        Kind::Timestamp(Clock::Iso),
        "2024-02-29 13:14:15.12",
        "2024-02-29T13:14:15.12Z",
    );
    iso(Kind::Timestamp(Clock::Iso), "infinity", "infinity");
    iso(Kind::Time(Clock::Iso), "13:14:15", "13:14:15Z");
    iso(Kind::Date(Days::Iso), "0044-03-15 BC", "-0043-03-15Z");
    iso(Kind::Date(Days::Iso), "-infinity", "-infinity");
    iso(Kind::Interval, "00:00:01.235", "P0Y0M0DT0H0M1.235S");
    assert_eq!(
        bytes(&Kind::Time(Clock::Nanos), "00:00:00.000001"),
        bytes(&Kind::Int64, "1000")
    );
    assert_eq!(read(&Kind::Time(Clock::Iso), EXACT, "24:00:00").2, Some(Loss::EndOfDay));
    assert_eq!(
        read(&Kind::Timestamp(Clock::Nanos), EXACT, "2300-01-01 00:00:00").2,
        Some(Loss::TimestampRange)
    );
    let (written, _, lost) = read(&Kind::Timestamp(Clock::Nanos), STREAM, "2300-01-01 00:00:00");
    assert_eq!((written, lost), (Written::Null, Some(Loss::TimestampRange)));
}

#[test]
fn shapes_and_vectors() {
    let shape = bytes(
        &Kind::Shape(Space::Geometry),
        "0101000000000000000000F03F0000000000000040",
    );
    assert_eq!((shape[0], shape[1], shape.len()), (42, 1, 23));
    let vector = bytes(&Kind::Vector(Width::Float), "[1,2.5]");
    assert_eq!(
        vector,
        [&[4][..], &1f32.to_le_bytes(), &2.5f32.to_le_bytes(), &[0]].concat()
    );
    let sparse = bytes(&Kind::SparseVector, "{2:1.5}/3");
    assert_eq!(sparse, [&[6, 2, 4][..], &1.5f64.to_le_bytes(), &[0]].concat());
    assert_eq!(bytes(&Kind::Vector(Width::Double), "[]"), [0]);
}

/// What Debezium loses, next to what we write.
#[test]
fn losses_are_repeated_and_said() {
    let number = |number: i64| bytes(&Kind::Int64, &number.to_string());
    let date = Kind::Date(Days::Count);
    let check = |kind: &Kind, reading: Reading, text: &str, expected: &[u8], loss: Loss| {
        assert_eq!(
            read(kind, reading, text),
            (Written::Value, expected.to_vec(), Some(loss)),
            "{text}"
        );
    };
    check(&date, SNAPSHOT, "0044-03-15 BC", &number(-703_383), Loss::BeforeChrist);
    check(&date, SNAPSHOT, "infinity", &number(-622_191_234), Loss::InfiniteDate);
    check(&date, STREAM, "-infinity", &number(-2_147_472_691), Loss::InfiniteDate);
    check(&date, SNAPSHOT, "1582-10-10", &number(-141_422), Loss::SkippedDay);
    assert_eq!(
        read(&date, STREAM, "0044-03-15 BC"),
        (Written::Value, number(-735_160), None)
    );
    assert_eq!(bytes(&date, "infinity"), number(i64::from(i32::MAX)));
    check(
        &Kind::Duration,
        STREAM,
        "00:00:01.235",
        &number(1_234_999),
        Loss::IntervalFraction,
    );
    assert_eq!(bytes(&Kind::Duration, "00:00:01.235"), number(1_235_000));
    let iso = bytes(&Kind::Text, "P0Y0M0DT0H0M1.234999999S");
    check(&Kind::Interval, STREAM, "00:00:01.235", &iso, Loss::IntervalFraction);
    let nested = list(Kind::Int32);
    check(&nested, STREAM, "{{1,2},{3,4}}", &[4, 0, 0, 0], Loss::NestedArray);
    assert_eq!(bytes(&nested, "{{1,2},{3,4}}"), [8, 2, 2, 2, 4, 2, 6, 2, 8, 0]);
    let null = |kind: &Kind, reading, text| {
        let (written, out, lost) = read(kind, reading, text);
        assert_eq!((written, out), (Written::Null, vec![]), "{text}");
        lost
    };
    assert_eq!(null(&Kind::VariableDecimal, EXACT, "NaN"), Some(Loss::NotFinite));
    assert_eq!(null(&Kind::LostBits(8), STREAM, "{10110000}"), Some(Loss::BitArray));
    assert_eq!(null(&Kind::SystemName, STREAM, "n"), Some(Loss::SystemName));
    assert_eq!(read(&Kind::SystemName, SNAPSHOT, "n").0, Written::Value);
    check(&Kind::Money(0), EXACT, "$12.50", &[2, 13], Loss::Rounded);
    let named = bytes(&Kind::Text, "NAN");
    assert_eq!(
        read(&Kind::DecimalText(None), STREAM, "NaN"),
        (Written::Value, named, None)
    );
    let figure = Kind::Opaque {
        text: None,
        figure: true,
    };
    assert_eq!(
        read(&figure, STREAM, "<(0,0),2>").1,
        bytes(&Kind::Text, "<(0.0,0.0),2.0>")
    );
}

#[test]
fn what_a_kind_cannot_say_is_refused_without_the_value() {
    let enums = list(Kind::Enum(vec!["sad".to_owned()]));
    for (kind, text) in [
        (&Kind::Int16, "40000"),
        (&Kind::Bool, "yes"),
        (&Kind::Date(Days::Count), "soon"),
        (&Kind::Shape(Space::Geometry), "0x"),
        (&enums, "{NULL}"),
    ] {
        let unfit = cell(kind, EXACT, text.as_bytes(), &mut Vec::new(), &mut None).unwrap_err();
        assert!(!unfit.to_string().contains(text), "{unfit}");
    }
    assert!(cell(&Kind::Text, EXACT, &[0xff], &mut Vec::new(), &mut None).is_err());
}

#[test]
fn values_that_the_log_does_not_hold_have_debeziums_placeholders() {
    let text = "__debezium_unavailable_value";
    let placeholder = |kind: &Kind, reading| {
        let mut out = Vec::new();
        let written = unavailable(kind, reading, &Placeholder::new(text.as_bytes()), &mut out);
        (written, out)
    };
    let said = (Written::Value, bytes(&Kind::Text, text));
    let unsaid = (Written::Null, vec![]);
    assert_eq!(placeholder(&Kind::Bytes, STREAM), said);
    assert_eq!(placeholder(&Kind::Text, EXACT), said);
    let base64 = Kind::BytesText(binary::Alphabet::Base64);
    assert_eq!(
        (placeholder(&base64, STREAM), placeholder(&base64, EXACT)),
        (unsaid.clone(), said)
    );
    let ints = placeholder(&list(Kind::Int64), STREAM).1;
    assert_eq!(ints[..5], [56, 2, 0xbe, 1, 2]);
    assert_eq!(placeholder(&list(Kind::Int16), STREAM), unsaid);
    assert_eq!(placeholder(&list(Kind::VariableDecimal), EXACT), unsaid);
    let uuid = placeholder(&list(Kind::Named(crate::types::Name::Uuid)), STREAM).1;
    assert!(uuid.ends_with(b"b68a35a7-17ad-35b3-af2a-ae46edb4545a\0"));
    let json = placeholder(&Kind::Hstore, STREAM).1;
    assert_eq!(json, bytes(&Kind::Text, &format!("{{\"{text}\":\"{text}\"}}")));
}
