//! Two PostgreSQL servers of the benchmark's own, source and target, beside the broker and the registry of the stack.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context as _;
use syncline_tests::{Db, OwnServer, Stack, Topics};

use crate::Plan;
use crate::{machine, result, work};

/// Settings of both: what must not disturb a run is switched off, what every production server raises is raised.
const SETTINGS: [(&str, &str); 8] = [
    ("shared_buffers", "1GB"),
    ("max_wal_size", "16GB"),
    ("checkpoint_timeout", "1h"),
    ("autovacuum", "off"),
    ("track_commit_timestamp", "on"),
    ("max_replication_slots", "100"),
    ("max_wal_senders", "20"),
    // Nothing that is measured takes so long; a statement that hangs must not hold up all that comes after it.
    ("statement_timeout", "60min"),
];

const SYNCS: usize = 100;

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

    /// Versions, and what a forced write to the disk takes: what a result depends on beyond the processor.
    pub fn describe(&self) -> anyhow::Result<String> {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Ok(format!(
            ", Linux {}, PostgreSQL {}, fdatasync {:.0} us",
            kernel.trim(),
            self.source_db()?.text("SHOW server_version")?,
            self.sync_us()?
        ))
    }

    /// The middle of some forced writes, microseconds.
    fn sync_us(&self) -> anyhow::Result<f64> {
        let mut file = std::fs::File::create(self.path("sync"))?;
        let mut times = Vec::new();
        for _ in 0..SYNCS {
            file.write_all(&[0; 8192])?;
            let began = Instant::now();
            file.sync_data()?;
            times.push(began.elapsed().as_secs_f64() * 1e6);
        }
        Ok(result::spread(times).map_or(0.0, |(middle, _, _)| middle))
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
