//! F14: the only broker is killed, and restarted cleanly, under load. A Kafka of the test's own; alone in this binary because
//! its load wants the machine.

use syncline_tests::rig::DRAIN_MAX_S;
use syncline_tests::{Dice, OwnKafka, Service, Stage, World, bank, in_world_with, until};

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

#[test]
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
