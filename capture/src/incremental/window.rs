//! Pure: the rows of one chunk while the log catches up with the moment at which they were read.
//!
//! **The law.** Let `low` be a place in the log before the chunk's snapshot was taken, such that all that committed up to
//! there is in the snapshot; let `high` be a place after it, such that all that is in the snapshot committed up to there.
//! A row that no change between the two names stood at `high` as it was read. So: from the moment that `low` is asked for,
//! the key of each change beyond `low` is remembered; a row read under such a key is dropped; what is left when the log
//! has come to `high` is written, with a position at `high`: newer than every change up to there, older than every later one.
//!
//! Changes up to `low` drop nothing. They may be rows of long ago, for the log may be far behind, and the chunk knows better.
//! Changes beyond `high` that come before the rows are written drop theirs too: whoever reads without positions must not
//! get the older row last.
//!
//! What is remembered has a bound. Beyond it the window is spoiled, and the chunk is read again.

use std::collections::HashMap;
use std::hash::Hash;

use syncline_schemas::position::Lsn;

/// Changes remembered while a chunk is being read.
pub const CHANGES_MAX: usize = 100_000;

/// A chunk between the asking and the writing.
#[derive(Debug)]
pub struct Window<K, R> {
    /// The latest change of each key, until it is known where `low` is.
    changes: HashMap<K, Lsn>,
    /// The latest change that emptied the table.
    emptied: Option<Lsn>,
    spoiled: Option<Lsn>,
    read: Option<Read<K, R>>,
}

#[derive(Debug)]
struct Read<K, R> {
    low: Lsn,
    high: Lsn,
    rows: Vec<Option<R>>,
    places: HashMap<K, usize>,
}

/// How a window stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The chunk is being read.
    Open,
    /// It is read; the log has not come to its end.
    Waiting,
    /// Its rows may be written.
    Closed,
    /// It must be read again.
    Spoiled,
}

impl<K: Eq + Hash, R> Window<K, R> {
    /// A chunk is about to be asked for: from here on each change must be told.
    pub fn open() -> Self {
        Self {
            changes: HashMap::new(),
            emptied: None,
            spoiled: None,
            read: None,
        }
    }

    /// A transaction that commits at `at` changed the row under `key`.
    pub fn changed(&mut self, at: Lsn, key: K) {
        match &mut self.read {
            Some(read) if at > read.low => read.drop_row(&key),
            Some(_) => {}
            None if self.changes.len() >= CHANGES_MAX && !self.changes.contains_key(&key) => self.spoil(at),
            None => {
                let last = self.changes.entry(key).or_insert(at);
                *last = at.max(*last);
            }
        }
    }

    /// A transaction that commits at `at` emptied the table.
    pub fn emptied(&mut self, at: Lsn) {
        match &mut self.read {
            Some(read) if at > read.low => read.drop_all(),
            Some(_) => {}
            None => self.emptied = self.emptied.max(Some(at)),
        }
    }

    /// A transaction that commits at `at` changed something that cannot be told by keys.
    pub fn spoil(&mut self, at: Lsn) {
        self.spoiled = self.spoiled.max(Some(at));
    }

    /// The chunk is read.
    pub fn read(&mut self, low: Lsn, high: Lsn, rows: impl IntoIterator<Item = (K, R)>) {
        let (mut kept, mut places) = (Vec::new(), HashMap::new());
        for (key, row) in rows {
            places.insert(key, kept.len());
            kept.push(Some(row));
        }
        let mut read = Read {
            low,
            high,
            rows: kept,
            places,
        };
        if self.emptied.is_some_and(|at| at > low) {
            read.drop_all();
        }
        for (key, at) in std::mem::take(&mut self.changes) {
            if at > low {
                read.drop_row(&key);
            }
        }
        self.read = Some(read);
    }

    /// How it stands when the log has been read up to `rest`, between two transactions.
    pub fn state(&self, rest: Lsn) -> State {
        match (&self.read, self.spoiled) {
            (None, _) => State::Open,
            (Some(read), Some(at)) if at > read.low => State::Spoiled,
            (Some(read), _) if rest >= read.high => State::Closed,
            (Some(_), _) => State::Waiting,
        }
    }

