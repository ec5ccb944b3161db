//! A table's plan: everything about its rows that does not change from row to row, made once per shape.
//!
//! The log says which columns there are and of which type, the catalogue what it does not say: NOT NULL, defaults,
//! labels, the order of the key. The catalogue is read *later* than the log was written, so the log is right about
//! what it says, and a column that the catalogue no longer knows is written as its type alone tells.

use crate::avro;
use crate::avro_schema::{self, Release, Style};
use crate::default;
use crate::encode::{self, Placeholder, Reading, Written};
use crate::form::{Fidelity, Form};
use crate::mask::Mask;
use crate::postgres::catalog::{ColumnInfo, TableInfo, TypeInfo, TypeKind};
use crate::postgres::pgoutput::{self, Relation, ReplicaIdentity};
use crate::text::number::Unscaled;
use crate::types::Kind;

/// A column and how it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name in the database.
    pub name: String,
    /// Its name in the schema.
    pub field: String,
    /// How its values are written.
    pub kind: Kind,
    /// Whether NULL is allowed.
    pub nullable: bool,
    /// The default that the schema carries, in the type's text form.
    pub default: Option<String>,
    /// Left out of before and after: nobody wants it, or Debezium does not know its type. (A column of the key stays in the
    /// key.)
    pub hidden: bool,
    /// What is done to its values in before and after.
    pub mask: Option<Mask>,
    /// The parameter by which the schema tells of that.
    pub parameter: Option<(&'static str, String)>,
    /// The characters that its type holds, if there is a bound.
    pub length_max: Option<usize>,
}

impl Column {
    /// Branch of the union that is null, if the column is a union: a default puts the value first.
    pub fn null_branch(&self) -> Option<u8> {
        self.nullable.then_some(if self.default.is_some() {
            avro::SECOND
        } else {
            avro::FIRST
        })
    }

    /// Branch of the union that is the value.
    pub fn value_branch(&self) -> Option<u8> {
        self.nullable.then_some(if self.default.is_some() {
            avro::FIRST
        } else {
            avro::SECOND
        })
    }
}

/// A table's plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Schema in the database.
    pub schema: String,
    /// Name in the database.
    pub name: String,
    /// The topic of its changes.
    pub topic: String,
    /// What the log holds of an old row.
    pub identity: ReplicaIdentity,
    /// Its columns, in the order of the cells.
    pub columns: Vec<Column>,
    /// The columns of the key, as indices, in the order of the key. Empty: the table has none.
    pub key: Vec<usize>,
    /// The columns that the log has of an old row, as indices, where it has not the whole row.
    pub identified: Vec<usize>,
    /// What to do where Debezium loses something: of a key that the log does not have it makes one of zeros.
    pub fidelity: Fidelity,
    /// Text of the schema of its keys, if it has any.
    pub key_schema: Option<String>,
    /// Text of the schema of its values.
    pub value_schema: String,
    /// Which of Debezium's releases is stood in for.
    pub release: Release,
    /// What stands for values that the log does not hold.
    pub placeholder: Placeholder,
    /// Each column as it stands in a before-image that has only the key: null, or the default or zero of NOT NULL.
    fill: Vec<Vec<u8>>,
}

/// What the registry at hand cannot bear.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Leave out defaults that are JSON objects: Apicurio refuses a schema that contains `"default":"{}"`.
    pub no_object_defaults: bool,
}

