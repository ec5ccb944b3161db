//! One partition of one entity, as merge sees it: its states, which links are loaded, and up to which entity it is public.
//!
//! Nothing is published before every link is loaded. Then all states are published in the order of their ids, some per
//! transaction, while further records are merged; an entity up to that point (`public_to`) is published when it changes,
//! one beyond it when its turn comes. How far that has come is in the changelog, together with the rules it was made by:
//! when the rules change, all of it is published again.
//!
//! What waits for a deadline is in the changelog too, by the time of it, so that a tick need not look at every state.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use syncline_bus::InRecord;
use syncline_runtime::{Failure, Outcome, failpoint};
use syncline_schemas::codec::{CanonicalCodec, State, Wire as _};
use syncline_schemas::conflict::Conflict;
use syncline_schemas::decision::{self, Decision};
use syncline_schemas::identity::IdentityWord;
use syncline_schemas::mapped::MappedRecord;
use syncline_schemas::pipeline::{Entity, Link, Pipeline, Score};
use syncline_schemas::review::Review;
use syncline_schemas::topic;

use crate::merge::{EntityState, Outputs, Resolved, resolve};
use crate::outgoing::{Outgoing, dead_letter};
use crate::overlay::Overlay;
use crate::schemas::Schemas;
use crate::store::{EntityStore, Shard};

/// Before every key that is not an entity id. Ids are hex digits, which sort before it.
const OWN: &str = "~";
const LOADED: &str = "~loaded/";
const PUBLISHED: &str = "~published";
/// What time it is, as far as it was told.
const TIME: &str = "~time";
/// `~waits/<microseconds>/<cid>`: entities with a question that ends then. After every other key but those of [`kin`].
const WAITS: &str = "~waits/";
const OWN_KEYS_MAX: usize = 100_000;

/// What waits for a time.
mod deadlines;

/// Which records are one.
mod kin;

/// Who may be one with whom.
mod finder;

/// What rows say of who they are.
mod seen;

/// What is sent from record to record.
mod moves;

/// States and notes in the changelog.
mod states;

use states::{Kept, from_json, to_json};

/// What is the same for all partitions of an entity.
pub struct EntityRoom {
    pub(crate) entity: Entity,
    authority: Vec<String>,
    /// Names of the links that are read.
    links: Vec<String>,
    codec: CanonicalCodec,
    canonical: (Arc<str>, u32),
    conflicts: (Arc<str>, u32),
    state: (Arc<str>, u32),
    mapped: (Arc<str>, u32),
    dead_letters: Arc<str>,
    /// Where rows are compared with others.
    finder: Option<Finder>,
}

/// What comparing rows needs to know.
struct Finder {
    /// The parts by which rows find each other.
    keys: BTreeSet<String>,
    identity: (Arc<str>, u32),
    reviews: (Arc<str>, u32),
}

impl EntityRoom {
    /// Registers the schemas of what is written.
    pub fn open(pipeline: &Pipeline, entity: &Entity, register: impl Fn(&str, &str) -> Outcome<u32>) -> Outcome<Self> {
        let reading = pipeline
            .links
            .iter()
            .filter(|link| link.entity == entity.name && link.reads());
        let codec = CanonicalCodec::new(&entity.schema_json).map_err(|error| {
            Failure::definite(
                "ENTITY_SCHEMA",
                format!("the schema of {} cannot be used: {error}", entity.name),
            )
        })?;
        let register = |name: String, json: &str| -> Outcome<(Arc<str>, u32)> {
            let id = register(&name, json)?;
            Ok((name.into(), id))
        };
        let finder = match pipeline.compares(entity) {
            true => Some(Finder {
                keys: entity
                    .score
                    .iter()
                    .flat_map(Score::keys)
                    .map(ToString::to_string)
                    .collect(),
                identity: register(
                    topic::identity(&pipeline.name, &entity.name),
                    IdentityWord::schema_json(),
                )?,
                reviews: register(topic::reviews(&pipeline.name, &entity.name), Review::schema_json())?,
            }),
            false => None,
        };
        Ok(Self {
            finder,
            canonical: register(
                topic::canonical(&pipeline.name, &entity.name, entity.version),
                codec.schema_json(),
            )?,
            conflicts: register(topic::conflicts(&pipeline.name, &entity.name), Conflict::schema_json())?,
            state: register(topic::state(&pipeline.name, &entity.name), State::schema_json())?,
            mapped: register(topic::mapped(&pipeline.name, &entity.name), MappedRecord::schema_json())?,
            dead_letters: topic::dead_letters(&pipeline.name, "merge").into(),
            links: reading.map(Link::name).collect(),
            authority: pipeline.authority().map(str::to_owned).collect(),
            entity: entity.clone(),
            codec,
        })
    }

