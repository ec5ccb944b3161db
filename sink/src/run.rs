//! Which parts a process has: those of each target that the pipeline file writes and the command line names.

use std::collections::BTreeSet;
use std::sync::Arc;

use syncline_bus::{BusConfig, Registry};
use syncline_runtime::process::{ARGUMENTS_INVALID, PIPELINE_INVALID, Part};
use syncline_runtime::{Failure, Outcome, Process};
use syncline_schemas::pipeline::{self, Link, Pipeline, Replica, Secret};
use syncline_schemas::schedule::{Timestamp, Window};

use crate::feed::CanonicalFeed;
use crate::lane::{main_schedule, rest_schedule};
use crate::postgres::{PostgresTarget, Settings, references};
use crate::replica::ReplicaTarget;
use crate::replica::feed::ReplicaFeed;
use crate::stage::{self, Parts};
use crate::timed::{self, Timing};
use crate::{maintenance, replay};

/// Records of a batch of a lane beside a live one: while it is written, the live lane of the same partition waits.
const BESIDE_ROWS_MAX: usize = 100;

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

/// Whether the command line fits the pipeline file, which has been checked by being loaded. Gives what a person should know of
/// its schedules: days on which a clock skips one of their times, or has it twice.
pub fn check(pipeline: &Pipeline, target: Option<&str>) -> Outcome<Vec<String>> {
    let chosen = chosen(written(pipeline), target)?;
    let now = Timestamp::now();
    let links = pipeline.links.iter().filter(|link| chosen.contains(&link.system));
    let of_links = links.flat_map(|link| {
        let schedule = main_schedule(link).or(rest_schedule(link));
        let days = schedule.map(|schedule| schedule.odd_days(now)).unwrap_or_default();
        days.into_iter()
            .map(move |day| format!("note: {}: mode {day}", link.name()))
    });
    let systems = pipeline.systems.iter().filter(|system| chosen.contains(&system.name));
    let of_systems = systems.flat_map(|system| {
        let days = system.maintenance.as_ref().map(|window| window.opens.odd_days(now));
        let days = days.unwrap_or_default().into_iter();
        days.map(move |day| format!("note: systems.{}: maintenance {day}", system.name))
    });
    Ok(of_links.chain(of_systems).collect())
}

/// One part for each target that links write at once, one for each lane that is written at set times, one for each replica;
/// only those of `target`, if it is named. With `flush` the second do not wait for their time.
pub fn parts(process: &Process, pipeline: &Arc<Pipeline>, target: Option<&str>, flush: bool) -> Outcome<Vec<Part>> {
    let registry = Arc::new(Registry::new(pipeline.registry.clone()));
    let chosen = chosen(written(pipeline), target)?;
    let mut running = Vec::new();
    for name in &chosen {
        let (live, batch): (Vec<Link>, Vec<Link>) = links(pipeline, name)
            .into_iter()
            .partition(|link| main_schedule(link).is_none());
        let timed = batch
            .iter()
            .chain(live.iter().filter(|link| rest_schedule(link).is_some()));
        let timed = timed.filter_map(|link| timed_part(process, pipeline, &registry, link, flush));
        running.extend(timed);
        if !live.is_empty() {
            running.push(live_part(process, pipeline, &registry, name, live));
        }
    }
    let replicas = pipeline.replicas.iter().filter(|replica| chosen.contains(&replica.to));
    running.extend(replicas.map(|replica| replica_part(process, pipeline, &registry, replica)));
    Ok(running)
}

/// Applies what the targets refused; for `target` alone, if it is named. Gives the number of keys that went through.
pub fn replay_parked(pipeline: &Arc<Pipeline>, target: Option<&str>) -> Outcome<u64> {
    let registry = Arc::new(Registry::new(pipeline.registry.clone()));
    let (mut applied, mut left) = (0, None);
    for name in chosen(written(pipeline), target)?
        .iter()
        .filter(|name| !links(pipeline, name).is_empty())
    {
        at_work(pipeline, name)?;
        let bus = bus(pipeline, &format!("sink.{name}"));
        for mut target in lanes(pipeline, name)? {
            let feed = CanonicalFeed::new(pipeline, &links(pipeline, name), Arc::clone(&registry))?;
            match replay::run(&bus, name, feed, &mut target) {
                Ok(healed) => applied += healed,
                // What one lane cannot write must not hold up the others.
                Err(failure) if failure.code == replay::STILL_PARKED => left = Some(failure),
                Err(failure) => return Err(failure),
            }
        }
    }
    left.map_or(Ok(applied), Err)
}

