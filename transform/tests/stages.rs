//! Both stages as processes, on a real broker: instances share the work, die and come back, and what they agree on is what
//! one instance alone would have agreed on.
//!
//! Needs `BOOTSTRAP` and `REGISTRY`: `tests/run.sh`, or `eval "$(deploy/stack.sh env)"` before.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use syncline_bus::admin::{self, TopicSpec};
use syncline_bus::{BusConfig, OutRecord, PartitionReader, Producer, Registry};
use syncline_schemas::canonical::Canonical;
use syncline_schemas::codec::{CanonicalCodec, ParsedSchema, frame, frame_id};
use syncline_schemas::value::Value;

const PATIENCE: Duration = Duration::from_secs(120);
const ENTITIES: i64 = 100;
const INPUT_PARTITIONS: i32 = 3;

const THING: &str = r#"{"type":"record","name":"Thing","fields":[
    {"name":"code","type":["null","long"],"default":null},{"name":"label","type":["null","string"],"default":null}]}"#;

const ENVELOPE: &str = r#"{"type":"record","name":"Envelope","namespace":"t","fields":[
    {"name":"after","type":["null",{"type":"record","name":"Value","fields":[
        {"name":"id","type":"long"},{"name":"code","type":"long"},{"name":"label","type":"string"}]}]},
    {"name":"source","type":{"type":"record","name":"Source","fields":[
        {"name":"lsn","type":"long"},{"name":"ts_us","type":"long"}]}},
    {"name":"op","type":"string"}]}"#;

const PIPELINE: &str = r#"
pipeline: NAME
defaults: { kafka: "${env:BOOTSTRAP}", registry: "${env:REGISTRY}", partitions: 2 }
systems:
  shop: { capture: debezium, topic_prefix: NAME_shop }
  crm: { capture: debezium, topic_prefix: NAME_crm }
entities:
  thing:
    schema: thing.avsc@1
    fields: { code: { on_conflict: latest }, label: { on_conflict: latest } }
    match:
      - same: [code]
links:
  shop.things -> thing: { key: id, code: code, label: label }
  crm.things -> thing: { key: id, code: code, label: label }
"#;

fn required(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: eval \"$(deploy/stack.sh env)\" before"))
}

/// A pipeline with topics of its own, gone at the end.
struct World {
    name: String,
    directory: tempfile::TempDir,
    bus: BusConfig,
    registry: Registry,
    producer: Producer,
    lsn: i64,
}

