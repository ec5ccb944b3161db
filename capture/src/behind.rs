//! Pure: tables that wait while the others go on, and where each of them is. What makes a table wait is that its schema has no
//! id yet because the registry does not answer ([`crate::asking`]).
//!
//! **Nothing is kept.** The changes of a table that waits are read and not written: neither memory nor disk of ours holds them.
//! The server's log does, because the slot is confirmed only up to the first of them. So what can pile up is bounded by the budget
//! for that log (`wal_budget`), where the guard raises its alarm, and by nothing of ours.
//!
//! **Going on is beginning anew.** Once the registry answers the attempt ends, and the next one streams from the table that is
//! furthest behind. A change is written if it is greater than where *its table* is ([`Behind::floor`]), as after any crash it is
//! written if it is greater than the stored position. So the way back is the same as after a kill, at any moment of it, and no other
//! code knows of it. Each key is in one table, and each table goes on where it was: its order is kept.
//!
//! **Each change stands where it would have stood.** The assembler is given the plan of the table as it will be, but for the ids.
//! Ordinals, key changes, the numbers of a transaction's events and the marks that rows claim are the same at the second reading.
//!
//! (The alternatives: a spill needs a format, a disk and a budget of its own for what the server's log holds already. A table that
//! stops and is read again, as for a schema that is refused, loses the changes between.)

use std::collections::{BTreeMap, HashMap};

use syncline_schemas::position::{Lsn, Position};
use syncline_schemas::progress::Ahead;

/// Beyond every change.
const NEVER: Position = Position::new(u64::MAX, Lsn(u64::MAX), u64::MAX);

/// Where a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    /// Up to where its changes are in Kafka.
    done: Position,
    /// None of its changes is written at present.
    waits: bool,
}

/// The tables that are not where the others are, by name.
#[derive(Clone, Debug, Default)]
pub struct Behind(HashMap<String, Place>);

impl Behind {
    /// As progress has it: they go on.
    pub fn of(ahead: Option<&Ahead>) -> Self {
        let tables = ahead.into_iter().flat_map(|ahead| &ahead.behind);
        let place = |(name, &done): (&String, &Position)| (name.clone(), Place { done, waits: false });
        Self(tables.map(place).collect())
    }

    /// The position up to which changes of `table` are not to be written, where that of the others is `stored`.
    pub fn floor(&self, table: &str, stored: Position) -> Position {
        if self.0.is_empty() {
            return stored;
        }
        match self.0.get(table) {
            None => stored,
            Some(place) if place.waits => NEVER,
            Some(place) => place.done,
        }
    }

    /// From here on, everything being read up to `read`, no change of the table is written.
    pub fn wait(&mut self, table: &str, read: Position, stored: Position) {
        let done = match self.0.get(table) {
            Some(place) if place.waits => return,
            Some(place) => place.done.max(read),
            None => stored.max(read),
        };
        self.0.insert(table.to_owned(), Place { done, waits: true });
    }

    /// Nothing more of the table is wanted.
    pub fn forget(&mut self, table: &str) {
        self.0.remove(table);
    }

    /// Those that are behind, each with its place, everything being read up to `read`.
    pub fn places(&self, read: Position, stored: Position) -> BTreeMap<String, Position> {
        let reached = read.max(stored);
        let place = |(name, place): (&String, &Place)| {
            let done = if place.waits { place.done } else { place.done.max(read) };
            (place.waits || done < reached).then(|| (name.clone(), done))
        };
        self.0.iter().filter_map(place).collect()
    }

    /// Whether the table is behind.
    pub fn has(&self, table: &str, read: Position, stored: Position) -> bool {
        self.0.get(table).is_some_and(|place| place.waits || read < stored)
    }

    /// Whether any table is.
    pub fn is_any(&self, read: Position, stored: Position) -> bool {
        self.0.values().any(|place| place.waits || read < stored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(lsn: u64) -> Position {
        Position::new(1, Lsn(lsn), 0)
    }

    fn names(behind: &BTreeMap<String, Position>) -> Vec<(&str, u64)> {
        behind.iter().map(|(name, at)| (name.as_str(), at.lsn.0)).collect()
    }

    #[test]
    fn a_table_that_waits_stays_where_it_was_and_the_others_go_on() {
        let mut behind = Behind::default();
        behind.wait("a", at(5), at(3));
        behind.wait("a", at(6), at(3));
        assert_eq!((behind.floor("a", at(3)), behind.floor("b", at(3))), (NEVER, at(3)));
        assert_eq!(names(&behind.places(at(9), at(3))), [("a", 5)]);
        // A table that came to wait while another was caught up had been where the others were.
        behind.wait("b", at(2), at(9));
        assert_eq!(names(&behind.places(at(2), at(9))), [("a", 5), ("b", 9)]);
        behind.forget("a");
        behind.forget("b");
        assert!(!behind.is_any(at(2), at(9)) && behind.places(at(2), at(9)).is_empty());
    }

    #[test]
    fn a_table_that_goes_on_is_as_far_as_the_log_is_read_until_it_is_with_the_others() {
        let ahead = Ahead {
            position: at(9),
            behind: BTreeMap::from([("a".to_owned(), at(5)), ("b".to_owned(), at(7))]),
        };
        let behind = Behind::of(Some(&ahead));
        assert_eq!((behind.floor("a", at(9)), behind.floor("b", at(9))), (at(5), at(7)));
        assert_eq!(names(&behind.places(at(6), at(9))), [("a", 6), ("b", 7)]);
        assert!(behind.has("b", at(6), at(9)) && !behind.has("c", at(6), at(9)));
        assert!(behind.places(at(9), at(9)).is_empty() && !behind.is_any(at(9), at(9)));
    }

    #[test]
    fn a_table_that_has_to_wait_again_has_what_it_was_given_between() {
        let ahead = Ahead {
            position: at(9),
            behind: BTreeMap::from([("a".to_owned(), at(5))]),
        };
        let mut behind = Behind::of(Some(&ahead));
        behind.wait("a", at(7), at(9));
        assert_eq!(names(&behind.places(at(8), at(9))), [("a", 7)]);
        let mut again = Behind::of(Some(&ahead));
        again.wait("a", at(4), at(9));
        assert_eq!(names(&again.places(at(8), at(9))), [("a", 5)]);
    }
}
