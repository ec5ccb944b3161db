//! The operator's command line: it asks and reports. Nothing here is needed for records to flow.
//!
//! Each verb is a module with its own arguments and a `run` that gives the exit code: 0 all is well, 1 an answer that
//! somebody has to act upon, 2 an invalid command or file, 3 a part could not be reached. Answers go to standard output,
//! readable or, with `--json`, as one JSON object; failures go to standard error, as those of the other programs do.
//! Values of records are shown by the verbs whose purpose that is, and by no other.

#![warn(clippy::unwrap_used)]

/// Answers, for people.
pub mod paper;

/// How a verb ends.
pub mod answer;

/// The pipeline file, and whom to ask about it.
pub mod desk;

/// Topics, read to their end.
pub mod topics;

/// What people did, read and written.
pub mod actions;

/// `syncline doctor`: what would stop or hurt a run, before it is begun.
pub mod doctor;

/// `syncline import-debezium`: from a connector's configuration to a pipeline file.
pub mod import_debezium;

/// `syncline tail`: the records of any topic.
pub mod tail;

/// `syncline status`: how far everything is.
pub mod status;

/// `syncline dlq`: what stages refused.
pub mod dlq;

/// `syncline why`: the story of one record.
pub mod why;

/// `syncline explain`: the rule of a field.
pub mod explain;

/// `syncline verify`: whether the apps hold what was agreed.
pub mod verify;

/// `syncline plan`: what another file would change.
pub mod plan;

/// `syncline replay`: recorded cases as tests.
pub mod replay;

/// `syncline conflicts`: what waits for a person.
pub mod conflicts;

/// `syncline match`: which records are one.
pub mod matching;

/// `syncline guards` and `resume`: sources that are paused.
pub mod guards;

/// `syncline undo`: what one app wrote in some time, taken back.
pub mod undo;

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
    /// Shows the records of a topic, decoded
    Tail(tail::Args),
    /// Says how far everything is, and what waits for whom
    Status(status::Args),
    /// Tells the story of one record: who said what, what was decided, what was delivered
    Why(why::Args),
    /// Says which rule of the file decides about a field, and why that one
    Explain(explain::Args),
    /// Compares each app's rows with the agreed records
    Verify(verify::Args),
    /// Says what a pipeline file would change, and changes nothing
    Plan(plan::Args),
    /// Records real cases, and asserts that the rules still decide them so
    Replay(replay::Args),
    /// What stages refused, and what becomes of it
    #[command(subcommand)]
    Dlq(dlq::Verb),
    /// Conflicts that wait for a person, and what people decide
    #[command(subcommand)]
    Conflicts(conflicts::Verb),
    /// Which records are one: merge, split, and what the match is not sure of
    #[command(subcommand)]
    Match(matching::Verb),
    /// Takes back what one app wrote between two moments, where nobody has edited it since
    Undo(undo::Args),
    /// Says which sources a guard has paused, and who let which go on
    Guards(guards::Args),
    /// Lets a source go on that a guard has paused
    Resume(guards::resume::Args),
    /// Prints the pipeline file that means what a Debezium connector's configuration means
    ImportDebezium(import_debezium::Args),
}
