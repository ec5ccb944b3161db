//! The Avro type of a column, with its default: names, versions and parameters in the order in which Connect's converter
//! writes them.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::json_text;
use crate::encode::items_are_nullable;
use crate::types::{Clock, Days, Kind, Name, Space, Width};

/// The parts of a type in the order in which Connect's converter writes them.
#[derive(Default)]
struct Parts {
    base: &'static str,
    /// Between the base and the version: `"scale":3,"precision":10`.
    size: String,
    version: bool,
    /// The inner text of `connect.parameters`.
    parameters: Option<String>,
    name: Option<&'static str>,
    /// What follows the name.
    last: &'static str,
}

/// The type of a column; of a record type, its name alone the second time.
pub(super) fn written_type(kind: &Kind, default: Option<&str>, seen: &mut BTreeSet<&'static str>) -> String {
    match kind {
        Kind::List(element) => {
            let item = written_type(element, None, seen);
            let items = if items_are_nullable(element) {
                format!(r#"["null",{item}]"#)
            } else {
                item
            };
            format!(r#"{{"type":"array","items":{items}}}"#)
        }
        Kind::VariableDecimal => record(VARIABLE_SCALE_DECIMAL, seen),
        Kind::Point => record(POINT, seen),
        Kind::Shape(Space::Geometry) => record(GEOMETRY, seen),
        Kind::Shape(Space::Geography) => record(GEOGRAPHY, seen),
        Kind::SparseVector => record(SPARSE_VECTOR, seen),
        Kind::Vector(Width::Double) => VECTOR.to_owned(),
        Kind::Vector(Width::Float) => HALF_VECTOR.to_owned(),
        Kind::HstoreMap => r#"{"type":"map","values":["null","string"]}"#.to_owned(),
        kind => parts(kind).render(default),
    }
}

/// The Avro type under the names: what a default is written as. None for those that have no default.
pub(super) fn base(kind: &Kind) -> Option<&'static str> {
    match kind {
        Kind::List(_) | Kind::VariableDecimal | Kind::Point | Kind::Shape(_) => None,
        Kind::SparseVector | Kind::Vector(_) | Kind::HstoreMap => None,
        kind => Some(parts(kind).base),
    }
}

const VECTOR: &str =
    r#"{"type":"array","items":"double","connect.version":1,"connect.name":"io.debezium.data.DoubleVector"}"#;
const HALF_VECTOR: &str =
    r#"{"type":"array","items":"float","connect.version":1,"connect.name":"io.debezium.data.FloatVector"}"#;

/// Full name and definition of a record type.
type Record = (&'static str, &'static str);

const VARIABLE_SCALE_DECIMAL: Record = (
    "io.debezium.data.VariableScaleDecimal",
    concat!(
        r#"{"type":"record","name":"VariableScaleDecimal","namespace":"io.debezium.data","fields":["#,
        r#"{"name":"scale","type":"int"},{"name":"value","type":"bytes"}],"connect.doc":"Variable scaled decimal","#,
        r#""connect.version":1,"connect.name":"io.debezium.data.VariableScaleDecimal"}"#
    ),
);

const POINT: Record = (
    "io.debezium.data.geometry.Point",
    concat!(
        r#"{"type":"record","name":"Point","namespace":"io.debezium.data.geometry","fields":["#,
        r#"{"name":"x","type":"double"},{"name":"y","type":"double"},{"name":"wkb","type":["null","bytes"],"default":null},"#,
        r#"{"name":"srid","type":["null","int"],"default":null}],"connect.doc":"Geometry (POINT)","#,
        r#""connect.version":1,"connect.name":"io.debezium.data.geometry.Point"}"#
    ),
);

macro_rules! shape {
    ($name:literal) => {
        (
            concat!("io.debezium.data.geometry.", $name),
            concat!(
                r#"{"type":"record","name":""#,
                $name,
                r#"","namespace":"io.debezium.data.geometry","fields":["#,
                r#"{"name":"wkb","type":"bytes"},{"name":"srid","type":["null","int"],"default":null}],"connect.doc":""#,
                $name,
                r#"","connect.version":1,"connect.name":"io.debezium.data.geometry."#,
                $name,
                r#""}"#
            ),
        )
    };
}

const GEOMETRY: Record = shape!("Geometry");
const GEOGRAPHY: Record = shape!("Geography");

/// A map whose keys are no texts is an array of entries.
const SPARSE_VECTOR: Record = (
    "io.debezium.data.SparseDoubleVector",
    concat!(
        r#"{"type":"record","name":"SparseDoubleVector","namespace":"io.debezium.data","fields":["#,
        r#"{"name":"dimensions","type":{"type":"int","connect.type":"int16"}},"#,
        r#"{"name":"vector","type":{"type":"array","items":{"type":"record","name":"MapEntry","#,
        r#""namespace":"io.confluent.connect.avro","fields":[{"name":"key","type":{"type":"int","connect.type":"int16"}},"#,
        r#"{"name":"value","type":"double"}]}}}],"connect.doc":"Sparse double vector","#,
        r#""connect.version":1,"connect.name":"io.debezium.data.SparseDoubleVector"}"#
    ),
);

fn record((name, definition): Record, seen: &mut BTreeSet<&'static str>) -> String {
    if seen.insert(name) {
        definition.to_owned()
    } else {
        format!("\"{name}\"")
    }
}

fn plain(base: &'static str) -> Parts {
    Parts {
        base,
        ..Parts::default()
    }
}

fn named(base: &'static str, name: &'static str) -> Parts {
    Parts {
        base,
        version: true,
        name: Some(name),
        ..Parts::default()
    }
}

fn parts(kind: &Kind) -> Parts {
    match kind {
        Kind::Bool | Kind::Bit | Kind::LostBits(1) => plain("boolean"),
        Kind::Int16 => Parts {
            last: r#""connect.type":"int16""#,
            ..plain("int")
        },
        Kind::Int32 => plain("int"),
        Kind::Int64 => plain("long"),
        Kind::Float32 => plain("float"),
        Kind::Float64 | Kind::DecimalDouble | Kind::MoneyDouble => plain("double"),
        Kind::Text | Kind::SystemName | Kind::Printed | Kind::Foreign => plain("string"),
        Kind::DecimalText(_) | Kind::MoneyText(_) | Kind::BytesText(_) => plain("string"),
        Kind::Opaque { text: Some(_), .. } => plain("string"),
        Kind::Bytes | Kind::Opaque { text: None, .. } => plain("bytes"),
        Kind::Decimal { precision, scale } => decimal(*scale, Some(*precision)),
        Kind::Money(digits) => decimal(*digits, None),
        Kind::Named(Name::Json) | Kind::Hstore => named("string", "io.debezium.data.Json"),
        Kind::Named(Name::Xml) => named("string", "io.debezium.data.Xml"),
        Kind::Named(Name::Uuid) => named("string", "io.debezium.data.Uuid"),
        Kind::Named(Name::Ltree) => named("string", "io.debezium.data.Ltree"),
        Kind::Named(Name::Tsvector) => named("string", "io.debezium.data.Tsvector"),
        Kind::Enum(labels) => {
            let allowed = format!(r#""allowed":{}"#, json_text(&labels.join(",")));
            Parts {
                parameters: Some(allowed),
                ..named("string", "io.debezium.data.Enum")
            }
        }
        Kind::Bits(length) | Kind::LostBits(length) => Parts {
            parameters: Some(format!(r#""length":"{length}""#)),
            ..named("bytes", "io.debezium.data.Bits")
        },
        Kind::Date(days) => date(*days),
        Kind::Time(clock) => time(*clock),
        Kind::Timestamp(clock) => timestamp(*clock),
        Kind::ZonedTimestamp(_) => named("string", "io.debezium.time.ZonedTimestamp"),
        Kind::ZonedTime => named("string", "io.debezium.time.ZonedTime"),
        Kind::Duration => named("long", "io.debezium.time.MicroDuration"),
        Kind::Interval => named("string", "io.debezium.time.Interval"),
        Kind::List(_) | Kind::VariableDecimal | Kind::Point | Kind::Shape(_) | Kind::Vector(_) => {
            unreachable!("records")
        }
        Kind::SparseVector | Kind::HstoreMap => unreachable!("written by `written_type`"),
        // Not in the schema.
        Kind::LeftOut => plain("null"),
    }
}

fn date(days: Days) -> Parts {
    match days {
        Days::Count => named("int", "io.debezium.time.Date"),
        Days::Connect => connect("int", "org.apache.kafka.connect.data.Date", r#""logicalType":"date""#),
        Days::Iso => named("string", "io.debezium.time.IsoDate"),
    }
}

fn time(clock: Clock) -> Parts {
    match clock {
        Clock::Millis => named("int", "io.debezium.time.Time"),
        Clock::Micros => named("long", "io.debezium.time.MicroTime"),
        Clock::Nanos => named("long", "io.debezium.time.NanoTime"),
        Clock::Connect => connect(
            "int",
            "org.apache.kafka.connect.data.Time",
            r#""logicalType":"time-millis""#,
        ),
        Clock::Iso => named("string", "io.debezium.time.IsoTime"),
    }
}

fn timestamp(clock: Clock) -> Parts {
    let logical = r#""logicalType":"timestamp-millis""#;
    match clock {
        Clock::Millis => named("long", "io.debezium.time.Timestamp"),
        Clock::Micros => named("long", "io.debezium.time.MicroTimestamp"),
        Clock::Nanos => named("long", "io.debezium.time.NanoTimestamp"),
        Clock::Connect => connect("long", "org.apache.kafka.connect.data.Timestamp", logical),
        Clock::Iso => named("string", "io.debezium.time.IsoTimestamp"),
    }
}

/// A type of Kafka Connect's own, which Avro knows as well.
fn connect(base: &'static str, name: &'static str, logical: &'static str) -> Parts {
    Parts {
        last: logical,
        ..named(base, name)
    }
}

fn decimal(scale: u32, precision: Option<u32>) -> Parts {
    let mut parameters = format!(r#""scale":"{scale}""#);
    if let Some(precision) = precision {
        let _ = write!(parameters, r#","connect.decimal.precision":"{precision}""#);
    }
    Parts {
        base: "bytes",
        size: format!(r#""scale":{scale},"precision":{}"#, precision.unwrap_or(64)),
        version: true,
        parameters: Some(parameters),
        name: Some("org.apache.kafka.connect.data.Decimal"),
        last: r#""logicalType":"decimal""#,
    }
}

impl Parts {
    fn render(&self, default: Option<&str>) -> String {
        let mut properties = Vec::new();
        if !self.size.is_empty() {
            properties.push(self.size.clone());
        }
        if self.version {
            properties.push(r#""connect.version":1"#.to_owned());
        }
        properties.extend(
            self.parameters
                .as_ref()
                .map(|inner| format!(r#""connect.parameters":{{{inner}}}"#)),
        );
        properties.extend(default.map(|default| format!(r#""connect.default":{default}"#)));
        properties.extend(self.name.map(|name| format!(r#""connect.name":"{name}""#)));
        if !self.last.is_empty() {
            properties.push(self.last.to_owned());
        }
        match properties.as_slice() {
            [] => format!("\"{}\"", self.base),
            properties => format!(r#"{{"type":"{}",{}}}"#, self.base, properties.join(",")),
        }
    }
}
