//! From PostgreSQL's types to ours: which of Debezium's Avro forms a column takes.
//!
//! The list is closed and total: a type that Debezium leaves out (ranges of ranges, row types, `pg_lsn`, types of
//! extensions) is carried in its text form as a plain string, so that no column is ever missing without a word.
//! It must not know Avro's JSON or bytes; `avro_schema` and `encode` do.

use crate::postgres::catalog::{TypeInfo, TypeKind};

/// How a column is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `bool`.
    Bool,
    /// `bit(1)`: a boolean printed as `0` or `1`.
    Bit,
    /// `int2`.
    Int16,
    /// `int4`.
    Int32,
    /// `int8`, `oid`.
    Int64,
    /// `float4`.
    Float32,
    /// `float8`.
    Float64,
    /// `numeric(p,s)`.
    Decimal {
        /// All digits.
        precision: u32,
        /// Digits after the point.
        scale: u32,
    },
    /// `money`.
    Money,
    /// `numeric` without a scale.
    VariableDecimal,
    /// The text family.
    Text,
    /// Other types that Debezium writes as plain text, without their defaults: addresses, ranges, citext.
    Printed,
    /// A text with a name of its own.
    Named(Name),
    /// An enum, with its labels.
    Enum(Vec<String>),
    /// `bytea`.
    Bytes,
    /// `bit(n)`, `varbit(n)`.
    Bits(u32),
    /// `hstore`, as JSON.
    Hstore,
    /// `point`.
    Point,
    /// `date`.
    Date,
    /// `time(0)` to `time(3)`, in milliseconds.
    TimeMillis,
    /// `time`, in microseconds.
    TimeMicros,
    /// `timestamp(0)` to `timestamp(3)`, in milliseconds.
    TimestampMillis,
    /// `timestamp`, in microseconds.
    TimestampMicros,
    /// `timestamptz`, with that many digits of a second.
    ZonedTimestamp(u8),
    /// `timetz`.
    ZonedTime,
    /// `interval`, in microseconds.
    Duration,
    /// An array of one of the others.
    List(Box<Kind>),
    /// A type that Debezium leaves out: its text form.
    Foreign,
}

/// Texts with a name of their own in the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// `json`, `jsonb`.
    Json,
    /// `xml`.
    Xml,
    /// `uuid`.
    Uuid,
    /// `ltree`.
    Ltree,
    /// `tsvector`.
    Tsvector,
}

impl Kind {
    /// How a column of this type and modifier is written.
    pub fn of(info: &TypeInfo, modifier: i32) -> Self {
        match &info.kind {
            TypeKind::Enum(labels) => Kind::Enum(labels.clone()),
            TypeKind::Array(element) => Kind::list(Kind::of(element, modifier)),
            TypeKind::Base | TypeKind::Range => Kind::base(&info.name, modifier),
            TypeKind::Composite | TypeKind::Other => Kind::Foreign,
        }
    }

    /// How a base type of that name is written: also for a column of which the log says the type but not the catalogue.
    pub fn base(name: &str, modifier: i32) -> Self {
        match name {
            "bool" => Kind::Bool,
            "int2" => Kind::Int16,
            "int4" => Kind::Int32,
            "int8" | "oid" => Kind::Int64,
            "float4" => Kind::Float32,
            "float8" => Kind::Float64,
            "numeric" => numeric(modifier),
            "money" => Kind::Money,
            "text" | "varchar" | "bpchar" | "name" | "char" => Kind::Text,
            "inet" | "cidr" | "macaddr" | "macaddr8" | "citext" => Kind::Printed,
            "int4range" | "int8range" | "numrange" | "tsrange" | "tstzrange" | "daterange" => Kind::Printed,
            "json" | "jsonb" => Kind::Named(Name::Json),
            "xml" => Kind::Named(Name::Xml),
            "uuid" => Kind::Named(Name::Uuid),
            "ltree" => Kind::Named(Name::Ltree),
            "tsvector" => Kind::Named(Name::Tsvector),
            "bytea" => Kind::Bytes,
            "bit" if modifier == 1 => Kind::Bit,
            "bit" | "varbit" => Kind::Bits(u32::try_from(modifier).unwrap_or(i32::MAX.unsigned_abs())),
            "hstore" => Kind::Hstore,
            "point" => Kind::Point,
            "date" => Kind::Date,
            "time" if coarse(modifier) => Kind::TimeMillis,
            "time" => Kind::TimeMicros,
            "timestamp" if coarse(modifier) => Kind::TimestampMillis,
            "timestamp" => Kind::TimestampMicros,
            "timestamptz" => Kind::ZonedTimestamp(u8::try_from(modifier).unwrap_or(6).min(6)),
            "timetz" => Kind::ZonedTime,
            "interval" => Kind::Duration,
            _ => Kind::Foreign,
        }
    }

