//! The text of a file and places in it. Lines count from 1, columns from 1 and in characters.

use super::problem::{Excerpt, Problem};

/// Characters of a line that a problem quotes at most.
const EXCERPT_CHARS_MAX: usize = 110;

/// Characters kept before the part meant, when a long line is clipped.
const EXCERPT_LEAD_CHARS: usize = 30;

/// A file as it was written.
pub(super) struct Source {
    file: String,
    lines: Vec<String>,
}

/// A part of one line. A part that spans lines is cut at the end of its first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) width: usize,
}

impl Source {
    pub(super) fn new(file: &str, text: &str) -> Self {
        Self {
            file: file.to_owned(),
            lines: text.lines().map(str::to_owned).collect(),
        }
    }

    pub(super) fn file(&self) -> &str {
        &self.file
    }

    /// Line `number`, empty if there is none.
    fn line(&self, number: usize) -> &str {
        number
            .checked_sub(1)
            .and_then(|index| self.lines.get(index))
            .map_or("", String::as_str)
    }

    /// The part from `column` to `end` (exclusive, the end of the line if none is given), without white space at its end.
    pub(super) fn span(&self, line: usize, column: usize, end: Option<usize>) -> Span {
        let rest: String = self.line(line).chars().skip(column.saturating_sub(1)).collect();
        let wanted: String = match end {
            Some(end) => rest.chars().take(end.saturating_sub(column)).collect(),
            None => rest,
        };
        Span {
            line,
            column,
            width: wanted.trim_end().chars().count().max(1),
        }
    }

    /// Whether the line goes on with `text` at `column`.
    pub(super) fn has(&self, line: usize, column: usize, text: &str) -> bool {
        let mut rest = self.line(line).chars().skip(column.saturating_sub(1));
        text.chars().all(|wanted| rest.next() == Some(wanted))
    }

    /// A problem at `span`.
    pub(super) fn problem(&self, code: &'static str, span: Span, context: &str, title: impl Into<String>) -> Problem {
        Problem {
            code,
            file: self.file.clone(),
            line: span.line,
            column: span.column,
            context: context.to_owned(),
            title: title.into(),
            excerpt: Some(self.excerpt(span)),
            labels: Vec::new(),
        }
    }

    fn excerpt(&self, span: Span) -> Excerpt {
        let line: Vec<char> = blank_passwords(self.line(span.line)).chars().collect();
        let indent = line.iter().take_while(|c| c.is_whitespace()).count();
        let at = span.column.saturating_sub(1);
        let first = match line.len().saturating_sub(indent) > EXCERPT_CHARS_MAX {
            true => indent.max(at.saturating_sub(EXCERPT_LEAD_CHARS)),
            false => indent.min(at),
        };
        let text: String = line.iter().skip(first).take(EXCERPT_CHARS_MAX).collect();
        let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let before = at.saturating_sub(first).min(EXCERPT_CHARS_MAX);
        let room = text.chars().count().saturating_sub(before).max(1);
        Excerpt {
            text: text.trim_end().to_owned(),
            before,
            width: span.width.clamp(1, room),
        }
    }
}

/// The line with every password in a URL or a `password=` setting replaced by as many asterisks.
fn blank_passwords(line: &str) -> String {
    let mut out: Vec<char> = line.chars().collect();
    for start in starts_after(&out, "://") {
        blank_url_password(&mut out, start);
    }
    for start in starts_after(&out, "password=")
        .into_iter()
        .chain(starts_after(&out, "password: "))
    {
        let ends = |c: &char| c.is_whitespace() || matches!(c, '"' | '\'' | '&' | ',' | '}');
        out.iter_mut()
            .skip(start)
            .skip_while(|c| matches!(c, '"' | '\'' | ' '))
            .take_while(|c| !ends(c))
            .for_each(star);
    }
    out.into_iter().collect()
}

/// Where the text goes on after each `needle`, letter case aside.
fn starts_after(text: &[char], needle: &str) -> Vec<usize> {
    let needle: Vec<char> = needle.chars().collect();
    let matches = |window: &[char]| window.iter().zip(&needle).all(|(a, b)| a.eq_ignore_ascii_case(b));
    text.windows(needle.len())
        .enumerate()
        .filter(|(_, w)| matches(w))
        .map(|(at, _)| at + needle.len())
        .collect()
}

/// `user:password@host` behind `://`: the password may hold anything but white space and quotes.
fn blank_url_password(text: &mut [char], start: usize) {
    let ends = |c: &char| c.is_whitespace() || matches!(c, '"' | '\'');
    let url = text.iter().skip(start).take_while(|c| !ends(c)).count();
    let Some(at) = text.iter().skip(start).take(url).rposition_of('@') else {
        return;
    };
    let Some(colon) = text.iter().skip(start).take(at).position(|c| *c == ':') else {
        return;
    };
    text.iter_mut()
        .skip(start + colon + 1)
        .take(at - colon - 1)
        .for_each(star);
}

fn star(c: &mut char) {
    *c = '*';
}

/// The last place of a character in an iterator that cannot be walked backwards.
trait LastPosition {
    fn rposition_of(self, wanted: char) -> Option<usize>;
}

impl<'a, I: Iterator<Item = &'a char>> LastPosition for I {
    fn rposition_of(self, wanted: char) -> Option<usize> {
        self.enumerate().filter(|(_, c)| **c == wanted).map(|(at, _)| at).last()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_line_shows_no_password() {
        for (line, shown) in [
            (
                "shop: { postgres: \"postgres://u:hunter2@db/x\" }",
                "shop: { postgres: \"postgres://u:*******@db/x\" }",
            ),
            ("postgres: postgres://u:p@ss@db", "postgres: postgres://u:****@db"),
            (
                "postgres: host=db Password=hunter2 user=x",
                "postgres: host=db Password=******* user=x",
            ),
            (
                "postgres: host=db password='hunter2'",
                "postgres: host=db password='*******'",
            ),
            ("sasl.password: 'hunter2'", "sasl.password: '*******'"),
            ("http: https://db.example/x", "http: https://db.example/x"),
        ] {
            assert_eq!(blank_passwords(line), shown);
        }
    }

    #[test]
    fn a_long_line_is_clipped_around_the_part_meant() {
        let line = format!("{}WRONG{}", "x".repeat(300), "y".repeat(300));
        let source = Source::new("f.yaml", &line);
        let problem = source.problem("H110", source.span(1, 301, Some(306)), "", "t");
        let excerpt = problem.excerpt.unwrap();
        let meant: String = excerpt.text.chars().skip(excerpt.before).take(excerpt.width).collect();
        assert_eq!(meant, "WRONG");
        assert_eq!(excerpt.text.chars().count(), EXCERPT_CHARS_MAX);
    }

    #[test]
    fn a_place_outside_the_file_is_no_crash() {
        let source = Source::new("f.yaml", "");
        for span in [
            source.span(0, 0, None),
            source.span(9, 9, Some(2)),
            Span {
                line: 1,
                column: 40,
                width: 3,
            },
        ] {
            let shown = source.problem("H100", span, "", "t").to_string();
            assert!(shown.contains('^'), "{shown}");
        }
    }
}
