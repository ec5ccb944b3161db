//! What a conflict record says: who the candidates are, who won, and why, in a sentence for a person.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};
use syncline_schemas::conflict::{Candidate, Conflict, Status};
use syncline_schemas::mapped::RowKey;
use syncline_schemas::position::{Position, Vector};
use syncline_schemas::value::Value;
use syncline_schemas::voice;

use super::View;
use super::unit::Unit;
use crate::merge::causality::Said;
use crate::merge::rule::Verdict;
use crate::merge::state::Presence;
use crate::merge::word::Word;

impl View<'_> {
    /// Two rows of one app that claim to be the same: never merged in silence.
    pub fn doubles(&self) -> Option<Conflict> {
        let apps: BTreeSet<&str> = self.speakers.iter().map(|speaker| voice::app(speaker.source)).collect();
        let rows: Vec<(&str, Vec<Candidate>)> = apps
            .into_iter()
            .map(|app| (app, self.rows_of(app)))
            .filter(|(_, rows)| rows.len() > 1)
            .collect();
        let apps: Vec<&str> = rows.iter().map(|(app, _)| *app).collect();
        let candidates: Vec<Candidate> = rows.iter().flat_map(|(_, rows)| rows.clone()).collect();
        let what = match self.identity.members.iter().any(|member| member.joined) {
            true => "it was merged of several; all of them speak and are kept in agreement until somebody removes one",
            false => "the one made first speaks",
        };
        (!candidates.is_empty()).then(|| Conflict {
            id: self.conflict_id("*rows", &candidates),
            cid: self.cid.to_owned(),
            field: "*rows".to_owned(),
            status: Status::Open,
            base: None,
            candidates,
            strategy: "match".to_owned(),
            rule: self.file(),
            outcome: Value::Null,
            winner: None,
            vector: self.vector.clone(),
            note: format!(
                "{} has several rows for this {}; {what}",
                apps.join(", "),
                self.entity.name
            ),
            expires_us: None,
        })
    }

    /// The rows of an app that are there.
    fn rows_of(&self, app: &str) -> Vec<Candidate> {
        let of_app = self.speakers.iter().filter(|speaker| voice::app(speaker.source) == app);
        let rows = of_app.flat_map(|speaker| {
            let there = speaker.lane.presence == Presence::Here;
            let own = there.then_some((speaker.row, speaker.lane));
            let all = own.into_iter().chain(speaker.doubles.iter().copied());
            all.map(move |(row, lane)| candidate_row(speaker.source, row, lane.made))
        });
        rows.collect()
    }

    pub fn conflict_id(&self, field: &str, candidates: &[Candidate]) -> String {
        let mut hash = Sha256::new();
        hash.update(format!("{}\n{field}\n", self.cid));
        for one in candidates {
            hash.update(format!("{}\n{}\n{}\n", one.source, one.row, one.position));
        }
        hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// `among` are the candidates; a verdict that names a winner names it among them.
    pub fn conflict(&self, unit: &Unit<'_>, among: &[Said<'_>], verdict: &Verdict, value: &Value) -> Conflict {
        let candidates: Vec<Candidate> = among.iter().map(candidate).collect();
        let (status, winner) = match verdict {
            Verdict::Held(..) => (Status::Open, None),
            Verdict::Made(_) => (Status::Settled, None),
            Verdict::Wins(index) => (Status::Settled, Some(among[*index].source.to_owned())),
        };
        let note = match (&status, &winner) {
            (Status::Open, _) if let Verdict::Held(_, Some(why)) = verdict => {
                format!("held ({why}): each app keeps its own value until a person decides")
            }
            (Status::Open, _) => "held: each app keeps its own value until a person decides".to_owned(),
            (_, Some(winner)) => format!("{} decided for {winner}; the other values are kept here", unit.strategy),
            (_, None) => format!("{} made one value of all", unit.strategy),
        };
        let base = among.first().and_then(|said| said.word.base.clone());
        let note = note + &wrong_clocks(among);
        Conflict {
            id: self.conflict_id(unit.name, &candidates),
            cid: self.cid.to_owned(),
            field: unit.name.to_owned(),
            status,
            base: base.filter(|base| among.iter().all(|said| said.word.base.as_ref() == Some(base))),
            candidates,
            strategy: unit.strategy.to_string(),
            rule: unit.rule.to_string(),
            outcome: value.clone(),
            winner,
            vector: self.vector.clone(),
            note,
            expires_us: None,
        }
    }

    /// The pipeline file, where no line of it decides.
    pub fn file(&self) -> String {
        self.entity
            .fields
            .first()
            .map(|field| field.rule.file.clone())
            .unwrap_or_default()
    }
}

/// Whose clock was wrong, for a person who wonders about the stamps.
fn wrong_clocks(among: &[Said<'_>]) -> String {
    let of = |wrong: fn(&Word) -> bool, how: &str| {
        let apps: Vec<&str> = among
            .iter()
            .filter(|said| wrong(said.word))
            .map(|said| voice::app(said.source))
            .collect();
        if apps.is_empty() {
            String::new()
        } else {
            format!("; the clock of {} was {how}", apps.join(", "))
        }
    };
    of(|word| word.set_back, "set back") + &of(|word| word.ahead, "ahead: its stamp is cut to what is allowed")
}

/// A word as a candidate.
pub fn candidate(said: &Said<'_>) -> Candidate {
    Candidate {
        source: said.source.to_owned(),
        row: said.row.clone(),
        value: Some(said.word.value.clone()),
        base: said.word.base.clone(),
        position: said.word.position,
        stamp_us: said.word.stamp_us,
        seen: said.word.seen.clone(),
        initial: said.word.initial,
    }
}

/// A row as a candidate, where it is not a word that is in question.
pub fn candidate_row(source: &str, row: &RowKey, position: Position) -> Candidate {
    Candidate {
        source: source.to_owned(),
        row: row.clone(),
        value: None,
        base: None,
        position,
        stamp_us: 0,
        seen: Vector::new(),
        initial: false,
    }
}
