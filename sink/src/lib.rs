//! The sink: agreed records into the apps, with effect exactly once.

#![warn(clippy::unwrap_used)]

/// READ FIRST: the loop read > plan > apply > commit.
pub mod stage;

/// The thread that writes.
mod hand;

/// Which topics a target reads, and what their records say.
pub mod feed;

/// Which fields of a link are written together, and when.
pub mod lane;

/// What to write for one record. Pure.
pub mod plan;

/// An app that records are written into: what every target promises.
pub mod target;

/// The first target.
pub mod postgres;

/// Tables copied as they are.
pub mod replica;

/// Records that a target refused.
mod dead_letter;

/// Refused records, taken up again by a person's command.
mod replay;

/// What is counted.
mod metrics;

/// Which parts a process has.
pub mod run;
