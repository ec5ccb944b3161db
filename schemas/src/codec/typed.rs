//! Typed Avro to [`Value`] and back, exactly: what would be rounded, cut or guessed is refused with a reason.
//!
//! Reading knows every type that Debezium writes. Writing knows the types that an entity's own schema may use. Records and
//! maps have no counterpart in `Value`; they are read as JSON text and not written.

use std::fmt::Write;

use bigdecimal::BigDecimal;
use bigdecimal::num_bigint::BigInt;

use super::Out;
use super::datum::{Datum, Node};
use super::schema::{Kind, Meaning, Named, ParsedSchema, RecordType, Type, Unit};
use super::time;
use crate::cells::Cells;
use crate::value::{Number, Value};

/// PostgreSQL's numeric has up to 131,072 digits before and 16,383 after the point.
const UNSCALED_BYTES_MAX: usize = 65_536;
const SCALE_MAX: i64 = 150_000;

/// What the node says. The error is a reason without the value.
pub(crate) fn to_value(node: &Node<'_>) -> Result<Value, &'static str> {
    Ok(match &node.datum {
        Datum::Null => Value::Null,
        Datum::Boolean(value) => Value::Bool(*value),
        Datum::Int(count) => whole(i64::from(*count), node.meaning),
        Datum::Long(count) => whole(*count, node.meaning),
        Datum::Float(number) => float(&number.to_string(), number.is_finite())?,
        Datum::Double(number) => float(&number.to_string(), number.is_finite())?,
        Datum::Text(text) if node.meaning == Meaning::ZonedText => Value::Text(time::zoned_text(text)),
        Datum::Text(text) => Value::text(*text),
        Datum::Bytes(bytes) => bytes_value(bytes, node.meaning)?,
        Datum::Array(items) => Value::List(items.iter().map(to_value).collect::<Result<_, _>>()?),
        Datum::Record(record, fields) if record.name == "io.debezium.data.VariableScaleDecimal" => {
            variable_decimal(record, fields)?
        }
        Datum::Record(..) | Datum::Map(_) => Value::Text(json_text(node)?),
    })
}

/// Appends what the node says to the cells of a row, as [`to_value`] says it. Texts, which are most of a row, and numbers of a
/// machine word are written where they stay; the rest is made a value first.
pub(crate) fn spell(node: &Node<'_>, cells: &mut Cells) -> Result<(), &'static str> {
    match &node.datum {
        Datum::Text(text) if node.meaning == Meaning::ZonedText => {
            let (kept, zone) = time::zoned_parts(text);
            cells.text(&[kept, zone])
        }
        Datum::Text(text) => cells.text(&[text]),
        _ => cells.value(&to_value(node)?),
    }
}

pub(super) fn whole(count: i64, meaning: Meaning) -> Value {
    match meaning {
        // Days beyond what an int counts are no date that anybody wrote.
        Meaning::Date if i32::try_from(count).is_ok() => Value::Text(time::date_text(count)),
        Meaning::Time(unit) => Value::Text(time::time_text(count, unit)),
        Meaning::Timestamp(unit) => Value::Text(time::timestamp_text(count, unit, "")),
        Meaning::Instant(unit) => Value::Text(time::timestamp_text(count, unit, "Z")),
        _ => Value::from(count),
    }
}

/// By the shortest text that reads back as the same float, as `0.1` for the float nearest to it.
fn float(text: &str, finite: bool) -> Result<Value, &'static str> {
    if finite {
        return text.parse().map(Value::Number).map_err(|_| "a float that is no number");
    }
    Ok(Value::text(match text {
        "inf" => "Infinity",
        "-inf" => "-Infinity",
        _ => "NaN",
    }))
}

fn bytes_value(bytes: &[u8], meaning: Meaning) -> Result<Value, &'static str> {
    Ok(match meaning {
        Meaning::Decimal { scale, .. } => decimal(bytes, i64::from(scale))?,
        Meaning::Bits(length) => Value::Text(bits_text(bytes, length)),
        _ => Value::Text(hex_text(bytes)),
    })
}

/// Larger than any `numeric`, and small enough that its text is soon written.
fn decimal(unscaled: &[u8], scale: i64) -> Result<Value, &'static str> {
    if unscaled.len() > UNSCALED_BYTES_MAX || scale.abs() > SCALE_MAX {
        return Err("a decimal beyond what any database holds");
    }
    if let Some(digits) = word(unscaled) {
        return Ok(Value::Number(Number::from(digits).shift(-scale)));
    }
    let decimal = BigDecimal::new(BigInt::from_signed_bytes_be(unscaled), scale);
    Ok(Value::Number(Number::from(decimal)))
}

