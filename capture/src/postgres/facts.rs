//! What the catalogue says of a table and the log does not: which table a name stands for, and traces of DDL that changes
//! rows without an event. One query for all tables, cheap enough to be asked every few seconds.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use syncline_runtime::{Failure, Outcome};

use crate::postgres::control::Control;
use crate::postgres::quote::TableName;

/// What is known of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// Object id: a table dropped or renamed and made again has another.
    pub oid: u32,
    /// Object id of its row in the publication's list: put there again, it has another. 0: not published.
    pub membership: u32,
    /// Stands for the files of its rows: a rewrite changes it (so do VACUUM FULL and TRUNCATE).
    pub files: String,
    /// Type of each column, and which transaction wrote its row in the catalogue: ALTER TABLE changes that.
    pub columns: BTreeMap<String, (String, String)>,
    /// Its columns whose older rows have a value that is only in the catalogue: ADD COLUMN with a constant default.
    pub missing: BTreeSet<String>,
    /// Labels of the enums that it uses, by object id.
    pub labels: BTreeMap<u32, String>,
    /// Its partitions that hold rows, and whether each was a table of its own before.
    pub partitions: BTreeMap<u32, bool>,
    /// Not in the log at all.
    pub unlogged: bool,
}

/// Looks at the tables that are there, by `schema.table`.
pub fn look(control: &Control, publication: &str, tables: &[TableName]) -> Outcome<BTreeMap<String, Facts>> {
    let schemas: Vec<&str> = tables.iter().map(|table| table.schema.as_str()).collect();
    let names: Vec<&str> = tables.iter().map(|table| table.table.as_str()).collect();
    let rows = control.rows(
        &statement(control.server_version()),
        &[&schemas, &names, &publication],
        "looking for changes of the tables",
    )?;
    rows.iter()
        .map(|row| {
            let (name, facts): (String, String) = (row.get(0), row.get(1));
            let facts = serde_json::from_str(&facts).map_err(|error| {
                Failure::transient("SOURCE_PROTOCOL", "reading what the catalogue says").source(error)
            })?;
            Ok((name, facts))
        })
        .collect()
}

/// `pg_publication_namespace` came with 15.
fn statement(server_version: u32) -> String {
    let by_schema = match server_version {
        150_000.. => {
            "(SELECT m.oid FROM pg_publication_namespace m JOIN pg_publication p ON p.oid = m.pnpubid
               WHERE p.pubname = $3 AND m.pnnspid = c.relnamespace)"
        }
        _ => "NULL",
    };
    format!(
        "WITH wanted AS (
           SELECT c.oid, c.relkind, c.relpersistence, c.relnamespace, w.schema_name || '.' || w.table_name AS name
             FROM unnest($1::text[], $2::text[]) AS w(schema_name, table_name)
             JOIN pg_namespace n ON n.nspname = w.schema_name
             JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.table_name AND c.relkind IN ('r', 'p')),
         leaf AS (
           SELECT w.oid AS root, l.oid, l.relfilenode, w.oid <> l.oid AS partition
             FROM wanted w
            CROSS JOIN LATERAL (SELECT w.oid AS oid WHERE w.relkind = 'r'
                                 UNION ALL
                                SELECT t.relid::oid FROM pg_partition_tree(w.oid) t WHERE w.relkind = 'p' AND t.isleaf) x
             JOIN pg_class l ON l.oid = x.oid)
         SELECT c.name, jsonb_build_object(
           'oid', c.oid::int8,
           'membership', coalesce(
              (SELECT m.oid FROM pg_publication_rel m JOIN pg_publication p ON p.oid = m.prpubid
                WHERE p.pubname = $3 AND m.prrelid = c.oid),
              {by_schema},
              (SELECT p.oid FROM pg_publication p WHERE p.pubname = $3 AND p.puballtables), 0)::int8,
           'files', coalesce((SELECT md5(string_agg(l.relfilenode::text, ',' ORDER BY l.oid))
                                FROM leaf l WHERE l.root = c.oid), ''),
           'columns', coalesce((SELECT jsonb_object_agg(a.attname || '/' || a.attnum,
                                         jsonb_build_array(a.atttypid || ':' || a.atttypmod, a.xmin::text))
                                  FROM pg_attribute a
                                 WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                                   AND a.attgenerated = ''), '{{}}'),
           'missing', coalesce((SELECT jsonb_agg(DISTINCT a.attname || '/' || a.attnum)
                                  FROM leaf l JOIN pg_attribute a ON a.attrelid = l.oid
                                 WHERE l.root = c.oid AND a.atthasmissing AND NOT a.attisdropped), '[]'),
           'labels', coalesce((SELECT jsonb_object_agg(e.oid::text, e.enumlabel) FROM pg_enum e
                                WHERE e.enumtypid IN (
                                  SELECT coalesce(nullif(t.typbasetype, 0), nullif(t.typelem, 0), t.oid)
                                    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
                                   WHERE a.attrelid = c.oid AND a.attnum > 0)), '{{}}'),
           'partitions', coalesce((SELECT jsonb_object_agg(l.oid::text, i.xmin::text <> a.xmin::text)
                                     FROM leaf l
                                     JOIN pg_inherits i ON i.inhrelid = l.oid
                                     JOIN pg_attribute a ON a.attrelid = l.oid AND a.attnum = -1
                                    WHERE l.root = c.oid AND l.partition), '{{}}'),
           'unlogged', c.relpersistence <> 'p')::text
         FROM wanted c"
    )
}

