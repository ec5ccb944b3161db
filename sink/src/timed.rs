//! The loop of a lane that is written at set times: look > wait > open a run > work it off > note that it is done.
//!
//! Between two runs nothing is held: no connection to the target, no place in a consumer group. What was done last is in the
//! target ([`crate::due`]), so any instance may do what is due, and several share the partitions of a run as they share those
//! of a live lane. A run that fails is tried again, here and nowhere else: the lane has a thread, a consumer and connections
//! of its own. One whose instance is gone, or of which the target has lost a part, is found at a start, when the next is due,
//! and now and then in between.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use syncline_runtime::{Outcome, RetryPolicy, supervise};
use syncline_schemas::canonical::Canonical;
use syncline_schemas::schedule::{Schedule, Timestamp};

use crate::feed::Feed;
use crate::postgres::{Asked, Next, PostgresTarget, Run};
use crate::stage::{self, Parts};
use crate::target::Partition;
use crate::{due, maintenance, metrics};

/// How long a run is waited for that other instances have in hand.
const SHARED_MS: u64 = 2_000;

/// When a lane is written.
pub struct Timing {
    /// The schedule.
    pub schedule: Schedule,
    /// Whether to run once at the start whatever it says.
    pub flush: bool,
}

/// Runs the lane until it is told to stop, has caught up, or meets a failure that will not heal.
pub fn run<F>(
    parts: &Parts,
    timing: &Timing,
    connect: impl Fn() -> Outcome<PostgresTarget>,
    feed: impl Fn() -> Outcome<F>,
) -> Outcome<()>
where
    F: Feed<Content = Canonical>,
{
    parts.health.set_ready(&parts.name, false);
    let lane = Timed {
        parts,
        timing,
        connect,
        feed,
        to_flush: Cell::new(timing.flush),
    };
    supervise(&parts.name, &parts.shutdown, &RetryPolicy::default(), || {
        lane.run().inspect_err(|failure| parts.report(failure))
    })
}

struct Timed<'a, C, F> {
    parts: &'a Parts,
    timing: &'a Timing,
    connect: C,
    feed: F,
    /// Whether a run has still to be opened that the schedule does not ask for.
    to_flush: Cell<bool>,
}

impl<C, F, G> Timed<'_, C, F>
where
    C: Fn() -> Outcome<PostgresTarget>,
    F: Fn() -> Outcome<G>,
    G: Feed<Content = Canonical>,
{
    fn run(&self) -> Outcome<()> {
        while !self.parts.shutdown.requested() && maintenance::wait(self.parts) {
            let feed = (self.feed)()?;
            let ends = self.ends(&feed)?;
            if ends.is_empty() {
                return Ok(()); // only where nothing is waited for
            }
            let goes_on = match self.look(&ends)? {
                (Next::Work(run), _) => self.work(&run, feed)?,
                (Next::Wait(until), behind) if self.parts.until_current => {
                    tracing::info!(part = self.parts.name, behind, "{}", next_at(until));
                    return Ok(());
                }
                (Next::Wait(until), behind) => self.wait(until, &feed, behind - sum(&ends))?,
            };
            if !goes_on {
                return Ok(());
            }
        }
        Ok(())
    }

    fn ends(&self, feed: &G) -> Outcome<BTreeMap<Partition, i64>> {
        let ends = stage::ends(self.parts, &feed.topics()?)?;
        Ok(ends.into_iter().map(placed).collect())
    }

    /// What is to be done now, and how many offsets the lane is behind.
    fn look(&self, ends: &BTreeMap<Partition, i64>) -> Outcome<(Next, i64)> {
        let now = Timestamp::now();
        let asked = Asked {
            ends,
            schedule: &self.timing.schedule,
            // As exact as the target keeps it.
            now: Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now),
            flush: self.to_flush.get(),
        };
        let (next, behind) = (self.connect)()?.next_run(&asked)?;
        self.parts.working();
        match &next {
            Next::Wait(until) => self.show(*until, behind),
            // A run that is open need not be opened again if working it off fails. One that was open before is another.
            Next::Work(run) if run.opened == asked.now => self.to_flush.set(false),
            Next::Work(_) => {}
        }
        Ok((next, behind))
    }

    fn show(&self, until: Option<Timestamp>, behind: i64) {
        let status = format!("{}; {behind} offsets before it", next_at(until));
        self.parts.health.set_status(&self.parts.name, status);
        #[allow(clippy::cast_precision_loss, reason = "both are far smaller than 2^52")]
        let (seconds, behind) = (
            until.map_or(f64::INFINITY, |until| until.as_second() as f64),
            behind as f64,
        );
        metrics::NEXT_RUN_SECONDS.with_label_values(&self.labels()).set(seconds);
        metrics::QUEUE_OFFSETS.with_label_values(&self.labels()).set(behind);
    }

    fn labels(&self) -> [&str; 2] {
        [&self.parts.target, &self.parts.name]
    }

    /// Works a run off. False if the process is to stop.
    fn work(&self, run: &Run, feed: G) -> Outcome<bool> {
        tracing::info!(part = self.parts.name, opened = %run.opened, "a run is due");
        let ends = run.ends.iter().map(|(partition, end)| {
            let place = (partition.topic.to_string(), partition.number);
            (place, *end)
        });
        let run_parts = Parts {
            until_current: true,
            ..self.parts.clone()
        };
        let Some(applied) = stage::work_off(&run_parts, (self.connect)()?, feed, &ends.collect())? else {
            return Ok(false);
        };
        maintenance::refuse(&self.parts.target, self.parts.maintenance.as_ref())?;
        let done = (self.connect)()?.finish(run, &applied)?;
        tracing::info!(part = self.parts.name, partitions = done, "a run is done");
        let shared = run.ends.keys().any(|partition| !applied.contains_key(partition));
        Ok(!shared || !self.parts.shutdown.wait_timeout(Duration::from_millis(SHARED_MS)))
    }

    /// Waits until the target is to be asked again, and shows meanwhile what there is to do; `before`: where the topic ended, and
    /// how much of that is done, as a difference. False if the process is to stop.
    fn wait(&self, until: Option<Timestamp>, feed: &G, before: i64) -> Outcome<bool> {
        let began = Instant::now();
        let waited_ms = || u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut wait_ms = due::wait_ms(until, Timestamp::now(), waited_ms());
        while let Some(ms) = wait_ms {
            if self.parts.shutdown.wait_timeout(Duration::from_millis(ms)) {
                return Ok(false);
            }
            wait_ms = due::wait_ms(until, Timestamp::now(), waited_ms());
            if wait_ms.is_some() {
                self.show(until, before + sum(&self.ends(feed)?));
            }
        }
        Ok(true)
    }
}

fn placed(((topic, number), end): ((String, i32), i64)) -> (Partition, i64) {
    let topic = topic.into();
    (Partition { topic, number }, end)
}

fn sum(ends: &BTreeMap<Partition, i64>) -> i64 {
    ends.values().sum()
}

fn next_at(until: Option<Timestamp>) -> String {
    until.map_or("its schedule names no time any more".to_owned(), |until| {
        format!("next batch at {until:.0}")
    })
}
