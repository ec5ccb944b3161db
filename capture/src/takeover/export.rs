//! The way back: where capture stands, as an offset from which Debezium goes on.
//!
//! At rest the offset names the end of the last transaction that is in Kafka, as Debezium's own does after a COMMIT. In the
//! middle of a large transaction (capture was killed there) it names what the slot has confirmed: that transaction is then
//! written again from its first change, because Debezium cannot be told of a place that it did not see itself. The slot
//! needs nothing: it is never ahead of what is in Kafka.

use serde_json::{Value, json};
use syncline_bus::{Producer, Registry};
use syncline_runtime::{Failure, Outcome};
use syncline_schemas::pipeline::Delivery;
use syncline_schemas::position::{Lsn, Position};
use syncline_schemas::progress::{Progress, SnapshotState};

use crate::config::SourceConfig;
use crate::postgres::control::Control;
use crate::postgres::setup;
use crate::{progress, stage};

/// PostgreSQL's MAXALIGN on every platform that it is built for in 64 bits.
const RECORD_ALIGNMENT_BYTES: u64 = 8;

/// In which form offsets are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// The body of `PATCH /connectors/NAME/offsets`
    Connect,
    /// Key, a tab and value of a record for the worker's offset topic
    Record,
}

/// The offset of a source, as text.
pub fn export(config: &SourceConfig, form: Form) -> Outcome<String> {
    let control = Control::connect(&config.dsn)?;
    let slot = setup::slot_state(&control, &config.slot)?;
    let slot = slot.ok_or_else(|| {
        Failure::definite(
            "SLOT_GONE",
            format!("slot {} is gone: Debezium would lose what came after it", config.slot),
        )
        .hint("let Debezium read the tables anew (snapshot.mode=initial, without offsets)")
    })?;
    if slot.active_pid.is_some() {
        let text = format!(
            "slot {} is being streamed: what it says now is not where it will end",
            config.slot
        );
        return Err(Failure::definite("SLOT_ACTIVE", text).hint("stop syncline-capture (SIGTERM) first, then export"));
    }
    fence(config)?;
    let stored = progress::read(config, &Registry::new(config.registry.clone()))?.ok_or_else(|| {
        Failure::definite(
            "PROGRESS_NONE",
            format!("nothing was ever captured from slot {}", config.slot),
        )
        .hint("Debezium's own offsets still hold; start it as it was")
    })?;
    let value = offset(
        &stored,
        slot.confirmed_flush.unwrap_or_default(),
        stage::clock_ns() / 1000,
    )?;
    Ok(match form {
        Form::Connect => body(&config.prefix, &value),
        Form::Record => record(
            config.connector.as_deref().unwrap_or(&config.name),
            &config.prefix,
            &value,
        ),
    })
}

/// A capture that hangs, or was killed with a transaction open, can write no more: else what it wrote after this would come
/// again, and readers of committed records would wait for the transaction's end.
fn fence(config: &SourceConfig) -> Outcome<()> {
    if config.delivery == Delivery::ExactlyOnce {
        Producer::transactional(&config.bus, &config.transactional_id())?.abort();
    }
    Ok(())
}

/// The offset that means `stored`.
pub fn offset(stored: &Progress, confirmed: Lsn, now_us: i64) -> Outcome<Value> {
    let unread = stored.tables.iter().find(|table| table.state != SnapshotState::Done);
    if let Some(table) = unread {
        let text = format!(
            "the snapshot of {} is not finished, and Debezium cannot continue it",
            table.table
        );
        return Err(Failure::definite("SNAPSHOT_UNFINISHED", text)
            .hint("start capture again and let it finish, or let Debezium read the tables anew (without offsets)"));
    }
    let position = stored.position;
    let lsn = if is_within(position) {
        confirmed.min(position.lsn)
    } else {
        position.lsn
    };
    Ok(json!({
        "lsn": lsn.0, "lsn_proc": lsn.0, "lsn_commit": lsn.0, "messageType": "COMMIT", "ts_usec": now_us
    }))
}

/// Whether a position is that of a change. It is one byte into the commit record then, and records are aligned; at rest it
/// is the end of one.
fn is_within(position: Position) -> bool {
    position.ordinal > 0 || !position.lsn.0.is_multiple_of(RECORD_ALIGNMENT_BYTES)
}

fn body(server: &str, value: &Value) -> String {
    json!({"offsets": [{"partition": {"server": server}, "offset": value}]}).to_string()
}

fn record(connector: &str, server: &str, value: &Value) -> String {
    format!("{}\t{value}", json!([connector, {"server": server}]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::takeover::offset::{Standing, parse};

    fn progress(lsn: u64, ordinal: u64, state: SnapshotState) -> Progress {
        let mut progress = Progress {
            position: Position::new(2, Lsn(lsn), ordinal),
            system_identifier: "7".to_owned(),
            timeline: 1,
            slot: "s".to_owned(),
            publication_hash: String::new(),
            consistent_point: None,
            tables: Vec::new(),
            given_up: None,
            agenda: None,
            ahead: None,
        };
        progress.set_table("public.t", state);
        progress
    }

    fn lsn(progress: &Progress) -> u64 {
        let value = offset(progress, Lsn(0x80), 5).unwrap();
        let read = parse(&value).unwrap();
        assert_eq!(read.standing, Standing::AtRest(Lsn(value["lsn"].as_u64().unwrap())));
        value["lsn_commit"].as_u64().unwrap()
    }

    #[test]
    fn what_is_exported_is_read_back_as_the_same_place() {
        assert_eq!(lsn(&progress(0x100, 0, SnapshotState::Done)), 0x100);
        // Within a transaction it is what the slot has confirmed.
        assert_eq!(lsn(&progress(0x101, 0, SnapshotState::Done)), 0x80);
        assert_eq!(lsn(&progress(0x101, 3, SnapshotState::Done)), 0x80);
    }

    #[test]
    fn an_unfinished_snapshot_is_not_exported() {
        let failure = offset(&progress(0x100, 0, SnapshotState::NotStarted), Lsn(1), 5).unwrap_err();
        assert_eq!(failure.code, "SNAPSHOT_UNFINISHED");
    }

    #[test]
    fn both_forms_name_connector_and_server() {
        let value = json!({"lsn": 1});
        assert_eq!(
            body("fulfil", &value),
            r#"{"offsets":[{"offset":{"lsn":1},"partition":{"server":"fulfil"}}]}"#
        );
        assert_eq!(
            record("inventory", "fulfil", &value),
            "[\"inventory\",{\"server\":\"fulfil\"}]\t{\"lsn\":1}"
        );
    }
}
