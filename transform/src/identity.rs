//! The entity id of a row, at first sight: a pure function of what the row says.
//!
//! Rows of different apps are the same entity if they hold the same in all fields of one `match` list, after normalising.
//! The id is a hash of those values, so two apps that are read in any order, by any number of processes, agree on it
//! without asking each other. It is sticky: once in the crosswalk it stays, also when the values change later.

use sha2::{Digest, Sha256};
use syncline_schemas::lens::Fields;
use syncline_schemas::mapped::RowKey;
use syncline_schemas::pipeline::{Entity, Link};
use syncline_schemas::position::Position;
use syncline_schemas::value::Value;
use unicode_normalization::UnicodeNormalization as _;

/// Hex digits of an entity id.
const CID_LENGTH: usize = 32;

/// Soft hyphen, zero-width space, (non-)joiners, word joiner, byte order mark.
const INVISIBLE: [char; 6] = ['\u{ad}', '\u{200b}', '\u{200c}', '\u{200d}', '\u{2060}', '\u{feff}'];

/// The id that a row of `link` has if nobody knows it yet. Where another row had its key and `left` it, it is not that row.
pub fn cid(entity: &Entity, link: &Link, row: &RowKey, left: Option<Position>, fields: &Fields) -> String {
    match entity.match_on.iter().find_map(|names| normalised(names, fields)) {
        Some(values) => hash(&entity.name, "match", &values),
        None => {
            let mut parts = vec![link.name(), row.0.clone()];
            parts.extend(left.map(|left| left.to_string()));
            hash(&entity.name, "row", &parts)
        }
    }
}

/// Names and values of a match list, if the row has them all.
fn normalised(names: &[String], fields: &Fields) -> Option<Vec<String>> {
    let mut parts = Vec::with_capacity(names.len() * 2);
    for name in names {
        let text = match fields.get(name)?.as_ref()? {
            Value::Null => return None,
            Value::Text(text) => normalised_text(text),
            other => other.to_string(),
        };
        if text.is_empty() {
            return None;
        }
        parts.extend([name.clone(), text]);
    }
    (!parts.is_empty()).then_some(parts)
}

/// Without blanks around, with single blanks inside, in lower case, in Unicode's form NFKC (UAX #15) and without what has no
/// width: keyboards and exports differ in these, people do not see them.
fn normalised_text(text: &str) -> String {
    let visible: String = text.nfkc().filter(|c| !INVISIBLE.contains(c)).collect();
    let lower = visible.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
    // Lower case may come apart: that of a capital I with a dot is two characters.
    lower.nfkc().collect()
}

/// Every part with its length, so that no two lists run into the same bytes.
fn hash(entity: &str, kind: &str, parts: &[String]) -> String {
    let mut digest = Sha256::new();
    for part in [entity, kind].into_iter().chain(parts.iter().map(String::as_str)) {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    let mut hex: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    hex.truncate(CID_LENGTH);
    hex
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(value: &str) -> Option<Vec<String>> {
        let fields = Fields::from([("email".to_owned(), Some(value.into()))]);
        normalised(&["email".to_owned()], &fields)
    }

    #[test]
    fn spelling_does_not_matter_but_emptiness_does() {
        assert_eq!(values("  Ada@New.uk "), values("ada@new.uk"));
        assert_eq!(values("Ada   Lovelace"), values("ada lovelace"));
        assert_eq!(values("  "), None);
        assert_eq!(
            normalised(&["email".to_owned()], &Fields::from([("email".to_owned(), None)])),
            None,
            "unknown"
        );
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        let hash = |a: &str, b: &str| hash("customer", "match", &[a.to_owned(), b.to_owned()]);
        assert_eq!(hash("ab", "c").len(), CID_LENGTH);
        assert_ne!(hash("ab", "c"), hash("a", "bc"));
    }
}
