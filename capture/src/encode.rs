//! One cell: from PostgreSQL's text to Avro bytes, without a tree of values in between.
//!
//! Byte for byte what apache-avro writes for the schema of `avro_schema` (`tests/encoding.rs` holds them equal). Three
//! departures from Debezium, all to lose nothing: NULL in a column with a default stays NULL, a date BC stays BC, and
//! fractions of an interval are exact. It must not know rows, envelopes or tables.

use crate::avro;
use crate::text::nested::{self, Element};
use crate::text::number::{self, Unscaled};
use crate::text::{Unfit, time};
use crate::types::{Kind, Name};

/// What Debezium writes for a large value that the log does not hold.
pub const UNAVAILABLE: &str = "__debezium_unavailable_value";
/// The same as a UUID: version 3 of its MD5, as Java's `nameUUIDFromBytes` makes it.
const UNAVAILABLE_UUID: &str = "b68a35a7-17ad-35b3-af2a-ae46edb4545a";

/// Whether a value came out, or something that the kind can only say as null (numeric NaN).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// The bytes of a value were appended.
    Value,
    /// Nothing was appended: the value is written as null.
    Null,
}

/// Appends the value whose text form is `cell`.
pub fn cell(kind: &Kind, cell: &[u8], out: &mut Vec<u8>) -> Result<Written, Unfit> {
    let text = std::str::from_utf8(cell).map_err(|_| Unfit("UTF-8 text"))?;
    match kind {
        Kind::Text | Kind::Printed | Kind::Named(_) | Kind::Enum(_) | Kind::Foreign => avro::bytes(cell, out),
        Kind::Int16 => avro::long(integer::<i16>(text)?, out),
        Kind::Int32 => avro::long(integer::<i32>(text)?, out),
        Kind::Int64 => avro::long(integer::<i64>(text)?, out),
        Kind::Bool | Kind::Bit => out.push(boolean(text)?),
        Kind::Float32 => out.extend_from_slice(&float::<f32>(text)?.to_le_bytes()),
        Kind::Float64 => out.extend_from_slice(&float::<f64>(text)?.to_le_bytes()),
        Kind::Decimal { .. } | Kind::VariableDecimal if is_not_finite(text) => return Ok(Written::Null),
        Kind::Decimal { scale, .. } => decimal(&Unscaled::parse(text)?.rescale(*scale)?, out),
        Kind::VariableDecimal => variable_decimal(&Unscaled::parse(text)?, out),
        Kind::Money => decimal(&number::money_cents(text)?, out),
        Kind::Bytes => avro::sized(out, |out| nested::bytea(text, out))?,
        Kind::Bits(_) => avro::sized(out, |out| number::bits(text, out))?,
        Kind::Hstore => avro::bytes(nested::hstore_json(text)?.as_bytes(), out),
        Kind::Point => point(nested::point(text)?, out),
        Kind::List(element) => return list(element, text, out),
        _ => moment(kind, text, out)?,
    }
    Ok(Written::Value)
}

/// Dates, times and intervals.
fn moment(kind: &Kind, text: &str, out: &mut Vec<u8>) -> Result<(), Unfit> {
    match kind {
        Kind::Date => avro::long(i64::from(time::date_days(text)?), out),
        Kind::TimeMillis => avro::long(time::time_us(text)?.div_euclid(1000), out),
        Kind::TimeMicros => avro::long(time::time_us(text)?, out),
        Kind::TimestampMillis => avro::long(time::timestamp_us(text)?.div_euclid(1000), out),
        Kind::TimestampMicros => avro::long(time::timestamp_us(text)?, out),
        Kind::Duration => avro::long(time::interval_us(text)?, out),
        Kind::ZonedTime => avro::sized(out, |out| time::write_zoned_time(text, out))?,
        Kind::ZonedTimestamp(digits) => match time::zoned_us(text)? {
            None => avro::bytes(text.as_bytes(), out),
            Some(us) => avro::sized(out, |out| {
                time::write_zoned(us, usize::from(*digits), out);
                Ok(())
            })?,
        },
        other => unreachable!("{other:?} is no moment"),
    }
    Ok(())
}

