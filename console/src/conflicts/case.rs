//! Pure: one conflict with all that people have said and done about it, and where that leaves it.
//!
//! `open > taken > answered > resolved`, or `agreed` when the apps settled it among themselves, or `expired` when its time
//! was up and the file says who wins then. Where the file names approvers, an answer is `proposed` until one of them, who
//! has not given it, approves it. What the rule or the deadline has decided stays that, until an answer is approved. Merge
//! knows only open and closed; who works on it is on the actions topic, what they answered on the decisions topic, and
//! *resolved* is what merge says once it has taken the answer in. A take or an answer counts for the question as it was:
//! when the candidates change, the conflict has another id, and it is open again.

use serde::Serialize;
use syncline_schemas::action::{Action, ActionKind};
use syncline_schemas::conflict::{Conflict, Status};
use syncline_schemas::decision::{self, Decision, OPERATOR};
use syncline_schemas::position::Position;

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
    /// Who may approve an answer; where nobody is named, nobody has to.
    pub approvers: Vec<String>,
}

/// Where a conflict stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Waits for a person.
    Open,
    /// Somebody works on it.
    Taken,
    /// Somebody has decided; somebody else has to approve it.
    Proposed,
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
            Standing::Proposed => "proposed",
            Standing::Answered => "answered",
            Standing::Resolved => "resolved",
            Standing::Agreed => "agreed",
            Standing::Expired => "expired",
            Standing::Settled => "settled",
        }
    }

    /// Whether a person has still something to do.
    pub fn waits(self) -> bool {
        matches!(self, Standing::Open | Standing::Taken | Standing::Proposed)
    }
}

