//! One field of one row: what the app holds, what it last said, and what its users have seen.

use serde::{Deserialize, Serialize};
use syncline_schemas::mapped::Mapped;
use syncline_schemas::mark::{Mark, MarkedField};
use syncline_schemas::position::{Position, Vector};
use syncline_schemas::value::{Number, Value};

use super::elements::Elements;
use super::mutant::breaks;
use super::packed::packed;
use super::stock::Delta;
use super::word::{Notice, Step, Word};

/// One field of one row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldLane {
    /// What the app holds, by anybody's doing.
    pub shadow: Option<Value>,
    /// What the app held when the row was first read, unless we had made it.
    pub first: Option<Value>,
    /// The app's last own word.
    pub word: Option<Word>,
    /// What the app's users have seen by now.
    pub knowledge: Vector,
    /// The greatest stamp in that.
    pub clock_us: i64,
    /// The greatest commit time of the app's own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said_us: Option<i64>,
    /// Notices that stand after the last change joined.
    pub ahead: Vec<Notice>,
    /// For a number, the sum of what the app itself added since the row was first read.
    pub added: Option<Number>,
    /// For a number, the sum of all that was ever delivered to it as a counter.
    pub delivered: Option<Number>,
    /// The side of a set.
    pub elements: Elements,
    /// Of a counter that has stock-takes, what the app added since the last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deltas: Vec<Delta>,
    /// Of a text of several lines, what the row held before, the last first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trail: Vec<Value>,
    /// Of a guarded field, what is needed to know from where a jump is measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watch: Option<Watch>,
}

/// Where a guarded field of a row stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// Since when it holds what it holds.
    held_at: Position,
    /// Up to where its users know that it held what was agreed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    told: Option<Position>,
}

packed!(FieldLane {
    0 shadow, 1 first, 2 word, 3 knowledge, 4 clock_us, 5 said_us, 6 ahead, 7 added, 8 delivered, 9 elements, 10 deltas,
    11 trail, 12 watch
});
packed!(Watch { 0 held_at, 1 told });

/// Edits in a row that are remembered of a guarded field while no mark says what is agreed. With more of them, a jump is
/// measured from the oldest that is left.
const STEPS_MAX: usize = 16;

/// Texts kept of what a row held before, and their bytes in all. Where no common one is left, texts are not merged.
const TRAIL_MAX: usize = 4;
const TRAIL_BYTES_MAX: usize = 64 * 1024;

/// What a mark tells from `position` on.
pub fn notice(mark: &Mark, position: Position) -> Notice {
    Notice {
        position,
        vector: mark.vector.clone(),
        stamp_us: mark.stamp_us,
    }
}

impl FieldLane {
    /// The row now holds `value`. True if that is the app's own doing.
    pub fn change(&mut self, value: &Value, marked: Option<(&MarkedField, &Mark)>, said: &Mapped) -> bool {
        self.catch_up(said.position);
        if marked.is_some_and(|(field, _)| field.is_kept()) {
            return self.come_back(value, said);
        }
        let own_before = self.own();
        let mut expected = self.shadow.clone();
        if let Some((field, mark)) = marked {
            self.learn(&notice(mark, said.position));
            match &field.delivered {
                Some(delivered) => {
                    self.delivered = Some(delivered.clone());
                    expected = Some(self.after_delivery(own_before.as_ref(), delivered));
                }
                None => expected = field.value.clone(),
            }
        }
        if let Some(expected) = &expected {
            self.leave(expected);
        }
        if expected.as_ref() == Some(value) && !breaks("echoes-are-no-words") {
            self.hold(value, said.position);
            return false;
        }
        match &expected {
            Some(expected) => self.hold(expected, said.position),
            None => self.shadow = None,
        }
        self.edit(value, said);
        true
    }

    /// We made the row again, as its app had it, and it holds `value` of a field that is only read there. If that is what
    /// the app said last, nothing has happened. Else it could not be written, or the app made something else of it: the
    /// row is read as at the first time, for nobody edited it, so any edit beats that; but it is a word, or the record
    /// would go on saying what its app does not hold. Nobody there is told of others' words: they do not see them.
    fn come_back(&mut self, value: &Value, said: &Mapped) -> bool {
        if self.word.as_ref().is_some_and(|word| word.value == *value) {
            self.hold(value, said.position);
            return false;
        }
        self.shadow = None;
        self.edit(value, said);
        true
    }

    /// The row holds `value` from `position` on.
    pub fn hold(&mut self, value: &Value, position: Position) {
        if self.shadow.as_ref() == Some(value) {
            return;
        }
        self.shadow = Some(value.clone());
        if let Some(watch) = &mut self.watch {
            watch.held_at = position;
        }
    }

