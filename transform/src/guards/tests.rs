//! Examples of a source that is paused, and of one that is not.

use syncline_schemas::envelope::{ChangeEvent, SourceInfo};
use syncline_schemas::lens::{Cell, Row};
use syncline_schemas::mark::{Act, Mark};
use syncline_schemas::pause::{End, Resumed};
use syncline_schemas::pipeline::care::SlotGroup;
use syncline_schemas::position::{Lsn, Position, Vector};
use syncline_schemas::value::Value;

use super::*;
use crate::mapping::Known;

const MEMORY_ID: u32 = 7;
const TOPIC: &str = "shop.public.customers";
const SECOND_US: i64 = 1_000_000;
const PARTITIONS: [i32; 2] = [0, 1];

/// The shop's table, its map and its guards.
struct Shop {
    guards: Guards,
    route: Route,
    store: DiskStore,
    schemas: Schemas,
    crosswalk: HashMap<String, Crosswalk>,
    /// Where what it says next stands; all but the first is quiet unless a test says otherwise.
    partition: i32,
    offset: i64,
    epoch: u64,
    now_us: i64,
    _folder: tempfile::TempDir,
}

fn settings() -> Settings {
    Settings {
        mass_change: Some(Burst {
            at_least: 10,
            ..Burst::MASS_CHANGE
        }),
        stale_restore: Some(Burst {
            at_least: 2,
            ..Burst::STALE_RESTORE
        }),
    }
}

impl Shop {
    /// With so many rows, read once.
    fn with_rows(settings: Settings, rows: i64) -> Self {
        let pipeline = crate::mapping::tests::pipeline();
        let route = Route::unregistered(&pipeline, &pipeline.links[0], MEMORY_ID);
        let folder = tempfile::tempdir().unwrap();
        let mut shop = Self {
            guards: Guards {
                settings,
                care: BTreeMap::new(),
                log: PauseLog::new("acme.pauses".to_owned()),
                pauses_topic: "acme.pauses".into(),
                pauses_id: 9,
                windows: HashMap::new(),
            },
            store: DiskStore::open(folder.path()).unwrap(),
            schemas: Schemas::of(&[(MEMORY_ID, State::schema_json())]),
            route,
            crosswalk: HashMap::new(),
            partition: 0,
            offset: 0,
            epoch: 1,
            now_us: 0,
            _folder: folder,
        };
        shop.watch();
        for id in 0..rows {
            assert!(!shop.says(Op::Read, id, "first"));
        }
        shop.all_loaded();
        shop
    }

    fn watch(&mut self) {
        self.guards.windows.clear();
        let (route, store) = (&self.route, &self.store);
        for partition in PARTITIONS {
            self.guards
                .watch(route, partition, 1, store, &mut self.schemas)
                .unwrap();
        }
    }

    fn all_loaded(&mut self) {
        for partition in PARTITIONS {
            self.guards.loaded(&self.route, partition);
        }
    }

    /// What a restart would find.
    fn restarted(&mut self) {
        self.watch();
        self.all_loaded();
    }

    fn says(&mut self, op: Op, id: i64, email: &str) -> bool {
        self.says_marked(op, id, email, None)
    }

