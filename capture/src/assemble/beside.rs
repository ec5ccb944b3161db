//! What goes beside the rows: begin and end of their transactions, and the apps' logical messages.
//!
//! **Once.** That a transaction began is told with the first of its events and not when it is read, because only an event
//! has a position by which a repetition is known. Of a transaction without events that is its end. Events that have been
//! written before are counted all the same: the numbers go on where they were.
//!
//! **A message outside any transaction** is read when the log comes to it, between two commits, and has its position one byte
//! into its own record, as a row has it in its transaction's.

use std::sync::Arc;

use syncline_schemas::mark;
use syncline_schemas::position::{Lsn, Position};

use super::parts::{Moment, Transaction};
use super::rules::Messages;
use super::{AssembleError, Assembler, Step};
use crate::companions::{self, Companion, Order};
use crate::envelope::{self, Block, Circumstances};
use crate::form::Fidelity;
use crate::postgres::pgoutput::LogicalMessage;

/// What messages are counted under: Debezium has the address of a Java object there, another one for each.
const MESSAGES: &str = "LOGICAL_DECODING_MESSAGE";

impl Assembler {
    /// Counts an event of the running transaction, and gives its place there if places are told.
    pub(super) fn event(
        &mut self,
        collection: &Arc<str>,
        position: Position,
        lsn: Lsn,
    ) -> Result<Option<Block>, AssembleError> {
        if !self.rules.transactions {
            return Ok(None);
        }
        let (fidelity, is_new) = (self.rules.fidelity, position > self.stored);
        let transaction = self.running()?;
        let order = transaction.counts.event(collection);
        let block = Block {
            xid: transaction.xid,
            lsn: id_lsn(fidelity, transaction, lsn).0,
            order,
        };
        if is_new && order.total == 1 {
            self.tell_begin()?;
        }
        Ok(Some(block))
    }

    fn tell_begin(&mut self) -> Result<(), AssembleError> {
        let transaction = self.running()?;
        let id = format!("{}:{}", transaction.xid, transaction.first_lsn.0);
        let commit_ms = transaction.commit_us.div_euclid(1000);
        self.records.note(
            Companion::Transaction,
            |out| companions::text_key(&id, out),
            |out| companions::begin_value(&id, commit_ms, out),
        );
        Ok(())
    }

    /// Tells that the running transaction ends at `lsn`.
    pub(super) fn tell_end(&mut self, lsn: Lsn) -> Result<(), AssembleError> {
        if !self.rules.transactions {
            return Ok(());
        }
        if self.running()?.counts.is_empty() {
            self.tell_begin()?;
        }
        let fidelity = self.rules.fidelity;
        let transaction = self.running()?;
        let id = format!("{}:{}", transaction.xid, id_lsn(fidelity, transaction, lsn).0);
        let (commit_ms, counts) = (
            transaction.commit_us.div_euclid(1000),
            std::mem::take(&mut transaction.counts),
        );
        self.records.note(
            Companion::Transaction,
            |out| companions::text_key(&id, out),
            |out| companions::end_value(&id, &counts, commit_ms, out),
        );
        Ok(())
    }

    /// A logical message: a mark of the sink, something else of ours, or an app's.
    pub(super) fn logical(&mut self, at: Moment, message: &LogicalMessage) -> Result<Step, AssembleError> {
        let prefix = std::str::from_utf8(&message.prefix).unwrap_or_default();
        let ours = prefix == mark::PREFIX
            || prefix
                .strip_prefix(mark::PREFIX)
                .is_some_and(|rest| rest.starts_with('.'));
        if prefix == mark::PREFIX && message.transactional {
            return self.mark(message).map(|()| Step::On);
        }
        // Its ordinal is taken whether the message is wanted or not, or else a changed list would shift what follows.
        let position = match (message.transactional, self.transaction.is_some()) {
            (true, _) => self.next_position()?,
            (false, _) => Position::new(self.epoch, Lsn(at.lsn.0 + 1), 0),
        };
        let messages = self.rules.messages.as_ref();
        let Some(messages) = messages.filter(|messages| !ours && messages.selection.has_message(prefix)) else {
            self.ignored.foreign_messages += 1;
            return Ok(Step::On);
        };
        let messages = messages.clone();
        self.message(at, position, prefix, message, &messages)
    }

    fn message(
        &mut self,
        at: Moment,
        position: Position,
        prefix: &str,
        message: &LogicalMessage,
        messages: &Messages,
    ) -> Result<Step, AssembleError> {
        let block = match message.transactional {
            true => self.event(&MESSAGES.into(), position, at.lsn)?,
            false => None,
        };
        if !message.transactional {
            self.last_commit = Some(at.lsn);
        }
        self.position = self.position.max(position);
        let step = if self.transaction.is_some() {
            Step::On
        } else {
            Step::AtRest
        };
        if position <= self.stored {
            self.ignored.repeated_rows += 1;
            return Ok(step);
        }
        let running = self.transaction.as_ref().filter(|_| message.transactional);
        let circumstances = match running {
            Some(transaction) => Circumstances {
                transaction: block.map(|block| self.rules.fidelity.message_block(block)),
                ..transaction.circumstances('m', at, self.last_commit)
            },
            None => outside(at, self.last_commit),
        };
        let write = |out: &mut Vec<u8>| {
            envelope::message_head(&messages.source, &circumstances, out);
            companions::message_key(prefix, out);
            companions::message_content(&message.content, messages.binaries, out);
        };
        self.records
            .note(Companion::Message, |out| companions::message_key(prefix, out), write);
        Ok(step)
    }
}

impl Fidelity {
    /// Debezium counts each message by itself.
    fn message_block(self, block: Block) -> Block {
        let in_collection = match self {
            Fidelity::Exact => block.order.in_collection,
            Fidelity::Debezium => 1,
        };
        Block {
            order: Order {
                in_collection,
                ..block.order
            },
            ..block
        }
    }
}

/// The LSN in the id of a transaction: of its begin, or with Debezium of the event that names it.
fn id_lsn(fidelity: Fidelity, transaction: &Transaction, event: Lsn) -> Lsn {
    match fidelity {
        Fidelity::Exact => transaction.first_lsn,
        Fidelity::Debezium => event,
    }
}

/// The circumstances of a message outside any transaction.
fn outside(at: Moment, last_commit: Option<Lsn>) -> Circumstances<'static> {
    Circumstances {
        op: 'm',
        snapshot: "false",
        commit_us: at.now_ns.div_euclid(1000),
        lsn: at.lsn.0,
        tells_lsn: true,
        last_commit_lsn: last_commit.map(|lsn| lsn.0),
        xid: None,
        origin: None,
        transaction: None,
        now_ns: at.now_ns,
    }
}
