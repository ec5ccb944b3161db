//! A part of what rows are matched by (`match: [{ same: [..] }]`): a field, or an expression over fields.
//!
//! Two rows that hold the same are taken for one entity for good, so a part says nothing rather than something that others
//! might say for want of better. It is not enough that the whole is not empty: `join('|', e164(phone, 'GB'), name)` leaves
//! out what is null and would match everybody of that name who has no telephone, and `default(phone, '-')` everybody
//! without one. So a part is nothing as soon as anything that it is put together from is null or blank; of a choice that is
//! the condition, and the side that it chooses, which is nothing too if it is fixed: everybody who is sent there has it. What
//! cannot be worked out is nothing as well: it identifies nobody.

use super::eval::{Cells, eval};
use super::expr::Expr;
use super::operator::truth;
use super::{Cell, Fields, Row};
use crate::value::Value;

/// What a row that holds these fields is matched by; none if it is not matched by this.
pub fn key(expr: &Expr, fields: &Fields) -> Option<Value> {
    let cell = |name: &str| {
        let cell = match fields.get(name)? {
            Some(value) => Cell::Set(value.clone()),
            None => Cell::Unchanged,
        };
        Some((name.to_owned(), cell))
    };
    let row: Row = expr.names().into_iter().filter_map(cell).collect();
    solid(expr, &|name| row.get(name))
}

/// The value of `expr`, if there is something in all that it is put together from. The depth of an expression is bounded,
/// so working out its parts one by one is a bounded number of times the work.
fn solid(expr: &Expr, cells: Cells<'_, '_>) -> Option<Value> {
    if let Expr::Choice(parts) = expr {
        let [condition, met, unmet] = parts.as_ref();
        let chosen = if is_true(condition, cells)? { met } else { unmet };
        return if chosen.names().is_empty() {
            None
        } else {
            solid(chosen, cells)
        };
    }
    // A fixed text in it may well be empty: `name != ''`.
    let mut parts = expr
        .parts()
        .into_iter()
        .filter(|part| !matches!(part, Expr::Literal(_)));
    let whole = parts.all(|part| solid(part, cells).is_some());
    let value = eval(expr, cells).ok().flatten().filter(|_| whole)?;
    (!is_blank(&value)).then_some(value)
}

fn is_true(condition: &Expr, cells: Cells<'_, '_>) -> Option<bool> {
    truth(&solid(condition, cells)?).ok().flatten()
}

fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Text(text) => text
            .chars()
            .all(|c| c.is_whitespace() || is_invisible(c) || is_filler(c)),
        Value::List(elements) => elements.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Whether a character has no width, so that a text is matched without it: soft hyphen, combining grapheme joiner, zero-width
/// space, (non-)joiners, word joiner, marks of direction, byte order mark.
pub const fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{34f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}'
    )
}

/// Whether a character is a letter by its class and shows nothing: fillers of Hangul, the blank of Braille.
const fn is_filler(c: char) -> bool {
    matches!(c, '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' | '\u{2800}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expr: &str, wanted: &str) {
        let fields: Fields = [
            ("name", Some("Ada Lovelace".into())),
            ("country", Some("GB".into())),
            ("phone", Some("020 7946 0018".into())),
            ("fax", Some("ask her".into())),
            ("email", Some(Value::Null)),
            ("blank", Some(" ".into())),
            ("unseen", Some("\u{feff} \u{200b}\u{ad}".into())),
            ("tags", Some(Value::set(["vip".into()]))),
            ("unread", None),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        let found = key(&expr.parse().unwrap(), &fields);
        assert_eq!(
            found.map_or("-".to_owned(), |value| value.to_string()),
            wanted,
            "{expr}"
        );
    }

    #[test]
    fn a_part_is_a_field_or_made_of_fields() {
        check("name", r#""Ada Lovelace""#);
        check("lower(rest(name))", r#""lovelace""#);
        check("e164(phone, 'GB')", r#""+442079460018""#);
        check("join('|', e164(phone, 'GB'), name)", r#""+442079460018|Ada Lovelace""#);
        check(
            "country == 'GB' ? e164(phone, 'GB') : e164(phone, 'US')",
            r#""+442079460018""#,
        );
    }

    #[test]
    fn what_lacks_anything_matches_nobody() {
        for expr in [
            "email",
            "blank",
            "unseen",
            "join('|', unseen, name)",
            "unread",
            "unmapped",
            "lower(email)",
            "word(name, 3)",
            "e164(fax, 'GB')",
            "join('|', e164(fax, 'GB'), name)",
            "join('|', name, unread)",
            "default(email, 'nobody')",
            "null_if(country, 'GB')",
            "email == null ? name : email",
            "country == 'GB' ? e164(phone, 'US') : name",
            "country == 'GB' ? 'here' : name",
            "country == 'US' ? name : 'abroad'",
            "country == 'US' ? name : country == 'GB' ? 'here' : name",
            "length(email) + 1",
            "scale(name, 2)",
            "trim(tags)",
        ] {
            check(expr, "-");
        }
    }
}
