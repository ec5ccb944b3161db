//! What capture reads from: messages in the order of the log, and a way to say what is safe.

use std::time::Duration;

use syncline_runtime::failure::Outcome;
use syncline_schemas::position::Lsn;

use crate::postgres::pgoutput::Message;

/// What a source hands over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A message of the log.
    Log {
        /// Where it stands in the log. Not a position: many rows may share it.
        lsn: Lsn,
        /// The message.
        message: Message,
    },
    /// No transaction is under way, and everything published up to here has been handed over. Once that is durable
    /// and this LSN is written as progress, it may be confirmed, so that an idle table does not hold back the slot.
    Idle {
        /// Up to where the server has read its log.
        lsn: Lsn,
    },
}

/// A log to read from.
pub trait Source {
    /// The next of it, or `None` if nothing came within `wait`.
    fn next(&mut self, wait: Duration) -> Outcome<Option<Incoming>>;

    /// All of the log up to `lsn` is durable in Kafka and will never be asked for again. Does not wait.
    fn confirm(&self, lsn: Lsn);
}
