//! From PostgreSQL's types to ours: which of Debezium's Avro forms a column takes, by the settings of [`Form`].
//!
//! A kind carries the chosen form, so that a row is written without a look at the settings. The list is closed and total:
//! a type that Debezium leaves out (row types, `pg_lsn`, multiranges, types of extensions) is carried in its text form as
//! a plain string, unless the bytes are to be Debezium's. It must not know Avro's JSON or bytes; `avro_schema` and
//! `encode` do.

use crate::form::{Binaries, Decimals, Fidelity, Form, Hstores, Intervals, Times};
use crate::postgres::catalog::{TypeInfo, TypeKind};
use crate::text::binary::Alphabet;

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
    /// `numeric` without a scale.
    VariableDecimal,
    /// `numeric` as a floating point number.
    DecimalDouble,
    /// `numeric` as text, with that many digits after the point if it has a scale.
    DecimalText(Option<u32>),
    /// `money`, with that many digits after the point.
    Money(u32),
    /// `money` as a floating point number.
    MoneyDouble,
    /// `money` as text: always in cents, but for the zero that stands for a null, which has that many digits after the point.
    MoneyText(u32),
    /// The text family.
    Text,
    /// `name`, which Debezium loses in the stream.
    SystemName,
    /// Other types that Debezium writes as plain text, without their defaults: addresses, ranges, citext.
    Printed,
    /// A text with a name of its own.
    Named(Name),
    /// An enum, with its labels.
    Enum(Vec<String>),
    /// `bytea`.
    Bytes,
    /// `bytea` as text.
    BytesText(Alphabet),
    /// `bit(n)`, `varbit(n)`.
    Bits(u32),
    /// An array of bit strings, which Debezium announces as one and writes as null.
    LostBits(u32),
    /// `hstore`, as JSON.
    Hstore,
    /// `hstore`, as a map.
    HstoreMap,
    /// `point`.
    Point,
    /// PostGIS's `geometry` or `geography`.
    Shape(Space),
    /// pgvector's `vector` and `halfvec`.
    Vector(Width),
    /// pgvector's `sparsevec`.
    SparseVector,
    /// `date`.
    Date(Days),
    /// `time`.
    Time(Clock),
    /// `timestamp`.
    Timestamp(Clock),
    /// `timestamptz`, with that many digits of a second.
    ZonedTimestamp(u8),
    /// `timetz`.
    ZonedTime,
    /// `interval`, in microseconds.
    Duration,
    /// `interval`, in ISO 8601.
    Interval,
    /// An array of one of the others.
    List(Box<Kind>),
    /// A type that Debezium leaves out: its text form.
    Foreign,
    /// The same as Debezium writes it when it is told to include it.
    Opaque {
        /// Bytes of the text, or those as text.
        text: Option<Alphabet>,
        /// A figure, the numbers of which are printed as Java prints numbers.
        figure: bool,
    },
    /// The same where it is not told so: the column is not in the records.
    LeftOut,
}

/// How days are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Days {
    /// Debezium's: a number.
    Count,
    /// Kafka Connect's: the same number under another name.
    Connect,
    /// Text in ISO 8601.
    Iso,
}

/// How times are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Milliseconds.
    Millis,
    /// Microseconds.
    Micros,
    /// Nanoseconds.
    Nanos,
    /// Kafka Connect's milliseconds.
    Connect,
    /// Text in ISO 8601.
    Iso,
}

/// What a shape lies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// A plane.
    Geometry,
    /// A sphere.
    Geography,
}

