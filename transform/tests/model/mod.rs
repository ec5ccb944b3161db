//! An executable model of the whole: three apps with their logs, the hub (the real merge), and sinks that follow the
//! rules of delivery, each at its own pace. Small enough to run ten thousand histories in seconds.

use std::collections::BTreeMap;

use syncline_schemas::canonical::{AppWords, Canonical};
use syncline_schemas::conflict::Conflict;
use syncline_schemas::decision::Decision;
use syncline_schemas::mapped::{FieldValue, Mapped, RowKey, RowOp};
use syncline_schemas::mark::{Act, Mark, MarkedField};
use syncline_schemas::pipeline::{DeletePolicy, Entity, Field, FieldKind, Group, RuleRef, Strategy, Terms};
use syncline_schemas::position::{Lsn, Position, Vector};
use syncline_schemas::value::{Number, Value};
use syncline_transform::merge::{EntityState, published, resolve};

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

/// What the sink of an app keeps beside the app's data.
#[derive(Clone, Debug, Default)]
struct Applied {
    vector: Option<Vector>,
    fields: BTreeMap<String, Written>,
    counters: BTreeMap<String, Number>,
    /// The key of the row that was written or seen.
    row: Option<RowKey>,
    /// The key of the row we made; where the app made it otherwise.
    key: Option<RowKey>,
    made: Option<Position>,
    deleted: bool,
}

#[derive(Clone, Debug)]
struct Written {
    word: Option<Position>,
    value: Value,
    vector: Vector,
}

/// What is done with a field; a group is as its heaviest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Weight {
    Same,
    Tell,
    Write,
    Stale,
}

/// An app: its row, its log, its clock, and the bookkeeping of the sink that writes to it.
#[derive(Clone, Debug)]
pub struct App {
    pub name: &'static str,
    pub row: Option<Row>,
    pub log: Vec<Mapped>,
    /// By how much its clock is wrong, in microseconds.
    pub skew_us: i64,
    /// Writes of the sink that changed the row.
    pub writes: usize,
    incarnation: usize,
    applied: Applied,
    lsn: u64,
    /// Fields that are written and left alone together.
    groups: Vec<Vec<String>>,
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
    read: Vec<usize>,
    now_us: i64,
}

pub const CID: &str = "c1";

pub fn entity(fields: &[(&str, Strategy)], on_delete: DeletePolicy) -> Entity {
    Entity {
        name: "customer".to_owned(),
        version: 1,
        schema_json: String::new(),
        fields: fields.iter().map(|(name, strategy)| field(name, strategy)).collect(),
        groups: Vec::new(),
        match_on: Vec::new(),
        on_delete: BTreeMap::new(),
        default_delete: on_delete,
        rules: "0".repeat(16),
    }
}

/// Fields that win together.
pub fn group(name: &str, fields: &[&str], strategy: Strategy) -> Group {
    Group {
        name: name.to_owned(),
        fields: fields.iter().map(|field| (*field).to_owned()).collect(),
        strategy,
        terms: Terms::default(),
        rule: RuleRef::default(),
    }
}

/// The terms of a field.
pub fn terms<'e>(entity: &'e mut Entity, field: &str) -> &'e mut Terms {
    let found = entity.fields.iter_mut().find(|other| other.name == field);
    &mut found.unwrap().terms
}

fn field(name: &str, strategy: &Strategy) -> Field {
    Field {
        name: name.to_owned(),
        kind: FieldKind::Text,
        nullable: true,
        strategy: strategy.clone(),
        terms: Terms::default(),
        rule: RuleRef {
            file: "test.yaml".to_owned(),
            line: 1,
        },
    }
}

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
            read: vec![0; names.len()],
            now_us: 1_000_000_000,
        }
    }

    /// The app makes its row, or it was there when first read.
    pub fn insert(&mut self, app: usize, row: Row) {
        self.apps[app].row = Some(row);
        self.apps[app].incarnation += 1;
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

    /// A person decides, knowing the agreed record.
    pub fn decide(&mut self, field: &str, value: Value) {
        let Some(record) = &self.canonical else { return };
        self.now_us += 1_000_000;
        let decision = Decision {
            cid: CID.to_owned(),
            field: field.to_owned(),
            value,
            answers: record.vector.clone(),
            by: "finance".to_owned(),
            why: "agreed by phone".to_owned(),
            at_us: self.now_us,
        };
        let offset = u64::try_from(self.decisions.len()).unwrap();
        let position = Position::new(0, Lsn(offset), 0);
        let before = self.state.clone();
        self.state.decide(&decision, position);
        self.decisions.push((decision, position));
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
        }
        self.decisions
            .iter()
            .for_each(|(decision, position)| state.decide(decision, *position));
        resolve(CID, &state, &self.entity, &self.authority).canonical
    }
}