impl Table {
    /// The plan of `relation` on `topic`, with what the catalogue adds.
    pub fn new(relation: &Relation, info: Option<&TableInfo>, topic: String, form: &Form, limits: Limits) -> Self {
        let mut columns: Vec<Column> = relation
            .columns
            .iter()
            .map(|column| plan(column, info, form, limits))
            .collect();
        make_unique(&mut columns);
        for column in &mut columns {
            select(relation, column, form);
        }
        let mut key = chosen_key(relation, form);
        if key.is_empty() {
            key = own_key(relation, info, form.fidelity);
            for &index in &key {
                columns[index].nullable = false;
            }
        }
        key.retain(|&index| columns[index].kind.is_shown());
        let namespace = avro_schema::namespace(&topic, form.schema_names);
        // A key is never masked.
        let key_columns: Vec<Column> = key
            .iter()
            .map(|&index| Column {
                parameter: None,
                ..columns[index].clone()
            })
            .collect();
        let style = Style {
            release: Release::of(&form.emulated),
            reading: reading(form),
        };
        let shown = columns.iter().filter(|column| !column.hidden);
        Self {
            schema: relation.schema.clone(),
            name: relation.table.clone(),
            identity: relation.identity,
            key_schema: (!key.is_empty()).then(|| avro_schema::key(&namespace, &key_columns, style)),
            value_schema: avro_schema::envelope(&namespace, shown, style),
            fill: columns.iter().map(|column| fill(column, style.reading)).collect(),
            release: style.release,
            placeholder: Placeholder::new(&form.unavailable),
            topic,
            columns,
            key,
            identified: (0..relation.columns.len())
                .filter(|&index| relation.columns[index].is_key)
                .collect(),
            fidelity: form.fidelity,
        }
    }

    /// How values are read, in a snapshot or from the log.
    pub fn reading(&self, snapshot: bool) -> Reading {
        Reading {
            debezium: self.fidelity == Fidelity::Debezium,
            snapshot,
        }
    }

    /// The names that Avro cannot bear: there are some only where names are not to be adjusted.
    pub fn illegal_names(&self) -> Vec<&str> {
        let shown = self.columns.iter().filter(|column| !column.hidden);
        let fields = shown.map(|column| column.field.as_str());
        fields.filter(|field| !avro_schema::is_legal(field)).collect()
    }

    /// `schema.table`.
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    /// The columns whose type has no form of its own: `column` of type unknown to Debezium.
    pub fn foreign_columns(&self) -> impl Iterator<Item = &str> {
        self.columns
            .iter()
            .filter(|column| column.kind.is_foreign())
            .map(|column| column.name.as_str())
    }

    /// What column `index` is in a before-image that has only the key.
    pub fn fill(&self, index: usize) -> &[u8] {
        &self.fill[index]
    }
}

/// The shape that the log will give a table's rows, from the catalogue: what a snapshot row is.
pub fn relation_of(info: &TableInfo, published: &[String]) -> Relation {
    let columns = info.columns.iter().filter(|column| published.contains(&column.name));
    Relation {
        oid: info.oid,
        schema: info.schema.clone(),
        table: info.table.clone(),
        identity: info.identity,
        columns: columns
            .map(|column| pgoutput::Column {
                name: column.name.clone(),
                type_oid: column.type_info.oid,
                type_modifier: column.type_modifier,
                is_key: info.identity_columns.contains(&column.name),
            })
            .collect(),
    }
}

/// How defaults are read.
fn reading(form: &Form) -> Reading {
    Reading {
        debezium: form.fidelity == Fidelity::Debezium,
        snapshot: false,
    }
}

fn plan(column: &pgoutput::Column, info: Option<&TableInfo>, form: &Form, limits: Limits) -> Column {
    let known = info.and_then(|info| info.column(&column.name));
    let kind = kind(column, known, form);
    let expression = known
        .filter(|known| !known.identity && has_default(&known.type_info))
        .and_then(|known| known.default.as_deref());
    // What the schema cannot say must not be believed here: it decides which branch of the union is null.
    let default = default::carried(&kind, expression, form)
        .filter(|text| avro_schema::default_json(&kind, text, reading(form)).is_some())
        .filter(|text| !(limits.no_object_defaults && text.trim_start().starts_with('{')));
    Column {
        name: column.name.clone(),
        field: avro_schema::field_name(&column.name, form.field_names),
        nullable: !known.is_some_and(|known| known.not_null),
        hidden: !kind.is_shown(),
        kind,
        default,
        mask: None,
        parameter: None,
        length_max: length_max(column),
    }
}

