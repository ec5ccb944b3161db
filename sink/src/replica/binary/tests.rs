use proptest::prelude::*;

use super::*;
use crate::postgres::statement::tests::column;

fn bytes(form: Form, text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    value(form, text.as_bytes(), &mut out).map(|()| out)
}

/// As `numeric_send` gives it: digits, weight, sign, digits after the point, then groups of four digits.
fn groups(words: &[u16]) -> Option<Vec<u8>> {
    Some(words.iter().flat_map(|word| word.to_be_bytes()).collect())
}

#[test]
fn numbers_are_groups_of_four_digits() {
    let below = |weight: i16| weight.cast_unsigned();
    for (text, words) in [
        ("0", vec![0, 0, 0, 0]),
        ("0.00", vec![0, 0, 0, 2]),
        ("5", vec![1, 0, 0, 0, 5]),
        ("-12345.678", vec![3, 1, NEGATIVE, 3, 1, 2345, 6780]),
        ("10000", vec![1, 1, 0, 0, 1]),
        ("100000000.00001", vec![5, 2, 0, 5, 1, 0, 0, 0, 1000]),
        ("0.00005", vec![1, below(-2), 0, 5, 5000]),
        ("-0.1234", vec![1, below(-1), NEGATIVE, 4, 1234]),
    ] {
        assert_eq!(bytes(Form::Numeric, text), groups(&words), "{text}");
    }
    for text in ["", "-", ".5", "5.", "1e3", "NaN", "+1", "1.2.3", "１"] {
        assert_eq!(bytes(Form::Numeric, text), None, "{text}");
    }
}

#[test]
fn times_are_counted_from_the_year_2000() {
    let count = |number: i64| Some(number.to_be_bytes().to_vec());
    assert_eq!(bytes(Form::TimestampTz, "2000-01-01T00:00:00Z"), count(0));
    assert_eq!(bytes(Form::Timestamp, "1999-12-31T23:59:59.999999"), count(-1));
    assert_eq!(
        bytes(Form::TimestampTz, "2024-02-29T03:04:05.12Z"),
        count(762_491_045_120_000)
    );
    assert_eq!(bytes(Form::Time, "23:59:59.5"), count(86_399_500_000));
    let days = |number: i32| Some(number.to_be_bytes().to_vec());
    assert_eq!(bytes(Form::Date, "2000-03-01"), days(60));
    assert_eq!(bytes(Form::Date, "0001-01-01"), days(-730_119));
    for (form, text) in [
        (Form::Date, "infinity"),
        (Form::Date, "0000-01-01"),
        (Form::Date, "2023-02-29"),
        (Form::Date, "1900-02-29"),
        (Form::Date, "2024-13-01"),
        (Form::Date, "2024-01-01T"),
        (Form::Date, "12024-01-01"),
        (Form::Timestamp, "2024-01-01T00:00:00Z"),
        (Form::TimestampTz, "2024-01-01T00:00:00"),
        (Form::TimestampTz, "2024-01-01T00:00:00+01:00"),
        (Form::TimestampTz, "2024-01-01T24:00:00Z"),
        (Form::TimestampTz, "2024-01-01T23:59:60Z"),
        (Form::Timestamp, "2024-01-01T00:00:00.1234567"),
        (Form::Timestamp, "2024-01-01T00:00:00."),
        (Form::Timestamp, "2024-01-01 00:00:00"),
        (Form::Time, "24:00:00"),
    ] {
        assert_eq!(bytes(form, text), None, "{text}");
    }
}

