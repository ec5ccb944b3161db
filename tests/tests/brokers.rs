//! F14, F20: a Kafka of the test's own. The only broker, killed and restarted cleanly; three brokers, of which one after the
//! other goes; and one that forgets ids. Alone in this binary because five more JVMs are at work.

use std::time::Duration;

use syncline_tests::captured::{self, APP};
use syncline_tests::rig::{DRAIN_MAX_S, HEAL_MAX_S, in_rig_with};
use syncline_tests::{Dice, OwnKafka, Service, Stage, World, bank, in_world_with, until};

/// More than the broker remembers an id, and than the time between two of its looks.
const IDLE: Duration = Duration::from_secs(8);

/// Of a load on three apps.
const ACCOUNTS: u64 = 200;
const CHANGES_PER_APP_PER_S: u64 = 60;

/// So many rows changed since the start of the load, and everything arrives.
fn load_for(load: &bank::Load, changes: u64) -> anyhow::Result<()> {
    let goal = load.changes() + changes;
    until("the load to go on", 60, || Ok(load.changes() >= goal))
}

fn equal(world: &World) -> anyhow::Result<()> {
    until("the apps to be equal", DRAIN_MAX_S, || {
        Ok(bank::difference(world)?.is_none())
    })
}

/// Not by default: a lone broker (Kafka 4.3.1) that starts under load now and then finishes transactions before it has read which
/// topics there are. It takes those it does not know yet for deleted and leaves their transactions open for ever, decided as they
/// are. No client can mend that; the README says so under limits.
#[test]
#[ignore = "a fault of Kafka makes it fail in some runs: run it with --ignored"]
fn f14_the_only_broker_is_killed_and_restarted_under_load() {
    let kafka = OwnKafka::start(&[]).unwrap_or_else(|error| panic!("{error:?}"));
    let stack = kafka.stack().unwrap_or_else(|error| panic!("{error:?}"));
    let sql = bank::sql();
    in_world_with(stack, "broker", &bank::apps(&sql), &bank::FILES, |world| {
        let mut dice = Dice::new("broker");
        bank::open(world, ACCOUNTS)?;
        world.settle()?;
        let mut services = Vec::new();
        for stage in [Stage::Capture, Stage::Transform, Stage::Sink] {
            services.push(world.start(&stage)?);
        }
        let load = bank::Load::start(world, &mut dice, CHANGES_PER_APP_PER_S)?;
        for is_killed in [true, false, true] {
            load_for(&load, 600)?;
            if is_killed {
                kafka.kill(0)?
            } else {
                kafka.down(0)?
            };
            load_for(&load, 300)?;
            kafka.up(0)?;
        }
        load_for(&load, 600)?;
        load.stop()?;
        equal(world)?;
        bank::assert_balances(world)?;
        bank::caught_up(world)?;
        bank::assert_versions(world, bank::Repeats::Never)?;
        for stage in ["map", "merge", "sink"] {
            assert_eq!(world.dead_letters(stage)?.len(), 0, "dead letters of {stage}");
        }
        services.into_iter().try_for_each(Service::stop)
    });
}

/// Leaders and coordinators move when a broker is killed, stopped, or comes back, under load.
#[test]
fn f14_leaders_and_coordinators_move_between_three_brokers() {
    let kafka = OwnKafka::of_three().unwrap_or_else(|error| panic!("{error:?}"));
    in_rig_with(&kafka, "f14", |rig| {
        // The first transaction of a cluster makes the topics that transactions need, which takes its time.
        rig.world.until_current(&Stage::Capture)?;
        let (service, load) = (rig.capture()?, rig.load()?);
        for broker in 0..3 {
            load.goes_on(50)?;
            match broker {
                1 => kafka.down(broker)?,
                _ => kafka.kill(broker)?,
            }
            load.goes_on(50)?;
            rig.caught_up(DRAIN_MAX_S)?;
            kafka.up(broker)?;
            rig.caught_up(DRAIN_MAX_S)?;
        }
        rig.judge(load, service)
    });
}

/// The broker forgets a transactional id that was idle for long: capture begins anew under it and goes on.
#[test]
fn f20_an_id_that_the_broker_has_forgotten_is_made_anew() {
    let kafka = OwnKafka::start(&[
        ("transactional.id.expiration.ms", "3000"),
        ("transaction.remove.expired.transaction.cleanup.interval.ms", "1000"),
        ("producer.id.expiration.ms", "3000"),
    ]);
    let kafka = kafka.unwrap_or_else(|error| panic!("{error:?}"));
    let stack = kafka.stack().unwrap_or_else(|error| panic!("{error:?}"));
    let sql = "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)";
    let file = captured::pipeline("tables: [public.t]");
    in_world_with(stack, "f20", &[(APP, sql)], &[("pipeline.yaml", &file)], |world| {
        let service = world.start(&Stage::Capture)?;
        let arrives = |ids: &[&str]| {
            until("the rows", HEAL_MAX_S, || {
                Ok(captured::ops(world, "t").is_ok_and(|ops| ops == ids))
            })
        };
        arrives(&["r1"])?;
        // Frozen, so that nothing of the rest of the server is told as progress meanwhile. What is waited for is time
        // itself.
        service.freeze()?;
        std::thread::sleep(IDLE);
        captured::sql(world, "INSERT INTO t VALUES (2)")?;
        service.thaw()?;
        arrives(&["r1", "c2"])?;
        service.stop()
    });
}
