//! From Debezium's place within a transaction to ours: how many of its changes are in Kafka.
//!
//! Debezium names the LSN of the last change that is there; a position of ours counts the changes. So the transaction is
//! read once up to that LSN, through the same assembler that will write the rest, and what it hands out is thrown away.
//!
//! **Several records of one LSN.** Rows of one COPY share an LSN, and so do the records of a key change, and a delete and its
//! tombstone. An offset that names such an LSN does not say how many of them are in Kafka (Debezium itself then goes on
//! after all of them, and loses those that were not). They are written again: twice is better than never. Likewise, if the
//! LSN is not found, the whole transaction is.

use std::time::{Duration, Instant};

use syncline_runtime::{Failure, Outcome};
use syncline_schemas::position::{Lsn, Position};

use crate::assemble::{Assembler, Step};
use crate::postgres::pgoutput::{Message, Relation};
use crate::source::{Incoming, Source};
use crate::stage;

/// A transaction that was being written when Debezium stopped is read to that point within this.
const LOCATE_MS_MAX: u64 = 600_000;
const POLL_MS: u64 = 500;

/// Gives the assembler the shape of a table.
pub type Define<'a> = &'a mut dyn FnMut(&mut Assembler, &Relation) -> Outcome<()>;

/// The position after the last change that is known to be in Kafka; `at_rest` if that is none of the next transaction.
pub fn locate<S: Source>(
    source: &mut S,
    mut assembler: Assembler,
    at_rest: Position,
    event: Lsn,
    define: Define<'_>,
) -> Outcome<Position> {
    let deadline = Instant::now() + Duration::from_millis(LOCATE_MS_MAX);
    let mut search = Search::new(at_rest, event);
    while Instant::now() < deadline {
        match source.next(Duration::from_millis(POLL_MS))? {
            Some(Incoming::Log { lsn, message }) => {
                if let Some(found) = search.step(&mut assembler, lsn, message, define)? {
                    return Ok(found);
                }
            }
            // The log has nothing after the last commit: the change was of a kind that is not published.
            Some(Incoming::Idle { lsn }) if lsn > at_rest.lsn.max(event) => return Ok(at_rest),
            Some(Incoming::Idle { .. }) | None => {}
        }
    }
    let text = format!("the transaction that Debezium was writing (change {event}) could not be read in time");
    Err(Failure::transient("OFFSETS_UNPLACED", text))
}

struct Search {
    at_rest: Position,
    event: Lsn,
    /// After the last change before the LSN.
    before: Position,
    /// After the last change at the LSN, and whether one record is all that is there.
    there: Option<(Position, bool)>,
}

impl Search {
    fn new(at_rest: Position, event: Lsn) -> Self {
        Self {
            at_rest,
            event,
            before: at_rest,
            there: None,
        }
    }

    /// Takes a message in; gives the answer once it is known.
    fn step(
        &mut self,
        assembler: &mut Assembler,
        lsn: Lsn,
        message: Message,
        define: Define<'_>,
    ) -> Outcome<Option<Position>> {
        let is_end = matches!(message, Message::Commit(_));
        let is_change = !matches!(
            message,
            Message::Begin(_) | Message::Commit(_) | Message::Relation(_) | Message::Type(_) | Message::Origin(_)
        );
        if is_end || (is_change && lsn > self.event) {
            return Ok(Some(self.answer()));
        }
        let step = assembler
            .push(lsn, &message, 0)
            .map_err(|error| stage::misfit(&error))?;
        if let Step::Shape(relation) = &step {
            define(assembler, relation)?;
        }
        if is_change && !assembler.records().rows().is_empty() {
            self.note(assembler, lsn);
        }
        Ok(None)
    }

    fn note(&mut self, assembler: &Assembler, lsn: Lsn) {
        if lsn < self.event {
            self.before = assembler.position();
            return;
        }
        let only = self.there.is_none() && assembler.records().rows().len() == 1;
        self.there = Some((assembler.position(), only));
    }

    fn answer(&self) -> Position {
        match self.there {
            Some((after, true)) => after,
            Some((_, false)) => self.before,
            None => self.at_rest,
        }
    }
}

#[cfg(test)]
mod tests;
