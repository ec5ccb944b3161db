//! The text of an expression into an [`Expr`]: `split(labels, ";")`, `join(' ', first, last)`, nested as needed.

use std::str::FromStr;

use super::expr::Expr;
use crate::value::{Number, Value};

/// Calls inside each other.
const DEPTH_MAX: usize = 16;

/// Scales are powers of ten; nothing has more digits than this.
const SCALE_MAX: i64 = 30;

/// The functions, as a message lists them.
pub(crate) const FUNCTIONS: [&str; 10] = [
    "trim", "lower", "split", "join", "scale", "default", "null_if", "enum", "word", "rest",
];

/// Functions that are designed and not built.
const FUNCTIONS_LATER: [&str; 5] = ["e164", "hash", "mask", "children", "concat"];

/// Why a text is no expression: characters `at` to `at + width` of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct ParseError {
    /// First character that is meant, from 0.
    pub at: usize,
    /// How many.
    pub width: usize,
    /// What is wrong.
    pub reason: String,
    /// What to do.
    pub help: String,
    /// Whether it is designed and not built.
    pub later: bool,
}

impl FromStr for Expr {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut parser = Parser {
            tokens: tokens(text)?,
            next: 0,
            end: text.chars().count(),
            depth: 0,
        };
        let expr = parser.expr()?;
        match parser.peek() {
            None => Ok(expr),
            Some(token) => Err(token.error("the expression should end here", HELP_QUOTE)),
        }
    }
}

const HELP_QUOTE: &str = "one expression, such as join(' ', first, last); inside { } put it in quotes";

#[derive(Clone, Debug, PartialEq)]
enum Word {
    Name(String),
    Text(String),
    Number(Number),
    Open,
    Close,
    Comma,
}

#[derive(Clone, Debug)]
struct Token {
    word: Word,
    at: usize,
    width: usize,
}

impl Token {
    fn error(&self, reason: impl Into<String>, help: impl Into<String>) -> ParseError {
        ParseError {
            at: self.at,
            width: self.width,
            reason: reason.into(),
            help: help.into(),
            later: false,
        }
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, ParseError> {
    let letters: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(letter) = letters.get(at) {
        if letter.is_whitespace() {
            at += 1;
            continue;
        }
        let (word, width) = token(&letters, at)?;
        tokens.push(Token { word, at, width });
        at += width;
    }
    Ok(tokens)
}

fn token(letters: &[char], at: usize) -> Result<(Word, usize), ParseError> {
    let rest = letters.get(at..).unwrap_or_default();
    match rest.first() {
        Some('(') => Ok((Word::Open, 1)),
        Some(')') => Ok((Word::Close, 1)),
        Some(',') => Ok((Word::Comma, 1)),
        Some(quote @ ('\'' | '"')) => quoted(rest, at, *quote),
        Some(c) if c.is_alphabetic() || *c == '_' => {
            let name: String = rest
                .iter()
                .take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '$'))
                .collect();
            let width = name.chars().count();
            Ok((Word::Name(name), width))
        }
        Some(c) if c.is_ascii_digit() || *c == '-' => number(rest, at),
        other => Err(ParseError {
            at,
            width: 1,
            reason: format!("`{}` has no meaning here", other.copied().unwrap_or(' ').escape_debug()),
            help: HELP_QUOTE.to_owned(),
            later: false,
        }),
    }
}

/// A text in quotes; the quote itself is written twice or after a backslash.
fn quoted(rest: &[char], at: usize, quote: char) -> Result<(Word, usize), ParseError> {
    let mut text = String::new();
    let mut index = 1;
    while let Some(letter) = rest.get(index) {
        let next = rest.get(index + 1);
        match (*letter, next) {
            (letter, Some(next)) if letter == quote && *next == quote => {
                text.push(quote);
                index += 2;
            }
            (letter, _) if letter == quote => return Ok((Word::Text(text), index + 1)),
            ('\\', Some(next)) if *next == quote || *next == '\\' => {
                text.push(*next);
                index += 2;
            }
            (letter, _) => {
                text.push(letter);
                index += 1;
            }
        }
    }
    let help = "close the text with the quote it began with".to_owned();
    Err(ParseError {
        at,
        width: rest.len(),
        reason: "a text without its closing quote".to_owned(),
        help,
        later: false,
    })
}

fn number(rest: &[char], at: usize) -> Result<(Word, usize), ParseError> {
    let text: String = rest
        .iter()
        .take_while(|c| c.is_ascii_digit() || matches!(c, '-' | '.'))
        .collect();
    let width = text.chars().count();
    let number = text.parse().map_err(|_| ParseError {
        at,
        width,
        reason: format!("`{text}` is no number"),
        help: "put texts in quotes".to_owned(),
        later: false,
    })?;
    Ok((Word::Number(number), width))
}

struct Parser {
    tokens: Vec<Token>,
    next: usize,
    end: usize,
    depth: usize,
}

/// An argument that has to be there.
struct Arguments {
    call: Token,
    name: String,
    given: std::vec::IntoIter<Argument>,
}

