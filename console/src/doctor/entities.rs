//! The schemas of entities, held against what the registry has of them: what it would refuse is told before the run that
//! would stop at it, with the fields that break it.
//!
//! Whose rules decide is the registry's: it is asked about each changed field alone.

use serde_json::Value as Json;
use syncline_bus::Registry;
use syncline_runtime::{Class, Outcome};
use syncline_schemas::codec::CanonicalCodec;
use syncline_schemas::pipeline::{Entity, Pipeline};
use syncline_schemas::topic;

use super::finding::Finding;
use super::judge::Findings;

/// What the registry would refuse.
pub fn judge(pipeline: &Pipeline, registry: &Registry) -> Outcome<Vec<Finding>> {
    let mut found = Vec::new();
    for entity in &pipeline.entities {
        // A schema that cannot be used at all is refused with the file.
        let Ok(codec) = CanonicalCodec::new(&entity.schema_json) else {
            continue;
        };
        found.extend(forgotten(pipeline, entity, codec.schema_json(), registry)?);
        let topic = topic::canonical(&pipeline.name, &entity.name, entity.version);
        let subject = topic::value_subject(&topic);
        if registry.check_compatible(&subject, codec.schema_json())? {
            continue;
        }
        let before = registry.latest(&subject)?.map(|(_, schema)| schema);
        let takes = |schema: &str| match registry.check_compatible(&subject, schema) {
            Err(failure) if failure.class != Class::Transient => Ok(false),
            answer => answer,
        };
        let fields = match &before {
            Some(before) => breaking(before, codec.schema_json(), takes)?,
            None => Vec::new(),
        };
        found.extend(refused(entity, &subject, &fields));
    }
    Ok(found)
}

/// The fields of the version before that this one has no more, where the file says of no version what becomes of its fields:
/// where it does, `--check` has seen to all of them.
fn forgotten(pipeline: &Pipeline, entity: &Entity, now: &str, registry: &Registry) -> Outcome<Vec<Finding>> {
    if entity.version < 2 || entity.migrate.since.is_some() {
        return Ok(Vec::new());
    }
    let before = entity.version - 1;
    let topic = topic::canonical(&pipeline.name, &entity.name, before);
    let then = registry.latest(&topic::value_subject(&topic))?;
    let gone = then.map(|(_, then)| gone(&then, now)).unwrap_or_default();
    let mut findings = Findings::at(&entity.name);
    if !gone.is_empty() {
        findings.risk(
            "VERSION_FORGETS",
            format!(
                "version {} has no {}, which version {before} had, and nothing says what became of it",
                entity.version,
                gone.join(", ")
            ),
            "what apps said of it counts for no field, and of a new one in its place nothing is known before its rows \
             change or are read again",
            format!(
                "say it under `migrate` of the entity: `{before}->{}: {{ schema: .., fields: .. }}`",
                entity.version
            ),
        );
    }
    Ok(findings.done())
}

/// The names that the one schema has and the other has not.
fn gone(then: &str, now: &str) -> Vec<String> {
    let (Some(then), Some(now)) = (parsed(then), parsed(now)) else {
        return Vec::new();
    };
    let now = fields(&now);
    let is_there = |wanted: &str| now.iter().any(|field| name(field) == Some(wanted));
    let then = fields(&then);
    let gone = then.iter().filter_map(name).filter(|name| !is_there(name));
    gone.map(str::to_owned).collect()
}

fn refused(entity: &Entity, subject: &str, fields: &[String]) -> Vec<Finding> {
    let what = match fields {
        [] => format!("the registry refuses its schema as a new version of {subject}"),
        fields => format!(
            "the registry refuses its schema as a new version of {subject}, because of {}",
            fields.join(", ")
        ),
    };
    let mut findings = Findings::at(&entity.name);
    findings.stops(
        "ENTITY_SCHEMA_REFUSED",
        what,
        "merge stops at its start (SCHEMA_INCOMPATIBLE): who reads the agreed records could not read the older and the newer alike",
        format!(
            "let the field be as it was, or give a new one a default; or make it a version of its own: `schema: PATH@{}`",
            entity.version + 1
        ),
    );
    findings.done()
}

