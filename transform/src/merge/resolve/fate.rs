//! What the deletions among the apps come to: gone, made anew, or only marked.
//!
//! A deletion is weighed against the edits that it had not seen, by the policy of the app that deleted. A row that somebody
//! made anew knowing of the deletion answers it whatever the policy says.

use syncline_schemas::conflict::{Conflict, Status, WHOLE};
use syncline_schemas::pipeline::DeletePolicy;
use syncline_schemas::position::Position;
use syncline_schemas::value::Value;
use syncline_schemas::voice;

use super::dispute::{candidate, candidate_row};
use super::speaker::Speaker;
use super::unit::Unit;
use super::{Decisions, View};
use crate::merge::causality::Said;
use crate::merge::mutant::breaks;
use crate::merge::state::Presence;
use crate::merge::word::Word;

/// How the question of a deletion ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// The entity lives.
    Lives,
    /// It is gone.
    Deleted,
    /// A person decides.
    Held,
}

/// What became of the entity when some app deleted it.
#[derive(Default)]
pub struct Fate {
    /// Whether the entity is gone.
    pub deleted: bool,
    /// When an app deleted it that only marks deletions.
    pub deleted_us: Option<i64>,
    /// Apps whose row is made anew.
    pub remade: Vec<String>,
    /// Those of them whose words through the row that went still hold.
    pub restored: Vec<String>,
    /// Fields and groups whose edits wait for a person to decide about the deletion.
    pub held: Vec<String>,
    /// Edits against deletions, where there were both.
    pub conflict: Option<Conflict>,
}

impl Fate {
    fn restore(&mut self, source: &str) {
        self.remade.push(source.to_owned());
        self.restored.push(source.to_owned());
    }

    /// One conflict is shown of an entity: an open one if there is any.
    fn dispute(&mut self, conflict: Conflict) {
        let open = self.conflict.as_ref().is_some_and(|other| other.status == Status::Open);
        if !open || conflict.status == Status::Open {
            self.conflict = Some(conflict);
        }
    }
}