    /// A change of a row, a second after the one before. Whether it is too much.
    fn says_marked(&mut self, op: Op, id: i64, email: &str, mark: Option<&Mark>) -> bool {
        let columns = [
            ("id", Value::from(id)),
            ("email", email.into()),
            ("full_name", "Ada".into()),
        ];
        let row = columns.map(|(name, value)| (name.to_owned(), Cell::Set(value)));
        let event = ChangeEvent {
            op,
            before: None,
            after: (op != Op::Delete).then(|| row.clone().into_iter().collect()),
            source: SourceInfo::default(),
            ts_ms: 0,
        };
        let key: Row = row.into_iter().take(1).collect();
        let lsn = Lsn(u64::try_from(self.offset + 10).unwrap());
        let input = Input {
            event: &event,
            key: Some(&key),
            position: Position::new(self.epoch, lsn, 0),
            commit_us: self.now_us + SECOND_US,
            ahead: false,
            old_key: None,
            moves_away: false,
            new_key: None,
            mark,
        };
        let link = &self.route.link;
        let address = mapping::address(link, &input).unwrap().unwrap();
        let known = Known {
            row: self.crosswalk.get(&mapping::crosswalk_key(link, &address.row)).cloned(),
            ..Known::default()
        };
        let was_known = known.row.is_some();
        let mapping = mapping::apply(link, &self.route.entity, &input, address, &known).unwrap();
        let record = InRecord {
            topic: TOPIC.to_owned(),
            partition: self.partition,
            offset: self.offset,
            timestamp_ms: 0,
            key: None,
            value: None,
            headers: Vec::new(),
        };
        let seen = Seen {
            route: &self.route,
            record: &record,
            input: &input,
            was_known,
            mapping: &mapping,
        };
        let mut work = Work::default();
        let (store, schemas) = (&self.store, &mut self.schemas);
        if self.guards.is_too_much(&seen, store, schemas, &mut work).unwrap() {
            return true;
        }
        let routes = HashMap::from([(
            TOPIC.to_owned(),
            vec![Arc::new(Route::unregistered(
                &crate::mapping::tests::pipeline(),
                &self.route.link,
                MEMORY_ID,
            ))],
        )]);
        self.guards.note(&routes, &mut work);
        work.overlay.settle(&mut self.store).unwrap();
        if let Mapping::Said { crosswalk, .. } = mapping {
            self.crosswalk.extend(crosswalk);
        }
        self.offset += 1;
        self.now_us += SECOND_US;
        false
    }

    /// How many of these rows change to a value of their own before it is too much.
    fn passing(&mut self, ids: impl IntoIterator<Item = i64>, email: &str) -> usize {
        ids.into_iter()
            .take_while(|id| !self.says(Op::Update, *id, email))
            .count()
    }

    /// Somebody lets it go on, with so many records behind the one that was too much.
    fn resume(&mut self, behind: i64) {
        self.guards.log.pauses.take(PauseRecord::Resumed(Resumed {
            source: "shop".to_owned(),
            up_to: vec![End {
                topic: TOPIC.to_owned(),
                partition: self.partition,
                offset: self.offset + behind,
            }],
            by: "ada".to_owned(),
            why: "it is right".to_owned(),
            at_us: 0,
        }));
    }

    fn paused_by(&self) -> Option<&str> {
        let first = self.guards.pauses().of("shop").next();
        first.map(|paused| paused.guard.as_str())
    }
}

#[test]
fn a_table_that_changes_as_a_whole_is_paused_and_let_go_on_by_a_person() {
    let mut shop = Shop::with_rows(settings(), 400);
    assert_eq!(shop.passing(0..400, "second"), 20, "5 % of 400");
    assert_eq!(shop.paused_by(), Some("mass_change"));
    let paused = shop.guards.pauses().holding()[0].clone();
    assert_eq!((paused.changed, paused.rows, paused.offset), (21, 400, shop.offset));
    shop.resume(200);
    assert_eq!(shop.paused_by(), None);
    assert_eq!(shop.passing(20..220, "second"), 200, "what was there by then passes");
    assert_eq!(shop.passing(0..400, "third"), 20, "and nothing of it counts later");
}

#[test]
fn a_restart_forgets_nothing() {
    let mut shop = Shop::with_rows(settings(), 400);
    assert_eq!(shop.passing(0..15, "second"), 15);
    shop.restarted();
    assert_eq!(shop.passing(15..400, "second"), 5);
}

/// The mark of a write of ours.
fn ours() -> Mark {
    Mark {
        pipeline: "acme".to_owned(),
        entity: "customer".to_owned(),
        cid: "c".to_owned(),
        table: "public.customers".to_owned(),
        row: None,
        act: Act::Update,
        vector: Vector::new(),
        stamp_us: 0,
        fields: Vec::new(),
    }
}

#[test]
fn rows_that_come_and_what_we_write_and_a_small_table_are_no_mass_change() {
    let mut shop = Shop::with_rows(settings(), 100);
    assert!((100..300).all(|id| !shop.says(Op::Create, id, "new")));
    let mark = ours();
    assert!((0..300).all(|id| !shop.says_marked(Op::Update, id, "ours", Some(&mark))));
    let mut small = Shop::with_rows(settings(), 20);
    assert_eq!(small.passing(0..20, "second"), 10, "no more than at_least says");
}

