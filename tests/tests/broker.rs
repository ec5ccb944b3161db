//! F14: the broker is killed, and restarted cleanly, under load. It is the only broker of the stack, so this test is alone in
//! its binary; it needs the stack's directory (`SYNCLINE_STACK_DIR`, as `deploy/stack.sh env` sets it).

use std::process::Command;

use anyhow::{Context as _, bail};
use syncline_tests::{Dice, Stage, World, bank, in_world, until};

const ACCOUNTS: u64 = 200;
const CHANGES_PER_APP_PER_S: u64 = 60;
const HEAL_MAX_S: u64 = 120;

fn stack(verb: &str) -> anyhow::Result<()> {
    let directory = std::env::var("SYNCLINE_STACK_DIR").context("SYNCLINE_STACK_DIR; see deploy/stack.sh env")?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/stack.sh");
    let output = Command::new(script)
        .args([verb, "kafka"])
        .env("SYNCLINE_STACK_DIR", directory)
        .output()?;
    if !output.status.success() {
        bail!("stack.sh {verb} kafka: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// So many rows changed since the start of the load, and everything arrives.
fn load_for(load: &bank::Load, changes: u64) -> anyhow::Result<()> {
    let goal = load.changes() + changes;
    until("the load to go on", 60, || Ok(load.changes() >= goal))
}

fn equal(world: &World) -> anyhow::Result<()> {
    until("the apps to be equal", HEAL_MAX_S, || {
        Ok(bank::difference(world)?.is_none())
    })
}

#[test]
fn f14_the_broker_is_killed_and_restarted_under_load() {
    let sql = bank::sql();
    in_world("broker", &bank::apps(&sql), &bank::FILES, |world| {
        let mut dice = Dice::new("broker");
        bank::open(world, ACCOUNTS)?;
        world.settle()?;
        let mut services = Vec::new();
        for stage in [Stage::Capture, Stage::Transform, Stage::Sink] {
            services.push(world.start(&stage)?);
        }
        let load = bank::Load::start(world, &mut dice, CHANGES_PER_APP_PER_S)?;
        for (down, up) in [("kill", "start"), ("stop", "start"), ("kill", "start")] {
            load_for(&load, 600)?;
            stack(down)?;
            load_for(&load, 300)?;
            stack(up)?;
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
        services.into_iter().try_for_each(syncline_tests::Service::stop)
    });
}
