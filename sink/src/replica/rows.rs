//! Writes changes into a copy: what the fence lets through, one statement for each set of columns.

use std::collections::BTreeMap;

use syncline_runtime::{Failure, Outcome};
use syncline_schemas::lens::{Cell, Row};
use syncline_schemas::mapped::RowKey;
use syncline_schemas::position::Position;

use super::change::{Act, Change};
use super::fence;
use crate::postgres::books::Owner;
use crate::postgres::catalog::Table;
use crate::postgres::session::Session;
use crate::postgres::statement::{self, Column};
use crate::postgres::text;

/// A row and its key.
type KeyedRow<'a> = (&'a RowKey, &'a Row);

/// How many changes were written, and how many were older than what is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Written.
    pub written: u64,
    /// Left out.
    pub older: u64,
}

/// Writes the last change of each of some rows.
pub async fn write(session: &Session, owner: &Owner, table: &Table, changes: Vec<Change>) -> Outcome<Written> {
    let name = label(table);
    let keys = changes
        .iter()
        .filter_map(|change| key(&change.act))
        .map(|key| key.0.as_str());
    let fence = fence::read(session, owner, &name, keys).await?;
    let all = changes.len() as u64;
    let due: Vec<Change> = changes.into_iter().filter(|change| is_later(change, &fence)).collect();
    remove(session, table, &due).await?;
    put(session, table, &due).await?;
    let positions: Vec<(String, Position)> = due
        .iter()
        .filter_map(|change| Some((key(&change.act)?.0.clone(), change.position)))
        .collect();
    if !positions.is_empty() {
        fence::write(session, owner, &name, &positions).await?;
    }
    Ok(Written {
        written: due.len() as u64,
        older: all - due.len() as u64,
    })
}

/// Carries out a change that is no change of one row alone.
pub async fn alone(session: &Session, owner: &Owner, table: &Table, change: &Change) -> Outcome<Written> {
    let name = label(table);
    let old = key(&change.act).map(|key| key.0.as_str());
    let fence = fence::read(session, owner, &name, old.into_iter()).await?;
    if !is_later(change, &fence) {
        return Ok(Written { written: 0, older: 1 });
    }
    let noted = match &change.act {
        Act::Move(old, new) => {
            relocate(session, table, old, new).await?;
            old.0.clone()
        }
        _ => {
            fence::truncate(session, owner, &table.name, &name, &key_columns(table), change.position).await?;
            fence::TABLE.to_owned()
        }
    };
    fence::write(session, owner, &name, &[(noted, change.position)]).await?;
    Ok(Written { written: 1, older: 0 })
}

fn label(table: &Table) -> String {
    format!("{}.{}", table.name.schema.name(), table.name.table.name())
}

fn key(act: &Act) -> Option<&RowKey> {
    match act {
        Act::Put(key, _) | Act::Remove(key) | Act::Move(key, _) => Some(key),
        Act::Truncate => None,
    }
}

/// Later than the last change of its row, and not before the last truncate of its table.
fn is_later(change: &Change, fence: &BTreeMap<String, Position>) -> bool {
    let beyond = |key: &str| fence.get(key).is_none_or(|known| change.position > *known);
    key(&change.act).is_none_or(|key| beyond(&key.0)) && beyond(fence::TABLE)
}

fn key_columns(table: &Table) -> Vec<&Column> {
    table.primary_key.iter().filter_map(|name| table.column(name)).collect()
}

fn key_cells(table: &Table, key: &RowKey) -> Outcome<Vec<Option<String>>> {
    let columns = key.columns().unwrap_or_default();
    let cells: Option<Vec<_>> = key_columns(table)
        .iter()
        .map(|column| Some(column.kind.write(columns.get(column.name.name())?)))
        .collect();
    cells.filter(|cells| !cells.is_empty()).ok_or_else(|| {
        Failure::definite(
            "KEY_DIFFERS",
            format!("the primary key of {} is not the key of its source", table.name),
        )
        .hint("give the copy the primary key of the source")
    })
}

