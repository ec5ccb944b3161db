//! One run as a line of JSON, appended as soon as it is known.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::machine::Spent;

/// A run in which others used more of a core than this does not count.
const OTHERS_CORES_MAX: f64 = 0.15;
/// Their start and end, which even a quiet machine has.
const OTHERS_S_FREE: f64 = 0.2;
/// Parts of all waits whose longest is kept.
const CURVE: [f64; 8] = [0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999];

/// What came of a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Run {
    /// What was measured: `capture/insert_100`.
    pub case: String,
    /// Who: `syncline`, `debezium`, or the name of a limit.
    pub contender: String,
    /// Its number among the runs of this contender; below 0: warming up.
    pub number: i64,
    /// Rows written or read.
    pub rows: u64,
    /// Rows a second from the first to the last.
    pub rows_per_s: f64,
    /// The same for the second half: a Java program is slower in the first.
    pub rows_per_s_warm: f64,
    /// From start to the first record, seconds.
    pub first_s: f64,
    /// Processor time a million rows: of the contender.
    pub cpu_s_per_million: f64,
    /// Of PostgreSQL.
    pub postgres_s_per_million: f64,
    /// Of the broker.
    pub broker_s_per_million: f64,
    /// The most memory, MB.
    pub peak_rss_mb: f64,
    /// Milliseconds: half of all were faster.
    #[serde(default)]
    pub p50_ms: Option<f64>,
    /// Ninety-nine in a hundred.
    #[serde(default)]
    pub p99_ms: Option<f64>,
    /// Nine hundred and ninety-nine in a thousand.
    #[serde(default)]
    pub p999_ms: Option<f64>,
    /// How waits are spread: this part of all was no longer than so many milliseconds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub curve_ms: Vec<(f64, f64)>,
    /// Of a growth case: how many of what it grows by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x: Option<f64>,
    /// What only this case tells, by name with its unit.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub figures: BTreeMap<String, f64>,
    /// What the contender says that it was set to.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
    /// Why there is no result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Processor time of others meanwhile, seconds.
    pub others_s: f64,
    /// On the clock, seconds.
    pub wall_s: f64,
    /// When it ended, seconds since 1970.
    pub at: u64,
    /// The build and the machine.
    pub bed: String,
}

impl Run {
    /// Takes in what a run has spent.
    pub fn spent(mut self, spent: &Spent) -> Self {
        let per_million = 1e6 / (self.rows.max(1) as f64);
        self.cpu_s_per_million = spent.contender * per_million;
        self.postgres_s_per_million = spent.postgres * per_million;
        self.broker_s_per_million = spent.broker * per_million;
        self.others_s = spent.others;
        self.wall_s = spent.wall;
        self
    }

    /// Takes in how long each of many waits was, in milliseconds.
    pub fn waits(mut self, mut waits_ms: Vec<f64>) -> Self {
        waits_ms.sort_by(f64::total_cmp);
        let curve = CURVE
            .iter()
            .filter_map(|part| Some((*part, quantile(&waits_ms, *part)?)));
        self.curve_ms = curve.collect();
        self.p50_ms = quantile(&waits_ms, 0.5);
        self.p99_ms = quantile(&waits_ms, 0.99);
        self.p999_ms = quantile(&waits_ms, 0.999);
        self
    }

    /// Takes in a figure that only this case tells.
    pub fn figure(mut self, name: &str, value: f64) -> Self {
        if value.is_finite() {
            self.figures.insert(name.to_owned(), value);
        }
        self
    }

    /// Whether nobody else was at work.
    pub fn is_undisturbed(&self) -> bool {
        self.others_s <= OTHERS_CORES_MAX * self.wall_s + OTHERS_S_FREE
    }

    /// Whether it counts at all.
    pub fn counts(&self) -> bool {
        self.number >= 0 && self.error.is_none()
    }
}

/// Runs, and the file that they go to.
pub struct Results {
    /// In the order in which they ended.
    pub runs: Vec<Run>,
    file: RefCell<Option<File>>,
    bed: RefCell<String>,
    failures: Cell<usize>,
}

