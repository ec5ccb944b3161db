//! What the running topics come to under another pipeline file: the real mapping and the real merge, in memory, from the
//! beginning of the capture topics. Nothing is written.
//!
//! Which entity a row is stays as the live crosswalk has it, since identity is sticky. Of a key that one row left and
//! another took the crosswalk knows only the later; until the topic itself tells of the move, the earlier row counts for
//! the later one's entity. Parents are read before their children; that a parent came too late is not noticed.

use std::collections::BTreeMap;

use syncline_runtime::{Failure, Outcome};
use syncline_schemas::codec::{Crosswalk, Wire};
use syncline_schemas::decision::{self, Decision};
use syncline_schemas::mapped::Mapped;
use syncline_schemas::mark::Mark;
use syncline_schemas::pipeline::{CapturedBy, Entity, Link};
use syncline_schemas::progress::MarkRecord;
use syncline_schemas::tick::Tick;
use syncline_schemas::topic;
use syncline_transform::change::{Change, is_of};
use syncline_transform::kin::{Remembered, hear};
use syncline_transform::mapping::parents::{self, Found, References};
use syncline_transform::mapping::{self, Address, Input, Known, Mapping, Refusal};
use syncline_transform::merge::EntityState;

use crate::desk::Desk;
use crate::matching::words;
use crate::topics;

/// What was worked out.
pub struct Memory {
    /// The entities of the file, by name.
    entities: BTreeMap<String, Entity>,
    /// By entity and entity id.
    pub states: BTreeMap<String, BTreeMap<String, EntityState>>,
    /// How many changes cannot be mapped, by link and reason.
    pub refused: BTreeMap<(String, String), usize>,
    /// Records read.
    pub records: usize,
    records_max: usize,
    /// The crosswalk of the running pipeline.
    live: BTreeMap<String, Crosswalk>,
    /// What the topics said of it so far.
    told: BTreeMap<String, Crosswalk>,
}

/// Reads everything that the file's links read.
pub fn work_out(desk: &mut Desk, records_max: usize) -> Outcome<Memory> {
    let entities = desk.pipeline.entities.iter();
    let mut memory = Memory {
        entities: entities.map(|entity| (entity.name.clone(), entity.clone())).collect(),
        states: BTreeMap::new(),
        refused: BTreeMap::new(),
        records: 0,
        records_max,
        live: BTreeMap::new(),
        told: BTreeMap::new(),
    };
    let entities = desk.entities(None)?;
    for entity in &entities {
        memory.crosswalk(desk, entity)?;
    }
    for name in captured(desk) {
        memory.changes(desk, &name)?;
    }
    memory.marks(desk)?;
    for entity in &entities {
        memory.decisions(desk, entity)?;
        memory.ticks(desk, entity)?;
        memory.identity(desk, entity)?;
    }
    Ok(memory)
}

/// The last time that an entity was told; none if nothing of it has a deadline.
pub fn last_tick(desk: &mut Desk, entity: &str) -> Outcome<Option<i64>> {
    let name = topic::ticks(&desk.pipeline.name, entity);
    let bus = desk.bus.clone();
    let mut last: Option<i64> = None;
    topics::each(&bus, &name, |record| {
        if let Some(value) = record.value {
            last = last.max(Some(desk.read(&name, &value, Tick::decode)?.at_us));
        }
        Ok(())
    })?;
    Ok(last)
}

/// In the order in which they are read.
fn captured(desk: &Desk) -> Vec<String> {
    let mut depths: BTreeMap<String, usize> = BTreeMap::new();
    for link in desk.pipeline.links.iter().filter(|link| link.reads()) {
        let depth = depths.entry(capture_topic(desk, link)).or_default();
        *depth = (*depth).max(desk.pipeline.depth(&link.entity));
    }
    let mut topics: Vec<(usize, String)> = depths.into_iter().map(|(topic, depth)| (depth, topic)).collect();
    topics.sort();
    topics.into_iter().map(|(_, topic)| topic).collect()
}

