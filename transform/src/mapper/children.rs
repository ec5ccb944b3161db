//! Rows that refer to others: mapped when it is known which entities those are, and until then they wait.
//!
//! A change that waits is written to the changelog in the transaction that takes it off the input, and off the changelog
//! in the one that sends what it came to; so it is neither lost nor done twice, wherever the process is killed. Later changes
//! of its row wait behind it, and no others.
//!
//! What a change comes to does not depend on how long it waited: it is mapped with the same references as if it had come
//! later. That it waited so long that it is given up is a matter of records ([`crate::mapping::parents`]).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use syncline_bus::InRecord;
use syncline_bus::consumer::TopicPartition;
use syncline_runtime::Outcome;
use syncline_schemas::codec::{Crosswalk, Wire};
use syncline_schemas::pipeline::Link;
use syncline_schemas::topic;
use syncline_schemas::waiting::{self, Waiting};

use super::{Mapper, Route, STAGE, Work, put, put_entries};
use crate::change::Change;
use crate::mapping::parents::{self, Found, Image, References, SENT_AGAIN};
use crate::mapping::{self, Address, Input, Mapping, Nothing, Refusal};
use crate::metrics;
use crate::outgoing::{Outgoing, dead_letter};
use crate::store::{EntityStore, Shard};
use crate::waiting::{LaneAt, Waiter, WaiterAt, link_of};

/// Header of a dead letter: the row that nobody knows, as the crosswalk would name it.
const PARENT: &str = "syncline.parent";
/// How many waiting changes are read from the store at once.
const SCAN_ROWS: usize = 1_000;
/// A lane that stays full is freed sooner by a run that works off what is there.
const STUCK_MS_MAX: i64 = 10_000;

/// What is known of the references of a change.
enum Judged {
    /// All of them.
    Known(References),
    /// These keys are not known, and the first wait for one ends then.
    Lacks { missing: BTreeSet<String>, due_ms: i64 },
    /// One of them was not known in time: this key.
    Orphan { key: String, reason: String },
}

/// What becomes of a change by one of its links.
pub(super) enum Turn {
    /// It is mapped to this.
    Mapped(Mapping),
    /// It is given up: the row with this key was not known in time.
    Orphan {
        key: String,
        reason: String,
        so_far: Option<Mapping>,
    },
    /// It waits.
    Waits { waiter: Waiter, so_far: Option<Mapping> },
}

impl Turn {
    /// What it comes to, as far as that is known without the rows that it refers to; none where nobody asks.
    pub(super) fn mapping(&self) -> Option<&Mapping> {
        match self {
            Turn::Mapped(mapping) => Some(mapping),
            Turn::Orphan { so_far, .. } | Turn::Waits { so_far, .. } => so_far.as_ref(),
        }
    }
}

impl LaneAt {
    fn of(route: &Route, topic: &str, partition: i32) -> Self {
        Self {
            link: route.link.name(),
            entity: route.link.entity.clone(),
            topic: topic.to_owned(),
            partition,
        }
    }
}

