//! A fault that waits for its moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::{Kind, Shared, Side};

/// The moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Somebody connects.
    Connects,
    /// The first message of this kind is about to be passed on.
    Message(Side, Kind),
    /// So many bytes have been passed on since the trap was set; usually that is in the middle of a message.
    Bytes(Side, u64),
}

/// What then happens to the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It ends in order (FIN).
    Cut,
    /// It ends by a reset (RST).
    Reset,
    /// Nothing more arrives on it, and nobody is told: half-open.
    Silence,
    /// The message, and what follows it in its direction, waits until [`Trap::release`]; also when who sent it has gone.
    Hold,
}

/// A trap that was set. It strikes once.
pub struct Trap {
    state: Arc<State>,
    shared: Arc<Shared>,
}

pub(super) struct State {
    when: When,
    pub(super) fault: Fault,
    fired: AtomicBool,
    released: AtomicBool,
    bytes: AtomicU64,
}

impl Trap {
    pub(super) fn new(state: Arc<State>, shared: Arc<Shared>) -> Self {
        Self { state, shared }
    }

    /// Whether it has struck.
    pub fn fired(&self) -> bool {
        self.state.fired.load(Ordering::SeqCst)
    }

    /// Waits until it has struck, at most `within_s` seconds.
    pub fn wait(&self, within_s: u64) -> anyhow::Result<()> {
        let what = format!("the trap {:?} for {:?} to fire", self.state.fault, self.state.when);
        crate::until(&what, within_s, || Ok(self.fired()))
    }

    /// Lets pass what it holds.
    pub fn release(&self) {
        self.state.released.store(true, Ordering::SeqCst);
        self.shared.released.notify_waiters();
    }
}

impl State {
    pub(super) fn new(when: When, fault: Fault) -> Self {
        Self {
            when,
            fault,
            fired: AtomicBool::new(false),
            released: AtomicBool::new(false),
            bytes: AtomicU64::new(0),
        }
    }

    pub(super) fn is_released(&self) -> bool {
        self.released.load(Ordering::SeqCst)
    }

    fn fire(&self) -> bool {
        !self.fired.swap(true, Ordering::SeqCst)
    }

    pub(super) fn catches_connect(&self) -> bool {
        self.when == When::Connects && self.fire()
    }

    /// Whether it strikes this message, and how many of the message's bytes still pass.
    pub(super) fn catches(&self, from: Side, kinds: &[Kind], length: usize) -> Option<usize> {
        match self.when {
            When::Message(side, kind) if side == from && kinds.contains(&kind) && self.fire() => Some(0),
            When::Bytes(side, limit) if side == from => {
                let before = self.bytes.fetch_add(length as u64, Ordering::SeqCst);
                let left = limit.saturating_sub(before);
                let passes = usize::try_from(left).unwrap_or(usize::MAX);
                (passes < length && self.fire()).then_some(passes)
            }
            _ => None,
        }
    }
}
