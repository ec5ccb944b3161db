//! Gathers from topics, consumer groups and the targets' books. No source database is asked.

use std::collections::BTreeMap;

use syncline_bus::consumer::TopicPartition;
use syncline_bus::{admin, groups};
use syncline_runtime::Outcome;
use syncline_schemas::codec::Wire;
use syncline_schemas::mapped::MappedRecord;
use syncline_schemas::pipeline::{CapturedBy, Mode, Pipeline, System};
use syncline_schemas::progress::{Progress, SnapshotState};
use syncline_schemas::schedule::Timestamp;
use syncline_schemas::table_record::TableRecord;
use syncline_schemas::topic;
use syncline_sink::postgres::Look;
use syncline_transform::context::group;
use syncline_transform::decide::now_us;

use super::facts::{Entity, Refused, Source, Status, Target};
use crate::conflicts::book::Book;
use crate::conflicts::case::Standing;
use crate::desk::{self, Desk};
use crate::dlq::gather::{Gathered, gather as refused};
use crate::dlq::letter::Stage;
use crate::guards;
use crate::topics;

/// Asks everybody.
pub fn gather(desk: &mut Desk) -> Outcome<Status> {
    let systems = desk.pipeline.systems.clone();
    let mut sources = systems
        .iter()
        .map(|system| source(desk, system))
        .collect::<Outcome<Vec<Source>>>()?;
    if desk.pipeline.guards.any() {
        paused(desk, &mut sources)?;
    }
    let entities = entities(desk)?;
    let Gathered { refused, .. } = refused(desk)?;
    let count = |stage| refused.iter().filter(|one| one.stage == stage).count();
    let targets = desk.targets();
    Ok(Status {
        targets: targets
            .iter()
            .map(|target| written(desk, target))
            .collect::<Outcome<_>>()?,
        sources,
        entities,
        refused: Refused {
            map: count(Stage::Map),
            merge: count(Stage::Merge),
            sink: count(Stage::Sink),
        },
    })
}

fn source(desk: &mut Desk, system: &System) -> Outcome<Source> {
    let mut source = Source {
        name: system.name.clone(),
        not_mapped: behind(desk, &captured(desk, system), "map")?,
        dead_letters: size(desk, &topic::capture_dead_letters(&system.topic_prefix))?,
        ..Source::default()
    };
    if system.capture == CapturedBy::Debezium {
        return Ok(source);
    }
    progress(desk, system, &mut source)?;
    tables(desk, system, &mut source)?;
    Ok(source)
}

/// Whom a guard has paused.
fn paused(desk: &mut Desk, sources: &mut [Source]) -> Outcome<()> {
    let told = guards::read(desk)?;
    for source in sources {
        let name = source.name.clone();
        let pauses = told.pauses.of(&name).next();
        source.waits.extend(pauses.map(|paused| {
            format!(
                "paused by {} for {} ({}); see syncline guards",
                paused.guard, paused.table, paused.why
            )
        }));
    }
    Ok(())
}

/// The topics of a system that map reads.
fn captured(desk: &Desk, system: &System) -> Vec<String> {
    let links = desk.pipeline.links.iter();
    let read = links.filter(|link| link.system == system.name && link.reads());
    let mut topics: Vec<String> = read
        .map(|link| topic::capture(&system.topic_prefix, &link.schema, &link.table))
        .collect();
    if system.capture == CapturedBy::Syncline && !topics.is_empty() {
        topics.push(topic::marks(&system.topic_prefix));
    }
    topics.sort();
    topics.dedup();
    topics
}

fn progress(desk: &mut Desk, system: &System, source: &mut Source) -> Outcome<()> {
    let name = topic::progress(&system.topic_prefix);
    let mut last = None;
    topics::each_of(&desk.bus, &name, &system.slot, |record| {
        if let Some(value) = record.value {
            last = Some((value, record.timestamp_ms));
        }
        Ok(())
    })?;
    let Some((value, at_ms)) = last else {
        source.waits.push("capture never ran".to_owned());
        return Ok(());
    };
    let progress = desk.read(&name, &value, Progress::decode)?;
    let loaded = |state: &SnapshotState| *state == SnapshotState::Done;
    source.position = Some(progress.position.to_string());
    source.age_s = Some((now_us() / 1_000 - at_ms) / 1_000);
    source.tables = progress.tables.len();
    source.tables_loaded = progress.tables.iter().filter(|table| loaded(&table.state)).count();
    let loading = progress.tables.iter().filter(|table| !loaded(&table.state));
    source
        .waits
        .extend(loading.map(|table| format!("first rows of {}", table.table)));
    source
        .waits
        .extend(progress.given_up.map(|why| format!("its slot was given up: {why}")));
    Ok(())
}

fn tables(desk: &mut Desk, system: &System, source: &mut Source) -> Outcome<()> {
    let name = topic::tables(&system.topic_prefix);
    let mut last: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    topics::each(&desk.bus, &name, |record| {
        let key = record.key.unwrap_or_default();
        match record.value {
            Some(value) => last.insert(key, value),
            None => last.remove(&key),
        };
        Ok(())
    })?;
    for value in last.values() {
        let table = desk.read(&name, value, TableRecord::decode)?;
        if table.slot != system.slot {
            continue;
        }
        let TableRecord {
            table,
            needs_backfill,
            stopped,
            ..
        } = table;
        source
            .waits
            .extend(needs_backfill.map(|why| format!("{table} has to be read again: {why}")));
        source
            .waits
            .extend(stopped.map(|why| format!("{table} is passed over: {why}")));
    }
    Ok(())
}