/// Types whose defaults Debezium reads, which goes by their names.
fn has_default(info: &TypeInfo) -> bool {
    let without = ["char", "name", "oid"];
    info.domain.is_none() && !without.contains(&info.name.as_str())
}

/// The characters that `varchar(n)` and `char(n)` hold.
fn length_max(column: &pgoutput::Column) -> Option<usize> {
    let bounded = matches!(crate::types::builtin(column.type_oid), "varchar" | "bpchar");
    usize::try_from(column.type_modifier - 4).ok().filter(|_| bounded)
}

/// What the lists say of the column. A mask that the type cannot bear leaves the column out: what was to be hidden must
/// not come out because of its type. (Debezium lets it out.)
fn select(relation: &Relation, column: &mut Column, form: &Form) {
    let (schema, table) = (&relation.schema, &relation.table);
    column.hidden |= !form.selection.has_column(schema, table, &column.name);
    let Some(mask) = form.selection.mask(schema, table, &column.name) else {
        return;
    };
    let borne = avro_schema::bears_mask(&column.kind, mask);
    if borne || form.fidelity == Fidelity::Debezium {
        column.parameter = mask.parameter(column.length_max);
    } else {
        column.hidden |= !matches!(mask, Mask::Truncate(_));
    }
    column.mask = Some(mask.clone()).filter(|_| borne);
}

/// The catalogue's description holds if it is of the type that the log names. (Of a domain the log names the domain.)
fn kind(column: &pgoutput::Column, known: Option<&ColumnInfo>, form: &Form) -> Kind {
    match known {
        Some(known) if known.type_info.oid == column.type_oid => Kind::of(&known.type_info, column.type_modifier, form),
        Some(known) if known.type_info.domain.is_some() => Kind::of(&known.type_info, known.type_modifier, form),
        _ => {
            let builtin = crate::types::builtin(column.type_oid);
            let info = TypeInfo {
                oid: column.type_oid,
                schema: "pg_catalog".to_owned(),
                name: builtin.to_owned(),
                domain: None,
                kind: TypeKind::Base,
            };
            Kind::of(&info, column.type_modifier, form)
        }
    }
}

/// Two columns may become one name; the second gets a number. (Debezium stops here.)
fn make_unique(columns: &mut [Column]) {
    for index in 1..columns.len() {
        let (before, rest) = columns.split_at_mut(index);
        let column = &mut rest[0];
        let wanted = column.field.clone();
        let mut number = 2;
        while !column.hidden && before.iter().any(|other| !other.hidden && other.field == column.field) {
            column.field = format!("{wanted}_{number}");
            number += 1;
        }
    }
}

/// The columns that `message.key.columns` names.
fn chosen_key(relation: &Relation, form: &Form) -> Vec<usize> {
    let names: Vec<&str> = relation.columns.iter().map(|column| column.name.as_str()).collect();
    form.selection.key(&relation.schema, &relation.table, &names)
}

/// The columns of the message key: of the chosen index if rows are identified by one, else of the primary key in its
/// order, else of the first unique index, else what the log marks (where the catalogue knows the table no longer).
/// Debezium takes the primary key even where the log has none of it.
fn own_key(relation: &Relation, info: Option<&TableInfo>, fidelity: Fidelity) -> Vec<usize> {
    let by_catalogue = info.map(|info| match (relation.identity, fidelity) {
        (ReplicaIdentity::Index, Fidelity::Exact) => &info.identity_columns,
        _ if info.primary_key.is_empty() => &info.unique_key,
        _ => &info.primary_key,
    });
    let index_of = |name: &String| relation.columns.iter().position(|column| &column.name == name);
    if let Some(names) = by_catalogue
        && let Some(key) = names.iter().map(index_of).collect::<Option<Vec<usize>>>()
        && (!key.is_empty() || relation.identity == ReplicaIdentity::Full)
    {
        return key;
    }
    if relation.identity == ReplicaIdentity::Full {
        return Vec::new();
    }
    (0..relation.columns.len())
        .filter(|&index| relation.columns[index].is_key)
        .collect()
}

