//! `syncline undo`: what one app wrote between two moments of its own time is taken back, where it still stands. It shows
//! values of rows; that is what it is for.
//!
//! What is put back is a person's word, on the topic of decisions with who and why, as `conflicts resolve` writes it. It is
//! worked out anew when it is written, from what is there then: an answer is never older than the look that it rests on. And
//! what people decide while it is worked out is looked for once more before a word is written: nobody is overruled unseen.

use std::collections::BTreeSet;
use std::process::ExitCode;

use serde::Serialize;
use syncline_runtime::{Failure, Outcome};
use syncline_schemas::codec::CanonicalCodec;
use syncline_schemas::decision::Decision;
use syncline_schemas::pipeline::{Entity, Link};
use syncline_schemas::position::{Position, Vector};
use syncline_schemas::value::Value;
use syncline_transform::decide::{self, Decisions, now_us};

use crate::answer::{self, Verdict};
use crate::desk::{Asked, Desk, wrong};
use crate::paper::Table;
use crate::tail::time_of_us;

/// Pure: a field, or fields that win together.
pub mod unit;

/// Pure: what is known of a record, and what was agreed of it then.
pub mod past;

/// Pure: what is put back, what is left alone, what cannot be undone.
pub mod plan;

/// What the topics know.
pub mod gather;

use past::{Known, Rules};
use plan::{What, Window, stays};

/// What `undo` can be told.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The app whose edits are undone
    #[arg(long, value_name = "APP")]
    pub source: String,
    /// From this time on, as the app's database had it at the commit: RFC 3339, such as 2026-11-29T10:00:00Z
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub from: i64,
    /// Before this time
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub to: i64,
    /// Only of this entity
    #[arg(long, value_name = "NAME")]
    pub entity: Option<String>,
    /// Say what would be put back, and do nothing
    #[arg(long, visible_alias = "dry-run")]
    pub preview: bool,
    /// How many you have seen; with another number than that nothing is put back
    #[arg(long, value_name = "N")]
    pub count: Option<usize>,
    /// Why
    #[arg(
        long,
        value_name = "TEXT",
        visible_alias = "why",
        required_unless_present = "preview"
    )]
    pub reason: Option<String>,
    /// Who does it
    #[arg(long, value_name = "NAME", env = "SYNCLINE_BY", required_unless_present = "preview")]
    pub by: Option<String>,
    /// How to ask.
    #[command(flatten)]
    pub asked: Asked,
}

/// Microseconds since 1970.
fn moment(text: &str) -> Result<i64, String> {
    let moment: Result<jiff::Timestamp, _> = text.parse();
    let moment = moment.map_err(|_| "no time with its zone, such as 2026-11-29T10:00:00Z".to_owned())?;
    Ok(moment.as_microsecond())
}

/// A field that is put back.
#[derive(Clone, Debug, Serialize)]
struct Undone {
    entity: String,
    cid: String,
    field: String,
    now: Value,
    back_to: Value,
    #[serde(skip)]
    answers: Vector,
    /// The last decision about it that was known then.
    #[serde(skip)]
    decided: Option<Position>,
}

/// A field that was edited again.
#[derive(Debug, Serialize)]
struct LeftAlone {
    entity: String,
    cid: String,
    field: String,
    now: Value,
    why: String,
}

/// What no person's word can take back.
#[derive(Debug, Serialize)]
struct NotUndone {
    entity: String,
    cid: String,
    field: String,
    why: String,
    remedy: String,
}

#[derive(Debug, Serialize)]
struct Undo {
    dry_run: bool,
    source: String,
    from: String,
    to: String,
    by: Option<String>,
    undone: Vec<Undone>,
    left_alone: Vec<LeftAlone>,
    not_undone: Vec<NotUndone>,
}

/// Works it out, and does it.
pub fn run(args: &Args) -> Outcome<ExitCode> {
    if args.from >= args.to {
        return Err(wrong("--from has to be before --to"));
    }
    let mut desk = Desk::open(&args.asked.pipeline)?;
    let mut undo = work_out(&mut desk, args)?;
    if let Some(count) = args.count.filter(|count| *count != undo.undone.len()) {
        return Err(moved(&undo, count));
    }
    if !args.preview {
        write(&mut desk, &mut undo, args)?;
    }
    answer::give(args.asked.json, &undo, || undo.text())?;
    Ok(Verdict::act_if(!undo.not_undone.is_empty()).into())
}

/// The entities that the app speaks of.
fn chosen(desk: &Desk, args: &Args) -> Outcome<Vec<Entity>> {
    if let Some(entity) = &args.entity {
        desk.entity(entity)?;
    }
    let wanted = |entity: &Entity| args.entity.as_ref().is_none_or(|only| *only == entity.name);
    let read = |entity: &Entity| {
        let mut links = desk.pipeline.links_of(&entity.name);
        links.any(|link| link.system == args.source && link.reads())
    };
    let entities = desk.pipeline.entities.iter();
    let entities: Vec<Entity> = entities
        .filter(|entity| wanted(entity) && read(entity))
        .cloned()
        .collect();
    if entities.is_empty() {
        let apps: Vec<&str> = desk.pipeline.authority().collect();
        return Err(
            wrong(format!("no link of the pipeline file reads that of {}", args.source))
                .hint(format!("the file has {}", apps.join(", "))),
        );
    }
    Ok(entities)
}