async fn remove(session: &Session, table: &Table, due: &[Change]) -> Outcome<()> {
    let removed = due.iter().filter_map(|change| match &change.act {
        Act::Remove(key) => Some(key_cells(table, key)),
        _ => None,
    });
    let removed: Vec<_> = removed.collect::<Outcome<_>>()?;
    if removed.is_empty() {
        return Ok(());
    }
    let columns = key_columns(table);
    let cells = text::transposed(removed, columns.len());
    session
        .execute(&statement::delete(&table.name, &columns, cells))
        .await
        .map(drop)
}

/// Whole rows are made or replaced. A row with parts that the log did not repeat can only be changed.
async fn put(session: &Session, table: &Table, due: &[Change]) -> Outcome<()> {
    let mut groups: BTreeMap<(bool, Vec<&str>), Vec<KeyedRow<'_>>> = BTreeMap::new();
    for change in due {
        if let Act::Put(key, row) = &change.act {
            let known = row
                .iter()
                .filter(|(name, cell)| **cell != Cell::Unchanged && is_written(table, name));
            let columns: Vec<&str> = known.map(|(name, _)| name.as_str()).collect();
            let whole = !row.values().any(|cell| *cell == Cell::Unchanged);
            groups.entry((whole, columns)).or_default().push((key, row));
        }
    }
    for ((whole, columns), rows) in groups {
        let columns: Vec<&Column> = columns.iter().filter_map(|name| table.column(name)).collect();
        if whole {
            replace(session, table, &columns, &rows).await?;
        } else {
            change(session, table, &columns, &rows).await?;
        }
    }
    Ok(())
}

fn is_written(table: &Table, name: &str) -> bool {
    table.column(name).is_some_and(|column| !column.generated)
}

fn cells(columns: &[&Column], row: &Row) -> Vec<Option<String>> {
    let of = |column: &&Column| match row.get(column.name.name()) {
        Some(Cell::Set(value)) => column.kind.write(value),
        _ => None,
    };
    columns.iter().map(of).collect()
}

async fn replace(session: &Session, table: &Table, columns: &[&Column], rows: &[KeyedRow<'_>]) -> Outcome<()> {
    let cells = text::transposed(rows.iter().map(|(_, row)| cells(columns, row)).collect(), columns.len());
    session
        .execute(&statement::upsert(&table.name, &key_columns(table), columns, cells))
        .await
        .map(drop)
}

async fn change(session: &Session, table: &Table, columns: &[&Column], rows: &[KeyedRow<'_>]) -> Outcome<()> {
    let key = key_columns(table);
    let row = |(of, row): &KeyedRow<'_>| {
        let mut all = key_cells(table, of)?;
        all.extend(cells(columns, row));
        Ok(all)
    };
    let all: Vec<_> = rows.iter().map(row).collect::<Outcome<_>>()?;
    let statement = statement::update(
        &table.name,
        &key,
        columns,
        text::transposed(all, key.len() + columns.len()),
    );
    let written = session.execute(&statement).await?;
    if usize::try_from(written) == Ok(rows.len()) {
        return Ok(());
    }
    let missing = rows.len() as u64 - written;
    Err(Failure::definite(
        "REPLICA_ROW_MISSING",
        format!("{}: {missing} rows were changed at the source that the copy does not have, and the change does not say all of them", table.name),
    )
    .hint("take a new snapshot of the table: syncline-capture --resnapshot"))
}

/// Gives a row its new key. If there is one under that key already, the new row was here first, and the old one goes.
async fn relocate(session: &Session, table: &Table, old: &RowKey, new: &RowKey) -> Outcome<()> {
    let columns = key_columns(table);
    let (old, new) = (key_cells(table, old)?, key_cells(table, new)?);
    let there = statement::lock_rows(
        &table.name,
        &columns,
        &columns,
        text::transposed(vec![new.clone()], columns.len()),
    );
    let statement = if session.rows(&there).await?.is_empty() {
        let all = old.into_iter().chain(new).collect();
        statement::update(
            &table.name,
            &columns,
            &columns,
            text::transposed(vec![all], 2 * columns.len()),
        )
    } else {
        statement::delete(&table.name, &columns, text::transposed(vec![old], columns.len()))
    };
    session.execute(&statement).await.map(drop)
}
