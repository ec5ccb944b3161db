//! The contract between the three processes: the words on the wire and the same words in Rust.
//!
//! What must not be here: async, clocks, network, randomness, Kafka. Everything is a value or a pure function, in the
//! order in which a record meets it.

#![warn(clippy::unwrap_used)]

/// Where a change stands in its source's log: epoch, commit end LSN, ordinal. An LSN alone is no position.
pub mod position;

/// The values that apps are compared by: one number kind, one text kind, nothing lossy.
pub mod value;

/// What the sink leaves in an app's log beside a write, so that capture recognises the echo.
pub mod mark;

/// What one source says of one entity: the record between map and merge.
pub mod mapped;

/// A change that waits for the row it refers to.
pub mod waiting;

/// The agreed record, and for each app the last word it said.
pub mod canonical;

/// A decision about words that did not see each other: open, or settled and why.
pub mod conflict;

/// A person's word: which value holds, in answer to what.
pub mod decision;

/// Which records are one.
pub mod identity;

/// What a row says of who it is, when it is first seen.
pub mod sighting;

/// Two records that may be one.
pub mod review;

/// Whose log a word stands in, where records have been merged.
pub mod voice;

/// What time it is, for deadlines.
pub mod tick;

/// What a person did to a conflict or a dead letter, beside deciding.
pub mod action;

/// A source that is paused, and a person who lets it go on.
pub mod pause;

/// How far capture has come, and what it says beside the rows.
pub mod progress;

/// Names of topics and subjects: every name is made here and nowhere else.
pub mod topic;

/// What is remembered of a captured table.
pub mod table_record;

/// A row that capture could not write.
pub mod dead_letter;

/// Avro out and in: Confluent wire format, one schema for each record above.
pub mod codec;

/// The pipeline file: read, checked and told off with line and column.
pub mod pipeline;

/// When something is due: local times and periods, as functions of an instant.
pub mod schedule;

/// Between the columns of an app's table and the fields of an entity, both ways.
pub mod lens;

/// The cells of a row as texts, in one piece of memory.
pub mod cells;

/// A change of a row in Debezium's envelope, ours or Debezium's own.
pub mod envelope;
