//! What a rule says beside its strategy: `else`, `if_uncertain`, `lease`, `queue`, the bounds and stock-takes of counters, when what is
//! held expires, and who approves what a person decides about it.

use super::super::rule::{Beyond, Expires, Strategy, Terms, Uncertain};
use super::super::yaml::{Content, Node};
use super::rules::{Rule, strategy};
use super::settings::duration_ms;
use super::{Check, Map};
use crate::value::Number;

/// Each term, and the strategy that it belongs to.
const TERMS: [(&str, Strategy); 9] = [
    ("else", Strategy::MergeText),
    ("if_uncertain", Strategy::Latest),
    ("lease", Strategy::First),
    ("queue", Strategy::First),
    ("min", Strategy::Add),
    ("max", Strategy::Add),
    ("below_min", Strategy::Add),
    ("above_max", Strategy::Add),
    ("absolute_from", Strategy::Add),
];

const YES_NO: [(&str, bool); 2] = [("true", true), ("false", false)];

const BEYOND: [(&str, Beyond); 2] = [("hold", Beyond::Hold), ("clamp", Beyond::Clamp)];

/// `rule` on the terms in `map`, which add to those that it has from its kind.
pub(super) fn read(check: &mut Check<'_>, map: &Map<'_>, context: &str, mut rule: Rule) -> Rule {
    for (name, of) in &TERMS {
        match map.get(name) {
            Some(node) if rule.strategy == *of => term(check, name, node, context, &mut rule),
            Some(node) => foreign(check, name, of, &rule.strategy, node, context),
            None => {}
        }
    }
    expiry(check, map, context, &mut rule);
    approvers(check, map, context, &mut rule);
    if rule.terms.queue && rule.terms.lease_us.is_none() {
        check
            .report("H111", rule.span, context, format!("`lease` is missing in {context}"))
            .why("an app that is down, or that is only read, receives nothing: who waits for it has to have an end")
            .help("say how long: `{ on_conflict: first, queue: true, lease: 60s }`");
    }
    let bounds = &rule.terms.bounds;
    if let (Some(min), Some(max)) = (&bounds.min, &bounds.max)
        && min > max
    {
        check
            .report("H306", rule.span, context, "`min` is greater than `max`")
            .help("turn them around");
    }
    rule
}

/// `expires: 48h, then: [billing, crm]`
fn expiry(check: &mut Check<'_>, map: &Map<'_>, context: &str, rule: &mut Rule) {
    let (after, then) = (map.get("expires"), map.get("then"));
    let Some(node) = after.or(then) else { return };
    if !may_hold(&rule.strategy, &rule.terms) && map.get("guard").is_none() {
        let title = format!("nothing is held by `{}`, so nothing can expire", rule.strategy);
        check
            .report("H309", node.span, context, title)
            .found("a deadline belongs to `hold`, to a rule, or to a guard")
            .help("remove it, or decide by `hold`");
        return;
    }
    let (Some(after), Some(then)) = (after, then) else {
        let missing = if after.is_none() { "expires" } else { "then" };
        check
            .report(
                "H111",
                node.span,
                context,
                format!("`{missing}` is missing in {context}"),
            )
            .why("a deadline says when it ends, and what decides from then on")
            .help("write both: `expires: 48h, then: [billing, crm]`");
        return;
    };
    let after_us = duration_ms(check, after, context).map(|ms| ms.saturating_mul(1000));
    let then = decider(check, then, context, "what is held");
    rule.terms.expires = after_us.zip(then).map(|(after_us, then)| Expires { after_us, then });
}

/// `approvers: [ada, bob]`
fn approvers(check: &mut Check<'_>, map: &Map<'_>, context: &str, rule: &mut Rule) {
    let Some(node) = map.get("approvers") else { return };
    if !may_hold(&rule.strategy, &rule.terms) && map.get("guard").is_none() {
        let title = format!("nobody is asked by `{}`, so nobody approves anything", rule.strategy);
        check
            .report("H309", node.span, context, title)
            .found("approvers belong to `hold`, to a rule, or to a guard")
            .help("remove them, or decide by `hold`");
        return;
    }
    rule.terms.approvers = check.texts(node, context).into_iter().map(|(name, _)| name).collect();
}

