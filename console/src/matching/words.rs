//! Words on identity, read and written. The topic has one partition, so they have one order.

use syncline_bus::admin::{self, TopicSpec};
use syncline_bus::{OutRecord, Producer};
use syncline_runtime::Outcome;
use syncline_schemas::codec::Wire;
use syncline_schemas::identity::{IdentityAct, IdentityWord};
use syncline_schemas::topic;
use syncline_transform::decide::now_us;

use crate::desk::{Actor, Desk};
use crate::topics;

/// Shows every word on the identity of an entity's records, with its offset.
pub fn each(desk: &mut Desk, entity: &str, mut see: impl FnMut(i64, IdentityWord) -> Outcome<()>) -> Outcome<()> {
    let topic = topic::identity(&desk.pipeline.name, entity);
    let bus = desk.bus.clone();
    topics::each(&bus, &topic, |record| {
        let Some(value) = record.value else { return Ok(()) };
        see(record.offset, desk.read(&topic, &value, IdentityWord::decode)?)
    })
}

/// The word of a person.
pub fn word(act: IdentityAct, loser: &str, winner: Option<&str>, actor: &Actor) -> IdentityWord {
    IdentityWord {
        act,
        loser: loser.to_owned(),
        winner: winner.map(str::to_owned),
        by: actor.by.clone(),
        why: actor.why.clone(),
        at_us: now_us(),
    }
}

/// Says it; `Ok` when it is durable. The topic is made if transform has not made it yet: one partition, kept for ever.
pub fn say(desk: &Desk, entity: &str, word: &IdentityWord) -> Outcome<()> {
    let topic = topic::identity(&desk.pipeline.name, entity);
    let mut spec = TopicSpec::new(&topic, 1);
    spec.config.push(("retention.ms".to_owned(), "-1".to_owned()));
    admin::ensure(&desk.bus, &[spec])?;
    let schema_id = desk.schemas.register(&topic, IdentityWord::schema_json())?;
    let mut producer = Producer::idempotent(&desk.bus)?;
    producer.send(&OutRecord {
        topic: &topic,
        partition: None,
        key: Some(word.loser.as_bytes()),
        value: Some(&word.encode(schema_id)),
        headers: &[],
        timestamp_ms: None,
    })?;
    producer.flush()
}
