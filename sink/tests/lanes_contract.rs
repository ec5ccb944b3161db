//! What a target remembers of lanes and their runs, against a real PostgreSQL (PG_DSN) and without Kafka.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::db::{World, delivery, partition};
use common::{customer, link, with};
use syncline_runtime::Failure;
use syncline_schemas::pipeline::{Link, Mode, Secret};
use syncline_schemas::schedule::{Schedule, Timestamp};
use syncline_sink::plan::Verdict;
use syncline_sink::postgres::{Asked, Next, PostgresTarget, Run, Settings};
use syncline_sink::target::{DeadLetter, Delivery, Partition, Target};

const HOUR: Schedule = Schedule::Every { period_ms: 3_600_000 };

fn hybrid(live: &str) -> Link {
    let live = BTreeSet::from([live.to_owned()]);
    Link {
        mode: Mode::Hybrid { live, rest: HOUR },
        ..link()
    }
}

fn main_lane(world: &World, link: &Link) -> PostgresTarget {
    PostgresTarget::new(Settings {
        pipeline: "acme".to_owned(),
        target: "crm".to_owned(),
        dsn: Secret::new(world.dsn()),
        links: vec![link.clone()],
    })
    .unwrap()
}

fn rest_lane(world: &World, link: &Link) -> PostgresTarget {
    let rest = PostgresTarget::rest("acme", "crm", &Secret::new(world.dsn()), link);
    rest.unwrap().unwrap()
}

fn claim(target: &mut PostgresTarget) -> i64 {
    target.claim(&[partition()]).unwrap()[&partition()]
}

fn at(time: &str) -> Timestamp {
    format!("2026-11-29T{time}Z").parse().unwrap()
}

fn ask(target: &mut PostgresTarget, end: i64, schedule: &Schedule, time: &str) -> (Next, i64) {
    let ends = BTreeMap::from([(partition(), end)]);
    let asked = Asked {
        ends: &ends,
        schedule,
        now: at(time),
        flush: false,
    };
    target.next_run(&asked).unwrap()
}

fn run(opened: &str, end: i64) -> Next {
    Next::Work(Run {
        opened: at(opened),
        ends: BTreeMap::from([(partition(), end)]),
    })
}

fn wait(until: &str) -> Next {
    Next::Wait(Some(at(until)))
}

#[test]
fn a_run_is_opened_once_and_finished_to_its_end_by_whoever_comes() {
    let world = World::contacts();
    let link = Link {
        mode: Mode::Batch(HOUR),
        ..link()
    };
    let (mut one, mut other) = (main_lane(&world, &link), main_lane(&world, &link));
    assert_eq!(
        ask(&mut one, 5, &HOUR, "08:10:00"),
        (wait("09:00:00"), 5),
        "not at its first sight"
    );
    assert_eq!(ask(&mut other, 5, &HOUR, "08:59:59"), (wait("09:00:00"), 5));
    assert_eq!(ask(&mut one, 7, &HOUR, "09:00:00.5"), (run("09:00:00.5", 7), 7));
    assert_eq!(ask(&mut other, 9, &HOUR, "09:00:00.7"), (run("09:00:00.5", 7), 9));
    // Nobody finished it; days later, and by a topic that was made anew and is shorter.
    assert_eq!(ask(&mut other, 3, &HOUR, "23:00:00"), (run("09:00:00.5", 3), 3));
    let Next::Work(open) = run("09:00:00.5", 7) else {
        unreachable!()
    };
    let stale = Run {
        opened: at("08:00:00"),
        ..open.clone()
    };
    assert_eq!(claim(&mut one), 0);
    let applied = BTreeMap::from([(partition(), 0)]);
    assert_eq!(one.finish(&stale, &applied).unwrap(), 0);
    assert_eq!(
        ask(&mut one, 9, &HOUR, "09:01:00").0,
        run("09:00:00.5", 7),
        "of another run"
    );
    assert_eq!(one.finish(&open, &applied).unwrap(), 1);
    assert_eq!(ask(&mut other, 9, &HOUR, "09:02:00").0, wait("10:00:00"));
}

