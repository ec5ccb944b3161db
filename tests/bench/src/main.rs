//! Benchmarks: ours against the limit of this machine and against Debezium, side by side in one run.
//!
//! A case writes its work-load once; every run reads a copy of it, so that all contenders decode the same bytes and no
//! generator runs meanwhile. Contenders take turns, A B A B, the first turn of each is thrown away, a run in which others
//! used the machine is repeated, and what is said in the end is the median with its range. Times come from Kafka's and
//! PostgreSQL's clocks and processor time from the kernel, never from a contender; after each run what arrived is counted
//! and compared with what was written, and a run with a wrong count is an error, not a result.
//!
//! `tests/bench.sh` builds, brings up the services and runs this.

use std::path::PathBuf;

use clap::Parser as _;

/// PostgreSQL servers, broker and registry of a benchmark.
mod bed;
/// From the log to Kafka.
mod capture;
/// A program that is measured.
mod contender;
/// The same as pictures.
mod draw;
/// From commit to the eyes of a reader.
mod latency;
/// Processor time and memory, from the kernel.
mod machine;
/// Merge by itself.
mod merge;
/// Medians and ratios as a table.
mod report;
/// One run as a line of JSON.
mod result;
/// From Kafka into a table.
mod sink;
/// What a topic holds: how many, from when to when, each once.
mod topic;
/// Work-loads of the source, written once.
mod work;

use bed::Bed;
use result::Results;

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
    /// Cases, by name (`capture/insert_100`) or by its first part (`capture`); none: all
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
    /// Where the lines go
    #[arg(long, default_value = "bench.jsonl")]
    pub out: PathBuf,
}

impl Plan {
    /// Whether a case of this name is asked for.
    pub fn wants(&self, case: &str) -> bool {
        let is_of = |wanted: &String| {
            case.strip_prefix(wanted)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
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
    capture::cases(&bed, plan, &results)?;
    sink::cases(&bed, plan, &results)?;
    latency::cases(&bed, plan, &results)?;
    merge::cases(&bed, plan, &results)?;
    report::print(&Results::read(&plan.out)?);
    Ok(())
}
