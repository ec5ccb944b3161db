//! `syncline-merge-core`: the merge of many entities over the real local store, without Kafka's part.
//!
//! A core of merge reads batches of mapped records as they come from Kafka, joins, resolves, writes what has to go out into
//! memory, and puts the states into the store: all that the merge stage does but for polling and committing. First all
//! apps are read once, then everything is published, then edits of any entities come in; those are what is measured.
//! Afterwards the store is opened again as after a restart and, with `--bootstrap`, rebuilt from a changelog in a real
//! Kafka, and what came of that is compared with what there was.
//!
//! Prints one line of JSON; what it is doing goes to stderr.

#![allow(clippy::print_stderr, reason = "a measurement says on stderr what it is doing")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, anyhow, ensure};
use clap::Parser as _;
use serde_json::json;
use syncline_bus::admin::{self, TopicSpec};
use syncline_bus::{BusConfig, InRecord, OutRecord, Producer};
use syncline_micro::customers::{self, APPS};
use syncline_runtime::{Outcome, Shutdown};
use syncline_schemas::codec::Wire as _;
use syncline_schemas::mapped::MappedRecord;
use syncline_schemas::pipeline::Pipeline;
use syncline_transform::changelog;
use syncline_transform::entity_shard::{EntityRoom, EntityShard, Touched, Work};
use syncline_transform::schemas::Schemas;
use syncline_transform::store::{DiskStore, EntityStore as _, Shard};

/// What the stage takes at once at most, and publishes at once.
const BATCH_ROWS: u64 = 5_000;
const PUBLISH_ROWS: usize = 1_000;
const SCAN_ROWS: usize = 5_000;

/// Measures the merge core.
#[derive(clap::Parser)]
#[command(name = "syncline-merge-core", version)]
struct Cli {
    /// Entities
    #[arg(long, default_value_t = 1_000_000)]
    entities: u64,
    /// Edits, each of one field of any entity
    #[arg(long, default_value_t = 1_000_000)]
    edits: u64,
    /// All apps edit the same field without having seen each other
    #[arg(long)]
    contested: bool,
    /// Where the store is made (and removed); without it in the directory for temporary files
    #[arg(long)]
    state_dir: Option<PathBuf>,
    /// Brokers: the store is rebuilt from a changelog there, too
    #[arg(long)]
    bootstrap: Option<String>,
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let directory = match &cli.state_dir {
        Some(parent) => tempfile::tempdir_in(parent)?,
        None => tempfile::tempdir()?,
    };
    let pipeline = customers::pipeline()?;
    let mut core = Core::open(&pipeline, &directory.path().join("store"))?;
    let loading = core.load(&cli, &pipeline)?;
    let publishing = core.publish()?;
    let edits = core.edit(&cli)?;
    let peak_rss_mb = status_mb("VmHWM:")?;
    let (shard, store_mb) = (core.shard.changelog().clone(), size_mb(directory.path())?);
    drop(core);

    let started = Instant::now();
    let again = Core::open(&pipeline, &directory.path().join("store"))?;
    let from_cache_s = started.elapsed().as_secs_f64();
    ensure!(!again.shard.is_publishing(), "what was published is known no more");
    let from_changelog = match &cli.bootstrap {
        Some(bootstrap) => Some(rebuild(
            &BusConfig::new(bootstrap, "merge-core"),
            &again.store,
            &shard,
            directory.path(),
        )?),
        None => None,
    };
    println!(
        "{}",
        json!({
            "entities": cli.entities, "edits": cli.edits, "contested": cli.contested,
            "edits_per_s": edits.per_s(), "edits_per_core_s": edits.per_core_s(),
            "wall_s": edits.wall_s, "merge_cpu_s": edits.own_s, "store_cpu_s": edits.others_s,
            "load_records_per_s": loading.per_s(), "publish_entities_per_s": publishing.per_s(),
            "record_bytes": edits.bytes / edits.records.max(1), "published": edits.published,
            "peak_rss_mb": peak_rss_mb, "store_mb": store_mb,
            "restart_from_cache_s": from_cache_s,
            "restart_from_changelog_s": from_changelog.map(|restored| restored.seconds),
            "changelog_records": from_changelog.map(|restored| restored.records),
        })
    );
    Ok(())
}

/// What a part of the run took. The making of the records is on nobody's account.
#[derive(Default)]
struct Took {
    records: u64,
    bytes: u64,
    published: usize,
    wall_s: f64,
    /// Of the thread that merges.
    own_s: f64,
    /// Of the threads of the store.
    others_s: f64,
}

