//! What the sink counts. Names are part of what operators rely on.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use syncline_runtime::metrics::{CounterVec, GaugeVec, HistogramVec, SECONDS, counter, gauge, histogram};

use crate::plan::Verdict;
use crate::target::Report;

/// Records by what became of them.
pub static RECORDS: LazyLock<CounterVec> = LazyLock::new(|| {
    counter(
        "syncline_sink_records_total",
        "Records by what became of them.",
        &["target", "verdict"],
    )
});

/// Fields left to the app's own edit.
pub static STALE_FIELDS: LazyLock<CounterVec> = LazyLock::new(|| {
    counter(
        "syncline_sink_stale_fields_total",
        "Fields left alone because the app's own edit is on its way.",
        &["target"],
    )
});

/// Records sent to the dead letter topic.
pub static DEAD_LETTERS: LazyLock<CounterVec> = LazyLock::new(|| {
    counter(
        "syncline_sink_dead_letters_total",
        "Records that the target refused.",
        &["target"],
    )
});

/// Records that wait for another row, by their entity and that of the row; without the latter for rows to go.
static WAITING: LazyLock<GaugeVec> = LazyLock::new(|| {
    gauge(
        "syncline_sink_waiting",
        "Records that wait for another row of the target.",
        &["target", "entity", "parent"],
    )
});

/// Shows how many wait, and that those wait no more who did `before`.
pub fn waiting(target: &str, before: &BTreeMap<(String, String), u64>, now: &BTreeMap<(String, String), u64>) {
    let set = |entity: &str, parent: &str, count: u64| {
        #[allow(clippy::cast_precision_loss, reason = "a table has far fewer rows than 2^52")]
        WAITING.with_label_values(&[target, entity, parent]).set(count as f64);
    };
    before.keys().for_each(|(entity, parent)| set(entity, parent, 0));
    now.iter()
        .for_each(|((entity, parent), count)| set(entity, parent, *count));
}

/// Duration of batches.
pub static BATCH_SECONDS: LazyLock<HistogramVec> = LazyLock::new(|| {
    histogram(
        "syncline_sink_batch_seconds",
        "From the start of a batch to its commit.",
        &["target"],
        &SECONDS,
    )
});

/// Age of the last record applied.
pub static LAG_SECONDS: LazyLock<GaugeVec> = LazyLock::new(|| {
    gauge(
        "syncline_sink_lag_seconds",
        "From the writing of the last applied record to its commit in the target.",
        &["target"],
    )
});

/// When a lane is written next.
pub static NEXT_RUN_SECONDS: LazyLock<GaugeVec> = LazyLock::new(|| {
    gauge(
        "syncline_sink_next_run_timestamp_seconds",
        "When a lane that is written at set times is written next, seconds since 1970.",
        &["target", "part"],
    )
});

/// What such a lane has before it.
pub static QUEUE_OFFSETS: LazyLock<GaugeVec> = LazyLock::new(|| {
    gauge(
        "syncline_sink_queue_offsets",
        "How many offsets a lane that is written at set times has before it.",
        &["target", "part"],
    )
});

/// Whether nothing may be written now.
pub static IN_MAINTENANCE: LazyLock<GaugeVec> = LazyLock::new(|| {
    gauge(
        "syncline_sink_in_maintenance",
        "1 while a target is in maintenance and nothing is written into it.",
        &["target"],
    )
});

/// Counts a batch.
pub fn count(target: &str, report: &Report) {
    let add = |verdict: &str, records: u64| {
        if records > 0 {
            #[allow(clippy::cast_precision_loss, reason = "a batch is far smaller than 2^52")]
            RECORDS.with_label_values(&[target, verdict]).inc_by(records as f64);
        }
    };
    for (verdict, records) in &report.verdicts {
        add(name(*verdict), *records);
    }
    add("skipped", report.skipped);
    add("parked", report.parked);
    add("healed", report.healed);
    add("waiting", report.waiting);
    add("released", report.released);
    #[allow(clippy::cast_precision_loss, reason = "a batch is far smaller than 2^52")]
    STALE_FIELDS
        .with_label_values(&[target])
        .inc_by(report.stale_fields as f64);
}

fn name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Older => "older",
        Verdict::Nothing => "nothing",
        Verdict::Stale => "stale",
        Verdict::Seen => "seen",
        Verdict::Inserted => "inserted",
        Verdict::Updated => "updated",
        Verdict::Deleted => "deleted",
    }
}