impl Mapper {
    /// What becomes of a change by one of its links, and whether its row was known before. If `gives_up`, it does not wait for
    /// anybody. Nothing is done yet: [`Mapper::carry_out`].
    pub(super) fn weigh(
        &mut self,
        route: &Route,
        change: &Change,
        record: &InRecord,
        gives_up: bool,
        work: &Work,
    ) -> Outcome<Result<(Turn, bool), Refusal>> {
        let input = change.input(&route.link);
        if route.waiting.is_none() {
            return self.mapped(route, &input, References::default(), record, work);
        }
        let rows = match mapping::address(&route.link, &input) {
            Ok(Ok(address)) => rows(&address),
            Ok(Err(nothing)) => return Ok(Ok((Turn::Mapped(Mapping::Nothing(nothing)), false))),
            Err(refusal) => return Ok(Err(refusal)),
        };
        let at = LaneAt::of(route, &record.topic, record.partition);
        if self.room.is_blocked(&at, record.offset, &rows) {
            let (so_far, _) = self.so_far(route, &input, record, work)?;
            let waiter = Waiter {
                rows,
                ..Waiter::default()
            };
            // By the change that waits before it, if by nothing else.
            return Ok(Ok((Turn::Waits { waiter, so_far }, true)));
        }
        match self.judge(route, &input, record, gives_up, work)? {
            Err(refusal) => Ok(Err(refusal)),
            Ok(Judged::Known(references)) => self.mapped(route, &input, references, record, work),
            Ok(Judged::Orphan { key, reason }) => {
                let (so_far, was_known) = self.so_far(route, &input, record, work)?;
                Ok(Ok((Turn::Orphan { key, reason, so_far }, was_known)))
            }
            Ok(Judged::Lacks { missing, due_ms }) => {
                let (so_far, was_known) = self.so_far(route, &input, record, work)?;
                let waiter = Waiter {
                    rows,
                    missing,
                    due_ms: Some(due_ms),
                };
                Ok(Ok((Turn::Waits { waiter, so_far }, was_known)))
            }
        }
    }

    fn mapped(
        &mut self,
        route: &Route,
        input: &Input<'_>,
        references: References,
        record: &InRecord,
        work: &Work,
    ) -> Outcome<Result<(Turn, bool), Refusal>> {
        let mapped = self.map_row(route, input, references, record, work)?;
        Ok(mapped.map(|(mapping, was_known)| (Turn::Mapped(mapping), was_known)))
    }

    /// What a change comes to whose references are not known, and whether its row was known: for guards, which look at a
    /// change when it comes, and for those whom the row itself is waited for by. What cannot be mapped says so when its turn
    /// comes.
    fn so_far(
        &mut self,
        route: &Route,
        input: &Input<'_>,
        record: &InRecord,
        work: &Work,
    ) -> Outcome<(Option<Mapping>, bool)> {
        if self.guards.is_none() && !route.is_awaited {
            return Ok((None, false));
        }
        let pipeline = Arc::clone(&self.pipeline);
        let parents = pipeline.parents(&route.link);
        let mut unknown = References::default();
        let wanted = parents::wanted(&route.link, &parents, input);
        wanted.iter().for_each(|wanted| unknown.note(wanted, None));
        Ok(match self.map_row(route, input, unknown, record, work)? {
            Ok((mapping, was_known)) => (Some(mapping), was_known),
            Err(_) => (None, false),
        })
    }

    /// Does what was decided about a change that has just come.
    pub(super) fn carry_out(&mut self, route: &Route, turn: Turn, record: &InRecord, work: &mut Work) {
        match turn {
            Turn::Mapped(mapping) => put(route, mapping, record, work),
            Turn::Orphan { key, reason, .. } => self.bury(record, &key, &reason, work),
            Turn::Waits { waiter, so_far } => {
                identify(route, &waiter, so_far, record, work);
                let at = LaneAt::of(route, &record.topic, record.partition);
                self.wait(route, &at, record, waiter, work);
            }
        }
    }

