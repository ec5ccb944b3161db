//! Pure: whether the server that answers now continues the history that Kafka was fed from.
//!
//! A promoted standby begins a new timeline, and its history file says at which LSN it left the old one. What Kafka has
//! up to there is in both; what Kafka has beyond was never on the new primary. So three cases are told apart, and none of
//! them by guessing:
//!
//! ```text
//! fork >= progress, slot there       nothing is missing on either side: go on (17 and later carry slots over)
//! fork >= progress, slot missing     FAILED_OVER: what committed since cannot be read from the log any more
//! fork <  progress, slot or not      TIMELINE_DIVERGED: Kafka has changes that the new primary never had
//! ```

use syncline_runtime::Failure;
use syncline_schemas::position::Lsn;
use syncline_schemas::progress::Progress;

use crate::config::SourceConfig;
use crate::postgres::client::SystemIdentity;

/// Where `timeline` ends in the history file of a later one: lines of timeline, LSN and reason.
pub fn fork(history: &str, timeline: u32) -> Option<Lsn> {
    history.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let found: u32 = words.next()?.parse().ok()?;
        (found == timeline).then(|| words.next()?.parse().ok()).flatten()
    })
}

/// Why the new timeline cannot be gone on with, apart from the slot.
pub fn refusal(config: &SourceConfig, stored: &Progress, now: &SystemIdentity, fork: Option<Lsn>) -> Option<Failure> {
    let kept = stored.reached().lsn;
    let text = match fork {
        Some(fork) if fork >= kept => return None,
        Some(fork) => format!(
            "{} failed over: timeline {} left timeline {} at {fork}, but Kafka has its changes up to {kept}; those \
             between {fork} and {kept} were never on the new primary",
            config.name, now.timeline, stored.timeline
        ),
        None => format!(
            "{} is on timeline {}, which does not come from timeline {} that was read up to {kept}",
            config.name, now.timeline, stored.timeline
        ),
    };
    Some(diverged(config, text))
}

/// The same timeline, but shorter than what was read from it.
pub fn shortened(config: &SourceConfig, stored: &Progress, now: &SystemIdentity) -> Failure {
    let text = format!(
        "the log of {} ends at {}, but Kafka has its changes up to {}: an older copy of the server was restored, and \
         those between are not in it",
        config.name,
        now.lsn,
        stored.reached().lsn
    );
    diverged(config, text)
}

fn diverged(config: &SourceConfig, text: String) -> Failure {
    let hint = format!(
        "read all tables again (rows that the new primary never had leave no trace): {0} --resnapshot; or, if you know \
         that nothing is missing: {0} --adopt-slot",
        config.command
    );
    Failure::definite("TIMELINE_DIVERGED", text).hint(hint)
}

/// A failover that has left the slot behind.
pub fn slot_left_behind(config: &SourceConfig, stored: &Progress, now: &SystemIdentity, fork: Option<Lsn>) -> Failure {
    let text = format!(
        "{} failed over (timeline {}, was {}; they part at {}), and slot {} was not carried over: Kafka has the changes up \
         to {}, and what committed since is not in any log that can be read",
        config.name,
        now.timeline,
        stored.timeline,
        fork.unwrap_or_default(),
        config.slot,
        stored.position.lsn
    );
    let hint = format!(
        "read all tables again (rows deleted meanwhile leave no trace): {} --resnapshot. From PostgreSQL 17 on slots \
         survive: failover_slot, sync_replication_slots on the standby and synchronized_standby_slots on the primary",
        config.command
    );
    Failure::definite("FAILED_OVER", text).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_file_says_where_each_timeline_ended() {
        let history = "1\t0/3000000\tno recovery target specified\n\n2\t0/5000148\tbefore 2026-01-01\n";
        assert_eq!(fork(history, 1), Some(Lsn(0x0300_0000)));
        assert_eq!(fork(history, 2), Some(Lsn(0x0500_0148)));
        assert_eq!(fork(history, 3), None);
        assert_eq!(fork("12\t0/1\n", 1), None);
    }
}
