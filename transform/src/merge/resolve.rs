//! From words to the agreed record and its conflicts. Knows rules, never the order of arrival.
//!
//! The record must be a function of what was *said*: an echo moves what an app has seen but may not change a byte here,
//! or every delivery would lead to another record. So the vector is made from own words alone, and the record of a deleted
//! entity says the same of a row whether or not we have deleted it yet.

/// Who speaks for an app.
mod speaker;

/// What deletions come to.
mod fate;

use sha2::{Digest, Sha256};
use syncline_schemas::canonical::{AppWords, Canonical, SaidWord};
use syncline_schemas::conflict::{Candidate, Conflict, Status};
use syncline_schemas::decision::OPERATOR;
use syncline_schemas::mapped::RowKey;
use syncline_schemas::pipeline::{Entity, Field, Strategy};
use syncline_schemas::position::{Position, Vector};
use syncline_schemas::value::{Number, Value};

use super::causality::{Said, Sight};
use super::elements::{Side, unite};
use super::rule::{Verdict, decide, rank};
use super::state::{EntityState, FieldLane, Presence};
use fate::Fate;
use speaker::{Speaker, speakers};

/// The agreed record and the conflicts in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    /// The agreed record; none while nothing has been said.
    pub canonical: Option<Canonical>,
    /// Conflicts, open or settled by the rule, in the order of fields.
    pub conflicts: Vec<Conflict>,
}

/// The agreed record of `cid`. `authority` is the order of systems in the pipeline file.
pub fn resolve(cid: &str, state: &EntityState, entity: &Entity, authority: &[String]) -> Resolved {
    let speakers = speakers(state);
    if speakers.is_empty() {
        return Resolved::default();
    }
    let view = View {
        cid,
        state,
        entity,
        authority,
        vector: vector(state),
        speakers,
    };
    view.resolve()
}

/// Up to where each source's own words go.
fn vector(state: &EntityState) -> Vector {
    let mut vector = Vector::new();
    for (source, lanes) in &state.lanes {
        for said in lanes.values().filter_map(|lane| lane.said) {
            vector.advance(source, said);
        }
    }
    for word in state.decisions.values() {
        vector.advance(OPERATOR, word.position);
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
    speakers: Vec<Speaker<'a>>,
}

/// What became of one field.
struct Decided<'a> {
    value: Value,
    held: bool,
    conflict: Option<Conflict>,
    words: Vec<Said<'a>>,
    sight: Sight,
}

