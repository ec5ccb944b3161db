//! `conflicts take`: who works on a conflict, so that two people do not.

use std::process::ExitCode;

use serde::Serialize;
use syncline_runtime::{Failure, Outcome};
use syncline_schemas::action::{ActionKind, conflict_subject};

use super::book::Book;
use super::case::{Case, Standing};
use crate::actions::Actions;
use crate::answer::{self, Verdict};
use crate::desk::{Actor, Asked, Desk};

/// What `conflicts take` can be told.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The conflict, by its id
    pub id: String,
    /// Nobody works on it any more
    #[arg(long)]
    pub release: bool,
    /// Who
    #[arg(long, value_name = "NAME", env = "SYNCLINE_BY")]
    pub by: String,
    /// Why
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub why: String,
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// How to ask.
    #[command(flatten)]
    pub asked: Asked,
}

#[derive(Serialize)]
struct Taken<'a> {
    id: &'a str,
    status: Standing,
    by: Option<&'a str>,
    dry_run: bool,
}

/// Takes it, or lets it go.
pub fn run(args: &Args) -> Outcome<ExitCode> {
    let mut desk = Desk::open(&args.asked.pipeline)?;
    let book = Book::read(&mut desk, None)?;
    let case = book.find(&args.id)?;
    if !case.standing().waits() || case.conflict.id != args.id {
        let message = format!("it is {}, its id is {}", case.standing().word(), case.conflict.id);
        return Err(Failure::definite("CONFLICT_MOVED", message).hint(format!("syncline conflicts show {}", args.id)));
    }
    free(case, args)?;
    if args.dry_run {
        return said(case, args);
    }
    let subject = conflict_subject(&case.entity, &case.conflict.cid, &case.conflict.field);
    let kind = if args.release {
        ActionKind::Release
    } else {
        ActionKind::Take
    };
    let actor = Actor {
        by: args.by.clone(),
        why: args.why.clone(),
        dry_run: false,
    };
    let mut actions = Actions::open(&desk)?;
    actions.send(kind, &subject, &args.id, &actor)?;
    actions.flush()?;
    // Of two who took it at once the topic tells who was first.
    let book = Book::read(&mut desk, Some(&case.entity))?;
    let case = book.find(&args.id)?;
    free(case, args)?;
    said(case, args)
}

fn free(case: &Case, args: &Args) -> Outcome<()> {
    match case.taker().filter(|taker| !args.release && *taker != args.by) {
        None => Ok(()),
        Some(taker) => Err(Failure::definite("CONFLICT_TAKEN", format!("{taker} works on it"))
            .hint(format!("syncline conflicts take {} --release", args.id))),
    }
}

fn said(case: &Case, args: &Args) -> Outcome<ExitCode> {
    let taken = Taken {
        id: &args.id,
        status: case.standing(),
        by: case.taker(),
        dry_run: args.dry_run,
    };
    answer::give(args.asked.json, &taken, || match (args.dry_run, args.release) {
        (true, true) => format!("would release {}\n", args.id),
        (true, false) => format!("would take {} for {}\n", args.id, args.by),
        (false, true) => format!("released {}\n", args.id),
        (false, false) => format!("{} works on {}\n", args.by, args.id),
    })?;
    Ok(Verdict::Well.into())
}
