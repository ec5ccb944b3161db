//! `conflicts show` and `conflicts export`: the candidates side by side, with their values; that is what they are for.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde::Serialize;
use syncline_runtime::{Failure, Outcome};
use syncline_schemas::conflict::{Candidate, Conflict};
use syncline_schemas::position::Vector;

use super::book::Book;
use super::case::{Case, Standing, author};
use super::list::Filter;
use crate::answer::{self, Verdict};
use crate::desk::{Asked, Desk};
use crate::paper::{self, Table};
use crate::tail::{time_of_ms, time_of_us};

/// What `conflicts show` can be told.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The conflict, by its id
    pub id: String,
    /// How to ask.
    #[command(flatten)]
    pub asked: Asked,
}

/// What `conflicts export` can be told.
#[derive(Clone, Debug, clap::Args)]
pub struct ExportArgs {
    /// Which conflicts.
    #[command(flatten)]
    pub filter: Filter,
    /// How to ask; an export is JSON, a line for each conflict, in any case.
    #[command(flatten)]
    pub asked: Asked,
}

#[derive(Serialize)]
struct Whole<'a> {
    entity: &'a str,
    status: Standing,
    who: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    waits_for: Vec<&'a str>,
    since: String,
    conflict: &'a Conflict,
    decisions: Vec<&'a syncline_schemas::decision::Decision>,
}

/// Shows one.
pub fn run(args: &Args) -> Outcome<ExitCode> {
    let mut desk = Desk::open(&args.asked.pipeline)?;
    let book = Book::read(&mut desk, None)?;
    let case = book.find(&args.id)?;
    answer::give(args.asked.json, &whole(case), || question(case))?;
    Ok(Verdict::act_if(case.standing().waits()).into())
}

/// Prints all that are wanted, a JSON object a line.
pub fn export(args: &ExportArgs) -> Outcome<ExitCode> {
    let mut desk = Desk::open(&args.asked.pipeline)?;
    let book = Book::read(&mut desk, args.filter.entity.as_deref())?;
    for case in book.cases().filter(|case| args.filter.takes(case)) {
        let line = serde_json::to_string(&whole(case)).map_err(|error| Failure::definite("OUTPUT", error))?;
        paper::answer(&(line + "\n"))?;
    }
    Ok(Verdict::Well.into())
}

fn whole(case: &Case) -> Whole<'_> {
    Whole {
        entity: &case.entity,
        status: case.standing(),
        who: case.who(),
        waits_for: case.waits_for(),
        since: time_of_ms(case.since_ms),
        conflict: &case.conflict,
        decisions: case.decisions.iter().map(|(_, decision)| decision).collect(),
    }
}

/// The question as a person reads it.
pub fn question(case: &Case) -> String {
    let conflict = &case.conflict;
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{}  {} {}  {}  {}{}",
        conflict.id,
        case.entity,
        conflict.cid,
        conflict.field,
        case.standing().word(),
        case.who().map(|who| format!(" by {who}")).unwrap_or_default()
    );
    let _ = writeln!(text, "  rule   {} ({})", conflict.strategy, conflict.rule);
    let _ = writeln!(text, "  since  {}", time_of_ms(case.since_ms));
    if let Some(expires_us) = conflict.expires_us {
        let _ = writeln!(text, "  until  {}", time_of_us(expires_us));
    }
    if let Some(base) = &conflict.base {
        let _ = writeln!(text, "  before {base}");
    }
    let winner = conflict.winner.as_ref().map(|winner| format!(", of {winner}"));
    let _ = writeln!(text, "  agreed {}{}", conflict.outcome, winner.unwrap_or_default());
    let _ = writeln!(text, "  note   {}\n", conflict.note);
    text + &candidates(case) + &decisions(case) + &proposals(case)
}

fn candidates(case: &Case) -> String {
    let mut table = Table::new(["APP", "VALUE", "BEFORE", "WHEN", "ROW", "HAD SEEN"]);
    for said in &case.conflict.candidates {
        let value = said.value.as_ref().map_or("(none)".to_owned(), ToString::to_string);
        let before = match (&said.base, said.initial) {
            (_, true) => "(first load)".to_owned(),
            (Some(base), _) => base.to_string(),
            (None, _) => "(not known)".to_owned(),
        };
        table.row([
            &author(case, &said.source, said.position),
            &value,
            &before,
            &time_of_us(said.stamp_us),
            &said.row.0,
            &seen(said, &case.conflict),
        ]);
    }
    table.render()
}

/// Which of the other candidates its author had seen.
fn seen(said: &Candidate, conflict: &Conflict) -> String {
    let had = |vector: &Vector, other: &Candidate| vector.covers(&other.source, other.position);
    let others = conflict.candidates.iter().filter(|other| other.source != said.source);
    let seen: Vec<&str> = others
        .filter(|other| had(&said.seen, other))
        .map(|other| other.source.as_str())
        .collect();
    if seen.is_empty() {
        "nobody".to_owned()
    } else {
        seen.join(", ")
    }
}

fn decisions(case: &Case) -> String {
    let mut text = String::new();
    for (_, decision) in &case.decisions {
        let (at, by, why) = (time_of_us(decision.at_us), &decision.by, &decision.why);
        let done = if decision.approves.is_some() {
            "approved"
        } else {
            "decided"
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{at}  {by} {done} {}: {why}", decision.value);
    }
    text
}

/// What waits to be approved, by whom, and the command that does it.
fn proposals(case: &Case) -> String {
    let id = &case.conflict.id;
    let mut text = String::new();
    for (offset, answer) in case.waiting() {
        let named = case.approvers.iter().filter(|name| case.may_approve(name, answer));
        let names: Vec<&str> = named.map(String::as_str).collect();
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{} of {} waits for {}: syncline conflicts approve {id}.{offset}",
            answer.value,
            answer.by,
            names.join(" or ")
        );
    }
    text
}
