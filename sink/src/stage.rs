//! READ FIRST: the loop of one target: read > plan > apply > commit.
//!
//! Records of the canonical topics come in the order of their partitions and are gathered into a batch until it is large
//! enough or nothing more is there. The target applies the batch and moves its own offsets in one transaction; that is the
//! commit. Kafka is told the offsets afterwards, for display. While a batch is applied ([`crate::hand`]) the next is gathered.
//!
//! What the target cannot take now (it is down, full, locked, read-only) stops this loop, not the process: it waits and
//! says why; in a window of maintenance nobody asks it ([`crate::maintenance`]). What the target can never take is set aside by
//! the target itself and goes to the dead letter topic. Two threads, and everything in them blocks.
//!
//! A lane that is written at set times ([`crate::timed`]) comes here for each of its runs: to work off what lies before the
//! run's ends, of each key only the last record.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use syncline_bus::{BusConfig, Event, Fences, GroupConsumer, InRecord, Patience, admin};
use syncline_runtime::{Failure, Health, Outcome, Progress, RetryPolicy, Shutdown, supervise};
use syncline_schemas::schedule::Window;

use crate::batch::Batch;
use crate::coalesce::Coalesced;
use crate::dead_letter::DeadLetters;
use crate::feed::Feed;
use crate::hand::{Hand, Hands, Settled, WaitsShown};
use crate::maintenance::{self, IN_MAINTENANCE};
use crate::metrics;
use crate::target::{Delivery, Partition, Target};

/// How long it is waited for more while a batch is under way.
const BATCH_WAIT_MS_MAX: u64 = 1;
const IDLE_POLL_MS: u64 = 200;
/// How often Kafka is told how far it has come, at most: to a broker that costs as much as a small batch does.
const SHOWN_EVERY_MS: u64 = 100;
/// How often it is asked whether a topic that was missing has been made.
const NEW_TOPICS_MS: u64 = 5_000;
/// How long a run waits for partitions: other instances may have them all.
const MEMBER_MS_MAX: u64 = 30_000;

/// Where partitions end.
pub(crate) type Ends = BTreeMap<(String, i32), i64>;

/// What a stage is made of.
#[derive(Clone)]
pub struct Parts {
    /// Its name in logs and health.
    pub name: String,
    /// Name of the pipeline.
    pub pipeline: String,
    /// Name of the target's system.
    pub target: String,
    /// The consumer group: its offsets are for display.
    pub group: String,
    /// Kafka.
    pub bus: BusConfig,
    /// Name of this instance.
    pub instance: String,
    /// Whether to end when everything has been applied that was there at the start.
    pub until_current: bool,
    /// Records of a batch; none: as many as the target takes.
    pub rows_max: Option<usize>,
    /// When the target is left alone.
    pub maintenance: Option<Window>,
    /// What `/readyz` answers.
    pub health: Health,
    /// The wish to stop.
    pub shutdown: Shutdown,
}

impl Parts {
    /// A part that leaves its target alone does what it should.
    pub(crate) fn report(&self, failure: &Failure) {
        self.health.set_ready(&self.name, failure.code == IN_MAINTENANCE);
        self.health.set_status(&self.name, format!("waiting: {failure}"));
    }

    pub(crate) fn working(&self) {
        self.health.set_ready(&self.name, true);
        self.health.set_status(&self.name, "");
    }
}

/// Runs the stage until it is told to stop, has caught up, or meets a failure that will not heal.
pub fn run<T, F>(parts: &Parts, connect: impl Fn() -> Outcome<T>, feed: impl Fn() -> Outcome<F>) -> Outcome<()>
where
    T: Target + Send,
    T::Content: Send,
    F: Feed<Content = T::Content>,
{
    parts.health.set_ready(&parts.name, false);
    let mut fences = Fences::default();
    let who = format!("instance {} of {}", parts.instance, parts.name);
    supervise(&parts.name, &parts.shutdown, &RetryPolicy::default(), || {
        attempt(parts, &connect, &feed)
            .map_err(|failure| fences.judge(failure, &who))
            .inspect_err(|failure| parts.report(failure))
    })
}

/// The target is connected first: while it is away this instance holds no partitions.
fn attempt<T, F>(parts: &Parts, connect: &impl Fn() -> Outcome<T>, feed: &impl Fn() -> Outcome<F>) -> Outcome<()>
where
    T: Target + Send,
    T::Content: Send,
    F: Feed<Content = T::Content>,
{
    if !maintenance::wait(parts) {
        return Ok(());
    }
    let target = connect()?;
    let feed = feed()?;
    let ends = ends(parts, &feed.topics()?)?;
    apply_all(parts, target, feed, &ends, None).map(drop)
}

