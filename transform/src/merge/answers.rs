//! What people said of a field: answers, and approvals of answers.
//!
//! Where the file names `approvers`, an answer holds when one of them, who is not its author, has approved it. An approval
//! names the answer by its place and says what it says: in a topic that was made anew another answer may have that place.
//! Who may approve is a rule, and `join` knows none: it keeps what was said, by whom, and `resolve` asks here what of it
//! holds. So it is a function of the set of words; in which order they are read, and how often, does not matter, and who is
//! named in the file tomorrow decides about what was said yesterday, as in a replay.
//!
//! An answer that had to be approved is said when it was: its position is that of its first approval. The agreed record's
//! vector covers every word of people that was read, so that it never goes back, not even when the file names others; were
//! the position of an answer its own, an app that has been told of anything since would seem to have seen it, though nobody
//! was told of it, and its next edit would overrule it.
//!
//! Of each field so many answers and approvals are kept, by their positions: the last of a set, which is a function of the
//! set too.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use syncline_schemas::decision::{self, Decision};
use syncline_schemas::position::{Position, Vector};
use syncline_schemas::value::Value;

use super::mutant::breaks;
use super::packed::packed;
use super::word::Word;

/// Answers kept of a field, and approvals. An answer that is older than so many others holds no more, approved or not.
const KEPT_MAX: usize = 64;

/// What people said of a field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answers {
    /// By position.
    given: BTreeMap<Position, Given>,
    /// By position.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    approvals: BTreeMap<Position, Approval>,
}

/// An answer, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Given {
    by: String,
    word: Word,
}

/// An approval of the answer at a position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Approval {
    by: String,
    of: Position,
    at_us: i64,
    /// What was approved.
    value: Value,
    /// And what its author had seen.
    answers: Vector,
}

packed!(Answers { 0 given, 1 approvals });
packed!(Given { 0 by, 1 word });
packed!(Approval { 0 by, 1 of, 2 at_us, 3 value, 4 answers });

impl Answers {
    /// Takes in what a person said at `position`.
    pub fn take(&mut self, decision: &Decision, position: Position) {
        let by = decision.by.clone();
        match decision.approves {
            Some(offset) => {
                let approval = Approval {
                    by,
                    of: decision::position(offset),
                    at_us: decision.at_us,
                    value: decision.value.clone(),
                    answers: decision.answers.clone(),
                };
                keep(&mut self.approvals, position, approval);
            }
            None => {
                let word = word(decision, position);
                keep(&mut self.given, position, Given { by, word });
            }
        }
    }

    /// The same said of a field that is made of this one, as far as something is made of the values.
    pub fn converted(&self, of: impl Fn(&Value) -> Option<Value>) -> Self {
        let given = |(at, given): (&Position, &Given)| {
            let word = given.word.converted(&of)?;
            let by = given.by.clone();
            Some((*at, Given { by, word }))
        };
        let approval = |(at, approval): (&Position, &Approval)| {
            let value = of(&approval.value)?;
            Some((
                *at,
                Approval {
                    value,
                    ..approval.clone()
                },
            ))
        };
        Self {
            given: self.given.iter().filter_map(given).collect(),
            approvals: self.approvals.iter().filter_map(approval).collect(),
        }
    }

    /// Takes in what was said of the field under another name.
    pub fn join(&mut self, other: Self) {
        for (position, given) in other.given {
            keep(&mut self.given, position, given);
        }
        for (position, approval) in other.approvals {
            keep(&mut self.approvals, position, approval);
        }
    }

    /// Up to where people said anything.
    pub fn last(&self) -> Option<Position> {
        self.given.keys().chain(self.approvals.keys()).max().copied()
    }

    /// The answer that holds: the last, and where somebody has to approve it, the last that somebody has.
    pub fn holding(&self, approvers: &[String]) -> Option<Word> {
        if approvers.is_empty() || breaks("two-approve") {
            return self.given.values().next_back().map(|given| given.word.clone());
        }
        self.given
            .values()
            .rev()
            .find_map(|given| self.approved(given, approvers))
    }

    /// The word of an answer from its first approval on. Nobody approves his own, nor what is not yet said.
    fn approved(&self, given: &Given, approvers: &[String]) -> Option<Word> {
        let said = given.word.position;
        let is_of_it = |approval: &Approval| {
            approval.of == said && approval.value == given.word.value && approval.answers == given.word.seen
        };
        let counts = |at: Position, approval: &Approval| {
            at > said && is_of_it(approval) && decision::may_approve(approvers, &approval.by, &given.by)
        };
        let (position, approval) = self.approvals.iter().find(|(at, approval)| counts(**at, approval))?;
        Some(Word {
            position: *position,
            stamp_us: given.word.stamp_us.max(approval.at_us),
            ..given.word.clone()
        })
    }
}

