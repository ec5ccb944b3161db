//! Which parts a process has: one for each target that the pipeline file writes and the command line names.

use std::collections::BTreeSet;
use std::sync::Arc;

use syncline_bus::{BusConfig, Registry};
use syncline_runtime::process::{ARGUMENTS_INVALID, PIPELINE_INVALID, Part};
use syncline_runtime::{Failure, Outcome, Process};
use syncline_schemas::pipeline::{self, Link, Pipeline, Replica, Secret};

use crate::feed::CanonicalFeed;
use crate::postgres::{PostgresTarget, Settings, references};
use crate::replay;
use crate::replica::ReplicaTarget;
use crate::replica::feed::ReplicaFeed;
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

/// One part for each target that links write, one for each replica; only those of `target`, if it is named.
pub fn parts(process: &Process, pipeline: &Arc<Pipeline>, target: Option<&str>) -> Outcome<Vec<Part>> {
    let registry = Arc::new(Registry::new(pipeline.registry.clone()));
    let chosen = chosen(written(pipeline), target)?;
    let linked = chosen.iter().filter(|name| !links(pipeline, name).is_empty());
    let mut running: Vec<Part> = linked
        .map(|name| linked_part(process, pipeline, &registry, name))
        .collect();
    let replicas = pipeline.replicas.iter().filter(|replica| chosen.contains(&replica.to));
    running.extend(replicas.map(|replica| replica_part(process, pipeline, &registry, replica)));
    Ok(running)
}

/// Applies what the targets refused; for `target` alone, if it is named. Gives the number of keys that went through.
pub fn replay_parked(pipeline: &Arc<Pipeline>, target: Option<&str>) -> Outcome<u64> {
    let registry = Arc::new(Registry::new(pipeline.registry.clone()));
    let mut applied = 0;
    for name in chosen(written(pipeline), target)?
        .iter()
        .filter(|name| !links(pipeline, name).is_empty())
    {
        let feed = CanonicalFeed::new(pipeline, &links(pipeline, name), Arc::clone(&registry))?;
        let bus = bus(pipeline, &format!("sink.{name}"));
        applied += replay::run(&bus, name, feed, &mut connect(pipeline, name)?)?;
    }
    Ok(applied)
}

/// Forgets what the target has parked under these keys (entity, entity id).
pub fn drop_parked(pipeline: &Pipeline, target: &str, keys: &[(String, String)]) -> Outcome<()> {
    connect(pipeline, target)?.drop_parked(keys)
}

fn linked_part(process: &Process, pipeline: &Arc<Pipeline>, registry: &Arc<Registry>, target: &str) -> Part {
    let parts = stage(process, pipeline, "sink", target);
    let (pipeline, registry) = (Arc::clone(pipeline), Arc::clone(registry));
    let run = move || {
        let target = &parts.target;
        let feed = || CanonicalFeed::new(&pipeline, &links(&pipeline, target), Arc::clone(&registry));
        stage::run(&parts, || connect(&pipeline, target), feed)
    };
    (format!("sink.{target}"), Box::new(run))
}

fn replica_part(process: &Process, pipeline: &Arc<Pipeline>, registry: &Arc<Registry>, replica: &Replica) -> Part {
    let parts = stage(process, pipeline, &format!("replica.{}", replica.from), &replica.to);
    let name = parts.name.clone();
    let (pipeline, registry, replica) = (Arc::clone(pipeline), Arc::clone(registry), replica.clone());
    let run = move || {
        let prefix = pipeline
            .system(&replica.from)
            .map_or(replica.from.clone(), |system| system.topic_prefix.clone());
        let feed = || {
            let (bus, prefix, tables) = (parts.bus.clone(), prefix.clone(), replica.tables.as_deref());
            Ok(ReplicaFeed::new(bus, prefix, tables, Arc::clone(&registry)))
        };
        let connect = || {
            let mut target = ReplicaTarget::new(&pipeline.name, &replica.to, &dsn(&pipeline, &replica.to)?)?;
            target.prepare(&feed()?.wanted()?)?;
            Ok(target)
        };
        stage::run(&parts, connect, feed)
    };
    (name, Box::new(run))
}

fn stage(process: &Process, pipeline: &Pipeline, kind: &str, target: &str) -> Parts {
    let name = format!("{kind}.{target}");
    Parts {
        bus: bus(pipeline, &name),
        pipeline: pipeline.name.clone(),
        target: target.to_owned(),
        group: format!("{}.{name}", pipeline.name),
        name,
        instance: process.args.instance.clone(),
        until_current: process.args.until_current,
        health: process.health.clone(),
        shutdown: process.shutdown.clone(),
    }
}

fn bus(pipeline: &Pipeline, name: &str) -> BusConfig {
    BusConfig {
        bootstrap: pipeline.kafka.clone(),
        properties: pipeline.kafka_properties.clone(),
        client_id: format!("syncline-{name}"),
    }
}

fn connect(pipeline: &Pipeline, target: &str) -> Outcome<PostgresTarget> {
    let settings = Settings {
        pipeline: pipeline.name.clone(),
        target: target.to_owned(),
        dsn: dsn(pipeline, target)?,
        links: links(pipeline, target),
    };
    let mut target = PostgresTarget::new(settings)?.referring(pipeline);
    target.check()?;
    Ok(target)
}

fn dsn(pipeline: &Pipeline, target: &str) -> Outcome<Secret> {
    let dsn = pipeline.system(target).and_then(|system| system.postgres.clone());
    dsn.ok_or_else(|| Failure::definite(PIPELINE_INVALID, format!("system {target} has no connection string")))
}

/// The links that write `target`.
fn links(pipeline: &Pipeline, target: &str) -> Vec<Link> {
    pipeline
        .links
        .iter()
        .filter(|link| link.system == target && link.writes())
        .map(|link| references::seen_by_sink(pipeline, link))
        .collect()
}

/// The systems that links or replicas write.
fn written(pipeline: &Pipeline) -> BTreeSet<String> {
    let linked = pipeline
        .links
        .iter()
        .filter(|link| link.writes())
        .map(|link| link.system.clone());
    linked
        .chain(pipeline.replicas.iter().map(|replica| replica.to.clone()))
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
