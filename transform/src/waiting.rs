//! Which changes wait for the rows that they refer to, as far as that is held in memory: nothing here is durable, nothing
//! knows Kafka. What waits is in the changelog `<pipeline>.waiting.<entity>`, and this can be made from it again.
//!
//! A change waits in the lane of its link and partition, in the order of offsets. Whatever comes later and touches a row of
//! one that waits, waits behind it; everything else goes past. What may be looked at again is *ready*: a parent that it
//! lacked has become known, or the change before it has gone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use syncline_bus::consumer::TopicPartition;

/// So many changes may wait in a lane; then its partition is left alone until some have gone.
pub const LANE_ROWS_MAX: usize = 10_000;

/// Which lane: link and entity, topic and partition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LaneAt {
    /// Name of the link.
    pub link: String,
    /// The entity it speaks for.
    pub entity: String,
    /// The capture topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
}

/// One that waits: its lane, and its offset.
pub type WaiterAt = (LaneAt, i64);

/// A change that waits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiter {
    /// The rows that it is about: that under its key, and that under the key it had before.
    pub rows: Vec<String>,
    /// Keys in the crosswalk that it lacks. None of one that waits behind another of its row.
    pub missing: BTreeSet<String>,
    /// When its time is up, milliseconds since 1970, Kafka's time; none of one that waits behind another.
    pub due_ms: Option<i64>,
}

#[derive(Default)]
struct Lane {
    waiters: BTreeMap<i64, Waiter>,
    /// Offsets of those that are about a row.
    rows: BTreeMap<String, BTreeSet<i64>>,
    full_since: Option<Instant>,
}

/// Everything that waits.
#[derive(Default)]
pub struct WaitingRoom {
    lanes: BTreeMap<LaneAt, Lane>,
    /// Who lacks a key.
    lacking: BTreeMap<String, BTreeSet<WaiterAt>>,
    ready: BTreeSet<WaiterAt>,
    /// By parent's link, up to which time every change of its table is mapped, and known here.
    proven_ms: BTreeMap<String, i64>,
}

impl WaitingRoom {
    /// Whether a change of these rows has to wait behind one that comes before `offset`.
    pub fn is_blocked(&self, at: &LaneAt, offset: i64, rows: &[String]) -> bool {
        let Some(lane) = self.lanes.get(at) else { return false };
        let first = |row: &String| lane.rows.get(row).and_then(|offsets| offsets.first());
        rows.iter().filter_map(first).any(|first| *first < offset)
    }

    /// Takes one in, or notes what it lacks now.
    pub fn put(&mut self, at: &LaneAt, offset: i64, waiter: Waiter) {
        self.forget(at, offset);
        let place = (at.clone(), offset);
        for key in &waiter.missing {
            self.lacking.entry(key.clone()).or_default().insert(place.clone());
        }
        let lane = self.lanes.entry(at.clone()).or_default();
        for row in &waiter.rows {
            lane.rows.entry(row.clone()).or_default().insert(offset);
        }
        lane.waiters.insert(offset, waiter);
        if lane.waiters.len() >= LANE_ROWS_MAX {
            lane.full_since.get_or_insert_with(Instant::now);
        }
    }

    /// One has gone; the next of its rows is ready.
    pub fn remove(&mut self, at: &LaneAt, offset: i64) {
        let rows = self.forget(at, offset);
        let Some(lane) = self.lanes.get_mut(at) else { return };
        let next = rows.iter().filter_map(|row| lane.rows.get(row)?.first().copied());
        self.ready.extend(next.map(|offset| (at.clone(), offset)));
        if lane.waiters.len() < LANE_ROWS_MAX {
            lane.full_since = None;
        }
        if lane.waiters.is_empty() {
            self.lanes.remove(at);
        }
    }

    fn forget(&mut self, at: &LaneAt, offset: i64) -> Vec<String> {
        let place = (at.clone(), offset);
        self.ready.remove(&place);
        let Some(lane) = self.lanes.get_mut(at) else {
            return Vec::new();
        };
        let Some(waiter) = lane.waiters.remove(&offset) else {
            return Vec::new();
        };
        for row in &waiter.rows {
            if let Some(offsets) = lane.rows.get_mut(row) {
                offsets.remove(&offset);
                if offsets.is_empty() {
                    lane.rows.remove(row);
                }
            }
        }
        for key in &waiter.missing {
            if let Some(places) = self.lacking.get_mut(key) {
                places.remove(&place);
                if places.is_empty() {
                    self.lacking.remove(key);
                }
            }
        }
        waiter.rows
    }

