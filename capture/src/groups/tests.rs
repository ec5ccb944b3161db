use clap::Parser as _;
use syncline_schemas::pipeline;

use super::*;
use crate::config::{self, Args};

fn sources(text: &str, more: &[&str]) -> Outcome<Vec<SourceConfig>> {
    let args = Args::try_parse_from([&["x", "--pipeline", "p.yaml"], more].concat()).unwrap();
    let pipeline = pipeline::parse("p.yaml", text, &|_| None, &|_| Ok(String::new()))
        .unwrap_or_else(|problems| panic!("{}", problems[0]));
    config::sources(&pipeline, &args)
}

fn tables(slots: &str) -> Outcome<Vec<SourceConfig>> {
    let text = format!(
        "pipeline: acme\ndefaults: {{ kafka: k, registry: \"http://r\" }}\nsystems:\n  shop:\n    postgres: postgres://u@p/shop\n    \
         tables: [a, b, c]\n    slots: {slots}\n"
    );
    sources(&text, &[])
}

fn names(source: &SourceConfig) -> Vec<String> {
    source.tables.iter().flatten().map(full_name).collect()
}

fn refusal(outcome: Outcome<Vec<SourceConfig>>) -> String {
    outcome.err().map(|failure| failure.message).unwrap_or_default()
}

#[test]
fn each_group_has_a_slot_a_publication_and_a_transactional_id_of_its_own() {
    let sources = tables("{ hot: [a], rest: \"*\" }").unwrap();
    let [hot, rest] = &sources[..] else {
        panic!("two groups")
    };
    assert_eq!(
        (hot.name.as_str(), hot.slot.as_str()),
        ("shop/hot", "syncline_acme_shop_hot")
    );
    assert_eq!(rest.publication, "syncline_acme_shop_rest");
    assert_ne!(hot.transactional_id(), rest.transactional_id());
    assert_eq!(
        (names(hot), names(rest)),
        (
            vec!["public.a".to_owned()],
            vec!["public.b".to_owned(), "public.c".to_owned()]
        )
    );
    assert!(hot.leads && !rest.leads);
    assert!(rest.share.has("public.b") && !rest.share.has("public.a"));
    assert!(hot.command.ends_with("--source shop/hot"), "{}", hot.command);
}

#[test]
fn every_table_is_in_one_group() {
    assert!(refusal(tables("{ hot: [a], cold: [b] }")).contains("public.c is in no group"));
    assert!(refusal(tables("{ hot: [a, b, c], rest: \"*\" }")).contains("nothing is left"));
    assert!(refusal(tables("{ hot: [a, d], rest: \"*\" }")).contains("nothing captures public.d"));
}

#[test]
fn one_group_can_be_captured_alone() {
    let text = "pipeline: acme\ndefaults: { kafka: k, registry: \"http://r\" }\nsystems:\n  shop:\n    postgres: postgres://u@p/shop\n    \
                tables: [a, b]\n    slots: { hot: [a], cold: [b] }\n";
    let only = |name: &str| sources(text, &["--source", name]).map(|sources| sources.len());
    assert_eq!((only("shop").unwrap(), only("shop/cold").unwrap()), (2, 1));
    assert!(only("shop/warm").is_err());
}
