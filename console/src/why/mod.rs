//! `syncline why`: who said what of one record and when, who had seen what, what was decided and by which rule, and what
//! each app has received. It shows values of rows; that is what it is for.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde::Serialize;
use syncline_runtime::Outcome;
use syncline_schemas::canonical::Canonical;
use syncline_schemas::conflict::{Conflict, Status};
use syncline_schemas::decision::OPERATOR;
use syncline_schemas::pipeline::{Entity, Field};
use syncline_schemas::value::Value;
use syncline_transform::decide::now_us;

use crate::answer::{self, Verdict};
use crate::desk::{Asked, Desk, wrong};
use crate::paper::Table;
use crate::tail::time_of_us;

/// Pure: what every app said, received and had seen.
pub mod story;

/// What is known of one record.
pub mod gather;

use gather::{Known, losers};
use story::Event;

/// What `why` can be told.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The entity
    pub entity: String,
    /// The record's id, or APP:KEY of a row of an app, such as crm:17
    pub id: String,
    /// Only this field
    pub field: Option<String>,
    /// How to ask.
    #[command(flatten)]
    pub asked: Asked,
}

#[derive(Serialize)]
struct Why {
    entity: String,
    cid: String,
    deleted: bool,
    merged_into: Option<String>,
    /// The records that are merged into it.
    members: Vec<String>,
    fields: Vec<Agreed>,
    timeline: Vec<Told>,
    apps: Vec<App>,
}

/// Why a field holds what it holds.
#[derive(Serialize)]
struct Agreed {
    field: String,
    value: Option<Value>,
    held: bool,
    /// Who said so last.
    by: Vec<String>,
    strategy: String,
    rule: String,
    /// What was said and does not hold.
    lost: Option<String>,
}

#[derive(Serialize)]
struct Told {
    at: String,
    #[serde(flatten)]
    event: Event,
}

/// How fresh an app is.
#[derive(Serialize)]
struct App {
    app: String,
    row: String,
    said: Option<String>,
    received: Option<String>,
    /// Seconds since it said or received anything.
    age_s: Option<i64>,
    refused: Option<String>,
    unreached: Option<String>,
}

/// Gathers and tells.
pub fn run(args: &Args) -> Outcome<ExitCode> {
    let mut desk = Desk::open(&args.asked.pipeline)?;
    let entity = desk.entity(&args.entity)?.clone();
    if let Some(field) = &args.field
        && entity.field(field).is_none()
    {
        return Err(wrong(format!("{} has no field {field}", entity.name)));
    }
    let known = gather::gather(&mut desk, &entity, &args.id)?;
    let why = why(&entity, known, args.field.as_deref());
    answer::give(args.asked.json, &why, || why.text())?;
    Ok(why.verdict().into())
}

fn why(entity: &Entity, known: Known, only: Option<&str>) -> Why {
    let fields = entity
        .fields
        .iter()
        .filter(|field| only.is_none_or(|only| only == field.name));
    let agreed = fields.map(|field| agreed(field, known.agreed.as_ref(), &known.conflicts));
    let fields = agreed.collect();
    let about = |event: &Event| {
        let only = only.is_none_or(|only| event.fields.iter().any(|field| field == only));
        only || event.fields.is_empty() || event.fields.iter().any(|field| field.starts_with('*'))
    };
    Why {
        entity: entity.name.clone(),
        deleted: known.agreed.as_ref().is_some_and(|agreed| agreed.deleted),
        merged_into: known
            .agreed
            .as_ref()
            .and_then(|agreed| agreed.identity.merged_into.clone()),
        members: known
            .agreed
            .iter()
            .flat_map(Canonical::joined)
            .map(str::to_owned)
            .collect(),
        fields,
        apps: apps(&known),
        timeline: known
            .story
            .events
            .into_iter()
            .filter(about)
            .map(|event| Told {
                at: time_of_us(event.at_us),
                event,
            })
            .collect(),
        cid: known.cid,
    }
}

fn agreed(field: &Field, agreed: Option<&Canonical>, conflicts: &[Conflict]) -> Agreed {
    let value = agreed.and_then(|agreed| agreed.fields.get(&field.name));
    let last = conflicts.iter().rev().find(|conflict| conflict.field == field.name);
    let standing = last.filter(|conflict| conflict.status != Status::Closed && value == Some(&conflict.outcome));
    Agreed {
        field: field.name.clone(),
        value: value.cloned(),
        held: agreed.is_some_and(|agreed| agreed.held.contains(&field.name)),
        by: by(field, agreed, value),
        strategy: field.strategy.to_string(),
        rule: field.rule.to_string(),
        lost: standing.map(losers).filter(|lost| !lost.is_empty()),
    }
}

