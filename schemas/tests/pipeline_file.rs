//! The pipeline file as a user meets it: a complete one, and what is said of wrong ones.
//!
//! Every `golden/<name>.yaml` stands beside `golden/<name>.txt` with the exact words it must get. After a deliberate
//! change: `UPDATE_GOLDEN=1 cargo test -p syncline-schemas --test pipeline_file`, and read the difference.

#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use syncline_schemas::lens::{self, Cell, Expr, Row};
use syncline_schemas::pipeline::guards::{Burst, Over};
use syncline_schemas::pipeline::{
    self, CapturedBy, DeletePolicy, Delivery, FieldKind, Mode, Pipeline, Problem, Strategy,
};
use syncline_schemas::value::Value;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

fn env(name: &str) -> Option<String> {
    match name {
        "KAFKA" => Some("127.0.0.1:9092".to_owned()),
        "REGISTRY" => Some("http://127.0.0.1:8081/".to_owned()),
        "UNSET" => None,
        name => name
            .ends_with("_DSN")
            .then(|| format!("postgres://{name}:hunter2@127.0.0.1/app")),
    }
}

fn fixture(name: &str) -> String {
    fs::read_to_string(folder("fixtures").join(name)).unwrap()
}

fn parse(text: &str) -> Result<Pipeline, Vec<Problem>> {
    pipeline::parse("acme.yaml", text, &env, &|name| {
        fs::read_to_string(folder("fixtures").join(name)).map_err(|_| format!("{name}: not found"))
    })
}

fn acme() -> Pipeline {
    parse(&fixture("acme.yaml")).unwrap_or_else(|problems| panic!("{}", rendered(&problems)))
}

