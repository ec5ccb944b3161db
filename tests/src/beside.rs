//! Debezium and ours side by side on one database: two slots, one publication, one script, and then the comparison.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use serde_json::{Value as Json, json};

use crate::connect::{Connector, Worker};
use crate::postgres::Db;
use crate::process::{Service, binary};
use crate::sides::{Difference, Sides};
use crate::stack::Stack;
use crate::world::World;

/// The app whose database is captured.
pub const OURS: &str = "ours";
/// What is appended to the world's name for the topics of either: as long as the other, and no name of a database.
const PREFIXES: [&str; 2] = ["by_them", "by_ours"];

const STREAMING_MAX_S: u64 = 240;
const MARKER_MAX_S: u64 = 300;
const SHOWN_PER_PATH_MAX: usize = 3;

/// Both at work.
pub struct Beside<'a> {
    world: &'a World,
    db: Db,
    connector: Connector,
    ours: Service,
    /// What was executed, and where the log ended after it.
    statements: Vec<(u64, String)>,
    markers: usize,
}

impl<'a> Beside<'a> {
    /// Starts both on what is in the database, one after the other, with one configuration but for the names of slot and
    /// topics, and waits until they stream. `publication` is what theirs says beyond `FOR ALL TABLES`.
    pub fn start(
        world: &'a World,
        dsn: &str,
        worker: &Arc<Worker>,
        publication: &str,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let db = Db::connect(dsn)?;
        // The last table of the snapshot has a row, so that one is its last.
        db.exec(&format!(
            "CREATE SCHEMA zz; CREATE TABLE zz.marker (id int PRIMARY KEY); INSERT INTO zz.marker VALUES (0);
             CREATE PUBLICATION side_by_side FOR ALL TABLES {publication}"
        ))?;
        let [theirs, ours] = prefixes(world);
        let connector = worker.create(&theirs, &configuration(dsn, &theirs, settings)?)?;
        await_streaming(&db, &theirs, || connector.check())?;
        let mut service = capture(world, &configuration(dsn, &ours, settings)?)?;
        await_streaming(&db, &ours, || alive(&mut service))?;
        Ok(Self {
            world,
            db,
            connector,
            ours: service,
            statements: Vec::new(),
            markers: 0,
        })
    }

    /// The database.
    pub fn db(&self) -> &Db {
        &self.db
    }

    /// Executes a statement, or a transaction in one line. Before a table is altered both come to the end of the log:
    /// they read the catalogue later than the log.
    pub fn run(&mut self, sql: &str) -> anyhow::Result<()> {
        if sql.starts_with("ALTER") {
            self.rest()?;
        }
        self.db.exec(sql)?;
        self.note(sql)
    }

    /// Remembers that a statement was executed up to where the log is now.
    pub fn note(&mut self, sql: &str) -> anyhow::Result<()> {
        self.statements.push((self.db.lsn()?, sql.to_owned()));
        Ok(())
    }

    /// Waits until both have written all that was committed so far.
    pub fn rest(&mut self) -> anyhow::Result<()> {
        self.markers += 1;
        self.db
            .exec(&format!("INSERT INTO zz.marker VALUES ({})", self.markers))?;
        for prefix in prefixes(self.world) {
            let topic = format!("{prefix}.zz.marker");
            crate::until(
                &format!("marker {} to be in {topic}", self.markers),
                MARKER_MAX_S,
                || {
                    self.connector.check()?;
                    alive(&mut self.ours)?;
                    let there = self.world.topics.names(&[&topic])?.contains(&topic);
                    Ok(there && self.world.topics.read(&topic)?.len() > self.markers)
                },
            )?;
        }
        Ok(())
    }

    /// Lets both come to the end, ends them, and compares.
    pub fn compare(mut self) -> anyhow::Result<Compared> {
        self.rest()?;
        self.connector.stop()?;
        self.ours.stop()?;
        let [theirs, ours] = prefixes(self.world);
        let sides = Sides {
            topics: &self.world.topics,
            theirs,
            ours,
        };
        let (differences, records) = sides.differences()?;
        Ok(Compared {
            differences,
            records,
            statements: self.statements,
        })
    }
}

/// How a comparison ended.
pub struct Compared {
    /// Everything that is not equal.
    pub differences: Vec<Difference>,
    /// How many records Debezium wrote to topics that both have.
    pub records: usize,
    statements: Vec<(u64, String)>,
}

