//! Waiting longer and longer, with a bound.
//!
//! The only module that names the crate `backoff`: that crate is no longer maintained (RUSTSEC-2025-0012), and with
//! only its arithmetic used here, it can be replaced in this one file.

use std::time::{Duration, Instant};

use backoff::backoff::Backoff as _;
use backoff::{ExponentialBackoff, ExponentialBackoffBuilder};

use crate::{Class, Failure, Outcome, Shutdown};

/// A run this long counts as recovered: the next failure is waited for from the start again.
const RECOVERED_AFTER_MS: u64 = 30_000;

/// How long to wait between attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The first wait.
    pub initial_ms: u64,
    /// No wait is longer, give or take the jitter of a fifth.
    pub max_ms: u64,
    /// When to stop trying; never, if `None`.
    pub give_up_after_ms: Option<u64>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            initial_ms: 200,
            max_ms: 10_000,
            give_up_after_ms: None,
        }
    }
}

/// The waits of one series of attempts.
pub struct Backoff {
    inner: ExponentialBackoff,
}

impl Backoff {
    /// A series that has not begun.
    pub fn new(policy: &RetryPolicy) -> Self {
        let inner = ExponentialBackoffBuilder::new()
            .with_initial_interval(Duration::from_millis(policy.initial_ms))
            .with_max_interval(Duration::from_millis(policy.max_ms))
            .with_multiplier(2.0)
            .with_randomization_factor(0.2)
            .with_max_elapsed_time(policy.give_up_after_ms.map(Duration::from_millis))
            .build();
        Self { inner }
    }

    /// How long to wait before the next attempt; `None` when it is time to give up.
    pub fn next_delay(&mut self) -> Option<Duration> {
        self.inner.next_backoff()
    }

    /// Begins the series anew.
    pub fn reset(&mut self) {
        self.inner.reset();
    }
}

/// Keeps `attempt` running: a transient failure is waited for, any other returned. A wish to stop ends it with `Ok`.
///
/// Each failure is logged when it differs from the one before; a broker that is away for an hour is one line, not
/// thousands.
pub fn supervise(
    name: &str,
    shutdown: &Shutdown,
    policy: &RetryPolicy,
    mut attempt: impl FnMut() -> Outcome<()>,
) -> Outcome<()> {
    let mut backoff = Backoff::new(policy);
    let mut last_logged = String::new();
    loop {
        let started = Instant::now();
        let failure = match attempt() {
            Ok(()) => return Ok(()),
            Err(failure) if failure.class != Class::Transient => return Err(failure),
            Err(failure) => failure,
        };
        if started.elapsed() > Duration::from_millis(RECOVERED_AFTER_MS) {
            backoff.reset();
            last_logged.clear();
        }
        let Some(delay) = backoff.next_delay() else {
            return Err(failure);
        };
        log_once(name, &failure, delay, &mut last_logged);
        if shutdown.wait_timeout(delay) {
            return Ok(());
        }
    }
}

fn log_once(name: &str, failure: &Failure, delay: Duration, last_logged: &mut String) {
    let text = failure.to_string();
    if text == *last_logged {
        return;
    }
    let wait_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
    let hint = failure.hint.as_deref();
    tracing::warn!(part = name, code = failure.code, hint, wait_ms, "waiting: {text}");
    *last_logged = text;
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAST: RetryPolicy = RetryPolicy {
        initial_ms: 1,
        max_ms: 4,
        give_up_after_ms: None,
    };

    #[test]
    fn waits_grow_up_to_the_maximum() {
        let mut backoff = Backoff::new(&RetryPolicy {
            initial_ms: 100,
            max_ms: 400,
            give_up_after_ms: None,
        });
        let delays: Vec<u128> = (0..6)
            .filter_map(|_| backoff.next_delay())
            .map(|d| d.as_millis())
            .collect();
        assert_eq!(delays.len(), 6);
        assert!((80..=120).contains(&delays[0]), "{delays:?}");
        assert!(delays[3..].iter().all(|d| (320..=480).contains(d)), "{delays:?}");
        backoff.reset();
        assert!(backoff.next_delay().is_some_and(|d| d.as_millis() <= 120));
    }

    #[test]
    fn gives_up_with_the_last_failure() {
        let policy = RetryPolicy {
            give_up_after_ms: Some(20),
            ..FAST
        };
        let outcome = supervise("t", &Shutdown::new(), &policy, || {
            Err(Failure::transient("AWAY", "no answer"))
        });
        assert_eq!(outcome.err().map(|f| f.code), Some("AWAY"));
    }

    #[test]
    fn transient_is_tried_again_and_definite_is_not() {
        let mut attempts = 0;
        let outcome = supervise("t", &Shutdown::new(), &FAST, || {
            attempts += 1;
            if attempts < 4 {
                Err(Failure::transient("AWAY", "x"))
            } else {
                Err(Failure::definite("GONE", "y"))
            }
        });
        assert_eq!(outcome.err().map(|f| f.code), Some("GONE"));
        assert_eq!(attempts, 4);
    }

    #[test]
    fn a_wish_to_stop_ends_the_wait() {
        let shutdown = Shutdown::new();
        let policy = RetryPolicy {
            initial_ms: 60_000,
            max_ms: 60_000,
            give_up_after_ms: None,
        };
        let outcome = supervise("t", &shutdown, &policy, || {
            shutdown.request();
            Err(Failure::transient("AWAY", "x"))
        });
        assert!(outcome.is_ok());
    }
}
