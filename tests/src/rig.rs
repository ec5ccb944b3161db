//! Capture between two lines that can be made bad: one to PostgreSQL, one to Kafka; with a load on the source, and the
//! oracle at the end.

use anyhow::Context as _;

use crate::dice::Dice;
use crate::oracle::{self, Load};
use crate::own_kafka::OwnKafka;
use crate::own_server::OwnServer;
use crate::postgres::Db;
use crate::process::{Service, Stage};
use crate::proxy::{Fault, Proxy, Trap, When};
use crate::world::{World, in_world, in_world_with};

/// Accounts of a rig.
pub const ACCOUNTS: u64 = 60;
const COMMITS_PER_SESSION_PER_S: u64 = 30;
/// How long the first start may take while many rigs are built at once; no promise is about that.
pub const START_MAX_S: u64 = 120;
/// Promise P5: progress so soon after all is well again.
pub const HEAL_MAX_S: u64 = 30;
/// And time for the backlog.
pub const DRAIN_MAX_S: u64 = 90;

/// What capture says when it has begun to stream.
const STREAMING: &str = "\"streaming\"";

/// A world whose capture goes through two proxies. The load and the judge go to the services themselves.
pub struct Rig<'a> {
    /// The world.
    pub world: &'a World,
    /// Before PostgreSQL.
    pub postgres: Proxy,
    /// Before Kafka.
    pub kafka: Proxy,
    /// Chance.
    pub dice: Dice,
    /// The DSN of the app's database, past the proxy: for the load, and for the judge, who takes what is there for true.
    pub source: String,
}

/// Runs a test with a rig of its own.
///
/// # Panics
/// When the test fails.
pub fn in_rig(name: &str, test: impl FnOnce(&mut Rig<'_>) -> anyhow::Result<()>) {
    let (apps, files) = ([(oracle::APP, oracle::TABLES)], [("pipeline.yaml", oracle::PIPELINE)]);
    in_world(name, &apps, &files, |world| {
        oracle::open(world.db(oracle::APP), ACCOUNTS)?;
        test(&mut Rig::around(world, name)?)
    });
}

/// The same, the app being on a server of the test's own.
///
/// # Panics
/// When the test fails.
pub fn in_rig_on(server: &OwnServer, name: &str, test: impl FnOnce(&mut Rig<'_>) -> anyhow::Result<()>) {
    let (apps, files) = ([(oracle::APP, "SELECT 1")], [("pipeline.yaml", oracle::PIPELINE)]);
    in_world(name, &apps, &files, |world| {
        let db = server.db("postgres")?;
        db.exec(oracle::TABLES)?;
        oracle::open(&db, ACCOUNTS)?;
        test(&mut Rig::before(world, name, server.dsn("postgres"))?)
    });
}

/// The same with a Kafka of the test's own, past the proxy, which knows of one broker alone.
///
/// # Panics
/// When the test fails.
pub fn in_rig_with(kafka: &OwnKafka, name: &str, test: impl FnOnce(&mut Rig<'_>) -> anyhow::Result<()>) {
    let (apps, files) = ([(oracle::APP, oracle::TABLES)], [("pipeline.yaml", oracle::PIPELINE)]);
    let stack = kafka.stack().unwrap_or_else(|error| panic!("{error:?}"));
    in_world_with(stack, name, &apps, &files, |world| {
        oracle::open(world.db(oracle::APP), ACCOUNTS)?;
        let mut rig = Rig::around(world, name)?;
        world.set_env("BOOTSTRAP", &world.stack().kafka);
        test(&mut rig)
    });
}

impl<'a> Rig<'a> {
    /// Puts the proxies before the services of a world.
    pub fn around(world: &'a World, name: &str) -> anyhow::Result<Self> {
        Self::before(world, name, world.dsn(oracle::APP)?)
    }

    fn before(world: &'a World, name: &str, source: String) -> anyhow::Result<Self> {
        let (_, place) = source.split_once('@').context("a URL with a user")?;
        let (server, _) = place.split_once('/').context("a URL with a database")?;
        let rig = Self {
            postgres: Proxy::postgres(server)?,
            kafka: Proxy::kafka(world.stack().kafka.split(',').next().unwrap_or_default())?,
            dice: Dice::new(name),
            world,
            source: source.clone(),
        };
        world.set_env("SHOP_DSN", &source.replace(server, &rig.postgres.address()));
        world.set_env("BOOTSTRAP", &rig.kafka.address());
        Ok(rig)
    }

    /// Starts the load.
    pub fn load(&mut self) -> anyhow::Result<Load> {
        Ok(Load::start(
            &self.source,
            &mut self.dice,
            ACCOUNTS,
            COMMITS_PER_SESSION_PER_S,
        ))
    }

    /// Starts capture and waits until it has read the tables and streams.
    pub fn capture(&self) -> anyhow::Result<Service> {
        let service = self.world.start(&Stage::Capture)?;
        crate::until("capture to stream", START_MAX_S, || {
            Ok(service.log()?.contains(STREAMING))
        })?;
        self.caught_up(START_MAX_S)?;
        Ok(service)
    }

    /// Waits until what is committed now is in Kafka and confirmed.
    pub fn caught_up(&self, within_s: u64) -> anyhow::Result<()> {
        oracle::caught_up(&self.db()?, &self.world.slot(oracle::APP), within_s)
    }

    /// Sets a trap and waits for it to fire, after which progress must be made again.
    pub fn strike(&self, proxy: &Proxy, when: When, fault: Fault, within_s: u64) -> anyhow::Result<()> {
        let trap = proxy.trap(when, fault);
        self.recover(&trap, within_s)
    }

    /// Waits for a trap to fire and for progress after it; the slot may at no time be ahead of Kafka.
    pub fn recover(&self, trap: &Trap, within_s: u64) -> anyhow::Result<()> {
        trap.wait(within_s)?;
        self.never_ahead()?;
        self.caught_up(within_s)
    }

    /// The slot is not ahead of Kafka.
    pub fn never_ahead(&self) -> anyhow::Result<()> {
        oracle::assert_confirmed_on(self.world, &self.db()?, oracle::APP)
    }

    /// A connection to the app's database, past the proxy.
    pub fn db(&self) -> anyhow::Result<Db> {
        Db::connect(&self.source)
    }

    /// The end of every test: the load stops, all arrives, capture ends in order, and every change was there once.
    pub fn judge(&self, load: Load, service: Service) -> anyhow::Result<()> {
        let commits = load.stop()?;
        self.caught_up(DRAIN_MAX_S)?;
        self.never_ahead()?;
        service.stop()?;
        let checked = oracle::assert_every_change_once_on(self.world, &self.db()?)?;
        println!(
            "{}: {commits} commits, {checked} changes, each once and in order",
            self.world.name
        );
        Ok(())
    }
}