    /// The end of the log when the chunk had been read; the place of its rows.
    pub fn high(&self) -> Option<Lsn> {
        self.read.as_ref().map(|read| read.high)
    }

    /// What is left, in the order of the key.
    pub fn rows(self) -> impl Iterator<Item = R> {
        self.read.into_iter().flat_map(|read| read.rows).flatten()
    }
}

impl<K: Eq + Hash, R> Read<K, R> {
    fn drop_row(&mut self, key: &K) {
        if let Some(place) = self.places.remove(key) {
            self.rows[place] = None;
        }
    }

    fn drop_all(&mut self) {
        self.rows.clear();
        self.places.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_change_within_the_window_drops_the_row_and_one_before_it_does_not() {
        let mut window = Window::open();
        window.changed(Lsn(9), "old");
        window.changed(Lsn(11), "early");
        assert_eq!(window.state(Lsn(11)), State::Open);
        window.read(Lsn(10), Lsn(20), [("old", 1), ("early", 2), ("late", 3), ("kept", 4)]);
        assert_eq!(window.state(Lsn(19)), State::Waiting);
        window.changed(Lsn(15), "late");
        window.changed(Lsn(10), "kept");
        assert_eq!(window.state(Lsn(20)), State::Closed);
        assert_eq!(window.rows().collect::<Vec<_>>(), [1, 4]);
    }

    #[test]
    fn a_table_that_is_emptied_leaves_nothing() {
        for before in [true, false] {
            let mut window = Window::open();
            if before {
                window.emptied(Lsn(11));
            }
            window.read(Lsn(10), Lsn(20), [("a", 1)]);
            window.emptied(Lsn(if before { 9 } else { 12 }));
            assert_eq!(window.rows().count(), 0);
        }
    }

    #[test]
    fn what_cannot_be_told_by_keys_spoils_it_unless_it_was_before() {
        let mut window = Window::open();
        window.spoil(Lsn(9));
        window.read(Lsn(10), Lsn(20), [("a", 1)]);
        assert_eq!(window.state(Lsn(20)), State::Closed);
        window.spoil(Lsn(11));
        assert_eq!(window.state(Lsn(20)), State::Spoiled);
    }

    #[test]
    fn too_many_changes_spoil_it() {
        let mut window = Window::<usize, ()>::open();
        (0..=CHANGES_MAX).for_each(|key| window.changed(Lsn(11), key));
        window.read(Lsn(10), Lsn(20), []);
        assert_eq!(window.state(Lsn(20)), State::Spoiled);
    }

    /// What commits at a place in the log.
    #[derive(Clone, Debug)]
    enum Change {
        Put(u8, u16),
        Delete(u8),
        Empty,
    }

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            8 => (0_u8..6, any::<u16>()).prop_map(|(key, value)| Change::Put(key, value)),
            3 => (0_u8..6).prop_map(Change::Delete),
            1 => Just(Change::Empty),
        ]
    }

    fn apply(table: &mut BTreeMap<u8, u16>, change: &Change) {
        match change {
            Change::Put(key, value) => _ = table.insert(*key, *value),
            Change::Delete(key) => _ = table.remove(key),
            Change::Empty => table.clear(),
        }
    }

    fn tell(window: &mut Window<u8, (u8, u16)>, at: Lsn, change: &Change) {
        match change {
            Change::Put(key, _) | Change::Delete(key) => window.changed(at, *key),
            Change::Empty => window.emptied(at),
        }
    }

    /// Where in the history each thing happens: `low`, the snapshot, `high`; the log as far as it is read when the chunk
    /// is asked for, when its rows are there, and when they are written. In commits; the n-th commit ends at LSN n.
    #[derive(Clone, Debug)]
    struct Course {
        history: Vec<Change>,
        low: usize,
        taken: usize,
        high: usize,
        asked: usize,
        answered: usize,
        written: usize,
    }

    fn course() -> impl Strategy<Value = Course> {
        (
            prop::collection::vec(change(), 1..40),
            prop::array::uniform6(0_usize..=1_000),
        )
            .prop_map(|(history, at)| {
                let end = history.len();
                let between = |share: usize, from: usize, to: usize| from + share * (to - from) / 1_000;
                let low = between(at[0], 0, end);
                let taken = between(at[1], low, end);
                let high = between(at[2], taken, end);
                // The log is never read beyond what is written: when the chunk is asked for `low` is not yet.
                let asked = between(at[3], 0, low);
                let answered = between(at[4], asked, end);
                let written = between(at[5], answered.max(high), end);
                Course {
                    history,
                    low,
                    taken,
                    high,
                    asked,
                    answered,
                    written,
                }
            })
    }

    proptest! {
        /// Whatever the interleaving: a reader that takes each record as it comes has the table in the end, and one that
        /// orders them by position has it too. To begin with both have what a stream without these rows had given them,
        /// spoiled in any way: the chunk must repair it.
        #[test]
        fn the_rows_that_are_left_repair_the_copy_and_never_overwrite_a_later_change(
            course in course(),
            spoiled in prop::collection::btree_map(0_u8..6, any::<u16>(), 0..6),
        ) {
            let lsn = |commits: usize| Lsn(commits as u64);
            let mut table = BTreeMap::new();
            let mut snapshot = BTreeMap::new();
            for (index, change) in course.history.iter().enumerate() {
                if index == course.taken { snapshot.clone_from(&table); }
                apply(&mut table, change);
            }
            if course.taken == course.history.len() { snapshot.clone_from(&table); }

            let mut window = Window::open();
            // Key -> value (none: deleted) in order of arrival, and the same by position.
            let mut arrived: BTreeMap<u8, Option<u16>> = BTreeMap::new();
            let mut ordered: BTreeMap<u8, ((Lsn, bool), Option<u16>)> = BTreeMap::new();
            for (key, value) in spoiled {
                arrived.insert(key, Some(value));
                ordered.insert(key, ((Lsn(0), false), Some(value)));
            }
            let put = |arrived: &mut BTreeMap<_, _>, ordered: &mut BTreeMap<u8, ((Lsn, bool), Option<u16>)>, key: u8, at, value| {
                arrived.insert(key, value);
                if ordered.get(&key).is_none_or(|(last, _)| *last <= at) { ordered.insert(key, (at, value)); }
            };
            let mut window_rows = None;
            for index in course.asked..=course.history.len() {
                if index == course.answered {
                    window.read(lsn(course.low), lsn(course.high), snapshot.iter().map(|(key, value)| (*key, (*key, *value))));
                }
                if index == course.written {
                    prop_assert_eq!(window.state(lsn(index)), State::Closed);
                    let rows: Vec<_> = std::mem::replace(&mut window, Window::open()).rows().collect();
                    for (key, value) in &rows { put(&mut arrived, &mut ordered, *key, (lsn(course.high), true), Some(*value)); }
                    window_rows = Some(rows);
                }
                let Some(change) = course.history.get(index) else { break };
                let at = lsn(index + 1);
                tell(&mut window, at, change);
                match change {
                    Change::Put(key, value) => put(&mut arrived, &mut ordered, *key, (at, false), Some(*value)),
                    Change::Delete(key) => put(&mut arrived, &mut ordered, *key, (at, false), None),
                    Change::Empty => {
                        for key in 0..6 { put(&mut arrived, &mut ordered, key, (at, false), None); }
                    }
                }
            }
            prop_assert!(window_rows.is_some());
            // Every row that is there is right. (Rows that the copy has and the table has not are nobody's to find: a
            // snapshot does not say what is not there.)
            for (key, value) in &table {
                prop_assert_eq!(arrived.get(key), Some(&Some(*value)), "arrived {}", key);
                prop_assert_eq!(ordered.get(key).map(|(_, value)| *value), Some(Some(*value)), "ordered {}", key);
            }
        }
    }
}
