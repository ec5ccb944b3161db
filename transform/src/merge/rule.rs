//! The strategies: what holds when several words are left standing that did not see each other.
//!
//! Each is a function of the set of words; none may depend on the order in which they came. Every order used here is
//! total: ties go to authority (the order of systems in the pipeline file), then to the name, then to the position.

use std::cmp::Reverse;

use syncline_schemas::decision::OPERATOR;
use syncline_schemas::pipeline::Strategy;
use syncline_schemas::value::Value;

use super::causality::Said;

/// What a strategy says of the words left standing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// This word holds.
    Wins(usize),
    /// This word stays for the time being; nobody is overwritten until a person decides.
    Held(usize),
    /// No single word holds, but a value made of all of them.
    Made,
}

/// Decides among `standing`, which differ. Empty words of a first load have been left out.
pub fn decide(strategy: &Strategy, standing: &[Said<'_>], authority: &[String]) -> Verdict {
    let rank = |source: &str| rank(source, authority);
    let oldest = |said: &Said<'_>| {
        let initial = said.word.initial;
        let stamp_us = if initial { 0 } else { said.word.stamp_us };
        (
            initial,
            stamp_us,
            rank(said.source),
            said.source.to_owned(),
            said.word.position,
        )
    };
    let newest = |said: &Said<'_>| {
        let stamp_us = if said.word.initial { 0 } else { said.word.stamp_us };
        (
            said.word.initial,
            Reverse(stamp_us),
            rank(said.source),
            said.source.to_owned(),
            said.word.position,
        )
    };
    let by_value = |said: &Said<'_>| (said.word.value.is_null(), said.word.value.clone(), newest(said));
    match strategy {
        Strategy::Add | Strategy::Union => Verdict::Made,
        Strategy::Latest => Verdict::Wins(least(standing, newest)),
        Strategy::First => Verdict::Wins(least(standing, oldest)),
        Strategy::Hold => Verdict::Held(least(standing, oldest)),
        Strategy::Order(order) => {
            let place = |source: &str| order.iter().position(|name| name == source).unwrap_or(order.len());
            Verdict::Wins(least(standing, |said| {
                (said.source != OPERATOR, place(said.source), newest(said))
            }))
        }
        Strategy::Owner(_) => Verdict::Wins(least(standing, |said| (said.source != OPERATOR, newest(said)))),
        Strategy::Min => Verdict::Wins(least(standing, by_value)),
        Strategy::Longest => Verdict::Wins(least(standing, |said| {
            (Reverse(length(&said.word.value)), newest(said))
        })),
        Strategy::MostRestrictive => Verdict::Wins(least(standing, |said| {
            (said.word.value != Value::Bool(true), newest(said))
        })),
        Strategy::Max => Verdict::Wins(least(standing, |said| {
            (
                said.word.value.is_null(),
                Reverse(said.word.value.clone()),
                newest(said),
            )
        })),
    }
}

/// Characters, as a reader counts code points; nothing and what is no text have none.
fn length(value: &Value) -> usize {
    match value {
        Value::Text(text) => text.chars().count(),
        _ => 0,
    }
}

/// How authoritative a source is, 0 the most. People come first.
pub fn rank(source: &str, authority: &[String]) -> usize {
    if source == OPERATOR {
        return 0;
    }
    1 + authority
        .iter()
        .position(|name| name == source)
        .unwrap_or(authority.len())
}

/// Index of the word with the least key. There is always a word: strategies are asked about conflicts only.
fn least<K: Ord>(standing: &[Said<'_>], key: impl Fn(&Said<'_>) -> K) -> usize {
    (0..standing.len())
        .min_by_key(|&index| key(&standing[index]))
        .unwrap_or(0)
}
