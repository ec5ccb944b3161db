//! The sink: agreed records into the apps, with effect exactly once.

#![warn(clippy::unwrap_used)]

/// READ FIRST: the loop read > plan > apply > commit.
pub mod stage;

/// Records gathered for one transaction.
mod batch;

/// The thread that writes.
mod hand;

/// The loop of a lane that is written at set times.
mod timed;

/// Of each key the last record.
mod coalesce;

/// Times at which a target is left alone.
mod maintenance;

/// Which topics a target reads, and what their records say.
pub mod feed;

/// Which fields of a link are written together, and when.
pub mod lane;

/// When such a lane is written that is not live. Pure.
pub mod due;

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
