//! When something is due. Pure: nobody here asks what time it is; all are functions of an instant that the caller has.
//!
//! The hard point is a clock that is put forward or back. Every local time that a schedule names is one instant: where the
//! clock has it twice, the first; where the clock skips it, the instant at which it was put forward. So a batch at 01:30 runs
//! on every day of the year, and on none of them twice. These instants never decrease with the local times, which makes the
//! next one easy to find: the first local time, from the one that the clock shows on, whose instant is later. What is to run
//! in a steady rhythm says `every`, which knows no zone.

use std::fmt;

use jiff::SignedDuration;
pub use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};

/// The five fields of cron.
mod cron;

/// Times at which nothing is written.
mod window;

pub use cron::Cron;
pub use window::Window;

/// Local times that are passed over because the clock had them before: no clock is put back by more than a day.
const REPEATED_MINUTES_MAX: usize = 25 * 60;

/// For how long [`LocalTimes::odd_days`] looks ahead: both changes of a year, wherever it begins.
const ODD_DAYS_AHEAD: i64 = 400;

/// Changes of the clock looked at in that time.
const CHANGES_MAX: usize = 8;

/// When something is done that is not done at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// At these local times.
    At(LocalTimes),
    /// At every multiple of a period, counted from 1970: the same instants for whoever counts.
    Every {
        /// The period.
        period_ms: i64,
    },
}

impl Schedule {
    /// The first instant later than `after` at which it is due; none if there is none in nine years.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        match self {
            Schedule::At(times) => times.next_after(after),
            Schedule::Every { period_ms } => {
                let past = after.as_millisecond().checked_div_euclid(*period_ms)?;
                Timestamp::from_millisecond(past.checked_add(1)?.checked_mul(*period_ms)?).ok()
            }
        }
    }

    /// What a person should know of it: see [`LocalTimes::odd_days`].
    pub fn odd_days(&self, from: Timestamp) -> Vec<String> {
        match self {
            Schedule::At(times) => times.odd_days(from),
            Schedule::Every { .. } => Vec::new(),
        }
    }
}

/// The same text for the same schedule: targets remember it.
impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Schedule::At(times) => write!(f, "{times}"),
            Schedule::Every { period_ms } => {
                let units = [(3_600_000, "h"), (60_000, "m"), (1_000, "s")];
                let whole = units.iter().find(|(unit, _)| period_ms % unit == 0);
                let (unit, name) = whole.copied().unwrap_or((1, "ms"));
                write!(f, "every {}{name}", period_ms / unit)
            }
        }
    }
}

/// The zone of this IANA name, as this program knows it; none if there is none.
pub fn zone(name: &str) -> Option<TimeZone> {
    TimeZoneDatabase::bundled().get(name).ok()
}

/// The names of all zones.
pub fn zone_names() -> Vec<String> {
    let database = TimeZoneDatabase::bundled();
    database.available().map(|name| name.to_string()).collect()
}

/// Some minutes by the clock of a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalTimes {
    /// Which minutes.
    pub cron: Cron,
    /// By whose clock.
    pub zone: TimeZone,
}

impl LocalTimes {
    /// The first instant later than `after` at which one of them is due; none if there is none in nine years.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let mut local = self.zone.to_datetime(after);
        for _ in 0..REPEATED_MINUTES_MAX {
            local = self.cron.next_after(local)?;
            let at = instant(&self.zone, local)?;
            if at > after {
                return Some(at);
            }
        }
        None
    }

    /// The days of the next year or so on which the clock skips one of these times or has it twice, and what is done then:
    /// one line for each change of the clock.
    pub fn odd_days(&self, from: Timestamp) -> Vec<String> {
        let Ok(until) = from.checked_add(SignedDuration::from_hours(ODD_DAYS_AHEAD * 24)) else {
            return Vec::new();
        };
        let changes = self.zone.following(from).map(|change| change.timestamp());
        changes
            .take(CHANGES_MAX)
            .take_while(|at| *at < until)
            .filter_map(|at| self.odd_day(at))
            .collect()
    }

    fn odd_day(&self, at: Timestamp) -> Option<String> {
        let moment_before = at.checked_sub(SignedDuration::from_secs(1)).ok()?;
        let before = self.zone.to_offset(moment_before).to_datetime(at);
        let after = self.zone.to_offset(at).to_datetime(at);
        let (from, to) = (before.min(after), before.max(after));
        // The first of these times that is not earlier than `from`.
        let named = self
            .cron
            .next_after(from.checked_sub(SignedDuration::from_secs(1)).ok()?)?;
        if named >= to {
            return None;
        }
        let (day, time) = (named.date(), named.time().strftime("%H:%M"));
        Some(match before < after {
            true => format!(
                "{self}: on {day} the clock skips {time}; it is due then when the clock shows {}",
                to.time().strftime("%H:%M")
            ),
            false => format!("{self}: on {day} the clock shows {time} twice; it is due the first time"),
        })
    }
}

impl fmt::Display for LocalTimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.cron, self.zone.iana_name().unwrap_or("UTC"))
    }
}

/// The one instant that a local time stands for.
fn instant(zone: &TimeZone, local: DateTime) -> Option<Timestamp> {
    match zone.to_ambiguous_timestamp(local).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(local).ok(),
        AmbiguousOffset::Fold { before, .. } => before.to_timestamp(local).ok(),
        // Read by the offset that holds after the gap, the time stands before its change of the clock.
        AmbiguousOffset::Gap { after, .. } => {
            let early = after.to_timestamp(local).ok()?;
            zone.following(early).next().map(|change| change.timestamp())
        }
    }
}

#[cfg(test)]
mod tests;