impl App {
    /// The rules of delivery: compare-and-set by field, counters by what was ever delivered.
    fn plan(&mut self, record: &Canonical) -> Option<(Act, Vec<MarkedField>)> {
        if self
            .applied
            .vector
            .as_ref()
            .is_some_and(|applied| !record.vector.dominates(applied))
        {
            return None;
        }
        let words = record.app(self.name);
        let known = words.is_some() || self.applied.key.is_some();
        let made = words.and_then(|words| words.made);
        let covers = |made: Position| {
            let vector = self.applied.vector.as_ref();
            vector.is_some_and(|vector| vector.covers(self.name, made))
        };
        let same = self.applied.row.as_ref() == words.map(|words| &words.row);
        if made.is_some_and(|made| self.applied.made != Some(made) && !(same && covers(made))) {
            self.applied = Applied {
                made,
                vector: self.applied.vector.take(),
                key: self.applied.key.take(),
                ..Applied::default()
            };
        }
        let address = words
            .map(|words| words.row.clone())
            .or_else(|| self.applied.key.clone());
        if self.row.is_some() && address != Some(self.key()) {
            return None; // another row than the one the hub knows of
        }
        let gone = words.is_some_and(|words| words.gone);
        let anew = !known || self.applied.deleted || words.is_some_and(|words| words.remake);
        let plan = match (&self.row, record.deleted) {
            (Some(row), true) if !gone && self.is_untouched(record, row) => Some(self.remove()),
            (None, false) if !gone && anew => Some(self.make(record)),
            (Some(_), false) if !gone => self.update(record),
            (Some(_), _) | (None, _) => None,
        };
        self.applied.vector = Some(record.vector.clone());
        self.applied.row = Some(self.key());
        plan
    }

    /// The key of the row, another for each that the app makes.
    fn key(&self) -> RowKey {
        RowKey(format!("{{\"id\":\"{}{}\"}}", self.name, self.incarnation))
    }

    fn remove(&mut self) -> (Act, Vec<MarkedField>) {
        self.row = None;
        self.writes += 1;
        self.applied = Applied {
            deleted: true,
            made: self.applied.made,
            vector: self.applied.vector.take(),
            ..Applied::default()
        };
        (Act::Delete, Vec::new())
    }

    fn make(&mut self, record: &Canonical) -> (Act, Vec<MarkedField>) {
        self.writes += 1;
        self.applied.deleted = false;
        self.applied.key = Some(self.key());
        self.applied.made = None;
        self.row = Some(BTreeMap::new());
        let mut marked = Vec::new();
        for (name, value) in &record.fields {
            if record.held.contains(name) {
                let own = record
                    .app(self.name)
                    .and_then(|words| words.word(name))
                    .map(|word| word.value.clone());
                self.write(record, name, own.unwrap_or_default());
                continue;
            }
            let counter = record.counters.contains(name);
            let delivered = match value {
                Value::Number(number) if counter => Some(number.clone()),
                _ => None,
            };
            self.write(record, name, value.clone());
            if let Some(delivered) = &delivered {
                self.applied.counters.insert(name.clone(), delivered.clone());
            }
            marked.push(MarkedField {
                name: name.clone(),
                value: (!counter).then(|| value.clone()),
                delivered,
            });
        }
        let restores = record.app(self.name).is_some_and(AppWords::hold);
        (if restores { Act::Restore } else { Act::Insert }, marked)
    }

    fn write(&mut self, record: &Canonical, name: &str, value: Value) {
        let word = record
            .app(self.name)
            .and_then(|words| words.word(name))
            .map(|word| word.position);
        let written = Written {
            word,
            value: value.clone(),
            vector: record.vector.clone(),
        };
        self.applied.fields.insert(name.to_owned(), written);
        self.row.get_or_insert_default().insert(name.to_owned(), value);
    }

