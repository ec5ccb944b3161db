//! Two PostgreSQL servers of the benchmark's own, source and target, beside the broker and the registry of the stack.

use std::path::PathBuf;

use anyhow::Context as _;
use syncline_tests::{Db, OwnServer, Stack, Topics};

use crate::Plan;
use crate::{machine, work};

/// Settings of both: what must not disturb a run is switched off, what every production server raises is raised.
const SETTINGS: [(&str, &str); 7] = [
    ("shared_buffers", "1GB"),
    ("max_wal_size", "16GB"),
    ("checkpoint_timeout", "1h"),
    ("autovacuum", "off"),
    ("track_commit_timestamp", "on"),
    ("max_replication_slots", "100"),
    ("max_wal_senders", "20"),
];

/// Everything that a run needs.
pub struct Bed {
    /// Where rows come from.
    pub source: OwnServer,
    /// Where they go.
    pub target: OwnServer,
    /// Broker and registry.
    pub stack: Stack,
    /// The same, to read from.
    pub topics: Topics,
    /// Process id of the broker.
    pub broker: u32,
    /// For pipeline files and logs.
    pub directory: tempfile::TempDir,
}

impl Bed {
    /// Makes the servers and the table of the work-loads.
    pub fn make(plan: &Plan) -> anyhow::Result<Self> {
        let stack = Stack::from_env()?;
        let bed = Self {
            source: OwnServer::start(&SETTINGS)?,
            target: OwnServer::start(&SETTINGS)?,
            topics: Topics::new(&stack),
            broker: broker_pid()?,
            directory: tempfile::Builder::new().prefix("syncline-bench-").tempdir()?,
            stack,
        };
        work::make_table(&bed.source_db()?, plan.rows)?;
        Ok(bed)
    }

    /// A connection to the source.
    pub fn source_db(&self) -> anyhow::Result<Db> {
        self.source.db("postgres")
    }

    /// A connection to the target.
    pub fn target_db(&self) -> anyhow::Result<Db> {
        self.target.db("postgres")
    }

    /// A file of the benchmark.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// Process id of the server behind a connection.
pub fn server_pid(db: &Db) -> anyhow::Result<u32> {
    machine::parent_of(u32::try_from(db.number("SELECT pg_backend_pid()")?)?)
}

fn broker_pid() -> anyhow::Result<u32> {
    let directory = std::env::var("SYNCLINE_STACK_DIR").context("SYNCLINE_STACK_DIR; see deploy/stack.sh env")?;
    let file = PathBuf::from(directory).join("kafka.pid");
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    Ok(text.trim().parse()?)
}
