//! The strategies: what holds when several words are left standing that did not see each other.
//!
//! Each is a function of the set of words; none may depend on the order in which they came. Every order used here is
//! total: ties go to authority (the order of systems in the pipeline file), then to the name, then to the position.

use std::cmp::Reverse;

use syncline_schemas::decision::OPERATOR;
use syncline_schemas::pipeline::{FieldKind, Strategy, Terms};
use syncline_schemas::position::Position;
use syncline_schemas::value::Value;
use syncline_schemas::voice;

use super::causality::Said;
use super::mutant::breaks;
use super::ruled::{Record, ruled};
use super::text;

/// What a strategy says of the words left standing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// This word holds.
    Wins(usize),
    /// This word stays for the time being; nobody is overwritten until a person decides, if there is one for this reason.
    Held(usize, Option<String>),
    /// No single word holds, but a value made of all of them: this one, or one that is made of more than words.
    Made(Option<Value>),
}

/// What is asked to decide.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// The strategy.
    pub strategy: &'a Strategy,
    /// On what terms.
    pub terms: &'a Terms,
    /// What the field holds.
    pub kind: FieldKind,
    /// What a rule may look at besides.
    pub record: &'a Record,
}

/// Decides among `standing`, which differ. Empty words of a first load have been left out.
pub fn decide(asked: &Asked<'_>, standing: &[Said<'_>], authority: &[String]) -> Verdict {
    let Asked { strategy, terms, .. } = *asked;
    let rank = |source: &str| rank(source, authority);
    let oldest = |said: &Said<'_>| age(said, authority);
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
        Strategy::Add | Strategy::Union => Verdict::Made(None),
        Strategy::MergeText => merged(standing).map_or_else(
            || {
                let otherwise = terms.otherwise.as_ref().unwrap_or(&Strategy::Hold);
                decide(&asked.simply(otherwise), standing, authority)
            },
            |text| Verdict::Made(Some(Value::Text(text))),
        ),
        Strategy::Latest => {
            too_close(asked, standing, authority).unwrap_or_else(|| Verdict::Wins(least(standing, newest)))
        }
        Strategy::First => Verdict::Wins(leased(terms, standing, oldest)),
        Strategy::Hold => Verdict::Held(least(standing, oldest), None),
        Strategy::Rule(rule) => ruled(rule, asked.kind, standing, &by_age(standing, oldest), asked.record),
        Strategy::Order(order) => {
            let place = |source: &str| order.iter().position(|name| name == voice::app(source));
            let place = |source: &str| place(source).unwrap_or(order.len());
            Verdict::Wins(least(standing, |said| {
                (!is_person(said.source), place(said.source), newest(said))
            }))
        }
        Strategy::Owner(_) => Verdict::Wins(least(standing, |said| (!is_person(said.source), newest(said)))),
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

/// What decides if the newest edits are closer to each other than clocks can tell, and do not say the same.
fn too_close(asked: &Asked<'_>, standing: &[Said<'_>], authority: &[String]) -> Option<Verdict> {
    let uncertain = asked.terms.uncertain.as_ref()?;
    let edits = || standing.iter().enumerate().filter(|(_, said)| !said.word.initial);
    let newest_us = edits().map(|(_, said)| said.word.stamp_us).max()?;
    let close = |said: &Said<'_>| newest_us.saturating_sub(said.word.stamp_us) < uncertain.within_us;
    let (places, close): (Vec<usize>, Vec<Said<'_>>) = edits().filter(|(_, said)| close(said)).unzip();
    let differ = close.windows(2).any(|pair| pair[0].word.value != pair[1].word.value);
    if !differ {
        return None;
    }
    Some(match decide(&asked.simply(&uncertain.then), &close, authority) {
        Verdict::Wins(index) => Verdict::Wins(places[index]),
        Verdict::Held(index, why) => Verdict::Held(places[index], why),
        made @ Verdict::Made(_) => made,
    })
}

impl<'a> Asked<'a> {
    /// The same, asked of a strategy without terms.
    pub fn simply(&self, strategy: &'a Strategy) -> Self {
        const NONE: &Terms = &Terms::NONE;
        Self {
            strategy,
            terms: NONE,
            ..*self
        }
    }
}

/// The order of words from the oldest on, those of a first load after all edits.
pub fn age(said: &Said<'_>, authority: &[String]) -> (bool, i64, usize, String, Position) {
    let initial = said.word.initial;
    let stamp_us = if initial { 0 } else { said.word.stamp_us };
    let rank = rank(said.source, authority);
    (initial, stamp_us, rank, said.source.to_owned(), said.word.position)
}

/// The words from the oldest on.
fn by_age<K: Ord>(standing: &[Said<'_>], oldest: impl Fn(&Said<'_>) -> K) -> Vec<usize> {
    let mut by_age: Vec<usize> = (0..standing.len()).collect();
    if breaks("first-is-oldest") {
        return by_age;
    }
    by_age.sort_by_key(|&index| oldest(&standing[index]));
    by_age
}

/// The word that holds the lock: the oldest, until its lease ends; then the next that comes, and so on. Where words wait in
/// a queue the next is the one that came next, be it before that end.
fn leased<K: Ord>(terms: &Terms, standing: &[Said<'_>], oldest: impl Fn(&Said<'_>) -> K) -> usize {
    let edit = |index: usize| !standing[index].word.initial;
    let is_later = |holder: usize, next: usize| {
        let apart_us = standing[next]
            .word
            .stamp_us
            .saturating_sub(standing[holder].word.stamp_us);
        edit(holder) && edit(next) && terms.lease_us.is_some_and(|lease_us| apart_us > lease_us)
    };
    let order = by_age(standing, oldest);
    if !terms.queue {
        let next = |holder: usize, next: usize| if is_later(holder, next) { next } else { holder };
        return order.into_iter().reduce(next).unwrap_or(0);
    }
    let mut turn = 0;
    while let [holder, behind @ ..] = &order[turn..]
        && let [next, ..] = behind
        && edit(*next)
        && (standing[*holder].unlocked || behind.iter().any(|next| is_later(*holder, *next)))
        && !breaks("queues-move")
    {
        turn += 1;
    }
    order.get(turn).copied().unwrap_or(0)
}

/// The text that all of them made of the last one they had in common; none if there is no such, or no such text.
fn merged(standing: &[Said<'_>]) -> Option<String> {
    let had = |said: &Said<'_>, text: &Value| said.word.base.as_ref() == Some(text) || said.word.past.contains(text);
    let (first, others) = standing.split_first()?;
    let base = first
        .word
        .base
        .iter()
        .chain(&first.word.past)
        .find(|text| others.iter().all(|said| had(said, text)))?;
    let Value::Text(base) = base else { return None };
    let text = |said: &Said<'_>| match &said.word.value {
        Value::Text(text) => Some(text.clone()),
        _ => None,
    };
    let sides = standing.iter().map(text).collect::<Option<Vec<_>>>()?;
    let sides: Vec<&str> = sides.iter().map(String::as_str).collect();
    text::merge(base, &sides)
}

/// Characters, as a reader counts code points; nothing and what is no text have none.
fn length(value: &Value) -> usize {
    match value {
        Value::Text(text) => text.chars().count(),
        _ => 0,
    }
}

/// Whether it is a person's word.
pub fn is_person(source: &str) -> bool {
    voice::app(source) == OPERATOR
}

/// How authoritative a source is, 0 the most. People come first.
pub fn rank(source: &str, authority: &[String]) -> usize {
    if is_person(source) {
        return 0;
    }
    1 + authority
        .iter()
        .position(|name| name == voice::app(source))
        .unwrap_or(authority.len())
}

/// Index of the word with the least key. There is always a word: strategies are asked about conflicts only.
fn least<K: Ord>(standing: &[Said<'_>], key: impl Fn(&Said<'_>) -> K) -> usize {
    (0..standing.len())
        .min_by_key(|&index| key(&standing[index]))
        .unwrap_or(0)
}
