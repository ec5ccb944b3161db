//! All conflicts, gathered from the topics: conflicts, decisions, actions.

use std::collections::BTreeMap;

use syncline_runtime::{Failure, Outcome};
use syncline_schemas::action::{Action, conflict_subject};
use syncline_schemas::codec::Wire;
use syncline_schemas::conflict::{Conflict, Status};
use syncline_schemas::decision::Decision;
use syncline_schemas::pipeline::Pipeline;
use syncline_schemas::topic;

use super::case::Case;
use crate::desk::{Desk, wrong};
use crate::{actions, topics};

/// More conflicts than this are not held in memory at once.
const CASES_MAX: usize = 1_000_000;

/// Entity, entity id, field.
type Key = (String, String, String);

/// All conflicts of some entities.
#[derive(Default)]
pub struct Book {
    cases: BTreeMap<Key, Case>,
    /// Every id that a conflict ever had.
    ids: BTreeMap<String, Key>,
}

impl Book {
    /// Reads the conflicts of this entity, or of all.
    pub fn read(desk: &mut Desk, entity: Option<&str>) -> Outcome<Self> {
        let mut book = Self::default();
        for name in desk.entities(entity)? {
            book.read_conflicts(desk, &name)?;
            book.read_decisions(desk, &name)?;
        }
        let actions = actions::read(desk)?;
        book.note(actions);
        book.name_approvers(&desk.pipeline);
        Ok(book)
    }

    fn read_conflicts(&mut self, desk: &mut Desk, entity: &str) -> Outcome<()> {
        let topic = topic::conflicts(&desk.pipeline.name, entity);
        let bus = desk.bus.clone();
        // A question on a field of an older version is asked anew of what became of it.
        let lifts = desk.pipeline.entity(entity).map(|entity| entity.migrate.lifts.clone());
        let lifts = lifts.unwrap_or_default();
        topics::each(&bus, &topic, |record| {
            let Some(value) = record.value else { return Ok(()) };
            let conflict = desk.read(&topic, &value, Conflict::decode)?;
            if conflict.status == Status::Open && lifts.iter().any(|lift| lift.from == conflict.field) {
                return Ok(());
            }
            self.asked(entity, conflict, record.timestamp_ms)
        })
    }

    fn asked(&mut self, entity: &str, conflict: Conflict, at_ms: i64) -> Outcome<()> {
        if self.ids.len() >= CASES_MAX {
            return Err(
                Failure::definite("CONFLICTS_MANY", format!("more than {CASES_MAX} conflicts"))
                    .hint("look at one entity at a time: --entity NAME"),
            );
        }
        let key = (entity.to_owned(), conflict.cid.clone(), conflict.field.clone());
        self.ids.insert(conflict.id.clone(), key.clone());
        let before = self.cases.get(&key).filter(|case| case.conflict.id == conflict.id);
        let case = Case {
            entity: entity.to_owned(),
            since_ms: before.map_or(at_ms, |case| case.since_ms),
            conflict,
            decisions: Vec::new(),
            actions: Vec::new(),
            approvers: Vec::new(),
        };
        self.cases.insert(key, case);
        Ok(())
    }

    fn read_decisions(&mut self, desk: &mut Desk, entity: &str) -> Outcome<()> {
        let topic = topic::decisions(&desk.pipeline.name, entity);
        let bus = desk.bus.clone();
        topics::each(&bus, &topic, |record| {
            let Some(value) = record.value else { return Ok(()) };
            let decision = desk.read(&topic, &value, Decision::decode)?;
            let key = (entity.to_owned(), decision.cid.clone(), decision.field.clone());
            if let Some(case) = self.cases.get_mut(&key) {
                case.decisions.push((record.offset, decision));
            }
            Ok(())
        })
    }

    fn note(&mut self, actions: Vec<Action>) {
        let mut by_subject: BTreeMap<String, Vec<Action>> = BTreeMap::new();
        for action in actions {
            by_subject.entry(action.subject.clone()).or_default().push(action);
        }
        for ((entity, cid, field), case) in &mut self.cases {
            let subject = conflict_subject(entity, cid, field);
            case.actions = by_subject.remove(&subject).unwrap_or_default();
        }
    }

    fn name_approvers(&mut self, pipeline: &Pipeline) {
        for ((entity, _, field), case) in &mut self.cases {
            let rule = pipeline.entity(entity).and_then(|entity| entity.rule_of(field));
            case.approvers = rule.map(|(_, terms)| terms.approvers.clone()).unwrap_or_default();
        }
    }

    /// All of them.
    pub fn cases(&self) -> impl Iterator<Item = &Case> {
        self.cases.values()
    }

    /// The conflict that has this id, or had it once.
    pub fn find(&self, id: &str) -> Outcome<&Case> {
        let key = self.ids.get(id);
        key.and_then(|key| self.cases.get(key)).ok_or_else(|| {
            wrong(format!("no conflict ever had the id {id}"))
                .hint("`syncline conflicts list --each` names those that are open")
        })
    }
}