    /// Looks up which entities a change refers to.
    fn judge(
        &mut self,
        route: &Route,
        input: &Input<'_>,
        record: &InRecord,
        gives_up: bool,
        work: &Work,
    ) -> Outcome<Result<Judged, Refusal>> {
        let pipeline = Arc::clone(&self.pipeline);
        let parents = pipeline.parents(&route.link);
        let from_ms = waits_from(record);
        let (mut references, mut missing, mut first_ms) = (References::default(), BTreeSet::new(), i64::MAX);
        for wanted in parents::wanted(&route.link, &parents, input) {
            let due_ms = from_ms.saturating_add(wanted.parent.reference.wait_ms);
            let entry = match self.parent_entry(wanted.parent.link, &wanted.key, work)? {
                Ok(entry) => entry,
                Err(reason) => return Ok(Err(Refusal(reason))),
            };
            let over = || gives_up || self.room.is_proven(&wanted.parent.link.name(), due_ms);
            match parents::found(&wanted, entry.as_ref(), input, due_ms) {
                Found::Entity(cid) => references.note(&wanted, Some(cid)),
                Found::Nobody if !over() => {
                    missing.insert(wanted.key);
                    first_ms = first_ms.min(due_ms);
                }
                Found::Nobody | Found::TooLate if wanted.image == Image::Before => references.note(&wanted, None),
                Found::Nobody | Found::TooLate => {
                    let reference = wanted.parent.reference;
                    let when = match gives_up {
                        true => "is known, and too many changes wait".to_owned(),
                        false => format!("was known {} after this change", shown(reference.wait_ms)),
                    };
                    let (field, entity, key) = (&reference.field, &reference.entity, &wanted.key);
                    let reason = format!("{field}: no {entity} with the key {key} {when}");
                    let key = wanted.key;
                    return Ok(Ok(Judged::Orphan { key, reason }));
                }
            }
        }
        Ok(Ok(match missing.is_empty() {
            true => Judged::Known(references),
            false => Judged::Lacks {
                missing,
                due_ms: first_ms,
            },
        }))
    }

    /// What is known under a key of the crosswalk, by what this instance wrote and what it has read of the others.
    fn parent_entry(&mut self, link: &Link, key: &str, work: &Work) -> Outcome<Result<Option<Crosswalk>, String>> {
        let crosswalk = topic::crosswalk(&self.pipeline.name, &link.entity);
        let own = self.shards.iter().filter(|shard| shard.topic == crosswalk).cloned();
        let shards: Vec<Shard> = own.chain(self.followed.shards(&crosswalk)).collect();
        let mut known: Option<Crosswalk> = None;
        for shard in shards {
            match self.entry(&shard, key, work)? {
                Ok(None) => {}
                Ok(Some(entry)) => {
                    known = Some(match known {
                        Some(known) => parents::newer(known, entry),
                        None => entry,
                    });
                }
                Err(reason) => return Ok(Err(reason)),
            }
        }
        Ok(Ok(known))
    }

    fn wait(&mut self, route: &Route, at: &LaneAt, record: &InRecord, waiter: Waiter, work: &mut Work) {
        let Some((topic, id)) = &route.waiting else { return };
        let waiting = Waiting {
            topic: record.topic.clone(),
            partition: record.partition,
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            key: record.key.clone(),
            value: record.value.clone().unwrap_or_default(),
            headers: record.headers.clone(),
        };
        let key = waiting::key(&record.topic, record.partition, record.offset);
        let value = waiting.encode(*id);
        work.outputs
            .push(Outgoing::keyed(topic, &key, value.clone()).in_partition(record.partition));
        work.overlay.put(&waiting_shard(topic, record.partition), key, value);
        self.room.put(at, record.offset, waiter);
    }

    /// One waits no more.
    fn leave(&mut self, route: &Route, at: &LaneAt, offset: i64, work: &mut Work) {
        let Some((topic, _)) = &route.waiting else { return };
        let key = waiting::key(&at.topic, at.partition, offset);
        let gone = Outgoing {
            value: None,
            ..Outgoing::keyed(topic, &key, Vec::new())
        };
        work.outputs.push(gone.in_partition(at.partition));
        work.overlay.remove(&waiting_shard(topic, at.partition), key);
        self.room.remove(at, offset);
    }

    /// The letter names the row that nobody knows; the log does not, since its key may be a person's.
    fn bury(&self, record: &InRecord, key: &str, reason: &str, work: &mut Work) {
        tracing::warn!(
            topic = record.topic,
            partition = record.partition,
            offset = record.offset,
            parent = link_of(key),
            "dead letter: the row that it refers to is not known"
        );
        metrics::DEAD_LETTERS.with_label_values(&[STAGE]).inc();
        let mut letter = dead_letter(&self.dead_letters, STAGE, reason, record);
        letter.headers.push((PARENT.to_owned(), key.as_bytes().to_vec()));
        work.outputs.push(letter);
    }

