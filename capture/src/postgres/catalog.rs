//! What the catalogue says of a table: the facts that neither the log nor a snapshot row carries.
//!
//! It reads and describes; it judges nothing (see `setup.rs`) and knows no Avro.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use syncline_runtime::failure::{Failure, Outcome};
use tokio_postgres::Row;

use crate::postgres::control::Control;
use crate::postgres::pgoutput::ReplicaIdentity;
use crate::postgres::quote::TableName;

/// How many types may lie between a column's and the base of it (domains over domains, arrays of those).
const TYPE_DEPTH_MAX: usize = 32;

/// A table, as the catalogue describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableInfo {
    /// Object id.
    pub oid: u32,
    /// Schema.
    pub schema: String,
    /// Name.
    pub table: String,
    /// Its columns that exist (dropped ones are left out), in the order of their numbers.
    pub columns: Vec<ColumnInfo>,
    /// Names of the primary key's columns, in the order of the key. Empty if there is none.
    pub primary_key: Vec<String>,
    /// Names of the columns of the first unique index, by its name, none of which may be null: what identifies rows where
    /// there is no primary key.
    pub unique_key: Vec<String>,
    /// What the log holds of an old row.
    pub identity: ReplicaIdentity,
    /// Names of the columns of the replica identity: of the primary key, or of the chosen index; empty for full and nothing.
    pub identity_columns: Vec<String>,
    /// A partitioned table (its rows live in partitions).
    pub partitioned: bool,
    /// A partition of another table.
    pub partition: bool,
    /// The planner's estimate of the number of rows; `None` if the table was never analysed.
    pub rows_estimate: Option<u64>,
}

impl TableInfo {
    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&ColumnInfo> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// A column, as the catalogue describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnInfo {
    /// Its number in the table: its identity through renames.
    pub number: i16,
    /// Name.
    pub name: String,
    /// Its type, as declared.
    pub type_info: TypeInfo,
    /// Type modifier of the declaration, -1 if none. Of a domain: the domain's own.
    pub type_modifier: i32,
    /// `NOT NULL` (or a primary key, or a domain that says so).
    pub not_null: bool,
    /// Text of the default expression as `pg_get_expr` gives it, if there is one and the column is not generated.
    pub default: Option<String>,
    /// That expression is a literal (perhaps with a cast) and not computed at insert.
    pub default_is_literal: bool,
    /// `GENERATED ALWAYS AS (..)`: not in the log before PostgreSQL 18, and then if the publication says so.
    pub generated: bool,
    /// The same, computed whenever it is read (`VIRTUAL`): never in the log.
    pub computed: bool,
    /// `GENERATED .. AS IDENTITY`.
    pub identity: bool,
}

/// A type: of a column, of an array's elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeInfo {
    /// Object id. Of a domain: that of the type at the bottom of it.
    pub oid: u32,
    /// Schema, as `oid`.
    pub schema: String,
    /// Name (`int4`, `_text`, `mood`), as `oid`.
    pub name: String,
    /// Name of the domain that the column is declared with, `schema.name`, if it is one.
    pub domain: Option<String>,
    /// What sort of type it is.
    pub kind: TypeKind,
}

/// Sorts of type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TypeKind {
    /// A base type.
    Base,
    /// An enum, with its labels in order.
    Enum(Vec<String>),
    /// An array, with the type of its elements.
    Array(Box<TypeInfo>),
    /// A row type.
    Composite,
    /// A range or multirange.
    Range,
    /// Anything else.
    Other,
}

/// Describes tables, in the order asked for. One that does not exist is an error that names it.
pub fn tables(control: &Control, names: &[TableName]) -> Outcome<Vec<TableInfo>> {
    let doing = "reading the catalogue";
    let schemas: Vec<&str> = names.iter().map(|name| name.schema.as_str()).collect();
    let tables: Vec<&str> = names.iter().map(|name| name.table.as_str()).collect();
    let found = control.rows(TABLES, &[&schemas, &tables], doing)?;
    let found: BTreeMap<TableName, &Row> = found
        .iter()
        .map(|row| (TableName::new(text(row, 1), text(row, 2)), row))
        .collect();
    let oids: Vec<u32> = found.values().map(|row| row.get(0)).collect();
    let columns = control.rows(COLUMNS, &[&oids], doing)?;
    let types = resolve(control, columns.iter().map(|row| row.get(3)))?;
    names
        .iter()
        .map(|name| {
            let row = found.get(name).ok_or_else(|| missing(name))?;
            let oid: u32 = row.get(0);
            let columns = columns.iter().filter(|column| column.get::<_, u32>(0) == oid);
            let columns = columns.map(|row| column(row, &types)).collect::<Outcome<_>>()?;
            table(name, row, columns)
        })
        .collect()
}