fn integer<T: std::str::FromStr + Into<i64>>(text: &str) -> Result<i64, Unfit> {
    text.parse::<T>()
        .map(Into::into)
        .map_err(|_| Unfit("integer of this size"))
}

fn float<T: std::str::FromStr>(text: &str) -> Result<T, Unfit> {
    text.parse().map_err(|_| Unfit("floating point number"))
}

fn boolean(text: &str) -> Result<u8, Unfit> {
    match text {
        "t" | "1" => Ok(1),
        "f" | "0" => Ok(0),
        _ => Err(Unfit("boolean")),
    }
}

/// Numeric has NaN and infinities; a decimal has not. Debezium writes null, and so do we.
fn is_not_finite(text: &str) -> bool {
    matches!(text, "NaN" | "Infinity" | "-Infinity")
}

fn decimal(number: &Unscaled, out: &mut Vec<u8>) {
    let _ = avro::sized(out, |out| {
        number.write(out);
        Ok::<_, Unfit>(())
    });
}

fn variable_decimal(number: &Unscaled, out: &mut Vec<u8>) {
    avro::long(i64::from(number.scale), out);
    decimal(number, out);
}

/// Debezium's Point: the coordinates, then the same as little-endian WKB, then no srid.
fn point((x, y): (f64, f64), out: &mut Vec<u8>) {
    out.extend_from_slice(&x.to_le_bytes());
    out.extend_from_slice(&y.to_le_bytes());
    out.push(avro::SECOND);
    avro::length(21, out);
    out.extend_from_slice(&[1, 1, 0, 0, 0]);
    out.extend_from_slice(&x.to_le_bytes());
    out.extend_from_slice(&y.to_le_bytes());
    out.push(avro::FIRST);
}

/// An array in one block. Nested arrays have no Avro form: each is a null element, as Debezium writes it.
fn list(element: &Kind, text: &str, out: &mut Vec<u8>) -> Result<Written, Unfit> {
    let mut items = Vec::new();
    let count = nested::array(text, |found| item(element, found, &mut items))?;
    if count > 0 {
        avro::length(count, out);
        out.extend_from_slice(&items);
    }
    out.push(0);
    Ok(Written::Value)
}

fn item(element: &Kind, found: Element<'_>, out: &mut Vec<u8>) -> Result<(), Unfit> {
    let nullable = items_are_nullable(element);
    let start = out.len();
    if nullable {
        out.push(avro::SECOND);
    }
    let written = match found {
        Element::Text(text) => cell(element, text.as_bytes(), out)?,
        Element::Null | Element::Nested => Written::Null,
    };
    if written == Written::Null {
        if !nullable {
            return Err(Unfit("array without NULL"));
        }
        out.truncate(start);
        out.push(avro::FIRST);
    }
    Ok(())
}

/// Items of an enum's array are the only ones that Debezium does not make nullable.
pub fn items_are_nullable(element: &Kind) -> bool {
    !matches!(element, Kind::Enum(_))
}

/// Appends what stands for a large value that the log does not hold, if the kind can say it.
pub fn unavailable(kind: &Kind, out: &mut Vec<u8>) -> Written {
    match kind {
        Kind::Named(Name::Uuid) => avro::bytes(UNAVAILABLE_UUID.as_bytes(), out),
        Kind::Text | Kind::Printed | Kind::Named(_) | Kind::Enum(_) | Kind::Foreign | Kind::Bytes => {
            avro::bytes(UNAVAILABLE.as_bytes(), out);
        }
        Kind::Hstore => avro::bytes(format!("{{\"{UNAVAILABLE}\":\"{UNAVAILABLE}\"}}").as_bytes(), out),
        Kind::List(element) => return unavailable_list(element, out),
        _ => return Written::Null,
    }
    Written::Value
}

