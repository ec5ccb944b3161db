//! Dates and times: counts since 1970 to text and back, in the one spelling of [`crate::value`].
//!
//! Gregorian calendar without end in both directions, years as in ISO 8601 (`-0043` is 44 BC). PostgreSQL's infinities
//! arrive as fixed counts and become `infinity` and `-infinity`. Nothing is rounded: what does not fit is no value.

use std::fmt::Write as _;

use super::schema::Unit;

/// Room for any time that is likely.
const TEXT_CHARS: usize = 32;
const DAY_NS: i128 = 86_400_000_000_000;
/// `infinity` and `-infinity` of a timestamp, in microseconds, as Debezium writes them.
const INFINITY_US: i64 = 9_223_372_036_825_200_000;
const MINUS_INFINITY_US: i64 = -9_223_372_036_832_400_000;
/// The same of a date, in days, as our capture writes them: farther away than any date ...
const FARTHEST_DAYS: i64 = i32::MAX as i64;
const MINUS_FARTHEST_DAYS: i64 = i32::MIN as i64;
/// ... as an overflow in Debezium, in the stream always this one ...
const INFINITY_DAYS: i64 = -2_147_472_692;
const MINUS_INFINITY_DAYS: i64 = -2_147_472_691;
/// ... and in the snapshot this one.
const SNAPSHOT_INFINITY_DAYS: i64 = -622_191_234;
const SNAPSHOT_MINUS_INFINITY_DAYS: i64 = -625_821_272;

impl Unit {
    fn nanos(self) -> i128 {
        match self {
            Unit::Milli => 1_000_000,
            Unit::Micro => 1_000,
            Unit::Nano => 1,
        }
    }

    /// The counts that mean infinity and minus infinity, if the unit has them.
    fn infinities(self) -> Option<(i64, i64)> {
        match self {
            Unit::Milli => Some((INFINITY_US / 1000, MINUS_INFINITY_US / 1000)),
            Unit::Micro => Some((INFINITY_US, MINUS_INFINITY_US)),
            Unit::Nano => None,
        }
    }
}

/// `2026-01-02`.
pub(crate) fn date_text(days: i64) -> String {
    match days {
        FARTHEST_DAYS | INFINITY_DAYS | SNAPSHOT_INFINITY_DAYS => "infinity".to_owned(),
        MINUS_FARTHEST_DAYS | MINUS_INFINITY_DAYS | SNAPSHOT_MINUS_INFINITY_DAYS => "-infinity".to_owned(),
        _ => {
            let mut text = String::with_capacity(TEXT_CHARS);
            push_date(&mut text, days);
            text
        }
    }
}

/// `03:04:05.12`.
pub(crate) fn time_text(count: i64, unit: Unit) -> String {
    let mut text = String::with_capacity(TEXT_CHARS);
    push_clock(&mut text, i128::from(count) * unit.nanos());
    text
}

/// `2026-01-02T03:04:05.12`, with `suffix` after it.
pub(crate) fn timestamp_text(count: i64, unit: Unit, suffix: &str) -> String {
    match unit.infinities() {
        Some((infinity, _)) if count == infinity => return "infinity".to_owned(),
        Some((_, minus)) if count == minus => return "-infinity".to_owned(),
        _ => {}
    }
    let nanos = i128::from(count) * unit.nanos();
    let days = i64::try_from(nanos.div_euclid(DAY_NS)).unwrap_or_else(|_| unreachable!("an i64 of nanoseconds"));
    let mut text = String::with_capacity(TEXT_CHARS);
    push_date(&mut text, days);
    text.push('T');
    push_clock(&mut text, nanos.rem_euclid(DAY_NS));
    text.push_str(suffix);
    text
}

/// A text of a time with a zone, its fraction without trailing zeros.
pub(crate) fn zoned_text(text: &str) -> String {
    let (kept, zone) = zoned_parts(text);
    format!("{kept}{zone}")
}

/// The same in two pieces of the text: what is before the zeros, and what is behind them.
pub(crate) fn zoned_parts(text: &str) -> (&str, &str) {
    let Some(point) = text.find('.') else {
        return (text, "");
    };
    let is_digit = |c: char| c.is_ascii_digit();
    let zone = text[point + 1..].trim_start_matches(is_digit);
    let kept = text[..text.len() - zone.len()].trim_end_matches('0');
    (kept.strip_suffix('.').unwrap_or(kept), zone)
}

/// Days since 1970 of `2026-01-02`.
pub(crate) fn parse_date(text: &str) -> Option<i64> {
    match text {
        "infinity" => Some(INFINITY_DAYS),
        "-infinity" => Some(MINUS_INFINITY_DAYS),
        _ => {
            let (rest, day) = text.rsplit_once('-')?;
            let (year, month) = rest.rsplit_once('-')?;
            let (year, month, day): (i64, i64, i64) = (year.parse().ok()?, month.parse().ok()?, day.parse().ok()?);
            let days = days(year, month, day)?;
            (civil(days) == (year, month, day)).then_some(days)
        }
    }
}

/// The count since midnight of `03:04:05.12`, if the unit can hold it.
pub(crate) fn parse_time(text: &str, unit: Unit) -> Option<i64> {
    in_unit(parse_clock(text)?, unit)
}

