//! `migrate: { 3->4: { schema: .., fields: { newer: "expression" }, drop: [older] } }`: from version to version, up to
//! the one that the entity has.
//!
//! Every field of every version has to be accounted for: it is there in the next, something is made of it, or it is
//! dropped. A name means the same wherever it is, or an older word would be taken for a newer one.

use std::collections::BTreeSet;

use super::super::avro::{self, SchemaField};
use super::super::migrate::{Lift, Made, Migration};
use super::super::model::{Entity, Field};
use super::super::rule::Strategy;
use super::super::source::Span;
use super::super::yaml::{Content, Key, Node};
use super::entities::Files;
use super::expressions::{look_up, names};
use super::{Check, Keys, suggestion};
use crate::lens::{self, Expr};

/// Whether all fields are accounted for.
mod fields;

use fields::{RENAME, SAME, accounted, find, reused, takes};

const STEP: Keys = Keys {
    known: &["schema", "fields", "drop"],
    later: &[],
};

/// A step as the file has it.
struct Step {
    /// The version that it begins with.
    from: u32,
    span: Span,
    context: String,
    /// The fields of that version; none if they cannot be read.
    older: Option<Vec<SchemaField>>,
    made: Vec<Line>,
    dropped: Vec<(String, Span)>,
}

/// `newer: "expression"`
struct Line {
    field: String,
    span: Span,
    expr: Expr,
    expr_span: Span,
}

/// Reads `migrate` of an entity with this schema.
pub(super) fn read(
    check: &mut Check<'_>,
    files: Files<'_>,
    node: &Node,
    (entity, newest): (&Entity, &[SchemaField]),
) -> Migration {
    let context = format!("entities.{}.migrate", entity.name);
    let entries = check.entries(node, &context).unwrap_or_default();
    let mut steps: Vec<Step> = entries
        .iter()
        .filter_map(|(key, node)| {
            let from = number(check, key, &context, entity.version)?;
            let context = format!("{context}.{}", key.name);
            Some(step(check, files, (key, node), from, context))
        })
        .collect();
    steps.sort_by_key(|step| step.from);
    is_chain(check, node, &steps, &context, entity.version);
    let mut migration = Migration {
        since: steps.first().map(|step| step.from),
        lifts: Vec::new(),
    };
    for (index, one) in steps.iter().enumerate() {
        let newer = match steps.get(index + 1) {
            Some(next) => next.older.as_deref(),
            None => Some(newest),
        };
        if let (Some(older), Some(newer)) = (one.older.as_deref(), newer) {
            reused(check, one, &steps[..index], (older, newer));
            accounted(check, one, older, newer);
            lifts(check, one, (older, newer), &mut migration.lifts);
        }
    }
    later(&mut migration.lifts);
    for one in &steps {
        decidable(check, one, entity, &migration.lifts);
    }
    migration
}

/// The N of `N->N+1`.
fn number(check: &mut Check<'_>, key: &Key, context: &str, version: u32) -> Option<u32> {
    let parts = key.name.split_once("->");
    let parts = parts.and_then(|(from, to)| Some((from.trim().parse::<u32>().ok()?, to.trim().parse::<u32>().ok()?)));
    let Some((from, to)) = parts else {
        check
            .report(
                "H113",
                key.span,
                context,
                format!("`{}` names no two versions", key.name),
            )
            .help("write N->M, such as 3->4");
        return None;
    };
    if from.checked_add(1) != Some(to) || from == 0 {
        check
            .report(
                "H360",
                key.span,
                context,
                format!("`{}` is no step to the next version", key.name),
            )
            .why("steps are taken one after the other, and never back")
            .help("write one for each version: 2->3, 3->4");
        return None;
    }
    if to > version {
        let title = format!("`{}` goes beyond version {version} of the entity", key.name);
        check
            .report("H360", key.span, context, title)
            .help(format!("let its `schema` name version {to}, or remove the step"));
        return None;
    }
    Some(from)
}

