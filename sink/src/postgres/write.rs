//! Writes plans: marks first, then one statement for each table and set of columns.
//!
//! Capture gives a row change the first unused mark of its transaction that names the row, and an insert whose key the app
//! makes the first unused insert mark of its table. So marks stand before all rows, and those of inserts in the order in
//! which the rows are made.

use std::collections::BTreeMap;

use syncline_runtime::{Failure, Outcome};

use super::link_table::LinkTable;
use super::session::Session;
use super::statement::{self, Statement};
use super::text::transposed;
use crate::plan::{Plan, Write};

/// What a group of rows has in common: the order of groups is the order of statements.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    /// Children go before their parents: the last link first.
    Delete {
        from_last: usize,
    },
    Update {
        link: usize,
        columns: Vec<String>,
    },
    Insert {
        link: usize,
        columns: Vec<String>,
    },
    /// Nothing but marks.
    None,
}

impl Group {
    fn of(plan: &Plan, link: usize, links: usize) -> Self {
        match &plan.write {
            Write::Delete { .. } => Group::Delete {
                from_last: links - link,
            },
            Write::Update { values, .. } => Group::Update {
                link,
                columns: values.keys().cloned().collect(),
            },
            Write::Insert { values, .. } => Group::Insert {
                link,
                columns: values.keys().cloned().collect(),
            },
            Write::Nothing => Group::None,
        }
    }
}

/// Writes `plans`, each for the link of that number. New keys are noted in what the plans remember.
pub async fn write(session: &Session, links: &[LinkTable], plans: &mut [(usize, &mut Plan)]) -> Outcome<()> {
    let mut groups: BTreeMap<Group, Vec<usize>> = BTreeMap::new();
    for (at, (link, plan)) in plans.iter().enumerate() {
        groups.entry(Group::of(plan, *link, links.len())).or_default().push(at);
    }
    mark(
        session,
        groups
            .values()
            .flatten()
            .filter_map(|at| plans[*at].1.mark.as_ref())
            .map(|mark| mark.to_text()),
    )
    .await?;
    for (group, members) in &groups {
        let Some(link) = members.first().map(|at| &links[plans[*at].0]) else {
            continue;
        };
        match group {
            Group::Delete { .. } => count(session, &deletion(link, plans, members)?, members.len()).await?,
            Group::Update { columns, .. } => {
                count(session, &change(link, columns, plans, members)?, members.len()).await?;
            }
            Group::Insert { columns, .. } => make(session, link, columns, plans, members).await?,
            Group::None => {}
        }
    }
    Ok(())
}

async fn mark(session: &Session, marks: impl Iterator<Item = String>) -> Outcome<()> {
    let marks: Vec<String> = marks.collect();
    if marks.is_empty() {
        return Ok(());
    }
    session.rows(&statement::emit_marks(marks)).await.map(drop)
}

/// Fewer rows than asked for: a trigger or a row security policy of the app swallowed some. That must not pass as done.
async fn count(session: &Session, statement: &Statement, expected: usize) -> Outcome<()> {
    swallowed(session.execute(statement).await?, expected)
}

fn swallowed(written: u64, expected: usize) -> Outcome<()> {
    if usize::try_from(written) == Ok(expected) {
        return Ok(());
    }
    Err(Failure::poison(
        "ROW_NOT_WRITTEN",
        format!(
            "{written} of {expected} rows were written: a trigger or a row security policy of the target kept the rest"
        ),
    ))
}

fn bad_key() -> Failure {
    Failure::poison(
        "KEY_UNREADABLE",
        "the key of the row does not name the key columns of the link",
    )
}

fn deletion(link: &LinkTable, plans: &[(usize, &mut Plan)], members: &[usize]) -> Outcome<Statement> {
    let keys = members.iter().map(|at| match &plans[*at].1.write {
        Write::Delete { row } => link.key_cells(row).ok_or_else(bad_key),
        _ => Err(bad_key()),
    });
    let keys = transposed(keys.collect::<Outcome<_>>()?, link.link.key.len());
    Ok(statement::delete(&link.table.name, &link.key(), keys))
}

fn change(link: &LinkTable, columns: &[String], plans: &[(usize, &mut Plan)], members: &[usize]) -> Outcome<Statement> {
    let written = link.columns(columns.iter().map(String::as_str));
    let rows = members.iter().map(|at| match &plans[*at].1.write {
        Write::Update { row, values } => {
            let mut cells = link.key_cells(row).ok_or_else(bad_key)?;
            cells.extend(
                written
                    .iter()
                    .zip(values.values())
                    .map(|(column, value)| column.kind.write(value)),
            );
            Ok(cells)
        }
        _ => Err(bad_key()),
    });
    let cells = transposed(rows.collect::<Outcome<_>>()?, link.link.key.len() + written.len());
    Ok(statement::update(&link.table.name, &link.key(), &written, cells))
}

async fn make(
    session: &Session,
    link: &LinkTable,
    columns: &[String],
    plans: &mut [(usize, &mut Plan)],
    members: &[usize],
) -> Outcome<()> {
    let written = link.columns(columns.iter().map(String::as_str));
    let rows = members.iter().filter_map(|at| match &plans[*at].1.write {
        Write::Insert { values, .. } => Some(
            written
                .iter()
                .zip(values.values())
                .map(|(column, value)| column.kind.write(value))
                .collect(),
        ),
        _ => None,
    });
    let cells = transposed(rows.collect(), written.len());
    let made = session
        .rows(&statement::insert(&link.table.name, &link.key(), &written, cells))
        .await?;
    swallowed(made.len() as u64, members.len())?;
    for (at, row) in members.iter().zip(made) {
        let key = row
            .into_iter()
            .next()
            .flatten()
            .and_then(|composite| link.new_key(&composite));
        if let Some(applied) = &mut plans[*at].1.applied {
            applied.row = Some(key.ok_or_else(bad_key)?);
        }
    }
    Ok(())
}
