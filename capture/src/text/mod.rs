//! The text forms that PostgreSQL prints, read by hand: numbers, times, arrays and the rest.
//!
//! A row has a dozen cells and a second has a hundred thousand rows, so nothing here allocates unless a number is longer
//! than 38 digits. The session that prints these texts is pinned (DateStyle ISO, IntervalStyle postgres, TimeZone UTC,
//! bytea_output hex). Pure; a text that is not of its type is [`Unfit`], which never carries the value.

/// Numbers: unscaled two's complement bytes of decimals, money, bit strings.
pub mod number;

/// Days, microseconds and ISO texts of dates, times and intervals.
pub mod time;

/// Arrays, hstore, points, bytea: texts that contain texts.
pub mod nested;

/// The text is not one that its type has. Says what was expected, never what was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the value is no {0}")]
pub struct Unfit(pub &'static str);