    fn update(&mut self, record: &Canonical) -> Option<(Act, Vec<MarkedField>)> {
        let before = self.row.clone();
        let due: Vec<(&String, &Value)> = record
            .fields
            .iter()
            .filter(|(name, _)| !record.held.contains(name))
            .collect();
        let weights: BTreeMap<&String, Weight> = due
            .iter()
            .map(|(name, value)| (*name, self.weigh(record, name, value)))
            .collect();
        let together = |name: &String| {
            let group = self.groups.iter().find(|group| group.contains(name));
            let others = group.into_iter().flatten().filter_map(|other| weights.get(other));
            others.copied().max().unwrap_or(weights[name])
        };
        let weighed: Vec<(&String, &Value, Weight)> = due
            .iter()
            .map(|(name, value)| (*name, *value, together(name)))
            .collect();
        let mut marked = Vec::new();
        for (name, value, weight) in weighed {
            if record.counters.contains(name) {
                marked.extend(self.add(record, name, value));
            } else if matches!(weight, Weight::Tell | Weight::Write) {
                self.write(record, name, value.clone());
                marked.push(MarkedField {
                    name: name.clone(),
                    value: Some(value.clone()),
                    delivered: None,
                });
            }
        }
        let changed = before != self.row;
        self.writes += usize::from(changed);
        (!marked.is_empty()).then_some((if changed { Act::Update } else { Act::Seen }, marked))
    }

    fn add(&mut self, record: &Canonical, name: &str, target: &Value) -> Option<MarkedField> {
        let Value::Number(target) = target else { return None };
        let own = record
            .app(self.name)
            .and_then(|words| words.word(name))
            .and_then(|word| word.own.clone());
        let due = target - &own.unwrap_or_else(Number::zero);
        let before = self.applied.counters.get(name).cloned().unwrap_or_else(Number::zero);
        if due == before {
            return None;
        }
        let row = self.row.as_mut()?;
        let sum = match row.get(name) {
            Some(Value::Number(now)) => now + &(&due - &before),
            // Somebody emptied it: the row then holds what was delivered and nothing else.
            _ => due.clone(),
        };
        row.insert(name.to_owned(), Value::Number(sum));
        self.applied.counters.insert(name.to_owned(), due.clone());
        Some(MarkedField {
            name: name.to_owned(),
            value: None,
            delivered: Some(due),
        })
    }

    /// What becomes of a field that is replaced.
    fn weigh(&self, record: &Canonical, name: &str, target: &Value) -> Weight {
        let current = self
            .row
            .as_ref()
            .and_then(|row| row.get(name))
            .cloned()
            .unwrap_or_default();
        let word = record.app(self.name).and_then(|words| words.word(name));
        let written = self.applied.fields.get(name);
        if current == *target {
            let told = |unseen: &Vector| written.is_some_and(|written| written.vector.dominates(unseen));
            let tell = word.is_some_and(|word| !word.unseen.is_empty() && !told(&word.unseen));
            return if tell { Weight::Tell } else { Weight::Same };
        }
        if self.is_expected(record, name, &current) {
            Weight::Write
        } else {
            Weight::Stale
        }
    }

    /// Whether `current` is what the app must hold if nobody edited it since the words in the record.
    fn is_expected(&self, record: &Canonical, name: &str, current: &Value) -> bool {
        let word = record.app(self.name).and_then(|words| words.word(name));
        let written = self.applied.fields.get(name);
        // Where our last write still stands nobody has edited since, whatever the words say (an edit there and back).
        let ours = written.is_some_and(|written| written.value == *current);
        let known = word.filter(|word| written.is_none_or(|written| Some(word.position) > written.word));
        let theirs = known.is_some_and(|word| word.value == *current);
        ours || theirs || (word.is_none() && written.is_none())
    }

    /// Whether nobody edited the row since the words in the record.
    fn is_untouched(&self, record: &Canonical, row: &Row) -> bool {
        row.iter().all(|(name, current)| {
            if !record.counters.contains(name) {
                return self.is_expected(record, name, current);
            }
            let own = record
                .app(self.name)
                .and_then(|words| words.word(name))
                .and_then(|word| word.own.clone());
            let delivered = self.applied.counters.get(name).cloned().unwrap_or_else(Number::zero);
            *current == Value::Number(&own.unwrap_or_else(Number::zero) + &delivered)
        })
    }
}
