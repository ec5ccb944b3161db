//! A value in the shape its field has, without changing what it says: `"12"` may become 12, 12.5 never 12.

use crate::pipeline::{ElementKind, FieldKind};
use crate::value::{Number, Value};

/// Longest text that is read as a number; more digits have no use, and huge exponents would take all memory.
const NUMBER_CHARS_MAX: usize = 400;

/// `value` as a `kind`, or why it is none.
pub(super) fn shape(value: Value, kind: FieldKind, set: bool) -> Result<Value, String> {
    match (kind, value) {
        (FieldKind::List(element), value) => list(value, element, set),
        (_, Value::Null) => Ok(Value::Null),
        (_, Value::List(_)) => Err("a list, where the field holds a single value".to_owned()),
        (FieldKind::Text, value) => Ok(text(value)),
        (FieldKind::Bool, value) => boolean(value),
        (FieldKind::Number { scale }, value) => scaled(value, scale),
        (FieldKind::Date, Value::Text(text)) if is_date(&text) => Ok(Value::Text(text)),
        (FieldKind::Timestamp, Value::Text(text)) if is_timestamp(&text) => Ok(Value::Text(text)),
        (FieldKind::Date, _) => Err("no date such as 2026-01-02".to_owned()),
        (FieldKind::Timestamp, _) => Err("no timestamp such as 2026-01-02T03:04:05Z".to_owned()),
    }
}

/// A number without an exponent.
pub(super) fn number(text: &str) -> Option<Number> {
    let text = text.trim();
    let plain =
        text.len() <= NUMBER_CHARS_MAX && text.chars().all(|c| c.is_ascii_digit() || matches!(c, '+' | '-' | '.'));
    plain.then(|| text.parse().ok()).flatten()
}

fn text(value: Value) -> Value {
    match value {
        Value::Number(number) => Value::Text(number.to_string()),
        Value::Bool(value) => Value::Text(value.to_string()),
        value => value,
    }
}

fn boolean(value: Value) -> Result<Value, String> {
    match value {
        Value::Bool(value) => Ok(Value::Bool(value)),
        Value::Text(text) if text == "true" => Ok(Value::Bool(true)),
        Value::Text(text) if text == "false" => Ok(Value::Bool(false)),
        _ => Err("neither true nor false; see enum(column, \"Y=true\", \"N=false\")".to_owned()),
    }
}

fn scaled(value: Value, scale: Option<u32>) -> Result<Value, String> {
    let number = match &value {
        Value::Number(number) => Some(number.clone()),
        Value::Text(text) => number(text),
        _ => None,
    };
    let number = number.ok_or_else(|| "no number".to_owned())?;
    match scale.filter(|scale| !number.shift(i64::from(*scale)).is_integer()) {
        None => Ok(Value::Number(number)),
        Some(scale) => Err(format!(
            "more digits after the point than the {scale} that the schema has room for"
        )),
    }
}

/// A set has no difference between nothing and no elements.
fn list(value: Value, element: ElementKind, set: bool) -> Result<Value, String> {
    let elements = match value {
        Value::List(elements) => elements,
        Value::Null if set => Vec::new(),
        Value::Null => return Ok(Value::Null),
        _ => return Err("a single value, where the field holds a list; see split(column, \";\")".to_owned()),
    };
    let elements = elements
        .into_iter()
        .map(|value| shaped_element(value, element))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(if set {
        Value::set(elements)
    } else {
        Value::List(elements)
    })
}

fn shaped_element(value: Value, element: ElementKind) -> Result<Value, String> {
    match (element, value) {
        (_, Value::Null | Value::List(_)) => Err("an element that is null or a list".to_owned()),
        (ElementKind::Text, value) => Ok(text(value)),
        (ElementKind::Integer, value) => scaled(value, Some(0)),
    }
}

