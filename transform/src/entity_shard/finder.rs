//! Who may be one with whom: rows that got different records at first sight, and have enough in common all the same
//! ([`syncline_schemas::pipeline::Score`]), or of which one names the other (`same_as`).
//!
//! Whoever merges the first partition of an entity reads all sightings and all words on identity; it alone finds. What it is
//! sure of it says as a word of its own on the topic of identity, and acts upon it only when it reads that, as upon
//! everybody's: so what was found once is durable, stands in one order with what people say, and is not found anew in a replay.
//! What it is not sure of is for a person ([`syncline_schemas::review`]).
//!
//! Nobody is compared before all links are loaded, and then a pair is judged by all rows that are known, whichever came
//! first: it is sure of a pair only if neither row has as much in common with another of the same app, and if no app would
//! come to have two rows of one. More rows can only make it less sure, and so does what has been merged already: a replay,
//! which knows all of them from the start, finds nothing that was not found before. Among rows that come later, it is the
//! order of the sightings' topic that decides which pair was there first.

use std::collections::BTreeSet;

use syncline_runtime::Outcome;
use syncline_schemas::codec::Wire;
use syncline_schemas::identity::{IdentityAct, IdentityWord, MATCH};
use syncline_schemas::mapped::MappedRecord;
use syncline_schemas::review::{self, Review, ReviewKind};
use syncline_schemas::sighting::SightingRecord;

use super::kin::{NOT, Stored, pair};
use super::seen::{Known, Pair, ROW, TODO, UNTIL};
use super::{EntityShard, Work};
use crate::decide::now_us;
use crate::kin::{FAMILY_MAX, Register, family, root};
use crate::outgoing::Outgoing;
use crate::schemas::Schemas;
use crate::store::EntityStore;

/// `~who/ask/<id>`: what a person was asked.
const ASK: &str = "~who/ask/";

/// What becomes of a row for now.
enum Step {
    /// It has been compared with all.
    Done,
    /// It has to wait for a word that is on its way.
    Waits,
}

impl EntityShard {
    /// Whether this is where rows are compared.
    pub fn finds(&self) -> bool {
        self.room.finder.is_some() && self.shard.partition == 0
    }

    /// Whether there are rows that can be compared now.
    pub fn is_finding(&self) -> bool {
        self.finds() && self.todo && self.unheard == 0 && self.all_sighted()
    }

    fn all_sighted(&self) -> bool {
        let is_sighted = |link: &String| {
            let said = self.sighted.get(link);
            said.is_some_and(|(inputs, seen)| (0..*inputs).all(|input| seen.contains(&input)))
        };
        self.room.links.iter().all(is_sighted)
    }

    /// Takes in that a part of a link's rows have been seen, as the changelog tells.
    pub(super) fn note_sighted(&mut self, link: &str, input: i32, inputs: i32) {
        let entry = self.sighted.entry(link.to_owned()).or_default();
        entry.0 = inputs;
        entry.1.insert(input);
    }

    /// Takes in what a row says of who it is.
    pub fn sight(
        &mut self,
        record: SightingRecord,
        store: &impl EntityStore,
        schemas: &mut Schemas,
        work: &mut Work,
    ) -> Outcome<()> {
        match record {
            SightingRecord::Loaded {
                link,
                partition,
                partitions,
            } => {
                self.note_sighted(&link, partition, partitions);
                self.log(&format!("{UNTIL}{link}/{partition}"), partitions.to_string(), work);
                self.todo = true;
                Ok(())
            }
            SightingRecord::Seen(sighting) => {
                self.todo = true;
                self.stored(store, schemas, work).see(sighting)
            }
        }
    }

    /// A word of the match's own has been heard: what waited for it can go on.
    pub(super) fn heard(&mut self, word: &IdentityWord) {
        if word.by == MATCH {
            self.unheard = self.unheard.saturating_sub(1);
        }
        self.todo = true;
    }

    /// Compares the next rows, at most `rows_max`.
    pub fn find_more(&mut self, store: &impl EntityStore, schemas: &mut Schemas, rows_max: usize) -> Outcome<Work> {
        let mut work = Work::default();
        let entries = store.scan(&self.shard, TODO, rows_max)?;
        let seen = entries.len();
        let rows: Vec<String> = entries
            .into_iter()
            .map_while(|(key, _)| key.strip_prefix(TODO).map(str::to_owned))
            .collect();
        self.todo = rows.len() == rows_max && seen == rows_max;
        let mut said = BTreeSet::new();
        let mut stored = self.stored(store, schemas, &mut work);
        for row in rows {
            stored.compare(&row, &mut said)?;
        }
        let words = stored.words;
        self.unheard += words;
        Ok(work)
    }
}

