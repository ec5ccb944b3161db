//! Texts that contain texts: arrays, hstore, points, bytea.

use super::Unfit;

const ARRAY: Unfit = Unfit("array");
const HSTORE: Unfit = Unfit("hstore");

/// Calls `each` with the elements of `{a,"b c",NULL}` in order and gives their number. An element that is itself an
/// array is `Element::Nested`: the Avro form has one dimension, as Debezium's has.
pub fn array(text: &str, mut each: impl FnMut(Element<'_>) -> Result<(), Unfit>) -> Result<usize, Unfit> {
    let mut rest = without_bounds(text).strip_prefix('{').ok_or(ARRAY)?;
    let mut count = 0;
    let mut unescaped = String::new();
    if rest == "}" {
        return Ok(0);
    }
    loop {
        let (element, after) = next_element(rest, &mut unescaped)?;
        each(element)?;
        count += 1;
        match after.as_bytes() {
            [b',', ..] => rest = &after[1..],
            [b'}'] => return Ok(count),
            _ => return Err(ARRAY),
        }
    }
}

/// One element of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element<'a> {
    /// NULL.
    Null,
    /// An array within the array.
    Nested,
    /// The element's text.
    Text(&'a str),
}

/// `[0:1]={..}`: lower bounds other than 1 are printed before the array.
fn without_bounds(text: &str) -> &str {
    if !text.starts_with('[') {
        return text;
    }
    text.split_once('=').map_or(text, |(_, array)| array)
}

fn next_element<'e, 't: 'e>(text: &'t str, unescaped: &'e mut String) -> Result<(Element<'e>, &'t str), Unfit> {
    if text.starts_with('{') {
        return Ok((Element::Nested, after_nested(text)?));
    }
    if let Some(quoted) = text.strip_prefix('"') {
        let after = unquote(quoted, unescaped).ok_or(ARRAY)?;
        return Ok((Element::Text(unescaped), after));
    }
    let end = text.find([',', '}']).ok_or(ARRAY)?;
    let (element, after) = text.split_at(end);
    let element = if element == "NULL" {
        Element::Null
    } else {
        Element::Text(element)
    };
    Ok((element, after))
}

/// What follows the array at the start of `text`.
fn after_nested(text: &str) -> Result<&str, Unfit> {
    let (mut depth, mut quoted, mut escaped) = (0, false, false);
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => quoted = !quoted,
            b'{' if !quoted => depth += 1,
            b'}' if !quoted => {
                depth -= 1;
                if depth == 0 {
                    return Ok(&text[index + 1..]);
                }
            }
            _ => (),
        }
    }
    Err(ARRAY)
}

/// Reads up to the closing quote into `into` and gives what follows it.
fn unquote<'a>(text: &'a str, into: &mut String) -> Option<&'a str> {
    into.clear();
    let mut rest = text;
    loop {
        let special = rest.find(['"', '\\'])?;
        into.push_str(&rest[..special]);
        if rest.as_bytes()[special] == b'"' {
            return Some(&rest[special + 1..]);
        }
        let escaped = rest[special + 1..].chars().next()?;
        into.push(escaped);
        rest = &rest[special + 1 + escaped.len_utf8()..];
    }
}

/// `"a b"=>"x", "c"=>NULL` as the JSON text `{"a b":"x","c":null}`.
pub fn hstore_json(text: &str) -> Result<String, Unfit> {
    let (mut out, mut key, mut value) = (String::from("{"), String::new(), String::new());
    let mut rest = text.trim();
    while !rest.is_empty() {
        rest = unquote(rest.strip_prefix('"').ok_or(HSTORE)?, &mut key).ok_or(HSTORE)?;
        rest = rest.strip_prefix("=>").ok_or(HSTORE)?;
        if out.len() > 1 {
            out.push(',');
        }
        push_json(&mut out, &key);
        out.push(':');
        if let Some(after) = rest.strip_prefix("NULL") {
            out.push_str("null");
            rest = after;
        } else {
            rest = unquote(rest.strip_prefix('"').ok_or(HSTORE)?, &mut value).ok_or(HSTORE)?;
            push_json(&mut out, &value);
        }
        rest = rest.strip_prefix(',').map_or(rest, str::trim_start);
    }
    out.push('}');
    Ok(out)
}

fn push_json(out: &mut String, text: &str) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

/// `(1.5,-2)` as its two numbers.
pub fn point(text: &str) -> Result<(f64, f64), Unfit> {
    let inner = text.strip_prefix('(').and_then(|text| text.strip_suffix(')'));
    let (x, y) = inner.and_then(|text| text.split_once(',')).ok_or(Unfit("point"))?;
    x.parse().ok().zip(y.parse().ok()).ok_or(Unfit("point"))
}

/// `\x00ff` as bytes.
pub fn bytea(text: &str, out: &mut Vec<u8>) -> Result<(), Unfit> {
    let digits = text.strip_prefix("\\x").ok_or(Unfit("bytea"))?.as_bytes();
    if digits.len() % 2 != 0 {
        return Err(Unfit("bytea"));
    }
    out.reserve(digits.len() / 2);
    for pair in digits.chunks_exact(2) {
        let (high, low) = nibble(pair[0]).zip(nibble(pair[1])).ok_or(Unfit("bytea"))?;
        out.push(high << 4 | low);
    }
    Ok(())
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elements(text: &str) -> Result<Vec<Option<String>>, Unfit> {
        let mut found = Vec::new();
        let count = array(text, |element| {
            found.push(match element {
                Element::Null => None,
                Element::Nested => Some("<nested>".to_owned()),
                Element::Text(text) => Some(text.to_owned()),
            });
            Ok(())
        })?;
        assert_eq!(count, found.len());
        Ok(found)
    }

    #[test]
    fn arrays_are_read_as_postgresql_prints_them() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(elements("{}").unwrap(), []);
        assert_eq!(elements("{1,NULL,-3}").unwrap(), [some("1"), None, some("-3")]);
        let tricky = r#"{a,NULL,"c d","e,f","g\"h","\\x","NULL",""}"#;
        let expected = ["c d", "e,f", "g\"h", "\\x", "NULL", ""].map(some);
        assert_eq!(elements(tricky).unwrap()[2..], expected);
        assert_eq!(elements("[0:1]={7,8}").unwrap(), [some("7"), some("8")]);
        assert_eq!(
            elements(r#"{{1,2},{"}",4}}"#).unwrap(),
            [some("<nested>"), some("<nested>")]
        );
        for wrong in ["", "{", "{1", "1,2", "{1}x", "{\"a}", "{{1}"] {
            assert!(elements(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn hstore_becomes_json() {
        assert_eq!(hstore_json("").unwrap(), "{}");
        assert_eq!(
            hstore_json(r#""a b"=>"x", "c"=>NULL"#).unwrap(),
            r#"{"a b":"x","c":null}"#
        );
        assert_eq!(hstore_json(r#""q\"\\"=>"NULL""#).unwrap(), r#"{"q\"\\":"NULL"}"#);
        assert!(hstore_json("a=>b").is_err());
    }

    #[test]
    fn bytes_and_points() {
        let mut out = Vec::new();
        bytea("\\x00ffA0", &mut out).unwrap();
        assert_eq!(out, [0, 0xff, 0xa0]);
        assert!(
            bytea("\\x0", &mut out).is_err() && bytea("00", &mut out).is_err() && bytea("\\x0g", &mut out).is_err()
        );
        assert_eq!(point("(1.5,-2)"), Ok((1.5, -2.0)));
        assert!(point("(NaN,Infinity)").is_ok_and(|(x, y)| x.is_nan() && y.is_infinite()));
    }
}