fn unavailable_list(element: &Kind, out: &mut Vec<u8>) -> Written {
    match element {
        Kind::Int32 | Kind::Int64 | Kind::Int16 => {
            avro::length(UNAVAILABLE.len(), out);
            for byte in UNAVAILABLE.bytes() {
                out.push(avro::SECOND);
                avro::long(i64::from(byte), out);
            }
        }
        element => {
            let mut item = Vec::new();
            if unavailable(element, &mut item) == Written::Null {
                return Written::Null;
            }
            avro::length(1, out);
            if items_are_nullable(element) {
                out.push(avro::SECOND);
            }
            out.extend_from_slice(&item);
        }
    }
    out.push(0);
    Written::Value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(kind: &Kind, text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        assert_eq!(cell(kind, text.as_bytes(), &mut out), Ok(Written::Value), "{text}");
        out
    }

    #[test]
    fn cells_become_their_avro_bytes() {
        assert_eq!(bytes(&Kind::Int32, "-1"), [1]);
        assert_eq!(bytes(&Kind::Bool, "t"), [1]);
        assert_eq!(bytes(&Kind::Text, "häß"), [10, b'h', 0xc3, 0xa4, 0xc3, 0x9f]);
        assert_eq!(bytes(&Kind::Decimal { precision: 6, scale: 2 }, "1.10"), [2, 0x6e]);
        assert_eq!(bytes(&Kind::Bytes, "\\x00ff"), [4, 0, 0xff]);
        assert_eq!(bytes(&Kind::VariableDecimal, "3.14"), [4, 4, 1, 0x3a]);
        assert_eq!(bytes(&Kind::List(Box::new(Kind::Int32)), "{1,NULL}"), [4, 2, 2, 0, 0]);
        assert_eq!(bytes(&Kind::List(Box::new(Kind::Int32)), "{}"), [0]);
        assert_eq!(bytes(&Kind::List(Box::new(Kind::Int32)), "{{1,2},{3,4}}"), [4, 0, 0, 0]);
        assert_eq!(bytes(&Kind::Float32, "NaN"), f32::NAN.to_le_bytes());
        assert_eq!(bytes(&Kind::Float64, "-Infinity"), f64::NEG_INFINITY.to_le_bytes());
        assert_eq!(bytes(&Kind::Date, "0044-03-15 BC"), bytes(&Kind::Int32, "-735160"));
        assert_eq!(
            bytes(&Kind::ZonedTimestamp(0), "infinity"),
            bytes(&Kind::Text, "infinity")
        );
    }

    #[test]
    fn what_a_kind_cannot_say_is_refused_without_the_value() {
        let enums = Kind::List(Box::new(Kind::Enum(vec!["sad".to_owned()])));
        for (kind, text) in [
            (&Kind::Int16, "40000"),
            (&Kind::Bool, "yes"),
            (&Kind::Date, "soon"),
            (&enums, "{NULL}"),
        ] {
            let unfit = cell(kind, text.as_bytes(), &mut Vec::new()).unwrap_err();
            assert!(!unfit.to_string().contains(text), "{unfit}");
        }
        assert!(cell(&Kind::Text, &[0xff], &mut Vec::new()).is_err());
        assert_eq!(cell(&Kind::VariableDecimal, b"NaN", &mut Vec::new()), Ok(Written::Null));
    }

    #[test]
    fn values_that_the_log_does_not_hold_have_debeziums_placeholders() {
        let placeholder = |kind: &Kind| {
            let mut out = Vec::new();
            (unavailable(kind, &mut out), out)
        };
        assert_eq!(
            placeholder(&Kind::Bytes),
            (Written::Value, bytes(&Kind::Text, UNAVAILABLE))
        );
        let ints = placeholder(&Kind::List(Box::new(Kind::Int64))).1;
        assert_eq!(ints[..5], [56, 2, 0xbe, 1, 2]);
        assert_eq!(
            placeholder(&Kind::List(Box::new(Kind::VariableDecimal))),
            (Written::Null, vec![])
        );
    }
}
