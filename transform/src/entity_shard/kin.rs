//! Words on identity, as merge hears them: whoever merges the first partition of an entity reads all of them, in one order
//! ([`crate::kin`]). That makes it the single writer of who is who, its changelog the place where that is kept, and the
//! transaction of its batch the one in which a word is heard and passed on.

use syncline_runtime::Outcome;
use syncline_schemas::identity::{IdentityWord, MATCH};
use syncline_schemas::mapped::MappedRecord;

use super::moves::PART_FORMAT;
use super::{EntityShard, Work, from_json, states, to_json};
use crate::kin::{Kin, Register, hear};
use crate::schemas::Schemas;
use crate::store::EntityStore;

/// `~who/is/<cid>`: into which record one is merged, and which are into it.
const IS: &str = "~who/is/";
/// `~who/not/<cid>/<cid>`: a pair that is not one, whatever is found.
pub(super) const NOT: &str = "~who/not/";
/// Offset of the next word to be heard: an earlier one is read again.
const NEXT: &str = "~who/next";

/// The store, under what the batch has changed.
pub(super) struct Stored<'a, S> {
    pub shard: &'a EntityShard,
    store: &'a S,
    schemas: &'a mut Schemas,
    pub work: &'a mut Work,
    /// Words that were said here.
    pub words: usize,
}

impl EntityShard {
    pub(super) fn stored<'a, S: EntityStore>(
        &'a self,
        store: &'a S,
        schemas: &'a mut Schemas,
        work: &'a mut Work,
    ) -> Stored<'a, S> {
        Stored {
            shard: self,
            store,
            schemas,
            work,
            words: 0,
        }
    }

    /// Takes in a word on identity; its place is its offset. An error is why it does not hold.
    pub fn identify(
        &mut self,
        word: &IdentityWord,
        at: i64,
        store: &impl EntityStore,
        schemas: &mut Schemas,
        work: &mut Work,
    ) -> Outcome<Result<(), String>> {
        self.heard(word);
        let mut stored = self.stored(store, schemas, work);
        let next: i64 = stored.text(NEXT)?.map_or(Ok(0), |text| from_json(&text))?;
        if at < next {
            return Ok(Ok(()));
        }
        self.log(NEXT, (at + 1).to_string(), stored.work);
        let moves = match hear(&mut stored, word, at)? {
            Ok(moves) => moves,
            // What the match has said twice, having been stopped in between, nobody has to look after.
            Err(_) if word.by == MATCH => return Ok(Ok(())),
            Err(reason) => return Ok(Err(reason)),
        };
        for one in moves {
            let moved = MappedRecord::Moved {
                cid: one.cid.clone(),
                to: one.to,
                at,
            };
            self.feed(&one.cid, &moved, None, stored.work);
            // Said from here, since the record itself may never have read that it was there.
            if let Some(from) = one.from {
                let part = MappedRecord::Part {
                    cid: from.clone(),
                    of: one.cid,
                    at,
                    format: PART_FORMAT,
                    state: None,
                };
                self.feed(&from, &part, None, stored.work);
            }
        }
        Ok(Ok(()))
    }
}

impl<S: EntityStore> Stored<'_, S> {
    pub fn text(&mut self, key: &str) -> Outcome<Option<String>> {
        let bytes = self.work.overlay.get(self.store, &self.shard.shard, key)?;
        bytes.map(|bytes| states::note(self.schemas, &bytes)).transpose()
    }
}

impl<S: EntityStore> Register for Stored<'_, S> {
    fn kin(&mut self, cid: &str) -> Outcome<Kin> {
        let text = self.text(&format!("{IS}{cid}"))?;
        text.map_or(Ok(Kin::default()), |text| from_json(&text))
    }

    fn keep(&mut self, cid: &str, kin: &Kin) {
        self.shard.log(&format!("{IS}{cid}"), to_json(kin), self.work);
    }

    fn never(&mut self, one: &str, other: &str) {
        self.shard
            .log(&format!("{NOT}{}", pair(one, other)), String::new(), self.work);
    }

    fn is_never(&mut self, one: &str, other: &str) -> Outcome<bool> {
        Ok(self.text(&format!("{NOT}{}", pair(one, other)))?.is_some())
    }
}

/// Two records, whichever is named first.
pub(super) fn pair(one: &str, other: &str) -> String {
    format!("{}/{}", one.min(other), one.max(other))
}
