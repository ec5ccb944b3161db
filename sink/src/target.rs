//! A target: an app that records are written into.
//!
//! What every target promises: `apply` that returns `Ok` is durable; the same records twice have the effect of once; an
//! older record never overwrites a newer one; a record that the app refuses is set aside and its neighbours are applied.

use std::collections::BTreeMap;
use std::sync::Arc;

use syncline_runtime::Outcome;
use syncline_schemas::canonical::Canonical;

use crate::plan::Verdict;

/// Failures after which partitions have to be claimed anew: somebody else did, or the target went back to an earlier state.
pub const CLAIM_ENDS: [&str; 2] = ["FENCED", "TARGET_WENT_BACK"];

/// The failure of a target that needs more time for a batch than it may take: fewer records at once may pass.
pub const TOO_SLOW: &str = "TARGET_SLOW";

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition {
    /// Topic.
    pub topic: Arc<str>,
    /// Number of the partition.
    pub number: i32,
}

/// One record as it came from its topic, and what it says.
#[derive(Clone, Debug)]
pub struct Delivery<C = Canonical> {
    /// Where it comes from.
    pub from: Partition,
    /// Its offset there.
    pub offset: i64,
    /// When it was written, milliseconds since 1970.
    pub timestamp_ms: i64,
    /// The entity, or for a copied table `schema.table`.
    pub entity: Arc<str>,
    /// Its key, as it came.
    pub key: Vec<u8>,
    /// Its value, as it came.
    pub value: Vec<u8>,
    /// What it says: none if it says nothing, as a tombstone; a reason without values if it cannot be read.
    pub content: Result<Option<C>, String>,
}

impl Delivery {
    /// The entity id. Of a record that cannot be read its key, as far as a text can have it: no zero bytes.
    pub fn cid(&self) -> String {
        match &self.content {
            Ok(Some(record)) => record.cid.clone(),
            _ => String::from_utf8_lossy(&self.key).replace('\0', "\u{FFFD}"),
        }
    }
}

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Number of records by what became of them.
    pub verdicts: BTreeMap<Verdict, u64>,
    /// Records that had been applied before, or that a later one of the same batch replaced.
    pub skipped: u64,
    /// Fields that were left to the app's own edit.
    pub stale_fields: u64,
    /// Records that the app refused, and records parked behind one.
    pub parked: u64,
    /// Parked keys that went through after all.
    pub healed: u64,
    /// Records that wait for another row.
    pub waiting: u64,
    /// Keys that waited and wait no more.
    pub released: u64,
}

/// What is left of what waited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tended {
    /// What became of those that were looked at.
    pub report: Report,
    /// How many wait, by their entity and the one they wait for; the latter empty of those that wait for rows to go.
    pub waiting: BTreeMap<(String, String), u64>,
}

impl Report {
    /// Number of records with this verdict.
    pub fn count(&self, verdict: Verdict) -> u64 {
        self.verdicts.get(&verdict).copied().unwrap_or_default()
    }
}

/// A record that the app refused, for the dead letter topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The target that refused it.
    pub target: String,
    /// Where it comes from.
    pub from: Partition,
    /// Its offset there.
    pub offset: i64,
    /// Why it was refused; no values.
    pub reason: String,
    /// Its key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
}

/// An app that records are written into.
pub trait Target {
    /// What its records say.
    type Content;

    /// Records of a batch: more wait for less often, and fewer hold locks for less long.
    const BATCH_ROWS_MAX: usize = 1_000;

    /// Takes these partitions over, so that whoever had them before can write no more, and says at which offset to go on.
    fn claim(&mut self, partitions: &[Partition]) -> Outcome<BTreeMap<Partition, i64>>;

    /// Writes a batch. `Ok` means durable.
    fn apply(&mut self, batch: &[Delivery<Self::Content>]) -> Outcome<Report>;

    /// Looks at what waits for other rows: what may go goes, and what has waited too long is set aside. To be called now and
    /// then, and `at_once` where nothing will come after.
    fn tend(&mut self, at_once: bool) -> Outcome<Tended>;

    /// Hands refused records that nobody has taken yet to `send`, and forgets their contents when it returns `Ok`.
    fn dead_letters(&mut self, send: &mut dyn FnMut(&[DeadLetter]) -> Outcome<()>) -> Outcome<()>;
}
