//! Pure: what every app said, received and had seen of one record, from the words as they were mapped.
//!
//! It tells edits and our own writes apart as merge does: of a change that carries our mark, the fields that hold what we
//! wrote are a receipt, the others an edit.

use std::collections::BTreeMap;

use serde::Serialize;
use syncline_schemas::mapped::{FieldValue, Mapped, RowKey, RowOp};
use syncline_schemas::mark::{Act, Mark, MarkedField};
use syncline_schemas::position::{Position, Vector};
use syncline_schemas::value::Value;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// When, microseconds since 1970.
    pub at_us: i64,
    /// An app, `merge`, or a person.
    pub who: String,
    /// The fields that it is about; none: all of them.
    pub fields: Vec<String>,
    /// In words.
    pub what: String,
}

/// What one app did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct App {
    /// Its row.
    pub row: String,
    /// When it last said something of its own.
    pub said_us: Option<i64>,
    /// When it last received something.
    pub received_us: Option<i64>,
}

/// A change of one field that was its app's own doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// The app.
    pub source: String,
    /// The field.
    pub field: String,
    /// Where it stands in the app's log.
    pub position: Position,
    /// The app's commit time, microseconds since 1970.
    pub commit_us: i64,
    /// What the row held before; none where that is not known, as of a row that is read for the first time.
    pub before: Option<Value>,
    /// What it holds from then on.
    pub value: Value,
}

/// A row that its app itself made, or deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The app.
    pub source: String,
    /// Where it stands in the app's log.
    pub position: Position,
    /// The app's commit time, microseconds since 1970.
    pub commit_us: i64,
    /// Whether it was made, as far as the words tell: a row that is read for the first time may be older. Else deleted.
    pub made: bool,
}

/// The story so far.
#[derive(Debug, Default)]
pub struct Story {
    /// What happened, in the order in which it was told.
    pub events: Vec<Event>,
    /// Everything that apps said themselves, in the same order.
    pub edits: Vec<Edit>,
    /// Rows that apps themselves made and deleted, in the same order.
    pub turns: Vec<Turn>,
    /// What each app did last.
    pub apps: BTreeMap<String, App>,
    /// By app and row: what it holds, and what its users have seen of each field.
    rows: BTreeMap<(String, RowKey), Held>,
    /// By field and app: its last own word, and where it was said.
    words: BTreeMap<String, BTreeMap<String, (Position, Value)>>,
}

#[derive(Debug, Default)]
struct Held {
    at: Option<Position>,
    fields: BTreeMap<String, Value>,
    seen: BTreeMap<String, Vector>,
}

impl Story {
    /// The story of all this. Across apps the topic has the order of reading; people think in the order of doing.
    pub fn of(said: &[Mapped]) -> Self {
        let mut story = Self::default();
        in_time(said).into_iter().for_each(|said| story.tell(said));
        story
    }

    /// Goes on with what an app said. A repetition says nothing.
    pub fn tell(&mut self, said: &Mapped) {
        let place = (said.source.clone(), said.row.clone());
        if let Some(was) = &said.was
            && let Some(held) = self.rows.remove(&(said.source.clone(), was.clone()))
        {
            self.rows.insert(place.clone(), held);
        }
        let repeated = |held: &Held| said.op != RowOp::Seen && held.at.is_some_and(|at| said.position <= at);
        if self.rows.get(&place).is_some_and(repeated) {
            return;
        }
        let mut held = self.rows.remove(&place).unwrap_or_default();
        if said.op != RowOp::Seen {
            held.at = Some(said.position);
        }
        let mark = said.mark.as_ref().filter(|mark| mark.cid == said.cid);
        if let Some(mark) = mark {
            self.received(said, mark, &mut held);
        }
        match said.op {
            RowOp::Present => self.present(said, mark, &mut held),
            RowOp::Deleted if mark.is_none() => {
                self.turn(said, false);
                self.own(said, Vec::new(), "deleted the row".to_owned());
            }
            RowOp::Deleted | RowOp::Seen => {}
        }
        if said.op == RowOp::Deleted {
            held.fields.clear();
        }
        self.app(said).row.clone_from(&said.row.0);
        self.rows.insert(place, held);
    }

    fn app(&mut self, said: &Mapped) -> &mut App {
        self.apps.entry(said.source.clone()).or_default()
    }

    fn received(&mut self, said: &Mapped, mark: &Mark, held: &mut Held) {
        for field in mark.told() {
            held.seen.entry(field.name.clone()).or_default().join(&mark.vector);
        }
        let verb = match mark.act {
            Act::Insert => "received, as a new row,",
            Act::Restore => "received, as a row made again,",
            Act::Update => "received",
            Act::Delete => "received the deletion",
            Act::Seen => "had already, and now counts as having seen,",
        };
        let values = mark.fields.iter().map(|field| match (&field.value, &field.delivered) {
            (Some(value), _) => format!("{} = {value}", field.name),
            (None, Some(sum)) => format!("{} (deliveries sum up to {sum})", field.name),
            (None, None) => format!("{} (its own)", field.name),
        });
        let values: Vec<String> = values.collect();
        self.app(said).received_us = Some(said.commit_us);
        self.events.push(Event {
            at_us: said.commit_us,
            who: said.source.clone(),
            fields: mark.fields.iter().map(|field| field.name.clone()).collect(),
            what: format!("{verb} {}", values.join(", ")).trim_end().to_owned(),
        });
    }

