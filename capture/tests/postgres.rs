//! The PostgreSQL side of capture against a real server: `eval "$(deploy/stack.sh env)"` names it in `PG_DSN`.
//! Every test has a database, a slot and a publication of its own, and waits on positions of the log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use syncline_capture::postgres::catalog::{self, TableInfo, TypeKind};
use syncline_capture::postgres::client::{CreatedSlot, ReplicationClient};
use syncline_capture::postgres::control::Control;
use syncline_capture::postgres::dsn::Dsn;
use syncline_capture::postgres::pgoutput::{Message, OldTuple, ReplicaIdentity, Tuple, TupleCell};
use syncline_capture::postgres::quote::TableName;
use syncline_capture::postgres::session::SessionSettings;
use syncline_capture::postgres::setup::{self, Prepared, Wanted};
use syncline_capture::postgres::snapshot::{ChunkBound, ChunkEnd, Snapshot, SnapshotRow};
use syncline_capture::postgres::stream::{Stream, StreamSettings};
use syncline_capture::source::{Incoming, Source};
use syncline_runtime::failure::Class;
use syncline_schemas::position::Lsn;

const PATIENCE: Duration = Duration::from_secs(60);
const SLOT_WAIT: Duration = Duration::from_secs(30);

/// A database that goes with the test.
struct Database {
    name: String,
    server: String,
}

impl Database {
    fn new(test: &str) -> Self {
        let server = std::env::var("PG_DSN").expect(
            "PG_DSN must name a PostgreSQL with wal_level=logical: deploy/stack.sh up; eval \"$(deploy/stack.sh env)\"",
        );
        let database = Self {
            name: format!("capture_{test}_{}", std::process::id()),
            server,
        };
        database.admin(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", database.name));
        database.admin(&format!("CREATE DATABASE {}", database.name));
        database
    }

    fn dsn_of(&self, database: &str) -> Dsn {
        Dsn::parse(&format!("{}/{database}", self.server.trim_end_matches('/'))).unwrap()
    }

    fn dsn(&self) -> Dsn {
        self.dsn_of(&self.name)
    }

    fn control(&self) -> Control {
        Control::connect(&self.dsn()).unwrap()
    }

    fn admin(&self, sql: &str) {
        Control::connect(&self.dsn_of("postgres"))
            .unwrap()
            .execute(sql, "preparing a test")
            .unwrap();
    }

    /// The slot is named after the database, for slots belong to the whole server.
    fn slot(&self) -> &str {
        &self.name
    }

    fn client(&self) -> ReplicationClient {
        ReplicationClient::connect(&self.dsn(), &SessionSettings::default()).unwrap()
    }

    fn prepare(&self, tables: &[&str]) -> Prepared {
        let tables = tables.iter().map(|table| TableName::new("public", *table)).collect();
        let wanted = Wanted {
            publication: "pub".to_owned(),
            slot: self.slot().to_owned(),
            tables,
        };
        setup::prepare(&self.control(), &wanted).unwrap()
    }

    /// Publication, slot, and the client that holds the exported snapshot.
    fn slot_for(&self, tables: &[&str]) -> (Prepared, ReplicationClient, CreatedSlot) {
        let prepared = self.prepare(tables);
        let mut client = self.client();
        let created = client.create_slot(self.slot(), SLOT_WAIT).unwrap();
        (prepared, client, created)
    }

    fn stream(&self, tables: &[&str]) -> Stream {
        let (_, client, created) = self.slot_for(tables);
        client
            .start_stream(self.slot(), "pub", created.consistent_point, StreamSettings::default())
            .unwrap()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let Ok(control) = Control::connect(&self.dsn_of("postgres")) else {
            return;
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        // A slot is free when its walsender has noticed that we are gone.
        while setup::slot_state(&control, self.slot()).is_ok_and(|slot| slot.is_some()) && Instant::now() < deadline {
            if setup::drop_slot(&control, self.slot()).is_err() {
                thread::sleep(Duration::from_millis(50));
            }
        }
        let _ = control.execute(
            &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name),
            "cleaning up",
        );
    }
}

/// All messages up to `until`, without the shapes of tables, which come when they come.
fn drain(stream: &mut Stream, until: Lsn) -> Vec<Message> {
    let mut messages = Vec::new();
    read_until(stream, until, |message| messages.push(message));
    messages
}

fn read_until(stream: &mut Stream, until: Lsn, mut take: impl FnMut(Message)) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "the stream did not reach {until}");
        match stream.next(Duration::from_millis(200)).unwrap() {
            None => {}
            Some(Incoming::Idle { lsn }) if lsn >= until => return,
            Some(Incoming::Idle { .. }) => {}
            Some(Incoming::Log { message, .. }) => {
                let end = match &message {
                    Message::Commit(commit) => commit.end_lsn,
                    _ => Lsn(0),
                };
                take(message);
                if end >= until {
                    return;
                }
            }
        }
    }
}