fn capture_topic(desk: &Desk, link: &Link) -> String {
    let system = desk.pipeline.system(&link.system);
    let prefix = system.map_or(link.system.as_str(), |system| &system.topic_prefix);
    topic::capture(prefix, &link.schema, &link.table)
}

impl Memory {
    fn crosswalk(&mut self, desk: &mut Desk, entity: &str) -> Outcome<()> {
        let name = topic::crosswalk(&desk.pipeline.name, entity);
        let bus = desk.bus.clone();
        topics::each(&bus, &name, |record| {
            let key = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into_owned();
            if let Some(value) = record.value {
                let entry = desk.read(&name, &value, Crosswalk::decode)?;
                self.live.insert(key, entry);
            }
            Ok(())
        })
    }

    fn changes(&mut self, desk: &mut Desk, name: &str) -> Outcome<()> {
        let links = desk.pipeline.links.iter().filter(|link| link.reads());
        let links: Vec<Link> = links
            .filter(|link| capture_topic(desk, link) == name)
            .cloned()
            .collect();
        let bus = desk.bus.clone();
        topics::each(&bus, name, |record| {
            self.count()?;
            let Some(value) = &record.value else { return Ok(()) };
            match Change::read(&record, value, &desk.pipeline, &mut desk.schemas)? {
                Ok(None) => {}
                Ok(Some(change)) => {
                    for link in &links {
                        self.change(desk, link, &change.input(link));
                    }
                }
                Err(refusal) => {
                    for link in &links {
                        self.refuse(link, refusal.clone());
                    }
                }
            }
            Ok(())
        })
    }

    fn count(&mut self) -> Outcome<()> {
        self.records += 1;
        if self.records > self.records_max {
            let message = format!("the topics have more than {} records", self.records_max);
            return Err(Failure::definite("PLAN_MANY", message).hint("give --records-max and the memory for it"));
        }
        Ok(())
    }

    fn change(&mut self, desk: &Desk, link: &Link, input: &Input<'_>) {
        let Some(entity) = desk.pipeline.entity(&link.entity) else {
            return;
        };
        let mapped = match mapping::address(link, input) {
            Ok(Ok(address)) => {
                let references = self.references(desk, link, input);
                let known = self.known(link, &address, references);
                mapping::apply(link, entity, input, address, &known)
            }
            Ok(Err(_)) => return,
            Err(refusal) => Err(refusal),
        };
        match mapped {
            Ok(mapping) => self.take(link, mapping),
            Err(refusal) => self.refuse(link, refusal),
        }
    }

    fn known(&self, link: &Link, address: &Address, references: References) -> Known {
        let entry = |row| self.entry(&mapping::crosswalk_key(link, row));
        Known {
            row: entry(&address.row),
            was: address.was.as_ref().and_then(entry),
            references,
        }
    }

    fn entry(&self, key: &str) -> Option<Crosswalk> {
        let live = |entry: &Crosswalk| Crosswalk {
            left_at: None,
            ..entry.clone()
        };
        let known = self.live.get(key).filter(|entry| !entry.cid.is_empty());
        self.told.get(key).cloned().or_else(|| known.map(live))
    }

    /// What the row refers to; what nobody knows is left out, and counts for itself.
    fn references(&self, desk: &Desk, link: &Link, input: &Input<'_>) -> References {
        let mut references = References::default();
        for wanted in parents::wanted(link, &desk.pipeline.parents(link), input) {
            let entry = self.entry(&wanted.key);
            let cid = match parents::found(&wanted, entry.as_ref(), input, i64::MAX) {
                Found::Entity(cid) => Some(cid),
                Found::TooLate | Found::Nobody => None,
            };
            references.note(&wanted, cid);
        }
        references
    }

