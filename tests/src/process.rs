//! The binaries as processes: run to the end, or as services that can be killed, frozen and thawed.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// Which binary, and for which of its sources or targets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// `syncline-capture` for all sources.
    Capture,
    /// `syncline-capture --source NAME`.
    CaptureOf(String),
    /// `syncline-transform`.
    Transform,
    /// `syncline-sink` for all targets.
    Sink,
    /// `syncline-sink --target NAME`.
    SinkOf(String),
}

impl Stage {
    /// Capture of one source.
    pub fn capture(source: &str) -> Self {
        Stage::CaptureOf(source.to_owned())
    }

    /// The sink of one target.
    pub fn sink(target: &str) -> Self {
        Stage::SinkOf(target.to_owned())
    }

    /// Name of the binary.
    pub fn binary(&self) -> &'static str {
        match self {
            Stage::Capture | Stage::CaptureOf(_) => "syncline-capture",
            Stage::Transform => "syncline-transform",
            Stage::Sink | Stage::SinkOf(_) => "syncline-sink",
        }
    }

    /// Where it can be told to kill itself, in the order in which a batch passes them.
    pub fn failpoints(&self) -> &'static [&'static str] {
        match self {
            Stage::Capture | Stage::CaptureOf(_) => &[
                "capture.in_init",
                "capture.reading_progress",
                "capture.after_begin",
                "capture.mid_produce",
                "capture.after_progress",
                "capture.before_commit",
                "capture.after_commit",
                "capture.after_confirm",
                "capture.at_shutdown",
            ],
            Stage::Transform => &[
                "map.after_poll",
                "map.mid_produce",
                "map.before_commit",
                "map.after_commit",
                "merge.after_poll",
                "merge.state_put",
                "merge.mid_produce",
                "merge.before_commit",
                "merge.after_commit",
                "merge.after_store",
            ],
            Stage::Sink | Stage::SinkOf(_) => &[
                "sink.before_begin",
                "sink.after_apply",
                "sink.after_offsets",
                "sink.before_commit",
                "sink.after_commit",
            ],
        }
    }

    /// Its arguments beyond the common ones.
    pub fn args(&self) -> Vec<String> {
        match self {
            Stage::CaptureOf(source) => vec!["--source".to_owned(), source.clone()],
            Stage::SinkOf(target) => vec!["--target".to_owned(), target.clone()],
            _ => Vec::new(),
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stage::CaptureOf(part) | Stage::SinkOf(part) => {
                // It names log files.
                write!(f, "{}-{}", self.binary(), part.replace('/', "-"))
            }
            _ => f.write_str(self.binary()),
        }
    }
}

/// The binary `name` beside the test that runs, or in `SYNCLINE_BIN_DIR`.
pub fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let directory = match std::env::var_os("SYNCLINE_BIN_DIR") {
        Some(directory) => PathBuf::from(directory),
        None => beside_this_executable()?,
    };
    let path = directory.join(name);
    if !path.is_file() {
        bail!("{} does not exist; run: cargo build --workspace --bins", path.display());
    }
    Ok(path)
}

/// `target/debug`, whether this is `target/debug/deps/crash-1234` or `target/debug/syncline-demo`.
fn beside_this_executable() -> anyhow::Result<PathBuf> {
    let executable = std::env::current_exe()?;
    let directory = executable.parent().context("an executable lies in a directory")?;
    let above = directory.ends_with("deps").then(|| directory.parent()).flatten();
    Ok(above.unwrap_or(directory).to_owned())
}

/// A process that has ended, and what it wrote.
#[derive(Debug)]
pub struct Finished {
    /// Exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// Standard output and error.
    pub log: String,
}

impl Finished {
    /// Fails, with the end of the log, unless the exit code is `code`.
    pub fn expect_code(self, code: i32) -> anyhow::Result<Self> {
        if self.code != Some(code) {
            bail!(
                "exit code {:?} and not {code}; the end of its log:\n{}",
                self.code,
                tail(&self.log, 40)
            );
        }
        Ok(self)
    }

