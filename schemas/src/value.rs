//! `Value`: what a field holds, in the one form in which apps are compared.
//!
//! 4000 pence, `40.00` and `40` must be equal after mapping, so there is one number kind, an exact decimal without
//! trailing zeros; floats enter it by their shortest text. Times and bytes are texts in one spelling (RFC 3339 in UTC with
//! as many fraction digits as are needed; `\x` and hex digits). As text a `Value` is JSON with numbers of any length.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

mod number;

pub use number::Number;

/// Lists in lists that a value may be made of. Whoever keeps a value reads as many: what is read here is never refused later,
/// where it would hold up everything behind it. (No field of any entity has lists in its lists.)
pub const NESTING_MAX: usize = 64;

/// What a value nested deeper is none of.
pub const NESTED: &str = "value of at most 64 lists in each other";

/// A text that cannot be read as what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no {1}")]
pub struct ValueError(pub String, pub &'static str);

/// What a field holds. Serialised, it is its JSON text.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Value {
    /// Known to be empty; an unknown value is the absence of a `Value`.
    #[default]
    Null,
    /// True or false.
    Bool(bool),
    /// Any number.
    Number(Number),
    /// Text, and every kind that has no other: times, UUIDs, JSON, bytes.
    Text(String),
    /// Several values; a set is a sorted list without repetitions.
    List(Vec<Value>),
}

impl Value {
    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Value::Text(text.into())
    }

    /// A number.
    pub fn number(number: impl Into<Number>) -> Self {
        Value::Number(number.into())
    }

    /// A set: sorted, each element once.
    pub fn set(elements: impl IntoIterator<Item = Value>) -> Self {
        let mut elements: Vec<Value> = elements.into_iter().collect();
        elements.sort();
        elements.dedup();
        Value::List(elements)
    }

    /// Whether it is `Null`.
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// Appends its JSON text.
    pub(crate) fn write_json(&self, out: &mut String) {
        let _ = write!(out, "{self}");
    }

    /// A value whose text needs no reader of JSON: almost every one.
    fn plain(text: &str) -> Option<Self> {
        let is_plain = |byte: &u8| *byte >= b' ' && !matches!(byte, b'"' | b'\\');
        Some(match text.as_bytes() {
            b"null" => Value::Null,
            b"true" => Value::Bool(true),
            b"false" => Value::Bool(false),
            [b'"', inner @ .., b'"'] if inner.iter().all(is_plain) => Value::text(&text[1..text.len() - 1]),
            [b'-' | b'0'..=b'9', ..] => Value::Number(plain_number(text)?),
            _ => return None,
        })
    }

    fn from_json(json: serde_json::Value) -> Result<Self, ValueError> {
        Ok(match json {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(value) => Value::Bool(value),
            serde_json::Value::Number(number) => Value::Number(number.to_string().parse()?),
            serde_json::Value::String(text) => Value::Text(text),
            serde_json::Value::Array(elements) => {
                Value::List(elements.into_iter().map(Value::from_json).collect::<Result<_, _>>()?)
            }
            serde_json::Value::Object(_) => return Err(ValueError(json.to_string(), "value")),
        })
    }
}

/// How many lists stand in each other at most in a text that is JSON.
fn nesting(json: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_text, mut is_escaped) = (false, false);
    for byte in json.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = in_text,
            b'"' => in_text = !in_text,
            b'[' if !in_text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// A number as JSON has it, of digits alone with a point among them or none.
fn plain_number(text: &str) -> Option<Number> {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
    let are_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let is_json = are_digits(whole) && are_digits(fraction) && (whole == "0" || !whole.starts_with('0'));
    text.parse().ok().filter(|_| is_json)
}

/// A text with its quotes, escaped as serde_json does.
fn write_text(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_char('"')?;
    let mut written = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escaped = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0x08 => "\\b",
            0x0C => "\\f",
            0..b' ' => "",
            _ => continue,
        };
        f.write_str(&text[written..at])?;
        if escaped.is_empty() {
            write!(f, "\\u{byte:04x}")?;
        } else {
            f.write_str(escaped)?;
        }
        written = at + 1;
    }
    f.write_str(&text[written..])?;
    f.write_char('"')
}

