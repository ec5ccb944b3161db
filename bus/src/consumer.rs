//! Records in, as a member of a consumer group.
//!
//! A member is static (`group.instance.id`): one that restarts within the session gets its partitions back at once and
//! nobody else notices. Where to begin is never left to the client: it begins at the committed offset, at the
//! beginning if there is none, or where the caller seeks to; an offset that no longer exists is a gap and stops us.
//!
//! librdkafka tells of assignments in a callback within a poll. Here they become events like any other, and take
//! effect with the poll *after* the one that returned them. That gives the caller room: after `Assigned` to restore
//! state and to seek, before anything is fetched; after `Revoked` to commit what is done, while the partitions are
//! still its own.
//!
//! The end of a partition is a question of position and not of records: the last offsets may be markers of
//! transactions or records of an aborted one, which no reader ever sees. See `reached`.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::{Offset, TopicPartitionList};
use syncline_runtime::{Failure, Outcome};

use crate::config::REQUEST_TIMEOUT_MS;
use crate::ends::watermarks;
use crate::error::{failure, heals_by_itself};
use crate::queues::{Bell, Fetched, Queues};
use crate::rebalance::{Rebalance, Rebalances};
use crate::{BusConfig, InRecord};

const SEEK_TIMEOUT_MS: u64 = 10_000;
const SEEK_RETRY_MS: u64 = 20;

/// A topic and one of its partitions.
pub type TopicPartition = (String, i32);

/// What a poll found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// These partitions are ours from the next poll on. Now is the time to `seek`.
    Assigned(Vec<TopicPartition>),
    /// These partitions are ours until the next poll. Now is the time to commit.
    Revoked(Vec<TopicPartition>),
    /// A record.
    Record(InRecord),
    /// Nothing for now; perhaps the end of a partition.
    Idle,
}

/// A member of a consumer group.
pub struct GroupConsumer {
    queues: Queues<Rebalances>,
    consumer: Arc<BaseConsumer<Rebalances>>,
    bell: Arc<Bell>,
    group: String,
    due: Option<Due>,
    partitions: BTreeMap<TopicPartition, Place>,
}

/// A rebalance that the caller knows of, but that has not taken effect.
enum Due {
    Assign(BTreeMap<TopicPartition, Option<i64>>),
    Revoke,
}

/// Where we are in a partition.
struct Place {
    /// The next offset to read; markers behind the last record may lie before it.
    position: i64,
    /// Nothing was left to fetch after `position` when it was last asked.
    at_end: bool,
    /// The offset the caller waits for.
    awaited: Option<Awaited>,
}

/// The end of a partition only counts if it was asked for after the caller named its offset: an older answer may
/// still lie in the queue. One seek to where we are makes every later answer a new one.
struct Awaited {
    offset: i64,
    asked_since: bool,
}

fn subscribe(consumer: &BaseConsumer<Rebalances>, group: &str, topics: &[String]) -> Outcome<()> {
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    let subscribed = consumer.subscribe(&names);
    subscribed.map_err(|error| failure(&format!("subscribe {group}"), error))
}

/// The name under which `instance` is a static member while it reads these topics.
///
/// A static member that comes back is given what its predecessor had, without a look at its topics. So one that comes back
/// with others is another member, and gets its share when the session of the first has run out.
fn member(instance: &str, topics: &[String]) -> String {
    let mut sorted: Vec<&String> = topics.iter().collect();
    sorted.sort();
    let mut hasher = DefaultHasher::new();
    sorted.hash(&mut hasher);
    format!("{instance}-{:08x}", hasher.finish() >> 32)
}

impl GroupConsumer {
    /// Joins a group. `instance` names this member within it, and has to be the same after a restart.
    pub fn new(config: &BusConfig, group: &str, instance: &str, topics: &[String]) -> Outcome<Self> {
        let client = config.for_consumer(group, Some(&member(instance, topics)));
        let mut consumer: BaseConsumer<Rebalances> = client
            .create_with_context(Rebalances::default())
            .map_err(|error| failure("create a consumer", error))?;
        let bell = Arc::new(Bell::default());
        let ringer = Arc::clone(&bell);
        consumer.set_nonempty_callback(move || ringer.ring());
        subscribe(&consumer, group, topics)?;
        let consumer = Arc::new(consumer);
        let queues = Queues::new(Arc::clone(&consumer), Arc::clone(&bell));
        Ok(Self {
            queues,
            consumer,
            bell,
            group: group.to_owned(),
            due: None,
            partitions: BTreeMap::new(),
        })
    }

