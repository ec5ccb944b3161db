//! What the topics and the targets know of one record.

use syncline_bus::BusConfig;
use syncline_runtime::{Failure, Outcome};
use syncline_schemas::canonical::Canonical;
use syncline_schemas::codec::{CanonicalCodec, Wire};
use syncline_schemas::conflict::{Conflict, Status};
use syncline_schemas::decision::Decision;
use syncline_schemas::identity::IdentityAct;
use syncline_schemas::mapped::{Mapped, MappedRecord, RowKey};
use syncline_schemas::pipeline::Entity;
use syncline_schemas::topic;
use syncline_sink::plan::Applied;
use syncline_sink::postgres::{Look, Parked};
use syncline_transform::decide;

use super::story::{Event, Story};
use crate::desk::{Desk, Target, wrong};
use crate::matching::words;
use crate::{actions, topics};

/// Everything that is known.
pub struct Known {
    /// The record's id.
    pub cid: String,
    /// What the apps said.
    pub story: Story,
    /// The agreed record.
    pub agreed: Option<Canonical>,
    /// Every decision of merge, in its order.
    pub conflicts: Vec<Conflict>,
    /// What each target has in its books.
    pub books: Vec<(String, Result<Books, Failure>)>,
}

/// What a target has in its books.
#[derive(Debug)]
pub struct Books {
    /// What was written last.
    pub applied: Option<Applied>,
    /// What was refused.
    pub parked: Option<Parked>,
}

/// Gathers it. `id` is the record's own, or `APP:KEY` of a row of an app.
pub fn gather(desk: &mut Desk, entity: &Entity, id: &str) -> Outcome<Known> {
    let cid = id_of(desk, entity, id)?;
    let mut story = Story::of(&said(desk, entity, &cid)?);
    let codec = CanonicalCodec::new(&entity.schema_json).map_err(|error| wrong(error.to_string()))?;
    let agreed = decide::find(&desk.bus, &desk.pipeline, entity, &codec, &cid, &mut desk.schemas)?;
    if agreed.is_none() && story.events.is_empty() {
        return Err(wrong(format!("no app ever said anything of {} {cid}", entity.name))
            .hint("give its id, or APP:KEY of a row, such as crm:17"));
    }
    let conflicts = decided(desk, entity, &cid, &mut story)?;
    people(desk, entity, &cid, &mut story)?;
    let members: Vec<String> = agreed.iter().flat_map(Canonical::joined).map(str::to_owned).collect();
    for member in members {
        let theirs = Story::of(&said(desk, entity, &member)?).events.into_iter();
        story.events.extend(theirs.map(|event| Event {
            who: format!("{} of {member}", event.who),
            ..event
        }));
    }
    identity(desk, entity, &cid, &mut story)?;
    // Stable: what happened at one time stays in the order in which it was told.
    story.events.sort_by_key(|event| event.at_us);
    let books = desk
        .targets()
        .into_iter()
        .filter(|target| {
            desk.pipeline
                .links_of(&entity.name)
                .any(|link| link.system == target.name && link.writes())
        })
        .map(|target| (target.name.clone(), books(desk, &target, entity, &cid)))
        .collect();
    Ok(Known {
        cid,
        story,
        agreed,
        conflicts,
        books,
    })
}

/// The record's id: `id` itself, or that of the row `APP:KEY` of an app.
pub fn id_of(desk: &mut Desk, entity: &Entity, id: &str) -> Outcome<String> {
    match id.split_once(':') {
        Some((app, key)) => find(desk, entity, app, key),
        None => Ok(id.to_owned()),
    }
}

/// The entity of an app's row: what was last said through a row whose key has this value.
fn find(desk: &mut Desk, entity: &Entity, app: &str, key: &str) -> Outcome<String> {
    let mut found = None;
    each_said(desk, entity, |said| {
        if said.source == app && has_key(&said.row, key) {
            found = Some(said.cid);
        }
        Ok(())
    })?;
    found.ok_or_else(|| {
        wrong(format!(
            "no row of {app} with the key {key} was ever mapped to a {}",
            entity.name
        ))
    })
}

/// Shows everything that apps said of an entity's records.
pub(crate) fn each_said(desk: &mut Desk, entity: &Entity, mut see: impl FnMut(Mapped) -> Outcome<()>) -> Outcome<()> {
    let mapped = topic::mapped(&desk.pipeline.name, &entity.name);
    let bus = desk.bus.clone();
    topics::each(&bus, &mapped, |record| {
        let Some(value) = record.value else { return Ok(()) };
        match desk.read(&mapped, &value, MappedRecord::decode)? {
            MappedRecord::Said(said) => see(said),
            _ => Ok(()),
        }
    })
}

/// Whether the key is this JSON, or its columns are these texts, with commas between them.
fn has_key(row: &RowKey, key: &str) -> bool {
    row.0 == key || row.bare() == key
}

fn said(desk: &mut Desk, entity: &Entity, cid: &str) -> Outcome<Vec<Mapped>> {
    let mapped = topic::mapped(&desk.pipeline.name, &entity.name);
    let values = values_of(&desk.bus, &mapped, cid)?;
    let mut all = Vec::new();
    for (value, _) in values {
        if let MappedRecord::Said(said) = desk.read(&mapped, &value, MappedRecord::decode)? {
            all.push(said);
        }
    }
    Ok(all)
}

