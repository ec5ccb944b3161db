//! Rows in PostgreSQL's binary form of COPY. Pure.
//!
//! Making numbers and times out of texts is two fifths of what a server does for a row that comes by COPY as text. Here it
//! costs a tenth of that, in a process that waits for the server anyway. So a cell goes in the binary form of its column's type
//! where there is one for it here; whatever has none, be it the type (enums, intervals, arrays) or a value that is rare (years
//! of other eras, `infinity`, `NaN`), goes as text, all of its column in that batch, and the server casts it as it does for few
//! rows. There is no third way: a text that is not understood to the last character is never guessed at, and what is refused is
//! refused by the server in its own words.

use std::borrow::Cow;

use crate::postgres::statement::Column;

/// What stands before the rows: signature, flags, no extension.
const START: &[u8] = b"PGCOPY\n\xFF\r\n\0\0\0\0\0\0\0\0\0";
/// What stands behind them.
const END: [u8; 2] = (-1_i16).to_be_bytes();
/// Instead of the length of a NULL.
const NULL: [u8; 4] = (-1_i32).to_be_bytes();

/// Rows that are sent at once.
const SENT_ROWS: usize = 500;

/// Digits of a number that are certainly fewer than a `numeric` holds.
const DIGITS_MAX: usize = 1_000;
/// Decimal digits of one digit of a `numeric`.
const GROUP: usize = 4;
const NEGATIVE: u16 = 0x4000;
/// Bytes before its digits.
const HEAD: usize = 8;

const DAY_US: i64 = 86_400_000_000;
/// 2000-01-01, from which PostgreSQL counts, in days since 1970.
const EPOCH_DAYS: i64 = 10_957;

/// In which form the cells of a column are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As a text that the server casts.
    Cast,
    /// As a text that is a value of the type as it is.
    Plain,
    /// The same after the number of its version.
    Jsonb,
    /// `true` and `false`.
    Bool,
    /// Integers.
    Int2,
    /// Of four bytes.
    Int4,
    /// Of eight.
    Int8,
    /// Floats.
    Float4,
    /// Of eight bytes.
    Float8,
    /// Numbers of any length.
    Numeric,
    /// Days.
    Date,
    /// Microseconds since midnight.
    Time,
    /// Microseconds of no zone.
    Timestamp,
    /// Microseconds in UTC.
    TimestampTz,
    /// Sixteen bytes.
    Uuid,
    /// Bytes.
    Bytea,
}

impl Form {
    /// Of a type, by the name that the catalog gives it.
    pub fn of(sql_type: &str) -> Self {
        match sql_type {
            "text" | "character varying" | "json" => Form::Plain,
            "jsonb" => Form::Jsonb,
            "boolean" => Form::Bool,
            "smallint" => Form::Int2,
            "integer" => Form::Int4,
            "bigint" => Form::Int8,
            "real" => Form::Float4,
            "double precision" => Form::Float8,
            "numeric" => Form::Numeric,
            "date" => Form::Date,
            "time without time zone" => Form::Time,
            "timestamp without time zone" => Form::Timestamp,
            "timestamp with time zone" => Form::TimestampTz,
            "uuid" => Form::Uuid,
            "bytea" => Form::Bytea,
            _ => Form::Cast,
        }
    }
}

/// Rows for COPY in pieces, and the forms of their columns. `texts` are those of a row's cells, in the order of the columns;
/// none is NULL.
pub fn rows<'a, R, C>(columns: &[&Column], rows: &[R], texts: impl Fn(&R) -> C) -> (Vec<Form>, Vec<Vec<u8>>)
where
    C: Iterator<Item = Option<Cow<'a, [u8]>>>,
{
    let mut forms: Vec<Form> = columns.iter().map(|column| Form::of(&column.sql_type)).collect();
    // Ends: each time round one column more is sent as text, which takes everything.
    loop {
        match pieces(&forms, rows, &texts) {
            Ok(pieces) => return (forms, pieces),
            Err(place) => forms[place] = Form::Cast,
        }
    }
}