    /// Reads these topics from now on, by way of a `Revoked` and an `Assigned`.
    ///
    /// The member that is in the group has to ask for more: see [`member`] for why making it anew would not do.
    pub fn subscribe(&mut self, topics: &[String]) -> Outcome<()> {
        subscribe(&self.consumer, &self.group, topics)
    }

    /// The next event. `Assigned` comes before any record of the partitions it names.
    pub fn poll(&mut self, timeout: Duration) -> Outcome<Event> {
        self.carry_out()?;
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(event) = self.serve_group()? {
                return Ok(event);
            }
            if let Some(event) = self.serve_partitions()? {
                return Ok(event);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Event::Idle);
            }
            self.bell.wait(left);
        }
    }

    /// News of the group. It comes from the common queue, which has no records: those are in queues of their own.
    fn serve_group(&mut self) -> Outcome<Option<Event>> {
        match self.consumer.poll(Duration::ZERO) {
            None | Some(Err(KafkaError::PartitionEOF(_))) => {}
            Some(Ok(_)) => return Err(Failure::transient("KAFKA_QUEUE", "a record came by the common queue")),
            Some(Err(error)) => self.tolerate(error, None)?,
        }
        match self.consumer.context().next() {
            None => Ok(None),
            Some(Rebalance::Assign(partitions)) => self.announce_assigned(partitions).map(Some),
            Some(Rebalance::Revoke(partitions)) => {
                self.due = Some(Due::Revoke);
                Ok(Some(Event::Revoked(partitions)))
            }
        }
    }

    fn announce_assigned(&mut self, partitions: Vec<TopicPartition>) -> Outcome<Event> {
        let mut committed = self.fetch_committed(&partitions)?;
        let starts = partitions
            .iter()
            .map(|place| (place.clone(), committed.remove(place)))
            .collect();
        self.due = Some(Due::Assign(starts));
        Ok(Event::Assigned(partitions))
    }

    fn serve_partitions(&mut self) -> Outcome<Option<Event>> {
        let Some((at, fetched)) = self.queues.next() else {
            return Ok(None);
        };
        match fetched {
            Fetched::Record(record) => {
                if let Some(place) = self.partitions.get_mut(&at) {
                    (place.position, place.at_end) = (record.offset + 1, false);
                }
                Ok(Some(Event::Record(record)))
            }
            Fetched::End => self.note_end(&at).map(|()| Some(Event::Idle)),
            Fetched::Error(error) => self.tolerate(error, Some(&at)).map(|()| None),
        }
    }

    fn note_end(&mut self, at: &TopicPartition) -> Outcome<()> {
        let Some(place) = self.partitions.get_mut(at) else {
            return Ok(());
        };
        place.at_end = true;
        match &place.awaited {
            Some(awaited) if awaited.asked_since => {
                place.position = place.position.max(awaited.offset);
                Ok(())
            }
            Some(_) => self.ask_again(at),
            None => Ok(()),
        }
    }

    /// librdkafka mends what it can; of the rest, a lost offset can be named.
    fn tolerate(&self, error: KafkaError, at: Option<&TopicPartition>) -> Outcome<()> {
        let fatal = matches!(error, KafkaError::MessageConsumptionFatal(_));
        match (error.rdkafka_error_code(), at) {
            (Some(code), _) if !fatal && heals_by_itself(code) => Ok(()),
            (Some(Code::AutoOffsetReset | Code::OffsetOutOfRange), Some(at)) => Err(self.lost_offset(at)),
            _ => Err(self
                .consumer
                .context()
                .said
                .explain(failure(&format!("consume in {}", self.group), error))),
        }
    }

    fn lost_offset(&self, at: &TopicPartition) -> Failure {
        let position = self.partitions.get(at).map_or(0, |place| place.position);
        match watermarks(&self.consumer, &at.0, at.1) {
            Ok(marks) => in_range(at, position, marks)
                .err()
                .unwrap_or_else(|| gap(at, position, marks)),
            Err(unavailable) => unavailable,
        }
    }

    /// Lets the rebalance take effect that the caller has heard of.
    fn carry_out(&mut self) -> Outcome<()> {
        match self.due.take() {
            None => Ok(()),
            Some(Due::Assign(starts)) => self.assign(starts),
            Some(Due::Revoke) => {
                self.queues.close();
                self.partitions.clear();
                self.consumer
                    .unassign()
                    .map_err(|error| failure("give partitions up", error))
            }
        }
    }

    fn assign(&mut self, starts: BTreeMap<TopicPartition, Option<i64>>) -> Outcome<()> {
        let mut list = TopicPartitionList::with_capacity(starts.len());
        self.partitions.clear();
        for (at, start) in starts {
            let marks = watermarks(&self.consumer, &at.0, at.1)?;
            let (offset, position) = match start {
                Some(offset) => (Offset::Offset(offset), offset),
                None => (Offset::Beginning, marks.0),
            };
            in_range(&at, position, marks)?;
            list.add_partition_offset(&at.0, at.1, offset)
                .map_err(|error| failure("name an offset", error))?;
            self.partitions.insert(
                at,
                Place {
                    position,
                    at_end: false,
                    awaited: None,
                },
            );
        }
        self.queues.open(self.partitions.keys().cloned())?;
        self.consumer
            .assign(&list)
            .map_err(|error| failure("take partitions", error))
    }

    /// Goes on at another offset.
    pub fn seek(&mut self, topic: &str, partition: i32, offset: i64) -> Outcome<()> {
        let at = (topic.to_owned(), partition);
        if let Some(Due::Assign(starts)) = &mut self.due {
            let start = starts.get_mut(&at).ok_or_else(|| not_ours(&at))?;
            *start = Some(offset);
            return Ok(());
        }
        let place = self.partitions.get_mut(&at).ok_or_else(|| not_ours(&at))?;
        (place.position, place.at_end) = (offset, false);
        seek(&self.consumer, &at, offset)
    }

    /// Gives no records of these partitions until they are held no more; they wait where they are, and the others flow. A
    /// new assignment holds none.
    pub fn hold(&mut self, held: BTreeSet<TopicPartition>) {
        self.queues.hold(held);
    }

    /// The next offset to be read; `None` if the partition is not ours. Behind the last record this is past the
    /// markers of transactions only where `reached` was asked.
    pub fn position(&self, topic: &str, partition: i32) -> Option<i64> {
        self.partitions
            .get(&(topic.to_owned(), partition))
            .map(|place| place.position)
    }

    /// Whether everything before `end` has been read, markers and aborted records included; `end` comes from
    /// `admin::end_offsets`. False for a partition that is not ours. Ask again after each poll.
    pub fn reached(&mut self, topic: &str, partition: i32, end: i64) -> Outcome<bool> {
        let at = (topic.to_owned(), partition);
        let Some(place) = self.partitions.get_mut(&at) else {
            return Ok(false);
        };
        if place.position >= end {
            return Ok(true);
        }
        if place.awaited.as_ref().is_none_or(|awaited| awaited.offset < end) {
            place.awaited = Some(Awaited {
                offset: end,
                asked_since: false,
            });
            if place.at_end {
                self.ask_again(&at)?;
            }
        }
        Ok(false)
    }

    /// Whether `reached` holds for every partition named here that is ours; false before the first assignment.
    pub fn caught_up(&mut self, ends: &BTreeMap<TopicPartition, i64>) -> Outcome<bool> {
        if self.partitions.is_empty() {
            return Ok(false);
        }
        let mut all = true;
        for ((topic, partition), end) in ends {
            if self.position(topic, *partition).is_some() {
                all &= self.reached(topic, *partition, *end)?;
            }
        }
        Ok(all)
    }

    fn ask_again(&mut self, at: &TopicPartition) -> Outcome<()> {
        let Some(place) = self.partitions.get_mut(at) else {
            return Ok(());
        };
        if let Some(awaited) = &mut place.awaited {
            awaited.asked_since = true;
        }
        place.at_end = false;
        seek(&self.consumer, at, place.position)
    }

    /// The committed offsets of the partitions that are ours or about to be; those without one are left out.
    pub fn committed(&self) -> Outcome<BTreeMap<TopicPartition, i64>> {
        let partitions: Vec<TopicPartition> = match &self.due {
            Some(Due::Assign(starts)) => starts.keys().cloned().collect(),
            _ => self.partitions.keys().cloned().collect(),
        };
        self.fetch_committed(&partitions)
    }

    /// Fails if one of these partitions, which were read before, would now be read from its beginning because the group's
    /// offset is gone, and that is not the beginning it had: nobody knows what was missed in between.
    pub fn refuse_expired(&self, read_before: &[TopicPartition]) -> Outcome<()> {
        let committed = self.committed()?;
        for (topic, partition) in read_before.iter().filter(|at| !committed.contains_key(*at)) {
            let (first, _) = watermarks(&self.consumer, topic, *partition)?;
            if first > 0 {
                return Err(expired(&self.group, topic, *partition, first));
            }
        }
        Ok(())
    }

    fn fetch_committed(&self, partitions: &[TopicPartition]) -> Outcome<BTreeMap<TopicPartition, i64>> {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for (topic, partition) in partitions {
            list.add_partition(topic, *partition);
        }
        let timeout = Duration::from_millis(REQUEST_TIMEOUT_MS);
        let fetched = self.consumer.committed_offsets(list, timeout);
        let fetched = fetched.map_err(|error| failure(&format!("read the offsets of {}", self.group), error))?;
        let mut committed = BTreeMap::new();
        for element in fetched.elements() {
            element
                .error()
                .map_err(|error| failure(&format!("read the offset of {}", element.topic()), error))?;
            if let Offset::Offset(offset) = element.offset() {
                committed.insert((element.topic().to_owned(), element.partition()), offset);
            }
        }
        Ok(committed)
    }

    /// Shows the group how far we are, without waiting. Only for display: the truth is in the target.
    pub fn commit_display(&self, offsets: &[(String, i32, i64)]) {
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        for (topic, partition, next) in offsets {
            if list
                .add_partition_offset(topic, *partition, Offset::Offset(*next))
                .is_err()
            {
                return tracing::debug!("no offset {next} of {topic}[{partition}] can be shown");
            }
        }
        if let Err(error) = self.consumer.commit(&list, CommitMode::Async) {
            tracing::debug!("the offsets of {} are not shown: {error}", self.group);
        }
    }

    pub(crate) fn metadata(&self) -> Option<ConsumerGroupMetadata> {
        self.consumer.group_metadata()
    }
}

