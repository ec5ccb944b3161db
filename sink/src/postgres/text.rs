//! Between PostgreSQL's text form of a value and ours. Pure.
//!
//! Rows are read as one composite text each, because that is made by the output functions of the column types, the same
//! that logical decoding uses. A cast to text is not: it strips blanks from `char(n)` and adds `/32` to an address, and a
//! row would then seem to differ from what its own app said.

use std::borrow::Cow;

use syncline_schemas::cells::Spelt;
use syncline_schemas::value::Value;

use super::interval;

/// How a type's text is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `t` or `f`.
    Bool,
    /// Integers, numerics and floats.
    Number,
    /// `date`.
    Date,
    /// `timestamp`.
    Timestamp,
    /// `timestamptz`, written in UTC by our session.
    TimestampTz,
    /// `timetz`.
    TimeTz,
    /// `interval`, in topics a number of microseconds.
    Interval,
    /// An array of some kind.
    Array(Box<Kind>),
    /// Everything else is its own text.
    Text,
}

impl Kind {
    /// The kind of a base type by its name in `pg_type`.
    pub fn of(type_name: &str) -> Self {
        match type_name {
            "bool" => Kind::Bool,
            "int2" | "int4" | "int8" | "oid" | "float4" | "float8" | "numeric" => Kind::Number,
            "date" => Kind::Date,
            "timestamp" => Kind::Timestamp,
            "timestamptz" => Kind::TimestampTz,
            "timetz" => Kind::TimeTz,
            "interval" => Kind::Interval,
            _ => Kind::Text,
        }
    }

    /// The value behind a text; none is SQL NULL.
    pub fn read(&self, text: Option<&str>) -> Value {
        let Some(text) = text else { return Value::Null };
        match self {
            Kind::Bool => Value::Bool(text == "t" || text == "true"),
            Kind::Number => text.parse().map_or_else(|_| Value::text(text), Value::Number),
            Kind::Date => Value::Text(signed_year(text)),
            Kind::Timestamp => Value::Text(signed_year(text).replacen(' ', "T", 1)),
            Kind::TimestampTz => Value::Text(utc(&signed_year(text).replacen(' ', "T", 1))),
            Kind::TimeTz => Value::Text(utc(text)),
            Kind::Interval => interval::microseconds(text).map_or_else(|| Value::text(text), Value::from),
            Kind::Array(element) => array(text, element).unwrap_or_else(|| Value::text(text)),
            Kind::Text => Value::text(text),
        }
    }

    /// The text that PostgreSQL reads as `value`; none is SQL NULL.
    pub fn write(&self, value: &Value) -> Option<String> {
        match (self, value) {
            (_, Value::Null) => None,
            (_, Value::Bool(value)) => Some(value.to_string()),
            (Kind::Interval, Value::Number(count)) => Some(interval::text(count)),
            (_, Value::Number(number)) => Some(number.to_string()),
            (Kind::Date | Kind::Timestamp | Kind::TimestampTz, Value::Text(text)) => Some(year_of_an_era(text)),
            (_, Value::Text(text)) => Some(text.clone()),
            (Kind::Array(element), Value::List(values)) => Some(array_text(values, element)),
            (_, Value::List(_)) => Some(value.to_string()),
        }
    }

    /// The same of a value that is spelt: nearly always the very bytes.
    pub fn respell<'a>(&self, cell: Spelt<'a>) -> Option<Cow<'a, [u8]>> {
        let other = match (self, cell) {
            (_, Spelt::Null | Spelt::Unchanged) => return None,
            (Kind::Interval, Spelt::Number(text)) => parsed(text),
            (Kind::Date | Kind::Timestamp | Kind::TimestampTz, Spelt::Text(text)) if is_of_an_era(text) => {
                std::str::from_utf8(text).ok().map(Value::text)
            }
            (Kind::Array(_), Spelt::List(text)) => parsed(text),
            _ => None,
        };
        let (Spelt::Text(text) | Spelt::Number(text) | Spelt::List(text)) = cell else {
            return None;
        };
        let rewritten = other.and_then(|value| self.write(&value));
        Some(rewritten.map_or(Cow::Borrowed(text), |text| Cow::Owned(text.into_bytes())))
    }
}

fn parsed(json: &[u8]) -> Option<Value> {
    std::str::from_utf8(json).ok()?.parse().ok()
}

/// Whether a date may be one that [`year_of_an_era`] spells otherwise.
fn is_of_an_era(text: &[u8]) -> bool {
    matches!(text, [b'+' | b'-', ..] | [b'0', b'0', b'0', b'0', b'-', ..])
}

/// `+00` is written `Z` where values are compared.
fn utc(text: &str) -> String {
    text.strip_suffix("+00")
        .map_or_else(|| text.to_owned(), |local| format!("{local}Z"))
}

