//! Notifications: what becomes of snapshots, in Debezium's words, to a topic or the log. Each goes with the batch of the rows
//! that it speaks of, in the same Kafka transaction.

use std::collections::BTreeMap;

use syncline_runtime::Outcome;

use crate::avro;
use crate::companions::{self, Companion};
use crate::config::SourceConfig;
use crate::outlet::Outlet;
use crate::records::Records;
use crate::shapes::Shapes;
use crate::stage::clock_ns;

/// What is told about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregate {
    /// The rows that are there at the start, or that a blocking signal asked for.
    Initial,
    /// The rows read beside the stream.
    Incremental,
}

impl Aggregate {
    fn name(self) -> &'static str {
        match self {
            Aggregate::Initial => "Initial Snapshot",
            Aggregate::Incremental => "Incremental Snapshot",
        }
    }
}

/// A notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Its id: of the signal, or one of its own.
    pub id: String,
    /// What it is about.
    pub aggregate: Aggregate,
    /// Debezium's word for what happened: `STARTED`, `COMPLETED`, ...
    pub kind: &'static str,
    /// More of it, beside the connector's name.
    pub data: BTreeMap<&'static str, String>,
}

impl Notification {
    /// Of a snapshot that no signal has named.
    pub fn initial(kind: &'static str) -> Self {
        Self {
            id: uuid::Uuid::new_v4().to_string(),
            aggregate: Aggregate::Initial,
            kind,
            data: BTreeMap::new(),
        }
    }

    /// Of what a signal asked for.
    pub fn incremental(signal: &str, kind: &'static str) -> Self {
        Self {
            id: signal.to_owned(),
            aggregate: Aggregate::Incremental,
            kind,
            data: BTreeMap::new(),
        }
    }

    /// With one more part.
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.data.insert(name, value.to_string());
        self
    }

    /// With the tables that it is about.
    pub fn of(self, tables: &[String]) -> Self {
        self.with("data_collections", tables.join(","))
    }
}

/// Sends the notification on the channels that are wanted.
pub fn tell(
    config: &SourceConfig,
    outlet: &mut Outlet,
    shapes: &mut Shapes<'_>,
    notification: Notification,
) -> Outcome<()> {
    let notification = notification.with("connector_name", &config.prefix);
    if config.snapshots.notification_log {
        let Notification { id, kind, data, .. } = &notification;
        tracing::info!(
            source = config.name,
            id,
            ?data,
            "{}: {kind}",
            notification.aggregate.name()
        );
    }
    if !config.snapshots.notification_sink {
        return Ok(());
    }
    let records = record(&notification, clock_ns().div_euclid(1_000_000));
    while let Some(companion) = outlet.unaddressed(&records) {
        outlet.address(companion, shapes.companion(companion)?);
    }
    outlet.send(&records)
}

fn record(notification: &Notification, now_ms: i64) -> Records {
    let mut records = Records::default();
    records.note(
        Companion::Notification,
        |out| companions::text_key(&notification.id, out),
        |out| value(notification, now_ms, out),
    );
    records
}

fn value(notification: &Notification, now_ms: i64, out: &mut Vec<u8>) {
    let Notification { id, kind, data, .. } = notification;
    for text in [id, *kind, notification.aggregate.name()] {
        avro::bytes(text.as_bytes(), out);
    }
    out.push(avro::SECOND);
    avro::length(data.len(), out);
    for (name, value) in data {
        avro::bytes(name.as_bytes(), out);
        avro::bytes(value.as_bytes(), out);
    }
    avro::length(0, out);
    avro::long(now_ms, out);
}

#[cfg(test)]
mod tests {
    use apache_avro::Schema;
    use apache_avro::reader::datum::GenericDatumReader;
    use apache_avro::types::Value;

    use super::*;
    use crate::form::Form;

    #[test]
    fn a_notification_is_read_back_by_debeziums_schema() {
        let told = Notification::incremental("s1", "STARTED")
            .of(&["public.a".to_owned(), "public.b".to_owned()])
            .with("connector_name", "variant");
        let records = record(&told, 7);
        let note = &records.notes()[0];
        let schema = Schema::parse_str(&Companion::Notification.value_schema(&Form::default())).unwrap();
        let bytes = records.slice(&Some(note.value.clone())).unwrap();
        let reader = GenericDatumReader::builder(&schema).build().unwrap();
        let Value::Record(fields) = reader.read_value(&mut &bytes[..]).unwrap() else {
            panic!("no record")
        };
        let json = |value: Value| serde_json::Value::try_from(value).unwrap();
        let fields: BTreeMap<String, serde_json::Value> =
            fields.into_iter().map(|(name, value)| (name, json(value))).collect();
        assert_eq!((&fields["id"], &fields["type"]), (&"s1".into(), &"STARTED".into()));
        assert_eq!(fields["aggregate_type"], "Incremental Snapshot");
        let data = serde_json::json!({"connector_name": "variant", "data_collections": "public.a,public.b"});
        assert_eq!((&fields["additional_data"], &fields["timestamp"]), (&data, &7.into()));
    }
}
