//! How cost may grow: with tables, columns, bytes, rows of a transaction, partitions, instances and time, and with a part of
//! the system standing still. Pure.

use crate::goals::{Must, Verdict, short};
use crate::report::{Cases, OURS, ratio};
use crate::result::{Run, spread};
use Must::{AtLeast, AtMost};

type Figure = fn(&Run) -> f64;

const RATE: Figure = |run| run.rows_per_s_warm;
const CPU: Figure = |run| run.cpu_s_per_million;
const RSS: Figure = |run| run.peak_rss_mb;
const FIRST: Figure = |run| run.first_s;

/// All of them.
pub fn judge(cases: &Cases<'_>) -> Vec<Verdict> {
    [
        tables(cases),
        width(cases),
        transactions(cases),
        partitions(cases),
        parts(cases),
    ]
    .concat()
}

fn runs<'a>(cases: &'a Cases<'_>, case: &str, who: &str) -> &'a [&'a Run] {
    cases
        .get(case)
        .and_then(|case| case.get(who))
        .map(Vec::as_slice)
        .unwrap_or_default()
}

/// The middle of one figure of ours.
fn middle(cases: &Cases<'_>, case: &str, figure: impl Fn(&Run) -> f64) -> Option<f64> {
    spread(runs(cases, case, OURS).iter().map(|run| figure(run))).map(|(middle, _, _)| middle)
}

fn named(name: &'static str) -> impl Fn(&Run) -> f64 {
    move |run| run.figures.get(name).copied().unwrap_or(f64::NAN)
}

fn verdict(what: &str, ours: Option<f64>, other: Option<f64>, value: Option<f64>, must: Must) -> Verdict {
    let shown = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), short);
    let value = value.filter(|value| value.is_finite());
    Verdict {
        what: what.to_owned(),
        ours: shown(ours),
        other: shown(other),
        ratio: shown(value),
        must: must.shown(),
        held: value.map(|value| must.holds(value)),
        spread: "-".to_owned(),
    }
}

/// One case of ours to another.
fn step(cases: &Cases<'_>, what: &str, case: &str, from: &str, figure: Figure, must: Must) -> Verdict {
    let (ours, other) = (middle(cases, case, figure), middle(cases, from, figure));
    let value = ours.zip(other).map(|(ours, other)| ours / other);
    verdict(what, ours, other, value, must)
}

/// How much more one case of ours has than another, times a factor.
fn slope(cases: &Cases<'_>, what: &str, [case, from]: [&str; 2], figure: Figure, factor: f64, must: Must) -> Verdict {
    let (ours, other) = (middle(cases, case, figure), middle(cases, from, figure));
    let value = ours.zip(other).map(|(ours, other)| (ours - other) * factor);
    verdict(what, ours, other, value, must)
}

/// Ours to another contender of the same case.
fn against(cases: &Cases<'_>, what: &str, case: &str, who: &str, figure: Figure, must: Must) -> Verdict {
    let (ours, theirs) = (runs(cases, case, OURS), runs(cases, case, who));
    let of = |runs: &[&Run]| spread(runs.iter().map(|run| figure(run))).map(|(middle, _, _)| middle);
    let value = ratio(ours, theirs, figure).map(|(middle, _, _)| middle);
    verdict(what, of(ours), of(theirs), value, must)
}

/// A figure of ours for itself.
fn alone(cases: &Cases<'_>, what: &str, case: &str, figure: impl Fn(&Run) -> f64, must: Must) -> Verdict {
    let ours = middle(cases, case, figure);
    verdict(what, ours, None, ours, must)
}

fn tables(cases: &Cases<'_>) -> Vec<Verdict> {
    let (one, thousand) = ("growth/tables_1", "growth/tables_1000");
    vec![
        step(cases, "CPU, 10 tables to 1", "growth/tables_10", one, CPU, AtMost(1.1)),
        step(
            cases,
            "CPU, 100 tables to 1",
            "growth/tables_100",
            one,
            CPU,
            AtMost(1.1),
        ),
        step(cases, "CPU, 1,000 tables to 1", thousand, one, CPU, AtMost(1.1)),
        slope(
            cases,
            "memory, kB a table",
            [thousand, one],
            RSS,
            1024.0 / 999.0,
            AtMost(50.0),
        ),
    ]
}

/// CPU seconds a million rows are microseconds a row.
fn width(cases: &Cases<'_>) -> Vec<Verdict> {
    let (narrow, columns, wide) = ("growth/width_2", "growth/width_100", "growth/width_10k");
    let bytes = |case| middle(cases, case, named("row_bytes"));
    let between = bytes(wide)
        .zip(bytes(narrow))
        .map_or(f64::NAN, |(wide, narrow)| wide - narrow);
    vec![
        slope(
            cases,
            "ns a byte (10 kB of text)",
            [wide, narrow],
            CPU,
            1e3 / between,
            AtMost(1.5),
        ),
        slope(
            cases,
            "ns a column (100 int4), bytes included",
            [columns, narrow],
            CPU,
            1e3 / 99.0,
            AtMost(60.0),
        ),
        against(
            cases,
            "rows of 10 kB/s to pg_recvlogical",
            wide,
            "pg_recvlogical",
            RATE,
            AtLeast(0.5),
        ),
    ]
}

