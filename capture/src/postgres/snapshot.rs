//! The rows that are there when capture begins, in chunks of the primary key.

use crate::postgres::pgoutput::TupleCell;

/// A row of a snapshot: the cells of the columns asked for, in that order, in the same text form as the log's.
/// A cell is [`TupleCell::Null`] or [`TupleCell::Text`], nothing else.
pub type SnapshotRow = Vec<TupleCell>;
