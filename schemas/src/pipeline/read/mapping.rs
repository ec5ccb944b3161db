//! One field of a link: `full_name`, `-> last_order`, `<- total`, `{ get: ..., put: { column: ... } }`.

use super::super::model::{Direction, Field, FieldKind, LinkField};
use super::super::yaml::{Content, Key, Node};
use super::Check;
use super::links::{GET_PUT, is_set};
use crate::lens::{self, Expr};

/// What reading a field's mapping needs.
pub(super) struct Mapping<'c, 's, 'a> {
    pub(super) check: &'c mut Check<'s>,
    pub(super) context: &'a str,
    pub(super) direction: Direction,
    /// None if the entity is not known; then only the syntax is checked.
    pub(super) field: Option<&'a Field>,
    pub(super) key: &'a Key,
}

/// The columns that a field is written to, and how.
type Put = Vec<(String, Expr)>;

impl Mapping<'_, '_, '_> {
    /// None if it makes no sense; that has been reported then.
    pub(super) fn read(mut self, node: &Node) -> Option<LinkField> {
        let (reads, get, put) = match &node.content {
            Content::Map(_) => self.get_put(node)?,
            _ => self.short(node)?,
        };
        let kind = self.field.map_or(FieldKind::Text, |field| field.kind);
        Some(LinkField {
            field: self.key.name.clone(),
            kind,
            set: is_set(self.field),
            group: None,
            reads,
            get,
            put,
        })
    }

    /// An expression, with or without an arrow before it.
    fn short(&mut self, node: &Node) -> Option<(bool, Option<Expr>, Put)> {
        let scalar = self.check.scalar(node, self.context)?;
        let text = scalar.text.trim_start();
        let (arrow, rest) = match (text.strip_prefix("->"), text.strip_prefix("<-")) {
            (Some(rest), _) => (Some(Direction::Into), rest),
            (_, Some(rest)) => (Some(Direction::OutOf), rest),
            _ => (None, text),
        };
        let way = self.way(node, arrow)?;
        let skipped = scalar.text.chars().count() - rest.chars().count();
        let get = self.expr(node, rest, skipped)?;
        self.fits(node, &get);
        if way == Direction::Into {
            return Some((true, Some(get), Put::new()));
        }
        let put = lens::invert(&get, &self.key.name);
        if put.is_none() {
            self.no_inverse(node, &get);
        }
        Some((way == Direction::Both, Some(get), vec![put?]))
    }

    /// Where the values of this field may go.
    fn way(&mut self, node: &Node, arrow: Option<Direction>) -> Option<Direction> {
        match (self.direction, arrow) {
            (link, None) => Some(link),
            (Direction::Both, Some(arrow)) => Some(arrow),
            (link, Some(arrow)) if link == arrow => Some(arrow),
            (link, Some(arrow)) => {
                let title = format!("`{arrow}` contradicts the link, which goes `{link}`");
                self.check
                    .report("H122", node.span, self.context, title)
                    .help("make the link `<->`, or leave the field out");
                None
            }
        }
    }

    fn get_put(&mut self, node: &Node) -> Option<(bool, Option<Expr>, Put)> {
        let map = self.check.map(node, self.context, &GET_PUT);
        if map.get("get").is_none() && map.get("put").is_none() {
            self.check.missing(
                &map,
                self.context,
                "get",
                "write `{ get: ..., put: { column: ... } }`, or one of the two",
            );
            return None;
        }
        let get = match map.get("get") {
            Some(node) => Some(self.whole_expr(node)?),
            None => None,
        };
        let put = match map.get("put") {
            Some(node) => self.put(node)?,
            None => Put::new(),
        };
        if let (Some(get), Some(node)) = (&get, map.get("get")) {
            self.fits(node, get);
        }
        self.allowed(node, get.is_some(), &put)?;
        if let (Some(get), false) = (&get, put.is_empty()) {
            self.complete(&map.get("put").map_or(node.span, |node| node.span), get, &put);
        }
        Some((self.direction != Direction::OutOf && get.is_some(), get, put))
    }

    fn allowed(&mut self, node: &Node, get: bool, put: &Put) -> Option<()> {
        let (wrong, help) = match self.direction {
            Direction::Into if !put.is_empty() => ("put", "make the link `<->`, or remove `put`"),
            Direction::Into if !get => ("put", "give `get`"),
            Direction::OutOf if put.is_empty() => ("get", "make the link `<->`, or give `put`"),
            _ => return Some(()),
        };
        let title = format!("`{wrong}` contradicts the link, which goes `{}`", self.direction);
        self.check.report("H122", node.span, self.context, title).help(help);
        None
    }

    fn whole_expr(&mut self, node: &Node) -> Option<Expr> {
        let scalar = self.check.scalar(node, self.context)?;
        self.expr(node, &scalar.text, 0)
    }

    /// Reads `text`, which begins `skipped` characters into the node's.
    fn expr(&mut self, node: &Node, text: &str, skipped: usize) -> Option<Expr> {
        let error = match text.parse() {
            Ok(expr) => return Some(expr),
            Err(error) => error,
        };
        let code = if error.later { "H190" } else { "H121" };
        let span = node.span_at(skipped + error.at, error.width);
        self.check
            .report(code, span, self.context, error.reason)
            .help(error.help);
        None
    }

    /// `{ first: "word(name, 1)", last: "rest(name)" }`: the only name in it is the field's.
    fn put(&mut self, node: &Node) -> Option<Put> {
        let mut put = Put::new();
        for (column, node) in self.check.entries(node, self.context)? {
            let expr = self.whole_expr(node)?;
            if let Some(name) = expr.names().iter().find(|name| **name != self.key.name) {
                let title = format!("`put` knows nothing of `{name}`");
                self.check
                    .report("H217", node.span, self.context, title)
                    .why("what is written is made of the field's value alone")
                    .help(format!("use `{}`, the field itself", self.key.name));
            }
            put.push((column.name.clone(), expr));
        }
        if put.is_empty() {
            self.check.shape(node, self.context, "at least one column");
        }
        (!put.is_empty()).then_some(put)
    }

    fn fits(&mut self, node: &Node, get: &Expr) {
        let Some(field) = self.field else { return };
        if let Err(reason) = lens::gives(get, field.kind) {
            let title = format!("the mapping of {} does not fit its type", field.name);
            let help = "change the expression, or the type in the schema";
            self.check
                .report("H207", node.span, self.context, title)
                .found(reason)
                .help(help);
        }
    }

    /// A column that is read and never written would change the field behind `put`'s back.
    fn complete(&mut self, span: &super::super::source::Span, get: &Expr, put: &Put) {
        let unwritten = get
            .names()
            .into_iter()
            .find(|name| put.iter().all(|(column, _)| column != name));
        if let Some(column) = unwritten {
            let title = format!("`get` reads column `{column}`, `put` does not write it");
            self.check
                .report("H215", *span, self.context, title)
                .why("what is written would not come back as it was")
                .help(format!("add `{column}: ...` to `put`"));
        }
    }

    fn no_inverse(&mut self, node: &Node, get: &Expr) {
        let title = format!("nothing says how {} is written back", self.key.name);
        let field = &self.key.name;
        self.check
            .report("H213", node.span, self.context, title)
            .found(format!("`{get}` has no inverse"))
            .help(format!(
                "write `{{ get: \"{get}\", put: {{ column: ... }} }}`, or `{field}: \"-> {get}\"` to read only"
            ));
    }
}

/// The part of a mapping that loses something: `put`, if it is written out.
pub(super) fn put_span(node: &Node) -> super::super::source::Span {
    let Content::Map(entries) = &node.content else {
        return node.span;
    };
    let put = entries.iter().find(|(key, _)| key.name == "put").map(|(_, node)| node);
    match put.map(|node| &node.content) {
        Some(Content::Map(columns)) => columns.last().map_or(node.span, |(_, node)| node.span),
        _ => node.span,
    }
}

/// What to do about a mapping that loses something.
pub(super) fn help_for(mapped: &LinkField) -> String {
    let get = mapped.get.as_ref().map(ToString::to_string).unwrap_or_default();
    let field = &mapped.field;
    let one_way = format!("make it one-way (`{field}: \"-> {get}\"`)");
    let words = mapped.put.iter().any(|(_, expr)| matches!(expr, Expr::Word(..)));
    let rests = mapped.put.iter().any(|(_, expr)| matches!(expr, Expr::Rest(_)));
    match words && !rests {
        true => format!("use rest({field}) for the last column, or {one_way}"),
        false => format!("map the column as it is, or {one_way}"),
    }
}
