//! A source that a guard has paused, and a person who lets it go on: the records on `<pipeline>.pauses`.
//!
//! A pause names the first record that was not mapped. Who lets the source go on says up to where he has looked: the ends
//! that its topics had. A pause holds until somebody has let pass the record that it names, so whether a source is paused is
//! a function of the set of these records; in which order they are read does not matter.
//!
//! That a source's log was replaced each partition of each of its tables finds out for itself, a quiet one long after the
//! others. So who lets a source go on that was paused for that lets pass the log, and not only what was in Kafka by then.

use std::collections::BTreeMap;

use crate::position::Position;

/// A record on `<pipeline>.pauses`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PauseRecord {
    /// A guard has paused a source.
    Paused(Paused),
    /// A person lets it go on.
    Resumed(Resumed),
}

/// A guard has paused a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paused {
    /// Name of the system.
    pub source: String,
    /// Which guard, as in the file.
    pub guard: String,
    /// `schema.table` of the table that it looked at.
    pub table: String,
    /// That table's topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The first record that is not mapped.
    pub offset: i64,
    /// Where that stands in the source's log.
    pub position: Position,
    /// When that was committed, microseconds since 1970.
    pub commit_us: i64,
    /// How many rows of the partition count; 0 where the log itself was replaced.
    pub changed: i64,
    /// Of how many.
    pub rows: i64,
    /// What is suspicious, in words.
    pub why: String,
}

/// A person lets a source go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resumed {
    /// Name of the system.
    pub source: String,
    /// The ends that its topics had: what stands before passes.
    pub up_to: Vec<End>,
    /// Who.
    pub by: String,
    /// Why.
    pub why: String,
    /// When, microseconds since 1970.
    pub at_us: i64,
}

/// The end of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset behind the last record.
    pub offset: i64,
}

impl PauseRecord {
    /// Name of the system, which is the key of the record.
    pub fn source(&self) -> &str {
        match self {
            PauseRecord::Paused(paused) => &paused.source,
            PauseRecord::Resumed(resumed) => &resumed.source,
        }
    }
}

impl Paused {
    /// Whether it is the log itself that was replaced.
    pub fn is_of_log(&self) -> bool {
        self.changed == 0
    }
}

/// All pauses, and what was let pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pauses {
    paused: Vec<Paused>,
    /// By topic and partition.
    passing: BTreeMap<(String, i32), i64>,
    /// By source and table, the epoch of the last log that a person has let pass.
    logs: BTreeMap<(String, String), u64>,
}

impl Pauses {
    /// Takes in a record; twice is once.
    pub fn take(&mut self, record: PauseRecord) {
        match record {
            PauseRecord::Paused(paused) => {
                if !self.paused.contains(&paused) {
                    self.paused.push(paused);
                }
            }
            PauseRecord::Resumed(resumed) => {
                for end in resumed.up_to {
                    let passing = self.passing.entry((end.topic, end.partition)).or_default();
                    *passing = end.offset.max(*passing);
                }
            }
        }
        self.forget_ended();
    }

    fn forget_ended(&mut self) {
        let Self { paused, passing, logs } = self;
        let is_passed = |paused: &Paused| {
            let place = (paused.topic.clone(), paused.partition);
            passing.get(&place).is_some_and(|offset| *offset > paused.offset)
        };
        let table = |paused: &Paused| (paused.source.clone(), paused.table.clone());
        for passed in paused.iter().filter(|paused| paused.is_of_log() && is_passed(paused)) {
            let epoch = logs.entry(table(passed)).or_default();
            *epoch = passed.position.epoch.max(*epoch);
        }
        let is_of_passed_log = |paused: &Paused| {
            let epoch = logs.get(&table(paused)).copied().unwrap_or_default();
            paused.is_of_log() && paused.position.epoch <= epoch
        };
        paused.retain(|paused| !is_passed(paused) && !is_of_passed_log(paused));
    }

    /// The epoch of the last log that a person has let pass of those tables of a source that come through one slot; 0 if nobody
    /// has. Slots count their epochs apart.
    pub fn passed_log(&self, source: &str, comes_through: impl Fn(&str) -> bool) -> u64 {
        let of_slot = |(place, _): &(&(String, String), &u64)| place.0 == source && comes_through(&place.1);
        let epochs = self.logs.iter().filter(of_slot).map(|(_, epoch)| *epoch);
        epochs.max().unwrap_or_default()
    }

