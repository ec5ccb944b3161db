//! Guards of the map stage: a source whose whole tables change at once, or whose log goes back, is paused before it can
//! write that into everybody else.
//!
//! Map is the place, because here sources are still apart: what is not mapped stays in Kafka, in order, and the other
//! sources flow. Rows are spread over partitions by a hash of their keys, so each partition shows what its table does, and
//! each decides by itself: by its own log ([`window`]) and by what its rows held before ([`trail`]). So a replay decides
//! the same, and of a table with many partitions no more passes than the share that the file allows, however slowly the
//! word of one instance reaches the others. That word is a record on `<pipeline>.pauses`, in the transaction that holds
//! all before the record that was too much; while it stands no instance maps any table of that source.
//!
//! What does not count: the first read of a table, rows that were never seen before, and what we wrote ourselves. Once a
//! person has let a source go on, what was in Kafka by then passes and is not counted again. That its log was replaced is
//! asked once: who lets that pass lets it pass for all tables that come through the same slot, however late a quiet partition
//! hears of it. And it is seen in whatever stands first in the new log, be it our own write or a change that says nothing.

/// How many rows have changed of late.
mod window;

/// What a row held before.
mod trail;

/// The topic of pauses.
mod pause_log;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use syncline_bus::{BusConfig, InRecord};
use syncline_runtime::Outcome;
use syncline_schemas::codec::{Crosswalk, State, Wire};
use syncline_schemas::envelope::Op;
use syncline_schemas::mapped::{Mapped, RowOp};
use syncline_schemas::pause::{PauseRecord, Paused, Pauses};
use syncline_schemas::pipeline::care::Care;
use syncline_schemas::pipeline::guards::{Burst, Guards as Settings};
use syncline_schemas::pipeline::{Link, Pipeline};
use syncline_schemas::position::Position;
use syncline_schemas::topic;

use crate::mapper::{Route, Work};
use crate::mapping::{self, Input, Mapping};
use crate::outgoing::Outgoing;
use crate::schemas::Schemas;
use crate::store::{DiskStore, EntityStore, Shard};
use pause_log::PauseLog;
use trail::Trail;
use window::{Window, hash};

/// Format of what is remembered; what has another is not there.
const FORMAT: i32 = 1;
const SCAN_ROWS: usize = 5_000;

/// The guards of the file, and what they know.
pub struct Guards {
    settings: Settings,
    /// By system: which of its tables come through one slot.
    care: BTreeMap<String, Care>,
    log: PauseLog,
    pauses_topic: Arc<str>,
    pauses_id: u32,
    /// By [`Route::watched`], and partition.
    windows: HashMap<String, BTreeMap<i32, Open>>,
}

/// What is known of one partition of a table.
struct Open {
    window: Window,
    /// Whether the table's first rows are mapped: nothing counts before.
    loaded: bool,
    /// How many partitions the table's topic has.
    partitions: u64,
    touched: bool,
}

/// A change that is about to be mapped.
pub struct Seen<'a> {
    /// Whose it is.
    pub route: &'a Route,
    /// The record.
    pub record: &'a InRecord,
    /// What it says.
    pub input: &'a Input<'a>,
    /// Whether its row had been seen before.
    pub was_known: bool,
    /// What it comes to.
    pub mapping: &'a Mapping,
}

/// Which guard found something.
struct Found {
    guard: &'static str,
    changed: u64,
    why: String,
}

impl Guards {
    /// None if the file has no guards.
    pub fn open(pipeline: &Pipeline, schemas: &Schemas) -> Outcome<Option<Self>> {
        if !pipeline.guards.any() {
            return Ok(None);
        }
        let topic = topic::pauses(&pipeline.name);
        let systems = pipeline.systems.iter();
        Ok(Some(Self {
            settings: pipeline.guards.clone(),
            care: systems
                .map(|system| (system.name.clone(), system.care.clone()))
                .collect(),
            pauses_id: schemas.register(&topic, PauseRecord::schema_json())?,
            pauses_topic: topic.as_str().into(),
            log: PauseLog::new(topic),
            windows: HashMap::new(),
        }))
    }