impl Case {
    /// Where it stands.
    pub fn standing(&self) -> Standing {
        match (self.conflict.status, self.answer(), self.taker()) {
            (Status::Open, Some(_), _) => Standing::Answered,
            (Status::Open, None, _) if !self.proposals().is_empty() => Standing::Proposed,
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
        let proposed = || self.proposals().into_iter().next().map(|(_, proposal)| proposal);
        let answer = self.answer().or_else(proposed);
        answer.map(|answer| answer.by.as_str()).or(self.taker())
    }

    /// Who may approve the last answer, while it waits for that.
    pub fn waits_for(&self) -> Vec<&str> {
        let Some((_, proposal)) = self.waiting().into_iter().next() else {
            return Vec::new();
        };
        let names = self.approvers.iter().map(String::as_str);
        names.filter(|name| self.may_approve(name, proposal)).collect()
    }

    /// The last decision that holds, whose author had seen all candidates.
    pub fn answer(&self) -> Option<&Decision> {
        let mut answers = self.answers();
        answers
            .find(|(offset, answer)| self.holds(*offset, answer))
            .map(|(_, answer)| answer)
    }

    /// The answers that wait for somebody to approve them, with the offset of each, the last first.
    pub fn proposals(&self) -> Vec<(i64, &Decision)> {
        self.answers()
            .filter(|(offset, answer)| !self.holds(*offset, answer))
            .collect()
    }

    /// Of those, the ones that hold once somebody has: of a question that a person may still answer, be it that the rule or
    /// the deadline has decided it meanwhile.
    pub fn waiting(&self) -> Vec<(i64, &Decision)> {
        match self.standing() {
            Standing::Proposed | Standing::Settled | Standing::Expired => self.proposals(),
            Standing::Open | Standing::Taken | Standing::Answered | Standing::Resolved | Standing::Agreed => Vec::new(),
        }
    }

    /// Whether this person may approve the answer. Merge counts approvals by the same rule.
    pub fn may_approve(&self, by: &str, answer: &Decision) -> bool {
        decision::may_approve(&self.approvers, by, &answer.by)
    }

    /// The decisions whose authors had seen all candidates, the last first.
    fn answers(&self) -> impl Iterator<Item = (i64, &Decision)> {
        let answers = self.decisions.iter().rev();
        answers
            .map(|(offset, decision)| (*offset, decision))
            .filter(|(_, decision)| decision.approves.is_none() && self.is_answered_by(decision))
    }

    fn holds(&self, offset: i64, answer: &Decision) -> bool {
        let is_of_it = |decision: &Decision| {
            decision.approves == Some(offset) && decision.value == answer.value && decision.answers == answer.answers
        };
        let approves = |(at, decision): &(i64, Decision)| {
            *at > offset && is_of_it(decision) && self.may_approve(&decision.by, answer)
        };
        self.approvers.is_empty() || self.decisions.iter().any(approves)
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
        self.decisions
            .iter()
            .find(|(offset, _)| decision::position(*offset) == position)
            .map(|(_, decision)| decision)
    }
}

/// Who said it, for people: of an operator's word, who that was.
pub fn author(case: &Case, source: &str, position: Position) -> String {
    let Some(decision) = case.decision_at(position).filter(|_| source == OPERATOR) else {
        return source.to_owned();
    };
    let approved = decision.approves.map(decision::position);
    match approved.and_then(|position| case.decision_at(position)) {
        Some(answer) => format!("{source} ({}, approved by {})", answer.by, decision.by),
        None => format!("{source} ({})", decision.by),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use syncline_schemas::conflict::Candidate;
    use syncline_schemas::mapped::RowKey;
    use syncline_schemas::position::{Lsn, Vector};
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
            approvers: Vec::new(),
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
            approves: None,
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

    #[test]
    fn what_the_rule_or_the_deadline_decided_waits_for_an_approval_too() {
        let mut case = case("c", &["crm", "shop"]);
        case.approvers = ["ada", "finance"].map(str::to_owned).into();
        case.conflict.status = Status::Settled;
        assert!(case.waiting().is_empty(), "nobody has answered");
        let answer = decision(&[("crm", 10), ("shop", 10)]);
        case.decisions = vec![(3, answer.clone())];
        assert_eq!(case.standing(), Standing::Settled);
        assert_eq!((case.waiting().len(), case.waits_for()), (1, vec!["ada"]));
        case.conflict.expires_us = Some(1);
        assert_eq!(case.standing(), Standing::Expired);
        assert_eq!((case.waiting().len(), case.waits_for()), (1, vec!["ada"]));
        let approval = Decision {
            by: "ada".to_owned(),
            approves: Some(3),
            ..answer
        };
        case.decisions.push((4, approval));
        assert_eq!(case.standing(), Standing::Resolved);
        assert!(case.waiting().is_empty(), "it holds");
    }

    #[test]
    fn an_answer_waits_for_another_of_the_approvers() {
        let mut case = case("c", &["crm", "shop"]);
        case.approvers = ["ada", "bob", "finance"].map(str::to_owned).into();
        let answer = decision(&[("crm", 10), ("shop", 10)]);
        let approval = |by: &str| Decision {
            by: by.to_owned(),
            approves: Some(3),
            ..answer.clone()
        };
        case.decisions = vec![(3, answer.clone())];
        assert_eq!((case.standing(), case.who()), (Standing::Proposed, Some("finance")));
        assert_eq!(case.waits_for(), ["ada", "bob"]);
        case.decisions.push((4, approval("finance")));
        case.decisions.push((5, approval("carl")));
        case.decisions.push((5, approval(" Finance")));
        let another = Decision {
            value: Value::from(7),
            ..approval("bob")
        };
        case.decisions.push((5, another));
        assert_eq!(case.standing(), Standing::Proposed, "his own, nobody's, and of another");
        assert_eq!(case.proposals().len(), 1, "an approval is no answer");
        case.decisions.push((6, approval("bob")));
        assert_eq!((case.standing(), case.who()), (Standing::Answered, Some("finance")));
        assert!(case.waits_for().is_empty());
        assert_eq!(
            author(&case, OPERATOR, decision::position(6)),
            "operator (finance, approved by bob)"
        );
    }
}
