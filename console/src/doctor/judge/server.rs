//! Settings, connection and clock of a server that is read.

use super::{Findings, quoted};
use crate::doctor::facts::{Connection, OpenTransaction, Server, Source};
use crate::doctor::finding::Finding;

const VERSION_MIN: u32 = 140_000;
/// A server that gives up a sender sooner than this takes a slow broker for a dead client.
const SENDER_TIMEOUT_MS_MIN: i64 = 10_000;
const OPEN_S_MAX: i64 = 300;
const OPEN_TRANSACTIONS_MAX: i64 = 1_000_000;
/// A difference that is visible in the order of edits.
const CLOCK_NOTE_MS: i64 = 500;

/// Everything about the server but its slots. `skew_ms_max`: how far its clock may be wrong before stamps are clamped.
pub fn judge(source: &Source, skew_ms_max: i64) -> Vec<Finding> {
    let mut findings = Findings::at(&source.name);
    settings(&source.server, &mut findings);
    clock(&source.server, skew_ms_max, &mut findings);
    connection(&source.connection, &mut findings);
    for transaction in &source.transactions {
        open_transaction(transaction, &mut findings);
    }
    findings.done()
}

/// The first minors without known faults of decoding (May and August 2025): before them, what an open transaction changed
/// in a table while that table was published could be lost, and then the cure for it used memory without bound.
const DECODING_MENDED: [u32; 4] = [140_019, 150_014, 160_010, 170_006];

fn decoding(version: u32, findings: &mut Findings) {
    let mended = DECODING_MENDED
        .into_iter()
        .find(|mended| mended / 10_000 == version / 10_000);
    if let Some(mended) = mended.filter(|mended| version < *mended) {
        let name = |version: u32| format!("{}.{}", version / 10_000, version % 10_000);
        findings.risk(
            "SERVER_MINOR",
            format!("PostgreSQL {} has known faults in logical decoding", name(version)),
            "what an open transaction changes in a table that is just being published can be missing from the log's stream",
            format!("upgrade the server to {} or later", name(mended)),
        );
    }
}

fn settings(server: &Server, findings: &mut Findings) {
    if server.version < VERSION_MIN {
        findings.stops(
            "VERSION",
            format!("PostgreSQL {} is older than 14", server.version / 10_000),
            "logical messages, by which Syncline knows its own writes, and binary-safe streaming came with 14",
            "upgrade the server",
        );
    }
    if server.standby {
        findings.stops(
            "SOURCE_IS_STANDBY",
            "the source is a standby",
            "what a standby holds may be undone by a failover",
            "connect to the primary",
        );
    }
    if server.wal_level != "logical" {
        findings.stops(
            "WAL_LEVEL",
            format!("wal_level is {}", server.wal_level),
            "rows can be read from the log only if it is written for that",
            "ALTER SYSTEM SET wal_level = logical; -- then restart the server",
        );
    }
    decoding(server.version, findings);
    sender_timeout(server, findings);
}

fn sender_timeout(server: &Server, findings: &mut Findings) {
    let mend = "ALTER SYSTEM SET wal_sender_timeout = '60s'; SELECT pg_reload_conf();";
    match server.sender_timeout_ms {
        0 => findings.risk(
            "WAL_SENDER_TIMEOUT",
            "wal_sender_timeout is 0",
            "a capture that has vanished without a word keeps its slot occupied for ever, and none takes over",
            mend,
        ),
        ms if ms < SENDER_TIMEOUT_MS_MIN => findings.risk(
            "WAL_SENDER_TIMEOUT",
            format!("wal_sender_timeout is {ms} ms"),
            "a short pause of the network or of Kafka is taken for the end of capture, which then begins again and again",
            mend,
        ),
        _ => {}
    }
}

