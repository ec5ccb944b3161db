//! The words of an expression: names, numbers, texts and signs, each with its place.

use super::parse::{HELP_QUOTE, ParseError};
use crate::value::Number;

/// Names, numbers, texts and signs of an expression.
const TOKENS_MAX: usize = 500;

/// Signs that are words of their own, the longer before the shorter.
const SIGNS: [&str; 15] = [
    "||", "&&", "==", "!=", "<=", ">=", "<", ">", "+", "-", "*", "/", "!", "?", ":",
];

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Word {
    Name(String),
    Text(String),
    Number(Number),
    Open,
    Close,
    Comma,
    Sign(&'static str),
}

#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) word: Word,
    pub(super) at: usize,
    pub(super) width: usize,
}

impl Token {
    pub(super) fn error(&self, reason: impl Into<String>, help: impl Into<String>) -> ParseError {
        ParseError {
            at: self.at,
            width: self.width,
            reason: reason.into(),
            help: help.into(),
            later: false,
        }
    }
}

pub(super) fn tokens(text: &str) -> Result<Vec<Token>, ParseError> {
    let letters: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(letter) = letters.get(at) {
        if letter.is_whitespace() {
            at += 1;
            continue;
        }
        let (word, width) = token(&letters, at)?;
        let token = Token { word, at, width };
        if tokens.len() >= TOKENS_MAX {
            return Err(token.error(
                format!("more than {TOKENS_MAX} names and signs"),
                "simplify the expression",
            ));
        }
        tokens.push(token);
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
                .take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '$' | '.'))
                .collect();
            let width = name.chars().count();
            Ok((Word::Name(name), width))
        }
        Some(c) if c.is_ascii_digit() => number(rest, at),
        other => sign(rest).ok_or_else(|| ParseError {
            at,
            width: 1,
            reason: format!("`{}` has no meaning here", other.copied().unwrap_or(' ').escape_debug()),
            help: HELP_QUOTE.to_owned(),
            later: false,
        }),
    }
}

fn sign(rest: &[char]) -> Option<(Word, usize)> {
    let begins = |sign: &&str| sign.chars().zip(rest).filter(|(a, b)| a == *b).count() == sign.len();
    let sign = SIGNS.into_iter().find(begins)?;
    Some((Word::Sign(sign), sign.len()))
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
    let text: String = rest.iter().take_while(|c| c.is_ascii_digit() || **c == '.').collect();
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
