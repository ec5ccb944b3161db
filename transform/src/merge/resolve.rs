//! From words to the agreed record and its conflicts. Knows rules, never the order of arrival.
//!
//! The record must be a function of what was *said*: an echo moves what an app has seen but may not change a byte here,
//! or every delivery would lead to another record. So the vector is made from own words alone, and the record of a deleted
//! entity says the same of a row whether or not we have deleted it yet.

/// Who speaks for an app.
mod speaker;

/// What a conflict record says.
mod dispute;

/// What is decided as one.
mod unit;

/// Counters.
mod counter;

/// Conditions on what was decided.
mod check;

/// Edits that wait for a person.
mod guard;

/// Questions that nobody answers in time.
mod expiry;

/// Words that wait for their turn.
mod queue;

/// What deletions come to.
mod fate;

use std::collections::{BTreeMap, BTreeSet};

use syncline_schemas::canonical::{AppWords, Canonical, Identity, SaidWord};
use syncline_schemas::conflict::Conflict;
use syncline_schemas::decision::OPERATOR;
use syncline_schemas::mapped::RowKey;
use syncline_schemas::pipeline::{Entity, Field, Strategy};
use syncline_schemas::position::{Position, Vector};
use syncline_schemas::value::Value;
use syncline_schemas::voice;

use super::causality::{Said, Sight};
use super::elements::{Side, unite};
use super::gathered::Terms;
use super::rule::{Verdict, decide};
use super::ruled::Record;
use super::state::{EntityState, Presence};
use super::word::Word;
use fate::Fate;
use speaker::{Speaker, speakers};
use unit::{Composed, Unit};

/// The agreed record and the conflicts in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    /// The agreed record; none while nothing has been said.
    pub canonical: Option<Canonical>,
    /// Conflicts, open or settled by the rule, in the order of fields.
    pub conflicts: Vec<Conflict>,
    /// When the next lock ends that keeps a word waiting, microseconds since 1970.
    pub turns_us: Option<i64>,
}

/// The agreed record of `cid`. `authority` is the order of systems in the pipeline file.
pub fn resolve(cid: &str, state: &EntityState, entity: &Entity, authority: &[String]) -> Resolved {
    if state.merged_into().is_some() {
        return Resolved {
            canonical: Some(elsewhere(cid, state, entity)),
            ..Resolved::default()
        };
    }
    let mut unread = BTreeSet::new();
    let heard = state.as_heard(entity, &mut unread);
    let state = heard.as_ref().unwrap_or(state);
    if state.waits() {
        return Resolved::default();
    }
    let lifted = state.lifted(&entity.migrate.lifts);
    let state = lifted.as_ref().unwrap_or(state);
    let is_several = state.joined().next().is_some();
    let gathered = is_several.then(|| state.gathered(cid, entity, &mut unread));
    let people = People::of(cid, state);
    let identity = state.identity();
    let state = gathered.as_ref().unwrap_or(state);
    let speakers = speakers(state);
    if speakers.is_empty() {
        return Resolved::default();
    }
    let units = Unit::all(entity);
    let view = View {
        cid,
        state,
        entity,
        authority,
        vector: vector(state, &people),
        answers: people.answers(&units),
        identity,
        composed: Composed::of(&units, &speakers),
        speakers,
        unread,
    };
    view.resolve(&units)
}

/// The record of an entity that another one speaks for: it says nothing, and nobody writes or deletes anything for it.
fn elsewhere(cid: &str, state: &EntityState, entity: &Entity) -> Canonical {
    Canonical {
        cid: cid.to_owned(),
        deleted: false,
        deleted_us: None,
        fields: BTreeMap::new(),
        held: Vec::new(),
        counters: Vec::new(),
        vector: Vector::new(),
        stamp_us: 0,
        apps: Vec::new(),
        rules: entity.rules.clone(),
        identity: Identity {
            members: Vec::new(),
            ..state.identity()
        },
    }
}

/// What people said of a record, and of each that is merged into it: each under its own name.
struct People<'a>(Vec<(String, Terms<'a>, &'a EntityState)>);

