//! What a rule says beside its strategy: `else`, `if_uncertain`, `lease`, and the bounds and stock-takes of counters.

use super::super::rule::{Beyond, Strategy, Uncertain};
use super::super::yaml::{Content, Node};
use super::rules::{Rule, strategy};
use super::settings::duration_ms;
use super::{Check, Map};
use crate::value::Number;

/// Each term, and the strategy that it belongs to.
const TERMS: [(&str, Strategy); 8] = [
    ("else", Strategy::MergeText),
    ("if_uncertain", Strategy::Latest),
    ("lease", Strategy::First),
    ("min", Strategy::Add),
    ("max", Strategy::Add),
    ("below_min", Strategy::Add),
    ("above_max", Strategy::Add),
    ("absolute_from", Strategy::Add),
];

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
    let decides = strategy.decides_by_source() || matches!(strategy, Strategy::Longest | Strategy::Max | Strategy::Min);
    if !decides {
        check
            .report(
                "H205",
                node.span,
                context,
                format!("`{strategy}` cannot decide between two texts"),
            )
            .help("use latest, first, hold, longest or a list of systems");
    }
    decides.then_some(strategy)
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
