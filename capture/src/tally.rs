//! The rows of a batch by table, so that a row costs a comparison and a table its metrics once a batch.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use syncline_schemas::position::Lsn;

use crate::metrics::{self, TableLag};
use crate::records::Records;

/// Tables with metrics of their own; all others are one. A source may have more tables than a monitor can bear.
const TABLES_MAX: usize = 2_000;
/// What those beyond are called.
const OTHERS: &str = "(others)";

/// What a batch has had so far.
#[derive(Debug, Default)]
pub struct Tally {
    tables: HashMap<Arc<str>, Counted>,
    /// Rows come in runs of one table.
    run: Option<(Arc<str>, Counted)>,
    shown: BTreeSet<Arc<str>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counted {
    rows: u64,
    commit_us: i64,
    lsn: Lsn,
}

impl Tally {
    /// Counts records of rows that were committed at `commit_us`.
    pub fn rows(&mut self, records: &Records, commit_us: i64) {
        for entry in records.rows() {
            self.row(&entry.registered.name, commit_us, entry.position.lsn);
        }
    }

    fn row(&mut self, table: &Arc<str>, commit_us: i64, lsn: Lsn) {
        let same = self
            .run
            .as_ref()
            .is_some_and(|(name, _)| Arc::ptr_eq(name, table) || name == table);
        if !same {
            self.end_run();
        }
        let (_, counted) = self.run.get_or_insert_with(|| (table.clone(), Counted::default()));
        counted.rows += 1;
        (counted.commit_us, counted.lsn) = (commit_us, lsn);
    }

    fn end_run(&mut self) {
        if let Some((name, run)) = self.run.take() {
            let counted = self.tables.entry(name).or_default();
            *counted = Counted {
                rows: counted.rows + run.rows,
                ..run
            };
        }
    }

    /// The batch is in Kafka at `now_us`, when the log was known up to `heard_of`.
    pub fn publish(&mut self, source: &str, now_us: i64, heard_of: Lsn) {
        self.end_run();
        let mut rows = 0;
        for (table, counted) in std::mem::take(&mut self.tables) {
            rows += counted.rows;
            let lag = TableLag {
                rows: counted.rows,
                seconds: (now_us - counted.commit_us) as f64 / 1e6,
                bytes: heard_of.0.saturating_sub(counted.lsn.0),
            };
            metrics::table(source, self.shown_as(&table), lag);
        }
        metrics::rows(source, rows);
    }

    fn shown_as<'a>(&mut self, table: &'a Arc<str>) -> &'a str {
        if self.shown.len() < TABLES_MAX {
            self.shown.insert(table.clone());
        }
        if self.shown.contains(table) { table } else { OTHERS }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_add_up_and_the_last_row_says_how_old_the_table_is() {
        let (mut tally, t, u): (_, Arc<str>, Arc<str>) = (Tally::default(), "t".into(), "u".into());
        for (index, table) in [&t, &t, &u, &t].into_iter().enumerate() {
            tally.row(table, index as i64, Lsn(index as u64));
        }
        tally.end_run();
        let counted = |rows, at: u32| Counted {
            rows,
            commit_us: i64::from(at),
            lsn: Lsn(at.into()),
        };
        assert_eq!((tally.tables[&t], tally.tables[&u]), (counted(3, 3), counted(1, 2)));
    }

    #[test]
    fn beyond_a_number_tables_share_their_metrics() {
        let mut tally = Tally::default();
        let names: Vec<Arc<str>> = (0..=TABLES_MAX).map(|number| number.to_string().into()).collect();
        let shown: Vec<&str> = names.iter().map(|name| tally.shown_as(name)).collect();
        assert_eq!((shown[0], shown[TABLES_MAX]), ("0", OTHERS));
        assert_eq!(tally.shown_as(&names[7]), "7");
    }
}
