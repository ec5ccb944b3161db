//! Debezium's lists of regular expressions: `table.include.list` and its like, `data-collections` of a signal.
//!
//! Separated by commas (`\,` is a comma), each matching the whole name whatever the case. Java's expressions look ahead and
//! behind, and lists of what to leave out live by it, so the engine is one that can. Such an engine may give up on an
//! expression; whoever asks says what that shall mean.

use fancy_regex::{Regex, RegexBuilder};

/// How large one compiled expression may become.
const COMPILED_BYTES_MAX: usize = 1 << 20;

/// Some expressions; a name matches if one of them does.
#[derive(Clone, Debug, Default)]
pub struct Patterns(Vec<Regex>);

/// Equal by text.
impl PartialEq for Patterns {
    fn eq(&self, other: &Self) -> bool {
        let texts = |patterns: &Self| -> Vec<String> { patterns.0.iter().map(Regex::to_string).collect() };
        texts(self) == texts(other)
    }
}

impl Eq for Patterns {}

impl Patterns {
    /// A list as a property has it. The error says which expression is wrong, and why.
    pub fn parse(list: &str) -> Result<Self, String> {
        Self::of(split(list))
    }

    /// Several expressions.
    pub fn of(expressions: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let compiled = expressions.into_iter().map(|expression| {
            RegexBuilder::new(&format!(r"(?i)\A(?:{expression})\z"))
                .delegate_size_limit(COMPILED_BYTES_MAX)
                .build()
                .map_err(|error| format!("{expression:?} is no regular expression that can be used here: {error}"))
        });
        compiled.collect::<Result<_, _>>().map(Self)
    }

    /// Whether one of them matches the whole name.
    pub fn matches(&self, name: &str) -> bool {
        self.matches_or(name, false)
    }

    /// The same; `unsure` is the answer of an expression on which the engine gives up.
    pub fn matches_or(&self, name: &str, unsure: bool) -> bool {
        self.0.iter().any(|pattern| pattern.is_match(name).unwrap_or(unsure))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The parts between commas, without surrounding blanks; empty ones are left out. A backslash takes the next character along.
pub fn split(list: &str) -> Vec<String> {
    let mut parts = Vec::new();
    let mut part = String::new();
    let mut rest = list.chars();
    while let Some(character) = rest.next() {
        match character {
            ',' => parts.push(std::mem::take(&mut part)),
            '\\' => match rest.next() {
                Some(',') => part.push(','),
                next => part.extend(std::iter::once('\\').chain(next)),
            },
            _ => part.push(character),
        }
    }
    parts.push(part);
    parts
        .iter()
        .map(|part| part.trim().to_owned())
        .filter(|part| !part.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_matches_whole_names_whatever_the_case() {
        let patterns = Patterns::parse(r"public\.orders, inventory\.c.*").unwrap();
        for name in ["public.orders", "PUBLIC.ORDERS", "inventory.customers"] {
            assert!(patterns.matches(name), "{name}");
        }
        for name in ["public.orders_old", "xpublic.orders", "publicXorders"] {
            assert!(!patterns.matches(name), "{name}");
        }
        assert!(Patterns::parse("").unwrap().is_empty());
    }

    #[test]
    fn a_comma_with_a_backslash_is_a_comma() {
        assert_eq!(split(r"a\,b , c,,"), ["a,b", "c"]);
    }

    #[test]
    fn an_expression_may_look_ahead() {
        let patterns = Patterns::parse(r"shop\.(?!tmp_).*").unwrap();
        assert!(patterns.matches("shop.a.b") && !patterns.matches("shop.tmp_a"));
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let refused = Patterns::parse(r"public\.a,public.(").unwrap_err();
        assert!(refused.contains("public.("), "{refused}");
    }
}
