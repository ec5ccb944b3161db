//! Records that cannot be worked on, and targets that cannot be reached: the former go aside, the latter are waited for.

use syncline_tests::{Gate, Record, Stack, Stage, World, acme, in_world, until};

fn hundred_people(world: &World) -> anyhow::Result<()> {
    world.db("shop").exec(
        "INSERT INTO customers (full_name, email, phone)
         SELECT 'P ' || i, 'p' || i || '@x.org', CASE WHEN i = 47 THEN 'bad' ELSE i::text END FROM generate_series(1, 100) i",
    )
}

fn phones(world: &World) -> anyhow::Result<String> {
    world
        .db("crm")
        .text("SELECT count(*), count(*) FILTER (WHERE mail = 'p47@x.org') FROM contacts")
}

#[test]
fn f86_record_47_of_100_is_bad_for_a_target() {
    let pipeline = acme::pipeline();
    in_world("f86", &acme::APPS, &acme::files(&pipeline), |world| {
        world.db("crm").exec("ALTER TABLE contacts ADD CHECK (tel <> 'bad')")?;
        hundred_people(world)?;
        world.settle()?;
        assert_eq!(phones(world)?, "99|0", "1-46 and 48-100 applied");
        assert_eq!(
            world.db("billing").number("SELECT count(*) FROM accounts")?,
            100,
            "another target takes it"
        );
        let letters = world.dead_letters("sink")?;
        assert_eq!(letters.len(), 1, "47 is in the dead letter queue once");
        let header = |name: &str| letters[0].header(name).unwrap_or_default().to_owned();
        assert_eq!(header("syncline.stage"), "sink");
        assert!(
            header("syncline.topic").ends_with(".canonical.customer.v1"),
            "{:?}",
            letters[0].headers
        );
        assert!(header("syncline.reason").contains("23514"), "{:?}", letters[0].headers);
        assert!(
            !header("syncline.reason").contains("p47@x.org"),
            "no row values in a reason"
        );

        world.db("shop").exec(
            "UPDATE customers SET phone = 'good' WHERE email = 'p47@x.org'; UPDATE customers SET phone = 'x' WHERE email = 'p48@x.org'",
        )?;
        world.settle()?;
        assert_eq!(phones(world)?, "99|0", "later changes of 47 are parked behind it");
        assert_eq!(
            world
                .db("crm")
                .text("SELECT tel FROM contacts WHERE mail = 'p48@x.org'")?,
            "x",
            "48 goes on"
        );
        assert_eq!(world.dead_letters("sink")?.len(), 1, "parked is not dead");
        assert!(world.db("crm").number("SELECT count(*) FROM syncline.parked")? > 0);
        Ok(())
    });
}

