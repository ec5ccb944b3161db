//! Capture's metrics, each by source.

use std::sync::LazyLock;

use syncline_runtime::metrics::{self, Counter, CounterVec, GaugeVec};

const BY_SOURCE: [&str; 1] = ["source"];

static ROWS: LazyLock<CounterVec> = LazyLock::new(|| {
    metrics::counter(
        "syncline_capture_rows_total",
        "Records of rows sent to Kafka",
        &BY_SOURCE,
    )
});
static BYTES: LazyLock<CounterVec> =
    LazyLock::new(|| metrics::counter("syncline_capture_bytes_total", "Bytes of records committed", &BY_SOURCE));
static COMMITS: LazyLock<CounterVec> = LazyLock::new(|| {
    metrics::counter(
        "syncline_capture_commits_total",
        "Batches known to be in Kafka",
        &BY_SOURCE,
    )
});
static IGNORED: LazyLock<GaugeVec> = LazyLock::new(|| {
    metrics::gauge(
        "syncline_capture_ignored",
        "Messages of the log without a record, by reason",
        &["source", "reason"],
    )
});
static LAG_BYTES: LazyLock<GaugeVec> = LazyLock::new(|| {
    metrics::gauge(
        "syncline_capture_lag_bytes",
        "Log between the server's last word and Kafka",
        &BY_SOURCE,
    )
});
static LAG_SECONDS: LazyLock<GaugeVec> = LazyLock::new(|| {
    metrics::gauge(
        "syncline_capture_lag_seconds",
        "Age of the last committed change when it was in Kafka",
        &BY_SOURCE,
    )
});
static SNAPSHOT: LazyLock<GaugeVec> = LazyLock::new(|| {
    metrics::gauge(
        "syncline_capture_snapshot_percent",
        "How much of the snapshot is in Kafka, as estimated",
        &BY_SOURCE,
    )
});

static RETAINED_BYTES: LazyLock<GaugeVec> = LazyLock::new(|| {
    metrics::gauge(
        "syncline_capture_slot_retained_bytes",
        "Log that the source keeps for the slot",
        &BY_SOURCE,
    )
});

static LOSSES: LazyLock<CounterVec> = LazyLock::new(|| {
    metrics::counter(
        "syncline_capture_losses_total",
        "Values that lost something on their way into the record, by table, column and kind of loss",
        &["source", "table", "column", "loss"],
    )
});

/// Values of a column that lost something.
pub fn losses(source: &str, table: &str, column: &str, loss: &str) -> Counter {
    LOSSES.with_label_values(&[source, table, column, loss])
}

/// How much log the source keeps for us.
pub fn retained(source: &str, bytes: i64) {
    RETAINED_BYTES.with_label_values(&[source]).set(bytes as f64);
}

static SLOT_ALARM: LazyLock<GaugeVec> = LazyLock::new(|| {
    metrics::gauge(
        "syncline_capture_slot_alarm",
        "1 if the slot holds back more than half of the log that it may",
        &BY_SOURCE,
    )
});

const BY_TABLE: [&str; 2] = ["source", "table"];

static TABLE_ROWS: LazyLock<CounterVec> = LazyLock::new(|| {
    metrics::counter(
        "syncline_capture_table_rows_total",
        "Records of a table's rows known to be in Kafka",
        &BY_TABLE,
    )
});
static TABLE_LAG_BYTES: LazyLock<GaugeVec> = LazyLock::new(|| {
    metrics::gauge(
        "syncline_capture_table_lag_bytes",
        "Log behind the table's last change when that was in Kafka",
        &BY_TABLE,
    )
});
static TABLE_LAG_SECONDS: LazyLock<GaugeVec> = LazyLock::new(|| {
    metrics::gauge(
        "syncline_capture_table_lag_seconds",
        "Age of the table's last committed change when it was in Kafka",
        &BY_TABLE,
    )
});
static TABLE_SNAPSHOT: LazyLock<GaugeVec> = LazyLock::new(|| {
    metrics::gauge(
        "syncline_capture_table_snapshot_percent",
        "How much of a table's snapshot is in Kafka, as estimated; 100 when all of it is",
        &BY_TABLE,
    )
});

