//! A row of a copied table: which columns it has, and what they hold. Pure.
//!
//! The cells are as they were read ([`Cells`]) and are not looked into; the names of the columns are those of all rows with
//! the same schema, kept once.

use std::sync::Arc;

use syncline_schemas::cells::{Cells, Spelt};
use syncline_schemas::lens::Row;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    columns: Arc<[String]>,
    cells: Cells,
}

impl Image {
    /// `cells` are those of `columns`, in their order; of `unchanged` columns that are not among them it is not known what they
    /// hold either.
    pub fn new(columns: &Arc<[String]>, cells: Cells, unchanged: &[String]) -> Result<Self, &'static str> {
        let mut image = Self {
            columns: Arc::clone(columns),
            cells,
        };
        let others: Vec<&String> = unchanged.iter().filter(|name| !columns.contains(name)).collect();
        if !others.is_empty() {
            others.iter().try_for_each(|_| image.cells.push(Spelt::Unchanged))?;
            image.columns = columns.iter().chain(others).cloned().collect();
        }
        Ok(image)
    }

    /// A row by the names of its columns.
    pub fn of(row: &Row) -> Result<Self, &'static str> {
        let mut cells = Cells::default();
        row.values().try_for_each(|cell| cells.cell(cell))?;
        Ok(Self {
            columns: row.keys().cloned().collect(),
            cells,
        })
    }

    /// The names of its columns.
    pub fn columns(&self) -> &Arc<[String]> {
        &self.columns
    }

    /// What they hold.
    pub fn cells(&self) -> impl Iterator<Item = Spelt<'_>> {
        self.cells.iter()
    }

    /// The places of the columns of which it is not known what they hold.
    pub fn unknown(&self) -> Vec<usize> {
        let places = self.cells().enumerate();
        places
            .filter(|(_, cell)| *cell == Spelt::Unchanged)
            .map(|(place, _)| place)
            .collect()
    }

    /// Whether the other row has the same columns in the same order.
    pub fn is_alike(&self, columns: &Arc<[String]>) -> bool {
        Arc::ptr_eq(&self.columns, columns) || self.columns == *columns
    }

    /// The same row; what is not known is taken from the row that it was before.
    pub fn completed(&self, before: &Image) -> Result<Self, &'static str> {
        let mut cells = Cells::default();
        for (name, cell) in self.columns.iter().zip(self.cells()) {
            let known = match cell {
                Spelt::Unchanged => before.cell(name).unwrap_or(cell),
                _ => cell,
            };
            cells.push(known)?;
        }
        Ok(Self {
            columns: Arc::clone(&self.columns),
            cells,
        })
    }

    fn cell(&self, name: &str) -> Option<Spelt<'_>> {
        let mut cells = self.columns.iter().zip(self.cells());
        cells.find(|(other, _)| *other == name).map(|(_, cell)| cell)
    }
}

#[cfg(test)]
mod tests {
    use syncline_schemas::lens::Cell;

    use super::*;

    fn image(cells: &[(&str, Option<i64>)]) -> Image {
        let cell = |of: &Option<i64>| of.map_or(Cell::Unchanged, |number| Cell::Set(number.into()));
        let row: Row = cells.iter().map(|(name, of)| ((*name).to_owned(), cell(of))).collect();
        Image::of(&row).unwrap()
    }

    #[test]
    fn what_is_not_known_is_taken_from_before_by_name() {
        let before = image(&[("a", Some(1)), ("aa", Some(9)), ("b", Some(2)), ("c", None)]);
        let row = image(&[("a", Some(5)), ("b", None), ("c", None), ("d", None)]);
        let completed = row.completed(&before).unwrap();
        assert_eq!(
            completed,
            image(&[("a", Some(5)), ("b", Some(2)), ("c", None), ("d", None)])
        );
        assert_eq!((completed.unknown(), before.unknown()), (vec![2, 3], vec![3]));
    }

    #[test]
    fn a_column_that_only_the_header_names_is_not_known() {
        let row = image(&[("a", Some(1))]);
        let names = ["a".to_owned(), "z".to_owned()];
        let told = Image::new(row.columns(), row.cells.clone(), &names).unwrap();
        assert_eq!(told, image(&[("a", Some(1)), ("z", None)]));
    }
}
