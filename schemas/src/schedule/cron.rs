//! The five fields of cron, on a calendar without zones: which minutes of local time they name. Pure.
//!
//! `minute hour day-of-month month day-of-week`, each `*` or a list of numbers, names (`JAN`, `SUN`), ranges and steps. Sunday
//! is 0 and 7. As in every cron, a day is named by either of its two fields if both are restricted, and by both else.

use std::fmt;

use jiff::civil::{Date, DateTime};

/// Far enough for every 29 February, beyond the year 2100 too.
const DAYS_MAX: usize = 366 * 9;

const MINUTES_OF_A_DAY: u16 = 24 * 60;

/// One of the five fields: its name, and the numbers and names that may stand there.
struct Field {
    name: &'static str,
    first: u8,
    last: u8,
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field {
        name: "minute",
        first: 0,
        last: 59,
        names: &[],
    },
    Field {
        name: "hour",
        first: 0,
        last: 23,
        names: &[],
    },
    Field {
        name: "day of the month",
        first: 1,
        last: 31,
        names: &[],
    },
    Field {
        name: "month",
        first: 1,
        last: 12,
        names: &[
            "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
        ],
    },
    Field {
        name: "day of the week",
        first: 0,
        last: 7,
        names: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
    },
];

/// Most days that a month has, by its number.
const DAYS_OF_MONTHS: [u8; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// Some minutes of local time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    text: String,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Whether both fields that name days have to agree: one of them says `*`.
    both_days: bool,
}

impl Cron {
    /// Reads the five fields. The error says which of them is wrong, and why.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split_ascii_whitespace().collect();
        let [minute, hour, day, month, weekday] = parts[..] else {
            return Err(format!("{} fields where five are expected", parts.len()));
        };
        let [minutes, hours, days, months, weekdays] = &FIELDS;
        let cron = Self {
            text: parts.join(" "),
            minutes: minutes.read(minute)?,
            hours: hours.read(hour)?,
            days: days.read(day)?,
            months: months.read(month)?,
            weekdays: sunday_is_0(weekdays.read(weekday)?),
            both_days: day.starts_with('*') || weekday.starts_with('*'),
        };
        match cron.never_is() {
            true => Err("there is no such day in any of these months".to_owned()),
            false => Ok(cron),
        }
    }

    /// Whether the day of the month alone decides, and none of the months has it.
    fn never_is(&self) -> bool {
        let has_day = |month: u8| (1..=DAYS_OF_MONTHS[usize::from(month - 1)]).any(|day| has(self.days, day));
        self.both_days && !(1..=12).any(|month| has(self.months, month) && has_day(month))
    }

    /// The first minute named that is later than `after`; none if there is none in nine years.
    pub fn next_after(&self, after: DateTime) -> Option<DateTime> {
        let mut date = after.date();
        let mut first = u16::try_from(i32::from(after.hour()) * 60 + i32::from(after.minute()) + 1).ok()?;
        for _ in 0..DAYS_MAX {
            if self.names_day(date)
                && let Some((hour, minute)) = self.time_from(first)
            {
                return Some(date.at(hour, minute, 0, 0));
            }
            date = date.tomorrow().ok()?;
            first = 0;
        }
        None
    }

    fn names_day(&self, date: Date) -> bool {
        let number = |number: i8| u8::try_from(number).unwrap_or_default();
        let day = has(self.days, number(date.day()));
        let weekday = has(self.weekdays, number(date.weekday().to_sunday_zero_offset()));
        let named = if self.both_days { day && weekday } else { day || weekday };
        named && has(self.months, number(date.month()))
    }

    /// Hour and minute of the first time named, from this minute of the day on.
    fn time_from(&self, first: u16) -> Option<(i8, i8)> {
        let split = |minute: u16| (u8::try_from(minute / 60), u8::try_from(minute % 60));
        (first..MINUTES_OF_A_DAY).find_map(|minute| match split(minute) {
            (Ok(hour), Ok(minute)) if has(self.hours, hour) && has(self.minutes, minute) => {
                Some((i8::try_from(hour).ok()?, i8::try_from(minute).ok()?))
            }
            _ => None,
        })
    }
}

/// As it was written, with single blanks.
impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Field {
    /// The numbers that a field names, as bits.
    fn read(&self, text: &str) -> Result<u64, String> {
        text.split(',').try_fold(0, |bits, part| Ok(bits | self.part(part)?))
    }

    fn part(&self, text: &str) -> Result<u64, String> {
        let (range, step) = match text.split_once('/') {
            Some((range, step)) => (range, Some(self.step(step)?)),
            None => (text, None),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (self.first, self.last),
            Some((from, to)) => (self.number(from)?, self.number(to)?),
            None if step.is_some() => (self.number(range)?, self.last),
            None => (self.number(range)?, self.number(range)?),
        };
        // A week may end on a Sunday.
        let to = if to == 0 && from > 0 && self.last == 7 { 7 } else { to };
        if from > to {
            return Err(format!("{}: `{range}` runs backwards", self.name));
        }
        let numbers = (from..=to).step_by(usize::from(step.unwrap_or(1)));
        Ok(numbers.fold(0, |bits, number| bits | (1_u64 << number)))
    }

    fn step(&self, text: &str) -> Result<u8, String> {
        let step = text.parse().ok().filter(|step| *step > 0);
        step.ok_or_else(|| format!("{}: `{text}` is no step", self.name))
    }

    fn number(&self, text: &str) -> Result<u8, String> {
        let named = self.names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let named = named.and_then(|at| Some(self.first + u8::try_from(at).ok()?));
        let plain = || {
            text.bytes()
                .all(|byte| byte.is_ascii_digit())
                .then(|| text.parse().ok())
        };
        let number = named.or_else(|| plain().flatten());
        let fits = number.filter(|number| (self.first..=self.last).contains(number));
        fits.ok_or_else(|| format!("{}: `{text}` is not from {} to {}", self.name, self.first, self.last))
    }
}

