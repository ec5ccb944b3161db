//! Schemas by id, and ids by schema, from a registry that speaks Confluent's REST interface.
//!
//! The crate `schema_registry_converter` has encoders with caches of their own, but those are keyed by subject and so
//! never see a changed schema. Only its requests are used here, behind a cache keyed by (subject, text). The text of a
//! schema is sent as it is: topics of Debezium and ours must get the same ids for the same bytes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use schema_registry_converter::async_impl::schema_registry::{
    SrSettings, get_schema_by_id, get_schema_by_subject_and_version, is_compatible_schema, post_schema,
};
use schema_registry_converter::error::SRCError;
use schema_registry_converter::schema_registry_common::{RawError, SchemaType, SuppliedSchema};
use syncline_runtime::{Backoff, Class, Failure, Outcome, RetryPolicy};
use tokio::runtime::Runtime;

const REQUEST_TIMEOUT_MS: u64 = 10_000;
const RETRY: RetryPolicy = RetryPolicy {
    initial_ms: 100,
    max_ms: 2_000,
    give_up_after_ms: Some(20_000),
};

/// A schema registry. Share it by `Arc`; ids and schemas once seen are not asked for again.
pub struct Registry {
    url: String,
    client: Mutex<Option<Client>>,
    known: Mutex<Known>,
}

/// Ids never change and schemas are few, so nothing is evicted.
#[derive(Default)]
struct Known {
    ids: HashMap<String, HashMap<String, u32>>,
    schemas: HashMap<u32, Arc<str>>,
}

struct Client {
    runtime: Runtime,
    settings: SrSettings,
}

impl Registry {
    /// The registry at this address: `http://registry:8081`, with `user:password@` if it asks for that.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into().trim_end_matches('/').to_owned(),
            client: Mutex::default(),
            known: Mutex::default(),
        }
    }

    /// The id of a schema under a subject, if it has been asked for before.
    pub fn known(&self, subject: &str, avro_json: &str) -> Option<u32> {
        lock(&self.known).ids.get(subject)?.get(avro_json).copied()
    }

    /// The id of a schema under a subject; registered, if it is new.
    pub fn register(&self, subject: &str, avro_json: &str) -> Outcome<u32> {
        if let Some(id) = self.known(subject, avro_json) {
            return Ok(id);
        }
        let id = self.ask(&format!("register the schema of {subject}"), async |settings| {
            post_schema(settings, subject.to_owned(), avro(avro_json))
                .await
                .map(|schema| schema.id)
        })?;
        lock(&self.known)
            .ids
            .entry(subject.to_owned())
            .or_default()
            .insert(avro_json.to_owned(), id);
        Ok(id)
    }

    /// The schema with this id.
    pub fn schema(&self, id: u32) -> Outcome<Arc<str>> {
        let known = lock(&self.known).schemas.get(&id).cloned();
        if let Some(schema) = known {
            return Ok(schema);
        }
        let found = self.ask(&format!("find schema {id}"), async |settings| {
            get_schema_by_id(id, settings).await
        })?;
        let schema: Arc<str> = found.schema.into();
        lock(&self.known).schemas.insert(id, Arc::clone(&schema));
        Ok(schema)
    }

    /// The newest schema of a subject and its id; `None` if the subject has none.
    pub fn latest(&self, subject: &str) -> Outcome<Option<(u32, Arc<str>)>> {
        let asked = self.ask(&format!("find the schema of {subject}"), async |settings| {
            get_schema_by_subject_and_version(settings, subject, None).await
        });
        match asked {
            Ok(found) => Ok(Some((found.id, found.schema.into()))),
            Err(failure) if failure.code == "SCHEMA_UNKNOWN" => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Whether the subject would take this schema; a subject without schemas takes any.
    pub fn check_compatible(&self, subject: &str, avro_json: &str) -> Outcome<bool> {
        let asked = self.ask(&format!("compare the schema of {subject}"), async |settings| {
            is_compatible_schema(settings, subject.to_owned(), avro(avro_json)).await
        });
        match asked {
            Err(failure) if failure.code == "SCHEMA_UNKNOWN" => Ok(true),
            other => other,
        }
    }

    /// What the registry asks of a new schema of this subject: `BACKWARD`, `NONE` and so on.
    pub fn compatibility(&self, subject: &str) -> Outcome<String> {
        let own = self.level(&format!("config/{subject}"))?;
        let level = match own {
            Some(level) => Some(level),
            None => self.level("config")?,
        };
        level.ok_or_else(|| Failure::definite("REGISTRY_ANSWER", "the registry names no compatibility level"))
    }

    /// The crate has no request for this.
    fn level(&self, path: &str) -> Outcome<Option<String>> {
        let away = |error: reqwest::Error| {
            Failure::transient("REGISTRY_UNAVAILABLE", "cannot ask for the compatibility level")
                .source(error.without_url())
        };
        let url = format!("{}/{path}", self.url);
        let asked = async {
            let client = reqwest::Client::builder()
                .timeout(Duration::from_millis(REQUEST_TIMEOUT_MS))
                .build()?;
            let answer = client.get(url).send().await?;
            if answer.status() == reqwest::StatusCode::NOT_FOUND {
                return Ok(None);
            }
            let level: HashMap<String, String> = answer.error_for_status()?.json().await?;
            Ok(level.get("compatibilityLevel").or(level.get("compatibility")).cloned())
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime =
            runtime.map_err(|error| Failure::transient("THREAD", "cannot wait for the registry").source(error))?;
        runtime.block_on(asked).map_err(away)
    }

    /// Makes a request until it is answered or time is up. Requests of several threads take turns: they are rare.
    fn ask<T>(&self, doing: &str, request: impl AsyncFn(&SrSettings) -> Result<T, SRCError>) -> Outcome<T> {
        if tokio::runtime::Handle::try_current().is_ok() {
            return Err(Failure::definite(
                "REGISTRY_THREAD",
                "the registry blocks and was called from an async task",
            ));
        }
        let mut slot = lock(&self.client);
        let client = match slot.take() {
            Some(client) => slot.insert(client),
            None => slot.insert(Client::new(&self.url)?),
        };
        let mut backoff = Backoff::new(&RETRY);
        loop {
            let failure = match client.runtime.block_on(request(&client.settings)) {
                Ok(answer) => return Ok(answer),
                Err(error) => sort(doing, error),
            };
            let delay = if failure.class == Class::Transient {
                backoff.next_delay()
            } else {
                None
            };
            let Some(delay) = delay else { return Err(failure) };
            tracing::debug!("asking the registry again: {failure}");
            std::thread::sleep(delay);
        }
    }
}

impl Client {
    fn new(url: &str) -> Outcome<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::transient("THREAD", "cannot wait for the registry").source(error))?;
        Ok(Self {
            runtime,
            settings: settings(url)?,
        })
    }
}

