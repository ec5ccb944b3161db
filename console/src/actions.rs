//! What people did, read and written. Only the console does either.

use syncline_bus::admin::{self, TopicSpec};
use syncline_bus::{OutRecord, Producer};
use syncline_runtime::Outcome;
use syncline_schemas::action::{Action, ActionKind};
use syncline_schemas::codec::Wire;
use syncline_schemas::topic;
use syncline_transform::decide::now_us;

use crate::desk::{Actor, Desk};
use crate::topics;

/// All that people did, in the order of their doing.
pub fn read(desk: &mut Desk) -> Outcome<Vec<Action>> {
    let topic = topic::actions(&desk.pipeline.name);
    let mut values = Vec::new();
    topics::each(&desk.bus, &topic, |record| {
        values.extend(record.value);
        Ok(())
    })?;
    values
        .iter()
        .map(|value| desk.read(&topic, value, Action::decode))
        .collect()
}

/// Actions to be written.
pub struct Actions {
    topic: String,
    schema_id: u32,
    producer: Producer,
}

impl Actions {
    /// Makes the topic if it is missing: one partition, kept for ever.
    pub fn open(desk: &Desk) -> Outcome<Self> {
        let topic = topic::actions(&desk.pipeline.name);
        let mut spec = TopicSpec::new(&topic, 1);
        spec.config.push(("retention.ms".to_owned(), "-1".to_owned()));
        admin::ensure(&desk.bus, &[spec])?;
        Ok(Self {
            schema_id: desk.schemas.register(&topic, Action::schema_json())?,
            producer: Producer::idempotent(&desk.bus)?,
            topic,
        })
    }

    /// Sends one; it is durable after [`Actions::flush`].
    pub fn send(&mut self, kind: ActionKind, subject: &str, concerns: &str, actor: &Actor) -> Outcome<()> {
        let action = Action {
            kind,
            subject: subject.to_owned(),
            concerns: concerns.to_owned(),
            by: actor.by.clone(),
            why: actor.why.clone(),
            at_us: now_us(),
        };
        self.producer.send(&OutRecord {
            topic: &self.topic,
            partition: None,
            key: Some(subject.as_bytes()),
            value: Some(&action.encode(self.schema_id)),
            headers: &[],
            timestamp_ms: None,
        })
    }

    /// Waits until all that was sent is durable.
    pub fn flush(&mut self) -> Outcome<()> {
        self.producer.flush()
    }
}
