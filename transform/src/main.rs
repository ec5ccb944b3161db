//! `syncline-transform`: map and merge, one thread each.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use syncline_bus::Fences;
use syncline_runtime::process::{self, Part, ProcessArgs};
use syncline_runtime::{CommonArgs, Failure, Outcome, Process, RetryPolicy, supervise};
use syncline_transform::context::Context;
use syncline_transform::decide::{self, DecideArgs};
use syncline_transform::{load, map_stage, merge_stage};

/// Map what each source says to entities, and merge it into agreed records.
#[derive(Parser)]
#[command(
    name = "syncline-transform",
    version,
    subcommand_negates_reqs = true,
    args_conflicts_with_subcommands = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// The pipeline file
    // Not `Option<CommonArgs>`: clap takes a group for given only by arguments of its own, and then this one is lost.
    #[arg(long, value_name = "FILE", env = "SYNCLINE_PIPELINE", required = true)]
    pipeline: Option<PathBuf>,
    #[command(flatten)]
    process: ProcessArgs,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Decide a field of an entity, in answer to a conflict
    Decide(DecideArgs),
}

fn main() -> ExitCode {
    let outcome = run(Cli::parse());
    syncline_bus::close_idle();
    process::exit_code(&outcome)
}

fn run(cli: Cli) -> Outcome<()> {
    let (args, decide) = match (cli.command, cli.pipeline) {
        (Some(Command::Decide(decide)), _) => (decide.common(), Some(decide)),
        (None, Some(pipeline)) => (
            CommonArgs {
                pipeline,
                process: cli.process,
            },
            None,
        ),
        (None, None) => return Err(Failure::definite(process::ARGUMENTS_INVALID, "no --pipeline FILE")),
    };
    let pipeline = load::load(&args.pipeline)?;
    if args.process.check {
        return Ok(());
    }
    let process = process::start("syncline-transform", &args.process)?;
    let context = Context::new(&process, pipeline);
    match decide {
        Some(decide) => decide::run(&context, &decide),
        None => work(&process, context),
    }
}

/// Both stages at once; with `--until-current` one after the other, so that merge sees all that map has made.
fn work(process: &Process, context: Context) -> Outcome<()> {
    let merge = context.clone();
    let map: Part = (
        "map".to_owned(),
        Box::new(move || supervised("map", &context, map_stage::run)),
    );
    let merge: Part = (
        "merge".to_owned(),
        Box::new(move || supervised("merge", &merge, merge_stage::run)),
    );
    if process.args.until_current {
        process::spawn_all(vec![map], &process.shutdown)?;
        return process::spawn_all(vec![merge], &process.shutdown);
    }
    process::spawn_all(vec![map, merge], &process.shutdown)
}

fn supervised(name: &str, context: &Context, stage: fn(&Context) -> Outcome<()>) -> Outcome<()> {
    let mut fences = Fences::default();
    let who = format!("instance {} of {name}", context.instance);
    supervise(name, &context.shutdown, &RetryPolicy::default(), || {
        stage(context).map_err(|failure| fences.judge(failure, &who))
    })
}
