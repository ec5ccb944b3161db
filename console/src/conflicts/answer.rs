//! `conflicts resolve` and `conflicts bulk`: a person's word, in answer to the question that the person had seen. Where the
//! file names approvers, it is a proposal until one of them has approved it (`approve`).
//!
//! The word carries the vector of that question. If an app says something between our look and merge's, the word does not
//! overrule it: merge finds that out by itself, and the conflict is open again under another id.

use std::collections::BTreeMap;
use std::process::ExitCode;

use serde::Serialize;
use syncline_runtime::{Failure, Outcome};
use syncline_schemas::canonical::Canonical;
use syncline_schemas::codec::CanonicalCodec;
use syncline_schemas::decision::{Decision, is_same_person};
use syncline_schemas::pipeline::Strategy;
use syncline_schemas::topic;
use syncline_schemas::value::Value;
use syncline_transform::decide::{self, Decisions, now_us};

use super::book::Book;
use super::case::{Case, Standing};
use super::group;
use super::show::question;
use crate::answer::{self, Verdict};
use crate::desk::{Actor, Asked, Desk, wrong};
use crate::topics;

/// Which value holds.
#[derive(Clone, Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct Choice {
    /// The value of this candidate
    #[arg(long, value_name = "APP")]
    pub pick: Option<String>,
    /// This value, as JSON
    #[arg(long, value_name = "JSON")]
    pub value: Option<String>,
}

/// What `conflicts resolve` can be told.
#[derive(Clone, Debug, clap::Args)]
pub struct ResolveArgs {
    /// The conflict, by its id as `list` and `show` give it: the question that you have seen
    pub id: String,
    /// Which value holds.
    #[command(flatten)]
    pub choice: Choice,
    /// Who, and why.
    #[command(flatten)]
    pub actor: Actor,
    /// How to ask.
    #[command(flatten)]
    pub asked: Asked,
}

/// What `conflicts bulk` can be told.
#[derive(Clone, Debug, clap::Args)]
pub struct BulkArgs {
    /// The group of conflicts that are alike, as `list` names it
    pub group: String,
    /// How many you have seen; with another number than that nothing is decided
    #[arg(long, value_name = "N")]
    pub count: usize,
    /// Which value holds.
    #[command(flatten)]
    pub choice: Choice,
    /// Who, and why.
    #[command(flatten)]
    pub actor: Actor,
    /// How to ask.
    #[command(flatten)]
    pub asked: Asked,
}

/// One decision.
#[derive(Debug, Serialize)]
struct Decided {
    /// Who may approve it; nobody has to if nobody is named.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    waits_for: Vec<String>,
    id: String,
    entity: String,
    cid: String,
    field: String,
    value: Value,
}

#[derive(Debug, Serialize)]
struct Answer {
    dry_run: bool,
    by: String,
    decided: Vec<Decided>,
}

/// Answers one question.
pub fn resolve(args: &ResolveArgs) -> Outcome<ExitCode> {
    let mut desk = Desk::open(&args.asked.pipeline)?;
    let book = Book::read(&mut desk, None)?;
    let case = book.find(&args.id)?;
    if case.conflict.id != args.id {
        return Err(moved(case));
    }
    may_answer(case, &args.actor)?;
    answer(&mut desk, &[case], &args.choice, &args.actor, args.asked.json)
}

/// Answers all questions that are alike.
pub fn bulk(args: &BulkArgs) -> Outcome<ExitCode> {
    let mut desk = Desk::open(&args.asked.pipeline)?;
    let book = Book::read(&mut desk, None)?;
    let alike: Vec<&Case> = book
        .cases()
        .filter(|case| group::name(case) == args.group)
        .filter(|case| matches!(case.standing(), Standing::Open | Standing::Taken))
        .collect();
    let free: Vec<&Case> = alike
        .into_iter()
        .filter(|case| case.taker().is_none_or(|taker| taker == args.actor.by))
        .collect();
    if free.len() != args.count {
        let message = format!(
            "group {} has {} conflicts that wait for you, you have seen {}",
            args.group,
            free.len(),
            args.count
        );
        return Err(Failure::definite("CONFLICTS_MOVED", message).hint("look again: syncline conflicts list"));
    }
    answer(&mut desk, &free, &args.choice, &args.actor, args.asked.json)
}

/// The question is not the one that was answered.
pub(super) fn moved(case: &Case) -> Failure {
    let message = format!("the question has changed since; as it is now:\n{}", question(case));
    Failure::definite("CONFLICT_MOVED", message)
        .hint(format!("if that is still your answer, answer {}", case.conflict.id))
}

fn may_answer(case: &Case, actor: &Actor) -> Outcome<()> {
    let other = case.taker().filter(|taker| *taker != actor.by);
    match (case.standing(), other) {
        (Standing::Settled | Standing::Expired, _) => Ok(()),
        (Standing::Open | Standing::Taken | Standing::Proposed, None) => Ok(()),
        (Standing::Open | Standing::Taken | Standing::Proposed, Some(who)) => {
            let taken = Failure::definite("CONFLICT_TAKEN", format!("{who} works on it"));
            Err(taken.hint(format!("syncline conflicts take {} --release", case.conflict.id)))
        }
        (Standing::Answered | Standing::Resolved | Standing::Agreed, _) => {
            let message = format!(
                "it is {} already; as it is now:\n{}",
                case.standing().word(),
                question(case)
            );
            Err(Failure::definite("CONFLICT_MOVED", message))
        }
    }
}

