//! What is known of each table beyond its name, kept in Kafka: which table it was, what of its rows changed without an
//! event, whether it is stopped. Written in the same Kafka transaction as the progress that it goes with.
//!
//! **Noticing.** A relation message tells that a table has another shape; it does not tell that the rows that nobody
//! touched have other values now, and for a renamed enum label or an attached partition there is no message at all. So
//! the catalogue is compared with what it was: at the start, which covers DDL from while capture was down, and every few
//! seconds between two batches. What is compared is stored before the rows are read, so that DDL in between is noticed
//! once too often rather than never.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use syncline_bus::{PartitionReader, Registry};
use syncline_runtime::{Failure, Outcome};
use syncline_schemas::codec::{ParsedSchema, Wire, frame_id};
use syncline_schemas::table_record::TableRecord;
use syncline_schemas::topic;

use crate::config::SourceConfig;
use crate::metrics;
use crate::postgres::control::Control;
use crate::postgres::facts::{self, Change, Facts};
use crate::postgres::quote::TableName;

const READ_MS_MAX: u64 = 60_000;
const POLL_MS: u64 = 500;
/// Between two looks at the catalogue.
const LOOK_MS: u64 = 3_000;

/// Tables named in a status.
const STATUS_TABLES_MAX: usize = 20;

/// The code of a table whose rows changed without an event.
pub const NEEDS_BACKFILL: &str = "NEEDS_BACKFILL";

/// The code of a table whose new schema the registry has not answered for.
const REGISTRY_AWAITED: &str = "REGISTRY_AWAITED";

/// What is known of the tables of one source.
pub struct Known {
    source: String,
    slot: String,
    publication: String,
    command: String,
    tables: BTreeMap<String, TableRecord>,
    changed: BTreeSet<String>,
    /// Tables that wait for the registry. They go on by themselves, so this is kept nowhere.
    unregistered: BTreeSet<String>,
    looked_at: Instant,
}

impl Known {
    /// Nothing yet.
    fn new(config: &SourceConfig) -> Self {
        Self {
            source: config.name.clone(),
            slot: config.slot.clone(),
            publication: config.publication.clone(),
            command: config.command.clone(),
            tables: BTreeMap::new(),
            changed: BTreeSet::new(),
            unregistered: BTreeSet::new(),
            looked_at: Instant::now(),
        }
    }

    /// What Kafka knows. To be called by the one writer, as [`crate::progress::read`].
    pub fn read(config: &SourceConfig, registry: &Registry) -> Outcome<Self> {
        let mut known = Self::new(config);
        let topic = topic::tables(&config.prefix);
        let mut reader = PartitionReader::open_decided(&config.bus, &topic, 0, 0)?;
        let deadline = Instant::now() + Duration::from_millis(READ_MS_MAX);
        let prefix = TableRecord::key(&config.slot, "");
        while !reader.at_end() {
            if let Some(record) = reader.next(Duration::from_millis(POLL_MS))?
                && record
                    .key
                    .as_deref()
                    .is_some_and(|key| key.starts_with(prefix.as_bytes()))
                && let Some(value) = &record.value
            {
                let record = decode(&topic, value, registry)?;
                known.tables.insert(record.table.clone(), record);
            }
            if Instant::now() > deadline {
                let text = format!("{topic} could not be read to its end");
                return Err(Failure::transient("PROGRESS_UNREAD", text));
            }
        }
        Ok(known)
    }

    /// Whether it is time to look again.
    pub fn is_due(&self) -> bool {
        self.looked_at.elapsed() > Duration::from_millis(LOOK_MS)
    }

    /// Compares with the catalogue and notes what there is now. Gives the tables that have to be read anew, with why.
    pub fn look(&mut self, control: &Control, tables: &[TableName]) -> Outcome<BTreeMap<String, String>> {
        self.looked_at = Instant::now();
        let mut anew = BTreeMap::new();
        for (name, now) in facts::look(control, &self.publication, tables)? {
            match self.note(&name, &now)? {
                Some(Change::Anew(why)) => _ = anew.insert(name, why),
                Some(Change::Backfill(why)) => self.needs_backfill(&name, why),
                None => (),
            }
        }
        self.report();
        Ok(anew)
    }