impl Took {
    /// Begins to count the time of the other threads.
    fn begin() -> anyhow::Result<Self> {
        Ok(Self {
            others_s: -others_cpu_s()?,
            ..Self::default()
        })
    }

    fn end(mut self) -> anyhow::Result<Self> {
        self.others_s += others_cpu_s()?;
        Ok(self)
    }

    fn per_s(&self) -> f64 {
        self.records as f64 / self.wall_s.max(f64::EPSILON)
    }

    /// By the time of all threads, as if there were one core.
    fn per_core_s(&self) -> f64 {
        self.records as f64 / (self.own_s + self.others_s).max(f64::EPSILON)
    }

    /// Does a piece of it.
    fn time<T>(&mut self, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        let (started, before_s) = (Instant::now(), cpu_s("thread-self")?);
        let done = work();
        self.wall_s += started.elapsed().as_secs_f64();
        self.own_s += cpu_s("thread-self")? - before_s;
        done
    }
}

/// One partition of one entity, as the merge stage has it.
struct Core {
    shard: EntityShard,
    store: DiskStore,
    schemas: Schemas,
}

impl Core {
    fn open(pipeline: &Pipeline, directory: &Path) -> anyhow::Result<Self> {
        let room: Arc<EntityRoom> = customers::room(pipeline)?;
        let store = said(DiskStore::open(directory))?;
        let mut schemas = customers::schemas(pipeline)?;
        Ok(Self {
            shard: said(EntityShard::open(room, 0, &store, &mut schemas))?,
            store,
            schemas,
        })
    }

    /// One batch of the stage: gives how many records would go out.
    fn merge(&mut self, records: &[InRecord]) -> Outcome<usize> {
        let (mut work, mut touched) = (Work::default(), Touched::default());
        for record in records {
            let value = record.value.as_deref().unwrap_or_default();
            if let Ok(mapped) = self.schemas.read(value, MappedRecord::decode)? {
                let Self { shard, store, schemas } = self;
                shard.take(mapped, record, store, schemas, &mut touched, &mut work)?;
            }
        }
        self.shard.finish(touched, &mut work);
        work.overlay.settle(&mut self.store)?;
        Ok(work.outputs.len())
    }

    /// Every app says what it holds at first, and that it has said all. They are read side by side, so that ten million
    /// entities are loaded in minutes.
    fn load(&mut self, cli: &Cli, pipeline: &Pipeline) -> anyhow::Result<Took> {
        eprintln!("{} apps say all they hold of {} entities", APPS.len(), cli.entities);
        let mut took = Took::begin()?;
        let apps = APPS.len() as u64;
        self.batches(&mut took, cli.entities * apps, |number| {
            let app = usize::try_from(number % apps).unwrap_or(0);
            customers::said(number / apps, app, 0, cli.contested)
        })?;
        let links = pipeline.links.iter().map(|link| customers::loaded(&link.name(), 0));
        said(self.merge(&links.collect::<Vec<_>>()))?;
        took.end()
    }

    fn publish(&mut self) -> anyhow::Result<Took> {
        eprintln!("everything is published");
        let mut took = Took::begin()?;
        while self.shard.is_publishing() {
            let Self { shard, store, schemas } = self;
            let published = took.time(|| {
                let (mut work, publication) = said(shard.publish_more(store, schemas, PUBLISH_ROWS))?;
                said(work.overlay.settle(store))?;
                shard.settle(publication);
                // The last of each is how far that has come.
                Ok(work.outputs.len().saturating_sub(1))
            })?;
            took.records += published as u64;
        }
        took.end()
    }

    /// Users edit, as evenly as a hash.
    fn edit(&mut self, cli: &Cli) -> anyhow::Result<Took> {
        eprintln!("{} edits", cli.edits);
        let mut took = Took::begin()?;
        self.batches(&mut took, cli.edits, |number| {
            let app = usize::try_from(number % APPS.len() as u64).unwrap_or(0);
            customers::said(
                customers::scattered(number) % cli.entities,
                app,
                number + 1,
                cli.contested,
            )
        })?;
        Ok(took)
    }