impl World {
    fn new() -> Self {
        let name = format!(
            "stages{}",
            SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()
        );
        let bus = BusConfig::new(required("BOOTSTRAP"), "transform-tests");
        let inputs = ["shop", "crm"].map(|app| TopicSpec::new(input(&name, app), INPUT_PARTITIONS));
        admin::ensure(&bus, &inputs).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("thing.avsc"), THING).unwrap();
        let producer = Producer::idempotent(&bus).unwrap();
        Self {
            registry: Registry::new(required("REGISTRY")),
            name,
            directory,
            bus,
            producer,
            lsn: 1000,
        }
    }

    /// A pipeline file; `suffix` makes another pipeline over the same input.
    fn pipeline(&self, suffix: &str) -> std::path::PathBuf {
        let text = PIPELINE.replace("pipeline: NAME", &format!("pipeline: {}{suffix}", self.name));
        let file = self.directory.path().join(format!("pipeline{suffix}.yaml"));
        std::fs::write(&file, text.replace("NAME", &self.name)).unwrap();
        file
    }

    fn start(&self, file: &Path, instance: &str, more: &[&str]) -> Instance {
        let log = std::fs::File::create(self.directory.path().join(format!("{instance}-{}.log", self.lsn))).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_syncline-transform"))
            .arg("--pipeline")
            .arg(file)
            .args(["--instance", instance, "--state-dir"])
            .arg(self.directory.path().join(instance))
            .args(more)
            .stderr(log)
            .stdout(Stdio::null())
            .spawn();
        Instance(child.unwrap())
    }

    /// `app` says that every thing it has is now called `label`.
    fn say(&mut self, app: &str, codes: std::ops::Range<i64>, label: &str) {
        let topic = input(&self.name, app);
        let value_id = self.registry.register(&format!("{topic}-value"), ENVELOPE).unwrap();
        for code in codes {
            self.lsn += 1;
            let value = envelope(value_id, code, label, self.lsn);
            let key = code.to_string();
            let record = OutRecord {
                topic: &topic,
                partition: None,
                key: Some(key.as_bytes()),
                value: Some(&value),
                headers: &[],
                timestamp_ms: None,
            };
            self.producer.send(&record).unwrap();
        }
        self.producer.flush().unwrap();
    }

    /// The last agreed record of each entity.
    fn agreed(&self, suffix: &str) -> BTreeMap<String, Canonical> {
        let topic = format!("{}{suffix}.canonical.thing.v1", self.name);
        let codec = CanonicalCodec::new(THING).unwrap();
        let writer = ParsedSchema::parse(codec.schema_json()).unwrap();
        let mut agreed = BTreeMap::new();
        for partition in 0..admin::partitions(&self.bus, &topic).unwrap().unwrap_or(0) {
            let mut reader = PartitionReader::open(&self.bus, &topic, partition, 0).unwrap();
            while !reader.at_end() {
                let Some(record) = reader.next(Duration::from_millis(200)).unwrap() else {
                    continue;
                };
                let (_, datum) = frame_id(record.value.as_ref().unwrap()).unwrap();
                let canonical = codec.decode(&writer, datum).unwrap();
                agreed.insert(canonical.cid.clone(), canonical);
            }
        }
        agreed
    }

    /// Waits until all entities are called `label`.
    fn wait_for(&self, label: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let agreed = self.agreed("");
            let called = |canonical: &&Canonical| canonical.fields.get("label") == Some(&Value::from(label));
            let there = agreed.values().filter(called).count();
            if there == usize::try_from(ENTITIES).unwrap() && agreed.len() == there {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{there} of {} are {label}; see {:?}",
                agreed.len(),
                self.logs()
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn logs(&self) -> String {
        let files = std::fs::read_dir(self.directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let logs = files.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
        logs.map(|log| std::fs::read_to_string(log).unwrap()).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let topics = admin::topics(&self.bus).unwrap_or_default();
        let ours: Vec<&str> = topics
            .iter()
            .map(String::as_str)
            .filter(|topic| topic.starts_with(&self.name))
            .collect();
        // Topics that stay behind are in nobody's way.
        let _ = admin::delete(&self.bus, &ours);
    }
}

/// A process, killed at the end of the test at the latest.
struct Instance(Child);

impl Instance {
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    fn finish(mut self) {
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn input(name: &str, app: &str) -> String {
    format!("{name}_{app}.public.things")
}

fn envelope(id: u32, code: i64, label: &str, lsn: i64) -> Vec<u8> {
    let mut bytes = frame(id);
    bytes.push(2);
    [code, code].into_iter().for_each(|number| long(&mut bytes, number));
    text(&mut bytes, label);
    [lsn, lsn * 1000]
        .into_iter()
        .for_each(|number| long(&mut bytes, number));
    text(&mut bytes, "u");
    bytes
}

fn long(bytes: &mut Vec<u8>, number: i64) {
    let mut rest = u64::try_from(number).unwrap() << 1;
    while rest >= 0x80 {
        bytes.push(u8::try_from(rest & 0x7F).unwrap() | 0x80);
        rest >>= 7;
    }
    bytes.push(u8::try_from(rest).unwrap());
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    long(bytes, i64::try_from(text.len()).unwrap());
    bytes.extend_from_slice(text.as_bytes());
}

#[test]
fn instances_share_the_work_die_and_come_back() {
    let mut world = World::new();
    let file = world.pipeline("");
    world.say("shop", 0..ENTITIES, "first");
    world.say("crm", 0..ENTITIES, "second");
    // Of what the apps hold when they are first read, the more authoritative one's stands.
    let mut a = world.start(&file, "a", &[]);
    let mut b = world.start(&file, "b", &[]);
    world.wait_for("first");

    a.kill();
    world.say("shop", 0..ENTITIES, "third");
    world.wait_for("third");

    let _a_again = world.start(&file, "a", &[]);
    world.say("crm", 0..ENTITIES, "fourth");
    world.wait_for("fourth");

    b.kill();
    std::fs::remove_dir_all(world.directory.path().join("b")).unwrap();
    let _b_again = world.start(&file, "b", &[]);
    world.say("shop", 0..ENTITIES, "fifth");
    world.wait_for("fifth");

    let alone = world.pipeline("_alone");
    world.start(&alone, "alone", &["--until-current"]).finish();
    assert_eq!(world.agreed("_alone"), world.agreed(""), "one instance, from the start");
}

#[test]
fn a_second_process_of_the_same_name_is_refused() {
    let mut world = World::new();
    let file = world.pipeline("");
    world.say("shop", 0..ENTITIES, "first");
    world.say("crm", 0..ENTITIES, "second");
    let _first = world.start(&file, "a", &[]);
    world.wait_for("first");
    let mut second = world.start(&file, "a", &[]);
    assert!(!second.0.wait().unwrap().success());
    assert!(world.logs().contains("STATE_DIR_IN_USE") || world.logs().contains("FENCED"));
}
