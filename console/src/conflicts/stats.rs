//! `conflicts stats`: how often each rule had to decide, between whom, and for whom. Every conflict that the topic still has
//! counts once, by the last that merge said of it. No values.

use std::collections::BTreeMap;
use std::process::ExitCode;

use serde::Serialize;
use syncline_runtime::{Failure, Outcome};
use syncline_schemas::codec::Wire;
use syncline_schemas::conflict::{Conflict, Status};
use syncline_schemas::topic;
use syncline_schemas::voice;

use crate::answer::{self, Verdict};
use crate::desk::{Asked, Desk};
use crate::paper::Table;
use crate::topics;

/// More conflicts of one entity than this are not held in memory at once.
const CONFLICTS_MAX: usize = 1_000_000;

/// What `conflicts stats` can be told.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Only of this entity
    #[arg(long, value_name = "NAME")]
    pub entity: Option<String>,
    /// How to ask.
    #[command(flatten)]
    pub asked: Asked,
}

/// What is counted together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Kind {
    entity: String,
    field: String,
    strategy: String,
    apps: String,
    outcome: String,
}

#[derive(Serialize)]
struct Count {
    #[serde(flatten)]
    kind: Kind,
    count: usize,
}

#[derive(Serialize)]
struct Stats {
    conflicts: usize,
    counts: Vec<Count>,
}

/// The conflicts of one entity so far.
#[derive(Default)]
struct Tally {
    /// By id.
    kinds: BTreeMap<String, Kind>,
    /// The id that each field of each record has now.
    now: BTreeMap<(String, String), String>,
}

/// Counts.
pub fn run(args: &Args) -> Outcome<ExitCode> {
    let mut desk = Desk::open(&args.asked.pipeline)?;
    let mut counts: BTreeMap<Kind, usize> = BTreeMap::new();
    for entity in desk.entities(args.entity.as_deref())? {
        for kind in tally(&mut desk, &entity)?.kinds.into_values() {
            *counts.entry(kind).or_default() += 1;
        }
    }
    let counts: Vec<Count> = counts.into_iter().map(|(kind, count)| Count { kind, count }).collect();
    let stats = Stats {
        conflicts: counts.iter().map(|count| count.count).sum(),
        counts,
    };
    answer::give(args.asked.json, &stats, || stats.text())?;
    Ok(Verdict::Well.into())
}

fn tally(desk: &mut Desk, entity: &str) -> Outcome<Tally> {
    let name = topic::conflicts(&desk.pipeline.name, entity);
    let mut tally = Tally::default();
    let bus = desk.bus.clone();
    topics::each(&bus, &name, |record| {
        let Some(value) = record.value else { return Ok(()) };
        if tally.kinds.len() >= CONFLICTS_MAX {
            return Err(Failure::definite(
                "CONFLICTS_MANY",
                format!("{name} has more than {CONFLICTS_MAX} conflicts"),
            ));
        }
        tally.take(entity, &desk.read(&name, &value, Conflict::decode)?);
        Ok(())
    })?;
    Ok(tally)
}

impl Tally {
    /// A question whose candidates have changed was asked anew, under another id.
    fn take(&mut self, entity: &str, conflict: &Conflict) {
        let place = (conflict.cid.clone(), conflict.field.clone());
        let before = self.now.insert(place, conflict.id.clone());
        let left = before.filter(|before| *before != conflict.id);
        if let Some(left) = left
            .and_then(|left| self.kinds.get_mut(&left))
            .filter(|left| left.outcome == "open")
        {
            left.outcome = "asked anew".to_owned();
        }
        self.kinds.insert(conflict.id.clone(), kind(entity, conflict));
    }
}

fn kind(entity: &str, conflict: &Conflict) -> Kind {
    let apps: Vec<&str> = conflict
        .candidates
        .iter()
        .map(|said| voice::app(&said.source))
        .collect();
    let outcome = match (conflict.status, &conflict.winner) {
        (Status::Open, _) => "open".to_owned(),
        (Status::Closed, _) => "closed".to_owned(),
        (Status::Settled, Some(winner)) => format!("for {}", voice::app(winner)),
        (Status::Settled, None) => "made of all".to_owned(),
    };
    Kind {
        entity: entity.to_owned(),
        field: conflict.field.clone(),
        strategy: conflict.strategy.clone(),
        apps: apps.join(", "),
        outcome,
    }
}

impl Stats {
    fn text(&self) -> String {
        let mut table = Table::new(["FIELD", "RULE", "APPS", "OUTCOME", "N"]);
        for Count { kind, count } in &self.counts {
            table.row([
                &format!("{}.{}", kind.entity, kind.field),
                &kind.strategy,
                &kind.apps,
                &kind.outcome,
                &count.to_string(),
            ]);
        }
        table.render() + &format!("{} conflicts\n", self.conflicts)
    }
}

#[cfg(test)]
mod tests {
    use super::super::case::tests::case;
    use super::*;

    #[test]
    fn each_question_counts_once_by_its_end() {
        let mut tally = Tally::default();
        let first = case("c", &["crm", "shop"]).conflict;
        let again = Conflict {
            id: "other".to_owned(),
            ..first.clone()
        };
        let closed = Conflict {
            status: Status::Closed,
            ..again.clone()
        };
        for conflict in [&first, &first, &again, &closed] {
            tally.take("customer", conflict);
        }
        let outcomes: Vec<&str> = tally.kinds.values().map(|kind| kind.outcome.as_str()).collect();
        assert_eq!(outcomes, ["asked anew", "closed"]);
    }
}