impl<'a> People<'a> {
    fn of(cid: &'a str, state: &'a EntityState) -> Self {
        let own = (OPERATOR.to_owned(), Terms { of: cid, to: cid }, state);
        let others = state
            .joined()
            .map(|(of, part)| (voice::of(OPERATOR, of), Terms { of, to: cid }, part));
        Self(std::iter::once(own).chain(others).collect())
    }

    /// Their words that hold, by field or group. What has to be approved and is not is none.
    fn answers(&self, units: &[Unit<'_>]) -> BTreeMap<String, Vec<Answer>> {
        let mut answers: BTreeMap<String, Vec<Answer>> = BTreeMap::new();
        for (source, terms, state) in &self.0 {
            for name in state.answered() {
                let unit = units.iter().find(|unit| unit.name == name);
                let approvers = unit.map_or(&[][..], |unit| &unit.terms.approvers);
                if let Some(word) = state.answer(name, approvers) {
                    let (source, word) = (source.clone(), terms.word(word));
                    answers
                        .entry(name.to_owned())
                        .or_default()
                        .push(Answer { source, word });
                }
            }
        }
        answers
    }
}

/// A person's word that holds, and the name that people have where it was said.
struct Answer {
    source: String,
    word: Word,
}

/// Up to where each source's own words go.
fn vector(state: &EntityState, people: &People<'_>) -> Vector {
    let mut vector = Vector::new();
    for (source, lanes) in &state.lanes {
        for said in lanes.values().filter_map(|lane| lane.said) {
            vector.advance(source, said);
        }
    }
    for (source, _, state) in &people.0 {
        if let Some(said) = state.people_said() {
            vector.advance(source, said);
        }
    }
    vector
}

/// Everything `resolve` looks at.
struct View<'a> {
    cid: &'a str,
    state: &'a EntityState,
    entity: &'a Entity,
    authority: &'a [String],
    vector: Vector,
    /// People's words.
    answers: BTreeMap<String, Vec<Answer>>,
    identity: Identity,
    /// Words on groups.
    composed: Composed,
    speakers: Vec<Speaker<'a>>,
    /// Where rows begin of which is not known who made them.
    unread: BTreeSet<Position>,
}

/// What became of a field, or of a group.
struct Decided<'a> {
    value: Value,
    held: bool,
    conflict: Option<Conflict>,
    words: Vec<Said<'a>>,
    sight: Sight,
}

/// Units in the order of the file, and what became of them.
type Decisions<'a> = [(&'a Unit<'a>, Decided<'a>)];

impl<'a> View<'a> {
    fn resolve(&self, units: &[Unit<'_>]) -> Resolved {
        let (decided, violated) = self.decided(units);
        let fate = self.fate(&decided);
        let mut conflicts: Vec<Conflict> = self.doubles().into_iter().chain(fate.conflict.clone()).collect();
        if !fate.deleted {
            conflicts.extend(decided.iter().filter_map(|(_, decided)| decided.conflict.clone()));
            conflicts.extend(violated);
        }
        let turns = decided.iter().filter_map(|(unit, one)| self.turns_us(unit, one));
        Resolved {
            canonical: Some(self.canonical(&decided, &fate)),
            conflicts,
            turns_us: turns.min(),
        }
    }

    /// Everything decided, rules last, for they may look at the rest; and the conflicts of conditions on the whole.
    fn decided<'u>(&self, units: &'u [Unit<'u>]) -> (Vec<(&'u Unit<'u>, Decided<'_>)>, Vec<Conflict>) {
        let (ruled, plain): (Vec<&Unit<'_>>, Vec<&Unit<'_>>) = units
            .iter()
            .partition(|unit| matches!(unit.strategy, Strategy::Rule(_)));
        let nothing = Record::new();
        let mut decided: Vec<(&Unit<'_>, Decided<'_>)> = plain
            .into_iter()
            .map(|unit| (unit, self.unit(unit, &nothing)))
            .collect();
        if ruled.is_empty() && !self.entity.has_checks() {
            return (decided, Vec::new());
        }
        let record = self.record(&decided);
        decided.extend(ruled.into_iter().map(|unit| (unit, self.unit(unit, &record))));
        let record = self.record(&decided);
        let violated = self.check(&mut decided, &record);
        (decided, violated)
    }