/// How wide the numbers of a vector are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// 32 bits.
    Float,
    /// 64 bits.
    Double,
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
    pub fn of(info: &TypeInfo, modifier: i32, form: &Form) -> Self {
        match &info.kind {
            TypeKind::Enum(labels) => Kind::Enum(labels.clone()),
            // Debezium does not know the elements of such an array.
            TypeKind::Array(element) if element.domain.is_some() && form.fidelity == Fidelity::Debezium => {
                match Kind::unknown("", form) {
                    Kind::LeftOut => Kind::LeftOut,
                    unknown => Kind::List(Box::new(unknown)),
                }
            }
            TypeKind::Array(element) => Kind::list(element, modifier, form),
            TypeKind::Base | TypeKind::Range => Kind::base(&info.name, modifier, form),
            TypeKind::Composite | TypeKind::Other => Kind::unknown(&info.name, form),
        }
    }

    /// How a base type of that name is written: also for a column of which the log says the type but not the catalogue.
    pub fn base(name: &str, modifier: i32, form: &Form) -> Self {
        match name {
            "bool" => Kind::Bool,
            "int2" => Kind::Int16,
            "int4" => Kind::Int32,
            "int8" | "oid" => Kind::Int64,
            "float4" => Kind::Float32,
            "float8" => Kind::Float64,
            "numeric" => numeric(modifier, form.decimals),
            "money" => money(form),
            "text" | "varchar" | "bpchar" | "char" => Kind::Text,
            // Told to include what it does not know, Debezium finds it after all.
            "name" if form.unknown_types => Kind::Text,
            "name" => Kind::SystemName,
            "inet" | "cidr" | "macaddr" | "macaddr8" | "citext" | "isbn" => Kind::Printed,
            "int4range" | "int8range" | "numrange" | "tsrange" | "tstzrange" | "daterange" => Kind::Printed,
            "json" | "jsonb" => Kind::Named(Name::Json),
            "xml" => Kind::Named(Name::Xml),
            "uuid" => Kind::Named(Name::Uuid),
            "ltree" => Kind::Named(Name::Ltree),
            "tsvector" => Kind::Named(Name::Tsvector),
            "bytea" => alphabet(form.binaries).map_or(Kind::Bytes, Kind::BytesText),
            "bit" | "varbit" if modifier == 1 => Kind::Bit,
            "bit" | "varbit" => Kind::Bits(u32::try_from(modifier).unwrap_or(i32::MAX.unsigned_abs())),
            "hstore" if form.hstores == Hstores::Map => Kind::HstoreMap,
            "hstore" => Kind::Hstore,
            "point" => Kind::Point,
            "geometry" => Kind::Shape(Space::Geometry),
            "geography" => Kind::Shape(Space::Geography),
            "vector" => Kind::Vector(Width::Double),
            "halfvec" => Kind::Vector(Width::Float),
            "sparsevec" => Kind::SparseVector,
            "timestamptz" => Kind::ZonedTimestamp(u8::try_from(modifier).unwrap_or(6).min(6)),
            "timetz" => Kind::ZonedTime,
            "date" => Kind::Date(days(form.times)),
            "time" => Kind::Time(time_of_day(modifier, form.times)),
            "timestamp" => Kind::Timestamp(clock(modifier, form.times)),
            "interval" if form.intervals == Intervals::String => Kind::Interval,
            "interval" => Kind::Duration,
            name => Kind::unknown(name, form),
        }
    }

    /// A type that Debezium does not know.
    fn unknown(name: &str, form: &Form) -> Self {
        match (form.fidelity, form.unknown_types) {
            (Fidelity::Exact, _) => Kind::Foreign,
            (Fidelity::Debezium, true) => Kind::Opaque {
                text: alphabet(form.binaries),
                figure: matches!(name, "line" | "lseg" | "box" | "path" | "polygon" | "circle"),
            },
            (Fidelity::Debezium, false) => Kind::LeftOut,
        }
    }

    /// An array of that. Debezium has no array of some types, even when told to include what it does not know, so these
    /// take their text form as a whole or are left out.
    fn list(element: &TypeInfo, modifier: i32, form: &Form) -> Self {
        let debezium = form.fidelity == Fidelity::Debezium;
        let kind = Kind::of(element, modifier, form);
        match kind {
            Kind::Bits(length) if debezium && element.name == "bit" => Kind::LostBits(length),
            Kind::Bit if debezium && element.name == "bit" => Kind::LostBits(1),
            Kind::Foreign | Kind::List(_) => Kind::Foreign,
            Kind::LeftOut => Kind::LeftOut,
            _ if is_without_array(&element.name) && debezium => Kind::LeftOut,
            _ if is_without_array(&element.name) => Kind::Foreign,
            kind => Kind::List(Box::new(kind)),
        }
    }

    /// Whether Debezium would leave the column out and we write its text: worth one warning.
    pub fn is_foreign(&self) -> bool {
        matches!(self, Kind::Foreign)
    }

    /// Whether the column is in the records.
    pub fn is_shown(&self) -> bool {
        !matches!(self, Kind::LeftOut)
    }
}