    fn batches(
        &mut self,
        took: &mut Took,
        records: u64,
        said_by: impl Fn(u64) -> syncline_schemas::mapped::Mapped,
    ) -> anyhow::Result<()> {
        for start in (0..records).step_by(usize::try_from(BATCH_ROWS)?) {
            let numbers = start..records.min(start + BATCH_ROWS);
            let batch: Vec<InRecord> = numbers
                .map(|number| customers::record(said_by(number), i64::try_from(number).unwrap_or(i64::MAX)))
                .collect();
            let bytes = batch.iter().filter_map(|record| record.value.as_ref()).map(Vec::len);
            took.bytes += bytes.sum::<usize>() as u64;
            took.records += batch.len() as u64;
            let published = took.time(|| said(self.merge(&batch)))?;
            took.published += published;
        }
        Ok(())
    }
}

/// A store made anew from the changelog.
#[derive(Clone, Copy)]
struct Restored {
    seconds: f64,
    records: u64,
}

/// Writes the store's content as a changelog, reads it back into an empty store, and holds the two against each other.
fn rebuild(bus: &BusConfig, store: &DiskStore, shard: &Shard, directory: &Path) -> anyhow::Result<Restored> {
    let topic = format!("merge-core-{}", std::process::id());
    eprintln!("the changelog goes to {topic}");
    said(admin::ensure(bus, &[TopicSpec::new(&topic, 1).compacted()]))?;
    let restored = written(bus, store, shard, &topic).and_then(|written| {
        let target = Shard {
            topic: topic.clone(),
            partition: 0,
        };
        let mut empty = said(DiskStore::open(&directory.join("rebuilt")))?;
        let started = Instant::now();
        said(changelog::restore(bus, &mut empty, &target, &Shutdown::new()))?;
        let seconds = started.elapsed().as_secs_f64();
        let mut records = 0;
        let came = scan(&empty, &target, |_, _| {
            records += 1;
            Ok(())
        })?;
        ensure!(came == written, "what was rebuilt is not what was there");
        Ok(Restored { seconds, records })
    });
    said(admin::delete(bus, &[&topic]))?;
    restored
}

fn written(bus: &BusConfig, store: &DiskStore, shard: &Shard, topic: &str) -> anyhow::Result<u64> {
    let mut producer = said(Producer::idempotent(bus))?;
    let digest = scan(store, shard, |key, value| {
        said(producer.send(&OutRecord {
            topic,
            partition: Some(0),
            key: Some(key.as_bytes()),
            value: Some(value),
            headers: &[],
            timestamp_ms: None,
        }))
    })?;
    said(producer.flush())?;
    Ok(digest)
}

/// Every entry of the shard, in order; gives a digest of all.
fn scan(
    store: &DiskStore,
    shard: &Shard,
    mut each: impl FnMut(&str, &[u8]) -> anyhow::Result<()>,
) -> anyhow::Result<u64> {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let (mut hasher, mut after) = (DefaultHasher::new(), String::new());
    loop {
        let entries = said(store.scan(shard, &after, SCAN_ROWS))?;
        let Some((last, _)) = entries.last() else {
            return Ok(hasher.finish());
        };
        last.clone_into(&mut after);
        for (key, value) in &entries {
            (key, value).hash(&mut hasher);
            each(key, value)?;
        }
    }
}

fn said<T>(outcome: Outcome<T>) -> anyhow::Result<T> {
    outcome.map_err(|failure| anyhow!("{failure}"))
}

/// Processor time of a thread, in seconds.
fn cpu_s(thread: &str) -> anyhow::Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{thread}/schedstat"))?;
    let nanoseconds = text
        .split_ascii_whitespace()
        .next()
        .context("/proc/*/schedstat is empty")?;
    Ok(nanoseconds.parse::<f64>()? / 1e9)
}

/// Processor time of all threads but this one.
fn others_cpu_s() -> anyhow::Result<f64> {
    let mut sum = -cpu_s("thread-self")?;
    for thread in std::fs::read_dir("/proc/self/task")? {
        let id = thread?.file_name();
        sum += cpu_s(&format!("self/task/{}", id.to_string_lossy())).unwrap_or_default();
    }
    Ok(sum)
}

/// A line of `/proc/self/status` that is in kB, in MB.
fn status_mb(name: &str) -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .context("/proc/self/status")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}

fn size_mb(directory: &Path) -> anyhow::Result<f64> {
    let mut bytes = 0.0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        bytes += match entry.metadata()? {
            metadata if metadata.is_dir() => size_mb(&entry.path())? * 1e6,
            metadata => metadata.len() as f64,
        };
    }
    Ok(bytes / 1e6)
}