    /// What led to the edit that comes now, back to what is known to be agreed. It is a function of the row's log: notices
    /// that are read later shorten it to the same (`Word::notice`).
    fn steps(&self) -> Vec<Step> {
        let (Some(watch), Some(held)) = (&self.watch, &self.shadow) else {
            return Vec::new();
        };
        let goes_on = |last: &&Word| last.value == *held && watch.told.is_none_or(|told| told <= last.position);
        let before = self
            .word
            .as_ref()
            .filter(goes_on)
            .filter(|_| !breaks("guards-remember"));
        let mut steps = before.map(|last| last.steps.clone()).unwrap_or_default();
        steps.push(Step {
            at: watch.held_at,
            held: held.clone(),
        });
        steps.drain(..steps.len().saturating_sub(STEPS_MAX));
        steps
    }

    /// The row is about to hold `next` instead of what it holds: a text is kept, for a later merge may begin with it.
    fn leave(&mut self, next: &Value) {
        let (Some(Value::Text(held)), Value::Text(next)) = (&self.shadow, next) else {
            return;
        };
        if held == next || !(held.contains('\n') || next.contains('\n')) {
            return;
        }
        self.trail.insert(0, Value::Text(held.clone()));
        self.trail.truncate(TRAIL_MAX);
        let mut bytes = 0;
        self.trail.retain(|text| {
            bytes += if let Value::Text(text) = text { text.len() } else { 0 };
            bytes <= TRAIL_BYTES_MAX
        });
    }

    /// What a counter holds after a delivery if its app did nothing meanwhile.
    fn after_delivery(&self, own_before: Option<&Number>, delivered: &Number) -> Value {
        own_before.map_or_else(
            || Value::Number(delivered.clone()),
            |own| Value::Number(own + delivered),
        )
    }

    /// The app itself set the field to `value`.
    pub fn edit(&mut self, value: &Value, said: &Mapped) {
        self.leave(value);
        let steps = self.steps();
        let base = self.shadow.clone();
        self.hold(value, said.position);
        let initial = base.is_none();
        if initial {
            self.first = Some(value.clone());
        }
        if let (Some(Value::Number(old)), Value::Number(new)) = (&base, value) {
            self.added = Some(&self.added.clone().unwrap_or_else(Number::zero) + &(new - old));
        }
        self.elements
            .edit(base.as_ref(), value, said.position, &self.knowledge, initial);
        // A clock that was set back does not make an edit older than the one before it.
        let said_us = said.commit_us.max(self.said_us.unwrap_or(i64::MIN));
        let set_back = said_us > said.commit_us;
        self.said_us = Some(said_us);
        let stamp_us = if self.knowledge.is_empty() {
            said_us
        } else {
            said_us.max(self.clock_us + 1)
        };
        let last = self.word.as_ref();
        let put_back = last.filter(|last| last.value == *value && !last.initial && !breaks("flaps-end"));
        self.word = Some(Word {
            value: value.clone(),
            base,
            position: said.position,
            stamp_us,
            seen: self.knowledge.clone(),
            initial,
            past: self.trail.clone(),
            steps,
            set_back,
            ahead: said.ahead,
            put_back: put_back.map_or(0, |last| last.put_back + 1),
        });
    }

    /// The app's value less all that was delivered to it.
    pub fn own(&self) -> Option<Number> {
        match (&self.shadow, &self.delivered) {
            (Some(Value::Number(now)), Some(delivered)) => Some(now - delivered),
            (Some(Value::Number(now)), None) => Some(now.clone()),
            _ => None,
        }
    }

    /// Keeps a notice that stands after the last change joined: once, in the order of the log.
    pub fn expect(&mut self, notice: Notice) {
        let at = self.ahead.partition_point(|known| known.position < notice.position);
        let mut same = self.ahead[at..]
            .iter()
            .take_while(|known| known.position == notice.position);
        if !same.any(|known| *known == notice) {
            self.ahead.insert(at, notice);
        }
    }

    /// Takes in the notices that stand before `position`.
    pub fn catch_up(&mut self, position: Position) {
        let (now, ahead) = std::mem::take(&mut self.ahead)
            .into_iter()
            .partition(|n| n.position <= position);
        self.ahead = ahead;
        let now: Vec<Notice> = now;
        now.iter().for_each(|notice| self.learn(notice));
    }

    /// Takes in the notices that stand before `position`, where nothing is said of the field. While nothing is known of it,
    /// they are kept as well: what is made of an older field may be its word, which stands after them.
    pub fn hear(&mut self, position: Position) {
        let kept = if self.is_silent() {
            self.ahead.clone()
        } else {
            Vec::new()
        };
        self.catch_up(position);
        if !kept.is_empty() {
            self.ahead = kept;
        }
    }

    /// The app's users see what the notice says, from where it stands.
    pub fn learn(&mut self, notice: &Notice) {
        self.knowledge.join(&notice.vector);
        self.clock_us = self.clock_us.max(notice.stamp_us);
        self.elements.notice(notice);
        if let Some(watch) = &mut self.watch {
            watch.told = watch.told.max(Some(notice.position));
        }
        if let Some(word) = &mut self.word {
            word.notice(notice);
        }
    }
}
