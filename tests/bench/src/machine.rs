//! What the kernel says of processes: seconds of processor time, the most memory they ever had, and how busy the machine is.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;

/// The kernel's clock of processor time; the same on every Linux that can be bought.
const TICKS_PER_S: f64 = 100.0;
/// The machine is quiet when this part of it has idled for a second.
const IDLE_PART_MIN: f64 = 0.85;

/// `/proc/PID/stat` after the name: parent at 1, own time at 11 and 12, that of reaped children at 13 and 14.
fn stat(pid: u32) -> Option<Vec<u64>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(") ")?;
    Some(
        fields
            .split_ascii_whitespace()
            .map(|field| field.parse().unwrap_or_default())
            .collect(),
    )
}

fn all() -> BTreeMap<u32, Vec<u64>> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, stat(pid)?))).collect()
}

fn parent(stat: &[u64]) -> u64 {
    stat.get(1).copied().unwrap_or_default()
}

/// Who started a process: of a backend, the server.
pub fn parent_of(pid: u32) -> anyhow::Result<u32> {
    let stat = stat(pid).with_context(|| format!("process {pid} has gone"))?;
    Ok(u32::try_from(parent(&stat))?)
}

fn ticks(stat: &[u64], fields: std::ops::Range<usize>) -> u64 {
    stat.get(fields).map(|times| times.iter().sum()).unwrap_or_default()
}

/// A process and all that come from it.
fn tree(pid: u32, all: &BTreeMap<u32, Vec<u64>>) -> Vec<u32> {
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(&parent_pid) = found.get(next) {
        let children = all.iter().filter(|(_, stat)| parent(stat) == u64::from(parent_pid));
        found.extend(children.map(|(pid, _)| *pid));
        next += 1;
    }
    found
}

/// Processor time of a process and all that come from it, with those that have ended and were waited for, in seconds.
pub fn cpu_s(pid: u32) -> f64 {
    let all = all();
    let ticks: u64 = tree(pid, &all)
        .iter()
        .filter_map(|pid| all.get(pid))
        .map(|stat| ticks(stat, 11..15))
        .sum();
    ticks as f64 / TICKS_PER_S
}

/// A figure of `/proc/PID/status` or of a thread's.
fn status(path: &str, name: &str) -> f64 {
    let status = fs::read_to_string(path).unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or_default()
}

fn memory_mb(pid: u32, name: &str) -> f64 {
    let kb = |pid: &u32| status(&format!("/proc/{pid}/status"), name);
    tree(pid, &all()).iter().map(kb).sum::<f64>() / 1024.0
}

/// The most memory that a process and all that come from it ever had, in MB.
pub fn peak_rss_mb(pid: u32) -> f64 {
    memory_mb(pid, "VmHWM")
}

/// The memory that a process and all that come from it have now, in MB.
pub fn rss_mb(pid: u32) -> f64 {
    memory_mb(pid, "VmRSS")
}

/// How often the threads of a process have gone to sleep and were woken.
pub fn wakeups(pid: u32) -> f64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    threads
        .map(|thread| {
            let path = thread.path().join("status");
            status(&path.to_string_lossy(), "voluntary_ctxt_switches")
        })
        .sum()
}

/// Sends a signal by its name.
pub fn signal(pid: u32, name: &str) -> anyhow::Result<()> {
    let sent = Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .status()?;
    anyhow::ensure!(sent.success(), "cannot send SIG{name} to process {pid}");
    Ok(())
}

/// A process that stands still for as long as this lives.
pub struct Frozen(u32);

impl Frozen {
    /// Stops it: it keeps its connections and does nothing.
    pub fn new(pid: u32) -> anyhow::Result<Self> {
        signal(pid, "STOP")?;
        Ok(Self(pid))
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // A process that has gone cannot be woken, and whoever waits for it will say so.
        let _ = signal(self.0, "CONT");
    }
}

/// Seconds of the whole machine since it started: at work, idle.
pub fn machine_s() -> anyhow::Result<(f64, f64)> {
    let text = fs::read_to_string("/proc/stat").context("/proc/stat")?;
    let first = text.lines().next().unwrap_or_default();
    let fields: Vec<f64> = first
        .split_ascii_whitespace()
        .skip(1)
        .map(|field| field.parse().unwrap_or_default())
        .collect();
    let at = |index: usize| fields.get(index).copied().unwrap_or_default();
    let busy = at(0) + at(1) + at(2) + at(5) + at(6);
    Ok((busy / TICKS_PER_S, (at(3) + at(4)) / TICKS_PER_S))
}

/// Waits, within a bound, until the machine has been quiet for a second; whether it has.
pub fn wait_until_quiet(within: Duration) -> anyhow::Result<bool> {
    let deadline = Instant::now() + within;
    while Instant::now() < deadline {
        let (busy, idle) = machine_s()?;
        std::thread::sleep(Duration::from_secs(1));
        let (busy_now, idle_now) = machine_s()?;
        let (busy, idle) = (busy_now - busy, idle_now - idle);
        if idle / (busy + idle).max(f64::EPSILON) > IDLE_PART_MIN {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The parties of a run whose processor time is told apart.
#[derive(Clone, Debug)]
pub struct Parties {
    /// The processes of who is measured.
    pub contender: Vec<u32>,
    /// The server that it reads or writes.
    pub postgres: u32,
    /// The broker, where it takes part.
    pub broker: Option<u32>,
}

/// Processor time so far, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    contender: f64,
    postgres: f64,
    broker: f64,
    busy: f64,
    at: Instant,
}

/// What a run took, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Spent {
    /// Of the one who is measured.
    pub contender: f64,
    /// Of PostgreSQL.
    pub postgres: f64,
    /// Of the broker.
    pub broker: f64,
    /// Of all others on the machine.
    pub others: f64,
    /// On the clock.
    pub wall: f64,
}

impl Parties {
    /// The most memory that who is measured ever had, in MB.
    pub fn peak_rss_mb(&self) -> f64 {
        self.contender.iter().map(|pid| peak_rss_mb(*pid)).sum()
    }

    /// Reads all of them.
    pub fn read(&self) -> anyhow::Result<Reading> {
        Ok(Reading {
            contender: self.contender.iter().map(|pid| cpu_s(*pid)).sum(),
            postgres: cpu_s(self.postgres),
            broker: self.broker.map(cpu_s).unwrap_or_default(),
            busy: machine_s()?.0,
            at: Instant::now(),
        })
    }

    /// What was spent since then.
    pub fn since(&self, then: &Reading) -> anyhow::Result<Spent> {
        let now = self.read()?;
        let (contender, postgres) = (now.contender - then.contender, now.postgres - then.postgres);
        let broker = now.broker - then.broker;
        Ok(Spent {
            contender,
            postgres,
            broker,
            others: (now.busy - then.busy - contender - postgres - broker).max(0.0),
            wall: now.at.duration_since(then.at).as_secs_f64(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_counted_and_memory_seen() {
        let pid = std::process::id();
        let before = cpu_s(pid);
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut sum = 0_u64;
        while cpu_s(pid) < before + 0.05 {
            sum = (0..1_000_000).fold(sum, |sum: u64, n| sum.wrapping_mul(31).wrapping_add(n));
            assert!(Instant::now() < deadline, "{sum}");
        }
        assert!(peak_rss_mb(pid) > 1.0 && rss_mb(pid) > 1.0);
        let before = wakeups(pid);
        std::thread::sleep(Duration::from_millis(5));
        assert!(wakeups(pid) > before);
        let (busy, idle) = machine_s().unwrap();
        assert!(busy > 0.0 && idle >= 0.0);
    }
}
