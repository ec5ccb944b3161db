use super::*;

use crate::postgres::dsn::Dsn;

/// A configuration that is good enough for decisions.
pub(crate) fn config() -> SourceConfig {
    SourceConfig {
        slot: "s".to_owned(),
        publication: "p".to_owned(),
        command: "syncline-capture --pipeline acme.yaml --source shop".to_owned(),
        ..SourceConfig::new("shop", Dsn::parse("host=localhost user=u dbname=d").unwrap())
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

pub(crate) fn stored(lsn: u64) -> Progress {
    let identity = identity(7, 1, 0);
    let server = Server {
        identity: &identity,
        slot: None,
        publication_hash: "h",
        fork: None,
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
        fork: Some(Lsn(200)),
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
        Start::Continue(Box::new(stored(100)))
    );
    assert_eq!(
        start(Some(&stored(100)), Some(&slot(60)), none).unwrap(),
        Start::Continue(Box::new(stored(100)))
    );
    let mut begun = stored(0);
    assert_eq!(
        start(Some(&begun), Some(&slot(50)), none).unwrap(),
        Start::Anew {
            epoch: 3,
            drop_slot: true
        },
        "the slot is made, but nothing is read"
    );
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
    assert_eq!(on(identity(7, 1, 99)), "TIMELINE_DIVERGED");
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

fn in_mode(mode: Mode, stored: Option<&Progress>, slot: Option<&SlotState>) -> Outcome<Start> {
    let mut config = config();
    config.snapshots.mode = mode;
    let identity = identity(7, 1, 1000);
    let server = Server {
        identity: &identity,
        slot,
        publication_hash: "h",
        fork: None,
    };
    decide(&config, stored, server, Repair::default(), &["public.t".to_owned()])
}

#[test]
fn the_mode_answers_where_a_person_would_be_asked() {
    let made_anew = Start::Anew {
        epoch: 4,
        drop_slot: true,
    };
    let gone = Start::Anew {
        epoch: 4,
        drop_slot: false,
    };
    assert_eq!(
        in_mode(Mode::WhenNeeded, Some(&stored(100)), Some(&slot(101))).unwrap(),
        made_anew
    );
    assert_eq!(in_mode(Mode::WhenNeeded, Some(&stored(100)), None).unwrap(), gone);
    let state = |start| match start {
        Start::Continue(progress) => (progress.position.lsn, progress.table("public.t")),
        Start::Anew { .. } => panic!("the slot is there"),
    };
    let needed = in_mode(Mode::WhenNeeded, None, Some(&slot(5))).unwrap();
    assert_eq!(state(needed), (Lsn(5), SnapshotState::NotStarted));
    let no_data = in_mode(Mode::NoData, None, Some(&slot(5))).unwrap();
    assert_eq!(state(no_data), (Lsn(5), SnapshotState::Done));
    assert_eq!(code(in_mode(Mode::Always, None, Some(&slot(5)))), "SLOT_UNKNOWN");
}

#[test]
fn initial_only_asks_for_no_slot() {
    assert_eq!(
        in_mode(Mode::InitialOnly, Some(&stored(100)), None).unwrap(),
        Start::Continue(Box::new(stored(100)))
    );
    let begun = Start::Anew {
        epoch: 1,
        drop_slot: false,
    };
    assert_eq!(in_mode(Mode::InitialOnly, None, Some(&slot(5))).unwrap(), begun);
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

/// Whoever goes past a part of the log with a slot goes past the changes in it of a table that waits.
#[test]
fn a_table_that_waits_below_an_adopted_slot_is_read_again() {
    let at = |lsn| Position::new(3, Lsn(lsn), 0);
    let mut waits = stored(100);
    waits.reach(
        at(400),
        [("public.t".to_owned(), at(100)), ("public.u".to_owned(), at(300))].into(),
    );
    let Start::Continue(adopted) = start(Some(&waits), Some(&slot(200)), ADOPT).unwrap() else {
        panic!("not adopted")
    };
    assert_eq!(adopted.table("public.t"), SnapshotState::NotStarted);
    assert_eq!(
        (adopted.position, adopted.reached()),
        (at(300), at(400)),
        "public.u still waits"
    );
    let behind = adopted.ahead.unwrap().behind;
    assert_eq!(behind.into_keys().collect::<Vec<_>>(), ["public.u"]);
}

#[test]
fn a_failover_is_gone_on_with_only_if_nothing_is_missing() {
    let none = Repair::default();
    let promoted = identity(7, 2, 1000);
    let Start::Continue(progress) = start_on(Some(&stored(200)), Some(&slot(150)), none, &promoted).unwrap() else {
        panic!("a synchronised slot goes on")
    };
    assert_eq!((progress.timeline, progress.position.lsn), (2, Lsn(200)));
    let beyond = start_on(Some(&stored(0x201)), Some(&slot(150)), none, &promoted).unwrap_err();
    assert_eq!(beyond.code, "TIMELINE_DIVERGED");
    assert!(beyond.message.contains("between 0/C8 and 0/201"), "{beyond}");
    let left = start_on(Some(&stored(100)), None, none, &promoted).unwrap_err();
    assert_eq!(left.code, "FAILED_OVER");
    assert!(left.hint.unwrap().contains("--resnapshot"));
    assert_eq!(
        code(start_on(Some(&stored(100)), Some(&slot(150)), none, &promoted)),
        "SLOT_AHEAD"
    );
}

#[test]
fn a_slot_that_was_given_up_is_refused_with_its_reason() {
    let mut given_up = stored(100);
    given_up.given_up = Some("dropped at its limit".to_owned());
    let refused = start(Some(&given_up), None, Repair::default()).unwrap_err();
    assert_eq!(refused.code, crate::guard::SLOT_GIVEN_UP);
    assert!(refused.message.contains("dropped at its limit"), "{refused}");
    assert!(matches!(
        start(Some(&given_up), None, ANEW),
        Ok(Start::Anew { epoch: 4, .. })
    ));
}
