//! The queue between the reader's thread and the producing thread: bounded in bytes and in messages, one lock a batch.
//!
//! The reader is asynchronous and the producing thread blocks (librdkafka does), so each side waits in its own way: the
//! one on a `Notify`, the other on a condition variable. The bound may be overshot by one batch, which is what one read
//! held; a reader that finds no room stops reading and leaves the rest to the server. What has been taken counts until the
//! next is asked for: it is still in memory.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use syncline_runtime::failure::{Failure, Outcome};
use tokio::sync::Notify;

/// Messages that were read together, and what they weigh.
#[derive(Debug)]
pub struct Batch<T> {
    /// In order.
    pub items: Vec<T>,
    /// Bytes that they keep in memory.
    pub bytes: usize,
}

/// Bounds of a [`Handover`].
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// In bytes.
    pub bytes_max: usize,
    /// In messages.
    pub items_max: usize,
}

/// The queue.
pub struct Handover<T> {
    bounds: Bounds,
    state: Mutex<State<T>>,
    arrived: Condvar,
    room: Notify,
}

struct State<T> {
    batches: VecDeque<Batch<T>>,
    bytes: usize,
    items: usize,
    /// Of these, bytes and messages that the producing thread is at work on.
    taken: (usize, usize),
    end: Option<End>,
}

enum End {
    Failed(Failure),
    /// The failure has been handed on, or there was none.
    Over,
}

impl<T> Handover<T> {
    /// An empty one.
    pub fn new(bounds: Bounds) -> Self {
        let state = State {
            batches: VecDeque::new(),
            bytes: 0,
            items: 0,
            taken: (0, 0),
            end: None,
        };
        Self {
            bounds,
            state: Mutex::new(state),
            arrived: Condvar::new(),
            room: Notify::new(),
        }
    }

    /// The other thread's panic is no reason for one of ours: the state is whole between any two statements.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a batch. Ask for [`Handover::has_room`] first.
    pub fn push(&self, batch: Batch<T>) {
        if batch.items.is_empty() {
            return;
        }
        let mut state = self.lock();
        state.bytes += batch.bytes;
        state.items += batch.items.len();
        state.batches.push_back(batch);
        drop(state);
        self.arrived.notify_all();
    }

    /// Whether the next batch may come.
    pub fn has_room(&self) -> bool {
        let state = self.lock();
        state.bytes < self.bounds.bytes_max && state.items < self.bounds.items_max
    }

    /// Waits until there is room. Safe to cancel.
    pub async fn room(&self) {
        loop {
            let taken = self.room.notified();
            if self.has_room() {
                return;
            }
            taken.await;
        }
    }

    /// The reader ends, and why.
    pub fn close(&self, result: Outcome<()>) {
        self.lock().end.get_or_insert(match result {
            Ok(()) => End::Over,
            Err(failure) => End::Failed(failure),
        });
        self.arrived.notify_all();
    }

    /// The next batch, or `None` after `wait`. What was read before a failure comes before it.
    pub fn take(&self, wait: Duration) -> Outcome<Option<Batch<T>>> {
        let deadline = Instant::now() + wait;
        let mut state = self.lock();
        let (bytes, items) = std::mem::take(&mut state.taken);
        if items > 0 {
            state.bytes -= bytes;
            state.items -= items;
            self.room.notify_one();
        }
        loop {
            if let Some(batch) = state.batches.pop_front() {
                state.taken = (batch.bytes, batch.items.len());
                return Ok(Some(batch));
            }
            if let Some(end) = &mut state.end {
                return Err(match std::mem::replace(end, End::Over) {
                    End::Failed(failure) => failure,
                    End::Over => Failure::transient("SOURCE_CONNECTION", "the stream is closed"),
                });
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            state = self
                .arrived
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Waits until the reader has ended, at most `wait`. Whether it has.
    pub fn wait_closed(&self, wait: Duration) -> bool {
        let state = self.lock();
        let ended = self
            .arrived
            .wait_timeout_while(state, wait, |state| state.end.is_none());
        ended.unwrap_or_else(PoisonError::into_inner).0.end.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    fn batch(items: Vec<u32>) -> Batch<u32> {
        let bytes = items.len() * 10;
        Batch { items, bytes }
    }

    #[test]
    fn order_is_kept_and_memory_bounded_while_the_consumer_is_slow() {
        let handover = Arc::new(Handover::new(Bounds {
            bytes_max: 100,
            items_max: 1000,
        }));
        let writer = Arc::clone(&handover);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                for first in (0..3000).step_by(3) {
                    writer.room().await;
                    writer.push(batch(vec![first, first + 1, first + 2]));
                    assert!(writer.lock().bytes < 100 + 30);
                }
            });
            writer.close(Ok(()));
        });
        let mut seen = Vec::new();
        while let Ok(taken) = handover.take(Duration::from_secs(10)) {
            seen.extend(taken.unwrap().items);
        }
        thread.join().unwrap();
        assert_eq!(seen, (0..3000).collect::<Vec<_>>());
    }

    #[test]
    fn a_failure_comes_after_what_was_read_before_it() {
        let handover = Handover::new(Bounds {
            bytes_max: 100,
            items_max: 10,
        });
        handover.push(batch(vec![1]));
        handover.close(Err(Failure::definite("SLOT_LOST", "gone")));
        assert_eq!(handover.take(Duration::ZERO).unwrap().unwrap().items, [1]);
        assert_eq!(handover.take(Duration::ZERO).unwrap_err().code, "SLOT_LOST");
        assert_eq!(handover.take(Duration::ZERO).unwrap_err().code, "SOURCE_CONNECTION");
    }

    #[test]
    fn what_is_worked_on_takes_room() {
        let handover = Handover::new(Bounds {
            bytes_max: 10,
            items_max: 10,
        });
        handover.push(batch(vec![1]));
        assert_eq!(handover.take(Duration::ZERO).unwrap().unwrap().items, [1]);
        assert!(!handover.has_room());
        assert!(handover.take(Duration::ZERO).unwrap().is_none());
        assert!(handover.has_room());
    }

    #[test]
    fn nothing_within_the_wait_is_none() {
        let handover = Handover::<u32>::new(Bounds {
            bytes_max: 1,
            items_max: 1,
        });
        assert!(handover.take(Duration::from_millis(1)).unwrap().is_none());
        assert!(!handover.wait_closed(Duration::from_millis(1)));
    }
}
