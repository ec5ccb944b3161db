//! Medians of the runs that count, and the ratios that matter: against the limit, and against the peer, pair by pair. Then
//! what must be reached (`goals.rs`), how cost may grow (`bounds.rs`), and whether it is so.

use std::collections::{BTreeMap, BTreeSet};

use crate::goals::Verdict;
use crate::result::{Results, Run, spread};
use crate::{bounds, goals};

/// Who is compared with everybody else.
pub const OURS: &str = "syncline";

/// Runs of one case by contender.
pub type Case<'a> = BTreeMap<&'a str, Vec<&'a Run>>;

/// All cases.
pub type Cases<'a> = BTreeMap<&'a str, Case<'a>>;

/// The runs that count, by case and contender; disturbed ones only where there are no others.
pub fn by_case(results: &Results) -> Cases<'_> {
    let mut cases: Cases<'_> = BTreeMap::new();
    for run in results.runs.iter().filter(|run| run.counts()) {
        let case = cases.entry(&run.case).or_default();
        case.entry(&run.contender).or_default().push(run);
    }
    for runs in cases.values_mut().flat_map(BTreeMap::values_mut) {
        if runs.iter().any(|run| run.is_undisturbed()) {
            runs.retain(|run| run.is_undisturbed());
        }
    }
    cases
}

/// The middle of one figure.
pub fn median(runs: &[&Run], figure: impl Fn(&Run) -> f64) -> Option<f64> {
    spread(runs.iter().map(|run| figure(run))).map(|(middle, _, _)| middle)
}

/// The middle, least and greatest ratio of ours to another's, turn by turn; where a number came twice, its last run.
pub fn ratio(ours: &[&Run], theirs: &[&Run], figure: impl Fn(&Run) -> f64) -> Option<(f64, f64, f64)> {
    let last = |runs: &[&Run], number| {
        let run = runs.iter().rev().find(|run| run.number == number)?;
        Some(figure(run))
    };
    let numbers: BTreeSet<i64> = ours.iter().map(|run| run.number).collect();
    let pairs = numbers
        .into_iter()
        .filter_map(|number| Some(last(ours, number)? / last(theirs, number)?));
    spread(pairs)
}

