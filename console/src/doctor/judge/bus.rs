//! Kafka and the registry: whether topics can be made and are what they have to be, and whether records survive a broker.

use syncline_bus::config::{RECORD_BYTES_MAX, TRANSACTION_TIMEOUT_MS};
use syncline_bus::survey::{Settings, Survey, Topic};
use syncline_runtime::Failure;

use super::Findings;
use crate::doctor::facts::{Bus, WantedTopic};
use crate::doctor::finding::Finding;

const BROKERS_SAFE: usize = 3;

/// Everything about Kafka and the registry.
pub fn judge(bus: &Bus) -> Vec<Finding> {
    let mut findings = Findings::at("kafka");
    match &bus.cluster {
        Err(failure) => unreachable(bus, failure, &mut findings),
        Ok(survey) => {
            cluster(bus, survey, &mut findings);
            for wanted in &bus.wanted {
                topic(bus, survey, wanted, &mut findings);
            }
        }
    }
    let mut found = findings.done();
    found.extend(registry(&bus.registry));
    found
}

fn unreachable(bus: &Bus, failure: &Failure, findings: &mut Findings) {
    let hint = failure
        .hint
        .clone()
        .unwrap_or_else(|| "see defaults: kafka in the pipeline file".to_owned());
    let what = format!("{} cannot be used: {failure}", bus.bootstrap);
    findings.stops(
        "KAFKA_UNREACHABLE",
        what,
        "captured changes go nowhere, and the source keeps its log",
        hint,
    );
}

fn cluster(bus: &Bus, survey: &Survey, findings: &mut Findings) {
    if survey.brokers < BROKERS_SAFE {
        findings.risk(
            "FEW_BROKERS",
            format!("the cluster has {} broker(s)", survey.brokers),
            "topics are made with one copy, so the loss of a broker's disk loses records",
            "run three brokers or more",
        );
    }
    match &survey.settings {
        Err(reason) => findings.note(
            "KAFKA_SETTINGS_HIDDEN",
            format!("this user may not see the settings of brokers: {reason}"),
            "what they say of transactions and copies could not be checked",
            "kafka-acls --add --allow-principal User:NAME --operation DescribeConfigs --cluster",
        ),
        Ok(settings) => broker(settings, findings),
    }
    if let Err(failure) = &bus.transactions {
        let mend = failure.hint.clone().filter(|_| failure.code != "KAFKA_DENIED").unwrap_or_else(|| {
            format!(
                "kafka-acls --add --allow-principal User:NAME --operation Write --operation Describe --transactional-id {} \
                 --resource-pattern-type prefixed",
                bus.transactional_prefix
            )
        });
        let why = "rows and progress are written in one transaction, which is what makes each change appear once";
        findings.stops(
            "NO_TRANSACTIONS",
            format!("transactions cannot be begun: {failure}"),
            why,
            mend,
        );
    }
}

fn broker(settings: &Settings, findings: &mut Findings) {
    let number = |name: &str| settings.get(name).and_then(|value| value.parse::<u64>().ok());
    if number("transaction.max.timeout.ms").is_some_and(|max| max < TRANSACTION_TIMEOUT_MS) {
        findings.stops(
            "TRANSACTION_TIMEOUT",
            format!("transaction.max.timeout.ms is below our {TRANSACTION_TIMEOUT_MS}"),
            "the broker refuses transactions that may take longer than it allows",
            format!("in the brokers' server.properties: transaction.max.timeout.ms={TRANSACTION_TIMEOUT_MS}, and restart them"),
        );
    }
    if settings
        .get("unclean.leader.election.enable")
        .is_some_and(|value| value == "true")
    {
        findings.risk(
            "UNCLEAN_ELECTION",
            "unclean.leader.election.enable is true",
            "a broker that lags may become leader, and records that were acknowledged are gone",
            "kafka-configs --alter --entity-type brokers --entity-default --add-config unclean.leader.election.enable=false",
        );
    }
}