    /// The offset before which everything of a partition passes.
    pub fn passes(&self, topic: &str, partition: i32) -> i64 {
        self.passing
            .get(&(topic.to_owned(), partition))
            .copied()
            .unwrap_or_default()
    }

    /// The pauses that nobody has ended, as they were read.
    pub fn holding(&self) -> &[Paused] {
        &self.paused
    }

    /// Why a source is paused, if it is.
    pub fn of<'p>(&'p self, source: &'p str) -> impl Iterator<Item = &'p Paused> + 'p {
        self.paused.iter().filter(move |paused| paused.source == source)
    }

    /// Whether a source is paused.
    pub fn is_paused(&self, source: &str) -> bool {
        self.of(source).next().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Lsn;

    fn paused(partition: i32, offset: i64) -> PauseRecord {
        PauseRecord::Paused(Paused {
            source: "shop".to_owned(),
            guard: "mass_change".to_owned(),
            table: "public.t".to_owned(),
            topic: "shop.public.t".to_owned(),
            partition,
            offset,
            position: Position::default(),
            commit_us: 0,
            changed: 1,
            rows: 1,
            why: String::new(),
        })
    }

    fn resumed(ends: &[(i32, i64)]) -> PauseRecord {
        let end = |(partition, offset): &(i32, i64)| End {
            topic: "shop.public.t".to_owned(),
            partition: *partition,
            offset: *offset,
        };
        PauseRecord::Resumed(Resumed {
            source: "shop".to_owned(),
            up_to: ends.iter().map(end).collect(),
            by: "ada".to_owned(),
            why: "it is right".to_owned(),
            at_us: 0,
        })
    }

    fn holding(records: &[PauseRecord]) -> Vec<(i32, i64)> {
        let mut pauses = Pauses::default();
        records.iter().cloned().for_each(|record| pauses.take(record));
        let holding = |pauses: &Pauses| {
            let mut holding: Vec<(i32, i64)> = pauses
                .holding()
                .iter()
                .map(|paused| (paused.partition, paused.offset))
                .collect();
            holding.sort_unstable();
            holding
        };
        let mut backwards = Pauses::default();
        for record in records.iter().rev().chain(records) {
            backwards.take(record.clone());
        }
        assert_eq!(
            holding(&pauses),
            holding(&backwards),
            "the order in which they are read"
        );
        assert_eq!(pauses.is_paused("shop"), !holding(&pauses).is_empty());
        assert!(!pauses.is_paused("crm"));
        holding(&pauses)
    }

    fn of_log(partition: i32, offset: i64, epoch: u64) -> PauseRecord {
        let PauseRecord::Paused(paused) = paused(partition, offset) else {
            unreachable!()
        };
        PauseRecord::Paused(Paused {
            guard: "stale_restore".to_owned(),
            position: Position::new(epoch, Lsn(1), 0),
            changed: 0,
            ..paused
        })
    }

    #[test]
    fn a_log_that_was_let_pass_passes_in_every_partition_of_its_tables() {
        let first = [of_log(0, 7, 2), resumed(&[(0, 8), (1, 3)])];
        let with = |later: PauseRecord| [&first[..], &[later]].concat();
        assert!(holding(&first).is_empty());
        assert!(
            holding(&with(of_log(1, 5, 2))).is_empty(),
            "a partition that heard of it later"
        );
        assert_eq!(holding(&with(of_log(1, 5, 3))), [(1, 5)], "another log");
        assert_eq!(holding(&with(paused(1, 5))), [(1, 5)], "another guard");
        let mut pauses = Pauses::default();
        first.into_iter().for_each(|record| pauses.take(record));
        assert_eq!(pauses.passed_log("shop", |table| table == "public.t"), 2);
        assert_eq!(
            pauses.passed_log("shop", |table| table != "public.t"),
            0,
            "of another slot"
        );
        assert_eq!(pauses.passed_log("crm", |_| true), 0);
    }

    #[test]
    fn a_pause_holds_until_its_record_is_let_pass() {
        assert_eq!(holding(&[paused(0, 7)]), [(0, 7)]);
        assert_eq!(
            holding(&[paused(0, 7), paused(1, 3), resumed(&[(0, 8), (1, 3)])]),
            [(1, 3)]
        );
        assert!(holding(&[resumed(&[(0, 9)]), paused(0, 7)]).is_empty());
        assert_eq!(holding(&[paused(0, 7), resumed(&[(0, 9)]), paused(0, 9)]), [(0, 9)]);
    }
}