    fn present(&mut self, said: &Mapped, mark: Option<&Mark>, held: &mut Held) {
        let first = held.fields.is_empty();
        let kept = |name: &str| mark.and_then(|mark| mark.field(name)).is_some_and(MarkedField::is_kept);
        let last = |name: &str| self.words.get(name)?.get(&said.source).map(|(_, value)| value);
        let ours = |field: &&FieldValue| {
            mark.is_some_and(|mark| is_ours(mark, field))
                || kept(&field.name) && last(&field.name) == Some(&field.value)
        };
        let known: BTreeMap<String, Value> = said
            .before
            .iter()
            .map(|field| (field.name.clone(), field.value.clone()))
            .collect();
        let before = |name: &str| known.get(name).or(held.fields.get(name)).cloned();
        // What a row of our making has beyond what we wrote are the app's defaults, which nobody said.
        let made_by_us = mark.is_some_and(|mark| mark.act.makes());
        let edits: Vec<(&FieldValue, Option<Value>)> = said
            .fields
            .iter()
            .filter(|field| !ours(field) && (!made_by_us || kept(&field.name)))
            .map(|field| (field, before(&field.name)))
            .filter(|(field, before)| before.as_ref() != Some(&field.value))
            .collect();
        if !edits.is_empty() {
            let texts = edits
                .iter()
                .map(|(field, before)| self.edit(said, field, before.as_ref(), first, held));
            let texts: Vec<String> = texts.collect();
            let names: Vec<String> = edits.iter().map(|(field, _)| field.name.clone()).collect();
            if first && !made_by_us && said.before.is_empty() {
                self.turn(said, true);
            }
            for (field, before) in &edits {
                let words = self.words.entry(field.name.clone()).or_default();
                words.insert(said.source.clone(), (said.position, field.value.clone()));
                self.edits.push(Edit {
                    source: said.source.clone(),
                    field: field.name.clone(),
                    position: said.position,
                    commit_us: said.commit_us,
                    before: before.clone(),
                    value: field.value.clone(),
                });
            }
            self.own(said, names, texts.join("; "));
        }
        held.fields.extend(
            said.fields
                .iter()
                .map(|field| (field.name.clone(), field.value.clone())),
        );
    }

    /// `email: "a" -> "b" (had not seen shop)`. Whoever replaces a value has seen it, by whatever way it came.
    fn edit(&self, said: &Mapped, field: &FieldValue, before: Option<&Value>, first: bool, held: &Held) -> String {
        let text = match before {
            Some(before) => format!("{}: {before} -> {}", field.name, field.value),
            None if first => format!("{} = {}", field.name, field.value),
            None => format!("{} -> {}", field.name, field.value),
        };
        if first {
            return text;
        }
        let nothing = Vector::new();
        let seen = held.seen.get(&field.name).unwrap_or(&nothing);
        let words = self.words.get(&field.name);
        let others = words.into_iter().flatten().filter(|(app, _)| **app != said.source);
        let others = others.map(|(app, (position, value))| {
            let had = seen.covers(app, *position) || before == Some(value);
            (app.as_str(), had)
        });
        let (had, had_not): (Vec<_>, Vec<_>) = others.partition(|(_, had)| *had);
        let names = |words: Vec<(&str, bool)>| words.into_iter().map(|(app, _)| app).collect::<Vec<_>>().join(", ");
        match (had.is_empty(), had_not.is_empty()) {
            (true, true) => text,
            (_, true) => format!("{text} (had seen {})", names(had)),
            (true, _) => format!("{text} (had not seen {})", names(had_not)),
            _ => format!("{text} (had seen {}, not {})", names(had), names(had_not)),
        }
    }

    fn turn(&mut self, said: &Mapped, made: bool) {
        self.turns.push(Turn {
            source: said.source.clone(),
            position: said.position,
            commit_us: said.commit_us,
            made,
        });
    }

    fn own(&mut self, said: &Mapped, fields: Vec<String>, what: String) {
        self.app(said).said_us = Some(said.commit_us);
        self.events.push(Event {
            at_us: said.commit_us,
            who: said.source.clone(),
            fields,
            what,
        });
    }
}