fn topic(bus: &Bus, survey: &Survey, wanted: &WantedTopic, findings: &mut Findings) {
    let name = &wanted.name;
    if let Some(reason) = survey.refused.get(name) {
        findings.stops(
            "TOPIC_REFUSED",
            format!("the topic {name} is not there and could not be made: {reason}"),
            "topics are made at the start, so that they have the right number of partitions",
            format!(
                "kafka-acls --add --allow-principal User:NAME --operation Create --operation Describe --operation Write \
                 --operation Read --operation DescribeConfigs --topic {name}, or: kafka-topics --create --topic {name} \
                 --partitions {}{}",
                wanted.partitions,
                if wanted.compacted { " --config cleanup.policy=compact" } else { "" }
            ),
        );
    }
    let Some(found) = survey.topics.get(name) else { return };
    shape(bus, wanted, found, findings);
    copies(survey, name, found, findings);
    match &found.settings {
        Ok(settings) => kept(wanted, settings, findings),
        Err(reason) => findings.risk(
            "TOPIC_SETTINGS_HIDDEN",
            format!("this user may not see the settings of {name}: {reason}"),
            "a topic of state that forgets by time loses state without a word, so this is asked at each start",
            format!("kafka-acls --add --allow-principal User:NAME --operation DescribeConfigs --topic {name}"),
        ),
    }
}

fn shape(bus: &Bus, wanted: &WantedTopic, found: &Topic, findings: &mut Findings) {
    let name = &wanted.name;
    if found.partitions != wanted.partitions && !wanted.any_partitions {
        findings.stops(
            "TOPIC_PARTITIONS",
            format!(
                "the topic {name} has {} partitions, the pipeline file says {}",
                found.partitions, wanted.partitions
            ),
            "with another number of partitions keys move, and the order of changes of a row is lost",
            format!(
                "in the pipeline file: defaults: partitions: {}; or choose another topic_prefix",
                found.partitions
            ),
        );
    }
    if found.leaderless > 0 {
        findings.stops(
            "TOPIC_LEADERLESS",
            format!("{} partitions of {name} have no leader", found.leaderless),
            "they can neither be read nor written",
            format!(
                "bring their brokers back: kafka-topics --bootstrap-server {} --describe --topic {name}",
                bus.bootstrap
            ),
        );
    }
}

fn copies(survey: &Survey, name: &str, found: &Topic, findings: &mut Findings) {
    if survey.brokers < BROKERS_SAFE {
        return;
    }
    let in_sync = found
        .settings
        .as_ref()
        .ok()
        .and_then(|settings| settings.get("min.insync.replicas"));
    let in_sync: usize = in_sync.and_then(|value| value.parse().ok()).unwrap_or(1);
    if found.replicas < BROKERS_SAFE || in_sync < 2 {
        findings.risk(
            "TOPIC_COPIES",
            format!("{name} has {} copies and min.insync.replicas {in_sync}", found.replicas),
            "an acknowledged record may be on one disk only",
            format!(
                "kafka-reassign-partitions for three copies, then: kafka-configs --alter --topic {name} --add-config \
                 min.insync.replicas=2"
            ),
        );
    }
    if in_sync >= found.replicas && in_sync > 1 {
        findings.risk(
            "TOPIC_COPIES",
            format!("{name} has {} copies, all of which must be in sync", found.replicas),
            "one broker that restarts stops capture, and the source keeps its log meanwhile",
            format!(
                "kafka-configs --alter --topic {name} --add-config min.insync.replicas={}",
                found.replicas - 1
            ),
        );
    }
}

fn kept(wanted: &WantedTopic, settings: &Settings, findings: &mut Findings) {
    let name = &wanted.name;
    let policy = settings.get("cleanup.policy").map_or("", String::as_str);
    let compacts = policy.split(',').any(|part| part.trim() == "compact");
    if wanted.compacted && !compacts {
        findings.stops(
            "TOPIC_NOT_COMPACTED",
            format!("{name} holds state, and its cleanup.policy is {policy}"),
            "what it has not heard of for a while it forgets, and a restart would know nothing",
            format!("kafka-configs --alter --topic {name} --add-config cleanup.policy=compact"),
        );
    }
    let bytes = settings
        .get("max.message.bytes")
        .and_then(|value| value.parse::<u64>().ok());
    if let Some(bytes) = bytes.filter(|bytes| *bytes < RECORD_BYTES_MAX) {
        findings.note(
            "TOPIC_RECORD_BYTES",
            format!("{name} takes records of {bytes} bytes at most, we write up to {RECORD_BYTES_MAX}"),
            "a row that is larger cannot be written there",
            format!(
                "kafka-configs --alter --topic {name} --add-config max.message.bytes={}",
                RECORD_BYTES_MAX + 100_000
            ),
        );
    }
}

fn registry(answer: &Result<String, Failure>) -> Vec<Finding> {
    let mut findings = Findings::at("registry");
    if let Err(failure) = answer {
        findings.stops(
            "REGISTRY_UNREACHABLE",
            failure.to_string(),
            "a record carries the id of its schema, which the registry gives",
            failure
                .hint
                .clone()
                .unwrap_or_else(|| "see defaults: registry in the pipeline file".to_owned()),
        );
    }
    findings.done()
}
