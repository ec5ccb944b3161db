//! The operator's desk: the pipeline file, and whom to ask about it.

use std::path::{Path, PathBuf};

use syncline_bus::BusConfig;
use syncline_runtime::process::{ARGUMENTS_INVALID, PIPELINE_INVALID};
use syncline_runtime::{Failure, Outcome};
use syncline_schemas::codec::{CodecError, ParsedSchema};
use syncline_schemas::pipeline::{self, Entity, Pipeline, Problem, Secret};
use syncline_transform::schemas::Schemas;

/// What every verb that asks can be told.
#[derive(Clone, Debug, clap::Args)]
pub struct Asked {
    /// The pipeline file
    #[arg(long, value_name = "FILE", env = "SYNCLINE_PIPELINE")]
    pub pipeline: PathBuf,
    /// Answer in JSON
    #[arg(long)]
    pub json: bool,
}

/// Who acts, and why: on the record for good.
#[derive(Clone, Debug, clap::Args)]
pub struct Actor {
    /// Who does it
    #[arg(long, value_name = "NAME", env = "SYNCLINE_BY")]
    pub by: String,
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub why: String,
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// The pipeline file, and whom to ask about it.
pub struct Desk {
    /// The pipeline.
    pub pipeline: Pipeline,
    /// The cluster.
    pub bus: BusConfig,
    /// The registry's schemas.
    pub schemas: Schemas,
}

impl Desk {
    /// Reads the file; nobody is asked yet.
    pub fn open(file: &Path) -> Outcome<Self> {
        // Two providers in one program would make rustls panic at the first connection; an Err means it is installed.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let pipeline = load(file)?;
        Ok(Self {
            bus: BusConfig {
                bootstrap: pipeline.kafka.clone(),
                properties: pipeline.kafka_properties.clone(),
                client_id: format!("syncline-{}-console", pipeline.name),
            },
            schemas: Schemas::new(&pipeline.registry),
            pipeline,
        })
    }

    /// The entity of this name.
    pub fn entity(&self, name: &str) -> Outcome<&Entity> {
        self.pipeline.entity(name).ok_or_else(|| {
            let names: Vec<&str> = self
                .pipeline
                .entities
                .iter()
                .map(|entity| entity.name.as_str())
                .collect();
            Failure::definite(ARGUMENTS_INVALID, format!("the pipeline file has no entity {name}"))
                .hint(format!("it has {}", names.join(", ")))
        })
    }

    /// The name of this entity, or of all.
    pub fn entities(&self, only: Option<&str>) -> Outcome<Vec<String>> {
        let all = || {
            self.pipeline
                .entities
                .iter()
                .map(|entity| entity.name.clone())
                .collect()
        };
        only.map_or_else(|| Ok(all()), |name| Ok(vec![self.entity(name)?.name.clone()]))
    }

    /// The databases that links write, in the order of the file.
    pub fn targets(&self) -> Vec<Target> {
        let written = |name: &str| {
            self.pipeline
                .links
                .iter()
                .any(|link| link.system == name && link.writes())
        };
        let systems = self.pipeline.systems.iter().filter(|system| written(&system.name));
        let targets = systems.filter_map(|system| {
            Some(Target {
                name: system.name.clone(),
                dsn: system.postgres.clone()?,
            })
        });
        targets.collect()
    }

    /// Reads a value of a topic that has to be readable.
    pub fn read<T>(
        &mut self,
        topic: &str,
        bytes: &[u8],
        read: impl FnOnce(&ParsedSchema, &[u8]) -> Result<T, CodecError>,
    ) -> Outcome<T> {
        let read = self.schemas.read(bytes, read)?;
        read.map_err(|reason| Failure::definite("RECORD_UNREADABLE", format!("a record of {topic}: {reason}")))
    }
}

/// A database that links write.
pub struct Target {
    /// Name of the system.
    pub name: String,
    /// Its connection string.
    pub dsn: Secret,
}

/// The pipeline file, checked.
pub fn load(path: &Path) -> Outcome<Pipeline> {
    let environment = |name: &str| std::env::var(name).ok();
    pipeline::load(path, &environment).map_err(|problems| invalid(&problems))
}

fn invalid(problems: &[Problem]) -> Failure {
    let all: Vec<String> = problems.iter().map(Problem::to_string).collect();
    Failure::definite(PIPELINE_INVALID, all.join("\n\n"))
}

/// A command that cannot be carried out as it was given.
pub fn wrong(message: impl std::fmt::Display) -> Failure {
    Failure::definite(ARGUMENTS_INVALID, message)
}
