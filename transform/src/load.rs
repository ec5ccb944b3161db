//! The pipeline file, read and found fit for transform.

use std::path::Path;

use syncline_runtime::process::PIPELINE_INVALID;
use syncline_runtime::{Failure, Outcome};
use syncline_schemas::codec::CanonicalCodec;
use syncline_schemas::pipeline::{self, Entity, Pipeline};

/// Reads the file with the environment's variables; everything that is wrong with it is in the failure.
pub fn load(file: &Path) -> Outcome<Pipeline> {
    let invalid = |problems: Vec<String>| Failure::definite(PIPELINE_INVALID, problems.join("\n"));
    let loaded = pipeline::load(file, &|name| std::env::var(name).ok());
    let pipeline = loaded.map_err(|problems| invalid(problems.iter().map(ToString::to_string).collect()))?;
    let problems: Vec<String> = pipeline.entities.iter().filter_map(unusable).collect();
    if problems.is_empty() {
        Ok(pipeline)
    } else {
        Err(invalid(problems))
    }
}

/// Why agreed records cannot be written with the entity's schema.
fn unusable(entity: &Entity) -> Option<String> {
    let error = CanonicalCodec::new(&entity.schema_json).err()?;
    Some(format!("the schema of {} cannot be used: {error}", entity.name))
}