impl Compared {
    /// Fails with all differences, each with the statement that made it. `said` says what is known of a topic.
    pub fn expect_equal(&self, records_min: usize, said: impl Fn(&str) -> String) -> anyhow::Result<()> {
        if self.records < records_min {
            bail!("only {} records, where {records_min} were expected", self.records);
        }
        if self.differences.is_empty() {
            return Ok(());
        }
        bail!(
            "{} differences in {} records:\n{}",
            self.differences.len(),
            self.records,
            self.shown(said)
        )
    }

    /// The first few of each path: what is wrong once is wrong in many records.
    fn shown(&self, said: impl Fn(&str) -> String) -> String {
        let mut by_path: BTreeMap<&str, Vec<&Difference>> = BTreeMap::new();
        for difference in &self.differences {
            by_path.entry(&difference.path).or_default().push(difference);
        }
        let mut lines = Vec::new();
        for (path, differences) in by_path {
            for difference in differences.iter().take(SHOWN_PER_PATH_MAX) {
                let statement = self.statement(difference.lsn).unwrap_or("(the snapshot)");
                let said = said(&difference.topic);
                lines.push(format!("{difference}\n    after:  {statement}{said}"));
            }
            if differences.len() > SHOWN_PER_PATH_MAX {
                lines.push(format!(
                    "    and {} more at {path}",
                    differences.len() - SHOWN_PER_PATH_MAX
                ));
            }
        }
        lines.join("\n")
    }

    fn statement(&self, lsn: u64) -> Option<&str> {
        let index = self.statements.partition_point(|(end, _)| *end <= lsn);
        let (_, sql) = self.statements.get(index).filter(|_| lsn > 0)?;
        Some(sql)
    }
}

/// Of Debezium's topics and of ours.
fn prefixes(world: &World) -> [String; 2] {
    PREFIXES.map(|end| format!("{}_{end}", world.name))
}

/// The connector's configuration; the slot has the name of the prefix.
fn configuration(dsn: &str, prefix: &str, settings: &[(&str, &str)]) -> anyhow::Result<Json> {
    let (host, port, database) = address(dsn)?;
    let mut config = json!({
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "tasks.max": "1",
        "plugin.name": "pgoutput",
        "database.hostname": host,
        "database.port": port,
        "database.user": "postgres",
        "database.password": "",
        "database.dbname": database,
        "topic.prefix": prefix,
        "slot.name": prefix,
        "publication.name": "side_by_side",
        "publication.autocreate.mode": "disabled",
        "schema.name.adjustment.mode": "avro",
        "field.name.adjustment.mode": "avro",
        "poll.interval.ms": "50",
        "topic.creation.default.partitions": "1",
        "topic.creation.default.replication.factor": "1",
    });
    for (name, value) in settings {
        config[name] = (*value).into();
    }
    Ok(config)
}

/// Our capture, with the connector's configuration as it is.
fn capture(world: &World, configuration: &Json) -> anyhow::Result<Service> {
    let (file, stack) = (world.path("connector.json"), Stack::from_env()?);
    std::fs::write(&file, configuration.to_string())?;
    let mut command = Command::new(binary("syncline-capture")?);
    command.arg("--debezium").arg(&file);
    command.args(["--bootstrap", &stack.kafka, "--registry", &stack.registry]);
    command.arg("--state-dir").arg(world.path("state"));
    Service::spawn(command, &world.path("capture.log"))
}

/// Of `postgres://user@host:port/database`.
pub fn host_and_port(dsn: &str) -> anyhow::Result<(String, String)> {
    let (host, port, _) = address(dsn)?;
    Ok((host, port))
}

/// Host, port and database of `postgres://user@host:port/database`.
fn address(dsn: &str) -> anyhow::Result<(String, String, String)> {
    let at = dsn.rsplit_once('@').map_or(dsn, |(_, rest)| rest);
    let parts = at.split_once('/').and_then(|(address, database)| {
        let (host, port) = address.rsplit_once(':')?;
        Some((host.to_owned(), port.to_owned(), database.to_owned()))
    });
    parts.with_context(|| format!("no host:port/database in {dsn}"))
}

fn alive(service: &mut Service) -> anyhow::Result<()> {
    match service.ended()? {
        None => Ok(()),
        Some(status) => bail!(
            "capture ended with {status}:\n{}",
            crate::process::tail(&service.log()?, 40)
        ),
    }
}

fn await_streaming(db: &Db, slot: &str, mut check: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<()> {
    crate::until(&format!("slot {slot} to be streamed"), STREAMING_MAX_S, || {
        check()?;
        let streamed = db.text(&format!(
            "SELECT count(*) FROM pg_replication_slots s JOIN pg_stat_replication r ON r.pid = s.active_pid
             WHERE s.slot_name = '{slot}' AND r.state = 'streaming'"
        ))?;
        Ok(streamed == "1")
    })
}
