//! Lengths of time, counted as topics count them: in microseconds, a month being 30.4375 days. Pure.
//!
//! PostgreSQL reads a bare number as seconds, so a count is written with its unit.

use syncline_schemas::value::Number;

const SECOND_US: i128 = 1_000_000;
const DAY_US: i128 = 86_400 * SECOND_US;
const MONTH_US: i128 = 2_629_800 * SECOND_US;

/// The microseconds of `1 year 2 mons -3 days -04:05:06.789`; beyond the range of an i64 its end.
pub fn microseconds(text: &str) -> Option<i64> {
    let mut total = 0;
    let mut words = text.split(' ');
    while let Some(word) = words.next() {
        total += match word.contains(':') {
            true => clock(word)?,
            false => i128::from(word.parse::<i64>().ok()?) * unit(words.next()?)?,
        };
    }
    let end = if total < 0 { i64::MIN } else { i64::MAX };
    Some(i64::try_from(total).unwrap_or(end))
}

/// The text that PostgreSQL reads as so many microseconds.
pub fn text(microseconds: &Number) -> String {
    format!("{microseconds} microseconds")
}

fn unit(name: &str) -> Option<i128> {
    match name {
        "year" | "years" => Some(12 * MONTH_US),
        "mon" | "mons" => Some(MONTH_US),
        "day" | "days" => Some(DAY_US),
        _ => None,
    }
}

/// `-04:05:06.789`, one sign for all of it.
fn clock(word: &str) -> Option<i128> {
    let unsigned = word.trim_start_matches(['-', '+']);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let parts: Vec<i128> = whole.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let [hours, minutes, seconds] = parts[..] else {
        return None;
    };
    let fraction: i128 = format!("{fraction:0<6}").parse().ok()?;
    let count = ((hours * 60 + minutes) * 60 + seconds) * SECOND_US + fraction;
    Some(if word.starts_with('-') { -count } else { count })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_is_counted_as_capture_counts_it() {
        for (text, count) in [
            ("1 year 2 mons 3 days 04:05:06.789012", 37_091_106_789_012),
            ("-1 years -2 mons +3 days -04:05:06", -36_572_706_000_000),
            ("178000000 years", i64::MAX),
            ("00:00:00", 0),
            ("-00:00:00.5", -500_000),
            ("1 mon", 2_629_800_000_000),
        ] {
            assert_eq!(microseconds(text), Some(count), "{text}");
        }
        for wrong in ["", "1", "1 week", "04:05", "x:y:z"] {
            assert_eq!(microseconds(wrong), None, "{wrong}");
        }
        assert_eq!(text(&Number::from(-7)), "-7 microseconds");
    }
}
