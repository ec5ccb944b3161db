//! `syncline-sink`: agreed records into the apps.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use syncline_runtime::{CommonArgs, Failure, Outcome, process};
use syncline_sink::run;

/// Writes what the apps agree on into each of them, with effect exactly once
#[derive(Parser)]
#[command(name = "syncline-sink", version)]
struct Cli {
    /// What to do instead of running
    #[arg(value_enum)]
    command: Option<Verb>,
    #[command(flatten)]
    common: CommonArgs,
    /// Only this target
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// Write now what would wait for its time; with --until-current
    #[arg(long, requires = "until_current")]
    flush: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Verb {
    /// Apply what a target refused, once the cause is gone; then exit
    ReplayParked,
}

fn main() -> ExitCode {
    let outcome = work(&Cli::parse());
    syncline_bus::close_idle();
    process::exit_code(&outcome)
}

fn work(cli: &Cli) -> Outcome<()> {
    let pipeline = run::load(&cli.common.pipeline)?;
    let target = cli.target.as_deref();
    if cli.common.process.check {
        let notes = run::check(&pipeline, target)?;
        return notes.iter().try_for_each(|note| print(note));
    }
    let process = process::start("syncline-sink", &cli.common.process)?;
    match cli.command {
        Some(Verb::ReplayParked) => run::replay_parked(&pipeline, target).map(drop),
        None => {
            let parts = run::parts(&process, &pipeline, target, cli.flush)?;
            process::spawn_all(parts, &process.shutdown)
        }
    }
}

fn print(line: &str) -> Outcome<()> {
    writeln!(std::io::stdout(), "{line}").map_err(|error| Failure::definite("STDOUT", "cannot print").source(error))
}
