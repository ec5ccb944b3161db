//! The position of each copied row, kept beside the copy: what is not later is left out.
//!
//! A row that was deleted keeps its position, or a replay would bring it back. The empty key stands for the table: the
//! position of its last truncate.

use std::collections::BTreeMap;

use syncline_runtime::{Failure, Outcome};
use syncline_schemas::position::Position;

use crate::postgres::books::Owner;
use crate::postgres::session::Session;
use crate::postgres::statement::{Cells, Column, Statement, TableName};

/// The key that stands for the table.
pub const TABLE: &str = "";

/// The positions of these rows, and of the table.
pub async fn read(
    session: &Session,
    owner: &Owner,
    table: &str,
    keys: impl Iterator<Item = &str>,
) -> Outcome<BTreeMap<String, Position>> {
    let sql = "SELECT r.key, r.epoch::text, r.lsn::text, r.ordinal::text FROM syncline.replica_rows AS r \
        JOIN unnest($4::text[]) AS k(key) ON r.key = k.key \
        WHERE r.pipeline = ($1::text[])[1] AND r.target = ($2::text[])[1] AND r.\"table\" = ($3::text[])[1]";
    let keys = keys.chain([TABLE]).map(|key| Some(key.to_owned())).collect();
    let rows = session.rows(&statement(sql, owner, table, vec![keys])).await?;
    let read = rows.into_iter().map(|row| {
        let [key, epoch, lsn, ordinal] = <[_; 4]>::try_from(row).ok()?;
        let position = Position::new(epoch?.parse().ok()?, lsn?.parse().ok()?, ordinal?.parse().ok()?);
        Some((key?, position))
    });
    read.collect::<Option<_>>()
        .ok_or_else(|| Failure::definite("BOOKS_UNREADABLE", "syncline.replica_rows holds no positions"))
}

/// Notes the positions of rows.
pub async fn write(session: &Session, owner: &Owner, table: &str, rows: &[(String, Position)]) -> Outcome<()> {
    let sql = "INSERT INTO syncline.replica_rows (pipeline, target, \"table\", key, epoch, lsn, ordinal) \
        SELECT ($1::text[])[1], ($2::text[])[1], ($3::text[])[1], v.key, v.epoch::bigint, v.lsn::pg_lsn, v.ordinal::bigint \
        FROM unnest($4::text[], $5::text[], $6::text[], $7::text[]) AS v(key, epoch, lsn, ordinal) \
        ON CONFLICT (pipeline, target, \"table\", key) \
        DO UPDATE SET epoch = EXCLUDED.epoch, lsn = EXCLUDED.lsn, ordinal = EXCLUDED.ordinal";
    let column = |each: &dyn Fn(&(String, Position)) -> String| rows.iter().map(|row| Some(each(row))).collect();
    let arrays = vec![
        column(&|(key, _)| key.clone()),
        column(&|(_, position)| position.epoch.to_string()),
        column(&|(_, position)| position.lsn.to_string()),
        column(&|(_, position)| position.ordinal.to_string()),
    ];
    session.execute(&statement(sql, owner, table, arrays)).await.map(drop)
}

/// Deletes the rows of a copy that are older than `position`.
pub async fn truncate(
    session: &Session,
    owner: &Owner,
    name: &TableName,
    table: &str,
    key: &[&Column],
    position: Position,
) -> Outcome<u64> {
    let matches: Vec<String> = key
        .iter()
        .enumerate()
        .map(|(at, column)| {
            format!(
                "t.{} = (r.key::jsonb ->> ($7::text[])[{}])::{}",
                column.name,
                at + 1,
                column.sql_type
            )
        })
        .collect();
    let sql = format!(
        "DELETE FROM {name} AS t USING syncline.replica_rows AS r \
         WHERE r.pipeline = ($1::text[])[1] AND r.target = ($2::text[])[1] AND r.\"table\" = ($3::text[])[1] \
            AND r.key <> '' AND {} \
            AND (r.epoch, r.lsn, r.ordinal) \
                < (($4::text[])[1]::bigint, ($5::text[])[1]::pg_lsn, ($6::text[])[1]::bigint)",
        matches.join(" AND ")
    );
    let one = |text: String| vec![Some(text)];
    let names = key.iter().map(|column| Some(column.name.name().to_owned())).collect();
    let arrays = vec![
        one(position.epoch.to_string()),
        one(position.lsn.to_string()),
        one(position.ordinal.to_string()),
        names,
    ];
    session.execute(&statement(&sql, owner, table, arrays)).await
}

fn statement(sql: &str, owner: &Owner, table: &str, others: Vec<Cells>) -> Statement {
    let first = [owner.pipeline.as_str(), owner.target.as_str(), table].map(|text| vec![Some(text.to_owned())]);
    Statement {
        sql: sql.to_owned(),
        arrays: first.into_iter().chain(others).collect(),
    }
}