    /// Looks again at those for whom something has changed, until nothing does. What waits of a paused source is left as it is,
    /// and looked at when the source goes on.
    pub fn release(&mut self, work: &mut Work) -> Outcome<()> {
        let mut paused = Vec::new();
        loop {
            for key in std::mem::take(&mut work.came) {
                self.room.came(&key);
            }
            let Some((at, offset)) = self.room.next_ready() else {
                break;
            };
            match self.is_paused(&at.topic) {
                true => paused.push((at, offset)),
                false => self.look_again(&at, offset, false, work)?,
            }
        }
        for (at, offset) in paused {
            self.room.wake(&at, offset);
        }
        Ok(())
    }

    /// Gives up some of those that fill a lane for too long: nobody can be waited for behind them.
    pub fn make_room(&mut self, works_off: bool, work: &mut Work) -> Outcome<()> {
        for (at, offset) in self.stuck(works_off) {
            self.look_again(&at, offset, true, work)?;
        }
        Ok(())
    }

    /// Whether there are any.
    pub fn is_stuck(&self, works_off: bool) -> bool {
        !self.stuck(works_off).is_empty()
    }

    fn stuck(&self, works_off: bool) -> Vec<WaiterAt> {
        let mut stuck = self.room.stuck(|at| {
            let entity = self.pipeline.entity(&at.entity);
            let references = entity.into_iter().flat_map(|entity| &entity.references);
            let longest = references.map(|reference| reference.wait_ms).max().unwrap_or(0);
            let longest = if works_off { longest.min(STUCK_MS_MAX) } else { longest };
            Duration::from_millis(longest.unsigned_abs())
        });
        stuck.retain(|(at, _)| !self.is_paused(&at.topic));
        stuck
    }

    fn look_again(&mut self, at: &LaneAt, offset: i64, gives_up: bool, work: &mut Work) -> Outcome<()> {
        let is_of = |route: &&Arc<Route>| route.link.entity == at.entity && route.link.name() == at.link;
        let Some(route) = self.routes_of(&at.topic).iter().find(is_of).cloned() else {
            return Ok(());
        };
        let Some(record) = self.waiting(&route, at, offset, work)? else {
            self.room.remove(at, offset);
            return Ok(());
        };
        let value = record.value.clone().unwrap_or_default();
        let turn = match Change::read(&record, &value, &self.pipeline, &mut self.schemas)? {
            Ok(Some(change)) => self
                .weigh(&route, &change, &record, gives_up, work)?
                .map(|(turn, _)| turn),
            Ok(None) => Ok(Turn::Mapped(Mapping::Nothing(Nothing("no change")))),
            Err(refusal) => Err(refusal),
        };
        match turn {
            Ok(Turn::Waits { waiter, so_far }) => {
                identify(&route, &waiter, so_far, &record, work);
                self.room.put(at, offset, waiter);
            }
            Ok(turn) => {
                self.carry_out(&route, turn, &record, work);
                self.leave(&route, at, offset, work);
            }
            Err(Refusal(reason)) => {
                self.refuse(&record, &reason, work);
                self.leave(&route, at, offset, work);
            }
        }
        Ok(())
    }

    /// The record as it came; none if it waits no more.
    fn waiting(&mut self, route: &Route, at: &LaneAt, offset: i64, work: &Work) -> Outcome<Option<InRecord>> {
        let Some((topic, _)) = &route.waiting else {
            return Ok(None);
        };
        let key = waiting::key(&at.topic, at.partition, offset);
        let stored = work
            .overlay
            .get(&self.store, &waiting_shard(topic, at.partition), &key)?;
        match stored {
            Some(bytes) => Ok(self.schemas.read(&bytes, Waiting::decode)?.ok().map(record)),
            None => Ok(None),
        }
    }

    /// Whether any of these partitions has changes that refer to others.
    pub(super) fn has_children(&self, partitions: &[TopicPartition]) -> bool {
        let mut routes = partitions.iter().flat_map(|(topic, _)| self.routes_of(topic));
        routes.any(|route| route.waiting.is_some())
    }