struct Argument {
    expr: Expr,
    token: Token,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next)
    }

    fn take(&mut self, wanted: &str) -> Result<Token, ParseError> {
        let token = self.peek().cloned();
        self.next += 1;
        token.ok_or_else(|| ParseError {
            at: self.end.saturating_sub(1),
            width: 1,
            reason: format!("{wanted} is missing at the end"),
            help: HELP_QUOTE.to_owned(),
            later: false,
        })
    }

    fn expr(&mut self) -> Result<Expr, ParseError> {
        let token = self.take("a column or a function")?;
        match token.word.clone() {
            Word::Name(name) if self.peek().is_some_and(|next| next.word == Word::Open) => self.call(name, token),
            Word::Name(name) => Ok(Expr::Name(name)),
            Word::Text(text) => Ok(Expr::Literal(Value::Text(text))),
            Word::Number(number) => Ok(Expr::Literal(Value::Number(number))),
            Word::Open | Word::Close | Word::Comma => {
                Err(token.error("a column or a function is expected here", HELP_QUOTE))
            }
        }
    }

    fn call(&mut self, name: String, call: Token) -> Result<Expr, ParseError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(call.error(
                format!("more than {DEPTH_MAX} calls inside each other"),
                "simplify the expression",
            ));
        }
        let given = self.arguments()?;
        self.depth -= 1;
        Arguments {
            call,
            name,
            given: given.into_iter(),
        }
        .build()
    }

    fn arguments(&mut self) -> Result<Vec<Argument>, ParseError> {
        self.take("`(`")?;
        let mut arguments = Vec::new();
        if self.peek().is_some_and(|token| token.word == Word::Close) {
            self.next += 1;
            return Ok(arguments);
        }
        loop {
            let Some(token) = self.peek().cloned() else {
                return Err(self.take("`)`").err().unwrap_or_else(closing));
            };
            arguments.push(Argument {
                expr: self.expr()?,
                token,
            });
            let token = self.take("`)`")?;
            match token.word {
                Word::Comma => {}
                Word::Close => return Ok(arguments),
                _ => return Err(token.error("`,` or `)` is expected here", HELP_QUOTE)),
            }
        }
    }
}

fn closing() -> ParseError {
    ParseError {
        at: 0,
        width: 1,
        reason: "`)` is missing".to_owned(),
        help: HELP_QUOTE.to_owned(),
        later: false,
    }
}

impl Arguments {
    fn build(mut self) -> Result<Expr, ParseError> {
        let expr = match self.name.as_str() {
            "trim" => Expr::Trim(self.inner()?),
            "lower" => Expr::Lower(self.inner()?),
            "rest" => Expr::Rest(self.inner()?),
            "word" => Expr::Word(self.inner()?, self.position()?),
            "split" => Expr::Split(self.inner()?, self.separator()?),
            "join" => Expr::Join(self.text("a separator in quotes")?, self.parts()?),
            "scale" => Expr::Scale(self.inner()?, self.digits()?),
            "default" => Expr::Default(self.inner()?, self.literal()?),
            "null_if" => Expr::NullIf(self.inner()?, self.literal()?),
            "enum" => Expr::Enum(self.inner()?, self.codes()?),
            _ => return Err(self.unknown()),
        };
        match self.given.next() {
            None => Ok(expr),
            Some(more) => Err(more
                .token
                .error(format!("`{}` takes no further argument", self.name), self.usage())),
        }
    }

    fn unknown(&self) -> ParseError {
        let later = FUNCTIONS_LATER.contains(&self.name.as_str());
        let (reason, help) = match later {
            true => (
                format!("`{}` is known, but not supported yet", self.name),
                "map the column as it is".to_owned(),
            ),
            false => (
                format!("there is no function `{}`", self.name),
                nearest_function(&self.name),
            ),
        };
        ParseError {
            later,
            ..self.call.error(reason, help)
        }
    }

