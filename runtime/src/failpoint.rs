//! Places where a test may kill the process.
//!
//! `SYNCLINE_FAILPOINTS="capture.sent=kill@3,sink.applied=sleep:200"` arms them: kill (SIGKILL), stop (SIGSTOP),
//! error, or sleep for some milliseconds, at the n-th hit or, without `@n`, at every hit. They are in every build,
//! because a test of another build proves little; unarmed, a hit is one load.

use std::collections::HashMap;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::{Failure, Outcome};

/// The variable that arms failpoints.
pub const VARIABLE: &str = "SYNCLINE_FAILPOINTS";

#[derive(Debug, PartialEq, Eq)]
enum Action {
    Kill,
    Stop,
    Error,
    SleepMs(u64),
}

#[derive(Debug)]
struct Armed {
    action: Action,
    at: Option<u64>,
    hits: AtomicU64,
}

static ARMED: OnceLock<Option<HashMap<String, Armed>>> = OnceLock::new();

/// Passes a failpoint that may kill, stop or delay the process.
pub fn hit(name: &'static str) {
    if let Err(failure) = check(name) {
        tracing::error!("this failpoint cannot fail, only kill, stop or sleep: {failure}");
    }
}

/// Passes a failpoint that may also fail.
pub fn check(name: &'static str) -> Outcome<()> {
    let Some(armed) = ARMED.get_or_init(from_environment) else {
        return Ok(());
    };
    match armed.get(name).and_then(Armed::due) {
        None => Ok(()),
        Some(action) => act(name, action),
    }
}

/// Refuses a variable that arms nothing because it is misspelt; called when the process starts.
pub(crate) fn validate() -> Outcome<()> {
    match std::env::var(VARIABLE) {
        Ok(text) => parse(&text).map(drop),
        Err(_) => Ok(()),
    }
}

fn from_environment() -> Option<HashMap<String, Armed>> {
    let text = std::env::var(VARIABLE).ok()?;
    match parse(&text) {
        Ok(armed) if armed.is_empty() => None,
        Ok(armed) => Some(armed),
        Err(failure) => {
            tracing::error!("no failpoint is armed: {failure}");
            None
        }
    }
}

impl Armed {
    fn due(&self) -> Option<&Action> {
        let hit = self.hits.fetch_add(1, Ordering::Relaxed) + 1;
        self.at.is_none_or(|at| at == hit).then_some(&self.action)
    }
}

fn act(name: &'static str, action: &Action) -> Outcome<()> {
    match action {
        Action::Kill => signal("-KILL"),
        Action::Stop => signal("-STOP"),
        Action::SleepMs(ms) => std::thread::sleep(Duration::from_millis(*ms)),
        Action::Error => return Err(Failure::transient("FAILPOINT", format!("failpoint {name}"))),
    }
    Ok(())
}

/// By the command `kill`, so that no unsafe code is needed; SIGABRT instead, should there be no such command.
fn signal(which: &str) {
    let sent = Command::new("kill")
        .args([which, &std::process::id().to_string()])
        .status();
    if which == "-KILL" || sent.is_err() {
        std::process::abort();
    }
}

fn parse(text: &str) -> Outcome<HashMap<String, Armed>> {
    let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    entries
        .map(|entry| parse_entry(entry).ok_or_else(|| misspelt(entry)))
        .collect()
}

fn misspelt(entry: &str) -> Failure {
    Failure::definite("FAILPOINT", format!("{VARIABLE}: cannot read {entry:?}"))
        .hint("name=kill@3, name=stop, name=error@1 or name=sleep:200")
}

fn parse_entry(entry: &str) -> Option<(String, Armed)> {
    let (name, rest) = entry.split_once('=')?;
    let (action, at) = match rest.split_once('@') {
        Some((action, at)) => (action, Some(at.parse().ok()?)),
        None => (rest, None),
    };
    let action = match action {
        "kill" => Action::Kill,
        "stop" => Action::Stop,
        "error" => Action::Error,
        other => Action::SleepMs(other.strip_prefix("sleep:")?.parse().ok()?),
    };
    Some((
        name.to_owned(),
        Armed {
            action,
            at,
            hits: AtomicU64::new(0),
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_four_actions() {
        let armed = parse("a=kill@3, b=stop,c=error@1,d=sleep:200").unwrap();
        assert_eq!(armed["a"].action, Action::Kill);
        assert_eq!(armed["a"].at, Some(3));
        assert_eq!((&armed["b"].action, armed["b"].at), (&Action::Stop, None));
        assert_eq!(armed["d"].action, Action::SleepMs(200));
        assert_eq!(armed["c"].action, Action::Error);
    }

    #[test]
    fn refuses_what_it_cannot_read() {
        for text in ["a", "a=explode", "a=kill@x", "a=sleep:", "a=sleep"] {
            assert_eq!(parse(text).err().map(|f| f.code), Some("FAILPOINT"), "{text}");
        }
    }

    #[test]
    fn is_due_at_its_hit_only() {
        let armed = parse("a=error@2,b=error").unwrap();
        let due: Vec<bool> = (0..3).map(|_| armed["a"].due().is_some()).collect();
        assert_eq!(due, [false, true, false]);
        assert!(armed["b"].due().is_some() && armed["b"].due().is_some());
    }

    #[test]
    fn an_error_is_transient() {
        assert_eq!(
            act("x", &Action::Error).err().map(|f| f.class),
            Some(crate::Class::Transient)
        );
    }
}
