//! In Debezium's place: its offsets, checked against the slot, as the progress from which capture goes on.
//!
//! **No change lost.** Debezium tells the slot no more than `lsn_commit` of an offset that Connect has stored, so a slot
//! that is ahead of the offsets was moved by somebody else, or the offsets are old; both are refused. (With
//! `lsn.flush.mode=connector_and_driver` its driver moves an idle slot on; then, and only at rest, the slot's word counts.)
//! **No more repeated than Debezium would.** Capture begins after the last change that the offsets name ([`locate`]). What
//! Debezium had written and Connect had not yet noted when it stopped is written again: that is Debezium's own tail.
//!
//! Offsets and our own progress may both be there, when Debezium had taken the place back in between. Each says of a prefix
//! of the same log that it is in Kafka; so the greater counts. (That is no `max(stored, slot)`: the slot's word says only
//! what the server may forget.)

use std::path::PathBuf;

use std::sync::Arc;

use syncline_bus::Registry;
use syncline_runtime::{Failure, Outcome};
use syncline_schemas::position::{Lsn, Position};
use syncline_schemas::progress::{Progress, SnapshotState};

use crate::assemble::{Assembler, Rules};
use crate::config::SourceConfig;
use crate::postgres::catalog::TableInfo;
use crate::postgres::client::ReplicationClient;
use crate::postgres::control::Control;
use crate::postgres::quote::TableName;
use crate::postgres::session::SessionSettings;
use crate::postgres::setup::SlotState;
use crate::postgres::stream::StreamSettings;
use crate::shapes::Shapes;
use crate::start::{self, Server};

/// The way back.
pub mod export;

/// Where offsets are kept.
pub mod find;

/// A `HashMap` as Java writes it.
pub mod java_map;

/// How many changes of a transaction are in Kafka.
pub mod locate;

/// What an offset says.
pub mod offset;

use offset::Standing;

/// Where a connector's offsets are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offsets {
    /// In this topic of the worker's cluster.
    Topic(String),
    /// In this file of a standalone worker.
    Standalone(PathBuf),
    /// In this file, as `GET /connectors/NAME/offsets` gave them.
    Exported(PathBuf),
}

/// The progress that a connector's offsets mean, if they say more than `stored`; none if there is nothing to take over.
pub fn progress(
    config: &SourceConfig,
    registry: &Arc<Registry>,
    stored: Option<&Progress>,
    server: Server<'_>,
    tables: &[TableInfo],
) -> Outcome<Option<Progress>> {
    let repaired = config.repair.adopt_slot || config.repair.resnapshot;
    if config.connector.is_none() && config.offsets.is_none() || repaired {
        return Ok(None);
    }
    let found = match &config.offsets {
        Some(offsets) => find::find(config, offsets)?,
        None => None,
    };
    let Some(found) = found else {
        return match (stored, server.slot) {
            (None, Some(slot)) => Err(missing(config, slot)),
            _ => Ok(None),
        };
    };
    if let Some(collections) = &found.incremental {
        tracing::warn!(collections, "an incremental snapshot was under way: signal it again");
    }
    if is_ours_newer(stored, &found.standing) {
        return Ok(None);
    }
    let standing = judge(config, &found.standing, server)?;
    tracing::info!(source = config.name, ?standing, "taking over from Debezium's offsets");
    let mut progress = start::preparing(config, stored.map_or(1, |stored| stored.position.epoch), server);
    for table in tables {
        progress.set_table(&format!("{}.{}", table.schema, table.table), SnapshotState::Done);
    }
    let epoch = progress.position.epoch;
    progress.position = match standing {
        Place::AtRest(lsn) => Position::new(epoch, lsn, 0),
        Place::Within { commit, event } => {
            let at_rest = Position::new(epoch, commit, 0);
            placed(config, registry, server, tables, at_rest, event)?
        }
    };
    tracing::info!(source = config.name, position = %progress.position, "going on after Debezium");
    Ok(Some(progress).filter(|progress| stored.is_none_or(|stored| progress.position > stored.position)))
}

/// Our own progress is at least as far as the offsets: they are from before our time.
fn is_ours_newer(stored: Option<&Progress>, standing: &Standing) -> bool {
    let Some(stored) = stored else { return false };
    let rests = matches!(standing, Standing::AtRest(_) | Standing::Reading);
    let whole = standing.whole().unwrap_or_default();
    // Of equal places the one within the next transaction is further.
    stored.has_begun() && (whole < stored.position.lsn || rests && whole == stored.position.lsn)
}

/// From where to begin, once the slot has been looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// After everything that ends here.
    AtRest(Lsn),
    /// Within the transaction after `commit`.
    Within {
        /// The end of the last whole transaction.
        commit: Lsn,
        /// The last change that is in Kafka.
        event: Lsn,
    },
}

