//! READ FIRST: the loop of one target: read > plan > apply > commit.
//!
//! Records of the canonical topics come in the order of their partitions and are gathered into a batch until it is large
//! enough or nothing more is there. The target applies the batch and moves its own offsets in one transaction; that is the
//! commit. Kafka is told the offsets afterwards, for display. While a batch is applied ([`crate::hand`]) the next is gathered.
//!
//! What the target cannot take now (it is down, full, locked, read-only) stops this loop, not the process: it waits and
//! says why. What the target can never take is set aside by the target itself and goes to the dead letter topic.
//! Two threads, and everything in them blocks.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use syncline_bus::{BusConfig, Event, Fences, GroupConsumer, Patience, admin};
use syncline_runtime::{Failure, Health, Outcome, Progress, RetryPolicy, Shutdown, supervise, telemetry};
use tracing::Span;

use crate::dead_letter::DeadLetters;
use crate::feed::Feed;
use crate::hand::{Hand, Hands, Settled, WaitsShown};
use crate::metrics;
use crate::target::{Delivery, Partition, Target};

const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long it is waited for more while a batch is under way.
const BATCH_WAIT_MS_MAX: u64 = 5;
const IDLE_POLL_MS: u64 = 200;
/// How often it is asked whether a topic that was missing has been made.
const NEW_TOPICS_MS: u64 = 5_000;

/// What a stage is made of.
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
    /// What `/readyz` answers.
    pub health: Health,
    /// The wish to stop.
    pub shutdown: Shutdown,
}

impl Parts {
    pub(crate) fn report(&self, failure: &Failure) {
        self.health.set_ready(&self.name, false);
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
    let mut target = connect()?;
    let mut letters = DeadLetters::new(&parts.bus, &parts.pipeline);
    letters.take_from(&mut target)?;
    let feed = feed()?;
    let ends = ends(parts, &feed.topics()?)?;
    let existing: BTreeSet<String> = ends.keys().map(|(topic, _)| topic.clone()).collect();
    if existing.is_empty() {
        return Ok(());
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
        rows_max: T::BATCH_ROWS_MAX,
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
            next: BTreeMap::new(),
            progress,
        };
        stage.run(&ends)
    })
}

/// Where the topics end now. One that does not exist yet is looked for again later; a run that only works off what is
/// there does without it.
fn ends(parts: &Parts, topics: &[String]) -> Outcome<BTreeMap<(String, i32), i64>> {
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

/// Records gathered for one transaction.
pub struct Batch<C> {
    /// In the order of their topics.
    pub deliveries: Vec<Delivery<C>>,
    bytes: usize,
    /// What the batch is a consequence of, as far as that is traced.
    pub span: Span,
}

impl<C> Batch<C> {
    /// Nothing.
    pub(crate) fn new() -> Self {
        Self {
            deliveries: Vec::new(),
            bytes: 0,
            span: Span::none(),
        }
    }

    fn take(&mut self) -> Self {
        std::mem::replace(self, Self::new())
    }

    /// Links the batch to where its records come from: one link of each batch before, a record of which begins it here.
    fn caused_by(&mut self, headers: &[(String, Vec<u8>)]) {
        if self.deliveries.is_empty() {
            self.span = tracing::info_span!("sink.batch");
            telemetry::extract(&self.span, headers);
        }
    }

    /// Adds a record.
    pub(crate) fn push(&mut self, delivery: Delivery<C>) {
        self.bytes += delivery.key.len() + delivery.value.len();
        self.deliveries.push(delivery);
    }

    fn is_full(&self, rows_max: usize) -> bool {
        self.deliveries.len() >= rows_max || self.bytes >= BATCH_BYTES_MAX
    }
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
    /// The next offset of each partition, for display.
    next: BTreeMap<Partition, i64>,
    progress: Option<Progress>,
}

impl<'a, T, F> Stage<'a, T, F>
where
    T: Target + Send + 'a,
    T::Content: Send + 'a,
    F: Feed<Content = T::Content>,
{
    fn run(&mut self, ends: &BTreeMap<(String, i32), i64>) -> Outcome<()> {
        while !self.parts.shutdown.requested() {
            let wait = self.wait();
            match self.consumer.poll(wait)? {
                Event::Assigned(partitions) => self.claim(partitions)?,
                Event::Revoked(_) => {
                    self.apply()?;
                    self.settle()?;
                }
                Event::Record(record) => {
                    self.batch.caused_by(&record.headers);
                    self.batch.push(self.feed.read(record)?);
                    if self.batch.is_full(T::BATCH_ROWS_MAX) {
                        self.apply()?;
                    }
                }
                Event::Idle => {
                    if !self.apply()? || !self.settle()? {
                        break;
                    }
                    let is_current = self.parts.until_current && self.consumer.caught_up(ends)?;
                    // What was released may have been waited for itself.
                    if !self.hands.tend(is_current)? && is_current {
                        return Ok(());
                    }
                    self.take_new_topics()?;
                }
            }
        }
        self.settle().map(drop)
    }

    /// A batch waits for more only while the one before it is under way: so batches are small when there is little to do, and
    /// large when there is much.
    fn wait(&mut self) -> Duration {
        Duration::from_millis(match self.batch.deliveries.is_empty() {
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
        let claimed: Vec<Partition> = partitions
            .into_iter()
            .map(|(topic, number)| Partition {
                topic: topic.into(),
                number,
            })
            .collect();
        let starts = self.hands.target()?.claim(&claimed)?;
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

    /// Tells Kafka, the metrics and the person in front of the terminal how far it has come.
    fn show(&mut self, batch: &[Delivery<T::Content>]) {
        for delivery in batch {
            self.next.insert(delivery.from.clone(), delivery.offset + 1);
        }
        let next: Vec<(String, i32, i64)> = self
            .next
            .iter()
            .map(|(partition, next)| (partition.topic.to_string(), partition.number, *next))
            .collect();
        self.consumer.commit_display(&next);
        if let Some(progress) = &mut self.progress {
            progress.set(next.iter().map(|(_, _, next)| next.cast_unsigned()).sum());
        }
        if let Some(age) = batch.last().and_then(|delivery| age_seconds(delivery.timestamp_ms)) {
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
