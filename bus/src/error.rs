//! What librdkafka says, sorted into classes of failure, once.
//!
//! The rule for the doubtful: transient. A step taken again on a healthy cluster tells a lasting fault from a passing
//! one better than a list of codes does; and no step here is harmful when taken again by a producer made anew.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use syncline_runtime::Failure;

const EVENTS_PER_FAILURE: u32 = 10;

/// The class of an error of Kafka, with what was being done.
pub(crate) fn failure(doing: &str, error: KafkaError) -> Failure {
    let message = format!("cannot {doing}");
    if matches!(error, KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_)) {
        return Failure::definite("KAFKA_CONFIG", message)
            .source(error)
            .hint("see kafka: in the pipeline file");
    }
    match error.rdkafka_error_code() {
        Some(code) if is_fenced(code) => fenced(&message).source(error),
        Some(code) if is_denied(code) => Failure::definite("KAFKA_DENIED", message)
            .source(error)
            .hint("check the user and its rights in Kafka"),
        Some(Code::MessageSizeTooLarge) => Failure::definite("RECORD_TOO_LARGE", message)
            .source(error)
            .hint("raise max.message.bytes of the topic and message.max.bytes of the broker"),
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition) => {
            Failure::transient("KAFKA_TOPIC_UNKNOWN", message).source(error)
        }
        Some(Code::UnsupportedVersion | Code::UnsupportedFeature | Code::NotImplemented) => {
            Failure::definite("KAFKA_UNSUPPORTED", message).source(error)
        }
        _ => Failure::transient("KAFKA_UNAVAILABLE", message).source(error),
    }
}

pub(crate) fn fenced(message: &str) -> Failure {
    Failure::definite("FENCED", message)
        .hint("another process works under the same name: stop it, or give this one another --instance")
}

pub(crate) fn is_fenced(code: Code) -> bool {
    matches!(
        code,
        Code::ProducerFenced | Code::InvalidProducerEpoch | Code::Fenced | Code::FencedInstanceId
    )
}

fn is_denied(code: Code) -> bool {
    matches!(
        code,
        Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
            | Code::InvalidReplicationFactor
            | Code::InvalidConfig
            | Code::PolicyViolation
            | Code::InvalidTopic
    )
}

/// Whether librdkafka heals this by itself, so that a consumer only has to go on polling.
pub(crate) fn heals_by_itself(code: Code) -> bool {
    matches!(
        code,
        Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::Resolve
            | Code::OperationTimedOut
            | Code::PollExceeded
            | Code::NodeUpdate
            | Code::CoordinatorNotAvailable
            | Code::NotCoordinator
            | Code::CoordinatorLoadInProgress
            | Code::RebalanceInProgress
    )
}

/// Passes librdkafka's own words on to our log, and keeps the last of them: a call that merely "timed out" can then
/// say why.
#[derive(Default)]
pub(crate) struct Said {
    last: Mutex<Option<String>>,
}

impl Said {
    pub(crate) fn keep(&self, error: &KafkaError, reason: &str) {
        if matches!(error, KafkaError::Global(Code::PartitionEOF)) {
            return;
        }
        tracing::debug!("kafka: {error}: {reason}");
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // "All brokers are down" follows the line that says which and why, and would hide it.
        if last.is_none() || !matches!(error, KafkaError::Global(Code::AllBrokersDown)) {
            *last = Some(reason.to_owned());
        }
    }

    /// Adds the last words to a failure.
    pub(crate) fn explain(&self, mut failure: Failure) -> Failure {
        if let Some(reason) = self.last.lock().unwrap_or_else(PoisonError::into_inner).take() {
            failure.message = format!("{} (last heard: {reason})", failure.message);
        }
        failure
    }
}

/// Adds to a failure what librdkafka has had to say meanwhile.
pub(crate) fn explain(consumer: &BaseConsumer<Said>, failure: Failure) -> Failure {
    for _ in 0..EVENTS_PER_FAILURE {
        // What it gives does not matter any more, only what the context hears.
        let _ = consumer.poll(Duration::ZERO);
    }
    consumer.context().explain(failure)
}

impl ClientContext for Said {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.keep(&error, reason);
    }
}

/// librdkafka calls everything an error that makes it try again; what we cannot go on with becomes a `Failure`.
pub(crate) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
            tracing::warn!(facility, "librdkafka: {message}");
        }
        _ => tracing::debug!(facility, "librdkafka: {message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use syncline_runtime::Class;

    fn sorted(code: Code) -> (Class, &'static str) {
        let failure = failure("send", KafkaError::MessageProduction(code));
        (failure.class, failure.code)
    }

    #[test]
    fn sorts_by_what_can_be_done() {
        assert_eq!(sorted(Code::ProducerFenced), (Class::Definite, "FENCED"));
        assert_eq!(sorted(Code::Fenced), (Class::Definite, "FENCED"));
        assert_eq!(
            sorted(Code::TopicAuthorizationFailed),
            (Class::Definite, "KAFKA_DENIED")
        );
        assert_eq!(sorted(Code::MessageSizeTooLarge), (Class::Definite, "RECORD_TOO_LARGE"));
        assert_eq!(
            sorted(Code::BrokerTransportFailure),
            (Class::Transient, "KAFKA_UNAVAILABLE")
        );
        assert_eq!(
            sorted(Code::UnknownTopicOrPartition),
            (Class::Transient, "KAFKA_TOPIC_UNKNOWN")
        );
    }

    #[test]
    fn the_last_words_explain_a_timeout() {
        let said = Said::default();
        said.keep(&KafkaError::Global(Code::Resolve), "kafka:9092: no such host");
        said.keep(&KafkaError::Global(Code::PartitionEOF), "end");
        said.keep(&KafkaError::Global(Code::AllBrokersDown), "1/1 brokers are down");
        let failure = said.explain(failure("start", KafkaError::Flush(Code::OperationTimedOut)));
        assert_eq!(failure.message, "cannot start (last heard: kafka:9092: no such host)");
    }
}