impl<'a> View<'a> {
    fn resolve(&self) -> Resolved {
        let decided: Vec<(&Field, Decided<'_>)> = self
            .entity
            .fields
            .iter()
            .map(|field| (field, self.field(field)))
            .collect();
        let fate = self.fate(&decided);
        let mut conflicts: Vec<Conflict> = self.doubles().into_iter().chain(fate.conflict.clone()).collect();
        if !fate.deleted {
            conflicts.extend(decided.iter().filter_map(|(_, decided)| decided.conflict.clone()));
        }
        Resolved {
            canonical: Some(self.canonical(&decided, &fate)),
            conflicts,
        }
    }

    fn canonical(&self, decided: &[(&Field, Decided<'_>)], fate: &Fate) -> Canonical {
        let value = |decided: &Decided<'_>| {
            if fate.deleted {
                Value::Null
            } else {
                decided.value.clone()
            }
        };
        let names = |keep: &dyn Fn(&Field, &Decided<'_>) -> bool| -> Vec<String> {
            decided
                .iter()
                .filter(|(field, one)| keep(field, one))
                .map(|(field, _)| field.name.clone())
                .collect()
        };
        Canonical {
            cid: self.cid.to_owned(),
            deleted: fate.deleted,
            deleted_us: fate.deleted_us,
            fields: decided
                .iter()
                .map(|(field, one)| (field.name.clone(), value(one)))
                .collect(),
            held: if fate.deleted {
                Vec::new()
            } else {
                names(&|_, one| one.held)
            },
            counters: names(&|field, _| field.strategy == Strategy::Add),
            vector: self.vector.clone(),
            stamp_us: self.stamp_us(),
            apps: self
                .speakers
                .iter()
                .filter_map(|speaker| self.app(speaker, decided, fate))
                .collect(),
            rules: self.entity.rules.clone(),
        }
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
        let stamps = words.chain(self.state.decisions.values()).map(|word| word.stamp_us);
        stamps.chain(deletions).max().unwrap_or_default()
    }

    /// What one app said, if it ever said anything itself.
    fn app(&self, speaker: &Speaker<'_>, decided: &[(&Field, Decided<'_>)], fate: &Fate) -> Option<AppWords> {
        speaker.lane.said?;
        let is_among = |apps: &[String]| apps.iter().any(|app| app == speaker.source);
        let remake = is_among(&fate.remade);
        let gone = !remake && speaker.deleted_itself();
        let words = decided
            .iter()
            .filter_map(|(field, one)| self.word(speaker, field, one, fate.deleted))
            .collect();
        // Of a deleted entity the same before and after we have deleted the row.
        let there = match speaker.lane.presence {
            Presence::Here => true,
            Presence::Removed => fate.deleted,
            Presence::Deleted { .. } => false,
        };
        let made = Some(speaker.lane.made).filter(|_| there && !speaker.lane.ours);
        Some(AppWords {
            app: speaker.source.to_owned(),
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
                decided.unseen(speaker.source, lane)
            },
            own: lane
                .own()
                .filter(|_| field.strategy == Strategy::Add && (there || deleted && speaker.was_removed())),
        })
    }

    /// Two rows of one app that claim to be the same: never merged in silence.
    fn doubles(&self) -> Option<Conflict> {
        let doubled: Vec<&Speaker<'_>> = self
            .speakers
            .iter()
            .filter(|speaker| !speaker.doubles.is_empty())
            .collect();
        let candidates: Vec<Candidate> = doubled
            .iter()
            .flat_map(|speaker| {
                let rows = std::iter::once((speaker.row, speaker.lane)).chain(speaker.doubles.iter().copied());
                rows.map(|(row, lane)| candidate_row(speaker.source, row, lane.made))
            })
            .collect();
        let apps: Vec<&str> = doubled.iter().map(|speaker| speaker.source).collect();
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
                "{} has several rows for this {}; the one made first speaks",
                apps.join(", "),
                self.entity.name
            ),
        })
    }

    fn conflict_id(&self, field: &str, candidates: &[Candidate]) -> String {
        let mut hash = Sha256::new();
        hash.update(format!("{}\n{field}\n", self.cid));
        for one in candidates {
            hash.update(format!("{}\n{}\n{}\n", one.source, one.row, one.position));
        }
        hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Decides one field.
    fn field(&self, field: &Field) -> Decided<'_> {
        let words = self.words_on(field);
        let sight = Sight::of(&words);
        let standing: Vec<Said<'_>> = sight.standing().into_iter().map(|index| words[index]).collect();
        let differ = standing.windows(2).any(|pair| pair[0].word.value != pair[1].word.value);
        let verdict = differ.then(|| decide(&field.strategy, &standing, self.authority));
        let agreed = || standing.first().map(|said| said.word.value.clone()).unwrap_or_default();
        let value = match (&field.strategy, &verdict) {
            (Strategy::Add, _) => self.sum(field).unwrap_or_else(agreed),
            (Strategy::Union, _) => self.united(field),
            (_, Some(Verdict::Wins(index) | Verdict::Held(index))) => standing[*index].word.value.clone(),
            (_, Some(Verdict::Made) | None) => agreed(),
        };
        let held = matches!(verdict, Some(Verdict::Held(_)));
        let conflict = verdict
            .filter(|_| field.strategy != Strategy::Add)
            .map(|verdict| self.conflict(field, &standing, &verdict, &value));
        Decided {
            value,
            held,
            conflict,
            words,
            sight,
        }
    }

    /// The words on a field that count: an empty value of a first load says nothing while anybody says something.
    fn words_on(&self, field: &Field) -> Vec<Said<'_>> {
        let counts = |source: &str| match &field.strategy {
            Strategy::Owner(owner) => source == owner,
            _ => true,
        };
        let mut words: Vec<Said<'_>> = self
            .speakers
            .iter()
            .filter(|speaker| self.is_heard(speaker) && counts(speaker.source))
            .filter_map(|speaker| {
                let lane = speaker.lane.fields.get(&field.name)?;
                let word = lane.word.as_ref()?;
                Some(Said {
                    source: speaker.source,
                    row: speaker.row,
                    word,
                    first: lane.first.as_ref(),
                })
            })
            .collect();
        if decidable(&field.strategy) {
            let word = self.state.decisions.get(&field.name);
            words.extend(word.map(|word| Said {
                source: OPERATOR,
                row: &NOWHERE,
                word,
                first: None,
            }));
        }
        if words.iter().any(|said| !says_nothing(said)) {
            words.retain(|said| !says_nothing(said));
        }
        words
    }

    /// A counter: what it was at first, and everything every app added.
    fn sum(&self, field: &Field) -> Option<Value> {
        let lanes: Vec<(&str, &FieldLane)> = self
            .speakers
            .iter()
            .filter(|speaker| self.is_heard(speaker))
            .filter_map(|speaker| Some((speaker.source, speaker.lane.fields.get(&field.name)?)))
            .collect();
        let firsts = lanes.iter().filter_map(|(source, lane)| match &lane.first {
            Some(Value::Number(first)) => Some((rank(source, self.authority), first)),
            _ => None,
        });
        let initial = firsts.min_by_key(|(rank, _)| *rank).map(|(_, first)| first.clone())?;
        let added = lanes.iter().filter_map(|(_, lane)| lane.added.as_ref());
        Some(Value::Number(added.fold(initial, |sum: Number, added| &sum + added)))
    }

    fn united(&self, field: &Field) -> Value {
        let sides: Vec<Side<'_>> = self
            .speakers
            .iter()
            .filter(|speaker| self.is_heard(speaker))
            .filter_map(|speaker| {
                let lane = speaker.lane.fields.get(&field.name)?;
                Some(Side {
                    source: speaker.source,
                    elements: &lane.elements,
                    first: lane.first.as_ref(),
                })
            })
            .collect();
        unite(&sides)
    }

    fn conflict(&self, field: &Field, standing: &[Said<'_>], verdict: &Verdict, value: &Value) -> Conflict {
        let candidates: Vec<Candidate> = standing.iter().map(|said| candidate(said)).collect();
        let (status, winner) = match verdict {
            Verdict::Held(_) => (Status::Open, None),
            Verdict::Made => (Status::Settled, None),
            Verdict::Wins(index) => (Status::Settled, Some(standing[*index].source.to_owned())),
        };
        let note = match (&status, &winner) {
            (Status::Open, _) => "held: each app keeps its own value until a person decides".to_owned(),
            (_, Some(winner)) => format!(
                "{} decided for {winner}; the other values are kept here",
                field.strategy
            ),
            (_, None) => format!("{} made one value of all", field.strategy),
        };
        let base = standing[0].word.base.clone();
        Conflict {
            id: self.conflict_id(&field.name, &candidates),
            cid: self.cid.to_owned(),
            field: field.name.clone(),
            status,
            base: base.filter(|base| standing.iter().all(|said| said.word.base.as_ref() == Some(base))),
            candidates,
            strategy: field.strategy.to_string(),
            rule: field.rule.to_string(),
            outcome: value.clone(),
            winner,
            vector: self.vector.clone(),
            note,
        }
    }

    /// Whether an app's words count: not those of a row that went, where somebody who knew has made the entity anew; and of
    /// a row that we deleted only if that deletion was wrong after all.
    fn is_heard(&self, speaker: &Speaker<'_>) -> bool {
        match speaker.lane.presence {
            Presence::Deleted { position, .. } => !self.came_back(speaker.source, position),
            Presence::Removed => self.lost_by_now(speaker),
            Presence::Here => true,
        }
    }

    /// The pipeline file, where no line of it decides.
    fn file(&self) -> String {
        self.entity
            .fields
            .first()
            .map(|field| field.rule.file.clone())
            .unwrap_or_default()
    }
}

impl Decided<'_> {
    /// The words left standing that the author of the word of `source` had not seen, and its next edit would not have either.
    fn unseen(&self, source: &str, lane: &FieldLane) -> Vector {
        let Some(own) = self.words.iter().position(|said| said.source == source) else {
            return Vector::new();
        };
        let unseen = |other: &usize| {
            let said = &self.words[*other];
            let held_at_first = said.word.initial && lane.first.as_ref() == Some(&said.word.value);
            *other != own && !self.sight.sees(own, *other) && !held_at_first
        };
        let standing = self.sight.standing().into_iter().filter(unseen);
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

/// Nobody said it: it was found empty when the row was first read.
fn says_nothing(said: &Said<'_>) -> bool {
    said.word.initial
        && match &said.word.value {
            Value::Null => true,
            Value::Text(text) => text.trim().is_empty(),
            Value::List(members) => members.is_empty(),
            _ => false,
        }
}

fn candidate(said: &Said<'_>) -> Candidate {
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

fn candidate_row(source: &str, row: &RowKey, position: Position) -> Candidate {
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
