//! hstore: the entries of the text that PostgreSQL prints, in the order in which Debezium writes them.
//!
//! Debezium puts the entries into a Java `HashMap` and writes them as that iterates: by the low bits of a mixed hash of
//! the key, in a table that has doubled until it is less than three quarters full. Nobody may rely on an order, but a
//! value that keeps its bytes is a value that has not changed, so the order is Java's.

use super::Unfit;
use super::nested::unquote;

const HSTORE: Unfit = Unfit("hstore");

/// A key and its value, NULL being none.
pub type Entry = (String, Option<String>);

/// The entries of `"a b"=>"x", "c"=>NULL`.
pub fn entries(text: &str) -> Result<Vec<Entry>, Unfit> {
    let (mut entries, mut rest) = (Vec::new(), text.trim());
    while !rest.is_empty() {
        let (mut key, mut value) = (String::new(), String::new());
        rest = unquote(rest.strip_prefix('"').ok_or(HSTORE)?, &mut key).ok_or(HSTORE)?;
        rest = rest.strip_prefix("=>").ok_or(HSTORE)?;
        if let Some(after) = rest.strip_prefix("NULL") {
            rest = after;
            entries.push((key, None));
        } else {
            rest = unquote(rest.strip_prefix('"').ok_or(HSTORE)?, &mut value).ok_or(HSTORE)?;
            entries.push((key, Some(value)));
        }
        rest = rest.strip_prefix(',').map_or(rest, str::trim_start);
    }
    order(&mut entries);
    Ok(entries)
}

/// The same as the JSON text `{"a b":"x","c":null}`.
pub fn json(text: &str) -> Result<String, Unfit> {
    let mut out = String::from("{");
    for (key, value) in entries(text)? {
        if out.len() > 1 {
            out.push(',');
        }
        super::push_json(&mut out, &key);
        out.push(':');
        match value {
            Some(value) => super::push_json(&mut out, &value),
            None => out.push_str("null"),
        }
    }
    out.push('}');
    Ok(out)
}

/// As a `HashMap` iterates. Within a bucket the order of insertion stays, also when the table grows.
fn order(entries: &mut [Entry]) {
    let mut buckets = 16usize;
    while entries.len() > buckets / 4 * 3 {
        buckets *= 2;
    }
    let mask = u32::try_from(buckets - 1).unwrap_or(u32::MAX);
    entries.sort_by_key(|(key, _)| mixed(key) & mask);
}

fn mixed(key: &str) -> u32 {
    let hash = key
        .encode_utf16()
        .fold(0u32, |hash, unit| hash.wrapping_mul(31).wrapping_add(u32::from(unit)));
    hash ^ hash >> 16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hstore_becomes_json() {
        assert_eq!(json("").unwrap(), "{}");
        assert_eq!(json(r#""a b"=>"x", "c"=>NULL"#).unwrap(), r#"{"a b":"x","c":null}"#);
        assert_eq!(json(r#""q\"\\"=>"NULL""#).unwrap(), r#"{"q\"\\":"NULL"}"#);
        assert!(json("a=>b").is_err());
    }

    #[test]
    fn a_thousand_keys_stand_in_javas_order() {
        let text: Vec<String> = (1..=1000).map(|number| format!("\"k{number}\"=>\"v\"")).collect();
        let entries = entries(&text.join(", ")).unwrap();
        let first: Vec<&str> = entries.iter().take(2).map(|(key, _)| key.as_str()).collect();
        assert_eq!(first, ["k705", "k947"]);
    }
}
