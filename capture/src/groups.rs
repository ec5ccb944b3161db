//! Pure: `slots` of a system, that is groups of its tables, each with a slot, a publication, a progress, a transactional
//! id, a guard and a thread of its own. For more than one walsender can read, and for tables that must not wait for others.
//!
//! Each slot gets the whole log of its database, so what belongs to no table comes through all of them. Marks of the sink
//! name their table and belong to the group that has it. Logical messages and heartbeats are for the first group.
//!
//! Two slots of one system are nowhere at the same place of the log. What is compared by its position comes through one slot
//! nevertheless: of one system only one table speaks for an entity.

use std::collections::BTreeSet;

use syncline_runtime::process::PIPELINE_INVALID;
use syncline_runtime::{Failure, Outcome};
use syncline_schemas::pipeline::care::SlotGroup;

use crate::config::SourceConfig;
use crate::form::Heartbeat;
use crate::postgres::quote::TableName;

/// PostgreSQL cuts longer names off.
const NAME_BYTES_MAX: usize = 63;

/// Which of a system's tables are captured through a slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Share {
    /// All that are captured.
    #[default]
    All,
    /// These, as `schema.table`.
    Only(BTreeSet<String>),
    /// All but these.
    Except(BTreeSet<String>),
}

impl Share {
    /// Whether the table is one of them.
    pub fn has(&self, table: &str) -> bool {
        match self {
            Share::All => true,
            Share::Only(tables) => tables.contains(table),
            Share::Except(tables) => !tables.contains(table),
        }
    }
}

/// One source for each group of the system; the source itself if it has none.
pub fn split(source: SourceConfig, system: &str) -> Outcome<Vec<SourceConfig>> {
    let groups = source.care.slots.clone();
    if groups.is_empty() {
        return Ok(vec![source]);
    }
    check(&source, &groups, system)?;
    let mut split = Vec::new();
    for (index, group) in groups.iter().enumerate() {
        let share = share(group, &groups);
        split.push(part(&source, group, share, index == 0)?);
    }
    Ok(split)
}

fn share(group: &SlotGroup, groups: &[SlotGroup]) -> Share {
    match &group.tables {
        Some(tables) => Share::Only(tables.iter().cloned().collect()),
        None => Share::Except(
            groups
                .iter()
                .filter_map(|group| group.tables.clone())
                .flatten()
                .collect(),
        ),
    }
}

fn part(source: &SourceConfig, group: &SlotGroup, share: Share, leads: bool) -> Outcome<SourceConfig> {
    let mut part = source.clone();
    part.name = format!("{}/{}", source.name, group.name);
    part.command = format!("{}/{}", source.command, group.name);
    part.slot = named(&source.slot, &group.name)?;
    part.publication = named(&source.publication, &group.name)?;
    part.tables = match (&source.tables, &group.tables) {
        (Some(tables), _) => Some(
            tables
                .iter()
                .filter(|table| share.has(&full_name(table)))
                .cloned()
                .collect(),
        ),
        (None, Some(tables)) => Some(tables.iter().map(|table| crate::config::table_name(table)).collect()),
        (None, None) => None,
    };
    part.share = share;
    part.leads = leads;
    if !leads {
        part.form.heartbeat = Heartbeat::default();
    }
    Ok(part)
}

fn full_name(table: &TableName) -> String {
    format!("{}.{}", table.schema, table.table)
}

fn named(base: &str, group: &str) -> Outcome<String> {
    let name = format!("{base}_{group}");
    match name.len() {
        ..=NAME_BYTES_MAX => Ok(name),
        _ => Err(invalid(format!(
            "{name} is longer than the {NAME_BYTES_MAX} characters of a slot"
        ))
        .hint("give the system a shorter slot and publication, or the group a shorter name")),
    }
}

fn invalid(text: String) -> Failure {
    Failure::definite(PIPELINE_INVALID, text)
}

/// Each captured table is in a group, and each group has tables.
fn check(source: &SourceConfig, groups: &[SlotGroup], system: &str) -> Outcome<()> {
    if source.form.transactions {
        let text = format!("systems.{system}: provide.transaction.metadata and slots exclude each other");
        return Err(
            invalid(text).hint("a transaction that touches two groups has no one end: leave one of the two out")
        );
    }
    let Some(captured) = &source.tables else {
        return Ok(());
    };
    let captured: BTreeSet<String> = captured.iter().map(full_name).collect();
    let grouped: BTreeSet<String> = groups
        .iter()
        .filter_map(|group| group.tables.clone())
        .flatten()
        .collect();
    let has_rest = groups.iter().any(|group| group.tables.is_none());
    if let Some(unknown) = grouped.difference(&captured).next() {
        let text = format!("systems.{system}.slots: nothing captures {unknown}");
        return Err(invalid(text).hint(format!("link it, or name it as well: systems.{system}.tables")));
    }
    match captured.difference(&grouped).next() {
        Some(left) if !has_rest => Err(invalid(format!("systems.{system}.slots: {left} is in no group"))
            .hint("name it in one of them, or add a group for all others: rest: \"*\"")),
        None if has_rest => Err(invalid(format!(
            "systems.{system}.slots: nothing is left for the group of all others"
        ))
        .hint("leave that group out")),
        _ => match groups
            .iter()
            .find(|group| group.tables.as_ref().is_some_and(Vec::is_empty))
        {
            Some(empty) => Err(invalid(format!("systems.{system}.slots.{}: no table", empty.name))),
            None => Ok(()),
        },
    }
}

#[cfg(test)]
mod tests;
