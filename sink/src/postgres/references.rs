//! Fields that refer to rows of another entity in the same target: agreed is the parent's entity id, the target's column
//! holds the key of the parent's row *there*.
//!
//! The whole record is brought into the target's terms before it is planned, its own app's words with it, so that planning
//! compares keys with keys and knows nothing of references; only the mark says again what was agreed. Which row is the
//! parent's is known of what this transaction has written, else of the books, and the table is asked whether it is there. A
//! parent that was merged with others may have no row of its own, and has theirs ([`super::merged`]).
//!
//! A record whose parent is not there waits, in the target's books, and holds up nobody: the parent may come behind it in the
//! same partition, or by another instance. Within a batch parents are written before their children, and deleted after them;
//! a parent that children in the target refer to is not deleted there.

use std::collections::{BTreeMap, BTreeSet};

use syncline_runtime::Outcome;
use syncline_schemas::canonical::{AppWords, Canonical};
use syncline_schemas::lens;
use syncline_schemas::mapped::RowKey;
use syncline_schemas::pipeline::{FieldKind, Link, Parent, Pipeline};
use syncline_schemas::value::Value;

use super::books::Owner;
use super::link_table::LinkTable;
use super::session::Session;
use super::statement;
use super::waiting::Wait;
use crate::lane::main_schedule;
use crate::plan::{Applied, Plan, Write};

/// How the links of a target refer to each other, by the place of the link.
pub type Referring = Vec<Refers>;

/// How one link refers to others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refers {
    /// Its fields that refer.
    pub fields: Vec<Field>,
    /// How many parents may have to be written before one of its rows.
    pub depth: usize,
    /// The links that refer to it, and the column in which.
    pub children: Vec<(usize, String)>,
}

/// A field that refers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// The parent's link.
    pub parent: usize,
    /// The key column of the parent's table.
    pub key: String,
    /// Whether the row is written without it as long as the parent is not there.
    pub deferred: bool,
    /// How long to wait for the parent, milliseconds; without end for one that is written at set times.
    pub wait_ms: Option<i64>,
}

/// A record in the target's terms.
pub struct Translated {
    /// The record.
    pub record: Canonical,
    /// What a deferred field of it waits for.
    pub waits: Option<Wait>,
}

/// The link as the sink sees it: a reference that it does not write it does not look at either, because nobody knows the
/// rows that are meant.
pub fn seen_by_sink(pipeline: &Pipeline, link: &Link) -> Link {
    let entity = pipeline.entity(&link.entity);
    let refers = |field: &str| entity.is_some_and(|entity| entity.reference(field).is_some());
    let mut seen = link.clone();
    seen.fields.retain(|field| field.writes() || !refers(&field.field));
    seen
}

/// The links of these links' target that they refer to, or are referred to by, and that are not among them: other lanes write
/// those, at other times.
pub fn others(pipeline: &Pipeline, own: &[Link]) -> Vec<Link> {
    let refers = |child: &Link, parent: &Link| {
        let parents = pipeline.parents(child);
        parents.iter().any(|one| one.link.entity == parent.entity)
    };
    let is_of_target = |link: &Link| link.writes() && own.iter().any(|one| one.system == link.system);
    let written = pipeline.links.iter().filter(|link| is_of_target(link));
    let others = written.filter(|link| own.iter().all(|one| one.entity != link.entity));
    others
        .map(|link| seen_by_sink(pipeline, link))
        .filter(|link| own.iter().any(|one| refers(one, link) || refers(link, one)))
        .collect()
}

/// How these links, all of one target, refer to each other.
pub fn referring(pipeline: &Pipeline, links: &[Link]) -> Referring {
    let place = |entity: &str| links.iter().position(|link| link.entity == entity);
    let mut all: Referring = links
        .iter()
        .map(|link| Refers {
            depth: pipeline.depth(&link.entity),
            ..Refers::default()
        })
        .collect();
    for (child, link) in links.iter().enumerate() {
        for parent in pipeline.parents(link) {
            let Some(at) = place(&parent.link.entity) else { continue };
            all[child].fields.push(Field::of(&parent, at));
            all[at].children.push((child, parent.column.to_owned()));
        }
    }
    all
}

