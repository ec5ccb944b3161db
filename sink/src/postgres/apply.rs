//! One batch, one transaction: lock the offsets, leave out what is done, read, plan, write, remember, advance, commit.
//!
//! A record that the app refuses must not hold up its neighbours, and must not let a later record of its key overtake it.
//! So a part of the batch that is refused is undone to its savepoint and halved until the refused record stands alone.
//! Each attempt reads the rows anew: what an undone one had locked and planned is gone with it. A record refused only
//! because a neighbour was not yet in its place (a child before its parent, two rows passing a unique value on) gets another
//! try when the others are in. What refers to a row that is not there is not tried at all: it waits ([`super::references`]).
//!
//! A record that others were merged into is one work for each that has a row here. If one is refused, the record is; if one
//! waits, the record does.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use syncline_runtime::{Class, Failure, Outcome, failpoint};
use syncline_schemas::canonical::Canonical;
use syncline_schemas::mapped::RowKey;

use super::books::{Offset, Owner, Parked};
use super::link_table::LinkTable;
use super::merged::MemberOf;
use super::offsets;
use super::references::{self, ParentAt, Rows};
use super::session::Session;
use super::waiting::{Wait, Waiting};
use super::write;
use crate::plan::{self, Applied, Found, Given, Plan, Refusal, Verdict};
use crate::target::{Delivery, Partition, Report};

/// How often refused records get another try when others went through meanwhile.
const SECOND_TRIES_MAX: usize = 3;

/// A lane beside the main one does not keep that waiting for long: it holds locks that the main lane needs, so it gives up
/// soon where it has to wait for others, and tries again.
const BESIDE: &str = "SET LOCAL lock_timeout = '1s'";

/// A session and what is known of the tables behind it.
#[derive(Clone, Copy)]
pub struct Open<'a> {
    /// The session.
    pub session: &'a Session,
    /// The links that write, in the order of the pipeline file.
    pub links: &'a [LinkTable],
}

/// Whether a batch comes in its turn, or is a parked one taken up again.
#[derive(Clone, Copy)]
pub enum Turn<'a> {
    /// From the topics in order, under these claims.
    Live(&'a BTreeMap<Partition, Offset>),
    /// Out of turn: parked keys are tried again, offsets stay.
    Replay,
    /// Out of turn: keys that wait are looked at again, offsets stay.
    Waiting,
}

/// A record of the batch, and what the books say of its key.
struct Work<'a> {
    delivery: &'a Delivery,
    /// As the one sees it whose books are used; its id is theirs.
    record: Cow<'a, Canonical>,
    link: usize,
    applied: Option<Applied>,
    parked: Option<Parked>,
    waiting: Option<Waiting>,
}

/// What became of a record.
type Fate = Result<Done, Undone>;

/// What was done.
struct Done {
    plan: Plan,
    /// What a field of it that is still missing waits for.
    waits: Option<Wait>,
}

/// Why nothing was.
enum Undone {
    /// The app cannot take it.
    Refused(String),
    /// A row is in the way, or not there.
    Waits(Wait),
}

/// Applies a batch in one transaction.
pub async fn apply(open: Open<'_>, owner: &Owner, turn: Turn<'_>, batch: &[Delivery]) -> Outcome<Report> {
    failpoint::check("sink.before_begin")?;
    let session = open.session;
    session.begin().await?;
    if !owner.lane.is_empty() {
        session.control(BESIDE).await?;
    }
    let offsets = offsets::lock(session, owner, batch).await?;
    let due = match turn {
        Turn::Live(claims) => offsets::due(batch, &offsets, claims)?,
        Turn::Replay | Turn::Waiting => batch.iter().collect(),
    };
    let latest = latest(due);
    let mut report = Report {
        skipped: (batch.len() - latest.len()) as u64,
        ..Report::default()
    };
    owner.note_members(session, &members(open, &latest)).await?;
    let books = Books::load(open, owner, &latest).await?;
    let (works, behind) = books.sort(open, latest, turn);
    let fates = settle(open, owner, &works).await?;
    confirm_tables(open, &works).await?;
    failpoint::check("sink.after_apply")?;
    keep(session, owner, &works, &fates, behind, &mut report).await?;
    if let Turn::Live(_) = turn {
        owner.advance(session, &offsets::ends(batch, &offsets)).await?;
    }
    failpoint::check("sink.after_offsets")?;
    failpoint::check("sink.before_commit")?;
    offsets::commit(session).await?;
    failpoint::check("sink.after_commit")?;
    Ok(report)
}

