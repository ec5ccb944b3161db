//! Work-loads: written once, with a slot before each, so that every run can read a copy of the same log.
//!
//! The row is an order line of about 310 bytes in twelve columns of the types that business tables are made of.

use syncline_tests::Db;

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
const ROW: &str = "i, (i*7919)%100000, (ARRAY['new','pending','shipped','delivered','cancelled'])[i%5+1],
    'order line '||lpad(i::text,12,'0')||' of the north western distribution centre, revision 000001',
    ((i*7919)%100000000)::numeric/100, ((i*104729)%10000000)::numeric/10000,
    timestamptz '2024-01-01'+i*interval '1.000003 s', timestamptz '2024-06-01'+i*interval '1.000003 s', i%2=0,
    jsonb_build_object('sku','A-'||lpad(((i*15485863)%99999999)::text,8,'0'),'qty',i%50,'tags',jsonb_build_array('red','large'),'ver',1),
    md5(i::text)::uuid, CASE WHEN i%4=0 THEN NULL ELSE 'note '||left(md5((i*3)::text),16) END";

const UPDATE: &str = "status=(ARRAY['new','pending','shipped','delivered','cancelled'])[(id+1)%5+1], amount=amount+1,
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

/// All of them. An update or a delete needs the rows of the insert before it.
pub const ALL: [Work; 7] = [
    work("insert_1", Change::Insert, Some(1)),
    work("insert_all", Change::Insert, None),
    work("insert_10000", Change::Insert, Some(10_000)),
    work("insert_100", Change::Insert, Some(100)),
    work("update_100", Change::Update, Some(100)),
    Work {
        full_identity: true,
        ..work("update_full_100", Change::Update, Some(100))
    },
    work("delete_100", Change::Delete, Some(100)),
];

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
    /// Its slot, of which each run reads a copy.
    pub fn slot(&self) -> String {
        format!("work_{}", self.name)
    }

    /// Records that it makes: a delete has a tombstone.
    pub fn records(&self, rows: u64) -> u64 {
        if self.change == Change::Delete { 2 * rows } else { rows }
    }

    /// Writes it, unless it has been written; gives where its log ends.
    pub fn write(&self, db: &Db, rows: u64) -> anyhow::Result<String> {
        let ends = "CREATE TABLE IF NOT EXISTS ends (work text PRIMARY KEY, lsn text NOT NULL)";
        db.exec(ends)?;
        let known = format!("SELECT lsn FROM ends WHERE work = '{}'", self.name);
        let lsn = db.text(&known)?;
        if !lsn.is_empty() {
            return Ok(lsn);
        }
        self.prepare(db, rows)?;
        db.text(&format!(
            "SELECT pg_create_logical_replication_slot('{}', 'pgoutput')",
            self.slot()
        ))?;
        self.statements(db, rows)?;
        db.exec(&format!("INSERT INTO {MARKER} SELECT count(*) FROM {MARKER}"))?;
        db.exec(&format!(
            "INSERT INTO ends VALUES ('{}', pg_current_wal_lsn()::text); CHECKPOINT",
            self.name
        ))?;
        db.text(&known)
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
            Change::Insert => format!("INSERT INTO {TABLE} SELECT {ROW} FROM generate_series(a, b) i"),
            Change::Update => format!("UPDATE {TABLE} SET {UPDATE} WHERE id BETWEEN a AND b"),
            Change::Delete => format!("DELETE FROM {TABLE} WHERE id BETWEEN a AND b"),
        };
        db.exec(&format!(
            "DO $$ DECLARE a int8; b int8; BEGIN
               SET LOCAL synchronous_commit = off;
               FOR k IN 0 .. {last} LOOP
                 a := k * {step} + 1; b := (k + 1) * {step};
                 {statement};
                 COMMIT;
                 SET LOCAL synchronous_commit = off;
               END LOOP;
             END $$",
            last = rows / step - 1
        ))
    }
}

/// All rows in one statement.
pub fn fill(rows: u64) -> String {
    format!("INSERT INTO {TABLE} SELECT {ROW} FROM generate_series(1::int8, {rows}) i")
}
