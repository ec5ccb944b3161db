//! Which rule decides about a field.
//!
//! It is the first of: the field's own, that of its group, that of its kind within the entity, that of its kind, the
//! entity's, the pipeline's. A field without any is an error: a rule nobody chose would lose somebody's data.

use std::collections::BTreeMap;

use super::super::rule::{Strategy, Terms};
use super::super::source::Span;
use super::super::yaml::{Content, Key, Node};
use super::{Check, Keys, Map, suggestion, terms};

const KIND: Keys = Keys {
    known: &[
        "on_conflict",
        "else",
        "if_uncertain",
        "lease",
        "queue",
        "min",
        "max",
        "below_min",
        "above_max",
        "absolute_from",
        "expires",
        "then",
        "approvers",
    ],
    later: &[],
};

const FIELD: Keys = Keys {
    known: &[
        "kind",
        "on_conflict",
        "owner",
        "else",
        "if_uncertain",
        "lease",
        "queue",
        "min",
        "max",
        "below_min",
        "above_max",
        "absolute_from",
        "check",
        "guard",
        "expires",
        "then",
        "approvers",
    ],
    later: &["pii", "for", "group"],
};

/// Strategies that are a word.
const STRATEGIES: [(&str, Strategy); 10] = [
    ("latest", Strategy::Latest),
    ("first", Strategy::First),
    ("hold", Strategy::Hold),
    ("add", Strategy::Add),
    ("union", Strategy::Union),
    ("max", Strategy::Max),
    ("min", Strategy::Min),
    ("longest", Strategy::Longest),
    ("most_restrictive", Strategy::MostRestrictive),
    ("merge_text", Strategy::MergeText),
];

const RULE: Keys = Keys {
    known: &["rule"],
    later: &[],
};

/// A strategy, its terms, and where it stands.
#[derive(Clone)]
pub(super) struct Rule {
    pub(super) strategy: Strategy,
    pub(super) terms: Terms,
    pub(super) span: Span,
    /// Whether it stands at the field itself, so that no group decides about it.
    pub(super) own: bool,
}

impl Rule {
    fn new(strategy: Strategy, span: Span) -> Self {
        Self {
            strategy,
            terms: Terms::default(),
            span,
            own: false,
        }
    }

    fn own(self) -> Self {
        Self { own: true, ..self }
    }
}

/// The rule of each kind; none if it could not be read.
pub(super) type Kinds = BTreeMap<String, Option<Rule>>;

/// What the fields of an entity inherit from.
pub(super) struct Scope<'a> {
    pub(super) kinds: &'a Kinds,
    pub(super) own_kinds: Kinds,
    /// The rule of its group, by field.
    pub(super) of_groups: BTreeMap<String, Rule>,
    pub(super) fallback: Option<Rule>,
}

/// Reads `kinds`, of the file or of an entity.
pub(super) fn kinds(check: &mut Check<'_>, node: &Node, context: &str) -> Kinds {
    let mut kinds = Kinds::new();
    for (key, node) in check.entries(node, context).unwrap_or_default() {
        if STRATEGIES.iter().any(|(name, _)| *name == key.name) {
            let title = format!("a kind cannot be called `{}`", key.name);
            let report = check.report("H114", key.span, context, title);
            report.why("that is the name of a rule").help("choose another name");
        }
        let rule = kind_rule(check, node, &format!("{context}.{}", key.name));
        kinds.insert(key.name.clone(), rule);
    }
    kinds
}

/// `{ on_conflict: rule }`, or the rule alone.
fn kind_rule(check: &mut Check<'_>, node: &Node, context: &str) -> Option<Rule> {
    if !matches!(node.content, Content::Map(_)) || is_expression(node) {
        return strategy(check, node, context);
    }
    let map = check.map(node, context, &KIND);
    if let Some(node) = map.get("on_conflict") {
        let rule = strategy(check, node, context)?;
        return Some(terms::read(check, &map, context, rule));
    }
    let help = "a kind is a rule: `{ on_conflict: latest }`";
    check.missing(&map, context, "on_conflict", help);
    None
}

