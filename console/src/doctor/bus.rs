//! Kafka and the registry, as our processes see them. Nothing is made or changed but one thing: a transactional id of
//! the doctor's own is claimed, since no question says whether it could be; the broker forgets it after a week.

use syncline_bus::admin::TopicSpec;
use syncline_bus::survey::survey;
use syncline_bus::{BusConfig, Producer};
use syncline_capture::config::SourceConfig;
use syncline_runtime::Failure;
use syncline_schemas::pipeline::{CapturedBy, Pipeline};
use syncline_schemas::topic;

use super::facts::{Bus, Source, WantedTopic};

/// Asks Kafka; what the registry answered is known already.
pub fn gather(
    pipeline: &Pipeline,
    sources: &[(SourceConfig, Option<Source>)],
    registry: Result<String, Failure>,
) -> Bus {
    let config = BusConfig {
        bootstrap: pipeline.kafka.clone(),
        properties: pipeline.kafka_properties.clone(),
        client_id: "syncline-doctor".to_owned(),
    };
    let mut wanted: Vec<WantedTopic> = sources
        .iter()
        .flat_map(|(config, source)| captured(config, source.as_ref()))
        .collect();
    wanted.extend(agreed(pipeline));
    let specs: Vec<TopicSpec> = wanted.iter().map(spec).collect();
    let cluster = survey(&config, &specs);
    // Whoever cannot reach the cluster need not wait for that a second time.
    let transactions = match &cluster {
        Ok(_) => probe(&config),
        Err(_) => Ok(()),
    };
    Bus {
        bootstrap: pipeline.kafka.clone(),
        cluster,
        wanted,
        transactions,
        transactional_prefix: PREFIX.to_owned(),
        registry,
    }
}

const PREFIX: &str = "syncline-";

fn probe(config: &BusConfig) -> Result<(), Failure> {
    Producer::transactional(config, &format!("{PREFIX}doctor")).map(drop)
}

fn captured(config: &SourceConfig, source: Option<&Source>) -> Vec<WantedTopic> {
    let mut topics = vec![
        wanted(topic::progress(&config.prefix), 1).compacted(),
        wanted(topic::marks(&config.prefix), config.partitions),
    ];
    let tables = source.map_or(&[][..], |source| &source.tables);
    topics.extend(tables.iter().map(|table| {
        let name = topic::capture(&config.prefix, &table.name.schema, &table.name.table);
        wanted(name, config.partitions)
    }));
    topics
}

/// What map, merge and sink write and read.
fn agreed(pipeline: &Pipeline) -> Vec<WantedTopic> {
    let mut topics = Vec::new();
    let partitions = pipeline.partitions;
    for entity in &pipeline.entities {
        let (name, entity_name) = (&pipeline.name, &entity.name);
        topics.extend([
            wanted(topic::mapped(name, entity_name), partitions),
            wanted(topic::decisions(name, entity_name), partitions),
            wanted(topic::conflicts(name, entity_name), partitions),
            wanted(topic::state(name, entity_name), partitions).compacted(),
            wanted(topic::canonical(name, entity_name, entity.version), partitions).compacted(),
            wanted(topic::crosswalk(name, entity_name), partitions)
                .compacted()
                .of_any_width(),
        ]);
        if pipeline.guards.any() {
            topics.push(
                wanted(topic::guards(name, entity_name), partitions)
                    .compacted()
                    .of_any_width(),
            );
        }
        if !entity.references.is_empty() {
            let waiting = wanted(topic::waiting(name, entity_name), partitions);
            topics.push(waiting.compacted().of_any_width());
        }
    }
    if pipeline.guards.any() {
        topics.push(wanted(topic::pauses(&pipeline.name), 1));
    }
    let foreign = pipeline
        .systems
        .iter()
        .filter(|system| system.capture == CapturedBy::Debezium);
    for system in foreign {
        for table in pipeline.captured_tables(&system.name) {
            let (schema, table) = table.split_once('.').unwrap_or(("public", &table));
            topics.push(wanted(topic::capture(&system.topic_prefix, schema, table), partitions).of_any_width());
        }
    }
    topics
}

fn wanted(name: String, partitions: i32) -> WantedTopic {
    WantedTopic {
        name,
        partitions: usize::try_from(partitions).unwrap_or(1),
        any_partitions: false,
        compacted: false,
    }
}

impl WantedTopic {
    fn compacted(self) -> Self {
        Self {
            compacted: true,
            ..self
        }
    }

    fn of_any_width(self) -> Self {
        Self {
            any_partitions: true,
            ..self
        }
    }
}

fn spec(wanted: &WantedTopic) -> TopicSpec {
    let spec = TopicSpec::new(&wanted.name, i32::try_from(wanted.partitions).unwrap_or(1));
    if wanted.compacted { spec.compacted() } else { spec }
}
