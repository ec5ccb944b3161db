//! Capture: a database's committed changes, in their order, to Kafka. The modules stand in the order of a record's way.

#![warn(clippy::unwrap_used)]

/// PostgreSQL: log, catalogue, snapshot, setup.
pub mod postgres;

/// What the stage reads from.
pub mod source;

/// What records look like: Debezium's settings.
pub mod form;

/// Debezium's lists of regular expressions.
pub mod patterns;

/// Which tables, columns and messages become records.
pub mod selection;

/// When and how the rows that are there are read: Debezium's settings.
pub mod snapshots;

/// What becomes of a value that must not be seen.
pub mod mask;

/// PostgreSQL's types and the Avro form of each.
pub mod types;

/// The text forms that PostgreSQL prints, read by hand.
pub mod text;

/// Column defaults as they go into the schema.
pub mod default;

/// Avro's binary rules.
pub mod avro;

/// What is lost of a value, counted.
pub mod loss;

/// One cell from text to Avro bytes.
pub mod encode;

/// Key and value schemas as text, equal to Debezium's.
pub mod avro_schema;

/// A table's plan: what does not change from row to row.
pub mod table;

/// A row change as Debezium's envelope.
pub mod envelope;

/// The topics beside those of tables.
pub mod companions;

/// Keys as texts: for headers, and as marks name rows.
pub mod keys;

/// The sink's marks of the running transaction, and which row each belongs to.
pub mod marks;

/// What came of one message of the log.
pub mod records;

/// Messages of the log to records.
pub mod assemble;

/// Rows that cannot be written.
pub mod poison;

/// Heartbeats.
pub mod pulse;

/// The way out: rows, marks and progress to Kafka.
pub mod outlet;

/// Where capture stands, read back from Kafka.
pub mod progress;

/// Where to begin, from what Kafka and the server say.
pub mod start;

/// The registry, asked beside the stream.
pub mod asking;

/// From a table's shape to its plan with schema ids.
pub mod shapes;

/// Tables that wait while the others go on.
pub mod behind;

/// The rows that are there when capture begins.
pub mod load;

/// What becomes of snapshots, told.
pub mod notify;

/// What people ask for while capture runs.
pub mod signals;

/// Tables read in chunks beside the stream.
pub mod incremental;

/// What signals ask for, carried out between two transactions.
pub mod errands;

/// Tables that a signal asks for, read while the stream waits.
pub mod blocked;

/// What is known of each table beyond its name.
pub mod known;

/// Whether a promoted server continues the history.
pub mod failover;

/// The watch over the slot.
pub mod guard;

/// The steps before the stream.
pub mod open;

/// READ FIRST: the loop of one source.
pub mod stage;

/// The command line's part of what is done when something goes wrong.
pub mod care;

/// What one source is captured by.
pub mod config;

/// Debezium's configuration, as it is.
pub mod debezium;

/// A Debezium connector's offsets, and where ours begin after them.
pub mod takeover;

/// Groups of tables with a slot each.
pub mod groups;

/// Tables that another slot captured before.
pub mod moved;

/// The rows of a batch by table, for the metrics.
mod tally;

/// Capture's metrics.
mod metrics;

#[cfg(test)]
mod golden;