impl Results {
    /// What is in a file.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let runs = text.lines().filter(|line| !line.trim().is_empty());
        let runs = runs.map(serde_json::from_str).collect::<Result<_, _>>()?;
        Ok(Self {
            runs,
            file: RefCell::new(None),
            bed: RefCell::default(),
            failures: Cell::new(0),
        })
    }

    /// A file to append to.
    pub fn append_to(path: &Path) -> anyhow::Result<Self> {
        let file = File::options().create(true).append(true).open(path);
        Ok(Self {
            runs: Vec::new(),
            file: RefCell::new(Some(file.with_context(|| path.display().to_string())?)),
            bed: RefCell::default(),
            failures: Cell::new(0),
        })
    }

    /// What is known of the bed beyond the build and the machine.
    pub fn on(&self, bed: &str) {
        bed.clone_into(&mut self.bed.borrow_mut());
    }

    /// How many runs and cases have failed.
    pub fn failures(&self) -> usize {
        self.failures.get()
    }

    /// Writes down that a run has failed, or, without a contender, the whole case.
    pub fn failed(&self, case: &str, contender: &str, number: i64, error: &anyhow::Error) -> anyhow::Result<()> {
        self.failures.set(self.failures.get() + 1);
        self.add(Run {
            case: case.to_owned(),
            contender: contender.to_owned(),
            number,
            error: Some(format!("{error:#}")),
            ..Run::default()
        })
        .map(|_| ())
    }

    /// Writes a run down.
    pub fn add(&self, mut run: Run) -> anyhow::Result<Run> {
        run.at = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)?
            .as_secs();
        run.bed = format!("{}{}", machine(), self.bed.borrow());
        let line = serde_json::to_string(&run)?;
        if let Some(file) = self.file.borrow_mut().as_mut() {
            writeln!(file, "{line}")?;
        }
        if let Some(error) = &run.error {
            println!(
                "{:<28} {:<22} #{:<2} FAILED: {error}",
                run.case, run.contender, run.number
            );
            return Ok(run);
        }
        println!(
            "{:<28} {:<22} #{:<2} {:>9.0} rows/s {:>7.2} s/M, PostgreSQL {:>5.2}, broker {:>5.2}, {:>6.0} MB{}{}{}",
            run.case,
            run.contender,
            run.number,
            run.rows_per_s,
            run.cpu_s_per_million,
            run.postgres_s_per_million,
            run.broker_s_per_million,
            run.peak_rss_mb,
            run.p50_ms
                .zip(run.p99_ms)
                .map_or_else(String::new, |(p50, p99)| format!("  p50 {p50:.1} ms, p99 {p99:.1} ms")),
            run.figures
                .iter()
                .map(|(name, value)| format!("  {name} {value:.2}"))
                .collect::<String>(),
            if run.is_undisturbed() { "" } else { "  (disturbed)" }
        );
        Ok(run)
    }
}

fn machine() -> String {
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find(|line| line.starts_with("model name"));
    let model = model
        .and_then(|line| line.split_once(": "))
        .map_or("?", |(_, name)| name);
    format!("{build}, {cores} cores of {model}")
}

/// The value below which `part` of the sorted values lie.
pub fn quantile(sorted: &[f64], part: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a part of an index is an index"
    )]
    let index = (last as f64 * part).round() as usize;
    sorted.get(index.min(last)).copied()
}

/// The middle of some values, the least and the greatest.
pub fn spread(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64, f64)> {
    let mut sorted: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    Some((quantile(&sorted, 0.5)?, *sorted.first()?, *sorted.last()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_and_the_ends() {
        assert_eq!(spread([3.0, 1.0, 2.0]), Some((2.0, 1.0, 3.0)));
        assert_eq!(spread([]), None);
        let hundred: Vec<f64> = (0..=100).map(f64::from).collect();
        assert_eq!(quantile(&hundred, 0.99), Some(99.0));
    }

    #[test]
    fn a_disturbed_run_is_told_apart() {
        let run = |others_s| Run {
            others_s,
            wall_s: 10.0,
            ..Run::default()
        };
        assert!(run(1.0).is_undisturbed() && !run(2.0).is_undisturbed());
    }
}