/// Types of which Debezium has no array.
fn is_without_array(name: &str) -> bool {
    matches!(
        name,
        "money" | "name" | "interval" | "varbit" | "xml" | "point" | "refcursor"
    )
}

fn alphabet(binaries: Binaries) -> Option<Alphabet> {
    match binaries {
        Binaries::Bytes => None,
        Binaries::Base64 => Some(Alphabet::Base64),
        Binaries::Base64UrlSafe => Some(Alphabet::UrlSafe),
        Binaries::Hex => Some(Alphabet::Hex),
    }
}

fn money(form: &Form) -> Kind {
    match form.decimals {
        Decimals::Precise => Kind::Money(form.money_fraction_digits),
        Decimals::Double => Kind::MoneyDouble,
        Decimals::String => Kind::MoneyText(form.money_fraction_digits),
    }
}

fn days(times: Times) -> Days {
    match times {
        Times::Connect => Days::Connect,
        Times::IsoString => Days::Iso,
        _ => Days::Count,
    }
}

fn time_of_day(modifier: i32, times: Times) -> Clock {
    match times {
        Times::AdaptiveTimeMicroseconds => Clock::Micros,
        times => clock(modifier, times),
    }
}

fn clock(modifier: i32, times: Times) -> Clock {
    match times {
        Times::Adaptive | Times::AdaptiveTimeMicroseconds if coarse(modifier) => Clock::Millis,
        Times::Adaptive | Times::AdaptiveTimeMicroseconds | Times::Microseconds => Clock::Micros,
        Times::Nanoseconds => Clock::Nanos,
        Times::Connect => Clock::Connect,
        Times::IsoString => Clock::Iso,
    }
}

/// `time(3)` and coarser take milliseconds.
fn coarse(modifier: i32) -> bool {
    (0..=3).contains(&modifier)
}

fn numeric(modifier: i32, decimals: Decimals) -> Kind {
    match (decimals, precision_and_scale(modifier)) {
        (Decimals::Precise, Some((precision, scale))) => Kind::Decimal { precision, scale },
        (Decimals::Precise, None) => Kind::VariableDecimal,
        (Decimals::Double, _) => Kind::DecimalDouble,
        (Decimals::String, known) => Kind::DecimalText(known.map(|(_, scale)| scale)),
    }
}

