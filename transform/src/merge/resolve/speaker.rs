//! Who speaks for an app: one row, whatever became of it, and the others that claim to be the same entity.

use std::collections::BTreeMap;

use syncline_schemas::mapped::RowKey;

use crate::merge::state::{EntityState, Lane, Presence};

/// The row through which an app speaks: the one that is there, and of several the one made first.
pub struct Speaker<'a> {
    /// The app.
    pub source: &'a str,
    /// The row.
    pub row: &'a RowKey,
    /// What is known of it.
    pub lane: &'a Lane,
    /// Other rows of the same app that claim to be the same entity.
    pub doubles: Vec<(&'a RowKey, &'a Lane)>,
}

impl Speaker<'_> {
    /// Whether the app deleted the row. If it is made anew, nothing will have been added to the new one.
    pub fn deleted_itself(&self) -> bool {
        matches!(self.lane.presence, Presence::Deleted { .. })
    }

    /// Whether we deleted the row, carrying out what another app said.
    pub fn was_removed(&self) -> bool {
        self.lane.presence == Presence::Removed
    }
}

/// One for each app that ever held the entity.
pub fn speakers(state: &EntityState) -> Vec<Speaker<'_>> {
    state
        .lanes
        .iter()
        .filter_map(|(source, lanes)| speaker(source, lanes))
        .collect()
}

fn speaker<'a>(source: &'a str, lanes: &'a BTreeMap<RowKey, Lane>) -> Option<Speaker<'a>> {
    let mut known: Vec<(&RowKey, &Lane)> = lanes.iter().filter(|(_, lane)| !lane.is_new()).collect();
    known.sort_by_key(|(row, lane)| match &lane.presence {
        Presence::Here => (0, lane.made, *row),
        Presence::Deleted { .. } => (1, lane.made, *row),
        Presence::Removed => (2, lane.made, *row),
    });
    let mut known = known.into_iter();
    let (row, lane) = known.next()?;
    let here = |lane: &Lane| lane.presence == Presence::Here;
    let doubles = if here(lane) {
        known.filter(|(_, lane)| here(lane)).collect()
    } else {
        Vec::new()
    };
    Some(Speaker {
        source,
        row,
        lane,
        doubles,
    })
}
