//! Expressions over fields: `rule` of a conflict, `check` of a field, `checks` of an entity, parts of `match`; held against the
//! schema.

use super::super::avro::SchemaField;
use super::super::model::{Field, FieldKind};
use super::super::rule::{Check as Condition, RuleRef, Strategy};
use super::super::source::Span;
use super::super::yaml::Node;
use super::{Check, suggestion};
use crate::lens::{self, Expr, Gives};

impl Check<'_> {
    /// An expression, if the text is one.
    pub(super) fn expression(&mut self, node: &Node, context: &str) -> Option<Expr> {
        let scalar = self.scalar(node, context)?;
        let error = match scalar.text.parse() {
            Ok(expr) => return Some(expr),
            Err(error) => error,
        };
        let code = if error.later { "H190" } else { "H121" };
        let span = node.span_at(error.at, error.width);
        self.report(code, span, context, error.reason).help(error.help);
        None
    }

    /// The condition in `node`, where the names are `known`.
    pub(super) fn condition(
        &mut self,
        name: &str,
        node: &Node,
        known: &[(String, Gives)],
        context: &str,
    ) -> Option<Condition> {
        let condition = self.expression(node, context)?;
        if let Err(reason) = lens::condition(&condition, &|name| look_up(name, known)) {
            self.wrong(node.span, context, reason, "a condition is true or false: `value >= 0`");
        }
        Some(Condition {
            name: name.to_owned(),
            condition,
            rule: RuleRef {
                file: self.source.file().to_owned(),
                line: node.span.line,
            },
        })
    }

    /// A part of what rows are matched by, where the names are `known`.
    pub(super) fn key(&mut self, node: &Node, known: &[(String, Gives)], context: &str) -> Option<Expr> {
        let expr = self.expression(node, context)?;
        if let Err(reason) = lens::identifies(&expr, &|name| look_up(name, known)) {
            let help = "match on fields, or on what is made of them: `lower(email)`, `e164(phone, 'GB')`";
            self.wrong(node.span, context, reason, help);
        }
        Some(expr)
    }

    fn wrong(&mut self, span: Span, context: &str, reason: String, help: &str) {
        self.report("H218", span, context, reason).help(help);
    }

    /// The rule of a field that holds a `kind`.
    pub(super) fn rule(&mut self, rule: &Expr, kind: FieldKind, span: Span, known: &[(String, Gives)], context: &str) {
        let value = Gives::from(kind);
        let mut names = vec![
            ("canon".to_owned(), value),
            ("mine".to_owned(), value),
            ("base".to_owned(), value),
            ("mine.app".to_owned(), Gives::Text),
            ("mine.stamp".to_owned(), Gives::Number),
        ];
        names.extend(known.iter().cloned());
        if let Err(reason) = lens::rule(rule, value, &|name| look_up(name, &names)) {
            let help = "such as: mine < canon * 0.95 ? hold('cut > 5 %') : accept()";
            self.wrong(span, context, reason, help);
        }
    }
}

pub(super) fn look_up(name: &str, known: &[(String, Gives)]) -> Result<Gives, String> {
    let found = known.iter().find(|(other, _)| other == name);
    let names = known.iter().map(|(name, _)| name.as_str());
    found
        .map(|(_, gives)| *gives)
        .ok_or_else(|| format!("there is no `{name}` here: {}", suggestion(name, names)))
}

/// The names of an entity's fields as `PREFIX.FIELD`, or bare.
pub(super) fn names(schema: &[SchemaField], prefix: &str) -> Vec<(String, Gives)> {
    let kinds = schema
        .iter()
        .filter_map(|field| Some((&field.name, field.kind.as_ref().ok()?)));
    kinds
        .map(|(name, kind)| (format!("{prefix}{name}"), Gives::from(*kind)))
        .collect()
}

/// A rule may look at what no rule decides: else it would matter which is asked first.
pub(super) fn circles(check: &mut Check<'_>, fields: &[Field], spans: &[Span], context: &str) {
    let ruled = |name: &str| {
        let field = fields.iter().find(|field| field.name == name);
        field.is_some_and(|field| matches!(field.strategy, Strategy::Rule(_)))
    };
    for (field, span) in fields.iter().zip(spans) {
        let Strategy::Rule(rule) = &field.strategy else {
            continue;
        };
        let looked_at = rule.names().into_iter().filter_map(|name| name.strip_prefix("record."));
        for name in looked_at.filter(|name| ruled(name)) {
            check
                .report(
                    "H310",
                    *span,
                    context,
                    format!("the rule of {} looks at `record.{name}`", field.name),
                )
                .why("a rule decides about that too, and neither can be asked first")
                .help("look at a field that another strategy decides");
        }
    }
}