/// The last record of each key: the agreed record is a state, not a step.
fn latest(due: Vec<&Delivery>) -> Vec<&Delivery> {
    let mut last: BTreeMap<(String, String), usize> = BTreeMap::new();
    for (at, delivery) in due.iter().enumerate() {
        last.insert((delivery.entity.to_string(), delivery.cid()), at);
    }
    let keep: BTreeSet<usize> = last.into_values().collect();
    due.into_iter()
        .enumerate()
        .filter(|(at, _)| keep.contains(at))
        .map(|(_, delivery)| delivery)
        .collect()
}

/// Who came into the records of a batch and went from them, where others refer to those.
fn members<'a>(open: Open<'_>, latest: &[&'a Delivery]) -> Vec<MemberOf<'a>> {
    let is_referred_to = |entity: &str| {
        let mut links = open.links.iter();
        links.any(|link| link.link.entity == entity && !link.refers.children.is_empty())
    };
    let mut members: Vec<MemberOf<'a>> = Vec::new();
    for delivery in latest.iter().copied() {
        let entity: &'a str = &delivery.entity;
        if let Ok(Some(record)) = &delivery.content
            && !record.identity.members.is_empty()
            && is_referred_to(entity)
        {
            let (whole, of_record) = (record.cid.as_str(), record.identity.members.iter());
            members.extend(of_record.map(|member| (entity, whole, member)));
        }
    }
    members
}

/// What the books say of the keys of a batch.
struct Books {
    applied: BTreeMap<(String, String), Applied>,
    parked: BTreeMap<(String, String), Parked>,
    waiting: BTreeMap<(String, String), Waiting>,
}

impl Books {
    async fn load(open: Open<'_>, owner: &Owner, latest: &[&Delivery]) -> Outcome<Self> {
        let session = open.session;
        let keys: Vec<(String, String)> = latest
            .iter()
            .map(|delivery| (delivery.entity.to_string(), delivery.cid()))
            .collect();
        let within = latest.iter().flat_map(|delivery| {
            let record = delivery.content.as_ref().ok().and_then(Option::as_ref);
            let members = record.into_iter().flat_map(Canonical::joined);
            members.map(|cid| (delivery.entity.to_string(), cid.to_owned()))
        });
        let books: BTreeSet<(String, String)> = keys.iter().cloned().chain(within).collect();
        let books: Vec<(String, String)> = books.into_iter().collect();
        if keys.is_empty() {
            return Ok(Self {
                applied: BTreeMap::new(),
                parked: BTreeMap::new(),
                waiting: BTreeMap::new(),
            });
        }
        let parked = owner.parked_among(session, &keys).await?;
        let waiting = match open.refers() {
            true => owner.waiting_among(session, &keys).await?,
            false => BTreeMap::new(),
        };
        Ok(Self {
            waiting,
            applied: owner.applied(session, &books).await?,
            parked,
        })
    }

    /// What is to be applied, and what stays parked or is parked behind a refused record.
    fn sort<'a>(mut self, open: Open<'_>, latest: Vec<&'a Delivery>, turn: Turn<'_>) -> (Vec<Work<'a>>, Vec<Parked>) {
        let (mut works, mut behind) = (Vec::new(), Vec::new());
        for delivery in latest {
            let key = (delivery.entity.to_string(), delivery.cid());
            let parked = self.parked.remove(&key);
            let waiting = self.waiting.remove(&key);
            // What waited when it was listed may have gone since, or been replaced by a later record.
            if matches!(turn, Turn::Waiting) && waiting.is_none_or(|waiting| waiting.offset != delivery.offset) {
                continue;
            }
            let record = match &delivery.content {
                Ok(None) => continue,
                Ok(Some(record)) => record,
                Err(reason) => {
                    behind.push(refused(delivery, parked, false, reason.clone()));
                    continue;
                }
            };
            let Some(link) = open.links.iter().position(|link| *link.link.entity == *delivery.entity) else {
                continue;
            };
            let parts = self.parts(delivery, record, link, (parked.as_ref(), waiting), open);
            match &parked {
                Some(parked) if is_overtaken(delivery, parked) => behind.push(parked.clone()),
                Some(parked) if !parts.iter().any(|work| work.heals(parked, open, turn)) => {
                    behind.push(Parked {
                        offset: delivery.offset,
                        from: delivery.from.clone(),
                        ..parked.clone()
                    });
                }
                _ => works.extend(parts),
            }
        }
        (one_of_each_book(works), behind)
    }

    /// The record, for each that has a row here of those that are merged into it.
    fn parts<'a>(
        &self,
        delivery: &'a Delivery,
        record: &'a Canonical,
        link: usize,
        (parked, waiting): (Option<&Parked>, Option<Waiting>),
        open: Open<'_>,
    ) -> Vec<Work<'a>> {
        let applied = |cid: &str| self.applied.get(&(delivery.entity.to_string(), cid.to_owned()));
        let has_row = |cid: &str| applied(cid).is_some_and(|applied| applied.row.is_some());
        let books = plan::books(record, &open.links[link].link.system, has_row);
        let seen = |cid: &str| match record.through(cid) {
            Some(theirs) => Cow::Owned(theirs),
            None => Cow::Borrowed(record),
        };
        books
            .into_iter()
            .map(|cid| Work {
                delivery,
                record: seen(cid),
                link,
                applied: applied(cid).cloned(),
                parked: parked.cloned(),
                waiting,
            })
            .collect()
    }
}

