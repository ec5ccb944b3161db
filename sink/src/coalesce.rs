//! Records of one topic that are gathered for a run, of each key only the last: the agreed record is a state, not a step.
//! Pure.
//!
//! What is taken out comes in the order of offsets, and a record that a later one replaced is not missed: whoever begins again
//! behind what was taken reads the later one again. Beyond [`COALESCED_BYTES_MAX`] some have to be taken out before the end is
//! there; then a key may come once more.

use std::collections::{BTreeMap, HashMap};

use syncline_bus::InRecord;

/// What is gathered at most.
const COALESCED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a record takes in memory beside its key and its value.
const OVERHEAD_BYTES: usize = 256;

/// Partition and offset.
type Place = (i32, i64);

/// Records of one topic, of each key the last.
#[derive(Default)]
pub struct Coalesced {
    kept: BTreeMap<Place, InRecord>,
    last: HashMap<Vec<u8>, Place>,
    bytes: usize,
}

impl Coalesced {
    /// Adds a record, which replaces what is there of its key.
    pub fn push(&mut self, record: InRecord) {
        let place = (record.partition, record.offset);
        let key = record.key.clone().unwrap_or_default();
        self.bytes += bytes(&record);
        self.kept.insert(place, record);
        if let Some(before) = self.last.insert(key, place).filter(|before| *before != place)
            && let Some(replaced) = self.kept.remove(&before)
        {
            self.bytes -= bytes(&replaced);
        }
    }

    /// Takes so many out: the first of them.
    pub fn take(&mut self, records_max: usize) -> Vec<InRecord> {
        let mut taken = Vec::new();
        while taken.len() < records_max
            && let Some((_, record)) = self.kept.pop_first()
        {
            self.bytes -= bytes(&record);
            self.last.remove(record.key.as_deref().unwrap_or_default());
            taken.push(record);
        }
        taken
    }

    /// Whether some have to be taken out before more is added.
    pub fn is_full(&self) -> bool {
        self.bytes >= COALESCED_BYTES_MAX
    }

    /// Whether nothing is there.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }
}

fn bytes(record: &InRecord) -> usize {
    let length = |part: &Option<Vec<u8>>| part.as_ref().map_or(0, Vec::len);
    // The key is there twice.
    2 * length(&record.key) + length(&record.value) + OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(partition: i32, offset: i64, key: u8) -> InRecord {
        InRecord {
            topic: "t".to_owned(),
            partition,
            offset,
            timestamp_ms: 0,
            key: Some(vec![key]),
            value: Some(format!("{partition}/{offset}").into_bytes()),
            headers: Vec::new(),
        }
    }

    /// What an app holds that applied these records: of each key the last.
    fn applied(records: &[InRecord]) -> BTreeMap<Option<Vec<u8>>, Option<Vec<u8>>> {
        let one = |record: &InRecord| (record.key.clone(), record.value.clone());
        records.iter().map(one).collect()
    }

    /// Keys of one partition are in no other; each record is added, and before it some are taken out, or none.
    fn history() -> impl Strategy<Value = Vec<(u8, usize)>> {
        prop::collection::vec((0..12_u8, prop_oneof![4 => Just(0_usize), 1 => 1..4_usize]), 0..60)
    }

    proptest! {
        #[test]
        fn applying_what_was_coalesced_is_applying_all(history in history()) {
            let (mut coalesced, mut all, mut taken) = (Coalesced::default(), Vec::new(), Vec::new());
            for (offset, (key, records)) in (0..).zip(history) {
                taken.extend(coalesced.take(records));
                let record = record(i32::from(key % 3), offset, key);
                all.push(record.clone());
                coalesced.push(record);
            }
            let rest = coalesced.take(usize::MAX);
            prop_assert_eq!(applied(&rest).len(), rest.len(), "of each key one");
            taken.extend(rest);
            prop_assert_eq!(applied(&taken), applied(&all));
            prop_assert!(coalesced.is_empty());
            prop_assert_eq!((coalesced.bytes, coalesced.last.len()), (0, 0));
            for partition in 0..3 {
                let offsets: Vec<i64> = taken.iter().filter(|one| one.partition == partition).map(|one| one.offset).collect();
                prop_assert!(offsets.is_sorted(), "{offsets:?}");
            }
        }

        /// Killed after any of the records taken out: whoever begins behind them has all that is missing before him.
        #[test]
        fn whoever_begins_behind_what_was_taken_misses_nothing(history in history(), records in 0..30_usize) {
            let (mut coalesced, mut all) = (Coalesced::default(), Vec::new());
            for (offset, (key, _)) in (0..).zip(history) {
                let record = record(i32::from(key % 3), offset, key);
                all.push(record.clone());
                coalesced.push(record);
            }
            let mut done = coalesced.take(records);
            let mut next = [0_i64; 3];
            for one in &done {
                next[usize::try_from(one.partition).unwrap()] = one.offset + 1;
            }
            let again = all.iter().filter(|one| one.offset >= next[usize::try_from(one.partition).unwrap()]);
            done.extend(again.cloned());
            prop_assert_eq!(applied(&done), applied(&all));
        }
    }

    #[test]
    fn it_is_full_before_memory_is() {
        let mut coalesced = Coalesced::default();
        let large = |offset, key| InRecord {
            value: Some(vec![0; COALESCED_BYTES_MAX / 2]),
            ..record(0, offset, key)
        };
        coalesced.push(large(0, 1));
        coalesced.push(large(1, 1));
        assert!(!coalesced.is_full(), "one of them was replaced");
        coalesced.push(large(2, 2));
        assert!(coalesced.is_full());
        coalesced.take(1);
        assert!(!coalesced.is_full());
    }
}
