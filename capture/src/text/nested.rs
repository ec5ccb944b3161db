//! Texts that contain texts: arrays, points, vectors.

use super::Unfit;

const ARRAY: Unfit = Unfit("array");
const VECTOR: Unfit = Unfit("vector of this size");

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
    /// An array within the array, as it is printed.
    Nested(&'a str),
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
        let after = after_nested(text)?;
        return Ok((Element::Nested(&text[..text.len() - after.len()]), after));
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
pub(super) fn unquote<'a>(text: &'a str, into: &mut String) -> Option<&'a str> {
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

/// `(1.5,-2)` as its two numbers.
pub fn point(text: &str) -> Result<(f64, f64), Unfit> {
    let inner = text.strip_prefix('(').and_then(|text| text.strip_suffix(')'));
    let (x, y) = inner.and_then(|text| text.split_once(',')).ok_or(Unfit("point"))?;
    x.parse().ok().zip(y.parse().ok()).ok_or(Unfit("point"))
}

/// Calls `each` with the numbers of `[1,2.5,-3]` in order and gives how many they were.
pub fn vector<T: std::str::FromStr>(text: &str, mut each: impl FnMut(T)) -> Result<usize, Unfit> {
    let inner = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .ok_or(VECTOR)?;
    let mut count = 0;
    for number in inner.split(',') {
        each(number.trim().parse().map_err(|_| VECTOR)?);
        count += 1;
    }
    Ok(count)
}

/// `{1:0.5,3:2}/5`: calls `each` with index and number and gives how many they were, and the dimensions.
pub fn sparse_vector(text: &str, mut each: impl FnMut(i16, f64)) -> Result<(usize, i16), Unfit> {
    let (entries, dimensions) = text
        .strip_prefix('{')
        .and_then(|text| text.split_once("}/"))
        .ok_or(VECTOR)?;
    let mut count = 0;
    for entry in entries.split(',').filter(|entry| !entry.is_empty()) {
        let (index, number) = entry.split_once(':').ok_or(VECTOR)?;
        let index = index.trim().parse().map_err(|_| VECTOR)?;
        each(index, number.trim().parse().map_err(|_| VECTOR)?);
        count += 1;
    }
    Ok((count, dimensions.trim().parse().map_err(|_| VECTOR)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elements(text: &str) -> Result<Vec<Option<String>>, Unfit> {
        let mut found = Vec::new();
        let count = array(text, |element| {
            found.push(match element {
                Element::Null => None,
                Element::Nested(_) => Some("<nested>".to_owned()),
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
    fn points_and_vectors() {
        assert_eq!(point("(1.5,-2)"), Ok((1.5, -2.0)));
        assert!(point("(NaN,Infinity)").is_ok_and(|(x, y)| x.is_nan() && y.is_infinite()));
        let mut numbers = Vec::new();
        assert_eq!(vector("[1,2.5,-3]", |number: f32| numbers.push(number)), Ok(3));
        assert_eq!(numbers, [1.0, 2.5, -3.0]);
        let mut entries = Vec::new();
        assert_eq!(
            sparse_vector("{1:0.5,3:2}/5", |index, number| entries.push((index, number))),
            Ok((2, 5))
        );
        assert_eq!(entries, [(1, 0.5), (3, 2.0)]);
        assert_eq!(sparse_vector("{}/5", |_, _| ()), Ok((0, 5)));
        assert!(vector("1,2", |_: f64| ()).is_err() && sparse_vector("{1:2}", |_, _| ()).is_err());
    }
}
