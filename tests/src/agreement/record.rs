//! What was agreed and what lost: of our topics only these two.

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde_json::Value as Json;
use syncline_schemas::position::Position;

use super::apps::{Cell, ENTITIES, Entity, Kind, Unit, group, normal, number, set};
use super::history::Who;
use crate::agreed::{Agreed, Decided};
use crate::world::World;

/// A word that lost, or waits.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The app that said it.
    pub app: String,
    /// Where.
    pub position: Position,
    /// What; none if it is a deletion.
    pub value: Option<Json>,
    /// Whether it is what a row held when it was first read.
    pub initial: bool,
}

/// What is known of one entity.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// What was agreed last.
    pub agreed: Option<Agreed>,
    /// Every candidate of every conflict there ever was, by field, group, or `*`.
    pub candidates: Vec<(String, Candidate)>,
    /// The last conflict of each field.
    pub conflicts: BTreeMap<String, Decided>,
}

/// Everything that was agreed.
#[derive(Debug, Default)]
pub struct Records {
    /// By entity and person.
    pub of: BTreeMap<Who, Record>,
    /// Person by entity and id.
    pub persons: BTreeMap<(String, String), String>,
    /// How many conflict records there are.
    pub conflicts: usize,
    /// Ids that were used for two persons, and persons with two ids.
    pub mixed: Vec<(Who, String)>,
}

impl Records {
    /// Reads the topics of a world in which nobody writes any more.
    pub fn read(world: &World) -> anyhow::Result<Self> {
        let mut records = Self::default();
        for entity in &ENTITIES {
            records.canonical(world, entity)?;
            records.conflicts(world, entity)?;
        }
        Ok(records)
    }

    fn canonical(&mut self, world: &World, entity: &'static Entity) -> anyhow::Result<()> {
        let mut last: BTreeMap<String, Agreed> = BTreeMap::new();
        let mut ids: BTreeMap<String, String> = BTreeMap::new();
        for record in world.canonical_log(entity.name)? {
            let agreed = Agreed::of(&world.topics, &record)?;
            if let Some(person) = agreed.json["value"][entity.person().name].as_str().map(normal) {
                let key = (entity.name.to_owned(), agreed.cid.clone());
                let before = self.persons.insert(key, person.clone());
                if let Some(before) = before.filter(|before| *before != person) {
                    let what = format!("{} was {before} and is {person}", agreed.cid);
                    self.mixed.push(((entity.name, person.clone()), what));
                }
                let other = ids.insert(person.clone(), agreed.cid.clone());
                if let Some(other) = other.filter(|other| *other != agreed.cid) {
                    let what = format!("has two ids, {other} and {}", agreed.cid);
                    self.mixed.push(((entity.name, person), what));
                }
            }
            last.insert(agreed.cid.clone(), agreed);
        }
        for (cid, agreed) in last {
            if let Some(person) = self.persons.get(&(entity.name.to_owned(), cid)) {
                self.of.entry((entity.name, person.clone())).or_default().agreed = Some(agreed);
            }
        }
        Ok(())
    }

    fn conflicts(&mut self, world: &World, entity: &'static Entity) -> anyhow::Result<()> {
        let topic = syncline_schemas::topic::conflicts(&world.name, entity.name);
        if !world.topics.names(&[&topic])?.contains(&topic) {
            return Ok(());
        }
        for record in world.topics.read(&topic)? {
            let decided = Decided::of(&world.topics, &record)?;
            let text = |name: &str| decided.json[name].as_str().map(str::to_owned);
            let cid = text("cid").context("a conflict without an entity")?;
            let field = text("field").context("a conflict without a field")?;
            self.conflicts += 1;
            let Some(person) = self.persons.get(&(entity.name.to_owned(), cid)) else {
                continue;
            };
            let of = self.of.entry((entity.name, person.clone())).or_default();
            for candidate in decided.json["candidates"].as_array().into_iter().flatten() {
                of.candidates.push((field.clone(), candidate_of(candidate)?));
            }
            of.conflicts.insert(field, decided);
        }
        Ok(())
    }
}

