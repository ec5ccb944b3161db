//! A function and its arguments into an [`Expr`].

use super::expr::Expr;
use super::parse::ParseError;
use super::telephone::Region;
use super::token::Token;
use super::verdict::Ending;
use crate::value::Value;

/// Scales are powers of ten; nothing has more digits than this.
const SCALE_MAX: i64 = 30;

/// The functions, as a message lists them.
const FUNCTIONS: [&str; 18] = [
    "trim", "lower", "split", "join", "scale", "default", "null_if", "enum", "word", "rest", "e164", "abs", "length",
    "contains", "accept", "refuse", "set", "hold",
];

/// Functions that are designed and not built.
const FUNCTIONS_LATER: [&str; 4] = ["hash", "mask", "children", "concat"];

/// An argument that has to be there.
pub(super) struct Arguments {
    pub(super) call: Token,
    pub(super) name: String,
    pub(super) given: std::vec::IntoIter<Argument>,
}

pub(super) struct Argument {
    pub(super) expr: Expr,
    pub(super) token: Token,
}

impl Arguments {
    pub(super) fn build(mut self) -> Result<Expr, ParseError> {
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
            "e164" => Expr::E164(self.inner()?, self.region()?),
            "abs" => Expr::Abs(self.inner()?),
            "length" => Expr::Length(self.inner()?),
            "contains" => Expr::Contains(self.inner()?, self.inner()?),
            "accept" => Expr::Ending(Ending::Accept),
            "refuse" => Expr::Ending(Ending::Refuse),
            "set" => Expr::Ending(Ending::Set(self.inner()?)),
            "hold" => Expr::Ending(Ending::Hold(self.text("a reason in quotes")?)),
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
            "e164" => "e164(column, 'GB')",
            "abs" => "abs(column)",
            "length" => "length(column)",
            "contains" => "contains(column, 'part')",
            "accept" | "refuse" => "it stands alone: accept()",
            "set" => "set(value)",
            "hold" => "hold('why')",
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

    fn region(&mut self) -> Result<Region, ParseError> {
        let usage = self.usage();
        let argument = self.argument("a region in quotes")?;
        let Expr::Literal(Value::Text(code)) = &argument.expr else {
            return Err(argument.token.error("a region in quotes is expected here", usage));
        };
        Region::named(code).ok_or_else(|| {
            let help = format!("there are: {}", Region::codes());
            let reason = format!("there is no numbering plan of `{code}` here");
            argument.token.error(reason, help)
        })
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
