//! The crosswalks of entities that others refer to, all of their partitions, whoever owns them.
//!
//! A child's partition says nothing of where its parent's row is: every instance that maps children has to know every
//! parent. So these topics are followed into the local store, under names of their own beside the shards that this instance
//! writes: what is followed lags behind what is written, and must not overwrite it. A lookup asks both.
//!
//! That it lags does no harm, since a child that finds no parent waits. Only where the wait is over it has to be known that
//! nothing was overlooked; then everything is read to the end first ([`Followed::catch_up`]).

use std::collections::BTreeMap;
use std::time::Duration;

use syncline_bus::{Follower, admin};
use syncline_runtime::Outcome;
use syncline_schemas::pipeline::Pipeline;
use syncline_schemas::topic;

use crate::changelog;
use crate::context::Context;
use crate::store::{Change, DiskStore, EntityStore, Shard};

/// How many entries of a topic are taken at once before records are mapped again.
const FOLLOW_ROWS_MAX: usize = 5_000;
/// No topic has this in its name.
const MARK: &str = "~";

/// The followed crosswalks, by topic.
#[derive(Default)]
pub struct Followed {
    topics: BTreeMap<String, Crosswalk>,
}

/// One of them.
#[derive(Default)]
struct Crosswalk {
    partitions: i32,
    follower: Option<Follower>,
}

impl Followed {
    /// For the entities that rows of links which are read refer to.
    pub fn new(pipeline: &Pipeline) -> Self {
        let reading = pipeline.links.iter().filter(|link| link.reads());
        let parents = reading.flat_map(|link| pipeline.parents(link));
        let topics = parents.map(|parent| topic::crosswalk(&pipeline.name, &parent.link.entity));
        Self {
            topics: topics.map(|topic| (topic, Crosswalk::default())).collect(),
        }
    }

    /// Reads everything that there is now, and follows from there on. True if anything had come.
    pub fn catch_up(&mut self, context: &Context, store: &mut DiskStore) -> Outcome<bool> {
        let mut has_come = false;
        for (topic, crosswalk) in &mut self.topics {
            crosswalk.partitions = admin::partitions(&context.bus, topic)?.unwrap_or(0);
            let mut from = BTreeMap::new();
            for partition in 0..crosswalk.partitions {
                let shard = shard(topic, partition);
                let before = store.offset(&shard)?;
                changelog::restore_from(&context.bus, store, &shard, topic, &context.shutdown)?;
                let now = store.offset(&shard)?;
                has_come |= now != before;
                from.insert(partition, now.unwrap_or(0));
            }
            if !context.shutdown.requested() {
                crosswalk.follower = Some(Follower::open(&context.bus, topic, &from)?);
            }
        }
        Ok(has_come)
    }

    /// Takes in what has come since, and gives the keys of it.
    pub fn follow(&mut self, store: &mut DiskStore) -> Outcome<Vec<String>> {
        let mut keys = Vec::new();
        for (topic, crosswalk) in &self.topics {
            let Some(follower) = &crosswalk.follower else { continue };
            let mut came: BTreeMap<i32, (Vec<Change>, i64)> = BTreeMap::new();
            for _ in 0..FOLLOW_ROWS_MAX {
                let Some(record) = follower.next(Duration::ZERO)? else {
                    break;
                };
                let (changes, next) = came.entry(record.partition).or_default();
                *next = record.offset + 1;
                let key = record.key.and_then(|key| String::from_utf8(key).ok());
                changes.extend(key.map(|key| (key, record.value)));
            }
            for (partition, (changes, next)) in came {
                store.put(&shard(topic, partition), &changes, Some(next))?;
                keys.extend(changes.into_iter().map(|(key, _)| key));
            }
        }
        Ok(keys)
    }

    /// Follows no more: nothing is ours.
    pub fn stop(&mut self) {
        self.topics.values_mut().for_each(|crosswalk| crosswalk.follower = None);
    }

    /// The shards that may have a key of this crosswalk.
    pub fn shards(&self, topic: &str) -> Vec<Shard> {
        let partitions = self.topics.get(topic).map_or(0, |crosswalk| crosswalk.partitions);
        (0..partitions).map(|partition| shard(topic, partition)).collect()
    }
}

fn shard(topic: &str, partition: i32) -> Shard {
    Shard {
        topic: format!("{MARK}{topic}"),
        partition,
    }
}
