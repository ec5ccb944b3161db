//! The same number of rows in more tables, of more columns, of more bytes, into more partitions.

use syncline_tests::Db;

use crate::capture::{Reader, read_in_turn};
use crate::contender::Contender;
use crate::result::Run;
use crate::session::Session;
use crate::slot;
use crate::work::{self, COLUMNS, MARKER, Written};

const PUBLICATION: &str = "growth";
const SLOT: &str = "work_growth";
const TRANSACTION_ROWS: u64 = 100;
const TABLES: [u64; 4] = [1, 10, 100, 1_000];
const PARTITIONS: [i32; 3] = [1, 8, 64];
/// The widest rows are fewer: it is bytes that count there.
const WIDE_PART: u64 = 20;
/// A row of 10 kB is so many checksums of 32 characters, which no compression makes small.
const CHECKSUMS: u64 = 320;

/// Tables that are all alike, and how their rows are made.
struct Shape {
    case: String,
    /// What it grows by.
    x: f64,
    tables: u64,
    partitions: i32,
    rows: u64,
    columns: String,
    /// Of row `i`.
    row: String,
    /// As it is told with the result.
    columns_count: f64,
}

/// Runs all that are asked for.
pub fn cases(session: &Session<'_>) -> anyhow::Result<()> {
    for shape in all(session.plan.rows) {
        if session.plan.wants(&shape.case) {
            session.case(&shape.case, || shape.measure(session))?;
        }
    }
    Ok(())
}

fn all(rows: u64) -> Vec<Shape> {
    let usual = |case: String, x: f64| Shape {
        case,
        x,
        tables: 1,
        partitions: 1,
        rows,
        columns: COLUMNS.to_owned(),
        row: work::ROW.to_owned(),
        columns_count: 12.0,
    };
    let mut all = Vec::new();
    for tables in TABLES {
        all.push(Shape {
            tables,
            ..usual(format!("growth/tables_{tables}"), tables as f64)
        });
    }
    let int4: Vec<String> = (1..=100).map(|number| format!("c{number} int4 NOT NULL")).collect();
    let values: Vec<String> = (1..=100).map(|number| format!("(i*{number})%100000")).collect();
    let checksums = format!("(SELECT string_agg(md5(i::text || '/' || n), '') FROM generate_series(1, {CHECKSUMS}) n)");
    let widths = [
        (
            "2",
            2.0,
            rows,
            "(id int8 PRIMARY KEY, n int8 NOT NULL)".to_owned(),
            "i, i*7919".to_owned(),
        ),
        ("12", 12.0, rows, COLUMNS.to_owned(), work::ROW.to_owned()),
        (
            "100",
            101.0,
            rows,
            format!("(id int8 PRIMARY KEY, {})", int4.join(", ")),
            format!("i, {}", values.join(", ")),
        ),
        (
            "10k",
            2.0,
            rows / WIDE_PART,
            "(id int8 PRIMARY KEY, note text NOT NULL)".to_owned(),
            format!("i, {checksums}"),
        ),
    ];
    for (name, columns_count, rows, columns, row) in widths {
        all.push(Shape {
            rows,
            columns,
            row,
            columns_count,
            ..usual(format!("growth/width_{name}"), columns_count)
        });
    }
    for partitions in PARTITIONS {
        all.push(Shape {
            partitions,
            ..usual(format!("growth/partitions_{partitions}"), f64::from(partitions))
        });
    }
    all
}

impl Shape {
    fn measure(&self, session: &Session<'_>) -> anyhow::Result<()> {
        let db = session.bed.source_db()?;
        self.clear(&db)?;
        let written = self.write(&db)?;
        // The text of a row is about what the log sends of it.
        let bytes = db.text("SELECT avg(octet_length(t::text)) FROM (SELECT * FROM growth_0 LIMIT 1000) t")?;
        let bytes: f64 = bytes.parse()?;
        let readers = [Reader::Recvlogical, Reader::Program(Contender::ExactlyOnce)];
        let told = |run: Run| Run {
            x: Some(self.x),
            ..run
                .figure("columns", self.columns_count)
                .figure("row_bytes", bytes)
                .figure("tables", self.tables as f64)
        };
        read_in_turn(session, &self.case, &readers, &written, self.partitions, told)?;
        written.forget(&db)?;
        self.clear(&db)
    }

    fn names(&self) -> Vec<String> {
        (0..self.tables).map(|number| format!("growth_{number}")).collect()
    }

    fn write(&self, db: &Db) -> anyhow::Result<Written> {
        let mut tables = self.names();
        for table in &tables {
            db.exec(&format!("CREATE TABLE {table} {}", self.columns))?;
        }
        tables.push(MARKER.to_owned());
        db.exec(&format!(
            "CREATE PUBLICATION {PUBLICATION} FOR TABLE {}",
            tables.join(", ")
        ))?;
        slot::make(db, SLOT)?;
        // Transactions go round the tables.
        let statement = format!(
            "EXECUTE format('INSERT INTO %I SELECT {} FROM generate_series(%s::int8, %s::int8) i', 'growth_' || k % {}, a, b)",
            self.row.replace('%', "%%").replace('\'', "''"),
            self.tables
        );
        let transactions = self.rows / TRANSACTION_ROWS;
        db.exec(&work::by_transactions(&statement, transactions, TRANSACTION_ROWS))?;
        work::mark(db)?;
        let end = db.text("SELECT pg_current_wal_lsn()")?;
        db.exec("CHECKPOINT")?;
        let rows = transactions * TRANSACTION_ROWS;
        Ok(Written {
            slot: SLOT.to_owned(),
            publication: PUBLICATION.to_owned(),
            tables,
            end,
            rows,
            records: rows,
        })
    }

    /// What it made, or one before it that has failed.
    fn clear(&self, db: &Db) -> anyhow::Result<()> {
        slot::drop(db, SLOT)?;
        db.exec(&format!("DROP PUBLICATION IF EXISTS {PUBLICATION}"))?;
        let left = db.text("SELECT relname FROM pg_class WHERE relkind = 'r' AND relname ~ '^growth_[0-9]+$'")?;
        // One by one, so that no transaction holds a thousand locks.
        left.lines()
            .try_for_each(|table| db.exec(&format!("DROP TABLE {table}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_have_names_of_their_own_and_no_rows_are_left_over() {
        let all = all(1_000_000);
        let names: std::collections::BTreeSet<&str> = all.iter().map(|shape| shape.case.as_str()).collect();
        assert_eq!(names.len(), all.len());
        assert!(all.iter().all(|shape| shape.rows.is_multiple_of(TRANSACTION_ROWS)));
        assert_eq!(all[6].columns.matches("int4").count(), 100);
    }
}
