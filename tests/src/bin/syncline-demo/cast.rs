//! The three processes as services: one capture, one transform, a sink for each app.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use anyhow::bail;
use syncline_tests::{Service, Stage, World, acme, process};

use crate::show::Show;

/// Everything that runs.
pub struct Cast<'a> {
    world: &'a World,
    running: BTreeMap<Stage, Service>,
}

impl<'a> Cast<'a> {
    /// Starts all of them.
    pub fn start(world: &'a World, show: &mut Show) -> anyhow::Result<Self> {
        let mut cast = Self {
            world,
            running: BTreeMap::new(),
        };
        for stage in cast.stages() {
            cast.raise(&stage)?;
            show.line(&format!("  {:<18} {}", stage.binary(), stage.args().join(" ")));
        }
        Ok(cast)
    }

    /// In the direction of a record.
    pub fn stages(&self) -> Vec<Stage> {
        let sinks = acme::APPS.iter().map(|(app, _)| Stage::sink(app));
        [Stage::Capture, Stage::Transform].into_iter().chain(sinks).collect()
    }

    /// Starts one.
    pub fn raise(&mut self, stage: &Stage) -> anyhow::Result<()> {
        let service = self.world.start(stage)?;
        self.remember(&service)?;
        self.running.insert(stage.clone(), service);
        Ok(())
    }

    /// Its id goes into a file, by which `deploy/demo.sh` ends what a killed demo, or one with `--keep`, leaves behind.
    fn remember(&self, service: &Service) -> anyhow::Result<()> {
        let Some(directory) = std::env::var_os("SYNCLINE_DEMO_DIR") else {
            return Ok(());
        };
        let mut file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(Path::new(&directory).join("pids"))?;
        Ok(writeln!(file, "{}", service.pid())?)
    }

    /// Stops one with SIGTERM: it finishes what it has begun.
    pub fn lower(&mut self, stage: &Stage) -> anyhow::Result<()> {
        self.running.remove(stage).map_or(Ok(()), Service::stop)
    }

    /// Kills one with SIGKILL and starts it again; gives the id of the process killed.
    pub fn kill(&mut self, stage: &Stage) -> anyhow::Result<u32> {
        let Some(service) = self.running.get_mut(stage) else {
            bail!("{stage} does not run")
        };
        let pid = service.pid();
        service.kill()?;
        self.raise(stage)?;
        Ok(pid)
    }

    /// Fails if one has ended by itself.
    pub fn look(&mut self) -> anyhow::Result<()> {
        for (stage, service) in &mut self.running {
            if let Some(status) = service.ended()? {
                bail!(
                    "{stage} ended with {status}; the end of its log:\n{}",
                    process::tail(&service.log()?, 30)
                );
            }
        }
        Ok(())
    }

    /// Stops all of them.
    pub fn stop(&mut self, show: &mut Show) -> anyhow::Result<()> {
        for stage in self.stages().iter().rev() {
            self.lower(stage)?;
        }
        show.fact(
            "SIGTERM: every process finished its work and ended with code 0 within 10 s",
            true,
        );
        Ok(())
    }

    /// They outlive the demo.
    pub fn leave_running(&mut self) {
        for (_, service) in std::mem::take(&mut self.running) {
            std::mem::forget(service);
        }
    }
}