/// The number that the bytes are, if it fits a machine word.
fn word(big_endian: &[u8]) -> Option<i64> {
    let sign = if *big_endian.first()? < 0x80 { 0 } else { u8::MAX };
    let mut word = [sign; size_of::<i64>()];
    let start = word.len().checked_sub(big_endian.len())?;
    word[start..].copy_from_slice(big_endian);
    Some(i64::from_be_bytes(word))
}

fn variable_decimal(record: &RecordType, fields: &[Node<'_>]) -> Result<Value, &'static str> {
    let field = |name| record.index(name).map(|index| &fields[index].datum);
    match (field("scale"), field("value")) {
        (Some(Datum::Int(scale)), Some(Datum::Bytes(unscaled))) => decimal(unscaled, i64::from(*scale)),
        _ => Err("a VariableScaleDecimal without scale and value"),
    }
}

/// As PostgreSQL writes bytea.
fn hex_text(bytes: &[u8]) -> String {
    bytes.iter().fold("\\x".to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// As PostgreSQL writes bit strings. A `varbit` has lost its leading zeros on the way.
fn bits_text(little_endian: &[u8], length: Option<usize>) -> String {
    let bits: String = little_endian.iter().rev().map(|byte| format!("{byte:08b}")).collect();
    let digits = bits.trim_start_matches('0');
    format!("{digits:0>width$}", width = length.unwrap_or(0))
}

/// A record or map as JSON text, its fields in their order.
pub(super) fn json_text(node: &Node<'_>) -> Result<String, &'static str> {
    let members = |members: Vec<(&str, &Node<'_>)>| {
        let members: Result<Vec<String>, _> = members
            .into_iter()
            .map(|(name, node)| {
                Ok::<_, &'static str>(format!("{}:{}", serde_json::Value::from(name), json_text(node)?))
            })
            .collect();
        Ok::<_, &'static str>(format!("{{{}}}", members?.join(",")))
    };
    match &node.datum {
        Datum::Record(record, fields) if record.name != "io.debezium.data.VariableScaleDecimal" => members(
            record
                .fields
                .iter()
                .map(|(name, _)| name.as_str())
                .zip(fields)
                .collect(),
        ),
        Datum::Map(entries) => members(entries.iter().map(|(name, node)| (*name, node)).collect()),
        Datum::Array(items) => {
            let items: Result<Vec<String>, _> = items.iter().map(json_text).collect();
            Ok(format!("[{}]", items?.join(",")))
        }
        _ => Ok(to_value(node)?.to_string()),
    }
}

/// Writes `value` as `kind`, or says why that would not be exact.
pub(crate) fn write(schema: &ParsedSchema, kind: &Type, value: &Value, out: &mut Out<'_>) -> Result<(), String> {
    match (&kind.kind, value) {
        (Kind::Null, Value::Null) => {}
        (Kind::Boolean, Value::Bool(value)) => out.boolean(*value),
        (Kind::Int, value) => out.long(i64::from(
            i32::try_from(count(value, kind.meaning)?).map_err(|_| "is no 32-bit integer")?,
        )),
        (Kind::Long, value) => out.long(count(value, kind.meaning)?),
        (Kind::Float, value) => out.0.extend_from_slice(&parse_float::<f32>(value)?.to_le_bytes()),
        (Kind::Double, value) => out.0.extend_from_slice(&parse_float::<f64>(value)?.to_le_bytes()),
        (Kind::Text, Value::Text(text)) => out.text(text),
        (Kind::Bytes, value) => out.bytes(&parse_bytes(value, kind.meaning)?),
        (Kind::Array(items), Value::List(values)) => write_list(schema, items, values, out)?,
        (Kind::Union(branches), value) => write_branch(schema, branches, value, out)?,
        (Kind::Named(index), value) => write_named(schema.named(*index), value, out)?,
        _ => return Err(format!("holds {}, its schema says otherwise", kind_of(value))),
    }
    Ok(())
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::Text(_) => "a text",
        Value::List(_) => "a list",
    }
}

fn write_list(schema: &ParsedSchema, items: &Type, values: &[Value], out: &mut Out<'_>) -> Result<(), String> {
    let mut written = Ok(());
    out.array(values, |out, value| {
        if written.is_ok() {
            written = write(schema, items, value, out);
        }
    });
    written
}

/// The first branch that can hold it. A branch that fails half-way is taken back.
fn write_branch(schema: &ParsedSchema, branches: &[Type], value: &Value, out: &mut Out<'_>) -> Result<(), String> {
    let start = out.0.len();
    let mut reason = format!("holds {}, its schema says otherwise", kind_of(value));
    for (index, branch) in branches.iter().enumerate() {
        out.branch(index);
        match write(schema, branch, value, out) {
            Ok(()) => return Ok(()),
            Err(why) => {
                out.0.truncate(start);
                if !matches!(branch.kind, Kind::Null) {
                    reason = why;
                }
            }
        }
    }
    Err(reason)
}

fn write_named(named: &Named, value: &Value, out: &mut Out<'_>) -> Result<(), String> {
    match (named, value) {
        (Named::Enum(symbols), Value::Text(text)) => {
            out.branch(
                symbols
                    .iter()
                    .position(|symbol| symbol == text)
                    .ok_or("is no symbol of its enum")?,
            );
        }
        (Named::Fixed(size, Meaning::Decimal { scale, precision }), Value::Number(number)) => {
            out.0
                .extend_from_slice(&sign_extended(&unscaled(number, *scale, *precision)?, *size)?);
        }
        (Named::Fixed(size, _), value) => {
            let bytes = parse_bytes(value, Meaning::Plain)?;
            if bytes.len() != *size {
                return Err(format!("has not {size} bytes"));
            }
            out.0.extend_from_slice(&bytes);
        }
        _ => return Err(format!("holds {}, its schema says otherwise", kind_of(value))),
    }
    Ok(())
}

fn count(value: &Value, meaning: Meaning) -> Result<i64, String> {
    let timestamp = |text: &str, unit: Unit, suffix| {
        time::parse_timestamp(text, unit, suffix).ok_or("is no timestamp that its unit can hold")
    };
    match (meaning, value) {
        (Meaning::Date, Value::Text(text)) => Ok(time::parse_date(text).ok_or("is no date")?),
        (Meaning::Time(unit), Value::Text(text)) => {
            Ok(time::parse_time(text, unit).ok_or("is no time of day that its unit can hold")?)
        }
        (Meaning::Timestamp(unit), Value::Text(text)) => Ok(timestamp(text, unit, "")?),
        (Meaning::Instant(unit), Value::Text(text)) => Ok(timestamp(text, unit, "Z")?),
        (Meaning::Plain, Value::Number(number)) if number.is_integer() => {
            Ok(number.to_string().parse().map_err(|_| "is no 64-bit integer")?)
        }
        (Meaning::Plain, Value::Number(_)) => Err("is no integer".to_owned()),
        _ => Err(format!("holds {}, its schema says otherwise", kind_of(value))),
    }
}

trait Float: std::str::FromStr + ToString + Copy {
    fn text(text: &str) -> Option<Self>;
}

impl Float for f32 {
    fn text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Float for f64 {
    fn text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

/// The float whose shortest text is this number.
fn parse_float<F: Float>(value: &Value) -> Result<F, String> {
    match value {
        Value::Number(number) => {
            let float = F::text(&number.to_string()).ok_or("is no float")?;
            let exact = float.to_string().parse::<Number>().is_ok_and(|back| back == *number);
            if exact {
                Ok(float)
            } else {
                Err("has more digits than a float holds".to_owned())
            }
        }
        Value::Text(text) if matches!(text.as_str(), "NaN" | "Infinity" | "-Infinity") => {
            Ok(F::text(text).ok_or("is no float")?)
        }
        _ => Err(format!("holds {}, its schema says otherwise", kind_of(value))),
    }
}

fn parse_bytes(value: &Value, meaning: Meaning) -> Result<Vec<u8>, String> {
    match (meaning, value) {
        (Meaning::Decimal { scale, precision }, Value::Number(number)) => unscaled(number, scale, precision),
        (Meaning::Plain, Value::Text(text)) => Ok(parse_hex(text).ok_or("is no bytes (\\x and hex digits)")?),
        _ => Err(format!("holds {}, its schema says otherwise", kind_of(value))),
    }
}

fn unscaled(number: &Number, scale: u32, precision: u32) -> Result<Vec<u8>, String> {
    let shifted = number.shift(i64::from(scale));
    if !shifted.is_integer() {
        return Err(format!("has more than {scale} digits after the point"));
    }
    let (digits, _) = shifted.to_decimal().with_scale(0).into_bigint_and_exponent();
    if digits.magnitude().to_string().len() > precision as usize {
        return Err(format!("has more than {precision} digits"));
    }
    Ok(digits.to_signed_bytes_be())
}

fn sign_extended(bytes: &[u8], size: usize) -> Result<Vec<u8>, String> {
    let missing = size
        .checked_sub(bytes.len())
        .ok_or_else(|| format!("does not fit into {size} bytes"))?;
    let sign = if bytes.first().is_some_and(|byte| byte & 0x80 != 0) {
        0xFF
    } else {
        0
    };
    Ok([vec![sign; missing], bytes.to_vec()].concat())
}

fn parse_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("\\x")?;
    if digits.len() % 2 != 0 || !digits.is_ascii() {
        return None;
    }
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(schema: &str, value: &Value) -> Result<Value, String> {
        let schema = ParsedSchema::parse(schema).unwrap();
        let mut bytes = Vec::new();
        write(&schema, &schema.root, value, &mut Out(&mut bytes))?;
        Ok(to_value(&schema.read(&bytes).unwrap()).unwrap())
    }

    #[test]
    fn exact_values_survive() {
        for (schema, value) in [
            (r#""string""#, Value::from("Ana")),
            (r#""int""#, Value::from(-7)),
            (r#""double""#, "0.1".parse().unwrap()),
            (r#""float""#, "0.1".parse().unwrap()),
            (r#""double""#, Value::from("NaN")),
            (r#""boolean""#, Value::Bool(true)),
            (
                r#"{"type":"bytes","logicalType":"decimal","precision":12,"scale":2}"#,
                "-1234567890.5".parse().unwrap(),
            ),
            (
                r#"{"type":"fixed","name":"F","size":8,"logicalType":"decimal","precision":18,"scale":3}"#,
                "-0.005".parse().unwrap(),
            ),
            (
                r#"{"type":"array","items":"string"}"#,
                Value::set(["b".into(), "a".into()]),
            ),
            (
                r#"{"type":"array","items":["null","long"]}"#,
                "[1,null]".parse().unwrap(),
            ),
            (
                r#"["null",{"type":"int","logicalType":"date"}]"#,
                Value::from("2026-01-02"),
            ),
            (
                r#"{"type":"long","logicalType":"timestamp-micros"}"#,
                Value::from("2026-01-02T03:04:05.000001Z"),
            ),
            (r#"{"type":"enum","name":"E","symbols":["A","B"]}"#, Value::from("B")),
            (r#""bytes""#, Value::from("\\x00ff")),
            (r#"["null","string"]"#, Value::Null),
            (r#"["null","string","long"]"#, Value::from(5)),
        ] {
            assert_eq!(round_trip(schema, &value), Ok(value), "{schema}");
        }
    }

    #[test]
    fn what_would_not_be_exact_is_refused() {
        let decimal = r#"{"type":"bytes","logicalType":"decimal","precision":4,"scale":2}"#;
        for (schema, value) in [
            (r#""int""#, "2147483648"),
            (r#""long""#, "1.5"),
            (r#""double""#, "0.1234567890123456789"),
            (decimal, "0.001"),
            (decimal, "123.45"),
            (r#""string""#, "5"),
            (r#""string""#, "null"),
            (
                r#"{"type":"long","logicalType":"timestamp-millis"}"#,
                "\"2026-01-02T03:04:05.000001Z\"",
            ),
            (r#"{"type":"enum","name":"E","symbols":["A"]}"#, "\"C\""),
            (r#"["null",{"type":"array","items":"int"}]"#, "[1,\"a\"]"),
        ] {
            assert!(round_trip(schema, &value.parse().unwrap()).is_err(), "{schema} {value}");
        }
    }

    #[test]
    fn a_number_beyond_all_databases_is_refused_before_its_digits_are_written() {
        let variable = ParsedSchema::parse(
            r#"{"type":"record","name":"VariableScaleDecimal","namespace":"io.debezium.data","fields":[
                {"name":"scale","type":"int"},{"name":"value","type":"bytes"}]}"#,
        )
        .unwrap();
        let value = |scale: i64| {
            let mut bytes = Vec::new();
            Out(&mut bytes).long(scale);
            Out(&mut bytes).bytes(&[1]);
            to_value(&variable.read(&bytes).unwrap()).ok()
        };
        assert_eq!(value(-2), Some(Value::from(100)));
        assert_eq!(value(-2_000_000_000), None);
        assert!(decimal(&vec![1; UNSCALED_BYTES_MAX + 1], 0).is_err());
    }

    #[test]
    fn counts_beyond_all_calendars_are_read_too() {
        for count in [i64::MIN, i64::MAX] {
            for meaning in [
                Meaning::Date,
                Meaning::Time(Unit::Milli),
                Meaning::Timestamp(Unit::Milli),
                Meaning::Instant(Unit::Nano),
            ] {
                assert!(!whole(count, meaning).is_null(), "{meaning:?}");
            }
        }
    }

    #[test]
    fn bits_are_little_endian() {
        assert_eq!(bits_text(&[0b101], Some(3)), "101");
        assert_eq!(bits_text(&[], Some(3)), "000");
        assert_eq!(bits_text(&[1, 1], None), "100000001");
    }
}
