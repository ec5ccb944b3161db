//! The only door by which a name or a text enters a statement of ours.
//!
//! Replication commands and COPY take no parameters, so there are exactly two types that may be formatted into one:
//! [`Ident`] and [`Literal`]. Both escape by doubling their own quote and nothing else, which is right in the grammar
//! of replication commands always, and in SQL because every session of ours pins `standard_conforming_strings = on`.

use std::fmt;

use syncline_runtime::failure::{Failure, Outcome};

/// The longest name a server keeps (NAMEDATALEN - 1). It cuts longer ones silently, so that two could become one.
const IDENT_BYTES_MAX: usize = 63;

/// A name: of a schema, table, column, slot, publication. Displays quoted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ident<'a>(&'a str);

impl<'a> Ident<'a> {
    /// Refuses what cannot be the name of anything.
    pub fn new(name: &'a str) -> Outcome<Self> {
        if name.is_empty() || name.len() > IDENT_BYTES_MAX || name.contains('\0') {
            let message = format!("{name:?} cannot be a name in PostgreSQL (1 to {IDENT_BYTES_MAX} bytes, no NUL)");
            return Err(Failure::definite("BAD_NAME", message));
        }
        Ok(Self(name))
    }
}

impl fmt::Display for Ident<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_quoted(f, self.0, '"')
    }
}

/// A text value. Displays quoted.
#[derive(Clone, PartialEq, Eq)]
pub struct Literal<'a>(&'a str);

impl<'a> Literal<'a> {
    /// Refuses what no text of PostgreSQL can hold.
    pub fn new(text: &'a str) -> Outcome<Self> {
        if text.contains('\0') {
            return Err(Failure::definite(
                "BAD_TEXT",
                "a text for PostgreSQL cannot contain NUL",
            ));
        }
        Ok(Self(text))
    }
}

impl fmt::Display for Literal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_quoted(f, self.0, '\'')
    }
}

fn write_quoted(f: &mut fmt::Formatter<'_>, text: &str, quote: char) -> fmt::Result {
    use fmt::Write as _;
    f.write_char(quote)?;
    for character in text.chars() {
        if character == quote {
            f.write_char(quote)?;
        }
        f.write_char(character)?;
    }
    f.write_char(quote)
}

/// A table by schema and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName {
    /// Schema.
    pub schema: String,
    /// Name.
    pub table: String,
}

impl TableName {
    /// By its two parts.
    pub fn new(schema: impl Into<String>, table: impl Into<String>) -> Self {
        Self {
            schema: schema.into(),
            table: table.into(),
        }
    }

    /// As it is written in a statement: both parts quoted.
    pub fn quoted(&self) -> Outcome<String> {
        Ok(format!("{}.{}", Ident::new(&self.schema)?, Ident::new(&self.table)?))
    }
}

/// As people write it: `public.customers`.
impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_quote_in_a_name_stays_in_the_name() {
        let name = r#"id" OR 1=1 --"#;
        assert_eq!(Ident::new(name).unwrap().to_string(), r#""id"" OR 1=1 --""#);
    }

    #[test]
    fn names_that_cannot_exist_are_refused() {
        for name in ["", "a\0b", &"x".repeat(64), &"é".repeat(32)] {
            assert!(Ident::new(name).is_err(), "{name:?}");
        }
        assert!(Ident::new(&"x".repeat(63)).is_ok());
    }

    #[test]
    fn a_literal_doubles_quotes_and_leaves_backslashes() {
        assert_eq!(Literal::new(r"O'Neil \x").unwrap().to_string(), r"'O''Neil \x'");
        assert!(Literal::new("a\0").is_err());
    }

    /// What a scanner of SQL reads back out of a quoted token, and what follows it.
    fn unquote(text: &str, quote: char) -> (String, &str) {
        let mut read = String::new();
        let mut rest = text.strip_prefix(quote).unwrap();
        loop {
            let at = rest.find(quote).unwrap();
            read.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            match rest.strip_prefix(quote) {
                Some(after) => {
                    read.push(quote);
                    rest = after;
                }
                None => return (read, rest),
            }
        }
    }

    proptest! {
        #[test]
        fn nothing_escapes_its_quotes(text in "[^\0]{1,15}") {
            let ident = Ident::new(&text).unwrap().to_string();
            prop_assert_eq!(unquote(&ident, '"'), (text.clone(), ""));
            let literal = Literal::new(&text).unwrap().to_string();
            prop_assert_eq!(unquote(&literal, '\''), (text, ""));
        }
    }
}
