//! What is sent from record to record, in the transaction that makes it so: a record that is merged into another sends all
//! that is known of it to that one's partition, each time it changes. That it goes again is said where the word is heard.
//!
//! It comes back to merge as any mapped record does. A row's words always go through its own record, in the order of its
//! log, and never directly to the other: so nothing depends on when a merge is read.

use syncline_bus::InRecord;
use syncline_runtime::{Failure, Outcome};
use syncline_schemas::codec::Wire;
use syncline_schemas::mapped::MappedRecord;

use super::{EntityShard, Work, from_json, to_json};
use crate::merge::EntityState;
use crate::outgoing::Outgoing;

/// The format of what one record sends another: JSON text. One that is not known was sent by another version of Syncline.
pub(super) const PART_FORMAT: i32 = 1;

/// The state of a part.
pub(super) fn part_of(format: i32, text: &str) -> Outcome<EntityState> {
    if format == PART_FORMAT {
        return from_json(text);
    }
    let message = format!("merge was sent a part of format {format}, this version knows {PART_FORMAT}");
    Err(Failure::definite("STATE_FORMAT", message).hint("run the version of Syncline that wrote it"))
}

impl EntityShard {
    /// The state of `cid` has changed: the record that it is merged into is told.
    pub(super) fn pass_on(&self, cid: &str, state: &EntityState, cause: Option<&InRecord>, work: &mut Work) {
        if let Some((to, at)) = state.merged_into() {
            let part = MappedRecord::Part {
                cid: to.to_owned(),
                of: cid.to_owned(),
                at,
                format: PART_FORMAT,
                state: Some(to_json(&state.alone())),
            };
            self.feed(to, &part, cause, work);
        }
    }

    /// Sends something to be merged to the partition of `cid`.
    pub(super) fn feed(&self, cid: &str, record: &MappedRecord, cause: Option<&InRecord>, work: &mut Work) {
        let (topic, id) = &self.room.mapped;
        let record = Outgoing::keyed(topic, cid, record.encode(*id));
        work.outputs.push(match cause {
            Some(cause) => record.caused_by(cause),
            None => record,
        });
    }
}
