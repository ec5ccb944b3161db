//! Pure: a `.properties` file by Java's rules, with the line of each property.
//!
//! The rules are those of `java.util.Properties.load`: `#` and `!` begin a comment line, an odd number of `\` at the end of
//! a line joins the next one without its leading blanks, the key ends at the first unescaped `=`, `:` or blank, and
//! `\t \n \r \f \uXXXX` stand for a character; any other escaped character stands for itself. The last of two equal keys
//! counts there; here two are told to the user, since one of them was not meant.

/// One property as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Line of its key, from 1.
    pub number: usize,
    /// Key.
    pub key: String,
    /// Value.
    pub value: String,
}

/// Why a text is no `.properties` file: the line, from 1, and what is wrong there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong.
    pub why: String,
}

/// Reads all properties in their order.
pub fn parse(text: &str) -> Result<Vec<Line>, Broken> {
    logical_lines(text)
        .into_iter()
        .map(|(number, line)| property(number, &line))
        .collect()
}

fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\u{c}')
}

/// Lines with their continuations, without comments and empty lines.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_start_matches(is_blank);
        let (number, mut joined) = match open.take() {
            Some(open) => open,
            None if line.is_empty() || line.starts_with(['#', '!']) => continue,
            None => (index + 1, String::new()),
        };
        let escapes = line.chars().rev().take_while(|&character| character == '\\').count();
        if escapes % 2 == 1 {
            joined.push_str(&line[..line.len() - 1]);
            open = Some((number, joined));
        } else {
            joined.push_str(line);
            lines.push((number, joined));
        }
    }
    lines.extend(open);
    lines
}

fn property(number: usize, line: &str) -> Result<Line, Broken> {
    let mut escaped = false;
    let end = line.find(|character| {
        let ends = !escaped && (is_blank(character) || matches!(character, '=' | ':'));
        escaped = !escaped && character == '\\';
        ends
    });
    let (key, rest) = line.split_at(end.unwrap_or(line.len()));
    let rest = rest.trim_start_matches(is_blank);
    let value = rest
        .strip_prefix(['=', ':'])
        .unwrap_or(rest)
        .trim_start_matches(is_blank);
    let unescaped = |text| unescape(text).map_err(|why| Broken { line: number, why });
    Ok(Line {
        number,
        key: unescaped(key)?,
        value: unescaped(value)?,
    })
}

fn unescape(text: &str) -> Result<String, String> {
    let mut units: Vec<u16> = Vec::with_capacity(text.len());
    let mut characters = text.chars();
    let mut buffer = [0; 2];
    while let Some(character) = characters.next() {
        let meant = match character {
            '\\' => match characters.next() {
                Some('u') => {
                    // Two escapes may be the halves of one character, so they are put together at the end.
                    units.push(code_unit(&characters.by_ref().take(4).collect::<String>())?);
                    continue;
                }
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('f') => '\u{c}',
                Some(other) => other,
                None => continue,
            },
            other => other,
        };
        units.extend_from_slice(meant.encode_utf16(&mut buffer));
    }
    String::from_utf16(&units).map_err(|_| "a \\u escape is half of a character".to_owned())
}

fn code_unit(digits: &str) -> Result<u16, String> {
    let whole = digits.len() == 4 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    let unit = whole.then(|| u16::from_str_radix(digits, 16).ok()).flatten();
    unit.ok_or_else(|| "\\u is not followed by four hexadecimal digits".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(usize, String, String)> {
        let lines = parse(text).unwrap();
        lines
            .into_iter()
            .map(|line| (line.number, line.key, line.value))
            .collect()
    }

    fn check(text: &str, number: usize, key: &str, value: &str) {
        assert_eq!(read(text), [(number, key.to_owned(), value.to_owned())], "{text:?}");
    }

    #[test]
    fn keys_and_values_are_parted_as_java_parts_them() {
        check("a=b", 1, "a", "b");
        check("  a  =  b c  ", 1, "a", "b c  ");
        check("a:b", 1, "a", "b");
        check("a b", 1, "a", "b");
        check("a = = b", 1, "a", "= b");
        check("a", 1, "a", "");
        check(r"a\ b\=c = d", 1, "a b=c", "d");
        check("# x\n\n! y\r\na=b\r\n", 4, "a", "b");
    }

    #[test]
    fn a_backslash_at_the_end_joins_the_next_line() {
        check("a=b,\\\n    c,\\\n\td\n", 1, "a", "b,c,d");
        check("a=b\\\\\n", 1, "a", "b\\");
        check("a=b\\", 1, "a", "b");
        check("a=b\\\n# not a comment", 1, "a", "b# not a comment");
    }

    #[test]
    fn escapes_are_characters() {
        check(r"a=\u00e9\ud83d\ude00\t\q", 1, "a", "\u{e9}\u{1f600}\tq");
        check(r"f=public\\.t", 1, "f", r"public\.t");
    }

    #[test]
    fn a_broken_escape_names_its_line() {
        for text in ["a=b\nc=\\u12", "a=b\nc=\\u12zz", "a=b\nc=\\ud83d"] {
            assert_eq!(parse(text).unwrap_err().line, 2, "{text:?}");
        }
    }
}
