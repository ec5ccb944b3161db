//! `match: [{ same: [email] }, { score: { email: 7, "e164(phone, 'GB')": 6, name: 5 }, link: 11, review: 6 }]`: which rows
//! of different apps are one entity.

use super::super::model::{Field, FieldKind, Score};
use super::super::source::Span;
use super::super::yaml::{Content, Node};
use super::{Check, Keys, Map, suggestion};
use crate::lens::{Expr, Gives};
use crate::value::Number;

const MATCH: Keys = Keys {
    known: &["same", "score", "link", "review"],
    later: &[],
};

/// What rows of `entity` are matched by: at first sight by themselves, and among each other.
pub(super) fn read(
    check: &mut Check<'_>,
    node: &Node,
    entity: &str,
    fields: &[Field],
) -> (Vec<Vec<Expr>>, Option<Score>) {
    let context = format!("entities.{entity}.match");
    let Content::List(items) = &node.content else {
        check.shape(node, &context, "a list such as `[{ same: [email] }]`");
        return (Vec::new(), None);
    };
    let mut reader = Matching {
        check,
        entity,
        fields,
        context,
    };
    let (mut lists, mut score) = (Vec::new(), None);
    for item in items {
        let map = reader.check.map(item, &reader.context, &MATCH);
        match map.get("score") {
            None => lists.extend(reader.same(&map)),
            Some(_) if score.is_some() => reader.twice(item.span),
            Some(weights) => score = reader.score(weights, &map, item.span),
        }
    }
    (lists, score)
}

struct Matching<'c, 's, 'a> {
    check: &'c mut Check<'s>,
    entity: &'a str,
    fields: &'a [Field],
    context: String,
}

impl Matching<'_, '_, '_> {
    fn same(&mut self, map: &Map<'_>) -> Option<Vec<Expr>> {
        let Some(node) = map.get("same") else {
            let help = "name the fields: `{ same: [email] }`";
            self.check.missing(map, &self.context, "same", help);
            return None;
        };
        let parts = self.check.texts(node, &self.context).into_iter();
        Some(parts.filter_map(|(text, node)| self.part(&text, node)).collect())
    }

    fn twice(&mut self, span: Span) {
        self.check
            .report("H313", span, &self.context, "`score` is there twice")
            .why("what two rows have in common is weighed once")
            .help("write all weights into one `score`");
    }

    fn score(&mut self, node: &Node, map: &Map<'_>, span: Span) -> Option<Score> {
        if let Some(same) = map.get("same") {
            self.check
                .report(
                    "H313",
                    same.span,
                    &self.context,
                    "`same` and `score` are two ways to match",
                )
                .help("write two entries: `[{ same: [..] }, { score: {..}, link: .., review: .. }]`");
        }
        let mut weights: Vec<(Expr, Number)> = Vec::new();
        let entries = self.check.entries(node, &self.context).unwrap_or_default();
        for (key, node) in entries {
            let part = key.as_node();
            let weight = self.weight(node);
            if let (Some(part), Some(weight)) = (self.part(&key.name, &part), weight) {
                weights.push((part, weight));
            }
        }
        let link = self.bound(map, "link");
        let review = self.bound(map, "review");
        let (link, review) = (link?, review?);
        let sum = weights.iter().fold(Number::zero(), |sum, (_, weight)| &sum + weight);
        if review > link || link > sum {
            let title = format!("no rows can come to this: review {review}, link {link}, all weights {sum}");
            self.check
                .report("H313", span, &self.context, title)
                .why("from `review` on a person is asked, and from `link` on they are one")
                .help("let `review` be at most `link`, and `link` at most what all weights come to");
        }
        Some(Score { weights, link, review })
    }

    fn bound(&mut self, map: &Map<'_>, key: &str) -> Option<Number> {
        match map.get(key) {
            Some(node) => self.weight(node),
            None => {
                let help = "write both: `link: 11, review: 6`; the same number twice asks nobody";
                self.check.missing(map, &self.context, key, help);
                None
            }
        }
    }

    fn weight(&mut self, node: &Node) -> Option<Number> {
        let scalar = self.check.scalar(node, &self.context)?;
        let number = scalar
            .text
            .parse::<Number>()
            .ok()
            .filter(|number| *number > Number::zero());
        if number.is_none() {
            let title = format!("`{}` is no weight", scalar.raw);
            self.check
                .report("H113", node.span, &self.context, title)
                .help("write a number greater than 0: how much it says that two rows hold the same");
        }
        number
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
