//! Answers, for people: columns under headings, and texts within the width of a terminal.
//!
//! It knows no verb. Widths count characters, which is right for the names and numbers that stand in tables here.

use std::fmt::Write as _;
use std::io::Write as _;

use syncline_runtime::{Failure, Outcome};

const GAP: &str = "  ";

/// Rows under headings, each column as wide as its widest cell.
#[derive(Clone, Debug)]
pub struct Table {
    headings: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub fn new<const N: usize>(headings: [&str; N]) -> Self {
        Self {
            headings: headings.map(str::to_owned).into(),
            rows: Vec::new(),
        }
    }

    /// Adds a row, of as many cells as there are headings.
    pub fn row<const N: usize>(&mut self, cells: [&str; N]) {
        self.rows.push(cells.map(str::to_owned).into());
    }

    /// The lines; nothing if there is no row.
    pub fn render(&self) -> String {
        let mut text = String::new();
        if self.rows.is_empty() {
            return text;
        }
        let lines = std::iter::once(&self.headings).chain(&self.rows);
        let widths = lines.clone().fold(Vec::new(), |widths, cells| wider(widths, cells));
        for cells in lines {
            let cells = cells.iter().zip(&widths);
            let line: Vec<String> = cells.map(|(cell, width)| format!("{cell:width$}")).collect();
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{}", line.join(GAP).trim_end());
        }
        text
    }
}

fn wider(widths: Vec<usize>, cells: &[String]) -> Vec<usize> {
    let of = |index: usize| widths.get(index).copied().unwrap_or(0);
    let wide = cells
        .iter()
        .enumerate()
        .map(|(index, cell)| cell.chars().count().max(of(index)));
    wide.collect()
}

/// Writes an answer to standard output.
pub fn answer(text: &str) -> Outcome<()> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|error| Failure::definite("OUTPUT", "cannot write the answer").source(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["TABLE", "KEY"]);
        table.row(["public.a_long_name", "id"]);
        table.row(["t", "größe"]);
        let expected = "TABLE               KEY\npublic.a_long_name  id\nt                   größe\n";
        assert_eq!(table.render(), expected);
    }

    #[test]
    fn a_table_without_rows_is_not_shown() {
        assert_eq!(Table::new(["A"]).render(), "");
    }
}
