//! A real Debezium and ours by turns on one slot, under load: each ends at a random moment, in order or by SIGKILL, and the
//! other goes on where the offsets say.

use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use serde_json::{Value as Json, json};

use crate::beside::host_and_port;
use crate::connect::{Connector, Keeps, Worker};
use crate::dice::Dice;
use crate::handover::{self, Place};
use crate::oracle::{self, APP, Load};
use crate::process::{self, Service};
use crate::world::World;

const TAKEN_UP_MAX_S: u64 = 120;
const EXPORT_MAX_S: u64 = 60;
/// What capture says when it has begun to stream.
const STREAMING: &str = "\"streaming\"";
const COMMITS_MAX: u64 = 60;
/// Ends of transactions take offsets too.
const TAIL_OFFSETS: i64 = 20;

/// How one of them ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As it is meant to.
    InOrder,
    /// Its process gets SIGTERM.
    Term,
    /// Its process gets SIGKILL.
    Kill,
}

/// One slot, and those who take turns on it.
pub struct ByTurns<'a> {
    world: &'a World,
    worker: Arc<Worker>,
    connector: Connector,
    config: Json,
    tables: &'a [&'a str],
    dice: Dice,
    number: usize,
    /// What was known at each handover.
    pub places: Vec<Place>,
}

