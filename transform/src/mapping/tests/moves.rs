//! A row whose key changes before anything of its old key was read: map and merge together, with a part of the
//! crosswalk for each partition, read in every order by one process or by several that do not see each other's parts.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::merge::{EntityState, resolve};

/// What stands in a partition: a row under its key, with the name it has, or the end of a key.
#[derive(Clone, Copy, Debug)]
struct Told {
    partition: usize,
    key: i64,
    at: (u64, u64),
    name: Option<&'static str>,
    /// The key it had, or has from now on.
    other: Option<i64>,
}

const fn told(partition: usize, key: i64, at: (u64, u64), name: Option<&'static str>, other: Option<i64>) -> Told {
    Told {
        partition,
        key,
        at,
        name,
        other,
    }
}

struct Stages {
    link: Link,
    entity: Entity,
    /// Whether one process reads all partitions.
    is_alone: bool,
    crosswalk: BTreeMap<usize, HashMap<String, Crosswalk>>,
    entities: BTreeMap<String, EntityState>,
}

impl Stages {
    fn new(is_matched: bool, is_alone: bool) -> Self {
        let link = LOADED.links[0].clone();
        let mut entity = LOADED.entity(&link.entity).unwrap().clone();
        if !is_matched {
            entity.match_on.clear();
        }
        Self {
            link,
            entity,
            is_alone,
            crosswalk: BTreeMap::new(),
            entities: BTreeMap::new(),
        }
    }

    fn read(&mut self, told: Told) {
        let row_of = |id: i64| row(&[("id", id.into())]);
        let after = told.name.map(|name| {
            let email = if name.starts_with("Bob") {
                "bob@x.uk"
            } else {
                "ada@x.uk"
            };
            row(&[
                ("id", told.key.into()),
                ("email", email.into()),
                ("full_name", name.into()),
            ])
        });
        let event = ChangeEvent {
            op: if after.is_some() { Op::Create } else { Op::Delete },
            before: after.is_none().then(|| row_of(told.key)),
            after,
            source: SourceInfo::default(),
            ts_ms: 0,
        };
        let (key, other) = (row_of(told.key), told.other.map(row_of));
        let moves_away = told.name.is_none();
        let input = Input {
            event: &event,
            key: Some(&key),
            position: Position::new(1, Lsn(told.at.0), told.at.1),
            commit_us: i64::try_from(told.at.0).unwrap(),
            ahead: false,
            old_key: other.as_ref().filter(|_| !moves_away),
            moves_away,
            new_key: other.as_ref().filter(|_| moves_away),
            mark: None,
        };
        let address = address(&self.link, &input).unwrap().unwrap();
        let ours = |partition: &usize| self.is_alone || *partition == told.partition;
        let shards: Vec<usize> = self.crosswalk.keys().copied().filter(ours).collect();
        let entry = |shard: &usize, row: &RowKey| {
            self.crosswalk
                .get(shard)
                .and_then(|entries| entries.get(&crosswalk_key(&self.link, row)))
                .cloned()
        };
        let all = |row: &RowKey| shards.iter().filter_map(|shard| entry(shard, row)).collect::<Vec<_>>();
        let old = address.was.as_ref().map(all).unwrap_or_default();
        let known = Known::found(entry(&told.partition, &address.row), old);
        let said = match apply(&self.link, &self.entity, &input, address, &known).unwrap() {
            Mapping::Said { mapped, crosswalk, .. } => {
                self.crosswalk.entry(told.partition).or_default().extend(crosswalk);
                Some(mapped)
            }
            Mapping::Left { key, entry, said } => {
                self.crosswalk.entry(told.partition).or_default().insert(key, entry);
                said
            }
            Mapping::Nothing(_) => None,
        };
        if let Some(said) = said {
            let state = self.entities.entry(said.cid.clone()).or_default();
            state.join(&said, &self.entity);
            assert_eq!(EntityState::from_bytes(&state.to_bytes()).as_ref(), Ok(&*state));
        }
    }

    /// For each entity: its id, the row that speaks, and the name; and whether anything is disputed.
    fn agreed(&self) -> (BTreeSet<(String, String, String)>, bool) {
        let (mut agreed, mut disputed) = (BTreeSet::new(), false);
        for (cid, state) in &self.entities {
            let resolved = resolve(cid, state, &self.entity, &["shop".to_owned()]);
            disputed |= !resolved.conflicts.is_empty();
            let record = resolved.canonical.unwrap();
            let row = record.app("shop").map(|words| words.row.0.clone()).unwrap_or_default();
            agreed.insert((cid.clone(), row, record.fields["name"].to_string()));
        }
        (agreed, disputed)
    }
}

