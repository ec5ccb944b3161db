//! A topic that Debezium wrote is valid input: to transform and, through it, to an app; and to a replica.

use syncline_tests::debezium::{Fixture, Written};
use syncline_tests::{Stage, World, in_world};

const K_FULL: Fixture = Fixture {
    key: include_str!("../../fixtures/debezium/k_full-key.avsc"),
    value: include_str!("../../fixtures/debezium/k_full-value.avsc"),
    records: include_str!("../../fixtures/debezium/k_full.jsonl"),
};

const SCHEMA: &str = r#"{"type": "record", "name": "Thing", "fields": [
  {"name": "code", "type": ["null", "long"], "default": null},
  {"name": "label", "type": ["null", "string"], "default": null},
  {"name": "amount", "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 8, "scale": 2}], "default": null}]}"#;

const PIPELINE: &str = r#"
pipeline: "${env:PIPELINE}"
defaults: { kafka: "${env:BOOTSTRAP}", registry: "${env:REGISTRY}" }
systems:
  legacy: { capture: debezium, topic_prefix: "${env:LEGACY_PREFIX}" }
  crm:    { postgres: "${env:CRM_DSN}", topic_prefix: "${env:CRM_PREFIX}" }
entities:
  thing:
    schema: thing.avsc@1
    fields: { code: { on_conflict: latest }, label: { on_conflict: latest }, amount: { on_conflict: latest } }
    match:
      - same: [code]
    on_delete: { legacy: delete_wins }
links:
  legacy.public.k_full -> thing: { key: id, code: id, label: v, amount: n }
  crm.public.things <- thing: { key: no, code: code, label: label, amount: amount }
"#;

/// The records before the change of the key, and the rest.
fn written(world: &World) -> anyhow::Result<(String, Vec<Written>)> {
    let prefix = format!("{}_legacy", world.name);
    world.set_env("LEGACY_PREFIX", &prefix);
    let topic = format!("{prefix}.public.k_full");
    world.topics.create(&topic, 1)?;
    let records = K_FULL.encode(&world.topics, &topic, 0x1600_0000)?;
    Ok((topic, records))
}

#[test]
fn what_debezium_wrote_reaches_an_app() {
    let crm = "CREATE TABLE things (no serial PRIMARY KEY, code bigint, label text, amount numeric(8,2))";
    in_world(
        "debezium",
        &[("crm", crm)],
        &[("pipeline.yaml", PIPELINE), ("thing.avsc", SCHEMA)],
        |world| {
            let (topic, records) = written(world)?;
            let things = || {
                world
                    .db("crm")
                    .text("SELECT code, label, amount FROM things ORDER BY code")
            };
            let deliver = || world.work_off(&[Stage::Transform, Stage::Sink]);

            world.topics.write(&topic, &records[..4])?;
            deliver()?;
            assert_eq!(
                things()?,
                "1|one|1.10\n2|two|2.20\n3|drei|3.30",
                "snapshot, insert, update"
            );

            world.topics.write(&topic, &records[4..7])?;
            deliver()?;
            assert_eq!(
                things()?,
                "1|one|1.10\n2|two|2.20\n4|drei|3.30",
                "the key changed, the thing is the same"
            );

            world.topics.write(&topic, &records[..4])?;
            deliver()?;
            assert_eq!(
                things()?,
                "1|one|1.10\n2|two|2.20\n4|drei|3.30",
                "Debezium writes at least once"
            );

            world.topics.write(&topic, &records[7..])?;
            deliver()?;
            assert_eq!(things()?, "1|one|1.10\n2|two|2.20", "deleted");
            assert_eq!(world.dead_letters("map")?.len(), 0);
            Ok(())
        },
    );
}

const REPLICA: &str = r#"
pipeline: "${env:PIPELINE}"
defaults: { kafka: "${env:BOOTSTRAP}", registry: "${env:REGISTRY}" }
systems:
  legacy:    { capture: debezium, topic_prefix: "${env:LEGACY_PREFIX}" }
  warehouse: { postgres: "${env:WAREHOUSE_DSN}", topic_prefix: "${env:WAREHOUSE_PREFIX}" }
replica: { from: legacy, to: warehouse, tables: [public.k_full] }
"#;

#[test]
fn what_debezium_wrote_is_a_replica() {
    in_world(
        "debezium_copy",
        &[("warehouse", "SELECT 1")],
        &[("pipeline.yaml", REPLICA)],
        |world| {
            let (topic, records) = written(world)?;
            let rows = || {
                world
                    .db("warehouse")
                    .text("SELECT id, v, n FROM public.k_full ORDER BY id")
            };
            world.topics.write(&topic, &records[..4])?;
            world.until_current(&Stage::Sink)?;
            assert_eq!(rows()?, "1|one|1.10\n2|two|2.20\n3|drei|3.30");
            world.topics.write(&topic, &records[4..])?;
            world.until_current(&Stage::Sink)?;
            assert_eq!(rows()?, "1|one|1.10\n2|two|2.20");
            world.topics.write(&topic, &records[..4])?;
            world.until_current(&Stage::Sink)?;
            assert_eq!(
                rows()?,
                "1|one|1.10\n2|two|2.20",
                "older never overwrites newer, not even after a delete"
            );
            Ok(())
        },
    );
}
