//! What stands refused: the letters of map and merge that nobody has replayed or dropped, and what targets have parked.
//!
//! Of a target its books are the truth: a key that went through is parked no more, whatever letters there were.

use std::collections::{BTreeMap, BTreeSet};

use syncline_runtime::{Failure, Outcome};
use syncline_schemas::action::ActionKind;
use syncline_schemas::topic;
use syncline_sink::postgres::{Look, Parked};

use super::letter::{Place, Refused, Stage};
use crate::desk::{Desk, Target};
use crate::{actions, topics};

/// More letters than this are not held in memory at once.
const LETTERS_MAX: usize = 1_000_000;

/// What was found.
pub struct Gathered {
    /// What stands.
    pub refused: Vec<Refused>,
    /// Targets that could not be asked.
    pub unreached: Vec<(String, Failure)>,
}

/// Reads letters, actions and the books of all targets.
pub fn gather(desk: &mut Desk) -> Outcome<Gathered> {
    let done = done(desk)?;
    let mut refused = Vec::new();
    for stage in [Stage::Map, Stage::Merge] {
        let mut standing = letters(desk, stage)?;
        let is_done = |one: &Refused| {
            one.letter
                .as_ref()
                .is_some_and(|letter| done.contains(&letter.subject()))
        };
        standing.retain(|one| !is_done(one));
        refused.extend(standing);
    }
    let sent = sent(letters(desk, Stage::Sink)?);
    let mut unreached = Vec::new();
    for target in desk.targets() {
        match parked(&desk.pipeline.name, &target) {
            Ok(parked) => refused.extend(parked.into_iter().map(|one| waiting(&target.name, one, &sent))),
            Err(failure) => unreached.push((target.name, failure)),
        }
    }
    Ok(Gathered { refused, unreached })
}

/// The letters that somebody has replayed or dropped.
fn done(desk: &mut Desk) -> Outcome<BTreeSet<String>> {
    let actions = actions::read(desk)?.into_iter();
    let closing = actions.filter(|action| matches!(action.kind, ActionKind::Replay | ActionKind::Drop));
    Ok(closing.map(|action| action.subject).collect())
}

fn letters(desk: &Desk, stage: Stage) -> Outcome<Vec<Refused>> {
    let topic = topic::dead_letters(&desk.pipeline.name, stage.word());
    let mut letters = Vec::new();
    topics::each(&desk.bus, &topic, |record| {
        if letters.len() >= LETTERS_MAX {
            return Err(Failure::definite(
                "LETTERS_MANY",
                format!("{topic} has more than {LETTERS_MAX} records"),
            ));
        }
        letters.push(Refused::of(stage, &record));
        Ok(())
    })?;
    Ok(letters)
}

/// Target and refused record to the letter.
type Sent = BTreeMap<(String, Place), (Place, Option<i64>)>;

fn sent(letters: Vec<Refused>) -> Sent {
    let placed = letters.into_iter().filter_map(|letter| {
        let key = (letter.target?, letter.from?);
        Some((key, (letter.letter?, letter.at_ms)))
    });
    placed.collect()
}

fn parked(pipeline: &str, target: &Target) -> Outcome<Vec<Parked>> {
    let look = Look::open(pipeline, &target.name, &target.dsn)?;
    let parked = look.parked();
    look.close();
    parked
}

fn waiting(target: &str, parked: Parked, sent: &Sent) -> Refused {
    let from = Place {
        topic: parked.from.topic.to_string(),
        partition: parked.from.number,
        offset: parked.refused_offset,
    };
    let key = (target.to_owned(), from);
    let letter = sent.get(&key).cloned();
    let (target, from) = key;
    Refused {
        stage: Stage::Sink,
        target: Some(target),
        reason: parked.reason,
        from: Some(from),
        at_ms: letter.as_ref().and_then(|(_, at)| *at),
        letter: letter.map(|(place, _)| place),
        parked: Some((parked.entity, parked.cid)),
    }
}
