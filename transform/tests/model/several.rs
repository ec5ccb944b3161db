//! Several records of one entity, each with rows in the same apps; people merge and split them at any moment.
//!
//! As in the stages themselves, a row's words go to its own record, words on identity stand in one order, and what one
//! record sends another is read whenever the other's queue is.

use std::collections::{BTreeMap, VecDeque};

use syncline_schemas::canonical::Canonical;
use syncline_schemas::decision::{self, Decision};
use syncline_schemas::identity::{IdentityAct, IdentityWord};
use syncline_schemas::mapped::{FieldValue, Mapped, RowOp};
use syncline_schemas::mark::{Act, Mark};
use syncline_schemas::pipeline::Entity;
use syncline_schemas::position::{Lsn, Position};
use syncline_schemas::value::Value;
use syncline_transform::kin::{Remembered, hear};
use syncline_transform::merge::{EntityState, resolve};

use super::{App, Applied, Dice, Row};

/// What one record is sent by another, or by whoever hears the words on identity.
#[derive(Clone)]
enum Sent {
    Moved(Option<String>, i64),
    Part(String, i64, Option<Box<EntityState>>),
}

/// Merge, as far as it knows: states, and what is on its way between them.
#[derive(Default)]
struct Hub {
    states: BTreeMap<String, EntityState>,
    queues: BTreeMap<String, VecDeque<Sent>>,
    register: Remembered,
}

impl Hub {
    fn change(&mut self, cid: &str, change: impl FnOnce(&mut EntityState)) {
        let state = self.states.entry(cid.to_owned()).or_default();
        let before = state.clone();
        change(state);
        let after = state.clone();
        if before == after {
            return;
        }
        if let Some((to, at)) = after.merged_into() {
            self.send(to, Sent::Part(cid.to_owned(), at, Some(Box::new(after.alone()))));
        }
    }

    fn send(&mut self, to: &str, sent: Sent) {
        self.queues.entry(to.to_owned()).or_default().push_back(sent);
    }

    /// A word on identity is heard. Whether it holds.
    fn hear(&mut self, word: &IdentityWord, at: i64) -> bool {
        let Ok(moves) = hear(&mut self.register, word, at).unwrap() else {
            return false;
        };
        for one in moves {
            if let Some(from) = &one.from {
                self.send(from, Sent::Part(one.cid.clone(), at, None));
            }
            self.send(&one.cid, Sent::Moved(one.to, at));
        }
        true
    }

    /// The next that a record was sent is read. False if there is nothing.
    fn pump(&mut self, cid: &str) -> bool {
        let Some(sent) = self.queues.get_mut(cid).and_then(VecDeque::pop_front) else {
            return false;
        };
        match sent {
            Sent::Moved(to, at) => self.change(cid, |state| state.move_to(to, at)),
            Sent::Part(of, at, part) => self.change(cid, |state| state.take_part(&of, at, part.map(|part| *part))),
        }
        true
    }

    fn pump_all(&mut self) {
        loop {
            let cids: Vec<String> = self.queues.keys().cloned().collect();
            if cids.iter().filter(|cid| self.pump(cid)).count() == 0 {
                return;
            }
        }
    }
}

/// Records, their rows, and the hub.
pub struct Several {
    pub entity: Entity,
    pub authority: Vec<String>,
    pub cids: Vec<String>,
    /// By record, then by app: the row that the app has of it, and what the sink knows of that.
    pub rows: Vec<Vec<App>>,
    pub words: Vec<IdentityWord>,
    decisions: Vec<Vec<(Decision, Position)>>,
    hub: Hub,
    read: Vec<Vec<usize>>,
    /// By app: where its log is, for the rows of all records.
    lsns: Vec<u64>,
    now_us: i64,
}

impl Several {
    pub fn new(names: &[&'static str], records: usize, entity: Entity) -> Self {
        let app = |name: &&'static str, record: usize| App {
            name,
            row: None,
            log: Vec::new(),
            skew_us: 0,
            writes: 0,
            incarnation: record * 1_000,
            applied: Applied::default(),
            lsn: 100,
            groups: entity.groups.iter().map(|group| group.fields.clone()).collect(),
            only_read: BTreeMap::new(),
        };
        Self {
            authority: names.iter().map(|name| (*name).to_owned()).collect(),
            cids: (0..records).map(|record| format!("c{record}")).collect(),
            rows: (0..records)
                .map(|record| names.iter().map(|name| app(name, record)).collect())
                .collect(),
            words: Vec::new(),
            decisions: vec![Vec::new(); records],
            hub: Hub::default(),
            read: vec![vec![0; names.len()]; records],
            lsns: vec![100; names.len()],
            now_us: 1_000_000_000,
            entity,
        }
    }