    /// Gives everything up that is of partitions.
    pub fn revoke(&mut self) {
        self.windows.clear();
    }

    /// Reads which sources are paused. Before the first record of an assignment.
    pub fn restore(&mut self, bus: &BusConfig, schemas: &mut Schemas) -> Outcome<()> {
        self.log.restore(bus, schemas)
    }

    /// Hears who has paused a source, and who lets it go on.
    pub fn hear(&mut self, schemas: &mut Schemas) -> Outcome<()> {
        self.log.hear(schemas)
    }

    /// What is paused.
    pub fn pauses(&self) -> &Pauses {
        &self.log.pauses
    }

    /// Takes a partition, one of so many, whose changelogs have been restored.
    pub fn watch(
        &mut self,
        route: &Route,
        partition: i32,
        partitions: i32,
        store: &DiskStore,
        schemas: &mut Schemas,
    ) -> Outcome<()> {
        let Some(shard) = route.guards_shard(partition) else {
            return Ok(());
        };
        let remembered = remembered(store, &shard, &window_key(route), schemas)?;
        let window = match remembered.and_then(|text| serde_json::from_str(&text).ok()) {
            Some(window) => window,
            None => Window {
                rows: rows(route, partition, store, schemas)?,
                ..Window::default()
            },
        };
        let open = Open {
            window,
            loaded: store.get(&route.shard(partition), &route.loaded_key())?.is_some(),
            partitions: u64::try_from(partitions).unwrap_or(1),
            touched: false,
        };
        let windows = self.windows.entry(route.watched.clone()).or_default();
        windows.insert(partition, open);
        Ok(())
    }

    /// The first rows of a partition are mapped.
    pub fn loaded(&mut self, route: &Route, partition: i32) {
        let windows = self.windows.get_mut(&route.watched);
        if let Some(open) = windows.and_then(|windows| windows.get_mut(&partition)) {
            open.loaded = true;
        }
    }

    /// Whether the change is too much, so that it is not to be mapped, nor anything of its source after it. Else it is taken
    /// in.
    pub fn is_too_much(
        &mut self,
        seen: &Seen<'_>,
        store: &DiskStore,
        schemas: &mut Schemas,
        work: &mut Work,
    ) -> Outcome<bool> {
        let (record, input) = (seen.record, seen.input);
        let windows = self.windows.get_mut(&seen.route.watched);
        let Some(open) = windows.and_then(|windows| windows.get_mut(&record.partition)) else {
            return Ok(false);
        };
        // Before, several connections read the table, and what they read comes in no order.
        if open.loaded && open.window.has_seen(input.position) {
            return Ok(false);
        }
        let passing = self.log.pauses.passes(&record.topic, record.partition);
        open.window.pass(passing);
        let mut followed = match &self.settings.stale_restore {
            Some(_) => follow(seen, store, schemas, work)?,
            None => None,
        };
        let is_new = open.loaded && record.offset >= passing;
        let is_another_log = self.settings.stale_restore.is_some()
            && open.window.is_another_log(input.position)
            && input.position.epoch > passed_log(&self.log.pauses, &self.care, &seen.route.link);
        let went_back = followed.as_ref().is_some_and(|followed| followed.back);
        let found = match is_new {
            true if is_another_log => Some(open.another_log(input.position)),
            true if input.mark.is_none() => open.found(&self.settings, seen, went_back),
            _ => None,
        };
        if let Some(found) = found {
            let paused = PauseRecord::Paused(found.paused(seen, &open.window));
            let value = paused.encode(self.pauses_id);
            let source = paused.source().to_owned();
            work.outputs
                .push(Outgoing::keyed(&self.pauses_topic, &source, value).in_partition(0));
            self.log.pauses.take(paused);
            return Ok(true);
        }
        open.window.take(input.position, input.commit_us, more_rows(seen));
        open.touched = true;
        if let Some(followed) = followed.take().filter(|followed| followed.moved) {
            seen.route.remember(record.partition, followed.key, followed.text, work);
        }
        Ok(false)
    }

