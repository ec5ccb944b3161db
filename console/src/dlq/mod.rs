//! `syncline dlq`: what stages refused, by cause; and the one command for each cause once it is mended.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use serde::Serialize;
use syncline_runtime::{Class, Outcome};
use syncline_schemas::action::ActionKind;
use syncline_sink::run;

use crate::actions::Actions;
use crate::answer::{self, Verdict};
use crate::desk::{Actor, Asked, Desk, wrong};
use crate::paper::{self, Table};
use crate::tail::{Shown, time_of_ms};
use crate::topics;

/// Pure: what was refused, and which of it has one cause.
pub mod letter;

/// What stands refused.
pub mod gather;

/// Back to map.
pub mod again;

use gather::Gathered;
use letter::{Cause, Refused, Stage, causes};

/// What can be done with dead letters.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Verb {
    /// What was refused, by cause
    List(ListArgs),
    /// The records of one cause, with their values
    Show(ShowArgs),
    /// Give the records of one cause back, once it is mended
    Replay(ActArgs),
    /// Give the records of one cause up
    Drop(ActArgs),
}

/// What `dlq list` can be told.
#[derive(Clone, Debug, clap::Args)]
pub struct ListArgs {
    /// How to ask.
    #[command(flatten)]
    pub asked: Asked,
}

/// What `dlq show` can be told.
#[derive(Clone, Debug, clap::Args)]
pub struct ShowArgs {
    /// The cause, as `list` names it
    pub cause: String,
    /// How many records
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub max: usize,
    /// How to ask.
    #[command(flatten)]
    pub asked: Asked,
}

/// What `dlq replay` and `dlq drop` can be told.
#[derive(Clone, Debug, clap::Args)]
pub struct ActArgs {
    /// The cause, as `list` names it
    pub cause: String,
    /// Who, and why.
    #[command(flatten)]
    pub actor: Actor,
    /// How to ask.
    #[command(flatten)]
    pub asked: Asked,
}

/// Does it.
pub fn run(verb: &Verb) -> Outcome<ExitCode> {
    match verb {
        Verb::List(args) => list(args),
        Verb::Show(args) => show(args),
        Verb::Replay(args) => act(args, ActionKind::Replay),
        Verb::Drop(args) => act(args, ActionKind::Drop),
    }
}

#[derive(Serialize)]
struct List {
    causes: Vec<Cause>,
    unreached: BTreeMap<String, String>,
}

fn list(args: &ListArgs) -> Outcome<ExitCode> {
    let mut desk = Desk::open(&args.asked.pipeline)?;
    let Gathered { refused, unreached } = gather::gather(&mut desk)?;
    let verdict = match unreached.is_empty() {
        true => Verdict::act_if(!refused.is_empty()),
        false => Verdict::Unreached,
    };
    let list = List {
        causes: causes(&refused),
        unreached: unreached
            .into_iter()
            .map(|(target, failure)| (target, failure.to_string()))
            .collect(),
    };
    answer::give(args.asked.json, &list, || list.text())?;
    Ok(verdict.into())
}

impl List {
    fn text(&self) -> String {
        let mut table = Table::new(["CAUSE", "N", "STAGE", "TARGET", "TOPIC", "SINCE", "REASON"]);
        for cause in &self.causes {
            table.row([
                &cause.cause,
                &cause.count.to_string(),
                cause.stage.word(),
                cause.target.as_deref().unwrap_or("-"),
                cause.topic.as_deref().unwrap_or("-"),
                cause.since.as_deref().unwrap_or("-"),
                &cause.reason,
            ]);
        }
        let mut text = table.render();
        for (target, reason) in &self.unreached {
            text += &format!("{target} cannot be asked: {reason}\n");
        }
        if text.is_empty() {
            "nothing is refused\n".to_owned()
        } else {
            text
        }
    }
}

/// What stands refused for this cause.
fn of_cause(desk: &mut Desk, cause: &str) -> Outcome<Vec<Refused>> {
    let Gathered { mut refused, unreached } = gather::gather(desk)?;
    refused.retain(|one| one.cause() == cause);
    match unreached.into_iter().next() {
        Some((_, failure)) if refused.is_empty() => Err(failure),
        _ if refused.is_empty() => {
            Err(wrong(format!("nothing stands refused for {cause}")).hint("`syncline dlq list` names the causes"))
        }
        _ => Ok(refused),
    }
}

fn show(args: &ShowArgs) -> Outcome<ExitCode> {
    let mut desk = Desk::open(&args.asked.pipeline)?;
    for one in of_cause(&mut desk, &args.cause)?.iter().take(args.max) {
        let place = one.from.as_ref().or(one.letter.as_ref());
        let Some(place) = place else { continue };
        let mut record = topics::at(&desk.bus, &place.topic, place.partition, place.offset)?;
        if record.is_none()
            && let Some(letter) = &one.letter
        {
            record = topics::at(&desk.bus, &letter.topic, letter.partition, letter.offset)?;
        }
        let Some(record) = record else { continue };
        let shown = Shown::of(&record, &mut desk.schemas)?;
        let line = if args.asked.json {
            shown.json()
        } else {
            let at = one.at_ms.map_or("not yet in the topic".to_owned(), time_of_ms);
            format!("{at}  {}\n  {}  {}", one.reason, place.topic, shown.line())
        };
        paper::answer(&line)?;
    }
    Ok(Verdict::Act.into())
}

