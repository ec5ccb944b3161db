//! Snapshots: that they meet the stream without gap or overlap, and resume.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use syncline_capture::postgres::catalog;
use syncline_capture::postgres::control::Control;
use syncline_capture::postgres::pgoutput::{Message, Tuple, TupleCell};
use syncline_capture::postgres::quote::TableName;
use syncline_capture::postgres::snapshot::{ChunkBound, ChunkEnd, Snapshot, SnapshotRow};
use syncline_capture::postgres::stream::StreamSettings;
use syncline_schemas::position::Lsn;

use crate::database::{Database, PATIENCE, SLOT_WAIT, chunk, drain, read_until, rows_of, some, text, texts};

/// Writes until told to stop: one row a transaction, inserted and then counted up.
fn write_all_the_while(database: &Database) -> (Arc<AtomicBool>, Vec<thread::JoinHandle<()>>) {
    let stop = Arc::new(AtomicBool::new(false));
    let writers = (0..3)
        .map(|writer| {
            let (stop, control) = (Arc::clone(&stop), database.control());
            thread::spawn(move || {
                let mut row = writer;
                while !stop.load(Ordering::Relaxed) {
                    let sql = format!("INSERT INTO t VALUES ({row}, 0); UPDATE t SET n = n + 1 WHERE id % 97 = {row} % 97 AND id % 3 = {writer}");
                    control.execute(&sql, "writing").unwrap();
                    row += 3;
                }
            })
        })
        .collect();
    (stop, writers)
}

fn counts(rows: &[SnapshotRow]) -> BTreeMap<u32, u32> {
    let number = |cell: &TupleCell| text(cell).unwrap().parse().unwrap();
    let counts: BTreeMap<u32, u32> = rows.iter().map(|row| (number(&row[0]), number(&row[1]))).collect();
    assert_eq!(counts.len(), rows.len(), "no key twice");
    counts
}

fn apply(counts: &mut BTreeMap<u32, u32>, new: &Tuple) -> Option<u32> {
    let number = |cell: &TupleCell| text(cell).unwrap().parse().unwrap();
    counts.insert(number(&new[0]), number(&new[1]))
}

#[test]
fn exported_snapshot_and_stream_meet_without_gap_or_overlap() {
    let database = Database::new("meet");
    database
        .control()
        .execute("CREATE TABLE t (id int PRIMARY KEY, n int)", "creating")
        .unwrap();
    let prepared = database.prepare(&["t"]);
    let (stop, writers) = write_all_the_while(&database);
    let control = database.control();
    wait_for_rows(&control, 300);
    let mut client = database.client();
    let created = client
        .create_slot(database.slot(), false, SLOT_WAIT, &syncline_runtime::Shutdown::new())
        .unwrap();
    wait_for_rows(&control, 600);
    let snapshot = Snapshot::exported(&database.dsn(), &created.snapshot, created.consistent_point).unwrap();
    let mut state = counts(&rows_of(&snapshot, &prepared.tables[0], &["id", "n"], 100));
    drop(snapshot);
    let mut stream = client
        .start_stream(
            database.slot(),
            "pub",
            created.consistent_point,
            StreamSettings::default(),
        )
        .unwrap();
    wait_for_rows(&control, 900);
    stop.store(true, Ordering::Relaxed);
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    for message in drain(&mut stream, control.current_lsn().unwrap()) {
        match message {
            Message::Insert(insert) => assert_eq!(apply(&mut state, &insert.new), None, "inserted twice"),
            Message::Update(update) => {
                let now: u32 = text(&update.new[1]).unwrap().parse().unwrap();
                assert_eq!(
                    apply(&mut state, &update.new),
                    Some(now - 1),
                    "each step once and in order"
                );
            }
            _ => {}
        }
    }
    let fresh = Snapshot::fresh(&database.dsn()).unwrap();
    assert_eq!(state, counts(&rows_of(&fresh, &prepared.tables[0], &["id", "n"], 100)));
}

