//! `references: { customer: required, parent: { entity: customer, deferred: true } }`: fields that refer to an entity.
//!
//! Read in two steps: [`read`] with the entity, and [`check`] when all entities and links are there. What has to fit is
//! that every app can tell which row is meant, in its own key, and be told so: a column, a link of the same app to the
//! parent's entity, one key column, and the same ways of going.

use super::super::model::{Field, FieldKind, Link, LinkField, Pipeline};
use super::super::reference::{Reference, WAIT_DEFAULT_MS};
use super::super::rule::{Group, RuleRef};
use super::super::source::Span;
use super::super::yaml::{Content, Key, Node};
use super::settings::duration_ms;
use super::{Check, Keys, Map, suggestion};
use crate::lens::Expr;

const REFERENCE: Keys = Keys {
    known: &["entity", "required", "deferred", "wait", "on_delete"],
    later: &[],
};

const NEED: [(&str, bool); 2] = [("required", true), ("optional", false)];
const YES_NO: [(&str, bool); 2] = [("true", true), ("false", false)];
/// What becomes of children whose parent is deleted, and cannot be done.
const DELETES_LATER: [&str; 2] = ["cascade", "null"];

/// Reads `references` of the entity `name`.
pub(super) fn read(
    check: &mut Check<'_>,
    node: &Node,
    name: &str,
    fields: &[Field],
    groups: &[Group],
) -> Vec<Reference> {
    let context = format!("entities.{name}.references");
    let mut references = Vec::new();
    for (key, node) in check.entries(node, &context).unwrap_or_default() {
        let Some(reference) = reference(check, key, node, &context) else {
            continue;
        };
        match fields.iter().find(|field| field.name == key.name) {
            Some(field) => fits(check, &reference, field, key.span, groups, &context),
            None => {
                let help = suggestion(&key.name, fields.iter().map(|field| field.name.as_str()));
                let title = format!("{name} has no field `{}`", key.name);
                check.report("H206", key.span, &context, title).help(help);
            }
        }
        references.push(reference);
    }
    references
}

fn reference(check: &mut Check<'_>, key: &Key, node: &Node, context: &str) -> Option<Reference> {
    if key.name.contains('.') {
        let title = format!(
            "`{}`: references from inside a list are known, but not supported yet",
            key.name
        );
        check
            .report("H190", key.span, context, title)
            .help("make the list's rows an entity of their own, which refers to both");
        return None;
    }
    let mut reference = Reference {
        field: key.name.clone(),
        entity: key.name.clone(),
        required: true,
        deferred: false,
        wait_ms: WAIT_DEFAULT_MS,
        rule: RuleRef {
            file: check.source.file().to_owned(),
            line: key.span.line,
        },
    };
    if !matches!(node.content, Content::Map(_)) {
        reference.required = check.word(node, context, &NEED)?;
        return Some(reference);
    }
    let context = format!("{context}.{}", key.name);
    let map = check.map(node, &context, &REFERENCE);
    if let Some(entity) = check.optional(&map, &context, "entity") {
        reference.entity = entity;
    }
    let mut flag = |name: &str| map.get(name).and_then(|node| check.word(node, &context, &YES_NO));
    reference.required = flag("required").unwrap_or(true);
    reference.deferred = flag("deferred").unwrap_or(false);
    let wait = map.get("wait").and_then(|node| duration_ms(check, node, &context));
    reference.wait_ms = wait.unwrap_or(WAIT_DEFAULT_MS);
    if let Some(node) = map.get("on_delete") {
        on_delete(check, node, &context);
    }
    Some(reference)
}

/// The one policy that there is needs no remembering.
fn on_delete(check: &mut Check<'_>, node: &Node, context: &str) {
    if DELETES_LATER.contains(&node.shown()) {
        let title = format!("`{}` is known, but not supported yet", node.shown());
        let help = "use `restrict`: an app keeps the parent's row as long as rows there refer to it";
        return check.later_value(node, context, title, help);
    }
    check.word(node, context, &[("restrict", ())]);
}

