//! States and what else stands in the changelog, as text, and the format of it.

use serde::{Deserialize, Serialize};
use syncline_runtime::{Failure, Outcome};
use syncline_schemas::codec::{State, Wire};

use crate::merge::EntityState;
use crate::schemas::Schemas;

/// The format of the text. One that is not known is refused: it was written by another version of Syncline.
pub(super) const STATE_FORMAT: i32 = 1;

pub(super) fn state_text(schemas: &mut Schemas, bytes: &[u8]) -> Outcome<String> {
    let state = schemas.read(bytes, State::decode)?;
    let state = state.map_err(|reason| Failure::definite("STATE_UNREADABLE", format!("the changelog: {reason}")))?;
    refuse_other_format(state.format)?;
    Ok(state.state)
}

pub(super) fn state_of(format: i32, text: &str) -> Outcome<EntityState> {
    refuse_other_format(format)?;
    from_json(text)
}

fn refuse_other_format(format: i32) -> Outcome<()> {
    if format == STATE_FORMAT {
        return Ok(());
    }
    let message = format!("merge has states of format {format}, this version writes {STATE_FORMAT}");
    Err(Failure::definite("STATE_FORMAT", message).hint("run the version of Syncline that wrote it"))
}

pub(super) fn from_json<T: for<'de> Deserialize<'de>>(text: &str) -> Outcome<T> {
    serde_json::from_str(text)
        .map_err(|error| Failure::definite("STATE_UNREADABLE", format!("a state in the changelog: {error}")))
}

pub(super) fn to_json(state: &impl Serialize) -> String {
    serde_json::to_string(state).unwrap_or_else(|error| unreachable!("states are always JSON: {error}"))
}