/// Where Debezium's losses are repeated, a null is written as the default if there is one.
fn fill(column: &Column, reading: Reading) -> Vec<u8> {
    if !column.kind.is_shown() {
        return Vec::new();
    }
    let text = column.default.as_deref().unwrap_or(default::zero(&column.kind));
    if let Some(mask) = &column.mask {
        return masked_fill(column, mask, text);
    }
    let is_null = !(reading.debezium && column.default.is_some());
    if let Some(null) = column.null_branch().filter(|_| is_null) {
        return vec![null];
    }
    let mut out: Vec<u8> = column.value_branch().into_iter().collect();
    if let Kind::MoneyText(digits) = column.kind {
        avro::bytes(Unscaled::zero(digits).plain().as_bytes(), &mut out);
        return out;
    }
    let start = out.len();
    // A text is not lost here because its type is `name`.
    let outside_stream = Reading {
        snapshot: true,
        ..reading
    };
    let mut write = |text: &str| {
        out.truncate(start);
        encode::cell(&column.kind, outside_stream, text.as_bytes(), &mut out, &mut None)
    };
    // A default of another type than the column's (a domain's, say): the zero is one for sure, and nothing, false and
    // an empty text are the same byte.
    if write(text) != Ok(Written::Value) && write(default::zero(&column.kind)) != Ok(Written::Value) {
        out.push(0);
    }
    out
}

fn masked_fill(column: &Column, mask: &Mask, text: &str) -> Vec<u8> {
    let null = column.null_branch();
    let text = Some(text.as_bytes()).filter(|_| null.is_none());
    let Some(masked) = avro_schema::masked(&column.kind, mask, text, column.length_max) else {
        return null.into_iter().collect();
    };
    let mut out: Vec<u8> = column.value_branch().into_iter().collect();
    avro::bytes(&masked, &mut out);
    out
}

#[cfg(test)]
pub mod fixture {
    //! Tables as the log and the catalogue describe them, for tests.

    use super::*;

