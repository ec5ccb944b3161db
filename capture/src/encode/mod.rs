//! One cell: from PostgreSQL's text to Avro bytes, without a tree of values in between.
//!
//! Byte for byte what apache-avro writes for the schema of `avro_schema` (`tests/encoding.rs` holds them equal), and what
//! Debezium writes of the same row where its losses are to be repeated (`tests/debezium_golden.rs`). It must not know
//! rows, envelopes or tables; what was lost on the way it says, and somebody else counts it.

use crate::avro;
use crate::loss::Loss;
use crate::text::nested::{self, Element};
use crate::text::number::{self, Unscaled};
use crate::text::{Unfit, binary, hstore};
use crate::types::{Kind, Width};

mod moment;
mod unavailable;

pub use unavailable::{Placeholder, unavailable};

/// Whether a value came out, or something that the kind can only say as null (numeric NaN).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// The bytes of a value were appended.
    Value,
    /// Nothing was appended: the value is written as null.
    Null,
}

/// How values are to be read: Debezium loses other things in its snapshot than in its stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// What Debezium loses is to be lost.
    pub debezium: bool,
    /// The row was read by a query, not from the log.
    pub snapshot: bool,
}

/// Appends the value whose text form is `cell`; what it lost on the way is put into `lost`.
pub fn cell(
    kind: &Kind,
    reading: Reading,
    cell: &[u8],
    out: &mut Vec<u8>,
    lost: &mut Option<Loss>,
) -> Result<Written, Unfit> {
    let text = std::str::from_utf8(cell).map_err(|_| Unfit("UTF-8 text"))?;
    match kind {
        Kind::Text | Kind::Printed | Kind::Named(_) | Kind::Enum(_) | Kind::Foreign => avro::bytes(cell, out),
        Kind::SystemName if reading.debezium && !reading.snapshot => return Ok(null(Loss::SystemName, lost)),
        Kind::SystemName => avro::bytes(cell, out),
        Kind::Int16 => avro::long(integer::<i16>(text)?, out),
        Kind::Int32 => avro::long(integer::<i32>(text)?, out),
        Kind::Int64 => avro::long(integer::<i64>(text)?, out),
        Kind::Bool | Kind::Bit => out.push(boolean(text)?),
        Kind::Float32 => out.extend_from_slice(&float::<f32>(text)?.to_le_bytes()),
        Kind::Float64 | Kind::DecimalDouble => out.extend_from_slice(&float::<f64>(text)?.to_le_bytes()),
        Kind::Decimal { .. } | Kind::VariableDecimal if is_not_finite(text) => return Ok(null(Loss::NotFinite, lost)),
        Kind::Decimal { scale, .. } => decimal(&Unscaled::parse(text)?.rescale(*scale)?, out),
        Kind::VariableDecimal if reading.debezium => variable_decimal(&Unscaled::parse(stripped(text))?, out),
        Kind::VariableDecimal => variable_decimal(&Unscaled::parse(text)?, out),
        Kind::DecimalText(scale) => decimal_text(text, *scale, reading, out)?,
        Kind::Money(digits) => decimal(&money(text, *digits, lost)?, out),
        Kind::MoneyDouble => out.extend_from_slice(&float::<f64>(&number::money_cents(text)?.plain())?.to_le_bytes()),
        Kind::MoneyText(_) => avro::bytes(number::money_cents(text)?.plain().as_bytes(), out),
        Kind::Bytes => avro::sized(out, |out| binary::bytea(text, out))?,
        Kind::BytesText(alphabet) => {
            let mut bytes = Vec::new();
            binary::bytea(text, &mut bytes)?;
            written_as(*alphabet, &bytes, out);
        }
        Kind::Bits(_) => avro::sized(out, |out| number::bits(text, out))?,
        Kind::LostBits(_) => return Ok(null(Loss::BitArray, lost)),
        Kind::Hstore => avro::bytes(hstore::json(text)?.as_bytes(), out),
        Kind::HstoreMap => map(&hstore::entries(text)?, out),
        Kind::Point => point(nested::point(text)?, out),
        Kind::Shape(_) => shape(text, out)?,
        Kind::Vector(width) => vector(*width, text, out)?,
        Kind::SparseVector => sparse_vector(text, out)?,
        Kind::List(element) => return list(element, reading, text, out, lost),
        Kind::Opaque { text: alphabet, figure } => opaque(text, *alphabet, *figure, out),
        Kind::LeftOut => return Ok(Written::Null),
        _ => return moment::write(kind, reading, text, out, lost),
    }
    Ok(Written::Value)
}

fn null(loss: Loss, lost: &mut Option<Loss>) -> Written {
    *lost = Some(loss);
    Written::Null
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

/// Without zeros at the end of the fraction, which Debezium drops.
fn stripped(text: &str) -> &str {
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => text,
    }
}

fn variable_decimal(number: &Unscaled, out: &mut Vec<u8>) {
    avro::long(i64::from(number.scale), out);
    decimal(number, out);
}

