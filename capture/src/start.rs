//! Pure: where to begin, from what Kafka says, what the server says and what a person has decided.
//!
//! PostgreSQL does not complain when it is asked for a part of the log that the slot has already given up; it begins
//! later and says nothing. So the two are compared here, and a gap is refused with both LSNs and the repairing command.
//! The greater of the two is never simply taken: that is how changes get lost.
//!
//! ```text
//!                  no slot                     a slot
//! no progress      make slot, read tables      SLOT_UNKNOWN (--adopt-slot, --resnapshot)
//! being prepared   make slot, read tables      ours from before the crash: drop it, make it again
//! progress         SLOT_GONE (--resnapshot)    confirmed <= stored: go on; else SLOT_AHEAD
//! ```
//!
//! `snapshot.mode` changes some of it: with no_data an unknown slot is adopted as it is, with when_needed adopted and the
//! tables read, and a gap is answered as by --resnapshot; with initial_only there is no slot at all.

use std::collections::BTreeMap;

use syncline_runtime::{Failure, Outcome};
use syncline_schemas::position::{Lsn, Position};
use syncline_schemas::progress::{Progress, SnapshotState};

use crate::config::{Repair, SourceConfig};
use crate::failover;
use crate::guard::SLOT_GIVEN_UP;
use crate::postgres::client::SystemIdentity;
use crate::postgres::setup::SlotState;
use crate::snapshots::Mode;

/// Where to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// Make the slot and read the tables.
    Anew {
        /// The epoch of what will be read.
        epoch: u64,
        /// The slot that is there is to be dropped first.
        drop_slot: bool,
    },
    /// Go on from there.
    Continue(Box<Progress>),
}

/// What is known about the server's side.
#[derive(Clone, Copy, Debug)]
pub struct Server<'a> {
    /// Who it is.
    pub identity: &'a SystemIdentity,
    /// The slot.
    pub slot: Option<&'a SlotState>,
    /// What is published now.
    pub publication_hash: &'a str,
    /// Where the timeline of the progress ended, if the server is on a later one and comes from it.
    pub fork: Option<Lsn>,
}

/// Decides. `tables` are those to be captured.
pub fn decide(
    config: &SourceConfig,
    stored: Option<&Progress>,
    server: Server<'_>,
    repair: Repair,
    tables: &[String],
) -> Outcome<Start> {
    if repair.resnapshot {
        let epoch = stored.map_or(1, |stored| stored.position.epoch + 1);
        return Ok(Start::Anew {
            epoch,
            drop_slot: server.slot.is_some(),
        });
    }
    let mode = config.snapshots.mode;
    match (stored, server.slot) {
        (stored, _) if mode == Mode::InitialOnly => initial_only(config, stored, server),
        (None, None) => Ok(Start::Anew {
            epoch: 1,
            drop_slot: false,
        }),
        // What the slot has given up is not wanted (no_data), or is read again (when_needed).
        (None, Some(slot)) if repair.adopt_slot || mode == Mode::NoData => adopt(config, server, slot, tables),
        (None, Some(slot)) if mode == Mode::WhenNeeded => adopt(config, server, slot, &[]),
        (None, Some(slot)) => Err(unknown(config, slot)),
        (Some(stored), slot) if !stored.has_begun() => Ok(Start::Anew {
            epoch: stored.position.epoch,
            drop_slot: slot.is_some(),
        }),
        (Some(stored), slot) => match go_on(config, stored, server, slot, repair) {
            Err(failure) if mode == Mode::WhenNeeded && is_a_gap(&failure) => {
                tracing::warn!(
                    code = failure.code,
                    "all tables are read again (snapshot.mode when_needed): {failure}"
                );
                Ok(anew(stored, slot))
            }
            start => start,
        },
    }
}

/// The log no longer has what is missing in Kafka. Another cluster is something else: a wrong address, most likely.
fn is_a_gap(failure: &Failure) -> bool {
    ["SLOT_GONE", "SLOT_AHEAD", "FAILED_OVER", "TIMELINE_DIVERGED"].contains(&failure.code)
}

fn anew(stored: &Progress, slot: Option<&SlotState>) -> Start {
    Start::Anew {
        epoch: stored.position.epoch + 1,
        drop_slot: slot.is_some(),
    }
}

/// No slot is made, because nobody would read it and it would fill the disk.
fn initial_only(config: &SourceConfig, stored: Option<&Progress>, server: Server<'_>) -> Outcome<Start> {
    match stored {
        Some(stored) if stored.has_begun() => {
            if stored.system_identifier != server.identity.system_identifier.to_string() {
                return Err(another_system(config, stored, server.identity));
            }
            Ok(Start::Continue(Box::new(stored.clone())))
        }
        stored => Ok(Start::Anew {
            epoch: stored.map_or(1, |stored| stored.position.epoch),
            drop_slot: false,
        }),
    }
}

/// A progress record that says only that the slot is being made, or is made and nothing is read. A slot found beside it is
/// that one.
pub fn preparing(config: &SourceConfig, epoch: u64, server: Server<'_>) -> Progress {
    Progress {
        position: Position::new(epoch, Lsn(0), 0),
        system_identifier: server.identity.system_identifier.to_string(),
        timeline: server.identity.timeline,
        slot: config.slot.clone(),
        publication_hash: server.publication_hash.to_owned(),
        consistent_point: None,
        tables: Vec::new(),
        given_up: None,
        agenda: None,
        ahead: None,
    }
}

