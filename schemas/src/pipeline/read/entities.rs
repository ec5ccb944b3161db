//! Entities and their fields, held against their Avro schema.

use std::collections::{BTreeMap, BTreeSet};

use super::super::avro::{self, SchemaField};
use super::super::migrate::Migration;
use super::super::model::{DeletePolicy, Entity, Field, FieldKind, Pipeline};
use super::super::rule::{Check as Condition, Group, RuleRef, Strategy, Terms};
use super::super::source::Span;
use super::super::yaml::{Content, Key, Node};
use super::expressions;
use super::fingerprint::fingerprint;
use super::groups::{self, Head};
use super::matching;
use super::migrate;
use super::references;
use super::rules::{Kinds, Rule, Scope, kinds, strategy};
use super::{Check, Keys, Map, suggestion};
use crate::lens::Gives;

const ENTITY: Keys = Keys {
    known: &[
        "schema",
        "fields",
        "groups",
        "checks",
        "on_conflict",
        "kinds",
        "match",
        "references",
        "on_delete",
        "migrate",
    ],
    later: &["subject", "initial"],
};

const POLICIES: [(&str, DeletePolicy); 4] = [
    ("delete_wins", DeletePolicy::DeleteWins),
    ("update_wins", DeletePolicy::UpdateWins),
    ("soft", DeletePolicy::Soft),
    ("ignore", DeletePolicy::Ignore),
];

const HELP_TYPES: &str = "use string, boolean, int, long, float, double, bytes with decimal, date, a timestamp, an array \
                          of string or long, or a union of one of them with null";

/// Gives the text of a file beside the pipeline file, or why it cannot.
pub(in super::super) type Files<'a> = &'a dyn Fn(&str) -> Result<String, String>;

/// A system that a rule names: it must be linked, and where a field is given, read it.
pub(in super::super) struct Named {
    pub(in super::super) entity: String,
    pub(in super::super) field: Option<String>,
    pub(in super::super) system: String,
    pub(in super::super) span: Span,
    pub(in super::super) context: String,
}

/// Reads `kinds` and `entities`; gives the systems that rules name.
pub(in super::super) fn read(
    check: &mut Check<'_>,
    root: &Map<'_>,
    files: Files<'_>,
    pipeline: &mut Pipeline,
) -> Vec<Named> {
    let mut named = Vec::new();
    let shared = root.get("kinds").map(|node| kinds(check, node, "kinds"));
    let shared = shared.unwrap_or_default();
    let defaults = root.get("defaults").and_then(|node| match &node.content {
        Content::Map(entries) => entries
            .iter()
            .find(|(key, _)| key.name == "on_conflict")
            .map(|(_, node)| node),
        _ => None,
    });
    let default = defaults.and_then(|node| strategy(check, node, "defaults"));
    let Some(node) = root.get("entities") else { return named };
    for (key, node) in check.entries(node, "entities").unwrap_or_default() {
        check.name(&key.name, key.span, "entities");
        let mut reader = EntityReader {
            check,
            files,
            name: &key.name,
            named: &mut named,
            own: BTreeSet::new(),
            spans: Vec::new(),
            counted: Vec::new(),
        };
        let entity = reader.entity(node, &shared, default.clone(), pipeline);
        pipeline.entities.push(entity);
    }
    named
}

/// Notes which systems are only read, where that matters, and says so in the rules of the entity. It is known once the
/// links are.
pub(in super::super) fn only_read(pipeline: &mut Pipeline) {
    for place in 0..pipeline.entities.len() {
        let entity = &pipeline.entities[place];
        let is_only_read = |name: &String| {
            let mut links = pipeline.links.iter();
            let mut is_linked = false;
            let is_written = links.any(|link| {
                let is_own = link.entity == entity.name && link.system == *name;
                is_linked |= is_own;
                is_own && link.writes()
            });
            is_linked && !is_written
        };
        let names = pipeline.systems.iter().map(|system| &system.name);
        let names: BTreeSet<String> = names
            .filter(|name| entity.delete_policy(name) == DeletePolicy::DeleteWins && is_only_read(name))
            .cloned()
            .collect();
        if !names.is_empty() {
            pipeline.entities[place].only_read = names;
            pipeline.entities[place].rules = fingerprint(&pipeline.entities[place], pipeline);
        }
    }
}

