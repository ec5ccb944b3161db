//! One wish to stop, seen by threads and by tasks.
//!
//! Nobody is interrupted: each loop asks between two steps, and each wait ends early. A second signal ends the
//! process at once, for a person who does not want to wait; the process may be killed at any instruction anyway.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::{Failure, Outcome};

/// A wish to stop; clones share it.
#[derive(Clone, Default)]
pub struct Shutdown {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    requested: AtomicBool,
    /// Those that stop with this one; the lock that the bell goes with.
    lock: Mutex<Vec<Weak<Inner>>>,
    bell: Condvar,
    notify: Notify,
}

impl Shutdown {
    /// No wish yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// No wish yet; SIGTERM and SIGINT will make it.
    pub fn on_signals() -> Outcome<Self> {
        let shutdown = Self::new();
        let watched = shutdown.clone();
        let (ready, is_ready) = std::sync::mpsc::channel();
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || watch_signals(&watched, &ready))
            .map_err(no_signals)?;
        match is_ready.recv() {
            Ok(Ok(())) => Ok(shutdown),
            Ok(Err(error)) => Err(no_signals(error)),
            Err(error) => Err(Failure::definite("SIGNALS", "the thread for signals ended").source(error)),
        }
    }

    /// One that stops with this one, and may be asked to stop without it.
    pub fn child(&self) -> Self {
        let child = Self::new();
        let mut children = self.inner.lock.lock().unwrap_or_else(PoisonError::into_inner);
        children.retain(|known| known.strong_count() > 0);
        children.push(Arc::downgrade(&child.inner));
        drop(children);
        if self.requested() {
            child.request();
        }
        child
    }

    /// Whether to stop.
    pub fn requested(&self) -> bool {
        self.inner.requested.load(Ordering::Acquire)
    }

    /// Asks everyone to stop.
    pub fn request(&self) {
        let guard = self.inner.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.inner.requested.store(true, Ordering::Release);
        let children: Vec<Self> = guard
            .iter()
            .filter_map(Weak::upgrade)
            .map(|inner| Self { inner })
            .collect();
        drop(guard);
        children.iter().for_each(Self::request);
        self.inner.bell.notify_all();
        self.inner.notify.notify_waiters();
    }

    /// Waits, but not past a wish to stop; true if there is one. For threads.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut guard = self.inner.lock.lock().unwrap_or_else(PoisonError::into_inner);
        while !self.requested() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            guard = self
                .inner
                .bell
                .wait_timeout(guard, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        true
    }

    /// Waits for the wish to stop. For tasks; may be dropped at any time.
    pub async fn wait(&self) {
        loop {
            let notified = self.inner.notify.notified();
            if self.requested() {
                return;
            }
            notified.await;
        }
    }
}

fn no_signals(error: std::io::Error) -> Failure {
    Failure::definite("SIGNALS", "cannot listen for signals").source(error)
}

type Ready = std::sync::mpsc::Sender<std::io::Result<()>>;

fn watch_signals(shutdown: &Shutdown, ready: &Ready) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_io().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(ready.send(Err(error))),
    };
    runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        let both = signal(SignalKind::terminate()).and_then(|term| Ok((term, signal(SignalKind::interrupt())?)));
        let (mut term, mut int) = match both {
            Ok(both) => both,
            Err(error) => return drop(ready.send(Err(error))),
        };
        // The receiver waits for exactly this message and outlives it.
        let _ = ready.send(Ok(()));
        tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
        tracing::info!("asked to stop");
        shutdown.request();
        tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
        tracing::warn!("asked to stop a second time: leaving at once");
        std::process::exit(1);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_stops_with_its_parent_and_not_the_other_way() {
        let parent = Shutdown::new();
        let (first, second) = (parent.child(), parent.child());
        first.request();
        assert!(first.requested() && !parent.requested() && !second.requested());
        parent.request();
        assert!(second.requested() && parent.child().requested());
    }

    #[test]
    fn a_wait_without_a_wish_ends_with_its_time() {
        assert!(!Shutdown::new().wait_timeout(Duration::from_millis(5)));
    }

    #[test]
    fn a_wish_ends_a_long_wait_of_a_thread() {
        let shutdown = Shutdown::new();
        let other = shutdown.clone();
        let waiting = std::thread::spawn(move || other.wait_timeout(Duration::from_secs(60)));
        shutdown.request();
        assert!(waiting.join().is_ok_and(|stopped| stopped));
        assert!(shutdown.requested());
    }

    #[test]
    fn sigterm_is_a_wish_to_stop() {
        let shutdown = Shutdown::on_signals().unwrap();
        let sent = std::process::Command::new("kill")
            .args(["-TERM", &std::process::id().to_string()])
            .status();
        assert!(sent.is_ok_and(|status| status.success()));
        assert!(shutdown.wait_timeout(Duration::from_secs(60)));
    }

    #[test]
    fn a_wish_ends_the_wait_of_a_task() {
        let shutdown = Shutdown::new();
        let other = shutdown.clone();
        let waiting = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(other.wait());
        });
        shutdown.request();
        assert!(waiting.join().is_ok());
    }
}