/// Prints the tables.
pub fn print(results: &Results) {
    println!(
        "\n| case | contender | runs | k rows/s | warm (range) | CPU s/M | PostgreSQL s/M | broker s/M | MB | first record s | p50 / p99 / p99.9 ms |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    let cases = by_case(results);
    for (case, contenders) in &cases {
        for (who, runs) in contenders {
            println!("| {case} | {who} | {} |", line(runs).join(" | "));
        }
    }
    println!("\n| case | against | rows/s | CPU | p50 | p99 |\n|---|---|---|---|---|---|");
    for (case, contenders) in &cases {
        let Some(ours) = contenders.get(OURS) else { continue };
        for (who, theirs) in contenders.iter().filter(|(who, _)| **who != OURS) {
            let shown = |figure: fn(&Run) -> f64| {
                ratio(ours, theirs, figure).map_or_else(
                    || "-".to_owned(),
                    |(middle, least, most)| format!("{middle:.2} ({least:.2}-{most:.2})"),
                )
            };
            println!(
                "| {case} | {who} | {} | {} | {} | {} |",
                shown(|run| run.rows_per_s_warm),
                shown(|run| run.cpu_s_per_million),
                shown(|run| run.p50_ms.unwrap_or(f64::NAN)),
                shown(|run| run.p99_ms.unwrap_or(f64::NAN)),
            );
        }
    }
    print_verdicts("what must be reached", &goals::judge(&cases));
    print_verdicts("how cost may grow", &bounds::judge(&cases));
    print_rest(results, &cases);
}

fn print_verdicts(title: &str, verdicts: &[Verdict]) {
    println!("\n| {title} | ours | limit or peer | ratio | must | held | A/A |\n|---|---|---|---|---|---|---|");
    for verdict in verdicts {
        println!(
            "| {} | {} | {} | {} | {} | {} | {} |",
            verdict.what,
            verdict.ours,
            verdict.other,
            verdict.ratio,
            verdict.must,
            match verdict.held {
                Some(true) => "yes",
                Some(false) => "**no**",
                None => "not measured",
            },
            verdict.spread
        );
    }
}

/// What contenders were set to, what only some cases tell, on what bed, and what has failed.
fn print_rest(results: &Results, cases: &Cases<'_>) {
    let runs = cases.iter().flat_map(|(case, contenders)| {
        let last = contenders.iter().filter_map(|(who, runs)| Some((who, runs.last()?)));
        last.map(move |(who, run)| (*case, *who, *run))
    });
    println!("\n| case | contender | settings read back; figures of the last run |\n|---|---|---|");
    for (case, who, run) in runs.filter(|(_, _, run)| !run.settings.is_empty() || !run.figures.is_empty()) {
        let settings = run.settings.iter().map(|(name, value)| format!("{name}={value}"));
        let figures = run.figures.iter().map(|(name, value)| format!("{name} {value:.2}"));
        println!(
            "| {case} | {who} | {} |",
            settings.chain(figures).collect::<Vec<_>>().join(", ")
        );
    }
    let beds: BTreeSet<&str> = results.runs.iter().map(|run| run.bed.as_str()).collect();
    for bed in beds {
        println!("\nmeasured on: {bed}");
    }
    for run in &results.runs {
        if let Some(error) = &run.error {
            println!("\nFAILED: {} {} #{}: {error}", run.case, run.contender, run.number);
        }
    }
}

fn line(runs: &[&Run]) -> Vec<String> {
    let disturbed = runs.iter().any(|run| !run.is_undisturbed());
    let shown = |figure: fn(&Run) -> f64, digits: usize| {
        median(runs, figure).map_or_else(|| "-".to_owned(), |middle| format!("{middle:.digits$}"))
    };
    let warm = spread(runs.iter().map(|run| run.rows_per_s_warm / 1e3)).map_or_else(
        || "-".to_owned(),
        |(middle, least, most)| format!("{middle:.1} ({least:.1}-{most:.1})"),
    );
    let wait = |figure: fn(&Run) -> Option<f64>| {
        spread(runs.iter().filter_map(|run| figure(run)))
            .map_or_else(|| "-".to_owned(), |(middle, _, _)| format!("{middle:.1}"))
    };
    vec![
        format!("{}{}", runs.len(), if disturbed { "*" } else { "" }),
        shown(|run| run.rows_per_s / 1e3, 1),
        warm,
        shown(|run| run.cpu_s_per_million, 2),
        shown(|run| run.postgres_s_per_million, 2),
        shown(|run| run.broker_s_per_million, 2),
        shown(|run| run.peak_rss_mb, 0),
        shown(|run| run.first_s, 1),
        format!(
            "{} / {} / {}",
            wait(|run| run.p50_ms),
            wait(|run| run.p99_ms),
            wait(|run| run.p999_ms)
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(contender: &str, number: i64, rows_per_s: f64) -> Run {
        Run {
            case: "c".to_owned(),
            contender: contender.to_owned(),
            number,
            rows_per_s,
            wall_s: 1.0,
            ..Run::default()
        }
    }

    #[test]
    fn warming_up_does_not_count_and_ratios_are_taken_pair_by_pair() {
        let runs = [
            ("syncline", -1, 9.0),
            ("syncline", 0, 4.0),
            ("syncline", 1, 9.0),
            ("other", 0, 2.0),
            ("other", 1, 3.0),
        ];
        let path = std::env::temp_dir().join(format!("bench-{}.jsonl", std::process::id()));
        let lines: Vec<String> = runs
            .iter()
            .map(|(who, number, rate)| serde_json::to_string(&run(who, *number, *rate)).unwrap())
            .collect();
        std::fs::write(&path, lines.join("\n")).unwrap();
        let results = Results::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let cases = by_case(&results);
        let case = &cases["c"];
        assert_eq!(case["syncline"].len(), 2);
        assert_eq!(
            ratio(&case["syncline"], &case["other"], |run| run.rows_per_s),
            Some((3.0, 2.0, 3.0))
        );
    }
}
