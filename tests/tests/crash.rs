//! Every process is killed without warning, at failpoints and at random moments, a hundred times under load, and afterwards
//! nothing is lost, nothing is doubled, the order of each row's changes is kept and the apps are equal.
//!
//! `SYNCLINE_KILLS` sets the number of kills, `SYNCLINE_SEED` repeats a run's choices.

use std::time::{Duration, Instant};

use anyhow::bail;
use syncline_tests::bank::Repeats;
use syncline_tests::{Dice, Killer, Stage, bank, in_world, until};

const ACCOUNTS: u64 = 1000;
const CHANGES_PER_APP_PER_S: u64 = 220;
const CHANGES_PER_S_MIN: u64 = 500;
const KILL_EVERY: Duration = Duration::from_millis(1900);
const KILLING_MAX_S: u64 = 900;
const DRAIN_MAX_S: u64 = 180;

/// All that run.
fn stages() -> [Stage; 5] {
    let [shop, crm, billing] = ["shop", "crm", "billing"].map(Stage::sink);
    [Stage::Capture, Stage::Transform, shop, crm, billing]
}

fn kill(killer: &mut Killer<'_>, kills: u64) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(KILLING_MAX_S);
    let mut next = Instant::now() + KILL_EVERY;
    while killer.kills < kills {
        if Instant::now() > deadline {
            bail!("only {} kills in {KILLING_MAX_S} s", killer.kills);
        }
        killer.look()?;
        if Instant::now() > next {
            bank::assert_confirmed_is_in_kafka(killer.world())?;
            killer.kill_one()?;
            next += KILL_EVERY;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn wait_until_equal(killer: &mut Killer<'_>, within_s: u64) -> anyhow::Result<()> {
    let (world, started) = (killer.world(), Instant::now());
    let mut last = None;
    let outcome = until("the apps to be equal", within_s, || {
        killer.look()?;
        last = bank::difference(world)?;
        Ok(last.is_none())
    });
    println!("crash: equal after {} s", started.elapsed().as_secs());
    outcome.map_err(|error| error.context(last.unwrap_or_default()))
}

fn killed_under_load(name: &str, pipeline: &str, kills: u64, repeats: Repeats) {
    let sql = bank::sql();
    let files = [("pipeline.yaml", pipeline), ("account.avsc", bank::SCHEMA)];
    in_world(name, &bank::apps(&sql), &files, |world| {
        let mut dice = Dice::new(name);
        bank::open(world, ACCOUNTS)?;
        // A row of a resumed snapshot may be newer than changes that follow it; that is another test's matter.
        world.settle()?;
        let mut killer = Killer::start(world, dice.split(), stages())?;
        let load = bank::Load::start(world, &mut dice, CHANGES_PER_APP_PER_S)?;
        kill(&mut killer, kills)?;
        let (changes, per_s) = load.stop()?;
        println!(
            "{name}: {kills} kills, {changes} changes, {per_s} changes/s; {:?}",
            killer.fired
        );
        killer.spare()?;
        wait_until_equal(&mut killer, DRAIN_MAX_S)?;
        bank::assert_balances(world)?;
        bank::caught_up(world)?;
        let checked = bank::assert_versions(world, repeats)?;
        println!("{name}: {checked} captured versions, none missing, none out of order");
        assert!(
            per_s >= CHANGES_PER_S_MIN,
            "the load was {per_s} changes/s and must be {CHANGES_PER_S_MIN}"
        );
        for stage in ["map", "merge", "sink"] {
            assert_eq!(world.dead_letters(stage)?.len(), 0, "dead letters of {stage}");
        }
        Ok(())
    });
}

/// One after the other: each of them wants the whole machine.
#[test]
fn f01_f04_f66_f85_a_hundred_kills_under_load() {
    let kills = std::env::var("SYNCLINE_KILLS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(100);
    killed_under_load("crash", bank::PIPELINE, kills, Repeats::Never);
    let at_least_once = bank::PIPELINE.replace("partitions: 2 }", "partitions: 2, delivery: at_least_once }");
    killed_under_load("at_least_once", &at_least_once, kills / 5, Repeats::AfterACrash);
}
