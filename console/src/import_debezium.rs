//! `syncline import-debezium`: the pipeline file that means what a connector's configuration means.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use syncline_capture::debezium::connector::Beside;
use syncline_capture::debezium::import;
use syncline_runtime::process::ARGUMENTS_INVALID;
use syncline_runtime::{Failure, Outcome};

/// What `import-debezium` can be told.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The connector's configuration: JSON or .properties
    #[arg(value_name = "FILE")]
    pub connector: PathBuf,
    /// The properties of the Connect worker that runs it
    #[arg(long, value_name = "FILE")]
    pub worker: Option<PathBuf>,
    /// The brokers, if neither file names them or others are meant
    #[arg(long, value_name = "HOST:PORT")]
    pub bootstrap: Option<String>,
    /// The schema registry, if neither file names it or another is meant
    #[arg(long, value_name = "URL")]
    pub registry: Option<String>,
}

/// Prints the file, or everything that keeps the configuration from being run.
pub fn run(args: &Args) -> Outcome<ExitCode> {
    let beside = Beside {
        worker: args.worker.clone(),
        bootstrap: args.bootstrap.clone(),
        registry: args.registry.clone(),
        offsets: None,
    };
    let file = import::import(&args.connector, &beside, &|name| std::env::var(name).ok())
        .map_err(|told| Failure::definite(ARGUMENTS_INVALID, told.join("\n")))?;
    std::io::stdout()
        .write_all(file.as_bytes())
        .map_err(|error| Failure::definite("STDOUT", "cannot print").source(error))?;
    Ok(ExitCode::SUCCESS)
}