    /// An array of that. Debezium has no array of these, so they take their text form as a whole.
    fn list(element: Kind) -> Self {
        match element {
            Kind::Foreign | Kind::Money | Kind::Duration | Kind::Point | Kind::Bits(_) | Kind::Bit | Kind::List(_) => {
                Kind::Foreign
            }
            element => Kind::List(Box::new(element)),
        }
    }

    /// Whether Debezium would leave the column out: worth one warning.
    pub fn is_foreign(&self) -> bool {
        matches!(self, Kind::Foreign)
    }
}

/// `time(3)` and coarser take milliseconds.
fn coarse(modifier: i32) -> bool {
    (0..=3).contains(&modifier)
}

/// The modifier holds precision and scale, plus 4. A negative scale (PostgreSQL 15) has no Avro form of its own.
fn numeric(modifier: i32) -> Kind {
    if modifier < 4 {
        return Kind::VariableDecimal;
    }
    let packed = modifier - 4;
    let scale = packed & 0x7FF;
    if scale & 0x400 != 0 {
        return Kind::VariableDecimal;
    }
    Kind::Decimal {
        precision: (packed >> 16 & 0xFFFF).unsigned_abs(),
        scale: scale.unsigned_abs(),
    }
}

/// The base type of that object id, of those that are built in: for a column that the log knows and the catalogue,
/// read later, no longer does.
pub fn builtin(oid: u32) -> &'static str {
    match oid {
        16 => "bool",
        17 => "bytea",
        18 => "char",
        19 => "name",
        20 => "int8",
        21 => "int2",
        23 => "int4",
        25 => "text",
        26 => "oid",
        114 => "json",
        142 => "xml",
        600 => "point",
        700 => "float4",
        701 => "float8",
        790 => "money",
        829 => "macaddr",
        650 => "cidr",
        869 => "inet",
        1042 => "bpchar",
        1043 => "varchar",
        1082 => "date",
        1083 => "time",
        1114 => "timestamp",
        1184 => "timestamptz",
        1186 => "interval",
        1266 => "timetz",
        1560 => "bit",
        1562 => "varbit",
        1700 => "numeric",
        2950 => "uuid",
        3802 => "jsonb",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modifiers_choose_the_form() {
        let numeric = |precision: i32, scale: i32| Kind::base("numeric", (precision << 16 | scale & 0x7FF) + 4);
        assert_eq!(
            numeric(10, 3),
            Kind::Decimal {
                precision: 10,
                scale: 3
            }
        );
        assert_eq!(numeric(8, 0), Kind::Decimal { precision: 8, scale: 0 });
        assert_eq!(numeric(3, -2), Kind::VariableDecimal);
        assert_eq!(Kind::base("numeric", -1), Kind::VariableDecimal);
        assert_eq!(Kind::base("time", 3), Kind::TimeMillis);
        assert_eq!(Kind::base("time", -1), Kind::TimeMicros);
        assert_eq!(Kind::base("timestamp", 6), Kind::TimestampMicros);
        assert_eq!(Kind::base("timestamptz", -1), Kind::ZonedTimestamp(6));
        assert_eq!(Kind::base("timestamptz", 3), Kind::ZonedTimestamp(3));
        assert_eq!(Kind::base("bit", 1), Kind::Bit);
        assert_eq!(Kind::base("varbit", -1), Kind::Bits(2_147_483_647));
    }

    #[test]
    fn what_debezium_has_no_form_for_is_text() {
        assert_eq!(Kind::base("pg_lsn", -1), Kind::Foreign);
        assert_eq!(Kind::list(Kind::Money), Kind::Foreign);
        assert_eq!(Kind::list(Kind::Int32), Kind::List(Box::new(Kind::Int32)));
    }
}
