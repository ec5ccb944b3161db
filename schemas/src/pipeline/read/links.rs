//! Links: `shop.customers <-> customer: { key: id, name: full_name }`.

use std::collections::BTreeMap;

use super::super::mode::Mode;
use super::super::model::{Direction, Entity, Field, Link, LinkField, Pipeline, System};
use super::super::rule::{Group, RuleRef, Strategy};
use super::super::source::Span;
use super::super::yaml::{Content, Key, Node};
use super::mapping::{self, Mapping};
use super::schedules;
use super::{Check, Keys, Map, suggestion};

/// Names rows of other apps, unless the entity has a field of that name.
const SAME_AS: &str = "same_as";

/// A row of another app that a link names by its key.
struct Claimed {
    system: String,
    entity: String,
    by: String,
    span: Span,
    context: String,
}

/// Says when the link is written, unless the entity has a field of that name.
const MODE: &str = "mode";

/// Schema of a table that names none.
const SCHEMA_DEFAULT: &str = "public";

/// `system.schema.table`, direction, entity.
struct Heading<'a> {
    system: &'a str,
    schema: &'a str,
    table: &'a str,
    direction: Direction,
    entity: &'a str,
}

/// Reads `links` into `pipeline`.
pub(in super::super) fn read(check: &mut Check<'_>, root: &Map<'_>, pipeline: &mut Pipeline) {
    let Some(node) = root.get("links") else { return };
    let mut claimed = Vec::new();
    for (key, node) in check.entries(node, "links").unwrap_or_default() {
        let Some(heading) = heading(&key.name) else {
            check
                .report("H120", key.span, "links", format!("`{}` names no link", key.name))
                .help("write `system.table <-> entity`, with -> (into the entity), <- (out of it) or <-> (both)");
            continue;
        };
        let (system, entity) = ends(check, key, &heading, pipeline);
        let mut link = heading.link(check, key.span);
        let context = key.name.trim();
        unique(check, key, &link, &pipeline.links);
        if let Some(system) = system.filter(|system| link.writes() && system.postgres.is_none()) {
            let title = format!("`{}` is written to, but has no `postgres`", system.name);
            check
                .report("H308", key.span, context, title)
                .help(format!("add `postgres` to systems.{}", system.name));
        }
        LinkReader {
            check,
            context,
            entity,
            link: &mut link,
            claimed: &mut claimed,
            zone: &pipeline.timezone,
        }
        .body(node);
        pipeline.links.push(link);
    }
    for claim in claimed {
        claim.hold(check, pipeline);
    }
}

impl Claimed {
    /// The other app's rows have to be read into the same entity, and told apart by one column.
    fn hold(&self, check: &mut Check<'_>, pipeline: &Pipeline) {
        let others = pipeline
            .links
            .iter()
            .filter(|link| link.entity == self.entity && link.reads());
        let named = others
            .clone()
            .find(|link| link.system == self.system && self.system != self.by);
        let (title, help) = match named {
            Some(link) if link.key.len() == 1 => return,
            Some(link) => (
                format!("rows of {} have a key of {} columns", self.system, link.key.len()),
                "a column can name a row whose key is one column".to_owned(),
            ),
            None => (
                format!("no other link reads {} of {}", self.entity, self.system),
                suggestion(
                    &self.system,
                    others.map(|link| link.system.as_str()).filter(|name| *name != self.by),
                ),
            ),
        };
        check.report("H314", self.span, &self.context, title).help(help);
    }
}

fn heading(text: &str) -> Option<Heading<'_>> {
    let arrows = [
        ("<->", Direction::Both),
        ("->", Direction::Into),
        ("<-", Direction::OutOf),
    ];
    let (table, direction, entity) = arrows
        .into_iter()
        .find_map(|(arrow, direction)| text.split_once(arrow).map(|(a, b)| (a, direction, b)))?;
    let (system, table) = table.trim().split_once('.')?;
    let (schema, table) = table.split_once('.').unwrap_or((SCHEMA_DEFAULT, table));
    let entity = entity.trim();
    let filled = [system, schema, table, entity]
        .iter()
        .all(|part| !part.trim().is_empty());
    (filled && !table.contains('.')).then_some(Heading {
        system,
        schema,
        table,
        direction,
        entity,
    })
}

