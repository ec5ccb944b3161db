//! The operator's command line: it asks and reports. Nothing here is needed for records to flow.
//!
//! Each verb is a module with its own arguments and a `run` that gives the exit code: 0 all is well, 1 an answer that
//! somebody has to act upon, 2 an invalid command or file. Answers go to standard output, readable or, with `--json`,
//! as one JSON object; failures go to standard error, as those of the other programs do.

#![warn(clippy::unwrap_used)]

/// Answers, for people.
pub mod paper;

/// `syncline doctor`: what would stop or hurt a run, before it is begun.
pub mod doctor;

/// `syncline import-debezium`: from a connector's configuration to a pipeline file.
pub mod import_debezium;

/// The command line of `syncline`.
#[derive(Clone, Debug, clap::Parser)]
#[command(
    name = "syncline",
    version,
    about = "Asks and mends: the operator's side of Syncline"
)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What can be asked for.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Verb {
    /// Says what would stop or hurt a run of this pipeline, and the command that mends it
    Doctor(doctor::Args),
    /// Prints the pipeline file that means what a Debezium connector's configuration means
    ImportDebezium(import_debezium::Args),
}
