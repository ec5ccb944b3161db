//! A Debezium connector's offsets, and where ours begin after them.

use std::path::PathBuf;

/// Where a connector's offsets are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offsets {
    /// In this topic of the worker's cluster.
    Topic(String),
    /// In this file of a standalone worker.
    Standalone(PathBuf),
    /// In this file, as `GET /connectors/NAME/offsets` gave them.
    Exported(PathBuf),
}