impl Field {
    fn of(parent: &Parent<'_>, place: usize) -> Self {
        Self {
            name: parent.reference.field.clone(),
            parent: place,
            key: parent.link.key.first().cloned().unwrap_or_default(),
            deferred: parent.reference.deferred,
            wait_ms: main_schedule(parent.link).is_none().then_some(parent.reference.wait_ms),
        }
    }
}

/// A parent: its link and its entity id.
pub type ParentAt = (usize, String);

/// Where the rows of parents are.
#[derive(Debug, Default)]
pub struct Rows {
    /// The row of each parent that is known.
    known: BTreeMap<ParentAt, RowKey>,
    /// Those that are in their tables.
    there: BTreeSet<ParentAt>,
}

impl Rows {
    /// Looks parents up; `written` are those of this transaction, with their rows if they have any.
    pub async fn find(
        session: &Session,
        owner: &Owner,
        links: &[LinkTable],
        wanted: &BTreeSet<ParentAt>,
        written: &BTreeMap<ParentAt, Option<Applied>>,
    ) -> Outcome<Self> {
        let asked: Vec<&ParentAt> = wanted.iter().filter(|parent| !written.contains_key(*parent)).collect();
        let keys = asked
            .iter()
            .map(|(link, cid)| (links[*link].link.entity.clone(), cid.clone()));
        let keys: Vec<(String, String)> = keys.collect();
        let mut books = match keys.is_empty() {
            true => BTreeMap::new(),
            false => owner.applied(session, &keys).await?,
        };
        let mut rows = Self::default();
        for parent in wanted {
            let applied = match written.get(parent) {
                Some(applied) => applied.clone(),
                None => books.remove(&(links[parent.0].link.entity.clone(), parent.1.clone())),
            };
            rows.known.extend(row(applied).map(|row| (parent.clone(), row)));
        }
        rows.find_merged(session, owner, links, wanted, written).await?;
        rows.look(session, links).await?;
        Ok(rows)
    }

    /// A parent that has no row of its own here has that of one that was merged with it.
    async fn find_merged(
        &mut self,
        session: &Session,
        owner: &Owner,
        links: &[LinkTable],
        wanted: &BTreeSet<ParentAt>,
        written: &BTreeMap<ParentAt, Option<Applied>>,
    ) -> Outcome<()> {
        let lacking: Vec<&ParentAt> = wanted
            .iter()
            .filter(|parent| !self.known.contains_key(*parent))
            .collect();
        if lacking.is_empty() {
            return Ok(());
        }
        let key = |link: usize, cid: &str| (links[link].link.entity.clone(), cid.to_owned());
        let keys: Vec<(String, String)> = lacking.iter().map(|(link, cid)| key(*link, cid)).collect();
        let merged = owner.merged_with(session, &keys).await?;
        let mut others: BTreeSet<(String, String)> = BTreeSet::new();
        for ((entity, _), cids) in &merged {
            others.extend(cids.iter().map(|cid| (entity.clone(), cid.clone())));
        }
        if others.is_empty() {
            return Ok(());
        }
        let others: Vec<(String, String)> = others.into_iter().collect();
        let books = owner.applied(session, &others).await?;
        for (link, cid) in lacking {
            let cids = merged.get(&key(*link, cid)).map(Vec::as_slice).unwrap_or_default();
            let applied = |other: &String| match written.get(&(*link, other.clone())) {
                Some(applied) => applied.clone(),
                None => books.get(&key(*link, other)).cloned(),
            };
            if let Some(row) = cids.iter().find_map(|other| row(applied(other))) {
                self.known.insert((*link, cid.clone()), row);
            }
        }
        Ok(())
    }