/// Describes the types with these object ids: what a Relation message says of a column made while we stream.
pub fn types(control: &Control, oids: impl Iterator<Item = u32>) -> Outcome<BTreeMap<u32, TypeInfo>> {
    Ok(resolve(control, oids)?
        .into_iter()
        .map(|(oid, resolved)| (oid, resolved.info))
        .collect())
}

/// A type with what the domains on the way to its base say.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Resolved {
    info: TypeInfo,
    modifier: i32,
    not_null: bool,
}

fn resolve(control: &Control, oids: impl Iterator<Item = u32>) -> Outcome<BTreeMap<u32, Resolved>> {
    let mut rows: BTreeMap<u32, RawType> = BTreeMap::new();
    let mut wanted: BTreeSet<u32> = oids.collect();
    let asked: Vec<u32> = wanted.iter().copied().collect();
    while !wanted.is_empty() {
        let batch: Vec<u32> = wanted.iter().copied().collect();
        for row in control.rows(TYPES, &[&batch], "reading the catalogue's types")? {
            rows.insert(row.get(0), RawType::read(&row));
        }
        wanted = rows
            .values()
            .flat_map(|raw| [raw.base, raw.element])
            .filter(|oid| *oid != 0 && !rows.contains_key(oid))
            .collect();
        wanted.retain(|oid| !batch.contains(oid));
    }
    Ok(asked
        .into_iter()
        .filter_map(|oid| Some((oid, type_info(oid, &rows, 0)?)))
        .collect())
}

/// A row of `pg_type`.
struct RawType {
    schema: String,
    name: String,
    letter: u8,
    base: u32,
    element: u32,
    not_null: bool,
    base_modifier: i32,
    labels: Vec<String>,
}

impl RawType {
    fn read(row: &Row) -> Self {
        Self {
            schema: text(row, 1),
            name: text(row, 2),
            letter: letter(row, 3),
            base: row.get(4),
            element: row.get(5),
            not_null: row.get(6),
            base_modifier: row.get(7),
            labels: row.get(8),
        }
    }
}

fn type_info(oid: u32, rows: &BTreeMap<u32, RawType>, depth: usize) -> Option<Resolved> {
    let raw = rows.get(&oid).filter(|_| depth < TYPE_DEPTH_MAX)?;
    if raw.letter == b'd' {
        let mut base = type_info(raw.base, rows, depth + 1)?;
        base.info.domain = Some(format!("{}.{}", raw.schema, raw.name));
        base.modifier = if raw.base_modifier == -1 {
            base.modifier
        } else {
            raw.base_modifier
        };
        base.not_null |= raw.not_null;
        return Some(base);
    }
    let kind = match raw.letter {
        b'e' => TypeKind::Enum(raw.labels.clone()),
        b'c' => TypeKind::Composite,
        b'r' | b'm' => TypeKind::Range,
        b'b' if raw.element != 0 => TypeKind::Array(Box::new(type_info(raw.element, rows, depth + 1)?.info)),
        b'b' => TypeKind::Base,
        _ => TypeKind::Other,
    };
    let info = TypeInfo {
        oid,
        schema: raw.schema.clone(),
        name: raw.name.clone(),
        domain: None,
        kind,
    };
    Some(Resolved {
        info,
        modifier: -1,
        not_null: false,
    })
}

fn table(name: &TableName, row: &Row, columns: Vec<ColumnInfo>) -> Outcome<TableInfo> {
    let identity = ReplicaIdentity::from_letter(letter(row, 3)).ok_or_else(|| missing(name))?;
    let estimate: f32 = row.get(6);
    Ok(TableInfo {
        oid: row.get(0),
        schema: name.schema.clone(),
        table: name.table.clone(),
        columns,
        primary_key: row.get(7),
        identity,
        identity_columns: row.get(8),
        unique_key: row.get(9),
        partitioned: letter(row, 4) == b'p',
        partition: row.get(5),
        rows_estimate: whole(estimate),
    })
}

