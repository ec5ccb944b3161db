//! `syncline-capture`: committed changes of PostgreSQL databases, to Kafka.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use syncline_bus::Registry;
use syncline_capture::config::{self, Args};
use syncline_capture::stage;
use syncline_runtime::process::{self, PIPELINE_INVALID, Part};
use syncline_runtime::{Failure, Outcome};
use syncline_schemas::pipeline::{self, Pipeline, Problem};

fn main() -> ExitCode {
    process::exit_code(&run(&Args::parse()))
}

fn run(args: &Args) -> Outcome<()> {
    let pipeline = load(args)?;
    let sources = config::sources(&pipeline, args)?;
    if args.common.check {
        return Ok(());
    }
    let process = process::start("syncline-capture", &args.common)?;
    let registry = Arc::new(Registry::new(pipeline.registry.clone()));
    let part = |source: config::SourceConfig| -> Part {
        let (registry, shutdown, health) = (registry.clone(), process.shutdown.clone(), process.health.clone());
        let name = format!("capture-{}", source.name);
        (
            name,
            Box::new(move || stage::run(&source, &registry, &shutdown, &health)),
        )
    };
    process::spawn_all(sources.into_iter().map(part).collect(), &process.shutdown)
}

fn load(args: &Args) -> Outcome<Pipeline> {
    pipeline::load(&args.common.pipeline, &|name| std::env::var(name).ok()).map_err(|problems| invalid(&problems))
}

fn invalid(problems: &[Problem]) -> Failure {
    let all: Vec<String> = problems.iter().map(Problem::to_string).collect();
    Failure::definite(PIPELINE_INVALID, all.join("\n\n"))
}