struct EntityReader<'c, 's, 'a> {
    check: &'c mut Check<'s>,
    files: Files<'a>,
    name: &'a str,
    named: &'c mut Vec<Named>,
    /// Fields with a rule of their own.
    own: BTreeSet<String>,
    /// Where the rule of each field stands.
    spans: Vec<Span>,
    /// Counters, and the fields that their stock-takes are said in.
    counted: Vec<(String, String, Span)>,
}

impl EntityReader<'_, '_, '_> {
    fn entity(&mut self, node: &Node, shared: &Kinds, default: Option<Rule>, pipeline: &Pipeline) -> Entity {
        let context = format!("entities.{}", self.name);
        let map = self.check.map(node, &context, &ENTITY);
        let (version, schema_json, schema) = self.schema(&map, &context);
        let own_kinds = map
            .get("kinds")
            .map(|node| kinds(self.check, node, &format!("{context}.kinds")));
        let own = map
            .get("on_conflict")
            .and_then(|node| strategy(self.check, node, &context));
        let mut scope = Scope {
            kinds: shared,
            own_kinds: own_kinds.unwrap_or_default(),
            of_groups: BTreeMap::new(),
            fallback: own.or(default),
        };
        let heads = map
            .get("groups")
            .map(|node| groups::heads(self.check, node, &context, &mut scope))
            .unwrap_or_default();
        let mut fields = self.fields(&map, &context, &scope, schema.as_deref());
        for uncertain in fields.iter_mut().filter_map(|field| field.terms.uncertain.as_mut()) {
            uncertain.within_us = pipeline.max_clock_skew_ms.saturating_mul(1000);
        }
        self.stock_takes(&fields);
        expressions::circles(self.check, &fields, &self.spans, &context);
        let checks = map
            .get("checks")
            .map(|node| self.checks(node, schema.as_deref().unwrap_or_default(), &context))
            .unwrap_or_default();
        let groups = self.groups(&heads, &fields, &context);
        let (match_on, score) = map
            .get("match")
            .map(|node| matching::read(self.check, node, self.name, &fields))
            .unwrap_or_default();
        let references = map
            .get("references")
            .map(|node| references::read(self.check, node, self.name, &fields, &groups))
            .unwrap_or_default();
        let mut entity = Entity {
            name: self.name.to_owned(),
            version,
            schema_json,
            match_on,
            score,
            references,
            fields,
            groups,
            checks,
            on_delete: BTreeMap::new(),
            default_delete: DeletePolicy::default(),
            migrate: Migration::default(),
            only_read: BTreeSet::new(),
            rules: String::new(),
        };
        if let (Some(node), Some(schema)) = (map.get("migrate"), schema.as_deref()) {
            entity.migrate = migrate::read(self.check, self.files, node, (&entity, schema));
        }
        if let Some(node) = map.get("on_delete") {
            self.on_delete(node, &mut entity);
        }
        entity.rules = fingerprint(&entity, pipeline);
        entity
    }

    /// `path@N`: version, text and fields of the Avro schema.
    fn schema(&mut self, map: &Map<'_>, context: &str) -> (u32, String, Option<Vec<SchemaField>>) {
        let Some(node) = map.get("schema") else {
            self.check.missing(
                map,
                context,
                "schema",
                "name its Avro file and version: `schema: schemas/customer.avsc@1`",
            );
            return (1, String::new(), None);
        };
        let Some(scalar) = self.check.scalar(node, context) else {
            return (1, String::new(), None);
        };
        let parts = scalar.text.rsplit_once('@');
        let parts =
            parts.and_then(|(path, version)| Some((path, version.parse().ok().filter(|version| *version > 0)?)));
        let Some((path, version)) = parts else {
            self.check
                .report("H113", node.span, context, format!("`{}` names no version", scalar.raw))
                .why("the version is part of the canonical topic's name")
                .help("write PATH@N, such as schemas/customer.avsc@1");
            return (1, String::new(), None);
        };
        let (json, fields) = self.schema_file(node, context, path);
        (version, json, fields)
    }

    fn schema_file(&mut self, node: &Node, context: &str, path: &str) -> (String, Option<Vec<SchemaField>>) {
        let json = match (self.files)(path) {
            Ok(json) => json,
            Err(reason) => {
                let report = self
                    .check
                    .report("H201", node.span, context, "the schema file cannot be read");
                report.found(reason).help("paths are relative to the pipeline file");
                return (String::new(), None);
            }
        };
        let fields = avro::fields(&json);
        if let (Ok(known), Err(reason)) = (&fields, crate::codec::CanonicalCodec::new(&json))
            && known.iter().all(|field| field.kind.is_ok())
        {
            let report = self.check.report(
                "H203",
                node.span,
                context,
                "the schema has a type that is not supported",
            );
            report.found(reason.to_string()).help(HELP_TYPES);
        }
        match fields {
            Ok(fields) => (json, Some(fields)),
            Err(reason) => {
                let report = self
                    .check
                    .report("H202", node.span, context, "the schema is no Avro record");
                report
                    .found(reason)
                    .help("an entity's schema is a record with one field for each of its fields");
                (json, None)
            }
        }
    }

    fn fields(
        &mut self,
        map: &Map<'_>,
        context: &str,
        scope: &Scope<'_>,
        schema: Option<&[SchemaField]>,
    ) -> Vec<Field> {
        let Some(node) = map.get("fields") else {
            self.check.missing(
                map,
                context,
                "fields",
                "list the fields to keep in agreement: `fields: { name: latest }`",
            );
            return Vec::new();
        };
        let entries = self
            .check
            .entries(node, &format!("{context}.fields"))
            .unwrap_or_default();
        let fields: Vec<Field> = entries
            .iter()
            .map(|(key, node)| self.field(key, node, scope, schema))
            .collect();
        for unlisted in schema.unwrap_or_default() {
            let listed = fields.iter().any(|field| field.name == unlisted.name);
            if !listed && !unlisted.nullable && !unlisted.has_default {
                let title = format!(
                    "`{}` is in the schema, but not among the fields of {}",
                    unlisted.name, self.name
                );
                self.check
                    .report("H208", node.span, context, title)
                    .why("every canonical record would lack a value that its schema requires")
                    .help("add it to `fields`, or make it nullable in the schema");
            }
        }
        fields
    }

    fn field(&mut self, key: &Key, node: &Node, scope: &Scope<'_>, schema: Option<&[SchemaField]>) -> Field {
        let context = format!("{}.{}", self.name, key.name);
        if matches!(key.name.as_str(), "key" | "*") {
            self.check
                .report(
                    "H114",
                    key.span,
                    &context,
                    format!("a field cannot be called `{}`", key.name),
                )
                .why("it has a meaning of its own in links and conflict records")
                .help("rename it in the schema and here");
        }
        let found = schema.and_then(|schema| schema.iter().find(|field| field.name == key.name));
        let kind = match (schema, found) {
            (Some(schema), None) => {
                let help = suggestion(&key.name, schema.iter().map(|field| field.name.as_str()));
                let title = format!("the schema of {} has no field `{}`", self.name, key.name);
                self.check.report("H204", key.span, &context, title).help(help);
                None
            }
            (_, found) => found.and_then(|found| self.kind(key, found, &context)),
        };
        let rule = scope.rule(self.check, key, node, &context);
        if let (Some(rule), Some(kind)) = (&rule, kind) {
            self.fits(&rule.strategy, kind, rule.span, &context);
        }
        if rule.as_ref().is_some_and(|rule| rule.own) {
            self.own.insert(key.name.clone());
        }
        let span = rule.as_ref().map_or(key.span, |rule| rule.span);
        let (strategy, terms) = rule.map_or((Strategy::Latest, Terms::default()), |rule| (rule.strategy, rule.terms));
        let named = [
            Some(&strategy),
            terms.otherwise.as_ref(),
            terms.uncertain.as_ref().map(|one| &one.then),
            terms.expires.as_ref().map(|one| &one.then),
        ];
        if let (Some(expires), Some(kind)) = (&terms.expires, kind) {
            self.fits(&expires.then, kind, span, &context);
        }
        for strategy in named.into_iter().flatten() {
            self.note_systems(strategy, &key.name, span, &context);
        }
        if strategy == Strategy::MergeText && terms.otherwise.is_none() {
            self.check
                .report("H111", span, &context, format!("`else` is missing in {context}"))
                .why("somebody has to win where two apps changed the same lines")
                .help("say who: `{ on_conflict: merge_text, else: hold }`");
        }
        if let Some(from) = &terms.absolute_from {
            self.counted.push((key.name.clone(), from.clone(), span));
        }
        let record = expressions::names(schema.unwrap_or_default(), "record.");
        if let (Strategy::Rule(rule), Some(kind)) = (&strategy, kind) {
            self.check.rule(rule, kind, span, &record, &context);
        }
        self.spans.push(span);
        let check = self.check_of(node, kind, record, &context);
        let guard = self.guard_of(node, kind, &strategy, &context);
        Field {
            name: key.name.clone(),
            kind: kind.unwrap_or(FieldKind::Text),
            nullable: found.is_some_and(|found| found.nullable),
            strategy,
            terms,
            check,
            guard,
            rule: self.place(span),
        }
    }

    /// `check: "value >= 0"`
    fn check_of(
        &mut self,
        node: &Node,
        kind: Option<FieldKind>,
        mut known: Vec<(String, Gives)>,
        context: &str,
    ) -> Option<Condition> {
        let Content::Map(entries) = &node.content else {
            return None;
        };
        let (_, node) = entries.iter().find(|(key, _)| key.name == "check")?;
        known.push(("value".to_owned(), kind.map_or(Gives::Anything, Gives::from)));
        self.check.condition("value", node, &known, context)
    }

    /// `guard: "abs(new - old) / old > 0.2"`
    fn guard_of(
        &mut self,
        node: &Node,
        kind: Option<FieldKind>,
        strategy: &Strategy,
        context: &str,
    ) -> Option<Condition> {
        let Content::Map(entries) = &node.content else {
            return None;
        };
        let (key, node) = entries.iter().find(|(key, _)| key.name == "guard")?;
        if matches!(strategy, Strategy::Add | Strategy::Union) {
            let title = format!("`guard` cannot hold back what `{strategy}` makes of several edits");
            self.check
                .report("H312", key.span, context, title)
                .why("what an app added or took away has happened, and the others' share of it is not what jumps")
                .help("use `check`, or `min` and `max` of a counter");
            return None;
        }
        let value = kind.map_or(Gives::Anything, Gives::from);
        let known = [("old".to_owned(), value), ("new".to_owned(), value)];
        self.check.condition("guard", node, &known, context)
    }

    /// `checks: { name: "condition" }`
    fn checks(&mut self, node: &Node, schema: &[SchemaField], context: &str) -> Vec<Condition> {
        let context = format!("{context}.checks");
        let known = expressions::names(schema, "");
        let entries = self.check.entries(node, &context).unwrap_or_default();
        entries
            .iter()
            .filter_map(|(key, node)| self.check.condition(&key.name, node, &known, &context))
            .collect()
    }

    fn place(&self, span: Span) -> RuleRef {
        RuleRef {
            file: self.check.source.file().to_owned(),
            line: span.line,
        }
    }

    /// A stock-take is said in a number beside the counter.
    fn stock_takes(&mut self, fields: &[Field]) {
        for (counter, from, span) in std::mem::take(&mut self.counted) {
            let context = format!("{}.{counter}", self.name);
            let found = fields.iter().find(|field| field.name == from && from != counter);
            match found.map(|field| field.kind) {
                Some(FieldKind::Number { .. }) => {}
                Some(kind) => {
                    let report = self
                        .check
                        .report("H205", span, &context, format!("`{from}` is no number"));
                    report
                        .found(format!("the schema says {kind}"))
                        .help("name the field that holds what was counted");
                }
                None => {
                    let others = fields
                        .iter()
                        .map(|field| field.name.as_str())
                        .filter(|name| *name != counter);
                    let help = suggestion(&from, others);
                    let title = format!("{} has no other field `{from}`", self.name);
                    self.check.report("H206", span, &context, title).help(help);
                }
            }
        }
    }

    /// The groups, without the fields that have a rule of their own.
    fn groups(&mut self, heads: &[Head], fields: &[Field], context: &str) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        for head in heads {
            groups.extend(groups::read(self.check, head, fields, &self.own, &groups, context));
        }
        groups
    }

    fn kind(&mut self, key: &Key, found: &SchemaField, context: &str) -> Option<FieldKind> {
        match &found.kind {
            Ok(kind) => Some(*kind),
            Err(what) => {
                let title = format!("the Avro type of {context} is not supported: {what}");
                self.check.report("H203", key.span, context, title).help(HELP_TYPES);
                None
            }
        }
    }

    /// Whether the rule can work on such values.
    fn fits(&mut self, strategy: &Strategy, kind: FieldKind, span: Span, context: &str) {
        let needs = match (strategy, kind) {
            (Strategy::Add, FieldKind::Number { .. }) => return,
            (Strategy::Union, FieldKind::List(_)) => return,
            (Strategy::Longest | Strategy::MergeText, FieldKind::Text)
            | (Strategy::MostRestrictive, FieldKind::Bool) => return,
            (Strategy::Add, _) => "a number",
            (Strategy::Union, _) => "an array",
            (Strategy::Max | Strategy::Min, FieldKind::Bool | FieldKind::List(_)) => "a number, a text or a time",
            (Strategy::Longest | Strategy::MergeText, _) => "a text",
            (Strategy::MostRestrictive, _) => "a boolean that says what is not allowed",
            _ => return,
        };
        self.check
            .report(
                "H205",
                span,
                context,
                format!("`{strategy}` cannot decide about {context}"),
            )
            .found(format!("the schema says {kind}; `{strategy}` needs {needs}"))
            .help("change the type in the schema, or the rule");
    }

    fn note_systems(&mut self, strategy: &Strategy, field: &str, span: Span, context: &str) {
        let systems = match strategy {
            Strategy::Owner(system) => std::slice::from_ref(system),
            Strategy::Order(systems) => systems.as_slice(),
            _ => return,
        };
        let entity = self.name;
        self.named.extend(systems.iter().map(|system| Named {
            entity: entity.to_owned(),
            field: Some(field.to_owned()),
            system: system.clone(),
            span,
            context: context.to_owned(),
        }));
    }

    /// One policy for all, or one for each system.
    fn on_delete(&mut self, node: &Node, entity: &mut Entity) {
        let context = format!("entities.{}.on_delete", self.name);
        let Content::Map(entries) = &node.content else {
            entity.default_delete = self.policy(node, &context).unwrap_or_default();
            return;
        };
        for (key, node) in entries {
            self.named.push(Named {
                entity: self.name.to_owned(),
                field: None,
                system: key.name.clone(),
                span: key.span,
                context: context.clone(),
            });
            let policy = self.policy(node, &context);
            entity.on_delete.extend(policy.map(|policy| (key.name.clone(), policy)));
        }
    }

    fn policy(&mut self, node: &Node, context: &str) -> Option<DeletePolicy> {
        if node.shown() == "hold" {
            let title = "`hold` for deletes is known, but not supported yet".to_owned();
            self.check
                .later_value(node, context, title, "use delete_wins, update_wins, soft or ignore");
            return None;
        }
        self.check.word(node, context, &POLICIES)
    }
}
