//! How many rows of one partition of a table have changed of late. Pure, and a function of that partition's log alone: time
//! is the commit time of the source, so a replay comes to the same.
//!
//! Rows are counted, not changes: a row that changes a thousand times is one row. Of large tables a sample is kept, chosen
//! by a hash of the row's key, so that what is remembered has a bound; up to [`SAMPLE_MAX`] rows are counted exactly.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use syncline_schemas::pipeline::guards::Burst;
use syncline_schemas::position::Position;

/// Rows of a sample when it is full: the count is then right within some five in a hundred.
const SAMPLE_MAX: u64 = 512;

/// What the guards know of one partition of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Rows that the partition has.
    pub rows: u64,
    /// Up to where its log has been taken in.
    pub at: Position,
    /// The greatest commit time so far, in microseconds since 1970.
    pub now_us: i64,
    /// Records before this offset were let pass by a person.
    #[serde(default)]
    pub passed: i64,
    /// Rows that changed.
    #[serde(default)]
    pub changed: Sample,
    /// Rows that went back to what they had left.
    #[serde(default)]
    pub went_back: Sample,
}

impl Window {
    /// Whether this was taken in before.
    pub fn has_seen(&self, position: Position) -> bool {
        self.at != Position::default() && position <= self.at
    }

    /// Whether the log that this stands in is another than that of all before. Debezium's positions have no epoch; where
    /// Syncline goes on in its place that is the same log.
    pub fn is_another_log(&self, position: Position) -> bool {
        self.at.epoch > 0 && position.epoch > self.at.epoch
    }

    /// Takes a change in.
    pub fn take(&mut self, position: Position, commit_us: i64, rows: i64) {
        self.at = self.at.max(position);
        self.now_us = self.now_us.max(commit_us);
        self.rows = self.rows.saturating_add_signed(rows);
    }

    /// A person has let pass all before this offset: what was counted counts no more.
    pub fn pass(&mut self, offset: i64) {
        if offset > self.passed {
            self.passed = offset;
            self.changed = Sample::default();
            self.went_back = Sample::default();
        }
    }
}

/// Rows, and when each was last noted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Only rows whose hash ends in so many zero bits are kept, each for all that it stands for.
    level: u32,
    /// By the hash of the key: the greatest commit time then.
    rows: BTreeMap<u64, i64>,
}

impl Sample {
    /// Notes a row, unless it is one too many: then how many that are. `rows_max` are not.
    pub fn note(&mut self, row: u64, now_us: i64, burst: &Burst, rows_max: u64) -> Result<(), u64> {
        self.fit(rows_max);
        if row.trailing_zeros() < self.level {
            return Ok(());
        }
        if self.with_one_more() > rows_max && !self.rows.contains_key(&row) {
            let since_us = now_us.saturating_sub(burst.within_us);
            self.rows.retain(|_, noted_us| *noted_us > since_us);
            // Of a table that was larger, or might change more, one row still stood for many.
            self.fit(rows_max);
            let count = self.with_one_more();
            if count > rows_max {
                return Err(count);
            }
        }
        self.rows.insert(row, now_us);
        Ok(())
    }

    /// Takes a smaller share of the rows where so many are not too many yet. A greater one only when nothing is forgotten by
    /// it.
    fn fit(&mut self, rows_max: u64) {
        let wanted = (0..u64::BITS)
            .find(|level| rows_max >> level <= SAMPLE_MAX)
            .unwrap_or(0);
        if wanted > self.level {
            self.rows.retain(|row, _| row.trailing_zeros() >= wanted);
            self.level = wanted;
        } else if self.rows.is_empty() {
            self.level = wanted;
        }
    }

    fn with_one_more(&self) -> u64 {
        let kept = u64::try_from(self.rows.len()).unwrap_or(u64::MAX).saturating_add(1);
        kept.saturating_mul(1 << self.level.min(u64::BITS - 1))
    }
}

