//! One mistake in a pipeline file, told so that it can be put right without asking anybody.
//!
//! Codes are stable: H1xx syntax, H2xx types, H3xx meaning. A problem never shows a substituted value, since that may be
//! a secret, and blanks passwords out of the line it quotes.

use std::fmt;

/// A mistake: what, where, why it matters, what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Stable code, such as `H214`.
    pub code: &'static str,
    /// The file, as named on the command line.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What the place belongs to, such as `crm.contacts <-> customer`; may be empty.
    pub context: String,
    /// What is wrong.
    pub title: String,
    /// The line and the part of it that is meant; none if the file could not be read.
    pub excerpt: Option<Excerpt>,
    /// `found`, `why`, `help` in that order, as far as they say something.
    pub labels: Vec<(&'static str, String)>,
}

/// A line of the file and the part of it that is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt {
    /// The line without its indentation, clipped to what is worth reading.
    pub text: String,
    /// Characters of `text` before the part meant.
    pub before: usize,
    /// Characters of the part meant, at least one.
    pub width: usize,
}

impl Problem {
    /// Adds what was found.
    pub fn found(self, text: impl Into<String>) -> Self {
        self.label("found", text)
    }

    /// Adds why it matters.
    pub fn why(self, text: impl Into<String>) -> Self {
        self.label("why", text)
    }

    /// Adds what to do.
    pub fn help(self, text: impl Into<String>) -> Self {
        self.label("help", text)
    }

    fn label(mut self, name: &'static str, text: impl Into<String>) -> Self {
        self.labels.push((name, text.into()));
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error[{}]: {}", self.code, self.title)?;
        let place = format!("  --> {}:{}:{}   {}", self.file, self.line, self.column, self.context);
        writeln!(f, "{}", place.trim_end())?;
        if let Some(excerpt) = &self.excerpt {
            writeln!(f, "   |  {}", excerpt.text)?;
            writeln!(f, "   |  {}{}", " ".repeat(excerpt.before), "^".repeat(excerpt.width))?;
        }
        for (name, text) in &self.labels {
            writeln!(f, "   = {:<6} {text}", format!("{name}:"))?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}