fn work_out(desk: &mut Desk, args: &Args) -> Outcome<Undo> {
    let window = Window {
        source: args.source.clone(),
        from_us: args.from,
        to_us: args.to,
    };
    let mut undo = Undo {
        dry_run: args.preview,
        source: args.source.clone(),
        from: time_of_us(args.from),
        to: time_of_us(args.to),
        by: args.by.clone(),
        undone: Vec::new(),
        left_alone: Vec::new(),
        not_undone: Vec::new(),
    };
    let authority: Vec<String> = desk.pipeline.authority().map(str::to_owned).collect();
    for entity in chosen(desk, args)? {
        let codec = CanonicalCodec::new(&entity.schema_json).map_err(|error| wrong(error.to_string()))?;
        let all = gather::gather(desk, &entity, &window)?;
        let links: Vec<&Link> = desk.pipeline.links_of(&entity.name).collect();
        let rules = Rules {
            entity: &entity,
            links,
            authority: &authority,
        };
        for known in &all {
            undo.note(&window, &rules, known, &codec);
        }
    }
    Ok(undo)
}

/// It is not what was seen.
fn moved(undo: &Undo, seen: usize) -> Failure {
    let message = format!(
        "{} fields are to be put back, you have seen {seen}; as it is now:\n{}",
        undo.undone.len(),
        undo.tables()
    );
    Failure::definite("UNDO_MOVED", message).hint("look again: syncline undo .. --preview")
}

/// Writes the words, entity by entity. If that ends half-way, the same command does the rest.
fn write(desk: &mut Desk, undo: &mut Undo, args: &Args) -> Outcome<()> {
    let planned = std::mem::take(&mut undo.undone);
    for those in planned.chunk_by(|one, next| one.entity == next.entity) {
        let Some(first) = those.first() else { continue };
        let entity = desk.entity(&first.entity)?.clone();
        let mut sent = Decisions::open(&desk.bus, &desk.pipeline.name, &entity.name, &desk.schemas)?;
        let cids: BTreeSet<String> = those.iter().map(|one| one.cid.clone()).collect();
        let decisions = gather::decisions(desk, &entity, &cids)?;
        for one in those {
            let of_record = decisions.get(&one.cid).map(Vec::as_slice).unwrap_or_default();
            if let Some(decision) = one.decided_meanwhile(of_record) {
                undo.not_undone.push(one.overtaken(decision));
                continue;
            }
            sent.send(&Decision {
                cid: one.cid.clone(),
                field: one.field.clone(),
                value: one.back_to.clone(),
                answers: one.answers.clone(),
                by: args.by.clone().unwrap_or_default(),
                why: args.reason.clone().unwrap_or_default(),
                at_us: now_us(),
                approves: None,
            })?;
            undo.undone.push(one.clone());
        }
        sent.flush()?;
    }
    Ok(())
}

impl Undone {
    /// The last decision about it that was not known when it was worked out.
    fn decided_meanwhile<'d>(&self, decisions: &'d [(Position, Decision)]) -> Option<&'d Decision> {
        let of_field = decisions.iter().filter(|(_, decision)| decision.field == self.field);
        let meanwhile = of_field.filter(|(position, _)| self.decided.is_none_or(|last| *position > last));
        let last = meanwhile.max_by_key(|(position, _)| *position);
        last.map(|(_, decision)| decision)
    }

    /// What is not written over a person's word.
    fn overtaken(&self, decision: &Decision) -> NotUndone {
        NotUndone {
            entity: self.entity.clone(),
            cid: self.cid.clone(),
            field: self.field.clone(),
            why: format!("decided meanwhile by {}: {}", decision.by, decision.why),
            remedy: "look again: syncline undo .. --preview".to_owned(),
        }
    }
}

impl Undo {
    fn note(&mut self, window: &Window, rules: &Rules<'_>, known: &Known, codec: &CanonicalCodec) {
        for line in plan::plan(window, rules, known) {
            let (entity, cid, field, now) = (rules.entity.name.clone(), known.cid.clone(), line.field, line.now);
            match fitting(line.what, rules.entity, known, codec, &field) {
                What::Back { value, answers } => self.undone.push(Undone {
                    decided: last_decided(known, &field),
                    entity,
                    cid,
                    field,
                    now,
                    back_to: value,
                    answers,
                }),
                What::Left { why } => self.left_alone.push(LeftAlone {
                    entity,
                    cid,
                    field,
                    now,
                    why,
                }),
                What::Stays { why, remedy } => self.not_undone.push(NotUndone {
                    entity,
                    cid,
                    field,
                    why,
                    remedy,
                }),
            }
        }
    }