/// Two records of a batch may mean to write by the same books: that which a row has left, and that to which it came. The later
/// does, by the words on identity; a record that is merged into another writes by none.
fn one_of_each_book(works: Vec<Work<'_>>) -> Vec<Work<'_>> {
    let book = |work: &Work<'_>| (work.link, work.record.cid.clone());
    let writes = |work: &Work<'_>| work.record.identity.merged_into.is_none();
    let mut last: BTreeMap<(usize, String), Option<i64>> = BTreeMap::new();
    for work in works.iter().filter(|work| writes(work)) {
        let at = last.entry(book(work)).or_default();
        *at = (*at).max(work.record.identity.at);
    }
    let is_last = |work: &Work<'_>| !writes(work) || last.get(&book(work)) == Some(&work.record.identity.at);
    works.into_iter().filter(|work| is_last(work)).collect()
}

/// Whether a newer record of the key was parked while this one was being read again: that one is what is left to do.
fn is_overtaken(delivery: &Delivery, parked: &Parked) -> bool {
    parked.from == delivery.from && parked.offset > delivery.offset
}

impl Work<'_> {
    fn address(&self, open: Open<'_>) -> Option<RowKey> {
        plan::address(&self.record, &open.links[self.link].link.system, self.applied.as_ref())
    }

    /// Whether a parked key is tried again: a person asked, or there was no row to write into when the record was
    /// refused, and one is known now. An insert that met that very row would now be an update.
    fn heals(&self, parked: &Parked, open: Open<'_>, turn: Turn<'_>) -> bool {
        matches!(turn, Turn::Replay) || (!parked.row_known && self.address(open).is_some())
    }

    fn plan(&self, open: Open<'_>, pipeline: &str, found: &Found, rows: &Rows) -> Fate {
        let link = &open.links[self.link];
        let given = Given {
            pipeline,
            link: &link.link,
            lane: &link.lane,
            limits: &link.limits,
            record: &self.record,
            applied: self.applied.as_ref(),
            found,
        };
        let refused = |refusal: Refusal| Undone::Refused(refusal.to_string());
        if link.refers.fields.is_empty() || is_moot(&given) {
            let plan = plan::plan(&given).map_err(refused)?;
            return Ok(Done { plan, waits: None });
        }
        let there = matches!(found, Found::Row(..));
        let translated = references::translate(link, &self.record, open.links, rows, there).map_err(Undone::Waits)?;
        let record = &translated.record;
        let mut plan = plan::plan(&Given { record, ..given }).map_err(refused)?;
        references::restore_mark(&link.refers, &self.record, &mut plan);
        Ok(Done {
            plan,
            waits: translated.waits,
        })
    }

    /// The parents that it names.
    fn parents(&self, open: Open<'_>) -> BTreeSet<ParentAt> {
        let link = &open.links[self.link];
        references::named(&link.refers, &self.record, &link.link.system)
    }
}

/// Whether there is nothing to write, whatever rows the record refers to.
fn is_moot(given: &Given<'_>) -> bool {
    let (record, words) = (given.record, given.record.app(&given.link.system));
    let is_gone = words.is_some_and(|words| words.gone);
    is_gone
        || (record.deleted && !matches!(given.found, Found::Row(..)))
        || record.identity.merged_into.is_some()
        || plan::plan(given).is_ok_and(|plan| plan.verdict == Verdict::Older)
}

