//! Every process is killed without warning, at failpoints and at random moments, a hundred times under load, and afterwards
//! nothing is lost, nothing is doubled, the order of each row's changes is kept and the apps are equal.
//!
//! `SYNCLINE_KILLS` sets the number of kills, `SYNCLINE_SEED` repeats a run's choices.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

use anyhow::bail;
use syncline_tests::bank::Repeats;
use syncline_tests::{Dice, Service, Stage, World, bank, in_world, process, until};

const ACCOUNTS: u64 = 1000;
const CHANGES_PER_APP_PER_S: u64 = 220;
const CHANGES_PER_S_MIN: u64 = 500;
const KILL_EVERY: Duration = Duration::from_millis(1900);
const KILLING_MAX_S: u64 = 900;
const DRAIN_MAX_S: u64 = 180;
const SIGKILL: i32 = 9;

/// A process, and the failpoint it was started with.
struct Victim {
    stage: Stage,
    service: Service,
    armed: Option<&'static str>,
}

struct Killer<'a> {
    world: &'a World,
    dice: Dice,
    victims: Vec<Victim>,
    kills: u64,
    /// How often each failpoint, or chance, killed a process.
    fired: BTreeMap<String, u64>,
}

impl<'a> Killer<'a> {
    fn new(world: &'a World, dice: Dice) -> anyhow::Result<Self> {
        let stages = [
            Stage::Capture,
            Stage::Transform,
            Stage::sink("shop"),
            Stage::sink("crm"),
            Stage::sink("billing"),
        ];
        let mut victims = Vec::new();
        for stage in stages {
            victims.push(Victim {
                service: world.start(&stage)?,
                stage,
                armed: None,
            });
        }
        Ok(Self {
            world,
            dice,
            victims,
            kills: 0,
            fired: BTreeMap::new(),
        })
    }

    /// Counts processes that ended at a failpoint and starts them again. Any other end is a failure.
    fn look(&mut self) -> anyhow::Result<()> {
        for victim in &mut self.victims {
            let Some(status) = victim.service.ended()? else {
                continue;
            };
            let Some(name) = victim.armed.take().filter(|_| status.signal() == Some(SIGKILL)) else {
                bail!(
                    "{} ended with {status}:\n{}",
                    victim.stage,
                    process::tail(&victim.service.log()?, 40)
                );
            };
            self.kills += 1;
            *self.fired.entry(name.to_owned()).or_default() += 1;
            victim.service = self.world.start(&victim.stage)?;
        }
        Ok(())
    }

    /// Kills one, and starts it again, every other time with a failpoint.
    fn kill_one(&mut self) -> anyhow::Result<()> {
        let index = usize::try_from(self.dice.below(u64::try_from(self.victims.len())?))?;
        let victim = &mut self.victims[index];
        victim.service.kill()?;
        self.kills += 1;
        *self
            .fired
            .entry(format!("at random: {}", victim.stage.binary()))
            .or_default() += 1;
        let armed = if self.dice.below(2) == 0 {
            None
        } else {
            self.dice.pick(victim.stage.failpoints()).copied()
        };
        // Some failpoints are passed once in the life of a process, others with every row.
        let hit = if self.dice.below(2) == 0 {
            1
        } else {
            1 + self.dice.below(40)
        };
        let setting = armed.map(|name| format!("{name}=kill@{hit}"));
        let env: Vec<(&str, &str)> = setting
            .iter()
            .map(|setting| ("SYNCLINE_FAILPOINTS", setting.as_str()))
            .collect();
        victim.service = self.world.start_with(&victim.stage, &[], &env)?;
        victim.armed = armed;
        Ok(())
    }

    fn kill(&mut self, kills: u64) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(KILLING_MAX_S);
        let mut next = Instant::now() + KILL_EVERY;
        while self.kills < kills {
            if Instant::now() > deadline {
                bail!("only {} kills in {KILLING_MAX_S} s", self.kills);
            }
            self.look()?;
            if Instant::now() > next {
                bank::assert_confirmed_is_in_kafka(self.world)?;
                self.kill_one()?;
                next += KILL_EVERY;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// From here on nobody is killed.
    fn spare(&mut self) -> anyhow::Result<()> {
        for victim in self.victims.iter_mut().filter(|victim| victim.armed.is_some()) {
            victim.service.kill()?;
            victim.service = self.world.start(&victim.stage)?;
            victim.armed = None;
        }
        Ok(())
    }
}

fn wait_until_equal(killer: &mut Killer<'_>, within_s: u64) -> anyhow::Result<()> {
    let (world, started) = (killer.world, Instant::now());
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
        let mut killer = Killer::new(world, dice.split())?;
        let load = bank::Load::start(world, &mut dice, CHANGES_PER_APP_PER_S)?;
        killer.kill(kills)?;
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