    /// Writes what this batch has changed of what is known of partitions.
    pub fn note(&mut self, routes: &HashMap<String, Vec<Arc<Route>>>, work: &mut Work) {
        for route in routes.values().flatten() {
            let windows = self.windows.get_mut(&route.watched);
            let touched = windows.into_iter().flatten().filter(|(_, open)| open.touched);
            for (partition, open) in touched {
                open.touched = false;
                let text = serde_json::to_string(&open.window)
                    .unwrap_or_else(|error| unreachable!("a window is always JSON: {error}"));
                route.remember(*partition, window_key(route), text, work);
            }
        }
    }
}

impl Open {
    fn another_log(&self, position: Position) -> Found {
        let (from, to) = (self.window.at.epoch, position.epoch);
        Found {
            guard: "stale_restore",
            changed: 0,
            why: format!(
                "its log was replaced (epoch {from}, now {to}): it may be an older copy, or its tables are read again"
            ),
        }
    }

    fn found(&mut self, settings: &Settings, seen: &Seen<'_>, went_back: bool) -> Option<Found> {
        let Mapping::Said { mapped, .. } = seen.mapping else {
            return None;
        };
        let now_us = self.window.now_us.max(seen.input.commit_us);
        let row = hash(&mapped.row.0);
        if let Some(burst) = &settings.stale_restore {
            let rows_max = burst.rows_max(self.window.rows, self.partitions);
            if went_back && let Err(changed) = self.window.went_back.note(row, now_us, burst, rows_max) {
                return Some(found(
                    "stale_restore",
                    "went back to values that they had left",
                    burst,
                    changed,
                ));
            }
        }
        let burst = settings.mass_change.as_ref()?;
        let changes = seen.was_known && seen.input.event.op != Op::Read;
        let rows_max = burst.rows_max(self.window.rows, self.partitions);
        match changes.then(|| self.window.changed.note(row, now_us, burst, rows_max)) {
            Some(Err(changed)) => Some(found("mass_change", "changed", burst, changed)),
            _ => None,
        }
    }
}

/// The epoch of the last log that a person has let pass of the slot through which the link's table comes.
fn passed_log(pauses: &Pauses, care: &BTreeMap<String, Care>, link: &Link) -> u64 {
    let care = care.get(&link.system);
    let slot = |table: &str| care.and_then(|care| care.group_of(table)).map(|group| &group.name);
    let here = slot(&link.qualified_table());
    pauses.passed_log(&link.system, |table| slot(table) == here)
}

fn found(guard: &'static str, what: &str, burst: &Burst, changed: u64) -> Found {
    Found {
        guard,
        changed,
        why: format!("more than {burst} of its rows {what}"),
    }
}

impl Found {
    fn paused(self, seen: &Seen<'_>, window: &Window) -> Paused {
        let (link, record) = (&seen.route.link, seen.record);
        tracing::error!(
            code = "SOURCE_PAUSED",
            source = link.system,
            guard = self.guard,
            table = link.qualified_table(),
            partition = record.partition,
            changed = self.changed,
            rows = window.rows,
            "{}: nothing of it is mapped until a person lets it go on: syncline guards",
            self.why
        );
        let whole = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        Paused {
            source: link.system.clone(),
            guard: self.guard.to_owned(),
            table: link.qualified_table(),
            topic: record.topic.clone(),
            partition: record.partition,
            offset: record.offset,
            position: seen.input.position,
            commit_us: seen.input.commit_us,
            changed: whole(self.changed),
            rows: whole(window.rows),
            why: self.why,
        }
    }
}