/// The hash by which a row is remembered (FNV-1a, its bits mixed): independent of the one that chose its partition.
pub fn hash(text: &str) -> u64 {
    let fnv = text.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    });
    let mixed = (fnv ^ (fnv >> 33)).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
    mixed ^ (mixed >> 33)
}

#[cfg(test)]
mod tests {
    use syncline_schemas::pipeline::guards::Over;

    use super::*;

    const MINUTE_US: i64 = 60_000_000;

    fn burst() -> Burst {
        Burst {
            over: Over::Share(50_000),
            at_least: 1,
            within_us: 10 * MINUTE_US,
        }
    }

    /// How many different rows pass, one every `every_us`, where `rows_max` are not too many.
    fn passing(rows: usize, rows_max: u64, every_us: i64) -> usize {
        let mut sample = Sample::default();
        let mut now_us = 0;
        for number in 0..rows {
            now_us += every_us;
            if sample
                .note(hash(&format!("row {number}")), now_us, &burst(), rows_max)
                .is_err()
            {
                return number;
            }
            assert!(sample.rows.len() <= usize::try_from(SAMPLE_MAX).unwrap() + 1);
        }
        rows
    }

    #[test]
    fn the_row_after_those_allowed_is_too_many() {
        assert_eq!(passing(100, 50, 1), 50);
        assert_eq!(passing(1_000, 512, 1), 512);
        assert_eq!(passing(50, 50, 1), 50);
        assert_eq!(passing(1, 0, 1), 0);
    }

    #[test]
    fn of_many_rows_a_sample_tells() {
        let passed = passing(100_000, 50_000, 1);
        assert!((42_000..58_000).contains(&passed), "{passed}");
    }

    #[test]
    fn what_is_older_than_the_window_does_not_count() {
        assert_eq!(passing(10_000, 50, MINUTE_US), 10_000, "10 rows in 10 minutes");
        assert_eq!(passing(10_000, 50, MINUTE_US / 6), 50, "60 rows in 10 minutes");
    }

    #[test]
    fn what_is_left_of_a_large_table_does_not_count_for_many() {
        let mut sample = Sample::default();
        let row = 1 << 40;
        assert_eq!(sample.note(row, 0, &burst(), 50_000), Ok(()));
        let later_us = 60 * MINUTE_US;
        assert_eq!(sample.note(row + (1 << 41), later_us, &burst(), 10), Ok(()), "one row");
        assert_eq!(sample.level, 0);
    }

    #[test]
    fn a_row_that_changes_again_is_the_same_row() {
        let mut sample = Sample::default();
        for now_us in 0..1_000 {
            assert_eq!(sample.note(hash("one"), now_us, &burst(), 1), Ok(()));
        }
        assert_eq!(sample.note(hash("two"), 1_000, &burst(), 1), Err(2));
        assert_eq!(sample.note(hash("one"), 1_000, &burst(), 1), Ok(()));
    }

    #[test]
    fn what_a_person_let_pass_is_forgotten_once() {
        let mut window = Window::default();
        for _ in 0..2 {
            window.pass(7);
            window.changed.note(hash("a"), 0, &burst(), 1).unwrap();
        }
        assert_eq!(window.changed.note(hash("b"), 0, &burst(), 1), Err(2));
        window.pass(9);
        assert_eq!(window.changed.note(hash("b"), 0, &burst(), 1), Ok(()));
    }

    #[test]
    fn a_window_is_read_as_it_was_written() {
        let mut window = Window::default();
        window.take(Position::new(2, syncline_schemas::position::Lsn(9), 1), 5, 3);
        window.changed.note(u64::MAX, 5, &burst(), 3).unwrap();
        let text = serde_json::to_string(&window).unwrap();
        assert_eq!(serde_json::from_str::<Window>(&text).unwrap(), window);
        assert!(window.has_seen(window.at) && !Window::default().has_seen(window.at));
        assert!(!window.is_another_log(window.at) && !Window::default().is_another_log(window.at));
        assert!(window.is_another_log(Position::new(3, syncline_schemas::position::Lsn(1), 0)));
    }
}
