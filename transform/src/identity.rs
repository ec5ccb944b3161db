//! The entity id of a row, at first sight: a pure function of what the row says.
//!
//! Rows of different apps are the same entity if the first `match` list that they have all of is one list, and they hold
//! the same in all its parts, after normalising. A part is a field or an expression over fields; one that lacks anything
//! ([`syncline_schemas::lens::key()`]) makes the row pass over its list, so that nobody is matched by what he does not have.
//! The id is a hash of those values, so two apps that are read in any order, by any number of processes, agree on it
//! without asking each other: and that is why only the first list counts. Who has a telephone is known by his telephone,
//! and could be known by his mail too only by asking who else is (which is what `score` is for, later and elsewhere). It is sticky: once in the crosswalk it stays, also when
//! the values change later.

use sha2::{Digest, Sha256};
use syncline_schemas::lens::{self, Cell, Expr, Fields, Row};
use syncline_schemas::mapped::{RowKey, bare};
use syncline_schemas::pipeline::{Entity, Link};
use syncline_schemas::position::Position;
use syncline_schemas::sighting::{Claim, Trait};
use syncline_schemas::value::{Number, Value};
use unicode_normalization::UnicodeNormalization as _;

/// Hex digits of an entity id.
const CID_LENGTH: usize = 32;

/// The id that a row of `link` has if nobody knows it yet. Where another row had its key and `left` it, it is not that row.
pub fn cid(entity: &Entity, link: &Link, row: &RowKey, left: Option<Position>, fields: &Fields) -> String {
    match entity.match_on.iter().find_map(|same| normalised(same, fields)) {
        Some(values) => hash(&entity.name, "match", &values),
        None => {
            let mut parts = vec![link.name(), row.0.clone()];
            parts.extend(left.map(|left| left.to_string()));
            hash(&entity.name, "row", &parts)
        }
    }
}

/// What a row has of the parts that the file weighs: rows that agree in one have its hash in common.
pub fn traits(entity: &Entity, fields: &Fields) -> Vec<Trait> {
    let weights = entity.score.iter().flat_map(|score| &score.weights);
    let trait_of = |(part, _): &(Expr, Number)| {
        let text = normalised_part(part, fields)?;
        let part = part.to_string();
        Some(Trait {
            hash: hash(&entity.name, "trait", &[part.clone(), text]),
            part,
        })
    };
    weights.filter_map(trait_of).collect()
}

/// The rows of other apps that a row names. A column that is not there, or empty, names none.
pub fn claims(link: &Link, row: &Row) -> Vec<Claim> {
    let claim = |(source, column): &(String, String)| match row.get(column) {
        Some(Cell::Set(value)) if !value.is_null() => Some(Claim {
            source: source.clone(),
            key: bare(value),
        }),
        _ => None,
    };
    link.same_as.iter().filter_map(claim).collect()
}

/// The parts of a match list as the file says them, and what they hold, if the row has them all.
fn normalised(same: &[Expr], fields: &Fields) -> Option<Vec<String>> {
    let mut parts = Vec::with_capacity(same.len() * 2);
    for part in same {
        parts.extend([part.to_string(), normalised_part(part, fields)?]);
    }
    (!parts.is_empty()).then_some(parts)
}

/// What a row holds of a part; none if it lacks anything of it.
fn normalised_part(part: &Expr, fields: &Fields) -> Option<String> {
    let text = match lens::key(part, fields)? {
        Value::Text(text) => normalised_text(&text),
        other => other.to_string(),
    };
    (!text.is_empty()).then_some(text)
}

/// Without blanks around, with single blanks inside, in lower case, in Unicode's form NFKC (UAX #15) and without what has no
/// width: keyboards and exports differ in these, people do not see them.
fn normalised_text(text: &str) -> String {
    let visible: String = text.nfkc().filter(|c| !lens::is_invisible(*c)).collect();
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
        normalised(&[Expr::name("email")], &fields)
    }

    #[test]
    fn spelling_does_not_matter_but_emptiness_does() {
        assert_eq!(values("  Ada@New.uk "), values("ada@new.uk"));
        assert_eq!(values("Ada   Lovelace"), values("ada lovelace"));
        assert_eq!(values("  "), None);
        assert_eq!(
            normalised(&[Expr::name("email")], &Fields::from([("email".to_owned(), None)])),
            None,
            "unknown"
        );
    }

    #[test]
    fn a_field_alone_is_hashed_as_ever() {
        assert_eq!(values("Ada@New.uk").unwrap(), ["email", "ada@new.uk"]);
    }

    #[test]
    fn what_an_expression_makes_is_normalised_too() {
        let same = ["e164(phone, 'GB')", "rest(name)"].map(|part| part.parse::<Expr>().unwrap());
        let row = |phone: &str, name: &str| {
            let field = |name: &str, value: &str| (name.to_owned(), Some(Value::from(value)));
            normalised(&same, &Fields::from([field("phone", phone), field("name", name)]))
        };
        let ada = row("+44 (0)20 7946 0018", "Ada  LOVELACE");
        assert!(ada.is_some());
        assert_eq!(ada, row("020 7946 0018", "A. Lovelace"));
        assert_ne!(ada, row("020 7946 0018", "Ada Byron"));
        assert_eq!(row("020 7946 0018", "Ada"), None, "no second name");
        assert_eq!(row("ask her", "Ada Lovelace"), None, "no number");
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        let hash = |a: &str, b: &str| hash("customer", "match", &[a.to_owned(), b.to_owned()]);
        assert_eq!(hash("ab", "c").len(), CID_LENGTH);
        assert_ne!(hash("ab", "c"), hash("a", "bc"));
    }
}
