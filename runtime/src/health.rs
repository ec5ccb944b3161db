//! Which parts of the process work, and what the others wait for.
//!
//! A part that never reported does not count: readiness is about the parts that said they exist.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The health of a process; clones share it.
#[derive(Clone, Default)]
pub struct Health {
    parts: Arc<Mutex<BTreeMap<String, Part>>>,
}

#[derive(Default)]
struct Part {
    ready: bool,
    status: String,
}

impl Health {
    /// No part yet, so not ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says whether a part does its work.
    pub fn set_ready(&self, part: &str, ready: bool) {
        self.with(part, |known| known.ready = ready);
    }

    /// Says in words what a part does or waits for.
    pub fn set_status(&self, part: &str, status: impl Into<String>) {
        let status = status.into();
        self.with(part, |known| known.status = status);
    }

    fn with(&self, part: &str, change: impl FnOnce(&mut Part)) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        change(parts.entry(part.to_owned()).or_default());
    }

    /// Whether every part is ready, and a line for each of them.
    pub fn report(&self) -> (bool, String) {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let ready = !parts.is_empty() && parts.values().all(|part| part.ready);
        let lines = parts.iter().map(|(name, part)| line(name, part)).collect();
        (ready, lines)
    }
}

fn line(name: &str, part: &Part) -> String {
    let ready = if part.ready { "ready" } else { "not ready" };
    let separator = if part.status.is_empty() { "" } else { ": " };
    format!("{name} {ready}{separator}{}\n", part.status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_all_parts_are() {
        let health = Health::new();
        assert_eq!(health.report(), (false, String::new()));
        health.set_ready("shop", true);
        health.set_status("crm", "waiting for the slot");
        assert_eq!(
            health.report(),
            (false, "crm not ready: waiting for the slot\nshop ready\n".to_owned())
        );
        health.set_ready("crm", true);
        assert!(health.report().0);
    }
}