/// No version may be left out on the way.
fn is_chain(check: &mut Check<'_>, node: &Node, steps: &[Step], context: &str, version: u32) {
    let ends = steps.iter().map(|step| step.from + 1);
    let begins = steps.iter().skip(1).map(|step| step.from).chain([version]);
    for (there, next) in ends.zip(begins) {
        if there > next {
            let title = format!("the step from version {next} is there twice");
            check.report("H104", node.span, context, title).help("keep one of them");
        } else if there < next {
            let title = format!("nothing says how version {there} becomes version {}", there + 1);
            check
                .report("H361", node.span, context, title)
                .why("what was said in the versions before it would be read as if it were of the last")
                .help(format!("add the step `{there}->{}`", there + 1));
        }
    }
}

fn step(check: &mut Check<'_>, files: Files<'_>, (key, node): (&Key, &Node), from: u32, context: String) -> Step {
    let map = check.map(node, &context, &STEP);
    let older = match map.get("schema") {
        Some(node) => schema(check, files, node, &context),
        None => {
            let help = format!("name the Avro file of version {from}: `schema: schemas/customer.{from}.avsc`");
            check.missing(&map, &context, "schema", &help);
            None
        }
    };
    let entries = map
        .get("fields")
        .and_then(|node| check.entries(node, &format!("{context}.fields")))
        .unwrap_or_default();
    let made = entries.iter().filter_map(|(key, node)| {
        Some(Line {
            field: key.name.clone(),
            span: key.span,
            expr: check.expression(node, &format!("{context}.fields"))?,
            expr_span: node.span,
        })
    });
    let made: Vec<Line> = made.collect();
    let dropped = match map.get("drop") {
        Some(node) if matches!(&node.content, Content::List(items) if items.is_empty()) => Vec::new(),
        Some(node) => check.texts(node, &format!("{context}.drop")),
        None => Vec::new(),
    };
    Step {
        from,
        span: key.span,
        older,
        made,
        dropped: dropped.into_iter().map(|(name, node)| (name, node.span)).collect(),
        context,
    }
}

/// The fields of an older version.
fn schema(check: &mut Check<'_>, files: Files<'_>, node: &Node, context: &str) -> Option<Vec<SchemaField>> {
    let path = check.text(node, context)?;
    let (code, title, found, help) = match files(&path) {
        Ok(json) => match avro::fields(&json) {
            Ok(fields) => return Some(fields),
            Err(reason) => (
                "H202",
                "the schema is no Avro record",
                reason,
                "name the schema that the version had",
            ),
        },
        Err(reason) => (
            "H201",
            "the schema file cannot be read",
            reason,
            "paths are relative to the pipeline file",
        ),
    };
    check.report(code, node.span, context, title).found(found).help(help);
    None
}

/// What is made of what.
fn lifts(check: &mut Check<'_>, step: &Step, (older, newer): (&[SchemaField], &[SchemaField]), all: &mut Vec<Lift>) {
    let mut lifts: Vec<Lift> = Vec::new();
    for line in &step.made {
        let Some((from, made)) = line.made(check, step, older, newer) else {
            continue;
        };
        match lifts.iter_mut().find(|lift| lift.from == from) {
            Some(lift) => lift.into.push(made),
            None => lifts.push(Lift {
                from,
                into: vec![made],
                later: BTreeSet::new(),
            }),
        }
    }
    all.append(&mut lifts);
}

