//! Pure: which tables, columns and messages become records, by Debezium's lists of regular expressions.
//!
//! They name `schema.table` and `schema.table.column` ([`crate::patterns`]). Where the engine gives up on an expression,
//! whatever protects a value counts as matched and whatever lets one out does not.
//!
//! Columns of the key cannot be left out of the key: what is left out or masked is so in before and after alone.

use crate::mask::{self, Mask};
use crate::patterns::Patterns;

/// A property that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{property}: {cause}; {remedy}")]
pub struct SelectionError {
    /// The property.
    pub property: String,
    /// What is wrong with it.
    pub cause: String,
    /// What to do.
    pub remedy: &'static str,
}

/// Which tables, columns and messages become records, and what is done to columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    schemas: Filter,
    tables: Filter,
    columns: Filter,
    messages: Filter,
    masks: Vec<(Patterns, Mask)>,
    keys: Vec<Patterns>,
}

/// What is wanted, or what is not; by default everything is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Filter {
    #[default]
    All,
    Include(Patterns),
    Exclude(Patterns),
}

impl Selection {
    /// Takes a property in. Gives false for one that is not about selection.
    pub fn set(&mut self, property: &str, value: &str) -> Result<bool, SelectionError> {
        if let Some(mask) = mask::of_property(property)? {
            self.masks.push((parse(&mask::shown(property), value)?, mask));
            // Of a column that is both masked and cut the whole must not come out.
            self.masks.sort_by_key(|(_, mask)| matches!(mask, Mask::Truncate(_)));
            return Ok(true);
        }
        if property == "message.key.columns" {
            self.keys = keys(property, value)?;
            return Ok(true);
        }
        let filter = match property.split_once('.') {
            Some(("schema", "include.list" | "exclude.list")) => &mut self.schemas,
            Some(("table", "include.list" | "exclude.list")) => &mut self.tables,
            Some(("column", "include.list" | "exclude.list")) => &mut self.columns,
            Some(("message", "prefix.include.list" | "prefix.exclude.list")) => &mut self.messages,
            _ => return Ok(false),
        };
        filter.set(property, value)?;
        Ok(true)
    }

    /// Whether the lists name tables at all.
    pub fn names_tables(&self) -> bool {
        self.tables != Filter::All || self.schemas != Filter::All
    }

    /// Whether changes of the table become records.
    pub fn has_table(&self, schema: &str, table: &str) -> bool {
        self.schemas.lets(schema) && self.tables.lets(&format!("{schema}.{table}"))
    }

    /// Whether before and after have the column.
    pub fn has_column(&self, schema: &str, table: &str, column: &str) -> bool {
        self.columns == Filter::All || self.columns.lets(&format!("{schema}.{table}.{column}"))
    }

    /// Whether a logical message under that prefix becomes a record.
    pub fn has_message(&self, prefix: &str) -> bool {
        self.messages.lets(prefix)
    }

    /// What is done to the values of the column.
    pub fn mask(&self, schema: &str, table: &str, column: &str) -> Option<&Mask> {
        let name = || format!("{schema}.{table}.{column}");
        let mut masks = self.masks.iter();
        masks
            .find(|(patterns, _)| patterns.matches_or(&name(), true))
            .map(|(_, mask)| mask)
    }

    /// The columns chosen as the key of the table's records, as indices; none if nobody chose.
    pub fn key(&self, schema: &str, table: &str, columns: &[&str]) -> Vec<usize> {
        let mut key = Vec::new();
        for patterns in &self.keys {
            for (index, column) in columns.iter().enumerate() {
                if !key.contains(&index) && patterns.matches_or(&format!("{schema}.{table}.{column}"), false) {
                    key.push(index);
                }
            }
        }
        key
    }
}

impl Filter {
    fn set(&mut self, property: &str, value: &str) -> Result<(), SelectionError> {
        if value.trim().is_empty() {
            return Ok(());
        }
        let patterns = parse(property, value)?;
        *self = match (&self, property.ends_with("include.list")) {
            (Filter::Include(_), false) | (Filter::Exclude(_), true) => {
                let cause = "its include.list and its exclude.list are both set".to_owned();
                return Err(error(property, cause, "keep one of the two"));
            }
            (_, true) => Filter::Include(patterns),
            (_, false) => Filter::Exclude(patterns),
        };
        Ok(())
    }