/// Whether the slot still has everything that the offsets lack.
pub fn judge(config: &SourceConfig, standing: &Standing, server: Server<'_>) -> Outcome<Place> {
    let Some(whole) = standing.whole() else {
        return Err(reading(config));
    };
    let Some(slot) = server.slot else {
        return Err(slot_gone(config, whole));
    };
    if whole > server.identity.lsn {
        return Err(elsewhere(config, whole, server.identity.lsn));
    }
    let confirmed = slot
        .confirmed_flush
        .ok_or_else(|| Failure::transient("SLOT_NOT_READY", format!("slot {} is still being made", slot.name)))?;
    match *standing {
        Standing::AtRest(lsn) if confirmed > lsn && config.driver_flushes => Ok(Place::AtRest(confirmed)),
        _ if confirmed > whole => Err(behind(config, whole, confirmed)),
        Standing::Within { commit, event } => Ok(Place::Within { commit, event }),
        Standing::AtRest(_) | Standing::Reading => Ok(Place::AtRest(whole)),
    }
}

/// Reads the transaction that Debezium was writing up to where it was.
fn placed(
    config: &SourceConfig,
    registry: &Arc<Registry>,
    server: Server<'_>,
    tables: &[TableInfo],
    at_rest: Position,
    event: Lsn,
) -> Outcome<Position> {
    let client = ReplicationClient::connect(&config.dsn, &SessionSettings::default())?;
    let wanted = tables.iter().map(|table| TableName::new(&table.schema, &table.table));
    let control = Control::connect(&config.dsn)?;
    let mut shapes = Shapes::new(config, registry, control, &server.identity.dbname, wanted);
    let from = Lsn(at_rest.lsn.0.saturating_sub(1));
    let mut stream = client.start_stream(&config.slot, &config.publication, from, StreamSettings::default())?;
    let rules = Rules::of(&config.form, &config.prefix, &server.identity.dbname);
    let assembler = Assembler::new(at_rest, rules);
    locate::locate(&mut stream, assembler, at_rest, event, &mut |assembler, relation| {
        let registered = shapes.announced(relation)?;
        assembler.define(relation.oid, registered.plan());
        Ok(())
    })
}

fn resnapshot(config: &SourceConfig) -> String {
    format!(
        "read all tables again (rows deleted meanwhile leave no trace): {} --resnapshot",
        config.command
    )
}

fn missing(config: &SourceConfig, slot: &SlotState) -> Failure {
    let confirmed = slot.confirmed_flush.unwrap_or_default();
    let connector = config.connector.as_deref().unwrap_or("(no name)");
    let looked = match &config.offsets {
        Some(Offsets::Topic(place)) => format!(
            "topic {place} has none of connector {connector} with topic.prefix {}",
            config.prefix
        ),
        Some(Offsets::Standalone(path)) => format!("{} has none of it", path.display()),
        Some(Offsets::Exported(path)) => format!("{} has none of it", path.display()),
        None => "it is not known where they are".to_owned(),
    };
    let text = format!(
        "slot {} exists (confirmed {confirmed}), but the connector's offsets were not found: {looked}",
        config.slot
    );
    let hint = format!(
        "name the worker that ran it (--worker worker.properties) or an export (curl http://CONNECT:8083/connectors/NAME/offsets > offsets.json; --offsets offsets.json); \
         or, if everything before {confirmed} is in Kafka: {} --adopt-slot; or {}",
        config.command,
        resnapshot(config)
    );
    Failure::definite("OFFSETS_MISSING", text).hint(hint)
}

fn reading(config: &SourceConfig) -> Failure {
    let text = "the connector's first snapshot was not finished, and what it lacks is not known here";
    let hint = format!(
        "let Debezium finish it (until its offset no longer has \"snapshot\"), or {}",
        resnapshot(config)
    );
    Failure::definite("OFFSETS_IN_SNAPSHOT", text).hint(hint)
}

fn slot_gone(config: &SourceConfig, whole: Lsn) -> Failure {
    let text = format!(
        "slot {} is gone; the connector's offsets stand at {whole}, and what came after cannot be read from the log",
        config.slot
    );
    Failure::definite("SLOT_GONE", text).hint(format!("is slot.name right? If so, {}", resnapshot(config)))
}

fn elsewhere(config: &SourceConfig, whole: Lsn, end: Lsn) -> Failure {
    let text = format!(
        "the connector's offsets stand at {whole}, but the log of this server ends at {end}: it is another server, or one restored from a backup"
    );
    Failure::definite("OFFSETS_OF_ANOTHER_SYSTEM", text).hint(format!(
        "point database.hostname at the former server, or {}",
        resnapshot(config)
    ))
}

fn behind(config: &SourceConfig, whole: Lsn, confirmed: Lsn) -> Failure {
    let text = format!(
        "slot {} stands at {confirmed}, but the connector's offsets only at {whole}: those between are lost to the log, or the offsets are old",
        config.slot
    );
    let hint = format!(
        "stop the connector and take its offsets of now; or {}; or, if you know that nothing was lost: {} --adopt-slot",
        resnapshot(config),
        config.command
    );
    Failure::definite("OFFSETS_BEHIND_SLOT", text).hint(hint)
}

#[cfg(test)]
mod tests;
