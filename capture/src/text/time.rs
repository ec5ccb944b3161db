//! Dates and times: days, milliseconds, microseconds and the ISO texts that Debezium writes.
//!
//! The calendar is PostgreSQL's: proleptic Gregorian, year 0 is 1 BC. Where Debezium loses something (the BC of a
//! date in its snapshot, infinite dates, which overflow), the function for it says so in its name.

use std::io::Write;

use super::Unfit;

/// Microseconds of a day.
pub const DAY_US: i64 = 86_400_000_000;

const DATE: Unfit = Unfit("date");
const TIME: Unfit = Unfit("time");
const TIMESTAMP: Unfit = Unfit("timestamp");

/// Infinite timestamps in microseconds, as Debezium writes them: farther away than any other.
pub const TIMESTAMP_INFINITY: (i64, i64) = (9_223_372_036_825_200_000, -9_223_372_036_832_400_000);
/// Infinite dates, farther away than any that PostgreSQL has.
pub const DATE_INFINITY: (i32, i32) = (i32::MAX, i32::MIN);
/// Infinite dates as Debezium reads them from its log: both overflow.
pub const STREAM_DATE_INFINITY: (i32, i32) = (-2_147_472_692, -2_147_472_691);
/// The same from its snapshot.
pub const SNAPSHOT_DATE_INFINITY: (i32, i32) = (-622_191_234, -625_821_272);

/// An infinite date as Debezium prints it in its snapshot: the most that Java's dates have, without an era.
pub fn snapshot_infinity(text: &str) -> &'static str {
    match text.starts_with('-') {
        true => "+292269055-12-02Z",
        false => "+292278994-08-16Z",
    }
}

/// Days since 1970 of a year, month and day.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month and day of a number of days since 1970.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