    /// The crosswalk has something new under this key.
    pub fn came(&mut self, key: &str) {
        if let Some(places) = self.lacking.get(key) {
            self.ready.extend(places.iter().cloned());
        }
    }

    /// The crosswalk may have something new under any key.
    pub fn wake_lacking(&mut self) {
        self.ready.extend(self.lacking.values().flatten().cloned());
    }

    /// One is to be looked at.
    pub fn wake(&mut self, at: &LaneAt, offset: i64) {
        self.ready.insert((at.clone(), offset));
    }

    /// The next one to look at, in the order of lanes and offsets.
    pub fn next_ready(&mut self) -> Option<WaiterAt> {
        self.ready.pop_first()
    }

    /// Whether there is any to look at in a lane that `goes` on.
    pub fn has_ready(&self, goes: impl Fn(&LaneAt) -> bool) -> bool {
        self.ready.iter().any(|(at, _)| goes(at))
    }

    /// Whether anything of the partition waits.
    pub fn waits_in(&self, topic: &str, partition: i32) -> bool {
        self.lanes
            .keys()
            .any(|at| at.topic == topic && at.partition == partition)
    }

    /// The partitions of full lanes.
    pub fn full(&self) -> BTreeSet<TopicPartition> {
        let full = self.lanes.iter().filter(|(_, lane)| lane.full_since.is_some());
        full.map(|(at, _)| (at.topic.clone(), at.partition)).collect()
    }

    /// Of lanes that have been full for so long, the older half of those that lack something.
    pub fn stuck(&self, full_for: impl Fn(&LaneAt) -> Duration) -> Vec<WaiterAt> {
        let stuck = self.lanes.iter().filter(|(at, lane)| {
            let since = lane.full_since.map(|since| since.elapsed());
            since.is_some_and(|since| since >= full_for(at))
        });
        let older = |(at, lane): (&LaneAt, &Lane)| -> Vec<WaiterAt> {
            let lacking = lane.waiters.iter().filter(|(_, waiter)| !waiter.missing.is_empty());
            let offsets = lacking.map(|(offset, _)| *offset).take(LANE_ROWS_MAX / 2);
            offsets.map(|offset| (at.clone(), offset)).collect()
        };
        stuck.flat_map(older).collect()
    }

    /// The links of the parents whose time is up by `now_ms`, and of which that is not proven yet.
    pub fn overdue(&self, now_ms: i64) -> BTreeSet<String> {
        let waiters = self.lanes.values().flat_map(|lane| lane.waiters.values());
        let due = waiters.filter_map(|waiter| Some((waiter.due_ms.filter(|due_ms| *due_ms <= now_ms)?, waiter)));
        let links = due.flat_map(|(due_ms, waiter)| waiter.missing.iter().map(move |key| (link_of(key), due_ms)));
        let unproven = links.filter(|(link, due_ms)| !self.is_proven(link, *due_ms));
        unproven.map(|(link, _)| link.to_owned()).collect()
    }

    /// Every change of this parent's table that Kafka had by then is mapped and known here. Those whose time is up are ready.
    pub fn prove(&mut self, link: &str, until_ms: i64) {
        let proven = self.proven_ms.entry(link.to_owned()).or_insert(until_ms);
        *proven = (*proven).max(until_ms);
        for (at, lane) in &self.lanes {
            let due = lane.waiters.iter().filter(|(_, waiter)| {
                waiter.due_ms.is_some_and(|due_ms| due_ms <= until_ms)
                    && waiter.missing.iter().any(|key| link_of(key) == link)
            });
            self.ready.extend(due.map(|(offset, _)| (at.clone(), *offset)));
        }
    }

    /// Whether a row of this link that nobody knows was not known at that time either.
    pub fn is_proven(&self, link: &str, due_ms: i64) -> bool {
        self.proven_ms.get(link).is_some_and(|until_ms| due_ms <= *until_ms)
    }