impl Heading<'_> {
    fn link(&self, check: &Check<'_>, span: Span) -> Link {
        Link {
            system: self.system.to_owned(),
            schema: self.schema.to_owned(),
            table: self.table.to_owned(),
            entity: self.entity.to_owned(),
            direction: self.direction,
            key: Vec::new(),
            fields: Vec::new(),
            same_as: Vec::new(),
            mode: Mode::Live,
            rule: RuleRef {
                file: check.source.file().to_owned(),
                line: span.line,
            },
        }
    }
}

/// The system and the entity that a heading names.
fn ends<'p>(
    check: &mut Check<'_>,
    key: &Key,
    heading: &Heading<'_>,
    pipeline: &'p Pipeline,
) -> (Option<&'p System>, Option<&'p Entity>) {
    let (system, entity) = (pipeline.system(heading.system), pipeline.entity(heading.entity));
    if system.is_none() {
        let help = suggestion(heading.system, pipeline.authority());
        check
            .report(
                "H301",
                key.span,
                &key.name,
                format!("there is no system `{}`", heading.system),
            )
            .help(help);
    }
    if entity.is_none() {
        let help = suggestion(
            heading.entity,
            pipeline.entities.iter().map(|entity| entity.name.as_str()),
        );
        check
            .report(
                "H302",
                key.span,
                &key.name,
                format!("there is no entity `{}`", heading.entity),
            )
            .help(help);
    }
    (system, entity)
}

/// One table of a system speaks for an entity; two could contradict each other with one voice.
fn unique(check: &mut Check<'_>, key: &Key, link: &Link, others: &[Link]) {
    let same = others
        .iter()
        .find(|other| other.system == link.system && other.entity == link.entity);
    if let Some(same) = same {
        let title = format!("`{}` is linked to {} twice", link.system, link.entity);
        check
            .report("H304", key.span, &key.name, title)
            .found(format!("{} is linked in line {}", same.name(), same.rule.line))
            .why("one system has one word on a field; two tables could say two things")
            .help("keep one link, or make the second table a system of its own");
    }
}

struct LinkReader<'c, 's, 'a> {
    check: &'c mut Check<'s>,
    context: &'a str,
    entity: Option<&'a Entity>,
    link: &'a mut Link,
    claimed: &'c mut Vec<Claimed>,
    /// The zone of the file.
    zone: &'a str,
}