    /// Takes up what waits in these partitions, from the store, which has been restored. All of it is looked at once.
    pub(super) fn take_up(&mut self, partitions: &[TopicPartition]) -> Outcome<()> {
        for (topic, partition) in partitions {
            for route in self.routes_of(topic) {
                let Some((waiting_topic, _)) = &route.waiting else {
                    continue;
                };
                let at = LaneAt::of(&route, topic, *partition);
                let shard = waiting_shard(waiting_topic, *partition);
                let prefix = waiting::prefix(topic, *partition);
                let mut after = prefix.clone();
                loop {
                    let entries = self.store.scan(&shard, &after, SCAN_ROWS)?;
                    let seen = entries.len();
                    for (key, bytes) in entries {
                        after.clone_from(&key);
                        if key.starts_with(&prefix) {
                            self.take_up_one(&route, &at, &bytes)?;
                        }
                    }
                    if seen < SCAN_ROWS || !after.starts_with(&prefix) {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    fn take_up_one(&mut self, route: &Route, at: &LaneAt, bytes: &[u8]) -> Outcome<()> {
        let Ok(waiting) = self.schemas.read(bytes, Waiting::decode)? else {
            return Ok(());
        };
        let record = record(waiting);
        let value = record.value.clone().unwrap_or_default();
        let address = match Change::read(&record, &value, &self.pipeline, &mut self.schemas)? {
            Ok(Some(change)) => mapping::address(&route.link, &change.input(&route.link)),
            _ => Err(Refusal(String::new())),
        };
        // Of what cannot be read any more it is said why when it is looked at.
        let rows = match address {
            Ok(Ok(address)) => rows(&address),
            _ => Vec::new(),
        };
        let waiter = Waiter {
            rows,
            ..Waiter::default()
        };
        self.room.put(at, record.offset, waiter);
        self.room.wake(at, record.offset);
        Ok(())
    }
}

/// The rows that a change touches, as lanes name them.
fn rows(address: &Address) -> Vec<String> {
    let was = address.was.iter();
    was.chain([&address.row]).map(|row| row.0.clone()).collect()
}

/// From when on a change waits: when Kafka had it, or somebody sent it again.
fn waits_from(record: &InRecord) -> i64 {
    let again = record
        .header(SENT_AGAIN)
        .and_then(|text| std::str::from_utf8(text).ok());
    let again = again.and_then(|text| text.parse().ok());
    again.unwrap_or(record.timestamp_ms).max(0)
}

fn waiting_shard(topic: &str, partition: i32) -> Shard {
    Shard {
        topic: topic.to_owned(),
        partition,
    }
}

fn record(waiting: Waiting) -> InRecord {
    InRecord {
        topic: waiting.topic,
        partition: waiting.partition,
        offset: waiting.offset,
        timestamp_ms: waiting.timestamp_ms,
        key: waiting.key,
        value: Some(waiting.value),
        headers: waiting.headers,
    }
}

/// `10 min`, or seconds.
fn shown(ms: i64) -> String {
    match (ms % 60_000, ms % 1_000) {
        (0, _) => format!("{} min", ms / 60_000),
        (_, 0) => format!("{} s", ms / 1_000),
        _ => format!("{ms} ms"),
    }
}

/// Says which entity the row is, though it waits: others may wait for it. Which entity that is does not depend on what it
/// refers to, nor does what it is compared by.
fn identify(route: &Route, waiter: &Waiter, so_far: Option<Mapping>, record: &InRecord, work: &mut Work) {
    if !route.is_awaited || waiter.missing.is_empty() {
        return;
    }
    if let Some(Mapping::Said {
        crosswalk, sighting, ..
    }) = so_far
    {
        put_entries(route, crosswalk, record, work);
        // Whoever has its entity already is not sighted again when it is mapped.
        if let Some(sighting) = sighting {
            route.sight(*sighting, record, work);
        }
    }
}
