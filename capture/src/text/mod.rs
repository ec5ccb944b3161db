//! The text forms that PostgreSQL prints, read by hand: numbers, times, arrays and the rest.
//!
//! A row has a dozen cells and a second has a hundred thousand rows, so nothing here allocates unless a number is longer
//! than 38 digits. The session that prints these texts is pinned (DateStyle ISO, IntervalStyle postgres, TimeZone UTC,
//! bytea_output hex). Pure; a text that is not of its type is [`Unfit`], which never carries the value.

/// Numbers: unscaled two's complement bytes of decimals, money, bit strings.
pub mod number;

/// Days, microseconds and ISO texts of dates, times and intervals.
pub mod time;

/// Intervals, as numbers and as ISO texts.
pub mod interval;

/// Arrays, points, vectors: texts that contain texts.
pub mod nested;

/// hstore, in the order in which Debezium writes it.
pub mod hstore;

/// bytea and geometries, and bytes as text.
pub mod binary;

/// The text is not one that its type has. Says what was expected, never what was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the value is no {0}")]
pub struct Unfit(pub &'static str);

/// Appends a JSON text as Jackson writes it: other than quotes, backslashes and control characters nothing is escaped.
pub fn push_json(out: &mut String, text: &str) {
    use std::fmt::Write;
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if u32::from(c) < 0x20 => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
