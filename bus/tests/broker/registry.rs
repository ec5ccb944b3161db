//! Ids by schema, schemas by id.

use std::sync::Arc;

use syncline_bus::Registry;
use syncline_runtime::Class;

use crate::{required, unique};

const OLD: &str = r#"{"type":"record","name":"Customer","namespace":"acme","fields":[{"name":"id","type":"long"}]}"#;
const NEW: &str = r#"{"type":"record","name":"Customer","namespace":"acme","fields":[{"name":"id","type":"long"},{"name":"email","type":["null","string"],"default":null}]}"#;
const BROKEN: &str =
    r#"{"type":"record","name":"Customer","namespace":"acme","fields":[{"name":"id","type":"string"}]}"#;

fn registry() -> Registry {
    Registry::new(required("REGISTRY"))
}

/// The registry's own default allows everything.
fn require_backward(subject: &str) {
    let url = format!("{}/config/{subject}", required("REGISTRY"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let answer = runtime.block_on(
        reqwest::Client::new()
            .put(url)
            .header("content-type", "application/vnd.schemaregistry.v1+json")
            .body(r#"{"compatibility":"BACKWARD"}"#)
            .send(),
    );
    assert!(answer.unwrap().status().is_success());
}

#[test]
fn the_same_schema_has_the_same_id_and_is_found_by_it() {
    let subject = unique("subject");
    let first = registry().register(&subject, OLD).unwrap();
    let registry = registry();
    assert_eq!(registry.register(&subject, OLD).unwrap(), first);
    assert_eq!(registry.register(&subject, OLD).unwrap(), first);
    assert_eq!(registry.schema(first).unwrap().as_ref(), OLD);
    assert_eq!(registry.latest(&subject).unwrap().map(|(id, _)| id), Some(first));
    let second = registry.register(&subject, NEW).unwrap();
    assert_ne!(second, first);
    assert_eq!(registry.latest(&subject).unwrap(), Some((second, Arc::from(NEW))));
}

#[test]
fn an_incompatible_schema_is_refused_by_name() {
    let subject = unique("subject");
    let registry = registry();
    registry.register(&subject, OLD).unwrap();
    require_backward(&subject);
    assert!(registry.check_compatible(&subject, NEW).unwrap());
    assert!(!registry.check_compatible(&subject, BROKEN).unwrap());
    let failure = registry.register(&subject, BROKEN).unwrap_err();
    assert_eq!(
        (failure.class, failure.code),
        (Class::Definite, "SCHEMA_INCOMPATIBLE"),
        "{failure}"
    );
    assert!(
        failure
            .message
            .starts_with(&format!("cannot register the schema of {subject}: ")),
        "{failure}"
    );
}

#[test]
fn what_is_not_there_is_said_to_be_missing() {
    let registry = registry();
    assert_eq!(registry.schema(999_999_999).unwrap_err().code, "SCHEMA_UNKNOWN");
    let subject = unique("subject");
    assert_eq!(registry.latest(&subject).unwrap(), None);
    assert!(registry.check_compatible(&subject, OLD).unwrap());
}

#[test]
fn what_is_no_schema_is_refused() {
    let failure = registry()
        .register(&unique("subject"), r#"{"type":"recrod"}"#)
        .unwrap_err();
    assert_eq!(failure.class, Class::Definite, "{failure}");
}

#[test]
fn threads_may_share_it() {
    let registry = Arc::new(registry());
    let subject = unique("subject");
    let askers: Vec<_> = (0..8)
        .map(|_| {
            let (registry, subject) = (Arc::clone(&registry), subject.clone());
            std::thread::spawn(move || registry.register(&subject, OLD).unwrap())
        })
        .collect();
    let ids: Vec<u32> = askers.into_iter().map(|asker| asker.join().unwrap()).collect();
    assert!(ids.windows(2).all(|pair| pair[0] == pair[1]));
}
