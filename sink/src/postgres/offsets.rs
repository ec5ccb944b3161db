//! Where a partition goes on, and who may move it: the offset row, locked first and moved last in each transaction.
//!
//! A target that was restored, or whose standby took over without the last commits, has gone back to an earlier state, and
//! its offset row with it. Whoever went on reading where it stood would leave out what was lost; so a row that says less
//! than we have seen in it ends the claim, and the next one begins where the row says.

use std::collections::{BTreeMap, BTreeSet};

use syncline_runtime::{Class, Failure, Outcome};

use super::books::{Offset, Owner};
use super::session::Session;
use crate::target::{Delivery, Partition};

/// Locks the offset rows of everything in the batch.
pub async fn lock<C>(session: &Session, owner: &Owner, batch: &[Delivery<C>]) -> Outcome<BTreeMap<Partition, Offset>> {
    let partitions: BTreeSet<Partition> = runs(batch).map(|(from, _)| from.clone()).collect();
    owner
        .lock_offsets(session, &partitions.into_iter().collect::<Vec<_>>())
        .await
}

/// The records that have not been applied. Fails if somebody else has claimed their partition since, or if the target has
/// gone back behind what was seen of it under `claims`.
pub fn due<'a, C>(
    batch: &'a [Delivery<C>],
    offsets: &BTreeMap<Partition, Offset>,
    claims: &BTreeMap<Partition, Offset>,
) -> Outcome<Vec<&'a Delivery<C>>> {
    let mut due = Vec::with_capacity(batch.len());
    for (from, run) in runs(batch) {
        let offset = offsets.get(from).ok_or_else(|| fenced(from))?;
        match claims.get(from) {
            Some(claim) if claim.epoch == offset.epoch && claim.next > offset.next => {
                return Err(went_back(from, claim.next, offset.next));
            }
            Some(claim) if claim.epoch == offset.epoch => {}
            _ => return Err(fenced(from)),
        }
        due.extend(run.iter().filter(|delivery| delivery.offset >= offset.next));
    }
    Ok(due)
}

/// The records of a batch in runs of one partition, as they are read: what holds for a partition is looked up once for many.
fn runs<C>(batch: &[Delivery<C>]) -> impl Iterator<Item = (&Partition, &[Delivery<C>])> {
    let runs = batch.chunk_by(|one, next| one.from == next.from);
    runs.filter_map(|run| Some((&run.first()?.from, run)))
}

/// The offset after a run, whatever the order of its records.
fn end<C>(run: &[Delivery<C>]) -> i64 {
    let ends = run.iter().map(|delivery| delivery.offset + 1);
    ends.max().unwrap_or_default()
}

fn fenced(partition: &Partition) -> Failure {
    let message = format!(
        "another sink has taken over partition {} of {}",
        partition.number, partition.topic
    );
    Failure::transient("FENCED", message)
}

fn went_back(partition: &Partition, seen: i64, found: i64) -> Failure {
    let (topic, number) = (&partition.topic, partition.number);
    let message =
        format!("{topic}[{number}] was applied up to {seen}, the target now has it up to {found}: it is applied again");
    Failure::transient("TARGET_WENT_BACK", message)
}

/// Notes under `claims` that the batch has been applied.
pub fn note<C>(claims: &mut BTreeMap<Partition, Offset>, batch: &[Delivery<C>]) {
    for (from, run) in runs(batch) {
        if let Some(claim) = claims.get_mut(from) {
            claim.next = claim.next.max(end(run));
        }
    }
}

/// Where each partition goes on after the batch.
pub fn ends<C>(batch: &[Delivery<C>], offsets: &BTreeMap<Partition, Offset>) -> BTreeMap<Partition, i64> {
    let mut ends: BTreeMap<Partition, i64> = offsets
        .iter()
        .map(|(partition, offset)| (partition.clone(), offset.next))
        .collect();
    for (from, run) in runs(batch) {
        let next = ends.entry(from.clone()).or_default();
        *next = (*next).max(end(run));
    }
    ends
}

/// Nobody knows whether a COMMIT without an answer happened. The offset row does: the batch is simply given again.
pub async fn commit(session: &Session) -> Outcome<()> {
    session.control("COMMIT").await.map_err(|failure| match failure.class {
        Class::Poison => failure,
        _ => Failure::transient(
            "COMMIT_UNKNOWN",
            format!("no answer to COMMIT, the offset row will tell: {failure}"),
        ),
    })
}
