//! The program as it is run: Kafka, registry and PostgreSQL (`eval "$(deploy/stack.sh env)"`), records written by hand.

mod common;

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::db::World;
use common::{customer, knowing, with};
use syncline_bus::admin::{self, TopicSpec};
use syncline_bus::{BusConfig, InRecord, OutRecord, PartitionReader, Producer, Registry};
use syncline_schemas::canonical::Canonical;
use syncline_schemas::codec::CanonicalCodec;
use syncline_schemas::topic;

const SCHEMA: &str = r#"{"type": "record", "name": "customer", "fields": [
    {"name": "name", "type": "string"}, {"name": "email", "type": "string"},
    {"name": "stock", "type": {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 2}}]}"#;

/// A pipeline with one target, its topic, and a producer that plays merge.
struct Stage {
    world: World,
    directory: tempfile::TempDir,
    pipeline: String,
    bus: BusConfig,
    codec: CanonicalCodec,
    id: u32,
}

fn setting(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set; run: eval \"$(deploy/stack.sh env)\""))
}

impl Stage {
    fn new() -> Self {
        let world = World::contacts();
        let pipeline = world.dsn().rsplit('/').next().unwrap().to_owned();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("customer.avsc"), SCHEMA).unwrap();
        let file = format!(
            r#"
pipeline: {pipeline}
defaults: {{ kafka: "{}", registry: "{}" }}
systems:
  shop: {{ postgres: "{dsn}" }}
  crm: {{ postgres: "{dsn}" }}
entities:
  customer:
    schema: customer.avsc@1
    fields:
      name: {{ on_conflict: latest }}
      email: {{ on_conflict: latest }}
      stock: {{ on_conflict: add }}
    match:
      - same: [email]
links:
  shop.customers -> customer: {{ key: id, name: name, email: email, stock: stock }}
  crm.contacts <-> customer: {{ key: id, name: name, email: email, stock: stock }}
"#,
            setting("BOOTSTRAP"),
            setting("REGISTRY"),
            dsn = world.dsn(),
        );
        std::fs::write(directory.path().join("pipeline.yaml"), file).unwrap();
        let bus = BusConfig::new(setting("BOOTSTRAP"), "sink-test");
        let codec = CanonicalCodec::new(SCHEMA).unwrap();
        let registry = Registry::new(setting("REGISTRY"));
        let mut stage = Self {
            world,
            directory,
            pipeline,
            bus,
            codec,
            id: 0,
        };
        let id = registry
            .register(&topic::value_subject(&stage.topic()), stage.codec.schema_json())
            .unwrap();
        admin::ensure(&stage.bus, &[TopicSpec::new(stage.topic(), 2).compacted()]).unwrap();
        stage.id = id;
        stage
    }

    fn topic(&self) -> String {
        topic::canonical(&self.pipeline, "customer", 1)
    }

    fn write(&self, records: &[Canonical]) {
        let mut producer = Producer::transactional(&self.bus, &self.pipeline).unwrap();
        producer.begin().unwrap();
        for record in records {
            let value = self.codec.encode(record, self.id).unwrap();
            let (topic, key) = (self.topic(), record.cid.as_bytes());
            let record = OutRecord {
                topic: &topic,
                partition: None,
                key: Some(key),
                value: Some(&value),
                headers: &[],
                timestamp_ms: None,
            };
            producer.send(&record).unwrap();
        }
        producer.commit().unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_syncline-sink"));
        command
            .args(args)
            .arg("--pipeline")
            .arg(self.file())
            .args(["--target", "crm"]);
        command
            .env("RUST_LOG", "info")
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("pipeline.yaml")
    }

    /// Runs to the end; exit code and log.
    fn run(&self, args: &[&str]) -> (Option<i32>, String) {
        let output = self.command(args).output().unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    }

    fn until_current(&self) {
        let (code, log) = self.run(&["--until-current"]);
        assert_eq!(code, Some(0), "{log}");
    }

    fn dead_letters(&self) -> Vec<InRecord> {
        let topic = topic::dead_letters(&self.pipeline, "sink");
        let mut reader = PartitionReader::open(&self.bus, &topic, 0, 0).unwrap();
        let mut letters = Vec::new();
        while !reader.at_end() {
            letters.extend(reader.next(Duration::from_secs(5)).unwrap());
        }
        letters
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let letters = topic::dead_letters(&self.pipeline, "sink");
        // A test that failed has other things to say.
        let _ = admin::delete(&self.bus, &[&self.topic(), &letters]);
    }
}

fn people(count: u64, version: u64) -> Vec<Canonical> {
    (0..count).map(|n| customer(&format!("c{n}"), version)).collect()
}

#[test]
fn what_is_there_is_applied_and_a_second_run_changes_nothing() {
    let stage = Stage::new();
    stage.write(&people(2_500, 1));
    stage.until_current();
    assert_eq!(stage.world.db.text("SELECT count(*) FROM contacts"), "2500");
    let before = stage.world.places();
    stage.until_current();
    stage.world.db.exec("DELETE FROM syncline.offsets");
    stage.until_current();
    assert_eq!(stage.world.places(), before);
}