/// What a replay or a drop came to.
#[derive(Debug, Default, Serialize)]
struct Done {
    dry_run: bool,
    /// Records of the cause.
    refused: usize,
    /// Given back, or given up.
    done: usize,
    /// Left alone: a later change of the same row says it all.
    superseded: usize,
    /// No longer in their topic.
    gone: usize,
    /// Why the rest stands.
    stands: Option<String>,
}

fn act(args: &ActArgs, kind: ActionKind) -> Outcome<ExitCode> {
    let mut desk = Desk::open(&args.asked.pipeline)?;
    let refused = of_cause(&mut desk, &args.cause)?;
    let refused: Vec<&Refused> = refused.iter().collect();
    let done = match (kind, refused[0].stage) {
        (ActionKind::Drop, stage) => give_up(&desk, stage, &refused, &args.actor)?,
        (_, Stage::Map) => replay_map(&desk, &refused, &args.actor)?,
        (_, Stage::Merge) => merge_does_by_itself(&refused),
        (_, Stage::Sink) => replay_sink(&desk, &refused, &args.actor)?,
    };
    if done.stands.is_none() && !args.actor.dry_run {
        note(&desk, &refused, kind, &args.actor)?;
    }
    answer::give(args.asked.json, &done, || done.text(kind))?;
    Ok(Verdict::act_if(done.stands.is_some()).into())
}

/// Leaves a record of who did it and why, a line for each letter.
fn note(desk: &Desk, refused: &[&Refused], kind: ActionKind, actor: &Actor) -> Outcome<()> {
    let mut actions = Actions::open(desk)?;
    for place in refused
        .iter()
        .filter_map(|one| one.letter.as_ref().or(one.from.as_ref()))
    {
        actions.send(kind, &place.subject(), "", actor)?;
    }
    actions.flush()
}

fn replay_map(desk: &Desk, refused: &[&Refused], actor: &Actor) -> Outcome<Done> {
    let report = again::send(&desk.bus, refused, actor.dry_run)?;
    Ok(Done {
        dry_run: actor.dry_run,
        refused: refused.len(),
        done: report.sent,
        superseded: report.superseded,
        gone: report.gone,
        stands: None,
    })
}

fn merge_does_by_itself(refused: &[&Refused]) -> Done {
    let why = "merge keeps what was said and publishes it again by itself when the entity's rules or schema change; \
               drop the letters then";
    Done {
        refused: refused.len(),
        stands: Some(why.to_owned()),
        ..Done::default()
    }
}

/// Takes up everything that the target has parked; what it refuses still stays where it is.
fn replay_sink(desk: &Desk, refused: &[&Refused], actor: &Actor) -> Outcome<Done> {
    let mut done = Done {
        dry_run: actor.dry_run,
        refused: refused.len(),
        ..Done::default()
    };
    if actor.dry_run {
        done.done = refused.len();
        return Ok(done);
    }
    let pipeline = Arc::new(desk.pipeline.clone());
    match run::replay_parked(&pipeline, refused[0].target.as_deref()) {
        Ok(applied) => done.done = usize::try_from(applied).unwrap_or(usize::MAX),
        Err(failure) if failure.class == Class::Transient => return Err(failure),
        Err(failure) => done.stands = Some(failure.to_string()),
    }
    Ok(done)
}

fn give_up(desk: &Desk, stage: Stage, refused: &[&Refused], actor: &Actor) -> Outcome<Done> {
    if stage == Stage::Sink && !actor.dry_run {
        let keys: Vec<(String, String)> = refused.iter().filter_map(|one| one.parked.clone()).collect();
        let target = refused[0].target.as_deref().unwrap_or_default();
        run::drop_parked(&desk.pipeline, target, &keys)?;
    }
    Ok(Done {
        dry_run: actor.dry_run,
        refused: refused.len(),
        done: refused.len(),
        ..Done::default()
    })
}

impl Done {
    fn text(&self, kind: ActionKind) -> String {
        let verb = match (kind, self.dry_run) {
            (ActionKind::Drop, true) => "would be dropped",
            (ActionKind::Drop, false) => "dropped",
            (_, true) => "would be given back",
            (_, false) => "given back",
        };
        let mut text = format!("{} refused: {} {verb}", self.refused, self.done);
        if self.superseded > 0 {
            text += &format!(
                ", {} left alone (a later change of the same row says it all)",
                self.superseded
            );
        }
        if self.gone > 0 {
            text += &format!(", {} no longer in their topic", self.gone);
        }
        if let Some(why) = &self.stands {
            text += &format!("\nthe rest stands: {why}");
        }
        text + "\n"
    }
}
