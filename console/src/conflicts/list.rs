//! `conflicts list`: what waits, alike ones as one line. No values of records.

use std::process::ExitCode;

use serde::Serialize;
use syncline_runtime::Outcome;

use super::book::Book;
use super::case::{Case, Standing};
use super::group::{self, Group};
use crate::answer::{self, Verdict};
use crate::desk::{Asked, Desk};
use crate::paper::Table;
use crate::tail::time_of_ms;

/// What `conflicts list` can be told.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Which conflicts.
    #[command(flatten)]
    pub filter: Filter,
    /// A line for each conflict, not for each group
    #[arg(long)]
    pub each: bool,
    /// How to ask.
    #[command(flatten)]
    pub asked: Asked,
}

/// Which conflicts.
#[derive(Clone, Debug, clap::Args)]
pub struct Filter {
    /// Only of this entity
    #[arg(long, value_name = "NAME")]
    pub entity: Option<String>,
    /// Only of this field
    #[arg(long, value_name = "NAME")]
    pub field: Option<String>,
    /// Only those that this app takes part in
    #[arg(long, value_name = "NAME")]
    pub app: Option<String>,
    /// Only those that stand like this; without it those that wait for a person or for merge
    #[arg(long, value_enum)]
    pub status: Vec<Standing>,
}

impl Filter {
    /// Whether the case is wanted.
    pub fn takes(&self, case: &Case) -> bool {
        let standing = case.standing();
        let status = match self.status.as_slice() {
            [] => standing.waits() || standing == Standing::Answered,
            wanted => wanted.contains(&standing),
        };
        status
            && self.field.as_ref().is_none_or(|field| *field == case.conflict.field)
            && self.app.as_ref().is_none_or(|app| case.concerns(app))
    }
}

#[derive(Serialize)]
struct List {
    waiting: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    groups: Option<Vec<Group>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    conflicts: Option<Vec<One>>,
}

#[derive(Serialize)]
struct One {
    id: String,
    group: String,
    entity: String,
    cid: String,
    field: String,
    status: Standing,
    who: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    waits_for: Vec<String>,
    strategy: String,
    rule: String,
    apps: String,
    since: String,
}

/// Lists.
pub fn run(args: &Args) -> Outcome<ExitCode> {
    let mut desk = Desk::open(&args.asked.pipeline)?;
    let book = Book::read(&mut desk, args.filter.entity.as_deref())?;
    let cases: Vec<&Case> = book.cases().filter(|case| args.filter.takes(case)).collect();
    let waiting = cases.iter().filter(|case| case.standing().waits()).count();
    let list = List {
        waiting,
        groups: (!args.each).then(|| group::groups(cases.iter().copied())),
        conflicts: args.each.then(|| cases.iter().map(|case| one(case)).collect()),
    };
    answer::give(args.asked.json, &list, || list.text())?;
    Ok(Verdict::act_if(waiting > 0).into())
}

fn one(case: &Case) -> One {
    let conflict = &case.conflict;
    One {
        id: conflict.id.clone(),
        group: group::name(case),
        entity: case.entity.clone(),
        cid: conflict.cid.clone(),
        field: conflict.field.clone(),
        status: case.standing(),
        who: case.who().map(str::to_owned),
        waits_for: case.waits_for().into_iter().map(str::to_owned).collect(),
        strategy: conflict.strategy.clone(),
        rule: conflict.rule.clone(),
        apps: case.apps(),
        since: time_of_ms(case.since_ms),
    }
}

impl List {
    fn text(&self) -> String {
        let groups = self.groups.as_deref().unwrap_or_default();
        let conflicts = self.conflicts.as_deref().unwrap_or_default();
        let summary = match self.waiting {
            0 => "nothing waits for a person\n".to_owned(),
            waiting => format!("{waiting} wait for a person\n"),
        };
        lines(groups) + &each(conflicts) + &summary
    }
}

fn lines(groups: &[Group]) -> String {
    let mut table = Table::new([
        "GROUP", "N", "FIELD", "STATUS", "WHO", "RULE", "APPS", "SINCE", "EXAMPLE",
    ]);
    for group in groups {
        table.row([
            &group.group,
            &group.count.to_string(),
            &format!("{}.{}", group.entity, group.field),
            group.status.word(),
            &who(group.who.as_deref(), &group.waits_for),
            &format!("{} ({})", group.strategy, group.rule),
            &group.apps,
            &group.since,
            &group.example,
        ]);
    }
    table.render()
}

/// `ada`, or `ada, for bob or carl` where one of them has to approve what ada said.
fn who(who: Option<&str>, waits_for: &[String]) -> String {
    match (who, waits_for) {
        (None, _) => "-".to_owned(),
        (Some(who), []) => who.to_owned(),
        (Some(who), others) => format!("{who}, for {}", others.join(" or ")),
    }
}

fn each(conflicts: &[One]) -> String {
    let mut table = Table::new(["ID", "ENTITY", "CID", "FIELD", "STATUS", "WHO", "RULE", "APPS", "SINCE"]);
    for one in conflicts {
        table.row([
            &one.id,
            &one.entity,
            &one.cid,
            &one.field,
            one.status.word(),
            &who(one.who.as_deref(), &one.waits_for),
            &format!("{} ({})", one.strategy, one.rule),
            &one.apps,
            &one.since,
        ]);
    }
    table.render()
}
