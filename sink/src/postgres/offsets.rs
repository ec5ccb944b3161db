//! Where a partition goes on, and who may move it: the offset row, locked first and moved last in each transaction.

use std::collections::{BTreeMap, BTreeSet};

use syncline_runtime::{Class, Failure, Outcome};

use super::books::{Offset, Owner};
use super::session::Session;
use crate::target::{Delivery, Partition};

/// Locks the offset rows of everything in the batch.
pub async fn lock<C>(session: &Session, owner: &Owner, batch: &[Delivery<C>]) -> Outcome<BTreeMap<Partition, Offset>> {
    let partitions: BTreeSet<Partition> = batch.iter().map(|delivery| delivery.from.clone()).collect();
    owner
        .lock_offsets(session, &partitions.into_iter().collect::<Vec<_>>())
        .await
}

/// The records that have not been applied. Fails if somebody else has claimed their partition since.
pub fn due<'a, C>(
    batch: &'a [Delivery<C>],
    offsets: &BTreeMap<Partition, Offset>,
    epochs: &BTreeMap<Partition, i64>,
) -> Outcome<Vec<&'a Delivery<C>>> {
    let mut due = Vec::with_capacity(batch.len());
    for delivery in batch {
        let offset = offsets.get(&delivery.from).ok_or_else(|| fenced(&delivery.from))?;
        if epochs.get(&delivery.from) != Some(&offset.epoch) {
            return Err(fenced(&delivery.from));
        }
        if delivery.offset >= offset.next {
            due.push(delivery);
        }
    }
    Ok(due)
}

fn fenced(partition: &Partition) -> Failure {
    let message = format!(
        "another sink has taken over partition {} of {}",
        partition.number, partition.topic
    );
    Failure::transient("FENCED", message)
}

/// Where each partition goes on after the batch.
pub fn ends<C>(batch: &[Delivery<C>], offsets: &BTreeMap<Partition, Offset>) -> BTreeMap<Partition, i64> {
    let mut ends: BTreeMap<Partition, i64> = offsets
        .iter()
        .map(|(partition, offset)| (partition.clone(), offset.next))
        .collect();
    for delivery in batch {
        let end = ends.entry(delivery.from.clone()).or_default();
        *end = (*end).max(delivery.offset + 1);
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