#[test]
fn a_run_is_not_done_where_the_target_has_lost_what_it_wrote() {
    let world = World::contacts();
    let link = Link {
        mode: Mode::Batch(HOUR),
        ..link()
    };
    let mut target = main_lane(&world, &link);
    ask(&mut target, 2, &HOUR, "08:10:00");
    let (Next::Work(open), _) = ask(&mut target, 2, &HOUR, "09:00:01") else {
        panic!("it is due")
    };
    let batch = [delivery(0, &customer("a", 1)), delivery(1, &customer("b", 1))];
    assert_eq!(claim(&mut target), 0);
    target.apply(&batch).unwrap();
    // A standby takes over that has not got the last transaction.
    world
        .db
        .exec("UPDATE syncline.offsets SET next_offset = 0; DELETE FROM contacts; DELETE FROM syncline.applied");
    let applied = BTreeMap::from([(partition(), 2)]);
    assert_eq!(target.finish(&open, &applied).unwrap(), 0);
    assert_eq!(ask(&mut target, 2, &HOUR, "09:00:02").0, Next::Work(open.clone()));
    assert_eq!(claim(&mut target), 0);
    target.apply(&batch).unwrap();
    assert_eq!(target.finish(&open, &applied).unwrap(), 1);
    assert_eq!(ask(&mut target, 2, &HOUR, "09:00:03").0, wait("10:00:00"));
    assert_eq!(world.db.query("SELECT name FROM contacts ORDER BY name"), ["a", "b"]);
}

#[test]
fn a_schedule_counts_from_when_it_is_first_seen() {
    let world = World::contacts();
    let link = Link {
        mode: Mode::Batch(HOUR),
        ..link()
    };
    let mut target = main_lane(&world, &link);
    ask(&mut target, 5, &HOUR, "08:10:00");
    let minutes = Schedule::Every { period_ms: 600_000 };
    assert_eq!(ask(&mut target, 5, &minutes, "12:01:00").0, wait("12:10:00"));
    // Live in between: what would have been due then is no missed run.
    claim(&mut main_lane(&world, &common::link()));
    assert_eq!(world.db.text("SELECT count(*) FROM syncline.runs"), "0");
    assert_eq!(ask(&mut target, 5, &minutes, "15:01:00").0, wait("15:10:00"));
}

#[test]
fn lanes_of_other_fields_begin_where_the_last_one_stood_and_whoever_wrote_before_is_fenced_off() {
    let world = World::contacts();
    let mut whole = main_lane(&world, &link());
    assert_eq!(claim(&mut whole), 0);
    whole.apply(&[delivery(0, &customer("a", 1))]).unwrap();
    let names = hybrid("name");
    let (mut live, mut rest) = (main_lane(&world, &names), rest_lane(&world, &names));
    assert_eq!((claim(&mut live), claim(&mut rest)), (1, 1));
    let second = with(with(customer("a", 2), "name", "Ada"), "email", "new");
    let fenced = whole.apply(&[delivery(1, &second)]).unwrap_err();
    assert_eq!(fenced.code, "FENCED");
    let report = live.apply(&[delivery(1, &second)]).unwrap();
    assert_eq!(report.count(Verdict::Updated), 1);
    assert_eq!(world.db.query("SELECT name, email FROM contacts"), ["Ada|a@x"]);
    // Other fields are live: the lane that is further goes back to where the other stood.
    let emails = hybrid("email");
    let (mut live, mut rest) = (main_lane(&world, &emails), rest_lane(&world, &emails));
    assert_eq!((claim(&mut rest), claim(&mut live)), (1, 1));
    live.apply(&[delivery(1, &second)]).unwrap();
    assert_eq!(world.db.query("SELECT name, email FROM contacts"), ["Ada|new"]);
    let before = world.places();
    assert_eq!(rest.apply(&[delivery(1, &second)]).unwrap().count(Verdict::Nothing), 1);
    // One lane again: nothing is left to be written, and no row of another lane.
    let mut whole = main_lane(&world, &link());
    assert_eq!(claim(&mut whole), 2);
    assert_eq!(world.places(), before);
    assert_eq!(
        world.db.query("SELECT target, next_offset FROM syncline.offsets"),
        ["crm|2"]
    );
}

