//! From command line to exit code.
//!
//! Exit codes: 0 done, 1 stopped for a reason that has a code, 2 the command line or the pipeline file is invalid.
//! Each part of a process is one thread; the first that fails asks the others to stop. A part that does not stop in
//! time is left behind: every part may be killed at any instruction, so leaving is safe, waiting for ever is not.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::telemetry::Telemetry;
use crate::{Failure, Health, Outcome, Shutdown, failpoint, server, telemetry};

/// Code of a failure to be reported with exit code 2: the pipeline file is invalid.
pub const PIPELINE_INVALID: &str = "PIPELINE_INVALID";
/// Code of a failure to be reported with exit code 2: the command line is invalid.
pub const ARGUMENTS_INVALID: &str = "ARGUMENTS_INVALID";

/// How long parts have between the wish to stop and being left behind.
const DRAIN_MS_MAX: u64 = 9_000;
const JOIN_POLL_MS: u64 = 50;

/// What a program that works for a pipeline file can be told.
#[derive(clap::Args, Clone, Debug)]
pub struct CommonArgs {
    /// The pipeline file
    #[arg(long, value_name = "FILE", env = "SYNCLINE_PIPELINE")]
    pub pipeline: PathBuf,
    /// What every program can be told.
    #[command(flatten)]
    pub process: ProcessArgs,
}

/// What every program of Syncline can be told.
#[derive(clap::Args, Clone, Debug)]
pub struct ProcessArgs {
    /// Check the settings and what they name, then exit
    #[arg(long)]
    pub check: bool,
    /// Work off what is there at start, then exit
    #[arg(long)]
    pub until_current: bool,
    /// Serve /healthz, /readyz and /metrics here
    #[arg(long, value_name = "ADDR", env = "SYNCLINE_LISTEN")]
    pub listen: Option<SocketAddr>,
    /// Name of this instance among those of the same program
    #[arg(long, value_name = "NAME", env = "SYNCLINE_INSTANCE", default_value = "0")]
    pub instance: String,
    /// Where to keep what can be rebuilt
    #[arg(long, value_name = "DIR", env = "SYNCLINE_STATE_DIR")]
    pub state_dir: Option<PathBuf>,
}

/// A process that has started.
pub struct Process {
    /// What it was told.
    pub args: ProcessArgs,
    /// The wish to stop.
    pub shutdown: Shutdown,
    /// What `/readyz` answers.
    pub health: Health,
    /// Where it listens; differs from what it was told for port 0.
    pub listening: Option<SocketAddr>,
    _telemetry: Telemetry,
}

/// Starts telemetry, signals and, if asked for, the http server.
pub fn start(name: &'static str, args: &ProcessArgs) -> Outcome<Process> {
    let telemetry = telemetry::init(name)?;
    failpoint::validate()?;
    // Two providers in one program would make rustls panic at the first connection; an Err means it is installed.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let shutdown = Shutdown::on_signals()?;
    let health = Health::new();
    let listening = args
        .listen
        .map(|address| server::serve(address, health.clone()))
        .transpose()?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        instance = args.instance,
        ?listening,
        "{name} started"
    );
    Ok(Process {
        args: args.clone(),
        shutdown,
        health,
        listening,
        _telemetry: telemetry,
    })
}

/// Says how it ended, and what the exit code is.
pub fn exit_code(outcome: &Outcome<()>) -> ExitCode {
    let Err(failure) = outcome else {
        return ExitCode::SUCCESS;
    };
    report(failure);
    ExitCode::from(number(failure))
}

fn number(failure: &Failure) -> u8 {
    if [PIPELINE_INVALID, ARGUMENTS_INVALID].contains(&failure.code) {
        2
    } else {
        1
    }
}

/// Before telemetry stands, a log line would be lost, so the words go to standard error themselves.
fn report(failure: &Failure) {
    let hint = failure.hint.as_deref();
    if tracing::dispatcher::has_been_set() {
        return tracing::error!(code = failure.code, hint, "stopped: {failure}");
    }
    let mut stderr = std::io::stderr();
    // With standard error closed there is nobody left to tell.
    let _ = writeln!(stderr, "{failure}");
    if let Some(hint) = hint {
        let _ = writeln!(stderr, "  help: {hint}");
    }
}

