//! An app whose entity gets another version.

use syncline_schemas::pipeline::Lift;
use syncline_schemas::position::Vector;
use syncline_schemas::value::Value;

use super::{App, Written};

impl App {
    /// Its row as the newer links read it, and the books of its sink: as `syncline_sink::plan::Applied::lift` has it.
    pub fn lift(&mut self, lifts: &[Lift]) {
        for lift in lifts {
            let held = self.row.as_mut().and_then(|row| row.remove(&lift.from));
            let written = self.applied.fields.remove(&lift.from);
            let counter = self.applied.counters.remove(&lift.from);
            for member in self.groups.iter_mut().flatten().filter(|member| **member == lift.from) {
                member.clone_from(&lift.into[0].field);
            }
            for made in &lift.into {
                if let (Some(row), Some(held)) = (&mut self.row, &held) {
                    row.insert(made.field.clone(), lift.value(made, held).unwrap_or_default());
                }
                let unclear = || Written {
                    word: None,
                    value: Value::Null,
                    vector: Vector::new(),
                    unclear: true,
                };
                if let Some(written) = &written {
                    let written = if made.by.is_none() { written.clone() } else { unclear() };
                    self.applied.fields.insert(made.field.clone(), written);
                }
                if let Some(counter) = counter.clone().filter(|_| made.by.is_none()) {
                    self.applied.counters.insert(made.field.clone(), counter);
                }
            }
        }
    }
}
