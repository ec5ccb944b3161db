//! What both stages are given, and the topics they need.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use syncline_bus::admin::{self, TopicSpec};
use syncline_bus::consumer::TopicPartition;
use syncline_bus::{BusConfig, Patience};
use syncline_runtime::{Health, Outcome, Process, Shutdown};
use syncline_schemas::pipeline::{CapturedBy, Link, Pipeline};
use syncline_schemas::topic;

use crate::batch::Bounds;

/// How long what sources said is kept: longer than merge may ever stand still.
const MAPPED_KEPT_DAYS: i64 = 90;
/// How long one can look up why.
const CONFLICTS_KEPT_DAYS: i64 = 365;
/// How long somebody has to look after a dead letter.
const DEAD_LETTERS_KEPT_DAYS: i64 = 14;
/// What people decided nobody can say again.
const FOR_EVER: i64 = -1;
const DAY_MS: i64 = 86_400_000;

/// What both stages are given.
#[derive(Clone)]
pub struct Context {
    /// The pipeline.
    pub pipeline: Arc<Pipeline>,
    /// The cluster.
    pub bus: BusConfig,
    /// The wish to stop.
    pub shutdown: Shutdown,
    /// Which parts work.
    pub health: Health,
    /// Where the local stores are.
    pub state_dir: PathBuf,
    /// Name of this instance.
    pub instance: String,
    /// Whether to stop at the ends that the input has at the start.
    pub until_current: bool,
    /// Bounds of a batch.
    pub bounds: Bounds,
    /// Whether the topics are known to exist.
    ensured: Arc<AtomicBool>,
}

impl Context {
    /// For a process that has started.
    pub fn new(process: &Process, pipeline: Pipeline) -> Self {
        let name = format!("syncline-{}-transform-{}", pipeline.name, process.args.instance);
        let state_dir = process
            .args
            .state_dir
            .clone()
            .unwrap_or_else(|| std::env::temp_dir().join(&name));
        Self {
            bus: BusConfig {
                bootstrap: pipeline.kafka.clone(),
                properties: pipeline.kafka_properties.clone(),
                client_id: name,
            },
            pipeline: Arc::new(pipeline),
            shutdown: process.shutdown.clone(),
            health: process.health.clone(),
            state_dir,
            instance: process.args.instance.clone(),
            until_current: process.args.until_current,
            bounds: Bounds::default(),
            ensured: Arc::default(),
        }
    }

    /// The links whose tables are read.
    pub fn reading_links(&self) -> impl Iterator<Item = &Link> {
        self.pipeline.links.iter().filter(|link| link.reads())
    }

    /// The topic with the changes of the link's table.
    pub fn capture_topic(&self, link: &Link) -> String {
        let prefix = self
            .pipeline
            .system(&link.system)
            .map_or(link.system.as_str(), |system| &system.topic_prefix);
        topic::capture(prefix, &link.schema, &link.table)
    }

    /// The topics with marks, and the system each belongs to.
    pub fn marks_topics(&self) -> BTreeMap<String, String> {
        let ours = self
            .pipeline
            .systems
            .iter()
            .filter(|system| system.capture == CapturedBy::Syncline);
        let read = ours.filter(|system| self.reading_links().any(|link| link.system == system.name));
        read.map(|system| (topic::marks(&system.topic_prefix), system.name.clone()))
            .collect()
    }

