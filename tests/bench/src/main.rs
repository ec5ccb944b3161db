//! Benchmarks: ours against the limit of this machine and against Debezium, side by side in one run.
//!
//! A case writes its work-load once; every run reads a copy of it, so that all contenders decode the same bytes and no
//! generator runs meanwhile. Contenders take turns, A B A B, the first turn of each is thrown away, a run in which others
//! used the machine is repeated, and what is said in the end is the median with its range. Times come from Kafka's and
//! PostgreSQL's clocks and processor time from the kernel, never from a contender; after each run what arrived is counted
//! and compared with what was written, and a run with a wrong count is an error, not a result. What fails says so, and the
//! others go on.
//!
//! `tests/bench.sh` builds, brings up the services and runs this.

use std::path::PathBuf;

use clap::Parser as _;

/// Three apps in agreement.
mod agreement;
/// A reader of the log that does nothing else.
mod bare;
/// PostgreSQL servers, broker and registry of a benchmark.
mod bed;
/// How cost may grow, and whether it does.
mod bounds;
/// From the log to Kafka.
mod capture;
/// A program that is measured.
mod contender;
/// Lines: how waits are spread, how cost grows.
mod curves;
/// The same as pictures.
mod draw;
/// What must be reached, and whether it is.
mod goals;
/// How cost grows.
mod growth;
/// Capture while nothing happens.
mod idle;
/// From commit to the eyes of a reader.
mod latency;
/// Statements on a fixed schedule.
mod load;
/// Processor time and memory, from the kernel.
mod machine;
/// Merge by itself.
mod merge;
/// Debezium's settings.
mod peer;
/// The limits of writing into a table.
mod raw;
/// Medians and ratios as a table.
mod report;
/// From a kill until records flow again.
mod restart;
/// One run as a line of JSON.
mod result;
/// Cases side by side, contenders in turn.
mod session;
/// From Kafka into a table.
mod sink;
/// Slots of the benchmark.
mod slot;
/// A table that is read for the first time.
mod snapshot;
/// What topics hold: how many, from when to when, each once.
mod topic;
/// Work-loads of the source, written once.
mod work;

use bed::Bed;
use result::Results;
use session::Session;

/// Measures.
#[derive(clap::Parser)]
#[command(name = "syncline-bench", version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Runs cases and appends a line of JSON for each run
    Run(Plan),
    /// Prints the medians of the runs in a file, and draws them
    Report {
        /// Lines of JSON, as `run` wrote them
        file: PathBuf,
        /// Where to put the pictures
        #[arg(long)]
        svg: Option<PathBuf>,
    },
}

/// What to run.
#[derive(clap::Args, Clone, Debug)]
pub struct Plan {
    /// Cases, by name (`capture/insert_100`) or by its first part (`capture`); none: all but `growth/soak`
    pub cases: Vec<String>,
    /// Rows of a work-load
    #[arg(long, default_value_t = 1_000_000)]
    pub rows: u64,
    /// Entities of the merge
    #[arg(long, default_value_t = 1_000_000)]
    pub entities: u64,
    /// Counted runs of each contender
    #[arg(long, default_value_t = 5)]
    pub runs: usize,
    /// Runs of each contender before those, which do not count
    #[arg(long, default_value_t = 1)]
    pub warm_up: usize,
    /// Debezium and its JDBC sink take part as well
    #[arg(long)]
    pub peer: bool,
    /// Seconds of a latency run
    #[arg(long, default_value_t = 40)]
    pub seconds: u64,
    /// Seconds that a run waits at most for the machine to be quiet
    #[arg(long, default_value_t = 300)]
    pub quiet_seconds: u64,
    /// Seconds for which a part of the system stands still in `growth/broker_stopped` and `growth/sink_paused`
    #[arg(long, default_value_t = 60)]
    pub outage_seconds: u64,
    /// Minutes of `growth/soak`
    #[arg(long, default_value_t = 30)]
    pub soak_minutes: u64,
    /// Rows a second of `growth/soak`: 70 in 100 of what capture can do beside its load
    #[arg(long, default_value_t = 5_000)]
    pub soak_rows_per_s: u64,
    /// Where the lines go
    #[arg(long, default_value = "bench.jsonl")]
    pub out: PathBuf,
}

impl Plan {
    /// Whether a case of this name is asked for.
    pub fn wants(&self, case: &str) -> bool {
        let is_of = |wanted: &String| {
            case.strip_prefix(wanted)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '_']))
        };
        self.cases.is_empty() || self.cases.iter().any(is_of)
    }
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().verb {
        Verb::Run(plan) => run(&plan),
        Verb::Report { file, svg } => {
            let results = Results::read(&file)?;
            report::print(&results);
            svg.map_or(Ok(()), |directory| draw::all(&results, &directory))
        }
    }
}

fn run(plan: &Plan) -> anyhow::Result<()> {
    let results = Results::append_to(&plan.out)?;
    let bed = Bed::make(plan)?;
    results.on(&bed.describe()?);
    let session = Session {
        bed: &bed,
        plan,
        results: &results,
    };
    let all = [
        capture::cases,
        restart::cases,
        snapshot::cases,
        idle::cases,
        sink::cases,
        latency::cases,
        agreement::cases,
        merge::cases,
        growth::cases,
    ];
    all.iter().try_for_each(|cases| cases(&session))?;
    report::print(&Results::read(&plan.out)?);
    anyhow::ensure!(
        results.failures() == 0,
        "{} runs or cases have failed; their lines say why",
        results.failures()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As these words after `run` say.
    pub fn plan(words: &[&str]) -> Plan {
        let words = [["syncline-bench", "run"].as_slice(), words].concat();
        match Cli::try_parse_from(words).unwrap().verb {
            Verb::Run(plan) => plan,
            Verb::Report { .. } => unreachable!("it is a run"),
        }
    }

    #[test]
    fn a_case_is_asked_for_by_its_name_or_a_first_part_of_it() {
        assert!(plan(&["growth"]).wants("growth/tables_10"));
        assert!(plan(&["growth/tables"]).wants("growth/tables_10"));
        assert!(!plan(&["growth/tables_1"]).wants("growth/tables_10"));
        assert!(!plan(&["snapshot/1"]).wants("snapshot/2"));
        assert!(plan(&[]).wants("idle"));
    }
}
