//! A default as it stands in a schema: JSON of the same bytes that a value of the column has.

use super::{json_text, kind};
use crate::avro;
use crate::encode::{self, Reading, Written};
use crate::text::number;
use crate::types::Kind;

/// A default as JSON, or `None` if the text is none of the kind's.
pub fn default_json(kind: &Kind, text: &str, reading: Reading) -> Option<String> {
    let base = kind::base(kind)?;
    let mut bytes = Vec::new();
    match encode::cell(kind, reading, text.as_bytes(), &mut bytes, &mut None) {
        Ok(Written::Value) => json(base, &bytes),
        _ => None,
    }
}

fn json(base: &str, bytes: &[u8]) -> Option<String> {
    Some(match base {
        "boolean" => (bytes.first() == Some(&1)).to_string(),
        "int" | "long" => avro::read_long(bytes)?.0.to_string(),
        "float" => {
            let value = f32::from_le_bytes(bytes.try_into().ok()?);
            let text = number::java_single(value);
            not_a_number(text)
        }
        "double" => not_a_number(number::java_double(f64::from_le_bytes(bytes.try_into().ok()?))),
        "string" => json_text(std::str::from_utf8(avro::bytes_at(bytes)?).ok()?),
        "bytes" => json_bytes(avro::bytes_at(bytes)?),
        _ => return None,
    })
}

/// Debezium writes `"NaN"`, which is no default of a number in Avro; a registry may refuse it.
fn not_a_number(text: String) -> String {
    if text.contains('N') || text.contains('I') {
        json_text(&text)
    } else {
        text
    }
}

/// Avro's JSON form of bytes: each byte as the character of that number.
fn json_bytes(bytes: &[u8]) -> String {
    json_text(&bytes.iter().copied().map(char::from).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Clock, Days};

    #[test]
    fn defaults_are_written_as_java_writes_them() {
        let default = |kind, text| default_json(kind, text, Reading::default());
        let double = |text| default(&Kind::Float64, text).unwrap();
        assert_eq!(double("1.5"), "1.5");
        assert_eq!(double("1e20"), "1.0E20");
        assert_eq!(double("0"), "0.0");
        assert_eq!(double("100"), "100.0");
        assert_eq!(double("0.001"), "0.001");
        assert_eq!(double("-1.25e-5"), "-1.25E-5");
        assert_eq!(double("NaN"), "\"NaN\"");
        assert_eq!(default(&Kind::Float32, "0.1").unwrap(), "0.1");
        let decimal = Kind::Decimal {
            precision: 10,
            scale: 3,
        };
        assert_eq!(default(&decimal, "12.5").unwrap(), "\"0\u{d4}\"");
        assert_eq!(default(&Kind::DecimalText(Some(3)), "12.5").unwrap(), "\"12.500\"");
        assert_eq!(default(&Kind::Bits(8), "00001111").unwrap(), "\"\\u000F\"");
        assert_eq!(default(&Kind::Date(Days::Count), "2020-02-29").unwrap(), "18321");
        assert_eq!(
            default(&Kind::Time(Clock::Connect), "12:34:56.789012").unwrap(),
            "45296789"
        );
        assert_eq!(
            default(&Kind::Interval, "1 day 02:00:00").unwrap(),
            "\"P0Y0M1DT2H0M0S\""
        );
        assert_eq!(default(&Kind::Int32, "x"), None);
        assert_eq!(default(&Kind::HstoreMap, ""), None);
    }
}
