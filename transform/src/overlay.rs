//! What a batch has changed and Kafka has not committed: it lies over the store and is dropped if anything fails.

use std::collections::BTreeMap;

use syncline_runtime::Outcome;

use crate::store::{Change, EntityStore, Shard};

/// Changes of several shards.
#[derive(Default)]
pub struct Overlay {
    changes: BTreeMap<Shard, BTreeMap<String, Option<Vec<u8>>>>,
}

impl Overlay {
    /// The value of a key as the batch sees it.
    pub fn get(&self, store: &impl EntityStore, shard: &Shard, key: &str) -> Outcome<Option<Vec<u8>>> {
        match self.changes.get(shard).and_then(|changes| changes.get(key)) {
            Some(value) => Ok(value.clone()),
            None => store.get(shard, key),
        }
    }

    /// Notes a new value.
    pub fn put(&mut self, shard: &Shard, key: impl Into<String>, value: Vec<u8>) {
        self.of(shard).insert(key.into(), Some(value));
    }

    /// Notes that a key is gone.
    pub fn remove(&mut self, shard: &Shard, key: impl Into<String>) {
        self.of(shard).insert(key.into(), None);
    }

    /// The changes of one shard, whose name is copied once for a batch.
    fn of(&mut self, shard: &Shard) -> &mut BTreeMap<String, Option<Vec<u8>>> {
        if !self.changes.contains_key(shard) {
            self.changes.insert(shard.clone(), BTreeMap::new());
        }
        self.changes
            .get_mut(shard)
            .unwrap_or_else(|| unreachable!("it was just put there"))
    }

    /// Puts everything into the store and says how much that was. Only after Kafka has committed the same.
    pub fn settle(&mut self, store: &mut impl EntityStore) -> Outcome<usize> {
        let mut count = 0;
        for (shard, changes) in std::mem::take(&mut self.changes) {
            let changes: Vec<Change> = changes.into_iter().collect();
            store.put(&shard, &changes, None)?;
            count += changes.len();
        }
        Ok(count)
    }
}
