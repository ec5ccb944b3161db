//! Pure: what may come twice when a slot goes from Debezium to ours or back, and that nothing else does.
//!
//! Who wrote a record is told by its headers: ours says where in the log it stands. So a topic falls into turns.
//!
//! **To ours.** Connect stores the offset of a record some time after Kafka has the record. What Debezium wrote after the
//! stored offset may come again, and so may the records that share the offset's LSN with others (a delete and its
//! tombstone, a key change, the rows of one COPY), for an offset that names such an LSN does not say which of them are there.
//! **To Debezium.** Ours keeps its place with its records, so nothing comes again, but for a transaction that was not whole
//! in Kafka when ours was killed: Debezium cannot be told of a place within it, and begins it anew.
//! Either way, what comes again is the end of the turn before, whole, in its order and unchanged. (But for `source.sequence`:
//! it names the commit before, which is not known in the rest of a transaction that was cut.)

use std::ops::Range;

use anyhow::{Context as _, bail};
use serde_json::{Value as Json, json};
use syncline_schemas::position::Position;

use crate::kafka::{Record, Topics};

/// Only ours has it.
const POSITION: &str = "syncline.position";
/// When a record was made.
const VOLATILE: [&str; 3] = ["ts_ms", "ts_us", "ts_ns"];

/// What was known of the place at a handover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The offset that Connect had stored.
    Offset {
        /// All transactions that end here are in Kafka.
        commit: u64,
        /// And of this one the changes up to this LSN.
        within: Option<(u64, u64)>,
    },
    /// What ours exported.
    Exported {
        /// All transactions that end here are in Kafka.
        commit: u64,
        /// Whether it was killed.
        killed: bool,
    },
}

impl Place {
    /// Of the value of a connector's offset.
    pub fn of_offset(value: &Json) -> anyhow::Result<Self> {
        let number = |name: &str| value[name].as_u64();
        let event = number("lsn_proc").or(number("lsn")).context("an lsn")?;
        let commit = number("lsn_commit").unwrap_or(event);
        let of_a_change = value["messageType"]
            .as_str()
            .is_some_and(|kind| kind != "BEGIN" && kind != "COMMIT");
        // Before the first commit there is no lsn_commit.
        let within = of_a_change && number("lsn_commit") != Some(event);
        let within = within.then(|| Some((number("txId")?, event))).flatten();
        Ok(Self::Offset { commit, within })
    }

    /// Of `--export-offsets`.
    pub fn of_export(body: &Json, killed: bool) -> anyhow::Result<Self> {
        let commit = body.pointer("/offsets/0/offset/lsn_commit").and_then(Json::as_u64);
        Ok(Self::Exported {
            commit: commit.context("lsn_commit")?,
            killed,
        })
    }
}

/// A record as it is judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Where in the log it stands, if ours wrote it.
    pub position: Option<Position>,
    /// Transaction and LSN of its change; a tombstone has those of its delete.
    pub change: (u64, u64),
    /// All that it says, but for when it was made.
    pub said: Json,
}

/// Whether ours wrote it.
pub fn is_ours(record: &Record) -> bool {
    record.header(POSITION).is_some()
}

/// The records of a topic with one partition.
pub fn written(topics: &Topics, records: &[Record]) -> anyhow::Result<Vec<Written>> {
    let mut change = (0, 0);
    let mut all = Vec::new();
    for record in records {
        let mut value = match &record.value {
            Some(value) => topics.json(value)?,
            None => Json::Null,
        };
        if let Some(fields) = value.as_object_mut() {
            VOLATILE.iter().for_each(|name| _ = fields.remove(*name));
            if let Some(source) = fields.get_mut("source").and_then(Json::as_object_mut) {
                source.remove("sequence");
            }
            let number = |name: &str| fields["source"][name].as_u64().unwrap_or_default();
            change = (number("txId"), number("lsn"));
        }
        // The ids of both schemas go along: what comes again comes by the same ones.
        let ids = [&record.key, &record.value].map(|part| part.as_ref().and_then(|bytes| bytes.get(..5)));
        let key = record.key.as_deref().map(|key| topics.json(key)).transpose()?;
        all.push(Written {
            position: record.header(POSITION).map(str::parse).transpose()?,
            change,
            said: json!([ids, key, value, change.0, change.1]),
        });
    }
    Ok(all)
}

/// Which records each wrote without the other between.
pub fn turns(all: &[Written]) -> Vec<Range<usize>> {
    let mut turns: Vec<Range<usize>> = Vec::new();
    for (index, written) in all.iter().enumerate() {
        match turns.last_mut() {
            Some(turn) if all[turn.start].position.is_some() == written.position.is_some() => turn.end = index + 1,
            _ => turns.push(index..index + 1),
        }
    }
    turns
}