/// The word that a decision is.
fn word(decision: &Decision, position: Position) -> Word {
    Word {
        value: decision.value.clone(),
        base: None,
        position,
        stamp_us: decision.at_us,
        seen: decision.answers.clone(),
        initial: false,
        past: Vec::new(),
        steps: Vec::new(),
        put_back: 0,
        set_back: false,
        ahead: false,
    }
}

/// The first said at a position is what was said there.
fn keep<T>(kept: &mut BTreeMap<Position, T>, position: Position, said: T) {
    kept.entry(position).or_insert(said);
    while kept.len() > KEPT_MAX {
        kept.pop_first();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(by: &str, value: i64, approves: Option<i64>) -> Decision {
        Decision {
            cid: "c".to_owned(),
            field: "limit".to_owned(),
            value: value.into(),
            answers: Vector::new(),
            by: by.to_owned(),
            why: String::new(),
            at_us: value,
            approves,
        }
    }

    /// What holds, and since when, where these were said one after the other.
    fn holding(words: &[Decision], approvers: &[&str]) -> Option<(Value, Position)> {
        let at = |index: usize| decision::position(i64::try_from(index).unwrap());
        let mut answers = Answers::default();
        let mut backwards = Answers::default();
        for (index, word) in words.iter().enumerate() {
            answers.take(word, at(index));
            answers.take(word, at(index));
        }
        for (index, word) in words.iter().enumerate().rev() {
            backwards.take(word, at(index));
        }
        assert_eq!(answers, backwards, "the order in which they are read");
        let approvers: Vec<String> = approvers.iter().map(|name| (*name).to_owned()).collect();
        answers.holding(&approvers).map(|word| (word.value, word.position))
    }

    fn since(value: i64, offset: i64) -> Option<(Value, Position)> {
        Some((value.into(), decision::position(offset)))
    }

    #[test]
    fn without_approvers_the_last_answer_holds() {
        let words = [said("ada", 1, None), said("bob", 2, None), said("carl", 1, Some(0))];
        assert_eq!(holding(&words, &[]), since(2, 1));
        assert_eq!(holding(&[said("bob", 2, Some(7))], &[]), None);
    }

    #[test]
    fn an_answer_holds_from_where_another_of_those_named_approves_it() {
        let both = ["ada", "bob"];
        assert_eq!(holding(&[said("ada", 1, None)], &both), None);
        assert_eq!(holding(&[said("ada", 1, None), said("ada", 1, Some(0))], &both), None);
        assert_eq!(holding(&[said("ada", 1, None), said("carl", 1, Some(0))], &both), None);
        assert_eq!(
            holding(&[said("ada", 1, None), said("bob", 1, Some(0))], &both),
            since(1, 1)
        );
        assert_eq!(
            holding(&[said("carl", 1, None), said("bob", 1, Some(0))], &both),
            since(1, 1)
        );
        assert_eq!(
            holding(
                &[said("ada", 1, None), said("carl", 2, None), said("bob", 1, Some(0))],
                &both
            ),
            since(1, 2),
            "the other answer has nobody's approval"
        );
        assert_eq!(
            holding(&[said("bob", 1, Some(1)), said("ada", 1, None)], &both),
            None,
            "not yet said"
        );
    }

    #[test]
    fn an_approval_of_another_answer_or_of_his_own_under_another_spelling_does_not_count() {
        let both = ["ada", "bob"];
        let answer = said("ada", 1, None);
        assert_eq!(holding(&[answer.clone(), said("bob", 2, Some(0))], &both), None);
        let unseen = Decision {
            answers: Vector::from_iter([("shop", decision::position(1))]),
            ..said("bob", 1, Some(0))
        };
        assert_eq!(holding(&[answer.clone(), unseen], &both), None);
        assert_eq!(holding(&[answer.clone(), said("Ada ", 1, Some(0))], &both), None);
        assert_eq!(holding(&[answer, said(" Bob", 1, Some(0))], &both), since(1, 1));
    }

    #[test]
    fn what_is_kept_is_bounded_and_a_function_of_the_set() {
        let words: Vec<Decision> = (0..100).map(|value| said("ada", value, None)).collect();
        assert_eq!(holding(&words, &[]), since(99, 99));
    }
}
