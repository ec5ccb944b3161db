//! Capture as a process, on a real PostgreSQL, a real Kafka and a real registry (`deploy/stack.sh up`; PG_DSN,
//! BOOTSTRAP, REGISTRY say where). Judged by what a reader of committed records finds in the topics.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says what it expects")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use syncline_bus::{BusConfig, InRecord, PartitionReader, Producer, Registry, admin};
use syncline_capture::postgres::control::Control;
use syncline_capture::postgres::dsn::Dsn;
use syncline_schemas::codec::{ParsedSchema, Wire, frame_id};
use syncline_schemas::envelope::{self, ChangeEvent, Op, POSITION_HEADER};
use syncline_schemas::lens::Cell;
use syncline_schemas::position::Position;
use syncline_schemas::progress::MarkRecord;
use syncline_schemas::topic;
use syncline_schemas::value::Value;

/// How long a run of capture may take on a machine that does much else.
const RUN_S_MAX: u64 = 180;

fn setting(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: deploy/stack.sh up; eval \"$(deploy/stack.sh env)\""))
}

/// A database of its own and the pipeline that captures it.
struct App {
    name: String,
    control: Control,
    dsn: String,
    directory: tempfile::TempDir,
    registry: Registry,
}

impl App {
    fn new(tables: &str, delivery: &str, sql: &str) -> Self {
        let name = format!("cap_{}", &uuid::Uuid::new_v4().simple().to_string()[..10]);
        let server = setting("PG_DSN");
        let administration = Control::connect(&Dsn::parse(&format!("{server}/postgres")).unwrap()).unwrap();
        administration
            .execute(&format!("CREATE DATABASE {name}"), "creating the database")
            .unwrap();
        let dsn = format!("{server}/{name}");
        let control = Control::connect(&Dsn::parse(&dsn).unwrap()).unwrap();
        control.execute(sql, "filling the database").unwrap();
        let directory = tempfile::tempdir().unwrap();
        let pipeline = format!(
            "pipeline: {name}\n\
             defaults: {{ kafka: \"{}\", registry: \"{}\", partitions: 2, delivery: {delivery} }}\n\
             systems:\n\
             \x20 {name}: {{ postgres: \"{dsn}\", tables: [{tables}] }}\n\
             \x20 copy: {{ postgres: \"{server}/postgres\" }}\n\
             replica: {{ from: {name}, to: copy }}\n",
            setting("BOOTSTRAP"),
            setting("REGISTRY"),
        );
        std::fs::write(directory.path().join("pipeline.yaml"), pipeline).unwrap();
        let registry = Registry::new(setting("REGISTRY"));
        Self {
            name,
            control,
            dsn,
            directory,
            registry,
        }
    }

    fn sql(&self, sql: &str) {
        self.control.execute(sql, "changing the app").unwrap();
    }

    fn command(&self, arguments: &[&str], failpoints: &str) -> Command {
        let pipeline: PathBuf = self.directory.path().join("pipeline.yaml");
        let mut command = Command::new(env!("CARGO_BIN_EXE_syncline-capture"));
        command
            .arg("--pipeline")
            .arg(pipeline)
            .args(["--source", &self.name])
            .args(arguments);
        command.env("SYNCLINE_FAILPOINTS", failpoints).env("RUST_LOG", "info");
        command
    }

    /// Starts capture as a service.
    fn start(&self, log: Stdio) -> Running {
        Running(self.command(&[], "").stderr(log).spawn().unwrap())
    }