/// Works off what lies before `ends`, of each key only the last record. Gives the partitions in which that is done, and the
/// offset up to which the target has then had all of each; none if the process is to stop first.
pub(crate) fn work_off<T, F>(
    parts: &Parts,
    target: T,
    feed: F,
    ends: &Ends,
) -> Outcome<Option<BTreeMap<Partition, i64>>>
where
    T: Target + Send,
    T::Content: Send,
    F: Feed<Content = T::Content>,
{
    apply_all(parts, target, feed, ends, Some(Coalesced::default()))
}

fn apply_all<T, F>(
    parts: &Parts,
    mut target: T,
    feed: F,
    ends: &Ends,
    coalesced: Option<Coalesced>,
) -> Outcome<Option<BTreeMap<Partition, i64>>>
where
    T: Target + Send,
    T::Content: Send,
    F: Feed<Content = T::Content>,
{
    let mut letters = DeadLetters::new(&parts.bus, &parts.pipeline);
    letters.take_from(&mut target)?;
    let existing: BTreeSet<String> = ends.keys().map(|(topic, _)| topic.clone()).collect();
    if existing.is_empty() {
        return Ok(Some(BTreeMap::new()));
    }
    let names: Vec<String> = existing.iter().cloned().collect();
    let instance = format!("{}-{}", parts.name, parts.instance);
    let consumer = GroupConsumer::new(&parts.bus, &parts.group, &instance, &names)?;
    let progress = parts.until_current.then(|| {
        let total: i64 = ends.values().sum();
        Progress::new(parts.name.clone(), total.cast_unsigned())
    });
    let hand = Hand {
        parts,
        target,
        letters,
        rows_max: parts.rows_max.unwrap_or(T::BATCH_ROWS_MAX),
        waiting: WaitsShown::default(),
    };
    thread::scope(|scope| {
        let mut stage = Stage {
            parts,
            hands: Hands::start(scope, hand),
            consumer,
            feed,
            existing,
            looked: Instant::now(),
            batch: Batch::new(),
            coalesced,
            is_read: false,
            held: BTreeMap::new(),
            began: Instant::now(),
            next: BTreeMap::new(),
            shown: Instant::now(),
            is_unshown: false,
            progress,
        };
        let done = stage.run(ends)?;
        Ok(done.then_some(stage.held))
    })
}

/// Where the topics end now. One that does not exist yet is looked for again later; a run that only works off what is
/// there does without it.
pub(crate) fn ends(parts: &Parts, topics: &[String]) -> Outcome<Ends> {
    let mut ends = BTreeMap::new();
    for topic in topics {
        let partitions = admin::end_offsets_with(&parts.bus, topic, Patience::of(parts.until_current))?;
        if partitions.is_empty() && parts.until_current {
            tracing::warn!(topic, "the topic does not exist: nothing to apply");
        }
        ends.extend(
            partitions
                .into_iter()
                .map(|(partition, end)| ((topic.clone(), partition), end)),
        );
    }
    if ends.is_empty() && !parts.until_current {
        return Err(Failure::transient(
            "TOPIC_MISSING",
            format!("none of its topics exists yet: {}", topics.join(", ")),
        )
        .hint("the stage before this one makes them"));
    }
    Ok(ends)
}

/// What becomes of the loop when there is nothing to read.
enum Idle {
    GoOn,
    /// All is done that was to be done.
    Done,
    /// The process is to stop.
    Stop,
}

struct Stage<'a, T: Target, F> {
    parts: &'a Parts,
    hands: Hands<'a, T>,
    consumer: GroupConsumer,
    feed: F,
    /// The topics that are read.
    existing: BTreeSet<String>,
    /// When it was last asked whether there are others.
    looked: Instant,
    batch: Batch<T::Content>,
    /// What a run has read and not begun to write.
    coalesced: Option<Coalesced>,
    /// Whether all has been read that a run goes to.
    is_read: bool,
    /// The partitions that are ours, and up to where the target has had each.
    held: BTreeMap<Partition, i64>,
    /// When this was begun.
    began: Instant,
    /// The next offset of each partition, for display.
    next: BTreeMap<Partition, i64>,
    /// When Kafka was told those last.
    shown: Instant,
    /// Whether they have moved since.
    is_unshown: bool,
    progress: Option<Progress>,
}

