//! What a lane that is written at set times does now. Pure: what time it is, it is told.
//!
//! A *run* is one delivery of such a lane: of everything up to where the topic ended when the run was opened. That it was
//! opened, when and up to where, is in the target before anything is written; so a run that was killed is finished, to the
//! same end, and no occurrence of the schedule is run twice. What was missed while nothing ran is one run.

use syncline_schemas::schedule::{Schedule, Timestamp};

/// How often, while nothing is due, the topic's end and the clock are looked at: somebody may set it.
const LOOK_MS_MAX: u64 = 30_000;

/// How often the target is asked all the same. A run may be open there: another instance was killed in it, or the target came
/// back without the end of one that was done.
const ASK_MS_MAX: u64 = 300_000;

/// The last run of a lane in one partition, as the target remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastRun {
    /// When it was opened; of a lane that never ran, since when it is known.
    pub opened: Timestamp,
    /// Whether it is finished.
    pub done: bool,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Finish the run that is open.
    Resume,
    /// Open a run.
    Open,
    /// Nothing until then; none if never.
    Wait(Option<Timestamp>),
}

/// What is to be done, the last run of each partition being these. With `flush` a run is opened whatever the schedule says.
pub fn step(last: &[LastRun], schedule: &Schedule, now: Timestamp, flush: bool) -> Step {
    if last.iter().any(|run| !run.done) {
        return Step::Resume;
    }
    if flush {
        return Step::Open;
    }
    let opened = last.iter().map(|run| run.opened).max().unwrap_or(now);
    match schedule.next_after(opened) {
        Some(next) if next <= now => Step::Open,
        next => Step::Wait(next),
    }
}

/// How long to wait before the next look at the clock, when nothing is due until then and so long has been waited already. None
/// if the target is to be asked what is to be done.
pub fn wait_ms(until: Option<Timestamp>, now: Timestamp, waited_ms: u64) -> Option<u64> {
    if waited_ms >= ASK_MS_MAX || until.is_some_and(|until| until <= now) {
        return None;
    }
    let left = until.map(|until| until.duration_since(now).as_millis());
    let left = left.map_or(u64::MAX, |left| u64::try_from(left.max(0)).unwrap_or(u64::MAX));
    // Whole milliseconds are shown here: what is due may be so a part of one later.
    Some(left.saturating_add(1).min(LOOK_MS_MAX).min(ASK_MS_MAX - waited_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        format!("2026-11-29T{text}Z").parse().unwrap()
    }

    fn done(opened: &str) -> LastRun {
        LastRun {
            opened: at(opened),
            done: true,
        }
    }

    fn hourly(last: &[LastRun], now: &str) -> Step {
        step(last, &Schedule::Every { period_ms: 3_600_000 }, at(now), false)
    }

    #[test]
    fn each_occurrence_is_run_once_and_what_was_missed_is_one_run() {
        let nine = Step::Wait(Some(at("09:00:00")));
        assert_eq!(hourly(&[done("08:00:01")], "08:00:02"), nine);
        assert_eq!(hourly(&[done("08:00:01")], "08:59:59"), nine);
        assert_eq!(hourly(&[done("08:00:01")], "09:00:00"), Step::Open);
        assert_eq!(hourly(&[done("03:00:01")], "09:30:00"), Step::Open, "missed six times");
        assert_eq!(
            hourly(&[done("09:30:00")], "09:30:01"),
            Step::Wait(Some(at("10:00:00")))
        );
    }

    #[test]
    fn a_run_that_is_open_is_finished_before_anything_else() {
        let open = LastRun {
            opened: at("08:00:00"),
            done: false,
        };
        for last in [&[open][..], &[done("08:00:00"), open]] {
            assert_eq!(hourly(last, "08:10:00"), Step::Resume);
            assert_eq!(hourly(last, "23:10:00"), Step::Resume);
            let flushed = step(last, &Schedule::Every { period_ms: 3_600_000 }, at("08:10:00"), true);
            assert_eq!(flushed, Step::Resume);
        }
    }

    #[test]
    fn a_run_that_somebody_left_open_is_asked_for_long_before_the_next_is_due() {
        let (now, nine) = (at("08:00:00"), Some(at("09:00:00")));
        let mut waited_ms = 0;
        while let Some(wait_ms) = wait_ms(nine, now, waited_ms) {
            assert!((1..=LOOK_MS_MAX).contains(&wait_ms), "{wait_ms}");
            waited_ms += wait_ms;
        }
        assert_eq!(waited_ms, ASK_MS_MAX);
        assert_eq!(
            wait_ms(None, now, 0),
            Some(LOOK_MS_MAX),
            "of a schedule that names no time"
        );
        assert_eq!(wait_ms(None, now, ASK_MS_MAX), None);
    }

    #[test]
    fn what_is_due_is_waited_for_to_the_millisecond() {
        let nine = Some(at("09:00:00"));
        assert_eq!(wait_ms(nine, at("08:59:59.9985"), 0), Some(2));
        assert_eq!(wait_ms(nine, at("09:00:00"), 0), None);
        assert_eq!(wait_ms(nine, at("09:00:00.1"), 0), None);
    }

    #[test]
    fn a_clock_that_went_back_runs_nothing_again() {
        assert_eq!(
            hourly(&[done("09:00:00.3")], "08:59:59"),
            Step::Wait(Some(at("10:00:00")))
        );
    }

    #[test]
    fn whoever_asks_for_a_run_gets_one() {
        let flushed = step(
            &[done("08:00:00")],
            &Schedule::Every { period_ms: 3_600_000 },
            at("08:10:00"),
            true,
        );
        assert_eq!(flushed, Step::Open);
    }
}