    fn usage(&self) -> &'static str {
        match self.name.as_str() {
            "trim" => "trim(column)",
            "lower" => "lower(column)",
            "rest" => "rest(column)",
            "word" => "word(column, 1)",
            "split" => "split(column, \";\")",
            "join" => "join(' ', column, column)",
            "scale" => "scale(column, 2): the column holds hundredths",
            "default" => "default(column, \"value\")",
            "null_if" => "null_if(column, \"\")",
            _ => "enum(column, \"A=active\", \"I=inactive\")",
        }
    }

    fn argument(&mut self, wanted: &str) -> Result<Argument, ParseError> {
        let usage = self.usage();
        self.given
            .next()
            .ok_or_else(|| self.call.error(format!("`{}` needs {wanted}", self.name), usage))
    }

    fn inner(&mut self) -> Result<Box<Expr>, ParseError> {
        Ok(Box::new(self.argument("a column")?.expr))
    }

    fn literal(&mut self) -> Result<Value, ParseError> {
        let usage = self.usage();
        let argument = self.argument("a fixed value")?;
        match argument.expr {
            Expr::Literal(value) => Ok(value),
            _ => Err(argument
                .token
                .error("a fixed value is expected here: a number, or a text in quotes", usage)),
        }
    }

    fn text(&mut self, wanted: &str) -> Result<String, ParseError> {
        let usage = self.usage();
        let argument = self.argument(wanted)?;
        match argument.expr {
            Expr::Literal(Value::Text(text)) => Ok(text),
            _ => Err(argument.token.error(format!("{wanted} is expected here"), usage)),
        }
    }

    fn separator(&mut self) -> Result<String, ParseError> {
        let text = self.text("a separator in quotes")?;
        match text.trim().is_empty() {
            true => Err(self
                .call
                .error("a list needs a separator that is not white space", self.usage())),
            false => Ok(text),
        }
    }

    fn whole(&mut self, wanted: &str, range: std::ops::RangeInclusive<i64>) -> Result<i64, ParseError> {
        let usage = self.usage();
        let argument = self.argument(wanted)?;
        let number = match &argument.expr {
            Expr::Literal(Value::Number(number)) => number.to_string().parse().ok(),
            _ => None,
        };
        let wrong = format!("{wanted} from {} to {} is expected here", range.start(), range.end());
        number
            .filter(|number| range.contains(number))
            .ok_or_else(|| argument.token.error(wrong, usage))
    }

    fn digits(&mut self) -> Result<i64, ParseError> {
        self.whole("a number of digits", -SCALE_MAX..=SCALE_MAX)
    }

    fn position(&mut self) -> Result<usize, ParseError> {
        Ok(usize::try_from(self.whole("the number of a word", 1..=99)?).unwrap_or(1))
    }

    fn parts(&mut self) -> Result<Vec<Expr>, ParseError> {
        let first = self.argument("a column")?;
        Ok(std::iter::once(first)
            .chain(self.given.by_ref())
            .map(|argument| argument.expr)
            .collect())
    }

    fn codes(&mut self) -> Result<Vec<(String, String)>, ParseError> {
        let mut codes = vec![self.code()?];
        while self.given.len() > 0 {
            codes.push(self.code()?);
        }
        Ok(codes)
    }

    fn code(&mut self) -> Result<(String, String), ParseError> {
        let (usage, call) = (self.usage(), self.call.clone());
        let text = self.text("a pair in quotes such as \"A=active\"")?;
        let pair = text
            .split_once('=')
            .map(|(from, to)| (from.trim().to_owned(), to.trim().to_owned()));
        pair.ok_or_else(|| call.error(format!("`{text}` is no pair"), usage))
    }
}

fn nearest_function(name: &str) -> String {
    let close = FUNCTIONS.iter().map(|known| (strsim::jaro_winkler(name, known), known));
    match close.max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((score, known)) if score >= 0.8 => format!("did you mean `{known}`?"),
        _ => format!("there are: {}", FUNCTIONS.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_is_read_and_written() {
        for (text, written) in [
            ("full_name", "full_name"),
            ("trim( lower(email) )", "trim(lower(email))"),
            ("split(labels, \";\")", "split(labels, ';')"),
            ("join(' ', first, last)", "join(' ', first, last)"),
            ("scale(pence, 2)", "scale(pence, 2)"),
            ("default(x, \"it's\\\\\")", "default(x, 'it''s\\\\')"),
            ("null_if(x, '')", "null_if(x, '')"),
            (
                "enum(s, 'A=active', \"I=inactive\")",
                "enum(s, 'A=active', 'I=inactive')",
            ),
            ("word(rest(größe), 2)", "word(rest(größe), 2)"),
        ] {
            let expr: Expr = text.parse().unwrap();
            assert_eq!(expr.to_string(), written);
            assert_eq!(written.parse::<Expr>().unwrap(), expr);
        }
    }

    #[test]
    fn an_error_says_where() {
        for (text, at, reason) in [
            ("", 0, "missing at the end"),
            ("a b", 2, "should end here"),
            ("trim(", 4, "missing at the end"),
            ("trim(a", 5, "missing at the end"),
            ("trim()", 0, "needs a column"),
            ("trim(a, b)", 8, "no further argument"),
            ("é + b", 2, "no meaning"),
            ("split(a, b)", 9, "separator in quotes"),
            ("split(a, ' ')", 0, "not white space"),
            ("join(' ', 'x", 10, "closing quote"),
            ("scale(a, 2.5)", 9, "from -30 to 30"),
            ("word(a, 0)", 8, "from 1 to 99"),
            ("enum(a, 'x')", 0, "no pair"),
            ("splt(a, ';')", 0, "no function `splt`"),
            ("e164(phone, 'GB')", 0, "not supported yet"),
            ("1.2.3", 0, "no number"),
            ("(a)", 0, "expected here"),
        ] {
            let error = text.parse::<Expr>().unwrap_err();
            assert!(error.reason.contains(reason), "{text}: {}", error.reason);
            assert_eq!(error.at, at, "{text}: {}", error.reason);
        }
        assert!(
            "trim("
                .repeat(99)
                .parse::<Expr>()
                .unwrap_err()
                .reason
                .contains("inside each other")
        );
        assert!("e164(a)".parse::<Expr>().unwrap_err().later);
        assert_eq!(
            "splt(a, ';')".parse::<Expr>().unwrap_err().help,
            "did you mean `split`?"
        );
    }
}