fn text(cell: &TupleCell) -> Option<String> {
    match cell {
        TupleCell::Text(bytes) => Some(String::from_utf8(bytes.to_vec()).unwrap()),
        TupleCell::Null => None,
        other => panic!("{other:?} is no text"),
    }
}

fn texts(row: &[TupleCell]) -> Vec<Option<String>> {
    row.iter().map(text).collect()
}

fn some(cells: &[&str]) -> Vec<Option<String>> {
    cells.iter().map(|&cell| Some(cell.to_owned())).collect()
}

fn rows_of(snapshot: &Snapshot, table: &TableInfo, columns: &[&str], rows_max: u64) -> Vec<SnapshotRow> {
    let (mut rows, mut after) = (Vec::new(), None);
    loop {
        let (more, end) = chunk(snapshot, table, columns, after.as_ref(), rows_max);
        rows.extend(more);
        match end {
            ChunkEnd::More(bound) => after = Some(bound),
            ChunkEnd::Last => return rows,
        }
    }
}

fn chunk(
    snapshot: &Snapshot,
    table: &TableInfo,
    columns: &[&str],
    after: Option<&ChunkBound>,
    rows_max: u64,
) -> (Vec<SnapshotRow>, ChunkEnd) {
    let mut chunk = snapshot.chunk(table, columns, after, rows_max).unwrap();
    let mut rows = Vec::new();
    while let Some(more) = chunk.next_rows().unwrap() {
        rows.extend(more);
    }
    assert_eq!(chunk.rows(), rows.len() as u64);
    (rows, chunk.end().unwrap())
}

