//! Logs and traces.
//!
//! Logs go to standard error: readable on a terminal, JSON elsewhere; `RUST_LOG` chooses. Traces leave the process
//! only if `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` names where to. The exporter is the
//! blocking one, on a thread of the batch processor: there is no async runtime here that could be dropped under it.

use std::io::IsTerminal as _;

use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{TraceContextExt as _, TracerProvider as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use crate::{Failure, Outcome};

const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];

/// Keeps telemetry going; what is not yet exported leaves when it is dropped.
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(provider) = &self.provider
            && let Err(error) = provider.shutdown()
        {
            tracing::warn!("the last traces were not exported: {error}");
        }
    }
}

/// Sets up logs and traces for the process. A second call in the same process leaves the first in place.
pub fn init(name: &'static str) -> Outcome<Telemetry> {
    let provider = if is_exporting() { Some(exporter(name)?) } else { None };
    let traces = provider
        .as_ref()
        .map(|provider| tracing_opentelemetry::layer().with_tracer(provider.tracer(name)));
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match std::io::stderr().is_terminal() {
        true => lines.with_target(false).boxed(),
        false => lines.json().flatten_event(true).boxed(),
    };
    let installed = tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .with(traces)
        .try_init();
    if installed.is_err() {
        tracing::debug!("telemetry was set up before");
    }
    Ok(Telemetry { provider })
}

fn is_exporting() -> bool {
    ENDPOINTS
        .iter()
        .any(|name| std::env::var(name).is_ok_and(|value| !value.is_empty()))
}

fn exporter(name: &'static str) -> Outcome<SdkTracerProvider> {
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .build()
        .map_err(|error| Failure::definite("OTLP", "cannot export traces").source(error))?;
    let resource = Resource::builder().with_service_name(name).build();
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource)
        .build())
}

/// The current span as Kafka headers (`traceparent`); empty if nothing is traced.
pub fn inject() -> Vec<(String, String)> {
    let mut headers = std::collections::HashMap::new();
    TraceContextPropagator::new().inject_context(&tracing::Span::current().context(), &mut headers);
    headers.into_iter().filter(|(_, value)| !value.is_empty()).collect()
}

/// Links `span` to the span whose `traceparent` the headers hold, if they hold one.
///
/// A link and not a parent, because one batch has many records and a span has one parent.
pub fn extract(span: &tracing::Span, headers: &[(String, Vec<u8>)]) {
    let texts: std::collections::HashMap<String, String> = headers
        .iter()
        .filter(|(name, _)| name == "traceparent" || name == "tracestate")
        .filter_map(|(name, value)| Some((name.clone(), String::from_utf8(value.clone()).ok()?)))
        .collect();
    let context = TraceContextPropagator::new().extract(&texts);
    let remote = context.span().span_context().clone();
    if remote.is_valid() {
        span.add_link(remote);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_endpoint_nothing_is_traced_and_nothing_panics() {
        let telemetry = init("test").unwrap();
        let span = tracing::info_span!("batch");
        let _entered = span.enter();
        assert_eq!(inject(), Vec::new());
        extract(&span, &[("traceparent".to_owned(), b"not one".to_vec())]);
        assert!(telemetry.provider.is_none());
    }

    #[test]
    fn an_exporter_is_made_and_dropped_without_panic() {
        let provider = exporter("test").unwrap();
        drop(Telemetry {
            provider: Some(provider),
        });
    }

    #[test]
    fn a_traced_span_is_a_header() {
        let provider = SdkTracerProvider::builder().build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("t"));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let span = tracing::info_span!("batch");
            let _entered = span.enter();
            let headers = inject();
            assert_eq!(headers.len(), 1, "{headers:?}");
            assert!(
                headers[0].0 == "traceparent" && headers[0].1.starts_with("00-"),
                "{headers:?}"
            );
        });
    }
}
