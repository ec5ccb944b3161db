//! `syncline explain ENTITY.FIELD`: which rule of the file decides about a field, and why that one. It reads the file and
//! asks nobody.

use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;
use syncline_runtime::{Failure, Outcome};

use crate::answer::{self, Verdict};
use crate::desk::{self, Asked, wrong};

/// The most specific first.
const PRECEDENCE: &str = "field > kind within the entity > kind > entity > pipeline";

/// What `explain` can be told.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The field, as ENTITY.FIELD
    pub field: String,
    /// Which file, and how to answer.
    #[command(flatten)]
    pub asked: Asked,
}

#[derive(Debug, Serialize)]
struct Explained {
    entity: String,
    field: String,
    strategy: String,
    /// `acme.yaml:13`.
    rule: String,
    /// The line itself.
    line: String,
    /// `kinds.money`.
    place: String,
    level: &'static str,
    precedence: &'static str,
    /// Where the field itself stands, and its line.
    declared: Option<(String, String)>,
}

/// Explains.
pub fn run(args: &Args) -> Outcome<ExitCode> {
    let path: &PathBuf = &args.asked.pipeline;
    let pipeline = desk::load(path)?;
    let (entity, field) = args
        .field
        .split_once('.')
        .ok_or_else(|| wrong("name the field as ENTITY.FIELD, such as customer.email"))?;
    let found = pipeline.entity(entity).and_then(|entity| entity.field(field));
    let rule = found.ok_or_else(|| wrong(format!("the pipeline file has no field {}", args.field)))?;
    let file = std::fs::read_to_string(path).map_err(|error| Failure::definite("FILE", error))?;
    let outline = outline(&file);
    let deciding = outline.get(rule.rule.line.saturating_sub(1));
    let own = format!("entities.{entity}.fields.{field}");
    let declared = outline.iter().position(|line| line.place == own);
    let explained = Explained {
        entity: entity.to_owned(),
        field: field.to_owned(),
        strategy: rule.strategy.to_string(),
        rule: rule.rule.to_string(),
        line: deciding.map(|line| line.text.trim().to_owned()).unwrap_or_default(),
        place: deciding.map(|line| line.place.clone()).unwrap_or_default(),
        level: deciding.map_or("", |line| level(&line.place)),
        precedence: PRECEDENCE,
        declared: declared.filter(|at| at + 1 != rule.rule.line).map(|at| {
            (
                format!("{}:{}", rule.rule.file, at + 1),
                outline[at].text.trim().to_owned(),
            )
        }),
    };
    answer::give(args.asked.json, &explained, || explained.text())?;
    Ok(Verdict::Well.into())
}

/// A line of the file, and the keys that lead to it.
struct Line<'a> {
    place: String,
    text: &'a str,
}

/// The keys that lead to each line, by indentation; what stands in braces belongs to the line where the braces begin.
fn outline(file: &str) -> Vec<Line<'_>> {
    let mut above: Vec<(usize, &str)> = Vec::new();
    let lines = file.lines().map(|text| {
        let indent = text.len() - text.trim_start().len();
        if let Some(key) = key(text) {
            above.retain(|(other, _)| *other < indent);
            above.push((indent, key));
        }
        let keys: Vec<&str> = above.iter().map(|(_, key)| *key).collect();
        Line {
            place: keys.join("."),
            text,
        }
    });
    lines.collect()
}

/// `money` of `  money: { on_conflict: hold }`.
fn key(text: &str) -> Option<&str> {
    let text = text.trim_start();
    let (key, _) = text.split_once(':')?;
    let plain = !key.is_empty() && !key.starts_with(['#', '{', '[', '}', ']', '-', '"']) && !key.contains(['{', '[']);
    plain.then_some(key.trim_end())
}

/// What kind of rule stands at this place.
fn level(place: &str) -> &'static str {
    let keys: Vec<&str> = place.split('.').collect();
    match keys.as_slice() {
        ["defaults", ..] => "pipeline",
        ["kinds", ..] => "kind",
        ["entities", _, "kinds", ..] => "kind within the entity",
        ["entities", _, "fields", ..] => "field",
        ["entities", _, "groups", ..] => "group",
        ["entities", ..] => "entity",
        _ => "file",
    }
}

impl Explained {
    fn text(&self) -> String {
        let mut text = format!("{}.{}: {}\n", self.entity, self.field, self.strategy);
        text += &format!("  decided by  {}  {}\n", self.rule, self.line);
        text += &format!("  which is    the rule of the {} ({})\n", self.level, self.place);
        text += &format!("  first of    {}\n", self.precedence);
        if let Some((place, line)) = &self.declared {
            text += &format!("  the field   {place}  {line}\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
pipeline: acme
defaults: { kafka: k, on_conflict: latest }
kinds:   # of data
  money: { on_conflict: hold }
entities:
  customer:
    kinds:
      money: latest
    fields:
      email: latest
      limit:
        kind: money
    on_conflict: first
";

    #[test]
    fn each_line_knows_its_place() {
        let places: Vec<(String, &str)> = outline(FILE)
            .into_iter()
            .map(|line| (line.place.clone(), level(&line.place)))
            .collect();
        let expected = [
            ("pipeline", "file"),
            ("defaults", "pipeline"),
            ("kinds", "kind"),
            ("kinds.money", "kind"),
            ("entities", "entity"),
            ("entities.customer", "entity"),
            ("entities.customer.kinds", "kind within the entity"),
            ("entities.customer.kinds.money", "kind within the entity"),
            ("entities.customer.fields", "field"),
            ("entities.customer.fields.email", "field"),
            ("entities.customer.fields.limit", "field"),
            ("entities.customer.fields.limit.kind", "field"),
            ("entities.customer.on_conflict", "entity"),
        ];
        let expected: Vec<(String, &str)> = expected.map(|(place, level)| (place.to_owned(), level)).into();
        assert_eq!(places, expected);
    }
}