fn number(text: &str) -> Option<i64> {
    if text.is_empty() || text.len() > 12 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

fn strip_bc(text: &str) -> (&str, bool) {
    text.strip_suffix(" BC").map_or((text, false), |rest| (rest, true))
}

/// `2024-02-29` as days since 1970.
fn civil_days(text: &str, bc: bool) -> Option<i64> {
    let (rest, day) = text.rsplit_once('-')?;
    let (year, month) = rest.rsplit_once('-')?;
    let (year, month, day) = (number(year)?, number(month)?, number(day)?);
    let plausible = (1..6_000_000).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    plausible.then(|| days_from_civil(if bc { 1 - year } else { year }, month, day))
}

/// `13:14:15.123456` as microseconds; hours may be 24 (a time) or more (an interval).
pub(super) fn clock_us(text: &str) -> Option<i64> {
    let (hours, rest) = text.split_once(':')?;
    let (minutes, seconds) = rest.split_once(':').unwrap_or((rest, "0"));
    let (seconds, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
    let whole = number(hours)?
        .checked_mul(3600)?
        .checked_add(number(minutes)? * 60 + number(seconds)?)?;
    whole.checked_mul(1_000_000)?.checked_add(fraction_us(fraction)?)
}

fn fraction_us(fraction: &str) -> Option<i64> {
    match fraction.len() {
        0 => Some(0),
        digits @ 1..=6 => Some(number(fraction)? * [100_000, 10_000, 1000, 100, 10, 1][digits - 1]),
        _ => None,
    }
}

/// Which infinity the text is, if it is one: 1 or -1.
pub fn infinity(text: &str) -> Option<i8> {
    match text {
        "infinity" => Some(1),
        "-infinity" => Some(-1),
        _ => None,
    }
}

/// A date as days since 1970, `infinite` being the two infinities.
pub fn date_days(text: &str, infinite: (i32, i32)) -> Result<i32, Unfit> {
    match infinity(text) {
        Some(1) => return Ok(infinite.0),
        Some(_) => return Ok(infinite.1),
        None => (),
    }
    let (date, bc) = strip_bc(text);
    let days = civil_days(date, bc).ok_or(DATE)?;
    i32::try_from(days).map_err(|_| DATE)
}

/// Whether the date is before our era; then with its text without the BC.
pub fn without_bc(text: &str) -> Option<&str> {
    text.strip_suffix(" BC")
}

/// A time of day as microseconds.
pub fn time_us(text: &str) -> Result<i64, Unfit> {
    clock_us(text).filter(|us| *us <= DAY_US).ok_or(TIME)
}

/// A timestamp without time zone as microseconds since 1970.
pub fn timestamp_us(text: &str) -> Result<i64, Unfit> {
    match text {
        "infinity" => return Ok(TIMESTAMP_INFINITY.0),
        "-infinity" => return Ok(TIMESTAMP_INFINITY.1),
        _ => (),
    }
    let (stamp, bc) = strip_bc(text);
    plain_timestamp_us(stamp, bc).ok_or(TIMESTAMP)
}

fn plain_timestamp_us(stamp: &str, bc: bool) -> Option<i64> {
    let (date, clock) = stamp.split_once(' ').unwrap_or((stamp, "00:00:00"));
    civil_days(date, bc)?.checked_mul(DAY_US)?.checked_add(clock_us(clock)?)
}

/// Splits `13:14:15+02:30` into the clock and the offset in microseconds.
fn split_offset(text: &str) -> Option<(&str, i64)> {
    let sign = text.rfind(['+', '-'])?;
    let (clock, offset) = text.split_at(sign);
    let mut parts = offset[1..].split(':');
    let hours = number(parts.next()?)?;
    let minutes = parts.next().map_or(Some(0), number)?;
    let seconds = parts.next().map_or(Some(0), number)?;
    let us = (hours * 3600 + minutes * 60 + seconds) * 1_000_000;
    Some((clock, if offset.starts_with('-') { -us } else { us }))
}

/// A timestamp with time zone as microseconds since 1970 in UTC; `None` for the infinities.
pub fn zoned_us(text: &str) -> Result<Option<i64>, Unfit> {
    if matches!(text, "infinity" | "-infinity") {
        return Ok(None);
    }
    let (stamp, bc) = strip_bc(text);
    let (date, clock) = stamp.split_once(' ').ok_or(TIMESTAMP)?;
    let us = match split_offset(clock) {
        Some((clock, offset)) => civil_days(date, bc)
            .and_then(|days| days.checked_mul(DAY_US))
            .and_then(|start| start.checked_add(clock_us(clock)? - offset)),
        None => plain_timestamp_us(stamp, bc),
    };
    us.map(Some).ok_or(TIMESTAMP)
}

/// `2024-02-29T11:14:15.120Z` with as many digits of a second as the column has.
pub fn write_zoned(us: i64, digits: usize, out: &mut Vec<u8>) {
    write_day(us.div_euclid(DAY_US), out);
    out.push(b'T');
    write_clock(us.rem_euclid(DAY_US), digits, out);
    out.push(b'Z');
}

/// `2024-02-29T11:14:15.12Z` with as many digits of a second as it takes.
pub fn write_timestamp(us: i64, out: &mut Vec<u8>) {
    write_zoned(us, digits(us), out);
}

/// `2024-02-29Z`.
pub fn write_date(days: i32, out: &mut Vec<u8>) {
    write_day(i64::from(days), out);
    out.push(b'Z');
}

/// `11:14:15.12Z` with as many digits of a second as it takes. 24:00 becomes 00:00, which ISO 8601 does not tell apart.
pub fn write_time(us: i64, out: &mut Vec<u8>) {
    write_clock(us.rem_euclid(DAY_US), digits(us), out);
    out.push(b'Z');
}

/// Years beyond 9999 and before 0 have a sign.
fn write_day(days: i64, out: &mut Vec<u8>) {
    let (year, month, day) = civil_from_days(days);
    let _ = match year {
        0..=9999 => write!(out, "{year:04}"),
        10_000.. => write!(out, "+{year}"),
        _ => write!(out, "-{:04}", -year),
    };
    let _ = write!(out, "-{month:02}-{day:02}");
}

/// How many digits the fraction of a second has.
fn digits(us: i64) -> usize {
    let mut fraction = us.rem_euclid(1_000_000);
    let mut digits = 6;
    while digits > 0 && fraction % 10 == 0 {
        fraction /= 10;
        digits -= 1;
    }
    digits
}

fn write_clock(us: i64, digits: usize, out: &mut Vec<u8>) {
    let seconds = us / 1_000_000;
    let _ = write!(
        out,
        "{:02}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    );
    if digits > 0 {
        let start = out.len();
        let _ = write!(out, ".{:06}", us % 1_000_000);
        out.truncate(start + 1 + digits.min(6));
    }
}

/// A time with time zone in UTC: `11:14:15.123456Z`, with as many digits of a second as it takes.
pub fn write_zoned_time(text: &str, out: &mut Vec<u8>) -> Result<(), Unfit> {
    let (clock, offset) = split_offset(text).ok_or(TIME)?;
    write_time(clock_us(clock).ok_or(TIME)? - offset, out);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days(text: &str) -> Result<i32, Unfit> {
        date_days(text, DATE_INFINITY)
    }

    fn zoned(text: &str, digits: usize) -> String {
        let mut out = Vec::new();
        write_zoned(zoned_us(text).unwrap().unwrap(), digits, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn dates_and_times_are_debeziums_numbers() {
        assert_eq!(days("2024-02-29"), Ok(19_782));
        assert_eq!(days("0001-01-01"), Ok(-719_162));
        assert_eq!(days("9999-12-31"), Ok(2_932_896));
        assert_eq!(days("infinity"), Ok(i32::MAX));
        assert_eq!(days("0044-03-15 BC"), Ok(-735_160));
        assert_eq!(time_us("13:14:15.123456"), Ok(47_655_123_456));
        assert_eq!(time_us("24:00:00"), Ok(86_400_000_000));
        assert_eq!(timestamp_us("2024-02-29 13:14:15.123456"), Ok(1_709_212_455_123_456));
        assert_eq!(timestamp_us("1969-12-31 23:59:59.999999"), Ok(-1));
        assert_eq!(timestamp_us("0044-03-15 12:00:00 BC"), Ok(-63_517_780_800_000_000));
        assert_eq!(timestamp_us("1582-10-10 00:00:00"), Ok(-12_219_724_800_000_000));
        assert_eq!(timestamp_us("-infinity"), Ok(-9_223_372_036_832_400_000));
    }

    #[test]
    fn zoned_times_are_debeziums_texts() {
        assert_eq!(zoned("2024-02-29 13:14:15.123456+02", 6), "2024-02-29T11:14:15.123456Z");
        assert_eq!(zoned("2024-02-29 11:14:15.12+00", 3), "2024-02-29T11:14:15.120Z");
        assert_eq!(zoned("1970-01-01 00:00:00+00", 0), "1970-01-01T00:00:00Z");
        assert_eq!(zoned("0044-03-15 12:00:00+00 BC", 6), "-0043-03-15T12:00:00.000000Z");
        assert_eq!(zoned("12345-01-01 00:00:00+00", 0), "+12345-01-01T00:00:00Z");
        assert_eq!(zoned("2024-01-01 00:00:00-03:30", 0), "2024-01-01T03:30:00Z");
        assert_eq!(zoned_us("infinity"), Ok(None));
        let time = |text| {
            let mut out = Vec::new();
            write_zoned_time(text, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(time("13:14:15.123456+02"), "11:14:15.123456Z");
        assert_eq!(time("13:14:15.123-03:30"), "16:44:15.123Z");
        assert_eq!(time("13:14:15.5+00"), "13:14:15.5Z");
        assert_eq!(time("24:00:00+00"), "00:00:00Z");
        assert_eq!(time("23:59:59.999999-15:59"), "15:58:59.999999Z");
    }

    #[test]
    fn iso_texts_are_as_short_as_java_prints_them() {
        let text = |write: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            write(&mut out);
            String::from_utf8(out).unwrap()
        };
        let us = timestamp_us("2024-02-29 13:14:15.120").unwrap();
        assert_eq!(text(&|out| write_timestamp(us, out)), "2024-02-29T13:14:15.12Z");
        assert_eq!(text(&|out| write_date(16_321, out)), "2014-09-08Z");
        assert_eq!(text(&|out| write_date(-735_160, out)), "-0043-03-15Z");
        assert_eq!(text(&|out| write_time(9_000_000_000, out)), "02:30:00Z");
        assert_eq!(text(&|out| write_time(DAY_US, out)), "00:00:00Z");
    }

    #[test]
    fn the_calendar_goes_there_and_back() {
        for days in (-800_000..4_000_000).step_by(977) {
            let (year, month, day) = civil_from_days(days);
            assert_eq!(days_from_civil(year, month, day), days);
        }
    }

    #[test]
    fn noise_is_refused() {
        for text in [
            "",
            "-",
            "2024",
            "2024-13-01",
            "2024-01-32",
            "x",
            "12:xx",
            "2024-01-01 BCE",
            "0000-01-01",
        ] {
            assert!(days(text).is_err(), "{text}");
            assert!(zoned_us(text).is_err(), "{text}");
        }
        assert!(time_us("25:00:00").is_err() && time_us("13:14:15.1234567").is_err());
    }
}
