//! Rows that cannot be written: a value without a form, a record that Kafka does not take, a row that is too large. Each
//! stops capture, stops its table, or becomes a dead letter, as `on_poison` says; and nothing else suffers.

use serde_json::Value as Json;
use syncline_schemas::topic;
use syncline_tests::{Service, Stage, World, http, in_world, until};

/// The year 294270 has a place in PostgreSQL's timestamps and none among 64 bits of microseconds since 1970.
const UNENCODABLE: &str = "294270-01-01";
const TABLES: &str = "CREATE TABLE events (id serial PRIMARY KEY, at timestamp, note text);
                      CREATE TABLE orders (id serial PRIMARY KEY, note text);
                      ALTER TABLE events ALTER note SET STORAGE EXTERNAL";

fn pipeline(settings: &str, defaults: &str) -> String {
    format!(
        r#"
pipeline: "${{env:PIPELINE}}"
defaults: {{ kafka: "${{env:BOOTSTRAP}}", registry: "${{env:REGISTRY}}"{defaults} }}
systems:
  shop:
    postgres: "${{env:SHOP_DSN}}"
    topic_prefix: "${{env:SHOP_PREFIX}}"
    tables: [events, orders]
    {settings}
"#
    )
}

fn with(name: &str, settings: &str, defaults: &str, test: impl FnOnce(&World) -> anyhow::Result<()>) {
    let file = pipeline(settings, defaults);
    in_world(name, &[("shop", TABLES)], &[("pipeline.yaml", &file)], |world| {
        event(world, "2026-01-01", "before")?;
        world.until_current(&Stage::Capture)?;
        assert_eq!(notes(world, "events")?, ["before"]);
        test(world)
    });
}

fn event(world: &World, at: &str, note: &str) -> anyhow::Result<()> {
    let insert = format!("INSERT INTO events (at, note) VALUES ('{at}', '{note}')");
    world.db("shop").exec(&insert)
}

fn order(world: &World, note: &str) -> anyhow::Result<()> {
    world
        .db("shop")
        .exec(&format!("INSERT INTO orders (note) VALUES ('{note}')"))
}

/// An event whose note has so many bytes.
fn large_event(world: &World, bytes: u64) -> anyhow::Result<()> {
    world
        .db("shop")
        .exec(&format!("INSERT INTO events (note) VALUES (repeat('x', {bytes}))"))
}

fn notes(world: &World, table: &str) -> anyhow::Result<Vec<String>> {
    let records = world.topics.read(&world.capture_topic("shop", table))?;
    let note = |value: &Vec<u8>| {
        Ok(syncline_tests::agreed::show(
            &world.topics.json(value)?["after"]["note"],
        ))
    };
    let values = records.iter().filter_map(|record| record.value.as_ref());
    values.map(note).collect()
}

fn letters(world: &World) -> anyhow::Result<Vec<Json>> {
    let records = world.topics.read(&topic::capture_dead_letters(&world.prefix("shop")))?;
    let values = records.iter().filter_map(|record| record.value.as_ref());
    values.map(|value| world.topics.json(value)).collect()
}

fn column<'a>(letter: &'a Json, name: &str) -> &'a Json {
    let columns = letter["columns"].as_array().map(Vec::as_slice).unwrap_or_default();
    columns
        .iter()
        .find(|column| column["name"] == name)
        .unwrap_or(&Json::Null)
}

/// What a service answers under `path`.
fn asked(service: &Service, path: &str) -> anyhow::Result<String> {
    http::text(&service.listening()?, path)
}

