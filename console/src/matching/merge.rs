//! `match merge` and `match split`. What cannot hold is refused here, where somebody reads why; merge refuses it once more,
//! by its place among all words, should two people say it at once.

use std::collections::BTreeMap;
use std::process::ExitCode;

use serde::Serialize;
use syncline_runtime::{Failure, Outcome};
use syncline_schemas::canonical::Canonical;
use syncline_schemas::codec::CanonicalCodec;
use syncline_schemas::identity::IdentityAct;
use syncline_schemas::pipeline::Entity;
use syncline_transform::decide;

use super::words;
use crate::answer::{self, Verdict};
use crate::desk::{Actor, Asked, Desk, wrong};
use crate::why::gather::id_of;

/// What `match merge` can be told.
#[derive(Clone, Debug, clap::Args)]
pub struct MergeArgs {
    /// The entity
    pub entity: String,
    /// The record that is merged: its id, or APP:KEY of a row of an app, such as crm:17
    pub loser: String,
    /// The record that it is merged into, named in the same way
    pub winner: String,
    /// Who and why.
    #[command(flatten)]
    pub actor: Actor,
    /// How to ask.
    #[command(flatten)]
    pub asked: Asked,
}

/// What `match split` can be told.
#[derive(Clone, Debug, clap::Args)]
pub struct SplitArgs {
    /// The entity
    pub entity: String,
    /// The record that is on its own again: its id, or APP:KEY of a row of an app, such as crm:17
    pub loser: String,
    /// Who and why.
    #[command(flatten)]
    pub actor: Actor,
    /// How to ask.
    #[command(flatten)]
    pub asked: Asked,
}

#[derive(Debug, Serialize)]
struct Said {
    dry_run: bool,
    entity: String,
    loser: String,
    winner: String,
    by: String,
    /// Of each app that spoke through several rows of what becomes one: which.
    doubles: BTreeMap<String, Vec<String>>,
}

/// Merges.
pub fn merge(args: &MergeArgs) -> Outcome<ExitCode> {
    let mut desk = Desk::open(&args.asked.pipeline)?;
    let entity = desk.entity(&args.entity)?.clone();
    let loser = agreed(&mut desk, &entity, &args.loser)?;
    let winner = agreed(&mut desk, &entity, &args.winner)?;
    is_free(&loser, &winner, &entity)?;
    let word = words::word(IdentityAct::Merge, &loser.cid, Some(&winner.cid), &args.actor);
    if !args.actor.dry_run {
        words::say(&desk, &entity.name, &word)?;
    }
    let said = Said {
        dry_run: args.actor.dry_run,
        entity: entity.name,
        doubles: doubles([&loser, &winner]),
        loser: loser.cid,
        winner: winner.cid,
        by: word.by,
    };
    answer::give(args.asked.json, &said, || said.text("merged", "would merge", "into"))?;
    Ok(Verdict::Well.into())
}

/// Splits.
pub fn split(args: &SplitArgs) -> Outcome<ExitCode> {
    let mut desk = Desk::open(&args.asked.pipeline)?;
    let entity = desk.entity(&args.entity)?.clone();
    let loser = agreed(&mut desk, &entity, &args.loser)?;
    let Some(winner) = loser.identity.merged_into.clone() else {
        let members: Vec<&str> = loser.joined().collect();
        let failure = Failure::definite("MATCH_NOT_MERGED", format!("{} is not merged into another", loser.cid));
        return Err(match members.is_empty() {
            true => failure,
            false => failure.hint(format!("these are merged into it: {}", members.join(", "))),
        });
    };
    let word = words::word(IdentityAct::Split, &loser.cid, None, &args.actor);
    if !args.actor.dry_run {
        words::say(&desk, &entity.name, &word)?;
    }
    let said = Said {
        dry_run: args.actor.dry_run,
        entity: entity.name,
        loser: loser.cid,
        winner,
        by: word.by,
        doubles: BTreeMap::new(),
    };
    answer::give(args.asked.json, &said, || said.text("split", "would split", "from"))?;
    Ok(Verdict::Well.into())
}

/// The agreed record of an id, or of a row.
fn agreed(desk: &mut Desk, entity: &Entity, id: &str) -> Outcome<Canonical> {
    let cid = id_of(desk, entity, id)?;
    let codec = CanonicalCodec::new(&entity.schema_json).map_err(|error| wrong(error.to_string()))?;
    let agreed = decide::find(&desk.bus, &desk.pipeline, entity, &codec, &cid, &mut desk.schemas)?;
    agreed.ok_or_else(|| {
        wrong(format!("nothing is agreed of {} {id}", entity.name))
            .hint("give its id, or APP:KEY of a row, such as crm:17")
    })
}

/// Whether the one can be merged into the other.
pub fn is_free(loser: &Canonical, winner: &Canonical, entity: &Entity) -> Outcome<()> {
    if loser.cid == winner.cid {
        return Err(wrong(format!("both are {}", loser.cid)).hint("its rows are one record's already"));
    }
    for one in [loser, winner] {
        if let Some(into) = &one.identity.merged_into {
            return Err(
                Failure::definite("MATCH_MERGED", format!("{} is merged into {into}", one.cid)).hint(format!(
                    "name {into} instead, or split it first: syncline match split {} {}",
                    entity.name, one.cid
                )),
            );
        }
    }
    Ok(())
}

/// The rows of each app that spoke through several of them.
fn doubles(records: [&Canonical; 2]) -> BTreeMap<String, Vec<String>> {
    let mut rows: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for app in records
        .into_iter()
        .flat_map(|record| &record.apps)
        .filter(|app| !app.gone)
    {
        rows.entry(app.app.clone()).or_default().push(app.row.0.clone());
    }
    rows.retain(|_, rows| rows.len() > 1);
    rows
}

impl Said {
    fn text(&self, done: &str, would: &str, preposition: &str) -> String {
        let verb = if self.dry_run { would } else { done };
        let mut text = format!("{verb} {} {} {preposition} {}\n", self.entity, self.loser, self.winner);
        for (app, rows) in &self.doubles {
            text += &format!(
                "{app} has it in {} rows, which are kept the same: {}; remove there what is not wanted\n",
                rows.len(),
                rows.join(", ")
            );
        }
        text
    }
}
