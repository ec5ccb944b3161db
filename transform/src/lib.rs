//! Map what each source says to entities, then merge what several sources say. In the order of a record's way.
//!
//! Read `map_stage` first, then `merge_stage`. Both are the same loop around a pure core: `mapping`, `merge`.

#![warn(clippy::unwrap_used)]

/// The pipeline file, read and found fit for transform.
pub mod load;

/// What both stages are given, and the topics they need.
pub mod context;

/// The map stage: the loop from capture topics to mapped records.
pub mod map_stage;

/// What the map stage does with a record.
mod mapper;

/// The crosswalks of entities that others refer to.
mod followed;

/// Which changes wait for the rows that they refer to.
mod waiting;

/// A record of a capture topic, read.
pub mod change;

/// Whose clock is wrong.
mod clocks;

/// What pauses a source.
mod guards;

/// When everything is mapped that a table held at the start.
mod readiness;

/// Pure: one change event to what one source says of one entity.
pub mod mapping;

/// Pure: the entity id of a row at first sight.
pub mod identity;

/// Pure: which records are one, word by word.
pub mod kin;

/// The merge stage: the loop from mapped records to agreed ones.
pub mod merge_stage;

/// One partition of one entity: its states, and what may be published of it.
pub mod entity_shard;

/// Who says what time it is.
mod ticker;

/// Pure: words of several apps into one agreed record.
pub mod merge;

/// A batch of records, and the transaction that ends it.
mod batch;

/// Records on their way out, dead letters among them.
pub mod outgoing;

/// What a batch has changed and Kafka has not committed.
pub mod overlay;

/// The local store, a cache of changelog topics.
pub mod store;

/// From a changelog topic into the local store.
pub mod changelog;

/// Writers' schemas by id.
pub mod schemas;

/// A person's word, from the command line.
pub mod decide;

/// What can be counted here.
mod metrics;