    /// A column of a built-in type: name, type, modifier, NOT NULL, default.
    pub type Spec<'a> = (&'a str, &'a str, i32, bool, Option<&'a str>);

    /// The object id of a built-in type.
    pub fn oid(name: &str) -> u32 {
        (1..4000)
            .find(|oid| crate::types::builtin(*oid) == name)
            .unwrap_or(90_000)
    }

    /// What the catalogue says of a table.
    pub fn info(table: &str, columns: &[Spec<'_>], key: &[&str], identity: ReplicaIdentity) -> TableInfo {
        TableInfo {
            oid: 1000,
            schema: "public".to_owned(),
            table: table.to_owned(),
            columns: columns
                .iter()
                .enumerate()
                .map(|(index, spec)| column(index, spec))
                .collect(),
            primary_key: key.iter().map(|name| (*name).to_owned()).collect(),
            unique_key: Vec::new(),
            identity,
            identity_columns: key.iter().map(|name| (*name).to_owned()).collect(),
            partitioned: false,
            partition: false,
            rows_estimate: None,
        }
    }

    fn column(index: usize, &(name, type_name, type_modifier, not_null, default): &Spec<'_>) -> ColumnInfo {
        ColumnInfo {
            number: i16::try_from(index + 1).unwrap(),
            name: name.to_owned(),
            type_info: type_info(type_name),
            type_modifier,
            not_null,
            default: default.map(str::to_owned),
            default_is_literal: default.is_some_and(|text| !text.contains('(')),
            generated: false,
            computed: false,
            identity: false,
        }
    }

    /// `int4`, `_text`, `enum:sad,ok`.
    fn type_info(name: &str) -> TypeInfo {
        let (name, kind) = match (name.strip_prefix('_'), name.strip_prefix("enum:")) {
            (Some(element), _) => (name, TypeKind::Array(Box::new(type_info(element)))),
            (_, Some(labels)) => ("mood", TypeKind::Enum(labels.split('|').map(str::to_owned).collect())),
            _ => (name, TypeKind::Base),
        };
        TypeInfo {
            oid: oid(name),
            schema: "pg_catalog".to_owned(),
            name: name.to_owned(),
            domain: None,
            kind,
        }
    }

    /// Its plan.
    pub fn table(info: &TableInfo, prefix: &str) -> Table {
        table_in(info, prefix, &Form::default())
    }

    /// Its plan in that form.
    pub fn table_in(info: &TableInfo, prefix: &str, form: &Form) -> Table {
        let names: Vec<String> = info.columns.iter().map(|column| column.name.clone()).collect();
        let topic = format!("{prefix}.{}.{}", info.schema, info.table);
        Table::new(&relation_of(info, &names), Some(info), topic, form, Limits::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_columns_stand_in_the_order_of_the_primary_key() {
        let columns = [
            ("c", "int4", -1, false, None),
            ("a", "int4", -1, true, None),
            ("b", "text", -1, true, None),
        ];
        let table = fixture::table(
            &fixture::info("t", &columns, &["b", "a"], ReplicaIdentity::Default),
            "x",
        );
        assert_eq!(table.key, [2, 1]);
        assert!(
            table
                .key_schema
                .unwrap()
                .contains(r#""fields":[{"name":"b","type":"string"},{"name":"a""#)
        );
    }

    #[test]
    fn a_column_that_the_catalogue_no_longer_knows_is_written_by_its_type() {
        let columns = [
            ("id", "int4", -1, true, None),
            ("v", "text", -1, true, Some("'x'::text")),
        ];
        let info = fixture::info("t", &columns, &["id"], ReplicaIdentity::Default);
        let mut relation = relation_of(&info, &["id".to_owned(), "v".to_owned()]);
        relation.columns[1].name = "old".to_owned();
        let table = Table::new(
            &relation,
            Some(&info),
            "x.public.t".to_owned(),
            &Form::default(),
            Limits::default(),
        );
        assert_eq!(
            (table.columns[1].kind.clone(), table.columns[1].nullable),
            (Kind::Text, true)
        );
        relation.columns[1].type_oid = 99_999;
        let table = Table::new(
            &relation,
            None,
            "x.public.t".to_owned(),
            &Form::default(),
            Limits::default(),
        );
        assert_eq!(table.columns[1].kind, Kind::Foreign);
        assert_eq!(table.key, [0]);
    }

    #[test]
    fn names_that_become_equal_stay_apart() {
        let columns = [("A b", "int4", -1, false, None), ("A-b", "int4", -1, false, None)];
        let table = fixture::table(&fixture::info("t", &columns, &[], ReplicaIdentity::Full), "x");
        assert_eq!(
            (table.columns[0].field.as_str(), table.columns[1].field.as_str()),
            ("A_b", "A_b_2")
        );
        assert!(table.key.is_empty() && table.key_schema.is_none());
    }

    #[test]
    fn a_before_image_of_the_key_alone_has_the_defaults_of_not_null() {
        let columns = [
            ("id", "int4", -1, true, None),
            ("t", "text", -1, true, Some("'n'::text")),
            ("z", "text", -1, true, None),
        ];
        let table = fixture::table(&fixture::info("t", &columns, &["id"], ReplicaIdentity::Default), "x");
        assert_eq!((table.fill(1), table.fill(2)), ([2, b'n'].as_slice(), [0].as_slice()));
    }
}
