//! Which parts a process has: one for each target that the pipeline file writes and the command line names.

use std::collections::BTreeSet;
use std::sync::Arc;

use syncline_bus::{BusConfig, Registry};
use syncline_runtime::process::{ARGUMENTS_INVALID, PIPELINE_INVALID, Part};
use syncline_runtime::{Failure, Outcome, Process};
use syncline_schemas::pipeline::{self, Pipeline, Secret};

use crate::postgres::{PostgresTarget, Settings};
use crate::replay;
use crate::stage::{self, Parts};

/// The pipeline file, checked.
pub fn load(path: &std::path::Path) -> Outcome<Arc<Pipeline>> {
    let environment = |name: &str| std::env::var(name).ok();
    let problems = match pipeline::load(path, &environment) {
        Ok(pipeline) => return Ok(Arc::new(pipeline)),
        Err(problems) => problems,
    };
    let text: Vec<String> = problems.iter().map(ToString::to_string).collect();
    Err(Failure::definite(
        PIPELINE_INVALID,
        format!("{}\n{}", path.display(), text.join("\n")),
    ))
}

/// Whether the command line fits the pipeline file, which has been checked by being loaded.
pub fn check(pipeline: &Pipeline, target: Option<&str>) -> Outcome<()> {
    chosen(written(pipeline), target).map(drop)
}

/// One part for each target; only for `target`, if it is named.
pub fn parts(process: &Process, pipeline: &Arc<Pipeline>, target: Option<&str>) -> Outcome<Vec<Part>> {
    let registry = Arc::new(Registry::new(pipeline.registry.clone()));
    let mut running: Vec<Part> = Vec::new();
    for name in chosen(written(pipeline), target)? {
        let parts = stage_parts(process, pipeline, &registry, name);
        running.push((parts.name(), Box::new(move || stage::run(&parts, || connect(&parts)))));
    }
    Ok(running)
}

/// Applies what the targets refused; for `target` alone, if it is named.
pub fn replay_parked(process: &Process, pipeline: &Arc<Pipeline>, target: Option<&str>) -> Outcome<()> {
    let registry = Arc::new(Registry::new(pipeline.registry.clone()));
    for name in chosen(written(pipeline), target)? {
        let parts = stage_parts(process, pipeline, &registry, name);
        replay::run(&parts, &mut connect(&parts)?)?;
    }
    Ok(())
}

fn stage_parts(process: &Process, pipeline: &Arc<Pipeline>, registry: &Arc<Registry>, target: String) -> Parts {
    Parts {
        bus: bus(pipeline, &target),
        pipeline: Arc::clone(pipeline),
        target,
        registry: Arc::clone(registry),
        instance: process.args.instance.clone(),
        until_current: process.args.until_current,
        health: process.health.clone(),
        shutdown: process.shutdown.clone(),
    }
}

fn bus(pipeline: &Pipeline, target: &str) -> BusConfig {
    BusConfig {
        bootstrap: pipeline.kafka.clone(),
        properties: pipeline.kafka_properties.clone(),
        client_id: format!("syncline-sink-{target}"),
    }
}

fn connect(parts: &Parts) -> Outcome<PostgresTarget> {
    let settings = Settings {
        pipeline: parts.pipeline.name.clone(),
        target: parts.target.clone(),
        dsn: dsn(&parts.pipeline, &parts.target)?,
        links: parts.links(),
    };
    let mut target = PostgresTarget::new(settings)?;
    target.check()?;
    Ok(target)
}

fn dsn(pipeline: &Pipeline, target: &str) -> Outcome<Secret> {
    let dsn = pipeline.system(target).and_then(|system| system.postgres.clone());
    dsn.ok_or_else(|| Failure::definite(PIPELINE_INVALID, format!("system {target} has no connection string")))
}

/// The systems that links write.
fn written(pipeline: &Pipeline) -> BTreeSet<String> {
    pipeline
        .links
        .iter()
        .filter(|link| link.writes())
        .map(|link| link.system.clone())
        .collect()
}

fn chosen(all: BTreeSet<String>, one: Option<&str>) -> Outcome<BTreeSet<String>> {
    match one {
        None => Ok(all),
        Some(one) if all.contains(one) => Ok(BTreeSet::from([one.to_owned()])),
        Some(one) => {
            let all: Vec<String> = all.into_iter().collect();
            Err(
                Failure::definite(ARGUMENTS_INVALID, format!("the pipeline file writes no target {one}"))
                    .hint(format!("it writes: {}", all.join(", "))),
            )
        }
    }
}
