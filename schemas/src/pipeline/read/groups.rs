//! `groups: { address: [street, city, zip] }`: fields that win together, by one rule.
//!
//! Read in two steps, because the rule of a group is a rule of its fields: [`heads`] before the fields, [`read`] after
//! them. A field with a rule of its own is decided by that, and is no part of the group. A group without a rule takes the
//! one that its fields have, if that is one.

use std::collections::BTreeSet;

use super::super::model::Field;
use super::super::rule::{Group, RuleRef};
use super::super::source::Span;
use super::super::yaml::{Content, Key, Node};
use super::rules::{Rule, Scope};
use super::{Check, Keys, suggestion};

const GROUP: Keys = Keys {
    known: &["fields", "kind", "on_conflict", "owner"],
    later: &["expires", "then", "approvers", "guard"],
};

/// A group as the file names it.
pub(super) struct Head {
    name: String,
    span: Span,
    fields: Vec<(String, Span)>,
    rule: Option<Rule>,
}

/// Reads `groups`, and tells `scope` the rules of the fields in them.
pub(super) fn heads(check: &mut Check<'_>, node: &Node, context: &str, scope: &mut Scope<'_>) -> Vec<Head> {
    let context = format!("{context}.groups");
    let entries = check.entries(node, &context).unwrap_or_default();
    let heads: Vec<Head> = entries
        .iter()
        .filter_map(|(key, node)| head(check, key, node, &format!("{context}.{}", key.name), scope))
        .collect();
    for head in &heads {
        let ruled = head
            .fields
            .iter()
            .filter_map(|(field, _)| Some((field.clone(), head.rule.clone()?)));
        scope.of_groups.extend(ruled);
    }
    heads
}

/// `[street, city]`, or `{ fields: [street, city], on_conflict: latest }`.
fn head(check: &mut Check<'_>, key: &Key, node: &Node, context: &str, scope: &Scope<'_>) -> Option<Head> {
    let (fields, rule) = match &node.content {
        Content::Map(_) => {
            let map = check.map(node, context, &GROUP);
            let Some(fields) = map.get("fields") else {
                check.missing(
                    &map,
                    context,
                    "fields",
                    "list them: `{ fields: [street, city], on_conflict: latest }`",
                );
                return None;
            };
            let ruled = ["kind", "on_conflict", "owner"]
                .iter()
                .any(|key| map.get(key).is_some());
            let rule = ruled.then(|| scope.of_map(check, key, &map, context)).flatten();
            (fields, rule)
        }
        _ => (node, None),
    };
    let fields = check.texts(fields, context).into_iter();
    Some(Head {
        name: key.name.clone(),
        span: key.span,
        fields: fields.map(|(field, node)| (field, node.span)).collect(),
        rule: rule.map(|rule| Rule { own: false, ..rule }),
    })
}

/// The group, if it makes sense.
pub(super) fn read(
    check: &mut Check<'_>,
    head: &Head,
    fields: &[Field],
    own: &BTreeSet<String>,
    others: &[Group],
    context: &str,
) -> Option<Group> {
    let context = format!("{context}.groups.{}", head.name);
    named_alone(check, head, fields, &context);
    let known = members(check, head, fields, others, &context)?;
    let members: Vec<&Field> = known.into_iter().filter(|field| !own.contains(&field.name)).collect();
    let [first, rest @ ..] = members.as_slice() else {
        alone(check, head, &context);
        return None;
    };
    if rest.is_empty() {
        alone(check, head, &context);
        return None;
    }
    if let Some(other) = rest.iter().find(|field| !same_rule(field, first)) {
        let title = format!("nothing says who wins the group `{}`", head.name);
        check
            .report("H305", head.span, &context, title)
            .found(format!(
                "{} goes by `{}`, {} by `{}`",
                first.name, first.strategy, other.name, other.strategy
            ))
            .help("give the group a rule: `{ fields: [..], on_conflict: latest }`");
        return None;
    }
    if let Some(field) = members.iter().find(|field| field.guard.is_some()) {
        let title = format!("`{}` has a guard and is in the group `{}`", field.name, head.name);
        check
            .report("H312", head.span, &context, title)
            .why("the fields of a group win or wait together, and a jump is seen on one of them")
            .help("give the field a rule of its own, which takes it out of the group, or remove the guard");
        return None;
    }
    let span = head.rule.as_ref().map_or(head.span, |rule| rule.span);
    let then = first.terms.expires.as_ref().map(|expires| &expires.then);
    let deciding = [Some(&first.strategy), then].into_iter().flatten();
    if let Some(strategy) = deciding.into_iter().find(|strategy| !strategy.decides_by_source()) {
        let title = format!("`{strategy}` cannot decide about a group");
        check
            .report("H205", span, &context, title)
            .why("it compares single values; a group has several")
            .help("use latest, first, hold, a list of systems or an owner");
        return None;
    }
    Some(Group {
        name: head.name.clone(),
        fields: members.iter().map(|field| field.name.clone()).collect(),
        strategy: first.strategy.clone(),
        terms: first.terms.clone(),
        rule: head.rule.as_ref().map_or_else(
            || first.rule.clone(),
            |rule| RuleRef {
                file: check.source.file().to_owned(),
                line: rule.span.line,
            },
        ),
    })
}

fn same_rule(left: &Field, right: &Field) -> bool {
    left.strategy == right.strategy && left.terms == right.terms
}

/// Conflicts of the group bear its name.
fn named_alone(check: &mut Check<'_>, head: &Head, fields: &[Field], context: &str) {
    let taken = fields.iter().any(|field| field.name == head.name);
    if taken || matches!(head.name.as_str(), "key" | "*" | "*rows") {
        check
            .report(
                "H114",
                head.span,
                context,
                format!("a group cannot be called `{}`", head.name),
            )
            .why("its conflicts and decisions could not be told from those of a field")
            .help("choose another name");
    }
}

/// A group of one field, or of none.
fn alone(check: &mut Check<'_>, head: &Head, context: &str) {
    let title = format!("the group `{}` has fewer than two fields", head.name);
    check
        .report("H308", head.span, context, title)
        .why("a field with a rule of its own is decided by that, and not with its group")
        .help("name at least two fields that have no `on_conflict` and no `owner` of their own");
}

fn members<'f>(
    check: &mut Check<'_>,
    head: &Head,
    fields: &'f [Field],
    others: &[Group],
    context: &str,
) -> Option<Vec<&'f Field>> {
    let found: Vec<Option<&Field>> = head
        .fields
        .iter()
        .map(|(name, span)| member(check, (name, *span), fields, others, context))
        .collect();
    found.into_iter().collect()
}

fn member<'f>(
    check: &mut Check<'_>,
    (name, span): (&str, Span),
    fields: &'f [Field],
    others: &[Group],
    context: &str,
) -> Option<&'f Field> {
    let Some(field) = fields.iter().find(|field| field.name == *name) else {
        let help = suggestion(name, fields.iter().map(|field| field.name.as_str()));
        check
            .report("H206", span, context, format!("there is no field `{name}`"))
            .help(help);
        return None;
    };
    if let Some(other) = others.iter().find(|group| group.fields.contains(&field.name)) {
        let title = format!("`{name}` is in the group `{}` already", other.name);
        check
            .report("H104", span, context, title)
            .why("it can win with one group only")
            .help("keep it in one of them");
        return None;
    }
    Some(field)
}