/// PostgreSQL prints all digits of a column with a scale; a default may have fewer. Debezium has names of its own for
/// what is not finite.
fn decimal_text(text: &str, scale: Option<u32>, reading: Reading, out: &mut Vec<u8>) -> Result<(), Unfit> {
    let named = match text {
        "NaN" => "NAN",
        "Infinity" => "POSITIVE_INFINITY",
        "-Infinity" => "NEGATIVE_INFINITY",
        _ => "",
    };
    let after_point = text.find('.').map_or(0, |point| text.len() - point - 1);
    match scale {
        _ if !named.is_empty() => avro::bytes(if reading.debezium { named } else { text }.as_bytes(), out),
        Some(scale) if usize::try_from(scale) != Ok(after_point) => {
            avro::bytes(Unscaled::parse(text)?.rescale(scale)?.plain().as_bytes(), out);
        }
        _ => avro::bytes(text.as_bytes(), out),
    }
    Ok(())
}

fn money(text: &str, digits: u32, lost: &mut Option<Loss>) -> Result<Unscaled, Unfit> {
    let (amount, rounded) = number::money_cents(text)?.round(digits);
    if rounded {
        *lost = Some(Loss::Rounded);
    }
    Ok(amount)
}

fn written_as(alphabet: binary::Alphabet, bytes: &[u8], out: &mut Vec<u8>) {
    let _ = avro::sized(out, |out| {
        alphabet.write(bytes, out);
        Ok::<_, Unfit>(())
    });
}

fn opaque(text: &str, alphabet: Option<binary::Alphabet>, figure: bool, out: &mut Vec<u8>) {
    let printed = if figure {
        number::java_figure(text)
    } else {
        text.to_owned()
    };
    match alphabet {
        None => avro::bytes(printed.as_bytes(), out),
        Some(alphabet) => written_as(alphabet, printed.as_bytes(), out),
    }
}

fn map(entries: &[hstore::Entry], out: &mut Vec<u8>) {
    if !entries.is_empty() {
        avro::length(entries.len(), out);
        for (key, value) in entries {
            avro::bytes(key.as_bytes(), out);
            avro::optional_text(value.as_deref(), out);
        }
    }
    out.push(0);
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

/// Debezium's Geometry: the bytes that PostGIS prints, and the coordinate system that they name.
fn shape(text: &str, out: &mut Vec<u8>) -> Result<(), Unfit> {
    let mut ewkb = Vec::new();
    binary::hex(text, &mut ewkb).ok_or(Unfit("geometry"))?;
    avro::bytes(&ewkb, out);
    avro::optional_long(binary::srid(&ewkb).map(i64::from), out);
    Ok(())
}

/// The count stands before the numbers, so it is found first: there is one comma less than numbers.
fn vector(width: Width, text: &str, out: &mut Vec<u8>) -> Result<(), Unfit> {
    if text == "[]" {
        out.push(0);
        return Ok(());
    }
    avro::length(text.matches(',').count() + 1, out);
    match width {
        Width::Float => nested::vector(text, |number: f32| out.extend_from_slice(&number.to_le_bytes()))?,
        Width::Double => nested::vector(text, |number: f64| out.extend_from_slice(&number.to_le_bytes()))?,
    };
    out.push(0);
    Ok(())
}

/// Dimensions, then the entries that are not zero.
fn sparse_vector(text: &str, out: &mut Vec<u8>) -> Result<(), Unfit> {
    let mut entries = Vec::new();
    let (count, dimensions) = nested::sparse_vector(text, |index, number| {
        avro::long(i64::from(index), &mut entries);
        entries.extend_from_slice(&number.to_le_bytes());
    })?;
    avro::long(i64::from(dimensions), out);
    if count > 0 {
        avro::length(count, out);
        out.extend_from_slice(&entries);
    }
    out.push(0);
    Ok(())
}

/// An array in one block.
fn list(
    element: &Kind,
    reading: Reading,
    text: &str,
    out: &mut Vec<u8>,
    lost: &mut Option<Loss>,
) -> Result<Written, Unfit> {
    let mut items = Vec::new();
    let count = if reading.debezium {
        nested::array(text, |found| item(element, reading, found, &mut items, lost))?
    } else {
        flat(element, reading, text, &mut items, lost)?
    };
    if count > 0 {
        avro::length(count, out);
        out.extend_from_slice(&items);
    }
    out.push(0);
    Ok(Written::Value)
}

/// The elements of an array of any dimensions in their order: the Avro form has one dimension.
fn flat(
    element: &Kind,
    reading: Reading,
    text: &str,
    items: &mut Vec<u8>,
    lost: &mut Option<Loss>,
) -> Result<usize, Unfit> {
    let mut count = 0;
    nested::array(text, |found| {
        count += match found {
            Element::Nested(inner) => flat(element, reading, inner, items, lost)?,
            found => item(element, reading, found, items, lost).map(|()| 1)?,
        };
        Ok(())
    })?;
    Ok(count)
}

fn item(
    element: &Kind,
    reading: Reading,
    found: Element<'_>,
    out: &mut Vec<u8>,
    lost: &mut Option<Loss>,
) -> Result<(), Unfit> {
    let nullable = items_are_nullable(element);
    let start = out.len();
    if nullable {
        out.push(avro::SECOND);
    }
    let written = match found {
        Element::Text(text) => cell(element, reading, text.as_bytes(), out, lost)?,
        Element::Nested(_) => null(Loss::NestedArray, lost),
        Element::Null => Written::Null,
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

/// Items of an array are nullable where Debezium has a rule for that array, and not where it makes one from the element.
pub fn items_are_nullable(element: &Kind) -> bool {
    use crate::types::Name;
    !matches!(
        element,
        Kind::Enum(_) | Kind::Named(Name::Tsvector) | Kind::Vector(_) | Kind::SparseVector | Kind::Opaque { .. }
    )
}

#[cfg(test)]
mod tests;
