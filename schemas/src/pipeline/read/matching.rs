//! `match: [{ same: [email] }, { same: ["e164(phone, 'GB')", name] }]`: which rows of different apps are one entity.

use super::super::model::{Field, FieldKind};
use super::super::yaml::{Content, Node};
use super::{Check, Keys, suggestion};
use crate::lens::{Expr, Gives};

const MATCH: Keys = Keys {
    known: &["same"],
    later: &["score", "link", "review"],
};

/// What rows of `entity` are matched by.
pub(super) fn read(check: &mut Check<'_>, node: &Node, entity: &str, fields: &[Field]) -> Vec<Vec<Expr>> {
    let context = format!("entities.{entity}.match");
    let Content::List(items) = &node.content else {
        check.shape(node, &context, "a list such as `[{ same: [email] }]`");
        return Vec::new();
    };
    let mut reader = Matching {
        check,
        entity,
        fields,
        context,
    };
    items.iter().filter_map(|item| reader.same(item)).collect()
}

struct Matching<'c, 's, 'a> {
    check: &'c mut Check<'s>,
    entity: &'a str,
    fields: &'a [Field],
    context: String,
}

impl Matching<'_, '_, '_> {
    fn same(&mut self, node: &Node) -> Option<Vec<Expr>> {
        let map = self.check.map(node, &self.context, &MATCH);
        let Some(node) = map.get("same") else {
            if !MATCH.later.iter().any(|key| map.get(key).is_some()) {
                let help = "name the fields: `{ same: [email] }`";
                self.check.missing(&map, &self.context, "same", help);
            }
            return None;
        };
        let parts = self.check.texts(node, &self.context).into_iter();
        Some(parts.filter_map(|(text, node)| self.part(&text, node)).collect())
    }

    /// A field, or an expression over fields.
    fn part(&mut self, text: &str, node: &Node) -> Option<Expr> {
        if let Some(field) = self.fields.iter().find(|field| field.name == text) {
            if matches!(field.kind, FieldKind::List(_)) {
                self.check
                    .report("H205", node.span, &self.context, "a list cannot identify an entity")
                    .help("match on single values");
            }
            return Some(Expr::name(text));
        }
        if matches!(text.parse::<Expr>(), Ok(Expr::Name(_))) {
            self.unknown(node);
            return None;
        }
        let known = self.fields.iter();
        let known: Vec<(String, Gives)> = known
            .map(|field| (field.name.clone(), Gives::from(field.kind)))
            .collect();
        self.check.key(node, &known, &self.context)
    }

    fn unknown(&mut self, node: &Node) {
        let help = suggestion(node.shown(), self.fields.iter().map(|field| field.name.as_str()));
        let title = format!("{} has no field `{}`", self.entity, node.shown());
        self.check.report("H206", node.span, &self.context, title).help(help);
    }
}