/// `reltuples`: -1 if it is not known.
fn whole(estimate: f32) -> Option<u64> {
    // Exact enough for a percentage, and there is no fallible cast from a float.
    format!("{estimate:.0}").parse().ok()
}

fn column(row: &Row, types: &BTreeMap<u32, Resolved>) -> Outcome<ColumnInfo> {
    let type_oid: u32 = row.get(3);
    let name = text(row, 2);
    let resolved = types.get(&type_oid).cloned().ok_or_else(|| {
        Failure::transient(
            "CATALOGUE_MOVED",
            format!("the type of column {name:?} is gone while it is read"),
        )
    })?;
    let declared: i32 = row.get(4);
    let default: Option<String> = row.get(6);
    let generated = letter(row, 7) != 0;
    let default = default.filter(|_| !generated);
    Ok(ColumnInfo {
        number: row.get(1),
        name,
        type_modifier: if declared == -1 { resolved.modifier } else { declared },
        not_null: row.get::<_, bool>(5) || resolved.not_null,
        default_is_literal: default.as_deref().is_some_and(is_literal),
        type_info: resolved.info,
        default,
        generated,
        computed: letter(row, 7) == b'v',
        identity: letter(row, 8) != 0,
    })
}

/// Whether a default expression is a constant: a number, a quoted text, a truth value or NULL, perhaps with casts.
fn is_literal(expression: &str) -> bool {
    let value = match expression.strip_prefix('\'') {
        Some(rest) => match after_quoted(rest) {
            Some(rest) => return is_casts(rest),
            None => return false,
        },
        None => expression,
    };
    let end = value.find("::").unwrap_or(value.len());
    let (constant, casts) = value.split_at(end);
    let constant = constant.trim_start_matches('(').trim_end_matches(')');
    let number = constant.strip_prefix('-').unwrap_or(constant);
    let numeric = number.starts_with(|first: char| first.is_ascii_digit() || first == '.')
        && number
            .bytes()
            .all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte));
    (numeric || ["true", "false", "NULL"].contains(&constant)) && is_casts(casts)
}

/// What follows the closing quote.
fn after_quoted(mut rest: &str) -> Option<&str> {
    loop {
        rest = &rest[rest.find('\'')? + 1..];
        match rest.strip_prefix('\'') {
            Some(after) => rest = after,
            None => return Some(rest),
        }
    }
}

/// Nothing, or `::type` over and over. A type's name may hold spaces, a modifier and brackets, but no operator.
fn is_casts(rest: &str) -> bool {
    rest.is_empty()
        || rest.starts_with("::")
            && rest
                .chars()
                .all(|character| character.is_alphanumeric() || " _:\"(),.[]".contains(character))
}