/// Whether the field can be a reference.
fn fits(check: &mut Check<'_>, reference: &Reference, field: &Field, span: Span, groups: &[Group], context: &str) {
    if field.kind != FieldKind::Text {
        check
            .report(
                "H345",
                span,
                context,
                format!("`{}` cannot hold a reference", field.name),
            )
            .found(format!("the schema says {}", field.kind))
            .why("on topics a reference is the parent's entity id, whatever the apps' keys are")
            .help("make it a string in the schema");
    }
    if !field.strategy.decides_by_source() || field.check.is_some() || field.guard.is_some() {
        let what = match field.strategy.decides_by_source() {
            true => "a `check` or `guard`".to_owned(),
            false => format!("`{}`", field.strategy),
        };
        check
            .report("H346", span, context, format!("{what} cannot judge a reference"))
            .why("ids of entities say nothing by their letters")
            .help("use latest, first, hold, a list of systems or an owner");
    }
    if reference.may_be_null() && !field.nullable {
        check
            .report(
                "H345",
                span,
                context,
                format!("`{}` may be null and its type may not", field.name),
            )
            .help("make it a union with null in the schema, or the reference `required`");
    }
    let group = groups.iter().find(|group| group.fields.contains(&field.name));
    if let (true, Some(group)) = (reference.deferred, group) {
        let title = format!("`{}` is deferred and in the group `{}`", field.name, group.name);
        check
            .report("H352", span, context, title)
            .why("the fields of a group are written together, and a deferred one later")
            .help("take it out of the group");
    }
}

/// Checks the references of all entities, now that all entities and links are known.
pub(in super::super) fn check(check: &mut Check<'_>, root: &Map<'_>, pipeline: &Pipeline) {
    let mut circular: Vec<&str> = Vec::new();
    for entity in &pipeline.entities {
        for reference in &entity.references {
            let Some(key) = reference_key(root, &entity.name, &reference.field) else {
                continue;
            };
            let context = format!("entities.{}.references", entity.name);
            if pipeline.entity(&reference.entity).is_none() {
                let names = pipeline.entities.iter().map(|entity| entity.name.as_str());
                let help = suggestion(&reference.entity, names);
                let title = format!("there is no entity `{}`", reference.entity);
                check.report("H302", key.span, &context, title).help(help);
                continue;
            }
            let kept = |reference: &Reference| !reference.deferred;
            let closes = reference.entity == entity.name || pipeline.leads_to(&reference.entity, &entity.name, kept);
            if kept(reference) && closes && !circular.contains(&entity.name.as_str()) {
                circle(check, reference, &entity.name, key.span, &context);
                circular.extend([entity.name.as_str(), reference.entity.as_str()]);
            }
            let weighed = entity.score.iter().flat_map(|score| &score.weights);
            let parts = entity.match_on.iter().flatten().chain(weighed.map(|(part, _)| part));
            let mut parts = parts.map(Expr::names);
            let matched = parts.any(|names| names.contains(&*reference.field));
            if reference.deferred && matched {
                let title = format!("`{}` is deferred and rows are matched by it", reference.field);
                check
                    .report("H352", key.span, &context, title)
                    .why("which entity a row is has to be known before its parent is")
                    .help("match by other fields");
            }
            for link in pipeline.links_of(&entity.name) {
                Linked {
                    check,
                    root,
                    pipeline,
                    link,
                    reference,
                }
                .check();
            }
        }
    }
}

fn circle(check: &mut Check<'_>, reference: &Reference, entity: &str, span: Span, context: &str) {
    let title = match reference.entity == entity {
        true => format!("{entity} refers to itself"),
        false => format!("{entity} refers to {}, which refers back", reference.entity),
    };
    check
        .report("H351", span, context, title)
        .why("of rows that refer to each other none could be written first")
        .help(format!(
            "write `{}: {{ entity: {}, deferred: true }}` at one of them: it is written without the reference, and gets it \
             when the other is there",
            reference.field, reference.entity
        ));
}

/// A reference as one link has it.
struct Linked<'c, 's, 'a> {
    check: &'c mut Check<'s>,
    root: &'c Map<'a>,
    pipeline: &'a Pipeline,
    link: &'a Link,
    reference: &'a Reference,
}