/// Years beyond 9999 and before our era as ISO 8601 writes them: with a sign, 44 BC being `-0043`.
fn signed_year(text: &str) -> String {
    let (day, before) = text.strip_suffix(" BC").map_or((text, false), |day| (day, true));
    match day
        .split_once('-')
        .and_then(|(year, rest)| Some((year.parse::<i64>().ok()?, rest)))
    {
        Some((1, rest)) if before => format!("0000-{rest}"),
        Some((year, rest)) if before => format!("-{:04}-{rest}", year - 1),
        Some((year, rest)) if year > 9999 => format!("+{year}-{rest}"),
        _ => text.to_owned(),
    }
}

/// The same years as PostgreSQL writes them.
fn year_of_an_era(text: &str) -> String {
    let before = |text: &str| {
        let (year, rest) = text.split_once('-')?;
        Some(format!("{:04}-{rest} BC", year.parse::<u32>().ok()?.checked_add(1)?))
    };
    let far = match text.as_bytes().first() {
        Some(b'+') => Some(text[1..].to_owned()),
        Some(b'-') => before(&text[1..]),
        Some(_) if text.starts_with("0000-") => before(text),
        _ => None,
    };
    far.unwrap_or_else(|| text.to_owned())
}

fn array(text: &str, element: &Kind) -> Option<Value> {
    // Bounds other than 1, as in `[0:1]={a,b}`, are no part of the value.
    let text = if text.starts_with('[') {
        text.split_once('=')?.1
    } else {
        text
    };
    let mut chars = text.chars().peekable();
    let value = list(&mut chars, element)?;
    chars.next().is_none().then_some(value)
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

fn list(chars: &mut Chars<'_>, element: &Kind) -> Option<Value> {
    if chars.next()? != '{' {
        return None;
    }
    let mut values = Vec::new();
    if chars.peek() == Some(&'}') {
        chars.next();
        return Some(Value::List(values));
    }
    loop {
        values.push(match chars.peek()? {
            '{' => list(chars, element)?,
            _ => match item(chars, &[',', '}'])? {
                (text, false) if text.eq_ignore_ascii_case("null") => Value::Null,
                (text, _) => element.read(Some(&text)),
            },
        });
        match chars.next()? {
            ',' => {}
            '}' => return Some(Value::List(values)),
            _ => return None,
        }
    }
}

/// One item up to one of `ends`, and whether it was quoted.
fn item(chars: &mut Chars<'_>, ends: &[char]) -> Option<(String, bool)> {
    let (mut text, mut quoted, mut inside) = (String::new(), false, false);
    loop {
        let &next = chars.peek()?;
        if !inside && ends.contains(&next) {
            return Some((text, quoted));
        }
        chars.next();
        match next {
            '\\' => text.push(chars.next()?),
            '"' if inside && chars.peek() == Some(&'"') => {
                chars.next();
                text.push('"');
            }
            '"' => {
                inside = !inside;
                quoted = true;
            }
            other => text.push(other),
        }
    }
}

fn array_text(values: &[Value], element: &Kind) -> String {
    let items: Vec<String> = values
        .iter()
        .map(|value| match value {
            Value::List(inner) => array_text(inner, element),
            _ => element
                .write(value)
                .map_or_else(|| "NULL".to_owned(), |text| quoted(&text)),
        })
        .collect();
    format!("{{{}}}", items.join(","))
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The columns of a row in its composite text form, `(1,"a b",)`; an empty item is NULL.
pub fn columns(composite: &str) -> Option<Vec<Option<String>>> {
    let mut chars = composite.chars().peekable();
    if chars.next()? != '(' {
        return None;
    }
    let mut columns = Vec::new();
    loop {
        let (text, quoted) = item(&mut chars, &[',', ')'])?;
        columns.push((quoted || !text.is_empty()).then_some(text));
        if chars.next()? == ')' {
            return chars.next().is_none().then_some(columns);
        }
    }
}

/// Rows of cells into one array for each column.
pub fn transposed(rows: Vec<Vec<Option<String>>>, columns: usize) -> Vec<Vec<Option<String>>> {
    let mut arrays: Vec<Vec<Option<String>>> = (0..columns).map(|_| Vec::with_capacity(rows.len())).collect();
    for row in rows {
        for (array, cell) in arrays.iter_mut().zip(row) {
            array.push(cell);
        }
    }
    arrays
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts() -> Kind {
        Kind::Array(Box::new(Kind::Text))
    }

    #[test]
    fn a_row_is_read_as_its_columns() {
        let row = columns(r#"(7,"a ""b"" \\ , (c)",,"","{1,2}")"#).unwrap();
        let expected = [Some("7"), Some(r#"a "b" \ , (c)"#), None, Some(""), Some("{1,2}")];
        assert_eq!(row.iter().map(Option::as_deref).collect::<Vec<_>>(), expected);
        assert_eq!(columns("()").unwrap(), [None]);
        assert!(columns("(a").is_none() && columns("a)").is_none() && columns("(a)b").is_none());
    }

    #[test]
    fn times_are_spelt_as_in_topics() {
        let read = |kind: Kind, text| kind.read(Some(text)).to_string();
        assert_eq!(
            read(Kind::Timestamp, "2026-01-02 03:04:05.12"),
            r#""2026-01-02T03:04:05.12""#
        );
        assert_eq!(
            read(Kind::TimestampTz, "2026-01-02 03:04:05+00"),
            r#""2026-01-02T03:04:05Z""#
        );
        assert_eq!(read(Kind::TimeTz, "03:04:05+00"), r#""03:04:05Z""#);
    }

    #[test]
    fn years_of_any_era_read_what_they_write() {
        for (kind, postgres, topic) in [
            (Kind::Date, "0044-03-15 BC", "-0043-03-15"),
            (Kind::Date, "0001-03-15 BC", "0000-03-15"),
            (Kind::Date, "12345-01-01", "+12345-01-01"),
            (Kind::Date, "-infinity", "-infinity"),
            (Kind::Date, "2026-01-02", "2026-01-02"),
        ] {
            assert_eq!(kind.read(Some(postgres)), Value::text(topic));
            assert_eq!(kind.write(&Value::text(topic)).as_deref(), Some(postgres));
        }
        for (kind, postgres, topic) in [
            (Kind::Timestamp, "0044-03-15 01:02:03.5 BC", "-0043-03-15T01:02:03.5"),
            (Kind::TimestampTz, "0044-03-15 01:02:03+00 BC", "-0043-03-15T01:02:03Z"),
            (Kind::TimestampTz, "12345-03-15 01:02:03+00", "+12345-03-15T01:02:03Z"),
        ] {
            assert_eq!(kind.read(Some(postgres)), Value::text(topic));
        }
    }

    #[test]
    fn arrays_keep_nulls_apart_from_the_word() {
        let value = texts().read(Some(r#"{a,NULL,"NULL","x,\"y\"",""}"#));
        assert_eq!(value.to_string(), r#"["a",null,"NULL","x,\"y\"",""]"#);
        let numbers = Kind::Array(Box::new(Kind::Number)).read(Some("[0:1]={1,2.50}"));
        assert_eq!(numbers.to_string(), "[1,2.5]");
        assert_eq!(
            texts().read(Some("{{a,b},{c,d}}")).to_string(),
            r#"[["a","b"],["c","d"]]"#
        );
        assert_eq!(texts().read(Some("{}")).to_string(), "[]");
    }

    #[test]
    fn what_cannot_be_a_number_stays_text() {
        assert_eq!(Kind::Number.read(Some("NaN")), Value::text("NaN"));
        assert_eq!(Kind::Number.read(Some("1e3")).to_string(), "1000");
    }

    fn kinds() -> impl Strategy<Value = Kind> {
        let single = prop_oneof![
            Just(Kind::Bool),
            Just(Kind::Number),
            Just(Kind::Date),
            Just(Kind::Timestamp),
            Just(Kind::TimestampTz),
            Just(Kind::TimeTz),
            Just(Kind::Interval),
            Just(Kind::Text),
        ];
        (single, any::<bool>()).prop_map(|(kind, is_array)| match is_array {
            true => Kind::Array(Box::new(kind)),
            false => kind,
        })
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::from),
            "-?[0-9]{1,5}\\.[0-9]{1,3}".prop_map(|text| Value::Number(text.parse().unwrap())),
            "[-+]?(0000|0043|12026)-01-02(T03:04:05Z)?".prop_map(Value::Text),
            prop_oneof![Just("infinity"), Just("-infinity"), Just("-"), Just("")].prop_map(Value::text),
            ".{0,6}".prop_map(Value::Text),
        ];
        leaf.prop_recursive(2, 8, 3, |inner| {
            proptest::collection::vec(inner, 0..3).prop_map(Value::List)
        })
    }

    proptest! {
        #[test]
        fn what_is_spelt_is_written_as_its_value(kind in kinds(), value in values()) {
            let mut cells = syncline_schemas::cells::Cells::default();
            cells.value(&value).unwrap();
            let cell = cells.iter().next().unwrap();
            let respelt = kind.respell(cell).map(|text| String::from_utf8(text.into_owned()).unwrap());
            prop_assert_eq!(respelt, kind.write(&value));
        }

        #[test]
        fn an_array_reads_what_it_writes(items in proptest::collection::vec(proptest::option::of(".*"), 0..6)) {
            let value = Value::List(items.iter().map(|i| i.as_ref().map_or(Value::Null, Value::text)).collect());
            let text = texts().write(&value).unwrap();
            prop_assert_eq!(texts().read(Some(&text)), value);
        }

        #[test]
        fn noise_is_no_crash(noise in ".*") {
            let _ = columns(&noise);
            texts().read(Some(&noise));
        }
    }
}
