//! What must be reached: the figures that the project has set itself, each against a limit measured in the same turns, against
//! the best of the peers, or for itself. Pure.

use crate::report::{Cases, ratio};
use crate::result::{Run, spread};

/// A row of the table.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// What was measured.
    pub what: String,
    /// Our figure with its unit.
    pub ours: String,
    /// Who is measured against, and his.
    pub other: String,
    /// Ours to theirs: the middle of all pairs.
    pub ratio: String,
    /// What it must be.
    pub must: String,
    /// Whether it is; none: it was not measured.
    pub held: Option<bool>,
    /// How far our own runs are apart, in percent of their middle.
    pub spread: String,
}

/// What a figure must be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Must {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

impl Must {
    /// Whether it is.
    pub fn holds(self, value: f64) -> bool {
        match self {
            Must::AtLeast(bound) => value >= bound,
            Must::AtMost(bound) => value <= bound,
        }
    }

    /// As the table shows it.
    pub fn shown(self) -> String {
        match self {
            Must::AtLeast(bound) => format!(">= {}", short(bound)),
            Must::AtMost(bound) => format!("<= {}", short(bound)),
        }
    }

    /// The one that is farther from it.
    fn worse(self, one: f64, other: f64) -> f64 {
        match self {
            Must::AtLeast(_) => one.min(other),
            Must::AtMost(_) => one.max(other),
        }
    }
}

/// With as many digits as say something.
pub fn short(value: f64) -> String {
    match value.abs() {
        below if below < 1.0 => format!("{value:.3}"),
        below if below < 100.0 => format!("{value:.2}"),
        _ => format!("{value:.0}"),
    }
}

/// A figure: its unit, and what it is of a run.
#[derive(Clone, Copy)]
struct Figure(&'static str, fn(&Run) -> f64);

const RATE: Figure = Figure("rows/s", |run| run.rows_per_s_warm);
const CPU: Figure = Figure("s/M", |run| run.cpu_s_per_million);
const POSTGRES: Figure = Figure("s/M", |run| run.postgres_s_per_million);
const RSS: Figure = Figure("MB", |run| run.peak_rss_mb);
const P50: Figure = Figure("ms", |run| run.p50_ms.unwrap_or(f64::NAN));
const P99: Figure = Figure("ms", |run| run.p99_ms.unwrap_or(f64::NAN));
const FIRST: Figure = Figure("s", |run| run.first_s);
const DUPLICATES: Figure = Figure("records", |run| named(run, "duplicates"));
const IDLE_CPU: Figure = Figure("% of a core", |run| named(run, "cpu_percent"));
/// What one core could do, were it all ours.
const PER_CORE: Figure = Figure("words/s a core", |run| 1e6 / run.cpu_s_per_million);

fn named(run: &Run, name: &str) -> f64 {
    run.figures.get(name).copied().unwrap_or(f64::NAN)
}

/// A row of what must be reached.
struct Goal {
    what: &'static str,
    /// Its case; with a `/` at the end all that begin so, of which the worst counts.
    case: &'static str,
    ours: &'static str,
    /// Whom it is compared with: the best of them; nobody: the figure itself is judged.
    theirs: &'static [&'static str],
    figure: Figure,
    must: Must,
}

const OURS: &str = "syncline";
const AT_LEAST_ONCE: &str = "syncline at least once";
const PEERS: &[&str] = &["debezium", "debezium defaults"];
const RECVLOGICAL: &[&str] = &["pg_recvlogical"];
const BARE: &[&str] = &["bare reader"];
const COPY_OUT: &[&str] = &["COPY to nowhere"];
const MERGE: &[&str] = &["COPY and merge"];

const fn goal(
    what: &'static str,
    case: &'static str,
    theirs: &'static [&'static str],
    figure: Figure,
    must: Must,
) -> Goal {
    Goal {
        what,
        case,
        ours: OURS,
        theirs,
        figure,
        must,
    }
}

const fn loose(what: &'static str, case: &'static str, figure: Figure, must: Must) -> Goal {
    Goal {
        ours: AT_LEAST_ONCE,
        ..goal(what, case, &[], figure, must)
    }
}

use Must::{AtLeast, AtMost};

