//! Who kills our processes under load: without warning, at random moments and at failpoints, and starts them again.
//!
//! It tells a death that it meant from one that it did not: a process that ends in any other way than by SIGKILL is a
//! failure of the test, whatever becomes of the data.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;

use anyhow::bail;

use crate::dice::Dice;
use crate::process::{self, Service, Stage};
use crate::world::World;

const SIGKILL: i32 = 9;
/// Some failpoints are passed once in the life of a process, others with every row.
const HITS_MAX: u64 = 40;

/// A process, and the failpoint it was started with.
struct Victim {
    stage: Stage,
    service: Service,
    armed: Option<&'static str>,
}

/// Runs the stages, and kills them.
pub struct Killer<'a> {
    world: &'a World,
    dice: Dice,
    victims: Vec<Victim>,
    /// How many were killed, or killed themselves.
    pub kills: u64,
    /// How often each failpoint, or chance, killed a process.
    pub fired: BTreeMap<String, u64>,
}

impl<'a> Killer<'a> {
    /// Starts these stages.
    pub fn start(world: &'a World, dice: Dice, stages: impl IntoIterator<Item = Stage>) -> anyhow::Result<Self> {
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

    /// The world whose processes they are.
    pub fn world(&self) -> &'a World {
        self.world
    }

    /// Counts processes that ended at a failpoint and starts them again. Any other end is a failure.
    pub fn look(&mut self) -> anyhow::Result<()> {
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
    pub fn kill_one(&mut self) -> anyhow::Result<()> {
        let index = self.dice.place(self.victims.len());
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
        let hit = if self.dice.below(2) == 0 {
            1
        } else {
            1 + self.dice.below(HITS_MAX)
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

    /// From here on nobody is killed.
    pub fn spare(&mut self) -> anyhow::Result<()> {
        for victim in self.victims.iter_mut().filter(|victim| victim.armed.is_some()) {
            victim.service.kill()?;
            victim.service = self.world.start(&victim.stage)?;
            victim.armed = None;
        }
        Ok(())
    }

    /// Ends all of them in order, and gives the number of kills.
    pub fn stop(self) -> anyhow::Result<u64> {
        for victim in self.victims {
            victim.service.stop()?;
        }
        Ok(self.kills)
    }
}
