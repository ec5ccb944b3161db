//! `rule: <expression>`: the words left standing, from the oldest on, each examined against what holds so far.
//!
//! The order of examination is that of the stamps, which is total (ties as everywhere), so the outcome is a function of the
//! set of words. A person's word needs no examination. What a rule cannot be applied to waits for a person.

use std::collections::BTreeMap;

use syncline_schemas::lens::{self, Cell, Expr};
use syncline_schemas::pipeline::FieldKind;
use syncline_schemas::value::{Number, Value};
use syncline_schemas::voice;

use super::causality::Said;
use super::rule::{Verdict, is_person};

/// The agreed values of the fields that no rule decides, for `record.FIELD`.
pub type Record = BTreeMap<String, Value>;

/// What holds after some of the words have been examined.
struct Holding {
    /// The last word accepted.
    word: usize,
    /// Its value, or what the rule set.
    value: Value,
    made: bool,
}

/// Examines `standing` in the order of `by_age`.
pub fn ruled(rule: &Expr, kind: FieldKind, standing: &[Said<'_>], by_age: &[usize], record: &Record) -> Verdict {
    let oldest = by_age.first().copied().unwrap_or(0);
    let mut holding = Holding {
        word: oldest,
        value: standing[oldest].word.value.clone(),
        made: false,
    };
    for &index in by_age.iter().skip(1) {
        if let Err(why) = holding.examine(rule, kind, index, &standing[index], record) {
            return Verdict::Held(holding.word, Some(why));
        }
    }
    if holding.made {
        Verdict::Made(Some(holding.value))
    } else {
        Verdict::Wins(holding.word)
    }
}

impl Holding {
    /// An error is why a person has to decide.
    fn examine(
        &mut self,
        rule: &Expr,
        kind: FieldKind,
        index: usize,
        mine: &Said<'_>,
        record: &Record,
    ) -> Result<(), String> {
        let cells = cells(&self.value, mine, record);
        let verdict = if is_person(mine.source) {
            Ok(lens::Verdict::Accept)
        } else if mine.word.value == self.value {
            Ok(lens::Verdict::Refuse)
        } else {
            lens::judge(rule, &|name| cells.get(name))
        };
        match verdict.map_err(|reason| format!("the rule cannot be applied: {reason}"))? {
            lens::Verdict::Refuse => {}
            lens::Verdict::Accept => {
                *self = Self {
                    word: index,
                    value: mine.word.value.clone(),
                    made: false,
                }
            }
            lens::Verdict::Set(value) => {
                self.value = lens::shaped(value, kind).map_err(|reason| format!("the rule sets {reason}"))?;
                self.made = true;
            }
            lens::Verdict::Hold(why) => return Err(why),
        }
        Ok(())
    }
}

fn cells(canon: &Value, mine: &Said<'_>, record: &Record) -> BTreeMap<String, Cell> {
    let own = [
        ("canon", canon.clone()),
        ("mine", mine.word.value.clone()),
        ("base", mine.word.base.clone().unwrap_or_default()),
        ("mine.app", Value::from(voice::app(mine.source))),
        ("mine.stamp", Value::Number(Number::from(mine.word.stamp_us))),
    ];
    let own = own.into_iter().map(|(name, value)| (name.to_owned(), Cell::Set(value)));
    own.chain(of_record(record)).collect()
}

/// The agreed values, as `record.FIELD`.
pub fn of_record(record: &Record) -> impl Iterator<Item = (String, Cell)> {
    record
        .iter()
        .map(|(name, value)| (format!("record.{name}"), Cell::Set(value.clone())))
}
