//! `syncline plan FILE`: what a pipeline file would change, found out by running its mapping and its rules over the topics
//! as they are, in memory. It names records and fields and shows no values; nothing is written anywhere.

use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;
use syncline_bus::admin;
use syncline_runtime::Outcome;
use syncline_schemas::pipeline::{Entity, Link};
use syncline_schemas::topic;
use syncline_transform::merge::resolve;

use crate::answer::{self, Verdict};
use crate::desk::{Desk, wrong};
use crate::paper::Table;
use crate::verify::agreed;

/// The topics under another file, in memory.
pub mod memory;

/// Pure: records as they are, and as they would be.
pub mod compare;

use compare::Change;
use memory::Memory;

/// What `plan` can be told.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The pipeline file to try
    #[arg(value_name = "FILE", required_unless_present = "pipeline")]
    pub file: Option<PathBuf>,
    /// Give up beyond so many records
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pub records_max: usize,
    /// Answer in JSON
    #[arg(long)]
    pub json: bool,
    /// The same, as other verbs name it
    #[arg(long, value_name = "FILE", env = "SYNCLINE_PIPELINE")]
    pub pipeline: Option<PathBuf>,
}

#[derive(Serialize)]
struct Plan {
    /// Records read.
    read: usize,
    entities: Vec<Change>,
    refused: Vec<Refused>,
}

/// Changes that the file cannot map.
#[derive(Serialize)]
struct Refused {
    link: String,
    reason: String,
    count: usize,
}

/// Works it out.
pub fn run(args: &Args) -> Outcome<ExitCode> {
    let file = args.file.as_ref().or(args.pipeline.as_ref());
    let mut desk = Desk::open(file.ok_or_else(|| wrong("which file?"))?)?;
    let memory = memory::work_out(&mut desk, args.records_max)?;
    let entities = desk.pipeline.entities.clone();
    let changes: Vec<Change> = entities
        .iter()
        .map(|entity| change(&mut desk, entity, &memory))
        .collect::<Outcome<_>>()?;
    let refused = memory
        .refused
        .into_iter()
        .map(|((link, reason), count)| Refused { link, reason, count });
    let plan = Plan {
        read: memory.records,
        entities: changes,
        refused: refused.collect(),
    };
    answer::give(args.json, &plan, || plan.text())?;
    let acts = plan.entities.iter().any(Change::is_any) || !plan.refused.is_empty();
    Ok(Verdict::act_if(acts).into())
}

fn change(desk: &mut Desk, entity: &Entity, memory: &Memory) -> Outcome<Change> {
    let running = Entity {
        version: running_version(desk, entity)?,
        ..entity.clone()
    };
    let now = agreed(desk, &running)?;
    let authority: Vec<String> = desk.pipeline.authority().map(str::to_owned).collect();
    let links: Vec<&Link> = desk.pipeline.links_of(&entity.name).collect();
    let mut change = Change {
        entity: entity.name.clone(),
        ..Change::default()
    };
    let states = memory.states.get(&entity.name);
    for (cid, state) in states.into_iter().flatten() {
        change.record(now.get(cid), &resolve(cid, state, entity, &authority), &links);
    }
    change.gone = now
        .keys()
        .filter(|cid| !states.is_some_and(|states| states.contains_key(*cid)))
        .count();
    Ok(change)
}

/// The version that is there: the file's, or the last before it.
fn running_version(desk: &Desk, entity: &Entity) -> Outcome<u32> {
    for version in (1..=entity.version).rev() {
        let name = topic::canonical(&desk.pipeline.name, &entity.name, version);
        if admin::partitions(&desk.bus, &name)?.is_some() {
            return Ok(version);
        }
    }
    Ok(entity.version)
}

impl Plan {
    fn text(&self) -> String {
        let mut table = Table::new([
            "ENTITY",
            "RECORDS",
            "NEW",
            "CHANGED",
            "GONE",
            "NEW CONFLICTS",
            "ENDED CONFLICTS",
        ]);
        for change in &self.entities {
            table.row([
                &change.entity,
                &change.records.to_string(),
                &change.new.to_string(),
                &change.changed.to_string(),
                &change.gone.to_string(),
                &change.new_conflicts.values().sum::<usize>().to_string(),
                &change.ended_conflicts.values().sum::<usize>().to_string(),
            ]);
        }
        let mut text = table.render() + "\n";
        for table in [self.fields(), self.writes()] {
            if !table.is_empty() {
                text += &(table + "\n");
            }
        }
        for change in &self.entities {
            for (cid, fields) in &change.examples {
                text += &format!("for example {} {cid}: {}\n", change.entity, fields.join(", "));
            }
        }
        for Refused { link, reason, count } in &self.refused {
            text += &format!("{count} changes of {link} could not be mapped: {reason}\n");
        }
        text + &format!("{} records read, nothing written\n", self.read)
    }

    fn fields(&self) -> String {
        let mut table = Table::new(["FIELD", "CHANGED", "NEW CONFLICTS", "ENDED CONFLICTS"]);
        for change in &self.entities {
            let mut names: Vec<&String> = change.fields.keys().collect();
            names.extend(change.new_conflicts.keys());
            names.extend(change.ended_conflicts.keys());
            names.sort();
            names.dedup();
            let count = |of: &std::collections::BTreeMap<String, usize>, name: &String| {
                of.get(name).copied().unwrap_or(0).to_string()
            };
            for name in names {
                table.row([
                    &format!("{}.{name}", change.entity),
                    &count(&change.fields, name),
                    &count(&change.new_conflicts, name),
                    &count(&change.ended_conflicts, name),
                ]);
            }
        }
        table.render()
    }

    fn writes(&self) -> String {
        let mut table = Table::new(["APP", "ROWS WRITTEN"]);
        for (app, count) in self.entities.iter().flat_map(|change| &change.writes) {
            table.row([app, &count.to_string()]);
        }
        table.render()
    }
}