    /// The values decided so far, by field.
    fn record(&self, decided: &Decisions<'_>) -> Record {
        let value = |name: &str| {
            let (unit, one) = decided.iter().find(|(unit, _)| unit.has(name))?;
            Some((name.to_owned(), unit.part(&one.value, name)))
        };
        self.entity
            .fields
            .iter()
            .filter_map(|field| value(&field.name))
            .collect()
    }

    fn canonical(&self, decided: &Decisions<'_>, fate: &Fate) -> Canonical {
        let of = |name: &str| decided.iter().find(|(unit, _)| unit.has(name));
        let value = |name: &str| match of(name) {
            Some((unit, one)) if !fate.deleted => unit.part(&one.value, name),
            _ => Value::Null,
        };
        let fields = &self.entity.fields;
        let waits = |unit: &Unit<'_>| fate.held.iter().any(|held| held == unit.name);
        let held = |name: &str| !fate.deleted && of(name).is_some_and(|(unit, one)| one.held || waits(unit));
        Canonical {
            cid: self.cid.to_owned(),
            deleted: fate.deleted,
            deleted_us: fate.deleted_us,
            fields: fields
                .iter()
                .map(|field| (field.name.clone(), value(&field.name)))
                .collect(),
            held: names(fields.iter().filter(|field| held(&field.name))),
            counters: names(fields.iter().filter(|field| field.strategy.is_counter())),
            vector: self.vector.clone(),
            stamp_us: self.stamp_us(),
            apps: self
                .speakers
                .iter()
                .filter_map(|speaker| self.app(speaker, decided, fate))
                .collect(),
            rules: self.entity.rules.clone(),
            identity: self.identity.clone(),
        }
    }

    /// The people's words on a field, a group, or the whole.
    fn answers_on(&self, name: &str) -> impl Iterator<Item = &Answer> {
        self.answers.get(name).into_iter().flatten()
    }

    /// The greatest stamp of anything said.
    fn stamp_us(&self) -> i64 {
        let lanes = self.speakers.iter().map(|speaker| speaker.lane);
        let words = lanes
            .clone()
            .flat_map(|lane| lane.fields.values())
            .filter_map(|field| field.word.as_ref());
        let deletions = lanes.filter_map(|lane| match lane.presence {
            Presence::Deleted { stamp_us, .. } => Some(stamp_us),
            _ => None,
        });
        let answers = self.answers.values().flatten().map(|answer| &answer.word);
        let stamps = words.chain(answers).map(|word| word.stamp_us);
        stamps.chain(deletions).max().unwrap_or_default()
    }

    /// What one app said, if it ever said anything itself.
    fn app(&self, speaker: &Speaker<'_>, decided: &Decisions<'_>, fate: &Fate) -> Option<AppWords> {
        speaker.lane.said?;
        let is_among = |apps: &[String]| apps.iter().any(|app| app == speaker.source);
        let remake = is_among(&fate.remade);
        let gone = !remake && speaker.deleted_itself();
        let words = self
            .entity
            .fields
            .iter()
            .filter_map(|field| {
                let (_, one) = decided.iter().find(|(unit, _)| unit.has(&field.name))?;
                self.word(speaker, field, one, fate.deleted)
            })
            .collect();
        // Of a deleted entity the same before and after we have deleted the row.
        let there = match speaker.lane.presence {
            Presence::Here => true,
            Presence::Removed => fate.deleted,
            Presence::Deleted { .. } => false,
        };
        let made = Some(speaker.lane.made).filter(|made| there && !speaker.lane.ours && !self.unread.contains(made));
        Some(AppWords {
            app: voice::app(speaker.source).to_owned(),
            via: voice::origin(speaker.source).map(str::to_owned),
            row: speaker.row.clone(),
            made,
            gone,
            remake,
            restore: is_among(&fate.restored),
            words,
        })
    }