/// The modifier holds precision and scale, plus 4. A negative scale (PostgreSQL 15) has no Avro form of its own.
fn precision_and_scale(modifier: i32) -> Option<(u32, u32)> {
    let packed = modifier.checked_sub(4).filter(|packed| *packed >= 0)?;
    let scale = packed & 0x7FF;
    (scale & 0x400 == 0).then(|| ((packed >> 16 & 0xFFFF).unsigned_abs(), scale.unsigned_abs()))
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

    fn of(name: &str, modifier: i32) -> Kind {
        Kind::base(name, modifier, &Form::default())
    }

    fn debezium(unknown_types: bool) -> Form {
        Form {
            fidelity: Fidelity::Debezium,
            unknown_types,
            ..Form::default()
        }
    }

    fn array(name: &str, form: &Form) -> Kind {
        let element = TypeInfo {
            oid: 1,
            schema: "s".to_owned(),
            name: name.to_owned(),
            domain: None,
            kind: TypeKind::Base,
        };
        Kind::list(&element, 8, form)
    }

    #[test]
    fn modifiers_choose_the_form() {
        let numeric = |precision: i32, scale: i32| of("numeric", (precision << 16 | scale & 0x7FF) + 4);
        assert_eq!(
            numeric(10, 3),
            Kind::Decimal {
                precision: 10,
                scale: 3
            }
        );
        assert_eq!(numeric(8, 0), Kind::Decimal { precision: 8, scale: 0 });
        assert_eq!(numeric(3, -2), Kind::VariableDecimal);
        assert_eq!(of("numeric", -1), Kind::VariableDecimal);
        assert_eq!(of("time", 3), Kind::Time(Clock::Millis));
        assert_eq!(of("time", -1), Kind::Time(Clock::Micros));
        assert_eq!(of("timestamp", 6), Kind::Timestamp(Clock::Micros));
        assert_eq!(of("timestamptz", -1), Kind::ZonedTimestamp(6));
        assert_eq!(of("timestamptz", 3), Kind::ZonedTimestamp(3));
        assert_eq!(of("bit", 1), Kind::Bit);
        assert_eq!(of("varbit", -1), Kind::Bits(2_147_483_647));
    }

    #[test]
    fn settings_choose_the_form() {
        let with = |change: &dyn Fn(&mut Form), name: &str, modifier| {
            let mut form = Form::default();
            change(&mut form);
            Kind::base(name, modifier, &form)
        };
        let scaled = (10 << 16 | 3) + 4;
        assert_eq!(
            with(&|form| form.decimals = Decimals::String, "numeric", scaled),
            Kind::DecimalText(Some(3))
        );
        assert_eq!(
            with(&|form| form.decimals = Decimals::Double, "numeric", -1),
            Kind::DecimalDouble
        );
        assert_eq!(
            with(&|form| form.money_fraction_digits = 3, "money", -1),
            Kind::Money(3)
        );
        let times = [
            (Times::AdaptiveTimeMicroseconds, Clock::Micros, Clock::Millis),
            (Times::Connect, Clock::Connect, Clock::Connect),
            (Times::IsoString, Clock::Iso, Clock::Iso),
            (Times::Microseconds, Clock::Micros, Clock::Micros),
            (Times::Nanoseconds, Clock::Nanos, Clock::Nanos),
        ];
        for (mode, time, timestamp) in times {
            assert_eq!(with(&|form| form.times = mode, "time", 3), Kind::Time(time));
            assert_eq!(
                with(&|form| form.times = mode, "timestamp", 3),
                Kind::Timestamp(timestamp)
            );
        }
        assert_eq!(with(&|form| form.hstores = Hstores::Map, "hstore", -1), Kind::HstoreMap);
        assert_eq!(
            with(&|form| form.intervals = Intervals::String, "interval", -1),
            Kind::Interval
        );
        assert_eq!(
            with(&|form| form.binaries = Binaries::Hex, "bytea", -1),
            Kind::BytesText(Alphabet::Hex)
        );
    }

    #[test]
    fn what_debezium_has_no_form_for_is_text_or_left_out() {
        let exact = Form::default();
        assert_eq!(of("pg_lsn", -1), Kind::Foreign);
        assert_eq!(Kind::base("pg_lsn", -1, &debezium(false)), Kind::LeftOut);
        let opaque = |figure| Kind::Opaque { text: None, figure };
        assert_eq!(Kind::base("pg_lsn", -1, &debezium(true)), opaque(false));
        assert_eq!(Kind::base("box", -1, &debezium(true)), opaque(true));
        assert_eq!(array("money", &exact), Kind::Foreign);
        assert_eq!(array("money", &debezium(true)), Kind::LeftOut);
        assert_eq!(array("int4", &exact), Kind::List(Box::new(Kind::Int32)));
        assert_eq!(array("bit", &exact), Kind::List(Box::new(Kind::Bits(8))));
        assert_eq!(array("bit", &debezium(false)), Kind::LostBits(8));
    }
}
