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

use syncline_runtime::{Failure, Outcome};
use syncline_schemas::position::{Lsn, Position};
use syncline_schemas::progress::{Progress, SnapshotState};

use crate::config::{Repair, SourceConfig};
use crate::postgres::client::SystemIdentity;
use crate::postgres::setup::SlotState;

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
    Continue(Progress),
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
    match (stored, server.slot) {
        (None, None) => Ok(Start::Anew {
            epoch: 1,
            drop_slot: false,
        }),
        (None, Some(slot)) if repair.adopt_slot => adopt(config, server, slot, tables),
        (None, Some(slot)) => Err(unknown(config, slot)),
        (Some(stored), slot) if is_preparing(stored) => Ok(Start::Anew {
            epoch: stored.position.epoch,
            drop_slot: slot.is_some(),
        }),
        (Some(stored), slot) => go_on(config, stored, server, slot, repair),
    }
}

/// A progress record that says only that the slot is being made. A slot found beside it is the one that was.
pub fn preparing(config: &SourceConfig, epoch: u64, server: Server<'_>) -> Progress {
    Progress {
        position: Position::new(epoch, Lsn(0), 0),
        system_identifier: server.identity.system_identifier.to_string(),
        timeline: server.identity.timeline,
        slot: config.slot.clone(),
        publication_hash: server.publication_hash.to_owned(),
        consistent_point: None,
        tables: Vec::new(),
    }
}

fn is_preparing(stored: &Progress) -> bool {
    stored.consistent_point.is_none() && stored.position.lsn == Lsn(0)
}