    pub fn insert(&mut self, record: usize, app: usize, row: Row) {
        self.rows[record][app].row = Some(row);
        self.rows[record][app].incarnation += 1;
        self.log(record, app, RowOp::Present, None);
    }

    pub fn edit(&mut self, record: usize, app: usize, field: &str, value: Value) {
        let Some(row) = &mut self.rows[record][app].row else {
            return;
        };
        if row.insert(field.to_owned(), value.clone()) != Some(value) {
            self.log(record, app, RowOp::Present, None);
        }
    }

    pub fn delete(&mut self, record: usize, app: usize) {
        if self.rows[record][app].row.take().is_some() {
            self.log(record, app, RowOp::Deleted, None);
        }
    }

    fn log(&mut self, record: usize, app: usize, op: RowOp, mark: Option<Mark>) {
        self.now_us += 1_000_000;
        self.lsns[app] += 10;
        let row = &mut self.rows[record][app];
        row.lsn = self.lsns[app];
        let fields = row.row.iter().flatten().map(|(name, value)| FieldValue {
            name: name.clone(),
            value: value.clone(),
        });
        let fields = fields.filter(|_| op == RowOp::Present).collect();
        row.log.push(Mapped {
            cid: self.cids[record].clone(),
            source: row.name.to_owned(),
            row: row.key(),
            was: None,
            position: Position::new(1, Lsn(row.lsn), 0),
            commit_us: self.now_us,
            op,
            fields,
            before: Vec::new(),
            mark,
            ahead: false,
        });
    }

    /// Somebody says something of two records. Whether it holds.
    pub fn say(&mut self, act: IdentityAct, loser: usize, winner: Option<usize>) -> bool {
        let word = IdentityWord {
            act,
            loser: self.cids[loser].clone(),
            winner: winner.map(|winner| self.cids[winner].clone()),
            by: "ada".to_owned(),
            why: "called".to_owned(),
            at_us: self.now_us,
        };
        let at = i64::try_from(self.words.len()).unwrap();
        self.words.push(word.clone());
        self.hub.hear(&word, at)
    }

    /// Somebody decides a field, knowing the agreed record.
    pub fn decide(&mut self, record: usize, field: &str, value: Value) {
        let Some(agreed) = self.agreed(record) else { return };
        self.now_us += 1_000_000;
        let decision = Decision {
            cid: self.cids[record].clone(),
            field: field.to_owned(),
            value,
            answers: agreed.vector,
            by: "finance".to_owned(),
            why: "called".to_owned(),
            at_us: self.now_us,
            approves: None,
        };
        let said = &mut self.decisions[record];
        let position = decision::position(i64::try_from(said.len()).unwrap());
        said.push((decision.clone(), position));
        let cid = self.cids[record].clone();
        self.hub.change(&cid, |state| state.decide(&decision, position));
    }

    /// The hub reads up to `count` more changes of a row.
    pub fn read(&mut self, record: usize, app: usize, count: usize) {
        let from = self.read[record][app];
        let to = from.saturating_add(count).min(self.rows[record][app].log.len());
        for said in &self.rows[record][app].log[from..to] {
            self.hub
                .change(&self.cids[record], |state| state.join(said, &self.entity));
        }
        self.read[record][app] = to;
    }

    /// A record reads the next that it was sent.
    pub fn pump(&mut self, record: usize) {
        self.hub.pump(&self.cids[record]);
    }

    /// What is agreed of a record now.
    pub fn agreed(&self, record: usize) -> Option<Canonical> {
        let cid = &self.cids[record];
        let state = self.hub.states.get(cid)?;
        resolve(cid, state, &self.entity, &self.authority).canonical
    }

    fn index(&self, cid: &str) -> usize {
        self.cids.iter().position(|other| other == cid).unwrap()
    }

    /// The sink of an app works on the agreed record of `record`. True if it left anything in the app's log.
    pub fn deliver(&mut self, record: usize, app: usize) -> bool {
        let Some(agreed) = self
            .agreed(record)
            .filter(|agreed| agreed.identity.merged_into.is_none())
        else {
            return false;
        };
        let name = self.rows[record][app].name;
        let has_row = |cid: &str| self.rows[self.index(cid)][app].is_known();
        let told = |cid: &str| {
            let via = Some(cid).filter(|cid| *cid != agreed.cid);
            agreed.app_via(name, via).is_some()
        };
        let all = std::iter::once(agreed.cid.as_str()).chain(agreed.joined());
        let mut books: Vec<usize> = all
            .filter(|cid| told(cid) || has_row(cid))
            .map(|cid| self.index(cid))
            .collect();
        if books.is_empty() {
            books.push(record);
        }
        let left: Vec<bool> = books
            .into_iter()
            .map(|book| self.deliver_to(&agreed, book, app))
            .collect();
        left.contains(&true)
    }

