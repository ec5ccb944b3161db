//! What identifies the rules of an entity, so that what was decided by others is decided again.

use std::fmt;

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
    if let Some(score) = &entity.score {
        let weights: Vec<String> = score
            .weights
            .iter()
            .map(|(part, weight)| format!("{part}={weight}"))
            .collect();
        say(format!(
            "score {} {} {}",
            weights.join("\u{1}"),
            score.link,
            score.review
        ));
    }
    entity
        .on_delete
        .iter()
        .for_each(|(system, policy)| say(format!("delete {system} {policy}")));
    say(format!("delete * {}", entity.default_delete));
    for lift in &entity.migrate.lifts {
        for made in &lift.into {
            let by = made.by.as_ref().map(ToString::to_string).unwrap_or_default();
            say(format!("lift {} {} {:?} {by}", lift.from, made.field, made.kind));
        }
    }
    entity
        .only_read
        .iter()
        .for_each(|system| say(format!("only read {system}")));
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
        format!(" {:?}", Said(terms))
    }
}

/// Terms as they are hashed. What came later is left out where it says nothing, or every file that said anything beside a
/// strategy before would have other rules now, though it has not changed.
struct Said<'t>(&'t Terms);

impl fmt::Debug for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Terms {
            otherwise,
            uncertain,
            lease_us,
            queue,
            bounds,
            expires,
            absolute_from,
            approvers,
        } = self.0;
        let mut text = f.debug_struct("Terms");
        text.field("otherwise", otherwise)
            .field("uncertain", uncertain)
            .field("lease_us", lease_us)
            .field("bounds", bounds)
            .field("expires", expires)
            .field("absolute_from", absolute_from);
        if !approvers.is_empty() {
            text.field("approvers", approvers);
        }
        if *queue {
            text.field("queue", queue);
        }
        text.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_names_no_approvers_has_the_rules_that_he_had_before_there_were_any() {
        let lease = Terms {
            lease_us: Some(60_000_000),
            ..Terms::NONE
        };
        assert_eq!(
            terms(&lease),
            " Terms { otherwise: None, uncertain: None, lease_us: Some(60000000), bounds: Bounds { min: None, max: None, \
             below_min: Hold, above_max: Hold }, expires: None, absolute_from: None }"
        );
        assert_eq!(terms(&Terms::NONE), "");
    }

    #[test]
    fn approvers_are_part_of_the_rules() {
        let approved = Terms {
            approvers: vec!["ada".to_owned()],
            ..Terms::NONE
        };
        assert!(terms(&approved).ends_with(r#"absolute_from: None, approvers: ["ada"] }"#));
    }
}