impl Open<'_> {
    /// Whether anything refers to anything here.
    fn refers(self) -> bool {
        let refers = |link: &LinkTable| !link.refers.fields.is_empty() || !link.refers.children.is_empty();
        self.links.iter().any(refers)
    }
}

/// Brings all records to their fate.
async fn settle(open: Open<'_>, owner: &Owner, works: &[Work<'_>]) -> Outcome<Vec<Fate>> {
    let mut fates: Vec<Option<Fate>> = works.iter().map(|_| None).collect();
    let mut refused = pass(open, owner, works, apart(open, works), &mut fates).await?;
    for _ in 0..SECOND_TRIES_MAX {
        let before = refused.len();
        if before == 0 || before == works.len() {
            break;
        }
        let alone = refused.into_iter().map(|at| vec![at]).collect();
        refused = pass(open, owner, works, alone, &mut fates).await?;
        if refused.len() == before {
            break;
        }
    }
    Ok(fates
        .into_iter()
        .map(|fate| fate.unwrap_or_else(|| Err(Undone::Refused("was not tried".to_owned()))))
        .collect())
}

/// Fails if a table has changed since it was looked up: what it refuses, rounds or cuts has to be asked anew. Once rows are
/// written their locks keep the table as it is.
async fn confirm_tables(open: Open<'_>, works: &[Work<'_>]) -> Outcome<()> {
    let links: BTreeSet<usize> = works.iter().map(|work| work.link).collect();
    for link in links.into_iter().map(|link| &open.links[link]) {
        if !link.is_unchanged(open.session).await? {
            let message = format!("table {} has changed; it is looked up anew", link.table.name);
            return Err(Failure::transient("TARGET_CHANGED", message));
        }
    }
    Ok(())
}

/// The rows that a part speaks of (link, key), and its records.
type Part = (BTreeSet<(usize, RowKey)>, Vec<usize>);

/// Parts in the order in which they are written.
fn apart(open: Open<'_>, works: &[Work<'_>]) -> Vec<Vec<usize>> {
    let mut turns: BTreeMap<(u8, usize), Vec<usize>> = BTreeMap::new();
    for (at, work) in works.iter().enumerate() {
        let turn = references::turn(&open.links[work.link].refers, work.record.deleted);
        turns.entry(turn).or_default().push(at);
    }
    turns.values().flat_map(|turn| of_one_turn(open, works, turn)).collect()
}

/// Parts in which no two records speak of one row: the second must see what the first has done.
fn of_one_turn(open: Open<'_>, works: &[Work<'_>], turn: &[usize]) -> Vec<Vec<usize>> {
    let mut parts: Vec<Part> = vec![Part::default()];
    for at in turn.iter().copied() {
        let work = &works[at];
        let Some(address) = work.address(open) else {
            parts[0].1.push(at);
            continue;
        };
        let place = (work.link, address);
        let free = parts.iter().position(|(taken, _)| !taken.contains(&place));
        let part = free.unwrap_or_else(|| {
            parts.push(Part::default());
            parts.len() - 1
        });
        parts[part].0.insert(place);
        parts[part].1.push(at);
    }
    parts
        .into_iter()
        .map(|(_, part)| part)
        .filter(|part| !part.is_empty())
        .collect()
}

