//! Names of topics and subjects: every name is made here and nowhere else.

/// `<source>.<schema>.<table>`: the changes of a table, as Debezium names it. Characters that Kafka refuses become `_`.
pub fn capture(source: &str, schema: &str, table: &str) -> String {
    sanitize(&format!("{source}.{schema}.{table}"))
}

/// `<source>.syncline.progress`: up to where a slot has been captured.
pub fn progress(source: &str) -> String {
    sanitize(&format!("{source}.syncline.progress"))
}

/// `<source>.syncline.tables`: which table each name stood for, and what it waits for (compacted).
pub fn tables(source: &str) -> String {
    sanitize(&format!("{source}.syncline.tables"))
}

/// `<source>.syncline.dead_letters`: rows that capture could not write.
pub fn capture_dead_letters(source: &str) -> String {
    sanitize(&format!("{source}.syncline.dead_letters"))
}

/// `<source>.syncline.marks`: marks that stand in the source's log without a row change, and the end of its snapshots.
pub fn marks(source: &str) -> String {
    sanitize(&format!("{source}.syncline.marks"))
}

/// `<pipeline>.mapped.<entity>`: what each source says.
pub fn mapped(pipeline: &str, entity: &str) -> String {
    sanitize(&format!("{pipeline}.mapped.{entity}"))
}

/// `<pipeline>.crosswalk.<entity>`: entity id of each row (compacted).
pub fn crosswalk(pipeline: &str, entity: &str) -> String {
    sanitize(&format!("{pipeline}.crosswalk.{entity}"))
}

/// `<pipeline>.decisions.<entity>`: what people decided.
pub fn decisions(pipeline: &str, entity: &str) -> String {
    sanitize(&format!("{pipeline}.decisions.{entity}"))
}

/// `<pipeline>.ticks.<entity>`: what time it is (compacted).
pub fn ticks(pipeline: &str, entity: &str) -> String {
    sanitize(&format!("{pipeline}.ticks.{entity}"))
}

/// `<pipeline>.identity.<entity>`: which records are one, as people or the match say (one partition).
pub fn identity(pipeline: &str, entity: &str) -> String {
    sanitize(&format!("{pipeline}.identity.{entity}"))
}

/// `<pipeline>.sightings.<entity>`: what rows say of who they are (one partition, compacted).
pub fn sightings(pipeline: &str, entity: &str) -> String {
    sanitize(&format!("{pipeline}.sightings.{entity}"))
}

/// `<pipeline>.reviews.<entity>`: records that may be one, for a person to look at (compacted).
pub fn reviews(pipeline: &str, entity: &str) -> String {
    sanitize(&format!("{pipeline}.reviews.{entity}"))
}

/// `<pipeline>.waiting.<entity>`: changes of rows whose parents are not known yet (compacted).
pub fn waiting(pipeline: &str, entity: &str) -> String {
    sanitize(&format!("{pipeline}.waiting.{entity}"))
}

/// `<pipeline>.actions`: what people did beside deciding.
pub fn actions(pipeline: &str) -> String {
    sanitize(&format!("{pipeline}.actions"))
}

/// `<pipeline>.pauses`: which sources are paused, why, and who let them go on.
pub fn pauses(pipeline: &str) -> String {
    sanitize(&format!("{pipeline}.pauses"))
}

/// `<pipeline>.guards.<entity>`: what the guards of map remember (compacted).
pub fn guards(pipeline: &str, entity: &str) -> String {
    sanitize(&format!("{pipeline}.guards.{entity}"))
}

/// `<pipeline>.state.<entity>`: changelog of merge (compacted).
pub fn state(pipeline: &str, entity: &str) -> String {
    sanitize(&format!("{pipeline}.state.{entity}"))
}

/// `<pipeline>.canonical.<entity>.v<N>`: the agreed record (compacted).
pub fn canonical(pipeline: &str, entity: &str, version: u32) -> String {
    sanitize(&format!("{pipeline}.canonical.{entity}.v{version}"))
}

/// `<pipeline>.conflicts.<entity>`: every decision.
pub fn conflicts(pipeline: &str, entity: &str) -> String {
    sanitize(&format!("{pipeline}.conflicts.{entity}"))
}

/// `<pipeline>.dlq.<stage>`: records that `map`, `merge` or `sink` could not work on.
pub fn dead_letters(pipeline: &str, stage: &str) -> String {
    sanitize(&format!("{pipeline}.dlq.{stage}"))
}

/// The subject of a topic's keys (Confluent's TopicNameStrategy).
pub fn key_subject(topic: &str) -> String {
    format!("{topic}-key")
}

/// The subject of a topic's values (Confluent's TopicNameStrategy).
pub fn value_subject(topic: &str) -> String {
    format!("{topic}-value")
}

/// A name as Debezium makes it fit: Kafka allows `[A-Za-z0-9._-]` and 249 characters, but neither `.` nor `..`.
pub fn sanitized(name: &str) -> String {
    match name {
        "." | ".." => "_".repeat(name.len()),
        _ => sanitize(name),
    }
}

/// Kafka allows `[A-Za-z0-9._-]` and 249 characters.
fn sanitize(name: &str) -> String {
    name.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') {
                c
            } else {
                '_'
            }
        })
        .take(249)
        .collect()
}

/// Whether this is the canonical topic of an entity, of whichever version.
pub fn is_canonical_of(name: &str, pipeline: &str, entity: &str) -> bool {
    let version_0 = canonical(pipeline, entity, 0);
    let before = version_0.strip_suffix('0').unwrap_or(&version_0);
    let version = name.strip_prefix(before).unwrap_or_default();
    !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topics_of_an_entity_are_known_whichever_version_they_are_of() {
        for version in [1, 10, 205] {
            assert!(is_canonical_of(&canonical("acme", "order", version), "acme", "order"));
        }
        let others = [
            "acme.canonical.orders.v1",
            "acme.canonical.order.v",
            "acme.canonical.order.v1x",
            "x.canonical.order.v1",
        ];
        for other in others {
            assert!(!is_canonical_of(other, "acme", "order"), "{other}");
        }
    }

    #[test]
    fn a_topic_is_named_as_debezium_names_it() {
        assert_eq!(capture("shop", "public", "Odd Täble"), "shop.public.Odd_T_ble");
        assert_eq!(capture("x", "Other-Schema", "t"), "x.Other-Schema.t");
        assert_eq!(value_subject("shop.public.t"), "shop.public.t-value");
        assert_eq!((sanitized(".."), sanitized("a b")), ("__".to_owned(), "a_b".to_owned()));
        assert_eq!(sanitized(&"x".repeat(300)).len(), 249);
    }
}
