//! Schemas that Debezium 3.6.3 registered, byte for byte (`tests/fixtures/`, made by running it on these tables).

use crate::postgres::pgoutput::ReplicaIdentity;
use crate::table::Table;
use crate::table::fixture::{self, Spec};

macro_rules! golden {
    ($name:literal) => {
        include_str!(concat!("../tests/fixtures/defaults.public.", $name, ".avsc"))
    };
}

const fn numeric(precision: i32, scale: i32) -> i32 {
    (precision << 16 | scale) + 4
}

const fn chars(count: i32) -> i32 {
    count + 4
}

fn plan(name: &str, columns: &[Spec<'_>], key: &[&str]) -> Table {
    fixture::table(&fixture::info(name, columns, key, ReplicaIdentity::Default), "defaults")
}

fn null<'a>(name: &'a str, kind: &'a str, modifier: i32) -> Spec<'a> {
    (name, kind, modifier, false, None)
}

const ID: Spec<'static> = ("id", "int4", -1, true, None);

#[track_caller]
fn check(table: &Table, key: &str, value: &str) {
    assert_eq!(table.key_schema.as_deref(), Some(key));
    assert_eq!(table.value_schema, value);
}

/// The golden schema without the columns that we write and Debezium leaves out or writes as nothing.
fn without(schema: &str, field: &str) -> String {
    let start = schema.find(&format!(r#",{{"name":"{field}","#)).unwrap();
    let end = start + 1 + schema[start + 1..].find(r#",{"name":""#).unwrap();
    format!("{}{}", &schema[..start], &schema[end..])
}

#[test]
fn small_tables() {
    check(
        &plan("marker", &[ID], &["id"]),
        golden!("marker-key.v1"),
        golden!("marker-value.v1"),
    );
    let full = [ID, null("v", "text", -1), null("n", "numeric", numeric(6, 2))];
    check(
        &plan("k_full", &full, &["id"]),
        golden!("k_full-key.v1"),
        golden!("k_full-value.v1"),
    );
    let composite = [
        null("c", "int4", -1),
        ("a", "int4", -1, true, None),
        ("b", "varchar", chars(10), true, None),
        null("v", "text", -1),
    ];
    let table = plan("k_composite", &composite, &["b", "a"]);
    check(&table, golden!("k_composite-key.v1"), golden!("k_composite-value.v1"));
}

#[test]
fn keys_of_many_types() {
    let columns = [
        ("n", "numeric", numeric(8, 2), true, None),
        ("u", "uuid", -1, true, None),
        ("tz", "timestamptz", -1, true, None),
        ("d", "date", -1, true, None),
        ("e", "enum:sad|ok|it's, \"happy\"", -1, true, None),
        ("s", "varchar", chars(5), true, None),
        ("b", "bool", -1, true, None),
        null("v", "int4", -1),
    ];
    let table = plan("k_types", &columns, &["n", "u", "tz", "d", "e", "s", "b"]);
    check(&table, golden!("k_types-key.v1"), golden!("k_types-value.v1"));
}

#[test]
fn numbers() {
    let columns = [
        ID,
        null("i2", "int2", -1),
        null("i4", "int4", -1),
        null("i8", "int8", -1),
        null("n_10_3", "numeric", numeric(10, 3)),
        null("n_8", "numeric", numeric(8, 0)),
        null("n", "numeric", -1),
        null("m", "money", -1),
        null("f4", "float4", -1),
        null("f8", "float8", -1),
        null("b", "bool", -1),
        null("o", "oid", -1),
        null("d_pos", "int4", -1),
        ("d_money", "numeric", numeric(12, 2), true, None),
        null("d_d", "int4", -1),
    ];
    check(
        &plan("t_num", &columns, &["id"]),
        golden!("t_num-key.v1"),
        golden!("t_num-value.v1"),
    );
}

#[test]
fn texts() {
    let mut columns = vec![ID, null("c1", "bpchar", chars(1)), null("c5", "bpchar", chars(5))];
    columns.extend([
        null("v20", "varchar", chars(20)),
        null("v", "varchar", -1),
        null("t", "text", -1),
    ]);
    columns.extend([
        null("ci", "citext", -1),
        null("nm", "name", -1),
        null("em", "citext", -1),
    ]);
    columns.extend([null("by", "bytea", -1), null("x", "xml", -1), null("qc", "char", -1)]);
    check(
        &plan("t_text", &columns, &["id"]),
        golden!("t_text-key.v1"),
        golden!("t_text-value.v1"),
    );
}

#[test]
fn times() {
    let mut columns = vec![ID, null("d", "date", -1)];
    columns.extend([
        null("t", "time", -1),
        null("t0", "time", 0),
        null("t3", "time", 3),
        null("t6", "time", 6),
    ]);
    columns.extend([
        null("ttz", "timetz", -1),
        null("ttz3", "timetz", 3),
        null("ts", "timestamp", -1),
    ]);
    columns.extend([
        null("ts0", "timestamp", 0),
        null("ts3", "timestamp", 3),
        null("ts6", "timestamp", 6),
    ]);
    columns.extend([
        null("tz", "timestamptz", -1),
        null("tz0", "timestamptz", 0),
        null("tz3", "timestamptz", 3),
    ]);
    columns.extend([null("iv", "interval", -1), null("iv3", "interval", 3)]);
    check(
        &plan("t_time", &columns, &["id"]),
        golden!("t_time-key.v1"),
        golden!("t_time-value.v1"),
    );
}

#[test]
fn arrays() {
    let mut columns = vec![ID];
    columns.extend([("i2", "_int2"), ("i4", "_int4"), ("i8", "_int8"), ("tx", "_text")].map(|(n, t)| null(n, t, -1)));
    columns.extend([
        null("vc", "_varchar", chars(10)),
        null("ch", "_bpchar", chars(3)),
        null("n", "_numeric", -1),
    ]);
    columns.push(null("n2", "_numeric", numeric(10, 2)));
    columns.extend([("f4", "_float4"), ("f8", "_float8"), ("b", "_bool"), ("d", "_date")].map(|(n, t)| null(n, t, -1)));
    columns.extend([("t", "_time"), ("ttz", "_timetz"), ("ts", "_timestamp")].map(|(n, t)| null(n, t, -1)));
    columns.extend([
        null("ts3", "_timestamp", 3),
        null("tz", "_timestamptz", -1),
        null("u", "_uuid", -1),
    ]);
    columns.extend([("j", "_json"), ("jb", "_jsonb"), ("by", "_bytea"), ("ip", "_inet")].map(|(n, t)| null(n, t, -1)));
    columns.extend([("cd", "_cidr"), ("mac", "_macaddr")].map(|(n, t)| null(n, t, -1)));
    columns.push(null("e", "_enum:sad|ok|it's, \"happy\"", -1));
    columns.extend([("ci", "_citext"), ("r4", "_int4range"), ("rtz", "_tstzrange")].map(|(n, t)| null(n, t, -1)));
    columns.extend([("h", "_hstore"), ("lt", "_ltree"), ("o", "_oid")].map(|(n, t)| null(n, t, -1)));
    let value = without(golden!("t_array-value.v1"), "b8");
    check(&plan("t_array", &columns, &["id"]), golden!("t_array-key.v1"), &value);
}

#[test]
fn the_rest() {
    let mut columns = vec![
        ID,
        null("u", "uuid", -1),
        null("j", "json", -1),
        null("jb", "jsonb", -1),
    ];
    columns.extend(
        [("ip", "inet"), ("cd", "cidr"), ("mac", "macaddr"), ("mac8", "macaddr8")].map(|(n, t)| null(n, t, -1)),
    );
    columns.extend([
        null("e", "enum:sad|ok|it's, \"happy\"", -1),
        null("tsv", "tsvector", -1),
    ]);
    columns.extend([
        null("b1", "bit", 1),
        null("b8", "bit", 8),
        null("b20", "bit", 20),
        null("vb", "varbit", -1),
    ]);
    columns.extend([
        null("vb10", "varbit", 10),
        null("pt", "point", -1),
        null("lt", "ltree", -1),
    ]);
    columns.extend([("h", "hstore"), ("r4", "int4range"), ("r8", "int8range")].map(|(n, t)| null(n, t, -1)));
    columns.extend([("rn", "numrange"), ("rts", "tsrange"), ("rtz", "tstzrange")].map(|(n, t)| null(n, t, -1)));
    columns.push(null("rd", "daterange", -1));
    check(
        &plan("t_misc", &columns, &["id"]),
        golden!("t_misc-key.v1"),
        golden!("t_misc-value.v1"),
    );
}

#[test]
fn defaults() {
    let required = |name, kind, modifier, default| (name, kind, modifier, true, Some(default));
    let optional = |name, kind, modifier, default| (name, kind, modifier, false, Some(default));
    let mood = "enum:sad|ok|it's, \"happy\"";
    let columns = [
        required("id", "int4", -1, "nextval('t_default_id_seq'::regclass)"),
        ("ident", "int4", -1, true, None),
        required("i2", "int2", -1, "7"),
        required("i4", "int4", -1, "'-1'::integer"),
        optional("i4n", "int4", -1, "42"),
        required("i8", "int8", -1, "'9000000000'::bigint"),
        required("f8", "float8", -1, "1.5"),
        optional("f8x", "float8", -1, "'100000000000000000000'::numeric"),
        required("n", "numeric", numeric(10, 3), "12.5"),
        optional("n0", "numeric", -1, "3.14"),
        optional("m", "money", -1, "9.99"),
        required("b", "bool", -1, "true"),
        required("t", "text", -1, "'it''s'::text"),
        optional("tn", "text", -1, "''::text"),
        optional("tnull", "text", -1, "NULL::text"),
        optional("vc", "varchar", chars(8), "'abc'::character varying"),
        optional("ch", "bpchar", chars(4), "'xy'::bpchar"),
        required("e", mood, -1, "'ok'::mood"),
        optional("en", mood, -1, "'sad'::mood"),
        required("d", "date", -1, "'2020-02-29'::date"),
        optional("dn", "date", -1, "CURRENT_DATE"),
        optional("ti", "time", -1, "'12:34:56.789012'::time without time zone"),
        required("ti3", "time", 3, "'12:34:56.789'::time without time zone"),
        required(
            "ts",
            "timestamp",
            -1,
            "'2020-01-01 00:00:00'::timestamp without time zone",
        ),
        optional(
            "ts3",
            "timestamp",
            3,
            "'2020-01-01 00:00:00.123'::timestamp without time zone",
        ),
        required("tnow", "timestamp", -1, "now()"),
        required(
            "tz",
            "timestamptz",
            -1,
            "'2019-12-31 22:00:00+00'::timestamp with time zone",
        ),
        required("tznow", "timestamptz", -1, "now()"),
        required("iv", "interval", -1, "'1 day 02:00:00'::interval"),
        required("u", "uuid", -1, "'00000000-0000-0000-0000-000000000001'::uuid"),
        required("ug", "uuid", -1, "gen_random_uuid()"),
        optional("j", "json", -1, "'{\"a\":1}'::json"),
        required("jb", "jsonb", -1, "'{}'::jsonb"),
        required("by", "bytea", -1, "'\\x0102'::bytea"),
        optional("b1", "bit", 1, "'1'::\"bit\""),
        required("b8", "bit", 8, "'00001111'::\"bit\""),
        optional("ip", "inet", -1, "'10.0.0.1'::inet"),
        required("ai", "_int4", -1, "'{}'::integer[]"),
        optional("at", "_text", -1, "'{a,b}'::text[]"),
        optional("h", "hstore", -1, "'\"k\"=>\"v\"'::hstore"),
        required("fn", "int4", -1, "(1 + 2)"),
        optional("up", "text", -1, "upper('abc'::text)"),
        optional("pt", "point", -1, "'(1,2)'::point"),
    ];
    check(
        &plan("t_default", &columns, &["id"]),
        golden!("t_default-key.v1"),
        golden!("t_default-value.v1"),
    );
}

#[test]
fn large_values() {
    let mut columns = vec![
        ID,
        null("small", "int4", -1),
        null("big", "text", -1),
        null("bigb", "bytea", -1),
    ];
    columns.extend([("biga", "_text"), ("bigi", "_int4"), ("bigj", "jsonb")].map(|(n, t)| null(n, t, -1)));
    columns.extend([("bigh", "hstore"), ("bigx", "xml"), ("bigu", "_uuid")].map(|(n, t)| null(n, t, -1)));
    columns.push(("bign", "text", -1, true, Some("'n'::text")));
    columns.extend([("bigl", "_int8"), ("bigba", "_bytea"), ("bignu", "_numeric")].map(|(n, t)| null(n, t, -1)));
    columns.push(null("bigtz", "_timestamptz", -1));
    check(
        &plan("toasted", &columns, &["id"]),
        golden!("toasted-key.v1"),
        golden!("toasted-value.v1"),
    );
}

#[test]
fn a_table_that_is_altered() {
    let (v, n, d) = (
        null("v", "text", -1),
        null("n", "int4", -1),
        ("d", "text", -1, true, Some("'dflt'::text")),
    );
    let (w, wide) = (("w", "text", -1, true, None), null("n", "int8", -1));
    let steps: [(&[Spec<'_>], &str); 6] = [
        (&[ID, v], golden!("altered-value.v1")),
        (&[ID, v, n], golden!("altered-value.v2")),
        (&[ID, v, n, d], golden!("altered-value.v3")),
        (&[ID, v, wide, d], golden!("altered-value.v4")),
        (&[ID, w, wide, d], golden!("altered-value.v5")),
        (&[ID, w, d], golden!("altered-value.v6")),
    ];
    for (columns, schema) in steps {
        check(&plan("altered", columns, &["id"]), golden!("altered-key.v1"), schema);
    }
}

#[test]
fn odd_names() {
    let names = ["Odd Col", "sélect", "1digit", "a-b", "c.d", "A b"];
    let types = ["text", "int4", "int4", "int4", "int4", "int4"];
    let columns: Vec<Spec<'_>> = std::iter::once(ID)
        .chain(names.into_iter().zip(types).map(|(n, t)| null(n, t, -1)))
        .collect();
    let info = fixture::info("Odd Table", &columns, &["id"], ReplicaIdentity::Default);
    let mut relation = crate::table::relation_of(&info, &names.map(str::to_owned));
    relation.columns.insert(
        0,
        crate::table::relation_of(&info, &["id".to_owned()]).columns.remove(0),
    );
    let topic = syncline_schemas::topic::capture("defaults", "public", "Odd Table");
    let table = Table::new(
        &relation,
        Some(&info),
        topic,
        &crate::form::Form::default(),
        crate::table::Limits::default(),
    );
    check(&table, golden!("Odd_Table-key.v1"), golden!("Odd_Table-value.v1"));
}