/// `latest`, or `[shop, crm]`.
pub(super) fn strategy(check: &mut Check<'_>, node: &Node, context: &str) -> Option<Rule> {
    let strategy = match &node.content {
        Content::List(_) => {
            let systems = check.texts(node, context).into_iter().map(|(system, _)| system);
            let systems: Vec<String> = systems.collect();
            (!systems.is_empty()).then_some(Strategy::Order(systems))?
        }
        Content::Map(_) if is_expression(node) => {
            let map = check.map(node, context, &RULE);
            Strategy::Rule(Box::new(check.expression(map.get("rule")?, context)?))
        }
        _ => check.word(node, context, &STRATEGIES)?,
    };
    Some(Rule::new(strategy, node.span))
}

/// `{ rule: ... }`
fn is_expression(node: &Node) -> bool {
    matches!(&node.content, Content::Map(entries) if entries.iter().any(|(key, _)| key.name == "rule"))
}

impl Scope<'_> {
    /// The rule of a field; `node` is what stands behind its name.
    pub(super) fn rule(&self, check: &mut Check<'_>, key: &Key, node: &Node, context: &str) -> Option<Rule> {
        match &node.content {
            _ if node.is_null() => self.inherited(check, key, context),
            Content::List(_) => strategy(check, node, context).map(Rule::own),
            Content::Scalar(scalar) => {
                let word = scalar.text.as_str();
                match STRATEGIES.iter().any(|(name, _)| *name == word) {
                    true => strategy(check, node, context).map(Rule::own),
                    false => self.of_kind(check, node, &key.name, context),
                }
            }
            Content::Map(_) => {
                let map = check.map(node, context, &FIELD);
                let rule = self.of_map(check, key, &map, context)?;
                Some(terms::read(check, &map, context, rule))
            }
        }
    }

    /// `{ kind, on_conflict, owner }`, of a field or of a group.
    pub(super) fn of_map(&self, check: &mut Check<'_>, key: &Key, map: &Map<'_>, context: &str) -> Option<Rule> {
        let (owner, own, kind) = (map.get("owner"), map.get("on_conflict"), map.get("kind"));
        if let (Some(_), Some(own)) = (owner, own) {
            let report = check.report("H306", own.span, context, "a field with an owner has no conflicts");
            report
                .why("the others are never read for it")
                .help("keep `owner` or `on_conflict`");
        }
        if let Some(node) = owner {
            let system = check.text(node, context)?;
            return Some(Rule::new(Strategy::Owner(system), node.span).own());
        }
        let of_kind = kind.map(|node| self.of_kind(check, node, &key.name, context));
        match (own, of_kind) {
            (Some(node), of_kind) => {
                let mut rule = strategy(check, node, context).map(Rule::own)?;
                // What a guard holds waits as long as everything of its kind, and for whom that waits.
                if let Some(kind) = map.get("guard").and(of_kind.flatten()) {
                    rule.terms.expires = kind.terms.expires;
                    rule.terms.approvers = kind.terms.approvers;
                }
                Some(rule)
            }
            (None, Some(of_kind)) => of_kind,
            (None, None) => self.inherited(check, key, context),
        }
    }

    fn of_kind(&self, check: &mut Check<'_>, node: &Node, field: &str, context: &str) -> Option<Rule> {
        let scalar = check.scalar(node, context)?;
        let rule = self
            .own_kinds
            .get(&scalar.text)
            .or_else(|| self.kinds.get(&scalar.text));
        if rule.is_none() {
            let names = self.own_kinds.keys().chain(self.kinds.keys()).map(String::as_str);
            let help = suggestion(&scalar.raw, names.chain(STRATEGIES.iter().map(|(name, _)| *name)));
            let title = format!("there is no kind `{}`", scalar.raw);
            check.report("H302", node.span, context, title).help(help);
        }
        self.of_groups.get(field).or(rule?.as_ref()).cloned()
    }

    /// The rule of the field's group, else of the entity, else of the pipeline.
    fn inherited(&self, check: &mut Check<'_>, key: &Key, context: &str) -> Option<Rule> {
        let rule = self.of_groups.get(&key.name).or(self.fallback.as_ref());
        if rule.is_none() {
            let title = format!("nothing says who wins a conflict about {context}");
            check
                .report("H305", key.span, context, title)
                .why("a rule nobody chose would lose somebody's data")
                .help("give it a kind, or `on_conflict`, or `owner`; `defaults: { on_conflict: hold }` is for all");
        }
        rule.cloned()
    }
}