    /// Fails unless the log has `text`.
    pub fn expect_log(self, text: &str) -> anyhow::Result<Self> {
        if !self.log.contains(text) {
            bail!(
                "nothing of {text:?} in its log, which ends with:\n{}",
                tail(&self.log, 40)
            );
        }
        Ok(self)
    }
}

/// The last lines of a text.
pub fn tail(text: &str, lines_max: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(lines_max)..].join("\n")
}

/// Runs `command` to its end; kills it after `within_s` seconds.
pub fn run(command: Command, log: &Path, within_s: u64) -> anyhow::Result<Finished> {
    let mut service = Service::spawn(command, log)?;
    let Some(status) = service.wait(within_s)? else {
        service.kill()?;
        bail!(
            "{} did not end within {within_s} s; the end of its log:\n{}",
            service.name,
            tail(&service.log()?, 40)
        );
    };
    Ok(Finished {
        code: status.code(),
        log: service.log()?,
    })
}

/// A running process with its log in a file. It is killed when this is dropped.
pub struct Service {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Service {
    /// Starts it; its output is appended to `log`.
    pub fn spawn(mut command: Command, log: &Path) -> anyhow::Result<Self> {
        let file = File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Self {
            name,
            child,
            log: log.to_owned(),
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All that it, and those before it with the same log, wrote.
    pub fn log(&self) -> anyhow::Result<String> {
        Ok(String::from_utf8_lossy(&std::fs::read(&self.log)?).into_owned())
    }

    /// Where it listens, once it has said so: of one started with `--listen 127.0.0.1:0`.
    pub fn listening(&self) -> anyhow::Result<String> {
        let address = crate::until_some("the address of the service", 30, || {
            let log = self.log()?;
            let after = log.rsplit_once("listening").map(|(_, after)| after.to_owned());
            let start = after
                .as_deref()
                .and_then(|after| Some(&after[after.find("127.0.0.1:")?..]));
            let is_address = |c: char| c.is_ascii_digit() || c == '.' || c == ':';
            Ok(start.map(|start| start.chars().take_while(|c| is_address(*c)).collect::<String>()))
        })?;
        Ok(format!("http://{address}"))
    }

    /// The most memory that it has had so far, in megabytes (`VmHWM`).
    pub fn peak_mb(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kb = line
            .and_then(|line| line.split_whitespace().next())
            .context("no VmHWM")?;
        Ok(kb.parse::<u64>()?.div_ceil(1024))
    }

    /// Its exit status, if it has ended.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for its end at most `within_s` seconds.
    pub fn wait(&mut self, within_s: u64) -> anyhow::Result<Option<ExitStatus>> {
        self.wait_ms(within_s * 1000)
    }

    /// Waits for its end at most `within_ms` milliseconds.
    pub fn wait_ms(&mut self, within_ms: u64) -> anyhow::Result<Option<ExitStatus>> {
        let deadline = Instant::now() + Duration::from_millis(within_ms);
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            if Instant::now() > deadline {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM; the exit code must be 0 within 10 seconds.
    pub fn stop(mut self) -> anyhow::Result<()> {
        self.signal("TERM")?;
        match self.wait(10)? {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!(
                "{} ended with {status} on SIGTERM:\n{}",
                self.name,
                tail(&self.log()?, 40)
            ),
            None => bail!(
                "{} did not end within 10 s of SIGTERM:\n{}",
                self.name,
                tail(&self.log()?, 40)
            ),
        }
    }

    /// SIGSTOP: it keeps its connections and does nothing.
    pub fn freeze(&self) -> anyhow::Result<()> {
        self.signal("STOP")
    }

    /// SIGCONT.
    pub fn thaw(&self) -> anyhow::Result<()> {
        self.signal("CONT")
    }

    fn signal(&self, name: &str) -> anyhow::Result<()> {
        let status = Command::new("kill")
            .args([&format!("-{name}"), &self.pid().to_string()])
            .status()?;
        if !status.success() {
            bail!("cannot send SIG{name} to {}", self.name);
        }
        Ok(())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.kill();
        }
    }
}
