//! The user's Avro schema as far as rules and mappings care: which fields there are and what they hold.

use apache_avro::Schema;
use apache_avro::schema::RecordField;

use super::model::{ElementKind, FieldKind};

/// A field of the schema.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SchemaField {
    pub(super) name: String,
    /// None, with the reason, if its type is not supported.
    pub(super) kind: Result<FieldKind, String>,
    pub(super) nullable: bool,
    pub(super) has_default: bool,
}

/// The fields of a record schema, or what is wrong with it.
pub(super) fn fields(json: &str) -> Result<Vec<SchemaField>, String> {
    match Schema::parse_str(json) {
        Ok(Schema::Record(record)) => Ok(record.fields.iter().map(field).collect()),
        Ok(_) => Err("it is not a record".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn field(field: &RecordField) -> SchemaField {
    SchemaField {
        name: field.name.clone(),
        kind: without_null(&field.schema).and_then(kind),
        nullable: matches!(&field.schema, Schema::Union(union) if union.is_nullable()),
        has_default: field.default.is_some(),
    }
}

/// The one type beside null.
fn without_null(schema: &Schema) -> Result<&Schema, String> {
    let Schema::Union(union) = schema else {
        return Ok(schema);
    };
    let mut others = union
        .variants()
        .iter()
        .filter(|variant| !matches!(variant, Schema::Null));
    match (others.next(), others.next()) {
        (Some(one), None) => Ok(one),
        _ => Err("a union of anything but null and one type".to_owned()),
    }
}

fn kind(schema: &Schema) -> Result<FieldKind, String> {
    Ok(match schema {
        Schema::String | Schema::Uuid(_) => FieldKind::Text,
        Schema::Boolean => FieldKind::Bool,
        Schema::Int | Schema::Long => FieldKind::Number { scale: Some(0) },
        Schema::Float | Schema::Double => FieldKind::Number { scale: None },
        Schema::Decimal(decimal) => {
            let scale = u32::try_from(decimal.scale).map_err(|_| "a decimal of that scale".to_owned())?;
            FieldKind::Number { scale: Some(scale) }
        }
        Schema::Date => FieldKind::Date,
        Schema::TimestampMillis
        | Schema::TimestampMicros
        | Schema::TimestampNanos
        | Schema::LocalTimestampMillis
        | Schema::LocalTimestampMicros
        | Schema::LocalTimestampNanos => FieldKind::Timestamp,
        Schema::Array(array) => FieldKind::List(element(&array.items)?),
        _ => return Err(format!("`{}`", type_name(schema))),
    })
}

fn element(schema: &Schema) -> Result<ElementKind, String> {
    match schema {
        Schema::String => Ok(ElementKind::Text),
        Schema::Int | Schema::Long => Ok(ElementKind::Integer),
        _ => Err(format!("an array of `{}`", type_name(schema))),
    }
}

fn type_name(schema: &Schema) -> String {
    match schema {
        Schema::Bytes => "bytes".to_owned(),
        Schema::Map(_) => "map".to_owned(),
        Schema::Record(_) => "record".to_owned(),
        Schema::Enum(_) => "enum".to_owned(),
        Schema::Fixed(_) => "fixed".to_owned(),
        Schema::Union(_) => "union".to_owned(),
        Schema::Array(_) => "array".to_owned(),
        Schema::Ref { name } => name.to_string(),
        other => format!("{other:?}").to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind_of(avro_type: &str) -> Result<FieldKind, String> {
        let json = format!(r#"{{"type":"record","name":"R","fields":[{{"name":"f","type":{avro_type}}}]}}"#);
        fields(&json).unwrap().remove(0).kind
    }

    #[test]
    fn types_have_kinds() {
        let number = |scale| Ok(FieldKind::Number { scale });
        for (avro_type, kind) in [
            (r#""string""#, Ok(FieldKind::Text)),
            (r#"["null","string"]"#, Ok(FieldKind::Text)),
            (r#"["long","null"]"#, number(Some(0))),
            (r#""double""#, number(None)),
            (
                r#"{"type":"bytes","logicalType":"decimal","precision":12,"scale":2}"#,
                number(Some(2)),
            ),
            (r#"{"type":"int","logicalType":"date"}"#, Ok(FieldKind::Date)),
            (
                r#"["null",{"type":"long","logicalType":"timestamp-micros"}]"#,
                Ok(FieldKind::Timestamp),
            ),
            (
                r#"{"type":"array","items":"string"}"#,
                Ok(FieldKind::List(ElementKind::Text)),
            ),
            (
                r#"{"type":"array","items":"long"}"#,
                Ok(FieldKind::List(ElementKind::Integer)),
            ),
        ] {
            assert_eq!(kind_of(avro_type), kind, "{avro_type}");
        }
        for avro_type in [r#""bytes""#, r#"["int","string"]"#, r#"{"type":"map","values":"int"}"#] {
            assert!(kind_of(avro_type).is_err(), "{avro_type}");
        }
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for json in ["", "{}", "\"string\"", "[]", r#"{"type":"record","name":"R"}"#] {
            assert!(fields(json).is_err(), "{json}");
        }
    }
}