/// What a table's facts mean against those known before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Another table stands under the name, or it was not published for a while: all of it has to be read.
    Anew(String),
    /// Rows have changed or come or gone without an event.
    Backfill(String),
}

/// Pure: compares.
pub fn compare(before: &Facts, now: &Facts) -> Option<Change> {
    if before.oid != now.oid {
        return Some(Change::Anew("another table stands under this name".to_owned()));
    }
    if before.membership != 0 && now.membership != 0 && before.membership != now.membership {
        return Some(Change::Anew(
            "it was taken out of the publication and put back".to_owned(),
        ));
    }
    rewritten(before, now).map(Change::Backfill)
}

fn rewritten(before: &Facts, now: &Facts) -> Option<String> {
    if let Some(column) = now.missing.difference(&before.missing).next() {
        let name = column.rsplit_once('/').map_or(column.as_str(), |(name, _)| name);
        return Some(format!(
            "column {name} was added with a default: rows from before have it without an event"
        ));
    }
    let renamed = |(oid, label): (&u32, &String)| now.labels.get(oid).is_some_and(|renamed| renamed != label);
    if before.labels.iter().any(renamed) {
        return Some("a label of an enum was renamed: rows have the new name without an event".to_owned());
    }
    if before.partitions.keys().any(|oid| !now.partitions.contains_key(oid)) {
        return Some("a partition was detached or dropped: its rows are gone without an event".to_owned());
    }
    let attached = |(oid, attached): (&u32, &bool)| *attached && !before.partitions.contains_key(oid);
    if now.partitions.iter().any(attached) {
        return Some("a table was attached as a partition: its rows came without an event".to_owned());
    }
    if now.unlogged && !before.unlogged {
        return Some("it is unlogged: its changes are in no log until it is SET LOGGED and read again".to_owned());
    }
    // A partition more or less changes the files as well; VACUUM FULL and TRUNCATE change nothing else.
    let rewritten = before.files != now.files && altered(before, now) && before.partitions == now.partitions;
    rewritten.then(|| "ALTER TABLE has rewritten its rows: values may have changed without an event".to_owned())
}

/// Whether a column was added or altered. Any rewrite, VACUUM FULL too, puts the values that were only in the catalogue
/// into the rows and writes that down in the catalogue: of such a column only the type counts.
fn altered(before: &Facts, now: &Facts) -> bool {
    now.columns.iter().any(|(name, (kind, written))| {
        let filled = before.missing.contains(name) && !now.missing.contains(name);
        let same = |(old_kind, old_written): &(String, String)| kind == old_kind && (filled || written == old_written);
        !before.columns.get(name).is_some_and(same)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(kind: &str, written: &str) -> (String, String) {
        (kind.to_owned(), written.to_owned())
    }

    fn set(facts: &mut Facts, name: &str, kind: &str, written: &str) {
        facts.columns.insert(name.to_owned(), column(kind, written));
    }

    fn known() -> Facts {
        Facts {
            oid: 7,
            membership: 8,
            files: "f".to_owned(),
            columns: BTreeMap::from(["id/1", "old/2"].map(|name| (name.to_owned(), column("23:-1", "700")))),
            missing: BTreeSet::from(["old/2".to_owned()]),
            labels: BTreeMap::from([(1, "red".to_owned())]),
            partitions: BTreeMap::from([(11, false), (12, true)]),
            unlogged: false,
        }
    }

    fn changed(change: impl FnOnce(&mut Facts)) -> Option<Change> {
        let mut now = known();
        change(&mut now);
        compare(&known(), &now)
    }

    fn needs_backfill(change: impl FnOnce(&mut Facts)) -> bool {
        matches!(changed(change), Some(Change::Backfill(_)))
    }

    #[test]
    fn what_changes_no_row_needs_nothing() {
        assert_eq!(changed(|_| ()), None);
        assert_eq!(changed(|now| now.files = "vacuumed".to_owned()), None);
        assert_eq!(changed(|now| set(now, "id/1", "23:-1", "another default")), None);
        let vacuumed = |now: &mut Facts| {
            now.files = "vacuumed".to_owned();
            now.missing.clear();
            set(now, "old/2", "23:-1", "701");
        };
        assert_eq!(changed(vacuumed), None);
        assert_eq!(changed(|now| now.missing.clear()), None);
        assert_eq!(changed(|now| _ = now.labels.insert(2, "blue".to_owned())), None);
        assert_eq!(changed(|now| _ = now.partitions.insert(13, false)), None);
        assert_eq!(changed(|now| now.membership = 0), None);
    }

    #[test]
    fn what_changes_rows_without_an_event_is_noticed() {
        assert!(needs_backfill(|now| _ = now.missing.insert("new/3".to_owned())));
        assert!(needs_backfill(|now| _ = now.labels.insert(1, "crimson".to_owned())));
        assert!(needs_backfill(|now| _ = now.partitions.remove(&11)));
        assert!(needs_backfill(|now| _ = now.partitions.insert(13, true)));
        assert!(needs_backfill(|now| now.unlogged = true));
        assert!(needs_backfill(|now| {
            now.files = "rewritten".to_owned();
            set(now, "id/1", "23:-1", "701");
        }));
        assert!(needs_backfill(|now| {
            now.files = "rewritten".to_owned();
            now.missing.clear();
            set(now, "old/2", "20:-1", "701");
        }));
    }

    #[test]
    fn a_table_is_more_than_its_name() {
        assert!(matches!(changed(|now| now.oid = 9), Some(Change::Anew(_))));
        assert!(matches!(changed(|now| now.membership = 9), Some(Change::Anew(_))));
    }
}