/// A part of a process: its name, and what its thread runs.
pub type Part = (String, Box<dyn FnOnce() -> Outcome<()> + Send>);

/// Runs each part on a thread of its name until all have ended. The first failure asks the others to stop and is
/// the one returned.
pub fn spawn_all(parts: Vec<Part>, shutdown: &Shutdown) -> Outcome<()> {
    let (done, ended) = channel();
    let mut running = Vec::new();
    for (name, run) in parts {
        let done = done.clone();
        running.push(name.clone());
        let body = move || {
            let outcome = guarded(&name, run);
            // The receiver may have left this part behind.
            let _ = done.send((name, outcome));
        };
        let thread_name = running.last().cloned().unwrap_or_default();
        std::thread::Builder::new()
            .name(thread_name)
            .spawn(body)
            .map_err(|error| {
                shutdown.request();
                Failure::definite("THREAD", "cannot start a thread").source(error)
            })?;
    }
    join(running, &ended, shutdown)
}

/// A panic is a fault of ours; it must stop the process as any other failure does, not silence one thread.
fn guarded(name: &str, run: Box<dyn FnOnce() -> Outcome<()> + Send>) -> Outcome<()> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let said = said
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_default();
        Err(Failure::definite("PANIC", format!("{name}: {said}")).hint("a fault in Syncline; please report it"))
    })
}

fn join(mut running: Vec<String>, ended: &Receiver<(String, Outcome<()>)>, shutdown: &Shutdown) -> Outcome<()> {
    let mut first = Ok(());
    let mut leave_at = None;
    while !running.is_empty() {
        match ended.recv_timeout(Duration::from_millis(JOIN_POLL_MS)) {
            Ok((name, outcome)) => {
                running.retain(|other| *other != name);
                keep_first(&name, outcome, &mut first, shutdown);
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {}
        }
        if shutdown.requested() && leave_at.is_none() {
            leave_at = Some(Instant::now() + Duration::from_millis(DRAIN_MS_MAX));
        }
        if leave_at.is_some_and(|at| Instant::now() >= at) {
            tracing::warn!(?running, "did not stop in time: left as if killed");
            break;
        }
    }
    first
}

fn keep_first(name: &str, outcome: Outcome<()>, first: &mut Outcome<()>, shutdown: &Shutdown) {
    let Err(failure) = outcome else { return };
    shutdown.request();
    if first.is_ok() {
        *first = Err(failure);
    } else {
        tracing::error!(part = name, code = failure.code, "also stopped: {failure}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        common: CommonArgs,
    }

    fn part(name: &str, run: impl FnOnce() -> Outcome<()> + Send + 'static) -> Part {
        (name.to_owned(), Box::new(run))
    }

    #[test]
    fn reads_the_flags() {
        let cli = Cli::try_parse_from(["x", "--pipeline", "acme.yaml", "--until-current"])
            .ok()
            .unwrap();
        let process = cli.common.process;
        assert_eq!(process.instance, "0");
        assert!(process.until_current && !process.check);
    }

    #[test]
    fn a_wrong_command_line_exits_with_2() {
        let error = Cli::try_parse_from(["x", "--pipelin", "acme.yaml"]).err().unwrap();
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn the_first_failure_stops_the_others_and_is_returned() {
        let shutdown = Shutdown::new();
        let waiting = shutdown.clone();
        let outcome = spawn_all(
            vec![
                part("waits", move || {
                    assert!(waiting.wait_timeout(Duration::from_secs(60)));
                    Ok(())
                }),
                part("fails", || Err(Failure::definite("SLOT_GONE", "no slot"))),
            ],
            &shutdown,
        );
        assert_eq!(outcome.err().map(|f| f.code), Some("SLOT_GONE"));
        assert!(shutdown.requested());
    }

    #[test]
    fn a_panic_is_a_failure() {
        let outcome = spawn_all(vec![part("breaks", || panic!("index"))], &Shutdown::new());
        assert_eq!(outcome.err().map(|f| f.message), Some("breaks: index".to_owned()));
    }

    #[test]
    fn an_invalid_file_is_2_and_anything_else_1() {
        assert_eq!(number(&Failure::definite(PIPELINE_INVALID, "x")), 2);
        assert_eq!(number(&Failure::transient("AWAY", "x")), 1);
    }
}