    /// The ends of these topics now.
    pub fn ends<'a>(&self, topics: impl IntoIterator<Item = &'a String>) -> Outcome<BTreeMap<TopicPartition, i64>> {
        let mut ends = BTreeMap::new();
        for topic in topics {
            let partitions = admin::end_offsets_with(&self.bus, topic, Patience::of(self.until_current))?;
            ends.extend(
                partitions
                    .into_iter()
                    .map(|(partition, end)| ((topic.clone(), partition), end)),
            );
        }
        Ok(ends)
    }

    /// Makes the topics that are missing, once per process. Those of captures are left as they are if they exist.
    pub fn ensure_topics(&self) -> Outcome<()> {
        if self.ensured.load(Ordering::Acquire) {
            return Ok(());
        }
        let captured = self.ensure_captured()?;
        let pipeline = &self.pipeline;
        let topics = |name: String| TopicSpec::new(name, pipeline.partitions);
        let mut specs = vec![
            kept(
                topics(topic::dead_letters(&pipeline.name, "map")),
                DEAD_LETTERS_KEPT_DAYS,
            ),
            kept(
                topics(topic::dead_letters(&pipeline.name, "merge")),
                DEAD_LETTERS_KEPT_DAYS,
            ),
        ];
        if pipeline.guards.any() {
            // Of one partition, so that all instances read one story.
            specs.push(kept(TopicSpec::new(topic::pauses(&pipeline.name), 1), FOR_EVER));
        }
        for entity in &pipeline.entities {
            specs.push(kept(
                topics(topic::mapped(&pipeline.name, &entity.name)),
                MAPPED_KEPT_DAYS,
            ));
            specs.push(kept(topics(topic::decisions(&pipeline.name, &entity.name)), FOR_EVER));
            let identity = TopicSpec::new(topic::identity(&pipeline.name, &entity.name), 1);
            specs.push(kept(identity, FOR_EVER));
            if pipeline.compares(entity) {
                for name in [topic::sightings, topic::reviews] {
                    specs.push(TopicSpec::new(name(&pipeline.name, &entity.name), 1).compacted());
                }
            }
            if entity.has_deadlines() {
                specs.push(topics(topic::ticks(&pipeline.name, &entity.name)).compacted());
            }
            specs.push(kept(
                topics(topic::conflicts(&pipeline.name, &entity.name)),
                CONFLICTS_KEPT_DAYS,
            ));
            specs.push(topics(topic::state(&pipeline.name, &entity.name)).compacted());
            specs.push(topics(topic::canonical(&pipeline.name, &entity.name, entity.version)).compacted());
            // A row's crosswalk entry is in the partition of its change, so there are as many as of the widest input.
            let links = self.reading_links().filter(|link| link.entity == entity.name);
            let inputs = links.filter_map(|link| captured.get(&self.capture_topic(link)).copied());
            let widest = inputs.max().unwrap_or(0).max(pipeline.partitions);
            specs.push(TopicSpec::new(topic::crosswalk(&pipeline.name, &entity.name), widest).compacted());
            if pipeline.guards.any() {
                specs.push(TopicSpec::new(topic::guards(&pipeline.name, &entity.name), widest).compacted());
            }
            if !entity.references.is_empty() {
                specs.push(TopicSpec::new(topic::waiting(&pipeline.name, &entity.name), widest).compacted());
            }
        }
        admin::ensure(&self.bus, &specs)?;
        self.ensured.store(true, Ordering::Release);
        Ok(())
    }

    /// After a failure, which may have been a missing topic, they are looked at again.
    pub fn doubt_topics(&self) {
        self.ensured.store(false, Ordering::Release);
    }

    /// The topics that captures write, with their number of partitions.
    fn ensure_captured(&self) -> Outcome<BTreeMap<String, i32>> {
        let mut names: BTreeSet<String> = self.marks_topics().into_keys().collect();
        names.extend(self.reading_links().map(|link| self.capture_topic(link)));
        let (mut captured, mut missing) = (BTreeMap::new(), Vec::new());
        for name in names {
            match admin::partitions(&self.bus, &name)? {
                Some(partitions) => {
                    captured.insert(name, partitions);
                }
                None => missing.push(TopicSpec::new(name, self.pipeline.partitions)),
            }
        }
        if !missing.is_empty() {
            admin::ensure(&self.bus, &missing)?;
        }
        Ok(captured)
    }
}

/// The consumer group of a stage.
pub fn group(pipeline: &str, stage: &str) -> String {
    format!("syncline-{pipeline}-{stage}")
}

/// A topic whose records are kept for so many days; all of them if that is negative.
fn kept(mut spec: TopicSpec, days: i64) -> TopicSpec {
    let retention_ms = if days < 0 { FOR_EVER } else { days * DAY_MS };
    spec.config.push(("retention.ms".to_owned(), retention_ms.to_string()));
    spec
}
