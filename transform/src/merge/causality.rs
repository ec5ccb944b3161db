//! Which words have seen which, and which are left standing.
//!
//! `b` has seen `a` when marks in b's log say so, when b's editor had a's very value in front of him, or when `a` is what
//! its app held at first and b's app held the same. The last two read values, and a value may come twice: what marks say
//! goes first, and where values go in a circle (A: x to y, B: y to x) a word falls only to one that it has not itself, over
//! any number of steps, seen. So whatever the words, at least one is left standing.

use syncline_schemas::mapped::RowKey;
use syncline_schemas::value::Value;

use super::mutant::breaks;
use super::word::Word;

/// A word, and who said it.
#[derive(Clone, Copy, Debug)]
pub struct Said<'a> {
    /// The app, or `operator`.
    pub source: &'a str,
    /// Through which row.
    pub row: &'a RowKey,
    /// What was said.
    pub word: &'a Word,
    /// What the app held when the row was first read, if it did not come from us.
    pub first: Option<&'a Value>,
    /// Whether the lock that it has as the first is over, where others wait for that.
    pub unlocked: bool,
}

impl Said<'_> {
    /// Whether the author of this word had, by itself, seen `other`.
    fn saw(&self, other: &Said<'_>) -> bool {
        self.source != other.source && (self.was_told(other) || (self.had_value_of(other) && !other.was_told(self)))
    }

    /// By the marks in its app's log.
    fn was_told(&self, other: &Said<'_>) -> bool {
        self.word.seen.covers(other.source, other.word.position)
    }

    /// By the value that was there when it was said. Weaker than a mark: the same value may come twice.
    fn had_value_of(&self, other: &Said<'_>) -> bool {
        !self.word.initial
            && !breaks("knowledge-by-value")
            && (self.word.base.as_ref() == Some(&other.word.value)
                || (other.word.initial && self.first == Some(&other.word.value)))
    }
}

/// For words `a` and `b`, whether a has seen b, directly or through others.
pub struct Sight {
    /// Row by row: what each has seen.
    sees: Vec<bool>,
    words: usize,
    standing: Vec<usize>,
}

impl Sight {
    /// Of each of `said` on each other.
    pub fn of(said: &[Said<'_>]) -> Self {
        let words = said.len();
        let mut sees = Vec::with_capacity(words * words);
        said.iter().for_each(|a| sees.extend(said.iter().map(|b| a.saw(b))));
        for through in 0..words {
            for from in 0..words {
                for to in 0..words {
                    sees[from * words + to] |= sees[from * words + through] && sees[through * words + to];
                }
            }
        }
        let mut sight = Self {
            sees,
            words,
            standing: Vec::with_capacity(words),
        };
        for a in 0..words {
            if (0..words).all(|b| !sight.sees(b, a) || sight.sees(a, b)) {
                sight.standing.push(a);
            }
        }
        sight
    }

    /// Whether word `a` has seen word `b`.
    pub fn sees(&self, a: usize, b: usize) -> bool {
        self.sees[a * self.words + b]
    }

    /// The words left standing: those that have seen every word that has seen them.
    pub fn standing(&self) -> &[usize] {
        &self.standing
    }
}

#[cfg(test)]
mod tests {
    use syncline_schemas::position::{Lsn, Position, Vector};

    use super::*;

    fn word(value: &str, base: &str, lsn: u64) -> Word {
        Word {
            value: value.into(),
            base: Some(base.into()),
            position: Position::new(1, Lsn(lsn), 0),
            stamp_us: 0,
            seen: Vector::new(),
            initial: false,
            past: Vec::new(),
            steps: Vec::new(),
            put_back: 0,
            set_back: false,
            ahead: false,
        }
    }

    fn standing(words: &[(&str, Word)]) -> Vec<usize> {
        let row = RowKey::default();
        let said: Vec<Said<'_>> = words
            .iter()
            .map(|(source, word)| Said {
                source,
                row: &row,
                word,
                first: None,
                unlocked: false,
            })
            .collect();
        Sight::of(&said).standing().to_vec()
    }

    #[test]
    fn an_edit_of_the_others_value_has_seen_it() {
        assert_eq!(
            standing(&[("shop", word("new", "old", 1)), ("crm", word("newer", "new", 1))]),
            [1]
        );
        assert_eq!(
            standing(&[("shop", word("new", "old", 1)), ("crm", word("newer", "old", 1))]),
            [0, 1]
        );
    }

    #[test]
    fn a_circle_of_values_leaves_somebody_standing() {
        assert_eq!(standing(&[("a", word("y", "x", 1)), ("b", word("x", "y", 1))]), [0, 1]);
        let circle = [
            ("a", word("y", "x", 1)),
            ("b", word("z", "y", 1)),
            ("c", word("x", "z", 1)),
        ];
        assert_eq!(standing(&circle), [0, 1, 2]);
    }

    #[test]
    fn sight_goes_through_others() {
        let mut last = word("3", "2", 1);
        last.seen = Vector::from_iter([("b", Position::new(1, Lsn(1), 0))]);
        let words = [("a", word("1", "0", 1)), ("b", word("2", "1", 1)), ("c", last)];
        assert_eq!(standing(&words), [2]);
    }
}
