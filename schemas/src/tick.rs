//! What time it is, on `<pipeline>.ticks.<entity>`: one place tells it to every partition, and deadlines go by the greatest
//! that was told. So what has expired is a function of records, and a replay comes to the same.

/// A tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// The time, microseconds since 1970.
    pub at_us: i64,
}
