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
//!
//! Everything is kept in the changelog of the partition under `~who/`, so memory is bounded by one row and those that it is
//! compared with: a hash that very many rows have is no reason to compare them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use syncline_runtime::Outcome;
use syncline_schemas::codec::Wire;
use syncline_schemas::identity::{IdentityAct, IdentityWord, MATCH};
use syncline_schemas::mapped::{MappedRecord, RowKey, sighted_row};
use syncline_schemas::review::{self, Review, ReviewKind, Side};
use syncline_schemas::sighting::{Claim, Sighting, SightingRecord};
use syncline_schemas::value::Number;

use super::kin::{NOT, Stored, pair};
use super::{EntityShard, Work, from_json, to_json};
use crate::decide::now_us;
use crate::kin::{FAMILY_MAX, Register, family, root};
use crate::outgoing::Outgoing;
use crate::schemas::Schemas;
use crate::store::EntityStore;

/// `~who/row/<app>|<row>`: what is known of a row.
const ROW: &str = "~who/row/";
/// `~who/key/<app>|<key>`: the row that has this key, for those that name it.
const KEY: &str = "~who/key/";
/// `~who/named/<app>|<key>`: the rows that name the row with this key.
const NAMED: &str = "~who/named/";
/// `~who/by/<hash>`: the rows that have this in common.
const BY: &str = "~who/by/";
/// `~who/of/<cid>`: the rows of a record.
const OF: &str = "~who/of/";
/// `~who/todo/<app>|<row>`: rows that are to be compared. After all of the others but that of loading.
const TODO: &str = "~who/todo/";
/// `~who/until/<link>/<partition>`: links whose rows have all been seen.
pub(super) const UNTIL: &str = "~who/until/";
/// `~who/ask/<id>`: what a person was asked.
const ASK: &str = "~who/ask/";

/// Rows that are compared for having one thing in common. What more rows than that have says nothing of any two of them.
const IN_COMMON_MAX: usize = 64;

/// What is known of a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    cid: String,
    source: String,
    row: RowKey,
    /// Hash by part.
    traits: BTreeMap<String, String>,
    /// App and key of the rows that it names.
    claims: Vec<(String, String)>,
    /// Whether it got its record by what it says.
    first: bool,
    /// Whether it has been compared.
    done: bool,
}

impl Known {
    fn id(&self) -> String {
        sighted_row(&self.source, &self.row)
    }

    fn side(&self) -> Side {
        Side {
            cid: self.cid.clone(),
            source: self.source.clone(),
            row: self.row.clone(),
        }
    }
}

