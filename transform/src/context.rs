//! What both stages are given, and the topics they need.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use syncline_bus::BusConfig;
use syncline_bus::admin::{self, TopicSpec};
use syncline_bus::consumer::TopicPartition;
use syncline_runtime::{Health, Outcome, Process, Shutdown};
use syncline_schemas::pipeline::{CapturedBy, Link, Pipeline};
use syncline_schemas::topic;

use crate::batch::Bounds;

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
            let partitions = admin::end_offsets(&self.bus, topic)?;
            ends.extend(
                partitions
                    .into_iter()
                    .map(|(partition, end)| ((topic.clone(), partition), end)),
            );
        }
        Ok(ends)
    }

    /// Makes the topics that are missing. Those of captures are left as they are if they exist.
    pub fn ensure_topics(&self) -> Outcome<()> {
        let pipeline = &self.pipeline;
        let mut captured: Vec<String> = self.reading_links().map(|link| self.capture_topic(link)).collect();
        captured.extend(self.marks_topics().into_keys());
        captured.sort();
        captured.dedup();
        for name in captured {
            if admin::partitions(&self.bus, &name)?.is_none() {
                admin::ensure(&self.bus, &[TopicSpec::new(name, pipeline.partitions)])?;
            }
        }
        let mut specs = vec![
            TopicSpec::new(topic::dead_letters(&pipeline.name, "map"), pipeline.partitions),
            TopicSpec::new(topic::dead_letters(&pipeline.name, "merge"), pipeline.partitions),
        ];
        for entity in &pipeline.entities {
            let topics = |name: String| TopicSpec::new(name, pipeline.partitions);
            specs.push(topics(topic::mapped(&pipeline.name, &entity.name)));
            specs.push(topics(topic::decisions(&pipeline.name, &entity.name)));
            specs.push(topics(topic::conflicts(&pipeline.name, &entity.name)).compacted());
            specs.push(topics(topic::state(&pipeline.name, &entity.name)).compacted());
            specs.push(topics(topic::canonical(&pipeline.name, &entity.name, entity.version)).compacted());
            let crosswalk = topic::crosswalk(&pipeline.name, &entity.name);
            specs.push(TopicSpec::new(crosswalk, self.crosswalk_partitions(&entity.name)?).compacted());
        }
        admin::ensure(&self.bus, &specs)
    }

    /// A row's crosswalk entry is in the partition of its change, so there are as many as of the widest input.
    fn crosswalk_partitions(&self, entity: &str) -> Outcome<i32> {
        let mut widest = self.pipeline.partitions;
        for link in self.reading_links().filter(|link| link.entity == entity) {
            widest = widest.max(admin::partitions(&self.bus, &self.capture_topic(link))?.unwrap_or(0));
        }
        Ok(widest)
    }
}