    /// How many wait, by their link and by that of the first parent that they lack.
    pub fn counts(&self) -> BTreeMap<(String, String), usize> {
        let mut counts = BTreeMap::new();
        for (at, lane) in &self.lanes {
            for waiter in lane.waiters.values() {
                let parent = waiter.missing.first().map_or("", |key| link_of(key));
                *counts.entry((at.link.clone(), parent.to_owned())).or_default() += 1;
            }
        }
        counts
    }
}

/// The link in a key of the crosswalk.
pub fn link_of(key: &str) -> &str {
    key.split_once('|').map_or(key, |(link, _)| link)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane() -> LaneAt {
        LaneAt {
            link: "shop.public.orders".to_owned(),
            entity: "order".to_owned(),
            topic: "shop.public.orders".to_owned(),
            partition: 0,
        }
    }

    fn waiter(row: &str, missing: &[&str], due_ms: i64) -> Waiter {
        Waiter {
            rows: vec![row.to_owned()],
            missing: missing.iter().map(|key| (*key).to_owned()).collect(),
            due_ms: Some(due_ms),
        }
    }

    fn ready(room: &mut WaitingRoom) -> Vec<i64> {
        std::iter::from_fn(|| room.next_ready())
            .map(|(_, offset)| offset)
            .collect()
    }

    #[test]
    fn who_comes_after_one_that_waits_waits_behind_it() {
        let mut room = WaitingRoom::default();
        room.put(&lane(), 5, waiter("a", &["c|1"], 0));
        let rows = |rows: &[&str]| rows.iter().map(|row| (*row).to_owned()).collect::<Vec<_>>();
        assert!(room.is_blocked(&lane(), 6, &rows(&["a"])));
        assert!(
            room.is_blocked(&lane(), 6, &rows(&["b", "a"])),
            "it comes from that row"
        );
        assert!(!room.is_blocked(&lane(), 6, &rows(&["b"])));
        assert!(!room.is_blocked(&lane(), 5, &rows(&["a"])), "not behind itself");
        room.put(
            &lane(),
            6,
            Waiter {
                rows: rows(&["a"]),
                ..Waiter::default()
            },
        );
        room.came("c|2");
        assert!(ready(&mut room).is_empty());
        room.came("c|1");
        assert_eq!(ready(&mut room), [5]);
        room.remove(&lane(), 5);
        assert_eq!(ready(&mut room), [6]);
        room.remove(&lane(), 6);
        assert!(!room.has_ready(|_| true) && room.counts().is_empty() && room.lacking.is_empty());
    }

    #[test]
    fn time_is_up_only_where_it_is_proven() {
        let mut room = WaitingRoom::default();
        room.put(&lane(), 1, waiter("a", &["c|1"], 10));
        room.put(&lane(), 2, waiter("b", &["d|1"], 20));
        assert_eq!(room.overdue(9), BTreeSet::new());
        assert_eq!(room.overdue(10), BTreeSet::from(["c".to_owned()]));
        room.prove("c", 15);
        assert_eq!(ready(&mut room), [1]);
        assert!(room.is_proven("c", 10) && !room.is_proven("c", 16) && !room.is_proven("d", 1));
    }

    #[test]
    fn whoever_lacks_a_key_is_looked_at_when_any_may_have_come() {
        let mut room = WaitingRoom::default();
        room.put(&lane(), 1, waiter("a", &["c|1"], 10));
        room.put(&lane(), 2, waiter("a", &[], 10));
        room.put(&lane(), 3, waiter("b", &["d|1"], 20));
        room.wake_lacking();
        assert_eq!(ready(&mut room), [1, 3], "not who waits behind another");
    }

    #[test]
    fn a_full_lane_is_left_alone_until_one_has_gone() {
        let mut room = WaitingRoom::default();
        for offset in 0..LANE_ROWS_MAX {
            let offset = i64::try_from(offset).unwrap();
            room.put(&lane(), offset, waiter(&offset.to_string(), &["c|1"], 0));
        }
        assert_eq!(room.full(), BTreeSet::from([("shop.public.orders".to_owned(), 0)]));
        let stuck = room.stuck(|_| Duration::ZERO);
        assert_eq!((stuck.len(), stuck[0].1), (LANE_ROWS_MAX / 2, 0), "the older half");
        assert!(room.stuck(|_| Duration::from_secs(600)).is_empty());
        room.remove(&lane(), 0);
        assert!(room.full().is_empty());
    }
}