#[test]
fn a_table_that_loses_its_rows_is_paused_too() {
    let mut shop = Shop::with_rows(settings(), 400);
    let deleted = (0..400).take_while(|id| !shop.says(Op::Delete, *id, "")).count();
    // Of the rows that are left.
    assert_eq!((deleted, shop.paused_by()), (19, Some("mass_change")));
}

#[test]
fn changes_that_are_spread_over_time_pass() {
    let mut shop = Shop::with_rows(settings(), 400);
    for id in 0..200 {
        shop.now_us += 40 * SECOND_US;
        assert!(!shop.says(Op::Update, id, "second"));
    }
}

#[test]
fn values_that_rows_had_left_are_known_again() {
    let mut shop = Shop::with_rows(settings(), 2_000);
    for id in 0..50 {
        shop.now_us += 60 * SECOND_US;
        assert!(!shop.says(Op::Update, id, "second"));
    }
    shop.restarted();
    assert_eq!(shop.passing(0..50, "first"), 4, "0.2 % of 2,000");
    assert_eq!(shop.paused_by(), Some("stale_restore"));
    shop.resume(50);
    assert_eq!(shop.passing(4..50, "first"), 46);
}

#[test]
fn a_log_that_was_replaced_is_looked_at_by_a_person() {
    let mut shop = Shop::with_rows(settings(), 10);
    shop.epoch = 2;
    assert!(shop.says(Op::Read, 1, "first"));
    assert_eq!(shop.paused_by(), Some("stale_restore"));
    shop.resume(10);
    assert!(!shop.says(Op::Read, 1, "first"));
    shop.offset += 20;
    assert!(!shop.says(Op::Read, 2, "first"), "once is enough");
    let mut only_mass = Shop::with_rows(
        Settings {
            stale_restore: None,
            ..settings()
        },
        10,
    );
    only_mass.epoch = 2;
    assert!(!only_mass.says(Op::Read, 1, "first"));
}

#[test]
fn a_log_that_a_person_has_let_pass_passes_in_partitions_that_hear_of_it_later() {
    let mut shop = Shop::with_rows(settings(), 10);
    shop.partition = 1;
    assert!(!shop.says(Op::Update, 1, "second"));
    (shop.partition, shop.epoch) = (0, 2);
    assert!(shop.says(Op::Read, 1, "first"));
    shop.resume(10);
    shop.offset += 20;
    shop.partition = 1;
    assert!(!shop.says(Op::Read, 2, "first"), "that log has been let pass");
    assert_eq!(shop.paused_by(), None);
    shop.epoch = 3;
    assert!(shop.says(Op::Read, 3, "first"), "another has not");
}

#[test]
fn a_log_that_was_let_pass_of_one_slot_is_not_let_pass_of_another() {
    let mut shop = Shop::with_rows(settings(), 10);
    let group = |name: &str, tables: Option<&str>| SlotGroup {
        name: name.to_owned(),
        tables: tables.map(|table| vec![table.to_owned()]),
    };
    let care = Care {
        slots: vec![group("hot", Some("public.orders")), group("rest", None)],
        ..Care::default()
    };
    shop.guards.care.insert("shop".to_owned(), care);
    shop.epoch = 2;
    assert!(shop.says(Op::Read, 1, "first"));
    let Some(paused) = shop.guards.pauses().of("shop").next().cloned() else {
        unreachable!()
    };
    shop.guards.log.pauses = Pauses::default();
    let orders = Paused {
        table: "public.orders".to_owned(),
        ..paused
    };
    shop.guards.log.pauses.take(PauseRecord::Paused(orders));
    shop.resume(1);
    shop.offset += 1;
    assert_eq!(shop.paused_by(), None);
    assert!(shop.says(Op::Read, 2, "first"), "the log of the other slot");
}

#[test]
fn a_log_that_was_replaced_is_noticed_whatever_it_says_first() {
    let mut shop = Shop::with_rows(settings(), 10);
    shop.epoch = 2;
    assert!(
        shop.says_marked(Op::Update, 1, "ours", Some(&ours())),
        "a write of ours"
    );
    let mut shop = Shop::with_rows(settings(), 10);
    shop.epoch = 2;
    assert!(shop.says(Op::Delete, 99, ""), "a row that nobody knows");
}
