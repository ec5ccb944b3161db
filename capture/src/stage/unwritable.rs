//! What the loop does with a row that cannot be written, and with a table that cannot be published any more.

use std::sync::Arc;

use syncline_runtime::Outcome;
use syncline_schemas::position::Lsn;

use super::{Streaming, misfit};
use crate::assemble::{AssembleError, Step};
use crate::envelope::Registered;
use crate::poison::{self, Poison, TABLE_STOPPED, TooLarge};
use crate::postgres::pgoutput::{Message, OversizedKind, Relation};
use crate::shapes::Announced;
use crate::source::Source;

impl<S: Source> Streaming<'_, S> {
    /// The assembler could make no record of the message.
    pub(super) fn unwritable(&mut self, error: &AssembleError, lsn: Lsn, message: &Message) -> Outcome<Step> {
        let plan = relation_of(message).and_then(|oid| self.assembler.table(oid).cloned());
        match Poison::of_change(error, lsn, message, plan.as_deref()) {
            Some(poison) => self.judge(&poison, message)?,
            None => return Err(misfit(error)),
        }
        Ok(Step::On)
    }

    /// Kafka does not take a record of the message.
    pub(super) fn too_large(&mut self, record: &TooLarge, lsn: Lsn, message: &Message) -> Outcome<()> {
        let plan = relation_of(message).and_then(|oid| self.assembler.table(oid).cloned());
        self.judge(&Poison::of_record(record, lsn, message, plan.as_deref()), message)
    }

    fn judge(&mut self, poison: &Poison, message: &Message) -> Outcome<()> {
        self.assembler.pass_over();
        match (poison.judge(self.config, &mut self.outlet), relation_of(message)) {
            (Err(failure), Some(oid)) if failure.code == TABLE_STOPPED => {
                self.stop_table(oid, &poison.table, &failure.message);
                Ok(())
            }
            (judged, _) => judged,
        }
    }

    /// The plan of a table as the log announces it. A table that is stopped has none, and one whose schema the registry
    /// refuses is stopped here; one whose schema it does not answer for waits. The others are no worse for it.
    pub(super) fn plan(&mut self, relation: &Relation) -> Outcome<Option<Arc<Registered>>> {
        let name = format!("{}.{}", relation.schema, relation.table);
        if self.known.as_ref().is_some_and(|known| known.is_stopped(&name)) {
            return Ok(None);
        }
        match self.shapes.announced(relation) {
            Err(failure) if poison::is_of_the_table(&failure) => {
                self.stop_table(relation.oid, &name, &failure.to_string());
                Ok(None)
            }
            Ok(Announced::Waits(plan)) => {
                self.let_wait(&name);
                Ok(Some(plan))
            }
            announced => announced.map(Announced::plan),
        }
    }

    /// Nothing of the table is published until it goes on from here.
    fn let_wait(&mut self, name: &str) {
        self.assembler.wait(name);
        if let Some(known) = &mut self.known {
            known.waits(name);
            self.health.set_status(self.part, known.status());
        }
    }

    /// Nothing more of the table is published. That becomes known together with the position from which on.
    fn stop_table(&mut self, oid: u32, name: &str, why: &str) {
        self.assembler.define(oid, None);
        self.assembler.forget(name);
        if let Some(known) = &mut self.known {
            known.stopped(name, why);
            self.health.set_status(self.part, known.status());
        }
    }
}

fn relation_of(message: &Message) -> Option<u32> {
    match message {
        Message::Insert(insert) => Some(insert.relation),
        Message::Update(update) => Some(update.relation),
        Message::Delete(delete) => Some(delete.relation),
        Message::Oversized(oversized) => match oversized.what {
            OversizedKind::Change { relation, .. } => Some(relation),
            OversizedKind::Logical { .. } => None,
        },
        _ => None,
    }
}
