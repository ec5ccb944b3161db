//! The pipeline file: one YAML file, read into a checked [`Pipeline`] or refused with everything that is wrong with it.
//!
//! The way of the text: [`yaml`] (a tree with places) > [`read`] (settings, entities, links; every mistake noted) >
//! [`meaning`] (names refer to something that does its part). Nothing here touches a database: what only the live
//! tables can tell is found by capture and sink when they start.

use std::path::Path;

mod avro;
/// What capture does when something goes wrong.
pub mod care;
/// What stops a source whose whole tables change at once.
pub mod guards;
mod meaning;
mod migrate;
mod mode;
mod model;
mod problem;
mod read;
mod reference;
mod rule;
mod secret;
mod setting;
mod source;
mod substitute;
mod yaml;

pub use migrate::{Lift, Made, Migration};
pub use mode::Mode;
pub use model::{
    CapturedBy, DeletePolicy, Delivery, Direction, ElementKind, Entity, Fidelity, Field, FieldKind, Link, LinkField,
    Pipeline, Replica, Score, System,
};
pub use problem::{Excerpt, Problem};
pub use reference::{Parent, Reference, WAIT_DEFAULT_MS};
pub use rule::{Beyond, Bounds, Check, Expires, Group, RuleRef, Strategy, Terms, Uncertain};
pub use secret::Secret;
pub use setting::Setting;

use read::Keys;
use source::Source;

const ROOT: Keys = Keys {
    known: &[
        "pipeline", "defaults", "systems", "kinds", "entities", "links", "replica", "guards",
    ],
    later: &["purposes", "grants", "keep", "verify"],
};

/// Reads and checks the file at `path`; `env` gives the value of an environment variable. Schemas are read relative to it.
pub fn load(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Pipeline, Vec<Problem>> {
    let file = path.file_name().map_or_else(
        || path.display().to_string(),
        |name| name.to_string_lossy().into_owned(),
    );
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    match read_bounded(path) {
        Ok(text) => parse(&file, &text, env, &|name| read_bounded(&folder.join(name))),
        Err(reason) => {
            let source = Source::new(&path.display().to_string(), "");
            let mut problem = source.problem("H100", source.span(1, 1, None), "", "the pipeline file cannot be read");
            problem.excerpt = None;
            Err(vec![problem.found(reason).help("name it with --pipeline FILE")])
        }
    }
}

/// The text of a file, unless it is larger than a settings file can be.
fn read_bounded(path: &Path) -> Result<String, String> {
    let named = |reason: String| format!("{}: {reason}", path.display());
    let size = std::fs::metadata(path).map_err(|error| named(error.to_string()))?.len();
    if size > yaml::FILE_BYTES_MAX as u64 {
        return Err(named(format!("larger than {} KiB", yaml::FILE_BYTES_MAX >> 10)));
    }
    std::fs::read_to_string(path).map_err(|error| named(error.to_string()))
}

/// Checks a pipeline file that is at hand as text; `file` is its name in messages, `files` gives the text of schemas.
pub fn parse(
    file: &str,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
    files: &dyn Fn(&str) -> Result<String, String>,
) -> Result<Pipeline, Vec<Problem>> {
    let source = Source::new(file, text);
    let mut check = read::Check {
        source: &source,
        problems: Vec::new(),
    };
    let tree = yaml::parse(&source, text, env, &mut check.problems);
    let pipeline = match &tree {
        Some(tree) => build(&mut check, tree, files),
        None => {
            if check.problems.is_empty() {
                let problem = source.problem("H111", source.span(1, 1, None), "", "the file is empty");
                check.problems.push(problem.help("it begins with `pipeline: NAME`"));
            }
            empty(file)
        }
    };
    let mut problems = check.problems;
    problems.sort_by_key(|problem| (problem.line, problem.column));
    problems.dedup();
    if problems.is_empty() {
        Ok(pipeline)
    } else {
        Err(problems)
    }
}

fn build(check: &mut read::Check<'_>, tree: &yaml::Node, files: read::entities::Files<'_>) -> Pipeline {
    let mut pipeline = empty(check.source.file());
    let root = check.map(tree, "", &ROOT);
    read::settings::read(check, &root, &mut pipeline);
    read::settings::systems(check, &root, &mut pipeline);
    let named = read::entities::read(check, &root, files, &mut pipeline);
    read::links::read(check, &root, &mut pipeline);
    read::references::check(check, &root, &pipeline);
    read::entities::only_read(&mut pipeline);
    read::settings::replicas(check, &root, &mut pipeline);
    pipeline.guards = read::guards::read(check, &root);
    meaning::check(check, &root, &pipeline, &named);
    pipeline
}

fn empty(file: &str) -> Pipeline {
    Pipeline {
        name: String::new(),
        file: file.to_owned(),
        kafka: String::new(),
        kafka_properties: Default::default(),
        registry: String::new(),
        partitions: 1,
        delivery: Delivery::default(),
        max_clock_skew_ms: 0,
        timezone: String::new(),
        systems: Vec::new(),
        entities: Vec::new(),
        links: Vec::new(),
        replicas: Vec::new(),
        guards: guards::Guards::default(),
    }
}
