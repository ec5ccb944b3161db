//! A window of maintenance: from each of its local times on, for so long. Pure.
//!
//! Its length is time that passes, not what a clock shows: three hours are three hours on the day the clock is put back too.

use jiff::{SignedDuration, Timestamp};

use super::LocalTimes;

/// Windows that overlap at one instant and are looked at.
const OVERLAPS_MAX: usize = 10_000;

/// Times at which nothing is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// When it opens.
    pub opens: LocalTimes,
    /// For how long.
    pub for_ms: i64,
}

impl Window {
    /// Until when it is open at `at`; none if it is not. Where windows overlap, the end of the last that has opened: another
    /// may open before.
    pub fn open_until(&self, at: Timestamp) -> Option<Timestamp> {
        let length = SignedDuration::from_millis(self.for_ms);
        let mut opened = self.opens.next_after(at.checked_sub(length).ok()?)?;
        if opened > at {
            return None;
        }
        for _ in 0..OVERLAPS_MAX {
            match self.opens.next_after(opened) {
                Some(next) if next <= at => opened = next,
                _ => break,
            }
        }
        opened.checked_add(length).ok()
    }
}
