//! Pure: the one table of every property that Debezium's PostgreSQL connector 3.6 knows, and Connect's own beside them.
//!
//! A property is honoured, or has no meaning here (and says why), or is refused (and says why and what to do instead).
//! None is passed over in silence: a setting that quietly does nothing is how two programs that "have the same
//! configuration" come to write different records. A refused property may still be written out with the value that is
//! Debezium's default, because many people write down everything.

use super::draft::Draft;

mod connect;
mod records;
mod source;

/// One property or, with `*`, a family of them.
#[derive(Clone, Copy)]
pub struct Row {
    /// Its name; a `*` stands for one or more characters.
    pub name: &'static str,
    /// What Debezium does if it is not given; none if it has no default, or one that nobody writes down.
    pub default: Option<&'static str>,
    /// What it does here.
    pub effect: Effect,
}

/// What a property does here.
#[derive(Clone, Copy)]
pub enum Effect {
    /// What it does there.
    Honoured(Setter),
    /// Nothing, for this reason.
    Meaningless(&'static str),
    /// Its work is not done here: why, and what to do.
    Refused(&'static str),
}

/// Puts a value where it belongs, or says what is wrong with it. Must not repeat a value that may be a secret.
pub type Setter = fn(&mut Draft, &Given<'_>) -> Result<(), String>;

/// A property as it is given.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    /// Its full name.
    pub name: &'a str,
    /// What the `*` of its row stand for, in their order; empty texts beyond.
    pub wild: [&'a str; 2],
    /// Its value, trimmed.
    pub value: &'a str,
}

const fn honoured(name: &'static str, set: Setter) -> Row {
    Row {
        name,
        default: None,
        effect: Effect::Honoured(set),
    }
}

const fn meaningless(name: &'static str, why: &'static str) -> Row {
    Row {
        name,
        default: None,
        effect: Effect::Meaningless(why),
    }
}

const fn refused(name: &'static str, default: &'static str, why: &'static str) -> Row {
    Row {
        name,
        default: Some(default),
        effect: Effect::Refused(why),
    }
}

/// Every row. Plain names stand before the families that would swallow them.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    source::ROWS.iter().chain(records::ROWS).chain(connect::ROWS)
}

/// The row of a property, and what its `*` stand for.
pub fn find(name: &str) -> Option<(&'static Row, [&str; 2])> {
    rows().find_map(|row| Some((row, matched(row.name, name)?)))
}

/// What the `*` of a pattern stand for, if the name fits it. The last `*` takes all that is left.
fn matched<'n>(pattern: &str, name: &'n str) -> Option<[&'n str; 2]> {
    let mut wild = [""; 2];
    let mut parts = pattern.split('*');
    let mut rest = name.strip_prefix(parts.next().unwrap_or_default())?;
    let mut parts = parts.peekable();
    let mut stars = wild.iter_mut();
    while let Some(part) = parts.next() {
        let end = match parts.peek() {
            // The end of the name belongs to the last part, wherever else it may be found.
            None => rest.len().checked_sub(part.len()).filter(|&end| rest[end..] == *part)?,
            Some(_) => rest.find(part)?,
        };
        if end == 0 {
            return None;
        }
        if let Some(star) = stars.next() {
            *star = &rest[..end];
        }
        rest = &rest[end + part.len()..];
    }
    rest.is_empty().then_some(wild)
}

/// The known name that was probably meant.
pub fn nearest(wrong: &str) -> Option<&'static str> {
    let wrong = wrong.to_lowercase();
    let close = |name: &'static str| (strsim::jaro_winkler(&wrong, name), name);
    let best = rows().map(|row| close(row.name)).max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 >= 0.88).then_some(best.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_found_by_its_pattern() {
        assert_eq!(matched("slot.name", "slot.name"), Some(["", ""]));
        assert_eq!(
            matched("column.mask.with.*.chars", "column.mask.with.10.chars"),
            Some(["10", ""])
        );
        assert_eq!(
            matched(
                "column.mask.hash.*.with.salt.*",
                "column.mask.hash.SHA-256.with.salt.a.b"
            ),
            Some(["SHA-256", "a.b"])
        );
        assert_eq!(matched("transforms.*", "transforms."), None);
        assert_eq!(matched("*.type", "isbn.type"), Some(["isbn", ""]));
        assert_eq!(matched("column.mask.with.*.chars", "column.mask.with..chars"), None);
    }

    /// Made from the configuration definition of `PostgresConnector` 3.6.3 and the fields of the classes it rests on.
    const DEBEZIUM: &str = include_str!("table/debezium-3.6.txt");

    #[test]
    fn every_property_of_the_connector_is_known() {
        let unknown: Vec<&str> = DEBEZIUM.lines().filter(|name| find(name).is_none()).collect();
        assert!(DEBEZIUM.lines().count() > 130 && unknown.is_empty(), "{unknown:?}");
    }

    #[test]
    fn no_name_is_there_twice_or_hidden_by_a_family_before_it() {
        for (index, row) in rows().enumerate() {
            let example = row.name.replace('*', "1");
            let found = rows().position(|other| matched(other.name, &example).is_some());
            assert_eq!(found, Some(index), "{}", row.name);
        }
    }

    #[test]
    fn every_row_that_does_not_do_its_work_says_why() {
        for row in rows() {
            match row.effect {
                Effect::Refused(why) => assert!(why.len() > 30, "{}: {why}", row.name),
                Effect::Meaningless(why) => assert!(why.len() > 15, "{}: {why}", row.name),
                Effect::Honoured(_) => {}
            }
        }
    }

    #[test]
    fn what_was_probably_meant_is_named() {
        assert_eq!(nearest("slot.nmae"), Some("slot.name"));
        assert_eq!(
            nearest("table.whitelist"),
            Some("table.whitelist").filter(|_| find("table.whitelist").is_some())
        );
        assert_eq!(nearest("zzz"), None);
    }
}