/// Forgets what the target has parked under these keys (entity, entity id).
pub fn drop_parked(pipeline: &Pipeline, target: &str, keys: &[(String, String)]) -> Outcome<()> {
    at_work(pipeline, target)?;
    lanes(pipeline, target)?
        .iter_mut()
        .try_for_each(|lane| lane.drop_parked(keys))
}

/// A target of all main lanes, and one of each other lane.
fn lanes(pipeline: &Pipeline, target: &str) -> Outcome<Vec<PostgresTarget>> {
    let links = links(pipeline, target);
    let mut lanes = vec![connect(pipeline, target, links.clone())?];
    for link in &links {
        let rest = PostgresTarget::rest(&pipeline.name, target, &dsn(pipeline, target)?, link)?;
        lanes.extend(rest.map(|rest| rest.referring(pipeline).lifting(&pipeline.entities)));
    }
    Ok(lanes)
}

/// Fails while the target is in maintenance: a person is not kept waiting for hours.
fn at_work(pipeline: &Pipeline, target: &str) -> Outcome<()> {
    maintenance::refuse(target, window(pipeline, target))
}

fn window<'p>(pipeline: &'p Pipeline, target: &str) -> Option<&'p Window> {
    pipeline.system(target).and_then(|system| system.maintenance.as_ref())
}

/// The main lanes of a target that are written at once.
fn live_part(
    process: &Process,
    pipeline: &Arc<Pipeline>,
    registry: &Arc<Registry>,
    target: &str,
    links: Vec<Link>,
) -> Part {
    let parts = stage(process, pipeline, "sink", target);
    let (pipeline, registry) = (Arc::clone(pipeline), Arc::clone(registry));
    let run = move || {
        let feed = || CanonicalFeed::new(&pipeline, &links, Arc::clone(&registry));
        stage::run(&parts, || connect(&pipeline, &parts.target, links.clone()), feed)
    };
    (format!("sink.{target}"), Box::new(run))
}

/// The lane of a link that is written at set times; none if it has none.
fn timed_part(
    process: &Process,
    pipeline: &Arc<Pipeline>,
    registry: &Arc<Registry>,
    link: &Link,
    flush: bool,
) -> Option<Part> {
    let (kind, rows_max) = match main_schedule(link) {
        Some(_) => ("", None),
        None => (".rest", Some(BESIDE_ROWS_MAX)),
    };
    let timing = Timing {
        schedule: main_schedule(link).or(rest_schedule(link))?.clone(),
        flush,
    };
    let name = format!("sink.{}.{}{kind}", link.system, link.entity);
    let parts = Parts {
        group: format!("{}.{name}", pipeline.name),
        bus: bus(pipeline, &name),
        name: name.clone(),
        rows_max,
        ..stage(process, pipeline, "sink", &link.system)
    };
    let (pipeline, registry, link) = (Arc::clone(pipeline), Arc::clone(registry), link.clone());
    let run = move || {
        let links = [link.clone()];
        let feed = || CanonicalFeed::new(&pipeline, &links, Arc::clone(&registry));
        timed::run(&parts, &timing, || connect_timed(&pipeline, &link), feed)
    };
    Some((name, Box::new(run)))
}

fn connect_timed(pipeline: &Pipeline, link: &Link) -> Outcome<PostgresTarget> {
    let dsn = dsn(pipeline, &link.system)?;
    match PostgresTarget::rest(&pipeline.name, &link.system, &dsn, link)? {
        Some(rest) => {
            let mut rest = rest.referring(pipeline).lifting(&pipeline.entities);
            rest.check().map(|()| rest)
        }
        None => connect(pipeline, &link.system, vec![link.clone()]),
    }
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
        rows_max: None,
        maintenance: window(pipeline, target).cloned(),
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

fn connect(pipeline: &Pipeline, target: &str, links: Vec<Link>) -> Outcome<PostgresTarget> {
    let settings = Settings {
        pipeline: pipeline.name.clone(),
        target: target.to_owned(),
        dsn: dsn(pipeline, target)?,
        links,
    };
    let target = PostgresTarget::new(settings)?;
    let mut target = target.referring(pipeline).lifting(&pipeline.entities);
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