/// The count since 1970 of `2026-01-02T03:04:05.12` before `suffix`, if the unit can hold it.
pub(crate) fn parse_timestamp(text: &str, unit: Unit, suffix: &str) -> Option<i64> {
    match (text, unit.infinities()) {
        ("infinity", Some((infinity, _))) => return Some(infinity),
        ("-infinity", Some((_, minus))) => return Some(minus),
        _ => {}
    }
    let (date, clock) = text.strip_suffix(suffix)?.split_once('T')?;
    in_unit(i128::from(parse_date(date)?) * DAY_NS + parse_clock(clock)?, unit)
}

fn in_unit(nanos: i128, unit: Unit) -> Option<i64> {
    if nanos % unit.nanos() != 0 {
        return None;
    }
    i64::try_from(nanos / unit.nanos()).ok()
}

fn push_date(text: &mut String, days: i64) {
    let (year, month, day) = civil(days);
    match year {
        0..=9999 => {
            push_pair(text, year / 100);
            push_pair(text, year % 100);
        }
        10_000.. => _ = write!(text, "+{year}"),
        _ => _ = write!(text, "-{:04}", -year),
    }
    text.push('-');
    push_pair(text, month);
    text.push('-');
    push_pair(text, day);
}

fn push_clock(text: &mut String, nanos: i128) {
    const SECOND_NS: i128 = 1_000_000_000;
    let seconds = i64::try_from(nanos.div_euclid(SECOND_NS)).unwrap_or_else(|_| unreachable!("an i64 of milliseconds"));
    push_pair(text, seconds / 3600);
    text.push(':');
    push_pair(text, seconds / 60 % 60);
    text.push(':');
    push_pair(text, seconds % 60);
    let fraction = nanos.rem_euclid(SECOND_NS);
    if fraction != 0 {
        let _ = write!(text, ".{fraction:09}");
        text.truncate(text.trim_end_matches('0').len());
    }
}

/// Two digits; of what is no clock's number as many as there are.
fn push_pair(text: &mut String, number: i64) {
    match u8::try_from(number) {
        Ok(number @ 0..100) => {
            text.push(char::from(b'0' + number / 10));
            text.push(char::from(b'0' + number % 10));
        }
        _ => _ = write!(text, "{number:02}"),
    }
}

fn parse_clock(text: &str) -> Option<i128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let parts: Vec<i128> = whole.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let [hours @ 0..=24, minutes @ 0..=59, seconds @ 0..=59] = parts[..] else {
        return None;
    };
    if fraction.is_empty() || fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let fraction: i128 = format!("{fraction:0<9}").parse().ok()?;
    Some(((hours * 60 + minutes) * 60 + seconds) * 1_000_000_000 + fraction)
}

/// Year, month and day of a day since 1970 (Howard Hinnant's `civil_from_days`).
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 {
        month_index + 3
    } else {
        month_index - 9
    };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// The inverse (`days_from_civil`); years so far off that they could overflow are none.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(-10_000_000..=10_000_000).contains(&year) || !(1..=12).contains(&month) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let month_index = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * month_index + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_read_what_they_write() {
        for (days, text) in [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (11_016, "2000-02-29"),
            (20_455, "2026-01-02"),
            (-735_160, "-0043-03-15"),
            (3_789_391, "+12345-01-01"),
            (INFINITY_DAYS, "infinity"),
        ] {
            assert_eq!((date_text(days).as_str(), parse_date(text)), (text, Some(days)));
        }
        for wrong in ["2026-02-30", "2026-13-01", "2026-01", "x"] {
            assert_eq!(parse_date(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn timestamps_read_what_they_write() {
        for (count, unit, suffix, text) in [
            (1_767_323_045_123_456, Unit::Micro, "", "2026-01-02T03:04:05.123456"),
            (1_767_323_045_120, Unit::Milli, "Z", "2026-01-02T03:04:05.12Z"),
            (-1, Unit::Micro, "Z", "1969-12-31T23:59:59.999999Z"),
            (INFINITY_US, Unit::Micro, "", "infinity"),
            (MINUS_INFINITY_US / 1000, Unit::Milli, "", "-infinity"),
        ] {
            assert_eq!(timestamp_text(count, unit, suffix), text);
            assert_eq!(parse_timestamp(text, unit, suffix), Some(count));
        }
        assert_eq!(
            parse_timestamp("2026-01-02T03:04:05.1234", Unit::Milli, ""),
            None,
            "would be rounded"
        );
        assert_eq!(
            parse_timestamp("2026-01-02T03:04:05", Unit::Milli, "Z"),
            None,
            "no zone"
        );
    }

    #[test]
    fn times_read_what_they_write() {
        assert_eq!(time_text(86_400_000, Unit::Milli), "24:00:00");
        assert_eq!(time_text(3_723_000_100, Unit::Micro), "01:02:03.0001");
        assert_eq!(parse_time("01:02:03.0001", Unit::Micro), Some(3_723_000_100));
        assert_eq!(parse_time("01:60:03", Unit::Micro), None);
    }

    #[test]
    fn a_zoned_text_loses_only_zeros() {
        assert_eq!(zoned_text("2019-12-31T22:00:00.120000Z"), "2019-12-31T22:00:00.12Z");
        assert_eq!(zoned_text("2019-12-31T22:00:00.000000Z"), "2019-12-31T22:00:00Z");
        assert_eq!(zoned_text("22:00:00+01:00"), "22:00:00+01:00");
    }
}