/// Whose last word is this value; a person's if no app's is.
fn by(field: &Field, agreed: Option<&Canonical>, value: Option<&Value>) -> Vec<String> {
    let (Some(agreed), Some(value)) = (agreed, value) else {
        return Vec::new();
    };
    let said = agreed.apps.iter().filter(|app| {
        let word = app.word(&field.name);
        word.is_some_and(|word| word.value == *value)
    });
    let mut by: Vec<String> = said.map(|app| app.app.clone()).collect();
    if by.is_empty() && agreed.vector.get(OPERATOR).is_some() {
        by.push(OPERATOR.to_owned());
    }
    by
}

fn apps(known: &Known) -> Vec<App> {
    let mut apps: Vec<App> = known
        .story
        .apps
        .iter()
        .map(|(name, app)| App {
            app: name.clone(),
            row: app.row.clone(),
            said: app.said_us.map(time_of_us),
            received: app.received_us.map(time_of_us),
            age_s: app
                .said_us
                .max(app.received_us)
                .map(|last| (now_us() - last) / 1_000_000),
            refused: None,
            unreached: None,
        })
        .collect();
    for (target, books) in &known.books {
        let at = apps.iter().position(|app| app.app == *target);
        let at = at.unwrap_or_else(|| {
            apps.push(App {
                app: target.clone(),
                row: String::new(),
                said: None,
                received: None,
                age_s: None,
                refused: None,
                unreached: None,
            });
            apps.len() - 1
        });
        match books {
            Ok(books) => {
                apps[at].refused = books.parked.as_ref().map(|parked| parked.reason.clone());
                let row = books.applied.as_ref().and_then(|applied| applied.row.as_ref());
                if let Some(row) = row.filter(|_| apps[at].row.is_empty()) {
                    apps[at].row.clone_from(&row.0);
                }
            }
            Err(failure) => apps[at].unreached = Some(failure.to_string()),
        }
    }
    apps
}

impl Why {
    fn verdict(&self) -> Verdict {
        let refused = self.apps.iter().any(|app| app.refused.is_some());
        match self.apps.iter().any(|app| app.unreached.is_some()) {
            true => Verdict::Unreached,
            false => Verdict::act_if(refused || self.fields.iter().any(|field| field.held)),
        }
    }

    fn text(&self) -> String {
        let gone = match &self.merged_into {
            Some(into) => format!("  is merged into {into}"),
            None if self.deleted => "  deleted".to_owned(),
            None => String::new(),
        };
        let mut text = format!("{} {}{gone}\n", self.entity, self.cid);
        if !self.members.is_empty() {
            text += &format!("with {}\n", self.members.join(", "));
        }
        text.push('\n');
        text += &self.agreed();
        text.push('\n');
        for told in &self.timeline {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{}  {}  {}", told.at, told.event.who, told.event.what);
        }
        text.push('\n');
        text + &self.apps()
    }

    fn agreed(&self) -> String {
        let mut table = Table::new(["FIELD", "AGREED", "SAID BY", "RULE", "DOES NOT HOLD"]);
        for field in &self.fields {
            let value = field
                .value
                .as_ref()
                .map_or("(nobody spoke of it)".to_owned(), ToString::to_string);
            let held = if field.held { " (held)" } else { "" };
            table.row([
                &field.field,
                &format!("{value}{held}"),
                &field.by.join(", "),
                &format!("{} ({})", field.strategy, field.rule),
                field.lost.as_deref().unwrap_or("-"),
            ]);
        }
        table.render()
    }

    fn apps(&self) -> String {
        let mut table = Table::new(["APP", "ROW", "SAID LAST", "RECEIVED LAST", "AGE", "STATE"]);
        for app in &self.apps {
            let state = match (&app.refused, &app.unreached) {
                (Some(reason), _) => format!("refused: {reason}"),
                (None, Some(why)) => format!("cannot be asked: {why}"),
                (None, None) => "-".to_owned(),
            };
            table.row([
                &app.app,
                &app.row,
                app.said.as_deref().unwrap_or("-"),
                app.received.as_deref().unwrap_or("-"),
                &app.age_s.map_or("-".to_owned(), |age| format!("{age} s")),
                &state,
            ]);
        }
        table.render()
    }
}
