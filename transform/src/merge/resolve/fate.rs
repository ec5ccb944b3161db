//! What the deletions among the apps come to: gone, made anew, or only marked.
//!
//! A deletion is weighed against the edits that it had not seen, by the policy of the app that deleted. A row that somebody
//! made anew knowing of the deletion answers it whatever the policy says.
//!
//! Two apps may delete the same. Whoever then makes it anew knows of one deletion, the one for which his row was
//! removed, and means both: the other one's author saw what had gone already and not what was made since. Where
//! deletions win, such a one would end the new row, which nobody has asked for; so it is answered too, and a conflict
//! tells of it. Where they do not win over edits, making a row anew is an edit like any other. What an app had seen
//! that is only read, no mark tells: there the clocks do.

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
use crate::merge::state::{Lane, Presence};
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
            let unseen = self.unseen_by(speaker, decided);
            if self.is_answered(speaker) {
                fate.remade.push(speaker.source.to_owned());
                fate.dispute(self.deletion(speaker, position, stamp_us, &unseen, End::Lives));
                continue;
            }
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
                Presence::Deleted { .. } if self.is_answered(speaker) => None,
                Presence::Deleted { position, .. } => speaker.lane.undone.or_else(|| {
                    let policy = self.entity.delete_policy(voice::app(speaker.source));
                    matches!(policy, DeletePolicy::UpdateWins | DeletePolicy::Hold).then_some(position)
                }),
                Presence::Here | Presence::Removed => speaker.lane.undone,
            };
            deletion.is_some_and(|position| removal.vector.covers(speaker.source, position))
        })
    }

    /// Whether the app's deletion says nothing any more, for the entity was made anew.
    ///
    /// Only of what is known of the rows, whether or not they are heard. Words of the row that went are not heard any
    /// more: where the deletion does not win over edits they would still hold in a row that is restored, so there it
    /// is left to the policy.
    pub fn is_answered(&self, gone: &Speaker<'_>) -> bool {
        let Presence::Deleted { position, .. } = gone.lane.presence else {
            return false;
        };
        self.came_back(gone.source, position)
            || (self.entity.delete_policy(voice::app(gone.source)) == DeletePolicy::DeleteWins
                && !self.has_another(gone)
                && self.is_of_what_went(gone))
    }

    /// Whether an app whose row we had deleted made one anew of which whoever deleted this one did not know. Of one
    /// record only: what users knew of one says nothing of another that was merged with it.
    fn is_of_what_went(&self, gone: &Speaker<'_>) -> bool {
        self.speakers
            .iter()
            .filter(|speaker| speaker.lane.presence == Presence::Here && !speaker.lane.ours)
            .filter(|speaker| voice::origin(speaker.source) == voice::origin(gone.source))
            .any(|speaker| {
                let mut lanes = self.state.lanes[speaker.source].values();
                let made = speaker.lane.made;
                lanes.any(|lane| lane.removal.as_ref().is_some_and(|removal| removal.position < made))
                    && !knows_row(gone.lane, speaker.source, made)
                    && !self.is_deleted_after(gone, speaker.lane)
            })
    }

    /// Whether the deletion by an app that is only read is later than the row was made, as far as clocks tell: nothing
    /// else does, for no mark of ours ever stands in the log of such an app.
    fn is_deleted_after(&self, gone: &Speaker<'_>, made: &Lane) -> bool {
        let Presence::Deleted { stamp_us, .. } = gone.lane.presence else {
            return false;
        };
        self.entity.only_read.contains(voice::app(gone.source))
            && made.made_us.is_some_and(|made_us| stamp_us > made_us)
    }

    /// Whether a word is that of a row which the app made itself after it had had one that went, by anybody's doing.
    /// Nobody edits by what is there at first; this somebody did.
    pub fn is_made_anew(&self, said: &Said<'_>) -> bool {
        let Some(lanes) = self.state.lanes.get(said.source).filter(|_| said.word.initial) else {
            return false;
        };
        let Some(lane) = lanes.get(said.row) else { return false };
        // We may have restored it since; then the words are older than the row.
        let with_the_row = said.word.position == lane.made || lane.undone.is_some();
        let went = |lane: &Lane| lane.presence != Presence::Here && lane.at < said.word.position;
        with_the_row && (lane.again || lanes.values().any(|lane| !lane.is_new() && went(lane)))
    }

    /// Whether an app made a row anew after it had received this deletion.
    fn came_back(&self, source: &str, position: Position) -> bool {
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

    /// The edits left standing that a deletion had not seen, on fields that the deleted row had. Of a row made anew all
    /// that it said, also where somebody else's word seems, by its value, to have seen it.
    fn unseen_by<'d>(&self, speaker: &Speaker<'_>, decided: &'d Decisions<'d>) -> Vec<(&'d str, Said<'d>)> {
        let lane = speaker.lane;
        let unseen = |unit: &Unit<'_>, said: &Said<'_>, stands: bool| {
            let edit = || {
                stands
                    && !said.word.initial
                    && !unit.knows(lane, said.source, said.word.position)
                    && unit.held_by(lane).as_ref() != Some(&said.word.value)
            };
            let anew = || self.is_made_anew(said) && !knows_row(lane, said.source, said.word.position);
            said.source != speaker.source && unit.is_held_by(lane) && (edit() || anew())
        };
        let mut found = Vec::new();
        for (unit, one) in decided {
            for (index, said) in one.words.iter().enumerate() {
                if unseen(unit, said, one.sight.standing().contains(&index)) {
                    found.push((unit.name, *said));
                }
            }
        }
        found
    }
}

/// Whether the users of a row had seen any of what `source` said at `position`, where it made a row: then they knew
/// of it.
fn knows_row(lane: &Lane, source: &str, position: Position) -> bool {
    let mut fields = lane.fields.values();
    fields.any(|field| field.knowledge.covers(source, position))
}
