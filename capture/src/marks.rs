//! The marks of the running transaction, and which row change each belongs to.
//!
//! The sink writes its marks before the rows, so a mark waits here until its row comes or the transaction ends. A mark
//! that names its row belongs to the first change of that row; one that does not (the app made the key) to the first
//! insert into its table that no named mark claims. Bounded: beyond [`WAITING_MAX`] a mark is placed as it stands.

use std::collections::{HashMap, VecDeque};

use syncline_schemas::mapped::RowKey;
use syncline_schemas::mark::{Act, Mark};
use syncline_schemas::position::Position;
use syncline_schemas::value::Value;

/// Marks that wait for their rows at any one time.
pub const WAITING_MAX: usize = 100_000;

/// A mark and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its JSON text.
    pub text: String,
    /// The entity id it names.
    pub cid: String,
    /// Where it stands.
    pub position: Position,
}

/// The marks of one transaction that wait for their rows.
#[derive(Debug, Default)]
pub struct Marks {
    waiting: Vec<Option<Found>>,
    tables: HashMap<String, TableMarks>,
    left: usize,
}

#[derive(Debug, Default)]
struct TableMarks {
    named: Vec<Named>,
    inserts: VecDeque<usize>,
}

/// Marks that name their rows by the same columns.
#[derive(Debug)]
struct Named {
    columns: Vec<String>,
    rows: HashMap<Vec<Value>, VecDeque<usize>>,
}

impl Marks {
    /// Takes a mark in. Gives it back if no row can ever claim it: it says only what was seen, or there are too many.
    pub fn push(&mut self, mark: &Mark, found: Found) -> Option<Found> {
        let insert = mark.row.is_none() && mark.act == Act::Insert;
        let named = mark.row.as_ref().and_then(|row| RowKey(row.clone()).columns());
        if mark.act == Act::Seen || self.left >= WAITING_MAX || (named.is_none() && !insert) {
            return Some(found);
        }
        let index = self.waiting.len();
        let table = self.tables.entry(mark.table.clone()).or_default();
        match named {
            Some(columns) => table.push_named(columns.into_iter().unzip(), index),
            None => table.inserts.push_back(index),
        }
        self.waiting.push(Some(found));
        self.left += 1;
        None
    }

    /// The mark of a change of `table`, if one waits for it; `values` gives the row's values of the columns named.
    pub fn take(
        &mut self,
        table: &str,
        insert: bool,
        values: impl Fn(&[String]) -> Option<Vec<Value>>,
    ) -> Option<Found> {
        if self.left == 0 {
            return None;
        }
        let table = self.tables.get_mut(table)?;
        let by_row = table
            .named
            .iter_mut()
            .find_map(|named| named.rows.get_mut(&values(&named.columns)?)?.pop_front());
        let index = by_row.or_else(|| if insert { table.inserts.pop_front() } else { None })?;
        self.left -= 1;
        self.waiting[index].take()
    }

    /// The marks that no row claimed, in their order; none waits afterwards.
    pub fn end(&mut self) -> impl Iterator<Item = Found> {
        self.tables.clear();
        self.left = 0;
        std::mem::take(&mut self.waiting).into_iter().flatten()
    }
}

impl TableMarks {
    fn push_named(&mut self, (columns, values): (Vec<String>, Vec<Value>), index: usize) {
        if !self.named.iter().any(|named| named.columns == columns) {
            self.named.push(Named {
                columns: columns.clone(),
                rows: HashMap::new(),
            });
        }
        for named in self.named.iter_mut().filter(|named| named.columns == columns) {
            named.rows.entry(values.clone()).or_default().push_back(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use syncline_schemas::position::{Lsn, Vector};

    fn mark(row: Option<&str>, act: Act) -> Mark {
        Mark {
            pipeline: "p".to_owned(),
            entity: "e".to_owned(),
            cid: "c".to_owned(),
            table: "public.t".to_owned(),
            row: row.map(str::to_owned),
            act,
            vector: Vector::new(),
            stamp_us: 0,
            fields: Vec::new(),
        }
    }

    fn found(ordinal: u64) -> Found {
        Found {
            text: String::new(),
            cid: "c".to_owned(),
            position: Position::new(1, Lsn(1), ordinal),
        }
    }

    fn take(marks: &mut Marks, id: i64, insert: bool) -> Option<u64> {
        let values = |columns: &[String]| (columns == ["id"]).then(|| vec![Value::from(id)]);
        marks
            .take("public.t", insert, values)
            .map(|found| found.position.ordinal)
    }

    #[test]
    fn each_row_takes_the_mark_that_names_it_and_inserts_take_the_rest_in_order() {
        let mut marks = Marks::default();
        for (ordinal, row) in [(0, Some(r#"{"id":7}"#)), (1, None), (2, None), (3, Some(r#"{"id":8}"#))] {
            let act = if row.is_some() { Act::Update } else { Act::Insert };
            assert_eq!(marks.push(&mark(row, act), found(ordinal)), None);
        }
        assert_eq!(take(&mut marks, 9, false), None);
        assert_eq!(take(&mut marks, 100, true), Some(1));
        assert_eq!(take(&mut marks, 8, false), Some(3));
        assert_eq!(take(&mut marks, 8, false), None);
        assert_eq!(take(&mut marks, 7, true), Some(0));
        assert_eq!(marks.take("public.other", true, |_| None), None);
        assert_eq!(marks.end().map(|found| found.position.ordinal).collect::<Vec<_>>(), [2]);
        assert_eq!(take(&mut marks, 101, true), None);
    }

    #[test]
    fn a_mark_that_no_row_can_claim_comes_back() {
        let mut marks = Marks::default();
        assert!(marks.push(&mark(Some(r#"{"id":7}"#), Act::Seen), found(0)).is_some());
        assert!(marks.push(&mark(Some("7"), Act::Update), found(1)).is_some());
        assert!(marks.push(&mark(None, Act::Update), found(2)).is_some());
        assert_eq!(marks.end().count(), 0);
    }
}
