//! Changes of which only the beginning is known. They take their position like any other, so that what follows stands
//! where it would stand if they had been read.

use syncline_schemas::mark;
use syncline_schemas::position::{Lsn, Position};

use super::parts::Moment;
use super::{AssembleError, Assembler};
use crate::postgres::pgoutput::{OldTuple, Oversized, OversizedKind};

impl Assembler {
    /// An error, unless it is of no account.
    pub(super) fn oversized(&mut self, at: Moment, oversized: &Oversized) -> Result<(), AssembleError> {
        let found = match &oversized.what {
            OversizedKind::Change { op, relation, old, .. } => {
                let row = self.row(*relation)?;
                if *op == 'u' && *old != OldTuple::None {
                    self.next_position()?;
                }
                row.map(|(registered, position)| (registered.table.full_name(), position))
            }
            OversizedKind::Logical { transactional, prefix } => {
                let position = match transactional {
                    true => self.next_position()?,
                    false => Position::new(self.epoch, Lsn(at.lsn.0 + 1), 0),
                };
                self.wants(prefix).then(|| (String::new(), position))
            }
        };
        let Some((table, position)) = found else {
            return Ok(());
        };
        self.position = self.position.max(position);
        if !self.is_new(&table, position) {
            self.ignored.repeated_rows += 1;
            return Ok(());
        }
        Err(AssembleError::Oversized {
            table,
            position,
            bytes: oversized.bytes,
        })
    }

    /// Whether messages of that prefix become records. Ours are never so long.
    fn wants(&self, prefix: &[u8]) -> bool {
        let prefix = std::str::from_utf8(prefix).unwrap_or_default();
        let messages = self.rules.messages.as_ref();
        prefix != mark::PREFIX && messages.is_some_and(|messages| messages.selection.has_message(prefix))
    }
}