fn entities(desk: &mut Desk) -> Outcome<Vec<Entity>> {
    let book = Book::read(desk, None)?;
    let pipeline = desk.pipeline.clone();
    let entity = |entity: &syncline_schemas::pipeline::Entity| -> Outcome<Entity> {
        let inputs = [
            topic::mapped(&pipeline.name, &entity.name),
            topic::decisions(&pipeline.name, &entity.name),
        ];
        let standing: Vec<Standing> = book
            .cases()
            .filter(|case| case.entity == entity.name)
            .map(|case| case.standing())
            .collect();
        let count = |wanted: Standing| standing.iter().filter(|standing| **standing == wanted).count();
        Ok(Entity {
            name: entity.name.clone(),
            not_merged: behind(desk, &inputs, "merge")?,
            held: count(Standing::Open) + count(Standing::Taken) + count(Standing::Proposed),
            taken: count(Standing::Taken),
            answered: count(Standing::Answered),
            waits: awaited(desk, entity)?,
        })
    };
    pipeline.entities.iter().map(entity).collect()
}

/// The links that have to be loaded before anything is published; looked for only where nothing is.
fn awaited(desk: &mut Desk, entity: &syncline_schemas::pipeline::Entity) -> Outcome<Vec<String>> {
    let name = desk.pipeline.name.clone();
    if size(desk, &topic::canonical(&name, &entity.name, entity.version))? > 0 {
        return Ok(Vec::new());
    }
    let links = desk.pipeline.links_of(&entity.name).filter(|link| link.reads());
    let mut missing: Vec<String> = links.map(|link| link.name()).collect();
    let mapped = topic::mapped(&name, &entity.name);
    let bus = desk.bus.clone();
    topics::each(&bus, &mapped, |record| {
        let Some(value) = record.value else { return Ok(()) };
        if let MappedRecord::Loaded { link, .. } = desk.read(&mapped, &value, MappedRecord::decode)? {
            missing.retain(|other| *other != link);
        }
        Ok(())
    })?;
    Ok(missing
        .into_iter()
        .map(|link| format!("first load of {link}"))
        .collect())
}

fn written(desk: &Desk, target: &desk::Target) -> Outcome<Target> {
    let mut found = Target {
        name: target.name.clone(),
        waits: waits_until(&desk.pipeline, &target.name, Timestamp::now()),
        ..Target::default()
    };
    let asked = Look::open(&desk.pipeline.name, &target.name, &target.dsn).and_then(|look| {
        let answer = look.offsets().and_then(|offsets| Ok((offsets, look.parked()?)));
        look.close();
        answer
    });
    let (offsets, parked) = match asked {
        Ok(answer) => answer,
        Err(failure) => {
            found.unreached = Some(failure.to_string());
            return Ok(found);
        }
    };
    let applied: BTreeMap<TopicPartition, i64> = offsets
        .into_iter()
        .map(|(partition, offset)| ((partition.topic.to_string(), partition.number), offset.next))
        .collect();
    let mut not_applied = 0;
    for link in desk
        .pipeline
        .links
        .iter()
        .filter(|link| link.system == target.name && link.writes())
    {
        let Some(entity) = desk.pipeline.entity(&link.entity) else {
            continue;
        };
        let canonical = topic::canonical(&desk.pipeline.name, &entity.name, entity.version);
        not_applied += left(desk, &canonical, &applied)?;
    }
    found.not_applied = Some(not_applied);
    found.parked = Some(parked.len());
    Ok(found)
}

/// The times that a target waits for by the pipeline file: the end of its maintenance, and its next batches.
fn waits_until(pipeline: &Pipeline, target: &str, now: Timestamp) -> Vec<String> {
    let system = pipeline.system(target);
    let window = system.and_then(|system| system.maintenance.as_ref()?.open_until(now));
    let maintenance = window.map(|until| format!("in maintenance until {until:.0}"));
    let links = pipeline.links.iter().filter(|link| link.system == target);
    let batches = links.filter_map(|link| {
        let (what, schedule) = match &link.mode {
            Mode::Live => return None,
            Mode::Batch(schedule) => (link.entity.clone(), schedule),
            Mode::Hybrid { rest, .. } => (format!("what is not live of {}", link.entity), rest),
        };
        let next = schedule.next_after(now)?;
        Some(format!("next batch of {what} at {next:.0} ({schedule})"))
    });
    maintenance.into_iter().chain(batches).collect()
}

/// The records of these topics that the group of `stage` has not read.
fn behind(desk: &Desk, names: &[String], stage: &str) -> Outcome<i64> {
    let mut partitions = Vec::new();
    for name in names {
        let count = admin::partitions(&desk.bus, name)?.unwrap_or(0);
        partitions.extend((0..count).map(|partition| (name.clone(), partition)));
    }
    let read = groups::committed(&desk.bus, &group(&desk.pipeline.name, stage), &partitions)?;
    names.iter().map(|name| left(desk, name, &read)).sum()
}

fn left(desk: &Desk, name: &str, next: &BTreeMap<TopicPartition, i64>) -> Outcome<i64> {
    let mut left = 0;
    for (partition, end) in admin::end_offsets(&desk.bus, name)? {
        let from = next.get(&(name.to_owned(), partition)).copied().unwrap_or(0);
        if from < end {
            left += topics::left(&desk.bus, name, partition, from)?;
        }
    }
    Ok(left)
}

fn size(desk: &Desk, name: &str) -> Outcome<i64> {
    left(desk, name, &BTreeMap::new())
}