/// What two rows have in common.
struct Pair {
    other: Known,
    score: Number,
    agrees: Vec<String>,
    /// Whether one names the other.
    named: bool,
}

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
    fn json<T: for<'de> Deserialize<'de> + Default>(&mut self, key: &str) -> Outcome<T> {
        let text = self.text(key)?.filter(|text| !text.is_empty());
        text.map_or_else(|| Ok(T::default()), |text| from_json(&text))
    }

    fn known(&mut self, id: &str) -> Outcome<Option<Known>> {
        let text = self.text(&format!("{ROW}{id}"))?;
        text.map(|text| from_json(&text)).transpose()
    }

    fn put(&mut self, key: &str, value: &impl Serialize) {
        self.shard.log(key, to_json(value), self.work);
    }

    fn to_do(&mut self, id: &str) {
        self.shard.log(&format!("{TODO}{id}"), String::new(), self.work);
    }

    fn add(&mut self, key: &str, id: &str, rows_max: usize) -> Outcome<()> {
        let mut rows: BTreeSet<String> = self.json(key)?;
        // One more than count: then it is known to be of too many.
        if rows.len() <= rows_max && rows.insert(id.to_owned()) {
            self.put(key, &rows);
        }
        Ok(())
    }

    fn take(&mut self, key: &str, id: &str) -> Outcome<()> {
        let mut rows: BTreeSet<String> = self.json(key)?;
        if rows.remove(id) {
            self.put(key, &rows);
        }
        Ok(())
    }

    /// A row is seen. What it said at first counts, unless it is another row by now that has its key.
    fn see(&mut self, seen: Sighting) -> Outcome<()> {
        let id = sighted_row(&seen.source, &seen.row);
        if let Some(before) = self.known(&id)? {
            if before.cid == seen.cid {
                return Ok(());
            }
            for hash in before.traits.values() {
                self.take(&format!("{BY}{hash}"), &id)?;
            }
            for (app, key) in &before.claims {
                self.take(&format!("{NAMED}{app}|{key}"), &id)?;
            }
            self.take(&format!("{OF}{}", before.cid), &id)?;
        }
        let own_key = format!("{}|{}", seen.source, seen.row.bare());
        self.put(&format!("{KEY}{own_key}"), &id);
        let claims = seen.claims.into_iter().map(|Claim { source, key }| (source, key));
        let known = Known {
            cid: seen.cid,
            source: seen.source,
            row: seen.row,
            traits: seen.traits.into_iter().map(|one| (one.part, one.hash)).collect(),
            claims: claims.collect(),
            first: seen.first,
            done: !seen.first,
        };
        for (part, hash) in &known.traits {
            if self.shard.is_key(part) {
                self.add(&format!("{BY}{hash}"), &id, IN_COMMON_MAX)?;
            }
        }
        self.add(&format!("{OF}{}", known.cid), &id, FAMILY_MAX)?;
        for (app, key) in &known.claims {
            self.add(&format!("{NAMED}{app}|{key}"), &id, IN_COMMON_MAX)?;
        }
        self.put(&format!("{ROW}{id}"), &known);
        if seen.first {
            self.to_do(&id);
        }
        // Who named this row before it was seen looks again.
        let named: BTreeSet<String> = self.json(&format!("{NAMED}{own_key}"))?;
        named.iter().for_each(|other| self.to_do(other));
        Ok(())
    }

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

    /// The rows that have something in common with this one, in the order of their names.
    fn pairs(&mut self, row: &Known) -> Outcome<Vec<Pair>> {
        let (id, own_key) = (row.id(), format!("{}|{}", row.source, row.row.bare()));
        let mut ids: BTreeSet<String> = BTreeSet::new();
        for (part, hash) in &row.traits {
            let rows: BTreeSet<String> = match self.shard.is_key(part) {
                true => self.json(&format!("{BY}{hash}"))?,
                false => continue,
            };
            if rows.len() <= IN_COMMON_MAX {
                ids.extend(rows);
            }
        }
        let mut named: BTreeSet<String> = self.json(&format!("{NAMED}{own_key}"))?;
        for (app, key) in &row.claims {
            let other: Option<String> = self.json(&format!("{KEY}{app}|{key}"))?;
            named.extend(other);
        }
        ids.extend(named.iter().cloned());
        ids.remove(&id);
        let mut pairs = Vec::new();
        for other in ids {
            let Some(known) = self.known(&other)? else { continue };
            let pair = self.shard.weigh(row, known, named.contains(&other));
            pairs.extend(pair);
        }
        Ok(pairs)
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

    /// The apps that have rows of these records.
    fn apps(&mut self, cids: &[String]) -> Outcome<BTreeSet<String>> {
        let mut apps = BTreeSet::new();
        for cid in cids {
            let rows: BTreeSet<String> = self.json(&format!("{OF}{cid}"))?;
            for row in rows {
                // Those that we made are there because the others are.
                let known = self.known(&row)?.filter(|known| known.first);
                apps.extend(known.map(|known| known.source));
            }
        }
        Ok(apps)
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

impl EntityShard {
    fn is_key(&self, part: &str) -> bool {
        self.room
            .finder
            .as_ref()
            .is_some_and(|finder| finder.keys.contains(part))
    }

    fn link(&self) -> Option<Number> {
        let score = self.room.entity.score.as_ref()?;
        Some(score.link.clone())
    }

    /// What two rows have in common, if that is worth a look.
    fn weigh(&self, row: &Known, other: Known, named: bool) -> Option<Pair> {
        let agree = |part: &str| {
            let theirs = other.traits.get(part);
            theirs.is_some() && theirs == row.traits.get(part)
        };
        let rule = self.room.entity.score.as_ref();
        let (score, agrees) = rule.map_or_else(|| (Number::zero(), Vec::new()), |rule| rule.weigh(agree));
        let enough = rule.is_some_and(|rule| score >= rule.review);
        (named || enough).then_some(Pair {
            other,
            score,
            agrees,
            named,
        })
    }
}