    /// The app's last word on a field. Of a deleted entity it serves to recognise a row that nobody edited meanwhile.
    fn word(&self, speaker: &Speaker<'_>, field: &Field, decided: &Decided<'_>, deleted: bool) -> Option<SaidWord> {
        let lane = speaker.lane.fields.get(&field.name)?;
        let there = speaker.lane.presence == Presence::Here;
        let word = lane.word.as_ref().filter(|_| deleted || self.is_heard(speaker))?;
        Some(SaidWord {
            field: field.name.clone(),
            value: word.value.clone(),
            position: word.position,
            stamp_us: word.stamp_us,
            unseen: if deleted {
                Vector::new()
            } else {
                decided.unseen(speaker.source, |said| self.is_made_anew(said))
            },
            own: lane
                .own()
                .filter(|_| field.strategy == Strategy::Add && (there || deleted && speaker.was_removed())),
        })
    }

    /// Decides a field or a group.
    fn unit<'s>(&'s self, unit: &Unit<'_>, record: &Record) -> Decided<'s> {
        let words = self.words_on(unit);
        let sight = Sight::of(&words);
        let standing: Vec<Said<'_>> = sight.standing().iter().map(|&index| words[index]).collect();
        let agreed = || standing.first().map(|said| said.word.value.clone()).unwrap_or_default();
        let (value, held, conflict) = if unit.strategy.is_counter() {
            let counted = self.count(unit, &words);
            counted.map_or_else(|| (agreed(), false, None), |one| (one.value, false, one.conflict))
        } else if let Some(index) = flapping(unit, &words, &standing) {
            let value = standing[index].word.value.clone();
            let conflict = self.conflict(unit, &words, &Verdict::Held(index, None), &value);
            let (strategy, note) = ("flap".to_owned(), FLAP.to_owned());
            (
                value,
                true,
                Some(Conflict {
                    strategy,
                    note,
                    ..conflict
                }),
            )
        } else {
            let asked = unit.asked(record);
            let verdict = differ(&standing).then(|| decide(&asked, &standing, self.authority));
            let value = match (unit.strategy, &verdict) {
                (Strategy::Union, _) => self.united(unit.name),
                (_, Some(verdict)) => value_of(&standing, verdict),
                (_, None) => agreed(),
            };
            match (self.jump(unit, &asked, &standing, verdict.as_ref()), verdict) {
                (Some(jump), _) => self.until(unit, &asked, &standing, jump.value, jump.conflict),
                (None, Some(verdict)) => {
                    let conflict = self.conflict(unit, &standing, &verdict, &value);
                    match verdict {
                        Verdict::Held(..) => self.until(unit, &asked, &standing, value, conflict),
                        Verdict::Wins(holder) => {
                            let note = conflict.note + &self.waiting(unit, &standing, holder);
                            (value, false, Some(Conflict { note, ..conflict }))
                        }
                        Verdict::Made(_) => (value, false, Some(conflict)),
                    }
                }
                (None, None) => (value, false, None),
            }
        };
        Decided {
            value,
            held,
            conflict,
            words,
            sight,
        }
    }

    /// The words on a field that count: an empty value of a first load says nothing while anybody says something.
    fn words_on(&self, unit: &Unit<'_>) -> Vec<Said<'_>> {
        let counts = |source: &str| match unit.strategy {
            Strategy::Owner(owner) => voice::app(source) == owner,
            _ => true,
        };
        let mut words: Vec<Said<'_>> = self
            .speakers
            .iter()
            .filter(|speaker| self.is_heard(speaker) && counts(speaker.source))
            .filter_map(|speaker| self.said(speaker, unit))
            .collect();
        if decidable(unit.strategy) {
            words.extend(self.answers_on(unit.name).map(|answer| Said {
                source: &answer.source,
                row: &NOWHERE,
                word: &answer.word,
                first: None,
                unlocked: false,
            }));
        }
        for said in &mut words {
            said.unlocked = self.is_unlocked(unit, said);
        }
        let says_nothing = |said: &Said<'_>| said.word.initial && unit.is_blank(&said.word.value);
        if words.iter().any(|said| !says_nothing(said)) {
            words.retain(|said| !says_nothing(said));
        }
        words
    }

    /// The last word of an app on a field or on a group.
    fn said(&self, speaker: &Speaker<'a>, unit: &Unit<'_>) -> Option<Said<'_>> {
        let (word, first) = if unit.is_group() {
            self.composed.word(unit.name, speaker.source)?
        } else {
            let lane = speaker.lane.fields.get(unit.name)?;
            (lane.word.as_ref()?, lane.first.as_ref())
        };
        Some(Said {
            source: speaker.source,
            row: speaker.row,
            word,
            first,
            unlocked: false,
        })
    }

