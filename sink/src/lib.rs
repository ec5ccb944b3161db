//! The sink: agreed records into the apps, with effect exactly once.

/// What to write for one record. Pure.
pub mod plan;

/// An app that records are written into: what every target promises.
pub mod target;

/// The first target.
pub mod postgres;
