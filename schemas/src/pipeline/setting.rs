//! `Setting`: a property in somebody else's words, kept with its place, for the program that knows what it means.

use super::problem::Problem;
use super::secret::Secret;

/// A property of Debezium in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name.
    pub name: String,
    /// Its value; may be a secret.
    pub value: Secret,
    /// Its place, as a problem without words.
    place: Problem,
}

impl Setting {
    /// A property that stands at `place`.
    pub(super) fn new(name: &str, value: String, place: Problem) -> Self {
        Self {
            name: name.to_owned(),
            value: Secret::new(value),
            place,
        }
    }

    /// A problem at its place.
    pub fn problem(&self, code: &'static str, title: impl Into<String>) -> Problem {
        Problem {
            code,
            title: title.into(),
            ..self.place.clone()
        }
    }
}