    /// Asks the tables which of them are there.
    async fn look(&mut self, session: &Session, links: &[LinkTable]) -> Outcome<()> {
        let mut by_link: BTreeMap<usize, Vec<(&ParentAt, &RowKey)>> = BTreeMap::new();
        for (parent, row) in &self.known {
            by_link.entry(parent.0).or_default().push((parent, row));
        }
        let mut there = BTreeSet::new();
        for (link, parents) in by_link {
            let cells = parents.iter().map(|(_, row)| links[link].key_cells(row)?.pop()?);
            let Some(column) = links[link].key().first().copied() else {
                continue;
            };
            let statement = statement::present(&links[link].table.name, column, cells.collect());
            let found = places(session.rows(&statement).await?);
            there.extend(
                found
                    .into_iter()
                    .filter_map(|at| parents.get(at))
                    .map(|(parent, _)| (*parent).clone()),
            );
        }
        self.there = there;
        Ok(())
    }

    /// What the column holds that refers to the parent, in the words of a text field.
    fn value(&self, field: &Field, cid: &str) -> Option<Value> {
        let row = self.known.get(&(field.parent, cid.to_owned()))?;
        let value = row.columns()?.remove(&field.key)?;
        lens::shaped(value, FieldKind::Text).ok()
    }

    fn is_there(&self, field: &Field, cid: &str) -> bool {
        self.there.contains(&(field.parent, cid.to_owned()))
    }
}

/// The parents that a record names, in what was agreed or in its own app's words.
pub fn named(refers: &Refers, record: &Canonical, app: &str) -> BTreeSet<ParentAt> {
    let mut named = BTreeSet::new();
    for field in &refers.fields {
        let said = record.app(app).and_then(|words| words.word(&field.name));
        let values = said
            .map(|word| &word.value)
            .into_iter()
            .chain(record.fields.get(&field.name));
        named.extend(values.filter_map(text).map(|cid| (field.parent, cid)));
    }
    named
}

/// The record in the terms of the link's target, or what it waits for. `there` says whether its row is. A row that is not is
/// made of all fields, one that is gets those of the lane: for the others nobody waits here.
pub fn translate(
    link: &LinkTable,
    record: &Canonical,
    links: &[LinkTable],
    rows: &Rows,
    there: bool,
) -> Result<Translated, Wait> {
    let app = &link.link.system;
    let mut translated = Translated {
        record: record.clone(),
        waits: None,
    };
    for field in &link.refers.fields {
        let entity = &links[field.parent].link.entity;
        let agreed = record.fields.get(&field.name).and_then(text);
        let said = record.app(app).and_then(|words| words.word(&field.name));
        let said = said.and_then(|word| text(&word.value));
        let held = record.held.contains(&field.name);
        let of = |cid: &String| rows.value(field, cid);
        let known = said.as_ref().and_then(of);
        let is_others = there && !link.lane.has(&field.name);
        if there && said.is_some() && known.is_none() && (said == agreed || is_others) {
            // The app says what was agreed in its own words, and those need no translation.
            translated.forget(&field.name, app);
            continue;
        }
        // What the app holds could not be compared; it is left alone until it can. A row that is made anew is compared with
        // nothing, and keeps what its app had said only of what is held.
        if let (Some(cid), None) = (&said, &known)
            && (there || held)
        {
            return Err(field.wait(entity, cid, app));
        }
        translated.reword(&field.name, app, known);
        let Some(cid) = agreed else { continue };
        let is_said = there && said.as_ref() == Some(&cid);
        match of(&cid).filter(|_| held || is_said || rows.is_there(field, &cid)) {
            Some(value) => _ = translated.record.fields.insert(field.name.clone(), value),
            None if held || field.deferred || is_others => {
                translated.record.fields.remove(&field.name);
                let waits = !held && !is_others;
                translated.waits = waits.then(|| field.wait(entity, &cid, app)).or(translated.waits);
            }
            None => return Err(field.wait(entity, &cid, app)),
        }
    }
    Ok(translated)
}

