//! Pure: one conflict with all that people have said and done about it, and where that leaves it.
//!
//! `open > taken > answered > resolved`, or `agreed` when the apps settled it among themselves, or `expired` when its time
//! was up and the file says who wins then. Merge knows only open and
//! closed; who works on it is on the actions topic, what they answered on the decisions topic, and *resolved* is what
//! merge says once it has taken the answer in. A take or an answer counts for the question as it was: when the
//! candidates change, the conflict has another id, and it is open again.

use serde::Serialize;
use syncline_schemas::action::{Action, ActionKind};
use syncline_schemas::conflict::{Conflict, Status};
use syncline_schemas::decision::{Decision, OPERATOR};
use syncline_schemas::position::{Lsn, Position};

/// One conflict, and what was done about it.
#[derive(Clone, Debug)]
pub struct Case {
    /// The entity.
    pub entity: String,
    /// As merge said it last.
    pub conflict: Conflict,
    /// When merge first asked this question, milliseconds since 1970.
    pub since_ms: i64,
    /// What people decided on this field of this entity, with the offset of each.
    pub decisions: Vec<(i64, Decision)>,
    /// What people did about it.
    pub actions: Vec<Action>,
}

/// Where a conflict stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Waits for a person.
    Open,
    /// Somebody works on it.
    Taken,
    /// Somebody has decided; merge has not taken it in yet.
    Answered,
    /// Decided by a person.
    Resolved,
    /// The apps came to say the same, or a later edit had seen all candidates.
    Agreed,
    /// Decided by what the file says for a question that nobody answers in time.
    Expired,
    /// Decided by the rule.
    Settled,
}

impl Standing {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Standing::Open => "open",
            Standing::Taken => "taken",
            Standing::Answered => "answered",
            Standing::Resolved => "resolved",
            Standing::Agreed => "agreed",
            Standing::Expired => "expired",
            Standing::Settled => "settled",
        }
    }

    /// Whether a person has still something to do.
    pub fn waits(self) -> bool {
        matches!(self, Standing::Open | Standing::Taken)
    }
}

impl Case {
    /// Where it stands.
    pub fn standing(&self) -> Standing {
        match (self.conflict.status, self.answer(), self.taker()) {
            (Status::Open, Some(_), _) => Standing::Answered,
            (Status::Open, None, Some(_)) => Standing::Taken,
            (Status::Open, None, None) => Standing::Open,
            (_, Some(_), _) => Standing::Resolved,
            (Status::Closed, None, _) => Standing::Agreed,
            (Status::Settled, None, _) if self.conflict.expires_us.is_some() => Standing::Expired,
            (Status::Settled, None, _) => Standing::Settled,
        }
    }

    /// Who works on it, or has answered it.
    pub fn who(&self) -> Option<&str> {
        self.answer().map(|answer| answer.by.as_str()).or(self.taker())
    }

    /// The last decision whose author had seen all candidates.
    pub fn answer(&self) -> Option<&Decision> {
        let answers = self.decisions.iter().rev();
        answers
            .map(|(_, decision)| decision)
            .find(|decision| self.is_answered_by(decision))
    }

    fn is_answered_by(&self, decision: &Decision) -> bool {
        let candidates = &self.conflict.candidates;
        candidates
            .iter()
            .all(|said| decision.answers.covers(&said.source, said.position))
    }

    /// Who has taken it: the first, until it is released.
    pub fn taker(&self) -> Option<&str> {
        let these = self.actions.iter().filter(|action| action.concerns == self.conflict.id);
        these.fold(None, |taker, action| match action.kind {
            ActionKind::Take => taker.or(Some(action.by.as_str())),
            ActionKind::Release => None,
            ActionKind::Replay | ActionKind::Drop => taker,
        })
    }

    /// Whether `app` is one of its candidates.
    pub fn concerns(&self, app: &str) -> bool {
        self.conflict.candidates.iter().any(|said| said.source == app)
    }

    /// `crm, shop (first load)`: who said something, and how.
    pub fn apps(&self) -> String {
        let said = self
            .conflict
            .candidates
            .iter()
            .map(|said| match (said.initial, &said.value) {
                (_, None) => format!("{} (no value)", said.source),
                (true, _) => format!("{} (first load)", said.source),
                (false, _) => said.source.clone(),
            });
        said.collect::<Vec<_>>().join(", ")
    }