    fn lets(&self, name: &str) -> bool {
        match self {
            Filter::All => true,
            Filter::Include(patterns) => patterns.matches_or(name, false),
            Filter::Exclude(patterns) => !patterns.matches_or(name, true),
        }
    }
}

fn parse(property: &str, list: &str) -> Result<Patterns, SelectionError> {
    Patterns::parse(list).map_err(|cause| {
        let remedy = "mend the expression; a comma within one is written \\,";
        error(property, cause, remedy)
    })
}

/// `schema.table:column,column;..`: one set of patterns for each column, in their order.
fn keys(property: &str, value: &str) -> Result<Vec<Patterns>, SelectionError> {
    let mut keys = Vec::new();
    for entry in value.split(';').filter(|entry| !entry.trim().is_empty()) {
        let (table, columns) = entry.trim().split_once(':').ok_or_else(|| {
            let cause = format!("{entry:?} does not name columns");
            error(
                property,
                cause,
                "write schema.table:column,column and a semicolon between tables",
            )
        })?;
        for column in columns.split(',') {
            keys.push(parse(property, &format!("{table}.{}", column.trim()))?);
        }
    }
    Ok(keys)
}

/// An error about a property.
pub(crate) fn error(property: &str, cause: String, remedy: &'static str) -> SelectionError {
    SelectionError {
        property: property.to_owned(),
        cause,
        remedy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(properties: &[(&str, &str)]) -> Selection {
        let mut selection = Selection::default();
        for (property, value) in properties {
            assert_eq!(selection.set(property, value), Ok(true), "{property}");
        }
        selection
    }

    #[test]
    fn tables_match_as_a_whole_in_any_case_and_may_look_ahead() {
        let chosen = selection(&[("table.include.list", r"public\.Orders , shop\.(?!tmp_).*,x\.t{1\,2}")]);
        for (schema, table, expected) in [
            ("public", "orders", true),
            ("public", "orders_old", false),
            ("publics", "orders", false),
            ("shop", "a.b", true),
            ("shop", "tmp_a", false),
            ("x", "tt", true),
            ("x", "ttt", false),
        ] {
            assert_eq!(chosen.has_table(schema, table), expected, "{schema}.{table}");
        }
        let others = selection(&[("schema.exclude.list", "audit"), ("table.exclude.list", r".*\.log")]);
        assert!(
            others.has_table("public", "t") && !others.has_table("audit", "t") && !others.has_table("public", "log")
        );
        assert!(others.names_tables() && !Selection::default().names_tables());
    }

    #[test]
    fn columns_are_named_with_their_tables() {
        let without = selection(&[("column.exclude.list", r"public\.t\.secret,.*\.iban")]);
        assert!(without.has_column("public", "t", "id") && !without.has_column("public", "t", "Secret"));
        assert!(without.has_column("public", "u", "secret") && !without.has_column("public", "u", "iban"));
        let only = selection(&[("column.include.list", r"public\.t\.(id|v)")]);
        assert!(only.has_column("public", "t", "v") && !only.has_column("public", "t", "w"));
    }

    #[test]
    fn a_column_that_is_masked_and_cut_is_masked() {
        let both = selection(&[
            ("column.truncate.to.3.chars", ".*"),
            ("column.mask.with.5.chars", r"public\.t\.v"),
        ]);
        assert_eq!(both.mask("public", "t", "v"), Some(&Mask::Stars(5)));
        assert_eq!(both.mask("public", "t", "w"), Some(&Mask::Truncate(3)));
    }

    #[test]
    fn keys_are_chosen_in_the_order_of_the_list() {
        let chosen = selection(&[("message.key.columns", r"public\.(t|u):b,a;.*\.w:c")]);
        assert_eq!(chosen.key("public", "t", &["a", "b", "c"]), [1, 0]);
        assert_eq!(chosen.key("public", "w", &["a", "b", "c"]), [2]);
        assert!(chosen.key("public", "v", &["a"]).is_empty());
    }

    #[test]
    fn what_cannot_be_understood_names_the_property() {
        for (property, value, expected) in [
            ("table.include.list", "public.(", "is no regular expression"),
            ("message.key.columns", "public.t", "does not name columns"),
        ] {
            let found = Selection::default().set(property, value).unwrap_err().to_string();
            assert!(found.starts_with(property) && found.contains(expected), "{found}");
        }
        let mut both = selection(&[("table.include.list", "a")]);
        assert!(both.set("table.exclude.list", "b").is_err());
        assert_eq!(Selection::default().set("slot.name", "a"), Ok(false));
    }
}