/// Its JSON text; the same for equal values.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => f.write_str("null"),
            Value::Bool(value) => f.write_str(if *value { "true" } else { "false" }),
            Value::Number(number) => fmt::Display::fmt(number, f),
            Value::Text(text) => write_text(text, f),
            Value::List(elements) => {
                f.write_char('[')?;
                for (index, element) in elements.iter().enumerate() {
                    if index > 0 {
                        f.write_char(',')?;
                    }
                    fmt::Display::fmt(element, f)?;
                }
                f.write_char(']')
            }
        }
    }
}

impl From<Value> for String {
    fn from(value: Value) -> String {
        value.to_string()
    }
}

impl FromStr for Value {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if let Some(plain) = Value::plain(text) {
            return Ok(plain);
        }
        if text.trim_start().starts_with('[') && nesting(text) > NESTING_MAX {
            return Err(ValueError(text.to_owned(), NESTED));
        }
        let json = serde_json::from_str(text).map_err(|_| ValueError(text.to_owned(), "JSON value"))?;
        Value::from_json(json)
    }
}

impl TryFrom<String> for Value {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        text.parse()
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Value::Number(number.into())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Text(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_value_reads_what_it_writes() {
        let long = "123456789012345678901234567890.000000001";
        for text in [
            "null",
            "true",
            long,
            "\"a\\\"b\\u0000\"",
            "[\"a\",1.5,null]",
            "\"\u{1F600}\"",
        ] {
            let value: Value = text.parse().unwrap();
            assert_eq!(value.to_string().parse::<Value>().unwrap(), value, "{text}");
        }
        assert_eq!(long.parse::<Value>().unwrap().to_string(), long);
        assert!("{\"a\":1}".parse::<Value>().is_err());
    }

    #[test]
    fn what_is_no_json_is_no_value() {
        for text in [
            "", "\"", "+1", "01", "-", "-01", "1.", ".5", "1.2.3", "1_0", "\"a\nb\"", "\"a\"b\"", "nul", "--1", "1-",
            "0x1", "٣",
        ] {
            assert!(text.parse::<Value>().is_err(), "{text}");
            assert!(serde_json::from_str::<serde_json::Value>(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn texts_and_numbers_are_read_and_written_as_json_has_them(
            text: String,
            plain in "[a-c\"\\\\/\u{1}\u{8}\u{1f}\u{7f}é]{0,9}",
            number in "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,25})?([eE][+-]?[0-9])?",
        ) {
            for text in [text, plain] {
                let json = serde_json::Value::from(text.as_str()).to_string();
                prop_assert_eq!(Value::text(text.as_str()).to_string(), json.clone());
                prop_assert_eq!(json.parse::<Value>().unwrap(), Value::Text(text));
            }
            let json: serde_json::Value = serde_json::from_str(&number).unwrap();
            prop_assert_eq!(number.parse::<Value>().unwrap(), Value::from_json(json).unwrap());
        }
    }

    #[test]
    fn lists_in_lists_have_an_end_that_is_told() {
        assert!(NESTED.contains(&format!(" {NESTING_MAX} ")));
        let lists = |depth: usize| format!(" {}\"a\\\"[[[\"{}", "[".repeat(depth), "]".repeat(depth));
        assert!(lists(NESTING_MAX).parse::<Value>().is_ok());
        for depth in [NESTING_MAX + 1, 127, 100_000] {
            let refused = lists(depth).parse::<Value>().unwrap_err();
            assert_eq!(refused.1, NESTED, "{depth}");
        }
        let beside = format!("[{}]", vec!["[]"; 2 * NESTING_MAX].join(","));
        assert!(beside.parse::<Value>().is_ok(), "beside each other");
    }

    #[test]
    fn a_set_has_one_spelling() {
        assert_eq!(
            Value::set(["b".into(), "a".into(), "b".into()]),
            Value::set(["a".into(), "b".into()])
        );
    }
}