/// Fails with the place of a column that holds something which is not in its form.
fn pieces<'a, R, C>(forms: &[Form], rows: &[R], texts: impl Fn(&R) -> C) -> Result<Vec<Vec<u8>>, usize>
where
    C: Iterator<Item = Option<Cow<'a, [u8]>>>,
{
    let width = i16::try_from(forms.len()).unwrap_or(i16::MAX).to_be_bytes();
    let mut pieces = vec![START.to_vec()];
    for rows in rows.chunks(SENT_ROWS) {
        let mut out = Vec::with_capacity(pieces.last().map_or(0, Vec::len));
        for row in rows {
            out.extend_from_slice(&width);
            for (place, (text, form)) in texts(row).zip(forms).enumerate() {
                append(*form, text, &mut out).ok_or(place)?;
            }
        }
        pieces.push(out);
    }
    pieces.push(END.to_vec());
    Ok(pieces)
}

/// Appends a cell with its length. None if it is not in this form.
fn append(form: Form, text: Option<Cow<'_, [u8]>>, out: &mut Vec<u8>) -> Option<()> {
    let start = out.len() + NULL.len();
    out.extend_from_slice(&NULL);
    if let Some(text) = text {
        value(form, &text, out)?;
        // What is longer is refused by the server as a text too.
        let length = i32::try_from(out.len() - start).unwrap_or(i32::MAX);
        out[start - NULL.len()..start].copy_from_slice(&length.to_be_bytes());
    }
    Some(())
}

fn value(form: Form, text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    match form {
        Form::Cast | Form::Plain => out.extend_from_slice(text),
        Form::Jsonb => {
            out.push(1);
            out.extend_from_slice(text);
        }
        Form::Bool => out.push(match text {
            b"true" => 1,
            b"false" => 0,
            _ => return None,
        }),
        Form::Int2 => out.extend_from_slice(&i16::try_from(integer(text)?).ok()?.to_be_bytes()),
        Form::Int4 => out.extend_from_slice(&i32::try_from(integer(text)?).ok()?.to_be_bytes()),
        Form::Int8 => out.extend_from_slice(&integer(text)?.to_be_bytes()),
        Form::Float4 => {
            let float: f32 = std::str::from_utf8(text).ok()?.parse().ok()?;
            out.extend_from_slice(&float.to_be_bytes());
            is_exact(f64::from(float), text)?;
        }
        Form::Float8 => {
            let float: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
            out.extend_from_slice(&float.to_be_bytes());
            is_exact(float, text)?;
        }
        Form::Numeric => numeric(text, out)?,
        Form::Date => {
            let (days, rest) = date(text)?;
            let days = i32::try_from(days - EPOCH_DAYS).ok().filter(|_| rest.is_empty())?;
            out.extend_from_slice(&days.to_be_bytes());
        }
        Form::Time => out.extend_from_slice(&clock(text, b"")?.to_be_bytes()),
        Form::Timestamp => out.extend_from_slice(&timestamp(text, b"")?.to_be_bytes()),
        Form::TimestampTz => out.extend_from_slice(&timestamp(text, b"Z")?.to_be_bytes()),
        Form::Uuid => uuid(text, out)?,
        Form::Bytea => hex(text.strip_prefix(b"\\x")?, out)?,
    }
    Some(())
}

/// Not if it was too large or too small for the type.
fn is_exact(float: f64, text: &[u8]) -> Option<()> {
    (float.is_finite() && (float != 0.0 || text == b"0")).then_some(())
}