fn rendered(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn the_complete_file_is_read_to_the_letter() {
    let acme = acme();
    assert_eq!(
        (acme.name.as_str(), acme.partitions, acme.max_clock_skew_ms),
        ("acme", 3, 5000)
    );
    assert_eq!(
        (acme.delivery, acme.registry.as_str()),
        (Delivery::ExactlyOnce, "http://127.0.0.1:8081")
    );
    assert_eq!(acme.authority().collect::<Vec<_>>(), ["shop", "crm", "billing", "wms"]);
    let crm = acme.system("crm").unwrap();
    assert_eq!(
        (crm.slot.as_str(), crm.publication.as_str()),
        ("syncline_acme_crm", "syncline_acme_crm")
    );
    assert_eq!((crm.topic_prefix.as_str(), crm.capture), ("crm", CapturedBy::Syncline));
    assert_eq!(
        crm.postgres.as_ref().unwrap().expose(),
        "postgres://CRM_DSN:hunter2@127.0.0.1/app"
    );
    assert_eq!(
        acme.captured_tables("shop"),
        ["public.customers", "public.products", "public.countries"]
    );
    assert_eq!(
        acme.captured_tables("wms"),
        ["inventory.items", "public.stock_movements"]
    );
}

#[test]
fn rules_come_from_the_nearest_place() {
    let acme = acme();
    let customer = acme.entity("customer").unwrap();
    let rule = |field: &str| {
        let field = customer.field(field).unwrap();
        (field.strategy.to_string(), field.rule.to_string())
    };
    assert_eq!(rule("email"), ("latest".to_owned(), "acme.yaml:12".to_owned()));
    assert_eq!(rule("credit_limit"), ("hold".to_owned(), "acme.yaml:13".to_owned()));
    assert_eq!(customer.version, 3);
    assert_eq!(customer.match_on, [[Expr::name("email")]]);
    assert_eq!(customer.delete_policy("shop"), DeletePolicy::UpdateWins);
    assert_eq!(customer.delete_policy("wms"), DeletePolicy::Ignore);
    let product = acme.entity("product").unwrap();
    assert_eq!(
        product.field("price").unwrap().strategy,
        Strategy::Order(vec!["shop".into(), "wms".into()])
    );
    assert_eq!(product.field("price").unwrap().rule.line, 33);
    assert_eq!(
        product.field("sku").unwrap().strategy,
        Strategy::Owner("shop".to_owned())
    );
    assert_eq!(product.field("stock").unwrap().strategy, Strategy::Add);
    assert_eq!(
        product.field("stock").unwrap().kind,
        FieldKind::Number { scale: Some(0) }
    );
    assert_eq!(product.delete_policy("wms"), DeletePolicy::DeleteWins);
}

#[test]
fn a_level_gives_way_to_the_one_below_it() {
    let strategy = |from: &[(&str, &str)]| {
        let text = from.iter().fold(fixture("acme.yaml"), |text, (old, new)| {
            assert!(text.contains(old), "{old}");
            text.replacen(old, new, 1)
        });
        let acme = parse(&text).unwrap_or_else(|problems| panic!("{}", rendered(&problems)));
        acme.entity("customer").unwrap().field("name").unwrap().strategy.clone()
    };
    let pipeline = ("partitions: 3", "partitions: 3, on_conflict: min");
    let entity = (
        "schema: schemas/customer.avsc@3",
        "schema: schemas/customer.avsc@3\n    on_conflict: max",
    );
    let no_kind = ("name:         { kind: contact }", "name:");
    let own_kind = (
        "    match:\n      - same: [email]",
        "    kinds: { contact: first }\n    match: [{ same: [email] }]",
    );
    let field = (
        "name:         { kind: contact }",
        "name:         { kind: contact, on_conflict: hold }",
    );
    assert_eq!(strategy(&[no_kind, pipeline]), Strategy::Min);
    assert_eq!(strategy(&[no_kind, pipeline, entity]), Strategy::Max);
    assert_eq!(strategy(&[pipeline, entity]), Strategy::Latest);
    assert_eq!(strategy(&[own_kind, pipeline, entity]), Strategy::First);
    assert_eq!(strategy(&[field, own_kind, pipeline, entity]), Strategy::Hold);
}

#[test]
fn what_a_guard_holds_is_approved_by_those_of_its_kind() {
    let text = fixture("acme.yaml").replace(
        "money:    { on_conflict: hold }",
        "money:    { on_conflict: hold, approvers: [ada, bob] }",
    );
    let acme = parse(&text).unwrap_or_else(|problems| panic!("{}", rendered(&problems)));
    let approvers = |entity: &str, field: &str| {
        let entity = acme.entity(entity).unwrap();
        entity.field(field).unwrap().terms.approvers.clone()
    };
    assert_eq!(approvers("customer", "credit_limit"), ["ada", "bob"]);
    assert_eq!(approvers("product", "price"), ["ada", "bob"]);
    assert!(approvers("customer", "email").is_empty());
}

#[test]
fn links_read_and_write_columns() {
    let acme = acme();
    let crm = acme.links_of("customer").nth(1).unwrap();
    assert_eq!(crm.name(), "crm.public.contacts");
    assert_eq!(
        crm.columns_read(),
        ["contact_id", "first", "last", "limit_gbp", "mail", "tags", "tel"]
    );
    assert_eq!(
        crm.columns_written(),
        ["first", "last", "limit_gbp", "mail", "tags", "tel"]
    );
    let billing = acme.links_of("customer").nth(2).unwrap();
    assert_eq!(billing.columns_written(), ["credit_limit", "holder"]);
    assert!(billing.field("email").unwrap().reads && !billing.field("email").unwrap().writes());
    let wms = acme.links_of("product").nth(1).unwrap();
    assert_eq!((wms.name().as_str(), wms.rule.line), ("wms.inventory.items", 53));
}

/// `acme.yaml` with this `mode` of billing's accounts.
fn mode(mode: &str) -> Mode {
    let text = fixture("acme.yaml").replace("    name: holder\n", &format!("    name: holder\n    mode: {mode}\n"));
    let acme = parse(&text).unwrap_or_else(|problems| panic!("{}", rendered(&problems)));
    acme.links_of("customer").nth(2).unwrap().mode.clone()
}

#[test]
fn a_link_says_when_it_is_written() {
    assert_eq!(mode("live"), Mode::Live);
    let batch = |text: &str| match mode(text) {
        Mode::Batch(schedule) => schedule.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(batch("{ batch: \"30 1 * * *\" }"), "30 1 * * * Europe/London");
    assert_eq!(
        batch("{ batch: \"30 1 * * *\", timezone: America/New_York }"),
        "30 1 * * * America/New_York"
    );
    assert_eq!(batch("{ every: 90s }"), "every 90s");
    for (rest, expected) in [
        ("every 30m", "every 30m"),
        ("\"0 4 * * MON\"", "0 4 * * MON Europe/London"),
    ] {
        let Mode::Hybrid { live, rest } = mode(&format!("{{ live: [credit_limit], rest: {rest} }}")) else {
            panic!("{rest}");
        };
        assert_eq!(live.into_iter().collect::<Vec<_>>(), ["credit_limit"]);
        assert_eq!(rest.to_string(), expected);
    }
    assert_eq!(acme().links[0].mode, Mode::Live);
}

#[test]
fn when_a_link_is_written_is_no_rule() {
    let text = fixture("acme.yaml");
    let batch = text.replace("    name: holder\n", "    name: holder\n    mode: { every: 30m }\n");
    let rules = |text: &str| parse(text).unwrap().entity("customer").unwrap().rules.clone();
    assert_ne!(text, batch);
    assert_eq!(rules(&text), rules(&batch));
}

#[test]
fn a_system_says_when_nothing_is_written_into_it() {
    let text = fixture("acme.yaml").replace(
        "crm:     { postgres: \"${env:CRM_DSN}\" }",
        "crm:     { postgres: \"${env:CRM_DSN}\", maintenance: { cron: \"0 2 * * SUN\", for: 3h, timezone: America/New_York } }",
    );
    let acme = parse(&text).unwrap_or_else(|problems| panic!("{}", rendered(&problems)));
    let window = acme.system("crm").unwrap().maintenance.clone().unwrap();
    assert_eq!(
        (window.opens.to_string().as_str(), window.for_ms),
        ("0 2 * * SUN America/New_York", 3 * 3_600_000)
    );
    assert_eq!(acme.system("shop").unwrap().maintenance, None);
}

#[test]
fn the_fingerprint_knows_rules_and_not_spelling() {
    let rules = |text: &str| parse(text).unwrap().entity("customer").unwrap().rules.clone();
    let text = fixture("acme.yaml");
    let original = rules(&text);
    assert_eq!(original.len(), 16);
    assert_eq!(rules(&format!("# moved by a line\n{text}")), original);
    assert_eq!(
        rules(&text.replace("name:         { kind: contact }", "name: latest")),
        original
    );
    assert_ne!(
        rules(&text.replace("name:         { kind: contact }", "name: first")),
        original
    );
    assert_ne!(rules(&text.replace("shop: update_wins", "shop: delete_wins")), original);
}

#[test]
fn rows_are_matched_by_fields_and_by_what_is_made_of_them() {
    let text = fixture("acme.yaml").replace(
        "- same: [email]",
        "- same: [\"e164( phone, \\\"GB\\\" )\", name]\n      - same: [\"lower(email)\"]",
    );
    let acme = parse(&text).unwrap_or_else(|problems| panic!("{}", rendered(&problems)));
    let written: Vec<Vec<String>> = acme
        .entity("customer")
        .unwrap()
        .match_on
        .iter()
        .map(|same| same.iter().map(ToString::to_string).collect())
        .collect();
    assert_eq!(written, [vec!["e164(phone, 'GB')", "name"], vec!["lower(email)"]]);
    assert_ne!(
        acme.entity("customer").unwrap().rules,
        self::acme().entity("customer").unwrap().rules
    );
}

#[test]
fn a_one_way_link_is_seen_by_the_sink_alone() {
    let text = fixture("acme.yaml")
        .replace("billing.accounts <-> customer:", "billing.accounts <- customer:")
        .replace("email: -> lower(trim(invoice_to))", "email: trim(invoice_to)");
    let acme = parse(&text).unwrap_or_else(|problems| panic!("{}", rendered(&problems)));
    let billing = acme.links_of("customer").nth(2).unwrap();
    let row: Row = ["holder", "invoice_to", "credit_limit"]
        .map(|c| (c.to_owned(), Cell::Set(Value::Null)))
        .into();
    assert!(!billing.reads() && billing.writes());
    assert_eq!(lens::get(billing, &row).unwrap().len(), 0);
    assert_eq!(lens::current(billing, &row).unwrap().len(), 3);
    assert_eq!(acme.captured_tables("billing"), [] as [&str; 0]);
}

#[test]
fn no_secret_is_shown() {
    let acme = acme();
    assert!(!format!("{acme:?} {:#?}", acme.systems).contains("hunter2"));
    let text = "pipeline: a\nsystems:\n  shop: { postgres: \"${env:SHOP_DSN}\", slot: \"${env:SHOP_DSN}\", capture: \"${env:SHOP_DSN}\" }\n  crm: { postgres: 'postgres://u:hunter2@h/d', slt: 1 }\n";
    let problems = parse(text).unwrap_err();
    assert!(problems.len() >= 3);
    assert!(!rendered(&problems).contains("hunter2"), "{}", rendered(&problems));
}

#[test]
fn every_mistake_gets_its_words() {
    let mut checked = 0;
    for entry in fs::read_dir(folder("golden")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            golden(&path);
            checked += 1;
        }
    }
    assert!(checked >= 8, "only {checked} golden files");
}

fn golden(path: &Path) {
    let name = path.file_name().unwrap().to_string_lossy();
    let text = fs::read_to_string(path).unwrap();
    let problems = pipeline::parse(&name, &text, &env, &|file| {
        fs::read_to_string(folder("fixtures").join(file)).map_err(|_| format!("{file}: not found"))
    });
    let said = rendered(&problems.expect_err(&name));
    let expected = path.with_extension("txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&expected, &said).unwrap();
    }
    assert_eq!(said, fs::read_to_string(&expected).unwrap_or_default(), "{name}");
}

#[test]
fn older_fields_become_newer_ones_step_by_step() {
    let migrate = "schema: schemas/customer.avsc@3
    migrate:
      2->3:
        schema: v2
        fields: { name: label, phone: tel, credit_limit: 'scale(pence, 2)', tags: 'split(labels, \";\")' }
      1->2: { schema: v1, fields: { label: lower(title), tel: fax }, drop: [points] }";
    let text = fixture("acme.yaml").replacen("schema: schemas/customer.avsc@3", migrate, 1);
    let record = |fields: &[(&str, &str)]| {
        let fields: Vec<String> = fields
            .iter()
            .map(|(name, kind)| format!(r#"{{"name":"{name}","type":["null","{kind}"],"default":null}}"#))
            .collect();
        format!(
            r#"{{"type":"record","name":"Customer","fields":[{}]}}"#,
            fields.join(",")
        )
    };
    let (email, labels, pence) = (("email", "string"), ("labels", "string"), ("pence", "long"));
    let older = |name: &str| match name {
        "v1" => Ok(record(&[
            email,
            labels,
            pence,
            ("title", "string"),
            ("fax", "string"),
            ("points", "long"),
        ])),
        "v2" => Ok(record(&[email, labels, pence, ("label", "string"), ("tel", "string")])),
        name => fs::read_to_string(folder("fixtures").join(name)).map_err(|_| format!("{name}: not found")),
    };
    // Sets go by what was added and taken away: of a text that became one nothing of that is known.
    let problems = pipeline::parse("acme.yaml", &text, &env, &older).unwrap_err();
    assert_eq!(
        problems.iter().map(|problem| problem.code).collect::<Vec<_>>(),
        ["H366"]
    );
    let text = text.replace(", tags: 'split(labels, \";\")' }", " }\n        drop: [labels]");
    let acme = pipeline::parse("acme.yaml", &text, &env, &older);
    let acme = acme.unwrap_or_else(|problems| panic!("{}", rendered(&problems)));
    let migrate = &acme.entity("customer").unwrap().migrate;
    assert_eq!(migrate.since, Some(1));
    let lifts: Vec<(&str, Vec<&str>, Vec<&str>)> = migrate
        .lifts
        .iter()
        .map(|lift| {
            let into = lift.into.iter().map(|made| made.field.as_str()).collect();
            (
                lift.from.as_str(),
                into,
                lift.later.iter().map(String::as_str).collect(),
            )
        })
        .collect();
    let one = |from, into, later: &[&'static str]| (from, vec![into], later.to_vec());
    assert_eq!(
        lifts,
        [
            one("title", "label", &["label", "name"]),
            one("fax", "tel", &["phone", "tel"]),
            one("label", "name", &["name"]),
            one("tel", "phone", &["phone"]),
            one("pence", "credit_limit", &["credit_limit"]),
        ]
    );
    let value = |at: usize, value: Value| migrate.lifts[at].value(&migrate.lifts[at].into[0], &value);
    assert_eq!(value(0, "ANA".into()), Some("ana".into()));
    assert_eq!(value(1, "7".into()), Some("7".into()));
    assert_eq!(value(4, 1250.into()), Some("12.5".parse().unwrap()));
    assert_eq!(value(4, "much".into()), None);
    let rules = |file: &Pipeline| file.entity("customer").unwrap().rules.clone();
    assert_ne!(
        rules(&acme),
        rules(&self::acme()),
        "what was decided of other words is decided again"
    );
}

#[test]
fn a_missing_file_is_a_problem_and_no_crash() {
    let problems = pipeline::load(Path::new("/nowhere/acme.yaml"), &env).unwrap_err();
    assert_eq!(problems[0].code, "H100");
    let acme = pipeline::load(&folder("fixtures").join("acme.yaml"), &env).unwrap();
    assert_eq!(acme.file, "acme.yaml");
}

#[test]
fn guards_are_read_and_a_file_without_any_has_none() {
    assert!(!acme().guards.any());
    let with = |guards: &str| parse(&format!("{}guards: {guards}\n", fixture("acme.yaml"))).map(|file| file.guards);
    let read = |guards: &str| with(guards).unwrap_or_else(|problems| panic!("{}", rendered(&problems)));
    let both = read("{ mass_change: { over: 5% in 10m, then: pause }, stale_restore: pause }");
    assert_eq!(both.mass_change, Some(Burst::MASS_CHANGE));
    assert_eq!(both.stale_restore, Some(Burst::STALE_RESTORE));
    let rows = read("{ mass_change: { over: 20000 rows in 1h, at_least: 7 } }");
    let wanted = Burst {
        over: Over::Rows(20_000),
        at_least: 7,
        within_us: 3_600_000_000,
    };
    assert_eq!((rows.mass_change, rows.stale_restore), (Some(wanted), None));
}

#[test]
fn a_queue_has_a_lease_and_is_told_the_time() {
    let with = |rule: &str| parse(&fixture("acme.yaml").replace("contact:  { on_conflict: latest }", rule));
    let file = with("contact:  { on_conflict: first, lease: 60s, queue: true }").unwrap();
    let customer = file.entity("customer").unwrap();
    let phone = &customer.field("phone").unwrap().terms;
    assert!(phone.queue && phone.lease_us == Some(60_000_000) && customer.has_deadlines());
    let without = with("contact:  { on_conflict: first, lease: 60s }").unwrap();
    assert!(!without.entity("customer").unwrap().has_deadlines());
    assert_ne!(without.entity("customer").unwrap().rules, customer.rules);
    let problems = with("contact:  { on_conflict: first, queue: true }").unwrap_err();
    assert_eq!(problems[0].code, "H111");
}

/// The demo's file, whose systems differ from the fixture's.
#[test]
fn the_file_of_the_demo_is_accepted() {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/demo/acme.yaml");
    let env = |name: &str| env(name).or_else(|| (name == "BOOTSTRAP").then(|| "127.0.0.1:9092".to_owned()));
    let demo = pipeline::load(&demo, &env).unwrap_or_else(|problems| panic!("{}", rendered(&problems)));
    assert_eq!(demo.links.len(), 5);
}

#[test]
fn size_and_depth_are_bounded() {
    let codes = |text: &str| {
        parse(text)
            .unwrap_err()
            .iter()
            .map(|problem| problem.code)
            .collect::<Vec<_>>()
    };
    assert_eq!(codes(&format!("pipeline: {}", "x".repeat(2 << 20))), ["H100"]);
    assert!(codes(&"[".repeat(100)).contains(&"H103"));
    assert!(codes(&"{a: ".repeat(100)).contains(&"H103"));
    let bomb = "a: &a [x, x]\nb: &b [*a, *a]\n";
    assert_eq!(codes(bomb), ["H102"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn no_yaml_like_text_makes_it_panic(text in "([a-z]{1,3}|: |\n|  |- |\\{|\\}|\\[|\\]|,|'|\"|&a |\\*a |!|\\||>|#|\\$\\{env:|é|\t|\\?|%|---\n){0,60}") {
        let _ = parse(&text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// The complete file with a few characters lost or put in: it is read or refused, with places that exist.
    #[test]
    fn a_damaged_file_is_read_or_refused(cuts in prop::collection::vec((0_usize..3_000, 0_usize..12, "[ -~\n]{0,4}"), 1..4)) {
        let mut text: Vec<char> = fixture("acme.yaml").chars().collect();
        for (at, length, put) in cuts {
            let at = at.min(text.len());
            let end = (at + length).min(text.len());
            text.splice(at..end, put.chars());
        }
        let text: String = text.into_iter().collect();
        if let Err(problems) = parse(&text) {
            prop_assert!(!problems.is_empty());
            for problem in problems {
                prop_assert!(problem.line >= 1 && problem.line <= text.lines().count() + 1, "{}", problem);
                prop_assert!(problem.column >= 1, "{}", problem);
                prop_assert!(!problem.labels.is_empty(), "{}", problem);
            }
        }
    }
}