impl Translated {
    /// The app's own word on a field in its own terms; a word that is null stays.
    fn reword(&mut self, field: &str, app: &str, value: Option<Value>) {
        let mut words = self.own_words(app).flat_map(|words| &mut words.words);
        let word = words.find(|word| word.field == field);
        if let (Some(word), Some(value)) = (word, value) {
            word.value = value;
        }
    }

    /// As if nobody had spoken of the field.
    fn forget(&mut self, field: &str, app: &str) {
        self.record.fields.remove(field);
        self.own_words(app)
            .for_each(|words| words.words.retain(|word| word.field != field));
    }

    /// What the app said through a row of the record's own, not of those that were merged into it.
    fn own_words(&mut self, app: &str) -> impl Iterator<Item = &mut AppWords> {
        let words = self.record.apps.iter_mut();
        words.filter(move |words| words.app == app && words.via.is_none())
    }
}

impl Field {
    fn wait(&self, entity: &str, cid: &str, app: &str) -> Wait {
        Wait {
            parent: Some((entity.to_owned(), cid.to_owned())),
            wait_ms: self.wait_ms.filter(|_| !self.deferred),
            reason: format!("{}: {entity} {cid} has no row in {app}", self.name),
        }
    }
}

/// The mark says what was agreed.
pub fn restore_mark(refers: &Refers, record: &Canonical, plan: &mut Plan) {
    let marked = plan.mark.iter_mut().flat_map(|mark| &mut mark.fields);
    for marked in marked.filter(|marked| refers.fields.iter().any(|field| field.name == marked.name)) {
        marked.value = record.fields.get(&marked.name).cloned();
    }
}

/// Of rows that are to be deleted, those that rows of the target refer to, with the reason.
pub async fn referred_to(
    session: &Session,
    links: &[LinkTable],
    deletions: &BTreeMap<usize, Vec<(usize, &RowKey)>>,
) -> Outcome<BTreeMap<usize, Wait>> {
    let mut standing = BTreeMap::new();
    for (link, rows) in deletions {
        for (child, column) in &links[*link].refers.children {
            let child = &links[*child];
            let Some(column) = child.table.column(column) else {
                continue;
            };
            let cells = rows.iter().map(|(_, row)| links[*link].key_cells(row)?.pop()?);
            // A row that refers to itself goes with itself.
            let itself = links[*link]
                .key()
                .first()
                .copied()
                .filter(|_| child.table.name == links[*link].table.name);
            let statement = statement::present_but(&child.table.name, column, itself, cells.collect());
            for at in places(session.rows(&statement).await?) {
                let Some((work, _)) = rows.get(at) else { continue };
                let wait = Wait {
                    parent: None,
                    wait_ms: None,
                    reason: format!("rows of {} refer to it, and stay", child.link.name()),
                };
                standing.insert(*work, wait);
            }
        }
    }
    Ok(standing)
}

/// The row that a plan deletes.
pub fn deleted(plan: &Plan) -> Option<&RowKey> {
    match &plan.write {
        Write::Delete { row } => Some(row),
        _ => None,
    }
}

/// In which order the records of a batch are written: what refers to nothing and is referred to by nothing first, then
/// parents before children, then the deletions, children before parents.
pub fn turn(refers: &Refers, is_deleted: bool) -> (u8, usize) {
    match (refers.fields.is_empty() && refers.children.is_empty(), is_deleted) {
        (true, _) => (0, 0),
        (false, false) => (1, refers.depth),
        (false, true) => (2, usize::MAX - refers.depth),
    }
}

/// The row by what the books say of it, if we have not removed it.
fn row(applied: Option<Applied>) -> Option<RowKey> {
    applied
        .filter(|applied| !applied.removed)
        .and_then(|applied| applied.row)
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::Text(text) => Some(text.clone()),
        _ => None,
    }
}

/// Places from 1, as the statement gives them.
fn places(rows: Vec<Vec<Option<String>>>) -> Vec<usize> {
    let place = |row: Vec<Option<String>>| row.into_iter().next()??.parse::<usize>().ok()?.checked_sub(1);
    rows.into_iter().filter_map(place).collect()
}