    /// Runs capture until it ends.
    fn run(&self, arguments: &[&str], failpoints: &str) -> Output {
        let mut command = self.command(arguments, failpoints);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        let id = child.id();
        let ended = std::thread::spawn(move || child.wait_with_output().unwrap());
        let deadline = Instant::now() + Duration::from_secs(RUN_S_MAX);
        while !ended.is_finished() {
            if Instant::now() > deadline {
                let _ = Command::new("kill").args(["-9", &id.to_string()]).status();
                panic!("capture did not end: {}", log(&ended.join().unwrap()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        ended.join().unwrap()
    }

    /// Runs capture until everything that is there now is in Kafka.
    fn catch_up(&self) {
        let output = self.run(&["--until-current"], "");
        assert!(output.status.success(), "{}", log(&output));
    }

    fn bus(&self) -> BusConfig {
        BusConfig::new(setting("BOOTSTRAP"), "capture-test")
    }

    fn raw(&self, topic: &str) -> Vec<InRecord> {
        let mut records = Vec::new();
        for partition in admin::end_offsets(&self.bus(), topic).unwrap().into_keys() {
            let mut reader = PartitionReader::open(&self.bus(), topic, partition, 0).unwrap();
            while !reader.at_end() {
                records.extend(reader.next(Duration::from_millis(200)).unwrap());
            }
        }
        records
    }

    fn schema(&self, id: u32) -> ParsedSchema {
        ParsedSchema::parse(&self.registry.schema(id).unwrap()).unwrap()
    }

    /// The changes of a table by key, in their order.
    fn changes(&self, table: &str) -> BTreeMap<Value, Vec<Change>> {
        let mut changes: BTreeMap<Value, Vec<Change>> = BTreeMap::new();
        let mut schemas: BTreeMap<u32, ParsedSchema> = BTreeMap::new();
        for record in self.raw(&topic::capture(&self.name, "public", table)) {
            let mut schema = |bytes: &[u8]| {
                let id = frame_id(bytes).unwrap().0;
                schemas.entry(id).or_insert_with(|| self.schema(id)).clone()
            };
            let key = record.key.as_deref().map_or(Value::Null, |key| {
                let row = envelope::decode_key(&schema(key), frame_id(key).unwrap().1).unwrap();
                match row.into_values().next() {
                    Some(Cell::Set(value)) => value,
                    other => panic!("no key: {other:?}"),
                }
            });
            let event = record.value.as_deref().map(|value| {
                envelope::decode(&schema(value), frame_id(value).unwrap().1)
                    .unwrap()
                    .unwrap()
            });
            let header = |name: &str| {
                record
                    .header(name)
                    .map(|value| String::from_utf8(value.to_vec()).unwrap())
            };
            let position = header(POSITION_HEADER).unwrap().parse().unwrap();
            let names = record.headers.iter().map(|(name, _)| name.clone()).collect();
            changes.entry(key).or_default().push(Change {
                event,
                position,
                names,
                mark: header("syncline.mark"),
            });
        }
        changes
    }
}

/// A capture that runs until it is told otherwise; it does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Slot and database go; topics stay with the broker, which is a test's own.
impl Drop for App {
    fn drop(&mut self) {
        let slot = format!("syncline_{0}_{0}", self.name);
        let drop_slot =
            format!("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{slot}'");
        let _ = self.control.rows(&drop_slot, &[], "dropping the slot");
        let administration =
            Dsn::parse(&format!("{}/postgres", setting("PG_DSN"))).and_then(|dsn| Control::connect(&dsn));
        if let Ok(administration) = administration {
            let _ = administration.execute(
                &format!("DROP DATABASE {} WITH (FORCE)", self.name),
                "dropping the database",
            );
        }
    }
}

#[derive(Clone, Debug)]
struct Change {
    event: Option<ChangeEvent>,
    position: Position,
    names: Vec<String>,
    mark: Option<String>,
}

impl Change {
    fn op(&self) -> Option<Op> {
        self.event.as_ref().map(|event| event.op)
    }

    fn after(&self, column: &str) -> Cell {
        self.event.as_ref().unwrap().after.as_ref().unwrap()[column].clone()
    }
}

fn log(output: &Output) -> String {
    format!("{}\n{}", output.status, String::from_utf8_lossy(&output.stderr))
}

fn ops(changes: &[Change]) -> Vec<Option<Op>> {
    changes.iter().map(Change::op).collect()
}

fn set(value: impl Into<Value>) -> Cell {
    Cell::Set(value.into())
}

const TABLES: &str = "
    CREATE TABLE a (id int PRIMARY KEY, v text, n numeric(10,2));
    CREATE TABLE whole (id int PRIMARY KEY, v text, big text); ALTER TABLE whole REPLICA IDENTITY FULL;
    ALTER TABLE whole ALTER big SET STORAGE EXTERNAL;
    CREATE TABLE large (id int PRIMARY KEY, small int, big text); ALTER TABLE large ALTER big SET STORAGE EXTERNAL;
    INSERT INTO a VALUES (1, 'one', 1.5), (2, 'two', NULL);
    INSERT INTO whole VALUES (1, 'one', repeat('abcdefgh', 2000));
    INSERT INTO large VALUES (1, 1, repeat('abcdefgh', 2000));";

#[test]
fn snapshot_then_stream_then_restart_without_repeats() {
    let app = App::new("public.a, public.whole, public.large", "exactly_once", TABLES);
    app.catch_up();
    app.sql("INSERT INTO a VALUES (3, 'three', 3); UPDATE a SET v = 'zwei' WHERE id = 2");
    app.sql("UPDATE a SET id = 4 WHERE id = 3");
    app.sql("DELETE FROM a WHERE id = 1");
    app.sql("UPDATE large SET small = 2");
    app.sql("UPDATE whole SET v = 'eins'");
    app.sql("BEGIN; INSERT INTO a VALUES (99, 'never', 0); ROLLBACK");
    app.catch_up();
    app.catch_up();

    let a = app.changes("a");
    let [one, two, three, four] = [1, 2, 3, 4].map(|id| a[&Value::from(id)].clone());
    assert_eq!(ops(&one), [Some(Op::Read), Some(Op::Delete), None]);
    assert_eq!(ops(&two), [Some(Op::Read), Some(Op::Update)]);
    assert_eq!(ops(&three), [Some(Op::Create), Some(Op::Delete), None]);
    assert_eq!(ops(&four), [Some(Op::Create)]);
    assert_eq!(a.len(), 4);
    assert_eq!(two[1].after("v"), set("zwei"));
    assert_eq!(three[1].names[0], "__debezium.newkey");
    assert_eq!(three[2].names[0], "__debezium.newkey");
    let context =
        ["connectorLogicalName", "taskId", "connectorName", "runId"].map(|name| format!("__debezium.context.{name}"));
    assert_eq!(four[0].names[0], "__debezium.oldkey");
    assert_eq!(four[0].names[1..5], context);
    assert_eq!(four[0].names[5], POSITION_HEADER);
    assert!(one.iter().all(|change| change.position.epoch == 1) && one[0].position < one[1].position);
    assert!(three[1].position < four[0].position && three[1].position.lsn == four[0].position.lsn);

    let large = &app.changes("large")[&Value::from(1)];
    assert_eq!(
        (large[1].after("small"), large[1].after("big")),
        (set(2), Cell::Unchanged)
    );
    let whole = &app.changes("whole")[&Value::from(1)];
    let before = whole[1].event.as_ref().unwrap().before.as_ref().unwrap();
    assert_eq!((before["v"].clone(), whole[1].after("v")), (set("one"), set("eins")));
    assert_eq!(whole[1].after("big"), set("abcdefgh".repeat(2000).as_str()));

    let loaded: Vec<String> = app
        .raw(&topic::marks(&app.name))
        .iter()
        .filter_map(|record| {
            let (id, datum) = frame_id(record.value.as_deref().unwrap()).unwrap();
            match MarkRecord::decode(&app.schema(id), datum).unwrap() {
                MarkRecord::Loaded { table, .. } => Some(table),
                MarkRecord::Placed(_) => None,
            }
        })
        .collect();
    assert_eq!(loaded.len(), 3, "{loaded:?}");
}

#[test]
fn changes_of_shape_make_new_schema_versions_in_the_order_of_the_log() {
    let app = App::new("public.a", "exactly_once", TABLES);
    app.catch_up();
    app.sql("INSERT INTO a VALUES (3, 'three', 3)");
    app.sql("ALTER TABLE a ADD COLUMN extra int; INSERT INTO a VALUES (4, 'four', 4, 44)");
    app.sql("ALTER TABLE a DROP COLUMN n; INSERT INTO a VALUES (5, 'five', 55)");
    app.catch_up();
    let a = app.changes("a");
    let columns = |id: i64| {
        let after = a[&Value::from(id)][0].event.as_ref().unwrap().after.clone().unwrap();
        after.into_keys().collect::<Vec<_>>()
    };
    assert_eq!(columns(3), ["id", "n", "v"]);
    assert_eq!(columns(4), ["extra", "id", "n", "v"]);
    assert_eq!(columns(5), ["extra", "id", "v"]);
}

#[test]
fn a_slot_that_skipped_something_is_refused_until_a_person_decides() {
    let app = App::new("public.a", "exactly_once", TABLES);
    app.catch_up();
    app.sql("INSERT INTO a VALUES (3, 'lost to the log', 3)");
    let slot = format!("syncline_{0}_{0}", app.name);
    app.sql(&format!(
        "SELECT pg_replication_slot_advance('{slot}', pg_current_wal_lsn())"
    ));
    let refused = app.run(&["--until-current"], "");
    let said = log(&refused);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(
        ["SLOT_AHEAD", "--resnapshot", "stands at", "only up to"]
            .iter()
            .all(|part| said.contains(part)),
        "{said}"
    );

    let again = app.run(&["--until-current", "--resnapshot"], "");
    assert!(again.status.success(), "{}", log(&again));
    let three = &app.changes("a")[&Value::from(3)];
    assert_eq!((ops(three), three[0].position.epoch), (vec![Some(Op::Read)], 2));

    app.sql(&format!("SELECT pg_drop_replication_slot('{slot}')"));
    let refused = app.run(&["--until-current"], "");
    assert!(
        refused.status.code() == Some(1) && log(&refused).contains("SLOT_GONE"),
        "{}",
        log(&refused)
    );
}

#[test]
fn a_slot_of_unknown_past_is_refused_or_adopted() {
    let app = App::new("public.a", "exactly_once", TABLES);
    let slot = format!("syncline_{0}_{0}", app.name);
    app.sql(&format!(
        "SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"
    ));
    let refused = app.run(&["--until-current"], "");
    assert!(
        refused.status.code() == Some(1) && log(&refused).contains("SLOT_UNKNOWN"),
        "{}",
        log(&refused)
    );
    app.sql("INSERT INTO a VALUES (3, 'three', 3)");
    let adopted = app.run(&["--until-current", "--adopt-slot"], "");
    // Made before the publication, the slot cannot be read from its start: that is for the person to know. What
    // matters here is that no snapshot was taken.
    let said = log(&adopted);
    assert!(!said.contains("slot made") && !said.contains("SLOT_UNKNOWN"), "{said}");
}

#[test]
fn marks_come_with_their_rows() {
    let app = App::new("public.a", "exactly_once", TABLES);
    app.catch_up();
    let mark = |row: &str, act: &str| {
        format!(
            "SELECT pg_logical_emit_message(true, 'syncline', '{{\"pipeline\":\"p\",\"entity\":\"e\",\"cid\":\"c\",\
             \"table\":\"public.a\",\"row\":{row},\"act\":\"{act}\",\"vector\":[],\"stamp_us\":1,\"fields\":[]}}')"
        )
    };
    let update = mark("\"{\\\"id\\\":2}\"", "update");
    let seen = mark("\"{\\\"id\\\":1}\"", "seen");
    let insert = mark("null", "insert");
    app.sql(&format!("BEGIN; {update}; {seen}; {insert}; UPDATE a SET v = 'ours' WHERE id = 2; INSERT INTO a VALUES (7, 'ours', 1); COMMIT"));
    app.sql("UPDATE a SET v = 'theirs' WHERE id = 2");
    app.catch_up();
    let a = app.changes("a");
    let marked = |id: i64| {
        a[&Value::from(id)]
            .iter()
            .map(|change| change.mark.is_some())
            .collect::<Vec<_>>()
    };
    assert_eq!(marked(2), [false, true, false]);
    assert_eq!(marked(7), [true]);
    let placed = app
        .raw(&topic::marks(&app.name))
        .iter()
        .filter(|record| record.key.as_deref() == Some(b"c"))
        .count();
    assert_eq!(placed, 1);
}

/// Every key of `a` has the versions 1, 2, 3 .. in this order, each once.
fn check_versions(app: &App, rounds: i64, keys: i64) {
    let a = app.changes("a");
    for key in 1..=keys {
        let versions: Vec<Cell> = a[&Value::from(1000 + key)]
            .iter()
            .map(|change| change.after("n"))
            .collect();
        let expected: Vec<Cell> = (1..=rounds).map(set).collect();
        assert_eq!(versions, expected, "key {key}");
    }
    let positions: Vec<Position> = a.values().flatten().map(|change| change.position).collect();
    let distinct: std::collections::BTreeSet<&Position> = positions.iter().collect();
    assert_eq!(distinct.len(), positions.len(), "positions are unique");
}

const KEYS: i64 = 5;

fn round(app: &App, number: i64) {
    if number == 1 {
        app.sql(&format!(
            "INSERT INTO a SELECT 1000 + i, 'x', 1 FROM generate_series(1, {KEYS}) i"
        ));
    } else {
        app.sql("BEGIN; UPDATE a SET n = n + 1 WHERE id > 1000; COMMIT");
    }
}

#[test]
fn killed_at_each_point_each_change_is_in_kafka_once() {
    let app = App::new("public.a", "exactly_once", TABLES);
    app.catch_up();
    let points = [
        "capture.in_init=kill@1",
        "capture.reading_progress=kill@1",
        "capture.after_begin=kill@1",
        "capture.mid_produce=kill@3",
        "capture.after_progress=kill@1",
        "capture.before_commit=kill@1",
        "capture.after_commit=kill@1",
        "capture.after_confirm=kill@1",
        "capture.at_shutdown=kill@1",
        "capture.mid_produce=error@2",
        "capture.before_commit=error@1",
    ];
    let mut number = 0;
    for point in points {
        number += 1;
        round(&app, number);
        let output = app.run(&["--until-current"], point);
        assert!(
            output.status.success() == point.contains("=error"),
            "{point}: {}",
            log(&output)
        );
    }
    app.catch_up();
    check_versions(&app, number, KEYS);
}

#[test]
fn a_snapshot_that_is_killed_goes_on_after_its_last_chunk() {
    let sql = "CREATE TABLE a (id int PRIMARY KEY, v text, n numeric(10,2));
               INSERT INTO a SELECT i, 'v', 1 FROM generate_series(1, 50000) i";
    let app = App::new("public.a", "exactly_once", sql);
    for point in [
        "capture.in_snapshot_chunk=kill@10",
        "capture.in_snapshot_chunk=kill@30000",
        "capture.after_commit=kill@1",
    ] {
        let output = app.run(&["--until-current"], point);
        assert!(!output.status.success(), "{point}: {}", log(&output));
        // Between the attempts the app works on.
        app.sql("UPDATE a SET n = n + 1 WHERE id = 1");
    }
    app.catch_up();
    let a = app.changes("a");
    assert_eq!(a.len(), 50_000);
    let read = |changes: &Vec<Change>| changes.iter().filter(|change| change.op() == Some(Op::Read)).count();
    let wrong: Vec<_> = a
        .iter()
        .filter(|(_, changes)| read(changes) != 1)
        .map(|(key, _)| key)
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    let newest = a[&Value::from(1)].iter().max_by_key(|change| change.position).unwrap();
    assert_eq!(newest.after("n"), set(4));
}

#[test]
fn a_transaction_larger_than_a_batch_is_cut_and_still_once() {
    let app = App::new("public.a", "exactly_once", TABLES);
    app.catch_up();
    app.sql("INSERT INTO a SELECT 1000 + i, 'x', 1 FROM generate_series(1, 250000) i");
    let output = app.run(&["--until-current"], "capture.mid_produce=kill@150000");
    assert!(!output.status.success(), "{}", log(&output));
    app.catch_up();
    check_versions(&app, 1, 250_000);
}

#[test]
fn at_least_once_loses_nothing() {
    let app = App::new("public.a", "at_least_once", TABLES);
    app.catch_up();
    for (number, point) in [(1, "capture.mid_produce=kill@3"), (2, "capture.after_progress=kill@1")] {
        round(&app, number);
        let output = app.run(&["--until-current"], point);
        assert!(!output.status.success(), "{}", log(&output));
    }
    app.catch_up();
    let a = app.changes("a");
    for key in 1..=KEYS {
        let mut versions: Vec<Cell> = a[&Value::from(1000 + key)]
            .iter()
            .map(|change| change.after("n"))
            .collect();
        versions.dedup();
        assert!(versions.ends_with(&[set(1), set(2)]), "{versions:?}");
    }
}

#[test]
fn of_two_captures_one_works_and_the_other_waits() {
    let app = App::new("public.a", "exactly_once", TABLES);
    app.catch_up();
    let first = app.start(Stdio::null());
    app.sql("INSERT INTO a VALUES (1001, 'x', 1)");
    wait_until("the first streams", || {
        app.changes("a").contains_key(&Value::from(1001))
    });
    let mut second = app.start(Stdio::null());
    app.sql("INSERT INTO a VALUES (1002, 'x', 1)");
    wait_until("it still does", || app.changes("a").contains_key(&Value::from(1002)));
    drop(first);
    app.sql("INSERT INTO a VALUES (1003, 'x', 1)");
    wait_until("the second takes over", || {
        app.changes("a").contains_key(&Value::from(1003))
    });
    assert!(second.0.try_wait().unwrap().is_none());
    assert!(
        Command::new("kill")
            .arg(second.0.id().to_string())
            .status()
            .unwrap()
            .success()
    );
    assert!(second.0.wait().unwrap().success());
    assert!(app.changes("a").values().all(|changes| changes.len() == 1));
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(RUN_S_MAX);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within {RUN_S_MAX} s");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn an_idle_source_moves_its_slot_after_kafka_knows() {
    let app = App::new("public.a", "exactly_once", TABLES);
    app.catch_up();
    app.sql("CREATE TABLE other (id int); INSERT INTO other SELECT generate_series(1, 10000)");
    app.catch_up();
    let row = app.control.one(
        &format!(
            "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = 'syncline_{0}_{0}'",
            app.name
        ),
        &[],
        "reading the slot",
    );
    let confirmed: syncline_schemas::position::Lsn = row.unwrap().get::<_, String>(0).parse().unwrap();
    let progress = app.raw(&topic::progress(&app.name));
    let (id, datum) = frame_id(progress.last().unwrap().value.as_deref().unwrap()).unwrap();
    let progress = syncline_schemas::progress::Progress::decode(&app.schema(id), datum).unwrap();
    assert!(confirmed <= progress.position.lsn, "{confirmed} {}", progress.position);
    assert!(app.dsn.contains(&app.name));
}

#[test]
fn a_table_that_is_added_later_is_read_and_the_others_go_on() {
    let app = App::new("public.a", "exactly_once", TABLES);
    app.catch_up();
    app.sql("UPDATE a SET v = 'meanwhile' WHERE id = 1; UPDATE whole SET v = 'before it is published'");
    let file = app.directory.path().join("pipeline.yaml");
    let pipeline = std::fs::read_to_string(&file)
        .unwrap()
        .replace("[public.a]", "[public.a, public.whole]");
    std::fs::write(&file, pipeline).unwrap();
    app.catch_up();
    app.sql("UPDATE whole SET v = 'after'");
    app.catch_up();
    let whole = &app.changes("whole")[&Value::from(1)];
    assert_eq!(ops(whole), [Some(Op::Read), Some(Op::Update)]);
    assert_eq!(whole[0].after("v"), set("before it is published"));
    assert!(whole[0].position < whole[1].position);
    assert_eq!(
        ops(&app.changes("a")[&Value::from(1)]),
        [Some(Op::Read), Some(Op::Update)]
    );
}

#[test]
fn f13_who_is_fenced_goes_on_from_kafka_and_a_second_writer_is_named() {
    let app = App::new("public.a", "exactly_once", TABLES);
    app.catch_up();
    let errors = app.directory.path().join("log");
    let log_file = std::fs::File::create(&errors).unwrap();
    let mut capture = app.start(log_file.into());
    app.sql("INSERT INTO a VALUES (1000, 'x', 1)");
    wait_until("it streams", || app.changes("a").contains_key(&Value::from(1000)));
    for number in 1..=3 {
        let id = format!("syncline-capture-{0}-syncline_{0}_{0}", app.name);
        let thief = Producer::transactional(&app.bus(), &id).unwrap();
        app.sql(&format!("INSERT INTO a VALUES ({}, 'x', 1)", 1000 + number));
        if number < 3 {
            wait_until("it goes on", || {
                app.changes("a").contains_key(&Value::from(1000 + number))
            });
        }
        drop(thief);
    }
    wait_until("it stops", || capture.0.try_wait().unwrap().is_some());
    let said = std::fs::read_to_string(errors).unwrap();
    assert_eq!(capture.0.wait().unwrap().code(), Some(1), "{said}");
    assert!(
        said.contains("FENCED") && said.contains("syncline-capture-cap_"),
        "{said}"
    );
    app.catch_up();
    let a = app.changes("a");
    assert!((1001..=1003).all(|id| a[&Value::from(id)].len() == 1), "each once");
}

#[test]
fn unknown_types_are_text_and_a_row_that_does_not_fit_stops_the_source_by_name() {
    let sql = "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TYPE pair AS (a int, b text);
               CREATE TABLE odd (id int PRIMARY KEY, at pg_lsn, two pair, moods mood[]);
               INSERT INTO odd VALUES (1, '16/B374D848', '(1,x)', '{sad,ok}')";
    let app = App::new("public.odd", "exactly_once", sql);
    let output = app.run(&["--until-current"], "");
    let said = log(&output);
    assert!(
        output.status.success() && said.matches("written as text").count() == 2,
        "{said}"
    );
    let odd = &app.changes("odd")[&Value::from(1)];
    assert_eq!(
        (odd[0].after("at"), odd[0].after("two")),
        (set("16/B374D848"), set("(1,x)"))
    );
    app.sql("INSERT INTO odd VALUES (2, NULL, '(2,canary)', '{sad,NULL}')");
    let output = app.run(&["--until-current"], "");
    let said = log(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("UNENCODABLE_ROW") && said.contains("public.odd") && said.contains("moods"),
        "{said}"
    );
    assert!(!said.contains("canary"), "{said}");
}

#[test]
fn a_truncate_of_a_replicated_table_is_a_record() {
    let app = App::new("public.a", "exactly_once", TABLES);
    app.catch_up();
    app.sql("TRUNCATE a; INSERT INTO a VALUES (5, 'after', 5)");
    app.catch_up();
    let a = app.changes("a");
    assert_eq!(ops(&a[&Value::Null]), [Some(Op::Truncate)]);
    assert!(a[&Value::Null][0].position < a[&Value::from(5)][0].position);
}

/// Kills of a capture that runs under load.
const KILLS: u32 = 12;

#[test]
fn killed_at_random_moments_under_load_each_change_is_in_kafka_once() {
    let app = App::new("public.a", "exactly_once", TABLES);
    app.catch_up();
    round(&app, 1);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let rounds = std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let control = Control::connect(&Dsn::parse(&app.dsn).unwrap()).unwrap();
            let mut rounds = 1;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                control
                    .execute("UPDATE a SET n = n + 1 WHERE id > 1000", "the load")
                    .unwrap();
                rounds += 1;
                std::thread::sleep(Duration::from_millis(2));
            }
            rounds
        });
        for _ in 0..KILLS {
            let random = u64::from(uuid::Uuid::new_v4().as_bytes()[0]);
            let capture = app.start(Stdio::null());
            std::thread::sleep(Duration::from_millis(300 + random * 6));
            drop(capture);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        load.join().unwrap()
    });
    app.catch_up();
    check_versions(&app, rounds, KEYS);
}
