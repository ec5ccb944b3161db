//! Changes of rows to records: what an operation means, a key change above all. Each takes its place in the transaction
//! whether it is wanted or not, so that what follows stands where it always stood.

use std::sync::Arc;

use syncline_schemas::position::Position;

use super::parts::{Moment, Sides, is_unchanged, moves, old_row, other_side};
use super::{AssembleError, Assembler};
use crate::envelope::{Image, Other, Registered};
use crate::form::Operation;
use crate::postgres::pgoutput::{Delete, Insert, OldTuple, Truncate, Tuple, Update};
use crate::records::Moved;

impl Assembler {
    pub(super) fn insert(&mut self, at: Moment, insert: &Insert) -> Result<(), AssembleError> {
        let Some((registered, position)) = self.row(insert.relation)? else {
            return Ok(());
        };
        if self.skips(Operation::Create, position) {
            return Ok(());
        }
        let mark = self.mark_of(&registered, true, &insert.new, None);
        self.change(
            at,
            'c',
            &registered,
            position,
            mark,
            Sides::after(&insert.new, Other::None),
        )
    }

    pub(super) fn delete(&mut self, at: Moment, delete: &Delete) -> Result<(), AssembleError> {
        let Some((registered, position)) = self.row(delete.relation)? else {
            return Ok(());
        };
        if self.skips(Operation::Delete, position) {
            return Ok(());
        }
        let (old, before) = old_row(&delete.old).ok_or(AssembleError::Protocol("a delete without its row"))?;
        let mark = self.mark_of(&registered, false, old, None);
        self.change(at, 'd', &registered, position, mark, Sides::before(old, before))?;
        self.tombstone(&registered, position, old, None)
    }

    /// With its old key or row it may be a key change, which is two records. The second ordinal is taken in any case: whoever
    /// reads this again may want the table, or know its key, otherwise than the first time.
    pub(super) fn update(&mut self, at: Moment, update: &Update) -> Result<(), AssembleError> {
        let row = self.row(update.relation)?;
        let second = match &update.old {
            OldTuple::None => None,
            OldTuple::Key(_) | OldTuple::Full(_) => Some(self.next_position()?),
        };
        let Some((registered, position)) = row else {
            return Ok(());
        };
        let old = old_row(&update.old);
        let other = other_side(&update.old);
        let moved = match old {
            Some((old, before)) => {
                moves(&registered, position, old, &update.new, other).map(|keys| keys.map(|keys| (keys, old, before)))
            }
            None => Ok(None),
        };
        // What does not fit was told when it was new, or will be.
        let is_new = self.is_new(&registered.name, position);
        if moved.is_err() && !is_new {
            self.repeated(position);
            return Ok(());
        }
        if let (Some((keys, old, before)), Some(second)) = (moved?, second) {
            let places = [position, second];
            return self.key_change(at, &registered, places, keys, (old, before), (&update.new, other));
        }
        if self.skips(Operation::Update, position) {
            return Ok(());
        }
        let before = match &update.old {
            OldTuple::Full(old) => Image::Row(old, Other::None),
            OldTuple::None | OldTuple::Key(_) => Image::None,
        };
        if self.rules.unchanged_skipped {
            match is_unchanged(&registered, position, before, Image::Row(&update.new, other)) {
                Ok(false) => (),
                Ok(true) => {
                    self.position = position;
                    self.ignored.unchanged += 1;
                    return Ok(());
                }
                Err(_) if !is_new => {
                    self.repeated(position);
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        let mark = self.mark_of(&registered, false, &update.new, other.cells());
        let sides = Sides {
            before,
            ..Sides::after(&update.new, other)
        };
        self.change(at, 'u', &registered, position, mark, sides)
    }

    /// Takes note of a change that was written before, or waits.
    fn repeated(&mut self, position: Position) {
        self.position = position;
        self.ignored.repeated_rows += 1;
    }

    /// A key change: the row leaves its old key and comes under its new one. To a setting that leaves out operations it is
    /// a delete and an insert.
    fn key_change(
        &mut self,
        at: Moment,
        registered: &Arc<Registered>,
        [away, here]: [Position; 2],
        [old_key, new_key]: [Arc<str>; 2],
        (old, before): (&Tuple, Image<'_>),
        (new, other): (&Tuple, Other<'_>),
    ) -> Result<(), AssembleError> {
        let mark = match self.mark_of(registered, false, old, None) {
            Some(mark) => Some(mark),
            None => self.mark_of(registered, false, new, Some(old)),
        };
        let sides = Sides {
            moved: Some((Moved::Away, new_key.clone())),
            ..Sides::before(old, before)
        };
        if !self.skips(Operation::Delete, away) {
            self.change(at, 'd', registered, away, None, sides)?;
            self.tombstone(registered, away, old, Some((Moved::Away, new_key)))?;
        }
        if self.skips(Operation::Create, here) {
            return Ok(());
        }
        let sides = Sides {
            moved: Some((Moved::Here, old_key)),
            ..Sides::after(new, other)
        };
        self.change(at, 'c', registered, here, mark, sides)
    }

    pub(super) fn truncate(&mut self, at: Moment, truncate: &Truncate) -> Result<(), AssembleError> {
        for oid in &truncate.relations {
            let Some((registered, position)) = self.row(*oid)? else {
                continue;
            };
            if !self.skips(Operation::Truncate, position) {
                self.change(at, 't', &registered, position, None, Sides::none())?;
            }
        }
        Ok(())
    }

    /// Whether such changes are not wanted.
    fn skips(&mut self, operation: Operation, position: Position) -> bool {
        let skips = self.rules.skipped.contains(&operation);
        if skips {
            self.position = position;
            let counter = match operation {
                Operation::Truncate => &mut self.ignored.truncates,
                _ => &mut self.ignored.skipped,
            };
            *counter += 1;
        }
        skips
    }
}
