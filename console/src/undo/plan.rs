//! Pure: from what is known of a record to what is put back in it, what is left alone, and what cannot be undone.
//!
//! What is put back is a person's word, and a person's word is one of many: it names the vector that it has seen. So the
//! plan promises only what that vector holds. An edit that is in it, came after the one in question and stands leaves the
//! field alone; one that came after it and lost is named, for then the first stands. An edit that is not in it yet did not
//! see the undo, nor the undo it: when merge reads it the two are a conflict like any other, the rule of the field decides,
//! and the value that lost is kept. There is no way around that: what no log has told us nobody can leave alone. What the
//! topic has and merge has not is known, and is waited for.
//!
//! Put back is what was agreed before the edit; where that was again by an edit of the same app in the same time, before
//! that, and so on. Whoever spoke in between is where it ends: his word is what was agreed.
//!
//! Twice is once: the first undo is a word that had seen the edit, so the second finds that it does not stand any more.

use syncline_schemas::canonical::{Canonical, SaidWord};
use syncline_schemas::conflict::WHOLE;
use syncline_schemas::pipeline::{LinkField, Strategy};
use syncline_schemas::position::Vector;
use syncline_schemas::value::{Number, Value};

use super::past::{Known, Moment, Rules};
use super::unit::{Unit, units};
use crate::why::story::{Edit, Story};

/// Who spoke after a word.
mod later;

/// Rows that the app made and deleted.
mod rows;

/// What is to be undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The app that wrote it.
    pub source: String,
    /// From this commit time on, microseconds since 1970.
    pub from_us: i64,
    /// Before this one.
    pub to_us: i64,
}

impl Window {
    /// Whether a commit time is in it.
    pub fn has(&self, at_us: i64) -> bool {
        (self.from_us..self.to_us).contains(&at_us)
    }
}

/// What becomes of a field, a group, or (`*`) the record itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Which.
    pub field: String,
    /// What is agreed now.
    pub now: Value,
    /// What becomes of it.
    pub what: What,
}

/// What becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// This value is put back, in answer to what is agreed now.
    Back {
        /// The value.
        value: Value,
        /// What the word had seen.
        answers: Vector,
    },
    /// The edit does not stand any more.
    Left {
        /// What does.
        why: String,
    },
    /// The edit stands, and a person's word cannot take it back.
    Stays {
        /// Why not.
        why: String,
        /// What to do instead.
        remedy: String,
    },
}

fn left(why: impl Into<String>) -> What {
    What::Left { why: why.into() }
}

/// What stays, and what to do about it.
pub fn stays(why: impl Into<String>, remedy: impl Into<String>) -> What {
    What::Stays {
        why: why.into(),
        remedy: remedy.into(),
    }
}

/// What becomes of everything that the app wrote of this record in that time. What it wrote to no effect is no line.
pub fn plan(window: &Window, rules: &Rules<'_>, known: &Known) -> Vec<Line> {
    let story = Story::of(&known.said);
    let Some(agreed) = &known.agreed else {
        return unpublished(window, &story);
    };
    if let Some(not) = of_several(agreed) {
        return wrote(window, &story).then(|| whole(not)).into_iter().collect();
    }
    let view = View {
        window,
        rules,
        known,
        agreed,
        story,
    };
    let units = units(rules.entity);
    let fields = units.iter().filter_map(|unit| {
        Some(Line {
            field: unit.name.to_owned(),
            now: unit.value(agreed),
            what: view.unit(unit)?,
        })
    });
    view.rows().into_iter().chain(fields).collect()
}

fn whole(what: What) -> Line {
    Line {
        field: WHOLE.to_owned(),
        now: Value::Null,
        what,
    }
}