/// The records of the turn after `at` that were there already; fails if one of them should not have come again.
pub fn repeated(all: &[Written], turn: &Range<usize>, place: &Place) -> anyhow::Result<Range<usize>> {
    let (before, after) = (&all[..turn.start], &all[turn.clone()]);
    let first = after.first().context("a turn without a record")?;
    let Some(start) = before.iter().rposition(|written| written.said == first.said) else {
        return Ok(turn.start..turn.start);
    };
    let again = &before[start..];
    let number = again.len();
    if after.len() < number || again.iter().zip(after).any(|(old, new)| old.said != new.said) {
        bail!("record {} comes again, and not all {number} after it do", first.said);
    }
    for (old, new) in again.iter().zip(after) {
        may_repeat(before, old, new, place).with_context(|| format!("{} comes again after {place:?}", new.said))?;
    }
    Ok(turn.start..turn.start + number)
}

fn may_repeat(before: &[Written], old: &Written, new: &Written, place: &Place) -> anyhow::Result<()> {
    let position = old.position.or(new.position).context("no position")?;
    match *place {
        Place::Exported { killed: false, .. } => bail!("capture was stopped in order"),
        Place::Exported { commit, .. } | Place::Offset { commit, .. } if position.lsn.0 <= commit => {
            bail!("its transaction was whole in Kafka: {position}")
        }
        Place::Exported { .. } => match before.last() {
            Some(last) if last.change.0 == old.change.0 => Ok(()),
            _ => bail!("it is of a transaction that was whole in Kafka"),
        },
        Place::Offset {
            within: Some((transaction, lsn)),
            ..
        } if old.change.0 == transaction && old.change.1 <= lsn => {
            let sharing = before.iter().filter(|other| other.change == old.change).count();
            match old.change.1 == lsn && sharing > 1 {
                true => Ok(()),
                false => bail!("the offset says that it was in Kafka"),
            }
        }
        Place::Offset { .. } => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn theirs(transaction: u64, lsn: u64, said: u64) -> Written {
        Written {
            position: None,
            change: (transaction, lsn),
            said: json!(said),
        }
    }

    fn ours(transaction: u64, lsn: u64, said: u64, commit: u64) -> Written {
        Written {
            position: format!("1:0/{commit:X}:0").parse().ok(),
            ..theirs(transaction, lsn, said)
        }
    }

    fn judged(all: &[Written], place: &Place) -> Option<usize> {
        let turns = turns(all);
        assert_eq!(turns.len(), 2);
        repeated(all, &turns[1], place).ok().map(|range| range.len())
    }

    #[test]
    fn what_follows_the_stored_offset_may_come_again() {
        let all = [
            theirs(1, 10, 0),
            theirs(2, 30, 1),
            theirs(2, 40, 2),
            ours(2, 40, 2, 50),
            ours(3, 60, 3, 70),
        ];
        let within = |lsn| Place::Offset {
            commit: 20,
            within: Some((2, lsn)),
        };
        assert_eq!(judged(&all, &within(30)), Some(1));
        assert_eq!(judged(&all, &within(40)), None);
        let at_rest = |commit| Place::Offset { commit, within: None };
        assert_eq!(judged(&all, &at_rest(20)), Some(1));
        assert_eq!(judged(&all, &at_rest(50)), None);
    }

    #[test]
    fn records_that_share_the_offsets_lsn_may_come_again() {
        let all = [
            theirs(2, 30, 1),
            theirs(2, 30, 2),
            ours(2, 30, 1, 50),
            ours(2, 30, 2, 50),
        ];
        let place = Place::Offset {
            commit: 20,
            within: Some((2, 30)),
        };
        assert_eq!(judged(&all, &place), Some(2));
    }

    #[test]
    fn what_comes_again_is_all_that_was_there_from_that_point_on() {
        let all = [
            theirs(2, 30, 1),
            theirs(2, 40, 2),
            ours(2, 30, 1, 50),
            ours(3, 60, 3, 70),
        ];
        assert_eq!(
            judged(
                &all,
                &Place::Offset {
                    commit: 20,
                    within: None
                }
            ),
            None
        );
    }

    #[test]
    fn after_ours_only_a_transaction_that_was_cut_comes_again() {
        let all = [
            ours(1, 10, 0, 20),
            ours(2, 30, 1, 50),
            theirs(2, 30, 1),
            theirs(2, 40, 2),
        ];
        let place = |commit, killed| Place::Exported { commit, killed };
        assert_eq!(judged(&all, &place(20, true)), Some(1));
        assert_eq!(judged(&all, &place(20, false)), None);
        assert_eq!(judged(&all, &place(50, true)), None);
        let all = [
            ours(1, 10, 0, 20),
            ours(2, 30, 1, 50),
            theirs(1, 10, 0),
            theirs(2, 30, 1),
        ];
        assert_eq!(judged(&all, &place(16, true)), None);
    }
}
