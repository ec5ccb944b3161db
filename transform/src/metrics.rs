//! The names of what can be counted here.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use syncline_bus::InRecord;
use syncline_runtime::metrics::{CounterVec, GaugeVec, HistogramVec, SECONDS, counter, gauge, histogram};

use crate::outgoing::Outgoing;

/// Records read, by stage.
pub static RECORDS_IN: LazyLock<CounterVec> =
    LazyLock::new(|| counter("syncline_transform_records_in_total", "Records read.", &["stage"]));

/// Records written, by stage and topic.
pub static RECORDS_OUT: LazyLock<CounterVec> = LazyLock::new(|| {
    counter(
        "syncline_transform_records_out_total",
        "Records written.",
        &["stage", "topic"],
    )
});

/// Records that came to nothing, by stage and reason.
pub static RECORDS_SKIPPED: LazyLock<CounterVec> = LazyLock::new(|| {
    counter(
        "syncline_transform_records_skipped_total",
        "Records that said nothing.",
        &["stage", "reason"],
    )
});

/// Records that could not be worked on, by stage.
pub static DEAD_LETTERS: LazyLock<CounterVec> = LazyLock::new(|| {
    counter(
        "syncline_transform_dead_letters_total",
        "Records that went to the dead letters.",
        &["stage"],
    )
});

/// Changes that wait for the row they refer to, by their link and by that of the row; without the latter behind another.
static WAITING: LazyLock<GaugeVec> = LazyLock::new(|| {
    gauge(
        "syncline_transform_waiting",
        "Changes that wait for the row they refer to.",
        &["link", "parent"],
    )
});

/// Shows how many wait, and that those wait no more who did `before`.
pub fn waiting(before: &BTreeMap<(String, String), usize>, now: &BTreeMap<(String, String), usize>) {
    let count = |link: &str, parent: &str, count: usize| WAITING.with_label_values(&[link, parent]).set(whole(count));
    before.keys().for_each(|(link, parent)| count(link, parent, 0));
    now.iter()
        .for_each(|((link, parent), waiting)| count(link, parent, *waiting));
}

/// From the first record of a batch until its transaction has been committed, by stage.
pub static BATCH_SECONDS: LazyLock<HistogramVec> = LazyLock::new(|| {
    histogram(
        "syncline_transform_batch_seconds",
        "From gathered batch to commit.",
        &["stage"],
        &SECONDS,
    )
});

/// Sources that a guard has paused.
pub static PAUSED: LazyLock<GaugeVec> = LazyLock::new(|| {
    gauge(
        "syncline_transform_source_paused",
        "Whether a guard has paused the source: nothing of it is mapped until a person lets it go on.",
        &["source"],
    )
});

/// Changes whose commit time cannot be right, by source and fault.
pub static CLOCK_FAULTS: LazyLock<CounterVec> = LazyLock::new(|| {
    counter(
        "syncline_transform_clock_faults_total",
        "Changes of a source whose clock was ahead, so that the stamp is cut, or was set back.",
        &["source", "fault"],
    )
});

/// Age of the last record at the time of its commit, by stage; 0 when nothing is left to read.
static LAG: LazyLock<GaugeVec> = LazyLock::new(|| {
    gauge(
        "syncline_transform_lag_seconds",
        "Age of the last record when it was committed.",
        &["stage"],
    )
});

/// Shows how old the last of these records is; without records the stage is up to date.
pub fn lag(stage: &str, records: &[InRecord]) {
    let now_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis();
    let written_ms = records
        .iter()
        .map(|record| record.timestamp_ms)
        .max()
        .and_then(|ms| u128::try_from(ms).ok());
    let age = written_ms.map_or(Duration::ZERO, |ms| {
        Duration::from_millis(u64::try_from(now_ms.saturating_sub(ms)).unwrap_or(u64::MAX))
    });
    LAG.with_label_values(&[stage]).set(age.as_secs_f64());
}

/// Counts what has been committed, by topic.
pub fn sent(stage: &str, outputs: &[Outgoing]) {
    let mut by_topic: BTreeMap<&str, usize> = BTreeMap::new();
    for output in outputs {
        *by_topic.entry(&output.topic).or_default() += 1;
    }
    for (topic, count) in by_topic {
        RECORDS_OUT.with_label_values(&[stage, topic]).inc_by(whole(count));
    }
}

/// As a counter takes it. Batches are bounded far below what does not fit.
pub fn whole(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::from(u32::MAX), f64::from)
}
