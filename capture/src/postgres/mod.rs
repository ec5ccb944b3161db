//! PostgreSQL as a source: its log by a replication connection of our own, its catalogue and snapshot by ordinary SQL.

/// Pure: bytes of the log to messages.
pub mod pgoutput;

/// What the catalogue says of a table.
pub mod catalog;

/// The rows that are there when capture begins.
pub mod snapshot;
