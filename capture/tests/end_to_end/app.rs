//! An app of its own for each test: a database, the pipeline that captures it, and what a reader of committed records finds.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use syncline_bus::{BusConfig, InRecord, PartitionReader, Registry, admin};
use syncline_capture::postgres::control::Control;
use syncline_capture::postgres::dsn::Dsn;
use syncline_schemas::codec::{ParsedSchema, frame_id};
use syncline_schemas::envelope::{self, ChangeEvent, Op, POSITION_HEADER};
use syncline_schemas::lens::Cell;
use syncline_schemas::position::Position;
use syncline_schemas::topic;
use syncline_schemas::value::Value;

/// How long a run of capture may take on a machine that does much else.
pub const RUN_S_MAX: u64 = 180;

fn setting(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: deploy/stack.sh up; eval \"$(deploy/stack.sh env)\""))
}

/// A database of its own and the pipeline that captures it.
pub struct App {
    pub name: String,
    pub control: Control,
    pub dsn: String,
    pub directory: tempfile::TempDir,
    pub registry: Registry,
}

impl App {
    pub fn new(tables: &str, delivery: &str, sql: &str) -> Self {
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

    pub fn sql(&self, sql: &str) {
        self.control.execute(sql, "changing the app").unwrap();
    }

    pub fn command(&self, arguments: &[&str], failpoints: &str) -> Command {
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
    pub fn start(&self, log: Stdio) -> Running {
        Running(self.command(&[], "").stderr(log).spawn().unwrap())
    }

    /// Runs capture until it ends.
    pub fn run(&self, arguments: &[&str], failpoints: &str) -> Output {
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
    pub fn catch_up(&self) {
        let output = self.run(&["--until-current"], "");
        assert!(output.status.success(), "{}", log(&output));
    }

    pub fn bus(&self) -> BusConfig {
        BusConfig::new(setting("BOOTSTRAP"), "capture-test")
    }

    pub fn raw(&self, topic: &str) -> Vec<InRecord> {
        let mut records = Vec::new();
        for partition in admin::end_offsets(&self.bus(), topic).unwrap().into_keys() {
            let mut reader = PartitionReader::open(&self.bus(), topic, partition, 0).unwrap();
            while !reader.at_end() {
                records.extend(reader.next(Duration::from_millis(200)).unwrap());
            }
        }
        records
    }

    pub fn schema(&self, id: u32) -> ParsedSchema {
        ParsedSchema::parse(&self.registry.schema(id).unwrap()).unwrap()
    }

    /// The changes of a table by key, in their order.
    pub fn changes(&self, table: &str) -> BTreeMap<Value, Vec<Change>> {
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
pub struct Running(pub Child);

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
pub struct Change {
    pub event: Option<ChangeEvent>,
    pub position: Position,
    pub names: Vec<String>,
    pub mark: Option<String>,
}

impl Change {
    pub fn op(&self) -> Option<Op> {
        self.event.as_ref().map(|event| event.op)
    }

    pub fn after(&self, column: &str) -> Cell {
        self.event.as_ref().unwrap().after.as_ref().unwrap()[column].clone()
    }
}

pub fn log(output: &Output) -> String {
    format!("{}\n{}", output.status, String::from_utf8_lossy(&output.stderr))
}

pub fn ops(changes: &[Change]) -> Vec<Option<Op>> {
    changes.iter().map(Change::op).collect()
}

pub fn set(value: impl Into<Value>) -> Cell {
    Cell::Set(value.into())
}

pub const TABLES: &str = "
    CREATE TABLE a (id int PRIMARY KEY, v text, n numeric(10,2));
    CREATE TABLE whole (id int PRIMARY KEY, v text, big text); ALTER TABLE whole REPLICA IDENTITY FULL;
    ALTER TABLE whole ALTER big SET STORAGE EXTERNAL;
    CREATE TABLE large (id int PRIMARY KEY, small int, big text); ALTER TABLE large ALTER big SET STORAGE EXTERNAL;
    INSERT INTO a VALUES (1, 'one', 1.5), (2, 'two', NULL);
    INSERT INTO whole VALUES (1, 'one', repeat('abcdefgh', 2000));
    INSERT INTO large VALUES (1, 1, repeat('abcdefgh', 2000));";

pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(RUN_S_MAX);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within {RUN_S_MAX} s");
        std::thread::sleep(Duration::from_millis(100));
    }
}
