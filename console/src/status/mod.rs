//! `syncline status`: how far everything is, and what waits for whom.

use std::process::ExitCode;

use syncline_runtime::Outcome;

use crate::answer::{self, Verdict};
use crate::desk::{Asked, Desk};
use crate::paper::Table;

/// What was found.
pub mod facts;

/// Whom to ask.
pub mod gather;

use facts::{Entity, Source, Status, Target};

/// What `status` can be told.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// How to ask.
    #[command(flatten)]
    pub asked: Asked,
}

/// Looks and tells.
pub fn run(args: &Args) -> Outcome<ExitCode> {
    let status = gather::gather(&mut Desk::open(&args.asked.pipeline)?)?;
    answer::give(args.asked.json, &status, || text(&status))?;
    let verdict = match status.unreached() {
        true => Verdict::Unreached,
        false => Verdict::act_if(status.to_act()),
    };
    Ok(verdict.into())
}

fn text(status: &Status) -> String {
    let refused = &status.refused;
    let letters = match (refused.map, refused.merge, refused.sink) {
        (0, 0, 0) => "nothing is refused\n".to_owned(),
        (map, merge, sink) => {
            format!("refused: {map} by map, {merge} by merge, {sink} by targets; see syncline dlq list\n")
        }
    };
    let tables = [
        sources(&status.sources),
        entities(&status.entities),
        targets(&status.targets),
    ];
    let waits: Vec<String> = waits(status).collect();
    tables.join("\n") + "\n" + &waits.concat() + &letters
}

fn sources(sources: &[Source]) -> String {
    let mut table = Table::new([
        "SOURCE",
        "POSITION",
        "SAID",
        "TABLES LOADED",
        "NOT MAPPED",
        "DEAD LETTERS",
    ]);
    for source in sources {
        table.row([
            &source.name,
            source.position.as_deref().unwrap_or("-"),
            &source.age_s.map_or("-".to_owned(), |age| format!("{age} s ago")),
            &format!("{} of {}", source.tables_loaded, source.tables),
            &source.not_mapped.to_string(),
            &source.dead_letters.to_string(),
        ]);
    }
    table.render()
}

fn entities(entities: &[Entity]) -> String {
    let mut table = Table::new(["ENTITY", "NOT MERGED", "HELD", "TAKEN", "ANSWERED"]);
    for entity in entities {
        table.row([
            &entity.name,
            &entity.not_merged.to_string(),
            &entity.held.to_string(),
            &entity.taken.to_string(),
            &entity.answered.to_string(),
        ]);
    }
    table.render()
}

fn targets(targets: &[Target]) -> String {
    let mut table = Table::new(["TARGET", "NOT APPLIED", "PARKED"]);
    for target in targets {
        table.row([
            &target.name,
            &target.not_applied.map_or("?".to_owned(), |count| count.to_string()),
            &target.parked.map_or("?".to_owned(), |count| count.to_string()),
        ]);
    }
    table.render()
}

fn waits(status: &Status) -> impl Iterator<Item = String> {
    let line = |name: &str, what: &str| format!("{name} waits: {what}\n");
    let sources = status.sources.iter().map(|source| (&source.name, &source.waits));
    let entities = status.entities.iter().map(|entity| (&entity.name, &entity.waits));
    let targets = status.targets.iter().map(|target| (&target.name, &target.waits));
    let waiting = sources.chain(entities).chain(targets);
    let waiting = waiting.flat_map(move |(name, waits)| waits.iter().map(move |what| line(name, what)));
    let unreached = status.targets.iter().filter_map(|target| {
        let why = target.unreached.as_ref()?;
        Some(format!("{} cannot be asked: {why}\n", target.name))
    });
    waiting.chain(unreached)
}