/// The labels of every enum, by its object id.
pub fn labels(control: &Control) -> Outcome<HashMap<u32, Vec<String>>> {
    let sql = "SELECT enumtypid, array_agg(enumlabel::text ORDER BY enumsortorder) FROM pg_enum GROUP BY enumtypid";
    let rows = control.rows(sql, &[], "reading the labels of enums")?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

fn text(row: &Row, index: usize) -> String {
    row.get(index)
}

/// A column of PostgreSQL's type `"char"`: a byte, 0 if it is empty.
fn letter(row: &Row, index: usize) -> u8 {
    u8::try_from(row.get::<_, i8>(index)).unwrap_or(0)
}

fn missing(name: &TableName) -> Failure {
    Failure::definite(
        "TABLE_MISSING",
        format!("the source has no table {name}, or this role may not see it"),
    )
    .hint("check the name in the pipeline file, and GRANT USAGE ON SCHEMA and SELECT ON TABLE")
}

const TABLES: &str = "
    SELECT c.oid, n.nspname, c.relname, c.relreplident, c.relkind, c.relispartition, c.reltuples,
           ARRAY(SELECT a.attname::text FROM pg_index i CROSS JOIN unnest(i.indkey) WITH ORDINALITY k(number, place)
                   JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number
                  WHERE i.indrelid = c.oid AND i.indisprimary AND k.place <= i.indnkeyatts ORDER BY k.place),
           ARRAY(SELECT a.attname::text FROM pg_index i CROSS JOIN unnest(i.indkey) WITH ORDINALITY k(number, place)
                   JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number
                  WHERE i.indrelid = c.oid AND k.place <= i.indnkeyatts
                    AND (c.relreplident = 'd' AND i.indisprimary OR c.relreplident = 'i' AND i.indisreplident)
                  ORDER BY k.place),
           ARRAY(SELECT a.attname::text
                   FROM (SELECT i.indkey, i.indnkeyatts FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
                          WHERE i.indrelid = c.oid AND i.indisunique AND NOT i.indisprimary AND i.indisvalid
                            AND i.indpred IS NULL AND i.indexprs IS NULL
                            AND NOT EXISTS (SELECT FROM unnest(i.indkey) WITH ORDINALITY k(number, place)
                                              JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number
                                             WHERE k.place <= i.indnkeyatts AND NOT a.attnotnull)
                          ORDER BY x.relname LIMIT 1) i
                   CROSS JOIN unnest(i.indkey) WITH ORDINALITY k(number, place)
                   JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number
                  WHERE k.place <= i.indnkeyatts ORDER BY k.place)
      FROM unnest($1::text[], $2::text[]) AS w(schema_name, table_name)
      JOIN pg_namespace n ON n.nspname = w.schema_name
      JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.table_name AND c.relkind IN ('r', 'p')";

const COLUMNS: &str = "
    SELECT a.attrelid, a.attnum, a.attname, a.atttypid, a.atttypmod, a.attnotnull,
           pg_get_expr(d.adbin, d.adrelid), a.attgenerated, a.attidentity
      FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
     WHERE a.attrelid = ANY($1) AND a.attnum > 0 AND NOT a.attisdropped
     ORDER BY a.attrelid, a.attnum";

const TYPES: &str = "
    SELECT t.oid, n.nspname, t.typname, t.typtype, t.typbasetype,
           CASE WHEN t.typcategory = 'A' AND t.typlen = -1 THEN t.typelem ELSE 0::oid END, t.typnotnull, t.typtypmod,
           ARRAY(SELECT e.enumlabel::text FROM pg_enum e WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder)
      FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
     WHERE t.oid = ANY($1)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_told_from_expressions() {
        for literal in [
            "0",
            "'a'::text",
            "'it''s'::character varying",
            "(-1)",
            "'-1'::integer",
            "1.50",
            "true",
            "NULL::integer",
            "'{}'::text[]",
            "'x'::\"Odd type\"",
            "1e10",
            "'2020-01-01 00:00:00'::timestamp(3) without time zone",
        ] {
            assert!(is_literal(literal), "{literal}");
        }
        for expression in [
            "now()",
            "nextval('s'::regclass)",
            "('a'::text || 'b'::text)",
            "CURRENT_DATE",
            "'a'::text || 'b'",
            "gen_random_uuid()",
            "1 + 1",
        ] {
            assert!(!is_literal(expression), "{expression}");
        }
    }

    fn raw(letter: u8, name: &str, base: u32, element: u32) -> RawType {
        RawType {
            schema: "public".to_owned(),
            name: name.to_owned(),
            letter,
            base,
            element,
            not_null: letter == b'd',
            base_modifier: if base == 2 { 24 } else { -1 },
            labels: Vec::new(),
        }
    }

    #[test]
    fn a_domain_over_a_domain_is_its_base() {
        let rows = BTreeMap::from([
            (1, raw(b'd', "outer", 2, 0)),
            (2, raw(b'd', "inner", 3, 0)),
            (3, raw(b'b', "varchar", 0, 0)),
        ]);
        let Resolved {
            info,
            modifier,
            not_null,
        } = type_info(1, &rows, 0).unwrap();
        assert_eq!(
            (info.oid, info.name.as_str(), info.domain.as_deref()),
            (3, "varchar", Some("public.outer"))
        );
        assert_eq!((modifier, not_null), (24, true));
    }

    #[test]
    fn types_that_contain_themselves_end() {
        let rows = BTreeMap::from([(1, raw(b'd', "a", 2, 0)), (2, raw(b'd', "b", 1, 0))]);
        assert_eq!(type_info(1, &rows, 0), None);
    }
}
