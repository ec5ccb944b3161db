//! What was found, as plain data; and pure: what that comes to.

use serde::Serialize;

/// How everything stands.
#[derive(Debug, Serialize)]
pub struct Status {
    /// The systems that are captured.
    pub sources: Vec<Source>,
    /// The entities.
    pub entities: Vec<Entity>,
    /// The systems that are written.
    pub targets: Vec<Target>,
    /// What was refused, by stage.
    pub refused: Refused,
}

/// A system that is captured.
#[derive(Debug, Default, Serialize)]
pub struct Source {
    /// Name of the system.
    pub name: String,
    /// Up to where its log is in Kafka; none if capture is not ours or never ran.
    pub position: Option<String>,
    /// Seconds since capture last said so.
    pub age_s: Option<i64>,
    /// Tables whose first rows are in Kafka.
    pub tables_loaded: usize,
    /// Tables.
    pub tables: usize,
    /// Changes in Kafka that map has not read.
    pub not_mapped: i64,
    /// Rows that capture could not write.
    pub dead_letters: i64,
    /// What it waits for.
    pub waits: Vec<String>,
}

/// An entity.
#[derive(Debug, Default, Serialize)]
pub struct Entity {
    /// Name.
    pub name: String,
    /// Words that merge has not read.
    pub not_merged: i64,
    /// Conflicts that wait for a person.
    pub held: usize,
    /// Those of them that somebody works on.
    pub taken: usize,
    /// Decisions that merge has not taken in.
    pub answered: usize,
    /// What it waits for.
    pub waits: Vec<String>,
}

/// A system that is written.
#[derive(Debug, Default, Serialize)]
pub struct Target {
    /// Name of the system.
    pub name: String,
    /// Agreed records that are not applied.
    pub not_applied: Option<i64>,
    /// Keys whose record was refused.
    pub parked: Option<usize>,
    /// What time it waits for.
    pub waits: Vec<String>,
    /// Why it could not be asked.
    pub unreached: Option<String>,
}

/// What stands refused, by stage.
#[derive(Debug, Default, Serialize)]
pub struct Refused {
    /// Changes.
    pub map: usize,
    /// Words and agreed records.
    pub merge: usize,
    /// Agreed records, by targets.
    pub sink: usize,
}

impl Status {
    /// Whether a person has something to do.
    pub fn to_act(&self) -> bool {
        let refused = &self.refused;
        let entities = self.entities.iter().any(|entity| entity.held > 0);
        let sources = self
            .sources
            .iter()
            .any(|source| source.dead_letters > 0 || !source.waits.is_empty());
        entities || sources || refused.map + refused.merge + refused.sink > 0
    }

    /// Whether a part could not be asked.
    pub fn unreached(&self) -> bool {
        self.targets.iter().any(|target| target.unreached.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Status {
        Status {
            sources: vec![Source::default()],
            entities: vec![Entity::default()],
            targets: vec![Target::default()],
            refused: Refused::default(),
        }
    }

    #[test]
    fn lag_is_no_work_for_a_person_but_what_is_held_or_refused_is() {
        let mut lagging = status();
        lagging.sources[0].not_mapped = 7;
        lagging.targets[0].not_applied = Some(7);
        assert!(!lagging.to_act() && !lagging.unreached());
        let mut held = status();
        held.entities[0].held = 1;
        assert!(held.to_act());
        let mut refused = status();
        refused.refused.sink = 1;
        assert!(refused.to_act());
        let mut stopped = status();
        stopped.sources[0].waits.push("given up".to_owned());
        assert!(stopped.to_act());
    }
}
