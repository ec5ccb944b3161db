//! The harness of the whole-system tests: real PostgreSQL databases, a real broker, a real registry, the three binaries.
//!
//! It knows the binaries only by their command lines, the topics only by their bytes and the databases only by SQL: a
//! judge must not share code with the accused, `schemas` (the contract itself) excepted. Nothing here sleeps and hopes.
//! A test either lets the stages work off what is there (`--until-current`) in an order of its choosing, which makes
//! concurrency a matter of the script and not of luck, or it waits for a condition within a bound.

/// Where the services are: `PG_DSN`, `BOOTSTRAP`, `REGISTRY`.
pub mod stack;

/// HTTP without a library.
pub mod http;

/// A real Debezium in a Kafka Connect worker.
pub mod connect;

/// Avro bytes shown by nothing but the text of their schema.
pub mod avro;

/// What two captures of one database wrote, compared.
pub mod sides;

/// The rows of a first read, comparable.
pub mod snapshot_order;

/// Debezium and ours side by side on one database.
pub mod beside;

/// One database, blocking, rows as text.
pub mod postgres;

/// Topics read to their end and decoded, consumer groups and topics deleted.
pub mod kafka;

/// The binaries as processes: run to the end, or as services that can be killed, frozen and thawed.
pub mod process;

/// Processes killed at random, and started again.
pub mod killer;

/// A pipeline of its own for each test, and its end.
pub mod world;

/// What was agreed and what was decided, as a test wants to compare it.
pub mod agreed;

/// The demo's apps and pipeline, for the tests that use them.
pub mod acme;

/// Transfers between accounts in three apps: a workload that tells on every lost, doubled or reordered change.
pub mod bank;

/// Three apps that are edited at random, and what must have become of every edit, by the databases' own logs.
pub mod agreement;

/// One app that is captured, and its changes.
pub mod captured;

/// A workload for capture alone, and the judgement of what arrived.
pub mod oracle;

/// Capture between two lines that can be made bad.
pub mod rig;

/// Records that Debezium wrote, as bytes again.
pub mod debezium;

/// A real Debezium and ours by turns on one slot.
pub mod by_turns;

/// What may come twice when the slot changes hands.
pub mod handover;

/// A network as bad as one likes, between a process and PostgreSQL or Kafka.
pub mod proxy;

/// A PostgreSQL of a test's own.
pub mod own_server;

/// A Kafka of a test's own.
pub mod own_kafka;

/// A port that can be closed and opened: a target that is down for a while.
pub mod gate;

/// Waiting for a condition within a bound.
pub mod wait;

/// Random scripts, each from a number.
pub mod script;

/// Random numbers from a seed that is printed, so that a failure can be repeated.
pub mod dice;

pub use agreed::{Agreed, Decided};
pub use dice::Dice;
pub use gate::Gate;
pub use kafka::{Record, Topics};
pub use killer::Killer;
pub use own_kafka::OwnKafka;
pub use own_server::OwnServer;
pub use postgres::Db;
pub use process::{Finished, Service, Stage};
pub use proxy::Proxy;
pub use stack::Stack;
pub use wait::{until, until_some};
pub use world::{App, World, in_world, in_world_with};
