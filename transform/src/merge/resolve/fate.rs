//! What the deletions among the apps come to: gone, made anew, or only marked.
//!
//! A deletion is weighed against the edits that it had not seen, by the policy of the app that deleted. A row that somebody
//! made anew knowing of the deletion answers it whatever the policy says.

use syncline_schemas::conflict::{Conflict, Status};
use syncline_schemas::pipeline::{DeletePolicy, Field};
use syncline_schemas::position::Position;
use syncline_schemas::value::Value;

use super::speaker::Speaker;
use super::{Decided, View, candidate, candidate_row};
use crate::merge::causality::Said;
use crate::merge::state::Presence;

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
    /// Edits against deletions, where there were both.
    pub conflict: Option<Conflict>,
}

impl Fate {
    fn restore(&mut self, source: &str) {
        self.remade.push(source.to_owned());
        self.restored.push(source.to_owned());
    }
}

impl View<'_> {
    /// What the deletions among the speakers come to.
    pub fn fate(&self, decided: &[(&Field, Decided<'_>)]) -> Fate {
        let mut fate = Fate::default();
        for speaker in &self.speakers {
            let Presence::Deleted { position, stamp_us } = speaker.lane.presence else {
                if speaker.was_removed() && self.is_heard(speaker) {
                    fate.restore(speaker.source);
                }
                continue;
            };
            if self.came_back(speaker.source, position) {
                fate.remade.push(speaker.source.to_owned());
                continue;
            }
            let unseen = unseen_by(speaker, decided);
            match self.entity.delete_policy(speaker.source) {
                DeletePolicy::Ignore => {}
                DeletePolicy::Soft => fate.deleted_us = fate.deleted_us.max(Some(stamp_us)),
                DeletePolicy::UpdateWins if !unseen.is_empty() => {
                    fate.restore(speaker.source);
                    fate.conflict = Some(self.deletion(speaker, position, stamp_us, &unseen, false));
                }
                DeletePolicy::UpdateWins | DeletePolicy::DeleteWins => {
                    fate.deleted = true;
                    if !unseen.is_empty() {
                        fate.conflict = Some(self.deletion(speaker, position, stamp_us, &unseen, true));
                    }
                }
            }
        }
        if fate.deleted {
            fate.remade.clear();
            fate.restored.clear();
        }
        fate
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
                    let may_lose = self.entity.delete_policy(speaker.source) == DeletePolicy::UpdateWins;
                    may_lose.then_some(position)
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

    fn deletion(
        &self,
        speaker: &Speaker<'_>,
        position: Position,
        stamp_us: i64,
        unseen: &[Said<'_>],
        deleted: bool,
    ) -> Conflict {
        let mut candidates = vec![candidate_row(speaker.source, speaker.row, position)];
        candidates[0].stamp_us = stamp_us;
        candidates.extend(unseen.iter().map(|said| candidate(said)));
        let note = if deleted {
            format!(
                "{} deleted it; edits it had not seen are refused and kept here",
                speaker.source
            )
        } else {
            format!(
                "{} deleted it without having seen later edits; the record lives",
                speaker.source
            )
        };
        Conflict {
            id: self.conflict_id("*", &candidates),
            cid: self.cid.to_owned(),
            field: "*".to_owned(),
            status: Status::Settled,
            base: None,
            candidates,
            strategy: self.entity.delete_policy(speaker.source).to_string(),
            rule: self.file(),
            outcome: Value::Bool(!deleted),
            winner: deleted.then(|| speaker.source.to_owned()),
            vector: self.vector.clone(),
            note,
        }
    }
}

/// The edits left standing that a deletion had not seen, on fields that the deleted row had.
fn unseen_by<'a>(speaker: &Speaker<'_>, decided: &'a [(&Field, Decided<'a>)]) -> Vec<Said<'a>> {
    let unseen = |field: &Field, said: &Said<'_>| {
        let Some(lane) = speaker.lane.fields.get(&field.name) else {
            return false;
        };
        said.source != speaker.source
            && !said.word.initial
            && !lane.knowledge.covers(said.source, said.word.position)
            && lane.shadow.as_ref() != Some(&said.word.value)
    };
    decided
        .iter()
        .flat_map(|(field, one)| {
            one.sight
                .standing()
                .into_iter()
                .map(move |index| (*field, one.words[index]))
        })
        .filter(|(field, said)| unseen(field, said))
        .map(|(_, said)| said)
        .collect()
}