/// What was agreed before can be worked out of one record's words alone.
fn of_several(agreed: &Canonical) -> Option<What> {
    let remedy = "split them first, or say what it shall be in one of the apps";
    let why = match (&agreed.identity.merged_into, agreed.joined().next()) {
        (Some(into), _) => format!("it is merged into {into}"),
        (None, Some(of)) => format!("{of} is merged into it"),
        (None, None) => return None,
    };
    Some(stays(why, remedy))
}

/// Whether the app wrote anything in that time.
fn wrote(window: &Window, story: &Story) -> bool {
    let spoke = |edit: &Edit| edit.source == window.source && window.has(edit.commit_us);
    story.edits.iter().any(spoke)
}

fn unpublished(window: &Window, story: &Story) -> Vec<Line> {
    if !wrote(window, story) {
        return Vec::new();
    }
    let wait = "once merge has published it, do the same again: `syncline status` tells how far it is";
    vec![whole(stays("nothing is agreed of it yet", wait))]
}

/// Everything that a plan looks at.
struct View<'a> {
    window: &'a Window,
    rules: &'a Rules<'a>,
    known: &'a Known,
    agreed: &'a Canonical,
    story: Story,
}

impl View<'_> {
    /// What becomes of a field or a group; none if the app wrote nothing there, or to no effect.
    fn unit(&self, unit: &Unit<'_>) -> Option<What> {
        let source = &self.window.source;
        let own = self.own(unit);
        match unit.strategy {
            Strategy::Owner(owner) if owner != source => None,
            _ if own.is_empty() => self.lost(unit),
            Strategy::Add => self.added(&own),
            Strategy::Union | Strategy::Owner(_) if own.iter().all(|edit| edit.before.is_none()) => None,
            Strategy::Union => Some(stays(
                "a set is made of what every app put in and took out, no person's",
                format!("put it right in {source}: what is taken out there goes everywhere"),
            )),
            Strategy::Owner(_) => Some(stays(
                format!("{} is what {source} says ({}), no person's", unit.name, unit.strategy),
                format!("put it right in {source}"),
            )),
            _ => self.edited(unit, &own),
        }
    }

    /// What the app said of it in that time, in the order of its log.
    fn own(&self, unit: &Unit<'_>) -> Vec<&Edit> {
        let edits = self.story.edits.iter();
        let mut own: Vec<&Edit> = edits
            .filter(|edit| edit.source == self.window.source && unit.has(&edit.field))
            .filter(|edit| self.window.has(edit.commit_us))
            .collect();
        own.sort_by_key(|edit| edit.position);
        if own.last().is_some_and(|last| !self.is_edit(unit, last)) {
            own.clear();
        }
        own
    }

    /// Where the beginning is gone, the first that is left of a row looks as if all of it had been said there.
    fn is_edit(&self, unit: &Unit<'_>, edit: &Edit) -> bool {
        let words = self.agreed.app(&edit.source).into_iter();
        let mut words = words.flat_map(|app| unit.words(app));
        self.known.whole || edit.before.is_some() || words.any(|word| word.position == edit.position)
    }

    /// A difference overrules nobody and is taken back by the opposite one, which only an app can say.
    fn added(&self, own: &[&Edit]) -> Option<What> {
        let mut sum = Number::zero();
        for edit in own {
            if let (Some(Value::Number(old)), Value::Number(new)) = (&edit.before, &edit.value) {
                sum = &sum + &(new - old);
            }
        }
        let back = &Number::zero() - &sum;
        (sum != Number::zero()).then(|| {
            stays(
                format!(
                    "{} added {sum}: a sum is made of what every app added, no person's",
                    self.window.source
                ),
                format!("add {back} in one of the apps"),
            )
        })
    }

    fn edited(&self, unit: &Unit<'_>, own: &[&Edit]) -> Option<What> {
        let source = &self.window.source;
        let last = Moment::from(*own.last()?);
        if self.agreed.deleted {
            return Some(left("the record is deleted"));
        }
        if let Some(app) = self.unmerged(unit) {
            return Some(stays(
                format!("merge has not taken in what {app} said of it"),
                "do the same again once it has: `syncline status` tells how far it is",
            ));
        }
        if unit.is_held(self.agreed) {
            let list = format!("--entity {} --field {}", self.rules.entity.name, unit.name);
            return Some(stays(
                "it waits for a person",
                format!("decide it: syncline conflicts list {list}"),
            ));
        }
        let holds = self.holds(unit, last, self.agreed);
        if let Some(later) = self.since(unit, last, self.agreed, Moment::END) {
            return Some(match holds && !later.stands {
                true => stays(
                    format!("it stands, and what was said since does not hold: {}", later.who),
                    self.decide(unit),
                ),
                false => left(format!("edited since by {}", later.who)),
            });
        }
        if !holds {
            return Some(left(format!("what {source} said does not hold")));
        }
        if !unit.approvers.is_empty() {
            return Some(stays(
                format!(
                    "what one person says of it holds when another approves it ({})",
                    unit.approvers.join(", ")
                ),
                format!("put it right in {source}"),
            ));
        }
        if !self.is_written(unit) {
            // It would never hear of the word, and each of its later edits would be a conflict with it.
            return Some(stays(
                format!("no link writes it into {source}, which would keep what it has"),
                format!("put it right in {source}"),
            ));
        }
        match self.before(unit, own) {
            Ok(value) => value.filter(|value| *value != unit.value(self.agreed)).map(|value| {
                let answers = self.agreed.vector.clone();
                What::Back { value, answers }
            }),
            Err(why) => Some(why),
        }
    }

    /// An app of which the topic has a word that the agreed record was made without.
    fn unmerged(&self, unit: &Unit<'_>) -> Option<&str> {
        let edits = self.story.edits.iter().filter(|edit| unit.has(&edit.field));
        let mut edits = edits.filter(|edit| self.known.whole || edit.before.is_some());
        let unmerged = edits.find(|edit| !self.agreed.vector.covers(&edit.source, edit.position));
        unmerged.map(|edit| edit.source.as_str())
    }

    /// Whether what that word says is what `record` has.
    fn holds(&self, unit: &Unit<'_>, of: Moment<'_>, record: &Canonical) -> bool {
        let words = record.app(of.source).into_iter().flat_map(|app| unit.words(app));
        let said: Vec<&SaidWord> = words.filter(|word| word.position == of.position).collect();
        !said.is_empty()
            && said
                .iter()
                .all(|word| record.fields.get(&word.field) == Some(&word.value))
    }

    fn is_written(&self, unit: &Unit<'_>) -> bool {
        let mut links = self.rules.links.iter();
        links.any(|link| {
            let writes = |field: &&str| link.field(field).is_some_and(LinkField::writes);
            link.system == self.window.source && link.writes() && unit.fields.iter().all(writes)
        })
    }

    /// What was agreed before the run of own edits that the last one ends; none if it was made by the first.
    fn before(&self, unit: &Unit<'_>, own: &[&Edit]) -> Result<Option<Value>, What> {
        for (index, edit) in own.iter().enumerate().rev() {
            let moment = Moment::from(*edit);
            let record = self.known.before(moment, self.rules);
            let Some(record) = record.filter(|record| !record.deleted) else {
                return if self.is_made(moment) {
                    Ok(None)
                } else {
                    Err(self.unknown(unit))
                };
            };
            let mut earlier = own[..index].iter().rev();
            let earlier = earlier.find(|earlier| earlier.position < edit.position);
            let earlier = earlier.map(|earlier| Moment::from(*earlier));
            let Some(earlier) = earlier.filter(|earlier| self.holds(unit, *earlier, &record)) else {
                return self.agreed_then(unit, &own[index..], &record).map(Some);
            };
            match self.since(unit, earlier, &record, moment) {
                Some(later) if later.stands => return self.agreed_then(unit, &own[index..], &record).map(Some),
                // By an order of apps it would have lost to any word of this one; else only to this word.
                Some(later) if !matches!(unit.strategy, Strategy::Order(_)) => {
                    return Err(stays(
                        format!("{} spoke in between and lost to it", later.who),
                        self.decide(unit),
                    ));
                }
                _ => (),
            }
        }
        Err(self.unknown(unit))
    }

    /// What `record` has, if somebody had spoken of it, nobody was asked, and it is certain. `run` is what came after.
    fn agreed_then(&self, unit: &Unit<'_>, run: &[&Edit], record: &Canonical) -> Result<Value, What> {
        let Some(first) = run.first() else {
            return Err(self.unknown(unit));
        };
        let mut decided = self.known.decided_by(Moment::from(*first));
        let spoken = record.apps.iter().any(|app| unit.words(app).next().is_some());
        if !spoken && !decided.any(|(_, decision)| decision.field == unit.name) {
            return Err(stays(
                "nobody had said anything of it before",
                format!("if it shall be empty, empty it in {}", self.window.source),
            ));
        }
        if unit.is_held(record) {
            return Err(stays("it waited for a person then", self.decide(unit)));
        }
        if !self.known.whole && !self.is_certain(unit, run, record) {
            return Err(self.unknown(unit));
        }
        Ok(unit.value(record))
    }

    /// Where the beginning is gone, what was agreed can be told if the app had seen everybody, so that its own row held it,
    /// and the row's value is known and is what is left of the words comes to.
    fn is_certain(&self, unit: &Unit<'_>, run: &[&Edit], record: &Canonical) -> bool {
        let words = self.agreed.app(&self.window.source).into_iter();
        let mut words = words.flat_map(|app| unit.words(app));
        let had_seen_all = words.all(|word| word.unseen.is_empty());
        let held = |field: &str| match run.iter().find(|edit| edit.field == field) {
            Some(edit) => edit.before.as_ref(),
            None => self.agreed.fields.get(field),
        };
        let is_so = |field: &&str| held(field).is_some_and(|held| record.fields.get(*field) == Some(held));
        had_seen_all && unit.fields.iter().all(is_so)
    }

    /// Words of that time that only the agreed record still knows.
    fn lost(&self, unit: &Unit<'_>) -> Option<What> {
        if self.known.whole || self.agreed.deleted {
            return None;
        }
        let app = self.agreed.app(&self.window.source)?;
        let told = |word: &SaidWord| {
            let mut edits = self.story.edits.iter();
            edits.any(|edit| edit.source == app.app && edit.position == word.position)
        };
        let words = unit.words(app).filter(|word| self.window.has(word.stamp_us));
        let word = words.filter(|word| !told(word)).max_by_key(|word| word.position)?;
        let moment = Moment {
            source: &app.app,
            position: word.position,
            at_us: word.stamp_us,
        };
        let later = self.since(unit, moment, self.agreed, Moment::END);
        let holds = self.holds(unit, moment, self.agreed);
        Some(match later.filter(|later| later.stands || !holds) {
            Some(later) => left(format!("edited since by {}", later.who)),
            None => self.unknown(unit),
        })
    }

    fn unknown(&self, unit: &Unit<'_>) -> What {
        stays(
            "what it was before is not known: the topic does not reach back so far",
            self.decide(unit),
        )
    }

    /// The command for who knows the value, where a person may say it, and alone.
    fn decide(&self, unit: &Unit<'_>) -> String {
        let is_no_persons = matches!(unit.strategy, Strategy::Add | Strategy::Union | Strategy::Owner(_));
        if is_no_persons || !unit.approvers.is_empty() {
            return format!("put it right in {}", self.window.source);
        }
        let (entity, cid) = (&self.rules.entity.name, &self.known.cid);
        format!(
            "syncline-transform decide --entity {entity} --cid {cid} --field {} --value JSON",
            unit.name
        )
    }
}

#[cfg(test)]
mod tests;
