//! `syncline resume`: a person lets a source go on that a guard has paused.
//!
//! What is in Kafka of it by then passes and is not counted again: the record says up to where that is.

use std::collections::BTreeSet;
use std::process::ExitCode;

use serde::Serialize;
use syncline_bus::{OutRecord, Producer, admin};
use syncline_runtime::{Failure, Outcome};
use syncline_schemas::codec::Wire;
use syncline_schemas::pause::{End, PauseRecord, Paused, Resumed};
use syncline_schemas::topic;
use syncline_transform::decide::now_us;

use super::{Pause, paused, read};
use crate::answer::{self, Verdict};
use crate::desk::{Actor, Asked, Desk, wrong};

/// What `resume` can be told.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The system that is paused
    #[arg(long, value_name = "NAME")]
    pub source: String,
    /// Who, and why.
    #[command(flatten)]
    pub actor: Actor,
    /// How to ask.
    #[command(flatten)]
    pub asked: Asked,
}

#[derive(Serialize)]
struct Answer<'a> {
    source: &'a str,
    by: &'a str,
    dry_run: bool,
    let_go_on: Vec<Pause<'a>>,
}

/// Writes that it goes on.
pub fn run(args: &Args) -> Outcome<ExitCode> {
    let mut desk = Desk::open(&args.asked.pipeline)?;
    if desk.pipeline.system(&args.source).is_none() {
        return Err(wrong(format!("the pipeline file has no system {}", args.source)));
    }
    let told = read(&mut desk)?;
    if !told.pauses.is_paused(&args.source) {
        return Err(Failure::definite("NOT_PAUSED", format!("{} is not paused", args.source)).hint("syncline guards"));
    }
    if !args.actor.dry_run {
        let mut up_to = ends(&desk, &args.source)?;
        told.pauses
            .of(&args.source)
            .for_each(|paused| go_past(&mut up_to, paused));
        write(&desk, args, up_to)?;
    }
    let answer = Answer {
        source: &args.source,
        by: &args.actor.by,
        dry_run: args.actor.dry_run,
        let_go_on: told.pauses.of(&args.source).map(Pause::of).collect(),
    };
    answer::give(args.asked.json, &answer, || {
        let done = if answer.dry_run { "would let go on" } else { "let go on" };
        format!("{done}: {}\n{}", args.source, paused(&answer.let_go_on))
    })?;
    Ok(Verdict::Well.into())
}

/// The ends of all topics of the source that map reads.
fn ends(desk: &Desk, source: &str) -> Outcome<Vec<End>> {
    let links = desk.pipeline.links.iter();
    let links = links.filter(|link| link.system == source && link.reads());
    let prefix = desk
        .pipeline
        .system(source)
        .map_or(source, |system| &system.topic_prefix);
    let topics: BTreeSet<String> = links
        .map(|link| topic::capture(prefix, &link.schema, &link.table))
        .collect();
    let mut ends = Vec::new();
    for topic in topics {
        let of_topic = admin::end_offsets(&desk.bus, &topic)?;
        ends.extend(of_topic.into_iter().map(|(partition, offset)| End {
            topic: topic.clone(),
            partition,
            offset,
        }));
    }
    Ok(ends)
}

/// Where it was paused may be in a topic that the file does not name any more, or that was made anew and ends earlier.
fn go_past(up_to: &mut Vec<End>, paused: &Paused) {
    let past = paused.offset.saturating_add(1);
    let is_there = |end: &&mut End| end.topic == paused.topic && end.partition == paused.partition;
    match up_to.iter_mut().find(is_there) {
        Some(end) => end.offset = end.offset.max(past),
        None => up_to.push(End {
            topic: paused.topic.clone(),
            partition: paused.partition,
            offset: past,
        }),
    }
}

fn write(desk: &Desk, args: &Args, up_to: Vec<End>) -> Outcome<()> {
    let topic = topic::pauses(&desk.pipeline.name);
    let id = desk.schemas.register(&topic, PauseRecord::schema_json())?;
    let record = PauseRecord::Resumed(Resumed {
        source: args.source.clone(),
        up_to,
        by: args.actor.by.clone(),
        why: args.actor.why.clone(),
        at_us: now_us(),
    });
    let mut producer = Producer::idempotent(&desk.bus)?;
    producer.send(&OutRecord {
        topic: &topic,
        partition: Some(0),
        key: Some(args.source.as_bytes()),
        value: Some(&record.encode(id)),
        headers: &[],
        timestamp_ms: None,
    })?;
    producer.flush()
}