/// What a batch did for one table.
pub struct TableLag {
    /// Records of its rows.
    pub rows: u64,
    /// How old its last change was.
    pub seconds: f64,
    /// How far behind the end of the log.
    pub bytes: u64,
}

/// A batch with rows of the table is in Kafka.
pub fn table(source: &str, table: &str, lag: TableLag) {
    let labels = [source, table];
    TABLE_ROWS.with_label_values(&labels).inc_by(lag.rows as f64);
    TABLE_LAG_SECONDS.with_label_values(&labels).set(lag.seconds);
    TABLE_LAG_BYTES.with_label_values(&labels).set(lag.bytes as f64);
}

/// How much of the table's snapshot is done; `rows` of about so many, which may be far off.
pub fn table_snapshot(source: &str, table: &str, rows: u64, of_about: Option<u64>, done: bool) {
    let part = rows as f64 / of_about.unwrap_or(rows).max(rows).max(1) as f64;
    let percent = if done { 100.0 } else { (part * 100.0).min(99.0) };
    TABLE_SNAPSHOT.with_label_values(&[source, table]).set(percent);
}

static TABLE_WAITS: LazyLock<GaugeVec> = LazyLock::new(|| {
    metrics::gauge(
        "syncline_capture_table_waits",
        "1 for a table that waits, by state: needs_backfill, stopped (for a person), registry (goes on by itself)",
        &["source", "table", "state"],
    )
});

static POISONED: LazyLock<CounterVec> = LazyLock::new(|| {
    metrics::counter(
        "syncline_capture_poisoned_total",
        "Rows that could not be written, by table and code",
        &["source", "table", "code"],
    )
});

/// A row that could not be written. How many there have been of the kind.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count is whole and not negative"
)]
pub fn poisoned(source: &str, table: &str, code: &str) -> u64 {
    let counter = POISONED.with_label_values(&[source, table, code]);
    counter.inc();
    counter.get() as u64
}

/// What a table waits for.
pub fn table_waits(source: &str, table: &str, needs_backfill: bool, stopped: bool) {
    for (state, waits) in [("needs_backfill", needs_backfill), ("stopped", stopped)] {
        let value = f64::from(u8::from(waits));
        TABLE_WAITS.with_label_values(&[source, table, state]).set(value);
    }
}

/// Whether a table waits for the registry.
pub fn table_awaits_registry(source: &str, table: &str, awaits: bool) {
    let value = f64::from(u8::from(awaits));
    TABLE_WAITS.with_label_values(&[source, table, "registry"]).set(value);
}

/// Whether the slot holds back too much.
pub fn slot_alarm(source: &str, alarm: bool) {
    SLOT_ALARM.with_label_values(&[source]).set(f64::from(u8::from(alarm)));
}

/// A row was sent.
pub fn row(source: &str) {
    ROWS.with_label_values(&[source]).inc();
}

/// Rows were sent.
pub fn rows(source: &str, count: u64) {
    ROWS.with_label_values(&[source]).inc_by(count as f64);
}

/// A batch is in Kafka.
pub fn committed(source: &str, bytes: u64) {
    BYTES.with_label_values(&[source]).inc_by(bytes as f64);
    COMMITS.with_label_values(&[source]).inc();
}

/// How far behind: in bytes of the log, and how old the last change was when it was in Kafka.
pub fn lag(source: &str, bytes: u64, seconds: f64) {
    LAG_BYTES.with_label_values(&[source]).set(bytes as f64);
    LAG_SECONDS.with_label_values(&[source]).set(seconds);
}

/// How much of the snapshot is done.
pub fn snapshot(source: &str, done: u64, total: u64) {
    let percent = if total == 0 {
        0.0
    } else {
        (done as f64 / total as f64 * 100.0).min(100.0)
    };
    SNAPSHOT.with_label_values(&[source]).set(percent);
}

/// What has been passed over since the start of the run.
pub fn ignored(source: &str, ignored: crate::assemble::Ignored) {
    let reasons = [
        ("foreign_message", ignored.foreign_messages),
        ("broken_mark", ignored.broken_marks),
        ("truncate", ignored.truncates),
        ("unchanged", ignored.unchanged),
        ("repeated_row", ignored.repeated_rows),
    ];
    for (reason, count) in reasons {
        IGNORED.with_label_values(&[source, reason]).set(count as f64);
    }
}
