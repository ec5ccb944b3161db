//! Jumps: an edit that its guard does not let pass waits for a person, whatever the rule says.
//!
//! What is guarded is the edit, `old` to `new`, as its author made it. `old` is what his app held when it was last known
//! there to be agreed, and from then on the last edit that passed: so a jump in two steps is still one. All of that is in
//! the word (`Word::steps`), which is a function of that app's log.
//!
//! Only what would go out is looked at: an edit that the rule corrects anyway needs no guard, and where two apps say the
//! same, or a person does, there is nothing to wait for.

use std::collections::BTreeMap;

use syncline_schemas::conflict::Conflict;
use syncline_schemas::decision::OPERATOR;
use syncline_schemas::lens::{Cell, is_so};
use syncline_schemas::pipeline::Check;
use syncline_schemas::value::Value;
use syncline_schemas::voice;

use super::unit::Unit;
use super::{View, differ, value_of};
use crate::merge::causality::Said;
use crate::merge::mutant::breaks;
use crate::merge::rule::{Asked, Verdict, decide};
use crate::merge::word::Word;

/// An edit that waits.
pub struct Jump {
    /// What holds meanwhile, as far as there is anything to agree on.
    pub value: Value,
    /// What a person is asked.
    pub conflict: Conflict,
}

impl View<'_> {
    /// The jump that `verdict`, none where all say the same, would send out.
    pub fn jump(
        &self,
        unit: &Unit<'_>,
        asked: &Asked<'_>,
        standing: &[Said<'_>],
        verdict: Option<&Verdict>,
    ) -> Option<Jump> {
        let guard = unit.guard.filter(|_| !breaks("guards-hold"))?;
        let answers: Vec<&Word> = self.answers_on(unit.name).map(|answer| &answer.word).collect();
        let jumps = |said: &Said<'_>| old_of(guard, said, &answers);
        let (index, old) = sent_out(standing, verdict)
            .into_iter()
            .find_map(|index| Some((index, jumps(&standing[index])?)))?;
        let calm: Vec<Said<'_>> = standing.iter().copied().filter(|said| jumps(said).is_none()).collect();
        let value = match calm.first() {
            None => old.clone(),
            Some(first) if !differ(&calm) => first.word.value.clone(),
            Some(_) => value_of(&calm, &decide(asked, &calm, self.authority)),
        };
        let why = format!("`{}` of {}", guard.condition, voice::app(standing[index].source));
        let conflict = self.conflict(unit, standing, &Verdict::Held(index, Some(why)), &value);
        Some(Jump {
            value,
            conflict: Conflict {
                strategy: "guard".to_owned(),
                rule: guard.rule.to_string(),
                base: Some(old),
                ..conflict
            },
        })
    }
}

/// The words that go out if nothing holds them: none of them if somebody else, or a person, says the same.
fn sent_out(standing: &[Said<'_>], verdict: Option<&Verdict>) -> Vec<usize> {
    let all: Vec<usize> = (0..standing.len()).collect();
    match verdict {
        Some(Verdict::Held(..)) => Vec::new(),
        Some(Verdict::Made(_)) => all,
        Some(Verdict::Wins(winner)) => {
            let won = &standing[*winner].word.value;
            alone(
                all.into_iter()
                    .filter(|&index| standing[index].word.value == *won)
                    .collect(),
            )
        }
        None => alone(all),
    }
}

fn alone(words: Vec<usize>) -> Vec<usize> {
    if words.len() == 1 { words } else { Vec::new() }
}

/// From where the word jumps, if it does. What a person has answered since is where it starts from.
fn old_of(guard: &Check, said: &Said<'_>, answers: &[&Word]) -> Option<Value> {
    if voice::app(said.source) == OPERATOR || said.word.initial {
        return None;
    }
    let steps = &said.word.steps;
    let answered = answers.iter().filter_map(|answer| {
        let last = steps
            .iter()
            .rposition(|step| answer.seen.covers(said.source, step.at))?;
        Some((last, answer.value.clone()))
    });
    // Of several people, in records that were merged, who has seen the most.
    let answered = answered.max_by_key(|(last, _)| *last);
    let (first, mut old) = match answered {
        Some(answered) => answered,
        None => (0, steps.first()?.held.clone()),
    };
    for step in steps.iter().skip(first + 1) {
        // What was emptied in between is no measure: a jump by way of nothing is one.
        if step.held != Value::Null && !is_jump(guard, &old, &step.held) {
            old = step.held.clone();
        }
    }
    is_jump(guard, &old, &said.word.value).then_some(old)
}

/// A guard that cannot be worked out lets nothing pass: from 0 everything is a jump of more than 20 %.
fn is_jump(guard: &Check, old: &Value, new: &Value) -> bool {
    let cells: BTreeMap<&str, Cell> = [("old", Cell::Set(old.clone())), ("new", Cell::Set(new.clone()))].into();
    old != new && is_so(&guard.condition, &|name| cells.get(name)).unwrap_or(true)
}
