//! When a link is written.

use std::collections::BTreeSet;

use crate::schedule::Schedule;

/// When a link is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// At once.
    #[default]
    Live,
    /// All of it when the schedule says so.
    Batch(Schedule),
    /// Some fields at once, the rest when the schedule says so. Neither is empty, and no group is divided.
    Hybrid {
        /// The fields that are written at once.
        live: BTreeSet<String>,
        /// When the others are.
        rest: Schedule,
    },
}
