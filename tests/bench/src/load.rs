//! Sessions that execute statements on a fixed schedule, whatever the system does: who is late is late against the schedule,
//! so that a system that holds up its own load cannot hide it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use syncline_tests::Db;

/// A load at work.
pub struct Load {
    /// Statements that it executes in all.
    pub count: u64,
    threads: Vec<JoinHandle<anyhow::Result<()>>>,
    failed: Arc<AtomicBool>,
}

impl Load {
    /// Starts a thread for each session. Statement `n` is executed by session `n` modulo their number; `statement` is given
    /// `n` and the moment at which it is meant to be sent, in microseconds since 1970.
    pub fn start(
        sessions: Vec<Db>,
        count: u64,
        per_s: u64,
        statement: impl Fn(u64, i64) -> String + Clone + Send + 'static,
    ) -> anyhow::Result<Self> {
        let (began, began_us, failed) = (Instant::now(), now_us()?, Arc::new(AtomicBool::new(false)));
        let step = sessions.len();
        let start = |(session, db): (usize, Db)| {
            let (failed, statement) = (Arc::clone(&failed), statement.clone());
            std::thread::spawn(move || {
                let outcome = (0..count).skip(session).step_by(step).try_for_each(|number| {
                    let at_us = number * 1_000_000 / per_s;
                    let at = began + Duration::from_micros(at_us);
                    std::thread::sleep(at.saturating_duration_since(Instant::now()));
                    db.exec(&statement(number, began_us + i64::try_from(at_us)?))
                });
                failed.fetch_or(outcome.is_err(), Ordering::SeqCst);
                outcome
            })
        };
        let threads = sessions.into_iter().enumerate().map(start).collect();
        Ok(Self { count, threads, failed })
    }

    /// Whether there is nothing more to come.
    pub fn has_ended(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished) || self.failed.load(Ordering::SeqCst)
    }

    /// Waits for its end, which its schedule and the server's `statement_timeout` bound.
    pub fn wait(self) -> anyhow::Result<()> {
        for thread in self.threads {
            thread.join().map_err(|_| anyhow::anyhow!("a session panicked"))??;
        }
        Ok(())
    }
}

/// Microseconds since 1970.
pub fn now_us() -> anyhow::Result<i64> {
    Ok(i64::try_from(
        SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros(),
    )?)
}