impl LinkReader<'_, '_, '_> {
    fn body(&mut self, node: &Node) {
        let entries = self.check.entries(node, self.context).unwrap_or_default();
        match entries.iter().find(|(key, _)| key.name == "key") {
            Some((_, node)) => {
                let columns = self.check.texts(node, self.context);
                self.link.key = columns.into_iter().map(|(column, _)| column).collect();
            }
            None if matches!(node.content, Content::Map(_)) => self.no_key(node),
            None => {}
        }
        let mut columns = BTreeMap::new();
        let of_fields = |key: &Key| key.name != "key" && !self.is_mode(key);
        let (fields, others): (Vec<_>, Vec<_>) = entries.iter().partition(|(key, _)| of_fields(key));
        for (key, node) in fields {
            self.entry(key, node, &mut columns);
        }
        if let Some((_, node)) = others.into_iter().find(|(key, _)| key.name == MODE) {
            self.link.mode = schedules::mode(self.check, node, self.context, self.link, self.zone);
        }
        if self.link.fields.is_empty() && matches!(node.content, Content::Map(_)) && self.entity.is_some() {
            self.check
                .report("H111", node.span, self.context, "the link maps no field")
                .help("add `field: column` for each field that the table holds");
        }
        for group in self.entity.into_iter().flat_map(|entity| &entity.groups) {
            self.whole(group, node);
        }
    }

    /// Whether the key says when the link is written. (An entity that is not there has no fields either.)
    fn is_mode(&self, key: &Key) -> bool {
        key.name == MODE && self.entity.is_none_or(|entity| entity.field(MODE).is_none())
    }

    /// An app that has only a part of a group could not win with it: the rest would be another's.
    fn whole(&mut self, group: &Group, node: &Node) {
        let read = |field: &&String| self.link.field(field).is_some_and(|mapped| mapped.reads);
        let (there, missing): (Vec<&String>, Vec<&String>) = group.fields.iter().partition(read);
        let (Some(_), Some(first)) = (there.first(), missing.first()) else {
            return;
        };
        let title = format!("the link reads only a part of the group `{}`", group.name);
        self.check
            .report("H217", node.span, self.context, title)
            .found(format!("`{first}` is not read"))
            .why("the values of a group always come from one source")
            .help(format!("map `{first}` too, or take it out of the group"));
    }

    fn no_key(&mut self, node: &Node) {
        self.check
            .report("H111", node.span, self.context, "`key` is missing in the link")
            .why("rows are told apart by it")
            .help("add `key: id`, the table's primary key");
    }

    fn entry(&mut self, key: &Key, node: &Node, columns: &mut BTreeMap<String, String>) {
        let field = self.entity.and_then(|entity| entity.field(&key.name));
        if field.is_none() && key.name == SAME_AS {
            return self.same_as(node);
        }
        if let (None, Some(entity)) = (field, self.entity) {
            return self.unknown(key, entity);
        }
        let mapping = Mapping {
            check: self.check,
            context: self.context,
            direction: self.link.direction,
            field,
            key,
        };
        let Some(mut mapped) = mapping.read(node) else { return };
        let group = self.entity.and_then(|entity| entity.group_of(&key.name));
        mapped.group = group.map(|group| group.name.clone());
        self.written_once(&mapped, key, columns);
        if let Some(field) = field {
            self.law(&mapped, field, node);
        }
        self.link.fields.push(mapped);
    }

    /// `same_as: { crm: contact_ref }`
    fn same_as(&mut self, node: &Node) {
        for (key, node) in self.check.entries(node, self.context).unwrap_or_default() {
            let Some(column) = self.check.text(node, self.context) else {
                continue;
            };
            self.link.same_as.push((key.name.clone(), column));
            self.claimed.push(Claimed {
                system: key.name.clone(),
                entity: self.link.entity.clone(),
                by: self.link.system.clone(),
                span: key.span,
                context: self.context.to_owned(),
            });
        }
    }

    fn unknown(&mut self, key: &Key, entity: &Entity) {
        let names = entity.fields.iter().map(|field| field.name.as_str()).chain(["key"]);
        let help = suggestion(&key.name, names);
        let title = format!("{} has no field `{}`", entity.name, key.name);
        self.check.report("H206", key.span, self.context, title).help(help);
    }

    /// Two fields in one column would overwrite each other.
    fn written_once(&mut self, mapped: &LinkField, key: &Key, columns: &mut BTreeMap<String, String>) {
        for (column, _) in &mapped.put {
            if let Some(other) = columns.insert(column.clone(), mapped.field.clone()) {
                let title = format!("column `{column}` is written by {other} and by {}", mapped.field);
                self.check
                    .report("H216", key.span, self.context, title)
                    .why("the later of the two writes would undo the earlier")
                    .help(format!("make one of them read-only: `{}: -> {column}`", mapped.field));
            }
        }
    }

    fn law(&mut self, mapped: &LinkField, field: &Field, node: &Node) {
        let fits = mapped
            .get
            .as_ref()
            .is_none_or(|get| crate::lens::gives(get, field.kind).is_ok());
        if !fits {
            return;
        }
        let Some(finding) = crate::lens::law::broken(mapped, field.nullable && !mapped.set) else {
            return;
        };
        let title = format!(
            "two-way mapping of {}.{} loses part of the value",
            self.link.entity, field.name
        );
        let help = mapping::help_for(mapped);
        self.check
            .report("H214", mapping::put_span(node), self.context, title)
            .found(format!(
                "{} of {} sample values, e.g. {}",
                finding.lost, finding.tried, finding.example
            ))
            .why("each delivery would come back as a new edit and overwrite the other apps")
            .help(help);
    }
}

/// Whether the list of a field is a set.
pub(super) fn is_set(field: Option<&Field>) -> bool {
    field.is_some_and(|field| field.strategy == Strategy::Union)
}

/// The keys of `{ get, put }`.
pub(super) const GET_PUT: Keys = Keys {
    known: &["get", "put"],
    later: &[],
};
