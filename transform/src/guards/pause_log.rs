//! The topic of pauses, read to its end and then listened to: what one instance pauses, and what a person lets go on, all
//! instances heed.

use std::time::{Duration, Instant};

use syncline_bus::{BusConfig, PartitionReader};
use syncline_runtime::{Failure, Outcome};
use syncline_schemas::codec::Wire;
use syncline_schemas::pause::{PauseRecord, Pauses};

use crate::schemas::Schemas;

/// Between two looks.
const LISTEN_EVERY_MS: u64 = 200;
/// How many records are taken in at one look.
const RECORDS_MAX: usize = 10_000;
const READ_TIMEOUT_MS: u64 = 500;
/// How long a read may bring nothing before it counts as failed.
const SILENCE_MS_MAX: u64 = 60_000;

/// The topic, and what it says.
pub struct PauseLog {
    topic: String,
    reader: Option<PartitionReader>,
    heard_at: Instant,
    /// What it says.
    pub pauses: Pauses,
}

impl PauseLog {
    /// Nothing is read yet.
    pub fn new(topic: String) -> Self {
        Self {
            topic,
            reader: None,
            heard_at: Instant::now(),
            pauses: Pauses::default(),
        }
    }

    /// Reads all of it. Before the first record of an assignment: a transaction that paused a source has been decided then.
    pub fn restore(&mut self, bus: &BusConfig, schemas: &mut Schemas) -> Outcome<()> {
        let mut reader = PartitionReader::open_decided(bus, &self.topic, 0, 0)?;
        let mut pauses = Pauses::default();
        let mut silent_ms = 0;
        while !reader.at_end() {
            match reader.next(Duration::from_millis(READ_TIMEOUT_MS))? {
                Some(record) => {
                    silent_ms = 0;
                    take(&mut pauses, record.value.as_deref(), schemas)?;
                }
                None => silent_ms += READ_TIMEOUT_MS,
            }
            if silent_ms >= SILENCE_MS_MAX {
                let message = format!("{} cannot be read to its end", self.topic);
                return Err(Failure::transient("PAUSES_UNREAD", message));
            }
        }
        self.reader = Some(reader);
        self.pauses = pauses;
        Ok(())
    }

    /// Takes in what was said since, now and then.
    pub fn hear(&mut self, schemas: &mut Schemas) -> Outcome<()> {
        if self.heard_at.elapsed() < Duration::from_millis(LISTEN_EVERY_MS) {
            return Ok(());
        }
        self.heard_at = Instant::now();
        let Some(reader) = &mut self.reader else {
            return Ok(());
        };
        for _ in 0..RECORDS_MAX {
            let Some(record) = reader.next(Duration::ZERO)? else {
                break;
            };
            take(&mut self.pauses, record.value.as_deref(), schemas)?;
        }
        Ok(())
    }
}

/// A record that cannot be read is nobody's word: it is told of and passed over.
fn take(pauses: &mut Pauses, value: Option<&[u8]>, schemas: &mut Schemas) -> Outcome<()> {
    let Some(value) = value else { return Ok(()) };
    match schemas.read(value, PauseRecord::decode)? {
        Ok(record) => pauses.take(record),
        Err(reason) => tracing::warn!(reason, "a record of the topic of pauses cannot be read"),
    }
    Ok(())
}