    /// The changelog of a partition.
    pub fn shard(&self, partition: i32) -> Shard {
        Shard {
            topic: self.state.0.to_string(),
            partition,
        }
    }
}

/// How far the entities have been published, and by which rules. The text of a state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Published {
    rules: String,
    version: u32,
    to: String,
}

/// One partition of one entity.
pub struct EntityShard {
    room: Arc<EntityRoom>,
    shard: Shard,
    /// Partitions of each link's input, and those of them that are loaded.
    loaded: BTreeMap<String, (i32, BTreeSet<i32>)>,
    public_to: Option<String>,
    time_us: Option<i64>,
    /// Whether a question may have ended that has not been looked at.
    overdue: bool,
    /// Partitions of each link's input, and those of them all of whose rows have been seen.
    sighted: BTreeMap<String, (i32, BTreeSet<i32>)>,
    /// Whether there may be rows that are to be compared.
    todo: bool,
    /// Words of the match's own that have not come back yet.
    unheard: usize,
    /// Whether the changelog says that it has states in the format that is written now.
    says_format: bool,
}

/// The entities that a batch has touched, in the order of their ids.
#[derive(Default)]
pub struct Touched<'a> {
    states: BTreeMap<String, TouchedState<'a>>,
}

struct TouchedState<'a> {
    kept: Kept,
    /// What was agreed before the batch, if anybody is to be told what changed.
    before: Resolved,
    cause: &'a InRecord,
}

/// What a batch comes to.
#[derive(Default)]
pub struct Work {
    /// To be sent.
    pub outputs: Vec<Outgoing>,
    /// To be stored after the commit.
    pub overlay: Overlay,
    /// Records that were refused.
    pub refused: usize,
}

impl EntityShard {
    /// Reads from the store, which has been restored, what is known of loading and publishing.
    pub fn open(
        room: Arc<EntityRoom>,
        partition: i32,
        store: &impl EntityStore,
        schemas: &mut Schemas,
    ) -> Outcome<Self> {
        let shard = room.shard(partition);
        let mut this = Self {
            room,
            shard,
            loaded: BTreeMap::new(),
            public_to: None,
            time_us: None,
            overdue: true,
            sighted: BTreeMap::new(),
            todo: true,
            unheard: 0,
            says_format: false,
        };
        for (key, value) in store.scan(&this.shard, seen::UNTIL, OWN_KEYS_MAX)? {
            let text = states::note(schemas, &value)?;
            let said = key.strip_prefix(seen::UNTIL).and_then(|name| name.rsplit_once('/'));
            if let Some((link, input)) = said
                && let (Ok(input), Ok(inputs)) = (input.parse(), text.parse())
            {
                this.note_sighted(link, input, inputs);
            }
        }
        for (key, value) in store.scan(&this.shard, OWN, OWN_KEYS_MAX)? {
            let text = states::note(schemas, &value)?;
            if let Some((link, input)) = key.strip_prefix(LOADED).and_then(|name| name.rsplit_once('/')) {
                if let (Ok(input), Ok(inputs)) = (input.parse(), text.parse()) {
                    this.note_loaded(link, input, inputs);
                }
            } else if key == states::FORMAT {
                this.says_format = true;
            } else if key == TIME {
                this.time_us = from_json(&text)?;
            } else if key == PUBLISHED {
                let published: Published = from_json(&text)?;
                let same = published.rules == this.room.entity.rules && published.version == this.room.entity.version;
                this.public_to = same.then_some(published.to);
            }
        }
        if !this.all_loaded() {
            this.public_to = None;
        }
        Ok(this)
    }

    /// Where its states are kept.
    pub fn changelog(&self) -> &Shard {
        &self.shard
    }

    fn note_loaded(&mut self, link: &str, input: i32, inputs: i32) {
        let entry = self.loaded.entry(link.to_owned()).or_default();
        entry.0 = inputs;
        entry.1.insert(input);
    }

    fn is_loaded(&self, link: &str) -> bool {
        self.loaded
            .get(link)
            .is_some_and(|(inputs, loaded)| (0..*inputs).all(|input| loaded.contains(&input)))
    }

    fn all_loaded(&self) -> bool {
        self.room.links.iter().all(|link| self.is_loaded(link))
    }

    /// Whether a link was loaded, at least in part.
    pub fn has_begun(&self) -> bool {
        !self.loaded.is_empty()
    }

