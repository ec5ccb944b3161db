//! What is measured without Kafka and PostgreSQL: each step of a record's way by itself (`benches/rows.rs`), and the merge
//! of a million entities over the real local store (`src/bin/syncline-merge-core`).
//!
//! Here is what both are fed with. Everything is a function of a number, so that two runs see the same bytes; nothing here
//! is measured itself.

#![warn(clippy::unwrap_used)]

/// Customers of three apps, and what is said of them.
pub mod customers;

/// A table's log as pgoutput sends it.
pub mod log;

/// Allocations, counted.
pub mod allocations;