#[rustfmt::skip] // a table
const GOALS: &[Goal] = &[
    goal("capture rows/s against the peer", "capture/insert_100", PEERS, RATE, AtLeast(4.0)),
    goal("capture rows/s against pg_recvlogical", "capture/insert_100", RECVLOGICAL, RATE, AtLeast(0.7)),
    goal("capture CPU against the peer", "capture/insert_100", PEERS, CPU, AtMost(0.125)),
    goal("walsender CPU against the bare reader", "capture/insert_100", BARE, POSTGRES, AtMost(1.15)),
    goal("walsender CPU against pg_recvlogical", "capture/insert_100", RECVLOGICAL, POSTGRES, AtMost(1.15)),
    goal("capture memory, any work-load", "capture/", &[], RSS, AtMost(64.0)),
    goal("latency, exactly once, p50", "latency", &[], P50, AtMost(12.0)),
    goal("latency, exactly once, p99", "latency", &[], P99, AtMost(30.0)),
    goal("latency, exactly once, p50 against the peer's", "latency", PEERS, P50, AtMost(1.0)),
    loose("latency, at least once, p50", "latency", P50, AtMost(3.0)),
    loose("latency, at least once, p99", "latency", P99, AtMost(12.0)),
    goal("snapshot, 1 reader, against COPY", "snapshot/1", COPY_OUT, RATE, AtLeast(0.6)),
    goal("snapshot, 2 readers, against COPY", "snapshot/2", COPY_OUT, RATE, AtLeast(0.6)),
    goal("sink rows/s, new keys, against raw", "sink/new_keys", MERGE, RATE, AtLeast(0.85)),
    goal("sink rows/s, existing keys, against raw", "sink/existing_keys", MERGE, RATE, AtLeast(0.85)),
    goal("sink rows/s, existing in no order, against raw", "sink/existing_random", MERGE, RATE, AtLeast(0.85)),
    goal("sink rows/s, new keys, against the peer", "sink/new_keys", PEERS, RATE, AtLeast(5.0)),
    goal("sink rows/s, existing keys, against the peer", "sink/existing_keys", PEERS, RATE, AtLeast(5.0)),
    goal("sink rows/s, existing in no order, against the peer", "sink/existing_random", PEERS, RATE, AtLeast(5.0)),
    goal("sink CPU, new keys, against the peer", "sink/new_keys", PEERS, CPU, AtMost(1.0 / 12.0)),
    goal("sink CPU, existing keys, against the peer", "sink/existing_keys", PEERS, CPU, AtMost(1.0 / 12.0)),
    goal("sink CPU, existing in no order, against the peer", "sink/existing_random", PEERS, CPU, AtMost(1.0 / 12.0)),
    goal("replica end to end, exactly once, p50", "end_to_end", &[], P50, AtMost(18.0)),
    goal("replica end to end, exactly once, p99", "end_to_end", &[], P99, AtMost(45.0)),
    loose("replica end to end, at least once, p50", "end_to_end", P50, AtMost(8.0)),
    loose("replica end to end, at least once, p99", "end_to_end", P99, AtMost(24.0)),
    goal("agreement, exactly once, p50", "agreement", &[], P50, AtMost(80.0)),
    goal("agreement, exactly once, p99", "agreement", &[], P99, AtMost(250.0)),
    loose("agreement, at least once, p50", "agreement", P50, AtMost(25.0)),
    loose("agreement, at least once, p99", "agreement", P99, AtMost(100.0)),
    goal("agreement, exactly once, written twice", "agreement", &[], DUPLICATES, AtMost(0.0)),
    goal("transform", "transform", &[], PER_CORE, AtLeast(100_000.0)),
    goal("after a kill, until records flow again", "restart", &[], FIRST, AtMost(3.0)),
    goal("after a kill, records that came twice", "restart", &[], DUPLICATES, AtMost(0.0)),
    goal("1,000 quiet tables", "idle", &[], IDLE_CPU, AtMost(0.5)),
    goal("1,000 quiet tables, memory", "idle", &[], RSS, AtMost(64.0)),
    goal("snapshot memory", "snapshot/", &[], RSS, AtMost(64.0)),
];

/// All rows of the table.
pub fn judge(cases: &Cases<'_>) -> Vec<Verdict> {
    GOALS.iter().map(|goal| goal.judge(cases)).collect()
}

