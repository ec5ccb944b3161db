//! What is written on the terminal: coloured on one, plain elsewhere. And the figures, each checked where it is shown.

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Instant;

const WIDTH: usize = 100;

/// The terminal, and what was found so far.
pub struct Show {
    terminal: bool,
    colour: bool,
    started: Instant,
    checked: usize,
    wrong: Vec<String>,
    moving: bool,
}

/// How a text looks.
#[derive(Clone, Copy)]
pub enum Look {
    /// As it is.
    Plain,
    /// Of less importance.
    Dim,
    /// Good.
    Good,
    /// Bad.
    Bad,
    /// Changed.
    New,
    /// A heading.
    Bold,
}

impl Show {
    /// Looks at where standard output goes.
    pub fn new() -> Self {
        let terminal = std::io::stdout().is_terminal();
        let colour = terminal && std::env::var_os("NO_COLOR").is_none();
        Self {
            terminal,
            colour,
            started: Instant::now(),
            checked: 0,
            wrong: Vec::new(),
            moving: false,
        }
    }

    /// A text in its look.
    pub fn look(&self, look: Look, text: impl Display) -> String {
        let code = match look {
            _ if !self.colour => return text.to_string(),
            Look::Plain => return text.to_string(),
            Look::Dim => "2",
            Look::Good => "32",
            Look::Bad => "1;31",
            Look::New => "1;36",
            Look::Bold => "1",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// A line.
    pub fn line(&mut self, text: &str) {
        self.settle();
        println!("{text}");
    }

    /// The heading of a part.
    pub fn act(&mut self, title: &str) {
        let seconds = self.started.elapsed().as_secs();
        let time = format!("{:02}:{:02}", seconds / 60, seconds % 60);
        let rule = "─".repeat(WIDTH.saturating_sub(title.chars().count() + time.len() + 6));
        let text = format!("\n── {title} {rule} {time}");
        let text = self.look(Look::Bold, text);
        self.line(&text);
    }

    /// A line that replaces itself on a terminal; elsewhere it is written now and then.
    pub fn moving(&mut self, text: &str) {
        if self.terminal {
            print!("\r\x1b[K  {text}");
            let _ = std::io::stdout().flush();
            self.moving = true;
        }
    }

    /// Progress where nothing can replace itself.
    pub fn step(&mut self, text: &str) {
        if !self.terminal {
            self.line(&format!("  … {text}"));
        }
    }

    fn settle(&mut self) {
        if self.moving {
            println!();
            self.moving = false;
        }
    }

    /// A figure that must be so.
    pub fn check(&mut self, what: &str, found: impl Display, expected: impl Display) {
        let (found, expected) = (found.to_string(), expected.to_string());
        self.checked += 1;
        if found != expected {
            let text = format!("{what}: {found} where {expected} was expected");
            let line = format!("  {} {text}", self.look(Look::Bad, "✗"));
            self.line(&line);
            self.wrong.push(text);
        }
    }

    /// A sentence that is checked to be true.
    pub fn fact(&mut self, text: &str, holds: bool) {
        self.checked += 1;
        let sign = if holds {
            self.look(Look::Good, "✓")
        } else {
            self.look(Look::Bad, "✗")
        };
        self.line(&format!("  {sign} {text}"));
        if !holds {
            self.wrong.push(text.to_owned());
        }
    }

    /// A sentence that is only worth a line when it is not true.
    pub fn fact_if_not(&mut self, text: &str, holds: bool) {
        if holds {
            self.checked += 1
        } else {
            self.fact(text, false)
        }
    }

    /// A table; the first row is its head. Cells that begin with `*` are new and shown so.
    pub fn table(&mut self, rows: &[Vec<String>]) {
        let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| {
            rows.iter()
                .filter_map(|row| row.get(column))
                .map(|cell| bare(cell).chars().count())
                .max()
        };
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or_default()).collect();
        for (number, row) in rows.iter().enumerate() {
            let mut line = String::from(" ");
            for (cell, width) in row.iter().zip(&widths) {
                let text = bare(cell);
                let look = match (number, cell.starts_with('*')) {
                    (0, _) => Look::Dim,
                    (_, true) => Look::New,
                    _ => Look::Plain,
                };
                let padding = " ".repeat(width - text.chars().count());
                line.push_str(&format!(" {}{padding} ", self.look(look, text)));
            }
            self.line(line.trim_end());
        }
    }

    /// What has been shown, for somebody who has never seen it.
    pub fn summary(&mut self) {
        self.act("What you have seen");
        for text in [
            "Each app kept its own tables, names and units; not one of them was changed for Syncline.",
            "Every committed change was read from the app's own log and written to Kafka as Avro, exactly once.",
            "Edits that knew each other, or touched different fields, simply met: no conflict, whatever the clocks say.",
            "Edits that did not know each other were decided by the field's rule, or held for a person; no losing value is lost.",
            "Every process was killed without warning under load, and not one change was lost or applied twice.",
        ] {
            self.line(&format!("  • {text}"));
        }
    }

    /// The end: 0 only if every figure was as it must be.
    pub fn verdict(&mut self) -> ExitCode {
        let (checked, seconds) = (self.checked, self.started.elapsed().as_secs());
        if self.wrong.is_empty() {
            let text = format!("\n  All {checked} figures are as they must be ({seconds} s).");
            let text = self.look(Look::Good, text);
            self.line(&text);
            return ExitCode::SUCCESS;
        }
        let text = format!("\n  {} of {checked} figures are wrong ({seconds} s):", self.wrong.len());
        let text = self.look(Look::Bad, text);
        self.line(&text);
        for wrong in std::mem::take(&mut self.wrong) {
            self.line(&format!("    {wrong}"));
        }
        ExitCode::FAILURE
    }

    /// The end when it could not go on.
    pub fn failed(&mut self, error: &anyhow::Error) {
        let text = self.look(Look::Bad, format!("\n  The demo could not go on: {error:#}"));
        self.line(&text);
        for wrong in std::mem::take(&mut self.wrong) {
            self.line(&format!("    {wrong}"));
        }
    }
}

fn bare(cell: &str) -> &str {
    cell.strip_prefix('*').unwrap_or(cell)
}
