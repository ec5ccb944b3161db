//! How far a long piece of work has come: a bar on a terminal, a line in the log every few seconds elsewhere.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

const LOG_INTERVAL_MS: u64 = 5_000;
const BAR: &str = "{msg} {wide_bar} {percent}% {human_pos}/{human_len} {per_sec} {eta}";

/// One piece of work whose size is known, at least roughly.
pub struct Progress {
    name: String,
    total: u64,
    done: u64,
    started: Instant,
    logged: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Work of `total` steps, none of them done.
    pub fn new(name: impl Into<String>, total: u64) -> Self {
        let name = name.into();
        let now = Instant::now();
        let bar = std::io::stderr().is_terminal().then(|| bar(&name, total));
        Self {
            name,
            total,
            done: 0,
            started: now,
            logged: now,
            bar,
        }
    }

    /// Says how many steps are done.
    pub fn set(&mut self, done: u64) {
        self.done = done;
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        } else if self.logged.elapsed() >= Duration::from_millis(LOG_INTERVAL_MS) {
            self.logged = Instant::now();
            self.log();
        }
    }

    /// The work is done; logged whatever its length.
    pub fn finish(self) {
        match &self.bar {
            Some(bar) => bar.finish(),
            None => self.log(),
        }
    }

    fn log(&self) {
        let (rate, percent, eta_s) = figures(self.done, self.total, self.started.elapsed());
        tracing::info!(
            work = self.name,
            done = self.done,
            total = self.total,
            percent,
            rate,
            eta_s,
            "progress"
        );
    }
}

fn bar(name: &str, total: u64) -> ProgressBar {
    let style = ProgressStyle::with_template(BAR).unwrap_or_else(|error| unreachable!("a constant: {error}"));
    ProgressBar::new(total).with_style(style).with_message(name.to_owned())
}

/// Steps per second, percent done, seconds left (unknown before the first step).
fn figures(done: u64, total: u64, elapsed: Duration) -> (u64, u64, Option<u64>) {
    let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
    let rate = done.saturating_mul(1_000) / elapsed_ms;
    let percent = done.saturating_mul(100).checked_div(total).unwrap_or(100).min(100);
    let left_s = (done > 0).then(|| elapsed_ms.saturating_mul(total.saturating_sub(done)) / done / 1_000);
    (rate, percent, left_s)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_work_half_done() {
        assert_eq!(figures(500, 1_000, Duration::from_secs(10)), (50, 50, Some(10)));
    }

    #[test]
    fn figures_at_the_ends() {
        assert_eq!(figures(0, 1_000, Duration::ZERO), (0, 0, None));
        assert_eq!(figures(0, 0, Duration::from_secs(1)), (0, 100, None));
        assert_eq!(figures(12, 10, Duration::from_secs(1)), (12, 100, Some(0)));
    }
}
