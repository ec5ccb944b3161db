//! `syncline conflicts`: what waits for a person, who works on it, and what they decide.

use std::process::ExitCode;

use syncline_runtime::Outcome;

/// Pure: a conflict with all that was said and done about it.
pub mod case;

/// Pure: conflicts that are alike.
pub mod group;

/// All conflicts, from the topics.
pub mod book;

/// What waits.
pub mod list;

/// One conflict, side by side.
pub mod show;

/// How often, between whom, and for whom.
pub mod stats;

/// Who works on it.
pub mod take;

/// A person's word.
pub mod answer;

/// Another person's, that it may hold.
pub mod approve;

/// What can be done with conflicts.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Verb {
    /// What waits for a person; conflicts that are alike are one line
    List(list::Args),
    /// One conflict: candidates, values, who had seen what
    Show(show::Args),
    /// Say that you work on it, or no longer
    Take(take::Args),
    /// Decide one, in answer to what you have seen
    Resolve(answer::ResolveArgs),
    /// Approve what another person has decided, where the file asks for that
    Approve(approve::Args),
    /// Decide all that are alike
    Bulk(answer::BulkArgs),
    /// How often each rule decided, between whom, and for whom
    Stats(stats::Args),
    /// Print them with their values, a JSON object a line
    Export(show::ExportArgs),
}

/// Does it.
pub fn run(verb: &Verb) -> Outcome<ExitCode> {
    match verb {
        Verb::List(args) => list::run(args),
        Verb::Show(args) => show::run(args),
        Verb::Take(args) => take::run(args),
        Verb::Resolve(args) => answer::resolve(args),
        Verb::Approve(args) => approve::run(args),
        Verb::Bulk(args) => answer::bulk(args),
        Verb::Stats(args) => stats::run(args),
        Verb::Export(args) => show::export(args),
    }
}
