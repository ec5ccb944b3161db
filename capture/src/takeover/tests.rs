use super::*;
use crate::postgres::client::SystemIdentity;

const END: u64 = 0x1000;

fn config() -> SourceConfig {
    SourceConfig {
        connector: Some("inventory".to_owned()),
        ..crate::start::tests::config()
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

fn judged(config: &SourceConfig, standing: &Standing, slot: Option<&SlotState>) -> Outcome<Place> {
    let identity = SystemIdentity {
        system_identifier: 7,
        timeline: 1,
        lsn: Lsn(END),
        dbname: "d".to_owned(),
    };
    let server = Server {
        identity: &identity,
        slot,
        publication_hash: "h",
        fork: None,
    };
    judge(config, standing, server)
}

const WITHIN: Standing = Standing::Within {
    commit: Lsn(0x100),
    event: Lsn(0x180),
};

#[test]
fn capture_begins_where_the_offsets_end() {
    let config = config();
    let begins = |standing, confirmed| judged(&config, &standing, Some(&slot(confirmed))).unwrap();
    assert_eq!(begins(Standing::AtRest(Lsn(0x100)), 0x80), Place::AtRest(Lsn(0x100)));
    assert_eq!(begins(Standing::AtRest(Lsn(0x100)), 0x100), Place::AtRest(Lsn(0x100)));
    let within = Place::Within {
        commit: Lsn(0x100),
        event: Lsn(0x180),
    };
    assert_eq!(begins(WITHIN, 0x100), within);
}

#[test]
fn what_cannot_be_taken_over_is_refused_with_a_code_and_what_to_do() {
    let config = config();
    for (standing, slot, code) in [
        (Standing::Reading, Some(slot(0x80)), "OFFSETS_IN_SNAPSHOT"),
        (Standing::AtRest(Lsn(0x100)), None, "SLOT_GONE"),
        (Standing::AtRest(Lsn(0x100)), Some(slot(0x108)), "OFFSETS_BEHIND_SLOT"),
        (WITHIN, Some(slot(0x108)), "OFFSETS_BEHIND_SLOT"),
        (
            Standing::AtRest(Lsn(END + 8)),
            Some(slot(0x80)),
            "OFFSETS_OF_ANOTHER_SYSTEM",
        ),
    ] {
        let failure = judged(&config, &standing, slot.as_ref()).unwrap_err();
        assert_eq!(failure.code, code);
        assert!(failure.hint.unwrap().contains(" --resnapshot"), "{code}");
    }
    let failure = missing(&config, &slot(0x80));
    assert!(failure.hint.unwrap().contains("--offsets"), "{}", failure.message);
}

#[test]
fn a_slot_that_the_driver_moved_on_counts_only_at_rest() {
    let config = SourceConfig {
        driver_flushes: true,
        ..config()
    };
    let place = judged(&config, &Standing::AtRest(Lsn(0x100)), Some(&slot(0x108))).unwrap();
    assert_eq!(place, Place::AtRest(Lsn(0x108)));
    assert!(judged(&config, &WITHIN, Some(&slot(0x108))).is_err());
}

#[test]
fn of_offsets_and_our_own_progress_the_further_one_counts() {
    let identity = SystemIdentity {
        system_identifier: 7,
        timeline: 1,
        lsn: Lsn(END),
        dbname: "d".to_owned(),
    };
    let server = Server {
        identity: &identity,
        slot: None,
        publication_hash: "h",
        fork: None,
    };
    let mut stored = start::preparing(&config(), 1, server);
    assert!(!is_ours_newer(None, &WITHIN) && !is_ours_newer(Some(&stored), &WITHIN));
    stored.position.lsn = Lsn(0x100);
    assert!(is_ours_newer(Some(&stored), &Standing::AtRest(Lsn(0x100))));
    assert!(is_ours_newer(Some(&stored), &Standing::AtRest(Lsn(0x80))));
    assert!(!is_ours_newer(Some(&stored), &Standing::AtRest(Lsn(0x108))));
    assert!(!is_ours_newer(Some(&stored), &WITHIN));
}
