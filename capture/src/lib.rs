//! Capture: a database's committed changes, in their order, to Kafka. The modules stand in the order of a record's way.

/// PostgreSQL: log, catalogue, snapshot, setup.
pub mod postgres;

/// What the stage reads from.
pub mod source;