fn answer(desk: &mut Desk, cases: &[&Case], choice: &Choice, actor: &Actor, json: bool) -> Outcome<ExitCode> {
    let decisions: Vec<Decision> = cases
        .iter()
        .map(|case| decision(desk, case, choice, actor))
        .collect::<Outcome<_>>()?;
    for (entity, those) in by_entity(cases, &decisions) {
        fit(desk, entity, &those)?;
        if !actor.dry_run {
            let mut sent = Decisions::open(&desk.bus, &desk.pipeline.name, entity, &desk.schemas)?;
            those.iter().try_for_each(|decision| sent.send(decision))?;
            sent.flush()?;
        }
    }
    let decided = cases.iter().zip(decisions).map(|(case, decision)| Decided {
        waits_for: who_may_approve(case, &decision.by),
        id: case.conflict.id.clone(),
        entity: case.entity.clone(),
        cid: decision.cid,
        field: decision.field,
        value: decision.value,
    });
    let given = Answer {
        dry_run: actor.dry_run,
        by: actor.by.clone(),
        decided: decided.collect(),
    };
    answer::give(json, &given, || text(&given))?;
    Ok(Verdict::Well.into())
}

fn decision(desk: &Desk, case: &Case, choice: &Choice, actor: &Actor) -> Outcome<Decision> {
    let conflict = &case.conflict;
    let rule = desk.entity(&case.entity)?.rule_of(&conflict.field);
    let Some((strategy, _)) = rule else {
        return Err(wrong(format!(
            "{} is a question about rows and no value answers it",
            conflict.id
        ))
        .hint("keep or delete the row in one of the apps; that is a later word"));
    };
    if matches!(strategy, Strategy::Add | Strategy::Union | Strategy::Owner(_)) {
        return Err(wrong(format!(
            "{} is made of all words by {strategy}, no person's",
            conflict.field
        )));
    }
    if !case.approvers.is_empty() && who_may_approve(case, &actor.by).is_empty() {
        let message = format!("nobody but {} may approve what is said of {}", actor.by, conflict.field);
        return Err(wrong(message).hint("let somebody else answer, or name somebody else in `approvers`"));
    }
    Ok(Decision {
        cid: conflict.cid.clone(),
        field: conflict.field.clone(),
        value: chosen(case, choice)?,
        answers: conflict.vector.clone(),
        by: actor.by.clone(),
        why: actor.why.clone(),
        at_us: now_us(),
        approves: None,
    })
}

/// Of those who are named as approvers, all but the author.
fn who_may_approve(case: &Case, author: &str) -> Vec<String> {
    let others = case.approvers.iter().filter(|name| !is_same_person(name, author));
    others.cloned().collect()
}

fn chosen(case: &Case, choice: &Choice) -> Outcome<Value> {
    if let Some(value) = &choice.value {
        return decide::value(value);
    }
    let app = choice.pick.as_deref().unwrap_or_default();
    let said = case.conflict.candidates.iter().find(|said| said.source == app);
    let said = said.ok_or_else(|| {
        wrong(format!("{app} is no candidate of {}", case.conflict.id)).hint(format!("candidates are {}", case.apps()))
    })?;
    said.value
        .clone()
        .ok_or_else(|| wrong(format!("{app} has no value to choose")))
}

fn by_entity<'a>(cases: &[&'a Case], decisions: &'a [Decision]) -> BTreeMap<&'a str, Vec<&'a Decision>> {
    let mut all: BTreeMap<&str, Vec<&Decision>> = BTreeMap::new();
    for (case, decision) in cases.iter().zip(decisions) {
        all.entry(&case.entity).or_default().push(decision);
    }
    all
}

/// A decision that does not fit the entity's schema would block the entity.
fn fit(desk: &mut Desk, entity: &str, decisions: &[&Decision]) -> Outcome<()> {
    let entity = desk.entity(entity)?.clone();
    let codec = CanonicalCodec::new(&entity.schema_json).map_err(|error| wrong(error.to_string()))?;
    let topic = topic::canonical(&desk.pipeline.name, &entity.name, entity.version);
    let wanted: BTreeMap<&str, &Decision> = decisions
        .iter()
        .map(|decision| (decision.cid.as_str(), *decision))
        .collect();
    let mut agreed: BTreeMap<String, Canonical> = BTreeMap::new();
    let bus = desk.bus.clone();
    topics::each(&bus, &topic, |record| {
        let cid = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into_owned();
        if let Some(value) = record.value.filter(|_| wanted.contains_key(cid.as_str())) {
            let record = desk.read(&topic, &value, |writer, datum| codec.decode(writer, datum))?;
            agreed.insert(cid, record);
        }
        Ok(())
    })?;
    for decision in decisions {
        let agreed = agreed.get(&decision.cid).ok_or_else(|| {
            Failure::definite(
                "ENTITY_UNKNOWN",
                format!("there is no agreed {} {}", entity.name, decision.cid),
            )
        })?;
        decide::fits(&codec, &entity, agreed, &decision.field, &decision.value)?;
    }
    Ok(())
}

fn text(answer: &Answer) -> String {
    let waits = answer.decided.iter().any(|one| !one.waits_for.is_empty());
    let done = match (answer.dry_run, waits) {
        (true, true) => "would propose",
        (true, false) => "would decide",
        (false, true) => "proposed",
        (false, false) => "decided",
    };
    match answer.decided.as_slice() {
        [one] if waits => format!(
            "{done}: {} {} {} = {}; it holds when {} has approved it\n",
            one.entity,
            one.cid,
            one.field,
            one.value,
            one.waits_for.join(" or ")
        ),
        [one] => format!("{done}: {} {} {} = {}\n", one.entity, one.cid, one.field, one.value),
        many => format!("{done}: {} conflicts\n", many.len()),
    }
}