/// Tries the parts in order, halving what is refused. Gives the records that were refused by the database.
async fn pass(
    open: Open<'_>,
    owner: &Owner,
    works: &[Work<'_>],
    mut parts: Vec<Vec<usize>>,
    fates: &mut [Option<Fate>],
) -> Outcome<Vec<usize>> {
    parts.reverse();
    let mut refused = Vec::new();
    while let Some(mut part) = parts.pop() {
        open.session
            .control("SAVEPOINT part; SET CONSTRAINTS ALL DEFERRED")
            .await?;
        match attempt(open, owner, works, &part, fates).await {
            Ok(done) => {
                for (at, fate) in part.into_iter().zip(done) {
                    fates[at] = Some(fate);
                }
                open.session.control("RELEASE SAVEPOINT part").await?;
            }
            Err(failure) if failure.class == Class::Poison => {
                open.session
                    .control("ROLLBACK TO SAVEPOINT part; RELEASE SAVEPOINT part")
                    .await?;
                if let [at] = part[..] {
                    fates[at] = Some(Err(Undone::Refused(failure.to_string())));
                    refused.push(at);
                } else {
                    let second = part.split_off(part.len() / 2);
                    parts.extend([second, part]);
                }
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(refused)
}

/// Reads, plans and writes some records; constraints that the app defers are checked here, so that they do not wait for
/// COMMIT and refuse the whole batch.
async fn attempt(
    open: Open<'_>,
    owner: &Owner,
    works: &[Work<'_>],
    part: &[usize],
    settled: &[Option<Fate>],
) -> Outcome<Vec<Fate>> {
    let rows = parents(open, owner, works, part, settled).await?;
    let found = find(open, works, part).await?;
    let plan = |(at, found): (&usize, &Found)| works[*at].plan(open, &owner.pipeline, found, &rows);
    let mut fates: Vec<Fate> = part.iter().zip(&found).map(plan).collect();
    keep_parents(open, works, part, &mut fates).await?;
    let mut plans: Vec<(usize, &mut Plan)> = part
        .iter()
        .zip(&mut fates)
        .filter_map(|(at, fate)| fate.as_mut().ok().map(|done| (works[*at].link, &mut done.plan)))
        .collect();
    write::write(open.session, open.links, &mut plans).await?;
    open.session.control("SET CONSTRAINTS ALL IMMEDIATE").await?;
    Ok(fates)
}

/// Where the rows are that some records refer to, by what was settled in this transaction and by the books.
async fn parents(
    open: Open<'_>,
    owner: &Owner,
    works: &[Work<'_>],
    part: &[usize],
    settled: &[Option<Fate>],
) -> Outcome<Rows> {
    let wanted: BTreeSet<ParentAt> = part.iter().flat_map(|at| works[*at].parents(open)).collect();
    if wanted.is_empty() {
        return Ok(Rows::default());
    }
    let mut written = BTreeMap::new();
    for (work, fate) in works.iter().zip(settled) {
        if let Some(Ok(done)) = fate
            && done.plan.applied.is_some()
            && !open.links[work.link].refers.children.is_empty()
        {
            written.insert((work.link, work.record.cid.clone()), done.plan.applied.clone());
        }
    }
    Rows::find(open.session, owner, open.links, &wanted, &written).await
}

/// Rows that others refer to are not deleted.
async fn keep_parents(open: Open<'_>, works: &[Work<'_>], part: &[usize], fates: &mut [Fate]) -> Outcome<()> {
    let mut deletions: BTreeMap<usize, Vec<(usize, &RowKey)>> = BTreeMap::new();
    for (place, (at, fate)) in part.iter().zip(fates.iter()).enumerate() {
        let link = works[*at].link;
        let deleted = fate.as_ref().ok().and_then(|done| references::deleted(&done.plan));
        if let Some(row) = deleted.filter(|_| !open.links[link].refers.children.is_empty()) {
            deletions.entry(link).or_default().push((place, row));
        }
    }
    let standing = references::referred_to(open.session, open.links, &deletions).await?;
    for (place, wait) in standing {
        fates[place] = Err(Undone::Waits(wait));
    }
    Ok(())
}

/// Locks and reads the rows of some records, table by table in the order of the links, rows in the order of their keys.
async fn find(open: Open<'_>, works: &[Work<'_>], part: &[usize]) -> Outcome<Vec<Found>> {
    let mut wanted: BTreeMap<usize, BTreeMap<RowKey, usize>> = BTreeMap::new();
    for (place, at) in part.iter().enumerate() {
        if let Some(address) = works[*at].address(open) {
            wanted.entry(works[*at].link).or_default().insert(address, place);
        }
    }
    let mut found: Vec<Found> = part.iter().map(|_| Found::Unknown).collect();
    for (link, rows) in wanted {
        let (keys, places): (Vec<RowKey>, Vec<usize>) = rows.into_iter().unzip();
        for (place, row) in places
            .into_iter()
            .zip(open.links[link].find(open.session, &keys).await?)
        {
            found[place] = row;
        }
    }
    Ok(found)
}

/// Writes the books: what was applied, what was refused, what waits behind it, what waits for other rows, what went through
/// after all.
async fn keep(
    session: &Session,
    owner: &Owner,
    works: &[Work<'_>],
    fates: &[Fate],
    behind: Vec<Parked>,
    report: &mut Report,
) -> Outcome<()> {
    let (mut remembered, mut parked, mut healed) = (Vec::new(), behind, BTreeSet::new());
    let key = |work: &Work<'_>| (work.delivery.entity.to_string(), work.delivery.cid());
    let mut refused_keys = BTreeSet::new();
    let (mut waits, mut waited) = (Waits::new(), BTreeSet::new());
    for (work, fate) in works.iter().zip(fates) {
        waited.extend(work.waiting.is_some().then(|| key(work)));
        match fate {
            Ok(Done { plan, waits: missing }) => {
                *report.verdicts.entry(plan.verdict).or_default() += 1;
                report.stale_fields += plan.stale.len() as u64;
                remembered.extend(
                    plan.applied
                        .as_ref()
                        .map(|applied| (&*work.delivery.entity, &*work.record.cid, applied)),
                );
                healed.extend(work.parked.is_some().then(|| key(work)));
                if let Some(wait) = missing {
                    note_wait(&mut waits, key(work), work.delivery, wait);
                }
            }
            Err(Undone::Waits(wait)) if work.may_wait() => note_wait(&mut waits, key(work), work.delivery, wait),
            Err(Undone::Refused(reason) | Undone::Waits(Wait { reason, .. })) if refused_keys.insert(key(work)) => {
                parked.push(refused(
                    work.delivery,
                    work.parked.clone(),
                    work.row_known(owner),
                    reason.clone(),
                ));
            }
            Err(_) => {}
        }
    }
    healed.retain(|key| !refused_keys.contains(key));
    let healed: Vec<(String, String)> = healed.into_iter().collect();
    waits.retain(|key, _| !refused_keys.contains(key));
    waited.retain(|key| !waits.contains_key(key));
    let released: Vec<(String, String)> = waited.into_iter().collect();
    let waits: Vec<(&Delivery, Wait)> = waits.into_values().collect();
    report.parked = parked.len() as u64;
    report.healed = healed.len() as u64;
    report.waiting = waits.len() as u64;
    report.released = released.len() as u64;
    owner.remember(session, &remembered).await?;
    owner.park(session, &parked).await?;
    owner.wait(session, &waits).await?;
    owner.wait_no_more(session, &released).await?;
    owner.unpark(session, &healed).await
}

/// Records that wait, by their keys.
type Waits<'a> = BTreeMap<(String, String), (&'a Delivery, Wait)>;

/// A record waits as a whole, for one row at a time: first for those that it does not wait for without end.
fn note_wait<'a>(waits: &mut Waits<'a>, key: (String, String), delivery: &'a Delivery, wait: &Wait) {
    let before = waits.get(&key);
    if before.is_none_or(|(_, before)| before.wait_ms.is_none()) {
        waits.insert(key, (delivery, wait.clone()));
    }
}

impl Work<'_> {
    /// Whether its time is not up. What was refused before is refused again: somebody has been told of it.
    fn may_wait(&self) -> bool {
        self.parked.is_none() && self.waiting.is_none_or(|waiting| !waiting.is_over)
    }

    /// Whether the record was to be written into a row that is known. One that went and is made again is none: what
    /// refuses it is most likely a row that the app has made for the same one meanwhile, under another key, and that we
    /// have not heard of. Were it taken for known, nothing would ever be written into the row that is there.
    fn row_known(&self, owner: &Owner) -> bool {
        let words = self.record.app(&owner.target);
        let removed = self.applied.as_ref().is_some_and(|applied| applied.removed);
        let is_made_again = match words {
            Some(words) => words.remake || (removed && words.made.is_none()),
            None => removed,
        };
        !is_made_again && plan::address(&self.record, &owner.target, self.applied.as_ref()).is_some()
    }
}

/// A refused record. One that was refused before is in the dead letter topic already, under its first offset.
fn refused(delivery: &Delivery, before: Option<Parked>, row_known: bool, reason: String) -> Parked {
    let (from, offset) = (delivery.from.clone(), delivery.offset);
    match before {
        Some(before) => Parked {
            from,
            offset,
            row_known,
            reason,
            ..before
        },
        None => Parked {
            entity: delivery.entity.to_string(),
            cid: delivery.cid(),
            from,
            offset,
            refused_offset: offset,
            row_known,
            reason,
            letter: Some((delivery.key.clone(), delivery.value.clone())),
        },
    }
}
