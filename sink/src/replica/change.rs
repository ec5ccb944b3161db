//! What a batch of changes comes down to for each copied row. Pure.
//!
//! Only the last change of a row counts, by its position in the source's log. But what it leaves out (a large value that the
//! log did not repeat) may have been said by the change before it, and so is taken from there. A truncate and a change of
//! key divide a table's changes: nothing is carried over them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::slice;
use std::sync::Arc;

use syncline_schemas::mapped::RowKey;
use syncline_schemas::position::Position;

use super::image::Image;
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
    /// The row is there, and so.
    Put(RowKey, Image),
    /// It is gone.
    Remove(RowKey),
    /// Its key changed; the row itself comes with the next change, under its new key.
    Move(RowKey, RowKey),
    /// The table was emptied.
    Truncate,
}

/// What is done at once, in order. A batch may have to be written more than once, so its changes are only borrowed.
#[derive(Clone, Debug)]
pub enum Step<'a> {
    /// Rows of one table in the order of their keys, the last change of each; there is at least one.
    Rows(Vec<Cow<'a, Change>>),
    /// A change of key or a truncate.
    Alone(Cow<'a, Change>),
}

/// The steps for changes in the order of the source's log: a row that moved may have been read under its new key, from
/// another partition, before its old one was left.
pub fn steps(mut changes: Vec<&Change>) -> Vec<Step<'_>> {
    changes.sort_by_key(|change| change.position);
    let mut steps = Vec::new();
    let mut gathered: BTreeMap<&(String, String), Vec<&Change>> = BTreeMap::new();
    for change in changes {
        if let Act::Put(..) | Act::Remove(_) = change.act {
            gathered.entry(&change.table).or_default().push(change);
        } else {
            steps.extend(gathered.remove(&*change.table).map(rows));
            steps.push(Step::Alone(Cow::Borrowed(change)));
        }
    }
    steps.extend(gathered.into_values().map(rows));
    steps
}

/// The last of the changes of each row, which are in the order of the log. The order of the keys is that in which rows are
/// locked and the index is filled; sorting tells the changes of one row apart at no further cost.
fn rows(mut changes: Vec<&Change>) -> Step<'_> {
    changes.sort_by(|one, other| one.act.row().cmp(&other.act.row()));
    let mut rows: Vec<Cow<'_, Change>> = Vec::with_capacity(changes.len());
    for change in changes {
        match rows.last_mut() {
            Some(before) if before.act.row() == change.act.row() => *before = after(before, change),
            _ => rows.push(Cow::Borrowed(change)),
        }
    }
    Step::Rows(rows)
}

impl Act {
    /// The row that it is about, by the key under which it was.
    pub fn row(&self) -> Option<&RowKey> {
        match self {
            Act::Put(key, _) | Act::Remove(key) | Act::Move(key, _) => Some(key),
            Act::Truncate => None,
        }
    }
}

impl<'a> Step<'a> {
    /// What is done; all of it to one table.
    pub fn changes(&self) -> &[Cow<'a, Change>] {
        match self {
            Step::Rows(changes) => changes,
            Step::Alone(change) => slice::from_ref(change),
        }
    }
}

/// The later of two changes of one row, with what it does not say and the one before it does.
fn after<'a>(before: &Change, change: &'a Change) -> Cow<'a, Change> {
    if let (Act::Put(_, old), Act::Put(key, new)) = (&before.act, &change.act)
        && !new.unknown().is_empty()
        && let Ok(completed) = new.completed(old)
    {
        return Cow::Owned(Change {
            act: Act::Put(key.clone(), completed),
            ..change.clone()
        });
    }
    Cow::Borrowed(change)
}

#[cfg(test)]
mod tests {
    use syncline_schemas::lens::{Cell, Row};
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
        let row = Row::from([("a".to_owned(), Cell::Set(a.into())), ("big".to_owned(), big)]);
        Act::Put(key(id), Image::of(&row).unwrap())
    }

    fn acts(changes: Vec<Change>) -> Vec<Vec<Act>> {
        let acts = |step: &Step<'_>| step.changes().iter().map(|change| change.act.clone()).collect();
        steps(changes.iter().collect()).iter().map(acts).collect()
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
