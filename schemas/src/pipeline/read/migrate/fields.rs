//! Whether every field of a version is accounted for in the next, and no name means two things.

use super::super::super::avro::SchemaField;
use super::super::super::model::FieldKind;
use super::super::{Check, suggestion};
use super::Step;

/// The field of that name.
pub(super) fn find<'f>(fields: &'f [SchemaField], name: &str) -> Option<&'f SchemaField> {
    fields.iter().find(|field| field.name == name)
}

/// A name that was another field's in a version before.
pub(super) fn reused(
    check: &mut Check<'_>,
    step: &Step,
    before: &[Step],
    (older, newer): (&[SchemaField], &[SchemaField]),
) {
    let fresh = newer.iter().filter(|field| find(older, &field.name).is_none());
    for field in fresh {
        let had = |step: &&Step| {
            step.older
                .as_deref()
                .is_some_and(|fields| find(fields, &field.name).is_some())
        };
        if let Some(had) = before.iter().find(had) {
            let title = format!(
                "`{}` of version {} is a name that version {} had",
                field.name,
                step.from + 1,
                had.from
            );
            check
                .report("H362", step.span, &step.context, title)
                .why(SAME)
                .help(RENAME);
        }
    }
}

/// Why a name is no other field's.
pub(super) const SAME: &str =
    "words carry the names of fields and no versions: one of then would be taken for one of now";
/// What to do then.
pub(super) const RENAME: &str = "give the newer field a name that no version had";

/// Every older field is there, is used, or is dropped.
pub(super) fn accounted(check: &mut Check<'_>, step: &Step, older: &[SchemaField], newer: &[SchemaField]) {
    let (from, to) = (step.from, step.from + 1);
    for field in older {
        let name = &field.name;
        let used = step.made.iter().any(|line| line.expr.names().contains(name.as_str()));
        let dropped = step.dropped.iter().any(|(dropped, _)| dropped == name);
        match find(newer, name) {
            Some(now) => is_same(check, step, field, now),
            None if used || dropped => {}
            None => {
                let title =
                    format!("`{name}` of version {from} is not in version {to}, and nothing says what becomes of it");
                check
                    .report("H363", step.span, &step.context, title)
                    .why("what apps said of it would be forgotten without a word")
                    .help(format!(
                        "make a field of it, `fields: {{ newer: {name} }}`, or say `drop: [{name}]`"
                    ));
            }
        }
    }
    for (name, span) in &step.dropped {
        let title = match (find(older, name), find(newer, name)) {
            (None, _) => format!("version {from} has no field `{name}`"),
            (Some(_), Some(_)) => format!("`{name}` is in version {to} too"),
            (Some(_), None) => continue,
        };
        let help = suggestion(name, older.iter().map(|field| field.name.as_str()));
        let report = check.report("H204", *span, &step.context, title);
        match find(older, name) {
            None => report.help(help),
            Some(_) => report.help("remove it here, or from the schema"),
        };
    }
}

/// A field that both versions have takes what was said of it before.
fn is_same(check: &mut Check<'_>, step: &Step, then: &SchemaField, now: &SchemaField) {
    let (from, to) = (step.from, step.from + 1);
    let found = match (&then.kind, &now.kind) {
        (Ok(then), Ok(now)) if !takes(*now, *then) => {
            format!(
                "in version {from} it holds a {}, in version {to} a {}",
                spelt(*then),
                spelt(*now)
            )
        }
        _ if then.nullable && !now.nullable => format!("in version {from} it may be null, in version {to} it may not"),
        _ => return,
    };
    let title = format!("`{}` does not hold what it held before", then.name);
    check
        .report("H364", step.span, &step.context, title)
        .found(found)
        .why("what was said of it before stands in the states, and could not be written")
        .help("let it be as it was; or give it another name, and say in `fields` how that is made of it");
}

/// Whether a field that holds a `now` takes every value of one that holds a `then`.
pub(super) fn takes(now: FieldKind, then: FieldKind) -> bool {
    match (now, then) {
        (FieldKind::Number { scale: Some(now) }, FieldKind::Number { scale }) => scale.is_some_and(|then| then <= now),
        (FieldKind::Number { scale: None }, FieldKind::Number { .. }) => true,
        (now, then) => now == then,
    }
}

/// A kind, to tell it from others of its name.
fn spelt(kind: FieldKind) -> String {
    match kind {
        FieldKind::Number { scale: Some(scale) } => format!("number with {scale} digits after the point"),
        FieldKind::Number { scale: None } => "number with any digits after the point".to_owned(),
        FieldKind::List(element) => format!("list of {element:?}").to_lowercase(),
        other => other.to_string(),
    }
}
