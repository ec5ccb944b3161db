//! The only crate that knows Kafka and the schema registry: it moves bytes and headers and knows when they are
//! durable. It has no type of `schemas` and no rule; what the bytes mean is other people's business.
//!
//! Everything here blocks, because librdkafka does. Call it from a thread of its own, never from an async task.

#![warn(clippy::unwrap_used)]

/// Where the cluster is, and the settings that correctness depends on.
pub mod config;

/// Records going out and coming in.
pub mod record;

/// Records out: in transactions, or each one once.
pub mod producer;

/// Records in, as a member of a consumer group.
pub mod consumer;

/// Records in, from one partition, to its end.
pub mod reader;

/// Records in, from all partitions of a topic, as they come.
pub mod follower;

/// Topics: made, looked at, removed.
pub mod admin;

/// How far a consumer group has come.
pub mod groups;

/// The cluster as this user finds it.
pub mod survey;

/// Schemas by id, and ids by schema.
pub mod registry;

/// Which partition a key lives in.
pub mod partitioner;

/// Fenced once is a restart, fenced again and again is a second writer.
pub mod fences;

mod ends;
mod error;
mod queues;
mod rebalance;

pub use config::BusConfig;
pub use consumer::{Event, GroupConsumer};
pub use ends::{Patience, close_idle};
pub use fences::Fences;
pub use follower::Follower;
pub use partitioner::murmur2_partition;
pub use producer::{Producer, RefusedRecord};
pub use reader::PartitionReader;
pub use record::{InRecord, OutRecord};
pub use registry::Registry;
