//! An executable model of the whole: three apps with their logs, the hub (the real merge), and sinks that follow the
//! rules of delivery, each at its own pace. Small enough to run ten thousand histories in seconds.

use std::collections::BTreeMap;

use syncline_schemas::canonical::Canonical;
use syncline_schemas::conflict::Conflict;
use syncline_schemas::decision::{self, Decision};
use syncline_schemas::mapped::{FieldValue, Mapped, RowOp};
use syncline_schemas::mark::{Act, Mark};
use syncline_schemas::pipeline::Entity;
use syncline_schemas::position::{Lsn, Position};
use syncline_schemas::value::Value;
use syncline_transform::merge::{EntityState, published, resolve};

mod app;
mod file;
mod several;

pub use app::App;
use app::Applied;
pub use file::{check, entity, field, group, rule, terms};
pub use several::Several;

pub type Row = BTreeMap<String, Value>;

/// A generator of random numbers that a seed repeats (xorshift64*).
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(high).unwrap() % bound
    }
}

/// The apps, the hub, and how far the hub has read each log.
pub struct World {
    pub apps: Vec<App>,
    pub entity: Entity,
    pub authority: Vec<String>,
    pub state: EntityState,
    pub canonical: Option<Canonical>,
    /// Agreed records published so far.
    pub records: usize,
    /// Conflicts published so far.
    pub conflicts: Vec<Conflict>,
    /// People's words, in the order of their topic.
    pub decisions: Vec<(Decision, Position)>,
    /// What time it was told to be.
    pub ticks: Vec<i64>,
    read: Vec<usize>,
    now_us: i64,
}

pub const CID: &str = "c1";

