//! What is sent from record to record, in the transaction that makes it so: a record that is merged into another sends all
//! that is known of it to that one's partition, each time it changes. That it goes again is said where the word is heard.
//!
//! It comes back to merge as any mapped record does. A row's words always go through its own record, in the order of its
//! log, and never directly to the other: so nothing depends on when a merge is read.

use syncline_bus::InRecord;
use syncline_schemas::codec::Wire;
use syncline_schemas::mapped::MappedRecord;

use super::{EntityShard, STATE_FORMAT, Work, to_json};
use crate::merge::EntityState;
use crate::outgoing::Outgoing;

impl EntityShard {
    /// The state of `cid` has changed: the record that it is merged into is told.
    pub(super) fn pass_on(
        &self,
        cid: &str,
        before: &EntityState,
        after: &EntityState,
        cause: Option<&InRecord>,
        work: &mut Work,
    ) {
        if let Some((to, at)) = after.merged_into().filter(|_| before != after) {
            let part = MappedRecord::Part {
                cid: to.to_owned(),
                of: cid.to_owned(),
                at,
                format: STATE_FORMAT,
                state: Some(to_json(&after.alone())),
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
