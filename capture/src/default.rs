//! Column defaults as Debezium carries them into the schema: a literal as it is, a computed one as the zero of its type.
//!
//! A default is kept in the type's text form, so that the one reader of texts, `encode`, makes its bytes too.
//! (A quirk that must be met to the byte: `nextval(..)` becomes 0, `now()` 1970, `upper('x')` an empty text.)

use crate::form::{Fidelity, Form};
use crate::types::{Kind, Name};

/// The default that goes into the schema, in the type's text form.
pub fn carried(kind: &Kind, expression: Option<&str>, form: &Form) -> Option<String> {
    let expression = expression.filter(|_| carries(kind))?;
    match literal(expression) {
        Literal::Text(text) => Some(text).filter(|text| acceptable(kind, text, form)),
        Literal::Null => None,
        Literal::Call => Some(zero(kind).to_owned()),
        Literal::Other => None,
    }
}

/// Kinds whose defaults Debezium carries.
fn carries(kind: &Kind) -> bool {
    !matches!(
        kind,
        Kind::VariableDecimal
            | Kind::Money(_)
            | Kind::MoneyDouble
            | Kind::MoneyText(_)
            | Kind::Bytes
            | Kind::BytesText(_)
            | Kind::List(_)
            | Kind::LostBits(_)
            | Kind::Hstore
            | Kind::HstoreMap
            | Kind::Point
            | Kind::Shape(_)
            | Kind::Vector(_)
            | Kind::SparseVector
            | Kind::Printed
            | Kind::SystemName
            | Kind::Named(Name::Ltree | Name::Tsvector)
            | Kind::ZonedTime
            | Kind::Foreign
            | Kind::Opaque { .. }
            | Kind::LeftOut
    )
}

/// Debezium reads the default of a numeric as a decimal, which has no NaN. Avro has no default `NaN` for a floating point
/// number; there Debezium writes it all the same, and the registry then serves it to nobody.
fn acceptable(kind: &Kind, text: &str, form: &Form) -> bool {
    let finite = || text.parse::<f64>().is_ok_and(f64::is_finite);
    match kind {
        Kind::DecimalDouble | Kind::DecimalText(_) => finite(),
        Kind::Float32 | Kind::Float64 if form.fidelity == Fidelity::Exact => finite(),
        _ => true,
    }
}

/// The zero of a type in its text form: what a NOT NULL column outside the key is in a before-image.
pub fn zero(kind: &Kind) -> &'static str {
    match kind {
        Kind::Bool => "f",
        Kind::Bit
        | Kind::Int16
        | Kind::Int32
        | Kind::Int64
        | Kind::Float32
        | Kind::Float64
        | Kind::Decimal { .. }
        | Kind::VariableDecimal
        | Kind::DecimalDouble
        | Kind::DecimalText(_) => "0",
        // The last two digits are the cents, wherever the point stands.
        Kind::Money(_) | Kind::MoneyDouble | Kind::MoneyText(_) => "0.00",
        Kind::Named(Name::Uuid) => "00000000-0000-0000-0000-000000000000",
        Kind::Text | Kind::SystemName | Kind::Printed | Kind::Named(_) | Kind::Enum(_) | Kind::Foreign => "",
        Kind::Bits(_) | Kind::LostBits(_) | Kind::Hstore | Kind::HstoreMap | Kind::Opaque { .. } | Kind::LeftOut => "",
        Kind::Bytes | Kind::BytesText(_) => "\\x",
        Kind::Point => "(0,0)",
        // An empty collection.
        Kind::Shape(_) => "010700000000000000",
        Kind::Vector(_) => "[]",
        Kind::SparseVector => "{}/0",
        Kind::Date(_) => "1970-01-01",
        Kind::Time(_) | Kind::Duration | Kind::Interval => "00:00:00",
        Kind::Timestamp(_) => "1970-01-01 00:00:00",
        Kind::ZonedTimestamp(_) => "1970-01-01 00:00:00+00",
        Kind::ZonedTime => "00:00:00+00",
        Kind::List(_) => "{}",
    }
}

