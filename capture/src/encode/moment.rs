//! Dates, times and intervals.

use super::{Reading, Written};
use crate::avro;
use crate::loss::Loss;
use crate::text::interval::Interval;
use crate::text::{Unfit, time};
use crate::types::{Clock, Days, Kind};

/// Appends a moment or a span of time.
pub(super) fn write(
    kind: &Kind,
    reading: Reading,
    text: &str,
    out: &mut Vec<u8>,
    lost: &mut Option<Loss>,
) -> Result<Written, Unfit> {
    match kind {
        Kind::Date(days) => date(*days, reading, text, out, lost)?,
        Kind::Time(clock) => time_of_day(*clock, time::time_us(text)?, out, lost)?,
        Kind::Timestamp(clock) => return timestamp(*clock, reading, text, out, lost),
        Kind::Duration => duration(reading, Interval::parse(text)?, out, lost),
        Kind::Interval => interval(reading, Interval::parse(text)?, out, lost),
        Kind::ZonedTime => avro::sized(out, |out| time::write_zoned_time(text, out))?,
        Kind::ZonedTimestamp(digits) => match time::zoned_us(text)? {
            None => avro::bytes(text.as_bytes(), out),
            Some(us) => sized(out, |out| time::write_zoned(us, usize::from(*digits), out)),
        },
        other => unreachable!("{other:?} is no moment"),
    }
    Ok(Written::Value)
}

fn sized(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let _ = avro::sized(out, |out| {
        write(out);
        Ok::<_, Unfit>(())
    });
}

fn date(days: Days, reading: Reading, text: &str, out: &mut Vec<u8>, lost: &mut Option<Loss>) -> Result<(), Unfit> {
    let infinite = time::infinity(text).is_some();
    if infinite && days == Days::Iso && !reading.debezium {
        avro::bytes(text.as_bytes(), out);
        return Ok(());
    }
    if infinite && days == Days::Iso && reading.snapshot {
        *lost = Some(Loss::InfiniteDate);
        avro::bytes(time::snapshot_infinity(text).as_bytes(), out);
        return Ok(());
    }
    let count = day(reading, text, infinite, lost)?;
    match days {
        Days::Count | Days::Connect => avro::long(i64::from(count), out),
        Days::Iso => sized(out, |out| time::write_date(count, out)),
    }
    Ok(())
}

fn day(reading: Reading, text: &str, infinite: bool, lost: &mut Option<Loss>) -> Result<i32, Unfit> {
    if !reading.debezium {
        return time::date_days(text, time::DATE_INFINITY);
    }
    if infinite {
        *lost = Some(Loss::InfiniteDate);
    }
    if !reading.snapshot {
        return time::date_days(text, time::STREAM_DATE_INFINITY);
    }
    match time::without_bc(text) {
        Some(rest) => {
            *lost = Some(Loss::BeforeChrist);
            time::date_days(rest, time::SNAPSHOT_DATE_INFINITY)
        }
        None => time::date_days(text, time::SNAPSHOT_DATE_INFINITY).map(|count| in_java(count, lost)),
    }
}

/// 1582-10-05 to 1582-10-14, which are no days to the calendar of Java's older dates.
const SKIPPED_DAYS: std::ops::RangeInclusive<i32> = -141_437..=-141_428;

fn in_java(count: i32, lost: &mut Option<Loss>) -> i32 {
    if !SKIPPED_DAYS.contains(&count) {
        return count;
    }
    *lost = Some(Loss::SkippedDay);
    count + 10
}

fn time_of_day(clock: Clock, us: i64, out: &mut Vec<u8>, lost: &mut Option<Loss>) -> Result<(), Unfit> {
    match clock {
        Clock::Millis | Clock::Connect => avro::long(us.div_euclid(1000), out),
        Clock::Micros => avro::long(us, out),
        Clock::Nanos => avro::long(us.saturating_mul(1000), out),
        Clock::Iso => {
            if us == time::DAY_US {
                *lost = Some(Loss::EndOfDay);
            }
            sized(out, |out| time::write_time(us, out));
        }
    }
    Ok(())
}

fn timestamp(
    clock: Clock,
    reading: Reading,
    text: &str,
    out: &mut Vec<u8>,
    lost: &mut Option<Loss>,
) -> Result<Written, Unfit> {
    let us = time::timestamp_us(text)?;
    let infinity = time::infinity(text);
    match clock {
        Clock::Millis | Clock::Connect => avro::long(us.div_euclid(1000), out),
        Clock::Micros => avro::long(us, out),
        Clock::Nanos => {
            if infinity.is_none() && us.checked_mul(1000).is_none() {
                *lost = Some(Loss::TimestampRange);
                if reading.debezium {
                    return Ok(Written::Null);
                }
            }
            avro::long(us.saturating_mul(1000), out);
        }
        Clock::Iso if infinity.is_some() && !reading.debezium => avro::bytes(text.as_bytes(), out),
        Clock::Iso => sized(out, |out| time::write_timestamp(us, out)),
    }
    Ok(Written::Value)
}

fn duration(reading: Reading, interval: Interval, out: &mut Vec<u8>, lost: &mut Option<Loss>) {
    let exact = interval.us();
    let us = if reading.debezium { interval.java_us() } else { exact };
    if us != exact {
        *lost = Some(Loss::IntervalFraction);
    }
    if matches!(exact, i64::MIN | i64::MAX) {
        *lost = Some(Loss::IntervalRange);
    }
    avro::long(us, out);
}

fn interval(reading: Reading, interval: Interval, out: &mut Vec<u8>, lost: &mut Option<Loss>) {
    let exact = interval.iso();
    if !reading.debezium {
        return avro::bytes(exact.as_bytes(), out);
    }
    let java = interval.java_iso();
    if java != exact {
        *lost = Some(Loss::IntervalFraction);
    }
    avro::bytes(java.as_bytes(), out);
}
