//! A target in maintenance is left alone: nothing is written into it, and nobody connects to it.
//!
//! What has to be written stays where it is, in its topic, and is applied afterwards, one transaction after the other as
//! always. No transaction begins in a window; one that is under way when it opens ends.

use std::time::Duration;

use syncline_runtime::{Failure, Outcome};
use syncline_schemas::schedule::{Timestamp, Window};

use crate::metrics;
use crate::stage::Parts;

/// Why nothing is written.
pub const IN_MAINTENANCE: &str = "IN_MAINTENANCE";

/// How long the end of a window is waited for without a look at the clock: somebody may set it.
const LOOK_MS_MAX: u64 = 5_000;

/// Fails while the window is open.
pub fn refuse(target: &str, window: Option<&Window>) -> Outcome<()> {
    let until = window.and_then(|window| window.open_until(Timestamp::now()));
    if window.is_some() {
        let open = if until.is_some() { 1.0 } else { 0.0 };
        metrics::IN_MAINTENANCE.with_label_values(&[target]).set(open);
    }
    match until {
        None => Ok(()),
        Some(until) => Err(
            Failure::transient(IN_MAINTENANCE, format!("in maintenance until {until:.0}"))
                .hint("nothing is lost: what is agreed meanwhile is written afterwards"),
        ),
    }
}

/// Waits until the target may be written. False if the process is to stop first; or if it only works off what is there, which
/// does not wait for hours.
pub fn wait(parts: &Parts) -> bool {
    let mut told = false;
    while let Err(failure) = refuse(&parts.target, parts.maintenance.as_ref()) {
        parts.report(&failure);
        if parts.until_current {
            tracing::warn!(part = parts.name, code = failure.code, "left out: {failure}");
            return false;
        }
        if !told {
            tracing::info!(part = parts.name, "{failure}");
            told = true;
        }
        if parts.shutdown.wait_timeout(Duration::from_millis(LOOK_MS_MAX)) {
            return false;
        }
    }
    true
}