impl Goal {
    fn judge(&self, cases: &Cases<'_>) -> Verdict {
        let Figure(unit, of) = self.figure;
        let mut verdict = Verdict {
            what: self.what.to_owned(),
            ours: "-".to_owned(),
            other: "-".to_owned(),
            ratio: "-".to_owned(),
            must: self.must.shown(),
            held: None,
            spread: "-".to_owned(),
        };
        let belongs = |case: &str| case == self.case || self.case.ends_with('/') && case.starts_with(self.case);
        let mut found: Option<f64> = None;
        for (case, contenders) in cases.iter().filter(|(case, _)| belongs(case)) {
            let Some(ours) = contenders.get(self.ours) else {
                continue;
            };
            let Some((middle, least, most)) = spread(ours.iter().map(|run| of(run))) else {
                continue;
            };
            if found.is_none_or(|found| self.must.worse(found, middle) == middle) {
                let of_case = if *case == self.case {
                    String::new()
                } else {
                    format!(" ({case})")
                };
                verdict.ours = format!("{} {unit}{of_case}", short(middle));
                verdict.spread = match ours.len() {
                    0 | 1 => "-".to_owned(),
                    _ => format!("{:.0} %", 100.0 * (most - least) / middle.abs().max(f64::EPSILON)),
                };
                found = Some(middle);
            }
        }
        if self.theirs.is_empty() {
            verdict.held = found.map(|found| self.must.holds(found));
            return verdict;
        }
        let Some(contenders) = cases.get(self.case) else {
            return verdict;
        };
        let Some(ours) = contenders.get(self.ours) else {
            return verdict;
        };
        let against = self.theirs.iter().filter_map(|who| {
            let theirs = contenders.get(who)?;
            let (their_middle, _, _) = spread(theirs.iter().map(|run| of(run)))?;
            Some((ratio(ours, theirs, of)?, their_middle, who))
        });
        let worst = against.reduce(|one, other| {
            let worse = self.must.worse(one.0.0, other.0.0);
            if worse == one.0.0 { one } else { other }
        });
        if let Some(((middle, least, most), theirs, who)) = worst {
            verdict.other = format!("{} {unit} ({who})", short(theirs));
            verdict.ratio = format!("{} ({}-{})", short(middle), short(least), short(most));
            verdict.held = Some(self.must.holds(middle));
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(number: i64, rows_per_s: f64) -> Run {
        Run {
            number,
            rows_per_s_warm: rows_per_s,
            peak_rss_mb: rows_per_s,
            ..Run::default()
        }
    }

    fn of<'a>(verdicts: &'a [Verdict], what: &str) -> &'a Verdict {
        verdicts.iter().find(|verdict| verdict.what == what).unwrap()
    }

    #[test]
    fn the_best_peer_is_the_one_that_counts() {
        let (ours, best, other) = (
            [run(0, 90.0), run(1, 110.0)],
            [run(0, 30.0), run(1, 30.0)],
            [run(0, 9.0)],
        );
        let mut cases = Cases::new();
        let case = cases.entry("capture/insert_100").or_default();
        case.insert("syncline", ours.iter().collect());
        case.insert("debezium", best.iter().collect());
        case.insert("debezium defaults", other.iter().collect());
        let verdicts = judge(&cases);
        let verdict = of(&verdicts, "capture rows/s against the peer");
        assert!(verdict.other.contains("(debezium)"), "{verdict:?}");
        assert_eq!(verdict.held, Some(false));
        assert_eq!(of(&verdicts, "capture rows/s against pg_recvlogical").held, None);
    }

    #[test]
    fn the_worst_case_is_the_one_that_counts() {
        let (small, large) = ([run(0, 30.0)], [run(0, 70.0)]);
        let mut cases = Cases::new();
        cases
            .entry("capture/insert_100")
            .or_default()
            .insert("syncline", small.iter().collect());
        cases
            .entry("capture/insert_all")
            .or_default()
            .insert("syncline", large.iter().collect());
        let verdicts = judge(&cases);
        let verdict = of(&verdicts, "capture memory, any work-load");
        assert_eq!(verdict.held, Some(false));
        assert!(verdict.ours.contains("capture/insert_all"), "{verdict:?}");
    }
}