/// Values and times (milliseconds) of the records with this key.
fn values_of(bus: &BusConfig, topic: &str, key: &str) -> Outcome<Vec<(Vec<u8>, i64)>> {
    let mut values = Vec::new();
    topics::each_of(bus, topic, key, |record| {
        values.extend(record.value.map(|value| (value, record.timestamp_ms)));
        Ok(())
    })?;
    Ok(values)
}

fn decided(desk: &mut Desk, entity: &Entity, cid: &str, story: &mut Story) -> Outcome<Vec<Conflict>> {
    let topic = topic::conflicts(&desk.pipeline.name, &entity.name);
    let mut conflicts: Vec<Conflict> = Vec::new();
    let start = format!("{cid}/");
    let bus = desk.bus.clone();
    topics::each(&bus, &topic, |record| {
        let of_this = record
            .key
            .as_deref()
            .is_some_and(|key| key.starts_with(start.as_bytes()));
        let Some(value) = record.value.filter(|_| of_this) else {
            return Ok(());
        };
        let conflict = desk.read(&topic, &value, Conflict::decode)?;
        let told = conflicts.iter().rev().find(|other| other.field == conflict.field);
        if told.is_none_or(|told| (&told.id, told.status) != (&conflict.id, conflict.status)) {
            story.events.push(Event {
                at_us: record.timestamp_ms.saturating_mul(1_000),
                who: "merge".to_owned(),
                fields: vec![conflict.field.clone()],
                what: verdict(&conflict),
            });
        }
        conflicts.push(conflict);
        Ok(())
    })?;
    Ok(conflicts)
}

/// `email: conflict 91ab of crm and shop: latest (acme.yaml:12) decided for crm; kept "a" of shop`.
fn verdict(conflict: &Conflict) -> String {
    let Conflict { field, id, .. } = conflict;
    if conflict.status == Status::Closed {
        return format!(
            "{field}: conflict {id} is closed, {} holds: {}",
            conflict.outcome, conflict.note
        );
    }
    let sources: Vec<&str> = conflict.candidates.iter().map(|said| said.source.as_str()).collect();
    let ended = conflict.status == Status::Settled && conflict.expires_us.is_some();
    let late = if ended { ", its time being up," } else { "" };
    let rule = format!("{} ({}){late}", conflict.strategy, conflict.rule);
    let lost = losers(conflict);
    let end = match (&conflict.winner, conflict.status) {
        (Some(winner), _) => format!("{rule} decided for {winner}, kept {lost}"),
        (None, Status::Open) => format!("{rule}: a person is asked; {lost}"),
        (None, _) => format!("{rule} made {} of {lost}", conflict.outcome),
    };
    format!("{field}: conflict {id} of {}: {end}", sources.join(" and "))
}

/// The values that do not hold, with their apps.
pub fn losers(conflict: &Conflict) -> String {
    let lost = conflict
        .candidates
        .iter()
        .filter(|said| Some(&said.source) != conflict.winner.as_ref());
    let lost = lost.map(|said| match &said.value {
        Some(value) => format!("{value} of {}", said.source),
        None => format!("the word of {}", said.source),
    });
    lost.collect::<Vec<_>>().join(", ")
}

/// What people decided and did.
fn people(desk: &mut Desk, entity: &Entity, cid: &str, story: &mut Story) -> Outcome<()> {
    let topic = topic::decisions(&desk.pipeline.name, &entity.name);
    for (value, _) in values_of(&desk.bus, &topic, cid)? {
        let decision = desk.read(&topic, &value, Decision::decode)?;
        let done = if decision.approves.is_some() {
            "approved"
        } else {
            "decided"
        };
        story.events.push(Event {
            at_us: decision.at_us,
            what: format!("{done} {} = {}: {}", decision.field, decision.value, decision.why),
            who: decision.by,
            fields: vec![decision.field],
        });
    }
    let start = format!("{}/{cid}/", entity.name);
    for action in actions::read(desk)? {
        if let Some(field) = action.subject.strip_prefix(&start) {
            story.events.push(Event {
                at_us: action.at_us,
                what: format!("{} the conflict on {field}", action.kind.word()),
                who: action.by,
                fields: vec![field.to_owned()],
            });
        }
    }
    Ok(())
}

/// The words on its identity.
fn identity(desk: &mut Desk, entity: &Entity, cid: &str, story: &mut Story) -> Outcome<()> {
    words::each(desk, &entity.name, |_, word| {
        if word.loser != cid && word.winner.as_deref() != Some(cid) {
            return Ok(());
        }
        let with = word.winner.map(|winner| format!(" into {winner}")).unwrap_or_default();
        let (done, with) = match word.act {
            IdentityAct::Merge => ("merged", with),
            IdentityAct::Split => ("split off", String::new()),
            IdentityAct::Reject => ("rejected that these are one:", with.replacen(" into", " and", 1)),
        };
        story.events.push(Event {
            at_us: word.at_us,
            who: word.by,
            fields: Vec::new(),
            what: format!("{done} {}{with}: {}", word.loser, word.why),
        });
        Ok(())
    })
}

fn books(desk: &Desk, target: &Target, entity: &Entity, cid: &str) -> Outcome<Books> {
    let look = Look::open(&desk.pipeline.name, &target.name, &target.dsn)?;
    let asked = look.applied(&entity.name, cid).and_then(|applied| {
        let mut parked = look.parked()?;
        parked.retain(|parked| parked.entity == entity.name && parked.cid == cid);
        Ok(Books {
            applied,
            parked: parked.pop(),
        })
    });
    look.close();
    asked
}
