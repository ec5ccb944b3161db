//! The hand that writes: a thread of its own, so that the next batch is read and decoded while the target takes this one.
//!
//! One batch is under way at most, and the order of batches is that of the topics: the next one begins when it is known what
//! became of the last. Until then the target is the hand's, and nobody else can speak to it: it is handed over with the batch,
//! and comes back with what became of it.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Scope;
use std::time::{Duration, Instant};

use syncline_runtime::{Failure, Outcome, RetryPolicy, supervise};

use crate::batch::Batch;
use crate::dead_letter::DeadLetters;
use crate::stage::Parts;
use crate::target::{CLAIM_ENDS, Delivery, TOO_SLOW, Target, Tended};
use crate::{maintenance, metrics};

/// A target that recovers within this time does not cost a leave and join of the group.
const RETRY_IN_PLACE_MS_MAX: u64 = 60_000;
/// Between two looks at what waits.
const TEND_EVERY_MS: u64 = 1_000;

/// What is needed for writing.
pub struct Hand<'a, T> {
    /// The stage's.
    pub parts: &'a Parts,
    /// Where to.
    pub target: T,
    /// Where refused records go.
    pub letters: DeadLetters,
    /// How many records the target takes at once.
    pub rows_max: usize,
    /// What is known of those that wait in the target for other rows.
    pub waiting: WaitsShown,
}

/// What was last seen of those that wait in a target.
#[derive(Default)]
pub struct WaitsShown {
    at: Option<Instant>,
    counts: BTreeMap<(String, String), u64>,
}

/// A batch with the hand that writes it, or has written it.
type Task<'a, T> = (Hand<'a, T>, Batch<<T as Target>::Content>);

/// What had become of what was under way.
pub enum Settled<C> {
    /// There was nothing.
    Nothing,
    /// It is durable.
    Written(Batch<C>),
    /// It is not, and the process is to stop: what comes after it must not be written before it.
    Stopped,
}

/// What became of a batch.
type Done<C> = (Batch<C>, Outcome<bool>);

/// The hand, at rest or at work.
pub struct Hands<'a, T: Target> {
    at_rest: Option<Hand<'a, T>>,
    /// What it did last, until somebody asks.
    done: Option<Done<T::Content>>,
    /// A batch was given up because the process is to stop: nothing that comes after it may be written.
    is_stopped: bool,
    to: SyncSender<Task<'a, T>>,
    from: Receiver<(Task<'a, T>, Outcome<bool>)>,
}

impl<'a, T: Target + Send + 'a> Hands<'a, T>
where
    T::Content: Send + 'a,
{
    /// Starts its thread, which ends with this object.
    pub fn start<'scope>(scope: &'scope Scope<'scope, 'a>, hand: Hand<'a, T>) -> Self {
        let (to, tasks) = sync_channel::<Task<'a, T>>(1);
        let (done, from) = sync_channel(1);
        scope.spawn(move || {
            for (mut hand, batch) in tasks {
                let outcome = hand.apply(&batch);
                if done.send(((hand, batch), outcome)).is_err() {
                    return;
                }
            }
        });
        Self {
            at_rest: Some(hand),
            done: None,
            is_stopped: false,
            to,
            from,
        }
    }

    /// Whether nothing is under way.
    pub fn is_at_rest(&mut self) -> bool {
        if self.at_rest.is_none()
            && let Ok(back) = self.from.try_recv()
        {
            self.take_back(back);
        }
        self.at_rest.is_some()
    }

    /// Waits until nothing is under way, and says what became of the batch that was; fails as that did.
    pub fn settle(&mut self) -> Outcome<Settled<T::Content>> {
        if self.is_stopped {
            return Ok(Settled::Stopped);
        }
        if self.at_rest.is_none() {
            let back = self.from.recv().map_err(|_| broken())?;
            self.take_back(back);
        }
        match self.done.take() {
            None => Ok(Settled::Nothing),
            Some((batch, Ok(true))) => Ok(Settled::Written(batch)),
            Some((_, Ok(false))) => {
                self.is_stopped = true;
                Ok(Settled::Stopped)
            }
            Some((_, Err(failure))) => Err(failure),
        }
    }

    fn take_back(&mut self, ((hand, batch), outcome): (Task<'a, T>, Outcome<bool>)) {
        (self.at_rest, self.done) = (Some(hand), Some((batch, outcome)));
    }

    /// The target, while nothing is under way.
    pub fn target(&mut self) -> Outcome<&mut T> {
        self.at_rest.as_mut().map(|hand| &mut hand.target).ok_or_else(broken)
    }

    /// Looks at what waits for other rows, if that is due or nothing comes after. True if some wait no more.
    pub fn tend(&mut self, at_once: bool) -> Outcome<bool> {
        self.at_rest.as_mut().ok_or_else(broken)?.tend(at_once)
    }

    /// Begins to write; what was under way has to be settled, and none of it stopped.
    pub fn begin(&mut self, batch: Batch<T::Content>) -> Outcome<()> {
        if self.is_stopped {
            return Err(Failure::transient("STOPPING", "a batch was given up before this one"));
        }
        let hand = self.at_rest.take().ok_or_else(broken)?;
        self.to.send((hand, batch)).map_err(|_| broken())
    }
}

