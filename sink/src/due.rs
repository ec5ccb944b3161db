//! What a lane that is written at set times does now. Pure: what time it is, it is told.
//!
//! A *run* is one delivery of such a lane: of everything up to where the topic ended when the run was opened. That it was
//! opened, when and up to where, is in the target before anything is written; so a run that was killed is finished, to the
//! same end, and no occurrence of the schedule is run twice. What was missed while nothing ran is one run.

use syncline_schemas::schedule::{Schedule, Timestamp};

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