impl Drop for GroupConsumer {
    /// A rebalance that nobody answers would keep the consumer from closing.
    fn drop(&mut self) {
        self.consumer.context().close();
        self.queues.close();
        if self.due.take().is_some() || self.consumer.context().next().is_some() {
            // It is being closed; there is nothing more to do about a failure.
            let _ = self.consumer.unassign();
        }
    }
}

fn not_ours((topic, partition): &TopicPartition) -> Failure {
    Failure::transient("KAFKA_NOT_ASSIGNED", format!("{topic}[{partition}] is not ours"))
}

/// Refuses an offset before the first record or behind the end: either way records are missing, and going on as if
/// nothing had happened would hide it.
pub(crate) fn in_range(at: &TopicPartition, offset: i64, marks: (i64, i64)) -> Outcome<()> {
    if (marks.0..=marks.1).contains(&offset) {
        Ok(())
    } else {
        Err(gap(at, offset, marks))
    }
}

fn gap((topic, partition): &TopicPartition, offset: i64, (first, end): (i64, i64)) -> Failure {
    if offset < first {
        let missing = format!("{topic}[{partition}]: next is {offset}, but the topic begins at {first}");
        return Failure::definite("OFFSET_GONE", format!("{missing}; {} offsets are lost", first - offset))
            .hint("the topic's retention is shorter than the pause; read its source anew");
    }
    Failure::definite(
        "OFFSET_AHEAD",
        format!("{topic}[{partition}]: next is {offset}, but the topic ends at {end}"),
    )
    .hint("the topic was made anew or cut; read its source anew")
}

