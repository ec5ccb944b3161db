//! The properties that Kafka Connect itself understands in a connector's configuration.

use super::super::{kafka, set};
use super::{Row, honoured, meaningless, refused};

const TRANSFORMED: &str = "it belongs to `transforms`";
const NO_CONSUMER: &str = "a source connector has no consumer of its own";
const DEAD_LETTERS: &str = "a row that cannot be written is never skipped; the capture stops at it and says which";

pub(super) const ROWS: &[Row] = &[
    honoured("name", set::name),
    honoured("connector.class", set::class),
    meaningless("connector.plugin.version", "this program is the connector"),
    meaningless("key.converter.plugin.version", "converters are built in"),
    meaningless("value.converter.plugin.version", "converters are built in"),
    meaningless("tasks.max", "one slot is read by one thread"),
    meaningless("tasks.max.enforce", "one slot is read by one thread"),
    meaningless("config.action.reload", "references are resolved at each start"),
    meaningless(
        "config.providers",
        "${env:NAME} and ${file:PATH:KEY} are always resolved",
    ),
    meaningless(
        "config.providers.*",
        "${env:NAME} and ${file:PATH:KEY} are always resolved",
    ),
    // what a record becomes
    honoured("key.converter", kafka::converter),
    honoured("value.converter", kafka::converter),
    honoured("key.converter.*", kafka::converter_property),
    honoured("value.converter.*", kafka::converter_property),
    honoured("header.converter", kafka::header_converter),
    meaningless(
        "header.converter.*",
        "headers are text and bytes as Connect's default converter writes them",
    ),
    honoured("transforms", set::nothing),
    meaningless("transforms.*", TRANSFORMED),
    meaningless("predicates", "predicates count only with `transforms`"),
    meaningless("predicates.*", "predicates count only with `transforms`"),
    // delivery
    meaningless(
        "exactly.once.support",
        "delivery is exactly once by Kafka transactions, whatever the connector asks for",
    ),
    meaningless(
        "transaction.boundary",
        "a Kafka transaction ends where one of the source's ends",
    ),
    meaningless(
        "transaction.boundary.interval.ms",
        "a Kafka transaction ends where one of the source's ends",
    ),
    honoured("offsets.storage.topic", kafka::offsets_topic),
    meaningless("errors.tolerance", DEAD_LETTERS),
    meaningless("errors.retry.timeout", "what may heal is tried again until it does"),
    meaningless(
        "errors.retry.delay.max.ms",
        "what may heal is tried again until it does",
    ),
    meaningless("errors.log.enable", "every failure is logged once, where it is decided"),
    meaningless("errors.log.include.messages", "values of rows are never logged"),
    meaningless("errors.deadletterqueue.*", "it counts only for sink connectors"),
    // topics and clients
    honoured("topic.creation.default.partitions", kafka::partitions),
    meaningless(
        "topic.creation.default.*",
        "topics that exist are left as they are; new ones get the broker's defaults, and the copies that it has brokers for, at most 3",
    ),
    meaningless("topic.creation.enable", "missing topics are always made"),
    refused(
        "topic.creation.groups",
        "",
        "topics of a group are not made differently here; make them beforehand (those that exist are left as they are) and remove it",
    ),
    meaningless("topic.creation.*", "it belongs to `topic.creation.groups`"),
    honoured("bootstrap.servers", kafka::bootstrap),
    honoured("producer.override.*", kafka::producer_property),
    meaningless("consumer.override.*", NO_CONSUMER),
    meaningless("admin.override.*", "topics are made with the producer's settings"),
    honoured("schema.registry.url", kafka::registry),
];
