//! Intervals: as a number of microseconds and as ISO 8601.
//!
//! Debezium reads the seconds of an interval into a floating point number, so that 1.235 s comes out as 1.234999; the
//! functions named `java` do the same arithmetic in the same order, the others count in whole microseconds.

use std::fmt::Write;

use super::{Unfit, time};

const INTERVAL: Unfit = Unfit("interval");
/// A month in an interval, in microseconds: 30.4375 days, as Debezium counts.
const MONTH_US: i128 = 2_629_800_000_000;
const SECOND_US: i64 = 1_000_000;

/// An interval by its parts, each with its own sign; hours, minutes and seconds have one together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interval {
    years: i64,
    months: i64,
    days: i64,
    clock_us: i64,
}

impl Interval {
    /// Reads `1 year 2 mons -3 days 04:05:06.789`.
    pub fn parse(text: &str) -> Result<Self, Unfit> {
        let mut parts = Self::default();
        let mut words = text.split(' ').filter(|word| !word.is_empty());
        while let Some(word) = words.next() {
            if word.contains(':') {
                parts.clock_us = signed_clock_us(word).ok_or(INTERVAL)?;
                continue;
            }
            let count = word.parse().map_err(|_| INTERVAL)?;
            match words.next().ok_or(INTERVAL)? {
                "year" | "years" => parts.years = count,
                "mon" | "mons" => parts.months = count,
                "day" | "days" => parts.days = count,
                _ => return Err(INTERVAL),
            }
        }
        Ok(parts)
    }

    /// As microseconds, a month being 30.4375 days; beyond the range of an i64 its end.
    pub fn us(&self) -> i64 {
        let months = i128::from(self.years) * 12 + i128::from(self.months);
        let days = i128::from(self.days) * i128::from(time::DAY_US);
        let total = months * MONTH_US + days + i128::from(self.clock_us);
        let end = if total < 0 { i64::MIN } else { i64::MAX };
        i64::try_from(total).unwrap_or(end)
    }

    /// The same by Java's arithmetic.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "what is lost here is what Debezium loses; the cast saturates as Java's does"
    )]
    pub fn java_us(&self) -> i64 {
        let (hours, minutes, _) = self.clock();
        let days = (self.years * 12 + self.months) as f64 * 30.4375 + self.days as f64;
        let minutes = (days * 24.0 + hours as f64) * 60.0 + minutes as f64;
        ((minutes * 60.0 + self.java_seconds()) * 1e6) as i64
    }

    /// `P1Y2M3DT4H5M6.789012S`: every part is written, whether it is zero or not.
    pub fn iso(&self) -> String {
        let (_, _, us) = self.clock();
        let sign = if us < 0 { "-" } else { "" };
        let (whole, fraction) = (us.abs() / SECOND_US, us.abs() % SECOND_US);
        let mut seconds = format!("{sign}{whole}");
        if fraction > 0 {
            let _ = write!(seconds, ".{}", format!("{fraction:06}").trim_end_matches('0'));
        }
        self.iso_with(&seconds)
    }

    /// The same with the seconds of Java's arithmetic, cut to nanoseconds.
    pub fn java_iso(&self) -> String {
        let shortest = self.java_seconds().to_string();
        let cut = shortest
            .find('.')
            .map_or(shortest.len(), |point| (point + 10).min(shortest.len()));
        let seconds = &shortest[..cut];
        if seconds.contains('.') {
            return self.iso_with(seconds.trim_end_matches('0').trim_end_matches('.'));
        }
        self.iso_with(seconds)
    }

    fn iso_with(&self, seconds: &str) -> String {
        let (hours, minutes, _) = self.clock();
        let Self {
            years, months, days, ..
        } = self;
        format!("P{years}Y{months}M{days}DT{hours}H{minutes}M{seconds}S")
    }

    /// Hours, minutes, and the rest in microseconds.
    fn clock(&self) -> (i64, i64, i64) {
        let seconds = self.clock_us / SECOND_US;
        (seconds / 3600, seconds % 3600 / 60, self.clock_us % (60 * SECOND_US))
    }

    #[allow(clippy::cast_precision_loss, reason = "less than a minute")]
    fn java_seconds(&self) -> f64 {
        let (_, _, us) = self.clock();
        (us / SECOND_US) as f64 + (us % SECOND_US) as f64 / 1e6
    }
}

fn signed_clock_us(word: &str) -> Option<i64> {
    let (negative, clock) = match word.as_bytes().first()? {
        b'-' => (true, &word[1..]),
        b'+' => (false, &word[1..]),
        _ => (false, word),
    };
    let us = time::clock_us(clock)?;
    Some(if negative { -us } else { us })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(text: &str) -> Interval {
        Interval::parse(text).unwrap()
    }

    #[test]
    fn months_count_as_debezium_counts_them() {
        for (text, us) in [
            ("1 year 2 mons 3 days 04:05:06.789012", 37_091_106_789_012),
            ("-1 years -2 mons +3 days -04:05:06", -36_572_706_000_000),
            ("178000000 years", i64::MAX),
            ("00:00:00", 0),
            ("00:00:00.000001", 1),
            ("1 mon", 2_629_800_000_000),
        ] {
            assert_eq!((interval(text).us(), interval(text).java_us()), (us, us), "{text}");
        }
        assert!(Interval::parse("P1Y").is_err());
    }

    #[test]
    fn java_loses_a_microsecond() {
        let odd = interval("00:00:01.235");
        assert_eq!((odd.us(), odd.java_us()), (1_235_000, 1_234_999));
        assert_eq!(odd.iso(), "P0Y0M0DT0H0M1.235S");
        assert_eq!(odd.java_iso(), "P0Y0M0DT0H0M1.234999999S");
    }

    #[test]
    fn iso_texts_have_every_part() {
        for (text, iso) in [
            ("1 year 2 mons 3 days 04:05:06.789012", "P1Y2M3DT4H5M6.789012S"),
            ("-1 years -2 mons +3 days -04:05:06", "P-1Y-2M3DT-4H-5M-6S"),
            ("00:00:00.000001", "P0Y0M0DT0H0M0.000001S"),
            ("00:00:20", "P0Y0M0DT0H0M20S"),
            ("15 days", "P0Y0M15DT0H0M0S"),
        ] {
            assert_eq!(
                (interval(text).iso().as_str(), interval(text).java_iso().as_str()),
                (iso, iso)
            );
        }
    }
}
