//! The slot guard: a slot that nobody reads fast enough must not fill the source's disk, nor be lost in silence.
//!
//! It watches on a thread and a connection of its own, from the start of the process to its end. That is the point: the
//! log piles up just when the loop is busy elsewhere, with a long snapshot, with a Kafka that does not answer, with a
//! slot that waits to be made. At half of what the slot may hold back it raises an alarm. At the limit it does what was
//! declared: goes on, or drops the slot. A slot that the server has given up ends the run with the reason.
//!
//! **Dropping.** The slot goes first and the note about it (in the progress, by the stage) second. If Kafka is away, and
//! it often is when a slot has grown, the note cannot be written, and need not be: a slot that is gone while there is
//! progress is refused at every start anyway. The other order could leave a full disk waiting for Kafka.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use syncline_runtime::{Failure, Outcome, Shutdown};
use syncline_schemas::pipeline::care::{AtLimit, WalBudget};

use crate::config::SourceConfig;
use crate::metrics;
use crate::postgres::control::Control;
use crate::postgres::slot::{self, SlotState};
use crate::snapshots::Mode;

/// Between two looks.
const LOOK_MS: u64 = 3_000;
/// How long a process that streams the slot is given to let go of it.
const RELEASE_MS_MAX: u64 = 4_000;
const RELEASE_POLL_MS: u64 = 100;

/// The code of a slot that was dropped at its limit.
pub const SLOT_GIVEN_UP: &str = "SLOT_GIVEN_UP";

/// How close a slot is to what it may hold back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    /// Less than half.
    Calm,
    /// Half or more of the declared budget or of `max_slot_wal_keep_size`.
    Alarm,
    /// All of the declared budget.
    Limit,
}

fn level(slot: &SlotState, budget: Option<&WalBudget>) -> Level {
    let retained = u64::try_from(slot.retained_bytes).unwrap_or(0);
    let beyond_half = |limit: u64| retained >= limit / 2;
    let servers = slot
        .safe_wal_bytes
        .map(|safe| retained.saturating_add_signed(safe.max(0)))
        .is_some_and(beyond_half);
    match budget {
        Some(budget) if retained >= budget.bytes => Level::Limit,
        Some(budget) if beyond_half(budget.bytes) => Level::Alarm,
        _ if servers => Level::Alarm,
        _ => Level::Calm,
    }
}

/// A watched slot. Dropping it ends the watch.
pub struct Guard {
    verdict: Arc<Mutex<Option<Verdict>>>,
    halt: Shutdown,
    /// Rings when what the verdict says has been done.
    done: Shutdown,
}

#[derive(Clone, Debug)]
struct Verdict {
    code: &'static str,
    message: String,
    hint: String,
}

impl Guard {
    /// Begins to watch. `shutdown` ends it.
    pub fn watch(config: &SourceConfig, shutdown: &Shutdown) -> Outcome<Self> {
        let guard = Self {
            verdict: Arc::default(),
            halt: shutdown.child(),
            done: Shutdown::new(),
        };
        let watch = Watch {
            config: config.clone(),
            verdict: Arc::clone(&guard.verdict),
            halt: guard.halt.clone(),
            done: guard.done.clone(),
            control: None,
            last: Level::Calm,
        };
        std::thread::Builder::new()
            .name(format!("guard-{}", config.name))
            .spawn(move || watch.run())
            .map_err(|error| Failure::definite("THREAD", "cannot start a thread").source(error))?;
        Ok(guard)
    }

    /// A wish to stop, of the process or of the guard: for whoever cannot be told of a failure.
    pub fn halt(&self) -> &Shutdown {
        &self.halt
    }

    /// Why the run is over, if it is. Waits until what that takes has been done: the process ends soon after.
    pub fn verdict(&self) -> Option<Failure> {
        let verdict = self.verdict.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        self.done.wait_timeout(Duration::from_millis(2 * RELEASE_MS_MAX));
        Some(Failure::definite(verdict.code, verdict.message).hint(verdict.hint))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.halt.request();
    }
}

struct Watch {
    config: SourceConfig,
    verdict: Arc<Mutex<Option<Verdict>>>,
    halt: Shutdown,
    done: Shutdown,
    control: Option<Control>,
    last: Level,
}

impl Watch {
    fn run(mut self) {
        loop {
            // A source that does not answer is the stage's to report; the guard looks again.
            if let Err(failure) = self.look() {
                tracing::debug!(source = self.config.name, "the slot could not be looked at: {failure}");
                self.control = None;
            }
            if self.halt.wait_timeout(Duration::from_millis(LOOK_MS)) {
                return;
            }
        }
    }

    fn look(&mut self) -> Outcome<()> {
        let control = match self.control.take() {
            Some(control) => control,
            None => Control::connect(&self.config.dsn)?,
        };
        let seen = slot::slot_state(&control, &self.config.slot)?;
        let checked = seen.map_or(Ok(()), |slot| self.judge(&control, &slot));
        self.control = Some(control);
        checked
    }