    fn take(&mut self, link: &Link, mapping: Mapping) {
        match mapping {
            Mapping::Said { mapped, crosswalk, .. } => {
                self.told.extend(crosswalk);
                self.said(&link.entity, &mapped);
            }
            Mapping::Left { key, entry, said } => {
                self.told.insert(key, entry);
                if let Some(said) = said {
                    self.said(&link.entity, &said);
                }
            }
            Mapping::Nothing(_) => {}
        }
    }

    fn said(&mut self, entity: &str, said: &Mapped) {
        let Some(described) = self.entities.get(entity) else {
            return;
        };
        let states = self.states.entry(entity.to_owned()).or_default();
        states.entry(said.cid.clone()).or_default().join(said, described);
    }

    fn refuse(&mut self, link: &Link, refusal: Refusal) {
        *self.refused.entry((link.name(), refusal.0)).or_default() += 1;
    }

    /// The marks that stand in the logs without a row.
    fn marks(&mut self, desk: &mut Desk) -> Outcome<()> {
        let systems = desk
            .pipeline
            .systems
            .iter()
            .filter(|system| system.capture == CapturedBy::Syncline);
        let systems: Vec<(String, String)> = systems
            .map(|system| (system.name.clone(), topic::marks(&system.topic_prefix)))
            .collect();
        let links = desk.pipeline.links.clone();
        let bus = desk.bus.clone();
        for (system, name) in systems {
            topics::each(&bus, &name, |record| {
                self.count()?;
                let Some(value) = record.value else { return Ok(()) };
                let MarkRecord::Placed(placed) = desk.read(&name, &value, MarkRecord::decode)? else {
                    return Ok(());
                };
                let mark = Mark::from_text(&placed.mark).ok();
                let Some(mark) = mark.filter(|mark| mark.pipeline == desk.pipeline.name) else {
                    return Ok(());
                };
                let mut reading = links.iter().filter(|link| link.reads() && link.system == system);
                if let Some(link) = reading.find(|link| is_of(&mark, link)) {
                    self.take(link, mapping::seen(&system, &placed, mark));
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// What time it is by the topic: no clock is asked, so that the same topics give the same answer.
    fn ticks(&mut self, desk: &mut Desk, entity: &str) -> Outcome<()> {
        let time_us = last_tick(desk, entity)?;
        for state in self.states.entry(entity.to_owned()).or_default().values_mut() {
            time_us.iter().for_each(|time_us| state.tick(*time_us));
        }
        Ok(())
    }

    /// Which records are one: each that is merged into another is handed to that one, as merge does.
    fn identity(&mut self, desk: &mut Desk, entity: &str) -> Outcome<()> {
        let mut register = Remembered::default();
        let mut moved: BTreeMap<String, (Option<String>, i64)> = BTreeMap::new();
        words::each(desk, entity, |offset, word| {
            for one in hear(&mut register, &word, offset)?.unwrap_or_default() {
                moved.insert(one.cid, (one.to, offset));
            }
            Ok(())
        })?;
        let states = self.states.entry(entity.to_owned()).or_default();
        for (cid, (to, at)) in moved {
            let Some(state) = states.get_mut(&cid) else { continue };
            state.move_to(to.clone(), at);
            let part = state.alone();
            if let Some(to) = to {
                states.entry(to).or_default().take_part(&cid, at, Some(part));
            }
        }
        Ok(())
    }

    fn decisions(&mut self, desk: &mut Desk, entity: &str) -> Outcome<()> {
        let name = topic::decisions(&desk.pipeline.name, entity);
        let bus = desk.bus.clone();
        let states = self.states.entry(entity.to_owned()).or_default();
        topics::each(&bus, &name, |record| {
            let Some(value) = record.value else { return Ok(()) };
            let decision = desk.read(&name, &value, Decision::decode)?;
            if let Some(state) = states.get_mut(&decision.cid) {
                state.decide(&decision, decision::position(record.offset));
            }
            Ok(())
        })
    }
}