/// What a row held before, with this change.
struct Followed {
    key: String,
    text: String,
    moved: bool,
    back: bool,
}

fn follow(seen: &Seen<'_>, store: &DiskStore, schemas: &mut Schemas, work: &Work) -> Outcome<Option<Followed>> {
    let route = seen.route;
    let (Mapping::Said { mapped, .. }, Some(shard)) = (seen.mapping, route.guards_shard(seen.record.partition)) else {
        return Ok(None);
    };
    let Mapped {
        op,
        row,
        fields,
        before,
        ..
    } = &**mapped;
    if *op != RowOp::Present {
        return Ok(None);
    }
    let key = mapping::crosswalk_key(&route.link, row);
    let stored = work.overlay.get(store, &shard, &key)?;
    let text = match stored {
        Some(bytes) => text_of(&bytes, schemas)?,
        None => None,
    };
    let mut trail: Trail = text
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default();
    let step = trail.hold(&route.entity, &route.link.system, fields, before);
    Ok(Some(Followed {
        key,
        text: serde_json::to_string(&trail).unwrap_or_else(|error| unreachable!("a trail is always JSON: {error}")),
        moved: step.moved,
        back: step.back,
    }))
}

/// By how many the table's rows in the partition are more after this change.
fn more_rows(seen: &Seen<'_>) -> i64 {
    match seen.mapping {
        Mapping::Left { .. } => -i64::from(seen.was_known),
        Mapping::Nothing(_) => 0,
        Mapping::Said { mapped, crosswalk, .. } => match mapped.op {
            RowOp::Deleted => -1,
            RowOp::Seen => 0,
            RowOp::Present => {
                let key = mapping::crosswalk_key(&seen.route.link, &mapped.row);
                let moved_here = mapped.was.is_some() && crosswalk.iter().any(|(entry, _)| *entry == key);
                i64::from(!seen.was_known || moved_here || seen.input.event.op == Op::Create)
            }
        },
    }
}

/// Rows' keys begin with the name of a system, which has no tilde.
fn window_key(route: &Route) -> String {
    format!("~{}", route.link.name())
}

fn remembered(store: &DiskStore, shard: &Shard, key: &str, schemas: &mut Schemas) -> Outcome<Option<String>> {
    match store.get(shard, key)? {
        Some(bytes) => text_of(&bytes, schemas),
        None => Ok(None),
    }
}

/// What cannot be read is not there: guards then begin anew.
fn text_of(bytes: &[u8], schemas: &mut Schemas) -> Outcome<Option<String>> {
    let state = schemas.read(bytes, State::decode)?.ok();
    Ok(state.filter(|state| state.format == FORMAT).map(|state| state.state))
}

/// What is remembered, as it is written.
pub fn memory(text: String, id: u32) -> Vec<u8> {
    State {
        format: FORMAT,
        state: text,
        packed: Vec::new(),
    }
    .encode(id)
}

/// The rows that the crosswalk knows in this partition: where guards come into the file later, that is the table.
fn rows(route: &Route, partition: i32, store: &DiskStore, schemas: &mut Schemas) -> Outcome<u64> {
    let (shard, prefix) = (route.shard(partition), format!("{}|", route.link.name()));
    let (mut rows, mut after) = (0, prefix.clone());
    loop {
        let entries = store.scan(&shard, &after, SCAN_ROWS)?;
        let of_link = entries.iter().take_while(|(key, _)| key.starts_with(&prefix));
        let mut read = 0;
        for (_, bytes) in of_link {
            let entry = schemas.read(bytes, Crosswalk::decode)?;
            rows += u64::from(entry.is_ok_and(|entry| entry.left_at.is_none()));
            read += 1;
        }
        match entries.last().filter(|_| read == SCAN_ROWS) {
            Some((key, _)) => after.clone_from(key),
            None => return Ok(rows),
        }
    }
}

#[cfg(test)]
mod tests;
