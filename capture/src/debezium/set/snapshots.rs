//! The properties of snapshots, signals and notifications.

use std::path::PathBuf;

use crate::debezium::client;
use crate::debezium::draft::Draft;
use crate::debezium::table::Given;
use crate::patterns::Patterns;
use crate::postgres::quote::TableName;
use crate::snapshots::{Channel, Mode, Watermarks};

use super::{Set, flag, list, number, text, topic_name, word};

/// More connections would only wait for each other: one thread writes.
const THREADS_MAX: usize = 64;
const CHUNK_ROWS_MAX: u64 = 1_000_000;

pub(in crate::debezium) fn snapshot_mode(draft: &mut Draft, given: &Given<'_>) -> Set {
    Mode::parse(given.value).map(|mode| draft.source.snapshots.mode = mode)
}

/// Empty means all.
pub(in crate::debezium) fn snapshot_included(draft: &mut Draft, given: &Given<'_>) -> Set {
    let included = Patterns::parse(given.value)?;
    draft.source.snapshots.included = Some(included).filter(|included| !included.is_empty());
    Ok(())
}

pub(in crate::debezium) fn snapshot_overridden(draft: &mut Draft, given: &Given<'_>) -> Set {
    draft.source.snapshots.overridden.extend(list(given));
    Ok(())
}

pub(in crate::debezium) fn snapshot_override(draft: &mut Draft, given: &Given<'_>) -> Set {
    let select = text(given)?;
    let overrides = &mut draft.source.snapshots.overrides;
    overrides.insert(given.wild[0].to_owned(), select);
    Ok(())
}

pub(in crate::debezium) fn snapshot_threads(draft: &mut Draft, given: &Given<'_>) -> Set {
    number(given, 1, THREADS_MAX).map(|threads| draft.source.snapshots.threads_max = threads)
}

pub(in crate::debezium) fn chunk_rows(draft: &mut Draft, given: &Given<'_>) -> Set {
    number(given, 1, CHUNK_ROWS_MAX).map(|rows| draft.source.snapshots.chunk_rows_max = rows)
}

/// Counts only where something may be written.
pub(in crate::debezium) fn watermarks(draft: &mut Draft, given: &Given<'_>) -> Set {
    let words = [
        ("insert_insert", Watermarks::InsertInsert),
        ("insert_delete", Watermarks::InsertDelete),
    ];
    let meant = word(given, &words)?;
    let watermarks = &mut draft.source.snapshots.watermarks;
    if *watermarks != Watermarks::ReadOnly {
        *watermarks = meant;
    }
    Ok(())
}

pub(in crate::debezium) fn read_only(draft: &mut Draft, given: &Given<'_>) -> Set {
    if flag(given)? {
        draft.source.snapshots.watermarks = Watermarks::ReadOnly;
    }
    Ok(())
}

// ---- signals ----

pub(in crate::debezium) fn signal_channels(draft: &mut Draft, given: &Given<'_>) -> Set {
    let words = [
        ("source", Some(Channel::Source)),
        ("kafka", Some(Channel::Kafka)),
        ("file", Some(Channel::File)),
        ("jmx", None),
        ("in-process", None),
    ];
    let entries = list(given);
    let each = entries
        .iter()
        .map(|entry| match word(&Given { value: entry, ..*given }, &words)? {
            Some(channel) => Ok(channel),
            None => Err(format!(
                "{entry} is a way into a Java process; choose source, kafka or file"
            )),
        });
    draft.source.snapshots.channels = each.collect::<Result<_, String>>()?;
    Ok(())
}

/// `schema.table`, or `database.schema.table`.
pub(in crate::debezium) fn signal_table(draft: &mut Draft, given: &Given<'_>) -> Set {
    let parts: Vec<&str> = given.value.split('.').collect();
    let [.., schema, table] = parts[..] else {
        return Err("the name of a table with its schema is expected".to_owned());
    };
    draft.source.snapshots.signal_table = Some(TableName::new(schema, table));
    Ok(())
}

pub(in crate::debezium) fn signal_poll(draft: &mut Draft, given: &Given<'_>) -> Set {
    number(given, 1, u64::from(u32::MAX)).map(|ms| draft.source.snapshots.signal_poll_ms = ms)
}

pub(in crate::debezium) fn signal_file(draft: &mut Draft, given: &Given<'_>) -> Set {
    text(given).map(|path| draft.source.snapshots.signal_file = PathBuf::from(path))
}

pub(in crate::debezium) fn signal_topic(draft: &mut Draft, given: &Given<'_>) -> Set {
    topic_name(given).map(|topic| draft.source.snapshots.signal_topic = Some(topic))
}

pub(in crate::debezium) fn signal_bootstrap(draft: &mut Draft, given: &Given<'_>) -> Set {
    text(given).map(|brokers| draft.source.snapshots.signal_bootstrap = Some(brokers))
}

