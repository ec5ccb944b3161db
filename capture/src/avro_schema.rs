//! The key and value schemas of a table, as the text that Debezium 3.6 registers: a registry that knows Debezium's
//! topics must give the same ids, so the order of properties is part of the contract and the text is written by hand.
//!
//! `tests/golden.rs` compares it byte for byte with schemas that Debezium registered.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::encode::items_are_nullable;
use crate::mask::Mask;
use crate::table::Column;
use crate::text::{number, time};
use crate::types::{Kind, Name};

/// Everything after the row in the envelope: the same for all tables but for the name at the end.
const SOURCE: &str = concat!(
    r#"{"name":"source","type":{"type":"record","name":"Source","namespace":"io.debezium.connector.postgresql","fields":["#,
    r#"{"name":"version","type":"string"},{"name":"connector","type":"string"},{"name":"name","type":"string"},"#,
    r#"{"name":"ts_ms","type":"long"},{"name":"snapshot","type":[{"type":"string","connect.version":1,"#,
    r#""connect.parameters":{"allowed":"true,first,first_in_data_collection,last_in_data_collection,last,false,incremental"},"#,
    r#""connect.default":"false","connect.name":"io.debezium.data.Enum"},"null"],"default":"false"},"#,
    r#"{"name":"db","type":"string"},{"name":"sequence","type":["null","string"],"default":null},"#,
    r#"{"name":"ts_us","type":["null","long"],"default":null},{"name":"ts_ns","type":["null","long"],"default":null},"#,
    r#"{"name":"schema","type":"string"},{"name":"table","type":"string"},"#,
    r#"{"name":"txId","type":["null","long"],"default":null},{"name":"lsn","type":["null","long"],"default":null},"#,
    r#"{"name":"xmin","type":["null","long"],"default":null},{"name":"origin","type":["null","string"],"default":null},"#,
    r#"{"name":"origin_lsn","type":["null","long"],"default":null}],"connect.version":1,"#,
    r#""connect.name":"io.debezium.connector.postgresql.Source"}},"#,
);

const TAIL: &str = concat!(
    r#"{"name":"transaction","type":["null",{"type":"record","name":"block","namespace":"event","fields":["#,
    r#"{"name":"id","type":"string"},{"name":"total_order","type":"long"},{"name":"data_collection_order","type":"long"}],"#,
    r#""connect.version":1,"connect.name":"event.block"}],"default":null},"#,
    r#"{"name":"op","type":"string"},{"name":"ts_ms","type":["null","long"],"default":null},"#,
    r#"{"name":"ts_us","type":["null","long"],"default":null},{"name":"ts_ns","type":["null","long"],"default":null}],"#,
    r#""connect.version":2,"#,
);

/// The schema of a table's keys. `namespace` is the topic's name as [`namespace`] adjusts it.
pub fn key<'a>(namespace: &str, columns: impl IntoIterator<Item = &'a Column>) -> String {
    format!(
        r#"{{"type":"record","name":"Key","namespace":"{namespace}","fields":{},"connect.name":"{namespace}.Key"}}"#,
        fields(columns)
    )
}

/// The schema of a table's envelopes.
pub fn envelope<'a>(namespace: &str, columns: impl IntoIterator<Item = &'a Column>) -> String {
    format!(
        concat!(
            r#"{{"type":"record","name":"Envelope","namespace":"{namespace}","fields":["#,
            r#"{{"name":"before","type":["null",{{"type":"record","name":"Value","fields":{fields},"#,
            r#""connect.name":"{namespace}.Value"}}],"default":null}},"#,
            r#"{{"name":"after","type":["null","Value"],"default":null}},"#,
            r#"{source}{tail}"connect.name":"{namespace}.Envelope"}}"#
        ),
        namespace = namespace,
        fields = fields(columns),
        source = SOURCE,
        tail = TAIL
    )
}

fn fields<'a>(columns: impl IntoIterator<Item = &'a Column>) -> String {
    let mut seen = BTreeSet::new();
    let fields: Vec<String> = columns.into_iter().map(|column| field(column, &mut seen)).collect();
    format!("[{}]", fields.join(","))
}

