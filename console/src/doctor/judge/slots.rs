//! Slots, and the log they hold back: the one way in which a reader can take its source down.

use super::server::literal;
use super::{Findings, GB, size};
use crate::doctor::facts::{Slot, Source};
use crate::doctor::finding::Finding;

const RETAINED_BYTES_MAX: i64 = GB;

/// Our slot, everybody else's, and the limit on what they hold back.
pub fn judge(source: &Source) -> Vec<Finding> {
    let mut findings = Findings::at(&source.name);
    if source.server.slot_keep_mb < 0 {
        findings.risk(
            "NO_SLOT_LIMIT",
            "max_slot_wal_keep_size is -1",
            "a slot that nobody reads keeps all log from there on, until the source's disk is full and it stops",
            "ALTER SYSTEM SET max_slot_wal_keep_size = '50GB'; SELECT pg_reload_conf();",
        );
    }
    for slot in &source.slots {
        match slot.name == source.slot {
            true => ours(slot, source, &mut findings),
            false => foreign(slot, &mut findings),
        }
    }
    if let Some(failure) = &source.refused {
        let why =
            "what lies between Kafka's progress and the slot cannot be had from the log; capture refuses to skip it";
        findings.stops(
            failure.code,
            failure.message.clone(),
            why,
            failure.hint.clone().unwrap_or_default(),
        );
    }
    findings.done()
}

fn ours(slot: &Slot, source: &Source, findings: &mut Findings) {
    let name = &slot.name;
    let fits =
        slot.plugin.as_deref() == Some("pgoutput") && slot.database.as_deref() == Some(&source.connection.database);
    if !fits {
        findings.stops(
            "SLOT_FOREIGN",
            format!("the slot {name} is not for pgoutput in this database"),
            "it belongs to somebody else, who would lose changes",
            format!(
                "name another one in the pipeline file: systems: {}: slot: NAME",
                source.name
            ),
        );
    }
    if given_up(slot) {
        let why_given_up = slot.invalidation.as_deref().unwrap_or("its log was removed");
        findings.stops(
            "SLOT_LOST",
            format!("the server has given up the slot {name} ({why_given_up})"),
            "what it had still to send is gone from the log",
            format!("syncline-capture --source {} --resnapshot", source.name),
        );
    } else if slot.wal_status.as_deref() == Some("unreserved") {
        findings.risk(
            "SLOT_NEARLY_LOST",
            format!("the slot {name} holds back more log than max_slot_wal_keep_size allows"),
            "at the next checkpoint the server may give it up, and all tables have to be read again",
            "start capture now, or raise max_slot_wal_keep_size first",
        );
    }
    held_back(
        slot,
        "start capture: it works off what is there and lets it go",
        findings,
    );
}

fn given_up(slot: &Slot) -> bool {
    slot.wal_status.as_deref() == Some("lost") || slot.invalidation.is_some()
}

fn foreign(slot: &Slot, findings: &mut Findings) {
    let drop = format!(
        "SELECT pg_drop_replication_slot({}); -- if nobody needs it any more",
        literal(&slot.name)
    );
    if given_up(slot) {
        findings.note(
            "FOREIGN_SLOT_LOST",
            format!(
                "the slot {} of somebody else has been given up by the server",
                slot.name
            ),
            "it takes a place and is of no use to anybody",
            drop,
        );
        return;
    }
    held_back(slot, &drop, findings);
}

fn held_back(slot: &Slot, mend: &str, findings: &mut Findings) {
    if slot.retained_bytes < RETAINED_BYTES_MAX {
        return;
    }
    let state = if slot.active {
        "is being read"
    } else {
        "is read by nobody"
    };
    let left = slot
        .safe_bytes
        .map(|bytes| format!("; {} more and it is in danger", size(bytes)));
    let what = format!(
        "the slot {} {state} and holds back {} of log{}",
        slot.name,
        size(slot.retained_bytes),
        left.unwrap_or_default()
    );
    findings.risk(
        "WAL_RETAINED",
        what,
        "log that is held back fills the source's disk",
        mend,
    );
}
