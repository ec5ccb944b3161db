//! What of a shard waits for a time: told by ticks, kept in the changelog by the time of it.

use std::collections::BTreeSet;

use syncline_runtime::Outcome;
use syncline_schemas::tick::Tick;

use super::states::Kept;
use super::{EntityShard, TIME, WAITS, Work, states};
use crate::outgoing::Outgoing;
use crate::schemas::Schemas;
use crate::store::EntityStore;

impl EntityShard {
    /// Takes in what time it is.
    pub fn tick(&mut self, tick: Tick, work: &mut Work) {
        if self.time_us < Some(tick.at_us) {
            self.time_us = Some(tick.at_us);
            self.overdue = true;
            self.log(TIME, tick.at_us.to_string(), work);
        }
    }

    /// The time that was told last, microseconds since 1970.
    pub fn told_us(&self) -> Option<i64> {
        self.time_us
    }

    /// The next question about an entity ends at another time than before.
    pub(super) fn wait(&self, cid: &str, before: Option<i64>, now: Option<i64>, work: &mut Work) {
        if before == now {
            return;
        }
        if let Some(us) = before {
            self.forget(&waits(us, cid), work);
        }
        if let Some(us) = now {
            self.log(&waits(us, cid), String::new(), work);
        }
    }

    /// Whether questions may have ended that have not been looked at.
    pub fn is_overdue(&self) -> bool {
        self.overdue
    }

    /// Looks at the next `rows_max` entities with a question that has ended by now.
    pub fn expire_more(&mut self, store: &impl EntityStore, schemas: &mut Schemas, rows_max: usize) -> Outcome<Work> {
        let mut work = Work::default();
        self.overdue = false;
        let Some(time_us) = self.time_us else { return Ok(work) };
        let entries = store.scan(&self.shard, WAITS, rows_max)?;
        let seen = entries.len();
        let ended = entries.into_iter().map_while(|(key, _)| {
            let (us, cid) = key.strip_prefix(WAITS)?.split_once('/')?;
            let ended = us.parse::<i64>().ok()? <= time_us;
            ended.then(|| (cid.to_owned(), key.clone()))
        });
        let ended: Vec<(String, String)> = ended.collect();
        self.overdue = seen == rows_max && ended.len() == seen;
        let mut looked_at = BTreeSet::new();
        for (cid, key) in ended {
            self.forget(&key, &mut work);
            // Of rules that have changed there may be several times for one entity.
            if looked_at.insert(cid.clone())
                && let Some(bytes) = store.get(&self.shard, &cid)?
            {
                let Kept { state, .. } = states::entity(schemas, &bytes)?;
                let (before, bytes) = (self.resolve(&cid, &state), state.to_bytes());
                self.change(&cid, &before, state, bytes, None, &mut work);
            }
        }
        Ok(work)
    }

    /// A key that is gone from the changelog, and from the store.
    pub(super) fn forget(&self, key: &str, work: &mut Work) {
        let gone = Outgoing {
            value: None,
            ..Outgoing::keyed(&self.room.state.0, key, Vec::new())
        };
        work.outputs.push(gone.in_partition(self.shard.partition));
        work.overlay.remove(&self.shard, key);
    }
}

/// The key of an entity whose next question ends then.
fn waits(us: i64, cid: &str) -> String {
    format!("{WAITS}{:020}/{cid}", us.max(0))
}
