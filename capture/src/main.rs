//! `syncline-capture`: committed changes of PostgreSQL databases, to Kafka.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use syncline_bus::Registry;
use syncline_capture::config::{self, Args};
use syncline_capture::stage;
use syncline_capture::takeover::export;
use syncline_runtime::process::{self, Part};
use syncline_runtime::{Failure, Outcome};

fn main() -> ExitCode {
    let outcome = run(&Args::parse());
    syncline_bus::close_idle();
    process::exit_code(&outcome)
}

fn run(args: &Args) -> Outcome<()> {
    let sources = config::load(args)?;
    if args.process.check {
        return without_effect(&sources).iter().try_for_each(|line| print(line));
    }
    let process = process::start("syncline-capture", &args.process)?;
    for line in without_effect(&sources) {
        tracing::info!("{line}");
    }
    if let Some(form) = args.export_offsets {
        return sources
            .iter()
            .try_for_each(|source| print(&export::export(source, form)?));
    }
    let part = |source: config::SourceConfig| -> Part {
        let (shutdown, health) = (process.shutdown.clone(), process.health.clone());
        let registry = Arc::new(Registry::new(source.registry.clone()));
        let name = format!("capture-{}", source.name);
        (
            name,
            Box::new(move || stage::run(&source, &registry, &shutdown, &health)),
        )
    };
    process::spawn_all(sources.into_iter().map(part).collect(), &process.shutdown)
}

/// What a configuration says and nobody here listens to.
fn without_effect(sources: &[config::SourceConfig]) -> Vec<String> {
    let of_source = |source: &config::SourceConfig| -> Vec<String> {
        let line = |(property, why): &(String, &str)| format!("{}: {property} has no effect here: {why}", source.name);
        source.meaningless.iter().map(line).collect()
    };
    sources.iter().flat_map(of_source).collect()
}

fn print(line: &str) -> Outcome<()> {
    writeln!(std::io::stdout(), "{line}").map_err(|error| Failure::definite("STDOUT", "cannot print").source(error))
}