#[test]
fn what_one_lane_parks_is_not_parked_for_the_other_and_goes_to_the_main_lane_when_it_ends() {
    let world = World::contacts();
    world.db.exec("ALTER TABLE contacts ADD CHECK (email <> 'refused')");
    let names = hybrid("name");
    let (mut live, mut rest) = (main_lane(&world, &names), rest_lane(&world, &names));
    assert_eq!((claim(&mut live), claim(&mut rest)), (0, 0));
    live.apply(&[delivery(0, &customer("a", 1))]).unwrap();
    let refused = with(customer("a", 2), "email", "refused");
    assert_eq!(rest.apply(&[delivery(1, &refused)]).unwrap().parked, 1);
    let renamed = with(with(customer("a", 3), "email", "refused"), "name", "Ada");
    assert_eq!(live.apply(&[delivery(2, &renamed)]).unwrap().count(Verdict::Updated), 1);
    assert_eq!(world.db.query("SELECT name, email FROM contacts"), ["Ada|a@x"]);
    let parked = "SELECT split_part(target, '/', 2) <> '', cid, \"offset\" FROM syncline.parked";
    assert_eq!(world.db.query(parked), ["t|a|1"]);
    let mut whole = main_lane(&world, &link());
    assert_eq!(claim(&mut whole), 2, "the rest had come that far");
    assert_eq!(world.db.query(parked), ["f|a|1"]);
    let mended = with(with(customer("a", 4), "email", "new"), "name", "Ada");
    assert_eq!(
        whole.apply(&[delivery(3, &mended)]).unwrap().parked,
        1,
        "until a person says so"
    );
    assert_eq!(whole.replay(&[delivery(3, &mended)]).unwrap().healed, 1);
    assert_eq!(world.db.query("SELECT name, email FROM contacts"), ["Ada|new"]);
}

#[test]
fn what_is_parked_is_parked_for_every_lane_once_the_fields_are_divided_otherwise() {
    let world = World::contacts();
    world
        .db
        .exec("ALTER TABLE contacts ADD CONSTRAINT no CHECK (email <> 'refused')");
    let mut whole = main_lane(&world, &link());
    assert_eq!(claim(&mut whole), 0);
    whole.apply(&[delivery(0, &customer("a", 1))]).unwrap();
    let second = with(with(customer("a", 2), "email", "refused"), "name", "Ada");
    assert_eq!(whole.apply(&[delivery(1, &second)]).unwrap().parked, 1);
    let names = hybrid("name");
    let (mut live, mut rest) = (main_lane(&world, &names), rest_lane(&world, &names));
    assert_eq!((claim(&mut live), claim(&mut rest)), (2, 2));
    world.db.exec("ALTER TABLE contacts DROP CONSTRAINT no");
    let given_back = [delivery(1, &second)];
    assert_eq!(live.replay(&given_back).unwrap().healed, 1);
    assert_eq!(world.db.query("SELECT name, email FROM contacts"), ["Ada|a@x"]);
    assert_eq!(rest.replay(&given_back).unwrap().healed, 1);
    assert_eq!(world.db.query("SELECT name, email FROM contacts"), ["Ada|refused"]);
    assert_eq!(world.db.query("SELECT count(*) FROM syncline.parked"), ["0"]);
}

#[test]
fn what_two_links_with_the_same_live_fields_have_parked_is_given_back_by_each_for_itself() {
    let world = World::contacts();
    world.db.exec(
        "CREATE TABLE suppliers (id serial PRIMARY KEY, name text, email text, stock numeric);
         ALTER TABLE contacts ADD CONSTRAINT no CHECK (email <> 'refused');
         ALTER TABLE suppliers ADD CONSTRAINT no CHECK (email <> 'refused')",
    );
    let customers = hybrid("name");
    let suppliers = Link {
        table: "suppliers".to_owned(),
        entity: "supplier".to_owned(),
        ..customers.clone()
    };
    let refused = with(customer("a", 2), "email", "refused");
    for link in [&customers, &suppliers] {
        let from = Partition {
            topic: format!("acme.canonical.{}.v1", link.entity).into(),
            number: 0,
        };
        let of_link = |delivery: Delivery| Delivery {
            from: from.clone(),
            entity: link.entity.as_str().into(),
            ..delivery
        };
        let (mut live, mut rest) = (main_lane(&world, link), rest_lane(&world, link));
        for lane in [&mut live, &mut rest] {
            lane.claim(std::slice::from_ref(&from)).unwrap();
        }
        live.apply(&[of_link(delivery(0, &customer("a", 1)))]).unwrap();
        assert_eq!(rest.apply(&[of_link(delivery(1, &refused))]).unwrap().parked, 1);
    }
    world
        .db
        .exec("ALTER TABLE contacts DROP CONSTRAINT no; ALTER TABLE suppliers DROP CONSTRAINT no");
    let mut rest = rest_lane(&world, &customers);
    let of_customers = rest.parked(None).unwrap();
    assert_eq!(of_customers.len(), 1);
    assert_eq!(of_customers[0].entity, "customer");
    assert_eq!(rest.replay(&[delivery(1, &refused)]).unwrap().healed, 1);
    assert_eq!(rest.parked(None).unwrap(), [], "nothing that this lane cannot write");
    assert_eq!(world.db.query("SELECT entity FROM syncline.parked"), ["supplier"]);
    assert_eq!(world.db.query("SELECT email FROM contacts"), ["refused"]);
}

