//! The pipeline file: one YAML file, read into a checked [`Pipeline`] or refused with everything that is wrong with it.

use std::path::Path;

mod model;
mod problem;
mod secret;

pub use model::{
    CapturedBy, DeletePolicy, Delivery, Direction, ElementKind, Entity, Field, FieldKind, Link, LinkField, Pipeline,
    Replica, RuleRef, Strategy, System,
};
pub use problem::{Excerpt, Problem};
pub use secret::Secret;

/// Reads and checks the file at `path`; `env` gives the value of an environment variable.
pub fn load(path: &Path, _env: &dyn Fn(&str) -> Option<String>) -> Result<Pipeline, Vec<Problem>> {
    Err(vec![Problem {
        code: "H100",
        file: path.display().to_string(),
        line: 1,
        column: 1,
        context: String::new(),
        title: "not read yet".to_owned(),
        excerpt: None,
        labels: Vec::new(),
    }])
}
