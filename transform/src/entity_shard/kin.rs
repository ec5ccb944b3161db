//! Which records are one: the words on identity ([`syncline_schemas::identity`]), one after the other.
//!
//! They stand in one partition, so whoever merges the first partition of an entity reads them all, in one order; that makes
//! it the single writer of who is who, and its changelog the place where that is kept. A word that cannot hold beside those
//! before it (two people merge A into B and B into A) is refused by its place in the log, in every replay the same.
//!
//! What people said is a forest: into which record each was merged. What merge is told is flat: each record's root, so
//! that a record is a part of one other and never of a part. So when a record moves, those merged into it are told too.

use serde::{Deserialize, Serialize};
use syncline_runtime::Outcome;
use syncline_schemas::identity::{IdentityAct, IdentityWord};
use syncline_schemas::mapped::MappedRecord;

use super::{EntityShard, Work, from_json, state_text, to_json};
use crate::schemas::Schemas;
use crate::store::EntityStore;

/// `~who/is/<cid>`: into which record one is merged, and which are into it.
const IS: &str = "~who/is/";
/// `~who/not/<cid>/<cid>`: a pair that is not one, whatever is found.
const NOT: &str = "~who/not/";
/// Offset of the next word to be heard: an earlier one is read again.
const NEXT: &str = "~who/next";
/// Records that can be one. Their states have to fit one record of Kafka.
const FAMILY_MAX: usize = 64;

/// Into which record one is merged, and which are into it, as the words say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Kin {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    into: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    of: Vec<String>,
}

/// What is known of kin: the store under what the batch has changed.
struct Registry<'a, S> {
    shard: &'a EntityShard,
    store: &'a S,
    schemas: &'a mut Schemas,
    work: &'a mut Work,
}

impl EntityShard {
    /// Takes in a word on identity; its place is its offset. An error is why it does not hold.
    pub fn identify(
        &self,
        word: &IdentityWord,
        at: i64,
        store: &impl EntityStore,
        schemas: &mut Schemas,
        work: &mut Work,
    ) -> Outcome<Result<(), String>> {
        let mut registry = Registry {
            shard: self,
            store,
            schemas,
            work,
        };
        if registry.next()? > at {
            return Ok(Ok(()));
        }
        self.log(NEXT, (at + 1).to_string(), registry.work);
        match (word.act, &word.winner) {
            (IdentityAct::Merge, Some(winner)) => registry.merge(&word.loser, winner, at),
            (IdentityAct::Split, _) => registry.split(&word.loser, at),
            (IdentityAct::Reject, Some(other)) => {
                self.log(&never(&word.loser, other), to_json(&word.by), registry.work);
                Ok(Ok(()))
            }
            (_, None) => Ok(Err("it names one record, and two are needed".to_owned())),
        }
    }
}

impl<S: EntityStore> Registry<'_, S> {
    fn text(&mut self, key: &str) -> Outcome<Option<String>> {
        let bytes = self.work.overlay.get(self.store, &self.shard.shard, key)?;
        bytes.map(|bytes| state_text(self.schemas, &bytes)).transpose()
    }

    fn next(&mut self) -> Outcome<i64> {
        let text = self.text(NEXT)?;
        text.map_or(Ok(0), |text| from_json(&text))
    }

    fn kin(&mut self, cid: &str) -> Outcome<Kin> {
        let text = self.text(&format!("{IS}{cid}"))?;
        text.map_or(Ok(Kin::default()), |text| from_json(&text))
    }

    fn put(&mut self, cid: &str, kin: &Kin) {
        self.shard.log(&format!("{IS}{cid}"), to_json(kin), self.work);
    }

    /// The record that speaks for this one in the end.
    fn root(&mut self, cid: &str) -> Outcome<String> {
        let mut root = cid.to_owned();
        // There are no circles, and a chain is no longer than a family is large.
        for _ in 0..FAMILY_MAX {
            match self.kin(&root)?.into {
                Some(into) => root = into,
                None => break,
            }
        }
        Ok(root)
    }

    /// A record and all that are merged into it, over any number of steps.
    fn family(&mut self, cid: &str) -> Outcome<Vec<String>> {
        let mut family = vec![cid.to_owned()];
        let mut looked_at = 0;
        while looked_at < family.len() && looked_at < FAMILY_MAX {
            let of = self.kin(&family[looked_at].clone())?.of;
            family.extend(of);
            looked_at += 1;
        }
        Ok(family)
    }

    fn merge(&mut self, loser: &str, winner: &str, at: i64) -> Outcome<Result<(), String>> {
        let mut lost = self.kin(loser)?;
        if let Some(into) = &lost.into {
            return Ok(Err(format!("{loser} is merged into {into} already")));
        }
        let root = self.root(winner)?;
        if root == loser {
            return Ok(Err(format!("{winner} is {loser} already")));
        }
        let family = self.family(loser)?;
        if family.len() + self.family(&root)?.len() > FAMILY_MAX {
            return Ok(Err(format!("no more than {FAMILY_MAX} records can be one")));
        }
        lost.into = Some(winner.to_owned());
        self.put(loser, &lost);
        let mut won = self.kin(winner)?;
        won.of.push(loser.to_owned());
        self.put(winner, &won);
        family.iter().for_each(|member| self.moved(member, Some(&root), at));
        Ok(Ok(()))
    }

    fn split(&mut self, loser: &str, at: i64) -> Outcome<Result<(), String>> {
        let mut lost = self.kin(loser)?;
        let Some(into) = lost.into.take() else {
            return Ok(Err(format!("{loser} is not merged into another")));
        };
        self.put(loser, &lost);
        let mut left = self.kin(&into)?;
        left.of.retain(|cid| cid != loser);
        self.put(&into, &left);
        let family = self.family(loser)?;
        for member in &family {
            self.moved(member, Some(loser).filter(|loser| loser != member), at);
        }
        Ok(Ok(()))
    }

    /// Tells the partition of a record where it went.
    fn moved(&mut self, cid: &str, to: Option<&str>, at: i64) {
        let moved = MappedRecord::Moved {
            cid: cid.to_owned(),
            to: to.map(str::to_owned),
            at,
        };
        self.shard.feed(cid, &moved, None, self.work);
    }
}

/// The key of a pair, whichever is named first.
fn never(one: &str, other: &str) -> String {
    format!("{NOT}{}/{}", one.min(other), one.max(other))
}