fn adopt(config: &SourceConfig, server: Server<'_>, slot: &SlotState, tables: &[String]) -> Outcome<Start> {
    let mut progress = preparing(config, 1, server);
    progress.position.lsn = confirmed(slot)?;
    for table in tables {
        progress.set_table(table, SnapshotState::Done);
    }
    Ok(Start::Continue(progress))
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
    let Some(slot) = slot else {
        return Err(gone(config, stored));
    };
    let confirmed = confirmed(slot)?;
    let mut progress = stored.clone();
    progress.publication_hash = server.publication_hash.to_owned();
    if repair.adopt_slot {
        progress.timeline = identity.timeline;
        progress.position = progress
            .position
            .max(Position::new(stored.position.epoch, confirmed, 0));
        return Ok(Start::Continue(progress));
    }
    if stored.timeline != identity.timeline || identity.lsn < stored.position.lsn {
        return Err(another_history(config, stored, identity));
    }
    if confirmed > stored.position.lsn {
        return Err(ahead(config, stored, confirmed));
    }
    Ok(Start::Continue(progress))
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

fn another_history(config: &SourceConfig, stored: &Progress, identity: &SystemIdentity) -> Failure {
    let text = format!(
        "the log of {} has another history than before: timeline {} ending at {}, was timeline {} and read up to {}",
        config.name, identity.timeline, identity.lsn, stored.timeline, stored.position.lsn
    );
    let hint = format!(
        "read all tables again (rows deleted meanwhile leave no trace): {}; or, after a planned promotion with a synchronised slot: {} --adopt-slot",
        resnapshot(config),
        config.command
    );
    Failure::definite("SYSTEM_CHANGED", text).hint(hint)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use syncline_bus::BusConfig;
    use syncline_schemas::pipeline::Delivery;

    use crate::postgres::dsn::Dsn;

    /// A configuration that is good enough for decisions.
    pub(crate) fn config() -> SourceConfig {
        SourceConfig {
            name: "shop".to_owned(),
            prefix: "shop".to_owned(),
            dsn: Dsn::parse("host=localhost user=u dbname=d").unwrap(),
            slot: "s".to_owned(),
            publication: "p".to_owned(),
            tables: None,
            bus: BusConfig::new("localhost:9092", "test"),
            registry: String::new(),
            partitions: 1,
            delivery: Delivery::ExactlyOnce,
            form: crate::form::Form::default(),
            snapshots: crate::snapshots::Snapshots::default(),
            repair: Repair::default(),
            command: "syncline-capture --pipeline acme.yaml --source shop".to_owned(),
            until_current: false,
        }
    }

    fn identity(system_identifier: u64, timeline: u32, lsn: u64) -> SystemIdentity {
        SystemIdentity {
            system_identifier,
            timeline,
            lsn: Lsn(lsn),
            dbname: "d".to_owned(),
        }
    }

    fn slot(confirmed: u64) -> SlotState {
        SlotState {
            name: "s".to_owned(),
            plugin: Some("pgoutput".to_owned()),
            database: Some("d".to_owned()),
            active_pid: None,
            restart_lsn: Some(Lsn(1)),
            confirmed_flush: Some(Lsn(confirmed)),
            wal_status: Some("reserved".to_owned()),
            safe_wal_bytes: None,
            retained_bytes: 0,
            invalidation: None,
        }
    }

    fn stored(lsn: u64) -> Progress {
        let identity = identity(7, 1, 0);
        let server = Server {
            identity: &identity,
            slot: None,
            publication_hash: "h",
        };
        let mut progress = preparing(&config(), 3, server);
        progress.position.lsn = Lsn(lsn);
        progress.consistent_point = Some(Lsn(50));
        progress
    }

    fn start(stored: Option<&Progress>, slot: Option<&SlotState>, repair: Repair) -> Outcome<Start> {
        start_on(stored, slot, repair, &identity(7, 1, 1000))
    }

    fn start_on(
        stored: Option<&Progress>,
        slot: Option<&SlotState>,
        repair: Repair,
        identity: &SystemIdentity,
    ) -> Outcome<Start> {
        let server = Server {
            identity,
            slot,
            publication_hash: "h",
        };
        decide(&config(), stored, server, repair, &["public.t".to_owned()])
    }

    const ADOPT: Repair = Repair {
        adopt_slot: true,
        resnapshot: false,
    };
    const ANEW: Repair = Repair {
        adopt_slot: false,
        resnapshot: true,
    };

    fn code(outcome: Outcome<Start>) -> &'static str {
        outcome.unwrap_err().code
    }

    #[test]
    fn the_table_of_the_module_holds() {
        let none = Repair::default();
        assert_eq!(
            start(None, None, none).unwrap(),
            Start::Anew {
                epoch: 1,
                drop_slot: false
            }
        );
        assert_eq!(code(start(None, Some(&slot(10)), none)), "SLOT_UNKNOWN");
        assert_eq!(code(start(Some(&stored(100)), None, none)), "SLOT_GONE");
        assert_eq!(
            start(Some(&stored(100)), Some(&slot(100)), none).unwrap(),
            Start::Continue(stored(100))
        );
        assert_eq!(
            start(Some(&stored(100)), Some(&slot(60)), none).unwrap(),
            Start::Continue(stored(100))
        );
        let mut begun = stored(0);
        begun.consistent_point = None;
        assert_eq!(
            start(Some(&begun), None, none).unwrap(),
            Start::Anew {
                epoch: 3,
                drop_slot: false
            }
        );
        assert_eq!(
            start(Some(&begun), Some(&slot(10)), none).unwrap(),
            Start::Anew {
                epoch: 3,
                drop_slot: true
            }
        );
    }

    #[test]
    fn a_slot_that_is_ahead_is_refused_with_both_places_and_the_command() {
        let failure = start(Some(&stored(0x100)), Some(&slot(0x101)), Repair::default()).unwrap_err();
        assert_eq!(failure.code, "SLOT_AHEAD");
        assert!(
            failure.message.contains("0/101") && failure.message.contains("0/100"),
            "{failure}"
        );
        assert!(
            failure
                .hint
                .unwrap()
                .contains("--pipeline acme.yaml --source shop --resnapshot")
        );
    }

    #[test]
    fn another_cluster_or_another_history_is_refused() {
        let none = Repair::default();
        let on = |identity| code(start_on(Some(&stored(100)), Some(&slot(100)), none, &identity));
        assert_eq!(on(identity(8, 1, 1000)), "SYSTEM_CHANGED");
        assert_eq!(on(identity(7, 2, 1000)), "SYSTEM_CHANGED");
        assert_eq!(on(identity(7, 1, 99)), "SYSTEM_CHANGED");
        let adopted = start_on(Some(&stored(100)), Some(&slot(100)), ADOPT, &identity(7, 2, 1000)).unwrap();
        assert!(matches!(adopted, Start::Continue(progress) if progress.timeline == 2));
        assert_eq!(
            code(start_on(
                Some(&stored(100)),
                Some(&slot(1)),
                ADOPT,
                &identity(8, 1, 1000)
            )),
            "SYSTEM_CHANGED"
        );
    }

    #[test]
    fn a_person_may_decide_otherwise() {
        assert_eq!(
            start(Some(&stored(100)), None, ANEW).unwrap(),
            Start::Anew {
                epoch: 4,
                drop_slot: false
            }
        );
        assert_eq!(
            start(None, Some(&slot(5)), ANEW).unwrap(),
            Start::Anew {
                epoch: 1,
                drop_slot: true
            }
        );
        let Start::Continue(adopted) = start(None, Some(&slot(5)), ADOPT).unwrap() else {
            panic!("not adopted")
        };
        assert_eq!(
            (adopted.position, adopted.table("public.t")),
            (Position::new(1, Lsn(5), 0), SnapshotState::Done)
        );
        let Start::Continue(adopted) = start(Some(&stored(100)), Some(&slot(200)), ADOPT).unwrap() else {
            panic!("not adopted")
        };
        assert_eq!(adopted.position, Position::new(3, Lsn(200), 0));
    }
}
