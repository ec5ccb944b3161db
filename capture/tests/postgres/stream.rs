//! The stream: what arrives, what is confirmed, what is held in memory meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant};

use syncline_capture::postgres::client::ReplicationClient;
use syncline_capture::postgres::control::Control;
use syncline_capture::postgres::pgoutput::{Message, OldTuple, ReplicaIdentity, TupleCell};
use syncline_capture::postgres::session::SessionSettings;
use syncline_capture::postgres::setup;
use syncline_capture::postgres::stream::StreamSettings;
use syncline_capture::source::Source;
use syncline_runtime::failure::Class;
use syncline_schemas::position::Lsn;

use crate::database::{Database, PATIENCE, drain, read_until, some, text, texts};

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