impl<'a> ByTurns<'a> {
    /// Debezium has the first turn.
    pub fn begin(world: &'a World, keeps: Keeps, tables: &'a [&'a str], dice: Dice) -> anyhow::Result<Self> {
        let worker = Arc::new(Worker::start(keeps)?);
        let config = config(world, tables)?;
        let file = json!({ "name": world.name, "config": config });
        std::fs::write(world.path("connector.json"), file.to_string())?;
        let connector = worker.create(&world.name, &config)?;
        let begun = Self {
            world,
            worker,
            connector,
            config,
            tables,
            dice,
            number: 0,
            places: Vec::new(),
        };
        // A worker that is killed before it has stored an offset leaves none, and nothing to go on from.
        crate::until("an offset to be stored", TAKEN_UP_MAX_S, || {
            begun.connector.check()?;
            Ok(begun.stored().is_ok())
        })?;
        Ok(begun)
    }

    /// Waits until what is committed now is in Kafka and confirmed, whoever's turn it is.
    pub fn caught_up(&self) -> anyhow::Result<()> {
        let db = self.world.db(APP);
        let end = db.lsn()?;
        // Debezium confirms what it has an event of, and others write to the same log: one more event of ours lies after it.
        db.exec("UPDATE accounts SET owner = owner WHERE id = (SELECT min(id) FROM accounts)")?;
        oracle::confirmed_up_to(db, &self.world.slot(APP), end, TAKEN_UP_MAX_S)
    }

    /// Ends Debezium, and lets ours go on from its offsets.
    pub fn to_ours(&mut self, load: &Load, end: End) -> anyhow::Result<Service> {
        self.at_work(load, false)?;
        self.number += 1;
        match end {
            End::InOrder => self.connector.stop()?,
            End::Term => self.worker.stop()?,
            End::Kill => self.worker.kill()?,
        }
        let exported = self.world.path("offsets.json");
        let mut args = Vec::new();
        // The worker must be asked for an export; a file or topic can be read without it.
        if end == End::InOrder && self.dice.below(2) == 0 {
            std::fs::write(&exported, self.connector.offsets()?.to_string())?;
            args.extend(["--offsets", "offsets.json"]);
        }
        self.places.push(Place::of_offset(&self.stored()?)?);
        let log = self.world.path(&format!("ours-{}.log", self.number));
        let mut ours = Service::spawn(self.command(&args)?, &log)?;
        crate::until("capture to stream", TAKEN_UP_MAX_S, || {
            alive(&mut ours)?;
            Ok(ours.log()?.contains(STREAMING))
        })?;
        if end != End::InOrder {
            self.bring_back()?;
        }
        Ok(ours)
    }

    /// Ends ours, and lets Debezium go on from what it exports.
    pub fn to_debezium(&mut self, load: &Load, mut ours: Service, end: End) -> anyhow::Result<()> {
        self.at_work(load, true)?;
        alive(&mut ours)?;
        match end {
            End::InOrder | End::Term => ours.stop()?,
            End::Kill => ours.kill()?,
        }
        let body = self.export()?;
        self.places.push(Place::of_export(&body, end == End::Kill)?);
        self.connector.alter_offsets(&body)?;
        self.connector.resume()
    }

    /// Waits until who has the turn has written to each topic, and then for a random moment; every other time when the
    /// backlog is worked off, else perhaps in the middle of it.
    fn at_work(&mut self, load: &Load, ours: bool) -> anyhow::Result<()> {
        for table in self.tables {
            let topic = self.world.capture_topic(APP, table);
            crate::until(&format!("a record of this turn in {topic}"), TAKEN_UP_MAX_S, || {
                let tail = self.world.topics.read_tail(&topic, TAIL_OFFSETS)?;
                Ok(tail.last().is_some_and(|record| handover::is_ours(record) == ours))
            })?;
        }
        if self.dice.below(2) == 0 {
            self.caught_up()?;
        }
        load.goes_on(1 + self.dice.below(COMMITS_MAX))
    }

    /// The worker, with the connector stopped. A distributed one starts it again by itself, which fails while ours is
    /// streaming: a slot has one reader.
    fn bring_back(&mut self) -> anyhow::Result<()> {
        self.worker.resume()?;
        match self.worker.keeps() {
            Keeps::InTopic => self.connector.stop(),
            Keeps::InFile => self.connector.make_again_stopped(&self.config),
        }
    }

    /// The connector's offset as its worker had stored it, read without the code under test.
    fn stored(&self) -> anyhow::Result<Json> {
        let bytes = match self.worker.keeps() {
            Keeps::InTopic => {
                let all = self.world.topics.latest(&self.worker.offset_topic())?;
                let of_ours = |record: &crate::Record| record.key_text().contains(&self.world.prefix(APP));
                let found = all.into_values().find(of_ours).and_then(|record| record.value);
                found.context("the connector's offset")?
            }
            Keeps::InFile => {
                // A map of one entry; its value is the last object in it, and flat.
                let bytes = std::fs::read(self.worker.offset_file())?;
                let start = bytes.iter().rposition(|byte| *byte == b'{').context("an offset")?;
                let end = bytes.iter().rposition(|byte| *byte == b'}').context("an offset")?;
                bytes.get(start..=end).context("an offset")?.to_vec()
            }
        };
        Ok(serde_json::from_slice(&bytes)?)
    }

    fn command(&self, args: &[&str]) -> anyhow::Result<Command> {
        let mut command = Command::new(process::binary("syncline-capture")?);
        command
            .current_dir(self.world.path(""))
            .args(["--debezium", "connector.json", "--worker"]);
        command.arg(self.worker.properties()).args(args);
        Ok(command)
    }

    fn export(&self) -> anyhow::Result<Json> {
        let file = self.world.path("export.json");
        let mut command = self.command(&["--export-offsets"])?;
        command.stdout(std::fs::File::create(&file)?);
        command.stderr(std::fs::File::create(self.world.path("export.log"))?);
        let mut child = command.spawn()?;
        crate::until("the export", EXPORT_MAX_S, || Ok(child.try_wait()?.is_some()))?;
        if !child.wait()?.success() {
            bail!(
                "--export-offsets: {}",
                std::fs::read_to_string(self.world.path("export.log"))?
            );
        }
        Ok(serde_json::from_slice(&std::fs::read(file)?)?)
    }
}

fn alive(ours: &mut Service) -> anyhow::Result<()> {
    match ours.ended()? {
        None => Ok(()),
        Some(status) => bail!("capture ended with {status}:\n{}", process::tail(&ours.log()?, 40)),
    }
}

/// A connector as many are: its own publication, a heartbeat, the rest as Debezium has it.
fn config(world: &World, tables: &[&str]) -> anyhow::Result<Json> {
    let (host, port) = host_and_port(&world.dsn(APP)?)?;
    Ok(json!({
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "tasks.max": "1",
        "plugin.name": "pgoutput",
        "database.hostname": host,
        "database.port": port,
        "database.user": "postgres",
        "database.password": "",
        "database.dbname": world.database(APP),
        "topic.prefix": world.prefix(APP),
        "slot.name": world.slot(APP),
        "publication.name": "by_turns",
        "publication.autocreate.mode": "filtered",
        "table.include.list": tables.iter().map(|table| format!("public.{table}")).collect::<Vec<_>>().join(","),
        "heartbeat.interval.ms": "3000",
        "topic.creation.default.partitions": "1",
        "topic.creation.default.replication.factor": "1",
    }))
}