    /// The decision that stands at this position in the log of decisions.
    pub fn decision_at(&self, position: Position) -> Option<&Decision> {
        let here = |offset: i64| Position::new(0, Lsn(offset.cast_unsigned()), 0) == position;
        self.decisions
            .iter()
            .find(|(offset, _)| here(*offset))
            .map(|(_, decision)| decision)
    }
}

/// Who said it, for people: of an operator's word, who that was.
pub fn author(case: &Case, source: &str, position: Position) -> String {
    match case.decision_at(position).filter(|_| source == OPERATOR) {
        Some(decision) => format!("{source} ({})", decision.by),
        None => source.to_owned(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use syncline_schemas::conflict::Candidate;
    use syncline_schemas::mapped::RowKey;
    use syncline_schemas::position::Vector;
    use syncline_schemas::value::Value;

    fn at(lsn: u64) -> Position {
        Position::new(1, Lsn(lsn), 0)
    }

    pub(in super::super) fn case(cid: &str, sources: &[&str]) -> Case {
        let candidates = sources.iter().map(|source| Candidate {
            source: (*source).to_owned(),
            row: RowKey::default(),
            value: Some(Value::from(1)),
            base: None,
            position: at(10),
            stamp_us: 0,
            seen: Vector::new(),
            initial: true,
        });
        Case {
            entity: "customer".to_owned(),
            conflict: Conflict {
                id: format!("id-{cid}"),
                cid: cid.to_owned(),
                field: "limit".to_owned(),
                status: Status::Open,
                base: None,
                candidates: candidates.collect(),
                strategy: "hold".to_owned(),
                rule: "acme.yaml:3".to_owned(),
                outcome: Value::Null,
                winner: None,
                vector: Vector::new(),
                note: String::new(),
                expires_us: None,
            },
            since_ms: 0,
            decisions: Vec::new(),
            actions: Vec::new(),
        }
    }

    fn action(kind: ActionKind, by: &str, concerns: &str) -> Action {
        Action {
            kind,
            subject: String::new(),
            concerns: concerns.to_owned(),
            by: by.to_owned(),
            why: String::new(),
            at_us: 0,
        }
    }

    fn decision(seen: &[(&str, u64)]) -> Decision {
        Decision {
            cid: String::new(),
            field: "limit".to_owned(),
            value: Value::from(2),
            answers: seen.iter().map(|(source, lsn)| (*source, at(*lsn))).collect(),
            by: "finance".to_owned(),
            why: String::new(),
            at_us: 0,
        }
    }

    #[test]
    fn who_takes_it_first_has_it_until_it_is_released() {
        let mut case = case("c", &["crm", "shop"]);
        assert_eq!(case.standing(), Standing::Open);
        case.actions = vec![
            action(ActionKind::Take, "ada", "id-c"),
            action(ActionKind::Take, "bob", "id-c"),
        ];
        assert_eq!((case.standing(), case.who()), (Standing::Taken, Some("ada")));
        case.actions.push(action(ActionKind::Release, "bob", "id-c"));
        assert_eq!(case.standing(), Standing::Open);
    }

    #[test]
    fn a_take_of_an_older_question_does_not_count() {
        let mut case = case("c", &["crm", "shop"]);
        case.actions = vec![action(ActionKind::Take, "ada", "id-before")];
        assert_eq!(case.standing(), Standing::Open);
    }

    #[test]
    fn an_answer_counts_if_it_had_seen_all_candidates() {
        let mut case = case("c", &["crm", "shop"]);
        case.decisions = vec![(0, decision(&[("crm", 10), ("shop", 9)]))];
        assert_eq!(case.standing(), Standing::Open, "the shop has said something since");
        case.decisions.push((1, decision(&[("crm", 10), ("shop", 10)])));
        assert_eq!((case.standing(), case.who()), (Standing::Answered, Some("finance")));
        case.conflict.status = Status::Closed;
        assert_eq!(case.standing(), Standing::Resolved);
        case.decisions.clear();
        assert_eq!(case.standing(), Standing::Agreed);
    }
}