    fn deliver_to(&mut self, agreed: &Canonical, book: usize, app: usize) -> bool {
        let seen = agreed.through(&self.cids[book]).unwrap_or_else(|| agreed.clone());
        let Some((act, fields)) = self.rows[book][app].plan(&seen) else {
            return false;
        };
        let mark = Mark {
            pipeline: "p".to_owned(),
            entity: "customer".to_owned(),
            cid: seen.cid.clone(),
            table: "public.t".to_owned(),
            row: None,
            act,
            vector: seen.vector.clone(),
            stamp_us: seen.stamp_us,
            fields,
        };
        let op = match act {
            Act::Seen => RowOp::Seen,
            Act::Delete => RowOp::Deleted,
            Act::Insert | Act::Restore | Act::Update => RowOp::Present,
        };
        self.log(book, app, op, Some(mark));
        true
    }

    fn places(&self) -> Vec<(usize, usize)> {
        let apps = self.authority.len();
        (0..self.cids.len())
            .flat_map(|record| (0..apps).map(move |app| (record, app)))
            .collect()
    }

    /// Reads all that is there.
    pub fn catch_up(&mut self) {
        for (record, app) in self.places() {
            self.read(record, app, usize::MAX);
        }
        self.hub.pump_all();
    }

    /// Reads and delivers until nothing moves any more. False if it never comes to rest.
    pub fn settle(&mut self) -> bool {
        for _ in 0..60 {
            self.catch_up();
            let places = self.places();
            let moved = places.into_iter().filter(|(record, app)| self.deliver(*record, *app));
            if moved.count() == 0 {
                return true;
            }
        }
        false
    }

    /// What is agreed of every record.
    pub fn all(&self) -> Vec<Option<Canonical>> {
        (0..self.cids.len()).map(|record| self.agreed(record)).collect()
    }

    /// The same, made from the logs anew: read in any order, with repetitions, the words on identity anywhere between.
    pub fn replayed(&self, dice: &mut Dice) -> Vec<Option<Canonical>> {
        let mut hub = Hub::default();
        let mut next = vec![vec![0; self.authority.len()]; self.cids.len()];
        let mut words = 0;
        let places = self.places();
        let left = |next: &Vec<Vec<usize>>| {
            let unread = |&&(record, app): &&(usize, usize)| next[record][app] < self.rows[record][app].log.len();
            places.iter().filter(unread).count()
        };
        let decided = |hub: &mut Hub| {
            for (cid, said) in self.cids.iter().zip(&self.decisions) {
                for (decision, position) in said {
                    hub.change(cid, |state| state.decide(decision, *position));
                }
            }
        };
        if dice.below(2) == 0 {
            decided(&mut hub);
        }
        while left(&next) > 0 || words < self.words.len() {
            if words < self.words.len() && dice.below(6) == 0 {
                hub.hear(&self.words[words], i64::try_from(words).unwrap());
                words += 1;
            }
            let (record, app) = places[dice.below(places.len())];
            let log = &self.rows[record][app].log;
            let at = &mut next[record][app];
            if *at < log.len() {
                hub.change(&self.cids[record], |state| state.join(&log[*at], &self.entity));
                *at += 1;
            }
            if *at > 0 && dice.below(5) == 0 {
                *at -= 1;
            }
            if dice.below(3) == 0 {
                hub.pump(&self.cids[record]);
            }
        }
        decided(&mut hub);
        hub.pump_all();
        let agreed = |cid: &String| {
            let state = hub.states.get(cid)?;
            resolve(cid, state, &self.entity, &self.authority).canonical
        };
        self.cids.iter().map(agreed).collect()
    }

    /// What would be agreed of a record if no word on identity had ever been said, after what its rows have said.
    pub fn alone(&self, record: usize) -> Option<Canonical> {
        let mut state = EntityState::default();
        for said in self.rows[record].iter().flat_map(|app| &app.log) {
            state.join(said, &self.entity);
        }
        for (decision, position) in &self.decisions[record] {
            state.decide(decision, *position);
        }
        resolve(&self.cids[record], &state, &self.entity, &self.authority).canonical
    }
}
