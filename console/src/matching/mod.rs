//! `syncline match`: which records are one. What people say of it is a word on the topic of identity, kept for ever with who
//! and why; merge carries it out, and a split takes it back, whatever came in between.

use std::process::ExitCode;

use syncline_runtime::Outcome;

/// Two records are one, or are one no more.
pub mod merge;

/// Words on identity, read and written.
pub mod words;

/// Pairs that a person is asked about.
pub mod review;

/// What can be said of who is who.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Verb {
    /// Merges a record into another: the rows of both are one record's from now on
    Merge(merge::MergeArgs),
    /// Takes a merge back: the record is on its own again, with all that its rows have said since
    Split(merge::SplitArgs),
    /// Pairs of records that may be one, which the match is not sure of
    Review(review::ReviewArgs),
    /// They are one: merges the pair of this item
    Accept(review::AnswerArgs),
    /// They are not one: the pair of this item is never asked about again
    Reject(review::AnswerArgs),
}

/// Says it.
pub fn run(verb: &Verb) -> Outcome<ExitCode> {
    match verb {
        Verb::Merge(args) => merge::merge(args),
        Verb::Split(args) => merge::split(args),
        Verb::Review(args) => review::list(args),
        Verb::Accept(args) => review::accept(args),
        Verb::Reject(args) => review::reject(args),
    }
}