#[test]
fn a_record_that_cannot_be_mapped_goes_aside_and_its_neighbours_flow() {
    let pipeline = acme::pipeline().replace("phone: phone", r#"phone: 'enum(phone, "a=active", "s=stopped")'"#);
    in_world("unmapped", &acme::APPS, &acme::files(&pipeline), |world| {
        world.db("shop").exec(
            "INSERT INTO customers (full_name, email, phone)
             SELECT 'P', 'p' || i || '@x.org', CASE WHEN i = 47 THEN 'bad' ELSE 'a' END FROM generate_series(1, 100) i",
        )?;
        world.settle()?;
        assert_eq!(world.canonical("customer")?.len(), 99);
        assert_eq!(
            world
                .db("crm")
                .text("SELECT count(*), min(tel), max(tel) FROM contacts")?,
            "99|active|active"
        );
        let letters = world.dead_letters("map")?;
        assert_eq!(letters.len(), 1);
        let topic = world.capture_topic("shop", "customers");
        assert_eq!(letters[0].header("syncline.stage"), Some("map"));
        assert_eq!(letters[0].header("syncline.topic"), Some(topic.as_str()));
        let reason = letters[0].header("syncline.reason").unwrap_or_default();
        assert!(reason.contains("phone"), "the reason names the field: {reason}");
        let number = |name: &str| letters[0].header(name).unwrap_or_default().parse::<i64>();
        let (partition, offset) = (number("syncline.partition")?, number("syncline.offset")?);
        let here = |record: &Record| i64::from(record.partition) == partition && record.offset == offset;
        let original = world.topics.read(&topic)?.into_iter().find(here);
        assert_eq!(
            original.and_then(|record| record.value),
            letters[0].value,
            "the record's own bytes"
        );
        assert!(
            letters[0]
                .header("syncline.position")
                .is_some_and(|position| position.starts_with("1:"))
        );
        Ok(())
    });
}

/// The world's DSN of the crm goes through a gate that this opens and closes.
fn with_a_gate(name: &str, test: impl FnOnce(&World, &Gate) -> anyhow::Result<()>) {
    let pipeline = acme::pipeline();
    in_world(name, &acme::APPS, &acme::files(&pipeline), |world| {
        let server = Stack::from_env()?.postgres;
        let host = server.rsplit(['@', '/']).next().unwrap_or_default();
        let gate = Gate::to(host)?;
        let through = server.replace(host, &gate.address());
        world.set_env("CRM_DSN", &format!("{through}/{}", world.database("crm")));
        test(world, &gate)
    });
}

#[test]
fn f87_a_target_that_is_down_is_waited_for() {
    with_a_gate("f87", |world, gate| {
        world.settle()?;
        let sink = world.start(&Stage::sink("crm"))?;
        hundred_people(world)?;
        world.agree()?;
        until("the crm to have everybody", 60, || Ok(phones(world)? == "100|1"))?;

        gate.close();
        world.db("shop").exec("UPDATE customers SET phone = 'new'")?;
        // The crm's capture is down as well, so only the shop's is asked.
        world.work_off(&[Stage::capture("shop"), Stage::Transform])?;
        let renewed = || {
            world
                .db("crm")
                .number("SELECT count(*) FROM contacts WHERE tel = 'new'")
        };
        let log_before = sink.log()?.len();
        until(
            "the sink to say why it waits",
            30,
            || Ok(sink.log()?.len() > log_before),
        )?;
        assert_eq!(renewed()?, 0);

        gate.open();
        until("progress within 30 s of healing", 30, || Ok(renewed()? == 100))?;
        assert_eq!(
            world.dead_letters("sink")?.len(),
            0,
            "a target that is down makes no dead letters"
        );
        sink.stop()
    });
}

#[test]
fn f87_a_read_only_target_is_waited_for() {
    let pipeline = acme::pipeline();
    in_world("readonly", &acme::APPS, &acme::files(&pipeline), |world| {
        world.settle()?;
        let database = world.database("crm");
        world.db("shop").exec(&format!(
            "ALTER DATABASE {database} SET default_transaction_read_only = on"
        ))?;
        hundred_people(world)?;
        world.agree()?;
        let sink = world.start(&Stage::sink("crm"))?;
        until("the sink to name the condition", 30, || {
            Ok(sink.log()?.contains("25006"))
        })?;
        assert_eq!(world.db("crm").number("SELECT count(*) FROM contacts")?, 0);
        world.db("shop").exec(&format!(
            "ALTER DATABASE {database} RESET default_transaction_read_only"
        ))?;
        until("progress within 30 s of healing", 30, || Ok(phones(world)? == "100|1"))?;
        assert_eq!(world.dead_letters("sink")?.len(), 0);
        sink.stop()
    });
}

#[test]
fn f88_a_locked_row_is_waited_for() {
    let pipeline = acme::pipeline();
    in_world("f88", &acme::APPS, &acme::files(&pipeline), |world| {
        hundred_people(world)?;
        world.settle()?;
        let locker = world.connect("crm")?;
        locker.exec("BEGIN; SELECT 1 FROM contacts WHERE mail = 'p50@x.org' FOR UPDATE")?;
        world.db("shop").exec("UPDATE customers SET phone = 'new'")?;
        world.agree()?;
        let sink = world.start(&Stage::sink("crm"))?;
        let waiting =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        until("the sink to wait for the lock", 30, || {
            Ok(world.db("crm").number(waiting)? > 0)
        })?;
        locker.exec("ROLLBACK")?;
        let renewed = || {
            world
                .db("crm")
                .number("SELECT count(*) FROM contacts WHERE tel = 'new'")
        };
        until("progress within 30 s of healing", 30, || Ok(renewed()? == 100))?;
        assert_eq!(world.dead_letters("sink")?.len(), 0);
        sink.stop()
    });
}