#[test]
fn what_a_type_cannot_hold_is_left_to_the_server() {
    for (form, text) in [
        (Form::Int2, "32768"),
        (Form::Int4, "-2147483649"),
        (Form::Int8, "9223372036854775808"),
        (Form::Int8, "1.0"),
        (Form::Float4, "1e39"),
        (Form::Float8, "1e-400"),
        (Form::Bool, "t"),
        (Form::Uuid, "b68a35a717ad35b3af2aae46edb4545a"),
        (Form::Uuid, "b68a35a7-17ad-35b3-af2a-ae46edb4545"),
        (Form::Bytea, "00ff"),
        (Form::Bytea, "\\x0"),
    ] {
        assert_eq!(bytes(form, text), None, "{text}");
    }
    assert_eq!(bytes(Form::Int2, "-2"), Some(vec![0xFF, 0xFE]));
    assert_eq!(bytes(Form::Bool, "true"), Some(vec![1]));
    assert_eq!(bytes(Form::Bytea, "\\x00fF"), Some(vec![0, 0xFF]));
    assert_eq!(bytes(Form::Jsonb, "{}"), Some(vec![1, b'{', b'}']));
    assert_eq!(bytes(Form::Float8, "0.1"), Some(0.1_f64.to_be_bytes().to_vec()));
    let uuid = bytes(Form::Uuid, "b68a35a7-17ad-35b3-af2a-ae46edb4545a").unwrap();
    assert_eq!((uuid.len(), uuid[0], uuid[15]), (16, 0xB6, 0x5A));
}

#[test]
fn a_column_with_a_cell_that_has_no_binary_form_goes_as_text() {
    let columns = [
        column("id", "bigint"),
        column("at", "timestamp without time zone"),
        column("mood", "mood"),
    ];
    let columns: Vec<&Column> = columns.iter().collect();
    let table = [["1", "2024-01-01T00:00:00", "ok"], ["2", "infinity", "sad"]];
    let texts = |row: &[&'static str; 3]| row.map(|text| Some(Cow::Borrowed(text.as_bytes()))).into_iter();
    let (forms, pieces) = rows(&columns, &table, texts);
    assert_eq!(forms, [Form::Int8, Form::Cast, Form::Cast]);
    let all = pieces.concat();
    let second = [
        &[0, 3, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 8][..],
        b"infinity",
        &[0, 0, 0, 3],
        b"sad",
        &[0xFF, 0xFF],
    ];
    assert!(all.starts_with(START) && all.ends_with(&second.concat()));
}

#[test]
fn null_has_no_length() {
    let column = column("id", "bigint");
    let (_, pieces) = rows(&[&column], &[()], |()| [None].into_iter());
    assert_eq!(pieces[1], [0, 1, 0xFF, 0xFF, 0xFF, 0xFF]);
}

proptest! {
    /// What its digits say, by another way of adding them up.
    #[test]
    fn a_number_is_the_sum_of_its_digits(whole in 0..10_u64.pow(17), fraction in "[0-9]{0,9}", is_negative: bool) {
        let sign = if is_negative { "-" } else { "" };
        let point = if fraction.is_empty() { "" } else { "." };
        let text = format!("{sign}{whole}{point}{fraction}");
        let bytes = bytes(Form::Numeric, &text).unwrap();
        let words: Vec<u16> = bytes.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
        let (count, weight) = (words[0], i32::from(words[1].cast_signed()));
        prop_assert_eq!(usize::from(count), words.len() - 4);
        prop_assert_eq!(usize::from(words[3]), fraction.len());
        // In units of 10^-12.
        let unit = |place: usize| 10_000_i128.pow(u32::try_from(weight - i32::try_from(place).unwrap() + 3).unwrap());
        let sum: i128 = words[4..].iter().enumerate().map(|(place, digit)| i128::from(*digit) * unit(place)).sum();
        let expected = format!("{whole}{fraction:0<12}").parse::<i128>().unwrap();
        prop_assert_eq!(sum, expected);
        prop_assert_eq!(words[2] == NEGATIVE, is_negative && expected != 0);
        prop_assert!(words.last().is_none_or(|last| words.len() == 4 || *last != 0));
    }

    #[test]
    fn noise_is_no_crash(text in ".{0,40}") {
        for form in [Form::Numeric, Form::TimestampTz, Form::Date, Form::Time, Form::Uuid, Form::Bytea, Form::Float4] {
            let _ = bytes(form, &text);
        }
    }
}