fn integer(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Digits to the base of 10,000, the weight of the first, a sign, and how many decimal digits are shown after the point.
fn numeric(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let (sign, text) = match text {
        [b'-', rest @ ..] => (NEGATIVE, rest),
        _ => (0, text),
    };
    let point = text.iter().position(|byte| *byte == b'.');
    let (whole, fraction) = match point {
        Some(place) => (&text[..place], &text[place + 1..]),
        None => (text, &[][..]),
    };
    let is_number = !whole.is_empty() && (point.is_none() || !fraction.is_empty()) && text.len() <= DIGITS_MAX;
    if !is_number || !whole.iter().chain(fraction).all(u8::is_ascii_digit) {
        return None;
    }
    let digits = |group: &[u8]| {
        group
            .iter()
            .fold(0, |sum: u16, digit| sum * 10 + u16::from(digit - b'0'))
    };
    // The first group of the whole may be short; the last of the fraction is filled up.
    let filled = |group: &[u8]| (group.len()..GROUP).fold(digits(group), |digit, _| digit * 10);
    let all = whole
        .rchunks(GROUP)
        .rev()
        .map(digits)
        .chain(fraction.chunks(GROUP).map(filled));
    let head = out.len();
    out.extend_from_slice(&[0; HEAD]);
    let mut weight = i16::try_from(whole.len().div_ceil(GROUP)).ok()? - 1;
    let (mut count, mut used) = (0_u16, 0_u16);
    for digit in all {
        if count == 0 && digit == 0 {
            // What stands before the first digit that counts is not written, but lowers its weight.
            weight -= 1;
            continue;
        }
        out.extend_from_slice(&digit.to_be_bytes());
        count += 1;
        used = if digit == 0 { used } else { count };
    }
    out.truncate(head + HEAD + size_of::<u16>() * usize::from(used));
    let (weight, sign) = if used == 0 { (0, 0) } else { (weight, sign) };
    let words = [used, weight.cast_unsigned(), sign, u16::try_from(fraction.len()).ok()?];
    for (to, byte) in out[head..].iter_mut().zip(words.into_iter().flat_map(u16::to_be_bytes)) {
        *to = byte;
    }
    Some(())
}

/// Two digits.
fn pair(text: &[u8]) -> Option<i64> {
    match text {
        [tens @ b'0'..=b'9', ones @ b'0'..=b'9'] => Some(i64::from(tens - b'0') * 10 + i64::from(ones - b'0')),
        _ => None,
    }
}

/// Days since 1970 of `2026-01-02`, and what is behind it. Only of years from 1 to 9999, and of days that there were.
fn date(text: &[u8]) -> Option<(i64, &[u8])> {
    let (date, rest) = text.split_at_checked(10)?;
    let [a, b, c, d, b'-', e, f, b'-', g, h] = date else {
        return None;
    };
    let year = pair(&[*a, *b])? * 100 + pair(&[*c, *d])?;
    let (month, day) = (pair(&[*e, *f])?, pair(&[*g, *h])?);
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if is_leap => 29,
        2 => 28,
        _ => return None,
    };
    if year == 0 || !(1..=days).contains(&day) {
        return None;
    }
    // Years that begin in March, so that the day of a leap is the last of its year (Howard Hinnant's `days_from_civil`).
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let before = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    Some((before - 719_468, rest))
}

/// Microseconds since midnight of `03:04:05.12` before `suffix`.
fn clock(text: &[u8], suffix: &[u8]) -> Option<i64> {
    let text = text.strip_suffix(suffix)?;
    let (clock, fraction) = text.split_at_checked(8)?;
    let [a, b, b':', c, d, b':', e, f] = clock else {
        return None;
    };
    let (hours, minutes, seconds) = (pair(&[*a, *b])?, pair(&[*c, *d])?, pair(&[*e, *f])?);
    if hours > 23 || minutes > 59 || seconds > 59 {
        return None;
    }
    let micros = match fraction {
        [] => 0,
        [b'.', digits @ ..] if (1..=6).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit) => {
            let number = digits.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
            number * 10_i64.pow(u32::try_from(6 - digits.len()).ok()?)
        }
        _ => return None,
    };
    Some(((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + micros)
}

fn timestamp(text: &[u8], suffix: &[u8]) -> Option<i64> {
    let (days, rest) = date(text)?;
    Some((days - EPOCH_DAYS) * DAY_US + clock(rest.strip_prefix(b"T")?, suffix)?)
}

fn uuid(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut parts = text.split(|byte| *byte == b'-');
    for length in [8, 4, 4, 4, 12] {
        hex(parts.next().filter(|part| part.len() == length)?, out)?;
    }
    parts.next().is_none().then_some(())
}

fn hex(digits: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    };
    let pairs = digits.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    for pair in pairs {
        out.push(digit(pair[0])? << 4 | digit(pair[1])?);
    }
    Some(())
}

#[cfg(test)]
mod tests;
