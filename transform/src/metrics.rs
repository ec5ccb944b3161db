//! The names of what can be counted here.

use std::collections::BTreeMap;
use std::sync::LazyLock;

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

/// From the first record of a batch until its transaction has been committed, by stage.
pub static BATCH_SECONDS: LazyLock<HistogramVec> = LazyLock::new(|| {
    histogram(
        "syncline_transform_batch_seconds",
        "From gathered batch to commit.",
        &["stage"],
        &SECONDS,
    )
});

/// Offsets between what was read and the end of the topic, by stage and topic.
pub static LAG: LazyLock<GaugeVec> = LazyLock::new(|| {
    gauge(
        "syncline_transform_lag_records",
        "Offsets not yet read.",
        &["stage", "topic"],
    )
});

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
