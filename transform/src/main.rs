//! `syncline-transform`: map and merge, one thread each.

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use syncline_runtime::process::{self, PIPELINE_INVALID, Part};
use syncline_runtime::{CommonArgs, Failure, Outcome, Process, RetryPolicy, supervise};
use syncline_schemas::codec::CanonicalCodec;
use syncline_schemas::pipeline::{self, Pipeline};
use syncline_transform::context::Context;
use syncline_transform::decide::{self, DecideArgs};
use syncline_transform::{map_stage, merge_stage};

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
    #[command(flatten)]
    common: Option<CommonArgs>,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Decide a field of an entity, in answer to a conflict
    Decide(DecideArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    process::exit_code(&run(cli))
}

fn run(cli: Cli) -> Outcome<()> {
    let (args, decide) = match (cli.command, cli.common) {
        (Some(Command::Decide(decide)), _) => (decide.common(), Some(decide)),
        (None, Some(args)) => (args, None),
        (None, None) => {
            return Err(Failure::definite(
                process::ARGUMENTS_INVALID,
                "--pipeline FILE is missing",
            ));
        }
    };
    let pipeline = load(&args.pipeline)?;
    if args.check {
        return Ok(());
    }
    let process = process::start("syncline-transform", &args)?;
    let context = Context::new(&process, pipeline);
    match decide {
        Some(decide) => decide::run(&context, &decide),
        None => work(&process, context),
    }
}

fn load(file: &Path) -> Outcome<Pipeline> {
    let invalid = |problems: Vec<String>| Failure::definite(PIPELINE_INVALID, problems.join("\n"));
    let loaded = pipeline::load(file, &|name| std::env::var(name).ok());
    let pipeline = loaded.map_err(|problems| invalid(problems.iter().map(ToString::to_string).collect()))?;
    let unusable = |entity: &pipeline::Entity| {
        let error = CanonicalCodec::new(&entity.schema_json).err()?;
        Some(format!("the schema of {} cannot be used: {error}", entity.name))
    };
    let problems: Vec<String> = pipeline.entities.iter().filter_map(unusable).collect();
    if problems.is_empty() {
        Ok(pipeline)
    } else {
        Err(invalid(problems))
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
    supervise(name, &context.shutdown, &RetryPolicy::default(), || stage(context))
}
