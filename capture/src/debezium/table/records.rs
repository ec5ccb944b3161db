//! The properties that say what records look like and which rows become records.

use super::super::set;
use super::{Row, honoured, meaningless, refused};

const OTHER_SCHEMA: &str =
    "it changes the schemas, and what it adds is not written here; remove it if no consumer reads it";

pub(super) const ROWS: &[Row] = &[
    // values
    honoured("decimal.handling.mode", set::decimals),
    honoured("time.precision.mode", set::times),
    honoured("interval.handling.mode", set::intervals),
    honoured("hstore.handling.mode", set::hstores),
    honoured("binary.handling.mode", set::binaries),
    honoured("money.fraction.digits", set::money_fraction_digits),
    honoured("unavailable.value.placeholder", set::unavailable),
    honoured("include.unknown.datatypes", set::unknown_types),
    honoured("schema.name.adjustment.mode", set::schema_names),
    honoured("field.name.adjustment.mode", set::field_names),
    refused(
        "converters",
        "",
        "custom converters are Java classes and cannot be run here; map the columns where they are read, or in a view or generated column of the source",
    ),
    refused(
        "post.processors",
        "",
        "post-processors are Java classes and cannot be run here; for columns that are not in the log: ALTER TABLE .. REPLICA IDENTITY FULL, or read the placeholder",
    ),
    refused("column.propagate.source.type", "", OTHER_SCHEMA),
    refused("datatype.propagate.source.type", "", OTHER_SCHEMA),
    refused("include.schema.comments", "false", OTHER_SCHEMA),
    refused(
        "sourceinfo.struct.maker",
        "io.debezium.connector.postgresql.PostgresSourceInfoStructMaker",
        "`source` has one form here, that of Debezium's own class; remove it",
    ),
    meaningless(
        "event.converting.failure.handling.mode",
        "a value that cannot be converted is never dropped",
    ),
    // which rows and columns
    honoured("table.include.list", set::selection),
    honoured("table.exclude.list", set::selection),
    honoured("schema.include.list", set::selection),
    honoured("schema.exclude.list", set::selection),
    honoured("column.include.list", set::selection),
    honoured("column.exclude.list", set::selection),
    refused(
        "table.whitelist",
        "",
        "its name is table.include.list since Debezium 1.3",
    ),
    refused(
        "table.blacklist",
        "",
        "its name is table.exclude.list since Debezium 1.3",
    ),
    refused(
        "schema.whitelist",
        "",
        "its name is schema.include.list since Debezium 1.3",
    ),
    refused(
        "schema.blacklist",
        "",
        "its name is schema.exclude.list since Debezium 1.3",
    ),
    refused(
        "column.whitelist",
        "",
        "its name is column.include.list since Debezium 1.3",
    ),
    refused(
        "column.blacklist",
        "",
        "its name is column.exclude.list since Debezium 1.3",
    ),
    refused(
        "toasted.value.placeholder",
        "",
        "its name is unavailable.value.placeholder now; write that",
    ),
    refused(
        "sanitize.field.names",
        "",
        "its name is field.name.adjustment.mode (none, avro) now; write that",
    ),
    honoured("column.mask.hash.v2.*.with.salt.*", set::selection),
    honoured("column.mask.hash.*.with.salt.*", set::selection),
    honoured("column.mask.with.*.chars", set::selection),
    honoured("column.truncate.to.*.chars", set::selection),
    honoured("message.key.columns", set::selection),
    honoured("skipped.operations", set::skipped_operations),
    honoured("skip.messages.without.change", set::unchanged),
    honoured("tombstones.on.delete", set::tombstones),
    honoured("message.prefix.include.list", set::selection),
    honoured("message.prefix.exclude.list", set::selection),
    refused(
        "table.ignore.builtin",
        "true",
        "the system's own tables are not in the log; remove it",
    ),
    // topics and what stands beside rows
    honoured("topic.delimiter", set::topic_delimiter),
    refused(
        "topic.naming.strategy",
        "io.debezium.schema.SchemaTopicNamingStrategy",
        "topics are named by Debezium's default strategy; remove it, or rename the topics where they are read",
    ),
    meaningless("topic.cache.size", "names of topics are kept with their tables"),
    honoured("extended.headers.enabled", set::extended_headers),
    honoured("provide.transaction.metadata", set::transactions),
    honoured("topic.transaction", set::topic_transaction),
    refused(
        "transaction.metadata.factory",
        "io.debezium.pipeline.txmetadata.DefaultTransactionMetadataFactory",
        "it is a Java class and cannot be run here; remove it",
    ),
    honoured("heartbeat.interval.ms", set::heartbeat_interval),
    honoured("heartbeat.action.query", set::heartbeat_action),
    honoured("topic.heartbeat.prefix", set::heartbeat_prefix),
    honoured("heartbeat.topics.prefix", set::heartbeat_prefix),
    honoured("topic.heartbeat.name", set::heartbeat_name),
    honoured("notification.enabled.channels", set::notification_channels),
    honoured("notification.sink.topic.name", set::notification_topic),
    refused(
        "xmin.fetch.interval.ms",
        "0",
        "`source.xmin` is always null here; remove it if no consumer reads that field",
    ),
    meaningless(
        "include.schema.changes",
        "the PostgreSQL connector writes no schema changes",
    ),
    meaningless("custom.metric.tags", "metrics have the labels that the README lists"),
    meaningless("custom.sanitize.pattern", "no value of a property is ever logged"),
];