    fn united(&self, field: &str) -> Value {
        let sides: Vec<Side<'_>> = self
            .speakers
            .iter()
            .filter(|speaker| self.is_heard(speaker))
            .filter_map(|speaker| {
                let lane = speaker.lane.fields.get(field)?;
                Some(Side {
                    source: speaker.source,
                    elements: &lane.elements,
                    first: lane.first.as_ref(),
                })
            })
            .collect();
        unite(&sides)
    }

    /// Whether an app's words count: not those of a row that went, where somebody who knew has made the entity anew; and of
    /// a row that we deleted only if that deletion was wrong after all.
    fn is_heard(&self, speaker: &Speaker<'_>) -> bool {
        match speaker.lane.presence {
            Presence::Deleted { .. } => !self.is_answered(speaker),
            Presence::Removed => self.lost_by_now(speaker),
            Presence::Here => true,
        }
    }
}

impl<'a> Decided<'a> {
    /// The words left standing.
    fn standing(&self) -> impl Iterator<Item = Said<'a>> {
        self.sight.standing().iter().map(|index| self.words[*index])
    }

    /// The words left standing that the author of the word of `source` had not seen, and its next edit would not have either.
    /// Nor would its next deletion: that it held the same at first tells nothing of a row that was made anew since.
    fn unseen(&self, source: &str, made_anew: impl Fn(&Said<'_>) -> bool) -> Vector {
        let Some(own) = self.words.iter().position(|said| said.source == source) else {
            return Vector::new();
        };
        let unseen = |other: &usize| {
            let said = &self.words[*other];
            let held_at_first = said.word.initial && self.words[own].first == Some(&said.word.value);
            *other != own && !self.sight.sees(own, *other) && (!held_at_first || made_anew(said))
        };
        let standing = self.sight.standing().iter().copied().filter(unseen);
        standing
            .map(|other| (self.words[other].source, self.words[other].word.position))
            .collect()
    }
}

/// Whether a person can decide a field with this strategy by naming a value.
pub fn decidable(strategy: &Strategy) -> bool {
    !matches!(strategy, Strategy::Add | Strategy::Union)
}

static NOWHERE: RowKey = RowKey(String::new());

/// How often an app may put back its own value after having been corrected.
const PUT_BACK_MAX: u32 = 3;

const FLAP: &str =
    "an app keeps putting its own value back: nobody is corrected any more until a person or a new value decides";

/// The word left standing of an app that does not give way, if another app says something else.
fn flapping(unit: &Unit<'_>, words: &[Said<'_>], standing: &[Said<'_>]) -> Option<usize> {
    let flapping = |said: &Said<'_>| said.word.put_back > PUT_BACK_MAX;
    let index = standing
        .iter()
        .position(flapping)
        .filter(|_| decidable(unit.strategy))?;
    words
        .iter()
        .any(|said| said.word.value != standing[index].word.value)
        .then_some(index)
}

/// The value that a verdict about these words comes to.
fn value_of(standing: &[Said<'_>], verdict: &Verdict) -> Value {
    match verdict {
        Verdict::Wins(index) | Verdict::Held(index, _) => standing[*index].word.value.clone(),
        Verdict::Made(Some(made)) => made.clone(),
        Verdict::Made(None) => standing.first().map(|said| said.word.value.clone()).unwrap_or_default(),
    }
}

fn differ(said: &[Said<'_>]) -> bool {
    said.windows(2).any(|pair| pair[0].word.value != pair[1].word.value)
}

fn names<'f>(fields: impl Iterator<Item = &'f Field>) -> Vec<String> {
    fields.map(|field| field.name.clone()).collect()
}