/// Whether a person may be asked by such a rule.
fn may_hold(strategy: &Strategy, terms: &Terms) -> bool {
    let other = [terms.otherwise.as_ref(), terms.uncertain.as_ref().map(|one| &one.then)];
    matches!(strategy, Strategy::Hold | Strategy::Rule(_)) || other.contains(&Some(&Strategy::Hold))
}

fn foreign(check: &mut Check<'_>, name: &str, of: &Strategy, strategy: &Strategy, node: &Node, context: &str) {
    check
        .report(
            "H309",
            node.span,
            context,
            format!("`{name}` means nothing with `{strategy}`"),
        )
        .found(format!("it belongs to `{of}`"))
        .help(format!("remove it, or decide by `{of}`"));
}

fn term(check: &mut Check<'_>, name: &str, node: &Node, context: &str, rule: &mut Rule) {
    let terms = &mut rule.terms;
    match name {
        "else" => terms.otherwise = otherwise(check, node, context),
        "if_uncertain" => terms.uncertain = uncertain(check, node, context),
        "lease" => terms.lease_us = duration_ms(check, node, context).map(|ms| ms.saturating_mul(1000)),
        "queue" => terms.queue = check.word(node, context, &YES_NO).unwrap_or_default(),
        "min" => terms.bounds.min = number(check, node, context),
        "max" => terms.bounds.max = number(check, node, context),
        "below_min" => terms.bounds.below_min = check.word(node, context, &BEYOND).unwrap_or_default(),
        "above_max" => terms.bounds.above_max = check.word(node, context, &BEYOND).unwrap_or_default(),
        _ => terms.absolute_from = check.text(node, context),
    }
}

/// A strategy that decides between two texts by itself.
fn otherwise(check: &mut Check<'_>, node: &Node, context: &str) -> Option<Strategy> {
    let strategy = strategy(check, node, context)?.strategy;
    if strategy == Strategy::Hold || (decides(&strategy) && strategy != Strategy::MostRestrictive) {
        return Some(strategy);
    }
    let title = format!("`{strategy}` cannot decide between two texts");
    check
        .report("H205", node.span, context, title)
        .help("use latest, first, hold, longest or a list of systems");
    None
}

/// A strategy that decides by itself, and asks nobody.
fn decider(check: &mut Check<'_>, node: &Node, context: &str, what: &str) -> Option<Strategy> {
    let strategy = strategy(check, node, context)?.strategy;
    if decides(&strategy) {
        return Some(strategy);
    }
    check
        .report(
            "H205",
            node.span,
            context,
            format!("`{strategy}` cannot decide about {what}"),
        )
        .help("use a list of systems, latest, first, max, min or longest");
    None
}

fn decides(strategy: &Strategy) -> bool {
    matches!(
        strategy,
        Strategy::Latest
            | Strategy::First
            | Strategy::Order(_)
            | Strategy::Longest
            | Strategy::Max
            | Strategy::Min
            | Strategy::MostRestrictive
    )
}

/// `[crm, shop]`, or `hold`.
fn uncertain(check: &mut Check<'_>, node: &Node, context: &str) -> Option<Uncertain> {
    let then = match &node.content {
        Content::List(_) => strategy(check, node, context)?.strategy,
        _ => check.word(node, context, &[("hold", Strategy::Hold)])?,
    };
    Some(Uncertain { within_us: 0, then })
}

fn number(check: &mut Check<'_>, node: &Node, context: &str) -> Option<Number> {
    let scalar = check.scalar(node, context)?;
    let number = scalar.text.parse().ok();
    if number.is_none() {
        let title = format!("`{}` is no number", scalar.raw);
        check
            .report("H113", node.span, context, title)
            .help("write a number: 0");
    }
    number
}
