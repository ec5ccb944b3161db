//! `conflicts approve`: the word of another person, that what one person has decided may hold.
//!
//! It names the answer by its place in the log and says all that it says. Merge counts it if its author is among those whom
//! the file names and has not given the answer himself; here that is said before, in words. What is approved is the answer
//! to the question as it is: when that has changed, the new one is shown, as with `resolve`.

use std::process::ExitCode;

use serde::Serialize;
use syncline_runtime::{Failure, Outcome};
use syncline_schemas::decision::{Decision, is_same_person};
use syncline_schemas::value::Value;
use syncline_transform::decide::{Decisions, now_us};

use super::answer::moved;
use super::book::Book;
use super::case::Case;
use super::show::question;
use crate::answer::{self, Verdict};
use crate::desk::{Actor, Asked, Desk, wrong};

/// What `conflicts approve` can be told.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The conflict, by its id as `list` and `show` give it; of several answers one, by its ID.OFFSET as `show` gives it
    pub id: String,
    /// Who, and why.
    #[command(flatten)]
    pub actor: Actor,
    /// How to ask.
    #[command(flatten)]
    pub asked: Asked,
}

#[derive(Serialize)]
struct Approved<'a> {
    dry_run: bool,
    id: &'a str,
    offset: i64,
    entity: &'a str,
    cid: &'a str,
    field: &'a str,
    value: &'a Value,
    of: &'a str,
    by: &'a str,
}

/// Approves an answer.
pub fn run(args: &Args) -> Outcome<ExitCode> {
    let (id, offset) = named(&args.id)?;
    let mut desk = Desk::open(&args.asked.pipeline)?;
    let book = Book::read(&mut desk, None)?;
    let case = book.find(id)?;
    if case.conflict.id != id {
        return Err(moved(case));
    }
    let (offset, answer) = proposal(case, offset)?;
    may_approve(case, answer, &args.actor)?;
    let approval = Decision {
        by: args.actor.by.clone(),
        why: args.actor.why.clone(),
        at_us: now_us(),
        approves: Some(offset),
        ..answer.clone()
    };
    if !args.actor.dry_run {
        let mut sent = Decisions::open(&desk.bus, &desk.pipeline.name, &case.entity, &desk.schemas)?;
        sent.send(&approval)?;
        sent.flush()?;
    }
    let approved = Approved {
        dry_run: args.actor.dry_run,
        id,
        offset,
        entity: &case.entity,
        cid: &approval.cid,
        field: &approval.field,
        value: &approval.value,
        of: &answer.by,
        by: &approval.by,
    };
    answer::give(args.asked.json, &approved, || text(&approved))?;
    Ok(Verdict::Well.into())
}

/// `ID`, or `ID.OFFSET`.
fn named(text: &str) -> Outcome<(&str, Option<i64>)> {
    let Some((id, offset)) = text.split_once('.') else {
        return Ok((text, None));
    };
    let offset = offset.parse().map_err(|_| {
        wrong(format!("{text} names no answer")).hint("an answer is ID.OFFSET, as `syncline conflicts show` gives it")
    })?;
    Ok((id, Some(offset)))
}

/// The answer that is meant, with its offset.
fn proposal(case: &Case, offset: Option<i64>) -> Outcome<(i64, &Decision)> {
    let waiting = case.waiting();
    match (offset, waiting.as_slice()) {
        (None, [only]) => Ok(*only),
        (None, [_, ..]) => {
            let names: Vec<String> = waiting
                .iter()
                .map(|(offset, _)| format!("{}.{offset}", case.conflict.id))
                .collect();
            let several = wrong(format!("several answers wait to be approved:\n{}", question(case)));
            Err(several.hint(format!("name one of {}", names.join(", "))))
        }
        (Some(offset), _) if let Some(named) = waiting.iter().find(|(at, _)| *at == offset) => Ok(*named),
        _ => {
            let message = format!(
                "no such answer waits to be approved, it is {}; as it is now:\n{}",
                case.standing().word(),
                question(case)
            );
            Err(Failure::definite("CONFLICT_MOVED", message))
        }
    }
}

fn may_approve(case: &Case, answer: &Decision, actor: &Actor) -> Outcome<()> {
    if case.may_approve(&actor.by, answer) {
        return Ok(());
    }
    let (code, message) = match is_same_person(&actor.by, &answer.by) {
        true => (
            "APPROVAL_OWN",
            format!("{} has given this answer, and nobody approves his own", actor.by),
        ),
        false => (
            "APPROVER_UNKNOWN",
            format!("{} is not among the approvers of {}", actor.by, answer.field),
        ),
    };
    let named = case.approvers.iter().filter(|name| !is_same_person(name, &answer.by));
    let names: Vec<&str> = named.map(String::as_str).collect();
    Err(Failure::definite(code, message).hint(format!("it waits for {}", names.join(" or "))))
}

fn text(approved: &Approved<'_>) -> String {
    let done = if approved.dry_run { "would approve" } else { "approved" };
    format!(
        "{done}: {} {} {} = {} of {}\n",
        approved.entity, approved.cid, approved.field, approved.value, approved.of
    )
}