fn wait_for_rows(control: &Control, rows: i64) {
    let deadline = Instant::now() + PATIENCE;
    while control
        .one("SELECT count(*) FROM t", &[], "counting")
        .unwrap()
        .get::<_, i64>(0)
        < rows
    {
        assert!(Instant::now() < deadline);
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_fresh_snapshot_holds_whatever_committed_before_its_lsn() {
    let database = Database::new("fresh");
    let control = database.control();
    control
        .execute("CREATE TABLE t (id int PRIMARY KEY, n int)", "creating")
        .unwrap();
    let (prepared, client, created) = database.slot_for(&["t"]);
    let (stop, writers) = write_all_the_while(&database);
    wait_for_rows(&control, 100);
    let snapshots: Vec<(Lsn, BTreeMap<u32, u32>)> = (0..30)
        .map(|_| {
            let snapshot = Snapshot::fresh(&database.dsn()).unwrap();
            (
                snapshot.lsn(),
                counts(&rows_of(&snapshot, &prepared.tables[0], &["id", "n"], 100_000)),
            )
        })
        .collect();
    stop.store(true, Ordering::Relaxed);
    writers.into_iter().for_each(|writer| writer.join().unwrap());

    let mut stream = client
        .start_stream(
            database.slot(),
            "pub",
            created.consistent_point,
            StreamSettings::default(),
        )
        .unwrap();
    let (mut state, mut open, mut checked) = (BTreeMap::new(), Vec::new(), 0);
    let mut snapshots = snapshots.into_iter().peekable();
    read_until(&mut stream, control.current_lsn().unwrap(), |message| match message {
        Message::Insert(insert) => open.push(insert.new),
        Message::Update(update) => open.push(update.new),
        Message::Commit(commit) => {
            while let Some((_, rows)) = snapshots.next_if(|(lsn, _)| *lsn < commit.end_lsn) {
                for (id, n) in &state {
                    assert!(
                        rows.get(id) >= Some(n),
                        "row {id}: {:?} in the snapshot, {n} in the log before it",
                        rows.get(id)
                    );
                }
                checked += 1;
            }
            open.drain(..).for_each(|new| _ = apply(&mut state, &new));
        }
        _ => {}
    });
    assert!(checked >= 20, "only {checked} snapshots lay between two commits");
}

#[test]
fn a_snapshot_resumes_at_the_last_finished_chunk() {
    let database = Database::new("resume");
    let control = database.control();
    control
        .execute(
            "CREATE TABLE t (b text, a int, v text, PRIMARY KEY (b, a));
             INSERT INTO t SELECT 'O''Neil ' || (i % 7) || E'\\t\\\\', i, 'v' || i FROM generate_series(1, 1000) i; ANALYZE t",
            "creating",
        )
        .unwrap();
    let (prepared, _client, created) = database.slot_for(&["t"]);
    let table = &prepared.tables[0];
    assert_eq!(
        (table.primary_key.as_slice(), table.rows_estimate),
        (&["b".to_owned(), "a".to_owned()][..], Some(1000))
    );
    let snapshot = Snapshot::exported(&database.dsn(), &created.snapshot, created.consistent_point).unwrap();
    let (mut rows, end) = chunk(&snapshot, table, &["a", "v"], None, 100);
    let ChunkEnd::More(bound) = end else { panic!("more") };
    let (more, end) = chunk(&snapshot, table, &["a", "v"], Some(&bound), 100);
    rows.extend(more);
    let ChunkEnd::More(bound) = end else { panic!("more") };
    drop(snapshot);

    // As after a crash: the bound comes out of the progress record.
    let bound: ChunkBound = serde_json::from_str(&serde_json::to_string(&bound).unwrap()).unwrap();
    control
        .execute("INSERT INTO t VALUES ('zzz', 1001, 'late')", "writing")
        .unwrap();
    let fresh = Snapshot::fresh(&database.dsn()).unwrap();
    assert!(fresh.lsn() > created.consistent_point);
    let mut after = Some(bound);
    while let Some(bound) = after {
        let (more, end) = chunk(&fresh, table, &["a", "v"], Some(&bound), 100);
        rows.extend(more);
        after = match end {
            ChunkEnd::More(bound) => Some(bound),
            ChunkEnd::Last => None,
        };
    }
    let keys: BTreeSet<i32> = rows.iter().map(|row| text(&row[0]).unwrap().parse().unwrap()).collect();
    assert_eq!((rows.len(), keys.len(), keys.last()), (1001, 1001, Some(&1001)));
    assert!(
        rows.iter().all(|row| row.len() == 2),
        "the key is read but not handed on"
    );
}

#[test]
fn a_table_without_key_is_read_by_its_pages_and_resumes_there() {
    let database = Database::new("pages");
    let sql = "CREATE TABLE t (n int, wide text); ALTER TABLE t REPLICA IDENTITY FULL; ALTER TABLE t ALTER wide SET STORAGE PLAIN;
               INSERT INTO t SELECT n, repeat('x', 3500) FROM generate_series(1, 1500) n";
    database.control().execute(sql, "creating").unwrap();
    let prepared = database.prepare(&["t"]);
    let snapshot = Snapshot::fresh(&database.dsn()).unwrap();
    let (first, end) = chunk(&snapshot, &prepared.tables[0], &["n", "wide"], None, 10);
    let ChunkEnd::More(bound) = end else {
        panic!("750 pages are more than one chunk")
    };
    drop(snapshot);
    let later = Snapshot::fresh(&database.dsn()).unwrap();
    let (rest, end) = chunk(&later, &prepared.tables[0], &["n", "wide"], Some(&bound), 10);
    assert_eq!(end, ChunkEnd::Last);
    let read: BTreeSet<String> = first.iter().chain(&rest).filter_map(|row| text(&row[0])).collect();
    assert_eq!((read.len(), first.len() + rest.len()), (1500, 1500));
}

#[test]
fn settings_of_database_and_role_do_not_change_the_text_and_snapshot_equals_stream() {
    let database = Database::new("zoo");
    database.admin(&format!(
        "ALTER DATABASE {0} SET datestyle = 'SQL, DMY'; ALTER DATABASE {0} SET intervalstyle = 'iso_8601';
         ALTER DATABASE {0} SET extra_float_digits = 0; ALTER DATABASE {0} SET bytea_output = 'escape';
         ALTER DATABASE {0} SET timezone = 'Asia/Tokyo'; ALTER DATABASE {0} SET standard_conforming_strings = off",
        database.name
    ));
    let control = database.control();
    let columns = ["id", "d", "ts", "tz", "i", "f", "b", "j", "a", "n", "s", "u", "o"];
    control
        .execute(
            "CREATE TYPE mood AS ENUM ('sad', 'so, so'); CREATE TABLE t (id int PRIMARY KEY, d date, ts timestamp, tz timestamptz,
             i interval, f float8, b bytea, j jsonb, a text[], n numeric, s text, u uuid, o mood)",
            "creating",
        )
        .unwrap();
    let mut stream = database.stream(&["t"]);
    control
        .execute(
            r#"INSERT INTO t VALUES (1, '2020-01-31', '2020-01-31 01:02:03.4', '2020-01-31 01:02:03+00',
              '1 mon 2 days 03:04:05', 0.1::float8 + 0.2::float8, '\xff005c', '{"a": [1, null]}',
              ARRAY['x', NULL, 'NULL', 'a,"b', '\'], 'NaN', E'tab\t nl\n \\ end',
              'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'so, so');
              INSERT INTO t (id, s) VALUES (2, '')"#,
            "writing",
        )
        .unwrap();
    let streamed: Vec<_> = drain(&mut stream, control.current_lsn().unwrap())
        .into_iter()
        .filter_map(|message| match message {
            Message::Insert(insert) => Some(texts(&insert.new)),
            _ => None,
        })
        .collect();
    let expected = [
        "1",
        "2020-01-31",
        "2020-01-31 01:02:03.4",
        "2020-01-31 01:02:03+00",
        "1 mon 2 days 03:04:05",
        "0.30000000000000004",
        r"\xff005c",
        r#"{"a": [1, null]}"#,
        r#"{x,NULL,"NULL","a,\"b","\\"}"#,
        "NaN",
        "tab\t nl\n \\ end",
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        "so, so",
    ];
    assert_eq!(streamed[0], some(&expected));
    let snapshot = Snapshot::fresh(&database.dsn()).unwrap();
    let table = catalog::tables(&control, &[TableName::new("public", "t")])
        .unwrap()
        .remove(0);
    let read: Vec<_> = rows_of(&snapshot, &table, &columns, 10)
        .iter()
        .map(|row| texts(row))
        .collect();
    assert_eq!(read, streamed);
}