fn settings(url: &str) -> Outcome<SrSettings> {
    let invalid =
        |error: &dyn std::fmt::Display| Failure::definite("REGISTRY_URL", format!("the registry's address: {error}"));
    let mut parsed = reqwest::Url::parse(url).map_err(|error| invalid(&error))?;
    let (user, password) = (parsed.username().to_owned(), parsed.password().map(str::to_owned));
    // Neither can fail for an address with a host.
    let _ = parsed.set_username("");
    let _ = parsed.set_password(None);
    let mut builder = SrSettings::new_builder(parsed.as_str().trim_end_matches('/').to_owned());
    builder.set_timeout(Duration::from_millis(REQUEST_TIMEOUT_MS));
    if !user.is_empty() {
        builder.set_basic_authorization(&user, password.as_deref());
    }
    builder.build().map_err(|error| invalid(&error))
}

fn avro(schema: &str) -> SuppliedSchema {
    SuppliedSchema::new(None, SchemaType::Avro, schema.to_owned())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The crate keeps the status only in its words, and of what heals by itself knows 502 and 503 alone.
fn sort(doing: &str, error: SRCError) -> Failure {
    let said = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<RawError>());
    let message = said.map_or_else(
        || format!("cannot {doing}"),
        |raw| format!("cannot {doing}: {}", raw.message),
    );
    match status(&error.error) {
        Some(409) => Failure::definite("SCHEMA_INCOMPATIBLE", message)
            .hint("readers of the older schema could not read the new one; see the subject's compatibility"),
        Some(404) => Failure::definite("SCHEMA_UNKNOWN", message),
        Some(401 | 403) => Failure::definite("REGISTRY_DENIED", message),
        Some(408 | 429 | 500..=599) => Failure::transient("REGISTRY_UNAVAILABLE", message),
        Some(status) => Failure::definite("REGISTRY_REFUSED", format!("{message} (status {status})")),
        None if error.retriable => Failure::transient("REGISTRY_UNAVAILABLE", message).source(error),
        None => Failure::definite("REGISTRY_ANSWER", message).source(error),
    }
}

fn status(text: &str) -> Option<u16> {
    let (_, after) = text.split_once("failed with status ")?;
    after.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: &str) -> Failure {
        let text = format!("HTTP request to schema registry failed with status {status}");
        sort("register", SRCError::non_retryable_without_cause(&text))
    }

    #[test]
    fn sorts_by_status() {
        assert_eq!(refused("409 Conflict").code, "SCHEMA_INCOMPATIBLE");
        assert_eq!(refused("404 Not Found").code, "SCHEMA_UNKNOWN");
        assert_eq!(refused("422 Unprocessable Entity").code, "REGISTRY_REFUSED");
        assert_eq!(refused("500 Internal Server Error").class, Class::Transient);
        assert_eq!(refused("429 Too Many Requests").class, Class::Transient);
    }

    #[test]
    fn a_connection_that_fails_is_transient() {
        let failure = sort(
            "register",
            SRCError::retryable_with_cause("connection refused", "http call failed"),
        );
        assert_eq!(failure.class, Class::Transient);
    }

    #[test]
    fn an_address_that_is_none_is_refused() {
        let failure = Registry::new("not an address").schema(1).err();
        assert_eq!(failure.map(|f| f.code), Some("REGISTRY_URL"));
    }

    #[test]
    fn an_async_caller_is_refused_instead_of_panicking() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let failure = runtime
            .block_on(async { Registry::new("http://127.0.0.1:1").schema(1) })
            .err();
        assert_eq!(failure.map(|f| f.code), Some("REGISTRY_THREAD"));
    }
}