#[test]
fn a_value_without_a_form_becomes_a_dead_letter_and_its_table_goes_on() {
    with("poisonl", "on_poison: dead_letter", "", |world| {
        world.db("shop").exec(&format!(
            "BEGIN; INSERT INTO events (at, note) VALUES ('2026-01-02', 'a'), ('{UNENCODABLE}', 'poison'), ('2026-01-03', 'b');
             INSERT INTO orders (note) VALUES ('c'); COMMIT"
        ))?;
        world.until_current(&Stage::Capture)?;
        assert_eq!(notes(world, "events")?, ["before", "a", "b"]);
        assert_eq!(notes(world, "orders")?, ["c"]);
        let letters = letters(world)?;
        let [letter] = &letters[..] else { panic!("{letters:?}") };
        assert_eq!(
            (&letter["table"], &letter["op"]),
            (&"public.events".into(), &"c".into())
        );
        assert_eq!(
            (&letter["key"], &letter["code"]),
            (&r#"{"id":3}"#.into(), &"UNENCODABLE_ROW".into())
        );
        assert_eq!(column(letter, "at")["text"], format!("{UNENCODABLE} 00:00:00"));
        assert_eq!(column(letter, "note")["text"], "poison");
        assert!(
            letter["position"]
                .as_str()
                .is_some_and(|position| position.ends_with(":1")),
            "{letter}"
        );
        // Read again, the table has that row still.
        world
            .run(&Stage::Capture, &["--until-current", "--reread", "public.events"])?
            .expect_code(0)?;
        assert_eq!(notes(world, "events")?, ["before", "a", "b", "before", "a", "b"]);
        Ok(())
    });
}

#[test]
fn a_value_without_a_form_stops_capture_unless_it_may_not() {
    with("poisons", "", "", |world| {
        event(world, UNENCODABLE, "poison")?;
        order(world, "behind it")?;
        let stopped = world.run(&Stage::Capture, &["--until-current"])?.expect_code(1)?;
        stopped
            .expect_log("UNENCODABLE_ROW")?
            .expect_log("public.events at 1:")?
            .expect_log("LSN ")?;
        world
            .run(&Stage::Capture, &["--until-current", "--on-poison", "dead_letter"])?
            .expect_code(0)?;
        assert_eq!(
            (notes(world, "orders")?, letters(world)?.len()),
            (vec!["behind it".to_owned()], 1)
        );
        Ok(())
    });
}

/// The table is stopped: that is in its record, on `/readyz` and among the metrics; a new start reads it again.
#[test]
fn a_value_without_a_form_stops_its_table_alone() {
    with("poisont", "on_poison: stop_table", "", |world| {
        let service = world.start_with(&Stage::Capture, &["--listen", "127.0.0.1:0"], &[])?;
        event(world, UNENCODABLE, "poison")?;
        event(world, "2026-01-02", "not published")?;
        order(world, "behind it")?;
        until("the order", 60, || Ok(notes(world, "orders")? == ["behind it"]))?;
        assert_eq!(notes(world, "events")?, ["before"]);
        until("the status", 30, || {
            Ok(asked(&service, "/readyz")?.contains("public.events stopped"))
        })?;
        let metrics = asked(&service, "/metrics")?;
        let stopped = r#"syncline_capture_table_waits{source="shop",state="stopped",table="public.events"} 1"#;
        assert!(metrics.contains(stopped), "{metrics}");
        assert!(metrics.contains(r#"syncline_capture_table_rows_total{source="shop",table="public.orders"} 1"#));
        assert!(metrics.contains(r#"syncline_capture_table_lag_seconds{source="shop",table="public.orders"}"#));
        service.stop()?;
        let table = topic::tables(&world.prefix("shop"));
        let last = world.topics.latest(&table)?.into_values();
        let states = last
            .filter_map(|record| record.value)
            .map(|value| world.topics.json(&value));
        let states = states.collect::<anyhow::Result<Vec<_>>>()?;
        let events = states.iter().find(|state| state["table"] == "public.events");
        assert!(events.is_some_and(|state| state["stopped"].is_string()), "{states:?}");

        // Not mended: it is read up to there, and stops again; the other goes on.
        order(world, "next")?;
        world.until_current(&Stage::Capture)?.expect_log("TABLE_STOPPED")?;
        assert_eq!(notes(world, "orders")?, ["behind it", "next"]);
        // Mended: a start reads it, and it goes on.
        world
            .db("shop")
            .exec("UPDATE events SET at = NULL WHERE note = 'poison'")?;
        world.until_current(&Stage::Capture)?;
        event(world, "2026-01-03", "after")?;
        world.until_current(&Stage::Capture)?;
        // The log says again, after the read, what was changed before it.
        let notes = notes(world, "events")?;
        let read = ["before", "poison", "not published", "poison", "after"].map(str::to_owned);
        assert!(notes.ends_with(&read), "{notes:?}");
        Ok(())
    });
}

/// F21: the producer's own limit is known beforehand.
#[test]
fn f21_a_record_beyond_the_producers_limit() {
    with("poisonp", "on_poison: dead_letter", "", |world| {
        large_event(world, 11_000_000)?;
        event(world, "2026-01-02", "after")?;
        world.until_current(&Stage::Capture)?;
        assert_eq!(notes(world, "events")?, ["before", "after"]);
        let letters = letters(world)?;
        assert_eq!((letters.len(), &letters[0]["code"]), (1, &"RECORD_TOO_LARGE".into()));
        assert_eq!(column(&letters[0], "note")["left_out_bytes"], 11_000_000);
        Ok(())
    });
}

/// F21: what the broker refuses is known when it has; the rows around it arrive once.
#[test]
fn f21_a_record_beyond_the_brokers_limit() {
    let file = pipeline(
        "on_poison: dead_letter",
        ", kafka_properties: { compression.type: none }",
    );
    in_world("poisonb", &[("shop", TABLES)], &[("pipeline.yaml", &file)], |world| {
        world
            .topics
            .create_limited(&world.capture_topic("shop", "events"), 1_000_000)?;
        event(world, "2026-01-01", "before")?;
        world.until_current(&Stage::Capture)?;
        // It is not we who have made the topic, so that its limit is another.
        world.db("shop").exec(
            "INSERT INTO events (note) SELECT CASE WHEN n % 4 = 0 THEN repeat('x', 1500000) ELSE n::text END
               FROM generate_series(1, 9) n",
        )?;
        event(world, "2026-01-02", "after")?;
        world.until_current(&Stage::Capture)?;
        let found: Vec<String> = notes(world, "events")?
            .iter()
            .map(|note| note.chars().take(9).collect())
            .collect();
        assert_eq!(found, ["before", "1", "2", "3", "5", "6", "7", "9", "after"]);
        let letters = letters(world)?;
        assert_eq!((letters.len(), &letters[1]["code"]), (2, &"RECORD_TOO_LARGE".into()));
        let said = letters[0]["reason"].as_str().unwrap_or_default();
        assert!(said.contains("more than the broker takes"), "{said}");
        // Read again, in a snapshot, it is the same.
        world
            .run(&Stage::Capture, &["--until-current", "--reread", "public.events"])?
            .expect_code(0)?;
        assert_eq!(letters.len() + 2, self::letters(world)?.len());
        world
            .run(
                &Stage::Capture,
                &["--until-current", "--on-poison", "stop", "--reread", "public.events"],
            )?
            .expect_code(1)?
            .expect_log("RECORD_TOO_LARGE")?;
        Ok(())
    });
}

/// F22: a row beyond `max_row_bytes` is passed over without the memory that it would take, wherever in the row it is.
#[test]
fn f22_a_row_beyond_max_row_bytes() {
    with(
        "poisonr",
        "on_poison: dead_letter\n    max_row_bytes: 1MiB",
        "",
        |world| {
            let settings = world.db("shop");
            settings.exec("INSERT INTO events (note) VALUES (repeat('x', 3000000)), ('between')")?;
            settings.exec("UPDATE events SET note = repeat('y', 3000000) WHERE note = 'between'")?;
            settings.exec("ALTER TABLE events REPLICA IDENTITY FULL")?;
            settings.exec("DELETE FROM events WHERE id = 2; INSERT INTO events (note) VALUES ('after')")?;
            world.until_current(&Stage::Capture)?;
            assert_eq!(notes(world, "events")?, ["before", "between", "after"]);
            let letters = letters(world)?;
            let said: Vec<_> = letters
                .iter()
                .map(|letter| (letter["op"].as_str(), letter["key"].as_str()))
                .collect();
            let key = |id| Some(if id == 2 { r#"{"id":2}"# } else { r#"{"id":3}"# });
            assert_eq!(said, [(Some("c"), key(2)), (Some("u"), key(3)), (Some("d"), key(2))]);
            assert!(letters.iter().all(|letter| letter["code"] == "ROW_TOO_LARGE"));
            assert!(
                letters[0]["bytes"].as_u64().is_some_and(|bytes| bytes > 3_000_000),
                "{}",
                letters[0]
            );
            assert_eq!(column(&letters[0], "note")["left_out_bytes"], -1);
            Ok(())
        },
    );
}
