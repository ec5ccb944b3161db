//! Pure: tables that another slot of the system captured before.
//!
//! A table that goes from one group to another, or into groups at all, is read again by the slot that it comes to. What is
//! lost is what nobody reads: a row deleted after the old slot stopped and before the new one read. So it takes a person's
//! word. And the rows read again must count as newer than all that came through the old slot, whose epoch may be greater.

use std::collections::BTreeSet;

use syncline_runtime::{Failure, Outcome};
use syncline_schemas::progress::{Progress, SnapshotState};

use crate::config::SourceConfig;

/// The epoch that the positions of this slot must not fall behind; refused if tables come from another slot and nobody
/// has said that they may.
pub fn epoch_min(
    config: &SourceConfig,
    own: Option<&Progress>,
    others: &[Progress],
    tables: &[String],
    asked: &BTreeSet<String>,
) -> Outcome<u64> {
    let is_new = |table: &&String| own.is_none_or(|own| own.tables.iter().all(|known| &known.table != *table));
    let mut epoch = 0;
    for table in tables.iter().filter(is_new) {
        let Some(other) = others
            .iter()
            .find(|other| other.table(table) != SnapshotState::NotStarted)
        else {
            continue;
        };
        if !config.repair.resnapshot && !asked.contains(table) {
            return Err(refusal(config, table, other));
        }
        epoch = epoch.max(other.position.epoch);
    }
    Ok(epoch)
}

fn refusal(config: &SourceConfig, table: &str, other: &Progress) -> Failure {
    let text = format!(
        "{table} was captured through slot {}, up to {}; now it is to come through slot {}",
        other.slot, other.position.lsn, config.slot
    );
    Failure::definite("TABLE_MOVED", text).hint(format!(
        "read it again through the new slot (rows deleted since that position leave no trace): {} --reread {table}, or all \
         of them: --resnapshot; then, if nothing captures through {} any more: SELECT pg_drop_replication_slot('{}')",
        config.command, other.slot, other.slot
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::start::tests::{config, stored};
    use syncline_schemas::position::{Lsn, Position};

    fn progress(slot: &str, epoch: u64, table: &str) -> Progress {
        let mut progress = stored(9);
        progress.slot = slot.to_owned();
        progress.position = Position::new(epoch, Lsn(9), 0);
        progress.tables.clear();
        progress.set_table(table, SnapshotState::Done);
        progress
    }

    fn judged(asked: &[&str]) -> Outcome<u64> {
        let (own, other) = (progress("s", 1, "public.a"), progress("old", 3, "public.b"));
        let tables = ["public.a", "public.b", "public.c"].map(str::to_owned);
        let asked = asked.iter().map(|table| (*table).to_owned()).collect();
        epoch_min(&config(), Some(&own), &[other], &tables, &asked)
    }

    #[test]
    fn a_table_of_another_slot_needs_a_word() {
        let refused = judged(&[]).err().unwrap();
        assert_eq!(refused.code, "TABLE_MOVED");
        assert!(refused.message.contains("public.b") && refused.message.contains("slot old"));
        assert!(refused.hint.is_some_and(|hint| hint.contains("--reread public.b")));
    }

    #[test]
    fn what_is_read_again_is_newer_than_all_that_the_other_slot_wrote() {
        assert_eq!(judged(&["public.b"]).unwrap(), 3);
    }

    #[test]
    fn what_was_always_here_or_nowhere_moves_nothing() {
        let tables = ["public.a", "public.c"].map(str::to_owned);
        let (own, other) = (progress("s", 1, "public.a"), progress("old", 3, "public.b"));
        assert_eq!(
            epoch_min(&config(), Some(&own), &[other], &tables, &BTreeSet::new()).unwrap(),
            0
        );
    }
}
