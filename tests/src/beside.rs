//! Debezium and ours side by side on one database: two slots, one publication, one script, and then the comparison.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use serde_json::{Value as Json, json};

use crate::connect::{Connector, Worker};
use crate::postgres::Db;
use crate::process::{Service, Stage};
use crate::sides::{Difference, Sides};
use crate::world::World;

/// The app whose database is captured, and ours.
pub const OURS: &str = "ours";
/// What is appended to the world's name for the topics of either: as long as the other, and no name of a database.
const PREFIXES: [&str; 2] = ["by_them", "by_ours"];

const STREAMING_MAX_S: u64 = 240;
const MARKER_MAX_S: u64 = 300;
const SHOWN_PER_PATH_MAX: usize = 3;

/// Both at work.
pub struct Beside<'a> {
    world: &'a World,
    connector: Connector,
    ours: Service,
    /// What was executed, and where the log ended after it.
    statements: Vec<(u64, String)>,
}

impl<'a> Beside<'a> {
    /// Starts both on what is in the database of [`OURS`], one after the other, and waits until they stream.
    pub fn start(world: &'a World, worker: &Arc<Worker>, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        world
            .db(OURS)
            .exec("CREATE TABLE marker (id int PRIMARY KEY); CREATE PUBLICATION side_by_side FOR ALL TABLES")?;
        let (slot, prefix) = (format!("{}_debezium", world.name), prefixes(world)[0].clone());
        let connector = worker.create(&slot, &connector(world, &slot, &prefix, settings)?)?;
        await_streaming(world.db(OURS), &slot, || connector.check())?;
        world.set_env("PREFIX", &prefixes(world)[1]);
        let mut ours = world.start(&Stage::capture(OURS))?;
        await_streaming(world.db(OURS), &world.slot(OURS), || alive(&mut ours))?;
        Ok(Self {
            world,
            connector,
            ours,
            statements: Vec::new(),
        })
    }

    /// Executes a statement, or a transaction in one line.
    pub fn run(&mut self, sql: &str) -> anyhow::Result<()> {
        let db = self.world.db(OURS);
        db.exec(sql)?;
        self.statements.push((db.lsn()?, sql.to_owned()));
        Ok(())
    }

    /// Lets both come to the end, ends them, and compares.
    pub fn compare(mut self) -> anyhow::Result<Compared> {
        self.world.db(OURS).exec("INSERT INTO marker VALUES (1)")?;
        for prefix in prefixes(self.world) {
            let topic = format!("{prefix}.public.marker");
            crate::until(&format!("the last row to be in {topic}"), MARKER_MAX_S, || {
                self.connector.check()?;
                alive(&mut self.ours)?;
                let there = self.world.topics.names(&[&topic])?.contains(&topic);
                Ok(there && !self.world.topics.read(&topic)?.is_empty())
            })?;
        }
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

/// The connector's configuration.
fn connector(world: &World, slot: &str, prefix: &str, settings: &[(&str, &str)]) -> anyhow::Result<Json> {
    let dsn = world.dsn(OURS)?;
    let (host, port) = host_and_port(&dsn)?;
    let mut config = json!({
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "tasks.max": "1",
        "plugin.name": "pgoutput",
        "database.hostname": host,
        "database.port": port,
        "database.user": "postgres",
        "database.password": "",
        "database.dbname": world.database(OURS),
        "topic.prefix": prefix,
        "slot.name": slot,
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

/// Of `postgres://user@host:port/database`.
pub fn host_and_port(dsn: &str) -> anyhow::Result<(String, String)> {
    let at = dsn.rsplit_once('@').map_or(dsn, |(_, rest)| rest);
    let address = at.split('/').next().unwrap_or_default();
    let (host, port) = address
        .rsplit_once(':')
        .with_context(|| format!("PG_DSN has no port: {dsn}"))?;
    Ok((host.to_owned(), port.to_owned()))
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
