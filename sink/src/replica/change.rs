//! What a batch of changes comes down to for each copied row. Pure.
//!
//! Only the last change of a row counts, by its position in the source's log. But what it leaves out (a large value that the
//! log did not repeat) may have been said by the change before it, and so is taken from there. A truncate and a change of
//! key divide a table's changes: nothing is carried over them.

use std::collections::BTreeMap;
use std::slice;
use std::sync::Arc;

use syncline_schemas::lens::{Cell, Row};
use syncline_schemas::mapped::RowKey;
use syncline_schemas::position::Position;

use super::shape::Shape;

/// One change of a copied table.
#[derive(Clone, Debug)]
pub struct Change {
    /// The source table: schema and name.
    pub table: Arc<(String, String)>,
    /// What the copy needs to have for it.
    pub shape: Arc<Shape>,
    /// The topic: only positions of one topic are compared, one topic having the changes of one table of one log.
    pub topic: Arc<str>,
    /// Where it stands in the source's log.
    pub position: Position,
    /// Whether it can be compared with positions of other rows. (Not if it is an offset, which counts in one partition.)
    pub is_comparable: bool,
    /// What happened.
    pub act: Act,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// The row is there, with these columns. Shared: a batch may have to be written more than once.
    Put(RowKey, Arc<Row>),
    /// It is gone.
    Remove(RowKey),
    /// Its key changed; the row itself comes with the next change, under its new key.
    Move(RowKey, RowKey),
    /// The table was emptied.
    Truncate,
}

/// What is done at once, in order.
#[derive(Clone, Debug)]
pub enum Step {
    /// Rows of one table, the last change of each; there is at least one.
    Rows(Vec<Change>),
    /// A change of key or a truncate.
    Alone(Change),
}

/// The steps for changes in the order of the source's log: a row that moved may have been read under its new key, from
/// another partition, before its old one was left.
pub fn steps(changes: impl Iterator<Item = Change>) -> Vec<Step> {
    let mut changes: Vec<Change> = changes.collect();
    changes.sort_by_key(|change| change.position);
    let mut steps = Vec::new();
    let mut gathered: BTreeMap<Arc<(String, String)>, BTreeMap<RowKey, Change>> = BTreeMap::new();
    for change in changes {
        let row = match &change.act {
            Act::Put(key, _) | Act::Remove(key) => Some(key.clone()),
            Act::Move(..) | Act::Truncate => None,
        };
        if let Some(key) = row {
            let rows = gathered.entry(Arc::clone(&change.table)).or_default();
            let merged = match rows.remove(&key) {
                Some(before) => after(before, change),
                None => change,
            };
            rows.insert(key, merged);
        } else {
            steps.extend(gathered.remove_entry(&change.table).map(rows));
            steps.push(Step::Alone(change));
        }
    }
    steps.extend(gathered.into_iter().map(rows));
    steps
}

fn rows((_, rows): (Arc<(String, String)>, BTreeMap<RowKey, Change>)) -> Step {
    Step::Rows(rows.into_values().collect())
}

impl Step {
    /// What is done; all of it to one table.
    pub fn changes(&self) -> &[Change] {
        match self {
            Step::Rows(changes) => changes,
            Step::Alone(change) => slice::from_ref(change),
        }
    }
}

/// Which of two changes of one row holds, and with what.
fn after(before: Change, mut change: Change) -> Change {
    if change.position < before.position {
        return before;
    }
    if let (Act::Put(_, old), Act::Put(_, new)) = (before.act, &mut change.act)
        && new.values().any(|cell| *cell == Cell::Unchanged)
    {
        let unsaid = Arc::make_mut(new).iter_mut();
        for (column, cell) in unsaid.filter(|(_, cell)| **cell == Cell::Unchanged) {
            if let Some(known) = old.get(column) {
                *cell = known.clone();
            }
        }
    }
    change
}

#[cfg(test)]
mod tests {
    use syncline_schemas::position::Lsn;

    use super::*;

    fn change(lsn: u64, act: Act) -> Change {
        Change {
            table: Arc::new(("public".to_owned(), "t".to_owned())),
            shape: Arc::new(Shape {
                columns: Vec::new(),
                key: Vec::new(),
            }),
            topic: "topic".into(),
            position: Position::new(1, Lsn(lsn), 0),
            is_comparable: true,
            act,
        }
    }

    fn key(id: i64) -> RowKey {
        RowKey(format!("{{\"id\":{id}}}"))
    }

    fn put(id: i64, a: &str, big: Option<&str>) -> Act {
        let big = big.map_or(Cell::Unchanged, |text| Cell::Set(text.into()));
        Act::Put(
            key(id),
            Arc::new(Row::from([
                ("a".to_owned(), Cell::Set(a.into())),
                ("big".to_owned(), big),
            ])),
        )
    }

    fn acts(changes: Vec<Change>) -> Vec<Vec<Act>> {
        let acts = |step: Step| match step {
            Step::Rows(rows) => rows.into_iter().map(|change| change.act).collect(),
            Step::Alone(change) => vec![change.act],
        };
        steps(changes.into_iter()).into_iter().map(acts).collect()
    }

    #[test]
    fn the_last_change_by_position_counts() {
        let changes = vec![
            change(1, put(7, "x", Some("b"))),
            change(3, Act::Remove(key(7))),
            change(2, put(7, "y", Some("b"))),
        ];
        assert_eq!(acts(changes), [[Act::Remove(key(7))]]);
    }

    #[test]
    fn what_the_log_did_not_repeat_is_taken_from_before() {
        let changes = vec![change(1, put(7, "x", Some("big"))), change(2, put(7, "y", None))];
        assert_eq!(acts(changes), [[put(7, "y", Some("big"))]]);
        let changes = vec![change(1, Act::Remove(key(7))), change(2, put(7, "y", None))];
        assert_eq!(acts(changes), [[put(7, "y", None)]]);
    }

    #[test]
    fn a_row_moves_before_it_is_changed_under_its_new_key() {
        let moved = Act::Move(key(1), key(7));
        let changes = vec![change(3, put(7, "x", None)), change(2, moved.clone())];
        assert_eq!(acts(changes), [[moved], [put(7, "x", None)]]);
    }

    #[test]
    fn a_truncate_divides() {
        let changes = vec![
            change(1, put(7, "x", Some("b"))),
            change(2, Act::Truncate),
            change(3, put(7, "y", Some("b"))),
            change(4, put(8, "z", Some("b"))),
        ];
        let expected = [
            vec![put(7, "x", Some("b"))],
            vec![Act::Truncate],
            vec![put(7, "y", Some("b")), put(8, "z", Some("b"))],
        ];
        assert_eq!(acts(changes), expected);
    }
}
