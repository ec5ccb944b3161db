//! Where a partition ends.
//!
//! There are two ends: of all records (the high watermark) and of those whose transactions are decided (the last
//! stable offset). A broker answers "committed" as soon as the decision is on its disk, and *then* writes the markers
//! that make the records visible. Whoever asks in between for the last stable offset misses a transaction that is
//! already committed: a stage that works off what is there would stop short, and state restored then would lack an
//! update whose input counts as read. So the high watermark is asked for first, and then the stable end is waited for
//! until it has come that far.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use syncline_runtime::{Class, Outcome};

use crate::BusConfig;
use crate::config::REQUEST_TIMEOUT_MS;
use crate::error::{Said, failure};

/// How long a transaction that is open is waited for, because its outcome may have been decided already without being seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// 2 s: who looks again later, or only shows what there is.
    Short,
    /// 15 s: who works off what is there and then ends. A busy broker may need long to show what it has committed.
    Long,
}

impl Patience {
    /// That of a run which ends where the topics end now, or of one that goes on.
    pub fn of(until_current: bool) -> Self {
        if until_current { Self::Long } else { Self::Short }
    }

    pub(crate) fn time(self) -> Duration {
        Duration::from_millis(match self {
            Self::Short => SHORT_MS,
            Self::Long => LONG_MS,
        })
    }
}

const SHORT_MS: u64 = 2_000;
const LONG_MS: u64 = 15_000;
const DECIDED_POLL_MS: u64 = 5;
/// How long a partition may be without a leader.
const LEADERLESS_MS_MAX: u64 = 5_000;
const LEADERLESS_POLL_MS: u64 = 100;

/// The clients that look at each cluster. A new one needs up to 60 ms for its first answer and a start asks dozens of times,
/// so they stay for the questions that follow. The pipeline file names the clusters, which bounds them.
static LOOKING: Mutex<BTreeMap<Cluster, Arc<Ends>>> = Mutex::new(BTreeMap::new());
/// For how long: a start's questions, and not those of the next attempt, for which a line may have died without a word.
const LOOKING_MS_MAX: u64 = 2_000;

/// What tells clusters, and the rights of who looks at them, apart.
type Cluster = (String, BTreeMap<String, String>);

fn cluster(config: &BusConfig) -> Cluster {
    (config.bootstrap.clone(), config.properties.clone())
}

/// Looks at the cluster. After a failure the clients are given up: what they have heard belongs to that failure.
pub(crate) fn look<T>(config: &BusConfig, question: impl FnOnce(&Ends) -> Outcome<T>) -> Outcome<T> {
    let known = || LOOKING.lock().unwrap_or_else(PoisonError::into_inner);
    let found = known().get(&cluster(config)).cloned();
    let ends = match found.filter(|ends| ends.made_at.elapsed() < Duration::from_millis(LOOKING_MS_MAX)) {
        Some(ends) => ends,
        None => {
            let made = Arc::new(Ends::new(config)?);
            // What it was is closed when the lock is free again.
            let _was = known().insert(cluster(config), Arc::clone(&made));
            made
        }
    };
    let answer = question(&ends);
    if answer.is_err() {
        let _was = known().remove(&cluster(config));
    }
    answer
}

/// Closes the clients that look at clusters: the last thing that a process does, for TLS takes down what they stand on.
pub fn close_idle() {
    let _were = std::mem::take(&mut *LOOKING.lock().unwrap_or_else(PoisonError::into_inner));
}

/// Asks for both ends of partitions.
pub(crate) struct Ends {
    stable: BaseConsumer<Said>,
    all: BaseConsumer<Said>,
    made_at: Instant,
}

/// The ends of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    /// The first offset there is.
    pub(crate) first: i64,
    /// Behind the last record that readers of committed records see.
    pub(crate) stable: i64,
    /// Whether every transaction is decided that had records here when this was asked.
    pub(crate) decided: bool,
}

impl Ends {
    fn new(config: &BusConfig) -> Outcome<Self> {
        Ok(Self {
            stable: client(config, "read_committed")?,
            all: client(config, "read_uncommitted")?,
            made_at: Instant::now(),
        })
    }

    /// The end of a partition, after waiting no longer than this for what is undecided.
    pub(crate) fn of(&self, topic: &str, partition: i32, patience: Duration) -> Outcome<End> {
        let deadline = Instant::now() + patience;
        let (_, all) = watermarks(&self.all, topic, partition)?;
        loop {
            let (first, stable) = watermarks(&self.stable, topic, partition)?;
            let decided = stable >= all;
            if decided || Instant::now() >= deadline {
                return Ok(End { first, stable, decided });
            }
            std::thread::sleep(Duration::from_millis(DECIDED_POLL_MS));
        }
    }

    /// The client that sees what readers of committed records see.
    pub(crate) fn looker(&self) -> &BaseConsumer<Said> {
        &self.stable
    }
}

/// A consumer in no group, because a consumer reads metadata without making the broker create the topic.
pub(crate) fn client(config: &BusConfig, isolation: &str) -> Outcome<BaseConsumer<Said>> {
    let mut client = config.for_consumer("", None);
    client.remove("group.id");
    client.set("isolation.level", isolation);
    client
        .create_with_context(Said::default())
        .map_err(|error| failure("create a client", error))
}

/// The first offset there is, and the one behind the last that this consumer may see. A partition that is changing its
/// leader, or was made a moment ago, is asked again.
pub(crate) fn watermarks<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    topic: &str,
    partition: i32,
) -> Outcome<(i64, i64)> {
    let deadline = Instant::now() + Duration::from_millis(LEADERLESS_MS_MAX);
    loop {
        let asked = client.fetch_watermarks(topic, partition, Duration::from_millis(REQUEST_TIMEOUT_MS));
        let failure = match asked {
            Ok(marks) => return Ok(marks),
            Err(error) => failure(&format!("ask for the ends of {topic}[{partition}]"), error),
        };
        if failure.class != Class::Transient || Instant::now() >= deadline {
            return Err(failure);
        }
        std::thread::sleep(Duration::from_millis(LEADERLESS_POLL_MS));
    }
}
