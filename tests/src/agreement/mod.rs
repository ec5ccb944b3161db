//! Three apps of different shapes that are edited at random, and an oracle that says what must have become of every edit.
//!
//! The oracle is independent: it reads the databases' own logs, through slots of its own and PostgreSQL's `test_decoding`,
//! and of our topics only what was agreed and what lost. It has its own words for what a column means to an entity
//! (`apps`) and its own notion of who had seen what: an edit had seen a value if its row, in its log, had held it. It must
//! not know the merge's code, its states, or the stages' topics; from `schemas` it takes how a mark and a position are
//! written, nothing more.
//!
//! What makes the question decidable: nearly every value that the load writes is written once in the whole run, so a value
//! names its edit. Where it cannot be so (flags, small numbers) a coincidence makes the oracle milder, never stricter. What is
//! made of several edits, sets and sums, is worked out again from the log and compared to the last element and unit; only
//! of entities that somebody deleted in between it is not, since what a deletion takes along is a rule of its own.

/// The apps, the entities, and what a column means.
pub mod apps;

/// What the apps' users do.
pub mod load;

/// A database's log, read by the test itself.
pub mod log;

/// From logs to what every row held, and by whose doing.
pub mod history;

/// What was agreed and what lost, from the topics.
pub mod record;

/// The verdict.
pub mod judge;