impl View<'_> {
    /// What the deletions among the speakers come to.
    pub fn fate(&self, decided: &Decisions<'_>) -> Fate {
        let mut fate = Fate::default();
        for speaker in &self.speakers {
            let Presence::Deleted { position, stamp_us } = speaker.lane.presence else {
                if speaker.was_removed() && self.is_heard(speaker) {
                    fate.restore(speaker.source);
                }
                continue;
            };
            if self.has_another(speaker) {
                continue;
            }
            if self.came_back(speaker.source, position) {
                fate.remade.push(speaker.source.to_owned());
                continue;
            }
            let unseen = unseen_by(speaker, decided);
            let end = match self.entity.delete_policy(voice::app(speaker.source)) {
                DeletePolicy::Ignore => continue,
                DeletePolicy::Soft => {
                    fate.deleted_us = fate.deleted_us.max(Some(stamp_us));
                    continue;
                }
                _ if unseen.is_empty() => {
                    fate.deleted = true;
                    continue;
                }
                DeletePolicy::UpdateWins => End::Lives,
                DeletePolicy::DeleteWins => End::Deleted,
                DeletePolicy::Hold => self.answered(speaker.source, position, &unseen),
            };
            match end {
                End::Lives => fate.restore(speaker.source),
                End::Deleted => fate.deleted = true,
                End::Held => fate.held.extend(unseen.iter().map(|(name, _)| (*name).to_owned())),
            }
            fate.dispute(self.deletion(speaker, position, stamp_us, &unseen, end));
        }
        if fate.deleted {
            fate.remade.clear();
            fate.restored.clear();
        }
        fate
    }

    /// Whether the app has the entity in another row still: of two that were merged, one was removed, and not the entity.
    fn has_another(&self, gone: &Speaker<'_>) -> bool {
        let app = voice::app(gone.source);
        self.speakers
            .iter()
            .any(|other| other.lane.presence == Presence::Here && voice::app(other.source) == app)
    }

    /// Whether the deletion that we carried out on this row has lost meanwhile. Its words were known when it was carried
    /// out, so whether they are heard cannot change what becomes of the deletion.
    pub fn lost_by_now(&self, removed: &Speaker<'_>) -> bool {
        let Some(removal) = &removed.lane.removal else {
            return false;
        };
        self.speakers.iter().any(|speaker| {
            let deletion = match speaker.lane.presence {
                Presence::Deleted { position, .. } if self.came_back(speaker.source, position) => None,
                Presence::Deleted { position, .. } => speaker.lane.undone.or_else(|| {
                    let policy = self.entity.delete_policy(voice::app(speaker.source));
                    matches!(policy, DeletePolicy::UpdateWins | DeletePolicy::Hold).then_some(position)
                }),
                Presence::Here | Presence::Removed => speaker.lane.undone,
            };
            deletion.is_some_and(|position| removal.vector.covers(speaker.source, position))
        })
    }

    /// Whether an app made a row anew after it had received this deletion.
    pub fn came_back(&self, source: &str, position: Position) -> bool {
        self.speakers
            .iter()
            .filter(|speaker| speaker.lane.presence == Presence::Here && !speaker.lane.ours)
            .any(|speaker| {
                let removals = self.state.lanes[speaker.source]
                    .values()
                    .filter_map(|lane| lane.removal.as_ref());
                let mut seen = removals.filter(|removal| removal.vector.covers(source, position));
                seen.any(|removal| speaker.lane.made > removal.position)
            })
    }

    /// What a person said of a deletion and the edits that it had not seen. An answer to less than all of them is none.
    fn answered(&self, source: &str, position: Position, unseen: &[(&str, Said<'_>)]) -> End {
        let heard = |answer: &&Word| {
            let edits = unseen.iter().map(|(_, said)| (said.source, said.word.position));
            edits
                .chain([(source, position)])
                .all(|(source, position)| answer.seen.covers(source, position))
        };
        let answers = self.answers_on(WHOLE).map(|answer| &answer.word).filter(heard);
        match answers.max_by_key(|answer| answer.stamp_us).map(|answer| &answer.value) {
            Some(Value::Bool(true)) => End::Lives,
            Some(Value::Bool(false)) => End::Deleted,
            _ if breaks("held-deletes-wait") => End::Deleted,
            _ => End::Held,
        }
    }

    fn deletion(
        &self,
        speaker: &Speaker<'_>,
        position: Position,
        stamp_us: i64,
        unseen: &[(&str, Said<'_>)],
        end: End,
    ) -> Conflict {
        let mut candidates = vec![candidate_row(speaker.source, speaker.row, position)];
        candidates[0].stamp_us = stamp_us;
        candidates.extend(unseen.iter().map(|(_, said)| candidate(said)));
        let app = voice::app(speaker.source);
        let note = match end {
            End::Deleted => format!("{app} deleted it; edits it had not seen are refused and kept here"),
            End::Lives => format!("{app} deleted it without having seen later edits; the record lives"),
            End::Held => format!(
                "{app} deleted it without having seen later edits: neither goes anywhere until a person decides whether it lives"
            ),
        };
        Conflict {
            id: self.conflict_id(WHOLE, &candidates),
            cid: self.cid.to_owned(),
            field: WHOLE.to_owned(),
            status: if end == End::Held {
                Status::Open
            } else {
                Status::Settled
            },
            base: None,
            candidates,
            strategy: self.entity.delete_policy(voice::app(speaker.source)).to_string(),
            rule: self.file(),
            outcome: Value::Bool(end != End::Deleted),
            winner: (end == End::Deleted).then(|| speaker.source.to_owned()),
            vector: self.vector.clone(),
            note,
            expires_us: None,
        }
    }
}

/// The edits left standing that a deletion had not seen, on fields that the deleted row had.
fn unseen_by<'a>(speaker: &Speaker<'_>, decided: &'a Decisions<'a>) -> Vec<(&'a str, Said<'a>)> {
    let unseen = |unit: &Unit<'_>, said: &Said<'_>| {
        said.source != speaker.source
            && !said.word.initial
            && unit.is_held_by(speaker.lane)
            && !unit.knows(speaker.lane, said.source, said.word.position)
            && unit.held_by(speaker.lane).as_ref() != Some(&said.word.value)
    };
    decided
        .iter()
        .flat_map(|(unit, one)| one.sight.standing().iter().map(move |&index| (*unit, one.words[index])))
        .filter(|(unit, said)| unseen(unit, said))
        .map(|(unit, said)| (unit.name, said))
        .collect()
}