    fn judge(&mut self, control: &Control, slot: &SlotState) -> Outcome<()> {
        metrics::retained(&self.config.name, slot.retained_bytes);
        // A repair that makes the slot anew is under way: what becomes of the old one does not matter.
        let remade = self.config.repair.resnapshot || self.config.snapshots.mode == Mode::WhenNeeded;
        if remade && slot.active_pid.is_none() {
            return Ok(());
        }
        if let Some(failure) = slot.lost(&self.config.command) {
            self.end(Verdict {
                code: failure.code,
                message: failure.message,
                hint: failure.hint.unwrap_or_default(),
            });
            self.done.request();
            return Ok(());
        }
        let level = level(slot, self.config.care.wal_budget.as_ref());
        metrics::slot_alarm(&self.config.name, level > Level::Calm);
        if level > self.last {
            self.alarm(slot, level);
        }
        self.last = level;
        let drops = |budget: WalBudget| budget.at_limit == AtLimit::Drop;
        if level == Level::Limit && self.config.care.wal_budget.is_some_and(drops) {
            let dropped = self.give_up(control, slot);
            self.done.request();
            if let Err(failure) = &dropped {
                tracing::error!(
                    source = self.config.name,
                    slot = slot.name,
                    "the slot could not be dropped: {failure}"
                );
            }
        }
        Ok(())
    }

    fn alarm(&self, slot: &SlotState, level: Level) {
        let budget_bytes = self.config.care.wal_budget.map(|budget| budget.bytes);
        let (retained_bytes, safe_bytes) = (slot.retained_bytes, slot.safe_wal_bytes);
        let what = match level {
            Level::Limit => "the slot holds back all the log that it may",
            _ => "the slot holds back more than half of the log that it may",
        };
        tracing::warn!(
            code = "SLOT_RETAINS",
            source = self.config.name,
            slot = slot.name,
            retained_bytes,
            budget_bytes,
            safe_bytes,
            "{what}: see what capture waits for (readyz), or the oldest transaction of the source"
        );
    }

    /// Drops the slot, whoever streams it.
    fn give_up(&self, control: &Control, slot: &SlotState) -> Outcome<()> {
        let text = format!(
            "slot {} held back {} bytes of log, its wal_budget: it was dropped, as at_limit: drop says, at {}",
            slot.name,
            slot.retained_bytes,
            slot.confirmed_flush.unwrap_or_default()
        );
        // First the verdict: whoever loses the stream now must not look for the slot again.
        self.end(Verdict {
            code: SLOT_GIVEN_UP,
            message: text,
            hint: format!("read all tables again: {} --resnapshot", self.config.command),
        });
        if let Some(pid) = slot.active_pid {
            control.rows(
                "SELECT pg_terminate_backend($1)",
                &[&pid],
                "ending the stream of the slot",
            )?;
        }
        let deadline = std::time::Instant::now() + Duration::from_millis(RELEASE_MS_MAX);
        loop {
            match slot::drop_slot(control, &slot.name) {
                Err(failure) if failure.code == "SLOT_ACTIVE" && std::time::Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(RELEASE_POLL_MS));
                }
                dropped => return dropped,
            }
        }
    }

    fn end(&self, verdict: Verdict) {
        let mut known = self.verdict.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none() {
            tracing::error!(code = verdict.code, source = self.config.name, "{}", verdict.message);
            *known = Some(verdict);
        }
        drop(known);
        self.halt.request();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(retained_bytes: i64, safe_wal_bytes: Option<i64>) -> SlotState {
        SlotState {
            name: "s".to_owned(),
            plugin: None,
            database: None,
            active_pid: None,
            restart_lsn: None,
            confirmed_flush: None,
            wal_status: None,
            safe_wal_bytes,
            retained_bytes,
            invalidation: None,
        }
    }

    #[test]
    fn half_is_an_alarm_and_all_is_the_limit() {
        let budget = WalBudget {
            bytes: 100,
            at_limit: AtLimit::Drop,
        };
        let by_budget = |retained| level(&slot(retained, None), Some(&budget));
        assert_eq!(
            [0, 49, 50, 99, 100].map(by_budget),
            [Level::Calm, Level::Calm, Level::Alarm, Level::Alarm, Level::Limit]
        );
        assert_eq!(level(&slot(1 << 40, None), None), Level::Calm);
    }

    #[test]
    fn the_servers_own_limit_counts_as_well() {
        assert_eq!(level(&slot(49, Some(51)), None), Level::Calm);
        assert_eq!(level(&slot(50, Some(50)), None), Level::Alarm);
        assert_eq!(level(&slot(150, Some(-50)), None), Level::Alarm);
    }
}
