//! The text of an expression into an [`Expr`]: `split(labels, ";")`, `price >= 0 && price < 100`, nested as needed.
//!
//! ```text
//! expression = or [ "?" expression ":" expression ]
//! or         = and { "||" and }                       and  = comparison { "&&" comparison }
//! comparison = sum [ ("=="|"!="|"<"|"<="|">"|">=") sum ]
//! sum        = product { ("+"|"-") product }          product = unary { ("*"|"/") unary }
//! unary      = ("!"|"-") unary | "(" expression ")" | NAME "(" [ expression { "," expression } ] ")" | NAME | literal
//! literal    = NUMBER | 'TEXT' | "TEXT" | true | false | null         NAME = letters, digits, _ and $, parts joined by "."
//! ```

use std::str::FromStr;

use super::call::{Argument, Arguments};
use super::expr::Expr;
use super::operator::Operator;
use super::token::{Token, Word, tokens};
use crate::value::{Number, Value};

/// Calls, brackets and choices inside each other.
const DEPTH_MAX: usize = 16;

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

pub(super) const HELP_QUOTE: &str = "one expression, such as join(' ', first, last); inside { } put it in quotes";

struct Parser {
    tokens: Vec<Token>,
    next: usize,
    end: usize,
    depth: usize,
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
        let condition = self.operation(0)?;
        let Some(token) = self.sign("?") else {
            return Ok(condition);
        };
        let met = self.deeper(&token, Self::expr)?;
        let colon = self.take("`:`")?;
        if colon.word != Word::Sign(":") {
            return Err(colon.error("`:` is expected here", "a choice is `condition ? value : value`"));
        }
        let unmet = self.deeper(&token, Self::expr)?;
        Ok(Expr::Choice(Box::new([condition, met, unmet])))
    }

    /// Operands and the operators between them that bind more than `strength`.
    fn operation(&mut self, strength: u8) -> Result<Expr, ParseError> {
        let mut left = self.unary()?;
        let mut compared = false;
        while let Some(operator) = self.operator().filter(|operator| operator.strength() > strength) {
            let token = self.take("an operator")?;
            if operator.compares() && std::mem::replace(&mut compared, true) {
                return Err(token.error("comparisons do not chain", "join them: `a < b && b < c`"));
            }
            let right = self.operation(operator.strength())?;
            left = Expr::Binary(operator, Box::new([left, right]));
        }
        Ok(left)
    }

    fn operator(&self) -> Option<Operator> {
        let Some(Word::Sign(sign)) = self.peek().map(|token| &token.word) else {
            return None;
        };
        let found = Operator::ALL.iter().find(|(written, _)| written == sign);
        found.map(|(_, operator)| *operator)
    }

    /// The next word, if it is this sign.
    fn sign(&mut self, sign: &str) -> Option<Token> {
        let token = self
            .peek()
            .filter(|token| matches!(token.word, Word::Sign(found) if found == sign));
        let token = token.cloned();
        self.next += usize::from(token.is_some());
        token
    }

    fn unary(&mut self) -> Result<Expr, ParseError> {
        if let Some(token) = self.sign("!") {
            return Ok(Expr::Not(Box::new(self.deeper(&token, Self::unary)?)));
        }
        let Some(token) = self.sign("-") else {
            return self.operand();
        };
        Ok(match self.deeper(&token, Self::unary)? {
            Expr::Literal(Value::Number(number)) => Expr::Literal(Value::Number(&Number::zero() - &number)),
            inner => Expr::Binary(Operator::Minus, Box::new([Expr::Literal(0.into()), inner])),
        })
    }

    fn operand(&mut self) -> Result<Expr, ParseError> {
        let token = self.take("a column or a function")?;
        match token.word.clone() {
            Word::Name(name) if self.peek().is_some_and(|next| next.word == Word::Open) => self.call(name, token),
            Word::Name(name) => Ok(match name.as_str() {
                "true" => Expr::Literal(Value::Bool(true)),
                "false" => Expr::Literal(Value::Bool(false)),
                "null" => Expr::Literal(Value::Null),
                _ => Expr::Name(name),
            }),
            Word::Text(text) => Ok(Expr::Literal(Value::Text(text))),
            Word::Number(number) => Ok(Expr::Literal(Value::Number(number))),
            Word::Open => {
                let inner = self.deeper(&token, Self::expr)?;
                let close = self.take("`)`")?;
                if close.word != Word::Close {
                    return Err(close.error("`)` is expected here", HELP_QUOTE));
                }
                Ok(inner)
            }
            Word::Close | Word::Comma | Word::Sign(_) => {
                Err(token.error("a column or a function is expected here", HELP_QUOTE))
            }
        }
    }

    /// One level further in.
    fn deeper(
        &mut self,
        token: &Token,
        read: impl FnOnce(&mut Self) -> Result<Expr, ParseError>,
    ) -> Result<Expr, ParseError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            let reason = format!("more than {DEPTH_MAX} calls or brackets inside each other");
            return Err(token.error(reason, "simplify the expression"));
        }
        let expr = read(self)?;
        self.depth -= 1;
        Ok(expr)
    }

    fn call(&mut self, name: String, call: Token) -> Result<Expr, ParseError> {
        self.deeper(&call.clone(), |parser| parser.called(name, call))
    }

    fn called(&mut self, name: String, call: Token) -> Result<Expr, ParseError> {
        let given = self.arguments()?;
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
            ("a+b*c - -2", "(a + (b * c)) - -2"),
            ("a || b && !(c == null)", "a || (b && !(c == null))"),
            ("abs(new - old) / old > 0.2", "(abs(new - old) / old) > 0.2"),
            (
                "mine.app == 'crm' ? set(canon) : accept()",
                "(mine.app == 'crm') ? set(canon) : accept()",
            ),
            (
                "a ? b : c ? hold('it''s') : refuse()",
                "a ? b : (c ? hold('it''s') : refuse())",
            ),
            ("-a < true", "(0 - a) < true"),
            ("e164(phone, \"GB\")", "e164(phone, 'GB')"),
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
            ("é # b", 2, "no meaning"),
            ("a = b", 2, "no meaning"),
            ("a +", 2, "missing at the end"),
            ("a ? b", 4, "missing at the end"),
            ("a ? b , c", 6, "`:` is expected"),
            ("(a", 1, "missing at the end"),
            ("a < b < c", 6, "do not chain"),
            ("hold()", 0, "needs a reason"),
            ("accept(a)", 7, "no further argument"),
            ("split(a, b)", 9, "separator in quotes"),
            ("split(a, ' ')", 0, "not white space"),
            ("join(' ', 'x", 10, "closing quote"),
            ("scale(a, 2.5)", 9, "from -30 to 30"),
            ("word(a, 0)", 8, "from 1 to 99"),
            ("enum(a, 'x')", 0, "no pair"),
            ("splt(a, ';')", 0, "no function `splt`"),
            ("mask(phone)", 0, "not supported yet"),
            ("e164(phone)", 0, "needs a region"),
            ("e164(phone, GB)", 12, "region in quotes"),
            ("e164(phone, 'UK')", 12, "no numbering plan of `UK`"),
            ("1.2.3", 0, "no number"),
            ("(a))", 3, "should end here"),
            (")", 0, "expected here"),
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
        assert!("mask(a)".parse::<Expr>().unwrap_err().later);
        assert_eq!(
            "splt(a, ';')".parse::<Expr>().unwrap_err().help,
            "did you mean `split`?"
        );
    }
}