#[test]
fn killed_at_every_point_each_change_has_effect_once() {
    let stage = Stage::new();
    let points = [
        "sink.before_begin",
        "sink.after_apply",
        "sink.after_offsets",
        "sink.before_commit",
        "sink.after_commit",
    ];
    for (version, point) in (1..).zip(points) {
        // The counter shows what was applied twice, the number of rows what was made twice or not at all.
        let changed = people(20, version)
            .into_iter()
            .map(|record| with(record, "stock", 10 * version as i64));
        stage.write(&changed.collect::<Vec<_>>());
        let output = stage
            .command(&["--until-current"])
            .env("SYNCLINE_FAILPOINTS", format!("{point}=kill@1"))
            .output()
            .unwrap();
        assert_eq!(
            output.status.code(),
            None,
            "{point}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        stage.until_current();
        let expected = format!("20|{0}|{0}", 10 * version);
        assert_eq!(
            stage
                .world
                .db
                .query("SELECT count(*), min(stock), max(stock) FROM contacts"),
            [expected],
            "{point}"
        );
    }
}

#[test]
fn a_refused_record_is_one_dead_letter_and_one_command_applies_it() {
    let stage = Stage::new();
    stage
        .world
        .db
        .exec("ALTER TABLE contacts ADD CONSTRAINT no_7 CHECK (name <> 'c7')");
    stage.write(&people(20, 1));
    stage.until_current();
    stage.write(&[with(customer("c7", 2), "stock", 70)]);
    stage.until_current();
    let letters = stage.dead_letters();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].key.as_deref(), Some(&b"c7"[..]));
    let reason = String::from_utf8_lossy(letters[0].header("syncline.reason").unwrap()).into_owned();
    assert!(reason.contains("23514") && !reason.contains("c7@x"), "{reason}");
    // The cause is still there: it says so, and changes nothing.
    let (code, log) = stage.run(&["replay-parked"]);
    assert!(code == Some(1) && log.contains("STILL_PARKED"), "{log}");
    stage.world.db.exec("ALTER TABLE contacts DROP CONSTRAINT no_7");
    let (code, log) = stage.run(&["replay-parked"]);
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(
        stage
            .world
            .db
            .query("SELECT name, stock FROM contacts WHERE email = 'c7@x'"),
        ["c7|70"]
    );
    assert_eq!(stage.run(&["replay-parked"]).0, Some(0));
    assert_eq!(
        (
            stage.world.db.text("SELECT count(*) FROM contacts"),
            stage.dead_letters().len()
        ),
        ("20".to_owned(), 1)
    );
    // And the key goes on as before.
    stage.write(&[with(with(customer("c7", 3), "stock", 70), "name", "seven")]);
    stage.until_current();
    assert_eq!(
        stage.world.db.query("SELECT name FROM contacts WHERE email = 'c7@x'"),
        ["seven"]
    );
}

/// What is refused still must not hold up what is listed behind it, however much that is.
#[test]
fn a_thousand_parked_keys_do_not_hold_up_the_next() {
    let stage = Stage::new();
    let db = &stage.world.db;
    db.exec("ALTER TABLE contacts ADD CONSTRAINT odd CHECK (name IS NULL)");
    stage.write(&people(1_010, 1));
    stage.until_current();
    assert_eq!(db.text("SELECT count(*) FROM syncline.parked"), "1010");
    let last = db.text("SELECT cid FROM syncline.parked ORDER BY topic, partition DESC, \"offset\" DESC");
    db.exec(&format!(
        "ALTER TABLE contacts DROP CONSTRAINT odd, ADD CONSTRAINT odd CHECK (name = '{last}')"
    ));
    let (code, log) = stage.run(&["replay-parked"]);
    assert!(code == Some(1) && log.contains("STILL_PARKED"), "{log}");
    assert_eq!(db.query("SELECT name FROM contacts"), [last]);
}

/// A service that is killed when the test ends, however it ends.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn until(what: &str, seconds: u64, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    while !holds() {
        assert!(Instant::now() < deadline, "waited {seconds} s for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_service_applies_as_records_come_and_drains_when_told_to_stop() {
    let stage = Stage::new();
    let mut service = Service(stage.command(&[]).stderr(Stdio::null()).spawn().unwrap());
    for version in 1..4 {
        stage.write(&[knowing(
            with(customer("a", version), "stock", 10 + version as i64),
            "crm",
            version,
        )]);
        let expected = (10 + version).to_string();
        until("the record to be applied", 30, || {
            stage.world.db.text("SELECT stock FROM contacts") == expected
        });
    }
    Command::new("kill")
        .args(["-TERM", &service.0.id().to_string()])
        .status()
        .unwrap();
    until("the service to stop", 10, || service.0.try_wait().unwrap().is_some());
    assert_eq!(service.0.wait().unwrap().code(), Some(0));
}

#[test]
fn a_wrong_target_is_a_wrong_command() {
    let stage = Stage::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_syncline-sink"));
    let output = command
        .arg("--check")
        .arg("--pipeline")
        .arg(stage.file())
        .args(["--target", "shop"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("writes no target shop"));
    assert_eq!(stage.run(&["--check"]).0, Some(0));
}
