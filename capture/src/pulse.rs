//! When the next heartbeat is due, and its record.
//!
//! A heartbeat goes out between transactions only, with the batch that is open or in one of its own, and so with the progress
//! that moves an idle slot.

use std::time::{Duration, Instant};

use crate::companions::{self, Companion};
use crate::form::Heartbeat;
use crate::records::Records;

/// The heartbeat of one source.
pub struct Pulse<'a> {
    wanted: &'a Heartbeat,
    last: Instant,
}

impl<'a> Pulse<'a> {
    /// The first is due after one interval.
    pub fn new(wanted: &'a Heartbeat, now: Instant) -> Self {
        Self { wanted, last: now }
    }

    /// Whether one is due; then the next is due an interval later.
    pub fn is_due(&mut self, now: impl FnOnce() -> Instant) -> bool {
        if self.wanted.interval_ms == 0 {
            return false;
        }
        let now = now();
        let due = now.duration_since(self.last) >= Duration::from_millis(self.wanted.interval_ms);
        if due {
            self.last = now;
        }
        due
    }

    /// What is run in the database with each.
    pub fn action(&self) -> Option<&'a str> {
        self.wanted.action.as_deref()
    }
}

/// The record of a heartbeat of the source called `prefix`.
pub fn records(prefix: &str, now_ms: i64) -> Records {
    let mut records = Records::default();
    records.note(
        Companion::Heartbeat,
        |out| companions::text_key(prefix, out),
        |out| companions::heartbeat_value(now_ms, out),
    );
    records
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_is_due_once_an_interval_and_never_without_one() {
        let (start, wanted) = (
            Instant::now(),
            Heartbeat {
                interval_ms: 100,
                action: None,
            },
        );
        let mut pulse = Pulse::new(&wanted, start);
        let due: Vec<bool> = [50, 100, 150, 210]
            .iter()
            .map(|ms| pulse.is_due(|| start + Duration::from_millis(*ms)))
            .collect();
        assert_eq!(due, [false, true, false, true]);
        let none = Heartbeat::default();
        assert!(!Pulse::new(&none, start).is_due(|| start + Duration::from_secs(1_000)));
    }
}