fn transactions(cases: &Cases<'_>) -> Vec<Verdict> {
    let [one, hundred, many, all] = ["1", "100", "10000", "all"].map(|rows| format!("capture/insert_{rows}"));
    let (one, hundred, many, all) = (one.as_str(), hundred.as_str(), many.as_str(), all.as_str());
    vec![
        step(cases, "CPU, 1 row a transaction to 100", one, hundred, CPU, AtMost(2.2)),
        // Never more, but for what two equal runs are apart.
        step(
            cases,
            "CPU, 10,000 rows a transaction to 100",
            many,
            hundred,
            CPU,
            AtMost(1.05),
        ),
        step(
            cases,
            "CPU, all in one transaction to 10,000",
            all,
            many,
            CPU,
            AtMost(1.05),
        ),
        slope(
            cases,
            "memory, all in one to 10,000, MB more",
            [all, many],
            RSS,
            1.0,
            AtMost(16.0),
        ),
        slope(
            cases,
            "first record, all in one to 100, s later",
            [all, hundred],
            FIRST,
            1.0,
            AtMost(2.0),
        ),
    ]
}

fn partitions(cases: &Cases<'_>) -> Vec<Verdict> {
    let (one, eight, many) = ("growth/partitions_1", "growth/partitions_8", "growth/partitions_64");
    vec![
        step(cases, "CPU, 8 partitions to 1", eight, one, CPU, AtMost(1.1)),
        step(cases, "CPU, 64 partitions to 1", many, one, CPU, AtMost(1.1)),
        // No lower, but for what two equal runs are apart.
        step(cases, "rows/s, 8 partitions to 1", eight, one, RATE, AtLeast(0.95)),
        step(cases, "rows/s, 64 partitions to 1", many, one, RATE, AtLeast(0.95)),
    ]
}

fn parts(cases: &Cases<'_>) -> Vec<Verdict> {
    let (two, soak) = ("growth/instances", "growth/soak");
    let (broker, sink) = ("growth/broker_stopped", "growth/sink_paused");
    let memory_after = |case| {
        let (ours, theirs) = (runs(cases, case, OURS), runs(cases, case, "undisturbed"));
        let of = |runs: &[&Run]| spread(runs.iter().map(|run| run.peak_rss_mb)).map(|(middle, _, _)| middle);
        (of(ours), of(theirs))
    };
    let (paused, undisturbed) = memory_after(sink);
    let more = paused
        .zip(undisturbed)
        .map(|(paused, undisturbed)| paused - undisturbed);
    vec![
        against(cases, "rows/s, 2 sinks to 1", two, "one", RATE, AtLeast(1.6)),
        against(cases, "CPU in all, 2 sinks to 1", two, "one", CPU, AtMost(1.1)),
        against(cases, "CPU in all, 2 sinks to 1", two, "one", CPU, AtLeast(0.9)),
        alone(
            cases,
            "soak, memory that rises, MB",
            soak,
            named("rss_rise_mb"),
            AtMost(1.0),
        ),
        alone(
            cases,
            "soak, p99 of the last third to the first",
            soak,
            named("p99_last_to_first"),
            AtMost(1.1),
        ),
        against(
            cases,
            "rows/s after the broker stood still",
            broker,
            "undisturbed",
            RATE,
            AtLeast(0.9),
        ),
        alone(
            cases,
            "memory when the broker stood still, MB",
            broker,
            RSS,
            AtMost(64.0),
        ),
        against(
            cases,
            "rows/s after the sink stood still",
            sink,
            "undisturbed",
            RATE,
            AtLeast(0.9),
        ),
        verdict(
            "memory when the sink stood still, MB more",
            paused,
            undisturbed,
            more,
            AtMost(16.0),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(cpu_s_per_million: f64, row_bytes: f64) -> Run {
        Run {
            cpu_s_per_million,
            ..Run::default()
        }
        .figure("row_bytes", row_bytes)
    }

    #[test]
    fn seconds_a_million_rows_are_nanoseconds_a_byte_and_a_column() {
        let (narrow, wide) = ([run(3.0, 12.0)], [run(15.0, 10_012.0)]);
        let mut cases = Cases::new();
        cases
            .entry("growth/width_2")
            .or_default()
            .insert(OURS, narrow.iter().collect());
        cases
            .entry("growth/width_10k")
            .or_default()
            .insert(OURS, wide.iter().collect());
        let verdicts = width(&cases);
        assert_eq!((verdicts[0].ratio.as_str(), verdicts[0].held), ("1.20", Some(true)));
        assert_eq!(verdicts[1].held, None, "it was not measured");
    }

    #[test]
    fn growth_beyond_its_bound_is_not_held() {
        let (one, many) = ([run(3.0, 0.0)], [run(3.4, 0.0)]);
        let mut cases = Cases::new();
        cases
            .entry("growth/tables_1")
            .or_default()
            .insert(OURS, one.iter().collect());
        cases
            .entry("growth/tables_1000")
            .or_default()
            .insert(OURS, many.iter().collect());
        let verdicts = tables(&cases);
        assert_eq!(verdicts[2].held, Some(false));
        assert_eq!(verdicts[0].held, None);
    }
}