fn broken() -> Failure {
    Failure::transient("SINK_THREAD", "the thread that writes is gone")
}

impl<T: Target> Hand<'_, T> {
    /// False if the process is to stop first.
    fn apply(&mut self, batch: &Batch<T::Content>) -> Outcome<bool> {
        let _traced = batch.span.enter();
        let mut rows_max = self.rows_max;
        let done = portions(&mut rows_max, &batch.deliveries, |portion| self.apply_portion(portion));
        self.rows_max = rows_max;
        if matches!(done, Ok(true)) {
            self.tend(false)?;
        }
        done
    }

    /// Looks at what waits for other rows: now and then, or at once; not in a window of maintenance.
    fn tend(&mut self, at_once: bool) -> Outcome<bool> {
        let lately = |at: Instant| at.elapsed() < Duration::from_millis(TEND_EVERY_MS);
        if !at_once && self.waiting.at.is_some_and(lately) {
            return Ok(false);
        }
        if maintenance::refuse(&self.parts.target, self.parts.maintenance.as_ref()).is_err() {
            return Ok(false);
        }
        self.waiting.at = Some(Instant::now());
        // As of several rows: what is too slow here is no reason to hold up what comes from the topics.
        let Tended { report, waiting } = match self.insist(2, |target| target.tend(at_once)) {
            Ok(Some(tended)) => tended,
            Ok(None) => return Ok(false),
            Err(failure) if failure.code == TOO_SLOW => {
                self.parts.report(&failure);
                return Ok(false);
            }
            Err(failure) => return Err(failure),
        };
        if report.released > 0 {
            // More of them may go.
            self.waiting.at = None;
        }
        metrics::count(&self.parts.target, &report);
        metrics::waiting(&self.parts.target, &self.waiting.counts, &waiting);
        let changed = waiting != self.waiting.counts;
        self.waiting.counts = waiting;
        if changed || !self.waiting.counts.is_empty() {
            self.show();
        }
        if report.parked > 0 {
            self.letters.take_from(&mut self.target)?;
        }
        Ok(report.released > 0)
    }

    /// Says who waits, as long as nothing worse is to be said.
    fn show(&self) {
        let what = |((entity, parent), count): (&(String, String), &u64)| match parent.as_str() {
            "" => format!("{count} deletions of {entity} wait for rows that refer to them to go"),
            parent => format!("{count} records of {entity} wait for rows of {parent}"),
        };
        let waiting: Vec<String> = self.waiting.counts.iter().map(what).collect();
        self.parts.health.set_status(&self.parts.name, waiting.join("; "));
    }

    fn apply_portion(&mut self, batch: &[Delivery<T::Content>]) -> Outcome<bool> {
        let started = Instant::now();
        let Some(report) = self.insist(batch.len(), |target| target.apply(batch))? else {
            return Ok(false);
        };
        self.parts.working();
        self.show();
        let target = &self.parts.target;
        metrics::BATCH_SECONDS
            .with_label_values(&[target])
            .observe(started.elapsed().as_secs_f64());
        metrics::count(target, &report);
        if report.parked > 0 {
            self.letters.take_from(&mut self.target)?;
        }
        Ok(true)
    }

    /// Works on so many records until it is done; none if the process is to stop first. The end of our claim, and a window of
    /// maintenance, end it at once.
    fn insist<R>(&mut self, rows: usize, mut work: impl FnMut(&mut T) -> Outcome<R>) -> Outcome<Option<R>> {
        let (parts, target) = (self.parts, &mut self.target);
        let policy = RetryPolicy {
            give_up_after_ms: Some(RETRY_IN_PLACE_MS_MAX),
            ..RetryPolicy::default()
        };
        let (mut done, mut has_failed) = (Ok(None), false);
        supervise(&parts.name, &parts.shutdown, &policy, || {
            if let Err(failure) = maintenance::refuse(&parts.target, parts.maintenance.as_ref()) {
                done = Err(failure);
                return Ok(());
            }
            match work(target) {
                Ok(worked) => done = Ok(Some(worked)),
                Err(failure) if CLAIM_ENDS.contains(&failure.code) => done = Err(failure),
                Err(failure) if failure.code == TOO_SLOW && rows > 1 => done = Err(failure),
                Err(failure) => {
                    has_failed = true;
                    parts.report(&failure);
                    return Err(failure);
                }
            }
            Ok(())
        })?;
        if has_failed && matches!(done, Ok(Some(_))) {
            parts.working();
        }
        done
    }
}