impl Linked<'_, '_, '_> {
    fn check(mut self) {
        let Some(mapped) = self.link.field(&self.reference.field) else {
            return;
        };
        if !is_column(mapped) {
            let title = format!("the reference `{}` is no plain column", mapped.field);
            self.report("H349", title)
                .why("it holds the key of a row as the app has it, and that has to be found again")
                .help(format!(
                    "write `{}: COLUMN`, with or without an arrow before it",
                    mapped.field
                ));
            return;
        }
        let parents = self.pipeline.links_of(&self.reference.entity);
        let Some(parent) = parents.into_iter().find(|parent| parent.system == self.link.system) else {
            let (system, entity) = (self.link.system.clone(), self.reference.entity.clone());
            self.report("H347", format!("`{system}` is not linked to {entity}"))
                .found(format!(
                    "the column holds a key of a row of {system} that no link reads"
                ))
                .help(format!(
                    "add a link `{system}.TABLE <-> {entity}`, or leave the field out of this one"
                ));
            return;
        };
        if parent.key.len() != 1 {
            let title = format!("rows of {} have a key of {} columns", parent.name(), parent.key.len());
            self.report("H348", title)
                .why("one column cannot say which row is meant")
                .help("link the parent by a key of one column");
        }
        self.ways(mapped, parent);
        if mapped.writes() && mapped.put.iter().any(|(column, _)| self.link.key.contains(column)) {
            self.report(
                "H352",
                format!("the reference `{}` is a part of the table's key", mapped.field),
            )
            .why("a row could not be found before its parent is")
            .help(format!("read it only: `{}: -> COLUMN`", mapped.field));
        }
    }

    /// A key that is read comes by a link that is read, and one that is written was made by a link that is written.
    fn ways(&mut self, mapped: &LinkField, parent: &Link) {
        let (name, field) = (parent.name(), &mapped.field);
        if mapped.reads && self.link.reads() && !parent.reads() {
            self.report("H350", format!("`{field}` is read, and {name} is not"))
                .why("which entity the row is that it refers to would never be known")
                .help(format!(
                    "make the link of {name} `<->`, or write the field only: `{field}: <- COLUMN`"
                ));
        }
        if mapped.writes() && !parent.writes() {
            self.report("H350", format!("`{field}` is written, and {name} is not"))
                .why("which row to refer to is known of rows that are written")
                .help(format!(
                    "make the link of {name} `<->`, or read the field only: `{field}: -> COLUMN`"
                ));
        }
    }

    fn report(&mut self, code: &'static str, title: String) -> super::Report<'_> {
        let (heading, span) = link_key(self.root, self.link, &self.reference.field);
        self.check.report(code, span, &heading, title)
    }
}

/// Whether the field is one column, as it is.
fn is_column(mapped: &LinkField) -> bool {
    let Some(Expr::Name(column)) = &mapped.get else {
        return false;
    };
    match mapped.put.as_slice() {
        [] => true,
        [(to, Expr::Name(_))] => to == column,
        _ => false,
    }
}

fn reference_key<'a>(root: &Map<'a>, entity: &str, field: &str) -> Option<&'a Key> {
    let entity = of(root.get("entities")?, entity)?.1;
    Some(of(of(entity, "references")?.1, field)?.0)
}

/// The heading of a link, and where it maps the field.
fn link_key(root: &Map<'_>, link: &Link, field: &str) -> (String, Span) {
    let nowhere = Span {
        line: link.rule.line,
        column: 1,
        width: 1,
    };
    let Some(Content::Map(links)) = root.get("links").map(|node| &node.content) else {
        return (String::new(), nowhere);
    };
    let Some((key, node)) = links.iter().find(|(key, _)| key.span.line == link.rule.line) else {
        return (String::new(), nowhere);
    };
    let span = of(node, field).map_or(key.span, |(key, _)| key.span);
    (key.name.trim().to_owned(), span)
}

/// The entry of a mapping.
fn of<'n>(node: &'n Node, name: &str) -> Option<(&'n Key, &'n Node)> {
    let Content::Map(entries) = &node.content else {
        return None;
    };
    entries
        .iter()
        .find(|(key, _)| key.name == name)
        .map(|(key, node)| (key, node))
}