    /// The links that are still being loaded.
    pub fn awaited(&self) -> impl Iterator<Item = &str> {
        self.room
            .links
            .iter()
            .map(String::as_str)
            .filter(|link| !self.is_loaded(link))
    }

    /// Whether there are states to be published that never were.
    pub fn is_publishing(&self) -> bool {
        self.all_loaded() && self.public_to.as_deref() != Some(OWN)
    }

    fn is_public(&self, cid: &str) -> bool {
        self.public_to.as_deref().is_some_and(|to| cid <= to)
    }

    /// Takes in a mapped record.
    pub fn take<'a>(
        &mut self,
        record: MappedRecord,
        cause: &'a InRecord,
        store: &impl EntityStore,
        schemas: &mut Schemas,
        touched: &mut Touched<'a>,
        work: &mut Work,
    ) -> Outcome<()> {
        match record {
            MappedRecord::Said(said) => {
                self.touch(&said.cid, cause, store, schemas, touched)?
                    .kept
                    .state
                    .join(&said, &self.room.entity);
            }
            MappedRecord::Loaded {
                link,
                partition,
                partitions,
            } => {
                self.note_loaded(&link, partition, partitions);
                self.log(&format!("{LOADED}{link}/{partition}"), partitions.to_string(), work);
            }
            MappedRecord::Sighted { cid, row } => {
                self.touch(&cid, cause, store, schemas, touched)?
                    .kept
                    .state
                    .sighted(row);
            }
            MappedRecord::Matched { cid, row, with } => {
                self.touch(&cid, cause, store, schemas, touched)?
                    .kept
                    .state
                    .matched(row, with);
            }
            MappedRecord::Moved { cid, to, at } => {
                self.touch(&cid, cause, store, schemas, touched)?
                    .kept
                    .state
                    .move_to(to, at);
            }
            MappedRecord::Part {
                cid,
                of,
                at,
                format,
                state,
            } => {
                let state = state.map(|text| moves::part_of(format, &text)).transpose()?;
                self.touch(&cid, cause, store, schemas, touched)?
                    .kept
                    .state
                    .take_part(&of, at, state);
            }
        }
        Ok(())
    }

    /// Takes in a person's word; its position is its offset.
    pub fn decide<'a>(
        &mut self,
        decision: &Decision,
        cause: &'a InRecord,
        store: &impl EntityStore,
        schemas: &mut Schemas,
        touched: &mut Touched<'a>,
    ) -> Outcome<()> {
        self.touch(&decision.cid, cause, store, schemas, touched)?
            .kept
            .state
            .decide(decision, decision::position(cause.offset));
        Ok(())
    }

    fn touch<'t, 'a>(
        &self,
        cid: &str,
        cause: &'a InRecord,
        store: &impl EntityStore,
        schemas: &mut Schemas,
        touched: &'t mut Touched<'a>,
    ) -> Outcome<&'t mut TouchedState<'a>> {
        if !touched.states.contains_key(cid) {
            let kept = match store.get(&self.shard, cid)? {
                Some(bytes) => states::entity(schemas, &bytes)?,
                None => Kept::default(),
            };
            let is_told = self.is_public(cid) || self.room.entity.has_deadlines();
            let before = if is_told {
                self.resolve(cid, &kept.state)
            } else {
                Resolved::default()
            };
            touched
                .states
                .insert(cid.to_owned(), TouchedState { kept, before, cause });
        }
        let state = touched
            .states
            .get_mut(cid)
            .unwrap_or_else(|| unreachable!("it was just put there"));
        state.cause = cause;
        Ok(state)
    }

    fn resolve(&self, cid: &str, state: &EntityState) -> Resolved {
        resolve(cid, state, &self.room.entity, &self.room.authority)
    }

    /// At the end of a batch: what changed goes to the changelog, and out if it is public.
    pub fn finish(&mut self, touched: Touched<'_>, work: &mut Work) {
        for (cid, TouchedState { kept, before, cause }) in touched.states {
            if let Some(bytes) = kept.changed() {
                self.change(&cid, &before, kept.state, bytes, Some(cause), work);
            }
        }
    }

    /// A state, whose bytes these are, and what it says of deadlines go to the changelog; out if it is public.
    fn change(
        &mut self,
        cid: &str,
        before: &Resolved,
        mut state: EntityState,
        mut bytes: Vec<u8>,
        cause: Option<&InRecord>,
        work: &mut Work,
    ) {
        failpoint::hit("merge.state_put");
        let (has_deadlines, is_public) = (self.room.entity.has_deadlines(), self.is_public(cid));
        if has_deadlines && let Some(time_us) = self.time_us {
            state.tick(time_us);
            bytes = state.to_bytes();
        }
        let after = (has_deadlines || is_public).then(|| self.resolve(cid, &state));
        if has_deadlines {
            self.wait(cid, before.due(), after.as_ref().and_then(Resolved::due), work);
        }
        if !self.says_format {
            self.says_format = true;
            self.put(states::FORMAT, states::kept(Vec::new(), self.room.state.1), work);
        }
        self.put(cid, states::kept(bytes, self.room.state.1), work);
        self.pass_on(cid, &state, cause, work);
        if let Some(after) = after.filter(|_| is_public) {
            self.publish(cid, Outputs::between(before, after), cause, work);
        }
    }

    /// Publishes the next `rows_max` states.
    pub fn publish_more(
        &mut self,
        store: &impl EntityStore,
        schemas: &mut Schemas,
        rows_max: usize,
    ) -> Outcome<(Work, Publication)> {
        let mut work = Work::default();
        let from = self.public_to.clone().unwrap_or_default();
        let entries = store.scan(&self.shard, &from, rows_max)?;
        let mut to = if entries.len() < rows_max { OWN.to_owned() } else { from };
        for (cid, bytes) in entries {
            if cid.starts_with(OWN) {
                to = OWN.to_owned();
                break;
            }
            let agreed = self.resolve(&cid, &states::entity(schemas, &bytes)?.state);
            if self.room.entity.has_deadlines() {
                self.overdue = true;
                self.wait(&cid, None, agreed.due(), &mut work);
            }
            let everything = Outputs::between(&Resolved::default(), agreed);
            self.publish(&cid, everything, None, &mut work);
            if to != OWN {
                to = cid;
            }
        }
        let Entity { rules, version, .. } = &self.room.entity;
        let mark = Published {
            rules: rules.clone(),
            version: *version,
            to: to.clone(),
        };
        self.log(PUBLISHED, to_json(&mark), &mut work);
        Ok((work, Publication(to)))
    }

    /// The publication has been committed.
    pub fn settle(&mut self, publication: Publication) {
        self.public_to = Some(publication.0);
    }

    fn publish(&self, cid: &str, outputs: Outputs, cause: Option<&InRecord>, work: &mut Work) {
        let traced = |record: Outgoing| match cause {
            Some(cause) => record.caused_by(cause),
            None => record,
        };
        let room = &self.room;
        for conflict in outputs.conflicts {
            let key = format!("{}/{}", conflict.cid, conflict.field);
            work.outputs.push(traced(Outgoing::keyed(
                &room.conflicts.0,
                &key,
                conflict.encode(room.conflicts.1),
            )));
        }
        let Some(canonical) = outputs.canonical else { return };
        match room.codec.encode(&canonical, room.canonical.1) {
            Ok(value) => work
                .outputs
                .push(traced(Outgoing::keyed(&room.canonical.0, cid, value))),
            Err(error) => self.refuse(cid, &error.to_string(), cause, work),
        }
    }

    /// The agreed record does not fit the entity's schema. What was said is kept; the next word may mend it.
    fn refuse(&self, cid: &str, reason: &str, cause: Option<&InRecord>, work: &mut Work) {
        tracing::warn!(
            entity = self.room.entity.name,
            cid,
            reason,
            "dead letter: the agreed record cannot be written"
        );
        work.refused += 1;
        let letters = &self.room.dead_letters;
        work.outputs.push(match cause {
            Some(cause) => dead_letter(letters, "merge", reason, cause),
            None => {
                let header = ("syncline.reason".to_owned(), reason.as_bytes().to_vec());
                Outgoing {
                    value: None,
                    headers: vec![header],
                    ..Outgoing::keyed(letters, cid, Vec::new())
                }
            }
        });
    }

    /// A note of the shard's own.
    fn log(&self, key: &str, text: String, work: &mut Work) {
        self.put(key, states::noted(text, self.room.state.1), work);
    }

    /// A line of the changelog, and the same for the store.
    fn put(&self, key: &str, value: Vec<u8>, work: &mut Work) {
        let topic = &self.room.state.0;
        work.outputs
            .push(Outgoing::keyed(topic, key, value.clone()).in_partition(self.shard.partition));
        work.overlay.put(&self.shard, key, value);
    }
}

/// How far a publication came; it counts once it is committed.
#[must_use]
pub struct Publication(String);

#[cfg(test)]
mod tests;