impl Line {
    /// The older field, and what is made of it.
    fn made(
        &self,
        check: &mut Check<'_>,
        step: &Step,
        older: &[SchemaField],
        newer: &[SchemaField],
    ) -> Option<(String, Made)> {
        let (from, to, context) = (step.from, step.from + 1, &step.context);
        let Some(field) = find(newer, &self.field) else {
            let help = suggestion(&self.field, newer.iter().map(|field| field.name.as_str()));
            let title = format!("version {to} has no field `{}`", self.field);
            check.report("H204", self.span, context, title).help(help);
            return None;
        };
        if find(older, &self.field).is_some() {
            let title = format!("`{}` is in version {from} too", self.field);
            check.report("H362", self.span, context, title).why(SAME).help(RENAME);
            return None;
        }
        let kind = *field.kind.as_ref().ok()?;
        let known = names(older, "");
        if let Err(reason) = lens::makes(&self.expr, kind, &|name| look_up(name, &known)) {
            let help = format!("name fields of version {from}, and make a {kind} of them");
            check.report("H218", self.expr_span, context, reason).help(help);
            return None;
        }
        let of = self.expr.names();
        let mut each = of.iter().copied();
        let (Some(name), None) = (each.next(), each.next()) else {
            let title = format!("`{}` is not made of one field", self.field);
            let found = match of.is_empty() {
                true => "it is made of none".to_owned(),
                false => format!("it is made of {}", of.iter().copied().collect::<Vec<_>>().join(" and ")),
            };
            check
                .report("H365", self.expr_span, context, title)
                .found(found)
                .why("what was said of several fields, at different times and by different people, is no word of one")
                .help("drop them, and let the tables be read again: then each row says what it holds of the new field");
            return None;
        };
        if find(newer, name).is_some() {
            let title = format!("`{name}` is in version {to} too");
            check
                .report("H362", self.expr_span, context, title)
                .why("its words go on under its own name, and those of the copy would not")
                .help("make newer fields of what the newer version has no more");
            return None;
        }
        let then = find(older, name)?;
        let same = then.kind.as_ref().is_ok_and(|then| takes(kind, *then)) && matches!(self.expr, Expr::Name(_));
        if same && then.nullable && !field.nullable {
            let title = format!("`{}` may not be null, and `{name}` may", self.field);
            check
                .report("H364", self.expr_span, context, title)
                .why("what was said of it before stands in the states, and could not be written")
                .help("make something of null too: `default(name, '')`");
            return None;
        }
        let made = Made {
            field: self.field.clone(),
            kind,
            by: (!same).then(|| self.expr.clone()),
        };
        Some((name.to_owned(), made))
    }
}

/// Tells every lift what comes of it in the end.
fn later(lifts: &mut [Lift]) {
    for index in (0..lifts.len()).rev() {
        let mut later: BTreeSet<String> = lifts[index].into.iter().map(|made| made.field.clone()).collect();
        for next in &lifts[index + 1..] {
            if later.contains(&next.from) {
                later.extend(next.later.iter().cloned());
            }
        }
        lifts[index].later = later;
    }
}

/// What counts changes, not values, cannot go on from a value that was converted.
fn decidable(check: &mut Check<'_>, step: &Step, entity: &Entity, lifts: &[Lift]) {
    for line in &step.made {
        let lift = lifts
            .iter()
            .find(|lift| lift.into.iter().any(|made| made.field == line.field));
        let made = lift.and_then(|lift| lift.into.iter().find(|made| made.field == line.field));
        let Some(made) = made else { continue };
        let next = lifts.iter().filter(|lift| lift.from == line.field);
        let mut now: BTreeSet<&str> = next.flat_map(|lift| lift.later.iter().map(String::as_str)).collect();
        now.insert(line.field.as_str());
        for field in entity.fields.iter().filter(|field| now.contains(field.name.as_str())) {
            let is_counted = |other: &Field| other.terms.absolute_from.as_ref() == Some(&field.name);
            let counts = field.terms.absolute_from.is_some() || entity.fields.iter().any(is_counted);
            let refers = entity.reference(&field.name).is_some();
            let sums_up = matches!(field.strategy, Strategy::Add | Strategy::Union);
            let (title, why) = match made.by.is_some() {
                _ if counts => (
                    format!(
                        "`{}` has to do with stock-takes, and these are not taken over",
                        field.name
                    ),
                    CHANGES,
                ),
                true if refers => (
                    format!("`{}` refers to an entity and is made of a value", field.name),
                    "what is kept of a reference is the id of the entity, which no expression knows",
                ),
                true if sums_up => (
                    format!("`{}` cannot go on with values that were converted", field.strategy),
                    CHANGES,
                ),
                _ => continue,
            };
            check
                .report("H366", line.expr_span, &step.context, title)
                .why(why)
                .help("let the field keep its name, or drop the older and let the tables be read again");
        }
    }
}

const CHANGES: &str = "it goes by what each app added and took away, and that was of the older field";
