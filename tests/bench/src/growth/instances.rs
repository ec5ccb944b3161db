//! One topic of two partitions, and one sink or two: each has a partition of its own.

use std::fmt;

use crate::contender::Contender;
use crate::result::Run;
use crate::session::Session;
use crate::sink::{Filled, Order};

const CASE: &str = "growth/instances";
const PARTITIONS: i32 = 2;
const INSTANCES: [Instances; 2] = [Instances(1), Instances(2)];

/// So many at work.
struct Instances(u32);

impl fmt::Display for Instances {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("one"),
            _ => f.write_str("syncline"),
        }
    }
}

/// Runs it if it is asked for.
pub fn cases(session: &Session<'_>) -> anyhow::Result<()> {
    if !session.plan.wants(CASE) {
        return Ok(());
    }
    session.case(CASE, || {
        let filled = Filled::make(session, Order::Key, PARTITIONS)?;
        session.in_turn(CASE, &INSTANCES, |Instances(count)| {
            let run = filled.written_by(session, false, |db| {
                filled.apply(session, db, Contender::ExactlyOnce, *count)
            })?;
            Ok(Run {
                x: Some(f64::from(*count)),
                ..run
            })
        })?;
        filled.forget(session)
    })
}
