//! When children have waited long enough.
//!
//! A child is given up if no change that Kafka had before the child's time was up makes its parent known. That is a question
//! about the topics, and the answer must not depend on who has read how far, or a replay would give up others. So it is
//! *proven*: a moment is noted, and where the parents' tables end at that moment; then it is waited until the group, this
//! instance and all others, has mapped everything before those ends, and the crosswalk is read to its end. Who is not known
//! then was not known at that moment. A table that is still being read for the first time proves nothing.
//!
//! The clock says when it is worth asking, and which moment is meant; nothing that it says goes into a record. So it must not be
//! ahead of the clocks that stamp the records (README, limits).

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use syncline_bus::consumer::TopicPartition;
use syncline_bus::{BusConfig, PartitionReader, groups};
use syncline_runtime::Outcome;
use syncline_schemas::pipeline::Link;
use syncline_schemas::topic;

use super::{LOADED, Mapper, SIGHTED, STAGE, Work, nobody, read_key};
use crate::context::{Context, group};
use crate::decide::now_us;
use crate::store::{EntityStore, Shard};

/// Between two looks.
const LOOK_EVERY_MS: u64 = 1_000;
const READ_TIMEOUT_MS: u64 = 500;
/// How long a partition may say nothing before it counts as not read.
const SILENT_READS_MAX: usize = 10;

/// What is being proven.
#[derive(Default)]
pub struct Deadlines {
    proof: Option<Proof>,
    looked: Option<Instant>,
}

struct Proof {
    /// The moment, milliseconds since 1970.
    until_ms: i64,
    /// The parents' links.
    links: BTreeSet<String>,
    /// Where their tables ended then.
    ends: BTreeMap<TopicPartition, i64>,
}

impl Mapper {
    /// Goes on with proving that the time is up for some; true if there is somebody to look at.
    pub fn expire(&mut self, context: &Context, deadlines: &mut Deadlines, at_once: bool) -> Outcome<bool> {
        let looked = |at: Instant| at.elapsed() < Duration::from_millis(LOOK_EVERY_MS);
        if !at_once && deadlines.looked.is_some_and(looked) {
            return Ok(false);
        }
        deadlines.looked = Some(Instant::now());
        let proof = match deadlines.proof.take() {
            Some(proof) => proof,
            None => match self.begin(context)? {
                Some(proof) => proof,
                None => return Ok(self.has_ready()),
            },
        };
        if is_mapped(context, &proof)? && self.is_known(context, &proof)? {
            for link in &proof.links {
                self.room.prove(link, proof.until_ms);
            }
        } else {
            deadlines.proof = Some(proof);
        }
        Ok(self.has_ready())
    }

    fn begin(&self, context: &Context) -> Outcome<Option<Proof>> {
        let until_ms = now_us() / 1000;
        let links = self.room.overdue(until_ms);
        if links.is_empty() {
            return Ok(None);
        }
        let topics: BTreeSet<String> = self.named(&links).map(|link| context.capture_topic(link)).collect();
        let ends = context.ends(&topics)?;
        Ok(Some(Proof { until_ms, links, ends }))
    }

    fn named<'m>(&'m self, links: &'m BTreeSet<String>) -> impl Iterator<Item = &'m Link> {
        let all = self.pipeline.links.iter();
        all.filter(move |link| link.reads() && links.contains(&link.name()))
    }

    /// Reads the crosswalks to their ends; true if the parents' tables were read once.
    fn is_known(&mut self, context: &Context, proof: &Proof) -> Outcome<bool> {
        match self.followed.catch_up(context, &mut self.store) {
            // Nobody is told of each key: those who lack any are looked at again.
            Ok(true) => self.room.wake_lacking(),
            Ok(false) => {}
            Err(failure) if failure.code == "KAFKA_UNDECIDED" => {
                self.room.wake_lacking();
                return Ok(false);
            }
            Err(failure) => return Err(failure),
        }
        for link in self.named(&proof.links) {
            let topic = context.capture_topic(link);
            let partitions = proof.ends.keys().filter(|(other, _)| *other == topic);
            for (_, partition) in partitions {
                if !self.was_read(link, *partition)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Whether the rows that this partition of the link's table held at the start have been read, by whomever.
    fn was_read(&self, link: &Link, partition: i32) -> Outcome<bool> {
        let crosswalk = topic::crosswalk(&self.pipeline.name, &link.entity);
        let followed = self.followed.shards(&crosswalk);
        let followed = followed.into_iter().filter(|shard| shard.partition == partition);
        let own = Shard {
            topic: crosswalk,
            partition,
        };
        for shard in followed.chain([own]) {
            // Tables that were read before there were children are loaded.
            let name = link.name();
            for key in [read_key(&name), format!("{LOADED}{name}"), format!("{SIGHTED}{name}")] {
                if self.store.get(&shard, &key)?.is_some() {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Says of a partition that it was read once, where somebody wants to know and was not told.
    pub fn say_read(&mut self, topic: &str, partition: i32, work: &mut Work) -> Outcome<()> {
        for route in self.routes_of(topic) {
            let key = route.read_key();
            if route.is_referred_to && self.store.get(&route.shard(partition), &key)?.is_none() {
                route.put_crosswalk(key, &nobody(), partition, work);
            }
        }
        Ok(())
    }

    /// Whether it has to be said.
    pub fn has_to_say_read(&self, topic: &str, partition: i32) -> Outcome<bool> {
        for route in self.routes_of(topic) {
            if route.is_referred_to && self.store.get(&route.shard(partition), &route.read_key())?.is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Whether the group has mapped everything before the ends.
fn is_mapped(context: &Context, proof: &Proof) -> Outcome<bool> {
    let places: Vec<TopicPartition> = proof.ends.keys().cloned().collect();
    let committed = groups::committed(&context.bus, &group(&context.pipeline.name, STAGE), &places)?;
    for (place, end) in &proof.ends {
        let next = committed.get(place).copied().unwrap_or(0);
        // Behind the last record there may be markers of transactions, which nobody commits.
        if next < *end && has_records(&context.bus, place, next, *end)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn has_records(bus: &BusConfig, (topic, partition): &TopicPartition, from: i64, end: i64) -> Outcome<bool> {
    let mut reader = PartitionReader::open(bus, topic, *partition, from)?;
    let mut silent = 0;
    while !reader.at_end() && reader.position() < end {
        match reader.next(Duration::from_millis(READ_TIMEOUT_MS))? {
            Some(record) => return Ok(record.offset < end),
            None if reader.at_end() => {}
            None if silent < SILENT_READS_MAX => silent += 1,
            None => return Ok(true),
        }
    }
    Ok(false)
}