impl<S: EntityStore> Stored<'_, S> {
    /// Compares a row with all that have something in common with it.
    fn compare(&mut self, id: &str, said: &mut BTreeSet<String>) -> Outcome<()> {
        let Some(row) = self.known(id)? else {
            self.shard.forget(&format!("{TODO}{id}"), self.work);
            return Ok(());
        };
        if let Step::Waits = self.judge(&row, said)? {
            return Ok(());
        }
        self.shard.forget(&format!("{TODO}{id}"), self.work);
        let cid = row.cid.clone();
        if !row.done {
            self.put(&format!("{ROW}{id}"), &Known { done: true, ..row });
        }
        let matched = MappedRecord::Matched {
            cid: cid.clone(),
            row: id.to_owned(),
            with: self.parts_of(&cid)?,
        };
        self.shard.feed(&cid, &matched, None, self.work);
        Ok(())
    }

    /// The records that are this one, as far as it is the one that speaks for them.
    fn parts_of(&mut self, cid: &str) -> Outcome<Vec<(String, i64)>> {
        if self.kin(cid)?.into.is_some() {
            return Ok(Vec::new());
        }
        let mut parts = Vec::new();
        for member in family(self, cid)?.into_iter().skip(1) {
            if let Some(at) = self.kin(&member)?.at {
                parts.push((member, at));
            }
        }
        Ok(parts)
    }

    fn judge(&mut self, row: &Known, said: &mut BTreeSet<String>) -> Outcome<Step> {
        let own = root(self, &row.cid)?;
        let pairs = self.pairs(row)?;
        let link = self.shard.link();
        let is_sure = |pair: &Pair| pair.named || link.as_ref().is_some_and(|link| pair.score >= *link);
        let mut step = Step::Done;
        for pair in &pairs {
            let other = root(self, &pair.other.cid)?;
            if other == own || self.is_rejected(&row.cid, &pair.other.cid, &own, &other)? {
                continue;
            }
            if pair.other.source == row.source {
                if is_sure(pair) {
                    let why = "two rows of one app have enough in common to be one";
                    self.ask(row, pair, ReviewKind::Duplicate, why)?;
                }
                continue;
            }
            if !is_sure(pair) {
                let why = "they have something in common, and not enough";
                self.ask(row, pair, ReviewKind::Unsure, why)?;
                continue;
            }
            if said.contains(&own) || said.contains(&other) {
                step = Step::Waits;
                continue;
            }
            match self.objection(row, pair, &pairs, [&own, &other])? {
                Some(why) => self.ask(row, pair, ReviewKind::Ambiguous, why)?,
                None => {
                    self.say(row, pair, &own, &other);
                    said.extend([own.clone(), other]);
                    step = Step::Waits;
                }
            }
        }
        Ok(step)
    }

    /// Why a pair that has enough in common is not said to be one.
    fn objection(
        &mut self,
        row: &Known,
        pair: &Pair,
        pairs: &[Pair],
        [own, other]: [&String; 2],
    ) -> Outcome<Option<&'static str>> {
        let link = self.shard.link();
        let records = |pairs: &[Pair], app: &str| {
            let as_much = pairs.iter().filter(|pair| pair.other.source == app);
            let as_much = as_much.filter(|pair| link.as_ref().is_some_and(|link| pair.score >= *link));
            as_much
                .map(|pair| pair.other.cid.clone())
                .collect::<BTreeSet<_>>()
                .len()
        };
        if !pair.named {
            if records(pairs, &pair.other.source) > 1 {
                return Ok(Some("another row of the same app has as much in common with it"));
            }
            let theirs = self.pairs(&pair.other)?;
            if records(&theirs, &row.source) > 1 {
                return Ok(Some("another row of the same app has as much in common with it"));
            }
        }
        let (ours, theirs) = (family(self, own)?, family(self, other)?);
        if ours.len() + theirs.len() > FAMILY_MAX {
            return Ok(Some("too many records would be one"));
        }
        let mine = self.apps(&ours)?;
        let shared = self.apps(&theirs)?.intersection(&mine).next().is_some();
        Ok(shared.then_some("an app would have two rows of one"))
    }

    fn is_rejected(&mut self, one: &str, other: &str, own_root: &str, other_root: &str) -> Outcome<bool> {
        for (one, other) in [
            (one, other),
            (own_root, other_root),
            (one, other_root),
            (own_root, other),
        ] {
            if self.text(&format!("{NOT}{}", pair(one, other)))?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Says that they are one. Whoever has been compared before speaks for whoever is new.
    fn say(&mut self, row: &Known, pair: &Pair, own: &str, other: &str) {
        let wins = match (row.done, pair.other.done) {
            (true, false) => true,
            (false, true) => false,
            _ => own < other,
        };
        let (winner, loser) = if wins { (own, other) } else { (other, own) };
        let word = IdentityWord {
            act: IdentityAct::Merge,
            loser: loser.to_owned(),
            winner: Some(winner.to_owned()),
            by: MATCH.to_owned(),
            why: match pair.named {
                true => "one names the other (same_as)".to_owned(),
                false => format!("{} agree: {}", pair.agrees.join(", "), pair.score),
            },
            at_us: now_us(),
        };
        let shard = self.shard;
        let Some(finder) = &shard.room.finder else { return };
        let (topic, id) = &finder.identity;
        let record = Outgoing::keyed(topic, loser, word.encode(*id)).in_partition(0);
        self.work.outputs.push(record);
        self.words += 1;
    }

    /// Asks a person, once.
    fn ask(&mut self, row: &Known, pair: &Pair, kind: ReviewKind, why: &str) -> Outcome<()> {
        let shard = self.shard;
        let Some(finder) = &shard.room.finder else {
            return Ok(());
        };
        let (mine, theirs) = (row.side(), pair.other.side());
        let (one, other) = if mine < theirs { (mine, theirs) } else { (theirs, mine) };
        let review = Review {
            id: review::id(&shard.room.entity.name, &one.cid, &other.cid),
            kind,
            one,
            other,
            score: pair.score.clone(),
            agrees: pair.agrees.clone(),
            why: why.to_owned(),
        };
        let (topic, id) = &finder.reviews;
        let value = review.encode(*id);
        let key = format!("{ASK}{}", review.id);
        let digest = format!("{} {} {}", review.kind.word(), review.score, review.agrees.join(","));
        if self.text(&key)?.as_deref() != Some(digest.as_str()) {
            self.work
                .outputs
                .push(Outgoing::keyed(topic, &review.id, value).in_partition(0));
            shard.log(&key, digest, self.work);
        }
        Ok(())
    }
}
