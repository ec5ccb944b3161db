//! The key and value schemas of a table, as the text that Debezium registers: a registry that knows Debezium's topics
//! must give the same ids, so the order of properties is part of the contract and the text is written by hand.
//!
//! `golden.rs` compares it byte for byte with schemas that Debezium registered.

use std::collections::BTreeSet;

use crate::encode::Reading;
use crate::table::Column;

mod default;
mod kind;
mod mask;
mod names;
mod source;

pub use default::default_json;
pub use mask::{bears_mask, masked};
pub use names::{field_name, is_legal, namespace};
pub use source::{Release, shared_fields};

/// What a schema is written for.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// The release of Debezium.
    pub release: Release,
    /// How defaults are read.
    pub reading: Reading,
}

/// The schema of a table's keys. `namespace` is the topic's name as [`namespace`] adjusts it.
pub fn key<'a>(namespace: &str, columns: impl IntoIterator<Item = &'a Column>, style: Style) -> String {
    format!(
        r#"{{"type":"record","name":"Key","namespace":"{namespace}","fields":{},"connect.name":"{namespace}.Key"}}"#,
        fields(columns, style)
    )
}

/// The schema of a table's envelopes.
pub fn envelope<'a>(namespace: &str, columns: impl IntoIterator<Item = &'a Column>, style: Style) -> String {
    format!(
        concat!(
            r#"{{"type":"record","name":"Envelope","namespace":"{namespace}","fields":["#,
            r#"{{"name":"before","type":["null",{{"type":"record","name":"Value","fields":{fields},"#,
            r#""connect.name":"{namespace}.Value"}}],"default":null}},"#,
            r#"{{"name":"after","type":["null","Value"],"default":null}},"#,
            r#"{source}{tail}"connect.name":"{namespace}.Envelope"}}"#
        ),
        namespace = namespace,
        fields = fields(columns, style),
        source = source::source(style.release),
        tail = source::tail(style.release)
    )
}

fn fields<'a>(columns: impl IntoIterator<Item = &'a Column>, style: Style) -> String {
    let mut seen = BTreeSet::new();
    let fields: Vec<String> = columns
        .into_iter()
        .map(|column| field(column, style, &mut seen))
        .collect();
    format!("[{}]", fields.join(","))
}

fn field(column: &Column, style: Style, seen: &mut BTreeSet<&'static str>) -> String {
    let default = column
        .default
        .as_deref()
        .and_then(|text| default_json(&column.kind, text, style.reading));
    let mut written = kind::written_type(&column.kind, default.as_deref(), seen);
    if let Some((name, value)) = &column.parameter {
        written = mask::with_parameter(&written, name, value);
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
    format!(r#"{{"name":{},"type":{written}{default}}}"#, json_text(&column.field))
}

/// A JSON text as Jackson writes it.
pub(crate) fn json_text(text: &str) -> String {
    let mut out = String::new();
    crate::text::push_json(&mut out, text);
    out
}