#[test]
fn all_lanes_of_all_targets_may_come_to_a_new_database_at_once() {
    for _ in 0..10 {
        let world = World::contacts();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| claim(&mut main_lane(&world, &link())));
            }
        });
    }
}

#[test]
fn two_lanes_never_work_on_one_partition_at_once() {
    let world = World::contacts();
    let names = hybrid("name");
    let (mut live, mut rest) = (main_lane(&world, &names), rest_lane(&world, &names));
    assert_eq!((claim(&mut live), claim(&mut rest)), (0, 0));
    let other = world.connect();
    other.exec("BEGIN");
    other.exec("SELECT FROM syncline.offsets WHERE target = 'crm' FOR UPDATE");
    let batch = [delivery(0, &customer("a", 1))];
    let failure = rest.apply(&batch).unwrap_err();
    assert_eq!(failure.class, syncline_runtime::Class::Transient, "{failure}");
    other.exec("ROLLBACK");
    assert_eq!(rest.apply(&batch).unwrap().count(Verdict::Inserted), 1);
    assert_eq!(live.apply(&batch).unwrap().count(Verdict::Nothing), 1);
    assert_eq!(world.db.query("SELECT name, email FROM contacts"), ["a|a@x"]);
}

#[test]
fn a_dead_letter_is_sent_by_one_of_all_who_find_it() {
    let world = World::contacts();
    world.db.exec("ALTER TABLE contacts ADD CHECK (name <> 'refused')");
    let mut one = main_lane(&world, &link());
    assert_eq!(claim(&mut one), 0);
    let refused = with(customer("a", 1), "name", "refused");
    assert_eq!(one.apply(&[delivery(0, &refused)]).unwrap().parked, 1);
    let (mut sent, mut other) = (0, Some(main_lane(&world, &link())));
    std::thread::scope(|scope| {
        let mut sending = None;
        let send = &mut |letters: &[DeadLetter]| {
            sent += letters.len();
            let Some(mut other) = other.take_if(|_| !letters.is_empty()) else {
                return Ok(());
            };
            // It comes while this one sends.
            let taken = scope.spawn(move || letters_of(&mut other));
            let waits = "SELECT count(*) FROM pg_stat_activity \
                WHERE datname = current_database() AND wait_event_type = 'Lock'";
            while !taken.is_finished() && world.db.text(waits) == "0" {
                std::thread::yield_now();
            }
            sending = Some(taken);
            Ok(())
        };
        one.dead_letters(send).unwrap();
        let of_other = sending.map(|taken| taken.join().unwrap());
        assert_eq!((sent, of_other), (1, Some(0)));
    });
    assert_eq!(letters_of(&mut one), 0);
}

#[test]
fn a_dead_letter_that_could_not_be_sent_is_there_still() {
    let world = World::contacts();
    world.db.exec("ALTER TABLE contacts ADD CHECK (name <> 'refused')");
    let (mut one, mut other) = (main_lane(&world, &link()), main_lane(&world, &link()));
    assert_eq!(claim(&mut one), 0);
    let refused = with(customer("a", 1), "name", "refused");
    one.apply(&[delivery(0, &refused)]).unwrap();
    let failed = one.dead_letters(&mut |letters| match letters {
        [] => Ok(()),
        _ => Err(Failure::transient("KAFKA_AWAY", "no answer")),
    });
    assert_eq!(failed.unwrap_err().code, "KAFKA_AWAY");
    assert_eq!(letters_of(&mut other), 1, "and nobody holds it");
    assert_eq!(letters_of(&mut one), 0);
}

/// How many dead letters it sends.
fn letters_of(target: &mut PostgresTarget) -> usize {
    let mut sent = 0;
    let send = &mut |letters: &[DeadLetter]| {
        sent += letters.len();
        Ok(())
    };
    target.dead_letters(send).unwrap();
    sent
}

/// A partition of another topic has no lanes.
#[test]
fn a_topic_that_no_link_reads_has_rows_of_whoever_claims_it() {
    let world = World::contacts();
    let mut target = main_lane(&world, &hybrid("name"));
    let other = Partition {
        topic: "acme.canonical.other.v1".into(),
        number: 0,
    };
    target.claim(&[other]).unwrap();
    assert_eq!(world.db.query("SELECT target FROM syncline.offsets"), ["crm"]);
}