fn clock(server: &Server, skew_ms_max: i64, findings: &mut Findings) {
    let sure_ms = (server.clock_ahead_ms.abs() - server.clock_doubt_ms).max(0);
    let direction = if server.clock_ahead_ms < 0 {
        "behind"
    } else {
        "ahead of"
    };
    let what = format!(
        "the server's clock is {} ms {direction} this machine's (give or take {} ms)",
        server.clock_ahead_ms.abs(),
        server.clock_doubt_ms
    );
    let mend = "synchronise the clocks: timedatectl set-ntp true, on both machines";
    if sure_ms > skew_ms_max {
        let why = "beyond max_clock_skew its stamps are clamped: `latest` may then prefer the wrong edit";
        findings.risk("CLOCK", what, why, mend);
    } else if sure_ms > CLOCK_NOTE_MS {
        let why = "between edits that did not see each other, `latest` goes by the clocks of the databases";
        findings.note("CLOCK", what, why, mend);
    }
}

/// Encryption, of a source as of a target.
pub(super) fn connection(connection: &Connection, findings: &mut Findings) {
    if connection.local {
        return;
    }
    if connection.tls.is_none() {
        findings.risk(
            "NO_TLS",
            "the connection is not encrypted",
            "rows, and by weak methods the password, can be read on the way",
            "put sslmode=verify-full (and sslrootcert) into the connection string; on the server: ssl = on",
        );
    } else if !connection.verified {
        findings.note(
            "TLS_NOT_VERIFIED",
            "the server's certificate is not checked",
            "who can divert the connection can stand in for the server",
            "put sslmode=verify-full (and sslrootcert) into the connection string",
        );
    }
}

fn open_transaction(open: &OpenTransaction, findings: &mut Findings) {
    let long = open.age_s.is_some_and(|age| age >= OPEN_S_MAX);
    if !long && open.age_transactions < OPEN_TRANSACTIONS_MAX {
        return;
    }
    let age = match open.age_s {
        Some(age) => format!("for {age} s"),
        None => format!("since {} transactions", open.age_transactions),
    };
    let why = "a slot is made only when every older transaction has ended, and the log since its begin is kept";
    match open.pid {
        Some(pid) => {
            let idle = if open.idle { ", idle" } else { "" };
            let what = format!(
                "a transaction of {} (server process {pid}{idle}) has been open {age}",
                open.who
            );
            findings.risk(
                "LONG_TRANSACTION",
                what,
                why,
                format!("SELECT pg_terminate_backend({pid});"),
            );
        }
        None => {
            let what = format!("the prepared transaction {} has been waiting {age}", open.who);
            let name = open.who.replace('\'', "''");
            findings.risk(
                "LONG_TRANSACTION",
                what,
                why,
                format!("COMMIT PREPARED '{name}'; -- or ROLLBACK PREPARED"),
            );
        }
    }
}

/// What the server's slots and senders still have room for.
pub fn room(source: &Source) -> Vec<Finding> {
    let mut findings = Findings::at(&source.name);
    let server = &source.server;
    let slots = i64::try_from(source.slots.len()).unwrap_or(i64::MAX);
    let ours = source.slots.iter().any(|slot| slot.name == source.slot);
    let why_slots = "capture needs a slot of its own";
    if !ours && slots >= server.slots_max {
        findings.stops(
            "SOURCE_SLOTS_FULL",
            format!("all {} slots of the server are in use", server.slots_max),
            why_slots,
            drop_or_raise(source),
        );
    }
    let streaming = source.slots.iter().any(|slot| slot.name == source.slot && slot.active);
    if !streaming && server.senders >= server.senders_max {
        findings.stops(
            "SOURCE_SENDERS_FULL",
            format!("all {} senders of the server are at work", server.senders_max),
            "capture needs a sender for as long as it runs",
            format!(
                "ALTER SYSTEM SET max_wal_senders = {}; -- then restart the server",
                server.senders_max + 4
            ),
        );
    }
    findings.done()
}

fn drop_or_raise(source: &Source) -> String {
    let raise = format!(
        "ALTER SYSTEM SET max_replication_slots = {}; -- then restart the server",
        source.server.slots_max + 4
    );
    match source.slots.iter().find(|slot| !slot.active) {
        Some(idle) => format!(
            "SELECT pg_drop_replication_slot({}); -- if nobody needs it any more, else:\n{raise}",
            literal(&idle.name)
        ),
        None => raise,
    }
}

/// A text as SQL wants it.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The role that a command is for.
pub(super) fn alter_role(role: &str, attribute: &str) -> String {
    format!("ALTER ROLE {} {attribute};", quoted(role))
}