/// What sort of expression a default is.
#[derive(Debug, PartialEq, Eq)]
enum Literal {
    Text(String),
    Null,
    Call,
    Other,
}

/// Reads what `pg_get_expr` prints: `7`, `'it''s'::text`, `true`, `NULL::text`, `now()`, `(1 + 2)`.
fn literal(expression: &str) -> Literal {
    let expression = expression.trim();
    if let Some(quoted) = quoted(expression) {
        return quoted;
    }
    let first = expression.bytes().next().unwrap_or(b'(');
    let word = expression.split("::").next().unwrap_or(expression);
    match (first, word) {
        (_, "NULL") => Literal::Null,
        (_, "true") => Literal::Text("t".to_owned()),
        (_, "false") => Literal::Text("f".to_owned()),
        (b'0'..=b'9' | b'-' | b'.', word) if word.parse::<f64>().is_ok() => Literal::Text(word.to_owned()),
        (b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'"', _) => Literal::Call,
        _ => Literal::Other,
    }
}

/// `'..'::type`, `E'..'`, `B'..'`: the text within, unless something other than a cast follows.
fn quoted(expression: &str) -> Option<Literal> {
    let (escapes, rest) = match expression.strip_prefix("E'") {
        Some(rest) => (true, rest),
        None => (
            false,
            expression
                .strip_prefix("B'")
                .or_else(|| expression.strip_prefix('\''))?,
        ),
    };
    let mut text = String::new();
    let mut chars = rest.char_indices();
    while let Some((index, c)) = chars.next() {
        match c {
            '\'' if rest[index + 1..].starts_with('\'') => {
                chars.next();
                text.push('\'');
            }
            '\'' => return Some(cast_only(&rest[index + 1..], text)),
            '\\' if escapes => text.push(chars.next()?.1),
            c => text.push(c),
        }
    }
    Some(Literal::Other)
}

fn cast_only(after: &str, text: String) -> Literal {
    if after.is_empty() || after.starts_with("::") {
        Literal::Text(text)
    } else {
        Literal::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_carried_and_calls_become_zero() {
        let text = |text: &str| Literal::Text(text.to_owned());
        assert_eq!(literal("7"), text("7"));
        assert_eq!(literal("'-1'::integer"), text("-1"));
        assert_eq!(literal("'it''s'::text"), text("it's"));
        assert_eq!(literal("E'a\\\\b'::text"), text("a\\b"));
        assert_eq!(literal("B'00001111'::\"bit\""), text("00001111"));
        assert_eq!(literal("true"), text("t"));
        assert_eq!(literal("NULL::text"), Literal::Null);
        assert_eq!(literal("nextval('t_id_seq'::regclass)"), Literal::Call);
        assert_eq!(literal("CURRENT_DATE"), Literal::Call);
        assert_eq!(literal("(1 + 2)"), Literal::Other);
    }

    #[test]
    fn kinds_without_defaults_have_none() {
        let exact = Form::default();
        let carried = |kind: &Kind, text: &str| carried(kind, Some(text), &exact);
        assert_eq!(carried(&Kind::Int32, "nextval('s'::regclass)"), Some("0".to_owned()));
        assert_eq!(carried(&Kind::Bytes, "'\\x01'::bytea"), None);
        assert_eq!(carried(&Kind::Float64, "'NaN'::double precision"), None);
        assert_eq!(carried(&Kind::Printed, "'10.0.0.1'::inet"), None);
        assert_eq!(super::carried(&Kind::Text, None, &exact), None);
        let debezium = Form {
            fidelity: Fidelity::Debezium,
            ..Form::default()
        };
        let nan = super::carried(&Kind::Float64, Some("'NaN'::double precision"), &debezium);
        assert_eq!(nan, Some("NaN".to_owned()));
        let numeric = super::carried(&Kind::DecimalText(Some(2)), Some("'NaN'::numeric"), &debezium);
        assert_eq!(numeric, None);
    }
}