/// The fields whose change alone is refused; none if it is not the change of any one of them.
fn breaking(before: &str, now: &str, takes: impl Fn(&str) -> Outcome<bool>) -> Outcome<Vec<String>> {
    let (Some(before), Some(now)) = (parsed(before), parsed(now)) else {
        return Ok(Vec::new());
    };
    let (old, new) = (fields(&before), fields(&now));
    let mut names: Vec<&str> = old.iter().chain(&new).filter_map(name).collect();
    names.sort_unstable();
    names.dedup();
    let mut breaking = Vec::new();
    for changed in names {
        let of = |fields: &[Json]| fields.iter().find(|field| name(field) == Some(changed)).cloned();
        let (was, is) = (of(&old), of(&new));
        if was == is {
            continue;
        }
        let mut one = before.clone();
        let Some(fields) = fields_mut(&mut one) else {
            return Ok(Vec::new());
        };
        let place = fields.iter().position(|field| name(field) == Some(changed));
        match (place, is) {
            (Some(place), Some(is)) => fields[place] = is,
            (Some(place), None) => _ = fields.remove(place),
            (None, is) => fields.extend(is),
        }
        if !takes(&one.to_string())? {
            breaking.push(changed.to_owned());
        }
    }
    Ok(breaking)
}

fn parsed(schema: &str) -> Option<Json> {
    serde_json::from_str(schema).ok()
}

fn name(field: &Json) -> Option<&str> {
    field["name"].as_str()
}

/// The fields of the entity within the schema of its agreed record.
fn fields(schema: &Json) -> Vec<Json> {
    let mut schema = schema.clone();
    fields_mut(&mut schema).cloned().unwrap_or_default()
}

/// The same: those of the record that `value` may be.
fn fields_mut(schema: &mut Json) -> Option<&mut Vec<Json>> {
    let all = schema["fields"].as_array_mut()?;
    let value = all.iter_mut().find(|field| name(field) == Some("value"))?;
    let types = value["type"].as_array_mut()?;
    let record = types.iter_mut().find(|kind| kind.is_object())?;
    record["fields"].as_array_mut()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(fields: &str) -> String {
        let entity = format!(r#"{{"type": "record", "name": "Product", "fields": [{fields}]}}"#);
        CanonicalCodec::new(&entity).unwrap().schema_json().to_owned()
    }

    const SKU: &str = r#"{"name": "sku", "type": ["null", "string"], "default": null}"#;

    #[test]
    fn the_fields_that_break_are_named_and_the_others_are_not() {
        let price = |kind: &str| format!(r#"{{"name": "price", "type": ["null", "{kind}"], "default": null}}"#);
        let before = schema(&format!("{SKU}, {}", price("string")));
        let now = schema(&format!(
            r#"{SKU}, {}, {{"name": "size", "type": "long"}}, {{"name": "note", "type": ["null", "string"], "default": null}}"#,
            price("long")
        ));
        // As a registry would that wants older records to be readable.
        let takes = |schema: &str| Ok(!is_there(schema, "size") && !is_long(schema));
        assert_eq!(breaking(&before, &now, takes).unwrap(), ["price", "size"]);
        let asked = std::cell::Cell::new(0);
        let counts = |_: &str| {
            asked.set(asked.get() + 1);
            Ok(true)
        };
        assert!(breaking(&before, &now, counts).unwrap().is_empty());
        assert_eq!(asked.get(), 3, "price, size and note have changed");
        assert!(breaking("no schema", &now, |_| Ok(false)).unwrap().is_empty());
        assert_eq!(gone(&now, &before), ["size", "note"]);
        assert!(gone(&before, &now).is_empty() && gone("no schema", &now).is_empty());
    }

    fn is_there(schema: &str, wanted: &str) -> bool {
        let schema = parsed(schema).unwrap();
        fields(&schema).iter().any(|field| name(field) == Some(wanted))
    }

    fn is_long(schema: &str) -> bool {
        let schema = parsed(schema).unwrap();
        let price = fields(&schema).into_iter().find(|field| name(field) == Some("price"));
        price.is_some_and(|price| price["type"][1] == "long")
    }
}
