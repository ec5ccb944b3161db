//! A pipeline of its own for each test: databases, topics, slots, consumer groups and a directory that nobody else uses,
//! and all of it gone at the end, also when the test panics.
//!
//! Pipeline files of tests name nothing directly: `${env:PIPELINE}` is the pipeline, `${env:SHOP_DSN}` and
//! `${env:SHOP_PREFIX}` are the database and the topic prefix of `shop`. A slot outlives its database's last connection and
//! keeps the server's log for ever, so slots go first.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use syncline_schemas::topic;

use crate::agreed::{Agreed, Decided};
use crate::kafka::{Record, Topics};
use crate::postgres::Db;
use crate::process::{self, Finished, Service, Stage};
use crate::stack::Stack;

const RUN_MAX_S: u64 = 120;
const ROUNDS_MAX: usize = 12;

/// An app: its name in the pipeline file and the SQL that makes its tables.
pub type App<'a> = (&'a str, &'a str);

/// Runs a test in a world of its own; on a failure the world's logs and files stay.
///
/// # Panics
/// When the test fails.
pub fn in_world(name: &str, apps: &[App<'_>], files: &[(&str, &str)], test: impl FnOnce(&World) -> anyhow::Result<()>) {
    let stack = Stack::from_env().unwrap_or_else(|error| panic!("{error:?}"));
    in_world_with(stack, name, apps, files, test);
}

/// The same with services of the test's own.
///
/// # Panics
/// When the test fails.
pub fn in_world_with(
    stack: Stack,
    name: &str,
    apps: &[App<'_>],
    files: &[(&str, &str)],
    test: impl FnOnce(&World) -> anyhow::Result<()>,
) {
    let outcome = World::of(stack, name, apps, files).and_then(|world| {
        let outcome = test(&world);
        world.keep_files.set(outcome.is_err());
        outcome
    });
    if let Err(error) = outcome {
        panic!("{error:?}");
    }
}

/// A pipeline and everything it needs.
pub struct World {
    /// Name of the pipeline; no other test has it.
    pub name: String,
    /// The broker and the registry.
    pub topics: Topics,
    stack: Stack,
    directory: tempfile::TempDir,
    /// What stands before the name of an app in the names of its database and topics.
    qualifier: String,
    databases: BTreeMap<String, (String, Db)>,
    pipeline: String,
    runs: Cell<u32>,
    keep_files: Cell<bool>,
    environment: RefCell<BTreeMap<String, String>>,
}

impl World {
    /// Makes the databases and writes the files, of which the first is the pipeline.
    pub fn new(name: &str, apps: &[App<'_>], files: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::of(Stack::from_env()?, name, apps, files)
    }

    /// The same with services of one's own.
    pub fn of(stack: Stack, name: &str, apps: &[App<'_>], files: &[(&str, &str)]) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix(&format!("syncline-{name}-"))
            .tempdir()?;
        let name = unique(name);
        Self::make(stack, format!("{name}_"), name, directory, apps, files)
    }

    /// The only pipeline of its stack: databases and topics have the plain names of the apps, and nothing is cleaned up.
    pub fn alone(name: &str, directory: &Path, apps: &[App<'_>], files: &[(&str, &str)]) -> anyhow::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let mut directory = tempfile::Builder::new()
            .prefix(&format!("{name}-"))
            .tempdir_in(directory)?;
        directory.disable_cleanup(true);
        let stack = Stack::from_env()?;
        Self::make(stack, String::new(), name.to_owned(), directory, apps, files)
    }

    fn make(
        stack: Stack,
        qualifier: String,
        name: String,
        directory: tempfile::TempDir,
        apps: &[App<'_>],
        files: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let mut world = Self {
            name,
            topics: Topics::new(&stack),
            stack,
            directory,
            qualifier,
            databases: BTreeMap::new(),
            pipeline: files.first().map(|(file, _)| (*file).to_owned()).unwrap_or_default(),
            runs: Cell::new(0),
            keep_files: Cell::new(false),
            environment: RefCell::default(),
        };
        for (file, text) in files {
            std::fs::write(world.path(file), text)?;
        }
        let server = Db::connect(&world.stack.dsn("postgres"))?;
        for (app, tables) in apps {
            let database = world.database(app);
            server.exec(&format!("CREATE DATABASE {database}"))?;
            let db = Db::connect(&world.stack.dsn(&database))?;
            world.databases.insert((*app).to_owned(), (database, db));
            world.db(app).exec(tables)?;
        }
        Ok(world)
    }

    /// The services it works with.
    pub fn stack(&self) -> &Stack {
        &self.stack
    }

    /// A file in the world's directory.
    pub fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    /// The database of an app.
    ///
    /// # Panics
    /// When the test never made such an app.
    pub fn db(&self, app: &str) -> &Db {
        &self
            .databases
            .get(app)
            .unwrap_or_else(|| panic!("this world has no app {app}"))
            .1
    }

    /// A new connection to the database of an app.
    pub fn connect(&self, app: &str) -> anyhow::Result<Db> {
        Db::connect(&self.dsn(app)?)
    }

    /// The DSN of an app's database.
    pub fn dsn(&self, app: &str) -> anyhow::Result<String> {
        let (database, _) = self
            .databases
            .get(app)
            .with_context(|| format!("this world has no app {app}"))?;
        Ok(self.stack.dsn(database))
    }

    /// Name of an app's database.
    pub fn database(&self, app: &str) -> String {
        format!("{}{app}", self.qualifier)
    }

    /// The topic prefix of an app.
    pub fn prefix(&self, app: &str) -> String {
        format!("{}{app}", self.qualifier)
    }

    /// The slot of an app.
    pub fn slot(&self, app: &str) -> String {
        format!("syncline_{}_{app}", self.name)
    }

    /// The capture topic of `table` in schema `public` of an app.
    pub fn capture_topic(&self, app: &str, table: &str) -> String {
        topic::capture(&self.prefix(app), "public", table)
    }

    // ---- processes ----------------------------------------------------------------------------------------------------

    /// A binary with the world's pipeline file and environment.
    pub fn command(&self, binary: &str, args: &[&str]) -> anyhow::Result<Command> {
        let mut command = Command::new(process::binary(binary)?);
        command.args(args).arg("--pipeline").arg(self.path(&self.pipeline));
        command.current_dir(self.directory.path());
        command
            .env("PIPELINE", &self.name)
            .env("BOOTSTRAP", &self.stack.kafka)
            .env("REGISTRY", &self.stack.registry);
        for app in self.databases.keys() {
            let upper = app.to_uppercase();
            command
                .env(format!("{upper}_DSN"), self.dsn(app)?)
                .env(format!("{upper}_PREFIX"), self.prefix(app));
        }
        command.envs(self.environment.borrow().iter());
        Ok(command)
    }

    /// Sets a variable of the environment for all processes from here on.
    pub fn set_env(&self, name: &str, value: &str) {
        self.environment.borrow_mut().insert(name.to_owned(), value.to_owned());
    }

    fn stage_command(&self, stage: &Stage, args: &[&str]) -> anyhow::Result<Command> {
        let own = stage.args();
        let mut all: Vec<&str> = own.iter().map(String::as_str).collect();
        all.extend(args);
        let state = self.state_dir(stage);
        let mut command = self.command(stage.binary(), &all)?;
        command.arg("--state-dir").arg(state);
        Ok(command)
    }

    /// Where a stage keeps what it could also read again.
    pub fn state_dir(&self, stage: &Stage) -> PathBuf {
        self.path(&format!("state-{}", stage.binary()))
    }

    /// Runs a stage with these arguments to its end, whatever its exit code.
    pub fn run(&self, stage: &Stage, args: &[&str]) -> anyhow::Result<Finished> {
        self.runs.set(self.runs.get() + 1);
        let log = self.path(&format!("{:03}-{stage}.log", self.runs.get()));
        process::run(self.stage_command(stage, args)?, &log, RUN_MAX_S)
    }

    /// Lets a stage work off what is there.
    pub fn until_current(&self, stage: &Stage) -> anyhow::Result<Finished> {
        self.run(stage, &["--until-current"])?
            .expect_code(0)
            .with_context(|| format!("{stage} --until-current"))
    }

    /// Lets several stages work off what is there, one after the other.
    pub fn work_off(&self, stages: &[Stage]) -> anyhow::Result<()> {
        stages
            .iter()
            .try_for_each(|stage| self.until_current(stage).map(|_| ()))
    }

    /// Captures and agrees, and delivers nothing.
    pub fn agree(&self) -> anyhow::Result<()> {
        self.work_off(&[Stage::Capture, Stage::Transform])
    }

    /// Starts a stage as a service.
    pub fn start(&self, stage: &Stage) -> anyhow::Result<Service> {
        self.start_with(stage, &[], &[])
    }

    /// Starts a stage as a service, with further arguments and environment.
    pub fn start_with(&self, stage: &Stage, args: &[&str], env: &[(&str, &str)]) -> anyhow::Result<Service> {
        let mut command = self.stage_command(stage, args)?;
        command.envs(env.iter().copied());
        Service::spawn(command, &self.path(&format!("{stage}.log")))
    }

    /// Runs the stages, in the direction of the record, until there is nothing left to capture or nothing to deliver.
    pub fn settle(&self) -> anyhow::Result<()> {
        let (mut captured, mut agreed) = (None, None);
        for _ in 0..ROUNDS_MAX {
            self.until_current(&Stage::Capture)?;
            let now = Some(self.ends(&format!("{}_", self.name))?);
            if std::mem::replace(&mut captured, now.clone()) == now {
                return Ok(());
            }
            self.until_current(&Stage::Transform)?;
            let now = Some(self.ends(&format!("{}.canonical.", self.name))?);
            if std::mem::replace(&mut agreed, now.clone()) == now {
                return Ok(());
            }
            self.until_current(&Stage::Sink)?;
        }
        bail!("the apps still wrote to each other after {ROUNDS_MAX} rounds: a loop");
    }

    /// The ends of the topics whose names begin with `prefix`, idle progress excepted.
    fn ends(&self, prefix: &str) -> anyhow::Result<BTreeMap<(String, i32), i64>> {
        let mut names = self.topics.names(&[prefix])?;
        names.retain(|name| !name.ends_with(".syncline.progress"));
        self.topics.ends(&names)
    }

    // ---- what was decided ---------------------------------------------------------------------------------------------

    /// Every canonical record of an entity, version 1, as they were written.
    pub fn canonical_log(&self, entity: &str) -> anyhow::Result<Vec<Record>> {
        self.read_if_there(&topic::canonical(&self.name, entity, 1))
    }

    /// The last canonical record of each cid.
    pub fn canonical(&self, entity: &str) -> anyhow::Result<BTreeMap<String, Agreed>> {
        let latest = self.latest(&topic::canonical(&self.name, entity, 1))?;
        latest
            .into_iter()
            .map(|(cid, record)| Ok((cid, Agreed::of(&self.topics, &record)?)))
            .collect()
    }

    /// The only canonical record that there is.
    pub fn only_canonical(&self, entity: &str) -> anyhow::Result<Agreed> {
        let mut all = self.canonical(entity)?;
        match (all.len(), all.pop_first()) {
            (1, Some((_, record))) => Ok(record),
            (count, _) => bail!("{count} records of {entity} where one was expected"),
        }
    }

    /// The last canonical record of one entity.
    pub fn canonical_of(&self, entity: &str, cid: &str) -> anyhow::Result<Option<Agreed>> {
        let log = self.canonical_log(entity)?;
        let last = log
            .iter()
            .rev()
            .find(|record| record.key.as_deref() == Some(cid.as_bytes()));
        last.map(|record| Agreed::of(&self.topics, record)).transpose()
    }

    /// The canonical record whose `field` shows as `value`.
    pub fn canonical_where(&self, entity: &str, field: &str, value: &str) -> anyhow::Result<Agreed> {
        let all = self.canonical(entity)?;
        let found = all.into_values().find(|agreed| agreed.show(field) == value);
        found.with_context(|| format!("no {entity} with {field} = {value}"))
    }

    /// The last record of each conflict, by `cid/field`.
    pub fn conflicts(&self, entity: &str) -> anyhow::Result<BTreeMap<String, Decided>> {
        let latest = self.latest(&topic::conflicts(&self.name, entity))?;
        latest
            .into_iter()
            .map(|(key, record)| Ok((key, Decided::of(&self.topics, &record)?)))
            .collect()
    }

    /// The dead letters of a stage.
    pub fn dead_letters(&self, stage: &str) -> anyhow::Result<Vec<Record>> {
        self.read_if_there(&topic::dead_letters(&self.name, stage))
    }

    /// The last record of each key that is no tombstone, by the key's text.
    pub fn latest(&self, topic: &str) -> anyhow::Result<BTreeMap<String, Record>> {
        let mut all = BTreeMap::new();
        for record in self.read_if_there(topic)? {
            all.insert(record.key_text(), record);
        }
        all.retain(|_, record| record.value.is_some());
        Ok(all)
    }

    fn read_if_there(&self, name: &str) -> anyhow::Result<Vec<Record>> {
        if self.topics.names(&[name])?.iter().any(|topic| topic == name) {
            self.topics.read(name)
        } else {
            Ok(Vec::new())
        }
    }

    // ---- replay -------------------------------------------------------------------------------------------------------

    /// Forgets what transform and sink keep: the local state, the consumer groups, the offsets in the targets.
    pub fn forget(&self) -> anyhow::Result<()> {
        for stage in [Stage::Transform, Stage::Sink] {
            remove_if_there(&self.state_dir(&stage))?;
        }
        let groups: BTreeSet<String> = [self.name.clone(), format!("syncline-{}", self.name)]
            .iter()
            .map(|prefix| self.topics.groups(prefix))
            .collect::<anyhow::Result<Vec<_>>>()?
            .into_iter()
            .flatten()
            .collect();
        self.topics.delete_groups(&groups.into_iter().collect::<Vec<_>>())?;
        for (_, db) in self.databases.values() {
            if db.text("SELECT to_regclass('syncline.offsets') IS NOT NULL")? == "t" {
                db.exec("DELETE FROM syncline.offsets")?;
            }
        }
        Ok(())
    }

    fn clean_up(&self) -> anyhow::Result<()> {
        let server = Db::connect(&self.stack.dsn("postgres"))?;
        for (database, _) in self.databases.values() {
            drop_slots(&server, database)?;
            server.exec(&format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)"))?;
        }
        self.topics.delete(&self.topics.names(&[&self.name])?)
    }
}

fn remove_if_there(directory: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// A slot in use cannot be dropped, and its user needs a moment to notice that it was ended.
fn drop_slots(server: &Db, database: &str) -> anyhow::Result<()> {
    crate::until(&format!("the slots of {database} to be dropped"), 30, || {
        let of = format!("FROM pg_replication_slots WHERE database = '{database}'");
        server.text(&format!("SELECT pg_terminate_backend(active_pid) {of} AND active"))?;
        let _ = server.text(&format!(
            "SELECT pg_drop_replication_slot(slot_name) {of} AND NOT active"
        ));
        Ok(server.number(&format!("SELECT count(*) {of}"))? == 0)
    })
}

impl Drop for World {
    fn drop(&mut self) {
        if self.qualifier.is_empty() {
            return;
        }
        if self.keep_files.get() || std::thread::panicking() || std::env::var_os("SYNCLINE_TEST_KEEP").is_some() {
            self.directory.disable_cleanup(true);
            println!(
                "{}: logs and files are in {}",
                self.name,
                self.directory.path().display()
            );
        }
        if std::env::var_os("SYNCLINE_TEST_KEEP").is_none()
            && let Err(error) = self.clean_up()
        {
            println!("{}: could not clean up: {error:#}", self.name);
        }
    }
}

/// Unlike any other name, within the 63 characters of a slot name.
fn unique(name: &str) -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis());
    let number = u128::from(std::process::id()) << 4 | u128::from(COUNTER.fetch_add(1, Ordering::Relaxed) & 15);
    format!("{name}_{:x}{number:x}", now & 0xFFF_FFFF)
}