impl<'a, T, F> Stage<'a, T, F>
where
    T: Target + Send + 'a,
    T::Content: Send + 'a,
    F: Feed<Content = T::Content>,
{
    /// True when everything is done; false if the process is to stop first.
    fn run(&mut self, ends: &Ends) -> Outcome<bool> {
        while !self.parts.shutdown.requested() {
            let wait = self.wait();
            match self.consumer.poll(wait)? {
                Event::Assigned(partitions) => self.claim(partitions)?,
                Event::Revoked(_) => {
                    self.give_up()?;
                    self.tell();
                }
                Event::Record(record) => self.take(record, ends)?,
                Event::Idle => match self.idle(ends)? {
                    Idle::GoOn => {}
                    Idle::Done => {
                        self.tell();
                        return Ok(true);
                    }
                    Idle::Stop => break,
                },
            }
        }
        let settled = self.settle().map(|_| false);
        self.tell();
        settled
    }

    fn give_up(&mut self) -> Outcome<()> {
        self.held.clear();
        self.is_read = false;
        match self.coalesced.is_some() {
            true => self.coalesced = Some(Coalesced::default()),
            false => drop(self.apply()?),
        }
        self.settle().map(drop)
    }

    fn take(&mut self, record: InRecord, ends: &Ends) -> Outcome<()> {
        let Some(coalesced) = &mut self.coalesced else {
            self.gather(record)?;
            if self.batch.is_full(T::BATCH_ROWS_MAX) {
                self.apply()?;
            }
            return Ok(());
        };
        let end = ends.get(&(record.topic.clone(), record.partition));
        if end.is_some_and(|end| record.offset < *end) {
            coalesced.push(record);
        }
        if coalesced.is_full() {
            self.apply_coalesced()?;
        }
        Ok(())
    }

    fn gather(&mut self, record: InRecord) -> Outcome<()> {
        self.batch.caused_by(&record.headers);
        let bytes = record.bytes();
        self.batch.push(self.feed.read(record)?, bytes);
        Ok(())
    }

    fn idle(&mut self, ends: &Ends) -> Outcome<Idle> {
        if self.coalesced.is_some() {
            return self.idle_in_run(ends);
        }
        if !self.apply()? || !self.settle()? {
            return Ok(Idle::Stop);
        }
        self.tell_in_time();
        let is_current = self.parts.until_current && self.consumer.caught_up(ends)?;
        // What was released may have been waited for itself. Before partitions are taken over, what waits there is not looked at.
        let has_released = !self.held.is_empty() && self.hands.tend(is_current)?;
        if !has_released && is_current {
            return Ok(Idle::Done);
        }
        // Nobody stays connected through a window.
        maintenance::refuse(&self.parts.target, self.parts.maintenance.as_ref())?;
        self.take_new_topics()?;
        Ok(Idle::GoOn)
    }

    /// A run is written when all of it is read, a part at a time: between two of them the group is heard.
    fn idle_in_run(&mut self, ends: &Ends) -> Outcome<Idle> {
        if self.held.is_empty() {
            let is_idle = self.began.elapsed() >= Duration::from_millis(MEMBER_MS_MAX);
            return Ok(if is_idle { Idle::Done } else { Idle::GoOn });
        }
        if !self.consumer.caught_up(ends)? {
            return Ok(Idle::GoOn);
        }
        self.is_read = true;
        let is_last = self.coalesced.as_ref().is_none_or(Coalesced::is_empty);
        if !self.apply_coalesced()? {
            return Ok(Idle::Stop);
        }
        match is_last {
            false => Ok(Idle::GoOn),
            true if !self.settle()? => Ok(Idle::Stop),
            true if self.hands.tend(true)? => Ok(Idle::GoOn),
            true => Ok(Idle::Done),
        }
    }

    /// Begins to write the first of what was coalesced. False as [`Stage::settle`].
    fn apply_coalesced(&mut self) -> Outcome<bool> {
        let records_max = self.parts.rows_max.unwrap_or(T::BATCH_ROWS_MAX);
        let taken = self.coalesced.as_mut().map(|coalesced| coalesced.take(records_max));
        for record in taken.unwrap_or_default() {
            self.gather(record)?;
        }
        self.apply()
    }

    /// A batch waits for more only while the one before it is under way: so batches are small when there is little to do, and
    /// large when there is much.
    fn wait(&mut self) -> Duration {
        Duration::from_millis(match self.batch.deliveries.is_empty() {
            true if self.is_read => 0,
            true => IDLE_POLL_MS,
            false if self.hands.is_at_rest() => 0,
            false => BATCH_WAIT_MS_MAX,
        })
    }

    /// Topics that were missing and have been made meanwhile.
    fn take_new_topics(&mut self) -> Outcome<()> {
        if self.parts.until_current || self.looked.elapsed() < Duration::from_millis(NEW_TOPICS_MS) {
            return Ok(());
        }
        self.looked = Instant::now();
        let before = self.existing.len();
        for topic in self.feed.topics()? {
            if !self.existing.contains(&topic) && admin::partitions(&self.parts.bus, &topic)?.is_some() {
                self.existing.insert(topic);
            }
        }
        if self.existing.len() == before {
            return Ok(());
        }
        let topics: Vec<String> = self.existing.iter().cloned().collect();
        self.consumer.subscribe(&topics)
    }

    /// Whoever had these partitions before can write no more; the offsets in the target say where to go on.
    fn claim(&mut self, partitions: Vec<(String, i32)>) -> Outcome<()> {
        self.settle()?;
        self.batch.take();
        self.next.clear();
        self.is_unshown = false;
        self.coalesced = self.coalesced.as_ref().map(|_| Coalesced::default());
        self.is_read = false;
        let claimed: Vec<Partition> = partitions
            .into_iter()
            .map(|(topic, number)| Partition {
                topic: topic.into(),
                number,
            })
            .collect();
        maintenance::refuse(&self.parts.target, self.parts.maintenance.as_ref())?;
        let starts = self.hands.target()?.claim(&claimed)?;
        let start = |partition: &Partition| starts.get(partition).copied().unwrap_or_default();
        let held = claimed.iter().map(|partition| (partition.clone(), start(partition)));
        self.held = held.collect();
        let shown = self.consumer.committed()?;
        for (partition, next) in starts {
            // A partition never read starts wherever the topic starts.
            if next > 0 || shown.contains_key(&(partition.topic.to_string(), partition.number)) {
                self.consumer.seek(&partition.topic, partition.number, next)?;
            }
        }
        tracing::info!(
            target_name = self.parts.target,
            partitions = claimed.len(),
            "took partitions over"
        );
        self.parts.working();
        Ok(())
    }

    /// Begins to write what has been gathered, if anything has, as soon as what was under way is written.
    /// False as [`Stage::settle`].
    fn apply(&mut self) -> Outcome<bool> {
        if !self.settle()? {
            return Ok(false);
        }
        if !self.batch.deliveries.is_empty() {
            self.hands.begin(self.batch.take())?;
        }
        Ok(true)
    }

    /// Waits until nothing is under way. False if what was is not written, because the process is to stop.
    fn settle(&mut self) -> Outcome<bool> {
        match self.hands.settle()? {
            Settled::Nothing => Ok(true),
            Settled::Written(batch) => {
                self.show(&batch.deliveries);
                Ok(true)
            }
            // Who hears of it leaves the loop: what comes after the batch must not be written without it.
            Settled::Stopped => Ok(false),
        }
    }

    fn tell_in_time(&mut self) {
        if self.shown.elapsed() >= Duration::from_millis(SHOWN_EVERY_MS) {
            self.tell();
        }
    }

    /// Tells Kafka the offsets, if they have moved.
    fn tell(&mut self) {
        if !std::mem::take(&mut self.is_unshown) {
            return;
        }
        let next = self.next.iter();
        let next: Vec<(String, i32, i64)> = next
            .map(|(partition, next)| (partition.topic.to_string(), partition.number, *next))
            .collect();
        self.consumer.commit_display(&next);
        self.shown = Instant::now();
    }

    /// Tells Kafka, the metrics and the person in front of the terminal how far it has come.
    fn show(&mut self, batch: &[Delivery<T::Content>]) {
        for run in batch.chunk_by(|one, next| one.from == next.from) {
            if let Some(last) = run.last() {
                self.next.insert(last.from.clone(), last.offset + 1);
                if let Some(had) = self.held.get_mut(&last.from) {
                    *had = (last.offset + 1).max(*had);
                }
            }
        }
        self.is_unshown = true;
        self.tell_in_time();
        if let Some(progress) = &mut self.progress {
            progress.set(self.next.values().map(|next| next.cast_unsigned()).sum());
        }
        // A lane that is written at set times is not late.
        let live = batch.last().filter(|_| self.coalesced.is_none());
        if let Some(age) = live.and_then(|delivery| age_seconds(delivery.timestamp_ms)) {
            metrics::LAG_SECONDS.with_label_values(&[&self.parts.target]).set(age);
        }
    }
}

fn age_seconds(timestamp_ms: i64) -> Option<f64> {
    let written = SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(timestamp_ms).ok()?);
    Some(
        SystemTime::now()
            .duration_since(written)
            .map_or(0.0, |age| age.as_secs_f64()),
    )
}
