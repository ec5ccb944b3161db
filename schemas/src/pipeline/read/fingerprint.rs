//! What identifies the rules of an entity, so that what was decided by others is decided again.

use sha2::{Digest, Sha256};

use super::super::model::{Entity, Pipeline};
use super::super::rule::Terms;

/// The same for files that say the same, wherever and however they say it. The order of systems is part of it, because
/// it breaks ties.
pub(super) fn fingerprint(entity: &Entity, pipeline: &Pipeline) -> String {
    let mut hash = Sha256::new();
    let mut say = |part: String| {
        hash.update(part.as_bytes());
        hash.update([0]);
    };
    say(format!("{}@{}", entity.name, entity.version));
    pipeline.authority().for_each(|system| say(format!("system {system}")));
    for field in &entity.fields {
        say(format!(
            "field {} {:?} {} {}{}",
            field.name,
            field.kind,
            field.nullable,
            field.strategy,
            terms(&field.terms)
        ));
        field
            .check
            .iter()
            .for_each(|check| say(format!("check {}", check.condition)));
        field
            .guard
            .iter()
            .for_each(|guard| say(format!("guard {}", guard.condition)));
    }
    entity
        .checks
        .iter()
        .for_each(|check| say(format!("check {} {}", check.name, check.condition)));
    for group in &entity.groups {
        let fields = group.fields.join("\u{1}");
        say(format!(
            "group {} {fields} {}{}",
            group.name,
            group.strategy,
            terms(&group.terms)
        ));
    }
    for same in &entity.match_on {
        let parts: Vec<String> = same.iter().map(ToString::to_string).collect();
        say(format!("match {}", parts.join("\u{1}")));
    }
    entity
        .on_delete
        .iter()
        .for_each(|(system, policy)| say(format!("delete {system} {policy}")));
    say(format!("delete * {}", entity.default_delete));
    hash.finalize()
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Nothing for terms that say nothing.
fn terms(terms: &Terms) -> String {
    if *terms == Terms::default() {
        String::new()
    } else {
        format!(" {terms:?}")
    }
}