pub(in crate::debezium) fn signal_property(draft: &mut Draft, given: &Given<'_>) -> Set {
    let settings = client::translated(given.wild[0], given.value)?;
    draft.source.snapshots.signal_properties.extend(settings);
    Ok(())
}

// ---- notifications ----

pub(in crate::debezium) fn notification_channels(draft: &mut Draft, given: &Given<'_>) -> Set {
    let snapshots = &mut draft.source.snapshots;
    (snapshots.notification_sink, snapshots.notification_log) = (false, false);
    for entry in list(given) {
        match entry.to_ascii_lowercase().as_str() {
            "sink" => snapshots.notification_sink = true,
            "log" => snapshots.notification_log = true,
            "jmx" => return Err("jmx is a way out of a Java process; choose sink or log".to_owned()),
            _ => return Err(format!("{entry:?} is no channel of notifications; sink and log are")),
        }
    }
    Ok(())
}

pub(in crate::debezium) fn notification_topic(draft: &mut Draft, given: &Given<'_>) -> Set {
    topic_name(given).map(|topic| draft.source.snapshots.notification_topic = Some(topic))
}

#[cfg(test)]
mod tests {
    use super::super::super::{Became, put};
    use super::*;

    fn set(properties: &[(&str, &str)]) -> Result<Draft, String> {
        let mut draft = Draft::of_connector();
        for (name, value) in properties {
            assert_ne!(put(&mut draft, name, value)?, Became::Default, "{name}");
        }
        Ok(draft)
    }

    #[test]
    fn what_debezium_calls_it_is_put_where_it_is_ours() {
        let draft = set(&[
            ("snapshot.mode", "when_needed"),
            ("snapshot.include.collection.list", r"public\.a, public\.b"),
            ("snapshot.select.statement.overrides", "public.a"),
            (
                "snapshot.select.statement.overrides.public.a",
                "SELECT * FROM a WHERE live",
            ),
            ("snapshot.max.threads", "3"),
            ("signal.enabled.channels", "source, Kafka,file"),
            ("signal.data.collection", "shop.public.signals"),
            ("signal.poll.interval.ms", "100"),
            ("signal.file", "/run/signals"),
            ("signal.kafka.topic", "shop-signal"),
            ("signal.kafka.bootstrap.servers", "other:9092"),
            ("signal.consumer.security.protocol", "SSL"),
            ("incremental.snapshot.chunk.size", "10"),
            ("incremental.snapshot.watermarking.strategy", "insert_delete"),
            ("notification.enabled.channels", "log,sink"),
            ("notification.sink.topic.name", "told"),
        ]);
        let snapshots = draft.unwrap().source.snapshots;
        assert_eq!((snapshots.mode, snapshots.threads_max), (Mode::WhenNeeded, 3));
        assert!(snapshots.reads("public.b") && !snapshots.reads("public.c"));
        assert_eq!(snapshots.select("public.a"), Some("SELECT * FROM a WHERE live"));
        assert_eq!(snapshots.channels.len(), 3);
        assert_eq!(snapshots.signals_in_log().unwrap().to_string(), "public.signals");
        assert!(!snapshots.reads("public.signals"));
        assert_eq!((snapshots.signal_poll_ms, snapshots.chunk_rows_max), (100, 10));
        assert_eq!(snapshots.watermarks, Watermarks::InsertDelete);
        assert_eq!(snapshots.signal_topic.as_deref(), Some("shop-signal"));
        assert_eq!(snapshots.signal_properties["security.protocol"], "SSL");
        assert!(snapshots.notification_sink && snapshots.notification_log);
    }

    #[test]
    fn a_select_counts_only_for_a_table_that_the_list_names() {
        let draft = set(&[("snapshot.select.statement.overrides.public.a", "SELECT 1")]);
        assert_eq!(draft.unwrap().source.snapshots.select("public.a"), None);
    }

    #[test]
    fn read_only_counts_more_than_the_strategy_in_either_order() {
        let strategy = ("incremental.snapshot.watermarking.strategy", "insert_insert");
        for order in [[("read.only", "true"), strategy], [strategy, ("read.only", "true")]] {
            let snapshots = set(&order).unwrap().source.snapshots;
            assert_eq!(snapshots.watermarks, Watermarks::ReadOnly);
        }
    }

    #[test]
    fn what_cannot_be_says_what_can() {
        for (name, value, remedy) in [
            ("signal.enabled.channels", "source,jmx", "choose source, kafka or file"),
            ("notification.enabled.channels", "jmx", "choose sink or log"),
            ("snapshot.mode", "recovery", "use initial"),
            ("signal.data.collection", "signals", "with its schema"),
            ("incremental.snapshot.chunk.size", "0", "no number"),
        ] {
            let refused = set(&[(name, value)]).unwrap_err();
            assert!(refused.contains(remedy), "{name}: {refused}");
        }
    }
}