/// All orders in which the partitions of these can be read.
fn interleaved(told: &[Told]) -> Vec<Vec<Told>> {
    if told.is_empty() {
        return vec![Vec::new()];
    }
    let partitions: BTreeSet<usize> = told.iter().map(|told| told.partition).collect();
    let mut all = Vec::new();
    for partition in partitions {
        let mut rest = told.to_vec();
        let place = rest.iter().position(|told| told.partition == partition).unwrap();
        let first = rest.remove(place);
        all.extend(
            interleaved(&rest)
                .into_iter()
                .map(|order| [vec![first], order].concat()),
        );
    }
    all
}

/// All orders agree on what is agreed, of so many rows, each record read once or twice. For entities with a match or
/// without, and one process or several.
fn agree(log: &[Told], rows: usize, modes: &[(bool, bool)]) {
    for ((is_matched, is_alone), times) in modes.iter().flat_map(|mode| [(*mode, 1), (*mode, 2)]) {
        let mut first = None;
        for order in interleaved(log) {
            let mut stages = Stages::new(is_matched, is_alone);
            for told in &order {
                (0..times).for_each(|_| stages.read(*told));
            }
            let (agreed, disputed) = stages.agreed();
            let place = format!("matched {is_matched}, alone {is_alone}, {order:?}");
            assert!(!disputed, "{place}");
            assert_eq!(agreed.len(), rows, "{agreed:?}: {place}");
            assert_eq!(*first.get_or_insert_with(|| agreed.clone()), agreed, "{place}");
        }
    }
}

#[test]
fn a_row_that_moves_before_it_was_read_is_heard_under_its_new_key() {
    let log = [
        told(0, 7, (10, 0), Some("Ada"), None),
        told(0, 7, (20, 0), Some("Ada L"), None),
        told(0, 7, (30, 4), None, Some(70)),
        told(1, 70, (30, 5), Some("Ada L"), Some(7)),
        told(1, 70, (40, 0), Some("Ada Lovelace"), None),
    ];
    agree(&log, 1, &[(true, true), (true, false), (false, true), (false, false)]);
}

#[test]
fn who_takes_the_key_that_was_left_unread_is_another() {
    let log = [
        told(0, 7, (10, 0), Some("Ada"), None),
        told(0, 7, (30, 4), None, Some(70)),
        told(0, 7, (50, 0), Some("Bob"), None),
        told(0, 7, (60, 0), Some("Bob B"), None),
        told(1, 70, (30, 5), Some("Ada"), Some(7)),
        told(1, 70, (40, 0), Some("Ada Lovelace"), None),
    ];
    // Where one process has read who took the key, it does not know any more who left it: the row's own values decide.
    agree(&log, 2, &[(true, true), (true, false), (false, false)]);
}

/// Also where all of its old key is read after the beginning under the new one, by the same process or by another.
#[test]
fn an_edit_just_before_a_move_is_told_where_it_stands() {
    let log = [
        told(0, 7, (10, 0), Some("Ada"), None),
        told(0, 7, (20, 0), Some("Ada L"), None),
        told(0, 7, (30, 4), None, Some(70)),
        told(1, 70, (30, 5), Some("Ada L"), Some(7)),
    ];
    for (is_matched, is_alone) in [(true, true), (true, false), (false, true), (false, false)] {
        for order in interleaved(&log) {
            let mut stages = Stages::new(is_matched, is_alone);
            order.iter().for_each(|told| stages.read(*told));
            assert_eq!(stages.entities.len(), 1, "{order:?}");
            for (cid, state) in &stages.entities {
                let record = resolve(cid, state, &stages.entity, &["shop".to_owned()])
                    .canonical
                    .unwrap();
                let words = record.app("shop").unwrap();
                assert_eq!(words.row.0, r#"{"id":70}"#, "{order:?}");
                assert_eq!(
                    words.word("name").unwrap().position,
                    Position::new(1, Lsn(20), 0),
                    "{order:?}"
                );
            }
        }
    }
}
