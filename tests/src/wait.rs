//! Waiting for a condition within a bound, and saying what was waited for when it does not come.

use std::time::{Duration, Instant};

use anyhow::bail;

const LOOK_EVERY_MS: u64 = 100;

/// Looks until `condition` holds; an error after `within_s` seconds.
pub fn until(what: &str, within_s: u64, mut condition: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    until_some(what, within_s, || Ok(condition()?.then_some(())))
}

/// Looks until there is something; an error after `within_s` seconds.
pub fn until_some<T>(
    what: &str,
    within_s: u64,
    mut look: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + Duration::from_secs(within_s);
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if Instant::now() > deadline {
            bail!("waited {within_s} s in vain for: {what}");
        }
        std::thread::sleep(Duration::from_millis(LOOK_EVERY_MS));
    }
}
