//! Pure: a table as parts that may be read at the same time, and how far each of them is in Kafka.
//!
//! A part is what lies between two keys of the table; all parts together are the table, whatever keys come to be. Each is read in chunks
//! on its own, and the borders stay where they are until the table is done: so after a crash each part goes on behind its last chunk, in
//! the sense in which a table that is not divided does. A table without a key is divided by its pages; these are keys of a kind.
//!
//! (Why not by pages where there is a key: an update puts a row into another page. Read after a crash in a newer snapshot, a row may
//! so have come from pages that are to be read into those that are read. The stream has its update, but not the large values that the
//! update left as they were.)

use serde::{Deserialize, Serialize};

use crate::postgres::snapshot::{ChunkBound, ChunkEnd};

/// What lies after one key, up to another and with it; without one, from the beginning, or to the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// All before is in Kafka, or belongs to another part.
    pub after: Option<ChunkBound>,
    /// All beyond belongs to another part.
    pub up_to: Option<ChunkBound>,
}

/// The parts of a table by their numbers; of one that is in Kafka nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    key: Vec<String>,
    parts: Vec<Option<Part>>,
}

/// As progress has them.
#[derive(Serialize, Deserialize)]
struct Written {
    key: Vec<String>,
    left: Vec<Part>,
}

impl Parts {
    /// The whole table, cut by the columns of `key` at the borders, which come in the order of keys, each once.
    pub fn between(key: Vec<String>, borders: Vec<ChunkBound>) -> Self {
        let mut parts = Vec::with_capacity(borders.len() + 1);
        let mut after = None;
        for border in borders {
            let up_to = Some(border.clone());
            parts.push(Some(Part { after, up_to }));
            after = Some(border);
        }
        parts.push(Some(Part { after, up_to: None }));
        Self { key, parts }
    }

    /// Of what [`Parts::written`] wrote.
    pub fn parse(text: &str) -> serde_json::Result<Self> {
        let Written { key, left } = serde_json::from_str(text)?;
        let parts = left.into_iter().map(Some).collect();
        Ok(Self { key, parts })
    }

    /// For progress.
    pub fn written(&self) -> serde_json::Result<String> {
        serde_json::to_string(&Written {
            key: self.key.clone(),
            left: self.left().map(|(_, part)| part.clone()).collect(),
        })
    }

    /// Whether these columns cut it; of a table that has another key now, the bounds say nothing.
    pub fn is_cut_by(&self, key: &[String]) -> bool {
        self.key == key
    }

    /// Those that are not done, with their numbers.
    pub fn left(&self) -> impl Iterator<Item = (usize, &Part)> {
        let parts = self.parts.iter().enumerate();
        parts.filter_map(|(number, part)| Some((number, part.as_ref()?)))
    }

    /// Whether what is left has borders within the table.
    pub fn has_borders(&self) -> bool {
        self.left().any(|(_, part)| part.up_to.is_some())
    }

    /// The number of the table's file, if the parts are of its pages.
    pub fn file(&self) -> Option<&str> {
        self.left()
            .find_map(|(_, part)| part.after.as_ref().or(part.up_to.as_ref())?.file())
    }

    /// Whether all are.
    pub fn is_done(&self) -> bool {
        self.left().next().is_none()
    }

    /// A chunk of the part is in Kafka, and ended so.
    pub fn chunk_done(&mut self, number: usize, end: &ChunkEnd) {
        let Some(place) = self.parts.get_mut(number) else {
            return;
        };
        match (end, place.as_mut()) {
            (ChunkEnd::More(bound), Some(part)) => part.after = Some(bound.clone()),
            _ => *place = None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn bound(key: u32) -> ChunkBound {
        ChunkBound(vec![key.to_string()])
    }

    fn by_id() -> Vec<String> {
        vec!["1 int4".to_owned()]
    }

    fn key(bound: &ChunkBound) -> u32 {
        bound.0[0].parse().unwrap()
    }

    /// What the server answers: a chunk of the keys between the part's bounds, and how it ended.
    fn chunk(keys: &[u32], part: &Part, rows_max: usize) -> (Vec<u32>, ChunkEnd) {
        let wanted = keys.iter().copied().filter(|&id| {
            part.after.as_ref().is_none_or(|after| id > key(after))
                && part.up_to.as_ref().is_none_or(|up_to| id <= key(up_to))
        });
        let rows: Vec<u32> = wanted.take(rows_max).collect();
        let end = match rows.last() {
            Some(&last) if rows.len() == rows_max => ChunkEnd::More(bound(last)),
            _ => ChunkEnd::Last,
        };
        (rows, end)
    }

    proptest! {
        /// Whatever keys there are, wherever the borders lie, in whatever order the parts come on and wherever capture breaks off: each
        /// key is in Kafka once. Keys that come to be while the table is read are read at most once.
        #[test]
        fn each_key_is_read_once(
            keys in prop::collection::btree_set(0_u32..500, 0..200),
            later in prop::collection::btree_set(0_u32..500, 0..20),
            borders in prop::collection::btree_set(0_u32..500, 0..8),
            chances in prop::collection::vec((0_usize..8, prop::bool::weighted(0.1)), 1..60),
            rows_max in 1_usize..30,
        ) {
            let mut table: Vec<u32> = keys.iter().copied().collect();
            let mut times: BTreeMap<u32, u32> = BTreeMap::new();
            let mut parts = Parts::between(by_id(), borders.iter().map(|&border| bound(border)).collect());
            let mut turn = 0;
            while !parts.is_done() {
                let (chance, breaks_off) = chances[turn % chances.len()];
                turn += 1;
                let left: Vec<(usize, Part)> = parts.left().map(|(number, part)| (number, part.clone())).collect();
                let (number, part) = &left[chance % left.len()];
                let (rows, end) = chunk(&table, part, rows_max);
                rows.iter().for_each(|&id| *times.entry(id).or_default() += 1);
                parts.chunk_done(*number, &end);
                if turn == 5 {
                    table = keys.union(&later).copied().collect();
                }
                if breaks_off && !parts.is_done() {
                    parts = Parts::parse(&parts.written().unwrap()).unwrap();
                }
            }
            prop_assert!(times.values().all(|&times| times == 1), "{times:?}");
            prop_assert!(keys.iter().all(|id| times.contains_key(id)));
        }
    }

    #[test]
    fn parts_are_written_with_their_borders() {
        let mut parts = Parts::between(by_id(), vec![bound(3), bound(9)]);
        parts.chunk_done(1, &ChunkEnd::More(bound(5)));
        parts.chunk_done(2, &ChunkEnd::Last);
        let text = r#"{"key":["1 int4"],"left":[{"after":null,"up_to":["3"]},{"after":["5"],"up_to":["9"]}]}"#;
        assert_eq!(parts.written().unwrap(), text);
        let read = Parts::parse(text).unwrap();
        assert!(read.left().map(|(_, part)| part).eq(parts.left().map(|(_, part)| part)));
        assert!(read.is_cut_by(&by_id()) && !read.is_cut_by(&["1 text".to_owned()]));
        assert!(Parts::parse("7").is_err());
    }
}
