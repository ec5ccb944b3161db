//! The properties about the database, its slot, its snapshot, and the connector's own working.

use super::super::set;
use super::{Row, honoured, meaningless, refused};

const BOUNDED: &str = "memory is bounded in bytes, and batches follow the load";
const RETRIED: &str =
    "what may heal is tried again until it does, with growing waits; what cannot heal stops with a code";
const NO_LOCKS: &str = "the snapshot is one consistent state, taken with the slot, and needs no lock";
const NO_HISTORY: &str = "PostgreSQL's log carries its schemas; there is no schema history";
const JAVA: &str = "it concerns the Java program only";
const JAVA_CLASS: &str = "it is a Java class and cannot be run here; choose one of the built-in modes";
const LINEAGE: &str = "lineage is not reported to OpenLineage; OTLP traces carry each batch";

pub(super) const ROWS: &[Row] = &[
    // the database
    honoured("database.hostname", set::hostname),
    honoured("database.port", set::port),
    honoured("database.user", set::user),
    honoured("database.password", set::password),
    honoured("database.dbname", set::dbname),
    honoured("database.sslmode", set::sslmode),
    honoured("database.sslcert", set::sslcert),
    honoured("database.sslkey", set::sslkey),
    honoured("database.sslrootcert", set::sslrootcert),
    refused(
        "database.sslpassword",
        "",
        "a key with a password cannot be read here; write it without: openssl pkey -in KEY -out KEY.pem, readable by this program only",
    ),
    refused(
        "database.sslfactory",
        "",
        "it is a Java class; use database.sslmode, sslrootcert, sslcert and sslkey",
    ),
    meaningless("database.tcpKeepAlive", "connections are always kept alive"),
    refused(
        "database.initial.statements",
        "",
        "no foreign SQL is run in our sessions; set it for the role: ALTER ROLE .. SET name = value",
    ),
    meaningless("database.query.timeout.ms", "each query of ours has its own bound"),
    meaningless(
        "database.server.name",
        "it is the former name of topic.prefix, which counts",
    ),
    refused(
        "database.*",
        "",
        "it is an option of the Java driver; what libpq knows is set by database.hostname, port, user, password, dbname, sslmode, sslcert, sslkey, sslrootcert",
    ),
    meaningless("driver.*", "it is an option of the Java driver, which is not used"),
    meaningless("connection.validation.timeout.ms", JAVA),
    refused(
        "connection.factory.class",
        "",
        "it is a Java class (as for AWS IAM) and cannot be run here; give a password that is renewed before each start, by ${file:PATH:KEY}",
    ),
    // the log
    honoured("topic.prefix", set::prefix),
    honoured("plugin.name", set::plugin),
    honoured("slot.name", set::slot),
    refused(
        "slot.drop.on.stop",
        "false",
        "a slot that is dropped loses what changes until the next start; remove it, and drop the slot by hand when you are done",
    ),
    honoured("slot.failover", set::failover),
    refused(
        "slot.stream.params",
        "",
        "pgoutput is asked for what this program can read; use a publication's row filters and column lists instead",
    ),
    meaningless("slot.max.retries", RETRIED),
    meaningless("slot.retry.delay.ms", RETRIED),
    honoured("publication.name", set::publication),
    honoured("publication.autocreate.mode", set::publication_mode),
    honoured("publish.via.partition.root", set::via_partition_root),
    refused(
        "replica.identity.autoset.values",
        "",
        "capture needs no rights to alter your tables; run ALTER TABLE .. REPLICA IDENTITY .. once, as their owner",
    ),
    honoured("lsn.flush.mode", set::flush_mode),
    refused(
        "flush.lsn.source",
        "true",
        "the slot is always told what is in Kafka, or else the source's disk fills; remove it",
    ),
    meaningless("lsn.flush.timeout.ms", "the slot is told without waiting for an answer"),
    meaningless(
        "lsn.flush.timeout.action",
        "the slot is told without waiting for an answer",
    ),
    meaningless(
        "status.update.interval.ms",
        "the server is answered whenever it asks, and after each batch",
    ),
    meaningless(
        "offset.mismatch.strategy",
        "progress and slot are always compared; a gap is refused with the repairing command",
    ),
    meaningless(
        "schema.refresh.mode",
        "the log announces each change of a table's columns before its rows",
    ),
    // the snapshot
    honoured("snapshot.mode", set::snapshot_mode),
    honoured("snapshot.include.collection.list", set::snapshot_included),
    honoured("snapshot.select.statement.overrides", set::snapshot_overridden),
    honoured("snapshot.select.statement.overrides.*", set::snapshot_override),
    honoured("snapshot.max.threads", set::snapshot_threads),
    meaningless("snapshot.max.threads.multiplier", "chunks have a size of their own"),
    meaningless("legacy.snapshot.max.threads", JAVA),
    refused("snapshot.mode.custom.name", "", JAVA_CLASS),
    meaningless(
        "snapshot.mode.configuration.based.*",
        "it counts only with snapshot.mode=configuration_based",
    ),
    refused("snapshot.query.mode", "select_all", JAVA_CLASS),
    refused("snapshot.query.mode.custom.name", "", JAVA_CLASS),
    meaningless("snapshot.isolation.mode", NO_LOCKS),
    meaningless("snapshot.locking.mode", NO_LOCKS),
    refused("snapshot.locking.mode.custom.name", "", JAVA_CLASS),
    meaningless("snapshot.lock.timeout.ms", NO_LOCKS),
    meaningless("snapshot.delay.ms", "nothing has to settle before the snapshot"),
    meaningless(
        "streaming.delay.ms",
        "nothing has to settle between snapshot and stream",
    ),
    meaningless("snapshot.fetch.size", BOUNDED),
    meaningless(
        "snapshot.tables.order.by.row.count",
        "the order in which tables are read changes no record",
    ),
    // signals and incremental snapshots
    honoured("signal.enabled.channels", set::signal_channels),
    honoured("signal.data.collection", set::signal_table),
    honoured("signal.poll.interval.ms", set::signal_poll),
    honoured("signal.file", set::signal_file),
    honoured("signal.kafka.topic", set::signal_topic),
    honoured("signal.kafka.bootstrap.servers", set::signal_bootstrap),
    meaningless(
        "signal.kafka.groupId",
        "how far signals have been taken is kept with the progress, in the same transaction as what they ask for",
    ),
    meaningless(
        "signal.kafka.poll.timeout.ms",
        "signals are looked for without holding up the stream",
    ),
    honoured("signal.consumer.*", set::signal_property),
    honoured("incremental.snapshot.chunk.size", set::chunk_rows),
    honoured("incremental.snapshot.watermarking.strategy", set::watermarks),
    refused(
        "incremental.snapshot.allow.schema.changes",
        "false",
        "a table whose columns change during an incremental snapshot is read from its beginning again; remove it",
    ),
    honoured("read.only", set::read_only),
    // the connector's own working
    meaningless("max.batch.size", BOUNDED),
    meaningless("max.queue.size", BOUNDED),
    meaningless("max.queue.size.in.bytes", BOUNDED),
    meaningless("queue.provider.type", BOUNDED),
    meaningless("poll.interval.ms", "what the log holds is taken at once"),
    meaningless("query.fetch.size", BOUNDED),
    meaningless("errors.max.retries", RETRIED),
    meaningless("retriable.restart.connector.wait.ms", RETRIED),
    refused(
        "event.processing.failure.handling.mode",
        "fail",
        "a change that cannot be written is never passed over in silence; remove it",
    ),
    meaningless("executor.shutdown.timeout.ms", JAVA),
    refused(
        "guardrail.collections.max",
        "0",
        "the number of tables has no limit here; remove it, or name the tables in table.include.list",
    ),
    meaningless(
        "guardrail.collections.limit.action",
        "it counts only with guardrail.collections.max",
    ),
    meaningless("memory.management.schemas.class", JAVA),
    meaningless("memory.management.tables.class", JAVA),
    meaningless("statistics.metrics.enabled", "metrics are served with --listen"),
    meaningless("openlineage.integration.*", LINEAGE),
    meaningless("schema.history.internal", NO_HISTORY),
    meaningless("schema.history.internal.*", NO_HISTORY),
    meaningless("internal.*", "it is an inner switch of the Java program"),
];