fn adopt(config: &SourceConfig, server: Server<'_>, slot: &SlotState, tables: &[String]) -> Outcome<Start> {
    let mut progress = preparing(config, 1, server);
    progress.position.lsn = confirmed(slot)?;
    for table in tables {
        progress.set_table(table, SnapshotState::Done);
    }
    Ok(Start::Continue(Box::new(progress)))
}

fn confirmed(slot: &SlotState) -> Outcome<Lsn> {
    slot.confirmed_flush
        .ok_or_else(|| Failure::transient("SLOT_NOT_READY", format!("slot {} is still being made", slot.name)))
}

fn go_on(
    config: &SourceConfig,
    stored: &Progress,
    server: Server<'_>,
    slot: Option<&SlotState>,
    repair: Repair,
) -> Outcome<Start> {
    let identity = server.identity;
    if stored.system_identifier != identity.system_identifier.to_string() {
        return Err(another_system(config, stored, identity));
    }
    let failed_over = stored.timeline != identity.timeline;
    let Some(slot) = slot else {
        return Err(match (&stored.given_up, failed_over) {
            (Some(why), _) => given_up(config, stored, why),
            (None, true) => failover::refusal(config, stored, identity, server.fork)
                .unwrap_or_else(|| failover::slot_left_behind(config, stored, identity, server.fork)),
            (None, false) => gone(config, stored),
        });
    };
    let confirmed = confirmed(slot)?;
    let mut progress = stored.clone();
    progress.publication_hash = server.publication_hash.to_owned();
    if repair.adopt_slot {
        progress.timeline = identity.timeline;
        let begins = Position::new(stored.position.epoch, confirmed, 0);
        let reached = stored.reached().max(begins);
        let behind = progress.ahead.take().map(|ahead| ahead.behind).unwrap_or_default();
        let (kept, lost): (BTreeMap<_, _>, BTreeMap<_, _>) = behind.into_iter().partition(|(_, at)| *at >= begins);
        progress.reach(reached, kept);
        // What a table that waits has missed below the slot's place does not come any more: it is read again.
        for table in lost.keys() {
            progress.set_table(table, SnapshotState::NotStarted);
        }
        return Ok(Start::Continue(Box::new(progress)));
    }
    if failed_over && let Some(refusal) = failover::refusal(config, stored, identity, server.fork) {
        return Err(refusal);
    }
    if identity.lsn < stored.reached().lsn {
        return Err(failover::shortened(config, stored, identity));
    }
    if confirmed > stored.position.lsn {
        return Err(ahead(config, stored, confirmed));
    }
    progress.timeline = identity.timeline;
    Ok(Start::Continue(Box::new(progress)))
}

fn resnapshot(config: &SourceConfig) -> String {
    format!("{} --resnapshot", config.command)
}

fn unknown(config: &SourceConfig, slot: &SlotState) -> Failure {
    let confirmed = slot.confirmed_flush.unwrap_or_default();
    let text = format!(
        "slot {} exists (confirmed {confirmed}) but Kafka has no progress of it: what it has skipped is not known",
        config.slot
    );
    let hint = format!(
        "read all tables again (rows deleted meanwhile leave no trace): {}; or, if everything before {confirmed} is in Kafka: {} --adopt-slot",
        resnapshot(config),
        config.command
    );
    Failure::definite("SLOT_UNKNOWN", text).hint(hint)
}

fn gone(config: &SourceConfig, stored: &Progress) -> Failure {
    let text = format!(
        "slot {} is gone; Kafka has its changes up to {}, and what came after cannot be read from the log",
        config.slot, stored.position.lsn
    );
    Failure::definite("SLOT_GONE", text).hint(format!(
        "read all tables again (rows deleted meanwhile leave no trace): {}",
        resnapshot(config)
    ))
}

fn ahead(config: &SourceConfig, stored: &Progress, confirmed: Lsn) -> Failure {
    let text = format!(
        "slot {} stands at {confirmed}, but Kafka has its changes only up to {}: those between are lost to the log",
        config.slot, stored.position.lsn
    );
    let hint = format!(
        "read all tables again (rows deleted meanwhile leave no trace): {}; or, if you know that nothing was lost: {} --adopt-slot",
        resnapshot(config),
        config.command
    );
    Failure::definite("SLOT_AHEAD", text).hint(hint)
}

fn another_system(config: &SourceConfig, stored: &Progress, identity: &SystemIdentity) -> Failure {
    let text = format!(
        "{} is another database cluster than before: {} at {}, was {} at {}",
        config.name, identity.system_identifier, identity.lsn, stored.system_identifier, stored.position.lsn
    );
    Failure::definite("SYSTEM_CHANGED", text).hint(format!(
        "point the pipeline at the former server, or read all tables again (rows deleted meanwhile leave no trace): {}",
        resnapshot(config)
    ))
}

fn given_up(config: &SourceConfig, stored: &Progress, why: &str) -> Failure {
    let text = format!("{why}; Kafka has its changes up to {}", stored.position.lsn);
    Failure::definite(SLOT_GIVEN_UP, text).hint(format!(
        "read all tables again (rows deleted meanwhile leave no trace): {}",
        resnapshot(config)
    ))
}

#[cfg(test)]
pub(crate) mod tests;
