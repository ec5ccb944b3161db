//! The plan encoder against apache-avro: any rows of any types, byte for byte.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "values are made to fit; a test that unwraps says what it expects"
)]

use apache_avro::Schema;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use bytes::Bytes;
use proptest::prelude::*;
use syncline_capture::envelope::{self, Circumstances, Image, Other, Registered};
use syncline_capture::form::Form;
use syncline_capture::postgres::catalog::{ColumnInfo, TableInfo, TypeInfo, TypeKind};
use syncline_capture::postgres::pgoutput::{ReplicaIdentity, TupleCell};
use syncline_capture::table::{Limits, Table, relation_of};

/// A cell: PostgreSQL's text and what Avro must make of it; `None` is NULL.
type Cell = Option<(String, Value)>;

/// A column: its type, NOT NULL, default.
type Spec = (Type, bool, Option<&'static str>);

/// A type: name, modifier, whether it is an array of it.
#[derive(Clone, Debug)]
struct Type {
    name: &'static str,
    modifier: i32,
    array: bool,
}

fn plain(name: &'static str) -> Type {
    Type {
        name,
        modifier: -1,
        array: false,
    }
}

fn cell_of(kind: &Type) -> BoxedStrategy<(String, Value)> {
    match kind.name {
        "bool" => any::<bool>()
            .prop_map(|v| (if v { "t" } else { "f" }.to_owned(), Value::Boolean(v)))
            .boxed(),
        "int2" => any::<i16>()
            .prop_map(|v| (v.to_string(), Value::Int(i32::from(v))))
            .boxed(),
        "int4" => any::<i32>().prop_map(|v| (v.to_string(), Value::Int(v))).boxed(),
        "int8" => any::<i64>().prop_map(|v| (v.to_string(), Value::Long(v))).boxed(),
        "float4" => any::<f32>().prop_map(|v| (v.to_string(), Value::Float(v))).boxed(),
        "float8" => any::<f64>().prop_map(|v| (v.to_string(), Value::Double(v))).boxed(),
        "numeric" => decimal().boxed(),
        "bytea" => prop::collection::vec(any::<u8>(), 0..80)
            .prop_map(|v| {
                (
                    v.iter()
                        .fold("\\x".to_owned(), |text, byte| format!("{text}{byte:02x}")),
                    Value::Bytes(v),
                )
            })
            .boxed(),
        "date" => (1i32..=9999, 1u32..=12, 1u32..=28)
            .prop_map(|(y, m, d)| {
                let days = jiff::civil::date(y as i16, m as i8, d as i8)
                    .since((jiff::Unit::Day, jiff::civil::date(1970, 1, 1)));
                (format!("{y:04}-{m:02}-{d:02}"), Value::Int(days.unwrap().get_days()))
            })
            .boxed(),
        "time" => (0i64..86_400_000_000)
            .prop_map(|us| {
                let s = us / 1_000_000;
                (
                    format!("{:02}:{:02}:{:02}.{:06}", s / 3600, s / 60 % 60, s % 60, us % 1_000_000),
                    Value::Long(us),
                )
            })
            .boxed(),
        "timestamp" => (-60_000_000_000_000_000i64..250_000_000_000_000_000)
            .prop_map(|us| {
                let at = jiff::Timestamp::from_microsecond(us)
                    .unwrap()
                    .to_zoned(jiff::tz::TimeZone::UTC)
                    .datetime();
                (at.strftime("%Y-%m-%d %H:%M:%S.%6f").to_string(), Value::Long(us))
            })
            .boxed(),
        "timestamptz" => (-60_000_000_000_000_000i64..250_000_000_000_000_000)
            .prop_map(|us| {
                let at = jiff::Timestamp::from_microsecond(us)
                    .unwrap()
                    .to_zoned(jiff::tz::TimeZone::UTC)
                    .datetime();
                let text = at.strftime("%Y-%m-%d %H:%M:%S.%6f+00").to_string();
                (text, Value::String(at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()))
            })
            .boxed(),
        _ => any::<String>().prop_map(|v| (v.clone(), Value::String(v))).boxed(),
    }
}

/// numeric(38,4).
fn decimal() -> impl Strategy<Value = (String, Value)> {
    any::<i128>().prop_map(|v| {
        let v = v / 1000;
        let digits = v.unsigned_abs();
        let text = format!(
            "{}{}.{:04}",
            if v < 0 { "-" } else { "" },
            digits / 10_000,
            digits % 10_000
        );
        (
            text,
            Value::Decimal(apache_avro::Decimal::from(
                num_bigint::BigInt::from(v).to_signed_bytes_be(),
            )),
        )
    })
}

fn array_of(kind: Type) -> BoxedStrategy<(String, Value)> {
    prop::collection::vec(prop::option::of(cell_of(&kind)), 0..6)
        .prop_map(|items| {
            let text: Vec<String> = items
                .iter()
                .map(|item| item.as_ref().map_or("NULL".to_owned(), |(text, _)| quote(text)))
                .collect();
            let values = items.into_iter().map(|item| match item {
                None => Value::Union(0, Box::new(Value::Null)),
                Some((_, value)) => Value::Union(1, Box::new(value)),
            });
            (format!("{{{}}}", text.join(",")), Value::Array(values.collect()))
        })
        .boxed()
}

fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn types() -> Vec<Type> {
    let names = [
        "bool",
        "int2",
        "int4",
        "int8",
        "float4",
        "float8",
        "bytea",
        "date",
        "time",
        "timestamp",
    ];
    let more = ["timestamptz", "text", "varchar", "jsonb", "uuid", "inet", "enum"];
    let mut all: Vec<Type> = names.into_iter().chain(more).map(plain).collect();
    all.push(Type {
        name: "numeric",
        modifier: (38 << 16 | 4) + 4,
        array: false,
    });
    let arrays = ["int4", "int8", "text", "bool", "float8", "date", "timestamptz", "uuid"];
    all.extend(arrays.into_iter().map(|name| Type {
        array: true,
        ..plain(name)
    }));
    all
}

fn row() -> impl Strategy<Value = (Vec<Spec>, Vec<Cell>)> {
    prop::collection::vec((prop::sample::select(types()), any::<bool>(), any::<bool>()), 1..12).prop_flat_map(
        |columns| {
            let cells: Vec<BoxedStrategy<Cell>> = columns
                .iter()
                .map(|(kind, not_null, _)| {
                    let cell = if kind.array {
                        array_of(kind.clone())
                    } else {
                        cell_of(kind)
                    };
                    if *not_null {
                        cell.prop_map(Some).boxed()
                    } else {
                        prop::option::of(cell).boxed()
                    }
                })
                .collect();
            let columns: Vec<_> = columns
                .into_iter()
                .map(|(kind, not_null, default)| {
                    let carries = default && !kind.array && matches!(kind.name, "int4" | "text" | "float8" | "bool");
                    (kind, not_null, carries.then_some("now()"))
                })
                .collect();
            (Just(columns), cells)
        },
    )
}

fn info(columns: &[Spec]) -> TableInfo {
    let columns = columns
        .iter()
        .enumerate()
        .map(|(index, (kind, not_null, default))| ColumnInfo {
            number: i16::try_from(index + 1).unwrap(),
            name: format!("c{index}"),
            type_info: type_info(kind),
            type_modifier: kind.modifier,
            not_null: *not_null,
            default: default.map(str::to_owned),
            default_is_literal: false,
            generated: false,
            computed: false,
            identity: false,
        });
    TableInfo {
        oid: 1,
        schema: "public".to_owned(),
        table: "t".to_owned(),
        columns: columns.collect(),
        primary_key: Vec::new(),
        unique_key: Vec::new(),
        identity: ReplicaIdentity::Full,
        identity_columns: Vec::new(),
        partitioned: false,
        partition: false,
        rows_estimate: None,
    }
}

fn type_info(kind: &Type) -> TypeInfo {
    let base = |kind| TypeInfo {
        oid: 7,
        schema: "s".to_owned(),
        name: "x".to_owned(),
        domain: None,
        kind,
    };
    let element = match kind.name {
        "enum" => base(TypeKind::Enum(vec!["a".to_owned()])),
        name => TypeInfo {
            name: name.to_owned(),
            ..base(TypeKind::Base)
        },
    };
    if kind.array {
        base(TypeKind::Array(Box::new(element)))
    } else {
        element
    }
}

fn expected_row(table: &Table, cells: &[Cell]) -> Value {
    let fields = table.columns.iter().zip(cells).map(|(column, cell)| {
        let value = match (cell, column.nullable, column.default.is_some()) {
            (Some((_, value)), false, _) => value.clone(),
            (Some((_, value)), true, has_default) => Value::Union(u32::from(!has_default), Box::new(value.clone())),
            (None, _, has_default) => Value::Union(u32::from(has_default), Box::new(Value::Null)),
        };
        (column.field.clone(), value)
    });
    Value::Record(fields.collect())
}

fn text(value: &str) -> Value {
    Value::String(value.to_owned())
}

fn some(value: Value) -> Value {
    Value::Union(1, Box::new(value))
}

fn null() -> Value {
    Value::Union(0, Box::new(Value::Null))
}

fn record(fields: Vec<(&str, Value)>) -> Value {
    Value::Record(
        fields
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    )
}

/// The envelope as apache-avro would be given it.
fn expected(table: &Table, cells: &[Cell]) -> Value {
    let source = record(vec![
        ("version", text("3.6.3.Final")),
        ("connector", text("postgresql")),
        ("name", text("x")),
        ("ts_ms", Value::Long(1_700_000_000_000)),
        ("snapshot", Value::Union(0, Box::new(text("false")))),
        ("db", text("db")),
        ("sequence", some(text("[\"40\",\"42\"]"))),
        ("ts_us", some(Value::Long(1_700_000_000_000_123))),
        ("ts_ns", some(Value::Long(1_700_000_000_000_123_000))),
        ("schema", text("public")),
        ("table", text("t")),
        ("txId", some(Value::Long(9))),
        ("lsn", some(Value::Long(42))),
        ("xmin", null()),
        ("origin", some(text("upstream"))),
        ("origin_lsn", some(Value::Long(3))),
    ]);
    record(vec![
        ("before", null()),
        ("after", some(expected_row(table, cells))),
        ("source", source),
        ("transaction", null()),
        ("op", text("c")),
        ("ts_ms", some(Value::Long(1_700_000_000_001))),
        ("ts_us", some(Value::Long(1_700_000_000_001_002))),
        ("ts_ns", some(Value::Long(1_700_000_000_001_002_003))),
    ])
}

fn encoded(table: Table, cells: &[Cell]) -> Vec<u8> {
    let registered = Registered::new(table, (None, 5), &Form::default(), "x", "db");
    let row: Vec<TupleCell> = cells
        .iter()
        .map(|cell| match cell {
            None => TupleCell::Null,
            Some((text, _)) => TupleCell::Text(Bytes::copy_from_slice(text.as_bytes())),
        })
        .collect();
    let circumstances = Circumstances {
        op: 'c',
        snapshot: "false",
        commit_us: 1_700_000_000_000_123,
        lsn: 42,
        tells_lsn: true,
        last_commit_lsn: Some(40),
        xid: Some(9),
        origin: Some(("upstream", 3)),
        transaction: None,
        now_ns: 1_700_000_000_001_002_003,
    };
    let (mut out, mut unsaid) = (Vec::new(), Vec::new());
    let value = envelope::value(
        &registered,
        Image::None,
        Image::Row(&row, Other::None),
        &circumstances,
        &mut out,
        &mut unsaid,
    );
    assert_eq!((value, unsaid.len()), (Ok(0..out.len()), 0));
    assert_eq!(out[..5], [0, 0, 0, 0, 5]);
    out.split_off(5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_row_is_what_apache_avro_writes((columns, cells) in row()) {
        let info = info(&columns);
        let names: Vec<String> = info.columns.iter().map(|column| column.name.clone()).collect();
        let table = Table::new(&relation_of(&info, &names), Some(&info), "x.public.t".to_owned(), &Form::default(), Limits::default());
        let schema = Schema::parse_str(&table.value_schema).unwrap();
        let writer = GenericDatumWriter::builder(&schema).build().unwrap();
        let theirs = writer.write_value_to_vec(expected(&table, &cells)).unwrap();
        prop_assert_eq!(encoded(table, &cells), theirs);
    }
}
