//! Allocations, counted by the allocator itself. A program that wants to count says
//! `#[global_allocator] static COUNTING: &Counting = allocations::COUNTING;`, which no library may say for it.

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

/// The system's allocator, counting.
pub type Counting = StatsAlloc<System>;

/// The one that is counted by.
pub const COUNTING: &Counting = &INSTRUMENTED_SYSTEM;

/// What a piece of work asked of the allocator.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Asked {
    /// Allocations for each record, those that moved what was there among them.
    pub times: f64,
    /// Bytes for each record.
    pub bytes: f64,
}

/// What `work`, which is on so many records, asks for. Nobody else may allocate meanwhile.
pub fn asked(records: usize, work: impl FnOnce()) -> Asked {
    let region = Region::new(COUNTING);
    work();
    let change = region.change();
    let of = |count: usize| count as f64 / records.max(1) as f64;
    Asked {
        times: of(change.allocations + change.reallocations),
        bytes: of(change.bytes_allocated),
    }
}