fn field(column: &Column, seen: &mut BTreeSet<&'static str>) -> String {
    let default = column
        .default
        .as_deref()
        .and_then(|text| default_json(&column.kind, text));
    let mut written = written_type(&column.kind, default.as_deref(), seen);
    if let Some((name, value)) = &column.parameter {
        written = with_parameter(&written, name, value);
    }
    let (written, default) = match (column.nullable, default) {
        (false, None) => (written, None),
        (false, default) => (written, default),
        (true, None) => (format!(r#"["null",{written}]"#), Some("null".to_owned())),
        (true, default) => (format!(r#"[{written},"null"]"#), default),
    };
    let default = default
        .map(|default| format!(r#","default":{default}"#))
        .unwrap_or_default();
    format!(r#"{{"name":"{}","type":{written}{default}}}"#, column.field)
}

/// Whether something else can stand in the place of the kind's values: they are text, or bytes of which a part will do.
pub fn bears_mask(kind: &Kind, mask: &Mask) -> bool {
    let written = written_type(kind, None, &mut BTreeSet::new());
    let text = written == r#""string""# || written.starts_with(r#"{"type":"string""#);
    text || matches!((kind, mask), (Kind::Bytes, Mask::Truncate(_)))
}

/// What the mask makes of a value that bears it, as it is written; `None` if that is NULL.
pub fn masked(kind: &Kind, mask: &Mask, value: Option<&[u8]>, length_max: Option<usize>) -> Option<Vec<u8>> {
    match mask {
        Mask::Truncate(count) if *kind == Kind::Bytes => value.map(|bytes| bytes[..bytes.len().min(*count)].to_vec()),
        _ => {
            let text = value.and_then(|value| std::str::from_utf8(value).ok());
            mask.text(text, length_max).map(String::into_bytes)
        }
    }
}

/// The type with one parameter more, where Connect's converter would write it.
fn with_parameter(written: &str, name: &str, value: &str) -> String {
    const BEHIND: [&str; 4] = [
        r#","connect.default":"#,
        r#","connect.name":"#,
        r#","connect.type":"#,
        r#","logicalType":"#,
    ];
    let parameter = format!("{}:{}", json_text(name), json_text(value));
    let behind = || BEHIND.iter().filter_map(|property| written.find(property)).min();
    if let Some(start) = written.find(r#""connect.parameters":{"#) {
        // What parameters there are end before the next property; a brace within one of them is in front of that.
        let end = behind().unwrap_or(written.len() - 1).max(start) - 1;
        return format!("{},{parameter}{}", &written[..end], &written[end..]);
    }
    let parameters = format!(r#","connect.parameters":{{{parameter}}}"#);
    match written.strip_prefix('{') {
        None => format!(r#"{{"type":{written}{parameters}}}"#),
        Some(_) => {
            let end = behind().unwrap_or(written.len() - 1);
            format!("{}{parameters}{}", &written[..end], &written[end..])
        }
    }
}

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
fn written_type(kind: &Kind, default: Option<&str>, seen: &mut BTreeSet<&'static str>) -> String {
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
        kind => parts(kind).render(default),
    }
}

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

fn record((name, definition): Record, seen: &mut BTreeSet<&'static str>) -> String {
    if seen.insert(name) {
        definition.to_owned()
    } else {
        format!("\"{name}\"")
    }
}

fn parts(kind: &Kind) -> Parts {
    let plain = |base| Parts {
        base,
        ..Parts::default()
    };
    let named = |base, name| Parts {
        base,
        version: true,
        name: Some(name),
        ..Parts::default()
    };
    match kind {
        Kind::Bool | Kind::Bit => plain("boolean"),
        Kind::Int16 => Parts {
            last: r#""connect.type":"int16""#,
            ..plain("int")
        },
        Kind::Int32 => plain("int"),
        Kind::Int64 => plain("long"),
        Kind::Float32 => plain("float"),
        Kind::Float64 => plain("double"),
        Kind::Text | Kind::Printed | Kind::Foreign => plain("string"),
        Kind::Bytes => plain("bytes"),
        Kind::Decimal { precision, scale } => decimal(*scale, Some(*precision)),
        Kind::Money => decimal(2, None),
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
        Kind::Bits(length) => Parts {
            parameters: Some(format!(r#""length":"{length}""#)),
            ..named("bytes", "io.debezium.data.Bits")
        },
        Kind::Date => named("int", "io.debezium.time.Date"),
        Kind::TimeMillis => named("int", "io.debezium.time.Time"),
        Kind::TimeMicros => named("long", "io.debezium.time.MicroTime"),
        Kind::TimestampMillis => named("long", "io.debezium.time.Timestamp"),
        Kind::TimestampMicros => named("long", "io.debezium.time.MicroTimestamp"),
        Kind::ZonedTimestamp(_) => named("string", "io.debezium.time.ZonedTimestamp"),
        Kind::ZonedTime => named("string", "io.debezium.time.ZonedTime"),
        Kind::Duration => named("long", "io.debezium.time.MicroDuration"),
        Kind::List(_) | Kind::VariableDecimal | Kind::Point => unreachable!("written by `written_type`"),
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

/// A default as JSON, or `None` if the text is none of the kind's.
pub fn default_json(kind: &Kind, text: &str) -> Option<String> {
    Some(match kind {
        Kind::Bool | Kind::Bit => matches!(text, "t" | "1").to_string(),
        Kind::Int16 | Kind::Int32 | Kind::Int64 => text.parse::<i64>().ok()?.to_string(),
        Kind::Float32 => {
            let value: f32 = text.parse().ok()?;
            java_float(&value.to_string(), &format!("{value:E}"), f64::from(value.abs()))
        }
        Kind::Float64 => {
            let value: f64 = text.parse().ok()?;
            java_float(&value.to_string(), &format!("{value:E}"), value.abs())
        }
        Kind::Decimal { scale, .. } => {
            let mut bytes = Vec::new();
            number::Unscaled::parse(text)
                .ok()?
                .rescale(*scale)
                .ok()?
                .write(&mut bytes);
            json_bytes(&bytes)
        }
        Kind::Bits(_) => {
            let mut bytes = Vec::new();
            number::bits(text, &mut bytes).ok()?;
            json_bytes(&bytes)
        }
        Kind::Text | Kind::Named(_) | Kind::Enum(_) => json_text(text),
        Kind::Date => time::date_days(text).ok()?.to_string(),
        Kind::TimeMillis => time::time_us(text).ok()?.div_euclid(1000).to_string(),
        Kind::TimeMicros => time::time_us(text).ok()?.to_string(),
        Kind::TimestampMillis => time::timestamp_us(text).ok()?.div_euclid(1000).to_string(),
        Kind::TimestampMicros => time::timestamp_us(text).ok()?.to_string(),
        Kind::Duration => time::interval_us(text).ok()?.to_string(),
        Kind::ZonedTimestamp(digits) => json_text(&zoned(text, *digits)?),
        Kind::ZonedTime => {
            let mut out = Vec::new();
            time::write_zoned_time(text, &mut out).ok()?;
            json_text(&String::from_utf8(out).ok()?)
        }
        _ => return None,
    })
}

fn zoned(text: &str, digits: u8) -> Option<String> {
    let mut out = Vec::new();
    time::write_zoned(time::zoned_us(text).ok()??, usize::from(digits), &mut out);
    String::from_utf8(out).ok()
}

/// As Java prints a number: `1.5`, `100.0`, `1.0E20`.
fn java_float(plain: &str, scientific: &str, magnitude: f64) -> String {
    let with_point = |digits: &str| {
        if digits.contains('.') {
            digits.to_owned()
        } else {
            format!("{digits}.0")
        }
    };
    if magnitude == 0.0 || (1e-3..1e7).contains(&magnitude) {
        return with_point(plain);
    }
    let (digits, exponent) = scientific.split_once('E').unwrap_or((scientific, "0"));
    format!("{}E{exponent}", with_point(digits))
}

/// A JSON text as Jackson writes it: other than quotes, backslashes and control characters nothing is escaped.
fn json_text(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if u32::from(c) < 0x20 => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Avro's JSON form of bytes: each byte as the character of that number.
fn json_bytes(bytes: &[u8]) -> String {
    json_text(&bytes.iter().copied().map(char::from).collect::<String>())
}

/// A topic's name as a namespace: `-` and whatever Avro does not allow becomes `_`.
pub fn namespace(topic: &str) -> String {
    topic.split('.').map(field_name).collect::<Vec<_>>().join(".")
}

/// A column's name as Avro allows it: `Odd Col` becomes `Odd_Col`, `1digit` becomes `_1digit`.
pub fn field_name(name: &str) -> String {
    let mut adjusted: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' })
        .collect();
    if adjusted.chars().next().is_none_or(|c| c.is_ascii_digit()) {
        adjusted.insert(0, '_');
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_written_as_java_writes_them() {
        let double = |text| default_json(&Kind::Float64, text).unwrap();
        assert_eq!(double("1.5"), "1.5");
        assert_eq!(double("1e20"), "1.0E20");
        assert_eq!(double("0"), "0.0");
        assert_eq!(double("100"), "100.0");
        assert_eq!(double("0.001"), "0.001");
        assert_eq!(double("-1.25e-5"), "-1.25E-5");
        assert_eq!(default_json(&Kind::Float32, "0.1").unwrap(), "0.1");
        assert_eq!(
            default_json(
                &Kind::Decimal {
                    precision: 10,
                    scale: 3
                },
                "12.5"
            )
            .unwrap(),
            "\"0\u{d4}\""
        );
        assert_eq!(default_json(&Kind::Bits(8), "00001111").unwrap(), "\"\\u000F\"");
    }

    #[test]
    fn names_are_adjusted_as_debezium_does() {
        assert_eq!(namespace("x.Other-Schema.t"), "x.Other_Schema.t");
        for (name, field) in [
            ("Odd Col", "Odd_Col"),
            ("sélect", "s_lect"),
            ("1digit", "_1digit"),
            ("c.d", "c_d"),
        ] {
            assert_eq!(field_name(name), field);
        }
    }
}