fn candidate_of(json: &Json) -> anyhow::Result<Candidate> {
    let text = |name: &str| {
        json[name]
            .as_str()
            .with_context(|| format!("a candidate without {name}: {json}"))
    };
    let value = json["value"].as_str().map(serde_json::from_str::<Json>).transpose()?;
    Ok(Candidate {
        app: text("source")?.to_owned(),
        position: text("position")?.parse()?,
        value,
        initial: json["initial"] == true,
    })
}

impl Record {
    /// Whether the entity is gone.
    pub fn is_gone(&self) -> bool {
        self.agreed.as_ref().is_some_and(Agreed::deleted)
    }

    /// What was agreed of a unit; none if there is no record, or the entity is gone.
    pub fn agreed(&self, unit: &Unit) -> Option<Cell> {
        let agreed = self.agreed.as_ref().filter(|agreed| !agreed.deleted())?;
        let field = |name: &&str| cell(&agreed.json["value"][*name], unit);
        Some(match unit.fields {
            [one] => field(one),
            several => Some(group(several.iter().map(field))),
        })
    }

    /// Whether the unit waits for a person.
    pub fn is_held(&self, unit: &Unit) -> bool {
        let held = self.agreed.as_ref().map(Agreed::held).unwrap_or_default();
        unit.fields.iter().any(|field| held.iter().any(|held| held == field))
    }

    /// Whether somebody is asked about the unit.
    pub fn is_asked(&self, unit: &Unit) -> bool {
        let names = [unit.name, "*"];
        let open = |field: &str| {
            self.conflicts
                .get(field)
                .is_some_and(|decided| decided.status() == "open")
        };
        names.into_iter().any(open)
    }

    /// Whether a question of it ends by itself.
    pub fn may_expire(&self) -> bool {
        let open = |decided: &&Decided| decided.status() == "open";
        let mut open = self.conflicts.values().filter(open);
        open.any(|decided| !decided.json["expires_us"].is_null())
    }
}

impl Candidate {
    /// What it said of a unit.
    pub fn said(&self, unit: &Unit) -> Option<Cell> {
        let value = self.value.as_ref()?;
        match (unit.fields.len(), value) {
            (2.., Json::Array(parts)) => Some(Some(group(parts.iter().map(|part| cell(part, unit))))),
            _ => Some(cell(value, unit)),
        }
    }
}

/// A value as the databases' side has it.
fn cell(json: &Json, unit: &Unit) -> Cell {
    match json {
        Json::Null if unit.kind == Kind::Set => Some(String::new()),
        Json::Null => None,
        Json::Array(elements) => Some(set(elements.iter().filter_map(Json::as_str))),
        Json::String(text) if unit.kind == Kind::Money => Some(number(text)),
        Json::String(text) => Some(text.clone()),
        Json::Number(value) => Some(number(&value.to_string())),
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::unit;
    use super::*;

    #[test]
    fn values_are_the_same_texts_on_both_sides() {
        for (of, name, json, text) in [
            ("customer", "credit", r#""12.5""#, Some("12.5")),
            ("customer", "credit", "12.50", Some("12.5")),
            ("customer", "tags", r#"["b","a"]"#, Some("a,b")),
            ("customer", "tags", "null", Some("")),
            ("customer", "phone", "null", None),
            ("site", "closed", "true", Some("true")),
        ] {
            let json: Json = serde_json::from_str(json).unwrap();
            assert_eq!(cell(&json, unit(of, name)).as_deref(), text, "{of}.{name} {json}");
        }
        let candidate = Candidate {
            app: "crm".to_owned(),
            position: Position::default(),
            value: serde_json::from_str(r#"["1 High St", null]"#).ok(),
            initial: false,
        };
        let said = candidate.said(unit("customer", "address")).flatten();
        assert_eq!(said.as_deref(), Some("1 High St / -"));
    }
}