#[test]
fn every_kind_of_change_arrives_in_order() {
    let database = Database::new("changes");
    let control = database.control();
    let run = |sql: &str| control.execute(sql, "changing").unwrap();
    run("CREATE TABLE t (id int PRIMARY KEY, name text, big text);
         ALTER TABLE t ALTER big SET STORAGE EXTERNAL;
         CREATE TABLE f (id int, name text); ALTER TABLE f REPLICA IDENTITY FULL");
    let mut stream = database.stream(&["t", "f"]);
    run("BEGIN; INSERT INTO t VALUES (1, 'a', repeat('x', 9000));
         SELECT pg_logical_emit_message(true, 'syncline', 'mark'); UPDATE t SET name = NULL; COMMIT");
    run("UPDATE t SET id = 2");
    run("DELETE FROM t");
    run("INSERT INTO f VALUES (1, 'a')");
    run("UPDATE f SET name = 'b'");
    run("DELETE FROM f");
    run("SELECT pg_logical_emit_message(false, 'other', E'\\\\xff'::bytea)");
    run("TRUNCATE t, f RESTART IDENTITY");
    let messages = drain(&mut stream, control.current_lsn().unwrap());

    let mut relations = BTreeMap::new();
    let mut seen = Vec::new();
    for message in messages {
        match message {
            Message::Relation(relation) => _ = relations.insert(relation.oid, relation),
            Message::Begin(_) | Message::Commit(_) => {}
            message => seen.push(message),
        }
    }
    let name = |oid: u32| relations[&oid].table.clone();
    let t = relations.values().find(|relation| relation.table == "t").unwrap();
    assert_eq!((t.schema.as_str(), t.identity), ("public", ReplicaIdentity::Default));
    assert_eq!(
        t.columns
            .iter()
            .map(|column| (column.name.as_str(), column.is_key))
            .collect::<Vec<_>>(),
        [("id", true), ("name", false), ("big", false)]
    );

    let mut seen = seen.into_iter();
    let Some(Message::Insert(insert)) = seen.next() else {
        panic!("insert")
    };
    assert_eq!(
        (name(insert.relation), texts(&insert.new)),
        ("t".to_owned(), some(&["1", "a", &"x".repeat(9000)]))
    );
    let Some(Message::Logical(mark)) = seen.next() else {
        panic!("mark")
    };
    assert_eq!(
        (mark.transactional, &mark.prefix[..], &mark.content[..]),
        (true, &b"syncline"[..], &b"mark"[..])
    );
    let Some(Message::Update(update)) = seen.next() else {
        panic!("update")
    };
    assert_eq!(
        (&update.new[1], &update.new[2]),
        (&TupleCell::Null, &TupleCell::Unchanged)
    );
    assert_eq!(update.old, OldTuple::None);
    let Some(Message::Update(update)) = seen.next() else {
        panic!("update of the key")
    };
    let OldTuple::Key(old) = &update.old else {
        panic!("old key")
    };
    assert_eq!(
        (text(&old[0]).unwrap(), text(&update.new[0]).unwrap()),
        ("1".to_owned(), "2".to_owned())
    );
    let Some(Message::Delete(delete)) = seen.next() else {
        panic!("delete")
    };
    let OldTuple::Key(old) = &delete.old else {
        panic!("old key")
    };
    assert_eq!(texts(old), [Some("2".to_owned()), None, None]);
    assert!(matches!(seen.next(), Some(Message::Insert(insert)) if name(insert.relation) == "f"));
    let Some(Message::Update(update)) = seen.next() else {
        panic!("update of f")
    };
    let OldTuple::Full(old) = &update.old else {
        panic!("old row")
    };
    assert_eq!((texts(old), texts(&update.new)), (some(&["1", "a"]), some(&["1", "b"])));
    assert!(matches!(seen.next(), Some(Message::Delete(delete)) if matches!(delete.old, OldTuple::Full(_))));
    let Some(Message::Logical(other)) = seen.next() else {
        panic!("message")
    };
    assert_eq!((other.transactional, &other.content[..]), (false, &[0xFF][..]));
    let Some(Message::Truncate(truncate)) = seen.next() else {
        panic!("truncate")
    };
    assert_eq!(
        truncate.relations.iter().map(|&oid| name(oid)).collect::<BTreeSet<_>>(),
        ["t".into(), "f".into()].into()
    );
    assert!(truncate.restart_identity && !truncate.cascade);
    assert_eq!(seen.next(), None);
}

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
    let created = client.create_slot(database.slot(), SLOT_WAIT).unwrap();
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
fn the_slot_lives_while_the_consumer_is_blocked() {
    let database = Database::new("blocked");
    let control = database.control();
    control
        .execute("CREATE TABLE t (id int PRIMARY KEY, v text)", "creating")
        .unwrap();
    let prepared_by = database.slot_for(&["t"]);
    drop(prepared_by.1);
    let settings = SessionSettings {
        wal_sender_timeout_ms: 2_000,
        ..SessionSettings::default()
    };
    let client = ReplicationClient::connect(&database.dsn(), &settings).unwrap();
    let bounds = StreamSettings {
        queue_bytes_max: 100_000,
        status_interval_ms: 300,
        ..StreamSettings::default()
    };
    let mut stream = client
        .start_stream(database.slot(), "pub", prepared_by.2.consistent_point, bounds)
        .unwrap();
    // More than the queue and both sockets' buffers hold, so that the server too has to wait.
    control
        .execute(
            "INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(1, 60000) i",
            "writing",
        )
        .unwrap();
    let blocked_for = Duration::from_secs(6);
    thread::sleep(blocked_for);
    let mut rows = 0;
    let until = control.current_lsn().unwrap();
    read_until(&mut stream, until, |message| {
        rows += u32::from(matches!(message, Message::Insert(_)))
    });
    assert_eq!(rows, 60_000);
}

#[test]
fn a_large_transaction_does_not_grow_memory() {
    let database = Database::new("large");
    let control = database.control();
    control
        .execute("CREATE TABLE t (id int PRIMARY KEY, v text)", "creating")
        .unwrap();
    let (_, client, created) = database.slot_for(&["t"]);
    control
        .execute(
            "INSERT INTO t SELECT i, repeat('x', 500) FROM generate_series(1, 200000) i",
            "writing",
        )
        .unwrap();
    let bounds = StreamSettings {
        queue_bytes_max: 4 << 20,
        ..StreamSettings::default()
    };
    let mut stream = client
        .start_stream(database.slot(), "pub", created.consistent_point, bounds)
        .unwrap();
    let until = control.current_lsn().unwrap();
    let before = resident_kib();
    let (mut rows, mut peak) = (0, before);
    read_until(&mut stream, until, |message| {
        if let Message::Insert(insert) = message {
            rows += 1;
            assert_eq!(insert.new[1].len(), 500);
            if rows % 10_000 == 0 {
                peak = peak.max(resident_kib());
            }
        }
    });
    assert_eq!(rows, 200_000);
    // 100 MB went through; the other tests of this process share the figure.
    assert!(peak < before + 80 * 1024, "from {before} to {peak} KiB");
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn confirmed(control: &Control, database: &Database) -> Lsn {
    setup::slot_state(control, database.slot())
        .unwrap()
        .unwrap()
        .confirmed_flush
        .unwrap()
}

fn wait_until_confirmed(control: &Control, database: &Database, reached: impl Fn(Lsn) -> bool) -> Lsn {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let lsn = confirmed(control, database);
        if reached(lsn) {
            return lsn;
        }
        assert!(Instant::now() < deadline, "the slot stays at {lsn}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_slot_moves_when_confirmed_and_not_before() {
    let database = Database::new("confirm");
    let control = database.control();
    control
        .execute(
            "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE unrelated (id int)",
            "creating",
        )
        .unwrap();
    let mut stream = database.stream(&["t"]);
    let begin = confirmed(&control, &database);

    control.execute("INSERT INTO t VALUES (1)", "writing").unwrap();
    let end = drain(&mut stream, control.current_lsn().unwrap())
        .iter()
        .find_map(|message| match message {
            Message::Commit(commit) => Some(commit.end_lsn),
            _ => None,
        });
    // Several reports later the slot has not moved, for nothing was confirmed.
    let deadline = Instant::now() + Duration::from_millis(2_500);
    while Instant::now() < deadline {
        assert_eq!(confirmed(&control, &database), begin);
        let _ = stream.next(Duration::from_millis(200)).unwrap();
    }
    let end = end.unwrap();
    stream.confirm(end);
    wait_until_confirmed(&control, &database, |lsn| lsn == end);
    stream.confirm(begin);

    // Other tables write: the position comes as idle, and moves the slot once it is confirmed.
    control
        .execute("INSERT INTO unrelated SELECT generate_series(1, 1000)", "writing")
        .unwrap();
    let target = control.current_lsn().unwrap();
    assert!(
        drain(&mut stream, target)
            .iter()
            .all(|message| !matches!(message, Message::Insert(_)))
    );
    assert_eq!(confirmed(&control, &database), end);
    stream.confirm(target);
    wait_until_confirmed(&control, &database, |lsn| lsn == target);

    // However much is confirmed, what has not been received is not.
    stream.confirm(Lsn(u64::MAX));
    let lsn = wait_until_confirmed(&control, &database, |lsn| lsn >= target);
    assert!(lsn <= control.current_lsn().unwrap());
}

#[test]
fn a_taken_slot_is_waited_for_and_a_dropped_stream_frees_it() {
    let database = Database::new("taken");
    database
        .control()
        .execute("CREATE TABLE t (id int PRIMARY KEY)", "creating")
        .unwrap();
    let stream = database.stream(&["t"]);
    let start = || {
        database
            .client()
            .start_stream(database.slot(), "pub", Lsn(0), StreamSettings::default())
    };
    let failure = start().err().unwrap();
    assert_eq!((failure.class, failure.code), (Class::Transient, "SLOT_ACTIVE"));
    drop(stream);
    let deadline = Instant::now() + Duration::from_secs(5);
    while let Err(failure) = start() {
        assert_eq!(failure.code, "SLOT_ACTIVE");
        assert!(Instant::now() < deadline, "{failure}");
    }
}

#[test]
fn a_stream_ends_when_the_server_ends_it() {
    let database = Database::new("ended");
    let control = database.control();
    control
        .execute("CREATE TABLE t (id int PRIMARY KEY)", "creating")
        .unwrap();
    let mut stream = database.stream(&["t"]);
    let pid = setup::slot_state(&control, database.slot())
        .unwrap()
        .unwrap()
        .active_pid
        .unwrap();
    control
        .rows("SELECT pg_terminate_backend($1)", &[&pid], "ending")
        .unwrap();
    let deadline = Instant::now() + PATIENCE;
    let failure = loop {
        assert!(Instant::now() < deadline);
        if let Err(failure) = stream.next(Duration::from_millis(200)) {
            break failure;
        }
    };
    assert_eq!(failure.class, Class::Transient, "{failure}");
}

#[test]
fn a_slot_cannot_be_made_while_a_transaction_is_open_and_leaves_nothing_behind() {
    let database = Database::new("orphan");
    let control = database.control();
    control
        .execute("CREATE TABLE t (id int PRIMARY KEY)", "creating")
        .unwrap();
    let forgotten = database.control();
    forgotten.execute("BEGIN; INSERT INTO t VALUES (1)", "opening").unwrap();
    let failure = database
        .client()
        .create_slot(database.slot(), Duration::from_millis(500))
        .unwrap_err();
    assert_eq!((failure.class, failure.code), (Class::Transient, "SLOT_WAIT"));
    assert_eq!(setup::slot_state(&control, database.slot()).unwrap(), None);
    forgotten.execute("COMMIT", "closing").unwrap();
    database.client().create_slot(database.slot(), SLOT_WAIT).unwrap();
    let slot = setup::slot_state(&control, database.slot()).unwrap().unwrap();
    assert_eq!(
        (slot.plugin.as_deref(), slot.wal_status.as_deref()),
        (Some("pgoutput"), Some("reserved"))
    );
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

#[test]
fn the_catalogue_describes_what_a_schema_needs() {
    let database = Database::new("catalogue");
    let control = database.control();
    control
        .execute(
            "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN short AS varchar(20) NOT NULL; CREATE DOMAIN shorter AS short;
             CREATE TABLE t (gone int, b int DEFAULT 7, a serial, s shorter, m mood[] DEFAULT '{sad}', n numeric(10,2),
                g int GENERATED ALWAYS AS (b * 2) STORED, i int GENERATED ALWAYS AS IDENTITY, PRIMARY KEY (b, a));
             ALTER TABLE t DROP COLUMN gone;
             CREATE TABLE root (id int PRIMARY KEY) PARTITION BY RANGE (id);
             CREATE TABLE nokey (x int); ALTER TABLE nokey REPLICA IDENTITY FULL",
            "creating",
        )
        .unwrap();
    let names = ["t", "root", "nokey"].map(|name| TableName::new("public", name));
    let tables = catalog::tables(&control, &names).unwrap();
    let t = &tables[0];
    assert_eq!(t.primary_key, ["b", "a"]);
    assert_eq!(t.identity_columns, ["b", "a"]);
    assert_eq!(
        t.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>(),
        ["b", "a", "s", "m", "n", "g", "i"]
    );
    let b = t.column("b").unwrap();
    assert_eq!(
        (b.number, b.default.as_deref(), b.default_is_literal, b.not_null),
        (2, Some("7"), true, true)
    );
    let a = t.column("a").unwrap();
    assert_eq!((a.default.is_some(), a.default_is_literal), (true, false));
    let s = t.column("s").unwrap();
    assert_eq!(
        (s.type_info.name.as_str(), s.type_info.domain.as_deref()),
        ("varchar", Some("public.shorter"))
    );
    assert_eq!((s.type_modifier, s.not_null), (24, true));
    let m = t.column("m").unwrap();
    let TypeKind::Array(element) = &m.type_info.kind else {
        panic!("{m:?}")
    };
    assert_eq!(element.kind, TypeKind::Enum(vec!["sad".to_owned(), "ok".to_owned()]));
    assert!(m.default_is_literal);
    assert_eq!(t.column("n").unwrap().type_modifier, ((10 << 16) | 2) + 4);
    assert!(t.column("g").unwrap().generated && t.column("g").unwrap().default.is_none());
    assert!(t.column("i").unwrap().identity);
    assert!(tables[1].partitioned);
    assert_eq!(
        (tables[2].identity, tables[2].primary_key.len()),
        (ReplicaIdentity::Full, 0)
    );
    let missing = catalog::tables(&control, &[TableName::new("public", "nowhere")]).unwrap_err();
    assert_eq!(missing.code, "TABLE_MISSING");
}

#[test]
fn a_publication_is_made_completed_or_asked_for() {
    let database = Database::new("publication");
    let control = database.control();
    control
        .execute(
            "CREATE TABLE a (id int PRIMARY KEY, secret text); CREATE TABLE b (id int PRIMARY KEY); CREATE TABLE bad (x int);
             CREATE UNLOGGED TABLE u (id int PRIMARY KEY)",
            "creating",
        )
        .unwrap();
    let first = database.prepare(&["a"]);
    let second = database.prepare(&["a", "b"]);
    let names = |prepared: &Prepared| {
        prepared
            .publication
            .tables
            .iter()
            .map(|t| t.name.table.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (names(&first), names(&second)),
        (vec!["a".to_owned()], vec!["a".to_owned(), "b".to_owned()])
    );
    assert_ne!(first.publication.hash(), second.publication.hash());
    assert_eq!(
        database.prepare(&["b", "a"]).publication.hash(),
        second.publication.hash()
    );
    assert_eq!(second.slot, None);

    let prepare = |dsn: &Dsn, publication: &str, table: &str| {
        let tables = vec![TableName::new("public", table)];
        let wanted = Wanted {
            publication: publication.to_owned(),
            slot: database.slot().to_owned(),
            tables,
        };
        setup::prepare(&Control::connect(dsn).unwrap(), &wanted).unwrap_err()
    };
    let failure = prepare(&database.dsn(), "pub", "bad");
    assert_eq!(failure.code, "NO_REPLICA_IDENTITY");
    assert!(failure.hint.unwrap().contains(r#"ALTER TABLE "public"."bad""#));
    assert_eq!(prepare(&database.dsn(), "pub", "u").code, "TABLE_NOT_LOGGED");

    let role = format!("{}_guest", database.name);
    control
        .execute(
            &format!("CREATE ROLE {role} LOGIN; GRANT SELECT ON a TO {role}"),
            "creating",
        )
        .unwrap();
    let mut guest = database.dsn();
    guest.user = role.clone();
    let other = prepare(&guest, "other", "a");
    let unreadable = prepare(&guest, "pub", "b");
    control
        .execute(
            &format!("GRANT SELECT ON bad TO {role}; ALTER TABLE bad REPLICA IDENTITY FULL"),
            "granting",
        )
        .unwrap();
    let incomplete = prepare(&guest, "pub", "bad");
    control
        .execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}"), "cleaning up")
        .unwrap();
    assert_eq!(other.code, "PUBLICATION_MISSING");
    assert!(
        other
            .hint
            .unwrap()
            .contains(r#"CREATE PUBLICATION "other" FOR TABLE ONLY "public"."a";"#)
    );
    assert_eq!(
        (unreadable.code, unreadable.hint.unwrap()),
        (
            "SOURCE_PERMISSION",
            format!(r#"GRANT SELECT ON "public"."b" TO "{role}""#)
        )
    );
    assert_eq!(incomplete.code, "PUBLICATION_MISSING");
    assert!(
        incomplete
            .hint
            .unwrap()
            .contains(r#"ALTER PUBLICATION "pub" ADD TABLE ONLY "public"."bad";"#)
    );
}

#[test]
fn odd_names_are_quoted_everywhere() {
    let database = Database::new("odd");
    let control = database.control();
    let table = r#"Odd "t'; DROP--"#;
    control
        .execute(r#"CREATE TABLE "Odd ""t'; DROP--" ("sel""ect" int PRIMARY KEY, "from" text); INSERT INTO "Odd ""t'; DROP--" VALUES (1, 'x')"#, "creating")
        .unwrap();
    let publication = r#"P "u' b"#;
    let wanted = Wanted {
        publication: publication.to_owned(),
        slot: database.slot().to_owned(),
        tables: vec![TableName::new("public", table)],
    };
    let prepared = setup::prepare(&control, &wanted).unwrap();
    let mut client = database.client();
    let created = client.create_slot(database.slot(), SLOT_WAIT).unwrap();
    let snapshot = Snapshot::exported(&database.dsn(), &created.snapshot, created.consistent_point).unwrap();
    let rows = rows_of(&snapshot, &prepared.tables[0], &["from", "sel\"ect"], 1);
    assert_eq!(texts(&rows[0]), some(&["x", "1"]));
    drop(snapshot);
    let mut stream = client
        .start_stream(
            database.slot(),
            publication,
            created.consistent_point,
            StreamSettings::default(),
        )
        .unwrap();
    control
        .execute(r#"DELETE FROM "Odd ""t'; DROP--""#, "deleting")
        .unwrap();
    let messages = drain(&mut stream, control.current_lsn().unwrap());
    assert!(
        messages
            .iter()
            .any(|message| matches!(message, Message::Relation(relation) if relation.table == table))
    );
}

#[test]
fn the_server_says_who_it_is() {
    let database = Database::new("identity");
    let mut client = database.client();
    let identity = client.identify_system().unwrap();
    assert!(identity.system_identifier > 0 && identity.timeline >= 1 && identity.lsn > Lsn(0));
    assert_eq!(identity.dbname, database.name);
    assert_eq!(client.server_version(), database.control().server_version());
}
