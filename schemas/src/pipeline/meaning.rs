//! What only shows when the whole file has been read: names that must refer to something that does its part.

use std::collections::BTreeMap;

use super::model::{Pipeline, System};
use super::read::entities::Named;
use super::read::{Check, Map, suggestion};
use super::yaml::{Content, Key};

/// Checks the pipeline as a whole.
pub(super) fn check(check: &mut Check<'_>, root: &Map<'_>, pipeline: &Pipeline, named: &[Named]) {
    named.iter().for_each(|named| linked(check, pipeline, named));
    unshared(check, root, pipeline);
    does_something(check, root, pipeline);
}

/// A system that a rule names exists, is linked to the entity, and says something about the field.
fn linked(check: &mut Check<'_>, pipeline: &Pipeline, named: &Named) {
    let Named {
        entity,
        system,
        span,
        context,
        ..
    } = named;
    if pipeline.system(system).is_none() {
        let help = suggestion(system, pipeline.authority());
        check
            .report("H301", *span, context, format!("there is no system `{system}`"))
            .help(help);
        return;
    }
    let Some(link) = pipeline.links_of(entity).find(|link| link.system == *system) else {
        check
            .report("H303", *span, context, format!("`{system}` is not linked to {entity}"))
            .why("it can never say anything about it")
            .help(format!(
                "add a link `{system}.TABLE <-> {entity}`, or name another system"
            ));
        return;
    };
    let Some(field) = &named.field else { return };
    if !link.field(field).is_some_and(|mapped| mapped.reads) {
        check
            .report(
                "H303",
                *span,
                context,
                format!("`{system}` does not read {entity}.{field}"),
            )
            .found(format!("the link in line {} has no column for it", link.rule.line))
            .help(format!("add `{field}: COLUMN` to that link, or name another system"));
    }
}

/// Two systems with one slot or one topic prefix would be taken for one.
fn unshared(check: &mut Check<'_>, root: &Map<'_>, pipeline: &Pipeline) {
    let mut prefixes = BTreeMap::new();
    let mut slots = BTreeMap::new();
    for system in &pipeline.systems {
        if let Some(other) = prefixes.insert(&system.topic_prefix, &system.name) {
            shared(check, root, system, other, "topic_prefix");
        }
        let slot = (&system.slot, system.postgres.as_ref().map(|secret| secret.expose()));
        if let Some(other) = slots.insert(slot, &system.name) {
            shared(check, root, system, other, "slot");
        }
    }
}

fn shared(check: &mut Check<'_>, root: &Map<'_>, system: &System, other: &str, what: &str) {
    let Some(key) = key_of(root, "systems", &system.name) else {
        return;
    };
    let title = format!("`{}` and `{other}` have the same {what}", system.name);
    check
        .report("H311", key.span, "systems", title)
        .why("their changes could not be told apart")
        .help(format!("give one of them its own `{what}`"));
}

fn does_something(check: &mut Check<'_>, root: &Map<'_>, pipeline: &Pipeline) {
    for entity in &pipeline.entities {
        let mut links = pipeline.links_of(&entity.name).peekable();
        let Some(key) = key_of(root, "entities", &entity.name) else {
            continue;
        };
        if links.peek().is_none() {
            check
                .report(
                    "H307",
                    key.span,
                    "entities",
                    format!("nothing is linked to {}", entity.name),
                )
                .help(format!(
                    "add a link `SYSTEM.TABLE <-> {}`, or remove the entity",
                    entity.name
                ));
        } else if !links.any(|link| link.reads()) {
            check
                .report(
                    "H307",
                    key.span,
                    "entities",
                    format!("nobody says anything about {}", entity.name),
                )
                .found("all its links go `<-`")
                .help("make one of them `<->` or `->`");
        }
    }
    // Capture alone is a use too: other programs read its topics.
    let captures = pipeline
        .systems
        .iter()
        .any(|system| system.tables.is_some() || system.debezium.is_some());
    let says_what = captures || root.get("links").or(root.get("replica")).is_some();
    if pipeline.links.is_empty() && pipeline.replicas.is_empty() && !says_what {
        check.missing(
            root,
            "",
            "links",
            "add `links`, or `replica: { from: SYSTEM, to: SYSTEM }`",
        );
    }
}

/// The key `name` in the top-level mapping `section`.
fn key_of<'a>(root: &Map<'a>, section: &str, name: &str) -> Option<&'a Key> {
    let Content::Map(entries) = &root.get(section)?.content else {
        return None;
    };
    entries.iter().map(|(key, _)| key).find(|key| key.name == name)
}
