//! Names as Avro bears them: `schema.name.adjustment.mode` and `field.name.adjustment.mode`.

use std::fmt::Write;

use crate::form::Names;

/// A topic's name as a namespace: `-` and whatever Avro does not allow becomes `_`. A digit is looked at only where the
/// whole name begins, as Debezium looks at it.
pub fn namespace(topic: &str, names: Names) -> String {
    adjusted(topic, names, |c| c == '.' || c.is_ascii_digit())
}

/// A column's name: `Odd Col` becomes `Odd_Col`, `1digit` becomes `_1digit`.
pub fn field_name(name: &str, names: Names) -> String {
    let digit_first = name.starts_with(|c: char| c.is_ascii_digit());
    if names == Names::Avro && digit_first {
        return format!(
            "_{}",
            adjusted(&format!("x{name}"), names, |c| c.is_ascii_digit()).split_off(1)
        );
    }
    adjusted(name, names, |c| c.is_ascii_digit())
}

fn adjusted(name: &str, names: Names, may_follow: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(name.len());
    for (index, c) in name.char_indices() {
        // In the unicode mode the underscore is what a backslash is elsewhere.
        let letter = c.is_ascii_alphabetic() || (c == '_' && names != Names::AvroUnicode);
        if names == Names::None || letter || (index > 0 && may_follow(c)) {
            out.push(c);
            continue;
        }
        match names {
            Names::AvroUnicode => push_units(c, &mut out),
            _ => (0..c.len_utf16()).for_each(|_| out.push('_')),
        }
    }
    out
}

/// `_uXXXX` for each unit of UTF-16, which is what Java takes for a character.
fn push_units(c: char, out: &mut String) {
    for unit in c.encode_utf16(&mut [0; 2]) {
        let _ = write!(out, "_u{unit:04x}");
    }
}

/// Whether Avro bears the name as it is.
pub fn is_legal(name: &str) -> bool {
    let mut chars = name.chars();
    let first = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    first && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_adjusted_as_debezium_does() {
        assert_eq!(namespace("x.Other-Schema.1t", Names::Avro), "x.Other_Schema.1t");
        assert_eq!(namespace("x.Other-Schema.t", Names::None), "x.Other-Schema.t");
        assert_eq!(namespace("a_b.t", Names::AvroUnicode), "a_u005fb.t");
        for (name, field) in [
            ("Odd Col", "Odd_Col"),
            ("s\u{e9}lect", "s_lect"),
            ("1digit", "_1digit"),
            ("1-digit", "_1_digit"),
            ("c.d", "c_d"),
        ] {
            assert_eq!(field_name(name, Names::Avro), field);
            assert!(is_legal(field) && !is_legal(name));
        }
        assert_eq!(field_name("Odd Col", Names::AvroUnicode), "Odd_u0020Col");
        assert_eq!(field_name("1digit", Names::AvroUnicode), "_u0031digit");
        assert_eq!(field_name("Odd Col", Names::None), "Odd Col");
    }
}