/// By the apps' clocks, but never against the order of an app's own log: where a clock was set back, what comes after is
/// told when the clock had last been.
fn in_time(said: &[Mapped]) -> Vec<&Mapped> {
    let mut in_order: Vec<&Mapped> = said.iter().collect();
    in_order.sort_by(|one, next| one.source.cmp(&next.source).then(one.position.cmp(&next.position)));
    let mut in_time: Vec<(i64, &Mapped)> = Vec::with_capacity(said.len());
    for of_app in in_order.chunk_by(|one, next| one.source == next.source) {
        let mut at_us = i64::MIN;
        for said in of_app {
            at_us = at_us.max(said.commit_us);
            in_time.push((at_us, *said));
        }
    }
    in_time.sort_by_key(|(at_us, _)| *at_us);
    in_time.into_iter().map(|(_, said)| said).collect()
}

/// Whether the field holds what we wrote. Of a counter only the sum of deliveries is known, so its echo is ours.
fn is_ours(mark: &Mark, field: &FieldValue) -> bool {
    mark.field(&field.name).is_some_and(|marked| match &marked.value {
        Some(value) => *value == field.value,
        None => marked.delivered.is_some(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use syncline_schemas::position::Lsn;

    fn said(source: &str, lsn: u64, email: &str) -> Mapped {
        Mapped {
            cid: "c".to_owned(),
            source: source.to_owned(),
            row: RowKey("{\"id\":1}".to_owned()),
            was: None,
            position: Position::new(1, Lsn(lsn), 0),
            commit_us: i64::try_from(lsn).unwrap(),
            op: RowOp::Present,
            fields: vec![FieldValue {
                name: "email".to_owned(),
                value: Value::from(email),
            }],
            before: Vec::new(),
            mark: None,
            ahead: false,
        }
    }

    fn delivered(source: &str, lsn: u64, email: &str, seen: &[(&str, u64)]) -> Mapped {
        let mark = Mark {
            pipeline: "p".to_owned(),
            entity: "customer".to_owned(),
            cid: "c".to_owned(),
            table: "public.t".to_owned(),
            row: None,
            act: Act::Update,
            vector: seen
                .iter()
                .map(|(app, lsn)| (*app, Position::new(1, Lsn(*lsn), 0)))
                .collect(),
            stamp_us: 0,
            fields: vec![MarkedField {
                name: "email".to_owned(),
                value: Some(Value::from(email)),
                delivered: None,
            }],
        };
        Mapped {
            mark: Some(mark),
            ..said(source, lsn, email)
        }
    }

    fn told(all: &[Mapped]) -> Vec<String> {
        let mut story = Story::default();
        all.iter().for_each(|said| story.tell(said));
        story
            .events
            .into_iter()
            .map(|event| format!("{} {}", event.who, event.what))
            .collect()
    }

    #[test]
    fn an_edit_says_whom_its_author_had_seen() {
        let story = told(&[
            said("shop", 1, "old"),
            said("crm", 1, "old"),
            said("shop", 2, "new"),
            said("crm", 3, "mine"),
            delivered("shop", 4, "mine", &[("shop", 2), ("crm", 3)]),
            said("shop", 5, "later"),
        ]);
        let expected = [
            r#"shop email = "old""#,
            r#"crm email = "old""#,
            r#"shop email: "old" -> "new" (had seen crm)"#,
            r#"crm email: "old" -> "mine" (had not seen shop)"#,
            r#"shop received email = "mine""#,
            r#"shop email: "mine" -> "later" (had seen crm)"#,
        ];
        assert_eq!(story, expected);
    }

    #[test]
    fn edits_are_what_apps_did_themselves_and_know_what_was_there_before() {
        let story = Story::of(&[
            said("crm", 3, "mine"),
            delivered("crm", 4, "theirs", &[("shop", 2)]),
            said("crm", 1, "old"),
            said("crm", 5, "again"),
        ]);
        let edits: Vec<(Option<&Value>, &Value)> = story
            .edits
            .iter()
            .map(|edit| (edit.before.as_ref(), &edit.value))
            .collect();
        let [old, mine, theirs, again] = ["old", "mine", "theirs", "again"].map(Value::from);
        assert_eq!(
            edits,
            [(None, &old), (Some(&old), &mine), (Some(&theirs), &again)],
            "what was delivered is nobody's edit"
        );
        assert_eq!(story.turns.len(), 1, "the row is new once");
        assert!(story.turns[0].made);
    }

    #[test]
    fn where_a_clock_was_set_back_the_log_tells_the_order() {
        let set_back = Mapped {
            commit_us: 2,
            ..said("crm", 6, "later")
        };
        let story = Story::of(&[
            said("crm", 1, "old"),
            said("crm", 5, "mine"),
            set_back,
            said("crm", 7, "last"),
        ]);
        let values: Vec<String> = story.edits.iter().map(|edit| edit.value.to_string()).collect();
        assert_eq!(values, [r#""old""#, r#""mine""#, r#""later""#, r#""last""#]);
    }

    #[test]
    fn what_is_read_twice_is_told_once() {
        let once = told(&[said("shop", 1, "a"), said("shop", 2, "b")]);
        assert_eq!(
            told(&[said("shop", 1, "a"), said("shop", 2, "b"), said("shop", 1, "a")]),
            once
        );
    }
}
