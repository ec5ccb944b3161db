//! `syncline doctor`: looks at everything that a pipeline file names as its processes would see it, and says what would
//! stop a run, what would hurt, and what is worth knowing.
//!
//! Two halves that meet in plain data: adapters gather facts and judge nothing, judges turn facts into findings and ask
//! nobody. So each rule is tested without a server, and what a rule costs the server is seen in one place.

use std::path::PathBuf;
use std::process::ExitCode;

use syncline_runtime::process::PIPELINE_INVALID;
use syncline_runtime::{Failure, Outcome};
use syncline_schemas::pipeline::{self, Pipeline, Problem};

/// What is wrong, why it matters, and what mends it.
pub mod finding;

pub use finding::{Finding, Severity};

/// The command line of `syncline doctor`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The pipeline file
    #[arg(long, value_name = "FILE", env = "SYNCLINE_PIPELINE")]
    pub pipeline: PathBuf,
    /// Answer with one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Examines; the exit code is 1 if something would stop a run.
pub fn run(args: &Args) -> Outcome<ExitCode> {
    let _pipeline = load(args)?;
    Ok(ExitCode::SUCCESS)
}

fn load(args: &Args) -> Outcome<Pipeline> {
    let environment = |name: &str| std::env::var(name).ok();
    pipeline::load(&args.pipeline, &environment).map_err(|problems| invalid(&problems))
}

fn invalid(problems: &[Problem]) -> Failure {
    let all: Vec<String> = problems.iter().map(Problem::to_string).collect();
    Failure::definite(PIPELINE_INVALID, all.join("\n\n"))
}