    fn note(&mut self, name: &str, now: &Facts) -> Outcome<Option<Change>> {
        let broken = |error| Failure::definite("PROGRESS_BROKEN", "what is known of a table").source(error);
        let text = serde_json::to_string(now).map_err(broken)?;
        let Some(record) = self.tables.get_mut(name) else {
            let record = TableRecord {
                slot: self.slot.clone(),
                table: name.to_owned(),
                facts: text,
                needs_backfill: None,
                stopped: None,
            };
            self.tables.insert(name.to_owned(), record);
            self.changed.insert(name.to_owned());
            return Ok(None);
        };
        if record.facts == text {
            return Ok(None);
        }
        let before: Facts = serde_json::from_str(&record.facts).map_err(broken)?;
        let change = facts::compare(&before, now);
        let mut kept = now.clone();
        if kept.membership == 0 {
            // Not published just now; when it is again, that must be seen.
            kept.membership = before.membership;
        }
        record.facts = serde_json::to_string(&kept).map_err(broken)?;
        self.changed.insert(name.to_owned());
        Ok(change)
    }

    fn needs_backfill(&mut self, name: &str, why: String) {
        tracing::warn!(
            code = NEEDS_BACKFILL,
            source = self.source,
            table = name,
            "{why}; to read the table again: {} --reread {name}",
            self.command
        );
        if let Some(record) = self.tables.get_mut(name) {
            record.needs_backfill = Some(why);
            self.changed.insert(name.to_owned());
        }
    }

    /// The table has been read again, whole: it waits for nothing any more.
    pub fn filled(&mut self, name: &str) {
        let Some(record) = self.tables.get_mut(name) else {
            return;
        };
        if record.needs_backfill.take().is_some() | record.stopped.take().is_some() {
            tracing::info!(source = self.source, table = name, "the table has been read again");
            self.changed.insert(name.to_owned());
        }
        self.report();
    }

    /// The table's changes are passed over from here on.
    pub fn stopped(&mut self, name: &str, why: &str) {
        tracing::error!(
            code = "TABLE_STOPPED",
            source = self.source,
            table = name,
            "{why}; the other tables go on. When it is mended: restart, or {} --reread {name}",
            self.command
        );
        // A table that is gone from the catalogue has no record; what comes under its name later is another one.
        let record = self.tables.entry(name.to_owned()).or_insert_with(|| TableRecord {
            slot: self.slot.clone(),
            table: name.to_owned(),
            facts: "{}".to_owned(),
            needs_backfill: None,
            stopped: None,
        });
        record.stopped = Some(why.to_owned());
        self.changed.insert(name.to_owned());
        self.report();
    }

    /// The table's changes stay in the source's log until the registry answers.
    pub fn waits(&mut self, name: &str) {
        if self.unregistered.insert(name.to_owned()) {
            tracing::warn!(
                code = REGISTRY_AWAITED,
                source = self.source,
                table = name,
                "the registry does not answer for its new schema: the table waits, the others go on, and the slot holds back the \
                 source's log from here on"
            );
            metrics::table_awaits_registry(&self.source, name, true);
        }
    }

    /// Whether the table's changes are passed over.
    pub fn is_stopped(&self, name: &str) -> bool {
        self.tables.get(name).is_some_and(|record| record.stopped.is_some())
    }

    /// What goes on, in words for `/readyz`.
    pub fn status(&self) -> String {
        let waiting = self
            .waiting()
            .map(|(table, state, why)| format!("; {table} {state}: {why}"));
        let unregistered = self
            .unregistered
            .iter()
            .map(|table| format!("; {table} waits: {REGISTRY_AWAITED}"));
        let all = unregistered.chain(waiting).take(STATUS_TABLES_MAX);
        format!("streaming{}", all.collect::<String>())
    }

