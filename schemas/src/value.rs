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
        match self {
            Value::Null => out.push_str("null"),
            Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Value::Number(number) => {
                let _ = write!(out, "{number}");
            }
            Value::Text(text) => out.push_str(&serde_json::Value::from(text.as_str()).to_string()),
            Value::List(elements) => {
                out.push('[');
                for (index, element) in elements.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    element.write_json(out);
                }
                out.push(']');
            }
        }
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

/// Its JSON text; the same for equal values.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        self.write_json(&mut out);
        f.write_str(&out)
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
    fn a_set_has_one_spelling() {
        assert_eq!(
            Value::set(["b".into(), "a".into(), "b".into()]),
            Value::set(["a".into(), "b".into()])
        );
    }
}