/// Applies a batch in portions of up to `rows_max` records, and in smaller ones when the target is too slow for those; until
/// `apply` says that it has to stop. False if it has.
fn portions<D>(rows_max: &mut usize, batch: &[D], mut apply: impl FnMut(&[D]) -> Outcome<bool>) -> Outcome<bool> {
    let mut rest = batch;
    while !rest.is_empty() {
        let (portion, later) = rest.split_at(rest.len().min(*rows_max));
        match apply(portion) {
            Ok(true) => rest = later,
            Ok(false) => return Ok(false),
            Err(failure) if failure.code == TOO_SLOW && portion.len() > 1 => *rows_max = portion.len() / 2,
            Err(failure) => return Err(failure),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use syncline_bus::BusConfig;
    use syncline_runtime::{Health, Shutdown};

    use super::*;
    use crate::target::{DeadLetter, Partition, Report};

    /// A target that is away, and hears of the wish to stop while it is waited for.
    struct Away(Shutdown);

    impl Target for Away {
        type Content = u32;

        fn claim(&mut self, _: &[Partition]) -> Outcome<BTreeMap<Partition, i64>> {
            Ok(BTreeMap::new())
        }

        fn apply(&mut self, _: &[Delivery<u32>]) -> Outcome<Report> {
            self.0.request();
            Err(Failure::transient("TARGET_AWAY", "no answer"))
        }

        fn tend(&mut self, _: bool) -> Outcome<Tended> {
            Ok(Tended::default())
        }

        fn dead_letters(&mut self, _: &mut dyn FnMut(&[DeadLetter]) -> Outcome<()>) -> Outcome<()> {
            Ok(())
        }
    }

    fn batch(number: u32) -> Batch<u32> {
        let mut batch = Batch::new();
        let delivery = Delivery {
            from: Partition {
                topic: "t".into(),
                number: 0,
            },
            offset: number.into(),
            timestamp_ms: 0,
            entity: "e".into(),
            key: Vec::new(),
            value: Vec::new(),
            content: Ok(Some(number)),
        };
        batch.push(delivery, 0);
        batch
    }

    #[test]
    fn nothing_is_begun_after_a_batch_that_a_stop_has_left() {
        let bus = BusConfig::new("127.0.0.1:1", "test");
        let parts = Parts {
            name: "sink.test".to_owned(),
            pipeline: "p".to_owned(),
            target: "test".to_owned(),
            group: "g".to_owned(),
            bus: bus.clone(),
            instance: "0".to_owned(),
            until_current: false,
            rows_max: None,
            maintenance: None,
            health: Health::new(),
            shutdown: Shutdown::new(),
        };
        let hand = Hand {
            parts: &parts,
            target: Away(parts.shutdown.clone()),
            letters: DeadLetters::new(&bus, "p"),
            rows_max: 10,
            waiting: WaitsShown::default(),
        };
        std::thread::scope(|scope| {
            let mut hands = Hands::start(scope, hand);
            hands.begin(batch(1)).unwrap();
            // As often as it is asked, by whomever.
            for _ in 0..2 {
                assert!(matches!(hands.settle(), Ok(Settled::Stopped)));
            }
            assert_eq!(hands.begin(batch(2)).unwrap_err().code, "STOPPING");
        });
    }

    #[test]
    fn what_is_too_much_at_once_is_applied_in_smaller_portions() {
        let slow = |batch: &[u32]| match batch.len() {
            0..=3 => Ok(true),
            _ => Err(Failure::transient(TOO_SLOW, "statement timeout")),
        };
        let (mut rows_max, mut applied) = (1_000, Vec::new());
        let batch: Vec<u32> = (0..20).collect();
        let outcome = portions(&mut rows_max, &batch, |portion| {
            slow(portion).inspect(|_| applied.extend_from_slice(portion))
        });
        assert!(matches!(outcome, Ok(true)));
        assert_eq!((applied, rows_max), (batch, 2));
    }
}