/// `2026-01-02`, also with more digits or a sign in the year.
fn is_date(text: &str) -> bool {
    let (text, signed) = text.strip_prefix(['-', '+']).map_or((text, false), |rest| (rest, true));
    let mut parts = text.splitn(3, '-');
    let year = parts
        .next()
        .is_some_and(|year| year.len() >= 4 && (signed || year.len() <= 6) && is_digits(year));
    year && is_part(parts.next(), 1..=12) && is_part(parts.next(), 1..=31)
}

/// A date, `T` or a space, a time, and possibly `Z` or an offset.
fn is_timestamp(text: &str) -> bool {
    let Some((date, time)) = text.split_once(['T', ' ']) else {
        return false;
    };
    let (time, zone) = match time.find(['Z', '+', '-']) {
        Some(at) => time.split_at(at),
        None => (time, ""),
    };
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut parts = time.split(':');
    let clock = is_part(parts.next(), 0..=24) && is_part(parts.next(), 0..=59) && is_part(parts.next(), 0..=60);
    is_date(date) && clock && parts.next().is_none() && is_digits(fraction) && is_zone(zone)
}

fn is_zone(zone: &str) -> bool {
    match zone.strip_prefix(['+', '-']) {
        None => matches!(zone, "" | "Z"),
        Some(offset) => {
            let digits: String = offset.chars().filter(|c| *c != ':').collect();
            matches!(digits.len(), 2 | 4) && is_digits(&digits)
        }
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_part(part: Option<&str>, range: std::ops::RangeInclusive<u8>) -> bool {
    part.is_some_and(|part| part.len() == 2 && is_digits(part) && part.parse().is_ok_and(|n| range.contains(&n)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: FieldKind, set: bool, given: &str, wanted: Option<&str>) {
        let outcome = shape(given.parse().unwrap(), kind, set);
        assert_eq!(
            outcome.ok().map(|value| value.to_string()),
            wanted.map(str::to_owned),
            "{kind:?} {given}"
        );
    }

    #[test]
    fn a_value_takes_the_shape_of_its_field_or_is_refused() {
        let money = FieldKind::Number { scale: Some(2) };
        let texts = FieldKind::List(ElementKind::Text);
        check(FieldKind::Text, false, "12.50", Some("\"12.5\""));
        check(FieldKind::Text, false, "true", Some("\"true\""));
        check(FieldKind::Text, false, "[]", None);
        check(money, false, "\" 12.50 \"", Some("12.5"));
        check(money, false, "12.345", None);
        check(money, false, "\"1e9\"", None);
        check(money, false, "\"\"", None);
        check(FieldKind::Number { scale: None }, false, "12.345", Some("12.345"));
        check(FieldKind::Bool, false, "\"true\"", Some("true"));
        check(FieldKind::Bool, false, "1", None);
        check(texts, true, "[\"b\",\"a\",\"b\"]", Some("[\"a\",\"b\"]"));
        check(texts, false, "[\"b\",\"a\",\"b\"]", Some("[\"b\",\"a\",\"b\"]"));
        check(texts, true, "null", Some("[]"));
        check(texts, false, "null", Some("null"));
        check(texts, true, "\"a\"", None);
        check(
            FieldKind::List(ElementKind::Integer),
            true,
            "[\"10\",9]",
            Some("[9,10]"),
        );
        check(FieldKind::List(ElementKind::Integer), true, "[1.5]", None);
    }

    #[test]
    fn dates_and_times_are_told_from_other_texts() {
        for text in ["2026-01-02", "12026-01-02", "-0044-03-15"] {
            assert!(is_date(text), "{text}");
        }
        for text in ["2026-1-2", "2026-13-01", "2026-01-02T", "", "soon", "é026-01-02"] {
            assert!(!is_date(text), "{text}");
        }
        for text in [
            "2026-01-02T03:04:05Z",
            "2026-01-02T03:04:05.123456",
            "2026-01-02 03:04:05.1+01:00",
        ] {
            assert!(is_timestamp(text), "{text}");
        }
        for text in [
            "2026-01-02",
            "2026-01-02T25:00:00",
            "2026-01-02T03:04",
            "2026-01-02T03:04:05X",
            "T",
        ] {
            assert!(!is_timestamp(text), "{text}");
        }
    }
}
