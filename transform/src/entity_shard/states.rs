//! What the changelog says under a key, of this version and of those before.
//!
//! Format 1 was the JSON text of a state; format 2 is its bytes ([`EntityState::to_bytes`]). Both are read; entities are
//! written in format 2 only. A version that knows only format 1 must not begin to work and stop in the middle: the key
//! [`FORMAT`], which is read when a shard is opened, is in format 2 too and comes with the first entity that is. What else
//! a shard notes for itself are short texts, in format 1 still.

use serde::Serialize;
use serde::de::DeserializeOwned;
use syncline_runtime::{Failure, Outcome};
use syncline_schemas::codec::{State, Wire};

use crate::merge::EntityState;
use crate::schemas::Schemas;

/// States as JSON text, and all other notes.
const TEXT: i32 = 1;
/// States as bytes.
const PACKED: i32 = 2;
/// Under this key stands a note in format 2, that says nothing but that there are states in it.
pub const FORMAT: &str = "~format";

/// A state, and its bytes if it was kept as they are.
#[derive(Default)]
pub struct Kept {
    /// The state.
    pub state: EntityState,
    /// None if it was kept otherwise: writing it changes it.
    pub bytes: Option<Vec<u8>>,
}

impl Kept {
    /// The bytes of the state if they are others than were kept.
    pub fn changed(&self) -> Option<Vec<u8>> {
        let bytes = self.state.to_bytes();
        match &self.bytes {
            Some(before) => (*before != bytes).then_some(bytes),
            None => (self.state != EntityState::default()).then_some(bytes),
        }
    }
}

/// Reads what is there, in any format that is known.
fn read(schemas: &mut Schemas, bytes: &[u8]) -> Outcome<State> {
    let state = schemas.read(bytes, State::decode)?;
    let state = state.map_err(unreadable)?;
    if !(TEXT..=PACKED).contains(&state.format) {
        let message = format!(
            "the changelog has states of format {}, this version knows those up to {PACKED}",
            state.format
        );
        return Err(Failure::definite("STATE_FORMAT", message).hint("run the version of Syncline that wrote it"));
    }
    Ok(state)
}

/// The state of an entity.
pub fn entity(schemas: &mut Schemas, bytes: &[u8]) -> Outcome<Kept> {
    let state = read(schemas, bytes)?;
    if state.format == TEXT {
        return Ok(Kept {
            state: from_json(&state.state)?,
            bytes: None,
        });
    }
    Ok(Kept {
        state: EntityState::from_bytes(&state.packed).map_err(|error| unreadable(error.to_string()))?,
        bytes: Some(state.packed),
    })
}

/// A note of the shard.
pub fn note(schemas: &mut Schemas, bytes: &[u8]) -> Outcome<String> {
    Ok(read(schemas, bytes)?.state)
}

/// The record that keeps a state of these bytes.
pub fn kept(bytes: Vec<u8>, id: u32) -> Vec<u8> {
    let state = State {
        format: PACKED,
        packed: bytes,
        ..State::default()
    };
    state.encode(id)
}

/// The record that keeps a note.
pub fn noted(text: String, id: u32) -> Vec<u8> {
    let note = State {
        format: TEXT,
        state: text,
        ..State::default()
    };
    note.encode(id)
}

fn unreadable(reason: String) -> Failure {
    Failure::definite("STATE_UNREADABLE", format!("a state in the changelog: {reason}"))
}

/// A note that is JSON, or a state of format 1.
pub fn from_json<T: DeserializeOwned>(text: &str) -> Outcome<T> {
    serde_json::from_str(text).map_err(|error| unreadable(error.to_string()))
}

/// The JSON text of a note.
pub fn to_json(note: &impl Serialize) -> String {
    serde_json::to_string(note).unwrap_or_else(|error| unreachable!("notes are always JSON: {error}"))
}