    fn text(&self) -> String {
        let (verb, by) = match (self.dry_run, &self.by) {
            (false, Some(by)) => ("put back", format!(" by {by}")),
            (false, None) => ("put back", String::new()),
            (true, _) => ("would be put back", String::new()),
        };
        let (undone, left, not) = (self.undone.len(), self.left_alone.len(), self.not_undone.len());
        self.tables() + &format!("{undone} {verb}{by}, {left} left alone, {not} not undone\n")
    }

    fn tables(&self) -> String {
        let mut back = Table::new(["ENTITY", "ID", "FIELD", "NOW", "BACK TO"]);
        for one in &self.undone {
            let (now, back_to) = (one.now.to_string(), one.back_to.to_string());
            back.row([&one.entity, &one.cid, &one.field, &now, &back_to]);
        }
        let mut left = Table::new(["ENTITY", "ID", "FIELD", "NOW", "LEFT ALONE"]);
        for one in &self.left_alone {
            left.row([&one.entity, &one.cid, &one.field, &one.now.to_string(), &one.why]);
        }
        let mut not = Table::new(["ENTITY", "ID", "FIELD", "NOT UNDONE", "REMEDY"]);
        for one in &self.not_undone {
            not.row([&one.entity, &one.cid, &one.field, &one.why, &one.remedy]);
        }
        let tables = [back, left, not].map(|table| table.render());
        let tables: Vec<String> = tables.into_iter().filter(|table| !table.is_empty()).collect();
        tables.iter().map(|table| format!("{table}\n")).collect()
    }
}

/// Where the last decision about a field stands.
fn last_decided(known: &Known, field: &str) -> Option<Position> {
    let decisions = known.decisions.iter();
    let of_field = decisions.filter(|(_, decision)| decision.field == field);
    of_field.map(|(position, _)| *position).max()
}

/// A word that does not fit the entity's schema would block the entity.
fn fitting(what: What, entity: &Entity, known: &Known, codec: &CanonicalCodec, field: &str) -> What {
    let (What::Back { value, .. }, Some(agreed)) = (&what, &known.agreed) else {
        return what;
    };
    match decide::fits(codec, entity, agreed, field, value) {
        Ok(()) => what,
        Err(failure) => stays(
            format!("{value} does not fit any more: {}", failure.message),
            "say what it shall be in one of the apps",
        ),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use syncline_schemas::decision;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parsed(more: &[&str]) -> Result<Args, clap::error::ErrorKind> {
        let line = ["undo", "--pipeline", "p.yaml", "--source", "crm"];
        let times = ["--from", "2026-11-29T10:00:00Z", "--to", "2026-11-29T12:00:00+01:00"];
        let parsed = Line::try_parse_from(line.iter().chain(&times).chain(more));
        parsed.map(|line| line.args).map_err(|error| error.kind())
    }

    #[test]
    fn who_and_why_are_said_by_everybody_who_writes() {
        let args = parsed(&["--dry-run"]).unwrap();
        assert!(args.preview);
        assert_eq!(args.to - args.from, 3_600_000_000, "an hour, whatever the zone");
        let args = parsed(&["--by", "ada", "--why", "wrong import"]).unwrap();
        assert_eq!(args.reason.as_deref(), Some("wrong import"));
        let missing = parsed(&["--by", "ada"]).unwrap_err();
        assert_eq!(missing, clap::error::ErrorKind::MissingRequiredArgument);
    }

    #[test]
    fn what_somebody_decides_meanwhile_is_not_overruled() {
        let decided = |offset: i64, field: &str, by: &str| {
            let decision = Decision {
                cid: "c".to_owned(),
                field: field.to_owned(),
                value: Value::Null,
                answers: Vector::new(),
                by: by.to_owned(),
                why: "called her".to_owned(),
                at_us: 0,
                approves: None,
            };
            (decision::position(offset), decision)
        };
        let mut one = Undone {
            entity: "customer".to_owned(),
            cid: "c".to_owned(),
            field: "email".to_owned(),
            now: Value::Null,
            back_to: Value::Null,
            answers: Vector::new(),
            decided: None,
        };
        let mut decisions = vec![decided(3, "phone", "bob"), decided(4, "email", "ada")];
        let by = |one: &Undone, decisions: &[(Position, Decision)]| {
            one.decided_meanwhile(decisions).map(|decision| decision.by.clone())
        };
        assert_eq!(by(&one, &decisions).as_deref(), Some("ada"));
        one.decided = Some(decision::position(4));
        assert_eq!(by(&one, &decisions), None, "it was known");
        decisions.push(decided(7, "email", "carl"));
        let last = one.decided_meanwhile(&decisions).unwrap();
        assert_eq!(one.overtaken(last).why, "decided meanwhile by carl: called her");
    }

    #[test]
    fn a_time_has_a_zone() {
        assert_eq!(moment("1970-01-01T00:00:01.5Z"), Ok(1_500_000));
        assert!(moment("2026-11-29 10:00").is_err());
    }
}