fn has(bits: u64, number: u8) -> bool {
    bits & (1_u64 << number) != 0
}

fn sunday_is_0(weekdays: u64) -> u64 {
    (weekdays | weekdays >> 7) & 0x7F
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(cron: &str, after: &str) -> String {
        let cron = Cron::parse(cron).unwrap_or_else(|wrong| panic!("{cron}: {wrong}"));
        let next = cron.next_after(after.parse().unwrap());
        next.map_or("never".to_owned(), |next| next.to_string())
    }

    #[test]
    fn the_next_minute_is_the_first_that_all_fields_name() {
        // 2026-11-29 is a Sunday.
        let table = [
            ("* * * * *", "2026-11-29T10:00:00", "2026-11-29T10:01:00"),
            ("* * * * *", "2026-11-29T10:00:59.9", "2026-11-29T10:01:00"),
            ("30 1 * * *", "2026-11-29T01:29:59", "2026-11-29T01:30:00"),
            ("30 1 * * *", "2026-11-29T01:30:00", "2026-11-30T01:30:00"),
            ("*/15 9-17 * * MON-FRI", "2026-11-29T12:00:00", "2026-11-30T09:00:00"),
            ("*/15 9-17 * * MON-FRI", "2026-11-30T17:45:00", "2026-12-01T09:00:00"),
            ("5/20 8 * * *", "2026-11-29T08:06:00", "2026-11-29T08:25:00"),
            ("0 2 * * SUN", "2026-11-29T02:00:00", "2026-12-06T02:00:00"),
            ("0 2 * * 7", "2026-11-30T02:00:00", "2026-12-06T02:00:00"),
            ("0 2 * * FRI-SUN", "2026-12-05T03:00:00", "2026-12-06T02:00:00"),
            ("0 0 1,15 * *", "2026-11-29T00:00:00", "2026-12-01T00:00:00"),
            ("0 0 1 jan *", "2026-11-29T00:00:00", "2027-01-01T00:00:00"),
            ("0 0 29 2 *", "2026-11-29T00:00:00", "2028-02-29T00:00:00"),
            ("0 0 29 2 *", "2096-03-01T00:00:00", "2104-02-29T00:00:00"),
            // Either field names the day if both are restricted, and both do where one of them is not.
            ("0 0 13 * FRI", "2026-11-29T00:00:00", "2026-12-04T00:00:00"),
            ("0 0 */2 * SUN", "2026-11-29T00:00:00", "2026-12-13T00:00:00"),
            ("0 0 31 * *", "2026-11-29T00:00:00", "2026-12-31T00:00:00"),
        ];
        for (cron, after, expected) in table {
            assert_eq!(next(cron, after), expected, "{cron} after {after}");
        }
    }

    #[test]
    fn what_is_no_cron_says_why() {
        let table = [
            ("", "0 fields where five are expected"),
            ("30 1 * *", "4 fields where five are expected"),
            ("@daily", "1 fields where five are expected"),
            ("60 1 * * *", "minute: `60` is not from 0 to 59"),
            ("0 24 * * *", "hour: `24` is not from 0 to 23"),
            ("0 1 0 * *", "day of the month: `0` is not from 1 to 31"),
            ("0 1 * FEBR *", "month: `FEBR` is not from 1 to 12"),
            ("0 1 * * 8", "day of the week: `8` is not from 0 to 7"),
            ("+5 1 * * *", "minute: `+5` is not from 0 to 59"),
            ("0 5-1 * * *", "hour: `5-1` runs backwards"),
            ("*/0 * * * *", "minute: `0` is no step"),
            ("1,,2 * * * *", "minute: `` is not from 0 to 59"),
            ("0 0 30 2 *", "there is no such day in any of these months"),
            ("0 0 31 4,6,9,11 *", "there is no such day in any of these months"),
        ];
        for (cron, expected) in table {
            assert_eq!(Cron::parse(cron).unwrap_err(), expected, "{cron}");
        }
        assert!(Cron::parse("0 0 30 2 MON").is_ok(), "Mondays in February");
    }

    #[test]
    fn it_shows_as_it_was_written() {
        assert_eq!(Cron::parse(" 30  1 * *  mon ").unwrap().to_string(), "30 1 * * mon");
    }
}
