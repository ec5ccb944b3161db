//! Work-loads: written once for all runs of a case, with a slot before each, so that every run reads a copy of the same log.
//!
//! The row is an order line of about 310 bytes in twelve columns of the types that business tables are made of.

use syncline_tests::Db;

use crate::slot;

/// The table that is written.
pub const TABLE: &str = "bench";
/// A row in it is the end of a work-load: whoever has published it has published all.
pub const MARKER: &str = "marker";
/// The publication of both.
pub const PUBLICATION: &str = "bench";

/// Columns of the table, here and in a target.
pub const COLUMNS: &str = "(id int8 PRIMARY KEY, account_id int8 NOT NULL, status text NOT NULL, description text NOT NULL,
    amount numeric(14,2) NOT NULL, tax numeric(12,4) NOT NULL, created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL,
    active bool NOT NULL, attrs jsonb NOT NULL, ref uuid NOT NULL, note text)";

/// Row `i`.
pub const ROW: &str = "i, (i*7919)%100000, (ARRAY['new','pending','shipped','delivered','cancelled'])[i%5+1],
    'order line '||lpad(i::text,12,'0')||' of the north western distribution centre, revision 000001',
    ((i*7919)%100000000)::numeric/100, ((i*104729)%10000000)::numeric/10000,
    timestamptz '2024-01-01'+i*interval '1.000003 s', timestamptz '2024-06-01'+i*interval '1.000003 s', i%2=0,
    jsonb_build_object('sku','A-'||lpad(((i*15485863)%99999999)::text,8,'0'),'qty',i%50,'tags',jsonb_build_array('red','large'),'ver',1),
    md5(i::text)::uuid, CASE WHEN i%4=0 THEN NULL ELSE 'note '||left(md5((i*3)::text),16) END";

/// What an update does to a row.
pub const UPDATE: &str =
    "status=(ARRAY['new','pending','shipped','delivered','cancelled'])[(id+1)%5+1], amount=amount+1,
    updated_at=updated_at+interval '1 day', attrs=attrs||'{\"ver\": 2}'";

/// What a work-load does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// New rows.
    Insert,
    /// Rows that are there, in the order of the key.
    Update,
    /// Their end.
    Delete,
}

/// A work-load.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// As cases name it.
    pub name: &'static str,
    /// What it does.
    pub change: Change,
    /// Rows of a transaction; none: all in one.
    pub transaction_rows: Option<u64>,
    /// REPLICA IDENTITY FULL.
    pub full_identity: bool,
}

const fn work(name: &'static str, change: Change, transaction_rows: Option<u64>) -> Work {
    Work {
        name,
        change,
        transaction_rows,
        full_identity: false,
    }
}

/// Rows in transactions of a hundred: what is measured where one work-load has to stand for all.
pub const USUAL: Work = work("insert_100", Change::Insert, Some(100));

/// All of them. An update or a delete needs the rows of the insert before it.
pub const ALL: [Work; 7] = [
    work("insert_1", Change::Insert, Some(1)),
    work("insert_all", Change::Insert, None),
    work("insert_10000", Change::Insert, Some(10_000)),
    USUAL,
    work("update_100", Change::Update, Some(100)),
    Work {
        full_identity: true,
        ..work("update_full_100", Change::Update, Some(100))
    },
    work("delete_100", Change::Delete, Some(100)),
];

/// A log that lies ready: whoever reads a copy of its slot finds all of it.
#[derive(Clone, Debug)]
pub struct Written {
    /// The slot before it.
    pub slot: String,
    /// The publication of its tables.
    pub publication: String,
    /// Tables of schema `public`; the last has the marker.
    pub tables: Vec<String>,
    /// Where it ends.
    pub end: String,
    /// Rows changed.
    pub rows: u64,
    /// Records that they make in topics.
    pub records: u64,
}

impl Written {
    /// Lets the server forget it: a slot holds back all that was written since.
    pub fn forget(&self, db: &Db) -> anyhow::Result<()> {
        slot::drop(db, &self.slot)
    }
}

/// Makes the tables and their publication.
pub fn make_table(db: &Db, rows: u64) -> anyhow::Result<()> {
    anyhow::ensure!(
        rows >= 10_000 && rows.is_multiple_of(10_000),
        "--rows: a multiple of 10000"
    );
    db.exec(&format!(
        "CREATE TABLE {TABLE} {COLUMNS}; CREATE TABLE {MARKER} (id int8 PRIMARY KEY);
         CREATE PUBLICATION {PUBLICATION} FOR TABLE {TABLE}, {MARKER}"
    ))
}

impl Work {
    /// Writes it. Its log is the last there is: whatever is written later to the same tables would be read as well.
    pub fn write(&self, db: &Db, rows: u64) -> anyhow::Result<Written> {
        let slot = format!("work_{}", self.name);
        self.prepare(db, rows)?;
        slot::make(db, &slot)?;
        self.statements(db, rows)?;
        mark(db)?;
        let end = db.text("SELECT pg_current_wal_lsn()")?;
        db.exec("CHECKPOINT")?;
        Ok(Written {
            slot,
            publication: PUBLICATION.to_owned(),
            tables: vec![TABLE.to_owned(), MARKER.to_owned()],
            end,
            rows,
            // A delete has a tombstone.
            records: if self.change == Change::Delete { 2 * rows } else { rows },
        })
    }

    /// The state of the table before it.
    fn prepare(&self, db: &Db, rows: u64) -> anyhow::Result<()> {
        let identity = if self.full_identity { "FULL" } else { "DEFAULT" };
        db.exec(&format!("ALTER TABLE {TABLE} REPLICA IDENTITY {identity}"))?;
        db.exec(&format!("TRUNCATE {TABLE}"))?;
        if self.change != Change::Insert {
            db.exec(&fill(rows))?;
        }
        db.exec(&format!("VACUUM FREEZE ANALYZE {TABLE}"))
    }

    fn statements(&self, db: &Db, rows: u64) -> anyhow::Result<()> {
        let Some(step) = self.transaction_rows else {
            return db.exec(&fill(rows));
        };
        let statement = match self.change {
            Change::Insert => insert(TABLE, "a", "b"),
            Change::Update => format!("UPDATE {TABLE} SET {UPDATE} WHERE id BETWEEN a AND b"),
            Change::Delete => format!("DELETE FROM {TABLE} WHERE id BETWEEN a AND b"),
        };
        db.exec(&by_transactions(&statement, rows / step, step))
    }
}

/// All rows in one statement.
pub fn fill(rows: u64) -> String {
    insert(TABLE, "1::int8", &rows.to_string())
}

/// These rows of any table with the same columns, in one statement.
fn insert(table: &str, from: &str, to: &str) -> String {
    format!("INSERT INTO {table} SELECT {ROW} FROM generate_series({from}, {to}) i")
}

/// The row that ends a work-load.
pub fn mark(db: &Db) -> anyhow::Result<()> {
    db.exec(&format!("INSERT INTO {MARKER} SELECT count(*) FROM {MARKER}"))
}

/// A server-side loop over transactions: `k` counts them, `a` and `b` are the first and the last row of each.
pub fn by_transactions(statement: &str, transactions: u64, transaction_rows: u64) -> String {
    format!(
        "DO $$ DECLARE a int8; b int8; BEGIN
           SET LOCAL synchronous_commit = off;
           FOR k IN 0 .. {last} LOOP
             a := k * {transaction_rows} + 1; b := (k + 1) * {transaction_rows};
             {statement};
             COMMIT;
             SET LOCAL synchronous_commit = off;
           END LOOP;
         END $$",
        last = transactions.saturating_sub(1)
    )
}
