//! Pure: single message transforms. None runs here, so each is refused by its name, with what to do instead.
//!
//! Harmless are those that change no byte of a record; a configuration may name them.

use super::written::{Property, Written, Wrong};

/// What to do about a class, found by the end of its name.
const REMEDIES: &[(&str, &str)] = &[
    (
        "ExtractNewRecordState",
        "topics hold Debezium's whole envelope; take `after` where they are read (JDBC sinks: the same transform in the sink connector; Syncline's sink reads envelopes)",
    ),
    (
        "ExtractChangedRecordState",
        "compare `before` and `after` where the topics are read (ALTER TABLE .. REPLICA IDENTITY FULL for whole rows)",
    ),
    (
        "EventRouter",
        "the outbox table's topic holds its rows as they are; route them where they are read, or keep this one table with Debezium on a slot of its own",
    ),
    (
        "ByLogicalTableRouter",
        "each table has its topic; subscribe to several by a pattern (for partitions: publish.via.partition.root=true)",
    ),
    (
        "RegexRouter",
        "topics are named by topic.prefix, schema and table; subscribe to those names",
    ),
    (
        "PartitionRouting",
        "records go by their key, as in Kafka's default; partition again where they are read",
    ),
    ("ContentBasedRouter", "route where the topics are read"),
    (
        "Filter",
        "filter where the topics are read, or in the source: CREATE PUBLICATION .. FOR TABLE .. WHERE (..), publication.autocreate.mode=disabled",
    ),
    (
        "TimezoneConverter",
        "times are in UTC; convert them where they are read",
    ),
    (
        "MaskField",
        "use column.mask.with.N.chars or column.mask.hash.A.with.salt.S",
    ),
    ("ReplaceField", "use column.include.list or column.exclude.list"),
];

/// Classes that change no byte of a record.
const HARMLESS: &[&str] = &["io.debezium.transforms.tracing.ActivateTracingSpan"];

const OTHERWISE: &str = "do its work where the topics are read (in the sink connector, say), and leave it out here";

/// Every transform that cannot be left out.
pub fn check(written: &Written) -> Vec<Wrong> {
    let Some(property) = written.properties.iter().find(|property| property.name == "transforms") else {
        return Vec::new();
    };
    let names = property.value.split(',').map(str::trim).filter(|name| !name.is_empty());
    names.filter_map(|name| refusal(written, property, name)).collect()
}

fn refusal(written: &Written, property: &Property, name: &str) -> Option<Wrong> {
    let class = written.get(&format!("transforms.{name}.type")).unwrap_or("of no type");
    if HARMLESS.contains(&class) {
        return None;
    }
    let simple = class
        .rsplit(['.', '$'])
        .find(|part| !["Key", "Value"].contains(part))
        .unwrap_or(class);
    let remedy = REMEDIES
        .iter()
        .find(|(end, _)| *end == simple)
        .map_or(OTHERWISE, |(_, remedy)| remedy);
    Some(Wrong::property(
        property,
        format!("the transform {name} ({class}) does not run here; {remedy}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::debezium::written::parse;

    fn told(text: &str) -> Vec<String> {
        let written = parse("c", text, &|_| None, &|_| Err(String::new())).unwrap();
        check(&written).into_iter().map(|wrong| wrong.text).collect()
    }

    #[test]
    fn each_is_refused_by_its_name_with_its_own_remedy() {
        let told = told(
            "transforms=unwrap, mask,mine,trace\n\
             transforms.unwrap.type=io.debezium.transforms.ExtractNewRecordState\n\
             transforms.mask.type=org.apache.kafka.connect.transforms.MaskField$Value\n\
             transforms.mine.type=com.example.Mine\n\
             transforms.trace.type=io.debezium.transforms.tracing.ActivateTracingSpan\n",
        );
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[0].contains("unwrap") && told[0].contains("envelope"), "{told:?}");
        assert!(
            told[1].contains("MaskField") && told[1].contains("column.mask"),
            "{told:?}"
        );
        assert!(
            told[2].contains("com.example.Mine") && told[2].contains("leave it out"),
            "{told:?}"
        );
    }

    #[test]
    fn none_is_fine() {
        assert!(told("transforms=\n").is_empty() && told("a=b\n").is_empty());
    }
}