fn expired(group: &str, topic: &str, partition: i32, first: i64) -> Failure {
    Failure::definite(
        "OFFSETS_EXPIRED",
        format!(
            "{topic}[{partition}] was read before, but Kafka has forgotten up to where, and the topic begins at {first}"
        ),
    )
    .hint(format!(
        "if records may be missing, read their source anew (syncline-capture --resnapshot); then go on from the beginning: \
         kafka-consumer-groups.sh --group {group} --topic {topic} --reset-offsets --to-earliest --execute"
    ))
}

/// A partition that was assigned a moment ago refuses to seek until its fetching has begun.
fn seek(consumer: &BaseConsumer<Rebalances>, at: &TopicPartition, offset: i64) -> Outcome<()> {
    let deadline = Instant::now() + Duration::from_millis(SEEK_TIMEOUT_MS);
    loop {
        let timeout = Duration::from_millis(SEEK_TIMEOUT_MS);
        match consumer.seek(&at.0, at.1, Offset::Offset(offset), timeout) {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() >= deadline => {
                return Err(failure(&format!("seek in {}[{}]", at.0, at.1), error));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(SEEK_RETRY_MS)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(offset: i64, marks: (i64, i64)) -> Option<&'static str> {
        in_range(&("t".to_owned(), 3), offset, marks).err().map(|f| f.code)
    }

    #[test]
    fn an_offset_out_of_range_is_a_gap() {
        assert_eq!(code(5, (5, 9)), None);
        assert_eq!(code(9, (5, 9)), None);
        assert_eq!(code(4, (5, 9)), Some("OFFSET_GONE"));
        assert_eq!(code(10, (5, 9)), Some("OFFSET_AHEAD"));
    }

    #[test]
    fn a_gap_is_named() {
        let failure = gap(&("shop.public.orders".to_owned(), 3), 100, (250, 900));
        assert_eq!(
            failure.message,
            "shop.public.orders[3]: next is 100, but the topic begins at 250; 150 offsets are lost"
        );
    }
}