    /// Tables that wait to be read: those stopped, if it is a new start, and with `backfills` all others that wait.
    pub fn to_be_read(&self, backfills: bool, new_start: bool) -> BTreeMap<String, String> {
        let wanted = |state: &str| match state {
            "stopped" => new_start,
            _ => backfills,
        };
        self.waiting()
            .filter(|(_, state, _)| wanted(state))
            .map(|(table, _, why)| (table.to_owned(), why.to_owned()))
            .collect()
    }

    /// Why the rows of a table have to be read again, if that is all that it waits for.
    pub fn backfill(&self, name: &str) -> Option<&str> {
        let record = self.tables.get(name).filter(|record| record.stopped.is_none())?;
        record.needs_backfill.as_deref()
    }

    /// Tables that wait for something, with what: state and reason.
    pub fn waiting(&self) -> impl Iterator<Item = (&str, &'static str, &str)> {
        self.tables.values().filter_map(|record| {
            let stopped = record.stopped.as_deref().map(|why| ("stopped", why));
            let (state, why) = stopped.or(record.needs_backfill.as_deref().map(|why| ("needs_backfill", why)))?;
            Some((record.table.as_str(), state, why))
        })
    }

    /// The records that are not in Kafka yet.
    pub fn unsaid(&self) -> impl Iterator<Item = &TableRecord> {
        self.changed.iter().filter_map(|name| self.tables.get(name))
    }

    /// Whether there are any.
    pub fn is_unsaid(&self) -> bool {
        !self.changed.is_empty()
    }

    /// They are in Kafka now.
    pub fn said(&mut self) {
        self.changed.clear();
    }

    fn report(&self) {
        for record in self.tables.values() {
            let (backfill, stopped) = (record.needs_backfill.is_some(), record.stopped.is_some());
            metrics::table_waits(&self.source, &record.table, backfill, stopped);
            let awaits = self.unregistered.contains(&record.table);
            metrics::table_awaits_registry(&self.source, &record.table, awaits);
        }
    }
}

fn decode(topic: &str, value: &[u8], registry: &Registry) -> Outcome<TableRecord> {
    let broken = |error| {
        Failure::definite(
            "PROGRESS_BROKEN",
            format!("a record of {topic} cannot be read: {error}"),
        )
    };
    let (id, datum) = frame_id(value).map_err(broken)?;
    let schema = ParsedSchema::parse(&registry.schema(id)?).map_err(broken)?;
    TableRecord::decode(&schema, datum).map_err(broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(oid: u32) -> Facts {
        Facts {
            oid,
            membership: 1,
            ..Facts::default()
        }
    }

    fn known() -> Known {
        let mut known = Known::new(&crate::start::tests::config());
        assert_eq!(known.note("public.t", &facts(7)).unwrap(), None);
        known.said();
        known
    }

    #[test]
    fn what_is_as_it_was_is_not_written_again() {
        let mut known = known();
        assert_eq!(known.note("public.t", &facts(7)).unwrap(), None);
        assert!(!known.is_unsaid());
        assert!(matches!(known.note("public.t", &facts(8)), Ok(Some(Change::Anew(_)))));
        assert_eq!(known.unsaid().count(), 1);
    }

    #[test]
    fn a_table_put_back_into_the_publication_is_noticed_however_long_it_was_out() {
        let mut known = known();
        let with = |membership| Facts { membership, ..facts(7) };
        assert_eq!(known.note("public.t", &with(0)).unwrap(), None);
        assert!(matches!(known.note("public.t", &with(2)), Ok(Some(Change::Anew(_)))));
    }

    #[test]
    fn what_a_table_waits_for_is_kept_until_it_is_read_again() {
        let mut known = known();
        known.needs_backfill("public.t", "a column".to_owned());
        assert_eq!(known.waiting().next(), Some(("public.t", "needs_backfill", "a column")));
        known.stopped("public.t", "retyped");
        assert_eq!(known.waiting().next(), Some(("public.t", "stopped", "retyped")));
        known.filled("public.t");
        assert_eq!(known.waiting().next(), None);
    }
}