impl World {
    pub fn new(names: &[&'static str], entity: Entity, skews_us: &[i64]) -> Self {
        let app = |(index, name): (usize, &&'static str)| App {
            name,
            row: None,
            log: Vec::new(),
            skew_us: skews_us.get(index).copied().unwrap_or_default(),
            writes: 0,
            incarnation: 0,
            applied: Applied::default(),
            lsn: 100,
            groups: entity.groups.iter().map(|group| group.fields.clone()).collect(),
            only_read: BTreeMap::new(),
        };
        Self {
            apps: names.iter().enumerate().map(app).collect(),
            entity,
            authority: names.iter().map(|name| (*name).to_owned()).collect(),
            state: EntityState::default(),
            canonical: None,
            records: 0,
            conflicts: Vec::new(),
            decisions: Vec::new(),
            ticks: Vec::new(),
            read: vec![0; names.len()],
            // Long enough after 1970 for clocks that are hours off.
            now_us: 1_000_000_000_000,
        }
    }

    /// The app makes its row, or it was there when first read.
    pub fn insert(&mut self, app: usize, row: Row) {
        self.apps[app].incarnation += 1;
        self.insert_with_its_key(app, row);
    }

    /// The app makes its row anew, with the key that the last one had.
    pub fn insert_with_its_key(&mut self, app: usize, row: Row) {
        self.apps[app].row = Some(row);
        self.log(app, RowOp::Present, None);
    }

    /// A user of the app sets a field.
    pub fn edit(&mut self, app: usize, field: &str, value: Value) {
        let Some(row) = &mut self.apps[app].row else { return };
        if row.insert(field.to_owned(), value.clone()) != Some(value) {
            self.log(app, RowOp::Present, None);
        }
    }

    /// A user of the app deletes the row.
    pub fn delete(&mut self, app: usize) {
        if self.apps[app].row.take().is_some() {
            self.log(app, RowOp::Deleted, None);
        }
    }

    /// A user of the app gives the row another key, and changes nothing else.
    pub fn move_row(&mut self, app: usize) {
        if self.apps[app].row.is_none() {
            return;
        }
        let was = self.apps[app].key();
        self.apps[app].incarnation += 1;
        self.log(app, RowOp::Present, None);
        self.apps[app].log.last_mut().unwrap().was = Some(was);
    }

    fn log(&mut self, app: usize, op: RowOp, mark: Option<Mark>) {
        self.now_us += 1_000_000;
        let app = &mut self.apps[app];
        app.lsn += 10;
        let row = app.row.iter().flatten();
        let fields = row.map(|(name, value)| FieldValue {
            name: name.clone(),
            value: value.clone(),
        });
        app.log.push(Mapped {
            cid: CID.to_owned(),
            source: app.name.to_owned(),
            row: app.key(),
            was: None,
            position: Position::new(1, Lsn(app.lsn), 0),
            commit_us: self.now_us + app.skew_us,
            op,
            fields: if op == RowOp::Present {
                fields.collect()
            } else {
                Vec::new()
            },
            before: Vec::new(),
            mark,
            ahead: false,
        });
    }

    /// The hub reads up to `count` more changes of an app.
    pub fn read(&mut self, app: usize, count: usize) {
        let before = self.state.clone();
        let from = self.read[app];
        let to = from.saturating_add(count).min(self.apps[app].log.len());
        for said in &self.apps[app].log[from..to] {
            self.state.join(said, &self.entity);
        }
        self.read[app] = to;
        // As if merge had been started anew: what it kept is what it knew.
        let kept = EntityState::from_bytes(&self.state.to_bytes());
        assert_eq!(kept.as_ref(), Ok(&self.state));
        self.publish(&before);
    }

    fn publish(&mut self, before: &EntityState) {
        let outputs = published(CID, before, &self.state, &self.entity, &self.authority);
        self.conflicts.extend(outputs.conflicts);
        if let Some(canonical) = outputs.canonical {
            self.records += 1;
            self.canonical = Some(canonical);
        }
    }

    /// Somebody decides, knowing the agreed record.
    pub fn decide(&mut self, field: &str, value: Value) {
        self.decide_by("finance", field, value);
    }

    /// This person decides, knowing the agreed record.
    pub fn decide_by(&mut self, by: &str, field: &str, value: Value) {
        let Some(record) = &self.canonical else { return };
        let decision = Decision {
            cid: CID.to_owned(),
            field: field.to_owned(),
            value,
            answers: record.vector.clone(),
            by: by.to_owned(),
            why: "agreed by phone".to_owned(),
            at_us: 0,
            approves: None,
        };
        self.say(decision);
    }

    /// This person approves a decision, by its offset.
    pub fn approve(&mut self, by: &str, offset: usize) {
        let (decision, _) = self.decisions[offset].clone();
        self.say(Decision {
            by: by.to_owned(),
            approves: Some(i64::try_from(offset).unwrap()),
            ..decision
        });
    }

    fn say(&mut self, mut decision: Decision) {
        self.now_us += 1_000_000;
        decision.at_us = self.now_us;
        let position = decision::position(i64::try_from(self.decisions.len()).unwrap());
        let before = self.state.clone();
        self.state.decide(&decision, position);
        self.decisions.push((decision, position));
        self.publish(&before);
    }

    /// Time passes, and the hub is told.
    pub fn tick(&mut self, passes_us: i64) {
        self.now_us += passes_us;
        let before = self.state.clone();
        self.state.tick(self.now_us);
        self.ticks.push(self.now_us);
        self.publish(&before);
    }

    /// The sink of an app works on the latest agreed record. True if it left anything in the app's log.
    pub fn deliver(&mut self, app: usize) -> bool {
        let Some(record) = self.canonical.clone() else {
            return false;
        };
        let plan = self.apps[app].plan(&record);
        let Some((act, fields)) = plan else { return false };
        let mark = Mark {
            pipeline: "p".to_owned(),
            entity: "customer".to_owned(),
            cid: CID.to_owned(),
            table: "public.t".to_owned(),
            row: None,
            act,
            vector: record.vector.clone(),
            stamp_us: record.stamp_us,
            fields,
        };
        let op = match act {
            Act::Seen => RowOp::Seen,
            Act::Delete => RowOp::Deleted,
            Act::Insert | Act::Restore | Act::Update => RowOp::Present,
        };
        self.log(app, op, Some(mark));
        true
    }

    /// Reads and delivers until nothing moves any more. False if it never comes to rest.
    pub fn settle(&mut self) -> bool {
        for _ in 0..60 {
            (0..self.apps.len()).for_each(|app| self.read(app, usize::MAX));
            let moved = (0..self.apps.len()).filter(|app| self.deliver(*app)).count();
            if moved == 0 {
                return true;
            }
        }
        false
    }

    /// The agreed record of every order in which the logs can be read.
    pub fn in_every_order(&self, check: &mut impl FnMut(Option<Canonical>)) {
        let mut state = EntityState::default();
        self.decisions
            .iter()
            .for_each(|(decision, position)| state.decide(decision, *position));
        self.ticks.iter().for_each(|at_us| state.tick(*at_us));
        self.orders(&state, &mut vec![0; self.apps.len()], check);
    }

    fn orders(&self, state: &EntityState, next: &mut Vec<usize>, check: &mut impl FnMut(Option<Canonical>)) {
        let open: Vec<usize> = (0..self.apps.len())
            .filter(|&app| next[app] < self.apps[app].log.len())
            .collect();
        if open.is_empty() {
            check(resolve(CID, state, &self.entity, &self.authority).canonical);
        }
        for app in open {
            let mut state = state.clone();
            state.join(&self.apps[app].log[next[app]], &self.entity);
            next[app] += 1;
            self.orders(&state, next, check);
            next[app] -= 1;
        }
    }

    /// The agreed record made from logs whose marks without a row are read any time after what they stand before.
    pub fn with_late_marks(&self, dice: &mut Dice) -> Option<Canonical> {
        let mut state = EntityState::default();
        let mut late = Vec::new();
        for said in self.apps.iter().flat_map(|app| &app.log) {
            match said.op {
                RowOp::Seen => late.push(said),
                RowOp::Present | RowOp::Deleted => state.join(said, &self.entity),
            }
            if !late.is_empty() && dice.below(3) == 0 {
                state.join(late.remove(0), &self.entity);
            }
        }
        late.into_iter().for_each(|said| state.join(said, &self.entity));
        self.ticks.iter().for_each(|at_us| state.tick(*at_us));
        self.decisions
            .iter()
            .for_each(|(decision, position)| state.decide(decision, *position));
        resolve(CID, &state, &self.entity, &self.authority).canonical
    }

    /// The agreed record made from people's words in any order, with repetitions.
    pub fn with_words_in_disorder(&self, dice: &mut Dice) -> Option<Canonical> {
        let mut state = EntityState::default();
        let mut left: Vec<usize> = (0..self.decisions.len()).collect();
        while !left.is_empty() {
            let (decision, position) = &self.decisions[left.swap_remove(dice.below(left.len()))];
            state.decide(decision, *position);
            let (decision, position) = &self.decisions[dice.below(self.decisions.len())];
            state.decide(decision, *position);
        }
        for said in self.apps.iter().flat_map(|app| &app.log) {
            state.join(said, &self.entity);
        }
        self.ticks.iter().for_each(|at_us| state.tick(*at_us));
        resolve(CID, &state, &self.entity, &self.authority).canonical
    }

    /// The agreed record made from all logs read in another order, without repetitions: map leaves out what is repeated
    /// of a key that its row has left.
    pub fn read_once(&self, dice: &mut Dice) -> Option<Canonical> {
        let mut state = EntityState::default();
        let mut next = vec![0; self.apps.len()];
        while (0..self.apps.len()).any(|app| next[app] < self.apps[app].log.len()) {
            let app = dice.below(self.apps.len());
            if let Some(said) = self.apps[app].log.get(next[app]) {
                state.join(said, &self.entity);
                next[app] += 1;
            }
        }
        self.ticks.iter().for_each(|at_us| state.tick(*at_us));
        self.decisions
            .iter()
            .for_each(|(decision, position)| state.decide(decision, *position));
        resolve(CID, &state, &self.entity, &self.authority).canonical
    }

    /// The agreed record made from all logs read in another order, with repetitions.
    pub fn replayed(&self, dice: &mut Dice) -> Option<Canonical> {
        let mut state = EntityState::default();
        let mut next = vec![0; self.apps.len()];
        let early = dice.below(self.decisions.len() + 1);
        self.decisions[..early]
            .iter()
            .for_each(|(decision, position)| state.decide(decision, *position));
        while (0..self.apps.len()).any(|app| next[app] < self.apps[app].log.len()) {
            let app = dice.below(self.apps.len());
            let log = &self.apps[app].log;
            if next[app] < log.len() {
                state.join(&log[next[app]], &self.entity);
                next[app] += 1;
            }
            if next[app] > 0 && dice.below(4) == 0 {
                next[app] -= dice.below(next[app].min(3) + 1);
            }
            if !self.ticks.is_empty() && dice.below(4) == 0 {
                state.tick(self.ticks[dice.below(self.ticks.len())]);
            }
        }
        self.ticks.iter().rev().for_each(|at_us| state.tick(*at_us));
        self.decisions
            .iter()
            .for_each(|(decision, position)| state.decide(decision, *position));
        resolve(CID, &state, &self.entity, &self.authority).canonical
    }
}
